//! What people read: the status view, one monitor whole, its runs; and how old history goes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row, SqlitePool, TypeInfo, ValueRef};

use super::errors::explain;
use super::monitors::json;
use super::values::time_text;
use crate::domain::MonitorId;
use crate::ports::{Columns, StoreError};

pub(super) async fn monitor_status(pool: &SqlitePool, limit: u32) -> Result<Vec<Columns>, StoreError> {
    let rows = sqlx::query("SELECT * FROM monitor_status ORDER BY name, id LIMIT ?1")
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(|error| explain("read the monitors' status", &error))?;
    Ok(rows.iter().map(columns).collect())
}

pub(super) async fn monitor_record(pool: &SqlitePool, id: MonitorId) -> Result<Option<Columns>, StoreError> {
    let row = sqlx::query(
        "SELECT m.*, s.status, s.is_overdue, s.since, s.incident_id, s.is_acknowledged, s.acknowledged_by \
         FROM monitors m JOIN monitor_status s ON s.id = m.id WHERE m.id = ?1",
    )
    .bind(id.0)
    .fetch_optional(pool)
    .await
    .map_err(|error| explain(&format!("read monitor {id}"), &error))?;
    Ok(row.as_ref().map(columns))
}

pub(super) async fn runs(pool: &SqlitePool, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    latest(pool, "runs", "SELECT * FROM monitor_runs WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2", id, limit).await
}

pub(super) async fn incidents(pool: &SqlitePool, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    latest(pool, "incidents", "SELECT * FROM incidents WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2", id, limit)
        .await
}

pub(super) async fn notifications(pool: &SqlitePool, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    const SELECT: &str = "SELECT id, uuid, monitor_id, incident_id, type, severity, recipient, subject, status, \
           attempts, next_attempt_at, created_at, sent_at, last_error, merged_into \
         FROM notifications WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2";
    latest(pool, "notifications", SELECT, id, limit).await
}

async fn latest(
    pool: &SqlitePool,
    what: &str,
    select: &'static str,
    id: MonitorId,
    limit: u32,
) -> Result<Vec<Columns>, StoreError> {
    let rows = sqlx::query(select)
        .bind(id.0)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(|error| explain(&format!("read the {what} of monitor {id}"), &error))?;
    Ok(rows.iter().map(columns).collect())
}

