//! What a batch of work meets: the rows, their open incidents, who was told, who depends on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use watchbell_contract::Severity;

use crate::domain::rules::Rules;
use crate::domain::{FinishedRun, IncidentId, MonitorId, MonitorRow, OpenIncident, State};
use crate::ports::Work;
use crate::store::database::{Connection, Dialect, Row, query};
use crate::store::monitors::by_ids;
use crate::store::rules::RulesCache;

/// What Watchbell itself writes, and what tells whether a person edited the row.
pub(in crate::store) const LOCK_ROWS: &str = "\
    SELECT id, revision, state, consecutive_ok_count, consecutive_alert_count, last_tick_at, last_run_at, \
      last_notification_at, next_run_at, config_error, recheck_seq, write_seq \
    FROM monitors WHERE id {in 1} ORDER BY id {skip locked}";

pub(in crate::store) const READ_INCIDENTS: &str = "\
    SELECT id, monitor_id, monitor_name, opened_at, acknowledged_at, acknowledged_until, is_silent FROM incidents \
    WHERE recovered_at IS NULL AND monitor_id {in 1}";

/// What another message of the incident tells counts as that one does: it may be held back itself.
pub(in crate::store) const READ_TOLD: &str = "\
    SELECT DISTINCT n.incident_id, n.recipient, n.severity, \
      n.status NOT IN ('held', 'withdrawn') AND (n.status <> 'merged' OR t.incident_id IS NULL) AS is_told \
    FROM notifications n LEFT JOIN notifications t ON t.id = n.merged_into \
    WHERE n.incident_id {in 1} AND n.type IN ('alert', 'reminder', 'recovery')";

/// What a batch of work meets.
pub(super) struct Met {
    pub(super) rows: HashMap<MonitorId, MonitorRow>,
    /// Monitors whose row somebody else has locked.
    pub(super) locked: BTreeSet<MonitorId>,
    pub(super) incidents: HashMap<MonitorId, OpenIncident>,
    pub(super) rules: Arc<Rules>,
    pub(super) dependents: HashMap<MonitorId, Vec<String>>,
}

impl Met {
    pub(super) async fn read(
        connection: &mut Connection,
        work: &[Work],
        cache: &RulesCache,
    ) -> Result<Self, sqlx::Error> {
        let (rows, mut locked) = lock_rows(connection, work).await?;
        let unlocked: Vec<&Work> = work.iter().filter(|piece| !locked.contains(&piece.monitor_id())).collect();
        let (incidents, locked_incidents) = read_incidents(connection, &unlocked, &rows).await?;
        locked.extend(locked_incidents);
        let rules = cache.read(connection).await?;
        let dependents = read_dependents(connection, work, &rules).await?;
        Ok(Self { rows, locked, incidents, rules, dependents })
    }
}

/// The rows as they are now, and which are locked by others. Where no person edited a row since its check began (the
/// same `revision`), only the columns that Watchbell itself writes are read again.
async fn lock_rows(
    connection: &mut Connection,
    work: &[Work],
) -> Result<(HashMap<MonitorId, MonitorRow>, BTreeSet<MonitorId>), sqlx::Error> {
    let snapshots: HashMap<MonitorId, &FinishedRun> = work
        .iter()
        .filter_map(|piece| match piece {
            Work::Run(run) => Some((run.monitor.id, run.as_ref())),
            Work::Edit { .. } => None,
        })
        .collect();
    let mut missing: BTreeSet<i64> = work.iter().map(|piece| piece.monitor_id().0).collect();
    let mut whole = Vec::new();
    let mut rows = HashMap::with_capacity(work.len());
    for row in &query(LOCK_ROWS).bind(ids(work.iter())).fetch_all(&mut *connection).await? {
        let id = MonitorId(row.int("id")?);
        missing.remove(&id.0);
        match snapshots.get(&id) {
            Some(run) if run.monitor.revision == row.int("revision")? => {
                rows.insert(id, refreshed(&run.monitor, row)?);
            }
            _ => whole.push(id.0),
        }
    }
    if !whole.is_empty() {
        rows.extend(by_ids(&mut *connection, whole).await?);
    }
    // Not there: deleted, or locked.
    let locked = match missing.is_empty() || connection.dialect() == Dialect::Sqlite {
        true => Vec::new(),
        false => {
            let there = query("SELECT id FROM monitors WHERE id {in 1}").bind(missing.into_iter().collect::<Vec<_>>());
            there.ints(connection).await?
        }
    };
    Ok((rows, locked.into_iter().map(MonitorId).collect()))
}

