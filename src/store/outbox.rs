//! The outbox for people: what waits and why, what was given up and is sent again, and trials.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::database::{Connection, Database, Row, explain, query};
use super::delivery::{READ, decode, lock_outbox};
use super::planning::{event, facts};
use super::story::shown;
use crate::domain::{
    GivenUp, NotificationId, NotificationStatus, NotificationType, OutboxRow, Relative, Retry, RetryRefusal, retry,
    was_down,
};
use crate::ports::{Columns, OutboxFilter, Retried, StoreError, Trial};

/// What is listed where nobody asks for anything else.
const UNSETTLED: [&str; 4] = ["pending", "sending", "held", "failed"];
/// A backlog grows where more comes than goes within this span.
const FLOW: TimeDelta = TimeDelta::minutes(10);

const LIST: &str = concat!(
    "SELECT ",
    shown!(),
    " FROM notifications n WHERE n.status {in 1} AND (?2 = '' OR n.recipient = ?2) \
       AND (?4 = 1 OR n.type <> 'test' OR n.status <> 'failed') ORDER BY n.id LIMIT ?3"
);

const LANE_FIGURES: &str = "\
    SELECT n.lane, \
      count(CASE WHEN n.status IN ('pending', 'sending') THEN 1 END) AS waiting, \
      min(CASE WHEN n.status IN ('pending', 'sending') THEN n.created_at END) AS oldest_created_at, \
      max(CASE WHEN n.status IN ('pending', 'sending') THEN n.attempts END) AS most_attempts, \
      count(CASE WHEN n.status = 'held' THEN 1 END) AS held, \
      count(CASE WHEN n.status = 'failed' AND n.type <> 'test' THEN 1 END) AS given_up, \
      count(CASE WHEN n.created_at >= ?1 THEN 1 END) AS arrived, count(CASE WHEN n.sent_at >= ?1 THEN 1 END) AS sent, \
      (SELECT e.last_error FROM notifications e WHERE e.lane = n.lane AND e.status IN ('pending', 'sending') \
        AND e.last_error IS NOT NULL ORDER BY e.id LIMIT 1) AS last_error \
    FROM notifications n GROUP BY n.lane ORDER BY n.lane";

const GIVEN_UP: &str = "\
    SELECT n.id, n.type, n.status, i.recovered_at IS NOT NULL AS is_over, r.id AS recovery_id, r.status AS recovery_status \
    FROM notifications n LEFT JOIN incidents i ON i.id = n.incident_id \
    LEFT JOIN notifications r ON r.incident_id = n.incident_id AND r.recipient = n.recipient AND r.type = 'recovery' \
      AND r.id <> n.id \
    WHERE n.id = ?1";

/// What else of an incident was given up for the recipient of its recovery.
const UNTOLD: &str = "\
    SELECT u.id, u.type, {field u.facts message} AS message FROM notifications r \
    JOIN notifications u ON u.incident_id = r.incident_id AND u.recipient = r.recipient AND u.id <> r.id \
    WHERE r.id = ?1 AND u.status = 'failed' AND u.type IN ('alert', 'reminder') ORDER BY u.id";

pub(super) async fn list(database: &Database, filter: &OutboxFilter) -> Result<Vec<Columns>, StoreError> {
    let statuses: Vec<String> = match filter.statuses.is_empty() {
        true => UNSETTLED.map(str::to_owned).to_vec(),
        false => filter.statuses.iter().map(ToString::to_string).collect(),
    };
    let rows = query(LIST)
        .bind(statuses)
        .bind(filter.recipient.as_deref().unwrap_or_default())
        .bind(i64::from(filter.limit))
        // A trial that failed was told to whoever asked for it.
        .bind(!filter.statuses.is_empty())
        .fetch_all(database)
        .await
        .map_err(|error| explain("list the outbox", &error))?;
    Ok(rows.iter().map(Row::columns).collect())
}

