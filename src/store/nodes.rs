//! Who serves the database.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Connection, Database, Executor, Row, Sql, explain, query};
use super::delivery::lock_outbox;
use crate::ports::{Columns, LiveNode, LiveNodes, NodeIdentity, NodeReport, Renewed, StoreError};

/// A row whose lease ended so long ago tells nobody anything any more.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(1);

const LIVE: &str = "SELECT id, uuid, name, labels, kinds, started_at, lease_until, version, settings \
     FROM nodes WHERE lease_until > ?1 ORDER BY id";

const WRITE: Sql = Sql::each(
    "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at, labels, kinds, settings, \
       monitor_count, lateness_p99_ms, clock_skew_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
     ON CONFLICT (uuid) DO UPDATE SET lease_until = excluded.lease_until, version = excluded.version, \
       heartbeat_at = coalesce(excluded.heartbeat_at, nodes.heartbeat_at), labels = excluded.labels, \
       kinds = excluded.kinds, settings = excluded.settings, monitor_count = excluded.monitor_count, \
       lateness_p99_ms = excluded.lateness_p99_ms, clock_skew_ms = excluded.clock_skew_ms",
    "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at, labels, kinds, settings, \
       monitor_count, lateness_p99_ms, clock_skew_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(?7 AS jsonb), CAST(?8 AS jsonb), CAST(?9 AS jsonb), ?10, ?11, ?12) \
     ON CONFLICT (uuid) DO UPDATE SET lease_until = excluded.lease_until, version = excluded.version, \
       heartbeat_at = coalesce(excluded.heartbeat_at, nodes.heartbeat_at), labels = excluded.labels, \
       kinds = excluded.kinds, settings = excluded.settings, monitor_count = excluded.monitor_count, \
       lateness_p99_ms = excluded.lateness_p99_ms, clock_skew_ms = excluded.clock_skew_ms",
    "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at, labels, kinds, settings, \
       monitor_count, lateness_p99_ms, clock_skew_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
     ON DUPLICATE KEY UPDATE lease_until = VALUES(lease_until), version = VALUES(version), \
       heartbeat_at = coalesce(VALUES(heartbeat_at), heartbeat_at), labels = VALUES(labels), \
       kinds = VALUES(kinds), settings = VALUES(settings), monitor_count = VALUES(monitor_count), \
       lateness_p99_ms = VALUES(lateness_p99_ms), clock_skew_ms = VALUES(clock_skew_ms)",
);

async fn now(executor: impl Executor) -> Result<DateTime<Utc>, sqlx::Error> {
    Ok(query("SELECT {now} AS now_time").fetch_one(executor).await?.time("now_time")?.unwrap_or_default())
}

pub(super) async fn renew(writer: &Database, node: &NodeIdentity, report: &NodeReport) -> Result<Renewed, StoreError> {
    let explain = |error: sqlx::Error| explain("register this node", &error);
    let mut transaction = writer.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let now = now(&mut transaction).await.map_err(explain)?;
    let lease_until = now + report.lease;
    let latest = query("SELECT max(lease_until) AS latest FROM nodes")
        .fetch_one(&mut transaction)
        .await
        .and_then(|row| row.time("latest"))
        .map_err(explain)?;
    query("DELETE FROM nodes WHERE lease_until < ?1 AND uuid <> ?2")
        .bind(now - FORGOTTEN_AFTER)
        .bind(&node.uuid)
        .execute(&mut transaction)
        .await
        .map_err(explain)?;
    write(&mut transaction, now, node, report).await.map_err(explain)?;
    let rows = query(LIVE).bind(now).fetch_all(&mut transaction).await.map_err(explain)?;
    let nodes = rows.iter().map(live_node).collect::<Result<_, _>>().map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(Renewed {
        live: LiveNodes { now, nodes },
        lease_until,
        nobody_was_alive_since: latest.filter(|latest| *latest <= now),
    })
}

