//! The conformance test for any kind.
#![allow(clippy::panic, reason = "a conformance test reports by panicking")]

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::{CheckContext, ConfigReader, Monitor};

/// How long an example's check may take before it must have given an outcome or be dropped.
const EXAMPLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A context for calling a check in a test: the window is the last five minutes.
pub fn context(timeout: Duration) -> CheckContext {
    let tick = Utc::now();
    CheckContext { tick, since: tick - TimeDelta::minutes(5), timeout }
}

/// Tries everything that each kind must hold, and panics with a sentence that says what it does not:
/// the manifest is complete; each example is read; a wrong type for each parameter, an unknown key and an empty
/// config are faults or fine, but never a panic; each example's check gives an outcome with a message, or an error,
/// or can be dropped.
pub async fn exercise(monitor: &dyn Monitor) {
    manifest_is_complete(monitor);
    wrong_types_are_faults(monitor);
    for example in monitor.manifest().examples {
        let kind = monitor.manifest().kind;
        let config = object(kind, example.config);
        let check = match monitor.prepare(ConfigReader::without_secrets(monitor.manifest(), &config)) {
            Ok(check) => check,
            Err(faults) => panic!("kind `{kind}`: its example `{}` is refused: {faults}", example.name),
        };
        let context = context(EXAMPLE_TIMEOUT);
        if let Ok(Ok(outcome)) = tokio::time::timeout(EXAMPLE_TIMEOUT, check.check(&context)).await {
            assert!(!outcome.message.trim().is_empty(), "kind `{kind}`: an outcome without a message");
            for (name, value) in &outcome.metrics {
                assert!(value.is_finite(), "kind `{kind}`: metric `{name}` is {value}");
            }
        }
    }
}

fn manifest_is_complete(monitor: &dyn Monitor) {
    let manifest = monitor.manifest();
    let kind = manifest.kind;
    assert!(
        !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
        "kind `{kind}`: a kind's name is lower case letters, digits and `_`"
    );
    for (what, text) in [("checks", manifest.checks), ("verdicts", manifest.verdicts), ("limits", manifest.limits)] {
        assert!(!text.trim().is_empty(), "kind `{kind}`: `{what}` of its manifest is empty");
    }
    assert!(!manifest.examples.is_empty(), "kind `{kind}`: its manifest has no example");
    for parameter in manifest.parameters {
        assert!(!parameter.meaning.trim().is_empty(), "kind `{kind}`: parameter `{}` has no meaning", parameter.name);
    }
}

fn wrong_types_are_faults(monitor: &dyn Monitor) {
    let manifest = monitor.manifest();
    let read = |config: &Map<String, Value>| monitor.prepare(ConfigReader::without_secrets(manifest, config));
    let base = object(manifest.kind, manifest.examples[0].config);

    let mut unknown = base.clone();
    unknown.insert("no_such_parameter".into(), json!(1));
    assert!(read(&unknown).is_err(), "kind `{}`: an unknown key is accepted", manifest.kind);

    if read(&Map::new()).is_ok() {
        let required =
            manifest.parameters.iter().find(|parameter| parameter.default.is_none() && !parameter.name.contains('.'));
        assert!(
            required.is_none(),
            "kind `{}`: `{}` is said to be required, but {{}} is accepted",
            manifest.kind,
            required.map_or("", |p| p.name)
        );
    }
    for parameter in manifest.parameters.iter().filter(|parameter| !parameter.name.contains('.')) {
        for wrong in [
            json!("x"),
            json!(-1e300),
            json!(0.5),
            json!(true),
            json!([[1]]),
            json!({"a": {"b": 1}}),
            json!([]),
            json!(""),
        ] {
            let mut config = base.clone();
            config.insert(parameter.name.to_owned(), wrong);
            // Some of these are right for some shapes; what counts is that none of them panics.
            drop(read(&config));
        }
        let mut config = base.clone();
        config.insert(parameter.name.to_owned(), json!([[{"neither": "this"}, 1.5, null]]));
        let free = parameter.shape.contains("JSON");
        assert!(
            free || read(&config).is_err(),
            "kind `{}`: nonsense is accepted as `{}`",
            manifest.kind,
            parameter.name
        );
    }
}

fn object(kind: &str, config: &str) -> Map<String, Value> {
    match serde_json::from_str(config) {
        Ok(Value::Object(object)) => object,
        other => panic!("kind `{kind}`: an example's config is not a JSON object: {config} ({other:?})"),
    }
}
