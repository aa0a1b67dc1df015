//! The outbox: what is due, which notification is tried next, by whom, and how it ended.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Connection, Database, Query, Row, Sql, explain, query};
use super::free_rows::{LOOK_BEYOND, lock_free};
use super::planning::{event, facts};
use crate::domain::{IncidentId, MonitorId, NotificationId, OutboxRow, Settlement};
use crate::ports::{DueLane, LaneClaim, Outlook, Settled, StoreError};

/// Planning, claiming and settling are done by one node at a time: limits for a recipient and the order of its messages
/// are those of the whole installation. (On SQLite there is one writer anyway.)
pub(super) async fn lock_outbox(transaction: &mut Connection) -> Result<(), sqlx::Error> {
    query("SELECT id FROM installation WHERE id = 1 {lock}").fetch_all(transaction).await.map(drop)
}

/// What makes a row the head of its line: nothing earlier to this recipient of this monitor waits, and no digest that
/// it must follow. A notification that another process holds (an unexpired lease) holds its line.
///
/// For MySQL it is `heads_its_line!(mysql)`: MariaDB answers `status IN (...)` inside NOT EXISTS by reading all rows of
/// those statuses once for each row (3.4 s with 5,000 that wait), one status at a time by the index (a few ms).
macro_rules! heads_its_line {
    () => {
        "NOT EXISTS (SELECT 1 FROM notifications e \
           WHERE e.monitor_id = n.monitor_id AND e.recipient = n.recipient AND e.id < n.id \
             AND e.status IN ('pending', 'sending')) \
         AND NOT EXISTS (SELECT 1 FROM notifications d WHERE d.id = n.waits_for AND d.status IN ('pending', 'sending'))"
    };
    (mysql) => {
        "NOT EXISTS (SELECT 1 FROM notifications e WHERE e.status = 'pending' \
           AND e.monitor_id = n.monitor_id AND e.recipient = n.recipient AND e.id < n.id) \
         AND NOT EXISTS (SELECT 1 FROM notifications e WHERE e.status = 'sending' \
           AND e.monitor_id = n.monitor_id AND e.recipient = n.recipient AND e.id < n.id) \
         AND NOT EXISTS (SELECT 1 FROM notifications d WHERE d.id = n.waits_for AND d.status IN ('pending', 'sending'))"
    };
}

pub(super) use heads_its_line;

/// Of a lane whose backlog is longer than this, fresh critical alerts are taken first; a shorter one keeps its order.
const LONG_BACKLOG: i64 = 50;
/// A critical alert is fresh for so long.
const FRESH: TimeDelta = TimeDelta::seconds(60);

/// The oldest of what is due of a lane. MySQL's index begins with the status.
pub(super) const DUE: Sql = {
    const PORTABLE: &str = concat!(
        "SELECT n.id FROM notifications n WHERE n.lane = ?2 AND n.status IN ('pending', 'sending') \
           AND n.planned_at IS NOT NULL AND n.next_attempt_at <= ?1 \
           AND (n.status = 'pending' OR n.lease_until IS NULL OR n.lease_until <= ?4) AND ",
        heads_its_line!(),
        " ORDER BY n.next_attempt_at, n.id LIMIT ?3"
    );
    const MYSQL: &str = concat!(
        "SELECT due.id FROM ( \
           (SELECT n.id, n.next_attempt_at FROM notifications n WHERE n.status = 'pending' AND n.lane = ?2 \
             AND n.planned_at IS NOT NULL AND n.next_attempt_at <= ?1 AND ",
        heads_its_line!(mysql),
        "    ORDER BY n.next_attempt_at, n.id LIMIT ?3) \
           UNION ALL (SELECT n.id, n.next_attempt_at FROM notifications n WHERE n.status = 'sending' AND n.lane = ?2 \
             AND n.planned_at IS NOT NULL AND n.next_attempt_at <= ?1 \
             AND (n.lease_until IS NULL OR n.lease_until <= ?4) AND ",
        heads_its_line!(mysql),
        "    ORDER BY n.next_attempt_at, n.id LIMIT ?3)) AS due ORDER BY due.next_attempt_at, due.id LIMIT ?3"
    );
    Sql::each(PORTABLE, PORTABLE, MYSQL)
};

