//! Every kind that this node can run, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchbell_contract::{Check, ConfigReader, Manifest, Monitor, Secrets, nearest};

use super::check::catch_panic;

/// Two kinds of one name, which would make it a matter of luck who answers.
#[derive(Debug, thiserror::Error)]
#[error("two kinds are named `{0}`; rename one of them")]
pub struct DuplicateKind(pub String);

/// The kinds of this node, and what resolves the secrets of their rows.
pub struct Kinds {
    kinds: BTreeMap<String, Box<dyn Monitor>>,
    secrets: Arc<dyn Secrets>,
}

impl Kinds {
    /// Registers kinds.
    ///
    /// # Errors
    /// When two have the same name.
    pub fn new(kinds: Vec<Box<dyn Monitor>>, secrets: Arc<dyn Secrets>) -> Result<Self, DuplicateKind> {
        let mut by_name = BTreeMap::new();
        for kind in kinds {
            let name = kind.manifest().kind.to_owned();
            if by_name.insert(name.clone(), kind).is_some() {
                return Err(DuplicateKind(name));
            }
        }
        Ok(Self { kinds: by_name, secrets })
    }

    /// All manifests, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.kinds.values().map(|kind| kind.manifest())
    }

    /// The manifest of one kind.
    pub fn manifest(&self, kind: &str) -> Option<&Manifest> {
        self.kinds.get(kind).map(|kind| kind.manifest())
    }

    /// A row's check.
    ///
    /// # Errors
    /// A sentence that says why the row cannot be run: its kind is unknown, or refuses the config.
    pub fn prepare(&self, kind: &str, config: &str) -> Result<Box<dyn Check>, String> {
        let Some(monitor) = self.kinds.get(kind) else { return Err(self.unknown(kind)) };
        let object = match serde_json::from_str(config) {
            Ok(serde_json::Value::Object(object)) => object,
            Ok(_) => return Err(r#"config: expected a JSON object, for example {"key": "value"}"#.to_owned()),
            Err(error) => return Err(format!("config: is not JSON: {error}")),
        };
        // Not only checks read a row: a panic here must end neither the loop that follows the table nor a command.
        catch_panic(|| monitor.prepare(ConfigReader::new(monitor.manifest(), &object, self.secrets.clone())))
            .map_err(|panic| format!("config: kind `{kind}` panicked while reading it: {panic}"))?
            .map_err(|faults| faults.to_string())
    }

    fn unknown(&self, kind: &str) -> String {
        match nearest(kind, self.kinds.keys().map(String::as_str)) {
            Some(name) => {
                format!("kind: `{kind}` is not a kind of this installation (hint: did you mean `{name}`?)")
            }
            None => {
                let known = self.kinds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                format!("kind: `{kind}` is not a kind of this installation (hint: it knows {known})")
            }
        }
    }
}
