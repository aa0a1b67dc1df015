//! One check carried through, before it is applied.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use watchbell_contract::Outcome;

use super::monitor::{MonitorRow, UnknownWord};

/// Why a run happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its tick came.
    Schedule,
    /// The row had never run.
    First,
    /// Somebody set `last_run_at` to NULL.
    Forced,
    /// `watchbell run`.
    Manual,
    /// A tick that passed while nobody was there to run it.
    CatchUp,
    /// A child of it failed, or its parent came back.
    Dependency,
    /// The row was edited while it could not be run as written.
    Event,
}

impl Cause {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Schedule => "schedule",
            Cause::First => "first",
            Cause::Forced => "forced",
            Cause::Manual => "manual",
            Cause::CatchUp => "catch_up",
            Cause::Dependency => "dependency",
            Cause::Event => "event",
        }
    }
}

impl FromStr for Cause {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "schedule" => Ok(Cause::Schedule),
            "first" => Ok(Cause::First),
            "forced" => Ok(Cause::Forced),
            "manual" => Ok(Cause::Manual),
            "catch_up" => Ok(Cause::CatchUp),
            "dependency" => Ok(Cause::Dependency),
            "event" => Ok(Cause::Event),
            other => Err(UnknownWord { what: "cause of a run", word: other.to_owned() }),
        }
    }
}

/// A check that has given its outcome and waits to be applied.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// The row as it was when the child was called.
    pub monitor: Arc<MonitorRow>,
    /// Why it ran.
    pub cause: Cause,
    /// The scheduled instant; `None`: a run without a tick.
    pub tick: Option<DateTime<Utc>>,
    /// When the child was called.
    pub started_at: DateTime<Utc>,
    /// How long the child took, retries included.
    pub duration: Duration,
    /// What it found, made safe for storing.
    pub outcome: Outcome,
    /// Why the row cannot be run, or not wholly, as written.
    pub config_error: Option<String>,
    /// The schedule's next instant, for people who read the table.
    pub next_run_at: Option<DateTime<Utc>>,
    /// Ticks that came while this run was going on, up to when it finished.
    pub skipped_ticks: u32,
    /// Ticks that nobody was there to run, found before this run.
    pub missed_ticks: u32,
}

impl FinishedRun {
    /// The instant that spans between runs are measured from: the tick, or the start of a run without one.
    pub fn instant(&self) -> DateTime<Utc> {
        self.tick.unwrap_or(self.started_at)
    }

    /// When the outcome was known.
    pub fn finished_at(&self) -> DateTime<Utc> {
        self.started_at + self.duration
    }
}
