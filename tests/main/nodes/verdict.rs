//! What must be true after any storm of faults, and the figures of it.

mod mail;
#[cfg(test)]
mod tests;
mod ticks;

use std::collections::HashMap;
use std::fmt::Write as _;

use super::faults::Window;
use super::mailbox::Mail;
use super::model::{Stay, replay};
use super::record::{Monitor, Notification, Record, Run};
use super::targets::Request;

/// A run that says ok was answered so by what it looks at, at most so long before or after it says that it began, in ms:
/// the wall clocks of nodes may differ by `node.max_clock_skew_seconds`.
const SAME_MOMENT: i64 = 3_000;
/// More of one sort says nothing new.
const MOST_SHOWN: usize = 8;

/// All that was observed.
pub(crate) struct Evidence {
    pub(crate) database: &'static str,
    pub(crate) seed: u64,
    pub(crate) record: Record,
    pub(crate) mails: Vec<Mail>,
    pub(crate) requests: Vec<Request>,
    pub(crate) windows: Vec<Window>,
    /// Between these all ticks are expected, in ms since 1970.
    pub(crate) from: i64,
    pub(crate) until: i64,
    /// What the nodes did that no fault explains.
    pub(crate) violations: Vec<String>,
}

/// The figures, for people, and what is wrong.
pub(crate) struct Verdict {
    lines: Vec<(String, String)>,
    violations: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(evidence: Evidence) -> Self {
        let mut verdict = Self { lines: Vec::new(), violations: evidence.violations.clone() };
        verdict.say("database, seed", format!("{}, NODES_SEED={}", evidence.database, evidence.seed));
        verdict.say("faults", faults(&evidence.windows));
        verdict.judge_runs(&evidence);
        ticks::judge(&mut verdict, &evidence);
        mail::judge(&mut verdict, &evidence);
        verdict
    }

    /// Prints the figures; fails if anything is wrong.
    #[track_caller]
    pub(crate) fn pronounce(self) {
        let mut text = String::new();
        for (name, value) in &self.lines {
            writeln!(text, "nodes: {name:<40} {value}").unwrap();
        }
        writeln!(text, "nodes: {:<40} {}", "violations", self.violations.len()).unwrap();
        println!("{text}");
        assert!(self.violations.is_empty(), "{}", self.violations.join("\n"));
    }

    fn say(&mut self, name: &str, value: impl ToString) {
        self.lines.push((name.to_owned(), value.to_string()));
    }

    /// A line with a count that must be 0.
    fn none_of(&mut self, name: &str, found: Vec<String>) {
        self.say(name, found.len());
        let more = found.len().saturating_sub(MOST_SHOWN);
        self.violations.extend(found.into_iter().take(MOST_SHOWN).map(|what| format!("{name}: {what}")));
        if more > 0 {
            self.violations.push(format!("{name}: {more} more"));
        }
    }

    /// Each run follows from the one before, and each incident and notification from a run.
    fn judge_runs(&mut self, evidence: &Evidence) {
        let record = &evidence.record;
        let (mut wrong, mut unlike) = (Vec::new(), Vec::new());
        let runs = by(&record.runs, |run| run.monitor);
        let mut stays_in_all = 0;
        for monitor in &record.monitors {
            let runs = runs.get(&monitor.id).map(Vec::as_slice).unwrap_or_default();
            let (stays, faults) = replay(monitor, runs);
            wrong.extend(faults);
            stays_in_all += stays.len();
            unlike.extend(compare(monitor, &stays, record));
        }
        let count = |wanted: &str| record.runs.iter().filter(|run| run.cause == wanted).count();
        let (caught_up, first) = (count("catch_up"), count("first"));
        let all = record.runs.len();
        self.say("runs", format!("{all} ({first} first, {caught_up} made up for missed ticks)"));
        self.say("incidents, notifications", format!("{stays_in_all}, {}", record.notifications.len()));
        self.none_of("runs that do not follow, or ticks applied twice", wrong);
        self.none_of("incidents, alerts, recoveries not as owed", unlike);
        self.none_of("runs that say ok and were not answered so", invented(evidence));
    }
}

fn faults(windows: &[Window]) -> String {
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for window in windows {
        let name = format!("{:?}", window.fault);
        *counts.entry(name.split('(').next().unwrap().to_owned()).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("{} ({})", windows.len(), each.join(", "))
}

/// Groups by a number, in order.
fn by<T>(all: &[T], number: impl Fn(&T) -> i64) -> HashMap<i64, Vec<&T>> {
    let mut groups: HashMap<i64, Vec<&T>> = HashMap::new();
    for one in all {
        groups.entry(number(one)).or_default().push(one);
    }
    groups
}

/// The incidents of a monitor, and what each recipient has of them, are what its runs owe.
fn compare(monitor: &Monitor, stays: &[Stay], record: &Record) -> Vec<String> {
    let incidents: Vec<_> = record.incidents.iter().filter(|incident| incident.monitor == monitor.id).collect();
    if incidents.len() != stays.len() {
        return vec![format!("{}: {} incidents, not {}", monitor.name, incidents.len(), stays.len())];
    }
    let mut found = Vec::new();
    for (incident, stay) in incidents.iter().zip(stays) {
        let at = format!("{}, incident {}", monitor.name, incident.id);
        if incident.is_over != stay.is_over {
            found.push(format!("{at}: whether it is over: {}", incident.is_over));
        }
        let rows: Vec<&Notification> =
            record.notifications.iter().filter(|row| row.incident == Some(incident.id)).collect();
        for recipient in &monitor.recipients {
            let count = |kind: &str| rows.iter().filter(|row| row.kind == kind && row.recipient == *recipient).count();
            let (alerts, recoveries) = (count("alert"), count("recovery"));
            if alerts != 1 || recoveries != usize::from(stay.is_over) {
                found.push(format!("{at}, {recipient}: {alerts} alerts, {recoveries} recoveries"));
            }
        }
        if let Some(other) = rows.iter().find(|row| !monitor.recipients.contains(&row.recipient)) {
            found.push(format!("{at}: {} was told", other.recipient));
        }
    }
    found
}

/// Runs that say ok though nobody answered so.
fn invented(evidence: &Evidence) -> Vec<String> {
    let mut answers: HashMap<&str, Vec<i64>> = HashMap::new();
    for request in evidence.requests.iter().filter(|request| request.is_ok) {
        answers.entry(&request.name).or_default().push(request.at);
    }
    let names: HashMap<i64, &str> =
        evidence.record.monitors.iter().map(|monitor| (monitor.id, monitor.name.as_str())).collect();
    let is_true = |run: &&Run| {
        let answers = answers.get(names[&run.monitor]).map(Vec::as_slice).unwrap_or_default();
        let (from, until) = (run.started_at - SAME_MOMENT, run.started_at + run.duration + SAME_MOMENT);
        let first = answers.partition_point(|at| *at < from);
        answers.get(first).is_some_and(|at| *at <= until)
    };
    let false_ones = evidence.record.runs.iter().filter(|run| run.is_ok && !is_true(run));
    false_ones.map(|run| format!("{}, run {} of {}", names[&run.monitor], run.id, run.node)).collect()
}
