//! When a monitor is due: a row's `schedule`, read in its zone, as a sequence of instants.
//!
//! Everything here is arithmetic: no clock is read, so the same row gives the same ticks on every node, and a tick's
//! instant can be its name. A schedule that cannot be read, or that never fires, is an error with a hint.

mod cache;
#[cfg(test)]
mod contract;
mod cron;
mod error;
mod every;
mod fields;
mod local;
#[cfg(test)]
mod model;
mod zone;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

pub use cache::ScheduleCache;
use cron::CronRule;
pub use error::ScheduleError;
use error::quoted;
use every::Every;
pub use zone::parse_zone;

/// Longer than any list of values somebody would write; bounds what a row can make the parser do.
const MAX_TEXT_BYTES: usize = 1_000;

/// One row's schedule, read in its zone. A clone shares everything.
#[derive(Debug, Clone)]
pub struct Schedule {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    text: Box<str>,
    zone: Tz,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Cron(Box<CronRule>),
    Every(Every),
}

/// A tick as people want to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedTick {
    /// The instant, which is the tick's name.
    pub utc: DateTime<Utc>,
    /// The same instant on the clocks of the schedule's zone.
    pub local: DateTime<Tz>,
    /// What daylight saving does to this tick, in a sentence; `None` where it does nothing.
    pub note: Option<String>,
}

impl Schedule {
    /// Reads cron with 5 fields, or 6 with seconds first, `@hourly` and the like, and `@every 30s`.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ScheduleError::new(
                "schedule: it is empty",
                "write cron, such as `*/5 * * * *`, or `@every 30s`",
            ));
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(ScheduleError::new(
                format!("schedule: {} is longer than {MAX_TEXT_BYTES} bytes", quoted(text)),
                "write ranges and steps instead of long lists",
            ));
        }
        let rule = match text.strip_prefix('@') {
            Some(nickname) => nicknamed(nickname)?,
            None => Rule::Cron(Box::new(CronRule::parse(text)?)),
        };
        Ok(Self { inner: Arc::new(Inner { text: text.into(), zone, rule }) })
    }

    /// The first tick after the instant, which itself does not count. `None` only at the end of the calendar.
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.inner.rule {
            Rule::Cron(cron) => cron.next_after(self.inner.zone, instant),
            Rule::Every(every) => every.next_after(instant),
        }
    }

    /// The last tick before the instant, which itself does not count.
    pub fn previous_before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.inner.rule {
            Rule::Cron(cron) => cron.previous_before(self.inner.zone, instant),
            Rule::Every(every) => every.previous_before(instant),
        }
    }

    /// The first tick after the instant, with what daylight saving does to it.
    pub fn next_explained(&self, after: DateTime<Utc>) -> Option<ExplainedTick> {
        let utc = self.next_after(after)?;
        let note = match &self.inner.rule {
            Rule::Cron(cron) => cron.note(self.inner.zone, utc),
            Rule::Every(_) => None,
        };
        Some(ExplainedTick { utc, local: utc.with_timezone(&self.inner.zone), note })
    }

    /// The zone in which it is read.
    pub fn zone(&self) -> Tz {
        self.inner.zone
    }
}

/// Two schedules are equal when they read the same in the same zone.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || (self.inner.zone == other.inner.zone && self.inner.text == other.inner.text)
    }
}

impl Eq for Schedule {}

fn nicknamed(nickname: &str) -> Result<Rule, ScheduleError> {
    let (word, rest) = nickname.split_once(char::is_whitespace).unwrap_or((nickname, ""));
    let word = word.to_ascii_lowercase();
    if word == "every" {
        return Every::parse(rest).map(Rule::Every);
    }
    let expression = match word.as_str() {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        "reboot" => {
            return Err(ScheduleError::new(
                "schedule: `@reboot` names no instant",
                "a monitor that has never run is checked at once anyway; write how often, such as `@hourly`",
            ));
        }
        _ => {
            return Err(ScheduleError::new(
                format!("schedule: {} is unknown", quoted(&format!("@{word}"))),
                "there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and `@every 30s`",
            ));
        }
    };
    if !rest.trim().is_empty() {
        return Err(ScheduleError::new(
            format!("schedule: nothing may stand behind `@{word}`, found {}", quoted(rest.trim())),
            "for another time of day write five fields, such as `30 6 * * *`",
        ));
    }
    Ok(Rule::Cron(Box::new(CronRule::parse(expression)?)))
}
