//! `watchbell show`: everything that is known of one monitor.

use clap::Args;
use serde_json::{Value, json};

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::columns::{text, time};
use super::installation::Installation;
use super::{find, history, table};
use crate::ports::Columns;

/// Runs and notifications that are shown; `history` shows more.
const SHOWN: u32 = 10;

/// What follows `show`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Columns that lead, in this order; the others follow by name.
const FIRST: [&str; 21] = [
    "id",
    "uuid",
    "name",
    "status",
    "is_overdue",
    "since",
    "state",
    "config_error",
    "last_result_message",
    "last_run_at",
    "next_run_at",
    "kind",
    "schedule",
    "timezone",
    "config",
    "severity",
    "labels",
    "people_to_notify",
    "reminder_frequency_minutes",
    "required_consecutive_oks",
    "consecutive_ok_count",
];
/// Columns by which Watchbell itself keeps order: in the JSON, not for people.
const INTERNAL: [&str; 3] = ["revision", "recheck_seq", "write_seq"];

/// One monitor: its row, its open incident, its latest runs and notifications.
///
/// # Errors
/// When there is no such monitor, or the database cannot be read.
pub(super) async fn show(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let store = installation.store.as_ref();
    let row = find::monitor(store, &arguments.monitor).await?;
    let Some(record) = store.monitor_record(row.id).await? else {
        return Err(Trouble::failed(format!("monitor {} was deleted meanwhile", row.id)).into());
    };
    let incident = store.incidents(row.id, 1).await?.into_iter().find(|it| text(it, "recovered_at").is_empty());
    let runs = store.history(row.id, SHOWN).await?;
    let notifications = store.notifications(row.id, SHOWN).await?;
    if arguments.json {
        return Answer::of_json(&json!({
            "monitor": record,
            "open_incident": incident,
            "runs": runs,
            "notifications": notifications,
        }));
    }
    Ok(Answer::of_text(rendered(&record, incident.as_ref(), &runs, &notifications, table::line_width())))
}

fn rendered(
    monitor: &Columns,
    incident: Option<&Columns>,
    runs: &[Columns],
    notifications: &[Columns],
    width: usize,
) -> String {
    let mut text = table::pairs(&ordered(monitor));
    if let Some(incident) = incident {
        text.push_str("\nopen incident\n");
        text.push_str(&table::pairs(&ordered(incident)));
    }
    if !runs.is_empty() {
        text.push_str("\nlatest runs\n");
        text.push_str(&history::rendered(runs, width));
    }
    if !notifications.is_empty() {
        text.push_str("\nlatest notifications\n");
        text.push_str(&rendered_notifications(notifications, width));
    }
    text
}

fn ordered(columns: &Columns) -> Vec<(&str, String)> {
    let is_shown = |name: &str| !INTERNAL.contains(&name);
    let first = FIRST.iter().copied().filter(|name| columns.contains_key(*name));
    let others = columns.keys().map(String::as_str).filter(|name| !FIRST.contains(name) && is_shown(name));
    first.chain(others).map(|name| (name, shown(columns, name))).collect()
}

fn shown(columns: &Columns, name: &str) -> String {
    match columns.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(_) => text(columns, name),
    }
}

fn rendered_notifications(notifications: &[Columns], width: usize) -> String {
    let rows: Vec<Vec<String>> = notifications
        .iter()
        .map(|notification| {
            vec![
                time(notification, "created_at"),
                text(notification, "type"),
                text(notification, "recipient"),
                text(notification, "status"),
                text(notification, "attempts"),
                text(notification, "last_error"),
            ]
        })
        .collect();
    table::aligned(&["created (UTC)", "type", "recipient", "status", "attempts", "last error"], &rows, width)
}
