//! Many runs, one transaction: read what they meet, decide, write what they owe.
//!
//! `BEGIN IMMEDIATE` takes the write lock before anything is read, so what is decided on is what is written to. The
//! guard of the UPDATE can then only fail through an error of ours; if it does, nothing of the batch is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};
use watchbell_contract::Severity;

use super::errors::explain;
use super::monitors::by_ids;
use super::rules::RulesCache;
use super::values::{count, get, optional_text, text, time, time_text, word};
use crate::domain::rules::Rules;
use crate::domain::{
    Change, Current, Decision, FinishedRun, HoldReason, IncidentId, IncidentReference, MonitorId, MonitorRow,
    OpenIncident, RowUpdate,
};
use crate::ports::{Applied, DecideWork, NodeIdentity, StoreError, Work};

const ACTION: &str = "write the outcomes of checks";

/// What Watchbell itself writes, and what tells whether a person edited the row.
pub(super) const READ_COUNTERS: &str = "\
    SELECT id, revision, state, consecutive_ok_count, consecutive_alert_count, last_tick_at, last_run_at, \
      last_notification_at, next_run_at, config_error, recheck_seq, write_seq \
    FROM monitors WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const READ_INCIDENTS: &str = "\
    SELECT id, monitor_id, monitor_name, opened_at, acknowledged_at, acknowledged_until, is_silent FROM incidents \
    WHERE recovered_at IS NULL AND monitor_id IN (SELECT value FROM json_each(?1))";

/// What another message of the incident tells counts as that one does: it may be held back itself.
pub(super) const READ_TOLD: &str = "\
    SELECT DISTINCT n.incident_id, n.recipient, n.severity, \
      n.status NOT IN ('held', 'withdrawn') AND (n.status <> 'merged' OR t.incident_id IS NULL) AS is_told \
    FROM notifications n LEFT JOIN notifications t ON t.id = n.merged_into \
    WHERE n.incident_id IN (SELECT value FROM json_each(?1)) AND n.type IN ('alert', 'reminder', 'recovery')";

/// The one UPDATE of every run in the batch, guarded by what was read in this transaction.
pub(super) const UPDATE_ROWS: &str = "\
    UPDATE monitors SET \
      write_seq = write_seq + 1, \
      state = json_extract(j.value, '$[3]'), \
      consecutive_ok_count = json_extract(j.value, '$[4]'), \
      consecutive_alert_count = json_extract(j.value, '$[5]'), \
      last_tick_at = json_extract(j.value, '$[6]'), \
      last_run_at = json_extract(j.value, '$[7]'), \
      last_result_message = coalesce(json_extract(j.value, '$[8]'), last_result_message), \
      last_notification_at = coalesce(json_extract(j.value, '$[9]'), last_notification_at), \
      last_notification_type = coalesce(json_extract(j.value, '$[10]'), last_notification_type), \
      next_run_at = json_extract(j.value, '$[11]'), \
      config_error = json_extract(j.value, '$[12]'), \
      skipped_tick_count = skipped_tick_count + json_extract(j.value, '$[13]'), \
      missed_tick_count = missed_tick_count + json_extract(j.value, '$[14]') \
    FROM json_each(?1) AS j \
    WHERE monitors.id = json_extract(j.value, '$[0]') AND monitors.write_seq = json_extract(j.value, '$[1]') \
      AND monitors.revision = json_extract(j.value, '$[2]')";

