//! The hours in which a channel holds whatever is below critical.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// A span of every day on the clocks of a zone; it may reach over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: NaiveTime,
    until: NaiveTime,
    zone: Tz,
}

impl QuietHours {
    /// Reads `22:00-07:00` and the name of a zone.
    ///
    /// # Errors
    /// What cannot be read, with a hint.
    pub fn read(text: Option<&str>, zone: Option<&str>, default_zone: Tz) -> Result<Option<Self>, String> {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
        let zone = match zone.map(str::trim) {
            None | Some("") => default_zone,
            Some(name) => crate::domain::schedule::parse_zone(name)
                .map_err(|error| format!("quiet_timezone: {} (hint: {})", error.problem(), error.hint()))?,
        };
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let hours = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
        match hours.filter(|(from, until)| from != until) {
            Some((from, until)) => Ok(Some(Self { from, until, zone })),
            None => Err(format!("quiet_hours: `{text}` is no span of a day (hint: write it as `22:00-07:00`)")),
        }
    }

    /// When they end, if `now` is within them.
    pub fn end_if_within(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = now.with_timezone(&self.zone);
        let (date, time) = (local.date_naive(), local.time());
        let end_date = match self.from < self.until {
            true => (self.from <= time && time < self.until).then_some(date),
            false if time >= self.from => date.checked_add_days(Days::new(1)),
            false => (time < self.until).then_some(date),
        }?;
        Some(self.instant(end_date)).filter(|end| *end > now)
    }

    fn instant(&self, date: NaiveDate) -> DateTime<Utc> {
        let local = date.and_time(self.until);
        // A time that daylight saving skips is taken an hour later: the hours end once.
        let found = self.zone.from_local_datetime(&local).earliest();
        found
            .or_else(|| self.zone.from_local_datetime(&(local + chrono::TimeDelta::hours(1))).earliest())
            .map_or_else(|| Utc.from_utc_datetime(&local), |found| found.to_utc())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use chrono_tz::Tz;

    use super::QuietHours;

    fn end(hours: &str, zone: &str, now: &str) -> Option<String> {
        let hours = QuietHours::read(Some(hours), Some(zone), Tz::UTC).unwrap().unwrap();
        hours.end_if_within(now.parse::<DateTime<Utc>>().unwrap()).map(|end| end.to_rfc3339())
    }

    #[test]
    fn they_may_reach_over_midnight_and_end_once() {
        let night = "22:00-07:00";
        assert_eq!(end(night, "UTC", "2026-11-22T21:59:59Z"), None);
        assert_eq!(end(night, "UTC", "2026-11-22T22:00:00Z").unwrap(), "2026-11-23T07:00:00+00:00");
        assert_eq!(end(night, "UTC", "2026-11-22T06:59:00Z").unwrap(), "2026-11-22T07:00:00+00:00");
        assert_eq!(end(night, "UTC", "2026-11-22T07:00:00Z"), None);
        assert_eq!(end(night, "Europe/Berlin", "2026-11-22T21:00:00Z").unwrap(), "2026-11-23T06:00:00+00:00");
        assert_eq!(end("12:00-13:00", "UTC", "2026-11-22T12:30:00Z").unwrap(), "2026-11-22T13:00:00+00:00");
        // 02:30 does not exist on that day in Berlin: they end at 03:30.
        assert_eq!(end("01:00-02:30", "Europe/Berlin", "2026-03-29T00:30:00Z").unwrap(), "2026-03-29T01:30:00+00:00");
    }

    #[test]
    fn what_is_none_is_told() {
        for text in ["22-7", "22:00", "25:00-07:00", "07:00-07:00"] {
            assert!(QuietHours::read(Some(text), None, Tz::UTC).unwrap_err().contains("22:00-07:00"), "{text}");
        }
        assert!(
            QuietHours::read(Some("22:00-07:00"), Some("Mars/Base"), Tz::UTC).unwrap_err().contains("quiet_timezone")
        );
        assert_eq!(QuietHours::read(None, None, Tz::UTC), Ok(None));
    }
}
