//! From what was found to an outcome. No I/O and no clock.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Outcome;

use super::content::{MAX_READ_BYTES, Wanted};
use super::search::{FileReading, Found};

/// How far a file's time may lie ahead of the clock before that is a fault of a clock: file servers have their own.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What is asked of the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Criteria {
    /// The config's `path`, for messages.
    pub(crate) path: String,
    pub(crate) must_be_absent: bool,
    pub(crate) min_count: u64,
    pub(crate) max_count: Option<u64>,
    /// Ages in minutes; of the newest match.
    pub(crate) min_age: Option<f64>,
    pub(crate) max_age: Option<f64>,
    /// In minutes; of the oldest match.
    pub(crate) max_oldest_age: Option<f64>,
    pub(crate) min_bytes: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    /// What the newest match must contain.
    pub(crate) wanted: Vec<Wanted>,
}

/// The instants that ages are measured by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The run's instant: ages are measured against it.
    pub(crate) tick: DateTime<Utc>,
    /// The clock now: a run that catches up has its tick in the past, and newer files are no fault then.
    pub(crate) now: DateTime<Utc>,
}

/// What is not in the newest match although it should be, or why it could not be read; `None`: not looked at.
pub(crate) type Content = Option<Result<Vec<String>, String>>;

/// The outcome. `missing` is the first directory of the path that does not exist, if there is one.
pub(crate) fn judge(
    criteria: &Criteria,
    found: &Found,
    content: &Content,
    at: Clock,
    missing: Option<&Path>,
) -> Outcome {
    if !found.troubles.is_empty() {
        return unknown(criteria, found);
    }
    let mut complaints = Vec::new();
    if criteria.must_be_absent {
        complaints.extend(absence_complaint(found));
    } else {
        complaints.extend(count_complaint(criteria, found, missing));
        complaints.extend(found.newest.iter().flat_map(|newest| newest_complaints(criteria, newest, at)));
        complaints.extend(oldest_complaint(criteria, found, at));
        complaints.extend(content_complaints(criteria, found, content));
    }
    let outcome = match complaints.as_slice() {
        [] => Outcome::ok(summary(criteria, found, at)),
        complaints => Outcome::failed(format!("`{}`: {}", criteria.path, complaints.join("; "))),
    };
    with_metrics(outcome, found, at)
}

/// Where something could not be looked at, the counts and the newest are not known, so they are not spoken of. What
/// must not exist and does is certain all the same.
fn unknown(criteria: &Criteria, found: &Found) -> Outcome {
    let certain = if criteria.must_be_absent { absence_complaint(found) } else { None };
    let complaints: Vec<_> = certain.into_iter().chain([found.troubles.text()]).collect();
    Outcome::failed(format!("`{}`: {}", criteria.path, complaints.join("; ")))
}

fn with_metrics(outcome: Outcome, found: &Found, at: Clock) -> Outcome {
    let outcome = outcome.with_metric("count", found.count as f64);
    let Some(newest) = &found.newest else { return outcome };
    let outcome = outcome.with_metric("bytes", newest.bytes as f64);
    match newest.modified {
        Some(modified) => outcome.with_metric("age_minutes", minutes_between(modified, at.tick)),
        None => outcome,
    }
}

fn summary(criteria: &Criteria, found: &Found, at: Clock) -> String {
    let path = &criteria.path;
    let Some(newest) = &found.newest else { return format!("`{path}`: nothing there, as it should be") };
    let age = newest
        .modified
        .map_or("of unknown age".into(), |modified| format!("{} old", span(minutes_between(modified, at.tick))));
    let bytes = newest.bytes;
    match found.count {
        1 => format!("`{}`: {age}, {bytes} bytes", newest.path.display()),
        count => format!("`{path}`: {count} files, the newest `{}` {age}, {bytes} bytes", newest.path.display()),
    }
}

fn absence_complaint(found: &Found) -> Option<String> {
    match (&found.newest, found.no_files.is_empty()) {
        (Some(newest), _) if found.count == 1 => Some(format!("must not exist, but `{}` does", newest.path.display())),
        (Some(newest), _) => {
            Some(format!("must not exist, but {} files do, the newest is `{}`", found.count, newest.path.display()))
        }
        (None, false) => Some(format!("must not exist, but something is there: {}", found.no_files.text())),
        (None, true) => None,
    }
}

