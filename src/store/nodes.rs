//! Who serves the database.

use chrono::{DateTime, Utc};

use super::database::{Database, explain, query};
use crate::ports::{NodeIdentity, StoreError};

pub(super) async fn renew(
    writer: &Database,
    node: &NodeIdentity,
    version: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    is_well: bool,
) -> Result<(), StoreError> {
    let renewed = query("UPDATE nodes SET lease_until = ?2, heartbeat_at = coalesce(?3, heartbeat_at) WHERE uuid = ?1")
        .bind(&node.uuid)
        .bind(lease_until)
        .bind(is_well.then_some(now))
        .execute(writer)
        .await
        .map_err(|error| explain("register this node", &error))?;
    if renewed > 0 {
        return Ok(());
    }
    query(
        "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(&node.uuid)
    .bind(&node.name)
    .bind(now)
    .bind(lease_until)
    .bind(version)
    .bind(is_well.then_some(now))
    .execute(writer)
    .await
    .map(drop)
    .map_err(|error| explain("register this node", &error))
}

pub(super) async fn remove(writer: &Database, node: &NodeIdentity) -> Result<(), StoreError> {
    query("DELETE FROM nodes WHERE uuid = ?1")
        .bind(&node.uuid)
        .execute(writer)
        .await
        .map(drop)
        .map_err(|error| explain("take this node off", &error))
}
