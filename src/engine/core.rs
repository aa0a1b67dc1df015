//! What ties the parts together: requests come in, work goes to the writer, what was written has consequences.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::announce::announce;
use super::figures::Meter;
use super::follow::{Consequences, Follower};
use super::lease::Lease;
use super::pool::CheckPool;
use super::roster::{Begin, Request, Roster};
use super::rulebook::Rulebook;
use super::write::{OnApplied, WorkQueue};
use crate::domain::rules::Rules;
use crate::domain::{Cause, DiscardReason, MonitorId, State};
use crate::ports::{Applied, Clock, MissedTicks, OnTick, StoreError, Work};

/// A tick that is called later than this was slept over: it is a missed one.
const LATE: TimeDelta = TimeDelta::seconds(30);

/// What ties the parts together: requests come in, work goes to the writer, what was written has consequences.
pub(super) struct Core {
    pub(super) roster: Arc<Roster>,
    pub(super) meter: Arc<Meter>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lease: Arc<Lease>,
    pub(super) pool: OnceLock<Arc<CheckPool>>,
    pub(super) follower: OnceLock<Arc<Follower>>,
    pub(super) work: Arc<WorkQueue>,
    pub(super) wake_delivery: Arc<Notify>,
    pub(super) rulebook: Arc<Rulebook>,
}

impl Core {
    fn start(&self, request: Request) {
        // What is not begun now is caught up with when there is a lease again, by whoever has the monitor then.
        if !self.lease.may_begin() {
            return self.meter.count("checks_not_begun", 1);
        }
        match self.roster.begin(request) {
            Begin::Now => match self.pool.get() {
                Some(pool) => pool.push(request),
                None => drop(self.roster.end(request.monitor)),
            },
            Begin::Busy if request.cause == Cause::Schedule => self.meter.count("ticks_skipped", 1),
            Begin::Busy | Begin::Not => {}
        }
    }

    /// A monitor that fails while it depends on others has them asked at once: its alert waits for what they say.
    fn ask_parents(&self, work: &Work, applied: &Applied, rules: &Rules) {
        let is_new_alert = matches!(
            applied,
            Applied::Written { state_before: State::Ok, state_after: Some(State::Alert), queued: 1.., .. }
        );
        if is_new_alert {
            for parent in rules.dependencies.ancestors(work.monitor_id()) {
                self.start(Request::now(parent, Cause::Dependency, None, 0));
            }
        }
    }

    /// A run ended; what was asked for meanwhile begins.
    fn end(&self, monitor: MonitorId, again: Option<Request>) {
        let asked_meanwhile = self.roster.end(monitor);
        if let Some(request) = asked_meanwhile.filter(|asked| asked.tick.is_some()).or(again).or(asked_meanwhile) {
            self.start(request);
        }
    }
}

impl OnTick for Core {
    fn on_tick(self: Arc<Self>, monitor: MonitorId, tick: DateTime<Utc>) -> BoxFuture<'static, ()> {
        let now = self.clock.now();
        match self.follower.get() {
            // The machine slept over it, or the clock was set forward: the row says whether it is made up for.
            Some(follower) if now - tick > LATE => {
                follower.missed(monitor, tick, 1);
            }
            _ => self.start(Request::now(monitor, Cause::Schedule, Some(tick), 0)),
        }
        Box::pin(std::future::ready(()))
    }

    fn on_missed(&self, missed: MissedTicks) {
        self.meter.count("ticks_missed", missed.count);
        self.roster.count_missed(missed.monitor, u32::try_from(missed.count).unwrap_or(u32::MAX));
    }
}

impl Consequences for Core {
    fn request(&self, request: Request) {
        self.start(request);
    }

    fn edited(&self, work: Work) {
        // After the end, what an edit owes is found by the sweep of the next start.
        if !self.work.send(work) {
            tracing::debug!("an edit came after the writer had ended");
        }
    }
}

impl OnApplied for Core {
    fn are_checks_rushed(&self) -> bool {
        self.pool.get().is_some_and(|pool| pool.is_rushed())
    }

    fn on_applied(&self, work: Work, applied: Applied) {
        self.work.done();
        if let Applied::Written { queued: 1.., .. } = applied {
            self.wake_delivery.notify_one();
        }
        let rules = self.rulebook.known().rules;
        announce(&work, &applied, &rules);
        self.ask_parents(&work, &applied, &rules);
        let Work::Run(run) = work else { return };
        let monitor = run.monitor.id;
        let again = match applied {
            Applied::Written { is_recheck_asked_for, .. } => {
                let now = self.clock.now();
                self.meter.commit_delay((now - run.finished_at()).to_std().unwrap_or_default());
                self.meter.count("runs_applied", 1);
                is_recheck_asked_for.then(|| Request::now(monitor, Cause::Forced, None, 0))
            }
            // The writer keeps it, and tells only of its end.
            Applied::Locked => None,
            // It is in the table; only the answer was lost.
            Applied::Discarded(DiscardReason::WrittenBefore) => {
                self.meter.count("runs_applied", 1);
                tracing::debug!(monitor.id = monitor.0, "an outcome had been written; the answer was lost");
                None
            }
            Applied::Discarded(reason) => {
                self.meter.count("runs_discarded", 1);
                if reason == DiscardReason::LeaseLost {
                    self.meter.count("runs_too_old_after_a_lost_lease", 1);
                    tracing::warn!(
                        monitor.id = monitor.0,
                        "the outcome of a check is dropped: this node lost its lease meanwhile, and the next tick was due"
                    );
                }
                self.roster.restore_counts(monitor, run.skipped_ticks, run.missed_ticks);
                tracing::debug!(monitor.id = monitor.0, ?reason, "an outcome was discarded");
                (reason == DiscardReason::QuestionEdited).then(|| Request::now(monitor, run.cause, run.tick, 0))
            }
        };
        self.end(monitor, again);
    }

    fn on_refused(&self, work: Work, error: &StoreError) {
        self.work.done();
        let monitor = work.monitor_id();
        tracing::error!(monitor.id = monitor.0, %error, "the outcome of a check cannot be stored and is lost");
        if let Work::Run(_) = work {
            self.end(monitor, None);
        }
    }
}