/// Fresh critical alerts of a lane.
pub(super) const DUE_URGENT: Sql = {
    macro_rules! urgent {
        ($head:expr) => {
            concat!(
                "SELECT n.id FROM notifications n WHERE n.lane = ?2 AND n.status = 'pending' AND n.attempts = 0 \
                   AND n.type = 'alert' AND n.severity = 'critical' AND n.planned_at IS NOT NULL \
                   AND n.next_attempt_at <= ?1 AND n.created_at > ?4 AND ",
                $head,
                " ORDER BY n.created_at DESC, n.id DESC LIMIT ?3"
            )
        };
    }
    const PORTABLE: &str = urgent!(heads_its_line!());
    Sql::each(PORTABLE, PORTABLE, urgent!(heads_its_line!(mysql)))
};

pub(super) const TAKE: &str = "\
    UPDATE notifications SET status = 'sending', attempts = attempts + 1, lease_owner = ?1, lease_until = ?2 \
    WHERE id {in 3} AND status IN ('pending', 'sending')";

pub(super) const BACKLOG: &str = "\
    SELECT count(*) AS waiting FROM (SELECT id FROM notifications WHERE lane = ?1 \
      AND status IN ('pending', 'sending') LIMIT ?2) AS first_of_lane";

/// The lanes with something to do: each found with one step through the index, however long the backlogs are.
pub(super) const LANES: Sql = {
    const PORTABLE: &str = "\
        WITH RECURSIVE lanes(lane) AS ( \
          SELECT min(lane) FROM notifications WHERE status IN ('pending', 'sending') \
          UNION ALL \
          SELECT (SELECT min(n.lane) FROM notifications n WHERE n.status IN ('pending', 'sending') AND n.lane > lanes.lane) \
          FROM lanes WHERE lanes.lane IS NOT NULL) \
        SELECT lane FROM lanes WHERE lane IS NOT NULL";
    // A status at a time; min() would read all rows of it.
    const MYSQL: &str = "\
        WITH RECURSIVE waiting(lane) AS ( \
          SELECT (SELECT n.lane FROM notifications n WHERE n.status = 'pending' ORDER BY n.lane LIMIT 1) \
          UNION ALL \
          SELECT (SELECT n.lane FROM notifications n WHERE n.status = 'pending' AND n.lane > waiting.lane \
            ORDER BY n.lane LIMIT 1) \
          FROM waiting WHERE waiting.lane IS NOT NULL) \
        SELECT lane FROM waiting WHERE lane IS NOT NULL \
        UNION SELECT n.lane FROM notifications n WHERE n.status = 'sending' ORDER BY lane";
    Sql::each(PORTABLE, PORTABLE, MYSQL)
};

/// When the first of a lane is due. What waits behind another is not: a server that is down is not asked at every look.
/// The index of the lane is found by its own words (`status IN ...`) only; narrower ones do not lead SQLite there.
pub(super) const NEXT_OF_LANE: Sql = {
    macro_rules! next {
        ($unsettled:literal, $head:expr) => {
            concat!(
                "SELECT min(due.at) AS at FROM ( \
                   SELECT * FROM (SELECT n.next_attempt_at AS at FROM notifications n WHERE n.lane = ?1 ",
                $unsettled,
                " AND n.status = 'pending' AND n.planned_at IS NOT NULL AND ",
                $head,
                "    ORDER BY n.next_attempt_at, n.id LIMIT 1) AS head \
                   UNION ALL SELECT min(CASE WHEN n.lease_until > n.next_attempt_at THEN n.lease_until \
                     ELSE n.next_attempt_at END) \
                     FROM notifications n WHERE n.lane = ?1 ",
                $unsettled,
                " AND n.status = 'sending') AS due"
            )
        };
    }
    const PORTABLE: &str = next!("AND n.status IN ('pending', 'sending')", heads_its_line!());
    Sql::each(PORTABLE, PORTABLE, next!("", heads_its_line!(mysql)))
};

/// Everything that a channel needs of these notifications.
pub(super) const READ: &str = "\
    SELECT n.id, n.uuid, n.monitor_id, m.uuid AS monitor_uuid, n.incident_id, i.uuid AS incident_uuid, n.type, \
      n.severity, n.recipient, n.subject, n.body, n.facts, n.attempts, n.created_at, n.edits_external_id, \
      f.uuid AS thread_uuid, f.external_id AS thread_external_id \
    FROM notifications n LEFT JOIN monitors m ON m.id = n.monitor_id LEFT JOIN incidents i ON i.id = n.incident_id \
    LEFT JOIN notifications f ON f.id = (SELECT t.id FROM notifications t WHERE t.incident_id = n.incident_id \
      AND t.recipient = n.recipient AND t.id < n.id AND t.status IN ('sending', 'sent', 'failed') ORDER BY t.id LIMIT 1) \
    WHERE n.id {in 1} ORDER BY n.id";

