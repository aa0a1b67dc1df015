//! What is old goes, in small steps.

use chrono::{DateTime, Utc};

use crate::domain::Span;
use crate::store::database::{Database, Sql, query};
use crate::store::postgres;

/// What may go: how to find what is older than `?1`, and how to delete what was found if that is still true of it.
///
/// Finding may walk past much that must stay (runs of incidents that are open for months), so it is done without the
/// write lock.
pub(in crate::store) const FORGETTABLE: [(Sql, &str); 4] = [
    (
        {
            const IN_ORDER: &str = "SELECT r.id FROM monitor_runs r WHERE r.started_at < ?1 \
               AND NOT EXISTS (SELECT 1 FROM incidents i \
                 WHERE i.monitor_id = r.monitor_id AND i.recovered_at IS NULL AND i.opened_at <= r.started_at) \
             ORDER BY r.started_at LIMIT ?2";
            // Without an order: its index knows only roughly where old runs lie, and cannot sort them.
            const AS_THEY_LIE: &str = "SELECT r.id FROM monitor_runs r WHERE r.started_at < ?1 \
               AND NOT EXISTS (SELECT 1 FROM incidents i \
                 WHERE i.monitor_id = r.monitor_id AND i.recovered_at IS NULL AND i.opened_at <= r.started_at) \
             LIMIT ?2";
            Sql::each(IN_ORDER, AS_THEY_LIE, IN_ORDER)
        },
        // The time spares PostgreSQL all younger partitions.
        "DELETE FROM monitor_runs WHERE id {in 1} AND started_at < ?2 AND NOT EXISTS (SELECT 1 \
           FROM incidents i WHERE i.monitor_id = monitor_runs.monitor_id AND i.recovered_at IS NULL \
             AND i.opened_at <= monitor_runs.started_at)",
    ),
    (
        Sql::portable(
            "SELECT n.id FROM notifications n WHERE n.created_at < ?1 \
               AND n.status IN ('sent', 'merged', 'withdrawn', 'failed') AND NOT EXISTS (SELECT 1 FROM incidents i \
                 WHERE i.id = n.incident_id AND i.recovered_at IS NULL) \
             ORDER BY n.created_at LIMIT ?2",
        ),
        "DELETE FROM notifications WHERE id {in 1} AND created_at < ?2 \
           AND status IN ('sent', 'merged', 'withdrawn', 'failed') AND NOT EXISTS (SELECT 1 FROM incidents i \
             WHERE i.id = notifications.incident_id AND i.recovered_at IS NULL)",
    ),
    (
        Sql::portable(
            "SELECT i.id FROM incidents i WHERE i.recovered_at < ?1 \
               AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.incident_id = i.id) \
             ORDER BY i.recovered_at LIMIT ?2",
        ),
        "DELETE FROM incidents WHERE id {in 1} AND recovered_at < ?2 \
           AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.incident_id = incidents.id)",
    ),
    (
        Sql::portable("SELECT id FROM nodes WHERE lease_until < ?1 LIMIT ?2"),
        "DELETE FROM nodes WHERE id {in 1} AND lease_until < ?2",
    ),
];

/// Deletes at most `limit` rows of each table that are older than `before`; of runs those that are older than
/// `runs_before`. Returns how many went, and whether that was all.
pub(super) async fn rows(
    database: &Database,
    before: DateTime<Utc>,
    runs_before: Option<DateTime<Utc>>,
    limit: u32,
) -> Result<(u64, bool), sqlx::Error> {
    let (mut gone, mut has_more) = (0, false);
    let [runs, others @ ..] = &FORGETTABLE;
    let runs = runs_before.map(|before| (runs, before));
    for ((find, delete), before) in runs.into_iter().chain(others.iter().map(|table| (table, before))) {
        let find = query(find).bind(before).bind(limit);
        let found = postgres::upkeep::ints_by_index(database, find).await?;
        // What was found may have to stay after all; it must not be looked for in a circle.
        let is_full = found.len() >= limit as usize;
        if !found.is_empty() {
            let went = query(*delete).bind(found).bind(before).execute(database).await?;
            has_more |= is_full && went > 0;
            gone += went;
        }
    }
    Ok((gone, has_more))
}

/// Deletes at most `limit` rows of the oldest span that begins before `before`. Returns as [`rows`].
pub(super) async fn spans(
    database: &Database,
    span: Span,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<(u64, bool), sqlx::Error> {
    let (oldest, find, delete) = match span {
        Span::Hour => (
            "SELECT min(starts_at) AS at FROM monitor_run_hours",
            "SELECT monitor_id FROM monitor_run_hours WHERE starts_at = ?1 LIMIT ?2",
            "DELETE FROM monitor_run_hours WHERE starts_at = ?1 AND monitor_id {in 2}",
        ),
        Span::Day => (
            "SELECT min(starts_at) AS at FROM monitor_run_days",
            "SELECT monitor_id FROM monitor_run_days WHERE starts_at = ?1 LIMIT ?2",
            "DELETE FROM monitor_run_days WHERE starts_at = ?1 AND monitor_id {in 2}",
        ),
    };
    let Some(oldest) = query(oldest).fetch_one(database).await?.time("at")?.filter(|oldest| *oldest < before) else {
        return Ok((0, false));
    };
    let found = query(find).bind(oldest).bind(limit).ints(database).await?;
    let gone = query(delete).bind(oldest).bind(found).execute(database).await?;
    // The next span may be old, too.
    Ok((gone, gone > 0))
}
