//! Asking a server through the kind, as a row would.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use watchbell_contract::{Check, CheckContext, ConfigReader, Monitor, NoSecrets, Secret};
use watchbell_monitors::sql::Sql;
use watchbell_monitors::{Connection, Settings};

/// The connection `default`.
pub(crate) fn connection(url: &str) -> Connection {
    Connection { url: Secret::parse(url, Arc::new(NoSecrets)).unwrap(), allow_own_database: false }
}

/// The kind in an installation whose connection `default` has this URL.
pub(crate) fn kind(url: &str, own_database_url: Option<&str>) -> Sql {
    Sql::new(Arc::new(Settings {
        connections: [("default".to_owned(), connection(url))].into(),
        own_database_url: own_database_url.map(str::to_owned),
        ..Settings::default()
    }))
}

/// A run at 12:00 UTC whose window begins at 11:55.
pub(crate) fn context(timeout: Duration) -> CheckContext {
    CheckContext {
        tick: "2026-11-21T12:00:00Z".parse().unwrap(),
        since: "2026-11-21T11:55:00Z".parse().unwrap(),
        timeout,
    }
}

/// The check of a row.
pub(crate) fn prepared(sql: &Sql, config: &Value) -> Box<dyn Check> {
    let config = config.as_object().unwrap();
    sql.prepare(ConfigReader::without_secrets(sql.manifest(), config)).unwrap_or_else(|faults| panic!("{faults}"))
}

/// What a row's check says: `ok: ...`, `failed: ...`, or `error: ...` with the chain of causes.
pub(crate) async fn told(sql: &Sql, config: &Value) -> String {
    let config = config.as_object().unwrap();
    let check = match sql.prepare(ConfigReader::without_secrets(sql.manifest(), config)) {
        Ok(check) => check,
        Err(faults) => return format!("fault: {faults}"),
    };
    match check.check(&context(Duration::from_secs(20))).await {
        Ok(outcome) if outcome.is_ok => format!("ok: {}", outcome.message),
        Ok(outcome) => format!("failed: {}", outcome.message),
        Err(error) => format!("error: {error:#}"),
    }
}

/// Asks each row and compares the beginning of what it says.
pub(crate) async fn each_tells(sql: &Sql, rows: &[(Value, &str)]) {
    let mut others = Vec::new();
    for (config, expected) in rows {
        let told = told(sql, config).await;
        if !told.starts_with(expected) {
            others.push(format!("{config}\n  says     {told}\n  expected {expected}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}
