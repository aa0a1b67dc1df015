//! A store whose database can be taken away from one node of several, and given back; and one that answers as a test says
//! when outcomes are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use watchbell::domain::commands::{Acknowledge, IncidentRecord, NewSilence, SilenceRecord, Summary};
use watchbell::domain::oversight::{DayFigures, OutboxState};
use watchbell::domain::rules::{RuleTable, Rules};
use watchbell::domain::{
    HistoryPolicy, MonitorId, MonitorRow, NewNotification, NotificationId, OutboxRow, Settlement, Span,
};
use watchbell::ports::{
    Applied, ChangeCursor, Changes, Columns, ComposeAcknowledgment, DecideWork, HistoryStep, LaneClaim, LiveNodes,
    NewMonitor, NodeIdentity, NodeReport, OutboxFilter, Outlook, PlanNotifications, PlanRequest, Renewed, Retried,
    Settled, Store, StoreError, Story, Trial, Work,
};
use watchbell_contract::async_trait;

/// See the module.
pub(super) struct Proxy {
    store: Arc<dyn Store>,
    trouble: Arc<Trouble>,
    on_apply: Option<Box<OnApply>>,
}

/// What the way to the database does.
#[derive(Default)]
pub(super) struct Trouble {
    /// Nothing gets through.
    pub(super) is_away: Arc<AtomicBool>,
    /// So many renewals of a lease are made, and not answered.
    pub(super) loses_renewals: AtomicU32,
    /// Every other time that outcomes are written, that is not answered.
    pub(super) loses_answers: AtomicBool,
    /// How often they were written.
    applied: AtomicU32,
}

/// What is answered to outcomes in the database's place; `None`: the database is asked.
pub(super) type OnApply = dyn Fn(&[Work]) -> Option<Result<Vec<Applied>, StoreError>> + Send + Sync;

impl Proxy {
    /// The store, and what stands between it and the node.
    pub(super) fn before(store: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<Trouble>) {
        let trouble = Arc::new(Trouble::default());
        (Arc::new(Self { store, trouble: trouble.clone(), on_apply: None }), trouble)
    }

    /// The store, where outcomes meet `on_apply` first.
    pub(super) fn answering(store: Arc<dyn Store>, on_apply: Box<OnApply>) -> Arc<dyn Store> {
        Arc::new(Self { store, trouble: Arc::default(), on_apply: Some(on_apply) })
    }

    fn there(&self) -> Result<&dyn Store, StoreError> {
        match self.trouble.is_away.load(Ordering::SeqCst) {
            false => Ok(self.store.as_ref()),
            true => Err(away()),
        }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable { action: "reach it".to_owned(), reason: "it is away".to_owned() }
}

/// Each method of the store, handed on while the database is there.
macro_rules! handed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Proxy {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.there()?.$name($($argument),*).await
            })*

            async fn apply(
                &self,
                node: &NodeIdentity,
                work: &[Work],
                decide: &DecideWork,
            ) -> Result<Vec<Applied>, StoreError> {
                match self.on_apply.as_ref().and_then(|answer| answer(work)) {
                    Some(answer) => answer,
                    None => {
                        let answers = self.there()?.apply(node, work, decide).await?;
                        let is_odd = self.trouble.applied.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
                        match is_odd && self.trouble.loses_answers.load(Ordering::SeqCst) {
                            true => Err(away()),
                            false => Ok(answers),
                        }
                    }
                }
            }

            async fn renew_node(&self, node: &NodeIdentity, report: &NodeReport) -> Result<Renewed, StoreError> {
                let renewed = self.there()?.renew_node(node, report).await?;
                let is_lost = |left: u32| left.checked_sub(1);
                match self.trouble.loses_renewals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_lost) {
                    Ok(_) => Err(away()),
                    Err(_) => Ok(renewed),
                }
            }

            async fn close(&self) {}
        }
    };
}

