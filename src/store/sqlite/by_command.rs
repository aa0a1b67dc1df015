//! What people do from a room: how far it was read, acknowledgments, silences, and how everything stands.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqlitePool};

use super::errors::explain;
use super::monitors::{COLUMNS, decode};
use super::values::{get, optional_text, text, time, time_text};
use crate::domain::commands::{Acknowledge, FailingMonitor, IncidentRecord, NewSilence, SilenceRecord, Summary};
use crate::domain::{IncidentId, MonitorId};
use crate::ports::StoreError;

pub(super) async fn inbox_cursor(pool: &SqlitePool, channel: &str, url: &str) -> Result<Option<String>, StoreError> {
    let row: Option<Option<String>> =
        sqlx::query_scalar("SELECT inbox_cursor FROM channels WHERE name = ?1 AND url = ?2")
            .bind(channel)
            .bind(url)
            .fetch_optional(pool)
            .await
            .map_err(|error| explain(&format!("read how far the room of `{channel}` was read"), &error))?;
    Ok(row.flatten())
}

pub(super) async fn set_inbox_cursor(
    writer: &SqlitePool,
    channel: &str,
    url: &str,
    cursor: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE channels SET inbox_cursor = ?3 WHERE name = ?1 AND url = ?2")
        .bind(channel)
        .bind(url)
        .bind(cursor)
        .execute(writer)
        .await
        .map(drop)
        .map_err(|error| explain(&format!("write how far the room of `{channel}` was read"), &error))
}

/// Another end leaves `acknowledged_at` as it is: nobody needs to be told anew.
const ACKNOWLEDGE: &str = "\
    UPDATE incidents SET \
      acknowledged_at = CASE WHEN acknowledged_at IS NOT NULL AND (acknowledged_until IS NULL OR acknowledged_until > ?6) \
        THEN acknowledged_at ELSE ?6 END, \
      acknowledged_by = ?2, acknowledgment_note = coalesce(?3, acknowledgment_note), acknowledged_until = ?4, \
      acknowledgment_command = ?5 \
    WHERE id = ?1 AND recovered_at IS NULL AND acknowledgment_command IS NOT ?5 \
      AND (?4 IS NOT NULL OR acknowledged_at IS NULL OR acknowledged_until <= ?6)";

pub(super) async fn acknowledge(
    writer: &SqlitePool,
    request: &Acknowledge,
    now: DateTime<Utc>,
) -> Result<Option<IncidentRecord>, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("acknowledge incident {}", request.incident.0), &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    sqlx::query(ACKNOWLEDGE)
        .bind(request.incident.0)
        .bind(&request.by)
        .bind(&request.note)
        .bind(request.until.map(time_text))
        .bind(&request.command)
        .bind(time_text(now))
        .execute(&mut *transaction)
        .await
        .map_err(explain)?;
    let row = sqlx::query("SELECT * FROM incidents WHERE id = ?1")
        .bind(request.incident.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(explain)?;
    let record = row.as_ref().map(incident).transpose().map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(record)
}

fn incident(row: &SqliteRow) -> Result<IncidentRecord, sqlx::Error> {
    Ok(IncidentRecord {
        id: IncidentId(get(row, "id")?),
        monitor_name: text(row, "monitor_name")?,
        opened_at: time(row, "opened_at")?.unwrap_or_default(),
        recovered_at: time(row, "recovered_at")?,
        acknowledged_at: time(row, "acknowledged_at")?,
        acknowledged_by: optional_text(row, "acknowledged_by")?,
        acknowledged_until: time(row, "acknowledged_until")?,
        acknowledgment_command: optional_text(row, "acknowledgment_command")?,
    })
}

pub(super) async fn add_silence(writer: &SqlitePool, silence: &NewSilence) -> Result<SilenceRecord, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("silence monitor {}", silence.monitor), &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    sqlx::query(
        "INSERT INTO silences (monitor_id, starts_at, ends_at, created_by, reason, command_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (command_id) WHERE command_id IS NOT NULL DO NOTHING",
    )
    .bind(silence.monitor.0)
    .bind(time_text(silence.starts_at))
    .bind(time_text(silence.ends_at))
    .bind(&silence.created_by)
    .bind(&silence.reason)
    .bind(&silence.command)
    .execute(&mut *transaction)
    .await
    .map_err(explain)?;
    let row = sqlx::query("SELECT id, ends_at FROM silences WHERE command_id = ?1")
        .bind(&silence.command)
        .fetch_one(&mut *transaction)
        .await
        .map_err(explain)?;
    let record = SilenceRecord {
        id: get(&row, "id").map_err(explain)?,
        ends_at: time(&row, "ends_at").map_err(explain)?.unwrap_or_default(),
    };
    transaction.commit().await.map_err(explain)?;
    Ok(record)
}

pub(super) async fn end_silences(
    writer: &SqlitePool,
    monitor: MonitorId,
    now: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    let mut ids: Vec<i64> = sqlx::query_scalar(
        "UPDATE silences SET ends_at = ?2 WHERE monitor_id = ?1 AND command_id IS NOT NULL AND ends_at > ?2 RETURNING id",
    )
    .bind(monitor.0)
    .bind(time_text(now))
    .fetch_all(writer)
    .await
    .map_err(|error| explain(&format!("end the silences of monitor {monitor}"), &error))?;
    ids.sort_unstable();
    Ok(ids)
}

pub(super) async fn summary(pool: &SqlitePool, now: DateTime<Utc>, limit: u32) -> Result<Summary, StoreError> {
    let explain = |error: sqlx::Error| explain("read how everything stands", &error);
    let counts = sqlx::query(
        "SELECT (SELECT count(*) FROM monitors) AS monitors, \
           (SELECT count(*) FROM monitors WHERE is_active = 0) AS paused, \
           (SELECT count(*) FROM monitors WHERE is_active = 1 AND state = 'alert') AS in_alert, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending')) AS waiting, \
           (SELECT count(*) FROM notifications WHERE status = 'held') AS held, \
           (SELECT count(*) FROM notifications WHERE status = 'failed') AS given_up",
    )
    .fetch_one(pool)
    .await
    .map_err(explain)?;
    let count = |name: &str| -> Result<u64, StoreError> {
        get::<i64>(&counts, name).map(|count| u64::try_from(count).unwrap_or(0)).map_err(explain)
    };
    let columns = COLUMNS.split(", ").map(|column| format!("m.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT {columns}, i.id AS incident_id, i.opened_at, CASE WHEN i.acknowledged_at IS NOT NULL \
           AND (i.acknowledged_until IS NULL OR i.acknowledged_until > ?1) \
           THEN coalesce(i.acknowledged_by, 'somebody') END AS holder \
         FROM incidents i JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND m.is_active = 1 AND m.state = 'alert' \
         ORDER BY holder IS NOT NULL, i.opened_at DESC, i.id DESC LIMIT ?2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(time_text(now))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(explain)?;
    Ok(Summary {
        monitors: count("monitors")?,
        paused: count("paused")?,
        in_alert: count("in_alert")?,
        failing: rows.iter().map(failing).collect::<Result<_, _>>().map_err(explain)?,
        waiting: count("waiting")?,
        held: count("held")?,
        given_up: count("given_up")?,
    })
}

fn failing(row: &SqliteRow) -> Result<FailingMonitor, sqlx::Error> {
    Ok(FailingMonitor {
        row: decode(row)?,
        incident: IncidentId(get(row, "incident_id")?),
        opened_at: time(row, "opened_at")?.unwrap_or_default(),
        acknowledged_by: optional_text(row, "holder")?,
    })
}
