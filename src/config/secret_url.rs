//! A URL of the configuration that may hold a password or secret references.

use std::fmt;
use std::sync::Arc;

use watchbell_contract::{Revealed, Secret, SecretError, Secrets};

use super::mask::mask_url;

/// A URL whose secrets are still references. It shows itself masked; [`SecretUrl::reveal`] gives it to the wire.
#[derive(Clone)]
pub struct SecretUrl {
    text: String,
    secret: Secret,
}

impl SecretUrl {
    /// Reads the text's references; none is resolved.
    ///
    /// # Errors
    /// [`SecretError::Malformed`] and [`SecretError::NotAllowed`].
    pub fn parse(text: &str, secrets: Arc<dyn Secrets>) -> Result<Self, SecretError> {
        Ok(Self { text: text.to_owned(), secret: Secret::parse(text, secrets)? })
    }

    /// The URL with its references resolved, now. A value is put in as it is: percent-encode it where it is stored if
    /// it holds characters that mean something in a URL.
    ///
    /// # Errors
    /// [`SecretError::Unreadable`].
    pub async fn reveal(&self) -> Result<Revealed, SecretError> {
        self.secret.reveal().await
    }

    /// The same, for what resolves it at a later moment of its own.
    pub fn secret(&self) -> Secret {
        self.secret.clone()
    }

    /// The URL with passwords as `***` and references as they are written.
    pub fn masked(&self) -> String {
        mask_url(&self.text)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.masked())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}
