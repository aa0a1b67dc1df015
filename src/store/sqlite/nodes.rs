//! Who serves the database.

use chrono::{DateTime, Utc};
use sqlx::SqlitePool;

use super::errors::explain;
use super::values::time_text;
use crate::ports::{NodeIdentity, StoreError};

pub(super) async fn renew(
    writer: &SqlitePool,
    node: &NodeIdentity,
    version: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    is_well: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO nodes (uuid, name, started_at, lease_until, version, heartbeat_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (uuid) DO UPDATE SET lease_until = excluded.lease_until, \
           heartbeat_at = coalesce(excluded.heartbeat_at, heartbeat_at)",
    )
    .bind(&node.uuid)
    .bind(&node.name)
    .bind(time_text(now))
    .bind(time_text(lease_until))
    .bind(version)
    .bind(is_well.then(|| time_text(now)))
    .execute(writer)
    .await
    .map(drop)
    .map_err(|error| explain("register this node", &error))
}

pub(super) async fn remove(writer: &SqlitePool, node: &NodeIdentity) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM nodes WHERE uuid = ?1")
        .bind(&node.uuid)
        .execute(writer)
        .await
        .map(drop)
        .map_err(|error| explain("take this node off", &error))
}