pub(super) async fn outlook(database: &Database) -> Result<Outlook, StoreError> {
    let explain = |error: sqlx::Error| explain("look for the next delivery", &error);
    let mut connection = database.reader().await.map_err(explain)?;
    let lanes = query(&LANES).texts(&mut connection).await.map_err(explain)?;
    let mut due = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let row = query(&NEXT_OF_LANE).bind(&lane).fetch_one(&mut connection).await.map_err(explain)?;
        due.extend(row.time("at").map_err(explain)?.map(|at| DueLane { lane, at }));
    }
    let row = query(
        "SELECT (SELECT version FROM rules_version) AS rules_version, \
           EXISTS (SELECT 1 FROM notifications WHERE status = 'pending' AND planned_at IS NULL) AS is_unplanned, \
           (SELECT min(next_attempt_at) FROM notifications WHERE status = 'held') AS held_until",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(explain)?;
    Ok(Outlook {
        lanes: due,
        rules_version: row.int("rules_version").map_err(explain)?,
        is_unplanned: row.int("is_unplanned").map_err(explain)? != 0,
        held_until: row.time("held_until").map_err(explain)?,
    })
}

pub(super) async fn claim(
    database: &Database,
    owner: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    lapsed_before: DateTime<Utc>,
    lanes: &[LaneClaim],
) -> Result<Vec<OutboxRow>, StoreError> {
    let explain = |error: sqlx::Error| explain("take notifications to send", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let mut ids: Vec<i64> = Vec::new();
    for LaneClaim { lane, limit } in lanes {
        let backlog = query(BACKLOG).bind(lane).bind(LONG_BACKLOG + 1).int(&mut transaction).await.map_err(explain)?;
        let urgent = if backlog > LONG_BACKLOG { limit.div_ceil(2) } else { 0 };
        let mut claimed = 0;
        let fresh_since = now - FRESH;
        // The last bound is each statement's own.
        for (due, room, bound) in [(query(&DUE_URGENT), urgent, fresh_since), (query(&DUE), *limit, lapsed_before)] {
            let room = room.saturating_sub(claimed);
            if room == 0 {
                continue;
            }
            let due = |limit: u32| due.clone().bind(now).bind(lane).bind(limit).bind(bound);
            let taken = lock_due(&mut transaction, due, room).await.map_err(explain)?;
            if taken.is_empty() {
                continue;
            }
            claimed += u32::try_from(taken.len()).unwrap_or(u32::MAX);
            let take = query(TAKE).bind(owner).bind(lease_until).bind(taken.clone());
            take.execute(&mut transaction).await.map_err(explain)?;
            ids.extend(taken);
        }
    }
    if ids.is_empty() {
        // Without it the connection would have to be closed, and made anew.
        transaction.commit().await.map_err(explain)?;
        return Ok(Vec::new());
    }
    let rows = query(READ).bind(ids).fetch_all(&mut transaction).await.map_err(explain)?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        match decode(row) {
            Ok(notification) => claimed.push(notification),
            // A row that somebody wrote by hand and that is none of ours: it steps aside, the others go on.
            Err(error) => give_up(&mut transaction, row.int("id").map_err(explain)?, &error).await.map_err(explain)?,
        }
    }
    transaction.commit().await.map_err(explain)?;
    Ok(claimed)
}

/// Locks what is due, as far as there is room, and passes over what others have locked.
async fn lock_due(connection: &mut Connection, due: impl Fn(u32) -> Query, room: u32) -> Result<Vec<i64>, sqlx::Error> {
    let mut free = Vec::new();
    for limit in [room, room.saturating_add(LOOK_BEYOND)] {
        let found = due(limit).ints(&mut *connection).await?;
        let count = found.len();
        free = lock_free(&mut *connection, found, &["pending", "sending"]).await?;
        if free.len() == count {
            break;
        }
    }
    free.truncate(usize::try_from(room).unwrap_or(usize::MAX));
    Ok(free)
}

