//! What is done now and then: finding what nobody told us of, forgetting what is old, finding out whether we are well.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::deliver::GONE_FOR;
use super::follow::{Consequences, Follower};
use super::health::Health;
use super::membership::Member;
use crate::ports::{Clock, Store, StoreError, Work};

const EVERY: Duration = Duration::from_secs(5);
/// In units of [`EVERY`]: incidents that do not fit their monitors, and the change log's length.
const MISMATCHES_EVERY: u64 = 6;
/// In units of [`EVERY`]: the whole table against what is known.
const RECONCILE_EVERY: u64 = 120;
/// Entries of the change log that are kept for other nodes and for looking.
const KEPT_CHANGES: u32 = 10_000;
/// The task that one node has, see [`Member::does`].
const HOUSEKEEPING: &str = "housekeeping";
const MISMATCHES: u32 = 1_000;

pub(super) struct Sweeper {
    pub(super) health: Arc<Health>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) member: Arc<Member>,
    pub(super) follower: Arc<Follower>,
    pub(super) consequences: Arc<dyn Consequences>,
}

impl Sweeper {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut round = 0;
        while !stop.is_cancelled() {
            for (what, result) in self.sweep(round).await {
                if let Err(error) = result {
                    tracing::warn!(%error, what, "housekeeping failed; it is tried again");
                }
            }
            round += 1;
            stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
    }

    async fn sweep(&self, round: u64) -> Vec<(&'static str, Result<(), StoreError>)> {
        let now = self.clock.now();
        let mut results = Vec::new();
        self.member.is_well(self.health.is_well().await);
        if !self.member.lease.may_begin() {
            return results;
        }
        if round.is_multiple_of(MISMATCHES_EVERY) {
            results.push(("incidents that do not fit", self.settle_mismatches().await));
        }
        if self.member.does(HOUSEKEEPING) {
            results.extend(self.keep_house(round, now).await);
        }
        if round % RECONCILE_EVERY == RECONCILE_EVERY - 1 {
            results.push(("the whole table", self.follower.reconcile().await));
        }
        results
    }

    /// What one node does for all.
    async fn keep_house(&self, round: u64, now: DateTime<Utc>) -> Vec<(&'static str, Result<(), StoreError>)> {
        let mut results = Vec::new();
        if round.is_multiple_of(MISMATCHES_EVERY) {
            results.push(("the change log", self.store.prune_changes(KEPT_CHANGES).await));
        }
        if !self.member.is_only_node && self.member.lease.has_held_for(GONE_FOR) {
            let released = self.store.release_leases_of_gone(now - GONE_FOR).await;
            if let Ok(released @ 1..) = released {
                tracing::info!(notifications = released, "messages that a lost node had taken are sent by others");
            }
            results.push(("deliveries of lost nodes", released.map(drop)));
        }
        results
    }

    async fn settle_mismatches(&self) -> Result<(), StoreError> {
        for monitor in self.store.mismatched(MISMATCHES).await? {
            if !self.follower.looks_after(monitor) {
                continue;
            }
            let row = match self.store.monitor(monitor).await {
                Ok(row) => row,
                // It steps aside; the others are settled.
                Err(error) => {
                    tracing::warn!(monitor.id = monitor.0, %error, "an incident that does not fit its monitor stays as it is");
                    continue;
                }
            };
            let (config_error, next_run_at) = row.map_or((None, None), |row| (row.config_error, row.next_run_at));
            self.consequences.edited(Work::Edit { monitor, config_error, next_run_at });
        }
        Ok(())
    }
}
