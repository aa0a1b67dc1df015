//! The one writer: what is finished is decided and committed, as much as waits in one transaction.
//!
//! No flush timer: as soon as a commit is done, the next one takes whatever has come meanwhile. Nothing that was
//! decided to be written is dropped: a database that cannot be written is waited for. A batch that the database
//! refuses is applied one by one, so that one poisoned run harms no neighbour.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use watchbell_contract::Outcome;

use super::lease::Lease;
use crate::domain::{Current, Decision, FinishedRun, MonitorId, Policy, decide_edit, decide_late_run, decide_run};
use crate::ports::{Applied, DecideWork, NodeIdentity, Store, StoreError, Work};

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
/// Between two looks at rows that were locked.
const LOCKED_WAIT: Duration = Duration::from_millis(500);
/// After so many looks it is told, and at the end given up.
const LOCKED_ATTEMPTS: u32 = 10;
/// While nothing waits for a time.
const LONG: Duration = Duration::from_secs(3600);

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

/// Under which lease a run began, and what it is worth if that was lost since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began {
    /// See [`Lease::term`].
    pub(super) term: u64,
    /// The tick after its own: then its outcome is too old.
    pub(super) next_tick: Option<DateTime<Utc>>,
}

/// A piece of work as it was handed in.
pub(super) struct HandedIn {
    work: Work,
    /// Of a run.
    began: Option<Began>,
}

impl HandedIn {
    /// What its texts come to, about.
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Run(run) => run.outcome.message.len() + run.config_error.as_ref().map_or(0, String::len),
            Work::Edit { config_error, .. } => config_error.as_ref().map_or(0, String::len),
        }
    }
}

/// Where work is handed in, until it is closed.
pub(super) struct WorkQueue {
    sender: Mutex<Option<UnboundedSender<HandedIn>>>,
    backlog: Mutex<Backlog>,
}

/// What was handed in and is not done with.
struct Backlog {
    count: usize,
    /// When the last of it was done with, or the first was handed in.
    progressed: Instant,
}

impl WorkQueue {
    /// A queue, and the end that the writer reads. Unbounded, since each monitor has one run at a time; and while the
    /// database is away there is no lease, so that no run begins.
    pub(super) fn new() -> (Self, UnboundedReceiver<HandedIn>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let backlog = Mutex::new(Backlog { count: 0, progressed: Instant::now() });
        (Self { sender: Mutex::new(Some(sender)), backlog }, receiver)
    }

    /// Hands in a run; false when the queue is closed.
    pub(super) fn send_run(&self, run: FinishedRun, began: Began) -> bool {
        self.hand_in(HandedIn { work: Work::Run(Box::new(run)), began: Some(began) })
    }

    /// Hands in what an edit owes; false when the queue is closed.
    pub(super) fn send(&self, work: Work) -> bool {
        self.hand_in(HandedIn { work, began: None })
    }

    fn hand_in(&self, work: HandedIn) -> bool {
        // Counted before it is sent: it may be done with before this returns.
        self.count(1);
        let is_sent = self.lock().as_ref().is_some_and(|sender| sender.send(work).is_ok());
        if !is_sent {
            self.count(-1);
        }
        is_sent
    }

    /// A piece of work is done with.
    pub(super) fn done(&self) {
        self.count(-1);
    }

    /// For how long work waits and none is done with; zero where none waits.
    pub(super) fn waits_for(&self) -> Duration {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.count == 0 { Duration::ZERO } else { backlog.progressed.elapsed() }
    }

    fn count(&self, by: isize) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if by < 0 || backlog.count == 0 {
            backlog.progressed = Instant::now();
        }
        backlog.count = backlog.count.saturating_add_signed(by);
    }

    /// Takes no more: the writer ends when it has written what is there.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnboundedSender<HandedIn>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work on rows that somebody has locked: it is tried again now and then, and holds up nothing else.
#[derive(Default)]
struct LockedOut {
    work: Vec<HandedIn>,
    tried_at: Option<Instant>,
    /// How often in a row there was something left.
    attempts: u32,
}

