//! Whether this node is well, decided in one place: its scheduler advances, its checks and their outcomes get on, the
//! database can be written, and the outbox drains.
//!
//! The dead-man's switch and the heartbeat in `nodes` say nothing while it is not: silence is what raises the alarm
//! elsewhere, so a wrong "well" is worse than a missing one. A lane whose messages are due for ten minutes counts,
//! whichever it is: what is owed over it reaches nobody. A channel that is to stay down is switched off, and then it
//! does not count.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::core::Core;
use super::rulebook::Rulebook;
use crate::domain::oversight::{FAILURE_WINDOW, LaneTrouble, OutboxState};
use crate::ports::{Clock, Scheduler, Store};

/// A scheduler looks for due ticks twice a second; one that has not for this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// No check began for so long though some wait: all threads are stuck.
const CHECKS_WAIT: Duration = Duration::from_secs(120);
/// Outcomes wait for so long, and none was written.
const OUTCOMES_WAIT: Duration = Duration::from_secs(60);
/// A message is looked at within a second after it was queued.
const UNPLANNED: TimeDelta = TimeDelta::minutes(10);

/// What is known of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs {
    /// See [`crate::ports::SchedulerCounters`].
    pub(super) since_last_poll: Option<Duration>,
    /// Since when checks wait and none begins; zero where none waits.
    pub(super) checks_wait: Duration,
    /// Since when outcomes wait and none is written; zero where none waits.
    pub(super) outcomes_wait: Duration,
    /// Whether there is no lease: the database could not be written, or this node stepped aside.
    pub(super) is_without_lease: bool,
    /// For how long the node runs.
    pub(super) up_for: Duration,
    /// How the outbox drains; `None`: it cannot be read.
    pub(super) outbox: Option<OutboxState>,
    /// Channels that are switched off.
    pub(super) channels_off: Vec<String>,
}

/// Why a node is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Illness {
    SchedulerHangs,
    ChecksWait,
    OutcomesWait,
    NoLease,
    OutboxUnreadable,
    Unplanned,
    LaneStuck(String),
}

impl fmt::Display for Illness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Illness::SchedulerHangs => f.write_str("the scheduler does not look for due ticks; restart this node"),
            Illness::ChecksWait => f.write_str("checks wait and none begins: every thread is held by a check"),
            Illness::OutcomesWait => f.write_str("outcomes of checks wait and none is written"),
            Illness::NoLease => f.write_str(
                "this node has no lease, so it checks and sends nothing: the database did not take it in time, or the \
                 clocks differ too much",
            ),
            Illness::OutboxUnreadable => f.write_str("the outbox cannot be read"),
            Illness::Unplanned => f.write_str("messages wait that nobody looked at; restart this node"),
            Illness::LaneStuck(lane) => {
                write!(
                    f,
                    "messages over `{lane}` are due for more than ten minutes (`@` is mail); a channel that is to stay down is switched off"
                )
            }
        }
    }
}

/// The first thing that is wrong, the worst first. Pure.
pub(super) fn judge(signs: &Signs, now: DateTime<Utc>) -> Option<Illness> {
    if signs.since_last_poll.unwrap_or(signs.up_for) >= HANGS_AFTER {
        return Some(Illness::SchedulerHangs);
    }
    if signs.is_without_lease {
        return Some(Illness::NoLease);
    }
    if signs.outcomes_wait >= OUTCOMES_WAIT {
        return Some(Illness::OutcomesWait);
    }
    if signs.checks_wait >= CHECKS_WAIT {
        return Some(Illness::ChecksWait);
    }
    let Some(outbox) = &signs.outbox else { return Some(Illness::OutboxUnreadable) };
    let up_for = TimeDelta::from_std(signs.up_for).unwrap_or(TimeDelta::MAX);
    // What was queued while no node ran waits for the first look of this one.
    if up_for >= UNPLANNED && outbox.unplanned_since.is_some_and(|since| now - since >= UNPLANNED) {
        return Some(Illness::Unplanned);
    }
    let stuck = outbox.lanes.iter().find(|lane| {
        let is_active = !signs.channels_off.contains(&lane.lane);
        matches!(lane.trouble(now, up_for, is_active), Some(LaneTrouble::Stuck(_)))
    });
    stuck.map(|lane| Illness::LaneStuck(lane.lane.clone()))
}

/// Collects the signs of this node.
pub(super) struct Health {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rulebook: Arc<Rulebook>,
    core: Weak<Core>,
    scheduler: Arc<dyn Scheduler>,
    started: Instant,
    last: Mutex<Option<Illness>>,
}

