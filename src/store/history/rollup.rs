//! Runs are summed up by monitor and hour, hours by monitor and day: each of them once.
//!
//! `rollup_progress` says how far that has come. Reading is done first, a few minutes of history at a time and without a
//! lock; then a few hundred monitors at a time are written, in one transaction with the progress, which must still be
//! what it was when reading began: whoever was overtaken starts anew with the next span.

use chrono::{DateTime, TimeDelta, Utc};

use super::keep::Keeping;
use crate::domain::{Gathering, MonitorId, Span, Totals};
use crate::store::database::{Batch, Connection, Database, Dialect, Row, Sql, Type, query};
use crate::store::postgres;

/// Outcomes are written within seconds after the end of a check; this is for a database that is slow or away.
const SETTLES_IN: TimeDelta = TimeDelta::minutes(10);
/// Longer runs than this are none that are waited for: everybody's figures would be as late.
const LONGEST_RUN: TimeDelta = TimeDelta::days(1);
/// How long it is known how long runs may take.
const LIMIT_KNOWN_FOR: TimeDelta = TimeDelta::minutes(10);
/// Runs after which a step ends: some tens of milliseconds of reading.
const RUNS_PER_STEP: i64 = 20_000;
/// Monitors that one transaction writes: their rows lie far apart, a page for each.
const MONITORS_PER_STEP: usize = 500;

/// The first run from `?1` on. PostgreSQL has no index that could tell: [`postgres::upkeep::first_run`].
pub(in crate::store) const FIRST_RUN: &str = "SELECT min(started_at) AS at FROM monitor_runs WHERE started_at >= ?1";
pub(in crate::store) const FIRST_HOUR: &str =
    "SELECT min(starts_at) AS at FROM monitor_run_hours WHERE starts_at >= ?1";

/// Runs that began from `?1` on and before `?2`. Only a tick of the schedule tells how late a run was.
pub(in crate::store) const HOUR_PIECE: Sql = Sql::each(
    "SELECT monitor_id, count(*) AS runs, count(CASE WHEN is_ok = 0 THEN 1 END) AS failed_runs, \
       sum(duration_ms) AS duration_ms_total, max(duration_ms) AS duration_ms_max, \
       max(CASE WHEN cause = 'schedule' THEN \
         CAST(round((julianday(started_at) - julianday(tick_at)) * 86400000) AS INTEGER) END) AS lateness_ms_max \
     FROM monitor_runs WHERE started_at >= ?1 AND started_at < ?2 GROUP BY monitor_id",
    "SELECT monitor_id, count(*) AS runs, count(*) FILTER (WHERE is_ok = 0) AS failed_runs, \
       CAST(sum(duration_ms) AS bigint) AS duration_ms_total, max(duration_ms) AS duration_ms_max, \
       CAST(round(extract(epoch FROM max(started_at - tick_at) FILTER (WHERE cause = 'schedule')) * 1000) AS bigint) \
         AS lateness_ms_max \
     FROM monitor_runs WHERE started_at >= ?1 AND started_at < ?2 GROUP BY monitor_id",
    "SELECT monitor_id, count(*) AS runs, count(CASE WHEN is_ok = 0 THEN 1 END) AS failed_runs, \
       CAST(sum(duration_ms) AS SIGNED) AS duration_ms_total, max(duration_ms) AS duration_ms_max, \
       max(CASE WHEN cause = 'schedule' THEN TIMESTAMPDIFF(MICROSECOND, tick_at, started_at) DIV 1000 END) \
         AS lateness_ms_max \
     FROM monitor_runs WHERE started_at >= ?1 AND started_at < ?2 GROUP BY monitor_id",
);

/// Hours that begin from `?1` on and before `?2`.
pub(in crate::store) const DAY_PIECE: &str = "\
    SELECT monitor_id, runs, failed_runs, duration_ms_total, duration_ms_max, lateness_ms_max \
    FROM monitor_run_hours WHERE starts_at >= ?1 AND starts_at < ?2";

const TOTALS: &[(&str, Type)] = &[
    ("monitor", Type::Int),
    ("run_count", Type::Int),
    ("failed_count", Type::Int),
    ("total_ms", Type::Int),
    ("max_ms", Type::Int),
    ("late_ms", Type::Int),
];

/// The statements of a span: how far it has come, what is in the way, what is written, how far it has come then.
struct Statements {
    progress: &'static str,
    locked: &'static str,
    clear: &'static str,
    write: &'static str,
    advance: &'static str,
    first: &'static str,
}