fn count_complaint(criteria: &Criteria, found: &Found, missing: Option<&Path>) -> Option<String> {
    let count = found.count;
    if let Some(max) = criteria.max_count.filter(|max| count > *max) {
        return Some(format!("{count} files match, at most {max} allowed"));
    }
    if count >= criteria.min_count {
        return None;
    }
    let what = match (count, criteria.min_count) {
        (0, 1) => "no such file".to_owned(),
        (1, min) => format!("1 file matches, at least {min} needed"),
        (count, min) => format!("{count} files match, at least {min} needed"),
    };
    Some(match missing {
        _ if !found.no_files.is_empty() => format!("{what}: {}", found.no_files.text()),
        Some(directory) => format!("{what}: the directory `{}` does not exist", directory.display()),
        None => what,
    })
}

fn newest_complaints(criteria: &Criteria, newest: &FileReading, at: Clock) -> Vec<String> {
    let shown = named(criteria, newest);
    let mut complaints = Vec::new();
    if criteria.min_age.is_some() || criteria.max_age.is_some() {
        match age(&shown, newest, at) {
            Err(complaint) => complaints.push(complaint),
            Ok(age) => {
                if let Some(max) = criteria.max_age.filter(|max| age > *max) {
                    let (age, max) = compared(age, max);
                    complaints.push(format!("{shown} is {age} old, at most {max} allowed"));
                }
                if let Some(min) = criteria.min_age.filter(|min| age < *min) {
                    let (age, min) = compared(age, min);
                    complaints.push(format!("{shown} is {age} old, at least {min} needed"));
                }
            }
        }
    }
    let bytes = newest.bytes;
    if let Some(min) = criteria.min_bytes.filter(|min| bytes < *min) {
        complaints.push(format!("{shown} has {bytes} bytes, at least {min} needed"));
    }
    if let Some(max) = criteria.max_bytes.filter(|max| bytes > *max) {
        complaints.push(format!("{shown} has {bytes} bytes, at most {max} allowed"));
    }
    complaints
}

fn oldest_complaint(criteria: &Criteria, found: &Found, at: Clock) -> Option<String> {
    let (oldest, max) = (found.oldest.as_ref()?, criteria.max_oldest_age?);
    let shown = format!("`{}`", oldest.path.display());
    match age(&shown, oldest, at) {
        Err(complaint) => Some(complaint),
        Ok(age) if age > max => {
            let (age, max) = compared(age, max);
            Some(format!("the oldest, {shown}, is {age} old, at most {max} allowed"))
        }
        Ok(_) => None,
    }
}

fn content_complaints(criteria: &Criteria, found: &Found, content: &Content) -> Vec<String> {
    let (Some(newest), Some(content)) = (&found.newest, content) else { return Vec::new() };
    let missing = match content {
        Ok(missing) => missing,
        Err(complaint) => return vec![complaint.clone()],
    };
    let place =
        if newest.bytes > MAX_READ_BYTES { format!(" in its last {MAX_READ_BYTES} bytes") } else { String::new() };
    let path = named(criteria, newest);
    missing.iter().map(|shown| format!("{path} does not contain {shown}{place}")).collect()
}

/// A file in a message that begins with the config's path already.
fn named(criteria: &Criteria, file: &FileReading) -> String {
    let path = file.path.display().to_string();
    if path == criteria.path { "the file".into() } else { format!("`{path}`") }
}

/// The age in minutes, or why there is none to rely on.
fn age(shown: &str, file: &FileReading, at: Clock) -> Result<f64, String> {
    let Some(modified) = file.modified else {
        return Err(format!("{shown} has an impossible date (hint: `touch` sets it)"));
    };
    let ahead = modified - at.now.max(at.tick);
    if ahead > CLOCK_TOLERANCE {
        let ahead = span(ahead.num_seconds() as f64 / 60.0);
        return Err(format!(
            "{shown} is dated {ahead} in the future, so its age is not known (hint: compare the clocks of this machine and of \
             whatever writes it; `touch` sets the date)"
        ));
    }
    Ok(minutes_between(modified, at.tick))
}

