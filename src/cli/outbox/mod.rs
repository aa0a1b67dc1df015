//! `watchbell outbox`: what waits, is held or was given up; and what was given up, sent again.

mod retry;

use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::FileFlag;
use super::answer::Answer;
use super::columns::{text, time};
use super::installation::Installation;
use super::{ledger, table};
use crate::ports::{Columns, OutboxFilter, Store, StoreError};

/// The words of `notifications.status`.
const STATUSES: [&str; 7] = ["pending", "sending", "held", "failed", "sent", "merged", "withdrawn"];

/// What follows `outbox`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: FileFlag,
    #[command(subcommand)]
    command: Option<OutboxCommand>,
    /// Only notifications of this status; may be repeated. Otherwise what waits, is held or was given up
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(STATUSES))]
    status: Vec<String>,
    /// Only those to this recipient
    #[arg(long)]
    recipient: Option<String>,
    /// How many, the oldest first
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Send again what was given up
    Retry(retry::Arguments),
}

impl Arguments {
    /// Whether anything is changed.
    pub(super) fn writes(&self) -> bool {
        matches!(self.command, Some(OutboxCommand::Retry(_)))
    }

    pub(super) fn file(&self) -> &FileFlag {
        match &self.command {
            Some(OutboxCommand::Retry(arguments)) => &arguments.file,
            None => &self.file,
        }
    }
}

/// The list, or what became of a retry.
///
/// # Errors
/// When the database cannot be read or written, or nothing could be sent again.
pub(super) async fn outbox(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    if let Some(OutboxCommand::Retry(arguments)) = &arguments.command {
        return retry::retry(arguments, installation).await;
    }
    let store = installation.store.as_ref();
    let filter = OutboxFilter {
        statuses: arguments.status.clone(),
        recipient: arguments.recipient.clone(),
        limit: arguments.count,
    };
    let listed = store.outbox(&filter).await?;
    if arguments.json {
        return Answer::of_json(&listed);
    }
    if listed.is_empty() {
        let is_filtered = filter.recipient.is_some() || !filter.statuses.is_empty();
        let all = "nothing waits, nothing is held, nothing was given up";
        return Ok(Answer::of_text(if is_filtered { "there is no such notification" } else { all }));
    }
    let mut rows = Vec::with_capacity(listed.len());
    for notification in &listed {
        rows.push(cells(store, notification, installation.clock.now()).await?);
    }
    let heading = ["id", "age", "type", "recipient", "status", "attempts", "next or held until (UTC)", "reason"];
    let mut text = table::aligned(&heading, &rows, table::line_width());
    if u32::try_from(listed.len()).is_ok_and(|listed| listed == arguments.count) {
        text.push_str(&format!("the oldest {}; `-n` shows more\n", arguments.count));
    }
    Ok(Answer::of_text(text))
}

async fn cells(store: &dyn Store, notification: &Columns, now: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
    let status = text(notification, "status");
    let (next, reason) = match status.as_str() {
        "held" => (
            time(notification, "next_attempt_at"),
            format!("held by {}", ledger::hold(store, &text(notification, "hold_reason")).await?),
        ),
        "pending" => (next_try(notification, now), text(notification, "last_error")),
        "merged" => (String::new(), format!("told by notification {}", text(notification, "merged_into"))),
        "failed" | "sending" => (String::new(), text(notification, "last_error")),
        _ => (String::new(), String::new()),
    };
    Ok(vec![
        text(notification, "id"),
        age(&text(notification, "created_at"), now),
        text(notification, "type"),
        text(notification, "recipient"),
        status,
        text(notification, "attempts"),
        next,
        reason,
    ])
}

/// When it is tried. What is due and was tried waits for its channel, which is tried at least once a minute unless the
/// service asked for more: the node knows when, and the row does not.
fn next_try(notification: &Columns, now: DateTime<Utc>) -> String {
    let is_due = text(notification, "next_attempt_at").parse::<DateTime<Utc>>().is_ok_and(|due| due <= now);
    match (is_due, text(notification, "attempts").as_str()) {
        (true, "0") => "in its turn".to_owned(),
        (true, _) => "when its channel is tried".to_owned(),
        (false, _) => time(notification, "next_attempt_at"),
    }
}

/// How long ago, in its largest unit.
fn age(created_at: &str, now: DateTime<Utc>) -> String {
    let Ok(created_at) = created_at.parse::<DateTime<Utc>>() else { return String::new() };
    let seconds = (now - created_at).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_short() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let of = |created: &str| age(created, now);
        assert_eq!(
            [
                of("2026-11-22T11:59:30.5Z"),
                of("2026-11-22T11:03:00Z"),
                of("2026-11-22T01:00:00Z"),
                of("2026-11-11T12:00:00Z")
            ],
            ["29 s", "57 min", "11 h", "11 d"]
        );
        assert_eq!((of("2026-11-22T12:00:05Z"), of("x")), ("0 s".to_owned(), String::new()));
    }
}
