//! The outbox: which notification is tried next, by whom, and how it ended.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::errors::explain;
use super::values::{count, get, optional_text, read_time, text, time, time_text, word};
use crate::domain::{IncidentId, MonitorId, NotificationId, OutboxRow, Settlement};
use crate::ports::StoreError;

/// Takes what is due and heads its line: of one recipient and incident, only the earliest that is not settled.
/// A notification that another process holds (an unexpired lease) holds its line.
pub(super) const CLAIM: &str = "\
    UPDATE notifications SET status = 'sending', attempts = attempts + 1, lease_owner = ?1, lease_until = ?3 \
    WHERE id IN ( \
      SELECT n.id FROM notifications n \
      WHERE n.status IN ('pending', 'sending') AND n.next_attempt_at <= ?2 \
        AND (n.status = 'pending' OR n.lease_until IS NULL OR n.lease_until <= ?2) \
        AND NOT EXISTS ( \
          SELECT 1 FROM notifications e \
          WHERE e.incident_id = n.incident_id AND e.recipient = n.recipient AND e.id < n.id \
            AND e.status IN ('pending', 'sending')) \
      ORDER BY n.next_attempt_at, n.id LIMIT ?4) \
    RETURNING id";

/// Like [`CLAIM`], what waits behind another is not due: a mail server that is down is not asked for at every look.
pub(super) const NEXT: &str = "\
    SELECT min(max(n.next_attempt_at, coalesce(n.lease_until, ''))) FROM notifications n \
    WHERE n.status IN ('pending', 'sending') \
      AND NOT EXISTS ( \
        SELECT 1 FROM notifications e \
        WHERE e.incident_id = n.incident_id AND e.recipient = n.recipient AND e.id < n.id \
          AND e.status IN ('pending', 'sending'))";

const READ: &str = "\
    SELECT n.id, n.uuid, n.monitor_id, m.uuid AS monitor_uuid, n.incident_id, n.type, n.severity, n.recipient, \
      n.subject, n.body, n.attempts, n.created_at, \
      coalesce((SELECT f.uuid FROM notifications f WHERE f.incident_id = n.incident_id AND f.recipient = n.recipient \
        ORDER BY f.id LIMIT 1), n.uuid) AS thread_uuid \
    FROM notifications n LEFT JOIN monitors m ON m.id = n.monitor_id \
    WHERE n.id IN (SELECT value FROM json_each(?1)) ORDER BY n.id";

pub(super) async fn claim(
    writer: &SqlitePool,
    owner: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<OutboxRow>, StoreError> {
    let explain = |error: sqlx::Error| explain("take notifications to send", &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let ids: Vec<i64> = sqlx::query_scalar(CLAIM)
        .bind(owner)
        .bind(time_text(now))
        .bind(time_text(lease_until))
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await
        .map_err(explain)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows =
        sqlx::query(READ).bind(super::monitors::json(&ids)).fetch_all(&mut *transaction).await.map_err(explain)?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        match decode(row) {
            Ok(notification) => claimed.push(notification),
            // A row that somebody wrote by hand and that is none of ours: it steps aside, the others go on.
            Err(error) => give_up(&mut transaction, get(row, "id").map_err(explain)?, &error).await.map_err(explain)?,
        }
    }
    transaction.commit().await.map_err(explain)?;
    Ok(claimed)
}

async fn give_up(connection: &mut SqliteConnection, id: i64, error: &sqlx::Error) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE notifications SET status = 'failed', last_error = ?2, lease_owner = NULL WHERE id = ?1")
        .bind(id)
        .bind(format!("the row cannot be read: {error}"))
        .execute(connection)
        .await
        .map(drop)
}

fn decode(row: &SqliteRow) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        id: NotificationId(get(row, "id")?),
        uuid: text(row, "uuid")?,
        monitor_id: row.try_get::<Option<i64>, _>("monitor_id")?.map(MonitorId),
        monitor_uuid: optional_text(row, "monitor_uuid")?,
        incident_id: row.try_get::<Option<i64>, _>("incident_id")?.map(IncidentId),
        thread_uuid: text(row, "thread_uuid")?,
        incident_uuid: None,
        thread_external_id: None,
        edits_external_id: None,
        facts: crate::domain::Facts::default(),
        notification_type: word(row, "type")?,
        severity: word(row, "severity")?,
        recipient: text(row, "recipient")?,
        subject: text(row, "subject")?,
        body: text(row, "body")?,
        attempts: count(row, "attempts")?,
        created_at: time(row, "created_at")?.unwrap_or_default(),
    })
}

pub(super) async fn settle(
    writer: &SqlitePool,
    owner: &str,
    settlements: &[(NotificationId, Settlement)],
) -> Result<u64, StoreError> {
    let explain = |error: sqlx::Error| explain("write how deliveries ended", &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let mut written = 0;
    for (id, settlement) in settlements {
        let (status, sent_at, next_attempt_at, error) = match settlement {
            Settlement::Sent { at, .. } => ("sent", Some(time_text(*at)), None, None),
            Settlement::Retry { next_attempt_at, error } => {
                ("pending", None, Some(time_text(*next_attempt_at)), Some(error))
            }
            Settlement::Failed { error } => ("failed", None, None, Some(error)),
        };
        let done = sqlx::query(
            "UPDATE notifications SET status = ?3, sent_at = ?4, next_attempt_at = coalesce(?5, next_attempt_at), \
               last_error = ?6, lease_owner = NULL, lease_until = NULL \
             WHERE id = ?1 AND status = 'sending' AND lease_owner = ?2",
        )
        .bind(id.0)
        .bind(owner)
        .bind(status)
        .bind(sent_at)
        .bind(next_attempt_at)
        .bind(error)
        .execute(&mut *transaction)
        .await
        .map_err(explain)?;
        written += done.rows_affected();
    }
    transaction.commit().await.map_err(explain)?;
    Ok(written)
}

pub(super) async fn release_leases_of_others(writer: &SqlitePool, owner: &str) -> Result<u64, StoreError> {
    // Leases of the command line carry no node's prefix: those programs may still be sending.
    sqlx::query(
        "UPDATE notifications SET status = 'pending', lease_owner = NULL, lease_until = NULL \
         WHERE status = 'sending' AND lease_owner <> ?1 AND lease_owner LIKE 'node:%'",
    )
    .bind(owner)
    .execute(writer)
    .await
    .map(|done| done.rows_affected())
    .map_err(|error| explain("take up interrupted deliveries", &error))
}

pub(super) async fn next_attempt_at(pool: &SqlitePool) -> Result<Option<DateTime<Utc>>, StoreError> {
    let text: Option<String> = sqlx::query_scalar(NEXT)
        .fetch_one(pool)
        .await
        .map_err(|error| explain("look for the next delivery", &error))?;
    Ok(read_time(text.as_deref()))
}
