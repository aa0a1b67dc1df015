//! Who serves the database.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::errors::explain;
use super::history::columns;
use super::values::{read_time, text, time_text};
use crate::ports::{Columns, LiveNode, LiveNodes, NodeIdentity, NodeReport, Renewed, StoreError};

/// A row whose lease ended so long ago tells nobody anything any more.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(1);

const LIVE: &str = "SELECT id, uuid, name, labels, kinds, started_at, lease_until, version, settings \
     FROM nodes WHERE lease_until > ?1 ORDER BY id";

pub(super) async fn renew(
    writer: &SqlitePool,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<Renewed, StoreError> {
    let explain = |error: sqlx::Error| explain("register this node", &error);
    let lease_until = now + report.lease;
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let latest: Option<String> =
        sqlx::query_scalar("SELECT max(lease_until) FROM nodes").fetch_one(&mut *transaction).await.map_err(explain)?;
    let latest = read_time(latest.as_deref());
    sqlx::query("DELETE FROM nodes WHERE lease_until < ?1 AND uuid <> ?2")
        .bind(time_text(now - FORGOTTEN_AFTER))
        .bind(&node.uuid)
        .execute(&mut *transaction)
        .await
        .map_err(explain)?;
    write(&mut transaction, now, node, report).await.map_err(explain)?;
    let rows = sqlx::query(LIVE).bind(time_text(now)).fetch_all(&mut *transaction).await.map_err(explain)?;
    let nodes = rows.iter().map(live_node).collect::<Result<_, _>>().map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(Renewed {
        live: LiveNodes { now, nodes },
        lease_until,
        nobody_was_alive_since: latest.filter(|latest| *latest <= now),
    })
}

async fn write(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at, labels, kinds, settings, \
           monitor_count, lateness_p99_ms, clock_skew_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT (uuid) DO UPDATE SET lease_until = excluded.lease_until, version = excluded.version, \
           heartbeat_at = coalesce(excluded.heartbeat_at, heartbeat_at), labels = excluded.labels, \
           kinds = excluded.kinds, settings = excluded.settings, monitor_count = excluded.monitor_count, \
           lateness_p99_ms = excluded.lateness_p99_ms, clock_skew_ms = excluded.clock_skew_ms",
    )
    .bind(&node.uuid)
    .bind(&node.name)
    .bind(time_text(now))
    .bind(time_text(now + report.lease))
    .bind(&report.version)
    .bind(report.is_well.then(|| time_text(now)))
    .bind(serde_json::json!(report.labels).to_string())
    .bind(serde_json::json!(report.kinds).to_string())
    .bind(&report.settings)
    .bind(i64::try_from(report.monitor_count).unwrap_or(i64::MAX))
    .bind(report.lateness_p99.map(|late| late.num_milliseconds()))
    .bind(report.clock_skew.num_milliseconds())
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn live(readers: &SqlitePool, now: DateTime<Utc>) -> Result<LiveNodes, StoreError> {
    let explain = |error: sqlx::Error| explain("read which nodes are alive", &error);
    let rows = sqlx::query(LIVE).bind(time_text(now)).fetch_all(readers).await.map_err(explain)?;
    let nodes = rows.iter().map(live_node).collect::<Result<_, _>>().map_err(explain)?;
    Ok(LiveNodes { now, nodes })
}

/// What people may have edited is read as far as it can be.
fn live_node(row: &SqliteRow) -> Result<LiveNode, sqlx::Error> {
    let time = |column: &str| Ok::<_, sqlx::Error>(read_time(Some(&text(row, column)?)).unwrap_or_default());
    let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text(row, "labels")?).unwrap_or_default();
    Ok(LiveNode {
        id: row.try_get("id")?,
        uuid: text(row, "uuid")?,
        name: text(row, "name")?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
        kinds: serde_json::from_str(&text(row, "kinds")?).unwrap_or(Some(Vec::new())),
        started_at: time("started_at")?,
        lease_until: time("lease_until")?,
        version: text(row, "version")?,
        settings: text(row, "settings")?,
    })
}

pub(super) async fn remove(writer: &SqlitePool, now: DateTime<Utc>, node: &NodeIdentity) -> Result<(), StoreError> {
    let explain = |error: sqlx::Error| explain("take this node off", &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    sqlx::query("DELETE FROM nodes WHERE uuid = ?1")
        .bind(&node.uuid)
        .execute(&mut *transaction)
        .await
        .map_err(explain)?;
    let now = time_text(now);
    let alive: i64 = sqlx::query_scalar("SELECT count(*) FROM nodes WHERE lease_until > ?1")
        .bind(&now)
        .fetch_one(&mut *transaction)
        .await
        .map_err(explain)?;
    if alive == 0 {
        sqlx::query("DELETE FROM nodes WHERE lease_until <= ?1")
            .bind(&now)
            .execute(&mut *transaction)
            .await
            .map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)
}

pub(super) async fn release_leases_of_gone(writer: &SqlitePool, gone_before: DateTime<Utc>) -> Result<u64, StoreError> {
    // Leases of the command line carry no node's prefix: those programs may still be sending.
    sqlx::query(
        "UPDATE notifications SET status = 'pending', lease_owner = NULL, lease_until = NULL \
         WHERE status = 'sending' AND lease_owner LIKE 'node:%' \
           AND substr(lease_owner, 6) NOT IN (SELECT uuid FROM nodes WHERE lease_until > ?1)",
    )
    .bind(time_text(gone_before))
    .execute(writer)
    .await
    .map(|done| done.rows_affected())
    .map_err(|error| explain("take up deliveries of nodes that are gone", &error))
}

pub(super) async fn records(readers: &SqlitePool, now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, uuid, name, version, CASE WHEN lease_until > ?1 THEN 1 ELSE 0 END AS is_alive, started_at, \
           lease_until, heartbeat_at, labels, kinds, settings, monitor_count, lateness_p99_ms, clock_skew_ms \
         FROM nodes ORDER BY id",
    )
    .bind(time_text(now))
    .fetch_all(readers)
    .await
    .map_err(|error| explain("read the nodes", &error))?;
    Ok(rows.iter().map(columns).collect())
}
