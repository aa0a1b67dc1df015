//! The control plane: rows of `monitors` and the log of what people changed in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Bind, Database, Dialect, Executor, Row, explain, query};
use super::gaps::Gaps;
use crate::domain::{MonitorId, MonitorRow};
use crate::ports::{ChangeCursor, Changes, NewMonitor, StoreError};

/// Entries of the change log that are younger may not have been read yet, however many they are: one statement may
/// edit every row. Nodes look several times a second; this is for one that hangs.
const UNREAD_FOR: TimeDelta = TimeDelta::minutes(10);

pub(super) const CHANGES: &str = "SELECT id, monitor_id FROM monitor_changes WHERE id > ?1 ORDER BY id LIMIT ?2";

/// The newest is always kept: it tells where the log goes on. Looked for without a lock, and then deleted by their
/// numbers: a DELETE over a range would wait on MySQL for every entry of a transaction that somebody leaves open.
const OLD_CHANGES: &str = "\
    SELECT id FROM monitor_changes WHERE id <= (SELECT max(id) FROM monitor_changes) - ?1 AND changed_at <= ?2 \
    ORDER BY id LIMIT ?3";
/// At a time; some tens of milliseconds.
const MOST_FORGOTTEN: u32 = 5_000;

/// The columns that [`decode`] reads.
pub(super) const COLUMNS: &str = "id, uuid, is_active, name, kind, schedule, timezone, config, severity, labels, runs_on, \
    timeout_seconds, retries, retry_delay_seconds, state, consecutive_ok_count, required_consecutive_oks, \
    required_consecutive_alerts, consecutive_alert_count, reminder_frequency_minutes, people_to_notify, \
    missed_tick_policy, last_tick_at, last_run_at, last_notification_at, next_run_at, config_error, revision, \
    recheck_seq, write_seq";

pub(super) fn decode(row: &Row) -> Result<MonitorRow, sqlx::Error> {
    Ok(MonitorRow {
        id: MonitorId(row.int("id")?),
        uuid: row.text("uuid")?,
        is_active: row.flag("is_active")?,
        name: row.text("name")?,
        kind: row.text("kind")?,
        schedule: row.text("schedule")?,
        timezone: row.optional_text("timezone")?,
        config: row.text("config")?,
        severity: row.word("severity")?,
        labels: row.text("labels")?,
        runs_on: row.optional_text("runs_on")?,
        timeout_seconds: row.count("timeout_seconds")?,
        retries: row.count("retries")?,
        retry_delay_seconds: row.count("retry_delay_seconds")?,
        state: row.word("state")?,
        consecutive_ok_count: row.count("consecutive_ok_count")?,
        required_consecutive_oks: row.count("required_consecutive_oks")?,
        required_consecutive_alerts: row.count("required_consecutive_alerts")?,
        consecutive_alert_count: row.count("consecutive_alert_count")?,
        reminder_frequency_minutes: row.optional_count("reminder_frequency_minutes")?,
        people_to_notify: row.optional_text("people_to_notify")?,
        missed_tick_policy: row.word("missed_tick_policy")?,
        last_tick_at: row.time("last_tick_at")?,
        last_run_at: row.time("last_run_at")?,
        last_notification_at: row.time("last_notification_at")?,
        next_run_at: row.time("next_run_at")?,
        config_error: row.optional_text("config_error")?,
        revision: row.int("revision")?,
        recheck_seq: row.int("recheck_seq")?,
        write_seq: row.int("write_seq")?,
    })
}

/// Rows by id. A row that cannot be read is no row that is gone: it would be taken for a deleted one, and people told so.
///
/// # Errors
/// Also when any of them cannot be read.
pub(super) async fn by_ids(
    executor: impl Executor,
    ids: Vec<i64>,
) -> Result<BTreeMap<MonitorId, MonitorRow>, sqlx::Error> {
    let rows = rows_by_ids(executor, ids).await?;
    rows.iter().map(|row| decode(row).map(|row| (row.id, row))).collect()
}

async fn rows_by_ids(executor: impl Executor, ids: Vec<i64>) -> Result<Vec<Row>, sqlx::Error> {
    query(format!("SELECT {COLUMNS} FROM monitors WHERE id {{in 1}}")).bind(ids).fetch_all(executor).await
}