async fn write(
    connection: &mut Connection,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<(), sqlx::Error> {
    query(WRITE)
        .bind(&node.uuid)
        .bind(&node.name)
        .bind(now)
        .bind(now + report.lease)
        .bind(report.version.as_str())
        .bind(report.is_well.then_some(now))
        .bind(serde_json::json!(report.labels).to_string())
        .bind(serde_json::json!(report.kinds).to_string())
        .bind(report.settings.as_str())
        .bind(i64::try_from(report.monitor_count).unwrap_or(i64::MAX))
        .bind(report.lateness_p99.map(|late| late.num_milliseconds()))
        .bind(report.clock_skew.num_milliseconds())
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn live(readers: &Database) -> Result<LiveNodes, StoreError> {
    let explain = |error: sqlx::Error| explain("read which nodes are alive", &error);
    let now = now(readers).await.map_err(explain)?;
    let rows = query(LIVE).bind(now).fetch_all(readers).await.map_err(explain)?;
    let nodes = rows.iter().map(live_node).collect::<Result<_, _>>().map_err(explain)?;
    Ok(LiveNodes { now, nodes })
}

/// What people may have edited is read as far as it can be.
fn live_node(row: &Row) -> Result<LiveNode, sqlx::Error> {
    let time = |column: &str| Ok::<_, sqlx::Error>(row.time(column)?.unwrap_or_default());
    let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&row.text("labels")?).unwrap_or_default();
    Ok(LiveNode {
        id: row.int("id")?,
        uuid: row.text("uuid")?,
        name: row.text("name")?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
        kinds: serde_json::from_str(&row.text("kinds")?).unwrap_or(Some(Vec::new())),
        started_at: time("started_at")?,
        lease_until: time("lease_until")?,
        version: row.text("version")?,
        settings: row.text("settings")?,
    })
}

pub(super) async fn remove(writer: &Database, node: &NodeIdentity) -> Result<(), StoreError> {
    let explain = |error: sqlx::Error| explain("take this node off", &error);
    let mut transaction = writer.transaction().await.map_err(explain)?;
    lock_outbox(&mut transaction).await.map_err(explain)?;
    query("DELETE FROM nodes WHERE uuid = ?1").bind(&node.uuid).execute(&mut transaction).await.map_err(explain)?;
    let now = now(&mut transaction).await.map_err(explain)?;
    let alive = query("SELECT count(*) FROM nodes WHERE lease_until > ?1")
        .bind(now)
        .int(&mut transaction)
        .await
        .map_err(explain)?;
    if alive == 0 {
        query("DELETE FROM nodes WHERE lease_until <= ?1")
            .bind(now)
            .execute(&mut transaction)
            .await
            .map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)
}

pub(super) async fn release_leases_of_gone(writer: &Database, gone_before: DateTime<Utc>) -> Result<u64, StoreError> {
    // Leases of the command line carry no node's prefix: those programs may still be sending.
    query(
        "UPDATE notifications SET status = 'pending', lease_owner = NULL, lease_until = NULL \
         WHERE status = 'sending' AND lease_owner LIKE 'node:%' \
           AND substr(lease_owner, 6) NOT IN (SELECT uuid FROM nodes WHERE lease_until > ?1)",
    )
    .bind(gone_before)
    .execute(writer)
    .await
    .map_err(|error| explain("take up deliveries of nodes that are gone", &error))
}

pub(super) async fn records(readers: &Database) -> Result<Vec<Columns>, StoreError> {
    let rows = query(
        "SELECT id, uuid, name, version, CASE WHEN lease_until > {now} THEN 1 ELSE 0 END AS is_alive, started_at, \
           lease_until, heartbeat_at, labels, kinds, settings, monitor_count, lateness_p99_ms, clock_skew_ms \
         FROM nodes ORDER BY id",
    )
    .fetch_all(readers)
    .await
    .map_err(|error| explain("read the nodes", &error))?;
    Ok(rows.iter().map(Row::columns).collect())
}
