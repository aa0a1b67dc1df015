//! What a receiver was sent and may repeat in its answer, and what nobody may read there.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};

/// A part of an address that is shorter is no secret, and hiding it would make answers unreadable.
const SHORTEST_HIDDEN_PART: usize = 4;
/// Parts of paths are mostly words; the secret ones are long.
const SHORTEST_HIDDEN_SEGMENT: usize = 8;

/// Texts to be hidden, each in the forms in which answers repeat things.
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// The user, the path and the query: addresses of hooks are secrets in one or other of them.
    pub(super) fn of_address(address: &Url) -> Self {
        let mut hidden = Self(Vec::new());
        hidden.add_all(address.password());
        hidden.add_all(Some(address.username()).filter(|user| user.len() >= SHORTEST_HIDDEN_PART));
        if let Some(query) = address.query() {
            hidden.add_all([query]);
        }
        hidden.add_all(
            address.query_pairs().filter(|(_, value)| value.len() >= SHORTEST_HIDDEN_PART).map(|(_, value)| value),
        );
        if address.path().len() >= SHORTEST_HIDDEN_SEGMENT {
            hidden.add_all([address.path()]);
        }
        let segments = address.path_segments().into_iter().flatten();
        hidden.add_all(segments.filter(|segment| segment.len() >= SHORTEST_HIDDEN_SEGMENT));
        hidden
    }

    /// Further texts.
    pub(super) fn add_all(&mut self, texts: impl IntoIterator<Item = impl AsRef<str>>) {
        for text in texts {
            self.add(text.as_ref());
        }
    }

    /// What stands in the header `Authorization`: also the user of an address is sent there, in base64.
    pub(super) fn add_authorization(&mut self, headers: &HeaderMap) {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.add_all(value.split_once(' ').map(|(_scheme, credentials)| credentials));
    }

    /// The longest first, so that none is hidden in part by another that it holds.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.0.iter().map(String::as_str).collect();
        texts.sort_unstable_by_key(|text| (std::cmp::Reverse(text.len()), *text));
        texts.dedup();
        texts
    }

    fn add(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        for form in [text, &decoded] {
            let quoted = serde_json::Value::from(form).to_string();
            self.0.push(quoted[1..quoted.len() - 1].to_owned());
            self.0.push(utf8_percent_encode(form, NON_ALPHANUMERIC).to_string());
            self.0.push(form.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::Hidden;

    #[test]
    fn the_longest_come_first_and_each_once() {
        let address = Url::parse("https://me:pass@hooks.example.com/pass/pass-and-more?key=pass").unwrap();
        let hidden = Hidden::of_address(&address);
        let texts = hidden.texts();
        let place = |wanted: &str| texts.iter().position(|text| *text == wanted).unwrap();
        assert!(place("pass-and-more") < place("pass"), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| **text == "pass").count(), 1);
        assert!(!texts.contains(&"me"), "what is too short to be a secret would make answers unreadable");
    }
}
