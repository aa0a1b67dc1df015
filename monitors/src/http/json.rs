//! What the JSON in the body must hold.

use regex::Regex;
use serde_json::Value;
use serde_json_path::JsonPath;
use watchbell_contract::ConfigReader;

use super::body::read_pattern;
use super::concealed::Concealed;

/// The longest found value that is shown whole.
const LONGEST_SHOWN: usize = 80;

/// One object of the list `json`.
#[derive(Debug)]
pub(super) struct JsonAssertion {
    /// As it stands in the row, for messages.
    written: String,
    /// `None` only with a fault noted.
    path: Option<JsonPath>,
    is_there: bool,
    equals: Option<Value>,
    min: Option<f64>,
    max: Option<f64>,
    matches: Option<Regex>,
}

impl JsonAssertion {
    pub(super) fn read(config: &mut ConfigReader<'_>) -> Self {
        let written = config.required_text("path");
        let path = match JsonPath::parse(&written) {
            Ok(path) => Some(path),
            Err(_) if written.is_empty() => None,
            Err(error) => {
                let hint = "it begins with `$`, for example `$.status` or `$.items[0].name`";
                config.fault("path", format!("expected a JSONPath, found `{written}`: {error}"), Some(hint.into()));
                None
            }
        };
        let pattern = config.text("matches");
        let matches = pattern.and_then(|pattern| read_pattern(config, "matches", &pattern));
        let assertion = Self {
            written,
            path,
            is_there: config.flag("exists").unwrap_or(true),
            equals: config.value("equals"),
            min: config.number("min"),
            max: config.number("max"),
            matches,
        };
        assertion.refuse_contradictions(config);
        assertion
    }

    fn refuse_contradictions(&self, config: &mut ConfigReader<'_>) {
        let asks = ["equals", "min", "max", "matches"].into_iter().any(|name| config.has(name));
        if !self.is_there && asks {
            config.fault("exists", "false leaves nothing that could be compared", Some("leave one of both out".into()));
        }
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            config.fault("min", "is greater than `max`", None);
        }
    }

    /// What does not hold, if so.
    pub(super) fn problem(&self, body: &Value, concealed: &Concealed) -> Option<String> {
        let shown = |value| shown(value, concealed);
        let path = self.path.as_ref()?;
        let found = path.query_located(body);
        if !self.is_there {
            let first = found.first()?;
            return Some(format!("`{}` exists: {}", first.location(), shown(first.node())));
        }
        if found.is_empty() {
            return Some(format!("`{}` is missing", self.written));
        }
        found.iter().find_map(|found| {
            let wrong = self.wrong(found.node(), concealed)?;
            Some(format!("`{}` is {}, {wrong}", found.location(), shown(found.node())))
        })
    }

    fn wrong(&self, value: &Value, concealed: &Concealed) -> Option<String> {
        if let Some(wanted) = self.equals.as_ref().filter(|wanted| !same(wanted, value)) {
            return Some(format!("expected {}", shown(wanted, concealed)));
        }
        if self.min.is_some() || self.max.is_some() {
            let Some(number) = value.as_f64() else { return Some("expected a number".into()) };
            if let Some(min) = self.min.filter(|min| number < *min) {
                return Some(format!("below the minimum {min}"));
            }
            if let Some(max) = self.max.filter(|max| number > *max) {
                return Some(format!("above the maximum {max}"));
            }
        }
        let pattern = self.matches.as_ref()?;
        let is_match = match value {
            Value::String(text) => pattern.is_match(text),
            other => pattern.is_match(&other.to_string()),
        };
        (!is_match).then(|| format!("which does not match `{pattern}`"))
    }
}

/// Equality as JSON has it: numbers by their value, however they are written.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        // Whole numbers exactly: two great ones may round to the same fraction.
        (Value::Number(wanted), Value::Number(found)) if !wanted.is_f64() && !found.is_f64() => wanted == found,
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| same(wanted, found)))
        }
        (wanted, found) => wanted == found,
    }
}

/// A found value for people. Secrets go before it is cut, so that no half of one is left.
fn shown(value: &Value, concealed: &Concealed) -> String {
    let text = concealed.hide(&value.to_string());
    match text.char_indices().nth(LONGEST_SHOWN) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
