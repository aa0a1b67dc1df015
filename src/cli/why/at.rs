//! A time as tired people write it.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::cli::answer::Trouble;

/// The last instant that `text` means: of a minute its last, of a second its last.
///
/// # Errors
/// When it is no time, or one that the clocks of the zone never showed.
pub(super) fn read(text: &str, zone: Tz, now: DateTime<Utc>) -> Result<DateTime<Utc>, Trouble> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let (date, clock) = match text.split_once([' ', 'T']) {
        Some((date, clock)) => (Some(date.parse::<NaiveDate>().map_err(|_| unreadable(text))?), clock.trim()),
        None => (None, text),
    };
    let (time, precision) = of_clock(clock).ok_or_else(|| unreadable(text))?;
    let last = precision - TimeDelta::milliseconds(1);
    let instant = |date: NaiveDate| Some(on_clocks(date.and_time(time), zone)? + last);
    let found = match date {
        Some(date) => instant(date),
        None => {
            let today = now.with_timezone(&zone).date_naive();
            // At half past midnight, ten to midnight was yesterday.
            match instant(today) {
                Some(at) if at - last <= now => Some(at),
                _ => today.checked_sub_days(Days::new(1)).and_then(instant),
            }
        }
    };
    found.ok_or_else(|| {
        Trouble::usage(format!("`{text}` is a time that the clocks of {} skipped", zone.name()))
            .hint("write it in UTC, such as `2026-11-22T12:03:00Z`")
    })
}

fn of_clock(text: &str) -> Option<(NaiveTime, TimeDelta)> {
    let minutes = NaiveTime::parse_from_str(text, "%H:%M").map(|time| (time, TimeDelta::minutes(1)));
    minutes.or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S").map(|time| (time, TimeDelta::seconds(1)))).ok()
}

/// Of an hour that comes twice, the second time: the run before it is found by an exact time.
fn on_clocks(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    zone.from_local_datetime(&local).latest().map(|time| time.to_utc())
}

fn unreadable(text: &str) -> Trouble {
    Trouble::usage(format!("`{text}` is no time"))
        .hint("write it as `12:03`, as `2026-11-22 12:03`, or as `2026-11-22T12:03:00Z`")
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Berlin;

    use super::read;

    #[test]
    fn times_are_read_in_the_zone_and_mean_their_whole_minute() {
        let now = "2026-11-22T23:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-11-22T12:03:00Z", "2026-11-22T12:03:00Z"),
            ("2026-11-22T12:03:00+01:00", "2026-11-22T11:03:00Z"),
            ("2026-11-22 12:03", "2026-11-22T11:03:59.999Z"),
            ("2026-11-22 12:03:07", "2026-11-22T11:03:07.999Z"),
            // In Berlin it is half past midnight of the 23rd.
            ("00:15", "2026-11-22T23:15:59.999Z"),
            ("23:50", "2026-11-22T22:50:59.999Z"),
            ("00:30", "2026-11-22T23:30:59.999Z"),
        ] {
            let at = read(text, Berlin, now).unwrap();
            assert_eq!(at, expected.parse::<chrono::DateTime<chrono::Utc>>().unwrap(), "{text}");
        }
        for text in ["", "noon", "25:00", "2026-13-01 12:00", "2026-03-29 02:30"] {
            assert!(read(text, Berlin, now).is_err(), "{text}");
        }
    }
}
