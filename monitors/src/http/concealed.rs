//! Keeps resolved secrets out of what is said: a server may echo them, and its answer stands in messages.

use watchbell_contract::{Revealed, Secret, SecretError};

/// What stands in a message in place of a secret.
const CONCEALED: &str = "***";

/// The resolved secrets of one check. No `Debug`: it must not reach a log.
#[derive(Default, Clone)]
pub(super) struct Concealed(Vec<String>);

impl Concealed {
    /// Resolves a secret, and notes what of it came from references.
    pub(super) async fn reveal(&mut self, secret: &Secret) -> Result<Revealed, SecretError> {
        let revealed = secret.reveal().await?;
        revealed.resolved().for_each(|value| self.add(value));
        Ok(revealed)
    }

    /// Notes a secret. The ends' white space is not part of it: servers trim.
    pub(super) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if !secret.is_empty() {
            self.0.push(secret.to_owned());
            // A secret that contains another is replaced first, so that no remainder of it is left.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// The text without any secret.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, CONCEALED))
    }
}

#[cfg(test)]
mod tests {
    use super::Concealed;

    #[test]
    fn the_longer_secret_is_hidden_first() {
        for secrets in [["abc", "abcdef", " ", ""], ["", "abcdef", "abc", "x\n"]] {
            let mut concealed = Concealed::default();
            for secret in secrets {
                concealed.add(secret);
            }
            assert_eq!(concealed.hide("abcdef abc y"), "*** *** y");
        }
    }
}