/// Gives up a row that cannot be read. Not while somebody has it locked, who may just be mending it: then it is for another look.
pub(super) async fn give_up(connection: &mut Connection, id: i64, error: &sqlx::Error) -> Result<(), sqlx::Error> {
    if lock_free(&mut *connection, vec![id], &["pending", "held", "sending"]).await?.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE notifications SET status = 'failed', last_error = ?2, failed_at = {now}, \
           lease_owner = NULL WHERE id = ?1",
    )
    .bind(id)
    .bind(format!("the row cannot be read: {error}"))
    .execute(connection)
    .await
    .map(drop)
}

pub(super) fn decode(row: &Row) -> Result<OutboxRow, sqlx::Error> {
    let uuid = row.text("uuid")?;
    Ok(OutboxRow {
        id: NotificationId(row.int("id")?),
        monitor_id: row.optional_int("monitor_id")?.map(MonitorId),
        monitor_uuid: row.optional_text("monitor_uuid")?,
        incident_id: row.optional_int("incident_id")?.map(IncidentId),
        incident_uuid: row.optional_text("incident_uuid")?,
        thread_uuid: row.optional_text("thread_uuid")?.unwrap_or_else(|| uuid.clone()),
        thread_external_id: row.optional_text("thread_external_id")?,
        edits_external_id: row.optional_text("edits_external_id")?,
        notification_type: row.word("type")?,
        severity: row.word("severity")?,
        recipient: row.text("recipient")?,
        subject: row.text("subject")?,
        body: row.text("body")?,
        facts: facts(row)?,
        attempts: row.count("attempts")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        uuid,
    })
}

pub(super) async fn settle(
    database: &Database,
    owner: &str,
    now: DateTime<Utc>,
    settlements: &[(NotificationId, Settlement)],
) -> Result<Settled, StoreError> {
    let explain = |error: sqlx::Error| explain("write how deliveries ended", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let locked = not_to_be_settled(&mut transaction, owner, settlements).await.map_err(explain)?;
    let mut settled = Settled { written: 0, locked };
    for (id, settlement) in settlements.iter().filter(|(id, _)| !settled.locked.contains(id)) {
        settled.written += settle_one(&mut transaction, owner, now, *id, settlement).await.map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)?;
    Ok(settled)
}

/// What `owner` has taken and cannot settle now: somebody has it locked.
async fn not_to_be_settled(
    connection: &mut Connection,
    owner: &str,
    settlements: &[(NotificationId, Settlement)],
) -> Result<Vec<NotificationId>, sqlx::Error> {
    let mut ids: Vec<i64> = settlements.iter().map(|(id, _)| id.0).collect();
    let free: HashSet<i64> = lock_free(&mut *connection, ids.clone(), &["sending"]).await?.into_iter().collect();
    ids.retain(|id| !free.contains(id));
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let taken = query("SELECT id FROM notifications WHERE id {in 1} AND status = 'sending' AND lease_owner = ?2");
    Ok(taken.bind(ids).bind(owner).ints(connection).await?.into_iter().map(NotificationId).collect())
}

async fn settle_one(
    connection: &mut Connection,
    owner: &str,
    now: DateTime<Utc>,
    id: NotificationId,
    settlement: &Settlement,
) -> Result<u64, sqlx::Error> {
    let mut sent_at = None;
    let mut next_attempt_at = None;
    let (status, what, detail, external_id) = match settlement {
        Settlement::Sent { at, answer, external_id } => {
            sent_at = Some(*at);
            ("sent", "sent", answer, external_id.as_deref())
        }
        Settlement::Retry { next_attempt_at: at, error } => {
            next_attempt_at = Some(*at);
            ("pending", "not taken", error, None)
        }
        Settlement::ChannelDown { error } => ("pending", "not taken", error, None),
        Settlement::Failed { error } => ("failed", "given up", error, None),
    };
    let error = (status != "sent").then_some(detail);
    let done = query(
        "UPDATE notifications SET status = ?3, sent_at = ?4, next_attempt_at = coalesce(?5, next_attempt_at), \
           last_error = ?6, external_id = coalesce(?7, external_id), failed_at = ?8, lease_owner = NULL, lease_until = NULL \
         WHERE id = ?1 AND status = 'sending' AND lease_owner = ?2",
    )
    .bind(id.0)
    .bind(owner)
    .bind(status)
    .bind(sent_at)
    .bind(next_attempt_at)
    .bind(error.map(String::as_str))
    .bind(external_id)
    .bind((status == "failed").then_some(now))
    .execute(&mut *connection)
    .await?;
    if done > 0 {
        event(connection, id, now, what, Some(detail)).await?;
    }
    Ok(done)
}
