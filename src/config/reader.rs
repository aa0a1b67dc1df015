//! Typed reading of the layers, that notes every fault and every value that is in effect.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use watchbell_contract::{SecretError, Secrets};

use super::effective::EffectiveValue;
use super::fault::ConfigurationFault;
use super::keys::{self, KeyType};
use super::layers::{Entry, Layers, Source, Value};
use super::mask::{mask_url, references, shown};
use super::secret_url::SecretUrl;

/// Why a value is refused, and how to mend it.
pub(super) struct Refusal {
    pub(super) problem: String,
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }
}

/// Reads one key after the other. What could not be read is `None` until [`Reader::finish`] reports all faults.
pub(super) struct Reader {
    layers: Layers,
    secrets: Arc<dyn Secrets>,
    faults: Vec<ConfigurationFault>,
    effective: Vec<EffectiveValue>,
}

impl Reader {
    pub(super) fn new(layers: Layers, secrets: Arc<dyn Secrets>, faults: Vec<ConfigurationFault>) -> Self {
        Self { layers, secrets, faults, effective: Vec::new() }
    }

    /// A text that `parse` accepts, if the key is set.
    pub(super) fn text<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        let Entry { value, source } = self.take(key)?;
        let Value::Text(text) = &value else {
            return self.refuse(key, source, wrong_type("a text", &value, "write it in quotes"));
        };
        let read = plain(text).and_then(parse);
        self.note(key, json!(text), &source);
        read.map_or_else(|refusal| self.refuse(key, source, refusal), Some)
    }

    /// A URL with secrets, if the key is set. `check` sees it with each reference as `1`, or not at all when it begins
    /// with one.
    pub(super) fn secret_url(
        &mut self,
        key: &str,
        check: impl FnOnce(&str) -> Result<(), Refusal>,
    ) -> Option<SecretUrl> {
        let Entry { value, source } = self.take(key)?;
        let Value::Text(text) = &value else {
            return self.refuse(key, source, wrong_type("a text", &value, "write it in quotes"));
        };
        self.note(key, json!(mask_url(text)), &source);
        let parsed =
            legible(text).and_then(|text| SecretUrl::parse(text, self.secrets.clone()).map_err(broken_reference));
        let read = parsed.and_then(|url| {
            let checked = if text.starts_with("${") { Ok(()) } else { check(&with_ones(text)) };
            checked.map(|()| url)
        });
        read.map_or_else(|refusal| self.refuse(key, source, refusal), Some)
    }

    /// One of the words of the key's type.
    pub(super) fn choice(&mut self, key: &str) -> Option<&'static str> {
        let Some(KeyType::Choice(words)) = keys::find(key).map(|key| key.kind) else { return None };
        self.text(key, |text| {
            words.iter().copied().find(|word| *word == text).ok_or_else(|| {
                let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                Refusal::new(format!("there is no `{}` here", shown(text)), format!("write {}", listed.join(" or ")))
            })
        })
    }

    /// A whole number within the bounds of the key's type.
    pub(super) fn whole<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        let Some(KeyType::Whole(from, to)) = keys::find(key).map(|key| key.kind) else { return None };
        let Entry { value, source } = self.take(key)?;
        let read = match value {
            Value::Whole(number) if (from..=to).contains(&number) => T::try_from(number).ok(),
            _ => None,
        };
        match (&value, read) {
            (Value::Whole(number), Some(read)) => {
                self.note(key, json!(number), &source);
                Some(read)
            }
            _ => {
                let expected = format!("a whole number from {from} to {to}");
                let hint = match value {
                    Value::Whole(_) => "choose a number within these bounds",
                    _ => "write the digits only, without quotes",
                };
                self.refuse(key, source, wrong_type(&expected, &value, hint))
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let Entry { value, source } = self.take(key)?;
        let Value::Flag(flag) = value else {
            return self.refuse(key, source, wrong_type("true or false", &value, "write it without quotes"));
        };
        self.note(key, json!(flag), &source);
        Some(flag)
    }

    /// A list of texts, each of which `parse` accepts, with where it was written.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        mut parse: impl FnMut(&str) -> Result<T, Refusal>,
    ) -> Option<(Vec<T>, Source)> {
        const HINT: &str = "write it as in `[\"a\", \"b\"]`; a single one too stands in brackets";
        let Entry { value, source } = self.take(key)?;
        let Value::List(items) = &value else {
            return self.refuse(key, source, wrong_type("a list of texts", &value, HINT));
        };
        let mut read = Vec::new();
        let mut texts = Vec::new();
        for item in items {
            let parsed = match item {
                Value::Text(text) => {
                    texts.push(text.clone());
                    plain(text).and_then(&mut parse)
                }
                other => Err(wrong_type("a list of texts", other, HINT)),
            };
            match parsed {
                Ok(item) => read.push(item),
                Err(refusal) => self.fault(key, source.clone(), refusal),
            }
        }
        self.note(key, json!(texts), &source);
        Some((read, source))
    }

    /// A path, as it was written, if the key is set.
    pub(super) fn path(&mut self, key: &str) -> Option<(PathBuf, Source)> {
        let source = self.source(key);
        let path = self.text(key, |text| match text {
            "" => Err(Refusal::new("the path is empty", "write a path, or leave the key out")),
            path => Ok(PathBuf::from(path)),
        });
        path.zip(source)
    }

    /// Where a key that was not yet read is written.
    pub(super) fn source(&self, key: &str) -> Option<Source> {
        self.layers.source(key)
    }

    /// The keys below `node.labels`.
    pub(super) fn labels(&self) -> Vec<String> {
        self.layers.labels()
    }

    /// The names below `connections`.
    pub(super) fn connections(&self) -> Vec<String> {
        self.layers.connections()
    }

    /// Reports a fault that no single value shows.
    pub(super) fn fault(&mut self, key: &str, source: Source, refusal: Refusal) {
        let Refusal { problem, hint } = refusal;
        self.faults.push(ConfigurationFault { key: Some(key.to_owned()), source, problem, hint });
    }

    /// Shows a key that was read by what became of its value: a default found out at start, a path made absolute.
    pub(super) fn show_as(&mut self, key: &str, value: serde_json::Value) {
        if let Some(effective) = self.effective.iter_mut().find(|effective| effective.key == key) {
            effective.value = value;
        }
    }

    /// What is in effect, or everything that is wrong, in the order in which a person mends it: down the file.
    pub(super) fn finish(self) -> Result<Vec<EffectiveValue>, Vec<ConfigurationFault>> {
        if self.faults.is_empty() {
            return Ok(self.effective);
        }
        let mut faults = self.faults;
        faults.sort_by_key(|fault| fault.source.order());
        Err(faults)
    }

    fn take(&mut self, key: &str) -> Option<Entry> {
        let entry = self.layers.take(key);
        if entry.is_none() {
            self.note(key, serde_json::Value::Null, &Source::Default);
        }
        entry
    }

    fn note(&mut self, key: &str, value: serde_json::Value, source: &Source) {
        self.effective.push(EffectiveValue { key: key.to_owned(), value, source: source.clone() });
    }

    fn refuse<T>(&mut self, key: &str, source: Source, refusal: Refusal) -> Option<T> {
        self.fault(key, source, refusal);
        None
    }
}

