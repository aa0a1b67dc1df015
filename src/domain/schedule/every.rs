//! `@every 90s`: ticks at the multiples of a span since the Unix epoch, the same on every node and in every zone.

use chrono::{DateTime, Utc};

use super::error::{ScheduleError, quoted};

/// A longer span is a slip of the pen: nobody asks less often than once a year.
const MAX_SECONDS: i64 = 366 * 86_400;
const EXAMPLE: &str =
    "write a whole number and a unit, such as `@every 30s`, `@every 5m`, `@every 1h30m` or `@every 1d`";

/// A span in whole seconds, from 1 to `MAX_SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Every {
    seconds: i64,
}

impl Every {
    /// Reads what stands behind `@every`: numbers with the units `s`, `m`, `h` and `d`, each at most once.
    pub(super) fn parse(span: &str) -> Result<Self, ScheduleError> {
        let fault =
            |problem: &str| ScheduleError::new(format!("schedule: `@every` with {}: {problem}", quoted(span)), EXAMPLE);
        let compact: String = span.split_whitespace().collect();
        let mut rest = compact.as_str();
        let mut seconds = 0_i64;
        let mut units_seen = String::new();
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
            let number: i64 = rest[..digits].parse().map_err(|_| fault("a whole number is expected"))?;
            let unit = rest[digits..].chars().next().ok_or_else(|| fault("the unit is missing"))?;
            let scale = match unit.to_ascii_lowercase() {
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                'd' => 86_400,
                _ => return Err(fault("the units are s, m, h and d")),
            };
            if units_seen.contains(unit.to_ascii_lowercase()) {
                return Err(fault("a unit stands twice"));
            }
            units_seen.push(unit.to_ascii_lowercase());
            seconds = number
                .checked_mul(scale)
                .and_then(|part| seconds.checked_add(part))
                .filter(|seconds| *seconds <= MAX_SECONDS)
                .ok_or_else(|| fault("more than 366 days"))?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        if seconds == 0 { Err(fault("at least one second is needed")) } else { Ok(Self { seconds }) }
    }

    pub(super) fn next_after(self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let passed = instant.timestamp().div_euclid(self.seconds);
        DateTime::from_timestamp(passed.checked_add(1)?.checked_mul(self.seconds)?, 0)
    }

    pub(super) fn previous_before(self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = super::local::second_at_or_after(instant)?;
        let passed = second.timestamp().checked_sub(1)?.div_euclid(self.seconds);
        DateTime::from_timestamp(passed.checked_mul(self.seconds)?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("1H", 3_600), ("2d", 172_800), ("1h 30m", 5_400), ("90s", 90)]
        {
            assert_eq!(Every::parse(text).unwrap().seconds, seconds, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for (text, problem) in [
            ("", "at least one second"),
            ("30", "the unit is missing"),
            ("0s", "at least one second"),
            ("-5s", "a whole number"),
            ("1.5h", "the units are"),
            ("5w", "the units are"),
            ("1m1m", "twice"),
            ("500d", "366 days"),
            ("99999999999999999999s", "a whole number"),
            ("9223372036854775807d", "366 days"),
            ("5ü", "the units are"),
        ] {
            let error = Every::parse(text).unwrap_err();
            assert!(error.problem().contains(problem), "{text}: {error}");
            assert!(error.hint().contains("@every 30s"));
        }
    }

    #[test]
    fn ticks_are_multiples_since_the_epoch() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let every = Every::parse("7m").unwrap();
        for (instant, next, previous) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:07:00Z", "1969-12-31T23:53:00Z"),
            ("1970-01-01T00:06:59.999Z", "1970-01-01T00:07:00Z", "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:07:00.001Z", "1970-01-01T00:14:00Z", "1970-01-01T00:07:00Z"),
            ("1970-01-01T00:07:00Z", "1970-01-01T00:14:00Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(every.next_after(at(instant)), Some(at(next)), "after {instant}");
            assert_eq!(every.previous_before(at(instant)), Some(at(previous)), "before {instant}");
        }
    }
}
