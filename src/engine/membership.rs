//! This node among the others: renews its lease, sees who else is alive, and says which monitors are its own.
//!
//! Without a lease it begins nothing: no check, no claim, no delivery, nothing that one node does for all. What was begun
//! may end; what it is worth then is decided where it is written.
//!
//! No node asks another. Each computes from the rows of `nodes` whose turn it is, and looks at them twice a second, so that
//! the views differ for about a second after a change.

mod error;
mod settings;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::database_clock::{DatabaseClock, Reading};
use super::figures::Meter;
use super::kinds::Kinds;
use super::lease::{BootTime, Lease};
use super::roster::{Roster, Share};
use crate::domain::oversight::Unwatched;
use crate::domain::placement::Fleet;
use crate::domain::{MonitorId, MonitorRow};
use crate::ports::{LiveNode, LiveNodes, NodeIdentity, NodeReport, Store, StoreError};

pub use error::MembershipError;
pub use settings::{Apart, settings_apart};

/// How often it is looked who is alive: a tenth of the shortest lease.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A lease is renewed five times before it ends, so that a few failures in a row cost nothing.
const RENEWALS_A_LEASE: u32 = 5;
/// This part of a lease is waited for an answer: longer than a database takes to say why it cannot give one (SQLite: 5 s),
/// and short enough for another try.
const PATIENCE: (u32, u32) = (3, 5);
/// The same at the start, where nothing is lost by waiting and a reason is worth more than haste.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A node counts as well for so long after it was found so: longer than it takes to find out again.
const WELL_FOR: Duration = Duration::from_secs(12);

/// What the configuration says of a node among others.
#[derive(Debug, Clone)]
pub struct Membership {
    /// `node.labels`.
    pub labels: BTreeMap<String, String>,
    /// How long a lease holds: a node that is lost is missed after this.
    pub lease: TimeDelta,
    /// How far the wall clock may be from the database's.
    pub max_clock_skew: TimeDelta,
    /// The settings that must be the same on all nodes, without secrets.
    pub settings: BTreeMap<String, String>,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            lease: TimeDelta::seconds(10),
            max_clock_skew: TimeDelta::seconds(2),
            settings: BTreeMap::new(),
        }
    }
}

/// See the module.
pub(super) struct Member {
    pub(super) store: Arc<dyn Store>,
    pub(super) node: NodeIdentity,
    pub(super) settings: Membership,
    /// The database is this node's alone: rows of others are of predecessors, and the clocks are one.
    pub(super) is_only_node: bool,
    pub(super) kinds: Arc<Kinds>,
    pub(super) clock: Arc<DatabaseClock>,
    pub(super) lease: Arc<Lease>,
    pub(super) meter: Arc<Meter>,
    pub(super) roster: Arc<Roster>,
    pub(super) view: View,
}

/// What is known of the others, and what is to be told.
#[derive(Default)]
pub(super) struct View {
    fleet: RwLock<Arc<Fleet>>,
    /// Rises with every change of the fleet, and with every new term of the lease.
    changes: OnceLock<watch::Sender<u64>>,
    /// Leave, or look again, now.
    wake: Notify,
    /// When this node was last found well.
    well_at: Mutex<Option<BootTime>>,
    unwatched: Mutex<Option<Unwatched>>,
    /// While this node is without a lease: from when on nobody had one, as it saw that first. The renewal that follows may
    /// be made and not answered; the next one then finds this node itself alive.
    nobody_since: Mutex<Option<DateTime<Utc>>>,
    /// Differences of settings that the log has.
    told_apart: Mutex<BTreeSet<Apart>>,
    /// Something that the others should read at once.
    is_news: AtomicBool,
    is_out_of_step: AtomicBool,
    is_in_trouble: AtomicBool,
    lost_terms: AtomicU64,
}

impl Member {
    /// Whether and how `row` is this node's.
    pub(super) fn share_of(&self, row: &MonitorRow) -> Share {
        let fleet = self.fleet();
        let is_of_a_machine = self.kinds.manifest(&row.kind).is_some_and(|kind| kind.looks_at_this_machine);
        match fleet.place(row, is_of_a_machine) {
            Some(placement) if placement.owner.uuid == self.node.uuid => match placement.fault {
                None => Share::Ours,
                Some(fault) => Share::Unplaced(fault.to_string().into()),
            },
            Some(_) if fleet.may_run(&self.node.uuid, row) => Share::Others { may_run_here: true },
            Some(_) | None => Share::Others { may_run_here: false },
        }
    }

