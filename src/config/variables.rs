//! The layers of environment variables and of flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::fault::ConfigurationFault;
use super::file::unknown;
use super::keys::{self, KeyType};
use super::layers::{Entry, Layers, Source, Value};

/// What every variable of Watchbell begins with.
const PREFIX: &str = "WATCHBELL_";

/// What the command line says about the configuration.
#[derive(Clone, Default)]
pub struct Flags {
    pub(super) config: Option<PathBuf>,
    values: Vec<(&'static str, String)>,
}

impl Flags {
    /// `--config`: the configuration file, in place of `watchbell.toml` in the working directory. It must exist.
    #[must_use]
    pub fn config(mut self, path: Option<PathBuf>) -> Self {
        self.config = path;
        self
    }

    /// The value of the flag that sets `key` (`database_url`, `mail.url`), if it was given; written as in a variable.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: Option<String>) -> Self {
        self.values.extend(value.map(|value| (key, value)));
        self
    }
}

/// The keys only: a value may hold a password.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.values.iter().map(|(key, _)| key).collect();
        f.debug_struct("Flags").field("config", &self.config).field("keys", &keys).finish()
    }
}

/// The environment of this process, as [`super::Configuration::load`] takes it. A value that is no UTF-8 is left out,
/// except for a key of the configuration, where it becomes a fault.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            match value.into_string() {
                Ok(value) => Some((name, value)),
                Err(value) if is_setting(&name) => Some((name, value.to_string_lossy().into_owned())),
                Err(_) => None,
            }
        })
        .collect()
}

/// Puts the variables over the layers below. An empty variable counts as not set.
pub(super) fn read_variables(
    environment: &BTreeMap<String, String>,
    layers: &mut Layers,
    faults: &mut Vec<ConfigurationFault>,
) {
    let file_names = layers.connections();
    for (name, text) in environment.iter().filter(|(name, text)| is_setting(name) && !text.is_empty()) {
        let source = Source::Variable(name.clone());
        let key = key_of(&name[PREFIX.len()..], &file_names);
        match keys::find(&key) {
            Some(known) => layers.put(key, Entry { value: Value::of_text(known.kind, text), source }),
            None => faults.push(unknown(&key, source, false)),
        }
    }
}

/// Puts the flags on top.
pub(super) fn read_flags(flags: &Flags, layers: &mut Layers) {
    for (key, value) in &flags.values {
        let source = Source::Flag(format!("--{}", key.replace(['_', '.'], "-")));
        let kind = keys::find(key).map_or(KeyType::Text, |key| key.kind);
        layers.put((*key).to_owned(), Entry { value: Value::of_text(kind, value), source });
    }
}

/// Whether a variable is meant for the configuration. Secrets that rows may use begin with `WATCHBELL_SECRET_`; and
/// Kubernetes gives every pod `WATCHBELL_SERVICE_HOST`, `WATCHBELL_PORT_8787_TCP` and the like as soon as a service is
/// called `watchbell`: to refuse these would keep a node from starting for no fault of its own.
fn is_setting(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        !["SECRET_", "SERVICE_HOST", "SERVICE_PORT", "PORT_"].iter().any(|other| rest.starts_with(other))
            && rest != "PORT"
    })
}

/// `MAIL__URL` is `mail.url`. A connection's name is written as the file writes it, where the file has it.
fn key_of(rest: &str, connections: &[String]) -> String {
    let key = rest.to_lowercase().replace("__", ".");
    let Some(connection) = key.strip_prefix("connections.") else { return key };
    let (name, field) = connection.split_once('.').unwrap_or((connection, "url"));
    let name = connections.iter().find(|known| known.to_lowercase() == name).map_or(name, String::as_str);
    format!("connections.{name}.{field}")
}