pub(super) async fn apply(
    writer: &SqlitePool,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    work: &[Work],
    cache: &RulesCache,
    decide: &DecideWork,
) -> Result<Vec<Applied>, StoreError> {
    let explain = |error: sqlx::Error| explain(ACTION, &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let mut rows = read_rows(&mut transaction, work).await.map_err(explain)?;
    let mut incidents = read_incidents(&mut transaction, work).await.map_err(explain)?;
    let rules = cache.read(&mut transaction).await.map_err(explain)?;
    let mut dependents = read_dependents(&mut transaction, work, &rules).await.map_err(explain)?;
    let mut changes = Vec::new();
    let mut answers = Vec::with_capacity(work.len());
    for piece in work {
        let id = piece.monitor_id();
        let current = Current {
            row: rows.remove(&id),
            incident: incidents.remove(&id),
            now,
            rules: rules.clone(),
            dependents: dependents.remove(&id).unwrap_or_default(),
        };
        match decide(piece, &current) {
            Decision::Discard(reason) => answers.push(Applied::Discarded(reason)),
            Decision::Apply(change) => {
                answers.push(answer(&change));
                changes.push((piece, change));
            }
        }
    }
    if !changes.is_empty() {
        write(&mut transaction, now, node, &changes).await?;
        transaction.commit().await.map_err(explain)?;
    }
    Ok(answers)
}

fn answer(change: &Change) -> Applied {
    Applied::Written {
        state_before: change.state_before,
        state_after: change.row.as_ref().map(|row| row.state),
        notification_type: change.notification_type,
        queued: change.notifications.len(),
        is_recheck_asked_for: change.row.as_ref().is_some_and(|row| row.last_run_at.is_none()),
    }
}

// Reading.

/// The rows as they are now. Where no person edited a row since its check began (the same `revision`), only the
/// columns that Watchbell itself writes are read again.
async fn read_rows(
    connection: &mut SqliteConnection,
    work: &[Work],
) -> Result<HashMap<MonitorId, MonitorRow>, sqlx::Error> {
    let snapshots: HashMap<MonitorId, &FinishedRun> = work
        .iter()
        .filter_map(|piece| match piece {
            Work::Run(run) => Some((run.monitor.id, run.as_ref())),
            Work::Edit { .. } => None,
        })
        .collect();
    let mut whole: BTreeSet<i64> =
        work.iter().map(Work::monitor_id).filter(|id| !snapshots.contains_key(id)).map(|id| id.0).collect();
    let mut rows = HashMap::with_capacity(work.len());
    let light = sqlx::query(READ_COUNTERS).bind(ids(snapshots.keys())).fetch_all(&mut *connection).await?;
    for row in &light {
        let id = MonitorId(get(row, "id")?);
        match snapshots.get(&id) {
            Some(run) if run.monitor.revision == get::<i64>(row, "revision")? => {
                rows.insert(id, refreshed(&run.monitor, row)?);
            }
            _ => drop(whole.insert(id.0)),
        }
    }
    if !whole.is_empty() {
        rows.extend(by_ids(connection, &Value::from_iter(whole).to_string()).await?);
    }
    Ok(rows)
}

fn refreshed(snapshot: &MonitorRow, row: &SqliteRow) -> Result<MonitorRow, sqlx::Error> {
    Ok(MonitorRow {
        state: word(row, "state")?,
        consecutive_ok_count: count(row, "consecutive_ok_count")?,
        consecutive_alert_count: count(row, "consecutive_alert_count")?,
        last_tick_at: time(row, "last_tick_at")?,
        last_run_at: time(row, "last_run_at")?,
        last_notification_at: time(row, "last_notification_at")?,
        next_run_at: time(row, "next_run_at")?,
        config_error: optional_text(row, "config_error")?,
        recheck_seq: get(row, "recheck_seq")?,
        write_seq: get(row, "write_seq")?,
        ..snapshot.clone()
    })
}

/// The open incidents of these monitors, with who was told of them.
async fn read_incidents(
    connection: &mut SqliteConnection,
    work: &[Work],
) -> Result<HashMap<MonitorId, OpenIncident>, sqlx::Error> {
    let monitors: Vec<MonitorId> = work.iter().map(Work::monitor_id).collect();
    let open = sqlx::query(READ_INCIDENTS).bind(ids(monitors.iter())).fetch_all(&mut *connection).await?;
    if open.is_empty() {
        return Ok(HashMap::new());
    }
    let mut told = read_told(connection, &open).await?;
    open.iter()
        .map(|row| {
            let id: i64 = get(row, "id")?;
            let Told { told, alerted } = told.remove(&id).unwrap_or_default();
            let incident = OpenIncident {
                id: IncidentId(id),
                monitor_id: MonitorId(get(row, "monitor_id")?),
                alerted: alerted.into_iter().collect(),
                monitor_name: text(row, "monitor_name")?,
                opened_at: time(row, "opened_at")?.unwrap_or_default(),
                acknowledged_at: time(row, "acknowledged_at")?,
                acknowledged_until: time(row, "acknowledged_until")?,
                told_severity: told.values().max().copied(),
                is_silent: get::<i64>(row, "is_silent")? != 0,
                told: told.into_keys().collect(),
            };
            Ok((MonitorId(get(row, "monitor_id")?), incident))
        })
        .collect()
}

/// Who was told of an incident, how badly, and who has a message of it in whatever status.
#[derive(Default)]
struct Told {
    told: BTreeMap<String, Severity>,
    alerted: BTreeSet<String>,
}

/// The names of the monitors that depend on those of the batch.
async fn read_dependents(
    connection: &mut SqliteConnection,
    work: &[Work],
    rules: &Rules,
) -> Result<HashMap<MonitorId, Vec<String>>, sqlx::Error> {
    let mut dependents = HashMap::new();
    if rules.dependencies.is_empty() {
        return Ok(dependents);
    }
    for monitor in work.iter().map(Work::monitor_id) {
        let below = rules.dependencies.descendants(monitor);
        if !below.is_empty() {
            let names = sqlx::query_scalar(
                "SELECT name FROM monitors WHERE is_active = 1 AND id IN (SELECT value FROM json_each(?1)) ORDER BY name",
            );
            dependents.insert(monitor, names.bind(ids(below.iter())).fetch_all(&mut *connection).await?);
        }
    }
    Ok(dependents)
}

async fn read_told(connection: &mut SqliteConnection, open: &[SqliteRow]) -> Result<HashMap<i64, Told>, sqlx::Error> {
    let incidents = open.iter().map(|row| get::<i64>(row, "id")).collect::<Result<Vec<_>, _>>()?;
    let rows = sqlx::query(READ_TOLD).bind(super::monitors::json(&incidents)).fetch_all(connection).await?;
    let mut told: HashMap<i64, Told> = HashMap::new();
    for row in &rows {
        let severity = word(row, "severity")?;
        let Told { told: of_incident, alerted } = told.entry(get(row, "incident_id")?).or_default();
        alerted.insert(text(row, "recipient")?);
        if get::<i64>(row, "is_told")? == 0 {
            continue;
        }
        let highest = of_incident.entry(text(row, "recipient")?).or_insert(severity);
        *highest = severity.max(*highest);
    }
    Ok(told)
}

fn ids<'a>(monitors: impl Iterator<Item = &'a MonitorId>) -> String {
    Value::from_iter(monitors.map(|id| id.0)).to_string()
}

