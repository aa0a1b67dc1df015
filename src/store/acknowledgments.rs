//! Acknowledgments that nobody was told of yet: found, told and marked in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::database::{Connection, Database, Row, explain, query};
use super::delivery::lock_outbox;
use super::queueing::{Owed, insert_notification};
use crate::domain::{Acknowledgment, IncidentId, MonitorId};
use crate::ports::{ComposeAcknowledgment, StoreError};

const ACTION: &str = "tell of acknowledgments";

/// What a paused monitor has to tell waits until it is resumed; of one that is deleted its recovery tells.
macro_rules! untold {
    () => {
        "FROM incidents i JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND i.acknowledged_at IS NOT NULL \
           AND {differs i.acknowledged_at i.acknowledgment_told_at} \
           AND (i.acknowledged_until IS NULL OR i.acknowledged_until > ?1) AND m.is_active = 1"
    };
}

pub(super) const IS_ANY_UNTOLD: &str = concat!("SELECT EXISTS (SELECT 1 ", untold!(), ") AS is_any");

pub(super) const UNTOLD: &str = concat!(
    "SELECT i.id, i.monitor_id, i.opened_at, i.acknowledged_at, i.acknowledged_by, i.acknowledgment_note, \
       i.acknowledged_until, m.name, m.kind, m.labels, m.timezone, \
       {length m.people_to_notify} = 0 AS is_silent ",
    untold!(),
    " ORDER BY i.id LIMIT ?2"
);

/// The channels that were told, as [`super::apply::READ_TOLD`] counts, and how badly.
pub(super) const TOLD: &str = "\
    SELECT DISTINCT recipient, severity FROM notifications WHERE incident_id = ?1 AND type IN ('alert', 'reminder') \
      AND status NOT IN ('held', 'withdrawn') AND recipient NOT LIKE '%@%' ORDER BY recipient";

pub(super) async fn tell(
    database: &Database,
    now: DateTime<Utc>,
    limit: u32,
    compose: &ComposeAcknowledgment,
) -> Result<usize, StoreError> {
    let explain = |error: sqlx::Error| explain(ACTION, &error);
    // The usual answer is no, and costs no write lock.
    let is_any = query(IS_ANY_UNTOLD).bind(now).fetch_one(database).await.map_err(explain)?;
    if !is_any.flag("is_any").map_err(explain)? {
        return Ok(0);
    }
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let rows = query(UNTOLD).bind(now).bind(limit).fetch_all(&mut transaction).await.map_err(explain)?;
    let mut queued = 0;
    for row in &rows {
        let acknowledgment = read(&mut transaction, row).await.map_err(explain)?;
        for notice in compose(&acknowledgment) {
            let owed = Owed {
                monitor_id: Some(acknowledgment.monitor.0),
                incident_id: Some(acknowledgment.incident.0),
                ..Owed::default()
            };
            insert_notification(&mut transaction, now, &notice, owed).await.map_err(explain)?;
            queued += 1;
        }
        query("UPDATE incidents SET acknowledgment_told_at = acknowledged_at WHERE id = ?1")
            .bind(acknowledgment.incident.0)
            .execute(&mut transaction)
            .await
            .map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)?;
    Ok(queued)
}

async fn read(connection: &mut Connection, row: &Row) -> Result<Acknowledgment, sqlx::Error> {
    let incident: i64 = row.int("id")?;
    // A row that wants nobody told by now: it is marked all the same.
    let is_silent = row.flag("is_silent")?;
    let told = if is_silent { Vec::new() } else { query(TOLD).bind(incident).fetch_all(connection).await? };
    let mut severities: BTreeMap<String, Severity> = BTreeMap::new();
    for row in &told {
        let severity = row.word("severity")?;
        let highest = severities.entry(row.text("recipient")?).or_insert(severity);
        *highest = severity.max(*highest);
    }
    let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&row.text("labels")?).unwrap_or_default();
    Ok(Acknowledgment {
        incident: IncidentId(incident),
        monitor: MonitorId(row.int("monitor_id")?),
        monitor_name: row.text("name")?,
        kind: row.text("kind")?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
        timezone: row.optional_text("timezone")?,
        opened_at: row.time("opened_at")?.unwrap_or_default(),
        at: row.time("acknowledged_at")?.unwrap_or_default(),
        by: row.optional_text("acknowledged_by")?,
        note: row.optional_text("acknowledgment_note")?,
        until: row.time("acknowledged_until")?,
        told: severities.into_iter().collect(),
    })
}
