//! Cron: one job a monitor.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::domain::MonitorId;
use crate::domain::schedule::Schedule;

/// The scheduler cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler cannot {action}: {reason}")]
pub struct SchedulerError {
    /// What was tried.
    pub action: &'static str,
    /// Why not.
    pub reason: String,
}

/// What happens at a tick.
pub trait OnTick: Send + Sync + 'static {
    /// A tick has come: called at its instant, never before. Each call runs on a task of its own.
    fn on_tick(self: Arc<Self>, monitor: MonitorId, tick: DateTime<Utc>) -> BoxFuture<'static, ()>;

    /// Ticks passed that could not be called in time (the machine slept, the clock jumped): `count` of them, the
    /// latest at `latest`. None of them is called.
    fn on_missed(self: Arc<Self>, monitor: MonitorId, latest: DateTime<Utc>, count: u32) -> BoxFuture<'static, ()>;
}

/// Holds one cron job a monitor.
#[async_trait]
pub trait Scheduler: Send + Sync + 'static {
    /// Adds jobs, or changes the schedules of those that are there; ticks after `after` count.
    ///
    /// # Errors
    /// When the jobs cannot be registered.
    async fn put_many(&self, jobs: Vec<(MonitorId, Schedule)>, after: DateTime<Utc>) -> Result<(), SchedulerError>;

    /// Removes a job. None of its ticks is called any more.
    async fn remove(&self, monitor: MonitorId);

    /// When the scheduler last looked for due jobs: what does not advance hangs.
    fn last_poll_at(&self) -> DateTime<Utc>;

    /// Ends all ticks.
    async fn shutdown(&self);
}
