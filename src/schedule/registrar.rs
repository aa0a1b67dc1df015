//! The one actor that adds jobs to the job scheduler and removes them.
//!
//! Each takes a round trip over broadcast channels whose listeners end for ever when they fall behind, so there is
//! never more than one on its way.

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::{mpsc, oneshot};
use tokio_cron_scheduler::{JobBuilder, JobScheduler, JobSchedulerError};
use uuid::Uuid;

use super::ScheduleAdapterError;
use super::agenda::NewJob;
use super::dispatch::Dispatcher;

/// Requests that may wait; whoever comes later waits with them.
const WAITING_REQUESTS: usize = 64;
/// Any valid expression: the agenda decides when a job is due, this one is never asked.
const UNUSED_EXPRESSION: &str = "0 * * * * *";

enum Request {
    Add(Vec<NewJob>, oneshot::Sender<Result<(), ScheduleAdapterError>>),
    Remove(Uuid, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A handle to the actor.
pub(super) struct Registrar {
    requests: mpsc::Sender<Request>,
}

impl Registrar {
    pub(super) fn spawn(scheduler: JobScheduler, dispatcher: Arc<Dispatcher>) -> Self {
        let (requests, mut inbox) = mpsc::channel(WAITING_REQUESTS);
        tokio::spawn(async move {
            while let Some(request) = inbox.recv().await {
                match request {
                    Request::Add(jobs, done) => answer(done, add(&scheduler, &dispatcher, jobs).await),
                    Request::Remove(name, done) => {
                        remove(&scheduler, name).await;
                        answer(done, ());
                    }
                    Request::Stop(done) => {
                        answer(done, ());
                        break;
                    }
                }
            }
        });
        Self { requests }
    }

    /// Registers the jobs, all that can be; the first failure is returned.
    pub(super) async fn add(&self, jobs: Vec<NewJob>) -> Result<(), ScheduleAdapterError> {
        self.ask(|done| Request::Add(jobs, done)).await.unwrap_or(Err(ScheduleAdapterError::ShutDown))
    }

    pub(super) async fn remove(&self, name: Uuid) {
        self.ask(|done| Request::Remove(name, done)).await.unwrap_or(());
    }

    pub(super) async fn stop(&self) {
        self.ask(Request::Stop).await.unwrap_or(());
    }

    /// `None`: the actor has ended, after a shutdown.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.ok()?;
        answer.await.ok()
    }
}

/// Whoever asked may have gone; that is not the actor's concern.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    drop(done.send(value));
}

async fn add(scheduler: &JobScheduler, dispatcher: &Dispatcher, jobs: Vec<NewJob>) -> Result<(), ScheduleAdapterError> {
    let mut result = Ok(());
    // Read once: with 100,000 jobs the reading would be the dearest part.
    let expression = JobBuilder::new().with_schedule(UNUSED_EXPRESSION).map(|read| read.schedule);
    for job in jobs {
        let builder = expression.clone().map(|schedule| JobBuilder { schedule, ..JobBuilder::new() });
        if let Err(source) = add_one(scheduler, dispatcher, job, builder).await {
            dispatcher.agenda().remove(job.monitor);
            result = result.and(Err(ScheduleAdapterError::Add { monitor: job.monitor, source }));
        }
    }
    result
}

async fn add_one(
    scheduler: &JobScheduler,
    dispatcher: &Dispatcher,
    new: NewJob,
    builder: Result<JobBuilder<Utc>, JobSchedulerError>,
) -> Result<(), JobSchedulerError> {
    // The builder gives a fresh name each time: removals of the name before may still be on their way. What the job
    // does is not looked up here but in `SharedCode`.
    let job = builder?.with_cron_job_type().with_run_async(Box::new(|_, _| Box::pin(async {}))).build()?;
    if dispatcher.agenda().name(new, job.guid()) {
        scheduler.add(job).await?;
    }
    Ok(())
}

async fn remove(scheduler: &JobScheduler, name: Uuid) {
    if let Err(error) = scheduler.remove(&name).await {
        tracing::warn!(%error, "the job scheduler did not remove a job; it calls nothing any more");
    }
}
