//! The `url` of a row of `channels`: type, address and options, each with its secret references still unresolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use watchbell_contract::{ConfigFault, ConfigFaults, Secret, SecretError, Secrets, nearest};

use super::channel_type::ChannelType;

/// Reads a URL. Each accessor notes what is wrong and goes on, so that [`ChannelUrl::finish`] reports all faults
/// together; until then a value that could not be read is a harmless placeholder.
pub struct ChannelUrl {
    channel_type: &'static ChannelType,
    /// The word that the URL began with: the type's name, or another of its names.
    name: String,
    /// What stands between the name and `#`: `https://host/path` after `name+`, everything after `name:` otherwise.
    address: String,
    options: BTreeMap<String, String>,
    secrets: Arc<dyn Secrets>,
    faults: Vec<ConfigFault>,
}

impl ChannelUrl {
    /// The word that a URL begins with.
    pub fn type_name(url: &str) -> &str {
        let url = url.trim();
        url.split([':', '+']).next().unwrap_or(url)
    }

    pub(super) fn read(url: &str, channel_type: &'static ChannelType, secrets: Arc<dyn Secrets>) -> Self {
        let url = url.trim();
        let name = Self::type_name(url);
        let rest = url.get(name.len() + 1..).unwrap_or_default();
        let (address, options) = split_once(rest, '#').unwrap_or((rest, ""));
        let mut read = Self {
            channel_type,
            name: name.to_owned(),
            address: address.to_owned(),
            options: BTreeMap::new(),
            secrets,
            faults: Vec::new(),
        };
        if channel_type.address.is_none() && !matches!(address, "" | "//") {
            let example = channel_type.examples.first().copied().unwrap_or_default();
            read.fault("url", "holds an address, and this type has none", Some(format!("for example `{example}`")));
        }
        for pair in split_all(options, '&').into_iter().filter(|pair| !pair.is_empty()) {
            read.take_option(pair);
        }
        read
    }

    /// The word that the URL began with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address as a secret text. References in it are put in percent-encoded, so that the result is the URL that was
    /// meant, whatever characters the secret holds; one that is the whole address is put in as it is.
    pub fn address(&mut self) -> Address {
        let text = self.address.clone();
        let is_whole = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
        match Secret::parse(&text, self.secrets.clone()) {
            Ok(secret) => Address { secret: Some(secret), is_whole },
            Err(error) => {
                self.fault("url", error.to_string(), None);
                Address { secret: None, is_whole }
            }
        }
    }

    /// The address as plain text, percent-decoded; no secret may stand in it.
    pub fn plain_address(&mut self) -> String {
        if self.address.contains("${") {
            self.fault("url", "a secret reference may not stand here", None);
        }
        decode(&self.address)
    }

    /// Where the address points to, for [`crate::ports::Channel::describe`]: scheme, host and port only, since user
    /// information, path and query may be secret. References in it stay unresolved, and are not shown either.
    pub fn shown_address(&self) -> String {
        if self.address.starts_with("${") {
            return "the address of a secret".to_owned();
        }
        let address = without_references(&self.address);
        let scheme_end = address.find("//").map_or(0, |at| at + 2);
        let (scheme, rest) = address.split_at(scheme_end);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{scheme}{host}")
    }

    /// Whether the option is given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// A plain option, if given.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.options.get(name)?.clone();
        if text.contains("${") {
            self.fault(name, "a secret reference may not stand here", None);
            return None;
        }
        Some(decode(&text))
    }

    /// A plain option that must be given and not be empty.
    pub fn required_text(&mut self, name: &str) -> String {
        let text = self.text(name).filter(|text| !text.is_empty());
        self.require(name, text)
    }

    /// One word out of `choices`; the first of them when left out.
    pub fn choice(&mut self, name: &str, choices: &[&'static str]) -> &'static str {
        let default = choices.first().copied().unwrap_or_default();
        let Some(text) = self.text(name) else { return default };
        match choices.iter().find(|choice| **choice == text) {
            Some(choice) => choice,
            None => {
                let listed = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
                let hint = nearest(&text, choices.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                self.fault(name, format!("expected one of {listed}"), hint);
                default
            }
        }
    }

    /// Names parted by commas; empty when left out.
    pub fn list(&mut self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
    }

    /// An option that may hold secret references, if given.
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        let text = self.options.get(name)?.clone();
        match Secret::parse(&decode_literals(&text), self.secrets.clone()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.fault(name, error.to_string(), None);
                None
            }
        }
    }

    /// An option that may hold secret references and must be given.
    pub fn required_secret(&mut self, name: &str) -> Secret {
        let secret = self.secret(name);
        if secret.is_none() && !self.faults.iter().any(|fault| fault.path == path_of(name)) {
            self.fault(name, "is required", self.example());
        }
        secret.unwrap_or_else(|| Secret::literal(""))
    }

    /// Notes a fault that the channel itself found. `name` is an option, or `url` for the address.
    pub fn fault(&mut self, name: &str, problem: impl Into<String>, hint: Option<String>) {
        self.faults.push(ConfigFault { path: path_of(name), problem: problem.into(), hint });
    }

    /// The channel, if nothing was wrong.
    ///
    /// # Errors
    /// All faults, in the order in which they were found.
    pub fn finish<C>(self, channel: C) -> Result<Arc<C>, ConfigFaults> {
        if self.faults.is_empty() { Ok(Arc::new(channel)) } else { Err(ConfigFaults(self.faults)) }
    }

    fn take_option(&mut self, pair: &str) {
        let (name, value) = split_once(pair, '=').unwrap_or((pair, ""));
        let options = self.channel_type.options;
        if options.iter().any(|option| option.name == name) {
            if self.options.contains_key(name) {
                return self.fault(name, "is given twice", None);
            }
            self.options.insert(name.to_owned(), value.to_owned());
            return;
        }
        let known = || options.iter().map(|option| option.name);
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`{}` knows: {}", self.channel_type.name, known().collect::<Vec<_>>().join(", ")),
        };
        self.fault(name, "is not an option of this type of channel", Some(hint));
    }

    fn require(&mut self, name: &str, value: Option<String>) -> String {
        if value.is_none() && !self.faults.iter().any(|fault| fault.path == path_of(name)) {
            self.fault(name, "is required", self.example());
        }
        value.unwrap_or_default()
    }

    fn example(&self) -> Option<String> {
        self.channel_type.examples.first().map(|example| format!("for example `{example}`"))
    }
}

