//! The one writer: what is finished is decided and committed, as much as waits in one transaction.
//!
//! No flush timer: as soon as a commit is done, the next one takes whatever has come meanwhile. Nothing that was
//! decided to be written is dropped: a database that cannot be written is waited for. A batch that the database
//! refuses is applied one by one, so that one poisoned run harms no neighbour.

mod locked;
mod queue;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use watchbell_contract::Outcome;

use super::lease::Lease;
use crate::domain::{
    Current, Decision, DiscardReason, FinishedRun, MonitorId, Policy, decide_edit, decide_late_run, decide_run,
};
use crate::ports::{Applied, DecideWork, NodeIdentity, Store, StoreError, Work};

use locked::{LOCKED_WAIT, LockedOut};
pub(super) use queue::{Began, HandedIn, WorkQueue};

/// What decides the work of one batch.
type Decide = Box<DecideWork>;

/// More in one transaction gains nothing (`docs/adr/0002-one-writer-group-commit.md`), and makes readers of the
/// log wait longer.
const MAX_BATCH: usize = 2_048;
/// Of texts in one transaction: with long messages it would otherwise hold its locks for seconds.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// In a burst of checks that wait for nothing, a commit may be this late: a check that is called late is late, a commit
/// that is late is still true.
const LONGEST_COURTESY: Duration = Duration::from_millis(250);
const COURTESY_STEP: Duration = Duration::from_millis(10);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How any piece of work is decided under `policy`: what [`Store::apply`] takes.
pub fn decide_with(policy: Policy) -> impl Fn(&Work, &Current) -> Decision + Send + Sync {
    move |work, current| match work {
        Work::Run(run) => decide_run(run, current, &policy),
        Work::Edit { config_error, next_run_at, .. } => {
            decide_edit(current, config_error.as_deref(), *next_run_at, &policy)
        }
    }
}

/// Told of every piece of work that is done with.
pub(super) trait OnApplied: Send + Sync + 'static {
    /// Whether so many checks are to be called now that the processor should be theirs.
    fn are_checks_rushed(&self) -> bool;
    /// It was written or discarded.
    fn on_applied(&self, work: Work, applied: Applied);
    /// The database refuses it, and also a failed outcome in its place.
    fn on_refused(&self, work: Work, error: &StoreError);
}

pub(super) struct Writer {
    pub(super) store: Arc<dyn Store>,
    pub(super) node: NodeIdentity,
    pub(super) policy: Policy,
    pub(super) lease: Arc<Lease>,
    pub(super) listener: Arc<dyn OnApplied>,
    /// An attempt to write the batch was not answered, and may have been made.
    pub(super) is_doubtful: Arc<AtomicBool>,
}

impl Writer {
    /// Writes until the queue is closed and everything is written.
    pub(super) async fn run(self, mut queue: UnboundedReceiver<HandedIn>) {
        let mut postponed: Vec<HandedIn> = Vec::new();
        let mut locked = LockedOut::default();
        loop {
            let mut batch = std::mem::take(&mut postponed);
            batch.extend(locked.take_due());
            if batch.is_empty() {
                let received = tokio::time::timeout(locked.wait(), queue.recv_many(&mut batch, MAX_BATCH)).await;
                match received {
                    Ok(0) if locked.work.is_empty() => return,
                    Ok(0) if locked.is_given_up() => return self.give_up(locked.work),
                    Ok(0) => tokio::time::sleep(LOCKED_WAIT).await,
                    Ok(_) | Err(_) => {}
                }
                if batch.is_empty() {
                    continue;
                }
            }
            self.let_checks_go_first().await;
            // A monitor stands in a transaction once; a second piece of work sees what the first one wrote.
            let mut seen = HashSet::with_capacity(batch.len());
            let mut bytes = 0;
            (batch, postponed) = batch.into_iter().partition(|handed_in| {
                bytes += handed_in.bytes();
                (bytes <= MAX_BYTES || seen.is_empty()) && seen.insert(handed_in.work.monitor_id())
            });
            let began: HashMap<MonitorId, Began> =
                batch.iter().filter_map(|handed_in| Some((handed_in.work.monitor_id(), handed_in.began?))).collect();
            let decide = self.decide(began.clone());
            let left = self.write(batch.into_iter().map(|handed_in| handed_in.work).collect(), &decide).await;
            locked.add(left.into_iter().map(|work| HandedIn { began: began.get(&work.monitor_id()).copied(), work }));
        }
    }

