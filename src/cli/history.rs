//! `watchbell history`: the latest runs of one monitor, or what they come to by hour or day.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::FileFlag;
use super::answer::Answer;
use super::columns::{is_set, text, time};
use super::find;
use super::installation::Installation;
use super::table;
use crate::domain::Span;
use crate::ports::Columns;

/// What follows `history`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// Sum them up: figures of each hour or day (in UTC) with runs, once it is over for some minutes
    #[arg(long, value_name = "SPAN")]
    by: Option<By>,
    /// How many runs, hours or days
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What runs are summed up by.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Hour,
    Day,
}

/// The runs, or their figures, newest first.
///
/// # Errors
/// When there is no such monitor, or the database cannot be read.
pub(super) async fn history(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let store = installation.store.as_ref();
    let row = find::monitor(store, &arguments.monitor).await?;
    if let Some(by) = arguments.by {
        let span = match by {
            By::Hour => Span::Hour,
            By::Day => Span::Day,
        };
        let figures: Vec<Columns> =
            store.rollups(row.id, span, arguments.count).await?.into_iter().map(with_averages).collect();
        if arguments.json {
            return Answer::of_json(&figures);
        }
        if figures.is_empty() {
            return Ok(Answer::of_text(format!(
                "no {} of monitor {} is summed up yet; that is done while `watchbell serve` runs, some minutes after its end",
                if span == Span::Hour { "hour" } else { "day" },
                find::called(&row)
            )));
        }
        return Ok(Answer::of_text(summed_up(&figures, table::line_width())));
    }
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

/// With what follows from the sums: `ok_percent` and `duration_ms_average`.
fn with_averages(mut figures: Columns) -> Columns {
    let number = |name: &str| figures.get(name).and_then(Value::as_i64).unwrap_or_default();
    let (runs, failed, total) = (number("runs"), number("failed_runs"), number("duration_ms_total"));
    if runs > 0 {
        // Rounded down: 100 is said only where none failed.
        #[allow(clippy::cast_precision_loss, reason = "one decimal of a percentage")]
        let percent = ((runs - failed) * 1_000 / runs) as f64 / 10.0;
        figures.insert("ok_percent".to_owned(), json!(percent));
        figures.insert("duration_ms_average".to_owned(), json!(total / runs));
    }
    figures
}

fn summed_up(figures: &[Columns], width: usize) -> String {
    let millis = |columns: &Columns, name: &str| match text(columns, name) {
        number if number.is_empty() => number,
        number => format!("{number} ms"),
    };
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|columns| {
            vec![
                time(columns, "starts_at"),
                text(columns, "runs"),
                format!("{} %", text(columns, "ok_percent")),
                text(columns, "failed_runs"),
                millis(columns, "duration_ms_average"),
                millis(columns, "duration_ms_max"),
                millis(columns, "lateness_ms_max"),
            ]
        })
        .collect();
    table::aligned(&["from (UTC)", "runs", "ok", "failed", "took on average", "at most", "latest start"], &rows, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_among_many_is_not_a_hundred_percent() {
        let figures = |runs: i64, failed: i64| {
            let columns = [("runs", runs), ("failed_runs", failed), ("duration_ms_total", runs * 41 + 1)];
            with_averages(columns.into_iter().map(|(name, number)| (name.to_owned(), json!(number))).collect())
        };
        assert_eq!(figures(10_000, 1)["ok_percent"], json!(99.9));
        assert_eq!(figures(60, 0)["ok_percent"], json!(100.0));
        assert_eq!(
            (&figures(60, 60)["ok_percent"], &figures(60, 60)["duration_ms_average"]),
            (&json!(0.0), &json!(41))
        );
    }

    #[test]
    fn figures_are_a_table() {
        let line = json!({
            "starts_at": "2026-11-21T13:00:00.000Z", "runs": 60, "failed_runs": 3, "duration_ms_total": 2460,
            "duration_ms_max": 900, "lateness_ms_max": null,
        });
        let figures = with_averages(serde_json::from_value(line).unwrap());
        let table = summed_up(&[figures], 200);
        let line = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "2026-11-21 13:00:00 60 95.0 % 3 41 ms 900 ms");
    }
}
