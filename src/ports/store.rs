//! The database, as the core needs it.
//!
//! Every `now` is an argument where it decides something, so that tests own the clock. Times that rows are compared
//! with come from the database's own clock only where [`Current::now`] says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::ledger::{OutboxFilter, Retried, Story, Trial};
use super::nodes::{LiveNodes, NodeIdentity, NodeReport, Renewed};
use crate::domain::commands::{Acknowledge, IncidentRecord, NewSilence, SilenceRecord, Summary};
use crate::domain::oversight::{DayFigures, OutboxState};
use crate::domain::planning::{Candidate, Situation, Step};
use crate::domain::rules::{RuleTable, Rules};
use crate::domain::{
    Acknowledgment, Current, Decision, DiscardReason, FinishedRun, HistoryPolicy, MonitorId, MonitorRow,
    NewNotification, NotificationId, NotificationType, OutboxRow, Settlement, Span, State,
};

/// What the database could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is there but busy, locked, full or out of reach: the same call may work later.
    #[error("cannot {action}: {reason}")]
    Unavailable {
        /// What was tried.
        action: String,
        /// Why not, with a hint where there is one.
        reason: String,
    },
    /// It refuses this very content: trying again does not help.
    #[error("cannot {action}: {reason}")]
    Refused {
        /// What was tried.
        action: String,
        /// Why not.
        reason: String,
    },
    /// It cannot be used at all as it is: read-only, of a newer version, no database of ours.
    #[error("cannot {action}: {reason}")]
    Unusable {
        /// What was tried.
        action: String,
        /// Why not, with a hint.
        reason: String,
    },
}

/// How far the change log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ChangeCursor(pub i64);

/// What changed since a cursor.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Each changed monitor once, with its row as it is now; `None`: it is gone.
    pub monitors: Vec<(MonitorId, Option<MonitorRow>)>,
    /// Where to go on.
    pub cursor: ChangeCursor,
    /// Whether more is waiting.
    pub has_more: bool,
}

/// Something that is to be decided and written for one monitor.
#[derive(Debug, Clone)]
pub enum Work {
    /// A finished run.
    Run(Box<FinishedRun>),
    /// An edit made by hand, or a difference that a sweep found.
    Edit {
        /// Which monitor.
        monitor: MonitorId,
        /// What is wrong with the row as written now.
        config_error: Option<String>,
        /// Its next instant.
        next_run_at: Option<DateTime<Utc>>,
    },
}

impl Work {
    /// The monitor that it belongs to.
    pub fn monitor_id(&self) -> MonitorId {
        match self {
            Work::Run(run) => run.monitor.id,
            Work::Edit { monitor, .. } => *monitor,
        }
    }
}

/// What a step of [`Store::keep_history`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryStep {
    /// Rows of monitors' hours and days that were written.
    pub rolled_up: u64,
    /// Rows that went.
    pub pruned: u64,
    /// PostgreSQL: whole days that went.
    pub dropped_partitions: u64,
    /// Whether there is more to do now.
    pub has_more: bool,
}

/// Decides one piece of work on the monitor as it is inside the transaction. Pure.
pub type DecideWork = dyn Fn(&Work, &Current) -> Decision + Send + Sync;

/// What became of one piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Written.
    Written {
        /// The state before.
        state_before: State,
        /// The state after; `None`: the row is gone.
        state_after: Option<State>,
        /// What people are told.
        notification_type: Option<NotificationType>,
        /// How many notifications were queued.
        queued: usize,
        /// Whether `last_run_at` is still NULL: another check is asked for.
        is_recheck_asked_for: bool,
    },
    /// Not written.
    Discarded(DiscardReason),
    /// Not written yet: somebody has locked the row (a person's open transaction). It is to be applied again in a while.
    Locked,
}

