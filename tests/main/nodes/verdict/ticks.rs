//! Ticks: which were missed, and whether a fault explains it.
//!
//! A fault excuses what its node owned from the fault on until the lease and the 15 seconds of a takeover are over, and
//! once more when the node comes back. A fault of the database excuses everybody for its length and as long after it.
//! Whose node was hit while it was taking over is excused from then on by that fault.

use std::collections::HashSet;

use super::super::faults::{Fault, LEASE, Window};
use super::super::record::{Monitor, Run};
use super::{Evidence, Verdict, by};

/// A tick that came so shortly before a fault may have been in hand, in ms.
const IN_HAND: i64 = 3_000;
/// What a takeover may take after the lease, in ms.
const TAKEOVER: i64 = 15_000;

/// A time in which a monitor's ticks may be missed.
#[derive(Debug, Clone, Copy)]
struct Excuse {
    from: i64,
    to: i64,
}

/// What came of a missed tick.
#[derive(Default)]
struct Missed {
    excused: usize,
    /// Its monitor's run was still going on, which its row counts.
    skipped: usize,
    unexplained: Vec<String>,
}

pub(super) fn judge(verdict: &mut Verdict, evidence: &Evidence) {
    let runs = by(&evidence.record.runs, |run| run.monitor);
    let (mut expected, mut missed, mut longest) = (0, Missed::default(), (0, String::new()));
    for monitor in &evidence.record.monitors {
        let runs: Vec<&Run> = runs.get(&monitor.id).cloned().unwrap_or_default();
        let applied: HashSet<i64> = runs.iter().filter_map(|run| run.tick_at).collect();
        let first = evidence.from.div_euclid(monitor.period) + 1;
        let ticks: Vec<i64> = (first..).map(|n| n * monitor.period).take_while(|tick| *tick < evidence.until).collect();
        expected += ticks.len();
        judge_monitor(evidence, monitor, &runs, ticks.iter().filter(|tick| !applied.contains(tick)), &mut missed);
        longest = longest.max(longest_gap(monitor, &applied, evidence));
    }
    verdict.say("ticks expected", expected);
    verdict.say("ticks missed within lease + 15 s of a fault", missed.excused);
    verdict.say("ticks skipped: the run before was going on", missed.skipped);
    verdict.none_of("ticks missed otherwise", missed.unexplained);
    verdict.say("longest time without a tick", format!("{} ms ({})", longest.0, longest.1));
    say_lateness(verdict, evidence);
}

fn judge_monitor<'a>(
    evidence: &Evidence,
    monitor: &Monitor,
    runs: &[&Run],
    ticks: impl Iterator<Item = &'a i64>,
    missed: &mut Missed,
) {
    let mut otherwise = Vec::new();
    for tick in ticks {
        match excused_until(&evidence.windows, runs, *tick) {
            true => missed.excused += 1,
            false => otherwise.push(*tick),
        }
    }
    // The row says how often; which ticks these were it does not say.
    let counted = usize::try_from(monitor.skipped).unwrap().min(otherwise.len());
    missed.skipped += counted;
    for tick in otherwise.drain(counted..) {
        let (before, after) = neighbours(runs, tick);
        let node = |run: Option<&Run>| run.map(|run| format!("{} at {}", run.node, instant(run)));
        missed.unexplained.push(format!(
            "{} (every {} ms): {tick}, after {:?}, before {:?}; it counts {} skipped and {} missed",
            monitor.name,
            monitor.period,
            node(before),
            node(after),
            monitor.skipped,
            monitor.missed
        ));
    }
}

