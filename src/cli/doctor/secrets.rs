//! Whether references to secrets can be resolved, by the configuration and by rows. No value is kept or shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use watchbell_contract::{Secret, SecretError};

use super::super::installation::Installation;
use super::finding::Finding;
use crate::config::Configuration;
use crate::domain::MonitorId;
use crate::ports::StoreError;

const PAGE: u32 = 2_000;
/// Different texts with references that are tried: `pass` may take seconds for each.
const MOST_TRIED: usize = 100;

/// The databases that the kind `sql` may ask: reachable, and by a role that may only read.
pub(super) async fn connections(configuration: &Configuration) -> Vec<Finding> {
    const ABOUT: &str = "connections";
    let mut findings = Vec::new();
    for (name, connection) in &configuration.connections {
        let connection = watchbell_monitors::Connection {
            url: connection.url.secret(),
            allow_own_database: connection.allow_own_database,
        };
        let warnings = watchbell_monitors::sql::connection_warnings(name, &connection).await;
        if warnings.is_empty() {
            findings.push(Finding::ok(ABOUT, format!("`{name}` answers, and may only read")));
        }
        let hint = format!("correct `connections.{name}` in the configuration");
        findings.extend(
            warnings.into_iter().map(|warning| Finding::warning(ABOUT, warning, hint.clone()).with_hint_of_text()),
        );
    }
    findings
}

/// The references in the `config` of active rows.
pub(super) async fn rows(installation: &Installation) -> Vec<Finding> {
    const ABOUT: &str = "secrets";
    let texts = match texts_with_references(installation).await {
        Ok(texts) => texts,
        Err(error) => return vec![Finding::problem(ABOUT, error.to_string(), "see the reason")],
    };
    let mut findings = Vec::new();
    for (text, monitors) in texts.iter().take(MOST_TRIED) {
        if let Some(error) = unreadable(text, installation).await {
            let monitors = monitors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            findings.push(Finding::problem(
                ABOUT,
                format!("of monitors {monitors}: {error}"),
                "make it readable for the user of `watchbell serve`; this was tried as the user who runs `doctor`",
            ));
        }
    }
    if texts.len() > MOST_TRIED {
        let text = format!("{} texts of rows hold references; only {MOST_TRIED} were tried", texts.len());
        findings.push(Finding::warning(ABOUT, text, "`watchbell check` tries a single config"));
    }
    if findings.is_empty() && !texts.is_empty() {
        findings.push(Finding::ok(ABOUT, "every reference of a row can be resolved"));
    }
    findings
}

async fn unreadable(text: &str, installation: &Installation) -> Option<SecretError> {
    let secrets = installation.configuration.row_secrets.clone();
    // What is malformed or not allowed is a fault of the row, and told with its other faults.
    let secret = Secret::parse(text, secrets).ok()?;
    secret.reveal().await.err()
}

async fn texts_with_references(
    installation: &Installation,
) -> Result<BTreeMap<String, BTreeSet<MonitorId>>, StoreError> {
    let mut texts: BTreeMap<String, BTreeSet<MonitorId>> = BTreeMap::new();
    let mut after = MonitorId(i64::MIN);
    loop {
        let page = installation.store.monitors(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(texts) };
        after = last.id;
        for row in page.iter().filter(|row| row.is_active && row.config.contains("${")) {
            let config = serde_json::from_str(&row.config).unwrap_or(Value::Null);
            collect(&config, &mut |text| {
                texts.entry(text.to_owned()).or_default().insert(row.id);
            });
        }
    }
}

fn collect(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) if text.contains("${") => found(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::collect;

    #[test]
    fn references_are_found_at_any_depth() {
        let config = json!({"a": "${env:A}", "b": [{"c": "x ${file:/b}"}, "plain", 1, null]});
        let mut found = Vec::new();
        collect(&config, &mut |text| found.push(text.to_owned()));
        assert_eq!(found, ["${env:A}", "x ${file:/b}"]);
    }
}
