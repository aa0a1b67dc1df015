//! Calls the engine at every monitor's ticks: each monitor is one job of one tokio-cron-scheduler.
//!
//! That crate is the registry of jobs and the dispatcher; when a job is due is decided here, behind its storage port,
//! with our own schedules (`docs/adr/0001-cron-jobs-on-tokio-cron-scheduler.md` says why). Ticks are handed over
//! some seconds ahead, and each then sleeps until its very instant.
//!
//! Architecture invariant: nothing here knows what a tick is for. Failures: a lost activation is found and run by the
//! watchdog; ticks that could not be called in time are told to `OnTick::on_missed`, never silently dropped.

mod agenda;
mod dispatch;
mod registrar;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_cron_scheduler::{JobScheduler, JobSchedulerError, SimpleNotificationCode, SimpleNotificationStore};

use crate::domain::MonitorId;
use crate::domain::schedule::Schedule;
use crate::ports::{Clock, OnTick, Scheduler, SchedulerCounters, SchedulerError, StartScheduler};
use dispatch::Dispatcher;
use registrar::Registrar;
use storage::{AgendaStorage, SharedCode};

/// Bounds of the capacity of the job scheduler's broadcast channels, which take about 1 KB for each place.
const CHANNEL_CAPACITY: std::ops::RangeInclusive<usize> = 4_096..=32_768;
/// A poll hands over at most this part of the capacity, as one run sends up to three messages through one of the
/// channels. Four polls may pile up, two seconds, before activations are lost and the watchdog has to step in.
const BATCH_PART: usize = 4;

pub use agenda::MAX_COUNTED_MISSES;

/// Why the scheduler could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleAdapterError {
    /// The job scheduler behind did not start.
    #[error("cannot start the job scheduler")]
    Start(#[source] JobSchedulerError),
    /// A monitor's job could not be registered; the monitor has no job now.
    #[error("cannot register the job of monitor `{}`", monitor.0)]
    Add {
        /// Whose job.
        monitor: MonitorId,
        /// The job scheduler's reason.
        #[source]
        source: JobSchedulerError,
    },
    /// The scheduler was shut down.
    #[error("the job scheduler is shut down")]
    ShutDown,
}

/// All jobs of this process. Dropping it ends nothing: call `shutdown`.
pub struct CronScheduler {
    dispatcher: Arc<Dispatcher>,
    registrar: Registrar,
    scheduler: JobScheduler,
}

impl CronScheduler {
    /// Starts without jobs, with room for about `expected_jobs` of them to be due at one instant; more are called as
    /// well, and later. One per process: the crate behind never frees a scheduler's tasks.
    pub async fn start(
        on_tick: Arc<dyn OnTick>,
        clock: Arc<dyn Clock>,
        expected_jobs: usize,
    ) -> Result<Self, ScheduleAdapterError> {
        let capacity = expected_jobs.next_power_of_two().clamp(*CHANNEL_CAPACITY.start(), *CHANNEL_CAPACITY.end());
        let dispatcher = Arc::new(Dispatcher::new(on_tick, clock, capacity / BATCH_PART));
        let scheduler = JobScheduler::new_with_storage_and_code(
            Box::new(AgendaStorage::new(Arc::clone(&dispatcher))),
            Box::<SimpleNotificationStore>::default(),
            Box::new(SharedCode::new(Arc::clone(&dispatcher))),
            Box::<SimpleNotificationCode>::default(),
            capacity,
        )
        .await
        .map_err(ScheduleAdapterError::Start)?;
        scheduler.start().await.map_err(ScheduleAdapterError::Start)?;
        let registrar = Registrar::spawn(scheduler.clone(), Arc::clone(&dispatcher));
        Ok(Self { dispatcher, registrar, scheduler })
    }

    /// Adds the monitor's job, or changes its schedule: ticks after `after` count, also those that lie in the past, of
    /// which the latest is called and the others are told as missed. An unchanged schedule changes nothing. Returns
    /// the next tick.
    pub async fn put(
        &self,
        monitor: MonitorId,
        schedule: Schedule,
        after: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, ScheduleAdapterError> {
        self.put_many(vec![(monitor, schedule, after)]).await?;
        Ok(self.next_tick(monitor))
    }

    /// Like `put`, for many monitors at once.
    pub async fn put_many(&self, jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> Result<(), ScheduleAdapterError> {
        let new = self.dispatcher.agenda().put_many(jobs);
        if new.is_empty() { Ok(()) } else { self.registrar.add(new).await }
    }

    /// Ends the monitor's job: no tick of it is called from now on. A call that is going on is not interrupted.
    pub async fn remove(&self, monitor: MonitorId) {
        let job = self.dispatcher.agenda().remove(monitor);
        if let Some(job) = job {
            self.registrar.remove(job).await;
        }
    }

    /// The monitor's earliest tick that was not called yet.
    pub fn next_tick(&self, monitor: MonitorId) -> Option<DateTime<Utc>> {
        self.dispatcher.agenda().next_tick(monitor)
    }

    /// What was done so far.
    pub fn counters(&self) -> SchedulerCounters {
        self.dispatcher.agenda().counters()
    }

    /// Ends all calling: after this no tick is called any more. Calls that are going on are not interrupted.
    pub async fn shutdown(&self) {
        self.dispatcher.agenda().stop();
        self.registrar.stop().await;
        if let Err(error) = self.scheduler.clone().shutdown().await {
            tracing::warn!(%error, "the job scheduler did not shut down cleanly; it calls nothing any more");
        }
    }
}

/// What starts tokio-cron-scheduler for an engine, on the engine's clock.
pub fn cron() -> StartScheduler {
    Box::new(|on_tick, clock, monitors| {
        Box::pin(async move {
            let started = CronScheduler::start(on_tick, clock, monitors).await;
            let scheduler = started.map_err(|error| SchedulerError {
                action: "start the scheduler".to_owned(),
                source: Box::new(error),
            })?;
            Ok(Arc::new(scheduler) as Arc<dyn Scheduler>)
        })
    })
}

#[async_trait]
impl Scheduler for CronScheduler {
    async fn put_many(&self, jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> Result<(), SchedulerError> {
        let action = format!("register {} cron jobs", jobs.len());
        Self::put_many(self, jobs).await.map_err(|error| SchedulerError { action, source: Box::new(error) })
    }

    async fn remove(&self, monitor: MonitorId) {
        Self::remove(self, monitor).await;
    }

    fn counters(&self) -> SchedulerCounters {
        Self::counters(self)
    }

    async fn shutdown(&self) {
        Self::shutdown(self).await;
    }
}