macro_rules! statements {
    ($table:literal, $until:literal, $after:literal, $first:expr) => {
        Statements {
            progress: concat!(
                "SELECT ",
                $until,
                " AS until, ",
                $after,
                " AS after_monitor FROM rollup_progress WHERE id = 1"
            ),
            locked: concat!(
                "SELECT ",
                $until,
                " AS until, ",
                $after,
                " AS after_monitor FROM rollup_progress WHERE id = 1 {lock}"
            ),
            // There are some only where the progress was set back by hand.
            clear: concat!("DELETE FROM ", $table, " WHERE starts_at = ?1 AND monitor_id > ?2 AND monitor_id <= ?3"),
            write: concat!(
                "INSERT INTO ",
                $table,
                " (monitor_id, starts_at, runs, failed_runs, duration_ms_total, \
                   duration_ms_max, lateness_ms_max) \
                 SELECT monitor, ?1, run_count, failed_count, total_ms, max_ms, late_ms FROM {batch} AS b"
            ),
            advance: concat!("UPDATE rollup_progress SET ", $until, " = ?1, ", $after, " = ?2 WHERE id = 1"),
            first: $first,
        }
    };
}

fn statements(span: Span) -> &'static Statements {
    const HOURS: Statements = statements!("monitor_run_hours", "hours_until", "hours_after_monitor", FIRST_RUN);
    const DAYS: Statements = statements!("monitor_run_days", "days_until", "days_after_monitor", FIRST_HOUR);
    match span {
        Span::Hour => &HOURS,
        Span::Day => &DAYS,
    }
}

/// How far a span has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// The beginning of the first one that is not done; `None`: none is.
    until: Option<DateTime<Utc>>,
    /// The monitor after which it goes on.
    after: MonitorId,
}

impl Progress {
    fn decode(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self { until: row.time("until")?, after: MonitorId(row.int("after_monitor")?) })
    }
}

/// What a step has done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) written: u64,
    pub(super) has_more: bool,
}

/// Until when everything is summed up; `None`: nothing is.
pub(super) async fn done_until(database: &Database, span: Span) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    query(statements(span).progress).fetch_one(database).await?.time("until")
}

/// One step: hours first, days when their hours are done.
pub(super) async fn step(database: &Database, keeping: &Keeping, now: DateTime<Utc>) -> Result<Done, sqlx::Error> {
    let complete = complete_hours_until(database, keeping, now).await?;
    let done = step_of(database, keeping, Span::Hour, complete).await?;
    if done.has_more {
        return Ok(done);
    }
    match done_until(database, Span::Hour).await? {
        Some(hours) => step_of(database, keeping, Span::Day, Span::Day.start(hours)).await,
        None => Ok(done),
    }
}

/// Before this, no more runs come.
async fn complete_hours_until(
    database: &Database,
    keeping: &Keeping,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    let longest = match keeping.longest_run(now - LIMIT_KNOWN_FOR) {
        Some(longest) => longest,
        None => {
            let seconds = query(
                "SELECT coalesce(max(timeout_seconds * (retries + 1) + retry_delay_seconds * retries), 0) AS longest \
                 FROM monitors WHERE is_active = 1",
            );
            let longest = TimeDelta::seconds(seconds.int(database).await?).min(LONGEST_RUN);
            keeping.note_longest_run(now, longest);
            longest
        }
    };
    Ok(Span::Hour.start(now - SETTLES_IN - longest))
}

async fn step_of(
    database: &Database,
    keeping: &Keeping,
    span: Span,
    complete: DateTime<Utc>,
) -> Result<Done, sqlx::Error> {
    let row = query(statements(span).progress).fetch_one(database).await?;
    let progress = Progress::decode(&row)?;
    if progress.until.is_some_and(|until| until >= complete) {
        return Ok(Done::default());
    }
    let known = keeping.gathering().filter(|known| known.span == span && Some(known.starts_at) == progress.until);
    let mut gathering = match known {
        Some(known) => known,
        None => match begin(database, span, progress, complete).await? {
            Begun::Gathering(gathering) => gathering,
            Begun::Skipped => return Ok(Done { written: 0, has_more: true }),
        },
    };
    if read(database, &mut gathering).await? {
        keeping.keep_gathering(gathering);
        return Ok(Done { written: 0, has_more: true });
    }
    let written = write(database, &gathering, progress).await?;
    keeping.keep_gathering(gathering);
    Ok(Done { written, has_more: true })
}

