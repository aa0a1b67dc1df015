//! What a batch of work owes: the rows, runs, incidents and notifications.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Trouble;
use crate::domain::{Change, FinishedRun, HoldReason, IncidentReference, MonitorId, NewNotification, RowUpdate};
use crate::ports::{NodeIdentity, Work};
use crate::store::database::{Batch, Bind, Connection, Sql, Type, query};
use crate::store::free_rows::look_anew;

macro_rules! new_values {
    () => {
        "write_seq = write_seq + 1, state = new_state, consecutive_ok_count = new_ok_count, \
         consecutive_alert_count = new_alert_count, last_tick_at = new_tick_at, last_run_at = new_run_at, \
         last_result_message = coalesce(new_message, last_result_message), \
         last_notification_at = coalesce(new_notification_at, last_notification_at), \
         last_notification_type = coalesce(new_notification_type, last_notification_type), \
         next_run_at = new_next_run_at, config_error = new_config_error, \
         skipped_tick_count = skipped_tick_count + skipped, missed_tick_count = missed_tick_count + missed"
    };
}

/// The one UPDATE of every run in the batch, guarded by what was read in this transaction.
pub(in crate::store) const UPDATE_ROWS: Sql = {
    const FROM: &str = concat!(
        "UPDATE monitors SET ",
        new_values!(),
        " FROM {batch} AS b WHERE monitors.id = b.monitor AND write_seq = read_write_seq AND revision = read_revision"
    );
    // Straight: the rows of the batch first, each found by its key; never the batch read anew for each row.
    const JOIN: &str = concat!(
        "UPDATE {batch} AS b STRAIGHT_JOIN monitors ON monitors.id = b.monitor SET ",
        new_values!(),
        " WHERE write_seq = read_write_seq AND revision = read_revision"
    );
    Sql::each(FROM, FROM, JOIN)
};

const CLOSE_INCIDENTS: Sql = {
    const FROM: &str = "UPDATE incidents SET recovered_at = new_recovered_at FROM {batch} AS b \
        WHERE incidents.id = b.incident AND recovered_at IS NULL";
    const JOIN: &str = "UPDATE {batch} AS b STRAIGHT_JOIN incidents ON incidents.id = b.incident \
        SET recovered_at = new_recovered_at WHERE recovered_at IS NULL";
    Sql::each(FROM, FROM, JOIN)
};

pub(in crate::store) const ROW_COLUMNS: &[(&str, Type)] = &[
    ("monitor", Type::Int),
    ("read_write_seq", Type::Int),
    ("read_revision", Type::Int),
    ("new_state", Type::Text),
    ("new_ok_count", Type::Int),
    ("new_alert_count", Type::Int),
    ("new_tick_at", Type::Time),
    ("new_run_at", Type::Time),
    ("new_message", Type::Text),
    ("new_notification_at", Type::Time),
    ("new_notification_type", Type::Text),
    ("new_next_run_at", Type::Time),
    ("new_config_error", Type::Text),
    ("skipped", Type::Int),
    ("missed", Type::Int),
];

const RUN_COLUMNS: &[(&str, Type)] = &[
    ("monitor_id", Type::Int),
    ("cause", Type::Text),
    ("tick_at", Type::Time),
    ("started_at", Type::Time),
    ("duration_ms", Type::Int),
    ("is_ok", Type::Int),
    ("message", Type::Text),
    ("metrics", Type::Text),
    ("state_before", Type::Text),
    ("state_after", Type::Text),
    ("notification_type", Type::Text),
    ("reason", Type::Text),
];

const INCIDENT_COLUMNS: &[(&str, Type)] = &[
    ("monitor_id", Type::Int),
    ("monitor_name", Type::Text),
    ("opened_at", Type::Time),
    ("opening_message", Type::Text),
    ("recovered_at", Type::Time),
];

const NOTIFICATION_COLUMNS: &[(&str, Type)] = &[
    ("monitor_id", Type::Int),
    ("incident_id", Type::Int),
    ("type", Type::Text),
    ("severity", Type::Text),
    ("recipient", Type::Text),
    ("subject", Type::Text),
    ("body", Type::Text),
    ("facts", Type::Text),
    ("rule", Type::Text),
    ("origin", Type::Text),
    ("status", Type::Text),
    ("next_attempt_at", Type::Time),
    ("hold_reason", Type::Text),
    ("run_id", Type::Int),
];

pub(super) async fn write(
    connection: &mut Connection,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    changes: &[(&Work, &Change)],
) -> Result<(), Trouble> {
    update_rows(connection, changes).await?;
    insert_runs(connection, node, changes).await?;
    close_incidents(connection, changes).await?;
    release_dependents(connection, now, changes).await?;
    open_incidents(connection, changes).await?;
    queue_notifications(connection, now, changes).await.map_err(Trouble::from)
}

