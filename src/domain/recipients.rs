//! Whom a row names in `people_to_notify`.

use std::collections::BTreeMap;

use email_address::{EmailAddress, Options};
use serde_json::Value;
use watchbell_contract::nearest;

use super::rules::ChannelRule;

/// Whom a row wants told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum People {
    /// NULL: whom the routes name.
    ByRoutes,
    /// `[]`: nobody at all.
    Nobody,
    /// These, each once, in the row's order; never empty.
    Listed(Vec<String>),
}

/// What `people_to_notify` says, and what of it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients {
    /// Whom to tell. Where every entry is bad: the installation's admins.
    pub people: People,
    /// Whether `people` are the admins, in the place of entries that are all bad.
    pub is_fallback: bool,
    /// One sentence for each entry that is no recipient.
    pub faults: Vec<String>,
}

impl Recipients {
    /// Reads the column. `admins` are told where entries exist and none of them is a recipient.
    pub fn read(people_to_notify: Option<&str>, admins: &[String], channels: &BTreeMap<String, ChannelRule>) -> Self {
        let Some(text) = people_to_notify else {
            return Self { people: People::ByRoutes, is_fallback: false, faults: Vec::new() };
        };
        let entries = match serde_json::from_str(text) {
            Ok(Value::Array(entries)) => entries,
            Ok(_) | Err(_) => {
                let fault = r#"people_to_notify: expected a JSON array of recipients, for example ["ops@example.com"]"#;
                return Self { people: fall_back(admins), is_fallback: true, faults: vec![fault.to_owned()] };
            }
        };
        if entries.is_empty() {
            return Self { people: People::Nobody, is_fallback: false, faults: Vec::new() };
        }
        let mut listed: Vec<String> = Vec::with_capacity(entries.len());
        let mut faults = Vec::new();
        for entry in &entries {
            match recipient(entry, channels) {
                Ok(recipient) if listed.contains(&recipient) => {}
                Ok(recipient) => listed.push(recipient),
                Err(fault) => faults.push(format!("people_to_notify: {}", fault.problem())),
            }
        }
        let is_fallback = listed.is_empty();
        let people = if is_fallback { fall_back(admins) } else { People::Listed(listed) };
        Self { people, is_fallback, faults }
    }
}

fn fall_back(admins: &[String]) -> People {
    // Each once: the outbox takes one alert for each recipient, and refuses all of them otherwise.
    let mut each: Vec<String> = Vec::with_capacity(admins.len());
    for admin in admins {
        if !each.contains(admin) {
            each.push(admin.clone());
        }
    }
    if each.is_empty() { People::ByRoutes } else { People::Listed(each) }
}

/// What counts as an e-mail address of a recipient: the bare address of a mailbox that has a name in the DNS.
pub fn address_options() -> Options {
    Options::default().without_display_text().without_domain_literal()
}

/// Why an entry is no recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientFault(String);

impl RecipientFault {
    /// What is wrong, with a hint.
    pub fn problem(&self) -> &str {
        &self.0
    }
}

/// One entry of a list of recipients: the name of a channel, or an e-mail address.
pub(super) fn recipient(entry: &Value, channels: &BTreeMap<String, ChannelRule>) -> Result<String, RecipientFault> {
    const SHOWN: usize = 80;
    let shown = || entry.to_string().chars().take(SHOWN).collect::<String>();
    let Some(text) = entry.as_str().map(str::trim) else {
        let problem =
            format!("{} is not a recipient; write an e-mail address or the name of a channel in quotes", shown());
        return Err(RecipientFault(problem));
    };
    if channels.contains_key(text) {
        return Ok(text.to_owned());
    }
    let error = match EmailAddress::parse_with_options(text, address_options()) {
        Ok(_) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    if text.contains('@') {
        return Err(RecipientFault(format!("{} is not an e-mail address ({error})", shown())));
    }
    let hint = match nearest(text, channels.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a row of `channels` with this name makes it one".to_owned(),
    };
    Err(RecipientFault(format!("{} is neither an e-mail address nor the name of a channel (hint: {hint})", shown())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{People, Recipients};

    fn read(text: Option<&str>) -> (People, usize) {
        let recipients = Recipients::read(text, &["admin@example.com".to_owned()], &BTreeMap::new());
        (recipients.people, recipients.faults.len())
    }

    fn listed(names: &[&str]) -> People {
        People::Listed(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn null_is_by_routes_and_an_empty_list_is_nobody() {
        assert_eq!(read(None), (People::ByRoutes, 0));
        assert_eq!(read(Some("[]")), (People::Nobody, 0));
    }

    #[test]
    fn the_good_ones_are_told_each_once() {
        let text = r#"["a@example.com", " a@example.com ", "not an address", 7, "b@example.com"]"#;
        assert_eq!(read(Some(text)), (listed(&["a@example.com", "b@example.com"]), 2));
    }

    #[test]
    fn where_none_is_left_the_admins_are_told() {
        assert_eq!(read(Some(r#"["nobody-at-all"]"#)), (listed(&["admin@example.com"]), 1));
        assert_eq!(read(Some(r#"{"a": 1}"#)), (listed(&["admin@example.com"]), 1));
    }

    #[test]
    fn an_admin_named_twice_is_told_once() {
        let admins = ["a@example.com", "b@example.com", "a@example.com"].map(str::to_owned);
        let read = Recipients::read(Some(r#"["nobody-at-all"]"#), &admins, &BTreeMap::new());
        assert_eq!(read.people, listed(&["a@example.com", "b@example.com"]));
        assert_eq!(
            Recipients::read(Some("[7]"), &[], &BTreeMap::new()).people,
            People::ByRoutes,
            "without admins, the routes"
        );
    }

    #[test]
    fn line_breaks_make_no_recipient() {
        assert_eq!(read(Some("[\"a@example.com\\r\\nBcc: x@example.com\"]")).1, 1);
    }
}
