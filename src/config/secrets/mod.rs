//! Secret references, resolved when they are used: `env`, `file`, `credential` and `pass`.
//!
//! Two views of the same sources: the configuration file may use any reference; a database row may use what
//! `secrets.allow` lists, so that the right to insert a row is not the right to read every file. Nothing is kept: a
//! secret that was renewed counts at its next use. Errors name the reference and never a value.

mod pass;
mod pattern;
mod sources;

use std::fmt;

use async_trait::async_trait;
use watchbell_contract::{SecretError, SecretReference, Secrets};

pub use pattern::{BadPattern, SecretPattern};
pub use sources::SecretSources;

/// The implementation of [`Secrets`] that the product uses.
pub struct ConfiguredSecrets {
    allowed: Allowed,
    sources: SecretSources,
}

enum Allowed {
    Any,
    Listed(Vec<SecretPattern>),
}

impl ConfiguredSecrets {
    /// For what stands in a database row.
    pub fn for_rows(allowed: Vec<SecretPattern>, sources: SecretSources) -> Self {
        Self { allowed: Allowed::Listed(allowed), sources }
    }

    /// For what stands in the configuration itself.
    pub fn for_configuration(sources: SecretSources) -> Self {
        Self { allowed: Allowed::Any, sources }
    }

    /// The patterns that allow a reference; none where any is allowed.
    fn permitting(&self, reference: &SecretReference) -> Result<Option<Vec<&SecretPattern>>, SecretError> {
        let Allowed::Listed(patterns) = &self.allowed else { return Ok(None) };
        let matching: Vec<_> = patterns.iter().filter(|pattern| pattern.matches(reference)).collect();
        if matching.is_empty() {
            return Err(SecretError::NotAllowed { reference: reference.clone() });
        }
        Ok(Some(matching))
    }
}

#[async_trait]
impl Secrets for ConfiguredSecrets {
    fn permit(&self, reference: &SecretReference) -> Result<(), SecretError> {
        self.permitting(reference).map(|_| ())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        let folders = self
            .permitting(reference)?
            .map(|patterns| patterns.iter().filter_map(|pattern| pattern.folder()).collect::<Vec<_>>());
        let read = self.sources.read(reference, folders).await;
        read.map_err(|reason| SecretError::Unreadable { reference: reference.clone(), reason })
    }
}

impl fmt::Debug for ConfiguredSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.allowed {
            Allowed::Any => f.write_str("ConfiguredSecrets(any)"),
            Allowed::Listed(patterns) => write!(f, "ConfiguredSecrets({patterns:?})"),
        }
    }
}

#[cfg(test)]
mod tests;
