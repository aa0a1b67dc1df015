//! Whether the watcher is alive: the outbox lane by lane, the installation in numbers, messages that no run owes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Connection, Database, Row, Sql, explain, query};
use super::delivery::{LANES, heads_its_line, lock_outbox};
use super::queueing::{Owed, insert_notification};
use crate::domain::oversight::{
    DayFigures, Failures, LaneState, Lateness, MOST_COUNTED, MOST_NAMED, OutboxState, Waiting,
};
use crate::domain::{NewNotification, NotificationId, State};
use crate::ports::StoreError;

/// Runs whose lateness is looked at: the newest of the day. An installation with 10,000 runs a minute makes 14 million
/// in a day, and sorting them all would keep a connection for a minute.
const MOST_RUNS: u32 = 100_000;

/// What is due longest in a lane and could be tried, also where it is being tried at this moment. MySQL's index begins
/// with the status.
pub(super) const OLDEST_WAITING: Sql = {
    const PORTABLE: &str = concat!(
        "SELECT n.id, n.next_attempt_at, n.attempts, n.last_error FROM notifications n \
         WHERE n.lane = ?1 AND n.status IN ('pending', 'sending') AND n.planned_at IS NOT NULL AND ",
        heads_its_line!(),
        " ORDER BY n.next_attempt_at, n.id LIMIT 1"
    );
    macro_rules! oldest {
        ($status:literal) => {
            concat!(
                "(SELECT n.id, n.next_attempt_at, n.attempts, n.last_error FROM notifications n \
                 WHERE n.status = ",
                $status,
                " AND n.lane = ?1 AND n.planned_at IS NOT NULL AND ",
                heads_its_line!(mysql),
                " ORDER BY n.next_attempt_at, n.id LIMIT 1)"
            )
        };
    }
    const MYSQL: &str = concat!(
        "SELECT o.id, o.next_attempt_at, o.attempts, o.last_error FROM (",
        oldest!("'pending'"),
        " UNION ALL ",
        oldest!("'sending'"),
        ") AS o ORDER BY o.next_attempt_at, o.id LIMIT 1"
    );
    Sql::each(PORTABLE, PORTABLE, MYSQL)
};

/// What was given up. A test is not among it: who ran it saw the answer.
pub(super) const FAILED: &str = "\
    SELECT lane, min(id) AS first_id, count(*) AS failures, max(id) AS last_id FROM ( \
      SELECT lane, id FROM notifications WHERE status = 'failed' AND failed_at > ?1 \
        AND coalesce(rule, '') <> 'channel trouble' AND type <> 'test' ORDER BY failed_at DESC LIMIT ?2) AS lately GROUP BY lane";

/// The last notice of each lane, and what it told.
pub(super) const TOLD: &str = "\
    SELECT id, substr(origin, 9) AS lane, {field facts state} AS state FROM notifications WHERE id IN ( \
      SELECT max(id) FROM notifications WHERE rule = 'channel trouble' GROUP BY origin)";

/// The newest scheduled runs of the day, the latest first.
const LATENESS: Sql = {
    macro_rules! lateness {
        ($newest:literal, $milliseconds:literal) => {
            concat!(
                "WITH newest AS (SELECT tick_at, started_at, cause FROM monitor_runs ",
                $newest,
                " ORDER BY id DESC LIMIT ?2), \
                 sample AS (SELECT ",
                $milliseconds,
                " AS late_ms, started_at FROM newest \
                   WHERE started_at >= ?1 AND tick_at IS NOT NULL AND cause = 'schedule'), \
                 ranked AS (SELECT late_ms, row_number() OVER (ORDER BY late_ms DESC) AS place, count(*) OVER () AS runs \
                   FROM sample) \
                 SELECT (SELECT count(*) FROM sample) AS runs, (SELECT min(started_at) FROM sample) AS since, \
                   (SELECT max(late_ms) FROM ranked WHERE place = runs / 100 + 1) AS p99_ms"
            )
        };
    }
    Sql::each(
        lateness!("", "CAST(round((julianday(started_at) - julianday(tick_at)) * 86400000) AS INTEGER)"),
        // Without the condition each day's runs would be looked through.
        lateness!("WHERE started_at >= ?1", "CAST(extract(epoch FROM started_at - tick_at) * 1000 AS bigint)"),
        lateness!("", "TIMESTAMPDIFF(MICROSECOND, tick_at, started_at) DIV 1000"),
    )
};

pub(super) async fn installation_uuid(database: &Database) -> Result<String, StoreError> {
    query("SELECT uuid FROM installation")
        .fetch_one(database)
        .await
        .and_then(|row| row.text("uuid"))
        .map_err(|error| explain("read which installation this is", &error))
}

