//! Secrets: references in a config, resolved at the moment of use and never earlier.
//!
//! A reference is `${env:NAME}`, `${file:/path}`, `${credential:name}` or `${pass:path/in/store}`; `$${` is a literal
//! `${`. Resolved values have no `Debug` and no `Display`, so that they cannot reach a log or a message by accident.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

/// The schemes of a secret reference.
const SCHEMES: [&str; 4] = ["env", "file", "credential", "pass"];

/// One reference: where a secret is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretReference {
    /// `env`, `file`, `credential` or `pass`.
    pub scheme: String,
    /// The variable, path or name.
    pub name: String,
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.name)
    }
}

/// Why a secret cannot be had. The text names the reference, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The installation does not allow rows to use this reference.
    #[error("the reference `{reference}` is not allowed in a row; the setting `secrets.allow` lists what is")]
    NotAllowed {
        /// The reference.
        reference: SecretReference,
    },
    /// It is allowed, but cannot be resolved.
    #[error("the secret `{reference}` cannot be read: {reason}")]
    Unreadable {
        /// The reference.
        reference: SecretReference,
        /// Why, without any value.
        reason: String,
    },
    /// `${` without a scheme or an end.
    #[error(
        "`{0}` is not a secret reference; write `${{env:NAME}}`, `${{file:/path}}`, `${{credential:name}}` or `${{pass:path}}`, and `$${{` for a literal `${{`"
    )]
    Malformed(String),
}

/// What resolves references. The orchestrator has the one implementation that counts.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Whether a row may use this reference.
    ///
    /// # Errors
    /// [`SecretError::NotAllowed`].
    fn permit(&self, reference: &SecretReference) -> Result<(), SecretError>;

    /// The value, read now.
    ///
    /// # Errors
    /// [`SecretError::NotAllowed`] and [`SecretError::Unreadable`].
    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError>;
}

/// Allows no reference: for kinds that need none, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    fn permit(&self, reference: &SecretReference) -> Result<(), SecretError> {
        Err(SecretError::NotAllowed { reference: reference.clone() })
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        Err(SecretError::NotAllowed { reference: reference.clone() })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Reference(SecretReference),
}

/// A text of a config that may hold secret references, still unresolved.
#[derive(Clone)]
pub struct Secret {
    parts: Vec<Part>,
    secrets: Arc<dyn Secrets>,
}

impl Secret {
    /// Reads a text with references. Each reference is tried against what is allowed, none is resolved.
    ///
    /// # Errors
    /// [`SecretError::Malformed`] and [`SecretError::NotAllowed`].
    pub fn parse(text: &str, secrets: Arc<dyn Secrets>) -> Result<Self, SecretError> {
        let parts = split(text)?;
        for part in &parts {
            if let Part::Reference(reference) = part {
                secrets.permit(reference)?;
            }
        }
        Ok(Self { parts, secrets })
    }

    /// A text that is no secret, where one is asked for.
    pub fn literal(text: &str) -> Self {
        Self { parts: vec![Part::Literal(text.to_owned())], secrets: Arc::new(NoSecrets) }
    }