// Writing.

async fn write(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    changes: &[(&Work, Box<Change>)],
) -> Result<(), StoreError> {
    let explain = |error: sqlx::Error| explain(ACTION, &error);
    update_rows(connection, changes).await?;
    let runs = insert_runs(connection, node, changes).await.map_err(explain)?;
    close_incidents(connection, changes).await.map_err(explain)?;
    release_dependents(connection, now, changes).await.map_err(explain)?;
    let opened = open_incidents(connection, changes).await.map_err(explain)?;
    queue_notifications(connection, now, changes, &opened, &runs).await.map_err(explain)
}

async fn update_rows(connection: &mut SqliteConnection, changes: &[(&Work, Box<Change>)]) -> Result<(), StoreError> {
    let rows: Vec<Value> =
        changes.iter().filter_map(|(work, change)| change.row.as_ref().map(|row| row_values(work, row))).collect();
    let expected = rows.len() as u64;
    if expected == 0 {
        return Ok(());
    }
    let done = sqlx::query(UPDATE_ROWS)
        .bind(Value::Array(rows).to_string())
        .execute(connection)
        .await
        .map_err(|error| explain(ACTION, &error))?;
    if done.rows_affected() == expected {
        return Ok(());
    }
    let written = done.rows_affected();
    let reason = format!("{written} of {expected} rows were as they had just been read");
    Err(StoreError::Refused { action: ACTION.to_owned(), reason })
}

fn row_values(work: &Work, row: &RowUpdate) -> Value {
    let (skipped, missed) = match work {
        Work::Run(run) => (run.skipped_ticks, run.missed_ticks),
        Work::Edit { .. } => (0, 0),
    };
    json!([
        row.id.0,
        row.write_seq,
        row.revision,
        row.state.as_str(),
        row.consecutive_ok_count,
        row.consecutive_alert_count,
        row.last_tick_at.map(time_text),
        row.last_run_at.map(time_text),
        row.last_result_message,
        row.last_notification.map(|(at, _)| time_text(at)),
        row.last_notification.map(|(_, kind)| kind.as_str()),
        row.next_run_at.map(time_text),
        row.config_error,
        skipped,
        missed,
    ])
}

/// The ids of the runs, by monitor: each has at most one in a batch.
async fn insert_runs(
    connection: &mut SqliteConnection,
    node: &NodeIdentity,
    changes: &[(&Work, Box<Change>)],
) -> Result<HashMap<MonitorId, i64>, sqlx::Error> {
    let runs: Vec<Value> = changes
        .iter()
        .filter_map(|(work, change)| match (work, &change.row) {
            (Work::Run(run), Some(row)) => Some(run_values(run, change, row)),
            _ => None,
        })
        .collect();
    if runs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, metrics, \
           state_before, state_after, notification_type, reason, node) \
         SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), \
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'), \
           json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'), \
           json_extract(value, '$[9]'), json_extract(value, '$[10]'), json_extract(value, '$[11]'), ?2 \
         FROM json_each(?1) RETURNING monitor_id, id",
    )
    .bind(Value::Array(runs).to_string())
    .bind(&node.name)
    .fetch_all(connection)
    .await?;
    by_monitor(&rows)
}