impl LockedOut {
    fn add(&mut self, work: impl Iterator<Item = HandedIn>) {
        let is_first = self.work.is_empty();
        self.work.extend(work);
        // What comes while others wait is looked at along with them: it neither counts as a look nor puts theirs off.
        if is_first && !self.work.is_empty() {
            if self.attempts == LOCKED_ATTEMPTS {
                tracing::warn!(
                    monitors = self.work.len(),
                    "outcomes of checks wait for rows that somebody's open transaction has locked; end that transaction"
                );
            }
            self.attempts = self.attempts.saturating_add(1);
            self.tried_at = Some(Instant::now());
        }
        if self.work.is_empty() {
            self.attempts = 0;
        }
    }

    fn wait(&self) -> Duration {
        if self.work.is_empty() { LONG } else { LOCKED_WAIT }
    }

    fn take_due(&mut self) -> Vec<HandedIn> {
        let is_due = self.tried_at.is_none_or(|at| at.elapsed() >= LOCKED_WAIT);
        if is_due { std::mem::take(&mut self.work) } else { Vec::new() }
    }

    fn is_given_up(&self) -> bool {
        self.attempts > LOCKED_ATTEMPTS
    }
}

pub(super) struct Writer {
    pub(super) store: Arc<dyn Store>,
    pub(super) node: NodeIdentity,
    pub(super) policy: Policy,
    pub(super) lease: Arc<Lease>,
    pub(super) listener: Arc<dyn OnApplied>,
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
        let (lease, policy) = (self.lease.clone(), self.policy.clone());
        let decide = decide_with(policy.clone());
        Box::new(move |work, current| match (work, began.get(&work.monitor_id())) {
            (Work::Run(run), Some(began)) if lease.is_lost_since(began.term) => {
                decide_late_run(run, began.next_tick, current, &policy)
            }
            _ => decide(work, current),
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
                for work in batch {
                    self.write_in_place_of(work, &error, decide).await;
                }
                Vec::new()
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

    /// A run whose outcome the database refuses still counts: as a failure that says so.
    async fn write_in_place_of(&self, work: Work, error: &StoreError, decide: &DecideWork) {
        let substitute = match &work {
            Work::Run(run) => {
                let mut run = run.clone();
                run.outcome = Outcome::failed(format!("the outcome of this check could not be stored: {error}"));
                run.config_error = None;
                Work::Run(run)
            }
            Work::Edit { .. } => return self.listener.on_refused(work, error),
        };
        let substitute = [substitute];
        match self.apply_when_possible(&substitute, decide).await {
            Ok(answers) => {
                for applied in answers {
                    match applied {
                        Applied::Locked => self.listener.on_refused(work.clone(), error),
                        applied => self.listener.on_applied(work.clone(), applied),
                    }
                }
            }
            Err(error) => self.listener.on_refused(work, &error),
        }
    }

    /// Applies, and tries again for as long as the database cannot be written at all.
    async fn apply_when_possible(&self, batch: &[Work], decide: &DecideWork) -> Result<Vec<Applied>, StoreError> {
        let mut wait = FIRST_WAIT;
        let mut is_reported = false;
        loop {
            match self.store.apply(&self.node, batch, decide).await {
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Unusable { .. })) => {
                    if !is_reported {
                        tracing::error!(%error, waiting = batch.len(), "outcomes cannot be written; they are kept and tried again");
                        is_reported = true;
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_in() -> HandedIn {
        HandedIn { work: Work::Edit { monitor: MonitorId(1), config_error: None, next_run_at: None }, began: None }
    }

    #[test]
    fn rows_that_are_locked_later_do_not_put_off_those_before_them() {
        let mut locked = LockedOut::default();
        locked.add([handed_in()].into_iter());
        let first_look = locked.tried_at;
        (0..100).for_each(|_| locked.add([handed_in()].into_iter()));
        assert_eq!(locked.tried_at, first_look);
        assert!(!locked.is_given_up(), "a look is a look, however much comes meanwhile");
        locked.tried_at = Instant::now().checked_sub(LOCKED_WAIT);
        assert_eq!(locked.take_due().len(), 101);
        locked.add(std::iter::empty());
        assert_eq!(locked.attempts, 0);
    }
}
