//! Keeps history in order: runs are summed up by hour and day, and forgotten when they are old, in small steps.
//!
//! It never matters when: a step that fails or is late is made by a later one. So it takes what is left over: after each
//! step it pauses for several times as long as that took, however much is still to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::domain::HistoryPolicy;
use crate::ports::{Clock, Store};

/// Where nothing is left to do. History is summed up by the hour: nobody waits for it.
const EVERY: Duration = Duration::from_secs(5);
/// A database that is slow has more important things to do: of its time this loop takes at most a fifth.
const PAUSES: u32 = 4;
/// After an absence of the database all nodes write the outcomes that waited for it, within seconds: an hour that was summed
/// up before would be without them.
const OUTCOMES_WRITTEN_IN: TimeDelta = TimeDelta::seconds(30);
/// Runs that wait for the same lock come first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Rows of each table that one step forgets: a few milliseconds, so that no run waits for it.
const STEP: u32 = 2_000;

pub(super) struct HistoryKeeper {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// Whose turn it is, where several nodes serve the database.
    pub(super) owner: String,
    pub(super) lease: Arc<Lease>,
    pub(super) policy: HistoryPolicy,
}

impl HistoryKeeper {
    pub(super) async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let may_begin = self.lease.may_begin() && self.lease.has_held_for(OUTCOMES_WRITTEN_IN);
            let pause = if may_begin { self.step().await } else { EVERY };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Returns how long to wait before the next one.
    async fn step(&self) -> Duration {
        let began = Instant::now();
        match self.store.keep_history(&self.owner, self.clock.now(), &self.policy, STEP).await {
            Ok(step) if step.has_more => (began.elapsed() * PAUSES).clamp(SHORTEST_PAUSE, EVERY),
            Ok(_) => EVERY,
            Err(error) => {
                tracing::warn!(%error, "old history could not be kept in order; it is tried again");
                EVERY
            }
        }
    }
}
