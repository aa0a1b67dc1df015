//! Typed reading of a row's `config`, that names every fault at once, each with its key and a hint.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::secret::{holds_reference, unescape};
use crate::{Manifest, NoSecrets, Secret, Secrets, nearest};

/// One thing that is wrong in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Where: `config.min`, `config.headers.Accept`.
    pub path: String,
    /// What is wrong, with what was found.
    pub problem: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong in a config; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Reads one config. Each accessor notes what is wrong and goes on, so that [`ConfigReader::finish`] reports all
/// faults together; until then a value that could not be read is a harmless placeholder.
///
/// Keys that the manifest does not list are faults, with the nearest known key as the hint.
pub struct ConfigReader<'a> {
    manifest: &'a Manifest,
    object: &'a Map<String, Value>,
    /// `config` at the top; `config.steps[2]` inside a nested object.
    path: String,
    /// Empty at the top; `steps[].` inside a nested object: what manifest names start with here.
    prefix: String,
    secrets: Arc<dyn Secrets>,
    faults: Vec<ConfigFault>,
}

impl<'a> ConfigReader<'a> {
    /// A reader of `config` for the kind that the manifest describes.
    pub fn new(manifest: &'a Manifest, config: &'a Map<String, Value>, secrets: Arc<dyn Secrets>) -> Self {
        let mut reader = Self {
            manifest,
            object: config,
            path: "config".into(),
            prefix: String::new(),
            secrets,
            faults: Vec::new(),
        };
        reader.refuse_unknown_keys();
        reader
    }

    /// A reader in which no secret reference is allowed.
    pub fn without_secrets(manifest: &'a Manifest, config: &'a Map<String, Value>) -> Self {
        Self::new(manifest, config, Arc::new(NoSecrets))
    }

