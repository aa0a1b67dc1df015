//! SQLite, embedded: one file, one writer, WAL, `synchronous=FULL`.
//!
//! All writes go through one connection, so that none waits for another inside SQLite; reads have connections of
//! their own. Many runs share a transaction, in a few set-based statements over `json_each`.

mod acknowledgments;
mod apply;
mod by_command;
mod delivery;
mod errors;
mod history;
mod monitors;
mod nodes;
mod open;
mod outbox;
mod oversight;
mod planning;
#[cfg(test)]
mod plans;
mod rules;
mod story;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::SqlitePool;

use crate::domain::commands::{Acknowledge, IncidentRecord, NewSilence, SilenceRecord, Summary};
use crate::domain::oversight::{DayFigures, OutboxState};
use crate::domain::{MonitorId, MonitorRow, NewNotification, NotificationId, OutboxRow, Settlement};
use crate::ports::{
    Applied, ChangeCursor, Changes, Clock, Columns, ComposeAcknowledgment, DecideWork, LaneClaim, LiveNodes,
    NewMonitor, NodeIdentity, NodeReport, OutboxFilter, Outlook, PlanNotifications, PlanRequest, Renewed, Retried,
    Store, StoreError, Story, Trial, Work,
};

use crate::domain::rules::{RuleTable, Rules};
use rules::RulesCache;

pub use open::{FileLock, database_path};

/// A SQLite database.
pub struct SqliteStore {
    /// One connection: SQLite has one writer.
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    rules: RulesCache,
}

impl SqliteStore {
    /// The zone in which rows of `channels` and `silences` are read that name none; UTC without this.
    #[must_use]
    pub fn with_default_zone(mut self, zone: Tz) -> Self {
        self.rules = RulesCache::new(zone);
        self
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn change_cursor(&self) -> Result<ChangeCursor, StoreError> {
        monitors::change_cursor(&self.readers).await
    }

    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
        monitors::changes(&self.readers, after, limit).await
    }

    async fn monitors(&self, after: MonitorId, limit: u32) -> Result<Vec<MonitorRow>, StoreError> {
        monitors::page(&self.readers, after, limit).await
    }

    async fn monitor(&self, id: MonitorId) -> Result<Option<MonitorRow>, StoreError> {
        monitors::one(&self.readers, id).await
    }

    async fn mismatched(&self, limit: u32) -> Result<Vec<MonitorId>, StoreError> {
        monitors::mismatched(&self.readers, limit).await
    }

    async fn prune_changes(&self, keep: u32) -> Result<(), StoreError> {
        monitors::prune_changes(&self.writer, self.clock.now(), keep).await
    }

    async fn apply(&self, node: &NodeIdentity, work: &[Work], decide: &DecideWork) -> Result<Vec<Applied>, StoreError> {
        apply::apply(&self.writer, self.clock.now(), node, work, &self.rules, decide).await
    }

    async fn prune_history(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        history::prune(&self.readers, &self.writer, before, limit).await
    }

    async fn claim_notifications(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        lanes: &[LaneClaim],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        delivery::claim(&self.writer, owner, now, lease_until, lanes).await
    }

    async fn rules(&self) -> Result<Arc<Rules>, StoreError> {
        rules::read(&self.readers, &self.rules).await
    }

    async fn report_rules(&self, reports: &[(RuleTable, i64, Option<String>)]) -> Result<(), StoreError> {
        rules::report(&self.writer, self.clock.now(), reports).await
    }

    async fn outlook(&self) -> Result<Outlook, StoreError> {
        delivery::outlook(&self.readers).await
    }

    async fn plan_notifications(&self, request: &PlanRequest, plan: &PlanNotifications) -> Result<usize, StoreError> {
        planning::plan(&self.writer, self.clock.now(), &self.rules, request, plan).await
    }

    async fn settle_notifications(
        &self,
        owner: &str,
        settlements: &[(NotificationId, Settlement)],
    ) -> Result<u64, StoreError> {
        delivery::settle(&self.writer, owner, self.clock.now(), settlements).await
    }

    async fn release_leases_of_others(&self, owner: &str) -> Result<u64, StoreError> {
        delivery::release_leases_of_others(&self.writer, owner).await
    }

    async fn inbox_cursor(&self, channel: &str, url: &str) -> Result<Option<String>, StoreError> {
        by_command::inbox_cursor(&self.readers, channel, url).await
    }

    async fn set_inbox_cursor(&self, channel: &str, url: &str, cursor: &str) -> Result<(), StoreError> {
        by_command::set_inbox_cursor(&self.writer, channel, url, cursor).await
    }

    async fn acknowledge(
        &self,
        request: &Acknowledge,
        now: DateTime<Utc>,
    ) -> Result<Option<IncidentRecord>, StoreError> {
        by_command::acknowledge(&self.writer, request, now).await
    }