/// All rows that can be read. The CHECKs let no other in; one that came in past them steps aside and is reported.
fn decode_all(rows: &[Row]) -> Vec<MonitorRow> {
    let mut monitors = Vec::with_capacity(rows.len());
    for row in rows {
        match decode(row) {
            Ok(monitor) => monitors.push(monitor),
            Err(error) => tracing::error!(
                monitor.id = row.int("id").ok(),
                %error,
                "a row of `monitors` cannot be read and is not watched; correct the named column"
            ),
        }
    }
    monitors
}

/// Entries below the newest that may be of transactions that still go on when a node starts; what is older is found by
/// the comparison of all rows.
const MAY_BE_LATE: i64 = 1_000;

const NEWEST_CHANGE: &str = "SELECT coalesce(max(id), 0) AS newest FROM monitor_changes";

pub(super) async fn change_cursor(
    database: &Database,
    gaps: &Gaps,
    now: DateTime<Utc>,
) -> Result<ChangeCursor, StoreError> {
    read_cursor(database, gaps, now).await.map_err(|error| explain("read the change log", &error))
}

async fn read_cursor(database: &Database, gaps: &Gaps, now: DateTime<Utc>) -> Result<ChangeCursor, sqlx::Error> {
    let newest = query(NEWEST_CHANGE).int(database).await?;
    if database.dialect() != Dialect::Sqlite {
        let late = "SELECT id FROM monitor_changes WHERE id > ?1 AND id <= ?2 ORDER BY id";
        let there = query(late).bind(newest - MAY_BE_LATE).bind(newest).ints(database).await?;
        // Also before the first that is there: what was forgotten is one gap, and costs nothing.
        gaps.note((newest - MAY_BE_LATE).max(0), there.into_iter(), now);
    }
    Ok(ChangeCursor(newest))
}

pub(super) async fn changes(
    database: &Database,
    gaps: &Gaps,
    now: DateTime<Utc>,
    after: ChangeCursor,
    limit: u32,
) -> Result<Changes, StoreError> {
    read_changes(database, gaps, now, after, limit).await.map_err(|error| explain("read the change log", &error))
}

async fn read_changes(
    database: &Database,
    gaps: &Gaps,
    now: DateTime<Utc>,
    after: ChangeCursor,
    limit: u32,
) -> Result<Changes, sqlx::Error> {
    let mut connection = database.reader().await?;
    let late = gaps.look(&mut connection).await?;
    let rows = query(CHANGES).bind(after.0).bind(limit).fetch_all(&mut connection).await?;
    let entries =
        rows.iter().map(|row| Ok((row.int("id")?, row.int("monitor_id")?))).collect::<Result<Vec<_>, sqlx::Error>>()?;
    let cursor = entries.last().map_or(after, |(last, _)| ChangeCursor(*last));
    let changed: BTreeSet<i64> = entries.iter().map(|(_, monitor)| *monitor).chain(late.monitors()).collect();
    // Only now, as the last thing that may fail is done: what was found and not told would never be looked for again.
    let close = || {
        gaps.close(&late, now);
        gaps.note(after.0, entries.iter().map(|(id, _)| *id), now);
    };
    if changed.is_empty() {
        close();
        return Ok(Changes { monitors: Vec::new(), cursor, has_more: false });
    }
    let found = rows_by_ids(&mut connection, changed.iter().copied().collect()).await?;
    let there = found.iter().map(|row| row.int("id")).collect::<Result<BTreeSet<i64>, _>>()?;
    close();
    let mut rows: BTreeMap<MonitorId, MonitorRow> = decode_all(&found).into_iter().map(|row| (row.id, row)).collect();
    // What is there but cannot be read is no news: neither an edit nor a deletion.
    let monitors = changed
        .iter()
        .map(|id| (MonitorId(*id), rows.remove(&MonitorId(*id))))
        .filter(|(id, row)| row.is_some() || !there.contains(&id.0))
        .collect();
    Ok(Changes { monitors, cursor, has_more: entries.len() >= limit as usize })
}

pub(super) async fn page(database: &Database, after: MonitorId, limit: u32) -> Result<Vec<MonitorRow>, StoreError> {
    query(format!("SELECT {COLUMNS} FROM monitors WHERE id > ?1 ORDER BY id LIMIT ?2"))
        .bind(after.0)
        .bind(limit)
        .fetch_all(database)
        .await
        .map(|rows| decode_all(&rows))
        .map_err(|error| explain("read the monitors", &error))
}

