//! What people say about messages: the tables `channels`, `routes`, `silences`, `dependencies`.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use super::errors::explain;
use super::values::{count, get, optional_text, text, time, time_text, word};
use crate::domain::rules::{ChannelRow, RouteRow, RuleRows, RuleTable, Rules, SilenceRow};
use crate::ports::StoreError;

/// The rules as last read, for as long as nobody edits them.
pub(super) struct RulesCache {
    default_zone: Tz,
    known: Mutex<Arc<Rules>>,
}

impl RulesCache {
    pub(super) fn new(default_zone: Tz) -> Self {
        Self { default_zone, known: Mutex::new(Arc::default()) }
    }

    /// The rules as they are on this connection: inside a transaction, those that hold for what it writes.
    pub(super) async fn read(&self, connection: &mut SqliteConnection) -> Result<Arc<Rules>, sqlx::Error> {
        let version: i64 = sqlx::query_scalar("SELECT version FROM rules_version").fetch_one(&mut *connection).await?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.version == version {
            return Ok(known);
        }
        let rows = read_rows(connection, version).await?;
        let rules = Arc::new(Rules::read(&rows, self.default_zone));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = rules.clone();
        Ok(rules)
    }
}

async fn read_rows(connection: &mut SqliteConnection, version: i64) -> Result<RuleRows, sqlx::Error> {
    let channels = sqlx::query("SELECT * FROM channels ORDER BY name").fetch_all(&mut *connection).await?;
    let routes = sqlx::query("SELECT * FROM routes ORDER BY sort_order, id").fetch_all(&mut *connection).await?;
    let silences = sqlx::query(
        "SELECT * FROM silences WHERE ends_at IS NULL OR ends_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day') \
         ORDER BY id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let dependencies = sqlx::query_as("SELECT child_id, parent_id FROM dependencies").fetch_all(connection).await?;
    Ok(RuleRows {
        version,
        channels: channels.iter().map(channel).collect::<Result<_, _>>()?,
        routes: routes.iter().map(route).collect::<Result<_, _>>()?,
        silences: silences.iter().map(silence).collect::<Result<_, _>>()?,
        dependencies,
    })
}

fn channel(row: &SqliteRow) -> Result<ChannelRow, sqlx::Error> {
    Ok(ChannelRow {
        id: get(row, "id")?,
        name: text(row, "name")?,
        url: text(row, "url")?,
        is_active: get::<i64>(row, "is_active")? != 0,
        max_per_minute: get::<Option<i64>>(row, "max_per_minute")?.and_then(|limit| u32::try_from(limit).ok()),
        quiet_hours: optional_text(row, "quiet_hours")?,
        quiet_timezone: optional_text(row, "quiet_timezone")?,
        wants_state_changes: get::<i64>(row, "wants_state_changes")? != 0,
        config_error: optional_text(row, "config_error")?,
    })
}

fn route(row: &SqliteRow) -> Result<RouteRow, sqlx::Error> {
    Ok(RouteRow {
        id: get(row, "id")?,
        severity: match optional_text(row, "severity")? {
            Some(_) => Some(word(row, "severity")?),
            None => None,
        },
        selector: optional_text(row, "selector")?,
        recipients: text(row, "recipients")?,
        after_minutes: count(row, "after_minutes")?,
        unless_acknowledged: get::<i64>(row, "unless_acknowledged")? != 0,
        is_active: get::<i64>(row, "is_active")? != 0,
        config_error: optional_text(row, "config_error")?,
    })
}

fn silence(row: &SqliteRow) -> Result<SilenceRow, sqlx::Error> {
    Ok(SilenceRow {
        id: get(row, "id")?,
        monitor_id: get(row, "monitor_id")?,
        selector: optional_text(row, "selector")?,
        starts_at: time(row, "starts_at")?.unwrap_or_default(),
        ends_at: time(row, "ends_at")?,
        schedule: optional_text(row, "schedule")?,
        timezone: optional_text(row, "timezone")?,
        duration_minutes: get(row, "duration_minutes")?,
        config_error: optional_text(row, "config_error")?,
    })
}

pub(super) async fn read(pool: &SqlitePool, cache: &RulesCache) -> Result<Arc<Rules>, StoreError> {
    let explain = |error: sqlx::Error| explain("read channels, routes, silences and dependencies", &error);
    let mut connection = pool.acquire().await.map_err(explain)?;
    cache.read(&mut connection).await.map_err(explain)
}

/// Writes what is wrong with each row, where that is not what stands there, and lets everything that is held be looked
/// at anew: what held it may be gone.
pub(super) async fn report(
    writer: &SqlitePool,
    now: DateTime<Utc>,
    reports: &[(RuleTable, i64, Option<String>)],
) -> Result<(), StoreError> {
    let explain = |error: sqlx::Error| explain("write what is wrong with channels, routes and silences", &error);
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    for (table, id, fault) in reports {
        let update = match table {
            RuleTable::Channels => "UPDATE channels SET config_error = ?2 WHERE id = ?1",
            RuleTable::Routes => "UPDATE routes SET config_error = ?2 WHERE id = ?1",
            RuleTable::Silences => "UPDATE silences SET config_error = ?2 WHERE id = ?1",
        };
        sqlx::query(update).bind(id).bind(fault).execute(&mut *transaction).await.map_err(explain)?;
    }
    sqlx::query(
        "UPDATE notifications SET next_attempt_at = ?1 WHERE status = 'held' AND next_attempt_at > ?1 \
           AND hold_reason IS NOT NULL AND hold_reason NOT IN ('storm', 'repetition', 'cut_off')",
    )
    .bind(time_text(now))
    .execute(&mut *transaction)
    .await
    .map_err(explain)?;
    transaction.commit().await.map_err(explain)
}
