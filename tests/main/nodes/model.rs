//! The agreed state machine, once more and on its own: what the runs of a monitor must say, one after the other.

use std::collections::HashSet;

use super::record::{Monitor, Run};

/// One stay in alert, as the runs say it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) is_over: bool,
}

/// The stays in alert of a monitor, and what in its runs is not as agreed.
pub(crate) fn replay(monitor: &Monitor, runs: &[&Run]) -> (Vec<Stay>, Vec<String>) {
    let (mut is_alert, mut oks, mut stays, mut faults) = (false, 0, Vec::<Stay>::new(), Vec::new());
    let (mut ticks, mut last_tick) = (HashSet::new(), i64::MIN);
    for run in runs {
        let at = format!("{}, run {}", monitor.name, run.id);
        if let Some(tick) = run.tick_at {
            if !ticks.insert(tick) {
                faults.push(format!("{at}: the tick {tick} was applied before"));
            } else if tick < last_tick {
                faults.push(format!("{at}: the tick {tick} was applied after {last_tick}"));
            }
            last_tick = last_tick.max(tick);
        }
        if run.state_before != word(is_alert) {
            faults.push(format!("{at}: it began as {}, not as {}", run.state_before, word(is_alert)));
            is_alert = run.state_before == "alert";
        }
        let told = match (is_alert, run.is_ok) {
            (false, true) => None,
            (false, false) => {
                (is_alert, oks) = (true, 0);
                stays.push(Stay { is_over: false });
                Some("alert")
            }
            (true, false) => {
                oks = 0;
                None
            }
            (true, true) => {
                oks += 1;
                (oks >= monitor.required_oks).then(|| {
                    (is_alert, oks) = (false, 0);
                    stays.last_mut().into_iter().for_each(|stay| stay.is_over = true);
                    "recovery"
                })
            }
        };
        if run.state_after != word(is_alert) || run.told.as_deref() != told {
            let (after, says) = (&run.state_after, &run.told);
            faults
                .push(format!("{at}: it ended as {after} and told {says:?}, not as {} with {told:?}", word(is_alert)));
            is_alert = run.state_after == "alert";
        }
    }
    if monitor.state != word(is_alert) || monitor.oks != oks {
        let (state, counted) = (&monitor.state, monitor.oks);
        faults.push(format!("{}: it is {state} with {counted} oks, not {} with {oks}", monitor.name, word(is_alert)));
    }
    (stays, faults)
}

fn word(is_alert: bool) -> &'static str {
    if is_alert { "alert" } else { "ok" }
}

#[cfg(test)]
mod tests {
    use super::{Monitor, Run, replay};

    /// Runs that are told as `ok` or `bad`, the state before and after, and who was told.
    fn faults(runs: &[(i64, bool, &str, &str, Option<&str>)], state: &str) -> Vec<String> {
        let monitor = Monitor {
            id: 1,
            name: "m".to_owned(),
            period: 1_000,
            state: state.to_owned(),
            oks: 0,
            required_oks: 1,
            recipients: Vec::new(),
            skipped: 0,
            missed: 0,
        };
        let run = |(number, row): (usize, &(i64, bool, &str, &str, Option<&str>))| Run {
            id: i64::try_from(number).unwrap(),
            monitor: 1,
            cause: "schedule".to_owned(),
            tick_at: Some(row.0),
            started_at: row.0,
            duration: 1,
            is_ok: row.1,
            state_before: row.2.to_owned(),
            state_after: row.3.to_owned(),
            told: row.4.map(str::to_owned),
            node: "n1".to_owned(),
        };
        let runs: Vec<Run> = runs.iter().enumerate().map(run).collect();
        replay(&monitor, &runs.iter().collect::<Vec<_>>()).1
    }

    #[test]
    fn what_is_not_as_agreed_is_found() {
        let good = [(1, true, "ok", "ok", None), (2, false, "ok", "alert", Some("alert"))];
        assert_eq!(faults(&good, "alert"), Vec::<String>::new());
        assert_eq!(faults(&good, "ok").len(), 1, "the row says something else");
        let twice = [(1, false, "ok", "alert", Some("alert")), (1, false, "alert", "alert", None)];
        assert_eq!(faults(&twice, "alert").len(), 1, "a tick was applied twice");
        let silent = [(1, false, "ok", "alert", None)];
        assert_eq!(faults(&silent, "alert").len(), 1, "nobody was told");
        let stale = [(1, false, "ok", "alert", Some("alert")), (2, false, "ok", "alert", Some("alert"))];
        assert_eq!(faults(&stale, "alert").len(), 1, "two transitions from the same state");
        let late = [(2, true, "ok", "ok", None), (1, true, "ok", "ok", None)];
        assert_eq!(faults(&late, "ok").len(), 1, "the order of ticks");
    }
}
