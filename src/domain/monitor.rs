//! A row of `monitors`, as read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::run::Cause;
use super::transition::State;

/// The `id` of a row of `monitors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorId(pub i64);

impl fmt::Display for MonitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A word in a column that is none of those that the column knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}")]
pub struct UnknownWord {
    /// The column's meaning.
    pub what: &'static str,
    /// What was found.
    pub word: String,
}

/// What happens after downtime to the ticks that passed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedTickPolicy {
    /// One run, for the latest of them.
    RunOnce,
    /// None; the next tick is awaited.
    Skip,
}

impl FromStr for MissedTickPolicy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "run_once" => Ok(MissedTickPolicy::RunOnce),
            "skip" => Ok(MissedTickPolicy::Skip),
            other => Err(UnknownWord { what: "missed tick policy", word: other.to_owned() }),
        }
    }
}

/// A row of `monitors`. Texts that can be wrong in ways that a database cannot refuse (schedule, zone, config,
/// recipients) are kept as written; whoever needs them reads them and reports what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorRow {
    /// `id`.
    pub id: MonitorId,
    /// `uuid`.
    pub uuid: String,
    /// `is_active`.
    pub is_active: bool,
    /// `name`.
    pub name: String,
    /// `kind`.
    pub kind: String,
    /// `schedule`.
    pub schedule: String,
    /// `timezone`; `None`: the installation's default.
    pub timezone: Option<String>,
    /// `config`, a JSON object.
    pub config: String,
    /// `severity`.
    pub severity: Severity,
    /// `labels`, a JSON object.
    pub labels: String,
    /// `runs_on`.
    pub runs_on: Option<String>,
    /// `timeout_seconds`, at least 1.
    pub timeout_seconds: u32,
    /// `retries`.
    pub retries: u32,
    /// `retry_delay_seconds`.
    pub retry_delay_seconds: u32,
    /// `state`.
    pub state: State,
    /// `consecutive_ok_count`.
    pub consecutive_ok_count: u32,
    /// `required_consecutive_oks`, at least 1.
    pub required_consecutive_oks: u32,
    /// `required_consecutive_alerts`, at least 1.
    pub required_consecutive_alerts: u32,
    /// `consecutive_alert_count`.
    pub consecutive_alert_count: u32,
    /// `reminder_frequency_minutes`; `None`: never.
    pub reminder_frequency_minutes: Option<u32>,
    /// `people_to_notify`, a JSON array; `None`: whom the routes name.
    pub people_to_notify: Option<String>,
    /// `missed_tick_policy`.
    pub missed_tick_policy: MissedTickPolicy,
    /// `last_tick_at`.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// `last_run_at`; `None`: a check is asked for.
    pub last_run_at: Option<DateTime<Utc>>,
    /// `last_notification_at`.
    pub last_notification_at: Option<DateTime<Utc>>,
    /// `next_run_at`.
    pub next_run_at: Option<DateTime<Utc>>,
    /// `config_error`.
    pub config_error: Option<String>,
    /// Counts edits made by people. The same revision means the same configuration.
    pub revision: i64,
    /// Counts how often a check was asked for by a NULL `last_run_at`.
    pub recheck_seq: i64,
    /// Counts Watchbell's own writes to the row; each guarded UPDATE expects it and raises it by one.
    pub write_seq: i64,
}

impl MonitorRow {
    /// Whether `self` and `other` ask the same question: an outcome of one is an outcome of the other.
    pub fn asks_the_same_as(&self, other: &MonitorRow) -> bool {
        self.kind == other.kind && self.config == other.config && self.timeout_seconds == other.timeout_seconds
    }

    /// The labels that are texts; what is none is a fault of the row.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&self.labels).unwrap_or_default();
        labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
    }

    /// The cause of the run that a NULL `last_run_at` asks for.
    pub fn asked_cause(&self) -> Cause {
        if self.last_tick_at.is_none() && self.write_seq == 0 { Cause::First } else { Cause::Forced }
    }
}