/// Whether a fault explains that nobody ran this tick.
fn excused_until(windows: &[Window], runs: &[&Run], tick: i64) -> bool {
    let (before, after) = neighbours(runs, tick);
    let gap_from = before.map_or(i64::MIN, instant);
    let owners: Vec<&str> = [before, after].into_iter().flatten().map(|run| run.node.as_str()).collect();
    let (own, others): (Vec<&Window>, Vec<&Window>) =
        windows.iter().partition(|window| window.node.as_deref().is_none_or(|node| owners.contains(&node)));
    let mut excuses: Vec<Excuse> = own.into_iter().flat_map(excuses_of).collect();
    // Another node, hit while it may have been the one that takes over.
    let mut waiting: Vec<Excuse> = others.into_iter().flat_map(excuses_of).filter(|it| it.to > gap_from).collect();
    loop {
        let holds = |at: i64| excuses.iter().any(|excuse| excuse.from <= at && at <= excuse.to && excuse.to > gap_from);
        if holds(tick) {
            return true;
        }
        let (next, rest): (Vec<Excuse>, Vec<Excuse>) = waiting.iter().partition(|excuse| holds(excuse.from));
        if next.is_empty() {
            return false;
        }
        excuses.extend(next);
        waiting = rest;
    }
}

/// The runs before and after a tick that was missed.
fn neighbours<'a>(runs: &[&'a Run], tick: i64) -> (Option<&'a Run>, Option<&'a Run>) {
    let before = runs.iter().copied().filter(|run| instant(run) < tick).max_by_key(|run| instant(run));
    let after = runs.iter().copied().filter(|run| instant(run) > tick).min_by_key(|run| instant(run));
    (before, after)
}

/// A run without a tick stands where it began.
fn instant(run: &Run) -> i64 {
    run.tick_at.unwrap_or(run.started_at)
}

fn excuses_of(window: &Window) -> Vec<Excuse> {
    let takeover = i64::try_from(LEASE.as_millis()).unwrap() + TAKEOVER;
    let is_long = window.fault.is_of_database() || window.fault == Fault::Slowed;
    let whole = Excuse { from: window.from - IN_HAND, to: window.to.saturating_add(takeover) };
    if is_long || window.to - window.from <= takeover {
        return vec![whole];
    }
    vec![
        Excuse { from: window.from - IN_HAND, to: window.from + takeover },
        Excuse { from: window.to - IN_HAND, to: window.to + takeover },
    ]
}

fn longest_gap(monitor: &Monitor, applied: &HashSet<i64>, evidence: &Evidence) -> (i64, String) {
    let mut ticks: Vec<i64> =
        applied.iter().copied().filter(|tick| *tick > evidence.from && *tick < evidence.until).collect();
    ticks.sort_unstable();
    let gap = ticks.windows(2).map(|pair| pair[1] - pair[0] - monitor.period).max().unwrap_or_default();
    (gap, monitor.name.clone())
}

/// Of scheduled runs while no fault was near.
fn say_lateness(verdict: &mut Verdict, evidence: &Evidence) {
    let excuses: Vec<Excuse> = evidence.windows.iter().flat_map(excuses_of).collect();
    let is_calm = |at: i64| !excuses.iter().any(|excuse| excuse.from <= at && at <= excuse.to);
    let runs = evidence.record.runs.iter().filter(|run| run.cause == "schedule");
    let (mut calm, mut all) = (Vec::new(), Vec::new());
    for run in runs {
        let Some(tick) = run.tick_at else { continue };
        all.push(run.started_at - tick);
        if is_calm(tick) {
            calm.push(run.started_at - tick);
        }
    }
    for (name, lateness) in [("lateness away from faults", &mut calm), ("lateness of all scheduled runs", &mut all)] {
        lateness.sort_unstable();
        let at =
            |quantile: usize| lateness.get((lateness.len() * quantile / 100).min(lateness.len().saturating_sub(1)));
        let (p50, p99, max) = (at(50), at(99), lateness.last());
        let text = |value: Option<&i64>| value.map_or("-".to_owned(), ToString::to_string);
        let runs = lateness.len();
        verdict.say(name, format!("p50 {} ms, p99 {} ms, max {} ms ({runs} runs)", text(p50), text(p99), text(max)));
    }
}
