//! The `url` of a row of `channels` for people: who may read a screen or a log may not post into a room.

use super::channel_type::find;
use super::url::{ChannelUrl, split_all, split_once};

const MASK: &str = "***";

/// The URL with everything that may be a secret as `***`: user information, path and query of the address (webhooks
/// keep their token there), and options that are secret or unknown. References stay: they name where a secret is.
pub fn masked(url: &str) -> String {
    let url = url.trim();
    let name = ChannelUrl::type_name(url);
    let Some(separator) = url.get(name.len()..name.len() + 1) else { return masked_name(name) };
    let rest = &url[name.len() + 1..];
    let (address, options) = split_once(rest, '#').map_or((rest, None), |(address, options)| (address, Some(options)));
    let mut shown = format!("{}{separator}{}", masked_name(name), masked_address(name, address));
    for (index, pair) in options.iter().flat_map(|options| split_all(options, '&')).enumerate() {
        shown.push(if index == 0 { '#' } else { '&' });
        shown.push_str(&masked_option(name, pair));
    }
    shown
}

/// The names of the secret options, and `the address`, whose values stand in the URL themselves instead of as
/// references.
pub fn plain_secrets(url: &str) -> Vec<String> {
    let url = url.trim();
    let name = ChannelUrl::type_name(url);
    let rest = url.get(name.len() + 1..).unwrap_or_default();
    let (address, options) = split_once(rest, '#').unwrap_or((rest, ""));
    let mut plain = Vec::new();
    let user = address.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    if user.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).is_some_and(|(_, password)| is_plain(password))
    {
        plain.push("the password in the address".to_owned());
    }
    for pair in split_all(options, '&') {
        let (option, value) = split_once(pair, '=').unwrap_or((pair, ""));
        if is_secret(name, option) == Some(true) && is_plain(value) {
            plain.push(format!("`{option}`"));
        }
    }
    plain
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.replace("$${", "").contains("${")
}

/// A row may hold anything, also a bare password.
fn masked_name(name: &str) -> String {
    if find(name).is_some() { name.to_owned() } else { MASK.to_owned() }
}

fn masked_address(name: &str, address: &str) -> String {
    if address.is_empty() || is_reference(address) || name == "mailto" {
        return address.to_owned();
    }
    let Some((scheme, rest)) = split_scheme(address) else { return MASK.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let user = user.map_or(String::new(), |_| format!("{MASK}@"));
    // A reference in the host part (or one that holds a `/`) leaves nothing that can be taken apart safely.
    if authority.contains("${") {
        return format!("{scheme}{MASK}");
    }
    let path = match path {
        "" | "/" => path.to_owned(),
        path if is_reference(&path[1..]) => path.to_owned(),
        _ => format!("/{MASK}"),
    };
    format!("{scheme}{user}{host}{path}")
}

fn split_scheme(address: &str) -> Option<(&str, &str)> {
    let end = address.find("://")? + 3;
    Some(address.split_at(end))
}

fn masked_option(name: &str, pair: &str) -> String {
    let Some((option, value)) = split_once(pair, '=') else {
        return if is_secret(name, pair).is_some() { pair.to_owned() } else { MASK.to_owned() };
    };
    match is_secret(name, option) {
        Some(false) => pair.to_owned(),
        Some(true) if is_reference(value) => pair.to_owned(),
        Some(true) => format!("{option}={MASK}"),
        None => MASK.to_owned(),
    }
}

/// `None`: the type has no such option.
fn is_secret(name: &str, option: &str) -> Option<bool> {
    let options = find(name)?.options;
    options.iter().find(|known| known.name == option).map(|known| known.is_secret)
}

/// One reference and nothing else.
fn is_reference(text: &str) -> bool {
    ["${env:", "${file:", "${credential:", "${pass:"].iter().any(|start| text.starts_with(start))
        && text.find('}') == Some(text.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::{masked, plain_secrets};

    #[test]
    fn what_may_be_secret_is_masked_and_references_stay() {
        for (url, shown) in [
            ("ntfy+https://ntfy.sh/hunter2", "ntfy+https://ntfy.sh/***"),
            ("ntfy+https://u:hunter2@ntfy.sh/ops#token=hunter2", "ntfy+https://***@ntfy.sh/***#token=***"),
            ("ntfy+https://ntfy.sh/ops#token=${env:T}", "ntfy+https://ntfy.sh/***#token=${env:T}"),
            ("ntfy+https://ntfy.sh/ops#token=hunter2${env:T}", "ntfy+https://ntfy.sh/***#token=***"),
            ("ntfy+https://ntfy.sh/ops#tokn=hunter2", "ntfy+https://ntfy.sh/***#***"),
            ("webhook+${env:HOOK}#token=${env:S}", "webhook+${env:HOOK}#token=${env:S}"),
            ("webhook+https://h:8080/hunter2?a=hunter2", "webhook+https://h:8080/***"),
            ("webhook+https://u:${env:P}@h/x", "webhook+https://***"),
            ("mailto:ops@example.com", "mailto:ops@example.com"),
            ("nothing+https://hunter2.example.com/x#y=hunter2", "***+https://hunter2.example.com/***#***"),
            ("hunter2", "***"),
            ("ntfy:hunter2", "ntfy:***"),
            ("", "***"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn secrets_that_are_written_out_are_named_without_their_value() {
        assert_eq!(plain_secrets("ntfy+https://ntfy.sh/ops#token=hunter2"), ["`token`"]);
        assert_eq!(plain_secrets("ntfy+https://u:hunter2@ntfy.sh/ops"), ["the password in the address"]);
        assert!(plain_secrets("ntfy+https://u:${env:P}@ntfy.sh/ops#token=${env:T}").is_empty());
        assert!(plain_secrets("mailto:ops@example.com").is_empty());
    }
}
