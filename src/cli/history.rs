//! `watchbell history`: the latest runs of one monitor.

use clap::Args;

use super::FileFlag;
use super::answer::Answer;
use super::columns::{is_set, text, time};
use super::find;
use super::installation::Installation;
use super::table;
use crate::ports::Columns;

/// What follows `history`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// How many runs
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The runs, newest first.
///
/// # Errors
/// When there is no such monitor, or the database cannot be read.
pub(super) async fn history(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let store = installation.store.as_ref();
    let row = find::monitor(store, &arguments.monitor).await?;
    let runs = store.history(row.id, arguments.count).await?;
    if arguments.json {
        return Answer::of_json(&runs);
    }
    if runs.is_empty() {
        return Ok(Answer::of_text(format!("monitor {} has no runs yet", find::called(&row))));
    }
    Ok(Answer::of_text(rendered(&runs, table::line_width())))
}

/// The runs as a table.
pub(super) fn rendered(runs: &[Columns], width: usize) -> String {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|columns| {
            let verdict = if is_set(columns, "is_ok") { "ok" } else { "failed" };
            let (before, after) = (text(columns, "state_before"), text(columns, "state_after"));
            let state = if before == after { after } else { format!("{before} -> {after}") };
            vec![
                time(columns, "started_at"),
                text(columns, "cause"),
                verdict.to_owned(),
                state,
                text(columns, "notification_type"),
                format!("{} ms", text(columns, "duration_ms")),
                text(columns, "message"),
            ]
        })
        .collect();
    table::aligned(&["started (UTC)", "cause", "outcome", "state", "told", "took", "message"], &rows, width)
}
