//! Settings that must be the same on all nodes, since any of them may write the next message.

use std::collections::BTreeMap;

/// One setting that is not the same on two nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Apart {
    /// The configuration's key.
    pub key: String,
    /// Its value here; empty: it is not set.
    pub here: String,
    /// The name of the other node.
    pub node: String,
    /// Its value there.
    pub there: String,
}

/// What differs from `settings`, the JSON of the node named `node`. A key that only one of two versions knows tells
/// nothing.
pub fn settings_apart(here: &BTreeMap<String, String>, node: &str, settings: &str) -> Vec<Apart> {
    let there: BTreeMap<String, String> = serde_json::from_str(settings).unwrap_or_default();
    let pairs = here.iter().filter_map(|(key, value)| Some((key, value, there.get(key)?)));
    pairs
        .filter(|(_, here, there)| here != there)
        .map(|(key, here, there)| Apart {
            key: key.clone(),
            here: here.clone(),
            node: node.to_owned(),
            there: there.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::settings_apart;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let here = [("default_timezone", "UTC"), ("admins", "a"), ("novel", "1")];
        let here = here.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let apart = settings_apart(&here, "beta", r#"{"default_timezone": "Europe/Rome", "admins": "a"}"#);
        assert_eq!(apart.len(), 1);
        assert_eq!((apart[0].here.as_str(), apart[0].there.as_str()), ("UTC", "Europe/Rome"));
        assert!(settings_apart(&here, "beta", "no JSON").is_empty());
    }
}
