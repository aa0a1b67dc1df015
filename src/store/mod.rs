//! The databases behind [`crate::ports::Store`]: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! What is read and written is the same on all of them and stands once, in a module for each use; `database` spells
//! it for each. [`sqlite`], [`postgres`] and [`mysql`] hold what is of one alone: how it is opened, migrated, kept in
//! order. Nothing here decides about states.

mod acknowledgments;
mod apply;
mod by_command;
pub mod copy;
mod database;
mod delivery;
mod findings;
mod free_rows;
mod gaps;
mod history;
mod installation;
mod migrations;
mod monitors;
pub mod mysql;
mod nodes;
mod open;
mod outbox;
mod oversight;
mod parameters;
mod planning;
pub mod postgres;
mod queueing;
mod rules;
mod server_time;
pub mod sqlite;
mod story;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::commands::{Acknowledge, IncidentRecord, NewSilence, SilenceRecord, Summary};
use crate::domain::oversight::{DayFigures, OutboxState};
use crate::domain::rules::{RuleTable, Rules};
use crate::domain::{
    HistoryPolicy, MonitorId, MonitorRow, NewNotification, NotificationId, OutboxRow, Settlement, Span,
};
use crate::ports::{
    Applied, ChangeCursor, Changes, Clock, Columns, ComposeAcknowledgment, DecideWork, HistoryStep, LaneClaim,
    LiveNodes, NewMonitor, NodeIdentity, NodeReport, OutboxFilter, Outlook, PlanNotifications, PlanRequest, Renewed,
    Retried, Settled, Store, StoreError, Story, Trial, Work,
};
use database::Database;
pub use findings::{DatabaseFinding, FindingLevel};
use gaps::Gaps;
pub use migrations::{Opening, Step};
use rules::RulesCache;
use server_time::ServerTime;

/// A database of Watchbell. [`SqlStore::open`] opens it.
pub struct SqlStore {
    database: Database,
    steps_applied: Vec<Step>,
    schema_version: i64,
    clock: Arc<dyn Clock>,
    rules: RulesCache,
    gaps: Gaps,
    server_time: ServerTime,
    keeping: history::Keeping,
}

impl SqlStore {
    /// The zone in which rows of `channels` and `silences` are read that name none; UTC without this.
    #[must_use]
    pub fn with_default_zone(mut self, zone: Tz) -> Self {
        self.rules = RulesCache::new(zone);
        self
    }

    /// The steps of the schema that the tables lacked when they were opened, and that have been applied, in their order.
    #[must_use]
    pub fn steps_applied(&self) -> &[Step] {
        &self.steps_applied
    }

    /// The number of the last step of the schema that the tables have.
    #[must_use]
    pub fn schema_version(&self) -> i64 {
        self.schema_version
    }

    /// The name of the installation that the database belongs to, where one called `name` must not write to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn other_owner(&self, name: &str) -> Result<Option<String>, StoreError> {
        installation::other_owner(&self.database, name).await
    }

    /// Gives the database this name, where nothing was registered in it yet and it has none of its own. Returns the
    /// name that it has then.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub async fn claim_installation(&self, name: &str) -> Result<String, StoreError> {
        installation::claim(&self.database, name).await
    }

    /// How the server is set up, for people: nothing for SQLite. A node runs while its clock is no further than
    /// `max_clock_skew` from the server's.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn findings(&self, max_clock_skew: TimeDelta) -> Result<Vec<DatabaseFinding>, StoreError> {
        findings::findings(&self.database, self.clock.as_ref(), max_clock_skew).await
    }

    /// What the service needs to do and may not: texts such as `UPDATE on notifications`. Nothing for SQLite.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn missing_rights(&self) -> Result<Vec<String>, StoreError> {
        findings::missing_rights(&self.database).await
    }
}

impl SqlStore {
    /// The time that rows are written with: a server's own, where it was told lately.
    fn now(&self) -> DateTime<Utc> {
        self.server_time.now().unwrap_or_else(|| self.clock.now())
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn change_cursor(&self) -> Result<ChangeCursor, StoreError> {
        monitors::change_cursor(&self.database, &self.gaps, self.now()).await
    }

    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
        monitors::changes(&self.database, &self.gaps, self.now(), after, limit).await
    }

