//! Where values come from, and which one counts: flags over variables over the file over defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use super::keys::{KEYS, Key, KeyDefault, KeyType};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On the command line, by this flag.
    Flag(String),
    /// In this environment variable.
    Variable(String),
    /// In the configuration file; lines count from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line on which the value begins.
        line: usize,
    },
    /// The configuration file as a whole: it could not be read.
    WholeFile(PathBuf),
    /// Nowhere: the default.
    Default,
}

impl Source {
    /// The file from its top to its end, then variables and flags.
    pub(super) fn order(&self) -> (u8, usize) {
        match self {
            Self::WholeFile(_) => (0, 0),
            Self::File { line, .. } => (0, *line),
            Self::Variable(_) => (1, 0),
            Self::Flag(_) => (2, 0),
            Self::Default => (3, 0),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::WholeFile(path) => write!(f, "`{}`", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was written, before its key's type is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Flag(bool),
    List(Vec<Self>),
    /// What no key takes: a date, a fraction, a table where a value belongs.
    Other(String),
}

impl Value {
    /// What a value of TOML is here.
    pub(super) fn of_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(whole) => Self::Whole(whole),
                Err(_) => Self::Other(format!("the number {number}")),
            },
            DeValue::Boolean(flag) => Self::Flag(*flag),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of_toml(item.get_ref())).collect()),
            DeValue::Float(number) => Self::Other(format!("the number {number}")),
            DeValue::Datetime(time) => Self::Other(format!("the time {time}")),
            DeValue::Table(_) => Self::Other("a table".to_owned()),
        }
    }

    /// A value out of a variable or a flag: texts as they are (quotes allowed), everything else as in TOML. What
    /// cannot be read so stays a text, which the key's type then refuses in its own words.
    pub(super) fn of_text(kind: KeyType, text: &str) -> Self {
        let trimmed = text.trim();
        let quoted = trimmed.len() >= 2
            && ['"', '\''].iter().any(|quote| trimmed.starts_with(*quote) && trimmed.ends_with(*quote));
        let is_text = matches!(kind, KeyType::Text | KeyType::Secret | KeyType::Choice(_));
        if is_text && !quoted {
            return Self::Text(trimmed.to_owned());
        }
        match DeValue::parse(trimmed) {
            Ok(value) => Self::of_toml(value.get_ref()),
            Err(_) => Self::Text(trimmed.to_owned()),
        }
    }
}

/// One value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// The values that count, by key.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<String, Entry>);

impl Layers {
    /// The lowest layer: what the list of keys gives as defaults.
    pub(super) fn defaults() -> Self {
        let mut layers = Self::default();
        for Key { name, kind, default, .. } in KEYS.iter().filter(|key| !key.name.contains('<')) {
            if let KeyDefault::Value(text) = default {
                layers.put((*name).to_owned(), Entry { value: Value::of_text(*kind, text), source: Source::Default });
            }
        }
        layers
    }

    /// Puts a value over whatever a lower layer has.
    pub(super) fn put(&mut self, key: String, entry: Entry) {
        self.0.insert(key, entry);
    }

    /// Takes the value that counts.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        self.0.remove(key)
    }

    /// Where the value that counts is written.
    pub(super) fn source(&self, key: &str) -> Option<Source> {
        self.0.get(key).map(|entry| entry.source.clone())
    }

    /// The keys of `node.labels.<key>`, sorted.
    pub(super) fn labels(&self) -> Vec<String> {
        self.0.keys().filter_map(|key| Some(key.strip_prefix("node.labels.")?.to_owned())).collect()
    }

    /// The names of `connections.<name>`, sorted.
    pub(super) fn connections(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .keys()
            .filter_map(|key| Some(key.strip_prefix("connections.")?.split_once('.')?.0.to_owned()))
            .collect();
        names.dedup();
        names
    }
}