/// An address whose secrets are still references.
#[derive(Debug, Clone)]
pub struct Address {
    secret: Option<Secret>,
    is_whole: bool,
}

impl Address {
    /// The address, resolved now.
    ///
    /// # Errors
    /// What cannot be resolved; never a value.
    pub async fn reveal(&self) -> Result<String, SecretError> {
        let Some(secret) = &self.secret else { return Ok(String::new()) };
        let revealed = secret.reveal().await?;
        if self.is_whole {
            return Ok(revealed.as_str().trim().to_owned());
        }
        Ok(revealed.encoded(|value| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()))
    }
}

fn path_of(name: &str) -> String {
    if name == "url" { "url".to_owned() } else { format!("url#{name}") }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Percent-decodes what stands outside references.
fn decode_literals(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, end)) = reference(rest) {
        decoded.push_str(&decode(&rest[..at]));
        decoded.push_str(&rest[at..end]);
        rest = &rest[end..];
    }
    decoded.push_str(&decode(rest));
    decoded
}

/// The text with `***` in place of each reference: a reference may hold what means something in a URL.
fn without_references(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, end)) = reference(rest) {
        shown.push_str(&rest[..at]);
        shown.push_str("***");
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

/// Where the first `${...}` begins and ends.
fn reference(text: &str) -> Option<(usize, usize)> {
    let at = text.find("${")?;
    Some((at, text[at..].find('}').map_or(text.len(), |end| at + end + 1)))
}

/// Splits at the first `separator` that stands in no reference.
pub(super) fn split_once(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut from = 0;
    while let Some((at, end)) = reference(&text[from..]) {
        if let Some(found) = text[from..from + at].find(separator) {
            return Some((&text[..from + found], &text[from + found + separator.len_utf8()..]));
        }
        from += end;
    }
    let found = from + text[from..].find(separator)?;
    Some((&text[..found], &text[found + separator.len_utf8()..]))
}

pub(super) fn split_all(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((part, after)) = split_once(rest, separator) {
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use watchbell_contract::{NoSecrets, SecretError, SecretReference, Secrets};

    use super::ChannelUrl;
    use crate::channels::find;

    /// Each reference stands for a value that means something in a URL.
    struct Nasty;

    #[async_trait]
    impl Secrets for Nasty {
        fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
            Ok(())
        }

        async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
            Ok("a/b#c&d%20@".to_owned())
        }
    }

    fn read(url: &str) -> ChannelUrl {
        ChannelUrl::read(url, find(ChannelUrl::type_name(url)).unwrap(), Arc::new(Nasty))
    }

    #[tokio::test]
    async fn secrets_arrive_as_they_are_in_options_and_encoded_in_addresses() {
        let mut url = read("ntfy+https://u:${env:P#1}@ntfy.example.com/ops#token=${pass:a&b=c}%21");
        assert_eq!(url.address().reveal().await.unwrap(), "https://u:a%2Fb%23c%26d%2520%40@ntfy.example.com/ops");
        assert_eq!(url.required_secret("token").reveal().await.unwrap().as_str(), "a/b#c&d%20@!");
        assert_eq!(url.shown_address(), "https://ntfy.example.com");
        assert!(url.finish(()).is_ok());
    }

    #[test]
    fn an_address_is_shown_without_user_path_and_references() {
        for (url, shown) in [
            ("ntfy+https://u:${pass:a/b?c}@ntfy.example.com:8443/ops?x=y", "https://ntfy.example.com:8443"),
            ("ntfy+https://${env:HOST}/ops", "https://***"),
            ("ntfy+${env:HOOK}", "the address of a secret"),
            ("ntfy://u:p@host:6379/0", "//host:6379"),
        ] {
            assert_eq!(read(url).shown_address(), shown, "{url}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_one_reference_is_put_in_as_it_is() {
        let address = read("ntfy+${env:HOOK}").address();
        assert_eq!(address.reveal().await.unwrap(), "a/b#c&d%20@");
    }

    #[test]
    fn all_faults_come_at_once_with_hints_and_without_secrets() {
        let url = "ntfy+https://ntfy.example.com/ops#tokn=x&token=${env:T}&token=y";
        let mut url = ChannelUrl::read(url, find("ntfy").unwrap(), Arc::new(NoSecrets));
        drop(url.secret("token"));
        let faults = url.finish(()).map(drop).unwrap_err().to_string();
        assert!(faults.contains("url#tokn: is not an option of this type of channel (hint: did you mean `token`?)"));
        assert!(faults.contains("url#token: is given twice"), "{faults}");
        assert!(faults.contains("the reference `env:T` is not allowed"), "{faults}");
    }
}
