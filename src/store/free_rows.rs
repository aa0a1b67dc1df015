//! Notifications that nobody else has locked.
//!
//! A person may have one in an open transaction, for as long as a lunch lasts. Whoever waited for it would hold up all
//! others, with what it has locked itself: so what is locked is passed over, and looked at again later.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::database::{Connection, Dialect, query};

/// Where some are locked, so many more are looked at. A person who has more of them in an open transaction keeps the rest
/// waiting until it ends.
pub(super) const LOOK_BEYOND: u32 = 2_000;
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

/// Lets those of `held` be looked at anew at `now` that nobody else has locked; returns how many.
pub(super) async fn look_anew(
    connection: &mut Connection,
    held: Vec<i64>,
    now: DateTime<Utc>,
) -> Result<usize, sqlx::Error> {
    let free = lock_free(&mut *connection, held, &["held"]).await?;
    let count = free.len();
    if count > 0 {
        let update = query("UPDATE notifications SET next_attempt_at = ?2 WHERE id {in 1}");
        update.bind(free).bind(now).execute(connection).await?;
    }
    Ok(count)
}