    async fn add_silence(&self, silence: &NewSilence) -> Result<SilenceRecord, StoreError> {
        by_command::add_silence(&self.writer, silence).await
    }

    async fn end_silences(&self, monitor: MonitorId, now: DateTime<Utc>) -> Result<Vec<i64>, StoreError> {
        by_command::end_silences(&self.writer, monitor, now).await
    }

    async fn summary(&self, now: DateTime<Utc>, limit: u32) -> Result<Summary, StoreError> {
        by_command::summary(&self.readers, now, limit).await
    }

    async fn tell_acknowledgments(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        compose: &ComposeAcknowledgment,
    ) -> Result<usize, StoreError> {
        acknowledgments::tell(&self.readers, &self.writer, now, limit, compose).await
    }

    async fn renew_node(&self, node: &NodeIdentity, report: &NodeReport) -> Result<Renewed, StoreError> {
        nodes::renew(&self.writer, self.clock.now(), node, report).await
    }

    async fn live_nodes(&self) -> Result<LiveNodes, StoreError> {
        nodes::live(&self.readers, self.clock.now()).await
    }

    async fn remove_node(&self, node: &NodeIdentity) -> Result<(), StoreError> {
        nodes::remove(&self.writer, self.clock.now(), node).await
    }

    async fn release_leases_of_gone(&self, gone_before: DateTime<Utc>) -> Result<u64, StoreError> {
        nodes::release_leases_of_gone(&self.writer, gone_before).await
    }

    async fn node_records(&self) -> Result<Vec<Columns>, StoreError> {
        nodes::records(&self.readers, self.clock.now()).await
    }

    async fn installation_uuid(&self) -> Result<String, StoreError> {
        oversight::installation_uuid(&self.readers).await
    }

    async fn queue_notices(&self, notices: &[(String, NewNotification)]) -> Result<u64, StoreError> {
        oversight::queue_notices(&self.writer, self.clock.now(), notices).await
    }

    async fn outbox_state(&self, failed_since: DateTime<Utc>) -> Result<OutboxState, StoreError> {
        oversight::outbox_state(&self.readers, failed_since).await
    }

    async fn day_figures(&self, since: DateTime<Utc>) -> Result<DayFigures, StoreError> {
        oversight::day_figures(&self.readers, since).await
    }

    async fn find_monitors(&self, text: &str) -> Result<Vec<MonitorId>, StoreError> {
        monitors::find(&self.readers, text).await
    }

    async fn monitor_status(&self, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::monitor_status(&self.readers, limit).await
    }

    async fn monitor_record(&self, id: MonitorId) -> Result<Option<Columns>, StoreError> {
        history::monitor_record(&self.readers, id).await
    }

    async fn history(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::runs(&self.readers, id, limit).await
    }

    async fn incidents(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::incidents(&self.readers, id, limit).await
    }

    async fn notifications(&self, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
        history::notifications(&self.readers, id, limit).await
    }

    async fn story(&self, id: MonitorId, at: Option<DateTime<Utc>>) -> Result<Option<Story>, StoreError> {
        story::story(&self.readers, id, at).await
    }

    async fn rule_record(&self, table: RuleTable, id: i64) -> Result<Option<Columns>, StoreError> {
        story::rule_record(&self.readers, table, id).await
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Columns>, StoreError> {
        outbox::list(&self.readers, filter).await
    }

    async fn lane_figures(&self, now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError> {
        outbox::lane_figures(&self.readers, now).await
    }

    async fn given_up(
        &self,
        recipient: Option<&str>,
        after: NotificationId,
        limit: u32,
    ) -> Result<Vec<NotificationId>, StoreError> {
        outbox::given_up(&self.readers, recipient, after, limit).await
    }

    async fn retry_notifications(
        &self,
        now: DateTime<Utc>,
        ids: &[NotificationId],
    ) -> Result<Vec<Retried>, StoreError> {
        outbox::retry_all(&self.writer, now, ids).await
    }

    async fn queue_trial(&self, owner: &str, trial: &Trial) -> Result<OutboxRow, StoreError> {
        outbox::queue_trial(&self.writer, self.clock.now(), owner, trial).await
    }

    async fn add_monitor(&self, monitor: &NewMonitor) -> Result<MonitorId, StoreError> {
        monitors::add(&self.writer, monitor).await
    }

    async fn set_active(&self, id: MonitorId, is_active: bool) -> Result<(), StoreError> {
        monitors::set_active(&self.writer, id, is_active).await
    }

    async fn figures(&self, now: DateTime<Utc>) -> Result<BTreeMap<String, i64>, StoreError> {
        history::figures(&self.readers, now).await
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last connection to close checkpoints the WAL into the database file.
        self.writer.close().await;
    }
}
