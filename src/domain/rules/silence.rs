//! Silences: checks go on, alerts and reminders are held.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::MonitorId;
use crate::domain::schedule::{Schedule, parse_zone};
use crate::domain::selector::{Selector, Subject};

/// A row of `silences`, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceRow {
    /// `id`.
    pub id: i64,
    /// `monitor_id`.
    pub monitor_id: Option<i64>,
    /// `selector`.
    pub selector: Option<String>,
    /// `starts_at`.
    pub starts_at: DateTime<Utc>,
    /// `ends_at`.
    pub ends_at: Option<DateTime<Utc>>,
    /// `schedule`: each of its ticks begins a span of `duration_minutes`.
    pub schedule: Option<String>,
    /// `timezone` of `schedule`.
    pub timezone: Option<String>,
    /// `duration_minutes`.
    pub duration_minutes: Option<i64>,
    /// `config_error`, as it stands in the row.
    pub config_error: Option<String>,
}

/// A silence that can be applied.
#[derive(Debug, Clone)]
pub struct Silence {
    /// `id`.
    pub id: i64,
    monitor: Option<MonitorId>,
    selector: Option<Selector>,
    starts_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
    recurring: Option<(Schedule, TimeDelta)>,
}

impl Silence {
    /// Reads a row.
    ///
    /// # Errors
    /// What cannot be read, with a hint.
    pub fn read(row: &SilenceRow, default_zone: Tz) -> Result<Self, String> {
        let selector = row.selector.as_deref().map(str::parse).transpose();
        let selector =
            selector.map_err(|error: crate::domain::selector::SelectorError| format!("selector: {error}"))?;
        let recurring = match (&row.schedule, row.duration_minutes) {
            (Some(schedule), Some(minutes)) => {
                let in_words = |error: crate::domain::schedule::ScheduleError| {
                    format!("{} (hint: {})", error.problem(), error.hint())
                };
                let zone = row.timezone.as_deref().map_or(Ok(default_zone), parse_zone).map_err(in_words)?;
                Some((Schedule::parse(schedule, zone).map_err(in_words)?, TimeDelta::minutes(minutes)))
            }
            _ => None,
        };
        let monitor = row.monitor_id.map(MonitorId);
        Ok(Self { id: row.id, monitor, selector, starts_at: row.starts_at, ends_at: row.ends_at, recurring })
    }

    /// Whether it is about this monitor; both parts must fit where both are given.
    pub fn covers(&self, monitor: MonitorId, subject: &Subject<'_>) -> bool {
        self.monitor.is_none_or(|only| only == monitor)
            && self.selector.as_ref().is_none_or(|selector| selector.selects(subject))
    }

    /// When it ends, if it holds at `now`.
    pub fn end_if_within(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if now < self.starts_at || self.ends_at.is_some_and(|end| end <= now) {
            return None;
        }
        let Some((schedule, duration)) = &self.recurring else { return self.ends_at };
        // The tick at this very instant counts too.
        let began = schedule.previous_before(now + TimeDelta::milliseconds(1))?;
        let end = began + *duration;
        let end = self.ends_at.map_or(end, |last| end.min(last));
        (end > now && began >= self.starts_at - *duration).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use chrono_tz::Tz;
    use watchbell_contract::Severity;

    use super::{Silence, SilenceRow};
    use crate::domain::MonitorId;
    use crate::domain::selector::Subject;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn row() -> SilenceRow {
        SilenceRow {
            id: 1,
            monitor_id: Some(7),
            selector: None,
            starts_at: at("2026-11-22T10:00:00Z"),
            ends_at: Some(at("2026-11-22T12:00:00Z")),
            schedule: None,
            timezone: None,
            duration_minutes: None,
            config_error: None,
        }
    }

    #[test]
    fn one_span_has_a_beginning_and_an_end() {
        let silence = Silence::read(&row(), Tz::UTC).unwrap();
        assert_eq!(silence.end_if_within(at("2026-11-22T09:59:59Z")), None);
        assert_eq!(silence.end_if_within(at("2026-11-22T10:00:00Z")), Some(at("2026-11-22T12:00:00Z")));
        assert_eq!(silence.end_if_within(at("2026-11-22T12:00:00Z")), None);
    }

    #[test]
    fn a_recurring_one_follows_its_schedule_in_its_zone() {
        let row = SilenceRow {
            schedule: Some("0 2 * * *".into()),
            timezone: Some("Europe/Berlin".into()),
            duration_minutes: Some(90),
            ends_at: None,
            ..row()
        };
        let silence = Silence::read(&row, Tz::UTC).unwrap();
        assert_eq!(silence.end_if_within(at("2026-11-23T00:59:59Z")), None);
        assert_eq!(silence.end_if_within(at("2026-11-23T01:00:00Z")), Some(at("2026-11-23T02:30:00Z")));
        assert_eq!(silence.end_if_within(at("2026-11-23T02:30:00Z")), None);
        let never = SilenceRow { schedule: Some("nonsense".into()), ..row };
        assert!(Silence::read(&never, Tz::UTC).unwrap_err().contains("hint"));
    }

    #[test]
    fn monitor_and_selector_must_both_fit() {
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let subject = Subject { labels: &labels, kind: "http", name: "x", severity: Severity::Critical };
        let both = Silence::read(&SilenceRow { selector: Some("team=shop".into()), ..row() }, Tz::UTC).unwrap();
        assert!(both.covers(MonitorId(7), &subject));
        assert!(!both.covers(MonitorId(8), &subject));
        let other = Silence::read(&SilenceRow { selector: Some("team=x".into()), ..row() }, Tz::UTC).unwrap();
        assert!(!other.covers(MonitorId(7), &subject));
    }
}
