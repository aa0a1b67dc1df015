//! The kind `sql`: one statement on a database that the configuration names, and what must hold of its answer.
//!
//! It never writes: the session is read-only, and the guard in `statement.rs` refuses what a read-only session lets through. It
//! fails with the name of the connection and what was tried; no part of a connection's URL reaches a message.

mod age;
mod asking;
mod check;
mod connect;
mod failure;
mod mysql;
mod postgres;
mod sqlite;
mod statement;
mod template;
#[cfg(test)]
mod tests;
mod tokens;
mod value;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use watchbell_contract::{Check, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Parameter};

use crate::{Connection, Settings};

pub(crate) use asking::{Question, Row, connection_fault};

use check::SqlCheck;
pub(crate) use connect::Dialect;
use connect::Target;
use failure::secrets_of;
use statement::Statement;
use template::Template;
use verdict::{Criteria, Expected, MOST_JUDGED_ROWS};

/// The connection of a row that names none.
const DEFAULT_CONNECTION: &str = "default";
/// How long `doctor` waits for one database.
const DOCTOR_PATIENCE: Duration = Duration::from_secs(5);
/// Ten years: a freshness beyond that is a slip of the pen.
const MOST_AGE_MINUTES: i64 = 10 * 366 * 24 * 60;

static MANIFEST: Manifest = Manifest {
    kind: "sql",
    checks: "Whether the answer to one SQL statement is as it should be: a value within bounds, a timestamp that is \
             fresh, a number of rows. SQLite, PostgreSQL, MySQL and MariaDB.",
    parameters: &[
        Parameter::required(
            "query",
            "text",
            "one statement that reads. `:tick` is the run's instant, `:since` the schedule's instant before it, both \
             UTC and bound as parameters: `timestamptz` on PostgreSQL, `DATETIME(3)` on MySQL, text such as \
             `2026-11-21T21:00:00.000Z` on SQLite (compare with `datetime(:since)` where a column holds `2026-11-21 21:00:00`)",
        ),
        Parameter::optional(
            "connection",
            "text",
            "`default`",
            "the database: the name of an entry of `connections` in the configuration",
        ),
        Parameter::optional("column", "text", "the first column", "the column of the first row that holds the value"),
        Parameter::optional("min", "number", "none", "the least value that is ok"),
        Parameter::optional("max", "number", "none", "the greatest value that is ok"),
        Parameter::optional("equals", "number, text, true or false", "none", "the value that is ok"),
        Parameter::optional(
            "max_age_minutes",
            "whole number",
            "none",
            "how old the value, a time, may be at the run's instant: a timestamp, a text in UTC or with an offset, or \
             the seconds, milliseconds or microseconds since 1970",
        ),
        Parameter::optional("min_rows", "whole number", "none", "the least number of rows that is ok, up to 1000"),
        Parameter::optional("max_rows", "whole number", "none", "the greatest number of rows that is ok, up to 1000"),
        Parameter::optional(
            "message",
            "text",
            "a sentence with the value and what was expected",
            "a template of the message, in the language of Jinja, with `value`, `rows` (a list of objects), \
             `row_count`, `tick`, `since`, `is_ok` and `verdict` (the sentence that would stand there otherwise)",
        ),
    ],
    verdicts: "ok when all that is asked for holds: `min`, `max`, `equals`, `max_age_minutes`, `min_rows`, `max_rows`; \
               at least one of them must be given. Failed otherwise, and when the value is NULL, no number, no time, \
               or a time more than 5 minutes in the future, when there is no row for it, when the database cannot be \
               reached or the statement fails or takes too long, and when the message template cannot be rendered. \
               Metrics: `value`, `rows`, `age_minutes`.",
    examples: &[
        Example {
            name: "Purchase orders arrive",
            schedule: "*/5 * * * *",
            config: r#"{"query": "select count(*) from purchase_orders where received_at > :since", "min": 1}"#,
        },
        Example {
            name: "Nightly import is fresh",
            schedule: "@hourly",
            config: r#"{"query": "select max(finished_at) from imports", "connection": "default", "max_age_minutes": 1500}"#,
        },
        Example {
            name: "Few violations in the last window",
            schedule: "0 6 * * *",
            config: r#"{"query": "select rule, count(*) as n from violations where found_at > :since and found_at <= :tick group by rule order by n desc", "max_rows": 10, "message": "{{ row_count }} rules violated since {{ since }}, top: {% for row in rows[:3] %}{{ row.rule }} ({{ row.n }}){% if not loop.last %}, {% endif %}{% endfor %}"}"#,
        },
    ],
    limits: "One statement, one connection, opened for the check and closed after it. The session is read-only and \
             its time limit is set on the server too; statements and functions that could write, lock, attach or reach \
             files are refused. Give it a role that may only read all the same: functions of your own, and extensions, \
             are not looked into. At most 1000 rows are read, 1 MiB of their values is kept, 16 KiB of one value; while it is read, a value \
             stands in memory as a whole. \
             Values of types such as `interval`, arrays and `time` of MySQL are not read: cast them to text. \
             Watchbell's own database is asked only where the connection says `allow_own_database = true`.",
    looks_at_this_machine: false,
};

