//! `watchbell why`: the story of a tick, so that a tired person understands why somebody was told, or was not.

mod at;
mod story;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Args;

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::find;
use super::installation::Installation;
use crate::domain::MonitorRow;
use crate::domain::schedule::parse_zone;

/// What follows `why`.
#[derive(Debug, Args)]
#[command(after_help = "TIME is RFC 3339, such as `2026-11-22T12:03:00Z`, or on the clocks of the monitor's zone \
    `12:03` (the last time that they showed it) or `2026-11-22 12:03`. A time without seconds is its whole minute.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
    /// The run at this time, or the last one before; otherwise the latest that told somebody or changed the state
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The run, the transition, and what became of every message that it owed.
///
/// # Errors
/// When there is no such monitor or no such run, the time cannot be read, or the database cannot be read.
pub(super) async fn why(arguments: &Arguments, installation: &Installation) -> anyhow::Result<Answer> {
    let store = installation.store.as_ref();
    let row = find::monitor(store, &arguments.monitor).await?;
    let zone = zone(&row, installation);
    let at = match &arguments.at {
        Some(text) => Some(at::read(text, zone, installation.clock.now())?),
        None => None,
    };
    let Some(story) = store.story(row.id, at).await? else { return Err(no_run(&row, at).into()) };
    let told = story::Told::read(store, &row, story, zone).await?;
    match arguments.json {
        true => Answer::of_json(&told.as_json()),
        false => Ok(Answer::of_text(told.as_text())),
    }
}

/// A zone that cannot be read is told elsewhere; the story is told all the same.
fn zone(row: &MonitorRow, installation: &Installation) -> Tz {
    let of_row = row.timezone.as_deref().and_then(|name| parse_zone(name).ok());
    of_row.unwrap_or(installation.configuration.default_timezone)
}

fn no_run(row: &MonitorRow, at: Option<DateTime<Utc>>) -> Trouble {
    let which = find::called(row);
    match at {
        Some(_) => Trouble::failed(format!("monitor {which} has no run at that time or before"))
            .hint(format!("`watchbell history {}` shows its runs; old ones go after `history.keep_days`", row.id)),
        None => Trouble::failed(format!("monitor {which} has no runs yet"))
            .hint("`watchbell doctor` says whether a node serves this database"),
    }
}
