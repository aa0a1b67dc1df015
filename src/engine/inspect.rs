//! What is wrong with a row as it is written.

use chrono_tz::Tz;
use serde_json::Value;

use super::kinds::Kinds;
use super::roster::Share;
use crate::domain::rules::Rules;
use crate::domain::schedule::{Schedule, ScheduleCache, ScheduleError};
use crate::domain::selector::Selector;
use crate::domain::{MonitorRow, Recipients};

/// When a row is tried whose own schedule cannot be read.
const WITHOUT_A_SCHEDULE: &str = "@every 1h";

/// When a row runs.
#[derive(Debug, Clone)]
pub(super) struct Timing {
    /// Its schedule; hourly where the row has none that can be read.
    pub(super) schedule: Schedule,
    /// Why its own cannot be read.
    pub(super) fault: Option<String>,
}

/// Reads schedules, sharing what is equal.
pub(super) struct ScheduleReader {
    schedules: ScheduleCache,
    default_zone: Tz,
    fallback: Schedule,
}

impl ScheduleReader {
    /// # Errors
    /// Never in practice: the built-in fallback is a valid schedule, and a test reads it.
    pub(super) fn new(default_zone: Tz) -> Result<Self, ScheduleError> {
        let fallback = Schedule::parse(WITHOUT_A_SCHEDULE, Tz::UTC)?;
        Ok(Self { schedules: ScheduleCache::default(), default_zone, fallback })
    }

    /// Reads that of `row`; a fault is part of what comes back.
    pub(super) fn read(&self, row: &MonitorRow) -> Timing {
        let zone = row.timezone.as_deref().unwrap_or(self.default_zone.name());
        let schedule = self
            .schedules
            .read(&row.schedule, zone)
            .map_err(|error| format!("{} (hint: {})", error.problem(), error.hint()));
        match schedule {
            Ok(schedule) => Timing { schedule, fault: None },
            Err(fault) => Timing { schedule: self.fallback.clone(), fault: Some(fault) },
        }
    }
}

/// Everything that keeps the row from running as written.
pub(super) fn hard_faults(row: &MonitorRow, timing: &Timing, share: &Share, kinds: &Kinds) -> Vec<String> {
    let mut faults: Vec<String> = timing.fault.iter().cloned().chain(share.fault()).collect();
    faults.extend(kinds.prepare(&row.kind, &row.config).err());
    faults
}

/// Everything that does not keep it from running, but is not done as written.
pub(super) fn soft_faults(row: &MonitorRow, rules: &Rules) -> Vec<String> {
    let mut faults = Recipients::read(row.people_to_notify.as_deref(), &[], &rules.channels).faults;
    if let Ok(Value::Object(labels)) = serde_json::from_str::<Value>(&row.labels) {
        let wrong = labels.iter().filter(|(_, value)| !value.is_string());
        faults.extend(wrong.map(|(key, _)| format!("labels.{key}: expected a text (hint: write it in quotes)")));
    }
    faults
}

/// Everything that is not done as the row says, or keeps it from running at all: for people who ask before it runs.
pub fn row_faults(row: &MonitorRow, kinds: &Kinds, rules: &Rules, default_zone: Tz) -> Vec<String> {
    match ScheduleReader::new(default_zone) {
        Ok(schedules) => {
            let mut faults = hard_faults(row, &schedules.read(row), &Share::Ours, kinds);
            let selector = row.runs_on.as_deref().map(str::parse::<Selector>);
            faults.extend(selector.and_then(Result::err).map(|error| format!("runs_on: {error}")));
            faults.extend(soft_faults(row, rules));
            faults
        }
        Err(error) => vec![error.to_string()],
    }
}

/// What stands in `config_error`.
pub(super) fn config_error(faults: &[String]) -> Option<String> {
    (!faults.is_empty()).then(|| faults.join("; "))
}
