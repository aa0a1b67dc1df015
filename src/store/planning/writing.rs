//! Writes a plan: each step, with its line in the ledger.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::domain::planning::Step;
use crate::domain::{HoldReason, NewNotification, NotificationId};
use crate::store::database::{Batch, Connection, Type, query, sqlite_time};
use crate::store::queueing::{Owed, insert_notification};

/// It goes out after every digest that tells of the same monitor and is not settled yet. (MySQL reads the table that it
/// updates only through a derived one.)
pub(in crate::store) const SEND: &str = "\
    UPDATE notifications SET status = 'pending', planned_at = ?2, \
      next_attempt_at = CASE WHEN next_attempt_at > ?2 THEN ?2 ELSE next_attempt_at END, hold_reason = NULL, \
      waits_for = coalesce((SELECT ahead.digest FROM (SELECT max(d.id) AS digest FROM notifications t \
        JOIN notifications d ON d.recipient = t.recipient AND d.type = 'digest' AND d.status IN ('pending', 'sending') \
        WHERE t.id = ?1 AND EXISTS (SELECT 1 FROM notifications e WHERE e.merged_into = d.id \
          AND e.monitor_id = t.monitor_id AND e.id < t.id)) AS ahead), ?3) \
    WHERE id = ?1";

pub(super) async fn write(
    connection: &mut Connection,
    now: DateTime<Utc>,
    step: &Step,
    held: &HashMap<NotificationId, HoldReason>,
) -> Result<(), sqlx::Error> {
    match step {
        Step::Send { id, waits_for } => {
            query(SEND).bind(id.0).bind(now).bind(waits_for.map(|id| id.0)).execute(&mut *connection).await?;
            match held.get(id) {
                Some(reason) => event(connection, *id, now, "released", Some(&reason.to_string())).await,
                None => Ok(()),
            }
        }
        Step::Hold { id, hold } => {
            query("UPDATE notifications SET status = 'held', next_attempt_at = ?2, hold_reason = ?3 WHERE id = ?1")
                .bind(id.0)
                .bind(hold.until)
                .bind(hold.reason.to_string())
                .execute(&mut *connection)
                .await?;
            if held.get(id) == Some(&hold.reason) {
                return Ok(());
            }
            let detail = format!("{} until {}", hold.reason, sqlite_time(hold.until));
            event(connection, *id, now, "held", Some(&detail)).await
        }
        Step::Withdraw { id, why } => {
            query("UPDATE notifications SET status = 'withdrawn' WHERE id = ?1")
                .bind(id.0)
                .execute(&mut *connection)
                .await?;
            event(connection, *id, now, "withdrawn", Some(why)).await
        }
        Step::Merge { ids, into } => merge(connection, ids, into.0, now).await,
        Step::Retell { id, subject, body, facts } => {
            query("UPDATE notifications SET subject = ?2, body = ?3, facts = {as json ?4} WHERE id = ?1")
                .bind(id.0)
                .bind(subject)
                .bind(body)
                .bind(json!(facts).to_string())
                .execute(connection)
                .await
                .map(drop)
        }
        Step::Digest { message, members, edits } => {
            let digest = queue(connection, message, edits.clone(), now).await?;
            merge(connection, members, digest, now).await?;
            query(WAIT_FOR_EARLIER_DIGESTS).bind(digest).execute(connection).await.map(drop)
        }
        Step::Queue { message } => queue(connection, message, None, now).await.map(drop),
    }
}

/// The digests of one recipient go out in their order: what waits for one of them waits for those before it too, so
/// that no recovery goes out before a digest that tells its alert.
pub(in crate::store) const WAIT_FOR_EARLIER_DIGESTS: &str = "\
    UPDATE notifications SET waits_for = (SELECT ahead.digest FROM (SELECT max(d.id) AS digest FROM notifications t \
      JOIN notifications d ON d.recipient = t.recipient AND d.id < t.id AND d.type = 'digest' \
        AND d.status IN ('pending', 'sending') WHERE t.id = ?1) AS ahead) \
    WHERE id = ?1";

async fn merge(
    connection: &mut Connection,
    ids: &[NotificationId],
    into: i64,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    query("UPDATE notifications SET status = 'merged', merged_into = ?2 WHERE id {in 1}")
        .bind(ids.clone())
        .bind(into)
        .execute(&mut *connection)
        .await?;
    // What was merged into one of them is now told by the same message.
    query("UPDATE notifications SET merged_into = ?2 WHERE merged_into {in 1}")
        .bind(ids.clone())
        .bind(into)
        .execute(&mut *connection)
        .await?;
    let mut merged = Batch::new(&[("notification_id", Type::Int), ("at", Type::Time)]);
    for id in ids {
        merged.push(vec![id.into(), now.into()]);
    }
    query(
        "INSERT INTO notification_events (notification_id, at, event, detail) \
         SELECT b.notification_id, b.at, 'merged', ?1 FROM {batch} AS b",
    )
    .bind(format!("into notification {into}"))
    .batch(merged)
    .execute(connection)
    .await
    .map(drop)
}

async fn queue(
    connection: &mut Connection,
    message: &NewNotification,
    edits_external_id: Option<String>,
    now: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    // What is held is planned once more.
    let planned_at = message.hold.is_none().then_some(now);
    let owed = Owed { planned_at, edits_external_id, ..Owed::default() };
    insert_notification(connection, now, message, owed).await
}

/// Adds to the ledger of a notification.
pub(in crate::store) async fn event(
    connection: &mut Connection,
    id: NotificationId,
    at: DateTime<Utc>,
    event: &str,
    detail: Option<&str>,
) -> Result<(), sqlx::Error> {
    query("INSERT INTO notification_events (notification_id, at, event, detail) VALUES (?1, ?2, ?3, ?4)")
        .bind(id.0)
        .bind(at)
        .bind(event)
        .bind(detail)
        .execute(connection)
        .await
        .map(drop)
}