handed_on! {
    fn change_cursor() -> ChangeCursor;
    fn changes(after: ChangeCursor, limit: u32) -> Changes;
    fn monitors(after: MonitorId, limit: u32) -> Vec<MonitorRow>;
    fn monitor(id: MonitorId) -> Option<MonitorRow>;
    fn mismatched(limit: u32) -> Vec<MonitorId>;
    fn prune_changes(keep: u32) -> ();
    fn keep_history(owner: &str, now: DateTime<Utc>, policy: &HistoryPolicy, limit: u32) -> HistoryStep;
    fn rollups(id: MonitorId, span: Span, limit: u32) -> Vec<Columns>;
    fn rules() -> Arc<Rules>;
    fn report_rules(reports: &[(RuleTable, i64, Option<String>)]) -> bool;
    fn outlook() -> Outlook;
    fn plan_notifications(request: &PlanRequest, plan: &PlanNotifications) -> usize;
    fn claim_notifications(owner: &str, now: DateTime<Utc>, lease_until: DateTime<Utc>, lapsed_before: DateTime<Utc>, lanes: &[LaneClaim]) -> Vec<OutboxRow>;
    fn settle_notifications(owner: &str, settlements: &[(NotificationId, Settlement)]) -> Settled;
    fn release_leases_of_others(owner: &str) -> u64;
    fn inbox_cursor(channel: &str, url: &str) -> Option<String>;
    fn set_inbox_cursor(channel: &str, url: &str, cursor: &str) -> ();
    fn acknowledge(request: &Acknowledge, now: DateTime<Utc>) -> Option<IncidentRecord>;
    fn add_silence(silence: &NewSilence) -> SilenceRecord;
    fn end_silences(monitor: MonitorId, now: DateTime<Utc>) -> Vec<i64>;
    fn summary(now: DateTime<Utc>, limit: u32) -> Summary;
    fn tell_acknowledgments(now: DateTime<Utc>, limit: u32, compose: &ComposeAcknowledgment) -> usize;
    fn live_nodes() -> LiveNodes;
    fn remove_node(node: &NodeIdentity) -> ();
    fn release_leases_of_gone(gone_before: DateTime<Utc>) -> u64;
    fn release_unknown(owner: &str, known: &[NotificationId]) -> u64;
    fn node_records() -> Vec<Columns>;
    fn installation_uuid() -> String;
    fn queue_notices(notices: &[(String, NewNotification)]) -> u64;
    fn outbox_state(failed_since: DateTime<Utc>) -> OutboxState;
    fn day_figures(since: DateTime<Utc>) -> DayFigures;
    fn find_monitors(text: &str) -> Vec<MonitorId>;
    fn monitor_status(limit: u32) -> Vec<Columns>;
    fn monitor_record(id: MonitorId) -> Option<Columns>;
    fn history(id: MonitorId, limit: u32) -> Vec<Columns>;
    fn incidents(id: MonitorId, limit: u32) -> Vec<Columns>;
    fn notifications(id: MonitorId, limit: u32) -> Vec<Columns>;
    fn story(id: MonitorId, at: Option<DateTime<Utc>>) -> Option<Story>;
    fn rule_record(table: RuleTable, id: i64) -> Option<Columns>;
    fn outbox(filter: &OutboxFilter) -> Vec<Columns>;
    fn lane_figures(now: DateTime<Utc>) -> Vec<Columns>;
    fn given_up(recipient: Option<&str>, after: NotificationId, limit: u32) -> Vec<NotificationId>;
    fn retry_notifications(now: DateTime<Utc>, ids: &[NotificationId]) -> Vec<Retried>;
    fn queue_trial(owner: &str, trial: &Trial) -> OutboxRow;
    fn add_monitor(monitor: &NewMonitor) -> MonitorId;
    fn set_active(id: MonitorId, is_active: bool) -> ();
    fn figures(now: DateTime<Utc>) -> BTreeMap<String, i64>;
}
