//! Who serves the database.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Connection, Database, Dialect, Executor, Query, Row, explain, query};
use super::delivery::lock_outbox;
use super::free_rows::lock_free;
use crate::domain::NotificationId;
use crate::ports::{Columns, LiveNode, LiveNodes, NodeIdentity, NodeReport, Renewed, StoreError};

/// A row whose lease ended so long ago tells nobody anything any more.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(1);

const LIVE: &str = "SELECT id, uuid, name, labels, kinds, started_at, lease_until, version, settings \
     FROM nodes WHERE lease_until > ?1 ORDER BY id";

/// The time by the database's clock. A SQLite file has no clock of its own: there it is this node's.
async fn now_by(
    database: &Database,
    executor: impl Executor,
    own: DateTime<Utc>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    if database.dialect() == Dialect::Sqlite {
        return Ok(own);
    }
    let now = query("SELECT {now} AS now").fetch_one(executor).await?.time("now")?;
    Ok(now.unwrap_or(own))
}

pub(super) async fn renew(
    database: &Database,
    own_now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<Renewed, StoreError> {
    try_renew(database, own_now, node, report).await.map_err(|error| explain("register this node", &error))
}

async fn try_renew(
    database: &Database,
    own_now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<Renewed, sqlx::Error> {
    // No lock but that on its own row: planning a storm, a person's open transaction that planning waits for, or a node
    // that is frozen inside one would cost all others their leases.
    let mut transaction = database.transaction().await?;
    let now = now_by(database, &mut transaction, own_now).await?;
    let latest = latest_lease(&mut transaction).await?;
    query("DELETE FROM nodes WHERE lease_until < ?1 AND uuid <> ?2")
        .bind(now - FORGOTTEN_AFTER)
        .bind(&node.uuid)
        .execute(&mut transaction)
        .await?;
    write(&mut transaction, now, node, report).await?;
    let rows = query(LIVE).bind(now).fetch_all(&mut transaction).await?;
    let nodes = rows.iter().map(live_node).collect::<Result<_, _>>()?;
    transaction.commit().await?;
    Ok(Renewed {
        live: LiveNodes { now, nodes, nobody_is_alive_since: None },
        lease_until: now + report.lease,
        nobody_was_alive_since: latest.filter(|latest| *latest <= now),
    })
}

async fn write(
    connection: &mut Connection,
    now: DateTime<Utc>,
    node: &NodeIdentity,
    report: &NodeReport,
) -> Result<(), sqlx::Error> {
    const UPDATE: &str = "\
        UPDATE nodes SET name = ?2, lease_until = ?4, version = ?5, heartbeat_at = coalesce(?6, heartbeat_at), \
          labels = {as json ?7}, kinds = {as json ?8}, settings = {as json ?9}, monitor_count = ?10, \
          lateness_p99_ms = ?11, clock_skew_ms = ?12 \
        WHERE uuid = ?1";
    const INSERT: &str = "\
        INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at, labels, kinds, settings, \
          monitor_count, lateness_p99_ms, clock_skew_ms) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, {as json ?7}, {as json ?8}, {as json ?9}, ?10, ?11, ?12)";
    let with_values = |statement| {
        query(statement)
            .bind(&node.uuid)
            .bind(&node.name)
            .bind(now)
            .bind(now + report.lease)
            .bind(&report.version)
            .bind(report.is_well.then_some(now))
            .bind(serde_json::json!(report.labels).to_string())
            .bind(serde_json::json!(report.kinds).to_string())
            .bind(&report.settings)
            .bind(i64::try_from(report.monitor_count).unwrap_or(i64::MAX))
            .bind(report.lateness_p99.map(|late| late.num_milliseconds()))
            .bind(report.clock_skew.num_milliseconds())
    };
    // Somebody may have deleted it just now.
    if with_values(UPDATE).execute(&mut *connection).await? == 0 {
        with_values(INSERT).execute(connection).await?;
    }
    Ok(())
}

pub(super) async fn live(database: &Database, own_now: DateTime<Utc>) -> Result<LiveNodes, StoreError> {
    try_live(database, own_now).await.map_err(|error| explain("read which nodes are alive", &error))
}

async fn try_live(database: &Database, own_now: DateTime<Utc>) -> Result<LiveNodes, sqlx::Error> {
    let mut connection = database.reader().await?;
    let now = now_by(database, &mut connection, own_now).await?;
    let rows = query(LIVE).bind(now).fetch_all(&mut connection).await?;
    let nobody_is_alive_since = if rows.is_empty() { latest_lease(&mut connection).await? } else { None };
    connection.commit().await?;
    Ok(LiveNodes { now, nodes: rows.iter().map(live_node).collect::<Result<_, _>>()?, nobody_is_alive_since })
}

async fn latest_lease(connection: &mut Connection) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    query("SELECT max(lease_until) AS latest FROM nodes").fetch_one(connection).await?.time("latest")
}

/// What people may have edited is read as far as it can be.
fn live_node(row: &Row) -> Result<LiveNode, sqlx::Error> {
    let labels: BTreeMap<String, serde_json::Value> = serde_json::from_str(&row.text("labels")?).unwrap_or_default();
    Ok(LiveNode {
        id: row.int("id")?,
        uuid: row.text("uuid")?,
        name: row.text("name")?,
        labels: labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect(),
        kinds: serde_json::from_str(&row.text("kinds")?).unwrap_or(Some(Vec::new())),
        started_at: row.time("started_at")?.unwrap_or_default(),
        lease_until: row.time("lease_until")?.unwrap_or_default(),
        version: row.text("version")?,
        settings: row.text("settings")?,
    })
}

pub(super) async fn remove(database: &Database, own_now: DateTime<Utc>, node: &NodeIdentity) -> Result<(), StoreError> {
    try_remove(database, own_now, node).await.map_err(|error| explain("take this node off", &error))
}

async fn try_remove(database: &Database, own_now: DateTime<Utc>, node: &NodeIdentity) -> Result<(), sqlx::Error> {
    let mut transaction = database.transaction().await?;
    lock_outbox(&mut transaction).await?;
    let now = now_by(database, &mut transaction, own_now).await?;
    query("DELETE FROM nodes WHERE uuid = ?1").bind(&node.uuid).execute(&mut transaction).await?;
    let alive = query("SELECT count(*) AS alive FROM nodes WHERE lease_until > ?1").bind(now);
    if alive.int(&mut transaction).await? == 0 {
        query("DELETE FROM nodes WHERE lease_until <= ?1").bind(now).execute(&mut transaction).await?;
    }
    transaction.commit().await
}

/// What `taken` finds is to be sent by whoever comes first. (What somebody has locked goes by its lease.)
async fn release(database: &Database, taken: Query) -> Result<u64, sqlx::Error> {
    let mut transaction = database.transaction().await?;
    lock_outbox(&mut transaction).await?;
    let taken = taken.ints(&mut transaction).await?;
    let free = lock_free(&mut transaction, taken, &["sending"]).await?;
    let release = query(
        "UPDATE notifications SET status = 'pending', lease_owner = NULL, lease_until = NULL \
         WHERE id {in 1} AND status = 'sending'",
    );
    let released = release.bind(free).execute(&mut transaction).await?;
    transaction.commit().await?;
    Ok(released)
}

pub(super) async fn release_leases_of_others(database: &Database, owner: &str) -> Result<u64, StoreError> {
    // Leases of the command line carry no node's prefix: those programs may still be sending.
    let taken = query(
        "SELECT id FROM notifications WHERE status = 'sending' AND lease_owner <> ?1 AND lease_owner LIKE 'node:%'",
    );
    release(database, taken.bind(owner)).await.map_err(|error| explain("take up interrupted deliveries", &error))
}

pub(super) async fn release_leases_of_gone(database: &Database, gone_before: DateTime<Utc>) -> Result<u64, StoreError> {
    let taken = query(
        "SELECT id FROM notifications WHERE status = 'sending' AND lease_owner LIKE 'node:%' \
           AND substr(lease_owner, 6) NOT IN (SELECT uuid FROM nodes WHERE lease_until > ?1)",
    );
    release(database, taken.bind(gone_before))
        .await
        .map_err(|error| explain("take up deliveries of nodes that are gone", &error))
}

pub(super) async fn release_unknown(
    database: &Database,
    owner: &str,
    known: &[NotificationId],
) -> Result<u64, StoreError> {
    let taken = query("SELECT id FROM notifications WHERE status = 'sending' AND lease_owner = ?1 AND NOT (id {in 2})");
    // No id is 0; MySQL takes an empty list for NULL.
    let taken = taken.bind(owner).bind(known.iter().map(|id| id.0).chain([0]).collect::<Vec<_>>());
    release(database, taken).await.map_err(|error| explain("take up deliveries whose claim was not answered", &error))
}

pub(super) async fn records(database: &Database, own_now: DateTime<Utc>) -> Result<Vec<Columns>, StoreError> {
    let explain = |error: sqlx::Error| explain("read the nodes", &error);
    let now = now_by(database, database, own_now).await.map_err(explain)?;
    let rows = query(
        "SELECT id, uuid, name, version, CASE WHEN lease_until > ?1 THEN 1 ELSE 0 END AS is_alive, started_at, \
           lease_until, heartbeat_at, labels, kinds, settings, monitor_count, lateness_p99_ms, clock_skew_ms \
         FROM nodes ORDER BY id",
    )
    .bind(now)
    .fetch_all(database)
    .await
    .map_err(explain)?;
    Ok(rows.iter().map(Row::columns).collect())
}
