//! Reads what a plan of the outbox depends on, and writes the plan, in one transaction.

mod passing_over;
mod writing;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Connection, Database, Dialect, Row, explain, query};
use super::delivery::lock_outbox;
use super::rules::RulesCache;
use crate::domain::planning::{
    Candidate, EarlierRecovery, Member, Parent, Recent, Sibling, Situation, Sort, Wave, WaveEnd, collects,
};
use crate::domain::rules::Rules;
use crate::domain::{Facts, HoldReason, IncidentId, MonitorId, NotificationId, NotificationType, State};
use crate::ports::{PlanNotifications, PlanRequest, StoreError};
use passing_over::{PassedOver, locked_by_others};
pub(super) use writing::event;
use writing::write;
#[cfg(test)]
pub(super) use writing::{SEND, WAIT_FOR_EARLIER_DIGESTS};

const ACTION: &str = "plan what is to be sent";
/// Of the newest critical alerts so many are planned first, however long the backlog before them is.
const URGENT: i64 = 50;
/// Messages to one recipient that limits are counted by; no limit that people set looks at more.
const MOST_RECENT: i64 = 500;
/// So many messages become one digest at most: a list that is still read, and a transaction that holds up no run. What
/// is beyond them is the next digest.
const MOST_MEMBERS: i64 = 2_000;
/// Failures within this span are one wave; a commit may come a little later than its runs.
const WAVE: TimeDelta = TimeDelta::seconds(3);

/// New rows, the newest critical alerts first, and held rows whose time has come. A recovery whose alert is being sent
/// waits for how that ends. An alert or reminder whose recovery is new too is no candidate: that takes it along, and
/// rows about which there is nothing to decide must not fill every batch.
pub(super) const CANDIDATES: &str = "\
    WITH chosen(id) AS ( \
      SELECT id FROM (SELECT n.id FROM notifications n WHERE n.status = 'pending' AND n.planned_at IS NULL \
        AND NOT EXISTS (SELECT 1 FROM notifications e WHERE e.incident_id = n.incident_id AND e.recipient = n.recipient \
          AND (CASE WHEN n.type = 'recovery' THEN e.status = 'sending' \
            ELSE e.type = 'recovery' AND e.status = 'pending' AND e.planned_at IS NULL AND e.id > n.id END)) \
        ORDER BY n.id LIMIT ?2) AS newly_queued \
      UNION SELECT id FROM (SELECT id FROM notifications WHERE status = 'pending' AND planned_at IS NULL \
        AND type = 'alert' AND severity = 'critical' ORDER BY id DESC LIMIT ?3) AS urgent \
      UNION SELECT id FROM (SELECT id FROM notifications WHERE status = 'held' AND next_attempt_at <= ?1 \
        ORDER BY next_attempt_at LIMIT ?2) AS due) \
    SELECT n.id, n.monitor_id, n.incident_id, n.type, n.severity, n.recipient, n.rule, n.origin, n.facts, n.created_at, \
      CASE WHEN n.status = 'held' THEN n.hold_reason END AS hold_reason, \
      i.recovered_at IS NOT NULL AS is_over, \
      i.acknowledged_at IS NOT NULL AND (i.acknowledged_until IS NULL OR i.acknowledged_until > ?1) AS is_acknowledged, \
      {length m.people_to_notify} = 0 AS is_unwanted, \
      n.type = 'recovery' AND EXISTS (SELECT 1 FROM notifications l WHERE l.monitor_id = n.monitor_id AND l.id > n.id \
        AND l.recipient = n.recipient AND l.type IN ('alert', 'reminder', 'recovery') \
        AND (l.planned_at IS NOT NULL OR l.status = 'merged')) AS is_overtaken \
    FROM notifications n JOIN chosen ON chosen.id = n.id LEFT JOIN incidents i ON i.id = n.incident_id \
    LEFT JOIN monitors m ON m.id = n.monitor_id \
    ORDER BY n.id";

/// Recoveries of earlier incidents that are held or not planned yet, and the digest that each must follow.
pub(super) const EARLIER_RECOVERIES: &str = "\
    SELECT n.id AS candidate_id, r.id, r.status = 'held' AS is_held, \
      (SELECT max(t.id) FROM notifications a JOIN notifications t ON t.id = a.merged_into \
        WHERE a.incident_id = r.incident_id AND a.recipient = r.recipient AND t.type = 'digest' \
          AND t.status IN ('pending', 'sending')) AS waits_for \
    FROM notifications n JOIN notifications r ON r.monitor_id = n.monitor_id AND r.recipient = n.recipient AND r.id < n.id \
      AND r.type = 'recovery' AND r.status IN ('held', 'pending') AND r.planned_at IS NULL \
    WHERE n.id {in 1} ORDER BY r.id";

