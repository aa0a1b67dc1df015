//! `watchbell notify test`: a marked message to one recipient, now, and the service's answer.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::FileFlag;
use super::answer::{Answer, Status, Trouble};
use super::installation::Installation;
use super::ledger::short;
use crate::channels::masked;
use crate::domain::rules::{ChannelRule, Rules};
use crate::domain::{Facts, NotificationType, subject};
use crate::engine::{TrialEnd, try_now};
use crate::ports::{Channel, DeliveryError, Trial};

const RULE: &str = "notify test";
/// Below this likeness (Jaro-Winkler, 0 to 1) a name is no help.
const LEAST_LIKENESS: f64 = 0.7;
const MOST_SUGGESTED: usize = 3;

/// What follows `notify`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: NotifyCommand,
}

#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Send a marked test message now, and show the service's answer
    Test(TestArguments),
}

/// What follows `notify test`.
#[derive(Debug, Args)]
#[command(
    after_help = "It is tried once, by this command and not by the node: secrets, credentials and programs are those that this shell \
    and user see. Silences, quiet hours, limits and a channel that is switched off do not hold it. \
    Exit status: 0 taken, 1 not taken or no such recipient."
)]
struct TestArguments {
    #[command(flatten)]
    file: FileFlag,
    /// An e-mail address, or the name of a channel
    recipient: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn file(&self) -> &FileFlag {
        let NotifyCommand::Test(arguments) = &self.command;
        &arguments.file
    }
}

/// Where a trial goes.
struct Target<'a> {
    recipient: String,
    rule: Option<&'a ChannelRule>,
    channel: Arc<dyn Channel>,
}

/// Sends the trial and waits for the answer.
///
/// # Errors
/// When there is no such recipient, its channel cannot be opened, it does not take the message, or the database cannot
/// be written.
pub(super) async fn notify(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let NotifyCommand::Test(arguments) = &arguments.command;
    let rules = installation.store.rules().await?;
    let target = target(&arguments.recipient, &rules, installation)?;
    let owner = format!("command:{}", installation.node.uuid);
    let trial = trial(&target.recipient, installation);
    let clock = installation.clock.as_ref();
    let end = try_now(installation.store.as_ref(), target.channel.clone(), clock, &owner, trial).await?;
    if arguments.json {
        let status = if end.result.is_ok() { Status::Done } else { Status::Failed };
        return Ok(Answer::of_json(&as_json(&target, &end))?.with_status(status));
    }
    let (id, to, took) = (end.message.id.0, target.called(), seconds(end.took));
    match &end.result {
        Ok(delivered) => {
            let mut text =
                format!("test message {id} to {to} was taken after {took}\nanswer: {}\n", short(&delivered.answer));
            text.extend(target.notes(installation).map(|note| format!("note: {note}\n")));
            Ok(Answer::of_text(text))
        }
        Err(error) => {
            let (reason, hint) = reason_and_hint(error);
            let trouble = Trouble::failed(format!("test message {id} to {to} was not taken, after {took}: {reason}"));
            Err(trouble.hint(hint).into())
        }
    }
}

fn target<'a>(name: &str, rules: &'a Rules, installation: &Installation) -> anyhow::Result<Target<'a>> {
    let name = name.trim();
    let rule = rules.channel(name);
    let recipient = match rule {
        Some(rule) => rule.row.name.clone(),
        None if name.contains('@') => rules.recipient(&Value::from(name)).map_err(|fault| {
            Trouble::failed(fault.problem()).hint("write the bare address, such as `ops@example.com`")
        })?,
        None => return Err(unknown(name, rules).into()),
    };
    let source = installation.channels()?;
    let channel = match rule {
        None => source.mail(),
        Some(rule) => source.open(&rule.row.url).map_err(|fault| {
            Trouble::failed(format!("the channel `{recipient}` cannot be used: {fault}"))
                .hint(format!("correct `url` of the row {} of `channels`; nothing was sent", rule.row.id))
        })?,
    };
    Ok(Target { recipient, rule, channel })
}