/// A text without what cannot be seen; U+FFFD is what `process_environment` makes of bytes that are not UTF-8.
fn legible(text: &str) -> Result<&str, Refusal> {
    if text.contains('\u{FFFD}') || text.chars().any(char::is_control) {
        return Err(Refusal::new("it holds control characters or bytes that are not UTF-8", "type the value again"));
    }
    Ok(text)
}

/// A text of a key that takes no secrets: a reference there would silently be used as it is written.
fn plain(text: &str) -> Result<&str, Refusal> {
    if references(legible(text)?).is_empty() {
        return Ok(text);
    }
    Err(Refusal::new(
        "this key takes no secret reference",
        "write the value itself; references work in `database_url`, `mail.url` and `connections`",
    ))
}

/// The text of the reference is not repeated: where its end is missing, what follows may be a password.
fn broken_reference(error: SecretError) -> Refusal {
    match error {
        SecretError::Malformed(_) => Refusal::new(
            "it holds a `${` that begins no secret reference",
            "write `${env:NAME}`, `${file:/path}`, `${credential:name}` or `${pass:path}`, and `$${` for a literal `${`",
        ),
        other => Refusal::new(other.to_string(), "write another reference"),
    }
}

fn with_ones(text: &str) -> String {
    let mut replaced = text.to_owned();
    for range in references(text).into_iter().rev() {
        replaced.replace_range(range, "1");
    }
    replaced
}

/// Says what was found. Keys that take secrets are texts, so that no secret stands where this shows a text.
fn wrong_type(expected: &str, found: &Value, hint: &str) -> Refusal {
    let found = match found {
        Value::Text(text) => format!("the text `{}`", shown(text)),
        Value::Whole(number) => format!("the number {number}"),
        Value::Flag(flag) => format!("{flag}"),
        Value::List(_) => "a list".to_owned(),
        Value::Other(found) => found.clone(),
    };
    Refusal::new(format!("expected {expected}, found {found}"), hint)
}