pub(super) const SIBLINGS: &str = "\
    SELECT n.id AS candidate_id, s.id, s.type, s.severity, s.status, s.merged_into, \
      CASE WHEN s.status = 'held' THEN s.hold_reason END AS hold_reason, \
      {field s.facts message} AS message, \
      CASE WHEN t.status IN ('pending', 'sending') AND t.id <> n.id THEN t.id END AS unsettled_target \
    FROM notifications n JOIN notifications s ON s.incident_id = n.incident_id AND s.recipient = n.recipient AND s.id <> n.id \
      AND s.type IN ('alert', 'reminder', 'recovery') \
    LEFT JOIN notifications t ON t.id = s.merged_into \
    WHERE n.id {in 1} ORDER BY s.id";

/// What a message says is needed only where another may be edited into it: never of a digest.
pub(super) const RECENT: &str = "\
    SELECT recipient, type, origin, severity, planned_at, {field facts state} AS state, \
      CASE WHEN type <> 'digest' THEN external_id END AS external_id, \
      CASE WHEN type <> 'digest' AND external_id IS NOT NULL THEN {field facts monitor_name} END AS monitor_name, \
      CASE WHEN type <> 'digest' AND external_id IS NOT NULL THEN {field facts message} END AS message \
    FROM notifications WHERE recipient = ?1 AND planned_at > ?2 \
      AND status IN ('pending', 'sending', 'sent', 'failed') ORDER BY planned_at DESC LIMIT ?3";

pub(super) const HELD: &str = "\
    SELECT n.id, n.type, n.origin, n.severity, {field n.facts monitor_name} AS monitor_name, \
      {field n.facts message} AS message, \
      i.recovered_at IS NOT NULL OR (m.people_to_notify IS NOT NULL AND {length m.people_to_notify} = 0) AS is_over \
    FROM notifications n LEFT JOIN incidents i ON i.id = n.incident_id LEFT JOIN monitors m ON m.id = n.monitor_id \
    WHERE n.recipient = ?1 AND n.hold_reason = ?2 AND n.status = 'held' ORDER BY n.next_attempt_at, n.id LIMIT ?3";

pub(super) async fn plan(
    database: &Database,
    now: DateTime<Utc>,
    cache: &RulesCache,
    request: &PlanRequest,
    decide: &PlanNotifications,
) -> Result<usize, StoreError> {
    let explain = |error: sqlx::Error| explain(ACTION, &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let mut written = 0;
    let mut passed_over = PassedOver::default();
    while passed_over.may_look_again() {
        let read = read(&mut transaction, now, cache, request, &passed_over).await.map_err(explain)?;
        let Some((candidates, situation)) = read else { break };
        let steps = decide(&candidates, situation);
        let locked = locked_by_others(&mut transaction, &steps).await.map_err(explain)?;
        if !locked.is_empty() {
            passed_over.add(locked);
            continue;
        }
        let held: HashMap<NotificationId, HoldReason> =
            candidates.iter().filter_map(|candidate| Some((candidate.id, candidate.hold?))).collect();
        for step in &steps {
            write(&mut transaction, now, step, &held).await.map_err(explain)?;
        }
        written = steps.len();
        break;
    }
    // Also where nothing is planned: rows that cannot be read were given up, and would be found again at every look.
    transaction.commit().await.map_err(explain)?;
    Ok(written)
}

/// What is to be planned, and what that depends on; `None`: nothing is.
async fn read(
    connection: &mut Connection,
    now: DateTime<Utc>,
    cache: &RulesCache,
    request: &PlanRequest,
    passed_over: &PassedOver,
) -> Result<Option<(Vec<Candidate>, Situation)>, sqlx::Error> {
    let mut candidates = read_candidates(connection, now, passed_over.widen(request.limit)).await?;
    passed_over.leave_out(&mut candidates);
    let mut held = read_held(connection, &candidates).await?;
    passed_over.leave_out_members(&mut held);
    let_endings_be(connection, &mut candidates, &mut held).await?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let rules = cache.read(connection).await?;
    let situation = Situation {
        now,
        recent: read_recent(connection, now - request.look_back, &candidates, &request.admins).await?,
        held,
        parents: read_parents(connection, &candidates, &rules).await?,
        wave: read_wave(connection, now, &candidates, request.cut_off_monitors).await?,
        rules,
    };
    Ok(Some((candidates, situation)))
}

/// What is held back was told to nobody, so that nobody is owed a recovery of it. It may be sent only while its incident
/// does not end: the incident is locked, and what ends at this moment, or ended since it was read, is left for the next look.
async fn let_endings_be(
    connection: &mut Connection,
    candidates: &mut Vec<Candidate>,
    held: &mut HashMap<(String, HoldReason), Vec<Member>>,
) -> Result<(), sqlx::Error> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let waiting = candidates.iter().filter(|candidate| candidate.hold.is_some() && !candidate.is_over);
    let members = held.values().flatten().filter(|member| !member.is_over);
    let ids: BTreeSet<i64> = waiting.map(|candidate| candidate.id.0).chain(members.map(|member| member.id.0)).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let of_incidents = query("SELECT id, incident_id FROM notifications WHERE id {in 1} AND incident_id IS NOT NULL");
    let mut incidents: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in &of_incidents.bind(ids.into_iter().collect::<Vec<_>>()).fetch_all(&mut *connection).await? {
        incidents.entry(row.int("incident_id")?).or_default().push(row.int("id")?);
    }
    let open = query("SELECT id FROM incidents WHERE id {in 1} AND recovered_at IS NULL ORDER BY id {skip locked}");
    for id in open.bind(incidents.keys().copied().collect::<Vec<_>>()).ints(connection).await? {
        incidents.remove(&id);
    }
    let ending: BTreeSet<i64> = incidents.into_values().flatten().collect();
    candidates.retain(|candidate| !ending.contains(&candidate.id.0));
    held.values_mut().for_each(|members| members.retain(|member| !ending.contains(&member.id.0)));
    Ok(())
}