    async fn monitors(&self, after: MonitorId, limit: u32) -> Result<Vec<MonitorRow>, StoreError> {
        monitors::page(&self.database, after, limit).await
    }

    async fn monitor(&self, id: MonitorId) -> Result<Option<MonitorRow>, StoreError> {
        monitors::one(&self.database, id).await
    }

    async fn mismatched(&self, limit: u32) -> Result<Vec<MonitorId>, StoreError> {
        monitors::mismatched(&self.database, limit).await
    }

    async fn prune_changes(&self, keep: u32) -> Result<(), StoreError> {
        monitors::prune_changes(&self.database, self.now(), keep).await
    }

    async fn apply(&self, node: &NodeIdentity, work: &[Work], decide: &DecideWork) -> Result<Vec<Applied>, StoreError> {
        apply::apply(&self.database, &|| self.now(), node, work, &self.rules, decide).await
    }

    async fn keep_history(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        policy: &HistoryPolicy,
        limit: u32,
    ) -> Result<HistoryStep, StoreError> {
        history::keep(&self.database, &self.keeping, owner, now, policy, limit).await
    }

    async fn claim_notifications(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        lapsed_before: DateTime<Utc>,
        lanes: &[LaneClaim],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        delivery::claim(&self.database, owner, now, lease_until, lapsed_before, lanes).await
    }

    async fn rules(&self) -> Result<Arc<Rules>, StoreError> {
        rules::read(&self.database, &self.rules).await
    }

    async fn report_rules(&self, reports: &[(RuleTable, i64, Option<String>)]) -> Result<bool, StoreError> {
        rules::report(&self.database, self.now(), reports).await
    }

    async fn outlook(&self) -> Result<Outlook, StoreError> {
        delivery::outlook(&self.database).await
    }

    async fn plan_notifications(&self, request: &PlanRequest, plan: &PlanNotifications) -> Result<usize, StoreError> {
        planning::plan(&self.database, self.now(), &self.rules, request, plan).await
    }

    async fn settle_notifications(
        &self,
        owner: &str,
        settlements: &[(NotificationId, Settlement)],
    ) -> Result<Settled, StoreError> {
        delivery::settle(&self.database, owner, self.now(), settlements).await
    }

    async fn release_leases_of_others(&self, owner: &str) -> Result<u64, StoreError> {
        nodes::release_leases_of_others(&self.database, owner).await
    }

    async fn inbox_cursor(&self, channel: &str, url: &str) -> Result<Option<String>, StoreError> {
        by_command::inbox_cursor(&self.database, channel, url).await
    }

    async fn set_inbox_cursor(&self, channel: &str, url: &str, cursor: &str) -> Result<(), StoreError> {
        by_command::set_inbox_cursor(&self.database, channel, url, cursor).await
    }

    async fn acknowledge(
        &self,
        request: &Acknowledge,
        now: DateTime<Utc>,
    ) -> Result<Option<IncidentRecord>, StoreError> {
        by_command::acknowledge(&self.database, request, now).await
    }

    async fn add_silence(&self, silence: &NewSilence) -> Result<SilenceRecord, StoreError> {
        by_command::add_silence(&self.database, silence).await
    }

