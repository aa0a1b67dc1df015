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
    if status != "overdue" && is_set(columns, "is_overdue") {
        status.push_str(", overdue");
    }
    let message = message(columns, status.starts_with("alert"));
    let next = if status == "paused" { String::new() } else { time(columns, "next_run_at") };
    vec![status, text(columns, "id"), text(columns, "name"), time(columns, "since"), next, message]
}

/// What a person should read first. A row that runs with one bad recipient may be in alert for quite another reason.
fn message(columns: &Columns, is_alert: bool) -> String {
    let (error, last) = (text(columns, "config_error"), text(columns, "last_result_message"));
    if error.is_empty() {
        return last;
    }
    // Of a row that cannot run at all the last message is the error, behind words that say so.
    let is_the_error = last.is_empty() || last.split_once(": ").is_some_and(|(_, reason)| error.starts_with(reason));
    if is_alert && !is_the_error { format!("{last} [config_error] {error}") } else { format!("[config_error] {error}") }
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

    use super::{message, rank, rendered};
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
    fn a_bad_recipient_does_not_hide_why_a_monitor_is_in_alert() {
        let alert = |last: &str, error: &str| {
            let columns = json!({"last_result_message": last, "config_error": error});
            message(&serde_json::from_value(columns).unwrap(), true)
        };
        let soft = "people_to_notify: 7 is not a recipient";
        assert_eq!(alert("port 9: refused", soft), format!("port 9: refused [config_error] {soft}"));
        assert_eq!(alert("down", soft), format!("down [config_error] {soft}"));
        let both = format!("config.url: is required; {soft}");
        let last = "this monitor cannot be run as written: config.url: is required";
        assert_eq!(alert(last, &both), format!("[config_error] {both}"));
    }

    #[test]
    fn a_line_tells_status_times_and_message() {
        let monitors = [
            monitor(json!({"status": "alert", "id": 2, "name": "Orders", "since": "2026-11-21T21:00:00.000Z",
                "next_run_at": "2026-11-21T21:05:00.000Z", "last_result_message": "0 orders\nsince noon",
                "is_acknowledged": 1, "is_overdue": 1, "config_error": null})),
            monitor(json!({"status": "paused", "id": 1, "name": "Zürich", "next_run_at": "2026-11-21T21:05:00.000Z",
                "since": "2026-11-21T20:00:00.000Z", "config_error": "kind: `x` is unknown"})),
        ];
        let expected = "\
status                id  name    since (UTC)          next run (UTC)       message
alert (ack), overdue  2   Orders  2026-11-21 21:00:00  2026-11-21 21:05:00  0 orders since noon
paused                1   Zürich  2026-11-21 20:00:00                       [config_error] kind: `x` is unknown
2 monitors: 1 alert, 1 paused
";
        assert_eq!(rendered(&monitors, 200), expected);
        assert!(rendered(&[], 80).starts_with("no monitors;"));
    }
}