async fn read_candidates(
    connection: &mut Connection,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<Candidate>, sqlx::Error> {
    let rows = query(CANDIDATES).bind(now).bind(limit).bind(URGENT).fetch_all(&mut *connection).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>, _>>()?;
    let mut siblings: HashMap<i64, Vec<Sibling>> = HashMap::new();
    for row in &query(SIBLINGS).bind(ids.clone()).fetch_all(&mut *connection).await? {
        siblings.entry(row.int("candidate_id")?).or_default().push(sibling(row)?);
    }
    let mut earlier_recoveries: HashMap<i64, Vec<EarlierRecovery>> = HashMap::new();
    for row in &query(EARLIER_RECOVERIES).bind(ids.clone()).fetch_all(&mut *connection).await? {
        let waits_for = row.optional_int("waits_for")?.map(NotificationId);
        let is_held = row.flag("is_held")?;
        let held = EarlierRecovery { id: NotificationId(row.int("id")?), is_held, waits_for };
        earlier_recoveries.entry(row.int("candidate_id")?).or_default().push(held);
    }
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.int("id")?;
        match candidate(row, siblings.remove(&id).unwrap_or_default()) {
            Ok(mut candidate) => {
                candidate.earlier_recoveries = earlier_recoveries.remove(&id).unwrap_or_default();
                if candidate.notification_type == NotificationType::Notice && candidate.hold.is_some() {
                    candidate.wave_end = wave_end(connection, &candidate.facts).await?;
                }
                candidates.push(candidate);
            }
            // A row that somebody wrote by hand and that is none of ours: it steps aside, the others go on.
            Err(error) => super::delivery::give_up(connection, id, &error).await?,
        }
    }
    Ok(candidates)
}

fn candidate(row: &Row, siblings: Vec<Sibling>) -> Result<Candidate, sqlx::Error> {
    Ok(Candidate {
        id: NotificationId(row.int("id")?),
        monitor_id: row.optional_int("monitor_id")?.map(MonitorId),
        incident_id: row.optional_int("incident_id")?.map(IncidentId),
        notification_type: row.word("type")?,
        severity: row.word("severity")?,
        recipient: row.text("recipient")?,
        rule: row.optional_text("rule")?.unwrap_or_default(),
        origin: row.optional_text("origin")?.unwrap_or_default(),
        facts: facts(row)?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        hold: hold_reason(row)?,
        is_over: row.flag("is_over")?,
        is_acknowledged: row.flag("is_acknowledged")?,
        is_unwanted: row.flag("is_unwanted")?,
        siblings,
        earlier_recoveries: Vec::new(),
        is_overtaken: row.flag("is_overtaken")?,
        wave_end: WaveEnd::default(),
    })
}