    async fn end_silences(&self, monitor: MonitorId, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError> {
        by_command::end_silences(&self.database, monitor, now).await
    }

    async fn summary(&self, now: DateTime<Utc>, limit: u32) -> Result<Summary, StoreError> {
        by_command::summary(&self.database, now, limit).await
    }

    async fn tell_acknowledgments(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        compose: &ComposeAcknowledgment,
    ) -> Result<usize, StoreError> {
        acknowledgments::tell(&self.database, now, limit, compose).await
    }

    async fn renew_node(&self, node: &NodeIdentity, report: &NodeReport) -> Result<Renewed, StoreError> {
        let asked = Instant::now();
        let renewed = nodes::renew(&self.database, self.now(), node, report).await?;
        self.server_time.told(&self.database, asked, renewed.live.now);
        Ok(renewed)
    }

    async fn live_nodes(&self) -> Result<LiveNodes, StoreError> {
        let asked = Instant::now();
        let live = nodes::live(&self.database, self.now()).await?;
        self.server_time.told(&self.database, asked, live.now);
        Ok(live)
    }

    async fn remove_node(&self, node: &NodeIdentity) -> Result<(), StoreError> {
        nodes::remove(&self.database, self.now(), node).await
    }

    async fn release_leases_of_gone(&self, gone_before: DateTime<Utc>) -> Result<u64, StoreError> {
        nodes::release_leases_of_gone(&self.database, gone_before).await
    }

    async fn release_unknown(&self, owner: &str, known: &[NotificationId]) -> Result<u64, StoreError> {
        nodes::release_unknown(&self.database, owner, known).await
    }

    async fn node_records(&self) -> Result<Vec<Columns>, StoreError> {
        nodes::records(&self.database, self.now()).await
    }

    async fn installation_uuid(&self) -> Result<String, StoreError> {
        oversight::installation_uuid(&self.database).await
    }

    async fn queue_notices(&self, notices: &[(String, NewNotification)]) -> Result<u64, StoreError> {
        oversight::queue_notices(&self.database, self.now(), notices).await
    }

    async fn outbox_state(&self, failed_since: DateTime<Utc>) -> Result<OutboxState, StoreError> {
        oversight::outbox_state(&self.database, failed_since).await
    }

    async fn day_figures(&self, since: DateTime<Utc>) -> Result<DayFigures, StoreError> {
        oversight::day_figures(&self.database, since).await
    }

    async fn find_monitors(&self, text: &str) -> Result<Vec<MonitorId>, StoreError> {
        monitors::find(&self.database, text).await
    }

    async fn monitor_status(&self, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::monitor_status(&self.database, limit).await
    }

    async fn monitor_record(&self, id: MonitorId) -> Result<Option<Columns>, StoreError> {
        history::monitor_record(&self.database, id).await
    }

    async fn history(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::runs(&self.database, id, limit).await
    }

    async fn rollups(&self, id: MonitorId, span: Span, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::rollups(&self.database, id, span, limit).await
    }

    async fn incidents(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::incidents(&self.database, id, limit).await
    }

    async fn notifications(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::notifications(&self.database, id, limit).await
    }

    async fn story(&self, id: MonitorId, at: Option<DateTime<Utc>>) -> Result<Option<Story>, StoreError> {
        story::story(&self.database, id, at).await
    }

    async fn rule_record(&self, table: RuleTable, id: i64) -> Result<Option<Columns>, StoreError> {
        story::rule_record(&self.database, table, id).await
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Columns>, StoreError> {
        outbox::list(&self.database, filter).await
    }

    async fn lane_figures(&self, now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError> {
        outbox::lane_figures(&self.database, now).await
    }

    async fn given_up(
        &self,
        recipient: Option<&str>,
        after: NotificationId,
        limit: u32,
    ) -> Result<Vec<NotificationId>, StoreError> {
        outbox::given_up(&self.database, recipient, after, limit).await
    }

    async fn retry_notifications(
        &self,
        now: DateTime<Utc>,
        ids: &[NotificationId],
    ) -> Result<Vec<Retried>, StoreError> {
        outbox::retry_all(&self.database, now, ids).await
    }

    async fn queue_trial(&self, owner: &str, trial: &Trial) -> Result<OutboxRow, StoreError> {
        outbox::queue_trial(&self.database, self.now(), owner, trial).await
    }

    async fn add_monitor(&self, monitor: &NewMonitor) -> Result<MonitorId, StoreError> {
        monitors::add(&self.database, monitor).await
    }

    async fn set_active(&self, id: MonitorId, is_active: bool) -> Result<(), StoreError> {
        monitors::set_active(&self.database, id, is_active).await
    }

    async fn figures(&self, now: DateTime<Utc>) -> Result<BTreeMap<String, i64>, StoreError> {
        history::figures(&self.database, now).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
