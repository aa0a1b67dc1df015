//! What this node knows of the monitors: every row as last read, and whether a run of it is going on.
//!
//! A mirror of the table, brought up to date with the change log before each check. It decides nothing: what is
//! written is decided inside the transaction, on the row itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::inspect::Timing;
use crate::domain::{Cause, MonitorId, MonitorRow};

/// A run that is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) monitor: MonitorId,
    pub(super) cause: Cause,
    pub(super) tick: Option<DateTime<Utc>>,
    /// Ticks before `tick` that nobody was there to run.
    pub(super) missed: u32,
    /// When it was asked for: the row is read as it was committed then, or later.
    pub(super) asked_at: Instant,
}

impl Request {
    /// A run that is asked for now.
    pub(super) fn now(monitor: MonitorId, cause: Cause, tick: Option<DateTime<Utc>>, missed: u32) -> Self {
        Self { monitor, cause, tick, missed, asked_at: Instant::now() }
    }
}

/// A row, when it runs, and whether here.
#[derive(Debug, Clone)]
pub(super) struct KnownRow {
    pub(super) row: Arc<MonitorRow>,
    pub(super) timing: Arc<Timing>,
    pub(super) share: Share,
}

/// Whether a monitor is this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Share {
    /// It is run here.
    Ours,
    /// No node may run it; this one says why.
    Unplaced(Arc<str>),
    /// Another node runs it, or will when it is back.
    Others {
        /// Whether it may be asked here all the same, when something here waits for what it says.
        may_run_here: bool,
    },
}

impl Share {
    /// Whether this node looks after the monitor.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self, Share::Others { .. })
    }

    /// Whether a run with this cause may begin here.
    pub(super) fn allows(&self, cause: Cause) -> bool {
        match self {
            Share::Ours | Share::Unplaced(_) => true,
            Share::Others { may_run_here } => *may_run_here && cause == Cause::Dependency,
        }
    }

    /// Why no node may run it.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Share::Unplaced(fault) => Some(fault.to_string()),
            Share::Ours | Share::Others { .. } => None,
        }
    }
}

struct Entry {
    known: KnownRow,
    is_running: bool,
    /// Asked for while a run was going on: it follows that run.
    follows: Option<Box<Request>>,
    /// Ticks that came while a run was going on.
    skipped: u32,
    /// Ticks that are not made up for, to be counted with the next run.
    missed: u32,
}

/// Whether a requested run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// It begins: [`Roster::end`] must be called.
    Now,
    /// A run is going on: a tick is skipped, anything else follows it.
    Busy,
    /// There is no such active row, or it is not run here.
    Not,
}

#[derive(Default)]
pub(super) struct Roster {
    entries: Mutex<HashMap<MonitorId, Entry>>,
}

impl Roster {
    /// Takes in a row as read; returns the one known before.
    pub(super) fn put(&self, known: KnownRow) -> Option<KnownRow> {
        let mut entries = self.lock();
        match entries.get_mut(&known.row.id) {
            Some(entry) => Some(std::mem::replace(&mut entry.known, known)),
            None => {
                let entry = Entry { known, is_running: false, follows: None, skipped: 0, missed: 0 };
                entries.insert(entry.known.row.id, entry);
                None
            }
        }
    }

    pub(super) fn remove(&self, monitor: MonitorId) -> Option<KnownRow> {
        self.lock().remove(&monitor).map(|entry| entry.known)
    }

    pub(super) fn get(&self, monitor: MonitorId) -> Option<KnownRow> {
        self.lock().get(&monitor).map(|entry| entry.known.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many active monitors are this node's.
    pub(super) fn owned(&self) -> u64 {
        let entries = self.lock();
        entries.values().filter(|entry| entry.known.row.is_active && entry.known.share.is_ours()).count() as u64
    }

    /// Gives the monitor to another node; true when it was this one's.
    pub(super) fn give_away(&self, monitor: MonitorId, share: Share) -> bool {
        match self.lock().get_mut(&monitor) {
            Some(entry) => {
                // What waits for the end of a run is asked for by whoever has it now.
                entry.follows = None;
                std::mem::replace(&mut entry.known.share, share).is_ours()
            }
            None => false,
        }
    }

    pub(super) fn ids(&self) -> Vec<MonitorId> {
        self.lock().keys().copied().collect()
    }

    pub(super) fn begin(&self, request: Request) -> Begin {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&request.monitor) else { return Begin::Not };
        if !entry.known.row.is_active || !entry.known.share.allows(request.cause) {
            return Begin::Not;
        }
        if !entry.is_running {
            entry.is_running = true;
            return Begin::Now;
        }
        if request.tick.is_some() && request.cause == Cause::Schedule {
            entry.skipped = entry.skipped.saturating_add(1);
        } else if entry.follows.as_ref().is_none_or(|follows| follows.tick.is_none()) {
            // A missed tick that waits already says more than a mere recheck.
            entry.follows = Some(Box::new(request));
        }
        Begin::Busy
    }

    /// Ends a run; returns what was asked for meanwhile.
    pub(super) fn end(&self, monitor: MonitorId) -> Option<Request> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&monitor)?;
        entry.is_running = false;
        entry.follows.take().map(|follows| *follows)
    }

    /// Notes ticks that nobody will make up for.
    pub(super) fn count_missed(&self, monitor: MonitorId, count: u32) {
        if let Some(entry) = self.lock().get_mut(&monitor) {
            entry.missed = entry.missed.saturating_add(count);
        }
    }

    /// Gives back counts that were not written after all.
    pub(super) fn restore_counts(&self, monitor: MonitorId, skipped: u32, missed: u32) {
        if let Some(entry) = self.lock().get_mut(&monitor) {
            entry.skipped = entry.skipped.saturating_add(skipped);
            entry.missed = entry.missed.saturating_add(missed);
        }
    }

    /// Takes the counts of skipped and missed ticks, to be written with a run.
    pub(super) fn take_counts(&self, monitor: MonitorId) -> (u32, u32) {
        self.lock()
            .get_mut(&monitor)
            .map_or((0, 0), |entry| (std::mem::take(&mut entry.skipped), std::mem::take(&mut entry.missed)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MonitorId, Entry>> {
        // Nothing panics while it holds the lock; if something did, the map is still whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