fn hold_reason(row: &Row) -> Result<Option<HoldReason>, sqlx::Error> {
    row.optional_text("hold_reason")?.map(|_| row.word("hold_reason")).transpose()
}

/// The column `facts`; of a row that somebody wrote by hand it may hold anything, and then says nothing.
pub(super) fn facts(row: &Row) -> Result<Facts, sqlx::Error> {
    Ok(serde_json::from_str(&row.text("facts")?).unwrap_or_default())
}

/// What somebody wrote by hand beside a candidate must not keep that from being planned: a reason that is none counts as
/// none, and so does a message that is no text.
fn sibling(row: &Row) -> Result<Sibling, sqlx::Error> {
    Ok(Sibling {
        id: NotificationId(row.int("id")?),
        notification_type: row.word("type")?,
        severity: row.word("severity")?,
        status: row.word("status")?,
        hold: hold_reason(row).unwrap_or_default(),
        merged_into: row.optional_int("merged_into")?.map(NotificationId),
        unsettled_target: row.optional_int("unsettled_target")?.map(NotificationId),
        message: told_text(row, "message"),
    })
}

/// A part of `facts`; where a row was written by hand it may be no text, and then says nothing.
fn told_text(row: &Row, part: &str) -> String {
    row.optional_text(part).ok().flatten().unwrap_or_default()
}

async fn wave_end(connection: &mut Connection, facts: &Facts) -> Result<WaveEnd, sqlx::Error> {
    let (Some(from), Some(until)) = (facts.opened_at, facts.at) else { return Ok(WaveEnd::default()) };
    let row = query(
        "SELECT count(*) AS total, count(*) - count(recovered_at) AS still_open FROM incidents \
         WHERE opened_at BETWEEN ?1 AND ?2",
    )
    .bind(from)
    .bind(until + WAVE)
    .fetch_one(connection)
    .await?;
    Ok(WaveEnd { still_open: row.count("still_open")?, total: row.count("total")? })
}

async fn read_recent(
    connection: &mut Connection,
    since: DateTime<Utc>,
    candidates: &[Candidate],
    admins: &[String],
) -> Result<HashMap<String, Vec<Recent>>, sqlx::Error> {
    let recipients: BTreeSet<&String> = candidates.iter().map(|candidate| &candidate.recipient).chain(admins).collect();
    let mut recent = HashMap::with_capacity(recipients.len());
    for recipient in recipients {
        let rows = query(RECENT).bind(recipient).bind(since).bind(MOST_RECENT).fetch_all(&mut *connection).await?;
        let mut of_recipient = rows.iter().map(recent_message).collect::<Result<Vec<_>, _>>()?;
        of_recipient.reverse();
        recent.insert(recipient.clone(), of_recipient);
    }
    Ok(recent)
}

fn recent_message(row: &Row) -> Result<Recent, sqlx::Error> {
    let notification_type: NotificationType = row.word("type")?;
    let state = told_text(row, "state");
    let sort = match notification_type {
        NotificationType::Digest if state == State::Ok.as_str() => Sort::Recovery,
        NotificationType::Digest => Sort::Trouble,
        other => Sort::of(other),
    };
    Ok(Recent {
        sort,
        origin: row.optional_text("origin")?.unwrap_or_default(),
        severity: row.word("severity")?,
        at: row.time("planned_at")?.unwrap_or_default(),
        external_id: row.optional_text("external_id")?,
        monitor_name: told_text(row, "monitor_name"),
        message: told_text(row, "message"),
    })
}

