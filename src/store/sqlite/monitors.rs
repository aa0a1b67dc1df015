//! The control plane: rows of `monitors` and the log of what people changed in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, SqlitePool};

use super::errors::explain;
use super::values::{count, get, optional_text, text, time, time_text, word};
use crate::domain::{MonitorId, MonitorRow};
use crate::ports::{ChangeCursor, Changes, NewMonitor, StoreError};

/// Entries of the change log that are younger may not have been read yet, however many they are: one statement may
/// edit every row. Nodes look several times a second; this is for one that hangs.
const UNREAD_FOR: TimeDelta = TimeDelta::minutes(10);

pub(super) const CHANGES: &str = "SELECT id, monitor_id FROM monitor_changes WHERE id > ?1 ORDER BY id LIMIT ?2";

/// The columns that [`decode`] reads.
pub(super) const COLUMNS: &str = "id, uuid, is_active, name, kind, schedule, timezone, config, severity, labels, runs_on, \
    timeout_seconds, retries, retry_delay_seconds, state, consecutive_ok_count, required_consecutive_oks, \
    required_consecutive_alerts, consecutive_alert_count, reminder_frequency_minutes, people_to_notify, \
    missed_tick_policy, last_tick_at, last_run_at, last_notification_at, next_run_at, config_error, revision, \
    recheck_seq, write_seq";

pub(super) fn decode(row: &SqliteRow) -> Result<MonitorRow, sqlx::Error> {
    let optional_count = |column| -> Result<Option<u32>, sqlx::Error> {
        if row.try_get::<Option<i64>, _>(column)?.is_none() { Ok(None) } else { count(row, column).map(Some) }
    };
    Ok(MonitorRow {
        id: MonitorId(get(row, "id")?),
        uuid: text(row, "uuid")?,
        is_active: get::<i64>(row, "is_active")? != 0,
        name: text(row, "name")?,
        kind: text(row, "kind")?,
        schedule: text(row, "schedule")?,
        timezone: optional_text(row, "timezone")?,
        config: text(row, "config")?,
        severity: word(row, "severity")?,
        labels: text(row, "labels")?,
        runs_on: optional_text(row, "runs_on")?,
        timeout_seconds: count(row, "timeout_seconds")?,
        retries: count(row, "retries")?,
        retry_delay_seconds: count(row, "retry_delay_seconds")?,
        state: word(row, "state")?,
        consecutive_ok_count: count(row, "consecutive_ok_count")?,
        required_consecutive_oks: count(row, "required_consecutive_oks")?,
        required_consecutive_alerts: count(row, "required_consecutive_alerts")?,
        consecutive_alert_count: count(row, "consecutive_alert_count")?,
        reminder_frequency_minutes: optional_count("reminder_frequency_minutes")?,
        people_to_notify: optional_text(row, "people_to_notify")?,
        missed_tick_policy: word(row, "missed_tick_policy")?,
        last_tick_at: time(row, "last_tick_at")?,
        last_run_at: time(row, "last_run_at")?,
        last_notification_at: time(row, "last_notification_at")?,
        next_run_at: time(row, "next_run_at")?,
        config_error: optional_text(row, "config_error")?,
        revision: get(row, "revision")?,
        recheck_seq: get(row, "recheck_seq")?,
        write_seq: get(row, "write_seq")?,
    })
}

/// Rows by id, as a JSON array of ids for `json_each`. A row that cannot be read is no row that is gone: it would be
/// taken for a deleted one, and people told so.
///
/// # Errors
/// Also when any of them cannot be read.
pub(super) async fn by_ids(
    connection: &mut sqlx::SqliteConnection,
    ids: &str,
) -> Result<BTreeMap<MonitorId, MonitorRow>, sqlx::Error> {
    let rows = rows_by_ids(connection, ids).await?;
    rows.iter().map(|row| decode(row).map(|row| (row.id, row))).collect()
}

async fn rows_by_ids(connection: &mut sqlx::SqliteConnection, ids: &str) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} FROM monitors WHERE id IN (SELECT value FROM json_each(?1))");
    sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(connection).await
}

/// All rows that can be read. The CHECKs let no other in; one that came in past them steps aside and is reported.
fn decode_all(rows: &[SqliteRow]) -> Vec<MonitorRow> {
    let mut monitors = Vec::with_capacity(rows.len());
    for row in rows {
        match decode(row) {
            Ok(monitor) => monitors.push(monitor),
            Err(error) => tracing::error!(
                monitor.id = get::<i64>(row, "id").ok(),
                %error,
                "a row of `monitors` cannot be read and is not watched; correct the named column"
            ),
        }
    }
    monitors
}

pub(super) async fn change_cursor(pool: &SqlitePool) -> Result<ChangeCursor, StoreError> {
    // The sequence, not the newest row: entries that were read are forgotten, their numbers are not used again.
    sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'monitor_changes'")
        .fetch_one(pool)
        .await
        .map(ChangeCursor)
        .map_err(|error| explain("read the change log", &error))
}

