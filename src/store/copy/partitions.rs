//! Days for the runs on PostgreSQL: without them all old runs would lie in one heap, to be forgotten one by one.

use chrono::TimeDelta;
use sqlx::Error;

use super::error::CopyError;
use super::pages::{long, long_transaction};
use crate::store::database::{Database, explain, query};

/// Days that get partitions of their own; what is older lies in the default one. `history.keep_days` is seldom more.
const MOST_DAYS: i64 = 400;
/// As many as the database makes at one call.
const DAYS_A_CALL: i64 = 60;

/// Makes the partitions of the days in which the source has runs.
pub(super) async fn make(source: &Database, target: &Database) -> Result<(), CopyError> {
    try_make(source, target).await.map_err(|error| CopyError::Store(explain("make the partitions of the runs", &error)))
}

async fn try_make(source: &Database, target: &Database) -> Result<(), Error> {
    const SPAN: &str = "SELECT (SELECT min(started_at) FROM monitor_runs) AS first_at, \
        (SELECT max(started_at) FROM monitor_runs) AS last_at";
    let mut reading = long(source).await?;
    let span = query(SPAN).fetch_one(&mut reading).await?;
    reading.commit().await?;
    let (Some(first), Some(last)) = (span.time("first_at")?, span.time("last_at")?) else { return Ok(()) };
    let mut from = first.max(last - TimeDelta::days(MOST_DAYS));
    while from <= last + TimeDelta::days(1) {
        let mut transaction = long_transaction(target).await?;
        let days = query("SELECT watchbell_make_run_partitions(?1, CAST(?2 AS integer)) AS n");
        days.bind(from).bind(DAYS_A_CALL).int(&mut transaction).await?;
        transaction.commit().await?;
        from += TimeDelta::days(DAYS_A_CALL);
    }
    Ok(())
}
