//! The shapes that single values must have. Nothing here looks at the network or at a disk.

use std::net::SocketAddr;

use chrono_tz::Tz;
use lettre::Address;
use lettre::message::Mailbox;
use url::Url;

use super::mask::shown;
use super::reader::Refusal;
use crate::domain::schedule::parse_zone;

/// Channel names are short words; what is longer was pasted into the wrong place.
const LONGEST_RECIPIENT: usize = 320;

/// A database that Watchbell or the `sql` kind speaks.
pub(super) fn database_url(text: &str) -> Result<(), Refusal> {
    const HINT: &str = "write `sqlite://watchbell.db`, `postgres://user@host/database` or `mysql://user@host/database`";
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.trim_start_matches("//");
        return if path.is_empty() { Err(Refusal::new("it names no file", HINT)) } else { Ok(()) };
    }
    let url = url(text, &["sqlite", "postgres", "postgresql", "mysql", "mariadb"], HINT)?;
    let is_on_socket = url.query_pairs().any(|(name, _)| name == "host" || name == "socket");
    if url.host_str().is_none_or(str::is_empty) && !is_on_socket && !url.scheme().starts_with("postgres") {
        return Err(Refusal::new("it names no host", HINT));
    }
    Ok(())
}

/// A name that nodes share: it stands in a column and in messages.
pub(super) fn installation_name(text: &str) -> Result<String, Refusal> {
    word(text, 100, "write a short name such as `watchbell` or `shop-production`")
}

/// A name of a node: a value that a selector can name.
pub(super) fn node_name(text: &str) -> Result<String, Refusal> {
    word(text, 200, "write a short name such as `alpha` or `eu-1`")
}

/// The key of a label, as selectors write it.
pub(super) fn label(text: &str) -> Result<(), Refusal> {
    let is_key = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
    if text == "name" {
        return Err(Refusal::new("`name` is the node's name in selectors, and no label", "set `node.name`"));
    }
    if is_key { Ok(()) } else { Err(Refusal::new("it is no key of a label", "use letters, digits and `._-/`")) }
}

/// The value of a label, as selectors write it.
pub(super) fn label_value(text: &str) -> Result<String, Refusal> {
    word(text, 200, "write a short value such as `eu` or `dmz`")
}

/// What stands in a selector without being taken for a part of it.
fn word(text: &str, longest: usize, hint: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.trim() != text {
        return Err(Refusal::new("it is empty, or has spaces around it", hint));
    }
    if text.chars().count() > longest {
        return Err(Refusal::new(format!("it is longer than {longest} characters"), hint));
    }
    if text.starts_with('~') || text.contains(['=', '(', ')', ',']) {
        return Err(Refusal::new("it holds a character that selectors use", hint));
    }
    Ok(text.to_owned())
}

/// A mail server, as lettre's connection URLs are written.
pub(super) fn mail_url(text: &str) -> Result<(), Refusal> {
    const HINT: &str = "write `smtp://user:${env:SMTP_PASSWORD}@mail.example.com?tls=required`, or `smtps://` for TLS from the first byte";
    let url = url(text, &["smtp", "smtps"], HINT)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Refusal::new("it names no mail server", HINT));
    }
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("tls", "required" | "opportunistic") if url.scheme() == "smtp" => {}
            ("tls", "required") => {}
            ("tls", _) => {
                return Err(Refusal::new(
                    "its `tls` is none of the known words",
                    "write `?tls=required`, or `?tls=opportunistic` after `smtp://`",
                ));
            }
            _ => return Err(Refusal::new(format!("it has an unknown parameter `{name}`"), "`tls` is the only one")),
        }
    }
    Ok(())
}

