//! Notifications that nobody else has locked.
//!
//! A person may have one in an open transaction, for as long as a lunch lasts. Whoever waited for it would hold up all
//! others, with what it has locked itself: so what is locked is passed over, and looked at again later.

use std::collections::HashSet;

use super::database::{Connection, Dialect, query};

const LOCK: &str = "SELECT id FROM notifications WHERE id {in 1} AND status {in 2} ORDER BY id {skip locked}";

/// Locks those of `ids` that have one of these statuses, and that nobody else has locked; returns them in their order.
/// (On SQLite one transaction writes at a time: nothing is locked, and what was just read is as it was.)
pub(super) async fn lock_free(
    connection: &mut Connection,
    mut ids: Vec<i64>,
    statuses: &[&str],
) -> Result<Vec<i64>, sqlx::Error> {
    if ids.is_empty() || connection.dialect() == Dialect::Sqlite {
        return Ok(ids);
    }
    let statuses: Vec<String> = statuses.iter().map(|status| (*status).to_owned()).collect();
    let free = query(LOCK).bind(ids.clone()).bind(statuses).ints(connection).await?;
    let free: HashSet<i64> = free.into_iter().collect();
    ids.retain(|id| free.contains(id));
    Ok(ids)
}