async fn read_held(
    connection: &mut Connection,
    candidates: &[Candidate],
) -> Result<HashMap<(String, HoldReason), Vec<Member>>, sqlx::Error> {
    let mut held = HashMap::new();
    for candidate in candidates {
        // Of what goes out by itself the others are of no interest, however many a silence holds.
        let Some(reason) = candidate.hold.filter(|reason| collects(*reason)) else { continue };
        let key = (candidate.recipient.clone(), reason);
        if held.contains_key(&key) {
            continue;
        }
        let rows = query(HELD)
            .bind(&candidate.recipient)
            .bind(reason.to_string())
            .bind(MOST_MEMBERS)
            .fetch_all(&mut *connection)
            .await?;
        held.insert(key, rows.iter().map(member).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(held)
}

fn member(row: &Row) -> Result<Member, sqlx::Error> {
    Ok(Member {
        id: NotificationId(row.int("id")?),
        sort: Sort::of(row.word("type")?),
        origin: row.optional_text("origin")?.unwrap_or_default(),
        severity: row.word("severity")?,
        monitor_name: told_text(row, "monitor_name"),
        message: told_text(row, "message"),
        is_over: row.flag("is_over")?,
    })
}

async fn read_parents(
    connection: &mut Connection,
    candidates: &[Candidate],
    rules: &Rules,
) -> Result<HashMap<MonitorId, Parent>, sqlx::Error> {
    if rules.dependencies.is_empty() {
        return Ok(HashMap::new());
    }
    let monitors: BTreeSet<MonitorId> = candidates.iter().filter_map(|candidate| candidate.monitor_id).collect();
    let ancestors: BTreeSet<i64> =
        monitors.into_iter().flat_map(|monitor| rules.dependencies.ancestors(monitor)).map(|id| id.0).collect();
    let ids: Vec<i64> = ancestors.into_iter().collect();
    let rows = query(
        "SELECT m.id, m.is_active, m.last_run_at, m.is_active = 1 AND m.state = 'alert' AND EXISTS (SELECT 1 \
           FROM incidents i JOIN notifications n ON n.incident_id = i.id \
           WHERE i.monitor_id = m.id AND i.recovered_at IS NULL AND n.type IN ('alert', 'reminder') \
             AND n.status <> 'withdrawn') AS is_down \
         FROM monitors m WHERE m.id {in 1}",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut parents = HashMap::with_capacity(rows.len());
    for row in &rows {
        let parent = Parent {
            is_down: row.flag("is_down")?,
            is_ending: false,
            is_active: row.flag("is_active")?,
            last_run_at: row.time("last_run_at")?,
        };
        parents.insert(MonitorId(row.int("id")?), parent);
    }
    keep_down(connection, &mut parents).await?;
    Ok(parents)
}

/// Locks the incidents of parents that are down, so that they are still down when it is written who waits for them: what
/// ends one after that finds all of these, and lets them go. One that is locked may be ending at this moment.
async fn keep_down(connection: &mut Connection, parents: &mut HashMap<MonitorId, Parent>) -> Result<(), sqlx::Error> {
    let down: Vec<i64> = parents.iter().filter(|(_, parent)| parent.is_down).map(|(id, _)| id.0).collect();
    if down.is_empty() || connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let open = query(
        "SELECT monitor_id FROM incidents WHERE monitor_id {in 1} AND recovered_at IS NULL ORDER BY id {skip locked}",
    );
    let kept: BTreeSet<i64> = open.bind(down).ints(connection).await?.into_iter().collect();
    for (id, parent) in parents.iter_mut().filter(|(_, parent)| parent.is_down) {
        parent.is_ending = !kept.contains(&id.0);
    }
    Ok(())
}

async fn read_wave(
    connection: &mut Connection,
    now: DateTime<Utc>,
    candidates: &[Candidate],
    least: u32,
) -> Result<Option<Wave>, sqlx::Error> {
    let is_new_alert = |candidate: &Candidate| {
        candidate.notification_type == NotificationType::Alert
            && matches!(candidate.hold, None | Some(HoldReason::Dependency(None)))
    };
    if !candidates.iter().any(is_new_alert) {
        return Ok(None);
    }
    let since = now - WAVE;
    let opened = query("SELECT count(*) AS opened FROM incidents WHERE opened_at >= ?1");
    let opened = opened.bind(since).int(&mut *connection).await?;
    if opened < i64::from(least) {
        return Ok(None);
    }
    // Rows that cannot be run as written say nothing of what the node can reach, however many there are.
    let row = query(
        "SELECT r.node, count(*) AS runs, count(CASE WHEN r.state_before = 'ok' AND r.state_after = 'alert' THEN 1 END) AS openings \
         FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id \
         WHERE r.started_at >= ?1 AND m.config_error IS NULL GROUP BY r.node ORDER BY openings DESC LIMIT 1",
    )
    .bind(since)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (runs, openings) = (row.count("runs")?, row.count("openings")?);
    let is_wave = openings >= least && openings * 2 >= runs;
    Ok(is_wave.then_some(Wave { node: row.text("node")?, runs, openings, since }))
}
