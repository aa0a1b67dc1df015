//! What is done now and then: finding what nobody told us of, forgetting what is old, saying that we live.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::follow::{Consequences, Follower};
use super::health::Health;
use crate::ports::{Clock, NodeIdentity, Store, StoreError, Work};

const EVERY: Duration = Duration::from_secs(5);
/// Three renewals may fail before a node counts as gone.
const LEASE: TimeDelta = TimeDelta::seconds(20);
/// In units of [`EVERY`]: incidents that do not fit their monitors, and the change log's length.
const MISMATCHES_EVERY: u64 = 6;
/// In units of [`EVERY`]: the whole table against what is known.
const RECONCILE_EVERY: u64 = 120;
/// Entries of the change log that are kept for other nodes and for looking.
const KEPT_CHANGES: u32 = 10_000;
const MISMATCHES: u32 = 1_000;

pub(super) struct Sweeper {
    pub(super) health: Arc<Health>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: NodeIdentity,
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
        if let Err(error) = self.store.remove_node(&self.node).await {
            tracing::warn!(%error, "this node could not be taken off the table of nodes; its lease ends by itself");
        }
    }

    async fn sweep(&self, round: u64) -> Vec<(&'static str, Result<(), StoreError>)> {
        let now = self.clock.now();
        let mut results = vec![("the node's lease", self.renew_lease(now).await)];
        if round.is_multiple_of(MISMATCHES_EVERY) {
            results.push(("incidents that do not fit", self.settle_mismatches().await));
            results.push(("the change log", self.store.prune_changes(KEPT_CHANGES).await));
        }
        if round % RECONCILE_EVERY == RECONCILE_EVERY - 1 {
            results.push(("the whole table", self.follower.reconcile().await));
        }
        results
    }

    async fn renew_lease(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let is_well = self.health.is_well().await;
        self.store.renew_node(&self.node, env!("CARGO_PKG_VERSION"), now + LEASE, is_well).await?;
        self.health.lease_was_renewed();
        Ok(())
    }

    async fn settle_mismatches(&self) -> Result<(), StoreError> {
        for monitor in self.store.mismatched(MISMATCHES).await? {
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
