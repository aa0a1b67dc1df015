//! Why somebody was told, or was not: one run, what it owed, and what became of each message.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::database::{Connection, Database, Row, explain, query};
use crate::domain::MonitorId;
use crate::domain::rules::RuleTable;
use crate::ports::{Columns, Ledger, StoreError, Story};

/// More people than one run tells.
const MOST_NOTIFICATIONS: i64 = 1_000;
/// Four days of attempts, once a minute, and the decisions around them.
const MOST_EVENTS: i64 = 10_000;

/// What is shown of a notification: its body may be long, and its facts are in the body.
macro_rules! shown {
    () => {
        "n.id, n.uuid, n.monitor_id, n.incident_id, n.run_id, n.type, n.severity, n.recipient, n.subject, n.status, \
         n.attempts, n.next_attempt_at, n.created_at, n.planned_at, n.sent_at, n.last_error, n.merged_into, n.rule, \
         n.hold_reason, n.external_id, n.edits_external_id, n.lane"
    };
}
pub(super) use shown;

const RUN_AT: &str = "\
    SELECT * FROM monitor_runs WHERE monitor_id = ?1 AND coalesce(tick_at, started_at) <= ?2 ORDER BY id DESC LIMIT 1";
const RUN_THAT_TOLD: &str = "\
    SELECT * FROM monitor_runs r WHERE monitor_id = ?1 AND (notification_type IS NOT NULL OR state_before <> state_after \
      OR EXISTS (SELECT 1 FROM notifications n WHERE n.run_id = r.id)) ORDER BY id DESC LIMIT 1";
const LATEST_RUN: &str = "SELECT * FROM monitor_runs WHERE monitor_id = ?1 ORDER BY id DESC LIMIT 1";
const INCIDENT: &str = "\
    SELECT * FROM incidents WHERE monitor_id = ?1 AND opened_at <= ?2 AND (recovered_at IS NULL OR recovered_at >= ?2) \
    ORDER BY id DESC LIMIT 1";
const OF_RUN: &str = concat!("SELECT ", shown!(), " FROM notifications n WHERE n.run_id = ?1 ORDER BY n.id LIMIT ?2");
/// Until the next run of the monitor.
const WITHOUT_RUN: &str = concat!(
    "SELECT ",
    shown!(),
    " FROM notifications n WHERE n.monitor_id = ?1 AND n.run_id IS NULL AND n.created_at >= ?3 \
       AND NOT EXISTS (SELECT 1 FROM monitor_runs r WHERE r.monitor_id = ?1 AND r.id > ?2 \
         AND r.started_at <= n.created_at) ORDER BY n.id LIMIT ?4"
);
const TELLS: &str =
    concat!("SELECT ", shown!(), " FROM notifications m JOIN notifications n ON n.id = m.merged_into WHERE m.id = ?1");
/// A message may be merged into one that is merged in turn: a reminder into its alert, that into a digest.
const MOST_MERGES: usize = 10;
const EVENTS: &str = "\
    SELECT at, event, detail FROM (SELECT * FROM notification_events WHERE notification_id = ?1 ORDER BY id DESC LIMIT ?2) AS latest \
    ORDER BY id";
/// What keeps it from being tried, as the claim sees it.
const AHEAD: &str = concat!(
    "SELECT ",
    shown!(),
    " FROM notifications w, notifications n WHERE w.id = ?1 AND n.status IN ('pending', 'sending') \
       AND (n.id = w.waits_for OR (n.monitor_id = w.monitor_id AND n.recipient = w.recipient AND n.id < w.id)) \
     ORDER BY n.id LIMIT 1"
);
/// A channel that takes nothing is tried with one message, which then has attempts.
const CHANNEL_TROUBLE: &str = "\
    SELECT min(e.at) AS since, min(n.last_error) AS error FROM notifications n \
    JOIN notification_events e ON e.notification_id = n.id AND e.event = 'not taken' \
    WHERE n.lane = ?1 AND n.status IN ('pending', 'sending') AND n.attempts > 0 AND n.last_error IS NOT NULL \
    HAVING count(*) > 0";

