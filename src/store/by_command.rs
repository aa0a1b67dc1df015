//! What people do from a room: how far it was read, acknowledgments, silences, and how everything stands.

use chrono::{DateTime, Utc};

use super::database::{Database, Row, explain, query};
use super::monitors::{COLUMNS, decode};
use crate::domain::commands::{Acknowledge, FailingMonitor, IncidentRecord, NewSilence, SilenceRecord, Summary};
use crate::domain::{IncidentId, MonitorId};
use crate::ports::StoreError;

pub(super) async fn inbox_cursor(database: &Database, channel: &str, url: &str) -> Result<Option<String>, StoreError> {
    query("SELECT inbox_cursor FROM channels WHERE name = ?1 AND url = ?2")
        .bind(channel)
        .bind(url)
        .fetch_optional(database)
        .await
        .and_then(|row| row.map_or(Ok(None), |row| row.optional_text("inbox_cursor")))
        .map_err(|error| explain(&format!("read how far the room of `{channel}` was read"), &error))
}

pub(super) async fn set_inbox_cursor(
    database: &Database,
    channel: &str,
    url: &str,
    cursor: &str,
) -> Result<(), StoreError> {
    query("UPDATE channels SET inbox_cursor = ?3 WHERE name = ?1 AND url = ?2")
        .bind(channel)
        .bind(url)
        .bind(cursor)
        .execute(database)
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
    WHERE id = ?1 AND recovered_at IS NULL AND {differs acknowledgment_command ?5} \
      AND (?7 = 1 OR acknowledged_at IS NULL OR acknowledged_until <= ?6)";

pub(super) async fn acknowledge(
    database: &Database,
    request: &Acknowledge,
    now: DateTime<Utc>,
) -> Result<Option<IncidentRecord>, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("acknowledge incident {}", request.incident.0), &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    query(ACKNOWLEDGE)
        .bind(request.incident.0)
        .bind(&request.by)
        .bind(&request.note)
        .bind(request.until)
        .bind(&request.command)
        .bind(now)
        .bind(request.until.is_some())
        .execute(&mut transaction)
        .await
        .map_err(explain)?;
    let row = query("SELECT * FROM incidents WHERE id = ?1")
        .bind(request.incident.0)
        .fetch_optional(&mut transaction)
        .await
        .map_err(explain)?;
    let record = row.as_ref().map(incident).transpose().map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(record)
}

fn incident(row: &Row) -> Result<IncidentRecord, sqlx::Error> {
    Ok(IncidentRecord {
        id: IncidentId(row.int("id")?),
        monitor_name: row.text("monitor_name")?,
        opened_at: row.time("opened_at")?.unwrap_or_default(),
        recovered_at: row.time("recovered_at")?,
        acknowledged_at: row.time("acknowledged_at")?,
        acknowledged_by: row.optional_text("acknowledged_by")?,
        acknowledged_until: row.time("acknowledged_until")?,
        acknowledgment_command: row.optional_text("acknowledgment_command")?,
    })
}

pub(super) async fn add_silence(database: &Database, silence: &NewSilence) -> Result<SilenceRecord, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("silence monitor {}", silence.monitor), &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    let there = query("SELECT count(*) AS there FROM silences WHERE command_id = ?1").bind(&silence.command);
    if there.int(&mut transaction).await.map_err(explain)? == 0 {
        query(
            "INSERT INTO silences (monitor_id, starts_at, ends_at, created_by, reason, command_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(silence.monitor.0)
        .bind(silence.starts_at)
        .bind(silence.ends_at)
        .bind(&silence.created_by)
        .bind(&silence.reason)
        .bind(&silence.command)
        .execute(&mut transaction)
        .await
        .map_err(explain)?;
    }
    let row = query("SELECT id, ends_at FROM silences WHERE command_id = ?1")
        .bind(&silence.command)
        .fetch_one(&mut transaction)
        .await
        .map_err(explain)?;
    let record = SilenceRecord {
        id: row.int("id").map_err(explain)?,
        ends_at: row.time("ends_at").map_err(explain)?.unwrap_or_default(),
    };
    transaction.commit().await.map_err(explain)?;
    Ok(record)
}

pub(super) async fn end_silences(
    database: &Database,
    monitor: MonitorId,
    now: DateTime<Utc>,
) -> Result<Vec<i64>, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("end the silences of monitor {monitor}"), &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    let ids = query(
        "SELECT id FROM silences WHERE monitor_id = ?1 AND command_id IS NOT NULL AND ends_at > ?2 ORDER BY id {lock}",
    )
    .bind(monitor.0)
    .bind(now)
    .ints(&mut transaction)
    .await
    .map_err(explain)?;
    let end = query("UPDATE silences SET ends_at = ?2 WHERE id {in 1}").bind(ids.clone()).bind(now);
    end.execute(&mut transaction).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(ids)
}

pub(super) async fn summary(database: &Database, now: DateTime<Utc>, limit: u32) -> Result<Summary, StoreError> {
    let explain = |error: sqlx::Error| explain("read how everything stands", &error);
    let counts = query(
        "SELECT (SELECT count(*) FROM monitors) AS monitors, \
           (SELECT count(*) FROM monitors WHERE is_active = 0) AS paused, \
           (SELECT count(*) FROM monitors WHERE is_active = 1 AND state = 'alert') AS in_alert, \
           (SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending')) AS waiting, \
           (SELECT count(*) FROM notifications WHERE status = 'held') AS held, \
           (SELECT count(*) FROM notifications WHERE status = 'failed') AS given_up",
    )
    .fetch_one(database)
    .await
    .map_err(explain)?;
    let count = |name: &str| -> Result<u64, StoreError> {
        counts.int(name).map(|count| u64::try_from(count).unwrap_or(0)).map_err(explain)
    };
    let columns = COLUMNS.split(", ").map(|column| format!("m.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT {columns}, i.id AS incident_id, i.opened_at, CASE WHEN i.acknowledged_at IS NOT NULL \
           AND (i.acknowledged_until IS NULL OR i.acknowledged_until > ?1) \
           THEN coalesce(i.acknowledged_by, 'somebody') END AS holder \
         FROM incidents i JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND m.is_active = 1 AND m.state = 'alert' \
         ORDER BY CASE WHEN i.acknowledged_at IS NULL OR i.acknowledged_until <= ?1 THEN 0 ELSE 1 END, i.opened_at DESC, i.id DESC LIMIT ?2"
    );
    let rows = query(sql).bind(now).bind(limit).fetch_all(database).await.map_err(explain)?;
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

fn failing(row: &Row) -> Result<FailingMonitor, sqlx::Error> {
    Ok(FailingMonitor {
        row: decode(row)?,
        incident: IncidentId(row.int("incident_id")?),
        opened_at: row.time("opened_at")?.unwrap_or_default(),
        acknowledged_by: row.optional_text("holder")?,
    })
}