/// Never negative: a file may be changed between the tick and the look.
fn minutes_between(modified: DateTime<Utc>, tick: DateTime<Utc>) -> f64 {
    ((tick - modified).num_milliseconds() as f64 / 60_000.0).max(0.0)
}

/// An age and its limit, as exactly as it takes to tell them apart.
fn compared(age: f64, limit: f64) -> (String, String) {
    if span(age) == span(limit) {
        (format!("{age:.3} min"), format!("{limit:.3} min"))
    } else {
        (span(age), span(limit))
    }
}

/// A span for people. Fractions stay where a limit in fractions of a minute needs them.
fn span(minutes: f64) -> String {
    let whole = minutes.floor() as u64;
    let (days, hours, rest) = (whole / 1440, whole / 60 % 24, whole % 60);
    match whole {
        0..5 => format!("{} min", (minutes * 100.0).round() / 100.0),
        5..120 => format!("{whole} min"),
        120..2880 => format!("{} h {rest} min", whole / 60),
        _ => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use chrono::{TimeDelta, Utc};
    use watchbell_contract::Outcome;

    use super::{Clock, Content, Criteria, judge, span};
    use crate::file::search::{FileReading, Found};

    fn clock() -> Clock {
        let now = Utc::now();
        Clock { tick: now, now }
    }

    fn file(at: Clock, minutes_old: i64, bytes: u64) -> FileReading {
        let path = PathBuf::from(format!("/d/{minutes_old}"));
        FileReading { path, modified: Some(at.tick - TimeDelta::minutes(minutes_old)), bytes }
    }

    fn two(at: Clock) -> Found {
        let (newest, oldest) = (Some(file(at, 10, 100)), Some(file(at, 300, 5)));
        Found { count: 2, newest, oldest, ..Found::default() }
    }

    fn criteria() -> Criteria {
        Criteria { path: "/d/*".into(), min_count: 1, ..Criteria::default() }
    }

    fn of_two(criteria: &Criteria) -> Outcome {
        let at = clock();
        judge(criteria, &two(at), &None, at, None)
    }

    /// Each limit: just kept, and just missed with a message that holds the given words.
    #[test]
    fn limits_are_inclusive_and_named() {
        type Set = fn(&mut Criteria, f64);
        let cases: [(Set, f64, f64, &str); 7] = [
            (|c, x| c.max_age = Some(x), 10.0, 9.99, "`/d/10` is 10 min old, at most 9 min allowed"),
            (|c, x| c.min_age = Some(x), 10.0, 10.01, "`/d/10` is 10.000 min old, at least 10.010 min needed"),
            (
                |c, x| c.max_oldest_age = Some(x),
                300.0,
                299.0,
                "the oldest, `/d/300`, is 5 h 0 min old, at most 4 h 59 min",
            ),
            (|c, x| c.min_bytes = Some(x as u64), 100.0, 101.0, "has 100 bytes, at least 101 needed"),
            (|c, x| c.max_bytes = Some(x as u64), 100.0, 99.0, "has 100 bytes, at most 99 allowed"),
            (|c, x| c.min_count = x as u64, 2.0, 3.0, "2 files match, at least 3 needed"),
            (|c, x| c.max_count = Some(x as u64), 2.0, 1.0, "2 files match, at most 1 allowed"),
        ];
        for (set, kept, missed, words) in cases {
            let mut criteria = criteria();
            set(&mut criteria, kept);
            let outcome = of_two(&criteria);
            assert!(outcome.is_ok, "{words}: {}", outcome.message);
            set(&mut criteria, missed);
            let outcome = of_two(&criteria);
            assert!(!outcome.is_ok && outcome.message.contains(words), "{words}: {}", outcome.message);
        }
    }

    #[test]
    fn all_complaints_are_listed_and_metrics_come_with_a_failure() {
        let outcome = of_two(&Criteria { max_age: Some(1.0), min_bytes: Some(1000), ..criteria() });
        assert_eq!(
            outcome.message,
            "`/d/*`: `/d/10` is 10 min old, at most 1 min allowed; `/d/10` has 100 bytes, at least 1000 needed"
        );
        let metrics: Vec<_> = outcome.metrics.into_iter().collect();
        assert_eq!(metrics, [("age_minutes".into(), 10.0), ("bytes".into(), 100.0), ("count".into(), 2.0)]);
    }

    #[test]
    fn what_must_be_absent_fails_also_for_what_is_no_file() {
        let at = clock();
        let absent = Criteria { must_be_absent: true, ..criteria() };
        let outcome = judge(&absent, &two(at), &None, at, None);
        assert!(!outcome.is_ok && outcome.message.contains("2 files do, the newest is `/d/10`"), "{}", outcome.message);
        let mut found = Found::default();
        assert!(judge(&absent, &found, &None, at, None).is_ok);
        found.no_files.add("`/d/x` is a directory, not a regular file".into());
        assert!(!judge(&absent, &found, &None, at, None).is_ok);
        let mut found = Found::default();
        found.troubles.add("cannot look at `/d`: permission denied".into());
        assert!(!judge(&absent, &found, &None, at, None).is_ok, "what cannot be looked at may be there");
    }

    #[test]
    fn nothing_found_says_why() {
        let at = clock();
        let message = |found: &Found, missing| judge(&criteria(), found, &None, at, missing).message;
        let mut found = Found::default();
        assert_eq!(message(&found, None), "`/d/*`: no such file");
        assert_eq!(message(&found, Some(Path::new("/d"))), "`/d/*`: no such file: the directory `/d` does not exist");
        found.no_files.add("`/d/x` is a directory, not a regular file".into());
        assert_eq!(message(&found, None), "`/d/*`: no such file: `/d/x` is a directory, not a regular file");
        let mut found = Found::default();
        found.troubles.add("cannot look at `/d`: permission denied".into());
        assert_eq!(message(&found, None), "`/d/*`: cannot look at `/d`: permission denied");
        let partial = Found { troubles: found.troubles, ..two(at) };
        assert_eq!(message(&partial, None), "`/d/*`: cannot look at `/d`: permission denied");
        assert!(judge(&criteria(), &partial, &None, at, None).metrics.is_empty(), "the numbers are not known");
    }

    #[test]
    fn the_future_is_no_youth_but_a_late_run_is_no_future() {
        let at = clock();
        let ahead = |minutes: i64| Found { count: 1, newest: Some(file(at, -minutes, 1)), ..Found::default() };
        let fresh = Criteria { max_age: Some(5.0), ..criteria() };
        assert!(judge(&fresh, &ahead(4), &None, at, None).is_ok);
        let outcome = judge(&fresh, &ahead(60), &None, at, None);
        assert!(!outcome.is_ok && outcome.message.contains("60 min in the future"), "{}", outcome.message);
        assert!(judge(&criteria(), &ahead(60), &None, at, None).is_ok, "nothing was asked about ages");

        let late = Clock { tick: at.tick, now: at.now + TimeDelta::hours(2) };
        let outcome = judge(&fresh, &ahead(60), &None, late, None);
        assert!(outcome.is_ok, "{}", outcome.message);
        assert_eq!(outcome.metrics["age_minutes"], 0.0);
    }

    #[test]
    fn what_is_not_in_the_newest_is_said() {
        let at = clock();
        let judged = |content: Content| judge(&criteria(), &two(at), &content, at, None);
        assert!(judged(Some(Ok(Vec::new()))).is_ok);
        let outcome = judged(Some(Ok(vec!["the text `done`".into()])));
        assert_eq!(outcome.message, "`/d/*`: `/d/10` does not contain the text `done`");
        assert!(judged(Some(Err("cannot read `/d/10`".into()))).message.contains("cannot read"));
    }

    #[test]
    fn spans_are_readable() {
        let shown: Vec<_> = [0.5, 4.0, 59.9, 120.0, 2879.0, 2881.0].into_iter().map(span).collect();
        assert_eq!(shown, ["0.5 min", "4 min", "59 min", "2 h 0 min", "47 h 59 min", "2 days 0 h"]);
    }
}
