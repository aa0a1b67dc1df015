//! Cron: one job a monitor.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::clock::Clock;
use crate::domain::MonitorId;
use crate::domain::schedule::Schedule;

/// What is to happen at a tick.
pub trait OnTick: Send + Sync + 'static {
    /// Called at the tick's instant, never before it, on a task of its own. It must not block its thread.
    fn on_tick(self: Arc<Self>, monitor: MonitorId, tick: DateTime<Utc>) -> BoxFuture<'static, ()>;

    /// Tells of ticks that are not called, since a later one is due as well: after a suspend, or a clock set forward.
    fn on_missed(&self, missed: MissedTicks);
}

/// Ticks of one monitor that were not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedTicks {
    /// Whose ticks.
    pub monitor: MonitorId,
    /// The first of them.
    pub from: DateTime<Utc>,
    /// The last of them.
    pub to: DateTime<Utc>,
    /// How many; the adapter may stop counting at a bound of its own.
    pub count: u64,
}

/// What the scheduler has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerCounters {
    /// Monitors that have a job now.
    pub jobs: u64,
    /// Ticks called.
    pub dispatched: u64,
    /// Those among them whose activation was lost and that the watchdog ran.
    pub recovered_by_watchdog: u64,
    /// Ticks told as missed.
    pub missed: u64,
    /// How often the wall clock was set back by more than two seconds.
    pub clock_jumps_back: u64,
    /// When due ticks were last looked for, on the wall clock; `None` before the first time.
    pub last_poll_at: Option<DateTime<Utc>>,
    /// How long ago that was, whatever the wall clock did since; well above a second: the scheduler hangs.
    pub since_last_poll: Option<Duration>,
}

/// The scheduler cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct SchedulerError {
    /// What was tried.
    pub action: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Holds one cron job a monitor.
#[async_trait]
pub trait Scheduler: Send + Sync + 'static {
    /// Adds jobs, or changes their schedules; each monitor's ticks after the given instant count. An unchanged
    /// schedule changes nothing.
    ///
    /// # Errors
    /// The first job that cannot be registered; the others are.
    async fn put_many(&self, jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> Result<(), SchedulerError>;

    /// Removes a job: no tick of it is called from now on.
    async fn remove(&self, monitor: MonitorId);

    /// What was done so far.
    fn counters(&self) -> SchedulerCounters;

    /// Ends all ticks.
    async fn shutdown(&self);
}

/// Starts the scheduler that calls what it is given, at instants of the clock it is given; told how many monitors there
/// are now.
pub type StartScheduler = Box<
    dyn FnOnce(Arc<dyn OnTick>, Arc<dyn Clock>, usize) -> BoxFuture<'static, Result<Arc<dyn Scheduler>, SchedulerError>>
        + Send,
>;
