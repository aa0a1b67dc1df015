//! What people read: the status view, one monitor whole, its runs; and, below, how history is summed up and goes.

mod keep;
mod prune;
mod rollup;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::database::{Database, Row, explain, query};
use crate::domain::{MonitorId, Span};
use crate::ports::{Columns, StoreError};
pub(super) use keep::{Keeping, keep};
#[cfg(test)]
pub(super) use prune::FORGETTABLE;
#[cfg(test)]
pub(super) use rollup::{DAY_PIECE, FIRST_HOUR, FIRST_RUN, HOUR_PIECE};

pub(super) async fn monitor_status(database: &Database, limit: u32) -> Result<Vec<Columns>, StoreError> {
    let rows = query("SELECT * FROM monitor_status ORDER BY name, id LIMIT ?1")
        .bind(limit)
        .fetch_all(database)
        .await
        .map_err(|error| explain("read the monitors' status", &error))?;
    Ok(rows.iter().map(Row::columns).collect())
}

pub(super) async fn monitor_record(database: &Database, id: MonitorId) -> Result<Option<Columns>, StoreError> {
    let row = query(
        "SELECT m.*, s.status, s.is_overdue, s.since, s.incident_id, s.is_acknowledged, s.acknowledged_by \
         FROM monitors m JOIN monitor_status s ON s.id = m.id WHERE m.id = ?1",
    )
    .bind(id.0)
    .fetch_optional(database)
    .await
    .map_err(|error| explain(&format!("read monitor {id}"), &error))?;
    Ok(row.as_ref().map(Row::columns))
}

pub(super) async fn runs(database: &Database, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    latest(database, "runs", "SELECT * FROM monitor_runs WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2", id, limit)
        .await
}

pub(super) async fn rollups(
    database: &Database,
    id: MonitorId,
    span: Span,
    limit: u32,
) -> Result<Vec<Columns>, StoreError> {
    let select = match span {
        Span::Hour => "SELECT * FROM monitor_run_hours WHERE monitor_id = ?1 ORDER BY starts_at DESC LIMIT ?2",
        Span::Day => "SELECT * FROM monitor_run_days WHERE monitor_id = ?1 ORDER BY starts_at DESC LIMIT ?2",
    };
    latest(database, "figures", select, id, limit).await
}

pub(super) async fn incidents(database: &Database, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    latest(database, "incidents", "SELECT * FROM incidents WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2", id, limit)
        .await
}

pub(super) async fn notifications(database: &Database, id: MonitorId, limit: u32) -> Result<Vec<Columns>, StoreError> {
    const SELECT: &str = "SELECT id, uuid, monitor_id, incident_id, type, severity, recipient, subject, status, \
           attempts, next_attempt_at, created_at, sent_at, last_error, merged_into \
         FROM notifications WHERE monitor_id = ?1 ORDER BY id DESC LIMIT ?2";
    latest(database, "notifications", SELECT, id, limit).await
}

async fn latest(
    database: &Database,
    what: &str,
    select: &'static str,
    id: MonitorId,
    limit: u32,
) -> Result<Vec<Columns>, StoreError> {
    let rows = query(select)
        .bind(id.0)
        .bind(limit)
        .fetch_all(database)
        .await
        .map_err(|error| explain(&format!("read the {what} of monitor {id}"), &error))?;
    Ok(rows.iter().map(Row::columns).collect())
}

pub(super) async fn figures(database: &Database, now: DateTime<Utc>) -> Result<BTreeMap<String, i64>, StoreError> {
    let explain = |error: sqlx::Error| explain("count what is in the database", &error);
    let row = query(
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
    .bind(now)
    .fetch_one(database)
    .await
    .map_err(explain)?;
    Ok(row.columns().into_iter().filter_map(|(name, value)| Some((name, value.as_i64()?))).collect())
}
