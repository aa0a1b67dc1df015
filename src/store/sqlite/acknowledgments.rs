//! Acknowledgments that nobody was told of yet: found, told and marked in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};
use watchbell_contract::Severity;

use super::errors::explain;
use super::values::{get, optional_text, text, time, time_text, word};
use crate::domain::{Acknowledgment, IncidentId, MonitorId, NewNotification};
use crate::ports::{ComposeAcknowledgment, StoreError};

const ACTION: &str = "tell of acknowledgments";

/// What a paused monitor has to tell waits until it is resumed; of one that is deleted its recovery tells.
macro_rules! untold {
    () => {
        "FROM incidents i JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND i.acknowledged_at IS NOT NULL \
           AND i.acknowledged_at IS NOT i.acknowledgment_told_at \
           AND (i.acknowledged_until IS NULL OR i.acknowledged_until > ?1) AND m.is_active = 1"
    };
}

pub(super) const IS_ANY_UNTOLD: &str = concat!("SELECT EXISTS (SELECT 1 ", untold!(), ")");

pub(super) const UNTOLD: &str = concat!(
    "SELECT i.id, i.monitor_id, i.opened_at, i.acknowledged_at, i.acknowledged_by, i.acknowledgment_note, \
       i.acknowledged_until, m.name, m.kind, m.labels, m.timezone, \
       json_array_length(m.people_to_notify) IS 0 AS is_silent ",
    untold!(),
    " ORDER BY i.id LIMIT ?2"
);

/// The channels that were told, as [`super::apply::READ_TOLD`] counts, and how badly.
pub(super) const TOLD: &str = "\
    SELECT DISTINCT recipient, severity FROM notifications WHERE incident_id = ?1 AND type IN ('alert', 'reminder') \
      AND status NOT IN ('held', 'withdrawn') AND instr(recipient, '@') = 0 ORDER BY recipient";

pub(super) async fn tell(
    readers: &SqlitePool,
    writer: &SqlitePool,
    now: DateTime<Utc>,
    limit: u32,
    compose: &ComposeAcknowledgment,
) -> Result<usize, StoreError> {
    let explain = |error: sqlx::Error| explain(ACTION, &error);
    // The usual answer is no, and costs no write lock.
    let is_any: i64 =
        sqlx::query_scalar(IS_ANY_UNTOLD).bind(time_text(now)).fetch_one(readers).await.map_err(explain)?;
    if is_any == 0 {
        return Ok(0);
    }
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let rows = sqlx::query(UNTOLD)
        .bind(time_text(now))
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await
        .map_err(explain)?;
    let mut queued = 0;
    for row in &rows {
        let acknowledgment = read(&mut transaction, row).await.map_err(explain)?;
        for notice in compose(&acknowledgment) {
            queue(&mut transaction, &acknowledgment, &notice, now).await.map_err(explain)?;
            queued += 1;
        }
        sqlx::query("UPDATE incidents SET acknowledgment_told_at = acknowledged_at WHERE id = ?1")
            .bind(acknowledgment.incident.0)
            .execute(&mut *transaction)
            .await
            .map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)?;
    Ok(queued)
}

async fn read(connection: &mut SqliteConnection, row: &SqliteRow) -> Result<Acknowledgment, sqlx::Error> {
    let incident: i64 = get(row, "id")?;
    // A row that wants nobody told by now: it is marked all the same.
    let is_silent = get::<i64>(row, "is_silent")? != 0;
    let told = if is_silent { Vec::new() } else { sqlx::query(TOLD).bind(incident).fetch_all(connection).await? };
    let mut severities: BTreeMap<String, Severity> = BTreeMap::new();
    for row in &told {
        let severity = word(row, "severity")?;
        let highest = severities.entry(text(row, "recipient")?).or_insert(severity);
        *highest = severity.max(*highest);
    }
    let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text(row, "labels")?).unwrap_or_default();
    Ok(Acknowledgment {
        incident: IncidentId(incident),
        monitor: MonitorId(get(row, "monitor_id")?),
        monitor_name: text(row, "name")?,
        kind: text(row, "kind")?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
        timezone: optional_text(row, "timezone")?,
        opened_at: time(row, "opened_at")?.unwrap_or_default(),
        at: time(row, "acknowledged_at")?.unwrap_or_default(),
        by: optional_text(row, "acknowledged_by")?,
        note: optional_text(row, "acknowledgment_note")?,
        until: time(row, "acknowledged_until")?,
        told: severities.into_iter().collect(),
    })
}

async fn queue(
    connection: &mut SqliteConnection,
    acknowledgment: &Acknowledgment,
    notice: &NewNotification,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, facts, rule, \
           origin, created_at, next_attempt_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
    )
    .bind(acknowledgment.monitor.0)
    .bind(acknowledgment.incident.0)
    .bind(notice.notification_type.as_str())
    .bind(notice.severity.as_str())
    .bind(&notice.recipient)
    .bind(&notice.subject)
    .bind(&notice.body)
    .bind(json!(notice.facts).to_string())
    .bind(&notice.rule)
    .bind(&notice.origin)
    .bind(time_text(now))
    .execute(connection)
    .await
    .map(drop)
}
