//! Writes a plan: each step, with its line in the ledger.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::SqliteConnection;

use crate::domain::planning::Step;
use crate::domain::{HoldReason, NewNotification, NotificationId};
use crate::store::sqlite::monitors::json as json_ids;
use crate::store::sqlite::values::{get, time_text};

/// It goes out after every digest that tells of the same monitor and is not settled yet.
pub(in crate::store::sqlite) const SEND: &str = "\
    UPDATE notifications SET status = 'pending', planned_at = ?2, next_attempt_at = min(next_attempt_at, ?2), \
      hold_reason = NULL, waits_for = coalesce((SELECT max(d.id) FROM notifications d \
        WHERE d.recipient = notifications.recipient AND d.type = 'digest' AND d.status IN ('pending', 'sending') \
          AND EXISTS (SELECT 1 FROM notifications e WHERE e.merged_into = d.id \
            AND e.monitor_id = notifications.monitor_id AND e.id < notifications.id)), ?3) \
    WHERE id = ?1";

pub(super) async fn write(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    step: &Step,
    held: &HashMap<NotificationId, HoldReason>,
) -> Result<(), sqlx::Error> {
    let now = time_text(now);
    match step {
        Step::Send { id, waits_for } => {
            sqlx::query(SEND).bind(id.0).bind(&now).bind(waits_for.map(|id| id.0)).execute(&mut *connection).await?;
            match held.get(id) {
                Some(reason) => event(connection, *id, &now, "released", Some(&reason.to_string())).await,
                None => Ok(()),
            }
        }
        Step::Hold { id, hold } => {
            sqlx::query(
                "UPDATE notifications SET status = 'held', next_attempt_at = ?2, hold_reason = ?3 WHERE id = ?1",
            )
            .bind(id.0)
            .bind(time_text(hold.until))
            .bind(hold.reason.to_string())
            .execute(&mut *connection)
            .await?;
            if held.get(id) == Some(&hold.reason) {
                return Ok(());
            }
            let detail = format!("{} until {}", hold.reason, time_text(hold.until));
            event(connection, *id, &now, "held", Some(&detail)).await
        }
        Step::Withdraw { id, why } => {
            sqlx::query("UPDATE notifications SET status = 'withdrawn' WHERE id = ?1")
                .bind(id.0)
                .execute(&mut *connection)
                .await?;
            event(connection, *id, &now, "withdrawn", Some(why)).await
        }
        Step::Merge { ids, into } => merge(connection, ids, into.0, &now).await,
        Step::Retell { id, subject, body, facts } => {
            sqlx::query("UPDATE notifications SET subject = ?2, body = ?3, facts = ?4 WHERE id = ?1")
                .bind(id.0)
                .bind(subject)
                .bind(body)
                .bind(json!(facts).to_string())
                .execute(connection)
                .await
                .map(drop)
        }
        Step::Digest { message, members, edits } => {
            let digest = queue(connection, message, edits.as_deref(), &now).await?;
            merge(connection, members, digest, &now).await?;
            sqlx::query(WAIT_FOR_EARLIER_DIGESTS).bind(digest).execute(connection).await.map(drop)
        }
        Step::Queue { message } => queue(connection, message, None, &now).await.map(drop),
    }
}

/// The digests of one recipient go out in their order: what waits for one of them waits for those before it too, so
/// that no recovery goes out before a digest that tells its alert.
pub(in crate::store::sqlite) const WAIT_FOR_EARLIER_DIGESTS: &str = "\
    UPDATE notifications SET waits_for = (SELECT max(d.id) FROM notifications d \
      WHERE d.recipient = notifications.recipient AND d.id < notifications.id AND d.type = 'digest' \
        AND d.status IN ('pending', 'sending')) \
    WHERE id = ?1";

async fn merge(
    connection: &mut SqliteConnection,
    ids: &[NotificationId],
    into: i64,
    now: &str,
) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    sqlx::query(
        "UPDATE notifications SET status = 'merged', merged_into = ?2 WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(json_ids(&ids))
    .bind(into)
    .execute(&mut *connection)
    .await?;
    // What was merged into one of them is now told by the same message.
    sqlx::query("UPDATE notifications SET merged_into = ?2 WHERE merged_into IN (SELECT value FROM json_each(?1))")
        .bind(json_ids(&ids))
        .bind(into)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO notification_events (notification_id, at, event, detail) \
         SELECT value, ?2, 'merged', ?3 FROM json_each(?1)",
    )
    .bind(json_ids(&ids))
    .bind(now)
    .bind(format!("into notification {into}"))
    .execute(connection)
    .await
    .map(drop)
}

async fn queue(
    connection: &mut SqliteConnection,
    message: &NewNotification,
    edits: Option<&str>,
    now: &str,
) -> Result<i64, sqlx::Error> {
    let hold = message.hold.as_ref();
    let row = sqlx::query(
        "INSERT INTO notifications (type, severity, recipient, subject, body, facts, rule, origin, status, created_at, \
           next_attempt_at, hold_reason, planned_at, edits_external_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) RETURNING id",
    )
    .bind(message.notification_type.as_str())
    .bind(message.severity.as_str())
    .bind(&message.recipient)
    .bind(&message.subject)
    .bind(&message.body)
    .bind(json!(message.facts).to_string())
    .bind(&message.rule)
    .bind(&message.origin)
    .bind(if hold.is_some() { "held" } else { "pending" })
    .bind(now)
    .bind(hold.map_or_else(|| now.to_owned(), |hold| time_text(hold.until)))
    .bind(hold.map(|hold| hold.reason.to_string()))
    .bind(hold.is_none().then_some(now))
    .bind(edits)
    .fetch_one(connection)
    .await?;
    get(&row, "id")
}

/// Adds to the ledger of a notification.
pub(in crate::store::sqlite) async fn event(
    connection: &mut SqliteConnection,
    id: NotificationId,
    at: &str,
    event: &str,
    detail: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO notification_events (notification_id, at, event, detail) VALUES (?1, ?2, ?3, ?4)")
        .bind(id.0)
        .bind(at)
        .bind(event)
        .bind(detail)
        .execute(connection)
        .await
        .map(drop)
}
