//! `watchbell run`: one orchestrated run now, beside any node that serves the database.

use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde_json::{Value, json};

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::columns::text;
use super::installation::Installation;
use super::{asking, find};
use crate::domain::{Current, Decision, DiscardReason, FinishedRun, State, one_line};
use crate::engine::{Dispatcher, decide_with};
use crate::ports::{Applied, Columns, Work};

/// The summary is one line; the whole message is in `show`.
const MOST_MESSAGE_CHARS: usize = 300;
/// More recipients than one run tells; what is beyond them is not named in the summary.
const MOST_NOTIFICATIONS: u32 = 1_000;

/// What follows `run`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 where the run was carried out, whatever the child found, else 1.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// Ask the child and say what would follow; write and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Whether anything is changed.
    pub(super) fn writes(&self) -> bool {
        !self.dry_run
    }
}

/// What a run did, or would do.
struct Report {
    run: FinishedRun,
    is_dry: bool,
    end: End,
}

enum End {
    Written { before: State, after: State, notification_type: Option<String>, told: Vec<Told> },
    Discarded(DiscardReason),
}

/// One notification: whom, and how far it is.
struct Told {
    recipient: String,
    status: String,
    error: String,
}

/// Runs the monitor once. The exit status says that the run was carried out, not how it came out.
///
/// # Errors
/// When there is no such monitor, it is paused, or the database or the mail settings do not work.
pub(super) async fn run_monitor(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let row = find::monitor(installation.store.as_ref(), &arguments.monitor).await?;
    if !row.is_active {
        return Err(Trouble::failed(format!("monitor {} is paused, so it is not run", find::called(&row)))
            .hint(format!("`watchbell resume {}` ends the pause", row.id))
            .into());
    }
    let zone = installation.configuration.default_timezone;
    let rules = installation.store.rules().await?;
    let run = asking::ask(installation.kinds.clone(), row, rules, zone, installation.clock.clone()).await?;
    let report = match arguments.dry_run {
        true => dry(run, installation).await?,
        false => carried_out(run, installation).await?,
    };
    match arguments.json {
        true => Answer::of_json(&report.as_json()),
        false => Ok(Answer::of_text(report.as_line())),
    }
}

/// Decides inside a transaction as a real run does, keeps what was decided, and writes none of it.
async fn dry(run: FinishedRun, installation: &Installation) -> anyhow::Result<Report> {
    let decided = std::sync::Arc::new(Mutex::new(None));
    let (decide, keep) = (decide_with(installation.policy()), decided.clone());
    let decide_only = move |work: &Work, current: &Current| {
        *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(decide(work, current));
        Decision::Discard(DiscardReason::NothingToDo)
    };
    let work = [Work::Run(Box::new(run.clone()))];
    installation.store.apply(&installation.node, &work, &decide_only).await?;
    let decision = decided.lock().unwrap_or_else(PoisonError::into_inner).take();
    let end = match decision {
        Some(Decision::Apply(change)) => End::Written {
            before: change.state_before,
            after: change.row.as_ref().map_or(change.state_before, |row| row.state),
            notification_type: change.notification_type.map(|kind| kind.to_string()),
            told: change
                .notifications
                .iter()
                .map(|(_, notification)| Told {
                    recipient: notification.recipient.clone(),
                    status: "not sent".to_owned(),
                    error: String::new(),
                })
                .collect(),
        },
        Some(Decision::Discard(reason)) => End::Discarded(reason),
        None => End::Discarded(DiscardReason::NothingToDo),
    };
    Ok(Report { run, is_dry: true, end })
}

async fn carried_out(run: FinishedRun, installation: &Installation) -> anyhow::Result<Report> {
    // Before anything is written: what cannot be sent should not be queued by a person who waits for it.
    let channels = installation.channels()?;
    let work = [Work::Run(Box::new(run.clone()))];
    let before = latest_notification(&run, installation).await?;
    let applied = installation.store.apply(&installation.node, &work, &decide_with(installation.policy())).await?;
    let end = match applied.into_iter().next() {
        Some(Applied::Written { state_before, state_after, notification_type, queued, .. }) => {
            if queued > 0 {
                let owner = format!("command:{}", installation.node.uuid);
                let clock = installation.clock.clone();
                Dispatcher::new(installation.store.clone(), channels, clock, installation.limits(), owner)
                    .drain()
                    .await?;
            }
            End::Written {
                before: state_before,
                after: state_after.unwrap_or(state_before),
                notification_type: notification_type.map(|kind| kind.to_string()),
                told: told_since(before, queued, &run, installation).await?,
            }
        }
        Some(Applied::Locked) => anyhow::bail!(
            "the row of this monitor is locked by somebody's open transaction, and nothing was written (hint: end that \
             transaction, then run this again)"
        ),
        Some(Applied::Discarded(reason)) => End::Discarded(reason),
        None => End::Discarded(DiscardReason::NothingToDo),
    };
    Ok(Report { run, is_dry: false, end })
}