/// Refuses what is not written to exactly what was read.
fn all_met(met: u64, read: usize, what: &str) -> Result<(), Trouble> {
    if met == read as u64 {
        return Ok(());
    }
    let reason = format!("{met} of {read} {what} were as they had just been read");
    Err(Trouble::NotAsRead(reason))
}

async fn update_rows(connection: &mut Connection, changes: &[(&Work, &Change)]) -> Result<(), Trouble> {
    let mut rows = Batch::new(ROW_COLUMNS);
    for (work, change) in changes {
        if let Some(row) = &change.row {
            rows.push(row_values(work, row));
        }
    }
    let read = rows.len();
    if read == 0 {
        return Ok(());
    }
    let met = query(&UPDATE_ROWS).batch(rows).execute(connection).await?;
    all_met(met, read, "rows")
}

fn row_values(work: &Work, row: &RowUpdate) -> Vec<Bind> {
    let (skipped, missed) = match work {
        Work::Run(run) => (run.skipped_ticks, run.missed_ticks),
        Work::Edit { .. } => (0, 0),
    };
    vec![
        row.id.0.into(),
        row.write_seq.into(),
        row.revision.into(),
        row.state.as_str().into(),
        row.consecutive_ok_count.into(),
        row.consecutive_alert_count.into(),
        row.last_tick_at.into(),
        row.last_run_at.into(),
        (&row.last_result_message).into(),
        row.last_notification.map(|(at, _)| at).into(),
        row.last_notification.map(|(_, kind)| kind.as_str()).into(),
        row.next_run_at.into(),
        (&row.config_error).into(),
        skipped.into(),
        missed.into(),
    ]
}

async fn insert_runs(
    connection: &mut Connection,
    node: &NodeIdentity,
    changes: &[(&Work, &Change)],
) -> Result<(), sqlx::Error> {
    let mut runs = Batch::new(RUN_COLUMNS);
    for (work, change) in changes {
        if let (Work::Run(run), Some(row)) = (work, &change.row) {
            runs.push(run_values(run, change, row));
        }
    }
    if runs.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, metrics, \
           state_before, state_after, notification_type, reason, node) \
         SELECT b.monitor_id, b.cause, b.tick_at, b.started_at, b.duration_ms, b.is_ok, b.message, {as json b.metrics}, \
           b.state_before, b.state_after, b.notification_type, b.reason, ?1 FROM {batch} AS b",
    )
    .bind(&node.name)
    .batch(runs)
    .execute(connection)
    .await
    .map(drop)
}

fn run_values(run: &FinishedRun, change: &Change, row: &RowUpdate) -> Vec<Bind> {
    let metrics = &run.outcome.metrics;
    vec![
        row.id.0.into(),
        run.cause.as_str().into(),
        run.tick.into(),
        run.started_at.into(),
        i64::try_from(run.duration.as_millis()).unwrap_or(i64::MAX).into(),
        run.outcome.is_ok.into(),
        (&run.outcome.message).into(),
        (!metrics.is_empty()).then(|| json!(metrics).to_string()).into(),
        change.state_before.as_str().into(),
        row.state.as_str().into(),
        change.notification_type.map(|kind| kind.as_str()).into(),
        (&change.reason).into(),
    ]
}

async fn close_incidents(connection: &mut Connection, changes: &[(&Work, &Change)]) -> Result<(), Trouble> {
    let mut closed = Batch::new(&[("incident", Type::Int), ("new_recovered_at", Type::Time)]);
    for (incident, recovered_at) in changes.iter().filter_map(|(_, change)| change.closed) {
        closed.push(vec![incident.0.into(), recovered_at.into()]);
    }
    let read = closed.len();
    if read == 0 {
        return Ok(());
    }
    let met = query(&CLOSE_INCIDENTS).batch(closed).execute(connection).await?;
    all_met(met, read, "incidents")
}

/// What waits for a monitor that is back is looked at anew at once.
async fn release_dependents(
    connection: &mut Connection,
    now: DateTime<Utc>,
    changes: &[(&Work, &Change)],
) -> Result<(), sqlx::Error> {
    let back = changes.iter().filter(|(_, change)| change.closed.is_some());
    let reasons: Vec<String> =
        back.map(|(work, _)| HoldReason::Dependency(Some(work.monitor_id().0)).to_string()).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    let waiting = query("SELECT id FROM notifications WHERE status = 'held' AND hold_reason {in 1}");
    let waiting = waiting.bind(reasons).ints(&mut *connection).await?;
    // What somebody has locked is looked at in its own time.
    look_anew(connection, waiting, now).await.map(drop)
}