impl Health {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rulebook: Arc<Rulebook>,
        core: &Arc<Core>,
        scheduler: Arc<dyn Scheduler>,
    ) -> Self {
        let started = Instant::now();
        Self { store, clock, rulebook, core: Arc::downgrade(core), scheduler, started, last: Mutex::default() }
    }

    /// Whether this node is well. The log says when that changes, and why.
    pub(super) async fn is_well(&self) -> bool {
        let illness = judge(&self.signs().await, self.clock.now());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (&illness, last.as_ref()) {
            (Some(illness), last) if last != Some(illness) => {
                tracing::warn!(%illness, "this node is not well; its heartbeat and the dead-man's switch are silent");
            }
            (None, Some(_)) => tracing::info!("this node is well again; it says so outside"),
            _ => {}
        }
        *last = illness;
        last.is_none()
    }

    /// For how long this node runs.
    pub(super) fn up_for(&self) -> TimeDelta {
        TimeDelta::from_std(self.started.elapsed()).unwrap_or(TimeDelta::MAX)
    }

    /// Channels that are switched off.
    pub(super) fn channels_off(&self) -> Vec<String> {
        let known = self.rulebook.known();
        let off = known.lanes.iter().filter(|(_, lane)| !lane.is_active);
        off.map(|(name, _)| name.clone()).collect()
    }

    /// Channels that keep nobody from being well: those that are switched off, and rows that cannot be read, which say so
    /// in their `config_error` while admins are told of their backlog.
    fn channels_without_say(&self) -> Vec<String> {
        let known = self.rulebook.known();
        let broken = known.lanes.iter().filter(|(_, lane)| lane.channel.is_err()).map(|(name, _)| name.clone());
        self.channels_off().into_iter().chain(broken).collect()
    }

    async fn signs(&self) -> Signs {
        let outbox = self.store.outbox_state(self.clock.now() - FAILURE_WINDOW).await.ok();
        let core = self.core.upgrade();
        let pool = core.as_ref().and_then(|core| core.pool.get());
        Signs {
            since_last_poll: self.scheduler.counters().since_last_poll,
            checks_wait: pool.map(|pool| pool.waits_for()).unwrap_or_default(),
            outcomes_wait: core.as_ref().map(|core| core.work.waits_for()).unwrap_or_default(),
            is_without_lease: core.as_ref().is_some_and(|core| !core.lease.holds()),
            up_for: self.started.elapsed(),
            outbox,
            channels_off: self.channels_without_say(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::{Illness, Signs, judge};
    use crate::domain::NotificationId;
    use crate::domain::oversight::{LaneState, OutboxState, Waiting};

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Well, an hour after the start.
    fn well() -> Signs {
        Signs {
            since_last_poll: Some(seconds(0)),
            up_for: seconds(3_600),
            outbox: Some(OutboxState::default()),
            ..Signs::default()
        }
    }

    fn outbox(minutes_due: i64) -> Option<OutboxState> {
        let waiting = Waiting {
            oldest: NotificationId(1),
            due_at: now() - TimeDelta::minutes(minutes_due),
            attempts: 3,
            last_error: None,
            count: 1,
        };
        let lane = LaneState { lane: "hook".to_owned(), waiting: Some(waiting), failures: None, told_trouble: None };
        Some(OutboxState { lanes: vec![lane], unplanned_since: None })
    }

    #[test]
    fn each_sign_alone_is_enough() {
        let unplanned =
            |minutes| Some(OutboxState { lanes: vec![], unplanned_since: Some(now() - TimeDelta::minutes(minutes)) });
        let stuck = Some(Illness::LaneStuck("hook".to_owned()));
        for (signs, expected) in [
            (well(), None),
            (Signs { since_last_poll: Some(seconds(9)), ..well() }, None),
            (Signs { since_last_poll: Some(seconds(10)), ..well() }, Some(Illness::SchedulerHangs)),
            (Signs { since_last_poll: None, ..well() }, Some(Illness::SchedulerHangs)),
            (Signs { since_last_poll: None, up_for: seconds(1), ..well() }, None),
            (Signs { checks_wait: seconds(119), outcomes_wait: seconds(59), ..well() }, None),
            (Signs { checks_wait: seconds(120), ..well() }, Some(Illness::ChecksWait)),
            (Signs { outcomes_wait: seconds(60), ..well() }, Some(Illness::OutcomesWait)),
            (Signs { is_without_lease: true, ..well() }, Some(Illness::NoLease)),
            (Signs { outbox: None, ..well() }, Some(Illness::OutboxUnreadable)),
            (Signs { outbox: unplanned(9), ..well() }, None),
            (Signs { outbox: unplanned(10), ..well() }, Some(Illness::Unplanned)),
            (Signs { outbox: unplanned(10), up_for: seconds(5), ..well() }, None),
            (Signs { outbox: outbox(9), ..well() }, None),
            (Signs { outbox: outbox(10), ..well() }, stuck),
            (Signs { outbox: outbox(10), channels_off: vec!["hook".to_owned()], ..well() }, None),
        ] {
            assert_eq!(judge(&signs, now()), expected, "{signs:?}");
        }
    }
}