/// When something of a lane is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLane {
    /// [`crate::domain::planning::MAIL_LANE`], or the name of a channel.
    pub lane: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What there is to plan and to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    /// Every lane with planned notifications, and when its first is due.
    pub lanes: Vec<DueLane>,
    /// Rises with every edit of channels, routes, silences and dependencies.
    pub rules_version: i64,
    /// Whether anything is new and not planned yet.
    pub is_unplanned: bool,
    /// When the first held notification is to be looked at anew.
    pub held_until: Option<DateTime<Utc>>,
}

/// How much of a lane is taken at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneClaim {
    /// See [`DueLane::lane`].
    pub lane: String,
    /// How many.
    pub limit: u32,
}

/// What became of settlements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// How many were written.
    pub written: u64,
    /// Whose rows somebody else has locked: they are to be written later.
    pub locked: Vec<NotificationId>,
}

/// What planning asks the database for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// At most about so many new ones and so many held ones.
    pub limit: u32,
    /// How far back messages to a recipient count.
    pub look_back: TimeDelta,
    /// So many failures at once are looked at as a wave.
    pub cut_off_monitors: u32,
    /// Whose recent messages are needed as well.
    pub admins: Vec<String>,
}

/// Plans what is to be planned. Pure.
pub type PlanNotifications = dyn Fn(&[Candidate], Situation) -> Vec<Step> + Send + Sync;

/// What each channel that was told of an incident is told of its acknowledgment. Pure.
pub type ComposeAcknowledgment = dyn Fn(&Acknowledgment) -> Vec<NewNotification> + Send + Sync;

/// Columns of a row by name, as JSON, for people who read.
pub type Columns = BTreeMap<String, serde_json::Value>;

/// A registration from the command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewMonitor {
    /// `name`.
    pub name: String,
    /// `kind`.
    pub kind: String,
    /// `schedule`.
    pub schedule: String,
    /// Other columns, as text that the column takes, or NULL; what is left out gets the database's default.
    pub columns: BTreeMap<&'static str, Option<String>>,
}