/// The base of links in mail, without a `/` at its end.
pub(super) fn public_url(text: &str) -> Result<String, Refusal> {
    const HINT: &str = "write it as in `https://watchbell.example.com`";
    let url = url(text, &["http", "https"], HINT)?;
    if url.password().is_some() || !url.username().is_empty() || url.query().is_some() || url.fragment().is_some() {
        return Err(Refusal::new("it is put into mail, and holds more than a host and a path", HINT));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A dead-man's switch. Its path is a secret, so nothing of it is repeated.
pub(super) fn deadman_url(text: &str) -> Result<(), Refusal> {
    const HINT: &str = "write `https://hc-ping.com/${env:DEADMAN_UUID}`";
    let url = url(text, &["http", "https"], HINT)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Refusal::new("it names no host", HINT));
    }
    Ok(())
}

/// An address and a port to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    let address = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    address.parse().map_err(|_| {
        Refusal::new(
            format!("expected an address and a port, found `{}`", shown(text)),
            "write `127.0.0.1:8787` for this machine only, `0.0.0.0:8787` for everybody, `[::]:8787` with IPv6",
        )
    })
}

/// An IANA zone.
pub(super) fn timezone(text: &str) -> Result<Tz, Refusal> {
    parse_zone(text).map_err(|error| Refusal::new(format!("there is no time zone `{}`", shown(text)), error.hint()))
}

/// An e-mail address or the name of a channel.
pub(super) fn recipient(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_RECIPIENT {
        return Err(Refusal::new("a recipient is empty or too long", "write an e-mail address or a channel's name"));
    }
    if text.contains('@') && text.parse::<Address>().is_err() {
        return Err(Refusal::new(
            format!("`{}` is no e-mail address", shown(text)),
            "write it as in `ops@example.com`",
        ));
    }
    Ok(text.to_owned())
}

/// A sender, with or without a name.
pub(super) fn sender(text: &str) -> Result<String, Refusal> {
    match text.parse::<Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Refusal::new(
            format!("`{}` is no e-mail address", shown(text)),
            "write `watchbell@example.com` or `Watchbell <watchbell@example.com>`",
        )),
    }
}

/// The name of a program, without a folder.
pub(super) fn program(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        return Err(Refusal::new(
            format!("`{}` is no name of a program", shown(text)),
            "write the file's name only, as in `negate`; its folder belongs into `plugin_dirs`",
        ));
    }
    Ok(text.to_owned())
}

/// A filter for the log. A bare word that is no level would be read as a target: `inof` would silence everything.
pub(super) fn log_level(text: &str) -> Result<String, Refusal> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.trim().to_lowercase().as_str());
    let are_levels = text.split(',').all(|part| part.contains(['=', '[']) || is_level(part));
    if are_levels && text.parse::<tracing_subscriber::EnvFilter>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        format!("`{}` is no log level", shown(text)),
        "write `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,watchbell=debug`",
    ))
}

/// The name of a connection: it is part of a key and of a variable's name.
pub(super) fn connection_name(name: &str) -> Result<(), Refusal> {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if fits && !name.contains("__") {
        return Ok(());
    }
    Err(Refusal::new("a connection's name has letters, digits, `-` and single `_` only", "choose another name"))
}

/// Parses a URL; what it says never repeats the text, which may hold a password.
fn url(text: &str, schemes: &[&str], hint: &str) -> Result<Url, Refusal> {
    let expected = || schemes.iter().map(|scheme| format!("`{scheme}://`")).collect::<Vec<_>>().join(" or ");
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(Refusal::new(format!("it does not begin with {}", expected()), hint));
    };
    if !schemes.contains(&scheme) {
        let is_word = scheme.len() <= 20 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+');
        let found =
            if is_word { format!("it begins with `{scheme}://`, not with") } else { "it does not begin with".into() };
        return Err(Refusal::new(format!("{found} {}", expected()), hint));
    }
    Url::parse(text).map_err(|error| {
        let hint =
            format!("{hint}; `@`, `/`, `#`, `?` and `%` in a password are written `%40`, `%2F`, `%23`, `%3F`, `%25`");
        Refusal::new(format!("it is no URL: {error}"), hint)
    })
}
