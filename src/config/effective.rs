//! What `watchbell config` shows.

use serde::{Serialize, Serializer};

use super::layers::Source;

/// One value that is in effect, with secrets masked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EffectiveValue {
    /// The key, with dots between levels.
    pub key: String,
    /// The value as it may be shown; null where the key is not set.
    pub value: serde_json::Value,
    /// Where it was written.
    #[serde(serialize_with = "as_text")]
    pub source: Source,
}

impl EffectiveValue {
    /// The value for people: a text without quotes, `not set` for null.
    pub fn shown(&self) -> String {
        match &self.value {
            serde_json::Value::Null => "not set".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

fn as_text<S: Serializer>(source: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(source)
}