    /// At the end, for what somebody's open transaction still keeps from being written.
    fn give_up(&self, locked: Vec<HandedIn>) {
        let error = StoreError::Unavailable {
            action: "write the outcome of a check".to_owned(),
            reason: "the row is locked by somebody's open transaction; end it".to_owned(),
        };
        for handed_in in locked {
            self.listener.on_refused(handed_in.work, &error);
        }
    }

    /// Decides at the moment of writing, which may come long after the check: the database may have been away.
    fn decide(&self, began: HashMap<MonitorId, Began>) -> Decide {
        let (lease, policy, is_doubtful) = (self.lease.clone(), self.policy.clone(), self.is_doubtful.clone());
        let decide = decide_with(policy.clone());
        Box::new(move |work, current| {
            let decision = match (work, began.get(&work.monitor_id())) {
                (Work::Run(run), Some(began)) if lease.is_lost_since(began.term) => {
                    decide_late_run(run, began.next_tick, current, &policy)
                }
                _ => decide(work, current),
            };
            match (work, decision) {
                (Work::Run(run), Decision::Discard(reason))
                    if is_doubtful.load(Ordering::Relaxed) && is_written_before(run, reason, current) =>
                {
                    Decision::Discard(DiscardReason::WrittenBefore)
                }
                (_, decision) => decision,
            }
        })
    }

    async fn let_checks_go_first(&self) {
        let since = Instant::now();
        while self.listener.are_checks_rushed() && since.elapsed() < LONGEST_COURTESY {
            tokio::time::sleep(COURTESY_STEP).await;
        }
    }

    /// Writes a batch; returns what somebody has locked out.
    async fn write(&self, batch: Vec<Work>, decide: &DecideWork) -> Vec<Work> {
        match self.apply_when_possible(&batch, decide).await {
            Ok(answers) => {
                let mut locked = Vec::new();
                for (work, applied) in batch.into_iter().zip(answers) {
                    match applied {
                        Applied::Locked => locked.push(work),
                        applied => self.listener.on_applied(work, applied),
                    }
                }
                locked
            }
            Err(error) if batch.len() == 1 => {
                let mut locked = Vec::new();
                for work in batch {
                    locked.extend(self.write_in_place_of(work, &error, decide).await);
                }
                locked
            }
            Err(error) => {
                tracing::warn!(%error, runs = batch.len(), "a batch was refused; its runs are written one by one");
                let mut locked = Vec::new();
                for work in batch {
                    locked.extend(Box::pin(self.write(vec![work], decide)).await);
                }
                locked
            }
        }
    }

    /// A run whose outcome the database refuses still counts: as a failure that says so. Returns the run where somebody
    /// has locked its row by now: it is all tried again.
    async fn write_in_place_of(&self, work: Work, error: &StoreError, decide: &DecideWork) -> Option<Work> {
        let substitute = match &work {
            Work::Run(run) => {
                let mut run = run.clone();
                run.outcome = Outcome::failed(format!("the outcome of this check could not be stored: {error}"));
                run.config_error = None;
                Work::Run(run)
            }
            Work::Edit { .. } => {
                self.listener.on_refused(work, error);
                return None;
            }
        };
        match self.apply_when_possible(&[substitute], decide).await.map(|answers| answers.into_iter().next()) {
            Ok(None | Some(Applied::Locked)) => return Some(work),
            Ok(Some(applied)) => self.listener.on_applied(work, applied),
            Err(error) => self.listener.on_refused(work, &error),
        }
        None
    }

    /// Applies, and tries again for as long as the database cannot be written at all.
    async fn apply_when_possible(&self, batch: &[Work], decide: &DecideWork) -> Result<Vec<Applied>, StoreError> {
        let mut wait = FIRST_WAIT;
        let mut is_reported = false;
        self.is_doubtful.store(false, Ordering::Relaxed);
        loop {
            match self.store.apply(&self.node, batch, decide).await {
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Unusable { .. })) => {
                    if !is_reported {
                        tracing::error!(%error, waiting = batch.len(), "outcomes cannot be written; they are kept and tried again");
                        is_reported = true;
                    }
                    self.is_doubtful.store(true, Ordering::Relaxed);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                result => {
                    if is_reported && result.is_ok() {
                        tracing::info!(written = batch.len(), "outcomes can be written again");
                    }
                    return result;
                }
            }
        }
    }
}

/// Whether what came before it is this very run, as far as the row tells.
fn is_written_before(run: &FinishedRun, reason: DiscardReason, current: &Current) -> bool {
    matches!(reason, DiscardReason::TickAlreadyApplied | DiscardReason::AlreadyRechecked | DiscardReason::LeaseLost)
        && current.row.as_ref().is_some_and(|row| row.last_run_at == Some(run.started_at))
}