fn refreshed(snapshot: &MonitorRow, row: &Row) -> Result<MonitorRow, sqlx::Error> {
    Ok(MonitorRow {
        state: row.word("state")?,
        consecutive_ok_count: row.count("consecutive_ok_count")?,
        consecutive_alert_count: row.count("consecutive_alert_count")?,
        last_tick_at: row.time("last_tick_at")?,
        last_run_at: row.time("last_run_at")?,
        last_notification_at: row.time("last_notification_at")?,
        next_run_at: row.time("next_run_at")?,
        config_error: row.optional_text("config_error")?,
        recheck_seq: row.int("recheck_seq")?,
        write_seq: row.int("write_seq")?,
        ..snapshot.clone()
    })
}

/// The open incidents of these monitors, with who was told of them; and the monitors whose incidents somebody has locked.
///
/// What may end is locked before it is asked who was told: a person who edits it ends that first, and a planner that is
/// about to send what was held back either has done so, or sees that it is over.
async fn read_incidents(
    connection: &mut Connection,
    work: &[&Work],
    rows: &HashMap<MonitorId, MonitorRow>,
) -> Result<(HashMap<MonitorId, OpenIncident>, BTreeSet<MonitorId>), sqlx::Error> {
    let mut open = query(READ_INCIDENTS).bind(ids(work.iter().copied())).fetch_all(&mut *connection).await?;
    let lasting: BTreeSet<i64> =
        work.iter().filter(|piece| is_to_last(piece, rows)).map(|piece| piece.monitor_id().0).collect();
    let mut ending = BTreeMap::new();
    for row in &open {
        let monitor = row.int("monitor_id")?;
        if !lasting.contains(&monitor) {
            ending.insert(row.int("id")?, MonitorId(monitor));
        }
    }
    if !ending.is_empty() {
        let ours = query("SELECT id FROM incidents WHERE id {in 1} AND recovered_at IS NULL ORDER BY id {skip locked}");
        for id in ours.bind(ending.keys().copied().collect::<Vec<_>>()).ints(&mut *connection).await? {
            ending.remove(&id);
        }
        open.retain(|row| row.int("id").is_ok_and(|id| !ending.contains_key(&id)));
    }
    let locked = ending.into_values().collect();
    if open.is_empty() {
        return Ok((HashMap::new(), locked));
    }
    let mut told = read_told(connection, &open).await?;
    let incidents = open
        .iter()
        .map(|row| {
            let id: i64 = row.int("id")?;
            let Told { told, alerted } = told.remove(&id).unwrap_or_default();
            let incident = OpenIncident {
                id: IncidentId(id),
                monitor_id: MonitorId(row.int("monitor_id")?),
                alerted: alerted.into_iter().collect(),
                monitor_name: row.text("monitor_name")?,
                opened_at: row.time("opened_at")?.unwrap_or_default(),
                acknowledged_at: row.time("acknowledged_at")?,
                acknowledged_until: row.time("acknowledged_until")?,
                told_severity: told.values().max().copied(),
                is_silent: row.flag("is_silent")?,
                told: told.into_keys().collect(),
            };
            Ok((MonitorId(row.int("monitor_id")?), incident))
        })
        .collect::<Result<_, sqlx::Error>>()?;
    Ok((incidents, locked))
}

/// Whether its incident stays open, whatever is decided.
fn is_to_last(piece: &Work, rows: &HashMap<MonitorId, MonitorRow>) -> bool {
    let is_in_alert = rows.get(&piece.monitor_id()).is_some_and(|row| row.state == State::Alert);
    matches!(piece, Work::Run(run) if !run.outcome.is_ok) && is_in_alert
}

/// Who was told of an incident, how badly, and who has a message of it in whatever status.
#[derive(Default)]
struct Told {
    told: BTreeMap<String, Severity>,
    alerted: BTreeSet<String>,
}

async fn read_told(connection: &mut Connection, open: &[Row]) -> Result<HashMap<i64, Told>, sqlx::Error> {
    let incidents = open.iter().map(|row| row.int("id")).collect::<Result<Vec<_>, _>>()?;
    let rows = query(READ_TOLD).bind(incidents).fetch_all(connection).await?;
    let mut told: HashMap<i64, Told> = HashMap::new();
    for row in &rows {
        let severity = row.word("severity")?;
        let Told { told: of_incident, alerted } = told.entry(row.int("incident_id")?).or_default();
        alerted.insert(row.text("recipient")?);
        if !row.flag("is_told")? {
            continue;
        }
        let highest = of_incident.entry(row.text("recipient")?).or_insert(severity);
        *highest = severity.max(*highest);
    }
    Ok(told)
}

/// The names of the monitors that depend on those of the batch.
async fn read_dependents(
    connection: &mut Connection,
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
            let names = query("SELECT name FROM monitors WHERE is_active = 1 AND id {in 1} ORDER BY name");
            let below: Vec<i64> = below.iter().map(|id| id.0).collect();
            dependents.insert(monitor, names.bind(below).texts(&mut *connection).await?);
        }
    }
    Ok(dependents)
}

fn ids<'a>(work: impl Iterator<Item = &'a Work>) -> Vec<i64> {
    work.map(|piece| piece.monitor_id().0).collect()
}