fn unknown(name: &str, rules: &Rules) -> Trouble {
    let trouble = Trouble::failed(format!("`{}` is neither an e-mail address nor the name of a channel", short(name)));
    let wanted = name.to_lowercase();
    let mut near: Vec<(f64, &String)> =
        rules.channels.keys().map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known)).collect();
    near.retain(|(likeness, _)| *likeness >= LEAST_LIKENESS);
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    let near: Vec<String> = near.iter().take(MOST_SUGGESTED).map(|(_, known)| format!("`{}`", short(known))).collect();
    match (near.is_empty(), rules.channels.is_empty()) {
        (false, _) => trouble.hint(format!("did you mean {}?", near.join(" or "))),
        (true, false) => trouble.hint("`SELECT name FROM channels` lists the channels"),
        (true, true) => trouble.hint("there are no channels yet; a row of `channels` makes one"),
    }
}

fn trial(recipient: &str, installation: &Installation) -> Trial {
    let now = installation.clock.now();
    let node = short(&installation.node.name);
    let message = format!(
        "This is a test, and nothing is wrong. Somebody ran `watchbell notify test` on {node} to see whether messages \
         arrive here."
    );
    let at = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    Trial {
        recipient: recipient.to_owned(),
        subject: subject(NotificationType::Test, "this is a test, nothing is wrong"),
        body: format!("Notification: test\nTime: {at}\n\n{message}\n"),
        facts: Facts { at: Some(now), message, ..Facts::default() },
        rule: RULE.to_owned(),
        lease_until: now,
    }
}

impl Target<'_> {
    fn called(&self) -> String {
        match self.rule {
            None => short(&self.recipient),
            Some(rule) => format!("`{}` ({})", short(&self.recipient), short(&masked(&rule.row.url))),
        }
    }

    /// What holds other messages than this one.
    fn notes(&self, installation: &Installation) -> impl Iterator<Item = String> + use<> {
        let is_off = self.rule.is_some_and(|rule| !rule.row.is_active);
        let off = is_off.then(|| {
            "the channel is switched off (is_active = 0): other messages to it are held until it is switched on"
                .to_owned()
        });
        let hours = self.rule.and_then(|rule| rule.quiet_hours);
        let quiet = hours.and_then(|hours| hours.end_if_within(installation.clock.now())).map(|end| {
            let zone = installation.configuration.default_timezone;
            format!(
                "the channel has quiet hours now: what is below critical is held until {}",
                super::ledger::clock(end, zone)
            )
        });
        off.into_iter().chain(quiet)
    }
}

/// Texts of channels carry their hint at the end.
fn reason_and_hint(error: &DeliveryError) -> (String, String) {
    let text = error.to_string();
    if let Some((reason, hint)) = text.split_once(" (hint: ")
        && let Some(hint) = hint.strip_suffix(')')
    {
        return (reason.to_owned(), hint.to_owned());
    }
    let hint = match error {
        DeliveryError::Unavailable { .. } => {
            "nothing goes over this channel from here; what the node cannot send either waits, and is sent when it works \
             again (the node may see other secrets and programs than this shell: `watchbell outbox` tells what waits)"
        }
        DeliveryError::Retry { .. } => "this may pass; try again in a minute",
        DeliveryError::Permanent { .. } => {
            "this message is refused for good: correct the address, or the channel's `url`"
        }
    };
    (text, hint.to_owned())
}

fn as_json(target: &Target<'_>, end: &TrialEnd) -> Value {
    let (answer, error) = match &end.result {
        Ok(delivered) => (Some(delivered.answer.clone()), None),
        Err(error) => (None, Some(reason_and_hint(error))),
    };
    let (error, hint) = error.unzip();
    json!({
        "id": end.message.id.0,
        "uuid": end.message.uuid,
        "recipient": target.recipient,
        "channel": target.rule.map(|rule| masked(&rule.row.url)),
        "is_active": target.rule.is_none_or(|rule| rule.row.is_active),
        "is_taken": end.result.is_ok(),
        "answer": answer,
        "error": error,
        "hint": hint,
        "duration_ms": u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn seconds(took: Duration) -> String {
    match took.as_millis() {
        short @ 0..10_000 => format!("{short} ms"),
        _ => format!("{} s", took.as_secs()),
    }
}
