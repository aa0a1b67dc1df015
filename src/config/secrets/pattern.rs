//! Patterns of `secrets.allow`.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use watchbell_contract::SecretReference;

/// Which references a database row may use: a scheme, `:`, and a name in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPattern {
    scheme: String,
    name: String,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// No scheme, or one that is not known.
    #[error("`{0}` does not begin with `env:`, `file:`, `credential:` or `pass:`")]
    Scheme(String),
    /// Nothing after the scheme.
    #[error("`{0}` names nothing after its scheme; write `*` for everything")]
    Empty(String),
    /// A path that is relative or goes up.
    #[error("`{0}` is no absolute path without `.` and `..`")]
    Path(String),
}

impl FromStr for SecretPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let known = |scheme: &str| ["env", "file", "credential", "pass"].contains(&scheme);
        let (scheme, name) = text
            .split_once(':')
            .filter(|(scheme, _)| known(scheme))
            .ok_or_else(|| BadPattern::Scheme(text.to_owned()))?;
        if name.is_empty() {
            return Err(BadPattern::Empty(text.to_owned()));
        }
        if (scheme == "file" && name != "*" && !is_plain_path(name)) || (scheme == "pass" && goes_up(name)) {
            return Err(BadPattern::Path(text.to_owned()));
        }
        Ok(Self { scheme: scheme.to_owned(), name: name.to_owned() })
    }
}

impl SecretPattern {
    /// Whether a reference, as it is written, is meant. A name that goes up (`..`) never is.
    pub fn matches(&self, reference: &SecretReference) -> bool {
        let name = reference.name.as_str();
        let is_safe = match reference.scheme.as_str() {
            "file" => is_plain_path(name),
            "pass" => !goes_up(name),
            _ => true,
        };
        is_safe && self.scheme == reference.scheme && matches_stars(&self.name, name)
    }

    /// The folder that a file must really lie in, once symlinks are followed: what stands before the first `*`, up to
    /// its last `/`. None for other schemes.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        if self.scheme != "file" {
            return None;
        }
        let fixed = self.name.split('*').next().unwrap_or_default();
        let end = fixed.rfind('/').map_or(0, |slash| slash + 1);
        Some(PathBuf::from(if end == 0 { "/" } else { &fixed[..end] }))
    }
}

/// Absolute, and with nothing that goes elsewhere than it reads. `Path::components` drops `.` silently; a pattern
/// compares texts, so that it is refused as well.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && !path.split('/').any(|part| part == "." || part == "..")
        && Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn goes_up(name: &str) -> bool {
    name.split('/').any(|part| part == "..")
}

/// Whether `name` is `pattern` with each `*` replaced by some characters, perhaps none.
fn matches_stars(pattern: &str, name: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = others.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use watchbell_contract::SecretReference;

    use super::SecretPattern;

    fn allows(pattern: &str, reference: &str) -> bool {
        let (scheme, name) = reference.split_once(':').unwrap();
        let reference = SecretReference { scheme: scheme.to_owned(), name: name.to_owned() };
        pattern.parse::<SecretPattern>().unwrap().matches(&reference)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, reference, allowed) in [
            ("env:WB_*", "env:WB_TOKEN", true),
            ("env:WB_*", "env:WB_", true),
            ("env:WB_*", "env:HOME", false),
            ("env:WB_*", "credential:WB_TOKEN", false),
            ("env:*_KEY", "env:A_KEY", true),
            ("env:*_KEY", "env:A_KEY_2", false),
            ("env:A*B*C", "env:AxBxBC", true),
            ("env:A*B*C", "env:AxC", false),
            ("env:AB*BA", "env:ABA", false),
            ("env:TOKEN", "env:TOKEN", true),
            ("env:TOKEN", "env:TOKENS", false),
            ("credential:*", "credential:smtp", true),
            ("pass:watchbell/*", "pass:watchbell/mail", true),
            ("pass:watchbell/*", "pass:bank/mail", false),
            ("pass:watchbell/*", "pass:watchbell/../bank", false),
            ("file:/etc/wb/*", "file:/etc/wb/a/b", true),
            ("file:/etc/wb/*", "file:/etc/wb/../shadow", false),
            ("file:/etc/wb/*", "file:/etc/wb/./a", false),
            ("file:/etc/wb/*", "file:/etc/wbx", false),
            ("file:*", "file:/etc/../shadow", false),
        ] {
            assert_eq!(allows(pattern, reference), allowed, "{pattern} {reference}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["*", "WB_*", "vault:x", "env:", "file:secrets/*", "file:/etc/../*", "pass:../*"] {
            assert!(text.parse::<SecretPattern>().is_err(), "{text}");
        }
    }
}
