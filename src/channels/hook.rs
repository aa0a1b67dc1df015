//! An address that is itself the credential: a webhook's whole URL is a secret, and so is each telling part of it.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use watchbell_contract::Secret;

use super::http;
use crate::ports::DeliveryError;

/// Shorter parts of a URL are words of the service's own (`webhooks`, `v10`), and hiding them would garble its answers.
const SHORTEST_SECRET_PART: usize = 12;

/// A webhook's URL, resolved for one delivery.
pub(super) struct Hook {
    pub(super) url: Url,
    secrets: Vec<String>,
}

impl Hook {
    /// Resolves it, now.
    ///
    /// # Errors
    /// What cannot be resolved, or that it is no URL, with `hint`; never a value.
    pub(super) async fn reveal(secret: &Secret, hint: &str) -> Result<Self, DeliveryError> {
        let revealed = secret.reveal().await.map_err(http::secret_failure)?;
        let text = revealed.as_str().trim();
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        let Some(url) = url else {
            let reason = format!("the option `webhook` of the channel's `url` is no web address (hint: {hint})");
            return Err(DeliveryError::Unavailable { reason, after: None });
        };
        let secrets = secrets_of(&url, text);
        Ok(Self { url, secrets })
    }

    /// All that must be hidden where the service repeats it, the longest first.
    pub(super) fn secrets(&self) -> Vec<&str> {
        self.secrets.iter().map(String::as_str).collect()
    }
}

fn secrets_of(url: &Url, text: &str) -> Vec<String> {
    let parts = url.path().split(['/', '@']).chain(url.query().unwrap_or_default().split(['&', '=']));
    let mut secrets: Vec<String> = parts
        .flat_map(|part| [part.to_owned(), percent_decode_str(part).decode_utf8_lossy().into_owned()])
        .filter(|part| part.len() >= SHORTEST_SECRET_PART)
        .chain([text.to_owned(), url.to_string()])
        .collect();
    // The longest first: a part that was hidden in it would leave the rest of the whole to be seen.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

#[cfg(test)]
mod tests {
    use watchbell_contract::Secret;

    use super::Hook;

    #[tokio::test]
    async fn the_whole_and_its_telling_parts_are_hidden() {
        let text = "https://h.example.com:443/workflows/0123456789abcdef/run?api-version=1&sig=ab%2Bcd%2Fefghijkl\n";
        let hook = Hook::reveal(&Secret::literal(text), "").await.unwrap();
        let shown =
            hook.secrets().iter().fold(
                format!("{} sig ab+cd/efghijkl of 0123456789abcdef in workflows", text.trim()),
                |shown, secret| shown.replace(secret, "***"),
            );
        assert_eq!(shown, "*** sig *** of *** in workflows");
    }

    #[tokio::test]
    async fn what_is_no_address_is_told_without_its_value() {
        let Err(error) = Hook::reveal(&Secret::literal("s3cret-that-is-no-url"), "copy it").await else { panic!() };
        assert!(error.to_string().contains("copy it") && !error.to_string().contains("s3cret"), "{error}");
    }
}