enum Begun {
    Gathering(Gathering),
    /// There was nothing; the progress says so now.
    Skipped,
}

/// A stretch without anything is passed over at once.
async fn begin(
    database: &Database,
    span: Span,
    progress: Progress,
    complete: DateTime<Utc>,
) -> Result<Begun, sqlx::Error> {
    let from = progress.until.unwrap_or(DateTime::UNIX_EPOCH);
    let first = match (span, database.dialect()) {
        (Span::Hour, Dialect::Postgres) => postgres::upkeep::first_run(database, from, complete).await?,
        _ => query(statements(span).first).bind(from).fetch_one(database).await?.time("at")?,
    };
    let first = first.map_or(complete, |first| span.start(first).min(complete));
    if progress.until == Some(first) {
        return Ok(Begun::Gathering(Gathering::new(span, first)));
    }
    let mut transaction = database.transaction().await?;
    if is_still(&mut transaction, span, progress).await? {
        advance(&mut transaction, span, first, MonitorId(0)).await?;
    }
    transaction.commit().await?;
    Ok(Begun::Skipped)
}

/// Reads some pieces. Returns whether some are left.
async fn read(database: &Database, gathering: &mut Gathering) -> Result<bool, sqlx::Error> {
    let mut runs = 0;
    while let Some((from, until)) = gathering.next_piece() {
        if runs >= RUNS_PER_STEP {
            return Ok(true);
        }
        let piece = match gathering.span {
            Span::Hour => query(&HOUR_PIECE),
            Span::Day => query(DAY_PIECE),
        };
        let rows = postgres::upkeep::rows_by_index(database, piece.bind(from).bind(until)).await?;
        let totals = rows.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        runs += match gathering.span {
            Span::Hour => totals.iter().map(|(_, totals)| totals.runs).sum(),
            Span::Day => totals.len() as i64,
        };
        gathering.take(until, totals);
    }
    // What was read is written by a step of its own.
    Ok(runs >= RUNS_PER_STEP)
}

fn decode(row: &Row) -> Result<(MonitorId, Totals), sqlx::Error> {
    let totals = Totals {
        runs: row.int("runs")?,
        failed_runs: row.int("failed_runs")?,
        duration_ms_total: row.int("duration_ms_total")?,
        duration_ms_max: row.int("duration_ms_max")?,
        lateness_ms_max: row.optional_int("lateness_ms_max")?,
    };
    Ok((MonitorId(row.int("monitor_id")?), totals))
}

/// Writes some monitors. Returns how many.
async fn write(database: &Database, gathering: &Gathering, progress: Progress) -> Result<u64, sqlx::Error> {
    let (totals, is_last) = gathering.after(progress.after, MONITORS_PER_STEP);
    let last = totals.last().map_or(progress.after, |(monitor, _)| *monitor);
    let mut batch = Batch::new(TOTALS);
    for (monitor, totals) in &totals {
        batch.push(vec![
            monitor.0.into(),
            totals.runs.into(),
            totals.failed_runs.into(),
            totals.duration_ms_total.into(),
            totals.duration_ms_max.into(),
            totals.lateness_ms_max.into(),
        ]);
    }
    let statements = statements(gathering.span);
    let mut transaction = database.transaction().await?;
    if !is_still(&mut transaction, gathering.span, progress).await? {
        return transaction.commit().await.map(|()| 0);
    }
    if !batch.is_empty() {
        let clear = query(statements.clear).bind(gathering.starts_at).bind(progress.after.0).bind(last.0);
        clear.execute(&mut transaction).await?;
        query(statements.write).bind(gathering.starts_at).batch(batch).execute(&mut transaction).await?;
    }
    let (until, after) = if is_last { (gathering.ends_at(), MonitorId(0)) } else { (gathering.starts_at, last) };
    advance(&mut transaction, gathering.span, until, after).await?;
    transaction.commit().await?;
    Ok(totals.len() as u64)
}

/// Locks the progress; whether nobody else moved it meanwhile.
async fn is_still(transaction: &mut Connection, span: Span, progress: Progress) -> Result<bool, sqlx::Error> {
    let row = query(statements(span).locked).fetch_one(&mut *transaction).await?;
    Ok(Progress::decode(&row)? == progress)
}

async fn advance(
    transaction: &mut Connection,
    span: Span,
    until: DateTime<Utc>,
    after: MonitorId,
) -> Result<(), sqlx::Error> {
    query(statements(span).advance).bind(until).bind(after.0).execute(transaction).await.map(drop)
}