async fn open_incidents(connection: &mut Connection, changes: &[(&Work, &Change)]) -> Result<(), sqlx::Error> {
    let mut opened = Batch::new(INCIDENT_COLUMNS);
    for (work, change) in changes {
        if let Some(incident) = &change.opened {
            opened.push(vec![
                work.monitor_id().0.into(),
                (&incident.monitor_name).into(),
                incident.opened_at.into(),
                (&incident.opening_message).into(),
                incident.recovered_at.into(),
            ]);
        }
    }
    if opened.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message, recovered_at) \
         SELECT b.monitor_id, b.monitor_name, b.opened_at, b.opening_message, b.recovered_at FROM {batch} AS b",
    )
    .batch(opened)
    .execute(connection)
    .await
    .map(drop)
}

/// The newest row of each of these monitors: the one that was just inserted, since whoever writes for a monitor has its
/// row locked. (MySQL returns no ids of a statement that inserts many rows.)
async fn newest(
    connection: &mut Connection,
    select: &'static str,
    monitors: Vec<i64>,
) -> Result<HashMap<MonitorId, i64>, sqlx::Error> {
    if monitors.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = query(select).bind(monitors).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((MonitorId(row.int("monitor_id")?), row.int("newest")?))).collect()
}

async fn queue_notifications(
    connection: &mut Connection,
    now: DateTime<Utc>,
    changes: &[(&Work, &Change)],
) -> Result<(), sqlx::Error> {
    let telling = || changes.iter().filter(|(_, change)| !change.notifications.is_empty());
    let with_run: Vec<i64> =
        telling().filter(|(work, _)| matches!(work, Work::Run(_))).map(|(work, _)| work.monitor_id().0).collect();
    let with_incident: Vec<i64> =
        telling().filter(|(_, change)| change.opened.is_some()).map(|(work, _)| work.monitor_id().0).collect();
    const RUNS: &str =
        "SELECT monitor_id, max(id) AS newest FROM monitor_runs WHERE monitor_id {in 1} GROUP BY monitor_id";
    const INCIDENTS: &str =
        "SELECT monitor_id, max(id) AS newest FROM incidents WHERE monitor_id {in 1} GROUP BY monitor_id";
    let runs = newest(connection, RUNS, with_run).await?;
    let opened = newest(connection, INCIDENTS, with_incident).await?;
    let mut queued = Batch::new(NOTIFICATION_COLUMNS);
    for (work, change) in telling() {
        let monitor = work.monitor_id();
        // A row that is gone has no run written.
        let run = change.row.as_ref().and_then(|_| runs.get(&monitor).copied());
        for (reference, notification) in &change.notifications {
            let incident = match reference {
                IncidentReference::Existing(incident) => Some(incident.0),
                IncidentReference::Opened => opened.get(&monitor).copied(),
            };
            queued.push(notification_values(monitor, incident, run, notification, now));
        }
    }
    if queued.is_empty() {
        return Ok(());
    }
    // Who was told of the recovery already (somebody reopened the incident by hand) is not told again.
    query(
        "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, facts, rule, \
           origin, status, next_attempt_at, hold_reason, run_id, created_at) \
         SELECT b.monitor_id, b.incident_id, b.type, b.severity, b.recipient, b.subject, b.body, {as json b.facts}, b.rule, \
           b.origin, b.status, b.next_attempt_at, b.hold_reason, b.run_id, ?1 FROM {batch} AS b \
         WHERE b.type <> 'recovery' OR NOT EXISTS (SELECT 1 FROM notifications o \
           WHERE o.incident_id = b.incident_id AND o.recipient = b.recipient AND o.type = 'recovery')",
    )
    .bind(now)
    .batch(queued)
    .execute(connection)
    .await
    .map(drop)
}

fn notification_values(
    monitor: MonitorId,
    incident: Option<i64>,
    run: Option<i64>,
    notification: &NewNotification,
    now: DateTime<Utc>,
) -> Vec<Bind> {
    let hold = notification.hold.as_ref();
    vec![
        monitor.0.into(),
        incident.into(),
        notification.notification_type.as_str().into(),
        notification.severity.as_str().into(),
        (&notification.recipient).into(),
        (&notification.subject).into(),
        (&notification.body).into(),
        json!(notification.facts).to_string().into(),
        (&notification.rule).into(),
        (&notification.origin).into(),
        if hold.is_some() { "held" } else { "pending" }.into(),
        hold.map_or(now, |hold| hold.until).into(),
        hold.map(|hold| hold.reason.to_string()).into(),
        run.into(),
    ]
}
