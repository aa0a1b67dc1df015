//! PostgreSQL: runs lie in a partition for each day. It is made ahead, and goes whole when it is old.
//!
//! Within a partition an index of a few bytes for each 32 pages tells where a span of time lies (BRIN). It cannot sort,
//! and the planner would rather read a whole partition than believe in it, so it is told to.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Span;
use crate::store::database::{Database, Dialect, Query, Row, explain, query};

/// How often it is looked whether partitions are to be made or dropped.
const EVERY: TimeDelta = TimeDelta::minutes(1);
/// Made ahead: a node that is alone may be away for a long weekend.
const DAYS_AHEAD: i64 = 7;
/// SQLSTATE: the role may not do this.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// Where the day was not looked at yet and nobody holds anything, such a query takes milliseconds; hours of history
/// before 1970 are none.
const IS_ANY: &str = "SELECT EXISTS (SELECT 1 FROM monitor_runs WHERE started_at >= ?1 AND started_at < ?2) AS is_any";

/// What a node remembers of its partitions.
#[derive(Debug, Default)]
pub(in crate::store) struct Partitions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When, and what was old then.
    looked_at: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    was_refused: bool,
}

/// Makes the partitions of the next days, and drops at most one that ended before `before`. Returns how many went.
///
/// A role that may not do that keeps everything in the default partition, where rows go one by one: slower, but no less
/// right. That is logged once.
pub(in crate::store) async fn keep(
    database: &Database,
    partitions: &Partitions,
    now: DateTime<Utc>,
    before: Option<DateTime<Utc>>,
) -> Result<u64, sqlx::Error> {
    let before = before.map(|before| Span::Day.start(before));
    if !partitions.is_due(now, before) {
        return Ok(0);
    }
    let make = "SELECT watchbell_make_run_partitions(?1, CAST(?2 AS integer)) AS made";
    let made = query(make).bind(now).bind(DAYS_AHEAD).int(database).await;
    let Some(made) = partitions.allowed(made)? else { return Ok(0) };
    if made > 0 {
        tracing::debug!(days = made, "partitions for runs were made ahead");
    }
    let Some(before) = before else { return Ok(0) };
    let dropped = query("SELECT watchbell_drop_run_partitions(?1) AS dropped").bind(before).int(database).await;
    let dropped = partitions.allowed(dropped)?.unwrap_or_default();
    if dropped > 0 {
        // Where there was one, there may be another.
        partitions.forget();
        tracing::info!("a day of old runs was forgotten");
    }
    Ok(u64::try_from(dropped).unwrap_or_default())
}

impl Partitions {
    fn is_due(&self, now: DateTime<Utc>, before: Option<DateTime<Utc>>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back is as good as one that went on.
        let is_due = state.looked_at.is_none_or(|(at, old)| (now - at).abs() >= EVERY || old != before);
        if is_due {
            state.looked_at = Some((now, before));
        }
        is_due
    }

    fn forget(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).looked_at = None;
    }

    /// `None`: it is not allowed.
    fn allowed(&self, answer: Result<i64, sqlx::Error>) -> Result<Option<i64>, sqlx::Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                state.was_refused = false;
                Ok(Some(answer))
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE) => {
                if !state.was_refused {
                    let error = explain("make and drop partitions", &sqlx::Error::Database(error));
                    tracing::warn!(
                        %error,
                        "runs are not partitioned by day, and are forgotten one by one, which costs the server more; grant \
                         EXECUTE on the functions `watchbell_make_run_partitions` and `watchbell_drop_run_partitions`"
                    );
                }
                state.was_refused = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The beginning of the first hour with runs from `from` on, which begins an hour; `None`: there are none before `until`.
pub(in crate::store) async fn first_run(
    database: &Database,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let hour = Span::Hour.length();
    // The usual case: history goes on.
    if is_any(database, from, from + hour).await? {
        return Ok(Some(from));
    }
    let (mut from, mut until) = (from + hour, until);
    if from >= until || !is_any(database, from, until).await? {
        return Ok(None);
    }
    while until - from > hour {
        let middle = Span::Hour.start(from + (until - from) / 2);
        let middle = if middle > from { middle } else { from + hour };
        if is_any(database, from, middle).await? { until = middle } else { from = middle }
    }
    Ok(Some(from))
}

async fn is_any(database: &Database, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let rows = rows_by_index(database, query(IS_ANY).bind(from).bind(until)).await?;
    rows.first().map_or(Ok(false), |row| row.flag("is_any"))
}

/// All rows; on PostgreSQL found by an index, however many the planner expects.
pub(in crate::store) async fn rows_by_index(database: &Database, query: Query) -> Result<Vec<Row>, sqlx::Error> {
    if database.dialect() != Dialect::Postgres {
        return query.fetch_all(database).await;
    }
    let mut transaction = database.transaction().await?;
    transaction.raw("SET LOCAL enable_seqscan = off").await?;
    let rows = query.fetch_all(&mut transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// As [`rows_by_index`]: the number in the column `id` of each row.
pub(in crate::store) async fn ints_by_index(database: &Database, query: Query) -> Result<Vec<i64>, sqlx::Error> {
    rows_by_index(database, query).await?.iter().map(|row| row.int("id")).collect()
}
