//! How old a value is: times in all the forms in which databases keep them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use super::value::{Value, shown_time};
use super::verdict::{Finding, shortened};

/// How far in the future a timestamp may lie: clocks differ a little. Further away it was written in a wrong zone, and
/// would look fresh for hours after the last row came.
const MOST_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// Judges the age of a value at `tick`; without an age where it is no time.
pub(super) fn judge_age(
    label: &str,
    value: &Value,
    max_age: TimeDelta,
    tick: DateTime<Utc>,
) -> (Finding, Option<TimeDelta>) {
    let expected = format!("expected at most {} old", span(max_age));
    let failed = |text: String| (Finding { is_ok: false, text }, None);
    if *value == Value::Null {
        return failed(format!("{label} is NULL: there is no such time yet, {expected}"));
    }
    let Some(time) = time_of(value) else {
        let shown = shortened(&value.shown(), 200);
        return failed(format!(
            "{label} is {shown}, which is not read as a time (hint: write it as `2026-11-21 21:00:00` in UTC, with an offset, or as seconds since 1970)"
        ));
    };
    let age = tick - time;
    if age < -MOST_FUTURE {
        let text = format!(
            "{label} is {}, which lies {} in the future (hint: is it written in UTC?)",
            shown_time(time),
            span(-age)
        );
        return (Finding { is_ok: false, text }, Some(age));
    }
    let is_ok = age <= max_age;
    let mut text = format!("{label} is {}, {} old", shown_time(time), span(age.max(TimeDelta::zero())));
    if !is_ok {
        text.push_str(&format!(", {expected}"));
    }
    (Finding { is_ok, text }, Some(age))
}

/// A time in any of the forms in which databases keep one. Without an offset it is UTC.
fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Time(time) => Some(*time),
        Value::Text(text) => time_of_text(text.trim()),
        _ => epoch(value.number()?),
    }
}

fn time_of_text(text: &str) -> Option<DateTime<Utc>> {
    const WITH_OFFSET: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
    const WITHOUT: [&str; 4] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let plain = text.strip_suffix(" UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    if let Some(time) = WITHOUT.iter().find_map(|form| NaiveDateTime::parse_from_str(plain, form).ok()) {
        return Some(time.and_utc());
    }
    if let Some(time) = WITH_OFFSET.iter().find_map(|form| DateTime::parse_from_str(text, form).ok()) {
        return Some(time.with_timezone(&Utc));
    }
    if let Ok(date) = NaiveDate::parse_from_str(plain, "%Y-%m-%d") {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc());
    }
    epoch(text.parse().ok()?)
}

/// Seconds, milliseconds or microseconds since 1970: told apart by their size, all within the years 1973 to 5138.
fn epoch(number: f64) -> Option<DateTime<Utc>> {
    const MILLISECONDS_FROM: f64 = 1e11;
    const MICROSECONDS_FROM: f64 = 1e14;
    let seconds = match number.abs() {
        size if size >= MICROSECONDS_FROM => number / 1e6,
        size if size >= MILLISECONDS_FROM => number / 1e3,
        _ => number,
    };
    #[allow(clippy::cast_possible_truncation, reason = "out of range saturates and is then no instant")]
    DateTime::from_timestamp_millis((seconds * 1e3) as i64)
}

/// A span for people: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
fn span(span: TimeDelta) -> String {
    let (minutes, hours, days) = (span.num_minutes(), span.num_hours(), span.num_days());
    let with = |big: String, small: i64, unit: &str| if small == 0 { big } else { format!("{big} {small} {unit}") };
    match () {
        () if minutes < 2 => format!("{} s", span.num_seconds()),
        () if hours < 2 => format!("{minutes} min"),
        () if days < 2 => with(format!("{hours} h"), minutes % 60, "min"),
        () => with(format!("{days} d"), hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{span, time_of};
    use crate::sql::value::Value;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let expected = Some(at("2026-11-21T09:30:00Z"));
        for text in [
            "2026-11-21T09:30:00.000Z",
            "2026-11-21 09:30:00",
            "2026-11-21 09:30",
            "2026-11-21 09:30:00.000000",
            "2026-11-21 10:30:00+01",
            "2026-11-21 10:30:00.0+0100",
            "2026-11-21T10:30:00+01:00",
            "2026-11-21 09:30:00 UTC",
            "1795253400",
        ] {
            assert_eq!(time_of(&Value::Text(text.into())), expected, "{text}");
        }
        for number in [1_795_253_400, 1_795_253_400_000, 1_795_253_400_000_000] {
            assert_eq!(time_of(&Value::Whole(number)), expected, "{number}");
        }
        assert_eq!(time_of(&Value::Text("2026-11-21".into())), Some(at("2026-11-21T00:00:00Z")));
        assert_eq!(time_of(&Value::Float(f64::INFINITY)), None);
    }

    #[test]
    fn spans_are_for_people() {
        assert_eq!(span(TimeDelta::seconds(45)), "45 s");
        assert_eq!(span(TimeDelta::minutes(185)), "3 h 5 min");
        assert_eq!(span(TimeDelta::hours(52)), "2 d 4 h");
    }
}
