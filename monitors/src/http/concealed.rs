//! Keeps resolved secrets out of what is said: a server may echo them, and its answer stands in messages.

use std::sync::LazyLock;

use regex::Regex;
use watchbell_contract::{ConfigReader, Revealed, Secret, SecretError};

/// What stands in a message in place of a secret.
const CONCEALED: &str = "***";

/// An escaped `${`, or a reference. The shapes were checked when the secret was parsed.
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\$\$\{|\$\{[^}]*\}").ok());

/// A text of the config that may hold secret references, with the text as it stands in the row.
#[derive(Debug, Clone)]
pub(super) struct SecretText {
    secret: Secret,
    /// The literal texts before, between and after the references; one alone: there is no reference.
    literals: Vec<String>,
}

impl SecretText {
    pub(super) fn new(secret: Secret, written: &str) -> Self {
        Self { secret, literals: literals(written) }
    }

    pub(super) fn read(config: &mut ConfigReader<'_>, name: &str) -> Option<Self> {
        let written = config.value(name);
        let secret = config.secret(name)?;
        Some(Self::new(secret, written.as_ref()?.as_str()?))
    }

    pub(super) fn holds_secret(&self) -> bool {
        self.literals.len() > 1
    }

    /// The value, and what of it came from references is noted as secret.
    pub(super) async fn reveal(&self, concealed: &mut Concealed) -> Result<Revealed, SecretError> {
        let revealed = self.secret.reveal().await?;
        if self.holds_secret() {
            for secret in between(revealed.as_str(), &self.literals) {
                concealed.add(secret);
            }
        }
        Ok(revealed)
    }
}

/// The resolved secrets of one check. No `Debug`: it must not reach a log.
#[derive(Default, Clone)]
pub(super) struct Concealed(Vec<String>);

impl Concealed {
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

fn literals(written: &str) -> Vec<String> {
    let mut literals = vec![String::new()];
    let mut end = 0;
    let push = |literals: &mut Vec<String>, text: &str| {
        if let Some(last) = literals.last_mut() {
            last.push_str(text);
        }
    };
    for found in REFERENCE.iter().flat_map(|reference| reference.find_iter(written)) {
        push(&mut literals, &written[end..found.start()]);
        if found.as_str() == "$${" {
            push(&mut literals, "${");
        } else {
            literals.push(String::new());
        }
        end = found.end();
    }
    push(&mut literals, &written[end..]);
    literals
}

/// What stands between the literals; the whole text if they do not fit it.
fn between<'t>(text: &'t str, literals: &[String]) -> Vec<&'t str> {
    let whole = vec![text];
    let [first, middle @ .., last] = literals else { return whole };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return whole;
    };
    let mut found = Vec::with_capacity(literals.len());
    for literal in middle.iter().filter(|literal| !literal.is_empty()) {
        let Some((secret, after)) = rest.split_once(literal.as_str()) else { return whole };
        found.push(secret);
        rest = after;
    }
    found.push(rest);
    found
}

#[cfg(test)]
mod tests {
    use super::{Concealed, between, literals};

    #[test]
    fn only_what_came_from_references_is_secret() {
        let written = r#"{"user": "u$${x}", "password": "${env:P}", "otp": "${file:/o}"}"#;
        let literals = literals(written);
        assert_eq!(literals, [r#"{"user": "u${x}", "password": ""#, r#"", "otp": ""#, r#""}"#]);
        let revealed = r#"{"user": "u${x}", "password": "hunter2", "otp": "123"}"#;
        assert_eq!(between(revealed, &literals), ["hunter2", "123"]);
    }

    #[test]
    fn references_side_by_side_are_one_secret_and_a_misfit_is_secret_as_a_whole() {
        assert_eq!(between("Bearer ab", &literals("Bearer ${env:A}${env:B}")), ["ab"]);
        assert_eq!(between("something else", &literals("Bearer ${env:A}")), ["something else"]);
    }

    #[test]
    fn a_text_without_references_has_one_literal() {
        assert_eq!(literals("cost: $${amount}"), ["cost: ${amount}"]);
    }

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
