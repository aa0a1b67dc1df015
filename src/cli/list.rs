//! `watchbell list`: how all monitors are.

use clap::Args;

use super::FileFlag;
use super::answer::Answer;
use super::columns::{is_set, text, time};
use super::installation::Installation;
use super::table;
use crate::ports::Columns;

/// More would be no list any more; when there are more, that is said.
const MOST_LISTED: u32 = 100_000;
/// What needs a person comes first.
const ORDER: [&str; 5] = ["alert", "overdue", "never run", "ok", "paused"];

/// What follows `list`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All monitors: those in alert first, then by name.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn list(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let mut monitors = installation.store.monitor_status(MOST_LISTED).await?;
    // Stable: within a status, the order by name stays.
    monitors.sort_by_key(|monitor| rank(&text(monitor, "status")));
    if arguments.json {
        return Answer::of_json(&monitors);
    }
    Ok(Answer::of_text(rendered(&monitors, table::line_width())))
}

fn rank(status: &str) -> usize {
    ORDER.iter().position(|known| *known == status).unwrap_or(ORDER.len())
}

fn rendered(monitors: &[Columns], width: usize) -> String {
    if monitors.is_empty() {
        return "no monitors; `watchbell add` or an INSERT into `monitors` makes one, `watchbell kinds` shows how\n"
            .into();
    }
    let rows: Vec<Vec<String>> = monitors.iter().map(row).collect();
    let mut table = table::aligned(&["status", "id", "name", "since (UTC)", "next run (UTC)", "message"], &rows, width);
    table.push_str(&counted(monitors));
    if monitors.len() >= MOST_LISTED as usize {
        table.push_str(&format!("only {MOST_LISTED} are shown; ask the view `monitor_status` for others\n"));
    }
    table
}

fn row(columns: &Columns) -> Vec<String> {
    let mut status = text(columns, "status");
    if status == "alert" && is_set(columns, "is_acknowledged") {
        status.push_str(" (ack)");
    }
    let message = match text(columns, "config_error") {
        error if error.is_empty() => text(columns, "last_result_message"),
        error => format!("[config_error] {error}"),
    };
    let next = if status == "paused" { String::new() } else { time(columns, "next_run_at") };
    vec![status, text(columns, "id"), text(columns, "name"), time(columns, "since"), next, message]
}

/// `5 monitors: 1 alert, 4 ok`.
fn counted(monitors: &[Columns]) -> String {
    let of = |status: &str| monitors.iter().filter(|monitor| text(monitor, "status") == status).count();
    let counts: Vec<String> = ORDER
        .iter()
        .map(|status| (of(status), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    let monitors = if monitors.len() == 1 { "1 monitor".to_owned() } else { format!("{} monitors", monitors.len()) };
    format!("{monitors}: {}\n", counts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{rank, rendered};
    use crate::ports::Columns;

    fn monitor(columns: serde_json::Value) -> Columns {
        serde_json::from_value(columns).unwrap()
    }

    #[test]
    fn what_needs_a_person_comes_first() {
        assert!(rank("alert") < rank("overdue") && rank("overdue") < rank("ok") && rank("ok") < rank("paused"));
        assert!(rank("a word of a later version") > rank("paused"));
    }

    #[test]
    fn a_line_tells_status_times_and_message() {
        let monitors = [
            monitor(json!({"status": "alert", "id": 2, "name": "Orders", "since": "2026-11-21T21:00:00.000Z",
                "next_run_at": "2026-11-21T21:05:00.000Z", "last_result_message": "0 orders\nsince noon",
                "is_acknowledged": 1, "config_error": null})),
            monitor(json!({"status": "paused", "id": 1, "name": "Zürich", "next_run_at": "2026-11-21T21:05:00.000Z",
                "since": "2026-11-21T20:00:00.000Z", "config_error": "kind: `x` is unknown"})),
        ];
        let expected = "\
status       id  name    since (UTC)          next run (UTC)       message
alert (ack)  2   Orders  2026-11-21 21:00:00  2026-11-21 21:05:00  0 orders since noon
paused       1   Zürich  2026-11-21 20:00:00                       [config_error] kind: `x` is unknown
2 monitors: 1 alert, 1 paused
";
        assert_eq!(rendered(&monitors, 200), expected);
        assert!(rendered(&[], 80).starts_with("no monitors;"));
    }
}
