//! The kind against servers on the loopback.

mod answers;
mod connections;
mod faults;
mod secrets;
mod server;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use watchbell_contract::testing::{context, exercise};
use watchbell_contract::{ConfigReader, Monitor, Outcome, SecretError, SecretReference, Secrets, async_trait};

use super::Http;

/// Longer than anything here takes, short enough that a test that hangs is noticed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Secrets by their names; `MISSING` cannot be read.
struct TestSecrets;

#[async_trait]
impl Secrets for TestSecrets {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        match reference.name.as_str() {
            "TOKEN" => Ok("tok-8d1f".into()),
            "PASSWORD" => Ok("hunter2".into()),
            "LINES" => Ok("two\nlines".into()),
            _ => Err(SecretError::Unreadable { reference: reference.clone(), reason: "there is none".into() }),
        }
    }
}

fn prepare(config: &Value) -> Result<Box<dyn watchbell_contract::Check>, String> {
    let http = Http;
    let reader = ConfigReader::new(http.manifest(), config.as_object().unwrap(), Arc::new(TestSecrets));
    http.prepare(reader).map_err(|faults| faults.to_string())
}

async fn ask_within(config: &Value, timeout: Duration) -> anyhow::Result<Outcome> {
    prepare(config).unwrap().check(&context(timeout)).await
}

/// The outcome of one check.
async fn ask(config: Value) -> Outcome {
    ask_within(&config, PATIENCE).await.unwrap()
}

/// The message of a check that must succeed.
async fn ok(config: Value) -> String {
    let outcome = ask(config).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    outcome.message
}

/// The message of a check that must fail, with the row's own severity.
async fn failed(config: Value) -> String {
    let outcome = ask(config).await;
    assert!(!outcome.is_ok, "{}", outcome.message);
    assert_eq!(outcome.severity, None, "{}", outcome.message);
    outcome.message
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[tokio::test]
async fn it_is_a_good_kind() {
    exercise(&Http).await;
}