/// All columns of a row as JSON; columns that hold JSON are embedded as such.
pub(super) fn columns(row: &SqliteRow) -> Columns {
    const JSON: [&str; 5] = ["config", "labels", "metrics", "people_to_notify", "recipients"];
    row.columns()
        .iter()
        .map(|column| {
            let name = column.name();
            let value = value(row, column.ordinal());
            let value = match value {
                Value::String(text) if JSON.contains(&name) => {
                    serde_json::from_str(&text).unwrap_or(Value::String(text))
                }
                other => other,
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn value(row: &SqliteRow, index: usize) -> Value {
    let Ok(raw) = row.try_get_raw(index) else { return Value::Null };
    if raw.is_null() {
        return Value::Null;
    }
    match raw.type_info().name() {
        "INTEGER" | "BOOLEAN" => row.try_get::<i64, _>(index).map_or(Value::Null, Value::from),
        "REAL" => row.try_get::<f64, _>(index).map_or(Value::Null, Value::from),
        _ => row.try_get::<&[u8], _>(index).map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into()),
    }
}

pub(super) async fn figures(pool: &SqlitePool, now: DateTime<Utc>) -> Result<BTreeMap<String, i64>, StoreError> {
    let explain = |error: sqlx::Error| explain("count what is in the database", &error);
    let row = sqlx::query(
        "SELECT \
           (SELECT count(*) FROM monitors) AS monitors, \
           (SELECT count(*) FROM monitors WHERE is_active = 1) AS active_monitors, \
           (SELECT count(*) FROM monitors WHERE state = 'alert') AS monitors_in_alert, \
           (SELECT count(*) FROM monitors WHERE config_error IS NOT NULL) AS monitors_with_config_error, \
           (SELECT count(*) FROM monitor_status WHERE is_overdue = 1) AS monitors_overdue, \
           (SELECT count(*) FROM monitors WHERE is_active = 1 AND people_to_notify IS NULL) AS monitors_telling_nobody, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending')) AS notifications_waiting, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending') AND attempts > 1) \
             AS notifications_in_trouble, \
           (SELECT count(*) FROM notifications WHERE status = 'failed' AND type <> 'test') AS notifications_given_up, \
           (SELECT count(*) FROM nodes WHERE lease_until > ?1) AS live_nodes",
    )
    .bind(time_text(now))
    .fetch_one(pool)
    .await
    .map_err(explain)?;
    row.columns()
        .iter()
        .map(|column| Ok((column.name().to_owned(), row.try_get(column.ordinal()).map_err(explain)?)))
        .collect()
}

/// What may go, by table: how to find it, and how to delete what was found if that is still true of it.
///
/// Finding may walk past much that must stay (runs of incidents that are open for months), so it is done without the
/// write lock.
pub(super) const FORGETTABLE: [(&str, &str); 4] = [
    (
        "SELECT r.id FROM monitor_runs r WHERE r.started_at < ?1 AND NOT EXISTS (SELECT 1 FROM incidents i \
           WHERE i.monitor_id = r.monitor_id AND i.recovered_at IS NULL AND i.opened_at <= r.started_at) \
         ORDER BY r.started_at LIMIT ?2",
        "DELETE FROM monitor_runs WHERE id IN (SELECT value FROM json_each(?1)) AND NOT EXISTS (SELECT 1 \
           FROM incidents i WHERE i.monitor_id = monitor_runs.monitor_id AND i.recovered_at IS NULL \
             AND i.opened_at <= monitor_runs.started_at)",
    ),
    (
        "SELECT n.id FROM notifications n WHERE n.created_at < ?1 \
           AND n.status IN ('sent', 'merged', 'withdrawn', 'failed') AND NOT EXISTS (SELECT 1 FROM incidents i \
             WHERE i.id = n.incident_id AND i.recovered_at IS NULL) \
         ORDER BY n.created_at LIMIT ?2",
        "DELETE FROM notifications WHERE id IN (SELECT value FROM json_each(?1)) \
           AND status IN ('sent', 'merged', 'withdrawn', 'failed') AND NOT EXISTS (SELECT 1 FROM incidents i \
             WHERE i.id = notifications.incident_id AND i.recovered_at IS NULL)",
    ),
    (
        "SELECT i.id FROM incidents i WHERE i.recovered_at < ?1 \
           AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.incident_id = i.id) \
         ORDER BY i.recovered_at LIMIT ?2",
        "DELETE FROM incidents WHERE id IN (SELECT value FROM json_each(?1)) AND recovered_at IS NOT NULL \
           AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.incident_id = incidents.id)",
    ),
    (
        "SELECT id FROM nodes WHERE lease_until < ?1 LIMIT ?2",
        "DELETE FROM nodes WHERE id IN (SELECT value FROM json_each(?1))",
    ),
];

pub(super) async fn prune(
    readers: &SqlitePool,
    writer: &SqlitePool,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, StoreError> {
    let explain = |error: sqlx::Error| explain("forget old history", &error);
    let before = time_text(before);
    let mut gone = 0;
    for (find, delete) in FORGETTABLE {
        let found: Vec<i64> =
            sqlx::query_scalar(find).bind(&before).bind(i64::from(limit)).fetch_all(readers).await.map_err(explain)?;
        if !found.is_empty() {
            let done = sqlx::query(delete).bind(json(&found)).execute(writer).await.map_err(explain)?;
            gone += done.rows_affected();
        }
    }
    Ok(gone)
}