pub(super) async fn changes(pool: &SqlitePool, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
    let explain = |error: sqlx::Error| explain("read the change log", &error);
    let mut connection = pool.acquire().await.map_err(explain)?;
    let entries: Vec<(i64, i64)> = sqlx::query_as(CHANGES)
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(explain)?;
    let Some((last, _)) = entries.last() else {
        return Ok(Changes { monitors: Vec::new(), cursor: after, has_more: false });
    };
    let mut ids: Vec<i64> = entries.iter().map(|(_, monitor)| *monitor).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = rows_by_ids(&mut connection, &json(&ids)).await.map_err(explain)?;
    let there = found.iter().map(|row| get(row, "id")).collect::<Result<BTreeSet<i64>, _>>().map_err(explain)?;
    let mut rows: BTreeMap<MonitorId, MonitorRow> = decode_all(&found).into_iter().map(|row| (row.id, row)).collect();
    // What is there but cannot be read is no news: neither an edit nor a deletion.
    let monitors = ids
        .iter()
        .map(|id| (MonitorId(*id), rows.remove(&MonitorId(*id))))
        .filter(|(id, row)| row.is_some() || !there.contains(&id.0))
        .collect();
    Ok(Changes { monitors, cursor: ChangeCursor(*last), has_more: entries.len() >= limit as usize })
}

pub(super) async fn page(pool: &SqlitePool, after: MonitorId, limit: u32) -> Result<Vec<MonitorRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM monitors WHERE id > ?1 ORDER BY id LIMIT ?2");
    sqlx::query(AssertSqlSafe(sql))
        .bind(after.0)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map(|rows| decode_all(&rows))
        .map_err(|error| explain("read the monitors", &error))
}

pub(super) async fn one(pool: &SqlitePool, id: MonitorId) -> Result<Option<MonitorRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM monitors WHERE id = ?1");
    sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(pool)
        .await
        .and_then(|row| row.as_ref().map(decode).transpose())
        .map_err(|error| explain(&format!("read monitor {id}"), &error))
}

pub(super) async fn mismatched(pool: &SqlitePool, limit: u32) -> Result<Vec<MonitorId>, StoreError> {
    // A paused monitor is left as it is: nothing is written for it.
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT i.monitor_id FROM incidents i LEFT JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND (m.id IS NULL OR (m.state = 'ok' AND m.is_active = 1)) \
         UNION \
         SELECT m.id FROM monitors m WHERE m.state = 'alert' AND m.is_active = 1 \
           AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.monitor_id = m.id AND i.recovered_at IS NULL) \
         LIMIT ?1",
    )
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
    .map_err(|error| explain("look for incidents that do not fit their monitors", &error))?;
    Ok(ids.into_iter().map(MonitorId).collect())
}

pub(super) async fn prune_changes(writer: &SqlitePool, now: DateTime<Utc>, keep: u32) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM monitor_changes WHERE id <= (SELECT max(id) FROM monitor_changes) - ?1 AND changed_at <= ?2",
    )
    .bind(i64::from(keep))
    .bind(time_text(now - UNREAD_FOR))
    .execute(writer)
    .await
    .map(drop)
    .map_err(|error| explain("shorten the change log", &error))
}

pub(super) async fn find(pool: &SqlitePool, text: &str) -> Result<Vec<MonitorId>, StoreError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM monitors WHERE id = ?1 OR uuid = ?2 OR name = ?2 ORDER BY id LIMIT 20")
            .bind(text.parse::<i64>().ok())
            .bind(text)
            .fetch_all(pool)
            .await
            .map_err(|error| explain("look for the monitor", &error))?;
    Ok(ids.into_iter().map(MonitorId).collect())
}

pub(super) async fn add(writer: &SqlitePool, monitor: &NewMonitor) -> Result<MonitorId, StoreError> {
    let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO monitors (name, kind, schedule");
    for column in monitor.columns.keys() {
        insert.push(", ").push(*column);
    }
    insert.push(") VALUES (").push_bind(&monitor.name).push(", ").push_bind(&monitor.kind);
    insert.push(", ").push_bind(&monitor.schedule);
    for value in monitor.columns.values() {
        insert.push(", ").push_bind(value);
    }
    insert.push(")");
    insert
        .build()
        .execute(writer)
        .await
        .map(|done| MonitorId(done.last_insert_rowid()))
        .map_err(|error| explain(&format!("register `{}`", monitor.name), &error))
}

pub(super) async fn set_active(writer: &SqlitePool, id: MonitorId, is_active: bool) -> Result<(), StoreError> {
    sqlx::query("UPDATE monitors SET is_active = ?2 WHERE id = ?1")
        .bind(id.0)
        .bind(i64::from(is_active))
        .execute(writer)
        .await
        .map(drop)
        .map_err(|error| explain(&format!("change monitor {id}"), &error))
}

/// Ids as a JSON array.
pub(super) fn json(ids: &[i64]) -> String {
    serde_json::Value::from(ids).to_string()
}
