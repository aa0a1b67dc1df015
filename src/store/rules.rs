//! What people say about messages: the tables `channels`, `routes`, `silences`, `dependencies`.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::database::{Connection, Database, Row, explain, query};
use super::delivery::lock_outbox;
use super::free_rows::look_anew;
use crate::domain::rules::{ChannelRow, RouteRow, RuleRows, RuleTable, Rules, SilenceRow};
use crate::ports::StoreError;

/// Silences that ended before are of no interest, whatever the clocks say.
const LOOKED_AT_FOR: TimeDelta = TimeDelta::days(1);

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
    pub(super) async fn read(&self, connection: &mut Connection) -> Result<Arc<Rules>, sqlx::Error> {
        let version = query("SELECT version FROM rules_version").int(&mut *connection).await?;
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

async fn read_rows(connection: &mut Connection, version: i64) -> Result<RuleRows, sqlx::Error> {
    let channels = query("SELECT * FROM channels ORDER BY name").fetch_all(&mut *connection).await?;
    let routes = query("SELECT * FROM routes ORDER BY sort_order, id").fetch_all(&mut *connection).await?;
    let silences = query("SELECT * FROM silences WHERE ends_at IS NULL OR ends_at > ?1 ORDER BY id")
        .bind(Utc::now() - LOOKED_AT_FOR)
        .fetch_all(&mut *connection)
        .await?;
    let dependencies = query("SELECT child_id, parent_id FROM dependencies").fetch_all(connection).await?;
    Ok(RuleRows {
        version,
        channels: channels.iter().map(channel).collect::<Result<_, _>>()?,
        routes: routes.iter().map(route).collect::<Result<_, _>>()?,
        silences: silences.iter().map(silence).collect::<Result<_, _>>()?,
        dependencies: dependencies
            .iter()
            .map(|row| Ok((row.int("child_id")?, row.int("parent_id")?)))
            .collect::<Result<_, sqlx::Error>>()?,
    })
}

fn channel(row: &Row) -> Result<ChannelRow, sqlx::Error> {
    Ok(ChannelRow {
        id: row.int("id")?,
        name: row.text("name")?,
        url: row.text("url")?,
        is_active: row.flag("is_active")?,
        max_per_minute: row.optional_int("max_per_minute")?.and_then(|limit| u32::try_from(limit).ok()),
        quiet_hours: row.optional_text("quiet_hours")?,
        quiet_timezone: row.optional_text("quiet_timezone")?,
        wants_state_changes: row.flag("wants_state_changes")?,
        config_error: row.optional_text("config_error")?,
    })
}

fn route(row: &Row) -> Result<RouteRow, sqlx::Error> {
    Ok(RouteRow {
        id: row.int("id")?,
        severity: match row.optional_text("severity")? {
            Some(_) => Some(row.word("severity")?),
            None => None,
        },
        selector: row.optional_text("selector")?,
        recipients: row.text("recipients")?,
        after_minutes: row.count("after_minutes")?,
        unless_acknowledged: row.flag("unless_acknowledged")?,
        is_active: row.flag("is_active")?,
        config_error: row.optional_text("config_error")?,
    })
}

fn silence(row: &Row) -> Result<SilenceRow, sqlx::Error> {
    Ok(SilenceRow {
        id: row.int("id")?,
        monitor_id: row.optional_int("monitor_id")?,
        selector: row.optional_text("selector")?,
        starts_at: row.time("starts_at")?.unwrap_or_default(),
        ends_at: row.time("ends_at")?,
        schedule: row.optional_text("schedule")?,
        timezone: row.optional_text("timezone")?,
        duration_minutes: row.optional_int("duration_minutes")?,
        config_error: row.optional_text("config_error")?,
    })
}

pub(super) async fn read(database: &Database, cache: &RulesCache) -> Result<Arc<Rules>, StoreError> {
    let explain = |error: sqlx::Error| explain("read channels, routes, silences and dependencies", &error);
    let mut connection = database.reader().await.map_err(explain)?;
    cache.read(&mut connection).await.map_err(explain)
}

/// Writes what is wrong with each row, where that is not what stands there, and lets everything that is held be looked
/// at anew: what held it may be gone. False where somebody has some of it locked, which is left as it is.
pub(super) async fn report(
    database: &Database,
    now: DateTime<Utc>,
    reports: &[(RuleTable, i64, Option<String>)],
) -> Result<bool, StoreError> {
    let explain = |error: sqlx::Error| explain("write what is wrong with channels, routes and silences", &error);
    let mut transaction = database.transaction().await.map_err(explain)?;
    for (table, id, fault) in reports {
        let update = match table {
            RuleTable::Channels => "UPDATE channels SET config_error = ?2 WHERE id = ?1",
            RuleTable::Routes => "UPDATE routes SET config_error = ?2 WHERE id = ?1",
            RuleTable::Silences => "UPDATE silences SET config_error = ?2 WHERE id = ?1",
        };
        query(update).bind(*id).bind(fault).execute(&mut transaction).await.map_err(explain)?;
    }
    // Not before the rows above: somebody may have one of them locked, and all deliveries would wait along. And not
    // without it: what a planner has locked just now would be passed over.
    lock_outbox(&mut transaction).await.map_err(explain)?;
    let held = query(
        "SELECT id FROM notifications WHERE status = 'held' AND next_attempt_at > ?1 \
           AND hold_reason IS NOT NULL AND hold_reason NOT IN ('storm', 'repetition', 'cut_off')",
    );
    let held = held.bind(now).ints(&mut transaction).await.map_err(explain)?;
    let count = held.len();
    let looked_at = look_anew(&mut transaction, held, now).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(looked_at == count)
}
