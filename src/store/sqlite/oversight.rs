//! Whether the watcher is alive: the outbox lane by lane, the installation in numbers, messages that no run owes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use super::delivery::{LANES, heads_its_line};
use super::errors::explain;
use super::values::{count, get, optional_text, text, time, time_text};
use crate::domain::oversight::{
    DayFigures, Failures, LaneState, Lateness, MOST_COUNTED, MOST_NAMED, OutboxState, Waiting,
};
use crate::domain::{NewNotification, NotificationId, State};
use crate::ports::StoreError;

/// Runs whose lateness is looked at: the newest of the day. An installation with 10,000 runs a minute makes 14 million
/// in a day, and sorting them all would keep a connection for a minute.
const MOST_RUNS: u32 = 100_000;

/// What is due longest in a lane and could be tried, also where it is being tried at this moment.
pub(super) const OLDEST_WAITING: &str = concat!(
    "SELECT n.id, n.next_attempt_at, n.attempts, n.last_error FROM notifications n \
     WHERE n.lane = ?1 AND n.status IN ('pending', 'sending') AND n.planned_at IS NOT NULL AND ",
    heads_its_line!(),
    " ORDER BY n.next_attempt_at, n.id LIMIT 1"
);

/// What was given up. A test is not among it: who ran it saw the answer.
pub(super) const FAILED: &str = "\
    SELECT lane, min(id) AS first, count(*) AS failures, max(id) AS last FROM ( \
      SELECT lane, id FROM notifications WHERE status = 'failed' AND failed_at > ?1 \
        AND rule IS NOT 'channel trouble' AND type <> 'test' ORDER BY failed_at DESC LIMIT ?2) GROUP BY lane";

/// The last notice of each lane, and what it told.
pub(super) const TOLD: &str = "\
    SELECT id, substr(origin, 9) AS lane, json_extract(facts, '$.state') AS state FROM notifications WHERE id IN ( \
      SELECT max(id) FROM notifications WHERE rule = 'channel trouble' GROUP BY origin)";

/// The newest scheduled runs of the day, the latest first.
const LATENESS: &str = "\
    WITH newest AS MATERIALIZED ( \
      SELECT tick_at, started_at, cause FROM monitor_runs ORDER BY id DESC LIMIT ?2), \
    sample AS MATERIALIZED ( \
      SELECT CAST(round((julianday(started_at) - julianday(tick_at)) * 86400000) AS INTEGER) AS late_ms, started_at \
      FROM newest WHERE started_at >= ?1 AND tick_at IS NOT NULL AND cause = 'schedule') \
    SELECT (SELECT count(*) FROM sample) AS runs, (SELECT min(started_at) FROM sample) AS since, \
      (SELECT late_ms FROM sample ORDER BY late_ms DESC LIMIT 1 OFFSET (SELECT count(*) / 100 FROM sample)) AS p99_ms";

pub(super) async fn installation_uuid(pool: &SqlitePool) -> Result<String, StoreError> {
    sqlx::query_scalar("SELECT uuid FROM installation")
        .fetch_one(pool)
        .await
        .map_err(|error| explain("read which installation this is", &error))
}