    /// Whether the key is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text, if given.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.raw(name)?;
        let Some(text) = value.as_str() else {
            self.expected(
                name,
                "a text",
                value,
                Some(format!("write it in quotes, for example {{\"{name}\": \"...\"}}")),
            );
            return None;
        };
        self.plain(name, text)
    }

    /// A text that must be given and not be empty.
    pub fn required_text(&mut self, name: &str) -> String {
        let text = self.text(name);
        self.require(name, text.filter(|text| !text.is_empty()))
    }

    /// A number, if given.
    pub fn number(&mut self, name: &str) -> Option<f64> {
        let value = self.raw(name)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.expected(name, "a number", value, number_hint(name, value));
        }
        number
    }

    /// A whole number within `range`, if given.
    pub fn whole_number(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.raw(name)?;
        let number = value.as_i64().filter(|number| range.contains(number));
        if number.is_none() {
            let expected = match (*range.start(), *range.end()) {
                (from, i64::MAX) => format!("a whole number, {from} or more"),
                (from, to) => format!("a whole number from {from} to {to}"),
            };
            self.expected(name, &expected, value, number_hint(name, value));
        }
        number
    }

    /// `true` or `false`, if given.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.raw(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.expected(name, "true or false", value, Some("write true or false, without quotes".into()));
        }
        flag
    }

    /// One word out of `choices`, if given.
    pub fn choice(&mut self, name: &str, choices: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        let listed = choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ");
        let hint = nearest(&text, choices.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
        self.fault(name, format!("expected one of {listed}, found {}", shown(&Value::String(text))), hint);
        None
    }

    /// One word out of `choices`, that must be given.
    pub fn required_choice(&mut self, name: &str, choices: &[&str]) -> String {
        let faults = self.faults.len();
        let choice = self.choice(name, choices);
        if choice.is_none() && self.faults.len() > faults {
            return String::new();
        }
        self.require(name, choice)
    }

    /// A text that `T` can be read from (an address, a regular expression), if given; `expected` names it in faults.
    pub fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(name)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(name, format!("expected {expected}, found {}: {error}", shown(&Value::String(text))), None);
                None
            }
        }
    }

    /// A list of texts; empty when left out. One text alone counts as a list of one.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let items = match value {
            Value::String(_) => std::slice::from_ref(value),
            Value::Array(items) => items.as_slice(),
            other => {
                self.expected(
                    name,
                    "a list of texts",
                    other,
                    Some(format!("for example {{\"{name}\": [\"a\", \"b\"]}}")),
                );
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str() {
                Some(text) => texts.extend(self.plain(name, text)),
                None => self.expected(name, "a list of texts", item, Some("write each item in quotes".into())),
            }
        }
        texts
    }

    /// An object whose values are texts that may hold secret references; empty when left out.
    pub fn secret_map(&mut self, name: &str) -> BTreeMap<String, Secret> {
        let mut secrets = BTreeMap::new();
        for (key, value) in self.entries(name) {
            let inner = format!("{name}.{key}");
            match value.as_str() {
                Some(text) => secrets.extend(self.parse_secret(&inner, text).map(|secret| (key.clone(), secret))),
                None => self.expected(&inner, "a text", value, Some("write it in quotes".into())),
            }
        }
        secrets
    }

    /// A text that may hold secret references, if given. The manifest must mark it with [`crate::Parameter::secret`].
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        let value = self.raw(name)?;
        match value.as_str() {
            Some(text) => self.parse_secret(name, text),
            None => {
                // What was found is not repeated: it may be the secret itself.
                self.fault(
                    name,
                    "expected a text",
                    Some("write it in quotes, for example \"${env:WATCHBELL_SECRET_X}\"".into()),
                );
                None
            }
        }
    }

    /// Any JSON value as it stands, if given and not null. Secret references in it are not looked for.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.raw(name).cloned()
    }

    /// A nested object, read by `read`, if given. Its keys stand in the manifest as `name.key`.
    pub fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut ConfigReader<'_>) -> T) -> Option<T> {
        let value = self.raw(name)?;
        let path = format!("{}.{name}", self.path);
        self.nested(name, value, path, format!("{}{name}.", self.prefix), read)
    }

    /// A list of objects, each read by `read`; empty when left out. Their keys stand in the manifest as `name[].key`.
    pub fn objects<T>(&mut self, name: &str, mut read: impl FnMut(&mut ConfigReader<'_>) -> T) -> Vec<T> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.expected(name, "a list of objects", value, Some(format!("for example {{\"{name}\": [{{...}}]}}")));
            return Vec::new();
        };
        let mut objects = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}.{name}[{index}]", self.path);
            objects.extend(self.nested(name, item, path, format!("{}{name}[].", self.prefix), &mut read));
        }
        objects
    }

    /// Notes a fault that the kind itself found: two keys that exclude each other, a value out of bounds.
    pub fn fault(&mut self, name: &str, problem: impl Into<String>, hint: Option<String>) {
        self.faults.push(ConfigFault { path: format!("{}.{name}", self.path), problem: problem.into(), hint });
    }

    /// The check, if nothing was wrong.
    ///
    /// # Errors
    /// All faults, in the order in which they were found.
    pub fn finish<C: crate::Check>(self, check: C) -> Result<Box<dyn crate::Check>, ConfigFaults> {
        if self.faults.is_empty() { Ok(Box::new(check)) } else { Err(ConfigFaults(self.faults)) }
    }

    fn raw(&self, name: &str) -> Option<&'a Value> {
        debug_assert!(
            self.is_known(name),
            "the manifest of `{}` does not list `{}{name}`",
            self.manifest.kind,
            self.prefix
        );
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn entries(&mut self, name: &str) -> Vec<(&'a String, &'a Value)> {
        match self.raw(name) {
            None => Vec::new(),
            Some(Value::Object(map)) => map.iter().collect(),
            Some(other) => {
                self.expected(
                    name,
                    "an object",
                    other,
                    Some(format!("for example {{\"{name}\": {{\"key\": \"value\"}}}}")),
                );
                Vec::new()
            }
        }
    }

    fn nested<T>(
        &mut self,
        name: &str,
        value: &'a Value,
        path: String,
        prefix: String,
        read: impl FnOnce(&mut ConfigReader<'_>) -> T,
    ) -> Option<T> {
        let Some(object) = value.as_object() else {
            self.expected(name, "an object", value, Some(format!("for example {{\"{name}\": {{...}}}}")));
            return None;
        };
        let mut inner = ConfigReader {
            manifest: self.manifest,
            object,
            path,
            prefix,
            secrets: self.secrets.clone(),
            faults: Vec::new(),
        };
        inner.refuse_unknown_keys();
        let read = read(&mut inner);
        self.faults.append(&mut inner.faults);
        Some(read)
    }

    fn plain(&mut self, name: &str, text: &str) -> Option<String> {
        if holds_reference(text) {
            let fields: Vec<_> = self
                .manifest
                .parameters
                .iter()
                .filter(|parameter| parameter.is_secret)
                .map(|parameter| format!("`{}`", parameter.name))
                .collect();
            let hint = if fields.is_empty() {
                format!("kind `{}` has no field for secrets; write `$${{` for a literal `${{`", self.manifest.kind)
            } else {
                format!("fields that may hold one: {}; write `$${{` for a literal `${{`", fields.join(", "))
            };
            self.fault(name, "a secret reference may not stand here", Some(hint));
            return None;
        }
        Some(unescape(text))
    }

    fn parse_secret(&mut self, name: &str, text: &str) -> Option<Secret> {
        match Secret::parse(text, self.secrets.clone()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.fault(name, error.to_string(), None);
                None
            }
        }
    }

    /// The value, or a placeholder and a fault, unless a fault of this key was already noted.
    fn require<T: Default>(&mut self, name: &str, value: Option<T>) -> T {
        if value.is_none() {
            let path = format!("{}.{name}", self.path);
            if !self.faults.iter().any(|fault| fault.path == path) {
                self.fault(name, "is required", Some(format!("see `watchbell kinds {}`", self.manifest.kind)));
            }
        }
        value.unwrap_or_default()
    }

    fn expected(&mut self, name: &str, expected: &str, found: &Value, hint: Option<String>) {
        self.fault(name, format!("expected {expected}, found {}", shown(found)), hint);
    }

    fn is_known(&self, name: &str) -> bool {
        let full = format!("{}{name}", self.prefix);
        self.manifest.parameters.iter().any(|parameter| parameter.name == full)
    }

    fn refuse_unknown_keys(&mut self) {
        let object = self.object;
        for key in object.keys().filter(|key| !self.is_known(key)).collect::<Vec<_>>() {
            let manifest = self.manifest;
            let prefix = self.prefix.clone();
            let known = manifest.parameters.iter().filter_map(|parameter| parameter.name.strip_prefix(prefix.as_str()));
            let known: Vec<_> = known.filter(|name| !name.contains('.')).collect();
            let hint = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("kind `{}` knows: {}", manifest.kind, known.join(", ")),
            };
            self.fault(key, "is not a parameter of this kind", Some(hint));
        }
    }
}

/// A found value for people: short, as JSON.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        text
    } else {
        format!("{}...", text.chars().take(LONGEST).collect::<String>())
    }
}

fn number_hint(name: &str, found: &Value) -> Option<String> {
    let text = found.as_str()?;
    let number: f64 = text.trim().parse().unwrap_or(1.0);
    Some(format!("write it without quotes, for example {{\"{name}\": {number}}}"))
}

#[cfg(test)]
mod tests;
