//! How the database's server is set up, for `watchbell doctor`: what is wrong, what follows, how to mend it.

use chrono::TimeDelta;
use sqlx::Error;

use super::database::{Database, Dialect, explain, query};
use super::{mysql, postgres};
use crate::ports::{Clock, StoreError};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingLevel {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warning,
    /// Something is not watched, or nobody is told.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFinding {
    /// How bad it is.
    pub level: FindingLevel,
    /// What was found, and what follows from it.
    pub text: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl DatabaseFinding {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { level: FindingLevel::Ok, text: text.into(), hint: None }
    }

    pub(super) fn warning(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: FindingLevel::Warning, text: text.into(), hint: Some(hint.into()) }
    }

    pub(super) fn problem(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: FindingLevel::Problem, text: text.into(), hint: Some(hint.into()) }
    }
}

pub(super) async fn findings(
    database: &Database,
    clock: &dyn Clock,
    max_clock_skew: TimeDelta,
) -> Result<Vec<DatabaseFinding>, StoreError> {
    let found = match database.dialect() {
        Dialect::Sqlite => return Ok(Vec::new()),
        Dialect::Postgres => postgres::findings(database).await,
        Dialect::MySql => mysql::findings(database).await,
    };
    let mut findings = found.map_err(|error| explain("ask the server how it is set up", &error))?;
    let skew =
        skew(database, clock, max_clock_skew).await.map_err(|error| explain("read the server's clock", &error))?;
    findings.extend(skew);
    let missing = missing_rights(database).await?;
    if !missing.is_empty() {
        findings.push(DatabaseFinding::problem(
            format!("this user lacks rights that the service needs: {}", missing.join(", ")),
            "`docs/databases.md` has the GRANTs; without them a node refuses to start",
        ));
    }
    Ok(findings)
}

pub(super) async fn missing_rights(database: &Database) -> Result<Vec<String>, StoreError> {
    let missing = match database.dialect() {
        Dialect::Sqlite => return Ok(Vec::new()),
        Dialect::Postgres => postgres::missing_rights(database).await,
        Dialect::MySql => mysql::missing_rights(database).await,
    };
    missing.map_err(|error| explain("ask for this user's rights", &error))
}

/// What the service does with each table.
pub(super) const RIGHTS: [(&str, &[&str]); 17] = [
    ("_sqlx_migrations", READ),
    ("channels", ALL),
    ("dependencies", ALL),
    ("incidents", ALL),
    ("installation", &["SELECT", "UPDATE"]),
    ("monitor_changes", ALL),
    ("monitor_run_days", ALL),
    ("monitor_run_hours", ALL),
    ("monitor_runs", ALL),
    ("monitor_status", READ),
    // Rows go by a person's hand only.
    ("monitors", &["SELECT", "INSERT", "UPDATE"]),
    ("nodes", ALL),
    ("notification_events", ALL),
    ("notifications", ALL),
    ("rollup_progress", &["SELECT", "UPDATE"]),
    ("routes", ALL),
    ("silences", ALL),
];
const READ: &[&str] = &["SELECT"];
const ALL: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];

/// How far this machine's clock is from the server's. The answer's way there and back counts for the server.
async fn skew(
    database: &Database,
    clock: &dyn Clock,
    max_clock_skew: TimeDelta,
) -> Result<Option<DatabaseFinding>, Error> {
    let before = clock.now();
    let row = query("SELECT {now} AS at").fetch_one(database).await?;
    let after = clock.now();
    let Some(at) = row.time("at")? else { return Ok(None) };
    let (text, skew) = if at < before {
        ("behind", before - at)
    } else if at > after {
        ("ahead of", at - after)
    } else {
        ("as", TimeDelta::zero())
    };
    let seconds = skew.num_milliseconds() as f64 / 1000.0;
    let most = max_clock_skew.num_milliseconds() as f64 / 1000.0;
    Ok(Some(if skew <= max_clock_skew {
        DatabaseFinding::ok(format!("its clock agrees with this machine's to within {most} s"))
    } else {
        DatabaseFinding::problem(
            format!(
                "its clock is {seconds:.1} s {text} this machine's, and `node.max_clock_skew_seconds` is {most}: no node \
                 starts on this machine, and one that runs steps aside"
            ),
            "let both machines follow NTP (`timedatectl` shows whether they do)",
        )
    }))
}
