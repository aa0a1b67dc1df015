//! Where finished work is handed in, and how long it has been waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::domain::FinishedRun;
use crate::ports::Work;

/// Under which lease a run began, and what it is worth if that was lost since.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Began {
    /// See [`crate::engine::lease::Lease::term`].
    pub(in crate::engine) term: u64,
    /// The tick after its own: then its outcome is too old.
    pub(in crate::engine) next_tick: Option<DateTime<Utc>>,
}

/// A piece of work as it was handed in.
pub(in crate::engine) struct HandedIn {
    pub(super) work: Work,
    /// Of a run.
    pub(super) began: Option<Began>,
}

impl HandedIn {
    /// What its texts come to, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.work {
            Work::Run(run) => run.outcome.message.len() + run.config_error.as_ref().map_or(0, String::len),
            Work::Edit { config_error, .. } => config_error.as_ref().map_or(0, String::len),
        }
    }
}

/// Where work is handed in, until it is closed.
pub(in crate::engine) struct WorkQueue {
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
    pub(in crate::engine) fn new() -> (Self, UnboundedReceiver<HandedIn>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let backlog = Mutex::new(Backlog { count: 0, progressed: Instant::now() });
        (Self { sender: Mutex::new(Some(sender)), backlog }, receiver)
    }

    /// Hands in a run; false when the queue is closed.
    pub(in crate::engine) fn send_run(&self, run: FinishedRun, began: Began) -> bool {
        self.hand_in(HandedIn { work: Work::Run(Box::new(run)), began: Some(began) })
    }

    /// Hands in what an edit owes; false when the queue is closed.
    pub(in crate::engine) fn send(&self, work: Work) -> bool {
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
    pub(in crate::engine) fn done(&self) {
        self.count(-1);
    }

    /// For how long work waits and none is done with; zero where none waits.
    pub(in crate::engine) fn waits_for(&self) -> Duration {
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
    pub(in crate::engine) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnboundedSender<HandedIn>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
