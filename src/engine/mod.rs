//! The use cases: following the table, running checks at their ticks, writing what they owe, delivering it.
//!
//! On ports only: nothing here names a database or a protocol, and nothing decides about states; that is the
//! domain's. Background loops take no input: they do the same work whether woken or on their own timer.

mod acknowledgments;
mod announce;
mod channel_trouble;
mod check;
mod commands;
mod core;
mod database_clock;
mod deadman;
mod deliver;
mod figures;
mod follow;
mod health;
mod inspect;
mod kinds;
mod lease;
mod membership;
mod notice_key;
mod pool;
mod roster;
mod rulebook;
mod run;
mod self_test;
mod start;
mod supervise;
mod sweep;
mod trial;
mod unwatched;
mod upkeep;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ports::{Scheduler, SchedulerCounters};

pub use deadman::DeadMan;
pub use deliver::Dispatcher;
pub use figures::{Figures, Spread};
pub use inspect::row_faults;
pub use kinds::{DuplicateKind, Kinds};
pub use membership::{Apart, Membership, MembershipError, settings_apart};
pub use run::{run_once, run_once_guarded};
pub use self_test::SelfTest;
pub use start::{Alive, Parts, StartError};
pub use trial::{TrialEnd, try_now};
pub use write::decide_with;

use self::core::Core;
use membership::Member;
use pool::CheckPool;
use supervise::Supervisor;

/// A running engine. [`Engine::shutdown`] ends it in order; dropping it without leaves its tasks running.
pub struct Engine {
    core: Arc<Core>,
    pool: Arc<CheckPool>,
    scheduler: Arc<dyn Scheduler>,
    supervisor: Supervisor,
    /// Ends following, sweeping and new requests.
    stop: CancellationToken,
    stop_delivery: CancellationToken,
    drop_checks: CancellationToken,
    shutdown_grace: Duration,
    loops: Vec<JoinHandle<()>>,
    jobs: JoinHandle<()>,
    writer: JoinHandle<()>,
    delivery: JoinHandle<()>,
    member: Arc<Member>,
    /// Keeps the lease; it ends last.
    membership: JoinHandle<()>,
    stop_membership: CancellationToken,
    monitors: usize,
}

impl Engine {
    /// How many rows were loaded at the start.
    pub fn monitors(&self) -> usize {
        self.monitors
    }

    /// Begins to measure anew.
    pub fn forget_figures(&self) {
        self.core.meter.forget();
    }

    /// Returns when a background loop ended though nobody stopped it: which, and how. The engine is of no use any more
    /// then; end it with [`Engine::shutdown`] and start the process anew.
    pub async fn failed(&self) -> String {
        self.supervisor.failed().await
    }

    /// What was measured so far.
    pub fn figures(&self) -> Figures {
        self.core.meter.read()
    }

    /// What the scheduler has done so far. A `since_last_poll` well above a second: it hangs.
    pub fn scheduler_counters(&self) -> SchedulerCounters {
        self.scheduler.counters()
    }

    /// Ends in order: the monitors are handed over, no new ticks, a grace for running checks, everything decided
    /// written, deliveries on their way settled. What is still running after the grace is dropped, and nothing of it is
    /// written.
    pub async fn shutdown(self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        const DROPPING: Duration = Duration::from_secs(2);
        // First, so that others take over while this node still ends what it began.
        self.member.leave();
        self.scheduler.shutdown().await;
        self.stop.cancel();
        self.pool.close();
        let wait_for_checks = async {
            while self.pool.running() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(self.shutdown_grace, wait_for_checks).await.is_err() {
            tracing::warn!(checks = self.pool.running(), "checks still running after the grace period are dropped");
            self.drop_checks.cancel();
            let wait_for_drops = async {
                while self.pool.running() > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            drop(tokio::time::timeout(DROPPING, wait_for_drops).await);
        }
        for ended in self.loops {
            until_ended(ended, "housekeeping waits for the database").await;
        }
        self.core.work.close();
        self.jobs.abort();
        until_ended(self.writer, "outcomes of checks are not written yet").await;
        self.stop_delivery.cancel();
        until_ended(self.delivery, "how deliveries ended is not written yet, or the last of them go on").await;
        self.stop_membership.cancel();
        until_ended(self.membership, "this node is not off the table of nodes yet").await;
    }
}

/// Waits, and says for what: a node that does not end must not look as if it hung.
async fn until_ended(mut ended: JoinHandle<()>, what_is_left: &str) {
    const SAY_EVERY: Duration = Duration::from_secs(5);
    let began = Instant::now();
    while tokio::time::timeout(SAY_EVERY, &mut ended).await.is_err() {
        tracing::warn!(
            seconds = began.elapsed().as_secs(),
            "still stopping: {what_is_left}; if the database cannot be written, mend that, or stop this node at once"
        );
    }
}