/// The database. One conformance suite holds for every implementation.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // The control plane.

    /// Where the change log stands now. Read it before [`Store::monitors`], so that nothing falls in between.
    async fn change_cursor(&self) -> Result<ChangeCursor, StoreError>;

    /// What changed since `after`, at most about `limit` monitors. Cheap when nothing did.
    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError>;

    /// A page of all rows by ascending id, after `after`.
    async fn monitors(&self, after: MonitorId, limit: u32) -> Result<Vec<MonitorRow>, StoreError>;

    /// One row.
    async fn monitor(&self, id: MonitorId) -> Result<Option<MonitorRow>, StoreError>;

    /// Monitors whose state and incident do not fit: edited or deleted while nobody was there to see it.
    async fn mismatched(&self, limit: u32) -> Result<Vec<MonitorId>, StoreError>;

    /// Forgets entries of the change log that are older than the newest `keep`.
    async fn prune_changes(&self, keep: u32) -> Result<(), StoreError>;

    // Runs.

    /// Decides and writes all of `work` in one transaction: invariants 1, 2 and 5. The answers are in the order of
    /// `work`; a monitor may occur only once in it. On an error nothing of it is written.
    async fn apply(&self, node: &NodeIdentity, work: &[Work], decide: &DecideWork) -> Result<Vec<Applied>, StoreError>;

    /// One small step of keeping history in order: sums runs up by hour and day, and deletes what is older than `policy`
    /// says, at most `limit` rows of each table; never runs that are not summed up yet, and never what belongs to an
    /// open incident. Of several nodes one does it at a time: `owner` says who asks.
    async fn keep_history(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        policy: &HistoryPolicy,
        limit: u32,
    ) -> Result<HistoryStep, StoreError>;

    // What people say about messages.

    /// Channels, routes, silences and dependencies as they are now. Cheap when nobody edited them.
    async fn rules(&self) -> Result<Arc<Rules>, StoreError>;

    /// Writes `config_error` of rows of those tables, and lets everything that they may have held be looked at anew. False:
    /// somebody else has some of that locked, and this is to be done once more in a while.
    async fn report_rules(&self, reports: &[(RuleTable, i64, Option<String>)]) -> Result<bool, StoreError>;

    // Delivery.

    /// What there is to plan and to deliver, and when.
    async fn outlook(&self) -> Result<Outlook, StoreError>;

    /// Plans new notifications, and held ones whose time has come, in one transaction. Returns how many steps were
    /// written. What somebody else has locked is left for the next time, and so is what goes with it.
    async fn plan_notifications(&self, request: &PlanRequest, plan: &PlanNotifications) -> Result<usize, StoreError>;

    /// Takes due notifications of these lanes for `owner` until `lease_until`, counting the attempt. Of one recipient
    /// and monitor only the earliest unsettled one is ever taken. A lease that ended at `lapsed_before` or before is as good
    /// as none. What somebody else has locked is passed over.
    async fn claim_notifications(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        lapsed_before: DateTime<Utc>,
        lanes: &[LaneClaim],
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Writes how attempts ended; only where `owner` still holds the lease, and nobody else has the row locked.
    async fn settle_notifications(
        &self,
        owner: &str,
        settlements: &[(NotificationId, Settlement)],
    ) -> Result<Settled, StoreError>;

    /// Gives up all leases of owners other than `owner`: only for a store that one node has for itself.
    async fn release_leases_of_others(&self, owner: &str) -> Result<u64, StoreError>;

    // What people do from a room.

    /// How far the room of the channel with this name and `url` was read; `None`: not at all.
    async fn inbox_cursor(&self, channel: &str, url: &str) -> Result<Option<String>, StoreError>;

    /// Keeps how far it was read; nothing where the row is gone or has another `url` by now.
    async fn set_inbox_cursor(&self, channel: &str, url: &str, cursor: &str) -> Result<(), StoreError>;

    /// Acknowledges an open incident that is not acknowledged at `now`, or gives its acknowledgment another end; a
    /// command that did so before changes nothing. Returns how the incident stands after that; `None`: there is none.
    async fn acknowledge(
        &self,
        request: &Acknowledge,
        now: DateTime<Utc>,
    ) -> Result<Option<IncidentRecord>, StoreError>;

    /// Makes a silence; the same command makes one, and finds it again.
    async fn add_silence(&self, silence: &NewSilence) -> Result<SilenceRecord, StoreError>;

    /// Ends the silences of this monitor that commands made and that hold at `now`. Returns their ids.
    async fn end_silences(&self, monitor: MonitorId, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError>;

    /// How everything stands, with at most `limit` of the monitors in alert.
    async fn summary(&self, now: DateTime<Utc>, limit: u32) -> Result<Summary, StoreError>;

    /// Queues what `compose` says of acknowledgments, however made, that hold at `now` and that nobody was told of, in
    /// one transaction with the mark that they were told; at most `limit` of them. Returns how many were queued.
    async fn tell_acknowledgments(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        compose: &ComposeAcknowledgment,
    ) -> Result<usize, StoreError>;

    // Nodes.

    /// Registers the node, or renews its lease, in one short transaction that waits for no other work, and reads who is
    /// alive in it. Rows whose lease ended more than an hour ago are forgotten.
    async fn renew_node(&self, node: &NodeIdentity, report: &NodeReport) -> Result<Renewed, StoreError>;

    /// Who is alive, and the time by the database's clock. Cheap.
    async fn live_nodes(&self) -> Result<LiveNodes, StoreError>;

    /// Takes the node off. Where nobody is alive after that, the rows of those whose leases ended go as well: whoever
    /// comes next comes after an end in order, not after a failure.
    async fn remove_node(&self, node: &NodeIdentity) -> Result<(), StoreError>;

    /// Gives up deliveries that nodes had taken which are gone: their rows are not there any more, or their leases ended
    /// before `gone_before`. Returns how many.
    async fn release_leases_of_gone(&self, gone_before: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Gives up all that `owner` has taken, but for `known`: what it took without learning of it, since the answer to the
    /// commit was lost. Returns how many.
    async fn release_unknown(&self, owner: &str, known: &[NotificationId]) -> Result<u64, StoreError>;

    /// All rows of `nodes` by id, for people, each with `is_alive` (0 or 1) by the database's clock.
    async fn node_records(&self) -> Result<Vec<Columns>, StoreError>;

    // Whether the watcher is alive.

    /// What tells this installation from all others; the same for as long as the database lives.
    async fn installation_uuid(&self) -> Result<String, StoreError>;

    /// Queues messages that no run owes, each with the `uuid` that it is to have, in one transaction. One whose `uuid`
    /// is there already is left out. Returns how many were queued.
    async fn queue_notices(&self, notices: &[(String, NewNotification)]) -> Result<u64, StoreError>;

    /// How the outbox drains: every lane with something that waits, that was given up after `failed_since`, or of whose
    /// trouble the admins were told and not yet of its end.
    async fn outbox_state(&self, failed_since: DateTime<Utc>) -> Result<OutboxState, StoreError>;

    /// The installation in numbers: as it is, and what it did after `since`.
    async fn day_figures(&self, since: DateTime<Utc>) -> Result<DayFigures, StoreError>;

    // For people at the command line.

    /// Monitors by id, uuid or name: all that match.
    async fn find_monitors(&self, text: &str) -> Result<Vec<MonitorId>, StoreError>;

    /// The view `monitor_status`, sorted by name.
    async fn monitor_status(&self, limit: u32) -> Result<Vec<Columns>, StoreError>;

    /// One monitor: its row, and what `monitor_status` says of it.
    async fn monitor_record(&self, id: MonitorId) -> Result<Option<Columns>, StoreError>;

    /// The latest runs of a monitor, newest first.
    async fn history(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError>;

    /// The latest spans with runs of a monitor, summed up, newest first. The one that goes on, and for some minutes the
    /// one before, are not among them.
    async fn rollups(&self, id: MonitorId, span: Span, limit: u32) -> Result<Vec<Columns>, StoreError>;

    /// The latest incidents of a monitor, newest first.
    async fn incidents(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError>;

    /// The latest notifications of a monitor without their bodies, newest first.
    async fn notifications(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError>;

    /// The story of the run at `at`, or of the last one before; `None`: of the latest that told somebody or changed the
    /// state, else of the latest. `None` where there is no such run.
    async fn story(&self, id: MonitorId, at: Option<DateTime<Utc>>) -> Result<Option<Story>, StoreError>;

    /// One row of `routes` or `silences`, for people; of `channels` without its `url`.
    async fn rule_record(&self, table: RuleTable, id: i64) -> Result<Option<Columns>, StoreError>;

    /// The outbox, the oldest first, without bodies.
    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Columns>, StoreError>;

    /// By lane: what waits, since when, with which error, and what was given up.
    async fn lane_figures(&self, now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError>;

    /// What was given up after `after`, by id, at most `limit`; to `recipient` only where it is given.
    async fn given_up(
        &self,
        recipient: Option<&str>,
        after: NotificationId,
        limit: u32,
    ) -> Result<Vec<NotificationId>, StoreError>;

    /// Sends again what was given up, in one transaction, as [`crate::domain::retry`] allows. The answers are in the
    /// order of `ids`.
    async fn retry_notifications(&self, now: DateTime<Utc>, ids: &[NotificationId])
    -> Result<Vec<Retried>, StoreError>;

    /// Queues a trial, taken already by `owner`: it is counted as its first attempt, and nobody else tries it.
    async fn queue_trial(&self, owner: &str, trial: &Trial) -> Result<OutboxRow, StoreError>;

    /// Registers a monitor.
    async fn add_monitor(&self, monitor: &NewMonitor) -> Result<MonitorId, StoreError>;

    /// Sets `is_active`.
    async fn set_active(&self, id: MonitorId, is_active: bool) -> Result<(), StoreError>;

    /// The installation in numbers, by name, for `doctor` and the start-up lines.
    async fn figures(&self, now: DateTime<Utc>) -> Result<BTreeMap<String, i64>, StoreError>;

    /// Ends all connections; what was committed is on disk.
    async fn close(&self);
}