    /// Whether this node looks after what a monitor left behind whose row is gone.
    pub(super) fn inherits(&self, monitor: MonitorId) -> bool {
        self.fleet().owner_of(monitor).is_some_and(|owner| owner.uuid == self.node.uuid)
    }

    /// Whether this node does now what one node does for all.
    pub(super) fn does(&self, task: &str) -> bool {
        self.lease.may_begin() && self.fleet().doer_of(task).is_some_and(|doer| doer.uuid == self.node.uuid)
    }

    /// Whether this node delivers over the lane. One that leaves still does, where no other is there to do it.
    pub(super) fn carries(&self, lane: &str) -> bool {
        let fleet = self.fleet();
        let carrier = fleet.doer_of(&format!("deliver over {lane}"));
        self.lease.holds() && carrier.is_none_or(|carrier| carrier.uuid == self.node.uuid)
    }

    /// Whether others are alive as well.
    pub(super) fn is_among_others(&self) -> bool {
        self.fleet().len() > 1
    }

    /// Tells of every change of what is this node's.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.change_sender().subscribe()
    }

    /// A time in which nobody watched, which this node found; it is given out once.
    pub(super) fn take_unwatched(&self) -> Option<Unwatched> {
        self.view.unwatched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether this node is well, as was just found out.
    pub(super) fn is_well(&self, is_well: bool) {
        let well_at = is_well.then(BootTime::now);
        let before = std::mem::replace(&mut *self.view.well_at.lock().unwrap_or_else(PoisonError::into_inner), well_at);
        if is_well && before.is_none() {
            // Who watches from outside waits for this heartbeat.
            self.view.is_news.store(true, Ordering::Release);
            self.view.wake.notify_one();
        }
    }

    /// Hands over to the others: no check begins any more, and they are told so now. What was begun goes on, and is
    /// delivered, under the lease that is still renewed.
    pub(super) fn leave(&self) {
        self.lease.leave();
        self.view.is_news.store(true, Ordering::Release);
        self.view.wake.notify_one();
    }

    /// The first lease, before anything else is done.
    ///
    /// # Errors
    /// When the database does not take it, or the clocks differ too much.
    pub(super) async fn join(&self) -> Result<(), MembershipError> {
        self.look().await?;
        self.renew().await
    }

    /// Keeps the lease, and follows the others, until `stop`; then takes this node off.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let every = self.settings.lease.to_std().unwrap_or_default() / RENEWALS_A_LEASE;
        let mut renewed_at = BootTime::now();
        while !stop.is_cancelled() {
            let now = BootTime::now();
            let is_news = self.view.is_news.swap(false, Ordering::AcqRel);
            let is_due = is_news || !self.lease.holds() || now.since(renewed_at) >= every;
            let done = if is_due { self.try_renew().await } else { self.look().await };
            match done {
                Ok(()) if is_due => renewed_at = now,
                Ok(()) => {}
                Err(MembershipError::ClockSkew { .. }) if self.lease.holds() => self.step_aside().await,
                Err(_) if is_news => self.view.is_news.store(true, Ordering::Release),
                Err(_) => {}
            }
            self.report(done.err());
            let pause = LOOK_EVERY.min(every);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.view.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.lease.give_up();
        if let Err(error) = self.within(self.store.remove_node(&self.node)).await {
            tracing::warn!(%error, "this node could not be taken off the table of nodes; its lease ends by itself");
        }
    }

    /// Without a lease it is looked first: a node whose clock is wrong must not come and go.
    async fn try_renew(&self) -> Result<(), MembershipError> {
        if !self.lease.holds() {
            self.look().await?;
        }
        self.renew().await
    }

    async fn renew(&self) -> Result<(), MembershipError> {
        let (asked_at, asked) = (BootTime::now(), self.clock.read());
        let report = self.node_report();
        let renewed = self.within(self.store.renew_node(&self.node, &report)).await?;
        let measured = self.measure(asked, renewed.live.now);
        if measured.is_ok() && self.lease.renewed(asked_at, self.settings.lease) {
            tracing::debug!(lease_until = %renewed.lease_until, "this node has a lease");
            let seen = self.view.nobody_since.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(since) = seen.or(renewed.nobody_was_alive_since) {
                let until = renewed.live.now;
                let unwatched = Unwatched::between(since, until);
                if unwatched.is_some() {
                    tracing::warn!(%since, %until, "nobody watched in between");
                }
                *self.view.unwatched.lock().unwrap_or_else(PoisonError::into_inner) = unwatched;
            }
            self.see(renewed.live.nodes, renewed.live.now);
            self.tell_of_change();
        } else {
            self.see(renewed.live.nodes, renewed.live.now);
        }
        if measured.is_err() {
            self.step_aside().await;
        }
        measured
    }

    async fn look(&self) -> Result<(), MembershipError> {
        let asked = self.clock.read();
        let live = self.within(self.store.live_nodes()).await?;
        self.measure(asked, live.now)?;
        let LiveNodes { now, nodes, nobody_is_alive_since } = live;
        if !self.lease.holds() {
            self.note_absence(&nodes, nobody_is_alive_since);
            return Ok(());
        }
        if nodes.iter().any(|node| node.uuid == self.node.uuid) {
            self.see(nodes, now);
            return Ok(());
        }
        // The row was deleted by hand, or the database's clock was set.
        tracing::warn!("this node is not among those that are alive; it takes a lease anew");
        self.lease.give_up();
        self.renew().await
    }

    /// Without a lease. Where others are alive and this node is not, it was for them to see since when nobody was.
    fn note_absence(&self, alive: &[LiveNode], nobody_since: Option<DateTime<Utc>>) {
        let mut noted = self.view.nobody_since.lock().unwrap_or_else(PoisonError::into_inner);
        if nobody_since.is_some() {
            *noted = noted.or(nobody_since);
        } else if alive.iter().all(|node| node.uuid != self.node.uuid) {
            *noted = None;
        }
    }

    /// # Errors
    /// When the clocks differ too much.
    fn measure(&self, asked: Reading, database: DateTime<Utc>) -> Result<(), MembershipError> {
        if self.is_only_node {
            return Ok(());
        }
        let answered = self.clock.read();
        let (ahead, most) = (DatabaseClock::ahead(asked, database, answered), self.settings.max_clock_skew);
        if ahead.abs() > most {
            return Err(MembershipError::ClockSkew { ahead, most });
        }
        self.clock.follow(asked, database, answered);
        Ok(())
    }

    /// The clocks differ too much: others take over until that is mended.
    async fn step_aside(&self) {
        self.lease.give_up();
        // Its row stays, with a lease that ends now: what it is sending at this moment is not taken for that of a node that
        // is gone, and a time in which nobody watches is told.
        let report = NodeReport { lease: TimeDelta::zero(), ..self.node_report() };
        if let Err(error) = self.within(self.store.renew_node(&self.node, &report)).await {
            tracing::debug!(%error, "this node could not end its lease, which ends by itself");
        }
    }

    /// A database that does not answer must not hold up the next try.
    async fn within<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, MembershipError> {
        let lease = self.settings.lease.to_std().unwrap_or_default();
        let most = if self.lease.term() == 0 { START_PATIENCE } else { lease * PATIENCE.0 / PATIENCE.1 };
        match tokio::time::timeout(most, question).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(MembershipError::Silent(most)),
        }
    }

    fn node_report(&self) -> NodeReport {
        let well_at = *self.view.well_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_staying = !self.lease.is_leaving();
        let kinds = is_staying.then(|| self.kinds.manifests().map(|kind| kind.kind.to_owned()).collect());
        NodeReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: self.settings.labels.clone(),
            kinds,
            settings: serde_json::json!(self.settings.settings).to_string(),
            monitor_count: self.roster.owned(),
            lateness_p99: self.meter.recent_lateness_p99(),
            clock_skew: self.clock.skew(),
            lease: self.settings.lease,
            is_well: well_at.is_some_and(|at| BootTime::now().since(at) < WELL_FOR),
        }
    }

    /// Takes in who is alive.
    fn see(&self, nodes: Vec<LiveNode>, now: DateTime<Utc>) {
        let others = nodes.iter().filter(|node| node.uuid != self.node.uuid);
        self.tell_apart(others.filter(|_| !self.is_only_node));
        let before = self.fleet();
        let fleet = Arc::new(if self.is_only_node {
            Fleet::new(nodes.iter().filter(|node| node.uuid == self.node.uuid).map(Into::into), now)
        } else {
            before.followed_by(nodes.iter().map(Into::into), now)
        });
        *self.view.fleet.write().unwrap_or_else(PoisonError::into_inner) = fleet.clone();
        if before != fleet {
            let (came, went) = (fleet.names_beyond(&before), before.names_beyond(&fleet));
            if !came.is_empty() || !went.is_empty() {
                tracing::info!(came, went, nodes = fleet.len(), "the nodes that share the monitors have changed");
            }
            self.tell_of_change();
        }
    }

    fn fleet(&self) -> Arc<Fleet> {
        self.view.fleet.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_sender(&self) -> &watch::Sender<u64> {
        self.view.changes.get_or_init(|| watch::Sender::new(0))
    }

    fn tell_of_change(&self) {
        self.change_sender().send_modify(|number| *number += 1);
    }
}
