//! What the reader accepts, refuses and says.

use serde_json::{Map, Value, json};

use super::ConfigReader;
use crate::{Check, CheckContext, Example, Manifest, Outcome, Parameter};

static MANIFEST: Manifest = Manifest {
    kind: "sample",
    checks: "Nothing.",
    parameters: &[
        Parameter::required("query", "text", "what to ask"),
        Parameter::optional("min", "number", "none", "least value"),
        Parameter::optional("token", "text", "none", "a token").secret(),
        Parameter::optional("steps", "list of objects", "none", "steps"),
        Parameter::optional("steps[].path", "text", "none", "a path"),
    ],
    verdicts: "ok",
    examples: &[Example { name: "n", schedule: "@hourly", config: r#"{"query": "x"}"# }],
    limits: "none",
    looks_at_this_machine: false,
};

struct Nothing;

#[crate::async_trait]
impl Check for Nothing {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        Ok(Outcome::ok("fine"))
    }
}

fn faults(config: &Value) -> String {
    let empty = Map::new();
    let mut reader = ConfigReader::without_secrets(&MANIFEST, config.as_object().unwrap_or(&empty));
    reader.required_text("query");
    reader.number("min");
    reader.secret("token");
    reader.objects("steps", |step| step.text("path"));
    reader.finish(Nothing).err().map(|faults| faults.to_string()).unwrap_or_default()
}

#[test]
fn a_good_config_has_no_faults() {
    assert_eq!(faults(&json!({"query": "x", "min": 1.5, "steps": [{"path": "$.a"}]})), "");
}

#[test]
fn a_quoted_number_is_named_with_its_hint() {
    let text = faults(&json!({"query": "x", "min": "one"}));
    assert_eq!(
        text,
        r#"config.min: expected a number, found "one" (hint: write it without quotes, for example {"min": 1})"#
    );
}

#[test]
fn all_faults_come_at_once() {
    let text = faults(&json!({"qery": "x", "min": [], "steps": [{"pth": 1}]}));
    for part in [
        "config.qery: is not a parameter",
        "did you mean `query`",
        "config.query: is required",
        "config.min: expected",
        "config.steps[0].pth",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn a_reference_outside_a_secret_field_is_refused() {
    let text = faults(&json!({"query": "${env:HOME}"}));
    assert!(text.contains("config.query: a secret reference may not stand here") && text.contains("`token`"), "{text}");
    assert!(!text.contains("is required"), "{text}");
    assert!(faults(&json!({"query": "x", "token": "${env:HOME}"})).contains("secrets.allow"));
}