pub(super) async fn lane_figures(database: &Database, now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError> {
    let rows = query(LANE_FIGURES)
        .bind(now - FLOW)
        .fetch_all(database)
        .await
        .map_err(|error| explain("count what waits for each channel", &error))?;
    Ok(rows.iter().map(Row::columns).collect())
}

pub(super) async fn given_up(
    database: &Database,
    recipient: Option<&str>,
    after: NotificationId,
    limit: u32,
) -> Result<Vec<NotificationId>, StoreError> {
    let ids = query(
        "SELECT id FROM notifications WHERE status = 'failed' AND type <> 'test' AND id > ?1 AND (?2 = '' OR recipient = ?2) \
         ORDER BY id LIMIT ?3",
    )
    .bind(after.0)
    .bind(recipient.unwrap_or_default())
    .bind(limit)
    .ints(database)
    .await
    .map_err(|error| explain("look for what was given up", &error))?;
    Ok(ids.into_iter().map(NotificationId).collect())
}

pub(super) async fn retry_all(
    database: &Database,
    now: DateTime<Utc>,
    ids: &[NotificationId],
) -> Result<Vec<Retried>, StoreError> {
    let explain = |error: sqlx::Error| explain("send again what was given up", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let mut answers: Vec<Retried> = Vec::with_capacity(ids.len());
    for id in ids {
        // Told by the recovery of one before it in this very list.
        let is_along =
            answers.iter().any(|(other, along)| along.as_ref().is_ok_and(|along| other != id && along.contains(id)));
        let answer = match is_along {
            true => Ok(Vec::new()),
            false => retry_one(&mut transaction, now, *id).await.map_err(explain)?,
        };
        answers.push((*id, answer));
    }
    transaction.commit().await.map_err(explain)?;
    Ok(answers)
}

async fn retry_one(
    connection: &mut Connection,
    now: DateTime<Utc>,
    id: NotificationId,
) -> Result<Result<Vec<NotificationId>, RetryRefusal>, sqlx::Error> {
    let row = query(GIVEN_UP).bind(id.0).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(Err(RetryRefusal::Unknown)) };
    let recovery = match row.optional_int("recovery_id")? {
        Some(recovery) => Some(Relative { id: NotificationId(recovery), status: row.word("recovery_status")? }),
        None => None,
    };
    let given_up = GivenUp {
        id,
        notification_type: row.word("type")?,
        status: row.word("status")?,
        is_over: row.flag("is_over")?,
        recovery,
    };
    match retry(&given_up) {
        Err(refusal) => Ok(Err(refusal)),
        Ok(Retry::Alone) => revive(connection, now, id).await.map(|()| Ok(Vec::new())),
        Ok(Retry::Through(recovery)) => {
            let is_given_up = recovery == id
                || given_up.recovery.is_some_and(|recovery| recovery.status == NotificationStatus::Failed);
            if is_given_up {
                revive(connection, now, recovery).await?;
            }
            let mut along = tell_through(connection, now, recovery).await?;
            along.push(recovery);
            along.retain(|other| *other != id);
            Ok(Ok(along))
        }
    }
}

/// As fresh as when it was queued, but for its age: it is tried a hundred times more before it is given up again.
async fn revive(connection: &mut Connection, now: DateTime<Utc>, id: NotificationId) -> Result<(), sqlx::Error> {
    query(
        "UPDATE notifications SET status = 'pending', attempts = 0, next_attempt_at = ?2, \
           planned_at = coalesce(planned_at, ?2), hold_reason = NULL, lease_owner = NULL, lease_until = NULL \
         WHERE id = ?1 AND status = 'failed'",
    )
    .bind(id.0)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    event(connection, id, now, "retried", Some("by hand")).await
}

/// Merges what was given up of an incident into its recovery, which then says that it was down.
async fn tell_through(
    connection: &mut Connection,
    now: DateTime<Utc>,
    recovery: NotificationId,
) -> Result<Vec<NotificationId>, sqlx::Error> {
    let untold = query(UNTOLD).bind(recovery.0).fetch_all(&mut *connection).await?;
    let mut along = Vec::with_capacity(untold.len());
    for row in &untold {
        if row.word::<NotificationType>("type")? == NotificationType::Alert {
            let message = row.optional_text("message")?.unwrap_or_default();
            retell(connection, recovery, &message).await?;
        }
        let id = NotificationId(row.int("id")?);
        query("UPDATE notifications SET status = 'merged', merged_into = ?2 WHERE id = ?1")
            .bind(id.0)
            .bind(recovery.0)
            .execute(&mut *connection)
            .await?;
        event(connection, id, now, "retried", Some("by hand")).await?;
        event(connection, id, now, "merged", Some(&format!("into notification {}", recovery.0))).await?;
        along.push(id);
    }
    Ok(along)
}

async fn retell(connection: &mut Connection, recovery: NotificationId, alert_message: &str) -> Result<(), sqlx::Error> {
    let row = query("SELECT severity, facts FROM notifications WHERE id = ?1")
        .bind(recovery.0)
        .fetch_one(&mut *connection)
        .await?;
    let (subject, body, facts) = was_down(row.word("severity")?, &facts(&row)?, alert_message);
    query("UPDATE notifications SET subject = ?2, body = ?3, facts = {as json ?4} WHERE id = ?1")
        .bind(recovery.0)
        .bind(subject)
        .bind(body)
        .bind(json!(facts).to_string())
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn queue_trial(
    database: &Database,
    now: DateTime<Utc>,
    owner: &str,
    trial: &Trial,
) -> Result<OutboxRow, StoreError> {
    let explain = |error: sqlx::Error| explain("queue the trial", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    let id = query(
        "INSERT INTO notifications (type, severity, recipient, subject, body, facts, rule, origin, status, attempts, \
           created_at, next_attempt_at, planned_at, lease_owner, lease_until) \
         VALUES ('test', 'info', ?1, ?2, ?3, {as json ?4}, ?5, ?5, 'sending', 1, ?6, ?6, ?6, ?7, ?8) {returning id}",
    )
    .bind(&trial.recipient)
    .bind(&trial.subject)
    .bind(&trial.body)
    .bind(json!(trial.facts).to_string())
    .bind(&trial.rule)
    .bind(now)
    .bind(owner)
    .bind(trial.lease_until)
    .insert(&mut transaction)
    .await
    .map_err(explain)?;
    let row = query(READ).bind(vec![id]).fetch_one(&mut transaction).await.map_err(explain)?;
    let queued = decode(&row).map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(queued)
}