    /// Whether it holds a reference; without one it is a plain text.
    pub fn holds_reference(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Reference(_)))
    }

    /// Resolves all references, now.
    ///
    /// # Errors
    /// [`SecretError::Unreadable`], [`SecretError::NotAllowed`].
    pub async fn reveal(&self) -> Result<Revealed, SecretError> {
        let mut revealed = Revealed { text: String::new(), resolved: Vec::new() };
        for part in &self.parts {
            match part {
                Part::Literal(literal) => revealed.text.push_str(literal),
                Part::Reference(reference) => {
                    let start = revealed.text.len();
                    revealed.text.push_str(&self.secrets.resolve(reference).await?);
                    revealed.resolved.push(start..revealed.text.len());
                }
            }
        }
        Ok(revealed)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A resolved secret. It shows itself to nobody but the caller of [`Revealed::as_str`].
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed {
    text: String,
    /// Where in it the values of references stand.
    resolved: Vec<Range<usize>>,
}

impl Revealed {
    /// The value. Hand it to the wire; never to a log, a message or an error.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value with what references were resolved to changed by `encode`: to put a secret into a URL.
    pub fn encoded(&self, encode: impl Fn(&str) -> String) -> String {
        let mut encoded = String::with_capacity(self.text.len());
        let mut done = 0;
        for range in &self.resolved {
            encoded.push_str(&self.text[done..range.start]);
            encoded.push_str(&encode(&self.text[range.clone()]));
            done = range.end;
        }
        encoded.push_str(&self.text[done..]);
        encoded
    }

    /// What of it references were resolved to: to be hidden wherever the other side may repeat it.
    pub fn resolved(&self) -> impl Iterator<Item = &str> {
        self.resolved.iter().map(|range| &self.text[range.clone()])
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revealed(..)")
    }
}

/// Whether a text holds something that is, or is meant to be, a secret reference (and not its escaped form).
pub(crate) fn holds_reference(text: &str) -> bool {
    text.match_indices("${").any(|(at, _)| {
        let escaped = text[..at].ends_with('$');
        !escaped
            && SCHEMES
                .iter()
                .any(|scheme| text[at + 2..].strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':')))
    })
}

/// The escaped form of `${` undone.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("$${", "${")
}

fn split(text: &str) -> Result<Vec<Part>, SecretError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let malformed = || SecretError::Malformed(rest[at..].chars().take(40).collect());
        let end = inner.find('}').ok_or_else(malformed)?;
        let (scheme, name) = inner[..end].split_once(':').ok_or_else(malformed)?;
        if !SCHEMES.contains(&scheme) || name.is_empty() {
            return Err(malformed());
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Reference(SecretReference { scheme: scheme.to_owned(), name: name.to_owned() }));
        rest = &inner[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::{Part, Secret, SecretError, SecretReference, Secrets, holds_reference, split};

    /// Each reference stands for its own name.
    struct Names;

    #[async_trait]
    impl Secrets for Names {
        fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
            Ok(())
        }

        async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
            Ok(reference.name.clone())
        }
    }

    #[tokio::test]
    async fn what_came_from_references_is_known() {
        for (text, revealed, resolved) in [
            ("plain", "plain", vec![]),
            ("$${env:A}", "${env:A}", vec![]),
            ("x-${env:word}-y", "x-word-y", vec!["word"]),
            ("${env:a}${env:b}", "ab", vec!["a", "b"]),
            ("$${${env:word}}", "${word}", vec!["word"]),
        ] {
            let secret = Secret::parse(text, Arc::new(Names)).unwrap();
            let value = secret.reveal().await.unwrap();
            assert_eq!((value.as_str(), value.resolved().collect::<Vec<_>>()), (revealed, resolved.clone()), "{text}");
            assert_eq!(secret.holds_reference(), !resolved.is_empty(), "{text}");
        }
    }

    #[test]
    fn references_and_literals_are_told_apart() {
        let parts = split("Bearer ${env:TOKEN}! $${env:X}").map_err(|error| error.to_string());
        let Ok(parts) = parts else { unreachable!("{parts:?}") };
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], Part::Literal("Bearer ".into()));
        assert_eq!(parts[2], Part::Literal("! ${env:X}".into()));
    }

    #[test]
    fn half_a_reference_is_refused() {
        for text in ["${env:TOKEN", "${TOKEN}", "${env:}", "${vault:x}"] {
            assert!(matches!(split(text), Err(SecretError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn only_an_unescaped_reference_counts() {
        assert!(holds_reference("x ${env:A}"));
        assert!(!holds_reference("x $${env:A}"));
        assert!(!holds_reference("cost: ${amount}"));
    }
}
