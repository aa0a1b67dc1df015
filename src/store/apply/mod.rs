//! Many runs, one transaction: read what they meet, decide, write what they owe.
//!
//! The rows are locked before they are looked at, in the order of their ids, so that what is decided on is what is
//! written to; the guard of the UPDATE can then only fail through an error of ours, and if it does, nothing of the batch
//! is written. A row that somebody else has locked (a person's open transaction) is left out: it must not hold up all
//! others, and is asked for again. On SQLite `BEGIN IMMEDIATE` takes the one lock for writing at once.

mod reading;
mod writing;

use chrono::{DateTime, Utc};

use super::database::{Database, explain, is_deadlock};
use super::rules::RulesCache;
use crate::domain::{Change, Current, Decision, DiscardReason};
use crate::ports::{Applied, DecideWork, NodeIdentity, StoreError, Work};

use reading::Met;
#[cfg(test)]
pub(super) use reading::{LOCK_ROWS, READ_INCIDENTS, READ_TOLD};
#[cfg(test)]
pub(super) use writing::{ROW_COLUMNS, UPDATE_ROWS};

const ACTION: &str = "write the outcomes of checks";
/// Of transactions that are in each other's way a server ends one, which is then to be tried again at once.
const MOST_ATTEMPTS: u32 = 5;

pub(super) async fn apply(
    database: &Database,
    clock: &(dyn Fn() -> DateTime<Utc> + Sync),
    node: &NodeIdentity,
    work: &[Work],
    cache: &RulesCache,
    decide: &DecideWork,
) -> Result<Vec<Applied>, StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match try_apply(database, clock, node, work, cache, decide).await {
            Ok(answers) => return Ok(answers),
            Err(Trouble::Database(error)) if is_deadlock(&error) && attempts < MOST_ATTEMPTS => {}
            Err(Trouble::Database(error)) => return Err(explain(ACTION, &error)),
            Err(Trouble::NotAsRead(reason)) => return Err(StoreError::Refused { action: ACTION.to_owned(), reason }),
        }
    }
}

/// Why a batch was not written.
enum Trouble {
    /// A row was not as it had just been read.
    NotAsRead(String),
    /// Anything else.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Trouble::Database(error)
    }
}

async fn try_apply(
    database: &Database,
    clock: &(dyn Fn() -> DateTime<Utc> + Sync),
    node: &NodeIdentity,
    work: &[Work],
    cache: &RulesCache,
    decide: &DecideWork,
) -> Result<Vec<Applied>, Trouble> {
    let mut transaction = database.transaction().await?;
    let met = Met::read(&mut transaction, work, cache).await?;
    // Not before: a process may be stopped for a while at any point, and what is read then is later than its now.
    let now = clock();
    let decided = decide_all(work, met, now, decide);
    let changes: Vec<(&Work, &Change)> =
        work.iter().zip(&decided).filter_map(|(piece, decided)| Some((piece, decided.change()?))).collect();
    if !changes.is_empty() {
        writing::write(&mut transaction, now, node, &changes).await?;
    }
    transaction.commit().await?;
    Ok(decided.into_iter().map(Decided::into_answer).collect())
}

/// What is to become of a piece of work.
enum Decided {
    Write(Box<Change>),
    Discard(DiscardReason),
    Locked,
}

impl Decided {
    fn change(&self) -> Option<&Change> {
        match self {
            Decided::Write(change) => Some(change),
            Decided::Discard(_) | Decided::Locked => None,
        }
    }

    fn into_answer(self) -> Applied {
        match self {
            Decided::Write(change) => answer(&change),
            Decided::Discard(reason) => Applied::Discarded(reason),
            Decided::Locked => Applied::Locked,
        }
    }
}

fn decide_all(work: &[Work], mut met: Met, now: DateTime<Utc>, decide: &DecideWork) -> Vec<Decided> {
    let decide_one = |piece: &Work| {
        let id = piece.monitor_id();
        if met.locked.contains(&id) {
            return Decided::Locked;
        }
        let current = Current {
            row: met.rows.remove(&id),
            incident: met.incidents.remove(&id),
            now,
            rules: met.rules.clone(),
            dependents: met.dependents.remove(&id).unwrap_or_default(),
        };
        match decide(piece, &current) {
            Decision::Discard(reason) => Decided::Discard(reason),
            Decision::Apply(change) => Decided::Write(change),
        }
    };
    work.iter().map(decide_one).collect()
}

fn answer(change: &Change) -> Applied {
    Applied::Written {
        state_before: change.state_before,
        state_after: change.row.as_ref().map(|row| row.state),
        notification_type: change.notification_type,
        queued: change.notifications.len(),
        is_recheck_asked_for: change.row.as_ref().is_some_and(|row| row.last_run_at.is_none()),
    }
}
