//! The job scheduler's ports, answered from the agenda: which jobs are due, and what a job does.
//!
//! The job scheduler asks every half second what is due, activates whatever it is given with a past `next_tick`, and
//! then writes that job's next tick. Here it is given exactly one entry per tick, and what it writes is ignored.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::RwLock;
use tokio_cron_scheduler::job::job_data::{JobAndNextTick, JobStoredData, JobType};
use tokio_cron_scheduler::store::{DataStore, InitStore};
use tokio_cron_scheduler::{
    Context, JobCode, JobSchedulerError, JobToRunAsync, MetaDataStorage, PinnedGetFuture, ToCode,
};
use uuid::Uuid;

use super::dispatch::Dispatcher;

/// Seconds since the epoch: in the past whatever the clock says, and not 0, which would delete the job.
const LONG_PAST: u64 = 1;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok(value)))
}

/// Answers what is due.
pub(super) struct AgendaStorage {
    dispatcher: Arc<Dispatcher>,
}

impl AgendaStorage {
    pub(super) fn new(dispatcher: Arc<Dispatcher>) -> Self {
        Self { dispatcher }
    }
}

impl InitStore for AgendaStorage {
    fn init(&mut self) -> Answer<()> {
        answer(())
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(true)
    }
}

impl DataStore<JobStoredData> for AgendaStorage {
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        // Asked after every activation in order to compute the next tick; without a schedule it computes none.
        answer(Some(JobStoredData {
            id: Some(id.into()),
            last_updated: None,
            last_tick: None,
            next_tick: LONG_PAST,
            job_type: JobType::Cron.into(),
            count: 0,
            extra: Vec::new(),
            ran: false,
            stopped: false,
            job: None,
            time_offset_seconds: 0,
        }))
    }

    fn add_or_update(&mut self, data: JobStoredData) -> Answer<()> {
        if let Some(id) = data.id.as_ref() {
            self.dispatcher.agenda().registered(id.into());
        }
        answer(())
    }

    fn delete(&mut self, _: Uuid) -> Answer<()> {
        // The agenda forgot the job before the job scheduler was asked to.
        answer(())
    }
}

impl MetaDataStorage for AgendaStorage {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let due = |name: Uuid| JobAndNextTick {
            id: Some(name.into()),
            job_type: JobType::Cron.into(),
            next_tick: LONG_PAST,
            last_tick: None,
        };
        answer(self.dispatcher.poll().into_iter().map(due).collect())
    }

    fn set_next_and_last_tick(&mut self, _: Uuid, _: Option<DateTime<Utc>>, _: Option<DateTime<Utc>>) -> Answer<()> {
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<Duration>> {
        answer(None)
    }
}

/// What jobs do: one closure for all of them, as it is told which job is meant.
pub(super) struct SharedCode {
    code: Arc<RwLock<Box<JobToRunAsync>>>,
}

impl SharedCode {
    pub(super) fn new(dispatcher: Arc<Dispatcher>) -> Self {
        // The job scheduler calls this in its only runner task, where a panic would end all jobs: it may do nothing
        // but make the future.
        let code: Box<JobToRunAsync> = Box::new(move |name, _| Box::pin(Arc::clone(&dispatcher).activate(name)));
        Self { code: Arc::new(RwLock::new(code)) }
    }
}

impl ToCode<Box<JobToRunAsync>> for SharedCode {
    fn init(&mut self, _: &Context) -> Answer<()> {
        answer(())
    }

    fn get(&mut self, _: Uuid) -> PinnedGetFuture<Box<JobToRunAsync>> {
        answer(Some(Arc::clone(&self.code)))
    }
}

impl JobCode for SharedCode {}