/// The kind `sql`.
pub struct Sql {
    settings: Arc<Settings>,
}

impl Sql {
    /// With the connections of the installation.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }
}

impl Monitor for Sql {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let query = config.required_text("query");
        if !query.is_empty() {
            refuse_query(&mut config, &query);
        }
        let connection = config.text("connection").unwrap_or_else(|| DEFAULT_CONNECTION.to_owned());
        // An installation without any connection is no fault of the row: it is told when it is asked.
        if !self.settings.connections.is_empty() && !self.settings.connections.contains_key(&connection) {
            config.fault("connection", no_connection(&connection), Some(known_connections(&self.settings)));
        }
        let criteria = read_criteria(&mut config);
        let template = config.text("message").and_then(|source| match Template::read(source) {
            Ok(template) => Some(template),
            Err(why) => {
                config.fault("message", format!("the template {why}"), None);
                None
            }
        });
        config.finish(SqlCheck { settings: self.settings.clone(), query, connection, criteria, template })
    }
}

/// A statement that no database would be sent is a fault of the row already; which database it is for, only the
/// connection's URL tells, and that may be a secret.
fn refuse_query(config: &mut ConfigReader<'_>, query: &str) {
    let read = |dialect| Statement::read(query, dialect, None);
    if let (Err(refusal), Err(_), Err(_)) = (read(Dialect::Postgres), read(Dialect::Sqlite), read(Dialect::Mysql)) {
        config.fault("query", refusal.to_string(), None);
    }
}

fn read_criteria(config: &mut ConfigReader<'_>) -> Criteria {
    const NAMES: [&str; 6] = ["min", "max", "equals", "max_age_minutes", "min_rows", "max_rows"];
    let mut rows = |name| config.whole_number(name, 0..=MOST_JUDGED_ROWS).and_then(|rows| usize::try_from(rows).ok());
    let (min_rows, max_rows) = (rows("min_rows"), rows("max_rows"));
    let criteria = Criteria {
        column: config.text("column"),
        min: config.number("min"),
        max: config.number("max"),
        equals: read_equals(config),
        max_age: config.whole_number("max_age_minutes", 1..=MOST_AGE_MINUTES).map(TimeDelta::minutes),
        min_rows,
        max_rows,
    };
    if !NAMES.iter().any(|name| config.has(name)) {
        let hint = "for example {\"min\": 1} for a count, {\"max_age_minutes\": 60} for a timestamp, {\"max_rows\": 0} for a list of what is wrong";
        config.fault("min", "nothing says when the answer is ok", Some(hint.to_owned()));
    }
    if matches!((criteria.min, criteria.max), (Some(min), Some(max)) if min > max) {
        config.fault("min", "is greater than `max`, so that no value is ok", None);
    }
    if matches!((min_rows, max_rows), (Some(min), Some(max)) if min > max) {
        config.fault("min_rows", "is greater than `max_rows`, so that no number of rows is ok", None);
    }
    if criteria.column.is_some() && !criteria.is_empty() && !criteria.needs_value() && !config.has("message") {
        config.fault("column", "has no effect: only the number of rows is judged", None);
    }
    criteria
}

fn read_equals(config: &mut ConfigReader<'_>) -> Option<Expected> {
    let value = config.value("equals")?;
    match &value {
        serde_json::Value::String(_) => config.text("equals").map(Expected::Text),
        serde_json::Value::Bool(flag) => Some(Expected::Flag(*flag)),
        serde_json::Value::Number(_) => config.number("equals").map(Expected::Number),
        _ => {
            config.fault("equals", "expected a number, a text, true or false", None);
            None
        }
    }
}

fn no_connection(name: &str) -> String {
    format!("there is no connection `{name}` in the configuration")
}

fn known_connections(settings: &Settings) -> String {
    if settings.connections.is_empty() {
        return "hint: no connection is configured; add `url` under `[connections.default]`".into();
    }
    let names: Vec<_> = settings.connections.keys().map(|name| format!("`{name}`")).collect();
    format!("configured are {}", names.join(", "))
}

/// What `doctor` says of a connection: that it cannot be used, or that its role may do more than read. Empty: nothing.
/// No part of the URL stands in it.
pub async fn connection_warnings(name: &str, connection: &Connection) -> Vec<String> {
    let looked = async {
        let url = connection.url.reveal().await.map_err(|error| error.to_string())?;
        let secrets = secrets_of(url.as_str());
        let target = Target::read(url.as_str()).map_err(|failure| failure.to_string())?;
        target.excess_rights().await.map_err(|failure| failure.without(&secrets).to_string())
    };
    let rights = match tokio::time::timeout(DOCTOR_PATIENCE, looked).await {
        Ok(Ok(rights)) => rights,
        Ok(Err(why)) => return vec![format!("connection `{name}`: {why}")],
        Err(_) => return vec![format!("connection `{name}`: no answer within {} s", DOCTOR_PATIENCE.as_secs())],
    };
    let hint = "hint: give it a role that may only read what its monitors ask";
    rights.iter().map(|right| format!("connection `{name}`: its role {right} ({hint})")).collect()
}