async fn latest_notification(run: &FinishedRun, installation: &Installation) -> anyhow::Result<i64> {
    let latest = installation.store.notifications(run.monitor.id, 1).await?;
    Ok(latest.first().map_or(0, id))
}

/// How far the notifications of this run are by now; a node that serves the database may be sending them.
async fn told_since(
    before: i64,
    queued: usize,
    run: &FinishedRun,
    installation: &Installation,
) -> anyhow::Result<Vec<Told>> {
    if queued == 0 {
        return Ok(Vec::new());
    }
    let latest = installation.store.notifications(run.monitor.id, MOST_NOTIFICATIONS).await?;
    let of_this_run = latest.iter().filter(|notification| id(notification) > before);
    Ok(of_this_run
        .map(|notification| Told {
            recipient: text(notification, "recipient"),
            status: text(notification, "status"),
            error: text(notification, "last_error"),
        })
        .collect())
}

fn id(notification: &Columns) -> i64 {
    notification.get("id").and_then(Value::as_i64).unwrap_or_default()
}

impl Report {
    fn as_line(&self) -> String {
        let name = one_line(&self.run.monitor.name, MOST_MESSAGE_CHARS);
        let message = one_line(&self.run.outcome.message, MOST_MESSAGE_CHARS);
        let verdict = if self.run.outcome.is_ok { "ok" } else { "failed" };
        let dry = if self.is_dry { "dry run, nothing is written: " } else { "" };
        format!("{dry}`{name}` {verdict} in {} ms, {}: {message}", self.run.duration.as_millis(), self.end.as_text())
    }

    fn as_json(&self) -> Value {
        let run = &self.run;
        let mut report = json!({
            "monitor_id": run.monitor.id.0,
            "name": run.monitor.name,
            "is_dry_run": self.is_dry,
            "is_ok": run.outcome.is_ok,
            "message": run.outcome.message,
            "metrics": run.outcome.metrics,
            "config_error": run.config_error,
            "started_at": run.started_at,
            "duration_ms": u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
            "discarded": null,
        });
        match &self.end {
            End::Discarded(reason) => report["discarded"] = Value::from(why_discarded(*reason)),
            End::Written { before, after, notification_type, told } => {
                report["state_before"] = Value::from(before.as_str());
                report["state_after"] = Value::from(after.as_str());
                report["notification_type"] = Value::from(notification_type.as_deref());
                report["notifications"] = told.iter().map(Told::as_json).collect();
            }
        }
        report
    }
}

impl End {
    fn as_text(&self) -> String {
        match self {
            End::Discarded(reason) => format!("not applied because {}", why_discarded(*reason)),
            End::Written { before, after, notification_type, told } => {
                let state = match before == after {
                    true => format!("state stays {after}"),
                    false => format!("state {before} -> {after}"),
                };
                let people: Vec<String> = told.iter().map(Told::as_text).collect();
                match notification_type {
                    Some(kind) => format!("{state}, {kind} to {}", people.join(", ")),
                    None if people.is_empty() => format!("{state}, nobody is told"),
                    None => format!("{state}, told are {}", people.join(", ")),
                }
            }
        }
    }
}

impl Told {
    fn as_text(&self) -> String {
        match self.error.as_str() {
            "" => format!("{} ({})", self.recipient, self.status),
            error => format!("{} ({}: {})", self.recipient, self.status, one_line(error, MOST_MESSAGE_CHARS)),
        }
    }

    fn as_json(&self) -> Value {
        let error = Some(&self.error).filter(|error| !error.is_empty());
        json!({"recipient": self.recipient, "status": self.status, "last_error": error})
    }
}

fn why_discarded(reason: DiscardReason) -> &'static str {
    match reason {
        DiscardReason::Gone => "the monitor was deleted meanwhile",
        DiscardReason::Paused => "the monitor was paused meanwhile",
        DiscardReason::QuestionEdited => "its kind, config or timeout was edited meanwhile",
        DiscardReason::TickAlreadyApplied | DiscardReason::AlreadyRechecked => "somebody else was first",
        DiscardReason::WrittenBefore => "it was written before",
        DiscardReason::LeaseLost => "the node lost its lease meanwhile, and the next tick was due",
        DiscardReason::NothingToDo => "there was nothing to do",
    }
}