pub(super) async fn queue_notices(
    database: &Database,
    now: DateTime<Utc>,
    notices: &[(String, NewNotification)],
) -> Result<u64, StoreError> {
    let explain = |error: sqlx::Error| explain("queue notices", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let mut queued = 0;
    for (uuid, notice) in notices {
        let there = query("SELECT count(*) AS there FROM notifications WHERE uuid = ?1").bind(uuid);
        if there.int(&mut transaction).await.map_err(explain)? == 0 {
            let owed = Owed { uuid: Some(uuid.clone()), ..Owed::default() };
            insert_notification(&mut transaction, now, notice, owed).await.map_err(explain)?;
            queued += 1;
        }
    }
    transaction.commit().await.map_err(explain)?;
    Ok(queued)
}

pub(super) async fn outbox_state(database: &Database, failed_since: DateTime<Utc>) -> Result<OutboxState, StoreError> {
    read_outbox_state(database, failed_since).await.map_err(|error| explain("look how the outbox drains", &error))
}

async fn read_outbox_state(database: &Database, failed_since: DateTime<Utc>) -> Result<OutboxState, sqlx::Error> {
    let mut connection = database.reader().await?;
    let mut lanes: BTreeMap<String, LaneState> = BTreeMap::new();
    let names = query(&LANES).texts(&mut connection).await?;
    for name in names {
        let waiting = read_waiting(&mut connection, &name).await?;
        lane(&mut lanes, name).waiting = waiting;
    }
    let failed = query(FAILED).bind(failed_since).bind(MOST_COUNTED).fetch_all(&mut connection).await?;
    for row in &failed {
        let error = query("SELECT last_error FROM notifications WHERE id = ?1").bind(row.int("last_id")?);
        let error =
            error.fetch_optional(&mut connection).await?.map(|row| row.optional_text("last_error")).transpose()?;
        lane(&mut lanes, row.text("lane")?).failures = Some(Failures {
            first: NotificationId(row.int("first_id")?),
            count: u64::from(row.count("failures")?),
            last_error: error.flatten(),
        });
    }
    for row in &query(TOLD).fetch_all(&mut connection).await? {
        if row.optional_text("state")?.as_deref() == Some(State::Alert.as_str()) {
            lane(&mut lanes, row.text("lane")?).told_trouble = Some(NotificationId(row.int("id")?));
        }
    }
    let unplanned = query(
        "SELECT created_at FROM notifications WHERE status = 'pending' AND planned_at IS NULL ORDER BY id LIMIT 1",
    )
    .fetch_optional(&mut connection)
    .await?;
    let unplanned_since = unplanned.map(|row| row.time("created_at")).transpose()?.flatten();
    Ok(OutboxState { lanes: lanes.into_values().collect(), unplanned_since })
}

fn lane(lanes: &mut BTreeMap<String, LaneState>, name: String) -> &mut LaneState {
    lanes.entry(name.clone()).or_insert(LaneState { lane: name, waiting: None, failures: None, told_trouble: None })
}

async fn read_waiting(connection: &mut Connection, lane: &str) -> Result<Option<Waiting>, sqlx::Error> {
    let Some(row) = query(&OLDEST_WAITING).bind(lane).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let waiting = query(super::delivery::BACKLOG).bind(lane).bind(MOST_COUNTED).int(connection).await?;
    Ok(Some(Waiting {
        oldest: NotificationId(row.int("id")?),
        due_at: row.time("next_attempt_at")?.unwrap_or_default(),
        attempts: row.count("attempts")?,
        last_error: row.optional_text("last_error")?,
        count: u64::try_from(waiting).unwrap_or_default(),
    }))
}

pub(super) async fn day_figures(database: &Database, since: DateTime<Utc>) -> Result<DayFigures, StoreError> {
    read_day_figures(database, since).await.map_err(|error| explain("count what was done in a day", &error))
}

async fn read_day_figures(database: &Database, since: DateTime<Utc>) -> Result<DayFigures, sqlx::Error> {
    let mut connection = database.reader().await?;
    let row = query(
        "SELECT (SELECT count(*) FROM monitors WHERE is_active = 1) AS active, \
           (SELECT count(*) FROM monitors WHERE is_active = 0) AS paused, \
           (SELECT count(*) FROM monitors WHERE state = 'alert') AS in_alert, \
           (SELECT count(*) FROM monitors WHERE config_error IS NOT NULL) AS config_errors, \
           (SELECT count(*) FROM notifications WHERE created_at >= ?1 AND status = 'sent') AS sent, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending')) AS waiting, \
           (SELECT count(*) FROM notifications WHERE status = 'held') AS held, \
           (SELECT count(*) FROM notifications WHERE status = 'failed' AND failed_at >= ?1 AND type <> 'test') AS given_up",
    )
    .bind(since)
    .fetch_one(&mut connection)
    .await?;
    let number = |column| Ok::<_, sqlx::Error>(u64::from(row.count(column)?));
    let names = query("SELECT name FROM monitors WHERE state = 'alert' ORDER BY name LIMIT ?1")
        .bind(MOST_NAMED)
        .fetch_all(&mut connection)
        .await?;
    let lateness = query(&LATENESS).bind(since).bind(MOST_RUNS).fetch_one(&mut connection).await?;
    Ok(DayFigures {
        active: number("active")?,
        paused: number("paused")?,
        in_alert: number("in_alert")?,
        alert_names: names.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?,
        config_errors: number("config_errors")?,
        lateness: read_lateness(&lateness)?,
        sent: number("sent")?,
        waiting: number("waiting")?,
        held: number("held")?,
        given_up: number("given_up")?,
    })
}

fn read_lateness(row: &Row) -> Result<Option<Lateness>, sqlx::Error> {
    let (p99, since) = (row.optional_int("p99_ms")?, row.time("since")?);
    let runs = u64::from(row.count("runs")?);
    Ok(p99.zip(since).map(|(p99, since)| Lateness { p99: TimeDelta::milliseconds(p99), runs, since }))
}
