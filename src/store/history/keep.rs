//! The order in which history is kept in order, and by whom.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::{prune, rollup};
use crate::domain::{Gathering, HistoryPolicy, Span};
use crate::ports::{HistoryStep, StoreError};
use crate::store::database::{Database, Dialect, explain, query};
use crate::store::postgres::upkeep::{self as partitions, Partitions};

/// So long others leave it to the node that does it; it says anew that it does after half of that. More than the limit
/// of a statement.
const TURN: TimeDelta = TimeDelta::seconds(60);
/// Figures lie far apart on the disk, runs side by side: fewer of them go at once.
const FIGURES_OF_LIMIT: u32 = 4;

/// In steps, where there is something to sum up in each of them.
const FORGET_EVERY: u32 = 8;

/// What a node remembers between steps. Losing it costs time only.
#[derive(Debug, Default)]
pub(in crate::store) struct Keeping {
    state: Mutex<State>,
    partitions: Partitions,
}

#[derive(Debug, Default)]
struct State {
    /// Since something was forgotten.
    steps: u32,
    gathering: Option<Gathering>,
    longest_run: Option<(DateTime<Utc>, TimeDelta)>,
}

impl Keeping {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being read, taken out.
    pub(super) fn gathering(&self) -> Option<Gathering> {
        self.state().gathering.take()
    }

    pub(super) fn keep_gathering(&self, gathering: Gathering) {
        self.state().gathering = Some(gathering);
    }

    /// Looking for what is old costs some round trips; with much to sum up, it is not done each time.
    fn is_time_to_forget(&self) -> bool {
        let mut state = self.state();
        state.steps = (state.steps + 1) % FORGET_EVERY;
        state.steps == 0
    }

    /// How long runs may take, where that was found out after `since`.
    pub(super) fn longest_run(&self, since: DateTime<Utc>) -> Option<TimeDelta> {
        self.state().longest_run.filter(|(at, _)| *at > since).map(|(_, longest)| longest)
    }

    pub(super) fn note_longest_run(&self, now: DateTime<Utc>, longest: TimeDelta) {
        self.state().longest_run = Some((now, longest));
    }
}

/// See [`crate::ports::Store::keep_history`].
pub(in crate::store) async fn keep(
    database: &Database,
    keeping: &Keeping,
    owner: &str,
    now: DateTime<Utc>,
    policy: &HistoryPolicy,
    limit: u32,
) -> Result<HistoryStep, StoreError> {
    step(database, keeping, owner, now, policy, limit).await.map_err(|error| explain("keep history in order", &error))
}

async fn step(
    database: &Database,
    keeping: &Keeping,
    owner: &str,
    now: DateTime<Utc>,
    policy: &HistoryPolicy,
    limit: u32,
) -> Result<HistoryStep, sqlx::Error> {
    if database.dialect() != Dialect::Sqlite && !take_turn(database, owner).await? {
        return Ok(HistoryStep::default());
    }
    let rolled_up = rollup::step(database, keeping, now).await?;
    let mut step = HistoryStep { rolled_up: rolled_up.written, has_more: rolled_up.has_more, ..HistoryStep::default() };
    if rolled_up.has_more && !keeping.is_time_to_forget() {
        return Ok(step);
    }
    let before = now - policy.runs;
    // What is not summed up yet stays.
    let mut runs_before = rollup::done_until(database, Span::Hour).await?.map(|done| before.min(done));
    if database.dialect() == Dialect::Postgres {
        let dropped = partitions::keep(database, &keeping.partitions, now, runs_before).await?;
        step.dropped_partitions = dropped;
        step.has_more |= dropped > 0;
        // The rest of the day goes with its partition, and where one went, the next may.
        runs_before = runs_before.filter(|_| dropped == 0).map(|before| Span::Day.start(before));
    }
    let hours_before = match policy.hours {
        Some(kept) => rollup::done_until(database, Span::Day).await?.map(|done| done.min(now - kept)),
        None => None,
    };
    let figures = limit.div_ceil(FIGURES_OF_LIMIT);
    let mut pruned = vec![prune::rows(database, before, runs_before, limit).await?];
    for (span, before) in [(Span::Hour, hours_before), (Span::Day, policy.days.map(|kept| now - kept))] {
        if let Some(before) = before {
            pruned.push(prune::spans(database, span, before, figures).await?);
        }
    }
    step.pruned = pruned.iter().map(|(gone, _)| gone).sum();
    step.has_more |= pruned.iter().any(|(_, has_more)| *has_more);
    Ok(step)
}

/// Whether it is this node's turn, by the database's clock. It spares others the work; what must be right does not
/// depend on it.
async fn take_turn(database: &Database, owner: &str) -> Result<bool, sqlx::Error> {
    let row = query("SELECT taken_by, taken_until, {now} AS database_now FROM rollup_progress WHERE id = 1")
        .fetch_one(database)
        .await?;
    let (by, until, now) = (row.optional_text("taken_by")?, row.time("taken_until")?, row.time("database_now")?);
    let now = now.unwrap_or(DateTime::UNIX_EPOCH);
    let left = until.map_or(TimeDelta::zero(), |until| until - now);
    let is_mine = by.as_deref() == Some(owner);
    if is_mine && left > TURN / 2 {
        return Ok(true);
    }
    // A turn that is longer than any was taken by a clock that was wrong.
    if !is_mine && left > TimeDelta::zero() && left <= TURN {
        return Ok(false);
    }
    let taken = query(
        "UPDATE rollup_progress SET taken_by = ?1, taken_until = ?2 \
         WHERE id = 1 AND NOT {differs taken_by ?3} AND NOT {differs taken_until ?4}",
    );
    let taken = taken.bind(owner).bind(now + TURN).bind(by).bind(until).execute(database).await?;
    Ok(taken == 1)
}
