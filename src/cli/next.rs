//! `watchbell next`: when something is due, in the schedule's zone and in UTC.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::find;
use super::installation::Installation;
use super::table;
use crate::config::Configuration;
use crate::domain::schedule::{ExplainedTick, Schedule, ScheduleError, parse_zone};

/// The zone of the column that every other zone has beside its own.
const UTC: &str = "UTC";

/// What follows `next`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["monitor", "schedule"])))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor whose ticks are shown: its id, uuid or name
    pub(super) monitor: Option<String>,
    /// A schedule that is in no row: `*/5 * * * *`, `@hourly`, `@every 30s`
    #[arg(long)]
    schedule: Option<String>,
    /// The IANA zone in which the schedule is read; otherwise `default_timezone`
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    timezone: Option<String>,
    /// Ticks after this instant, which itself does not count: RFC 3339, such as `2026-11-21T21:00:00Z`; otherwise now
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    from: Option<DateTime<Utc>>,
    /// How many ticks
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Print JSON: an array of {"utc", "local", "note"}
    #[arg(long)]
    json: bool,
}

/// The ticks of a schedule that is in no row.
///
/// # Errors
/// When the schedule or the zone cannot be read.
pub(super) fn of_schedule(arguments: &Arguments, configuration: &Configuration) -> anyhow::Result<Answer> {
    let text = arguments.schedule.as_deref().unwrap_or_default();
    let zone = match &arguments.timezone {
        Some(name) => parse_zone(name).map_err(|error| usage(&error))?,
        None => configuration.default_timezone,
    };
    let schedule = Schedule::parse(text, zone).map_err(|error| usage(&error))?;
    answer(arguments, &schedule)
}

/// The ticks of a monitor.
///
/// # Errors
/// When there is no such monitor, or its schedule or zone cannot be read.
pub(super) async fn of_monitor(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let row = find::monitor(installation.store.as_ref(), arguments.monitor.as_deref().unwrap_or_default()).await?;
    let broken = |error: ScheduleError| {
        Trouble::failed(format!("monitor {}: {}", find::called(&row), error.problem())).hint(error.hint())
    };
    let zone = match &row.timezone {
        Some(name) => parse_zone(name).map_err(broken)?,
        None => installation.configuration.default_timezone,
    };
    let schedule = Schedule::parse(&row.schedule, zone).map_err(broken)?;
    answer(arguments, &schedule)
}

fn usage(error: &ScheduleError) -> Trouble {
    Trouble::usage(error.problem()).hint(error.hint())
}

fn answer(arguments: &Arguments, schedule: &Schedule) -> anyhow::Result<Answer> {
    let from = arguments.from.unwrap_or_else(Utc::now);
    let ticks: Vec<ExplainedTick> =
        std::iter::successors(schedule.next_explained(from), |tick| schedule.next_explained(tick.utc))
            .take(arguments.count as usize)
            .collect();
    if arguments.json {
        return Answer::of_json(&ticks.iter().map(as_record).collect::<Vec<_>>());
    }
    Ok(Answer::of_text(rendered(schedule.zone().name(), &ticks)))
}

fn rendered(zone: &str, ticks: &[ExplainedTick]) -> String {
    let local = |tick: &ExplainedTick| tick.local.format("%a %Y-%m-%d %H:%M:%S %:z").to_string();
    // The same column twice tells nothing, and UTC has no clocks that change.
    if zone == UTC {
        let rows: Vec<Vec<String>> = ticks.iter().map(|tick| vec![local(tick)]).collect();
        return table::aligned(&[UTC], &rows, usize::MAX);
    }
    let mut above = "";
    let mut rows = Vec::with_capacity(ticks.len());
    for tick in ticks {
        let note = tick.note.as_deref().unwrap_or_default();
        let reason = reason(note);
        let shown = if !note.is_empty() && reason == above { "as above" } else { note };
        rows.push(vec![local(tick), utc(tick), shown.to_owned()]);
        above = reason;
    }
    // Notes are the point of the table: they are never cut.
    table::aligned(&[zone, UTC, ""], &rows, usize::MAX)
}

/// A note without the time at its beginning, which each tick of a repeated hour has differently.
fn reason(note: &str) -> &str {
    note.split_once(": ").map_or(note, |(_, reason)| reason)
}

fn utc(tick: &ExplainedTick) -> String {
    tick.utc.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// One element of the array that `--json` prints.
#[derive(Serialize)]
struct TickRecord {
    utc: String,
    local: String,
    note: Option<String>,
}

fn as_record(tick: &ExplainedTick) -> TickRecord {
    let local = tick.local.to_rfc3339_opts(SecondsFormat::AutoSi, false);
    TickRecord { utc: utc(tick), local, note: tick.note.clone() }
}

fn read_time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|error| format!("{error}; write it as 2026-11-21T21:00:00Z or 2026-11-21T22:00:00+01:00"))
}