fn run_values(run: &FinishedRun, change: &Change, row: &RowUpdate) -> Value {
    let metrics = &run.outcome.metrics;
    json!([
        row.id.0,
        run.cause.as_str(),
        run.tick.map(time_text),
        time_text(run.started_at),
        u64::try_from(run.duration.as_millis()).unwrap_or(u64::MAX),
        i64::from(run.outcome.is_ok),
        run.outcome.message,
        (!metrics.is_empty()).then(|| json!(metrics).to_string()),
        change.state_before.as_str(),
        row.state.as_str(),
        change.notification_type.map(|kind| kind.as_str()),
        change.reason,
    ])
}

async fn close_incidents(
    connection: &mut SqliteConnection,
    changes: &[(&Work, Box<Change>)],
) -> Result<(), sqlx::Error> {
    for (incident, recovered_at) in changes.iter().filter_map(|(_, change)| change.closed) {
        sqlx::query("UPDATE incidents SET recovered_at = ?2 WHERE id = ?1 AND recovered_at IS NULL")
            .bind(incident.0)
            .bind(time_text(recovered_at))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// What waits for a monitor that is back is looked at anew at once.
async fn release_dependents(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    changes: &[(&Work, Box<Change>)],
) -> Result<(), sqlx::Error> {
    for (work, _) in changes.iter().filter(|(_, change)| change.closed.is_some()) {
        sqlx::query("UPDATE notifications SET next_attempt_at = ?1 WHERE status = 'held' AND hold_reason = ?2")
            .bind(time_text(now))
            .bind(HoldReason::Dependency(Some(work.monitor_id().0)).to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The ids of the incidents that were opened, by monitor.
async fn open_incidents(
    connection: &mut SqliteConnection,
    changes: &[(&Work, Box<Change>)],
) -> Result<HashMap<MonitorId, i64>, sqlx::Error> {
    let opened: Vec<Value> = changes
        .iter()
        .filter_map(|(work, change)| {
            let opened = change.opened.as_ref()?;
            Some(json!([
                work.monitor_id().0,
                opened.monitor_name,
                time_text(opened.opened_at),
                opened.opening_message,
                opened.recovered_at.map(time_text),
            ]))
        })
        .collect();
    if opened.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message, recovered_at) \
         SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), \
           json_extract(value, '$[3]'), json_extract(value, '$[4]') \
         FROM json_each(?1) RETURNING monitor_id, id",
    )
    .bind(Value::Array(opened).to_string())
    .fetch_all(connection)
    .await?;
    by_monitor(&rows)
}

fn by_monitor(rows: &[SqliteRow]) -> Result<HashMap<MonitorId, i64>, sqlx::Error> {
    rows.iter().map(|row| Ok((MonitorId(row.try_get(0)?), row.try_get(1)?))).collect()
}

async fn queue_notifications(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    changes: &[(&Work, Box<Change>)],
    opened: &HashMap<MonitorId, i64>,
    runs: &HashMap<MonitorId, i64>,
) -> Result<(), sqlx::Error> {
    let mut queued = Vec::new();
    for (work, change) in changes {
        let monitor = work.monitor_id();
        for (reference, notification) in &change.notifications {
            let incident = match reference {
                IncidentReference::Existing(incident) => Some(incident.0),
                IncidentReference::Opened => opened.get(&monitor).copied(),
            };
            queued.push(json!([
                monitor.0,
                incident,
                notification.notification_type.as_str(),
                notification.severity.as_str(),
                notification.recipient,
                notification.subject,
                notification.body,
                json!(notification.facts).to_string(),
                notification.rule,
                notification.origin,
                if notification.hold.is_some() { "held" } else { "pending" },
                time_text(notification.hold.as_ref().map_or(now, |hold| hold.until)),
                notification.hold.as_ref().map(|hold| hold.reason.to_string()),
                runs.get(&monitor),
            ]));
        }
    }
    if queued.is_empty() {
        return Ok(());
    }
    // Who was told of the recovery already (somebody reopened the incident by hand) is not told again.
    sqlx::query(
        "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, facts, rule, \
           origin, status, next_attempt_at, hold_reason, run_id, created_at) \
         SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), \
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'), \
           json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'), \
           json_extract(value, '$[9]'), json_extract(value, '$[10]'), json_extract(value, '$[11]'), \
           json_extract(value, '$[12]'), json_extract(value, '$[13]'), ?2 \
         FROM json_each(?1) WHERE true \
         ON CONFLICT (incident_id, recipient) WHERE type = 'recovery' DO NOTHING",
    )
    .bind(Value::Array(queued).to_string())
    .bind(time_text(now))
    .execute(connection)
    .await
    .map(drop)
}
