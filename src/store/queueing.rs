//! One notification that is queued by itself; those of runs are queued many at a time, in [`super::apply`].

use chrono::{DateTime, Utc};
use serde_json::json;

use super::database::{Connection, query};
use crate::domain::NewNotification;

/// What a notification belongs to, and what is known of it beside what it says.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Its key; by default one of the database's making.
    pub(super) uuid: Option<String>,
    /// Whose.
    pub(super) monitor_id: Option<i64>,
    /// Of which incident.
    pub(super) incident_id: Option<i64>,
    /// Set where nothing is left to be decided about it.
    pub(super) planned_at: Option<DateTime<Utc>>,
    /// The message that it is edited into.
    pub(super) edits_external_id: Option<String>,
}

/// Queues it; returns its id.
pub(super) async fn insert_notification(
    connection: &mut Connection,
    now: DateTime<Utc>,
    message: &NewNotification,
    owed: Owed,
) -> Result<i64, sqlx::Error> {
    let hold = message.hold.as_ref();
    // A column that is named cannot be given its default.
    let insert = match &owed.uuid {
        Some(_) => {
            "INSERT INTO notifications (type, severity, recipient, subject, body, facts, rule, origin, status, created_at, \
               next_attempt_at, hold_reason, planned_at, edits_external_id, monitor_id, incident_id, uuid) \
             VALUES (?1, ?2, ?3, ?4, ?5, {as json ?6}, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) {returning id}"
        }
        None => {
            "INSERT INTO notifications (type, severity, recipient, subject, body, facts, rule, origin, status, created_at, \
               next_attempt_at, hold_reason, planned_at, edits_external_id, monitor_id, incident_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, {as json ?6}, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) {returning id}"
        }
    };
    let insert = query(insert)
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
        .bind(hold.map_or(now, |hold| hold.until))
        .bind(hold.map(|hold| hold.reason.to_string()))
        .bind(owed.planned_at)
        .bind(owed.edits_external_id)
        .bind(owed.monitor_id)
        .bind(owed.incident_id);
    match owed.uuid {
        Some(uuid) => insert.bind(uuid),
        None => insert,
    }
    .insert(connection)
    .await
}