pub(super) async fn queue_notices(
    writer: &SqlitePool,
    now: DateTime<Utc>,
    notices: &[(String, NewNotification)],
) -> Result<u64, StoreError> {
    let explain = |error: sqlx::Error| explain("queue notices", &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let mut queued = 0;
    for (uuid, notice) in notices {
        let hold = notice.hold.as_ref();
        let done = sqlx::query(
            "INSERT INTO notifications (uuid, type, severity, recipient, subject, body, facts, rule, origin, status, \
               created_at, next_attempt_at, hold_reason) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (uuid) DO NOTHING",
        )
        .bind(uuid)
        .bind(notice.notification_type.as_str())
        .bind(notice.severity.as_str())
        .bind(&notice.recipient)
        .bind(&notice.subject)
        .bind(&notice.body)
        .bind(json!(notice.facts).to_string())
        .bind(&notice.rule)
        .bind(&notice.origin)
        .bind(if hold.is_some() { "held" } else { "pending" })
        .bind(time_text(now))
        .bind(time_text(hold.map_or(now, |hold| hold.until)))
        .bind(hold.map(|hold| hold.reason.to_string()))
        .execute(&mut *transaction)
        .await
        .map_err(explain)?;
        queued += done.rows_affected();
    }
    transaction.commit().await.map_err(explain)?;
    Ok(queued)
}

pub(super) async fn outbox_state(pool: &SqlitePool, failed_since: DateTime<Utc>) -> Result<OutboxState, StoreError> {
    read_outbox_state(pool, failed_since).await.map_err(|error| explain("look how the outbox drains", &error))
}

async fn read_outbox_state(pool: &SqlitePool, failed_since: DateTime<Utc>) -> Result<OutboxState, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut lanes: BTreeMap<String, LaneState> = BTreeMap::new();
    let names: Vec<String> = sqlx::query_scalar(LANES).fetch_all(&mut *connection).await?;
    for name in names {
        let waiting = read_waiting(&mut connection, &name).await?;
        lane(&mut lanes, name).waiting = waiting;
    }
    let failed =
        sqlx::query(FAILED).bind(time_text(failed_since)).bind(MOST_COUNTED).fetch_all(&mut *connection).await?;
    for row in &failed {
        let error = sqlx::query_scalar("SELECT last_error FROM notifications WHERE id = ?1")
            .bind(get::<i64>(row, "last")?)
            .fetch_optional(&mut *connection)
            .await?;
        lane(&mut lanes, text(row, "lane")?).failures = Some(Failures {
            first: NotificationId(get(row, "first")?),
            count: u64::from(count(row, "failures")?),
            last_error: error.flatten(),
        });
    }
    for row in &sqlx::query(TOLD).fetch_all(&mut *connection).await? {
        if optional_text(row, "state")?.as_deref() == Some(State::Alert.as_str()) {
            lane(&mut lanes, text(row, "lane")?).told_trouble = Some(NotificationId(get(row, "id")?));
        }
    }
    let unplanned = sqlx::query(
        "SELECT created_at FROM notifications WHERE status = 'pending' AND planned_at IS NULL ORDER BY id LIMIT 1",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let unplanned_since = unplanned.map(|row| time(&row, "created_at")).transpose()?.flatten();
    Ok(OutboxState { lanes: lanes.into_values().collect(), unplanned_since })
}

fn lane(lanes: &mut BTreeMap<String, LaneState>, name: String) -> &mut LaneState {
    lanes.entry(name.clone()).or_insert(LaneState { lane: name, waiting: None, failures: None, told_trouble: None })
}

async fn read_waiting(connection: &mut SqliteConnection, lane: &str) -> Result<Option<Waiting>, sqlx::Error> {
    let Some(row) = sqlx::query(OLDEST_WAITING).bind(lane).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let waiting: i64 =
        sqlx::query_scalar(super::delivery::BACKLOG).bind(lane).bind(MOST_COUNTED).fetch_one(connection).await?;
    Ok(Some(Waiting {
        oldest: NotificationId(get(&row, "id")?),
        due_at: time(&row, "next_attempt_at")?.unwrap_or_default(),
        attempts: count(&row, "attempts")?,
        last_error: optional_text(&row, "last_error")?,
        count: u64::try_from(waiting).unwrap_or_default(),
    }))
}

pub(super) async fn day_figures(pool: &SqlitePool, since: DateTime<Utc>) -> Result<DayFigures, StoreError> {
    read_day_figures(pool, since).await.map_err(|error| explain("count what was done in a day", &error))
}

async fn read_day_figures(pool: &SqlitePool, since: DateTime<Utc>) -> Result<DayFigures, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM monitors WHERE is_active = 1) AS active, \
           (SELECT count(*) FROM monitors WHERE is_active = 0) AS paused, \
           (SELECT count(*) FROM monitors WHERE state = 'alert') AS in_alert, \
           (SELECT count(*) FROM monitors WHERE config_error IS NOT NULL) AS config_errors, \
           (SELECT count(*) FROM notifications WHERE created_at >= ?1 AND status = 'sent') AS sent, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending')) AS waiting, \
           (SELECT count(*) FROM notifications WHERE status = 'held') AS held, \
           (SELECT count(*) FROM notifications WHERE status = 'failed' AND failed_at >= ?1 AND type <> 'test') AS given_up",
    )
    .bind(time_text(since))
    .fetch_one(&mut *connection)
    .await?;
    let number = |column| Ok::<_, sqlx::Error>(u64::from(count(&row, column)?));
    let names = sqlx::query("SELECT name FROM monitors WHERE state = 'alert' ORDER BY name LIMIT ?1")
        .bind(MOST_NAMED)
        .fetch_all(&mut *connection)
        .await?;
    let lateness = sqlx::query(LATENESS).bind(time_text(since)).bind(MOST_RUNS).fetch_one(&mut *connection).await?;
    Ok(DayFigures {
        active: number("active")?,
        paused: number("paused")?,
        in_alert: number("in_alert")?,
        alert_names: names.iter().map(|row| text(row, "name")).collect::<Result<_, _>>()?,
        config_errors: number("config_errors")?,
        lateness: read_lateness(&lateness)?,
        sent: number("sent")?,
        waiting: number("waiting")?,
        held: number("held")?,
        given_up: number("given_up")?,
    })
}

fn read_lateness(row: &SqliteRow) -> Result<Option<Lateness>, sqlx::Error> {
    let (p99, since) = (get::<Option<i64>>(row, "p99_ms")?, time(row, "since")?);
    let runs = u64::from(count(row, "runs")?);
    Ok(p99.zip(since).map(|(p99, since)| Lateness { p99: TimeDelta::milliseconds(p99), runs, since }))
}