pub(super) async fn one(database: &Database, id: MonitorId) -> Result<Option<MonitorRow>, StoreError> {
    query(format!("SELECT {COLUMNS} FROM monitors WHERE id = ?1"))
        .bind(id.0)
        .fetch_optional(database)
        .await
        .and_then(|row| row.as_ref().map(decode).transpose())
        .map_err(|error| explain(&format!("read monitor {id}"), &error))
}

pub(super) async fn mismatched(database: &Database, limit: u32) -> Result<Vec<MonitorId>, StoreError> {
    // A paused monitor is left as it is: nothing is written for it.
    let ids = query(
        "SELECT i.monitor_id FROM incidents i LEFT JOIN monitors m ON m.id = i.monitor_id \
         WHERE i.recovered_at IS NULL AND (m.id IS NULL OR (m.state = 'ok' AND m.is_active = 1)) \
         UNION \
         SELECT m.id FROM monitors m WHERE m.state = 'alert' AND m.is_active = 1 \
           AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.monitor_id = m.id AND i.recovered_at IS NULL) \
         LIMIT ?1",
    )
    .bind(limit)
    .ints(database)
    .await
    .map_err(|error| explain("look for incidents that do not fit their monitors", &error))?;
    Ok(ids.into_iter().map(MonitorId).collect())
}

pub(super) async fn prune_changes(database: &Database, now: DateTime<Utc>, keep: u32) -> Result<(), StoreError> {
    let explain = |error: sqlx::Error| explain("shorten the change log", &error);
    let old = query(OLD_CHANGES).bind(keep.max(1)).bind(now - UNREAD_FOR).bind(MOST_FORGOTTEN).ints(database).await;
    let old = old.map_err(explain)?;
    if old.is_empty() {
        return Ok(());
    }
    query("DELETE FROM monitor_changes WHERE id {in 1}").bind(old).execute(database).await.map(drop).map_err(explain)
}

pub(super) async fn find(database: &Database, text: &str) -> Result<Vec<MonitorId>, StoreError> {
    let ids = query("SELECT id FROM monitors WHERE id = ?1 OR uuid = ?2 OR name = ?2 ORDER BY id LIMIT 20")
        .bind(text.parse::<i64>().ok())
        .bind(text)
        .ints(database)
        .await
        .map_err(|error| explain("look for the monitor", &error))?;
    Ok(ids.into_iter().map(MonitorId).collect())
}

pub(super) async fn add(database: &Database, monitor: &NewMonitor) -> Result<MonitorId, StoreError> {
    let explain = |error: sqlx::Error| explain(&format!("register `{}`", monitor.name), &error);
    let mut columns = String::from("name, kind, schedule");
    let mut values = String::from("?1, ?2, ?3");
    let mut binds = Vec::new();
    for (index, (column, value)) in monitor.columns.iter().enumerate() {
        let number = index + 4;
        columns.push_str(&format!(", {column}"));
        values.push_str(&match *column {
            "config" | "labels" | "people_to_notify" => format!(", {{as json ?{number}}}"),
            _ => format!(", ?{number}"),
        });
        binds.push(column_value(column, value.as_deref()));
    }
    let insert = query(format!("INSERT INTO monitors ({columns}) VALUES ({values}) {{returning id}}"));
    let insert = insert.bind(&monitor.name).bind(&monitor.kind).bind(&monitor.schedule);
    let insert = binds.into_iter().fold(insert, |insert, value| insert.bind(value));
    let mut transaction = database.transaction().await.map_err(explain)?;
    let id = insert.insert(&mut transaction).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(MonitorId(id))
}

/// A column's text as the database takes it; what is no number is left for the database to refuse.
fn column_value(column: &str, text: Option<&str>) -> Bind {
    const NUMBERS: [&str; 7] = [
        "is_active",
        "timeout_seconds",
        "retries",
        "retry_delay_seconds",
        "required_consecutive_oks",
        "required_consecutive_alerts",
        "reminder_frequency_minutes",
    ];
    match text.map(str::parse::<i64>) {
        None if NUMBERS.contains(&column) => Bind::Int(None),
        Some(Ok(number)) if NUMBERS.contains(&column) => Bind::Int(Some(number)),
        _ => Bind::from(text),
    }
}

pub(super) async fn set_active(database: &Database, id: MonitorId, is_active: bool) -> Result<(), StoreError> {
    query("UPDATE monitors SET is_active = ?2 WHERE id = ?1")
        .bind(id.0)
        .bind(is_active)
        .execute(database)
        .await
        .map(drop)
        .map_err(|error| explain(&format!("change monitor {id}"), &error))
}