pub(super) async fn story(
    database: &Database,
    id: MonitorId,
    at: Option<DateTime<Utc>>,
) -> Result<Option<Story>, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("read what became of a run of monitor {id}"), &error);
    // One transaction: a message that is settled meanwhile must not appear as sent and as waiting.
    let mut transaction = database.snapshot().await.map_err(explain)?;
    read(&mut transaction, id, at).await.map_err(explain)
}

async fn read(
    connection: &mut Connection,
    id: MonitorId,
    at: Option<DateTime<Utc>>,
) -> Result<Option<Story>, sqlx::Error> {
    let run = match at {
        Some(at) => query(RUN_AT).bind(id.0).bind(at).fetch_optional(&mut *connection).await?,
        None => match query(RUN_THAT_TOLD).bind(id.0).fetch_optional(&mut *connection).await? {
            Some(run) => Some(run),
            None => query(LATEST_RUN).bind(id.0).fetch_optional(&mut *connection).await?,
        },
    };
    let Some(row) = run else { return Ok(None) };
    let (run, started_at) = (row.columns(), row.time("started_at")?);
    let run_id = number(&run, "id");
    let incident =
        query(INCIDENT).bind(id.0).bind(started_at).fetch_optional(&mut *connection).await?.as_ref().map(Row::columns);
    let of_run = query(OF_RUN).bind(run_id).bind(MOST_NOTIFICATIONS).fetch_all(&mut *connection).await?;
    let without_run = query(WITHOUT_RUN)
        .bind(id.0)
        .bind(run_id)
        .bind(started_at)
        .bind(MOST_NOTIFICATIONS)
        .fetch_all(&mut *connection)
        .await?;
    let mut story = Story { run, incident, ..Story::default() };
    for row in &of_run {
        story.notifications.push(ledger(connection, row.columns()).await?);
    }
    for row in &without_run {
        story.without_run.push(ledger(connection, row.columns()).await?);
    }
    Ok(Some(story))
}

async fn ledger(connection: &mut Connection, notification: Columns) -> Result<Ledger, sqlx::Error> {
    let id = number(&notification, "id");
    let mut ledger = Ledger { events: events(connection, id).await?, ..Ledger::default() };
    let mut told_by = id;
    for _ in 0..MOST_MERGES {
        let row = query(TELLS).bind(told_by).fetch_optional(&mut *connection).await?;
        let Some(row) = row.as_ref().map(Row::columns) else { break };
        told_by = number(&row, "id");
        ledger.merged_into = Some(row);
    }
    if ledger.merged_into.is_some() {
        ledger.events_of_merged_into = events(connection, told_by).await?;
    }
    let waiting = ledger.merged_into.as_ref().unwrap_or(&notification);
    if matches!(words(waiting, "status").as_str(), "pending" | "sending") {
        let (waiting, lane) = (number(waiting, "id"), words(waiting, "lane"));
        let ahead = query(AHEAD).bind(waiting).fetch_optional(&mut *connection).await?;
        ledger.ahead = ahead.as_ref().map(Row::columns);
        let trouble = query(CHANNEL_TROUBLE).bind(lane).fetch_optional(&mut *connection).await?;
        ledger.channel_trouble = trouble.as_ref().map(Row::columns);
    }
    ledger.notification = notification;
    Ok(ledger)
}

async fn events(connection: &mut Connection, notification: i64) -> Result<Vec<Columns>, sqlx::Error> {
    let rows = query(EVENTS).bind(notification).bind(MOST_EVENTS).fetch_all(connection).await?;
    Ok(rows.iter().map(Row::columns).collect())
}

/// See [`crate::ports::Store::rule_record`].
pub(super) async fn rule_record(database: &Database, table: RuleTable, id: i64) -> Result<Option<Columns>, StoreError> {
    let select = match table {
        RuleTable::Channels => "SELECT * FROM channels WHERE id = ?1",
        RuleTable::Routes => "SELECT * FROM routes WHERE id = ?1",
        RuleTable::Silences => "SELECT * FROM silences WHERE id = ?1",
    };
    let row = query(select)
        .bind(id)
        .fetch_optional(database)
        .await
        .map_err(|error| explain(&format!("read row {id} of `{}`", table.as_str()), &error))?;
    Ok(row.as_ref().map(Row::columns).map(|mut columns| {
        columns.remove("url");
        columns
    }))
}

fn number(columns: &Columns, name: &str) -> i64 {
    columns.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn words(columns: &Columns, name: &str) -> String {
    columns.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
