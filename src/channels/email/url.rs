//! `mail.url`: which server, how encrypted, as whom.
//!
//! The form is lettre's, `scheme://user:password@host:port/ehlo-name?tls=required`, read here because a secret may be
//! a part of it: a fault must not repeat it, and a password that comes out of a store raw, with `@`, `/` or `#` in it,
//! must not make another host of the rest. The last `@` therefore ends the user and password, whatever stands before
//! it. Both are percent-decoded.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};
use watchbell_contract::ConfigFault;

/// Where faults of the URL are reported.
const KEY: &str = "mail.url";
const FORM: &str = "the form is `smtp://user:password@host:587?tls=required` or `smtps://user:password@host`";

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// `smtp://`: not at all.
    Plain,
    /// `?tls=opportunistic`: STARTTLS where the server offers it.
    StartTlsIfOffered,
    /// `?tls=required`: STARTTLS, or nothing is sent.
    StartTls,
    /// `smtps://`: TLS from the first byte.
    Tls,
}

impl Encryption {
    /// The port where the URL names none.
    const fn default_port(self) -> u16 {
        match self {
            Encryption::Plain => 25,
            Encryption::StartTlsIfOffered | Encryption::StartTls => 587,
            Encryption::Tls => 465,
        }
    }
}

/// A user and a password. They show themselves to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// A resolved `mail.url`. Its `Display` is for people and holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct MailUrl {
    pub(super) encryption: Encryption,
    /// A name in ASCII or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The name to greet the server with, where the URL has one.
    pub(super) hello: Option<String>,
    pub(super) login: Option<Login>,
}

impl fmt::Display for MailUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.encryption {
            Encryption::Plain => "unencrypted",
            Encryption::StartTlsIfOffered => "STARTTLS where offered",
            Encryption::StartTls => "STARTTLS",
            Encryption::Tls => "TLS",
        };
        write!(f, "{}:{} ({how})", self.host, self.port)
    }
}

impl MailUrl {
    /// Reads a resolved URL.
    pub(super) fn parse(url: &str) -> Result<Self, ConfigFault> {
        let (scheme, rest) = split_scheme(url.trim())?;
        let (userinfo, server) = split_login(rest);
        let login = userinfo.map(read_login).transpose()?;
        Ok(Self { login, ..read_server(scheme, server)? })
    }
}

fn split_scheme(url: &str) -> Result<(&str, &str), ConfigFault> {
    match url.split_once("://") {
        Some((scheme @ ("smtp" | "smtps"), rest)) => Ok((scheme, rest)),
        Some(_) => Err(fault("is neither `smtp://` nor `smtps://`", FORM)),
        None => Err(fault("is no URL", FORM)),
    }
}

fn split_login(rest: &str) -> (Option<&str>, &str) {
    match rest.rsplit_once('@') {
        Some((userinfo, server)) => (Some(userinfo), server),
        None => (None, rest),
    }
}

fn read_login(userinfo: &str) -> Result<Login, ConfigFault> {
    let Some((user, password)) = userinfo.split_once(':') else {
        return Err(fault("has a user but no password", "write `user:password@host`, or leave both out"));
    };
    let decode = |part: &str| match percent_decode_str(part).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(fault("has a user or password that is not UTF-8 once decoded", "write a literal `%` as `%25`")),
    };
    Ok(Login { user: decode(user)?, password: decode(password)? })
}

fn read_server(scheme: &str, server: &str) -> Result<MailUrl, ConfigFault> {
    // Without user and password nothing secret is left: the parser's words and what was found may be shown.
    let url = Url::parse(&format!("{scheme}://{server}"))
        .map_err(|error| fault(&format!("cannot be read at `{server}`: {error}"), FORM))?;
    let encryption = read_encryption(scheme, &url)?;
    if url.fragment().is_some() {
        return Err(fault("has a `#` after the host", "write `#` in a password as `%23`, and end it with `@`"));
    }
    let hello = Some(url.path().trim_matches('/')).filter(|path| !path.is_empty()).map(str::to_owned);
    if hello.as_ref().is_some_and(|name| name.contains('/')) {
        return Err(fault("has more than one part in its path", "the path is the name to greet the server with"));
    }
    let port = url.port().unwrap_or(encryption.default_port());
    Ok(MailUrl { encryption, host: read_host(&url)?, port, hello, login: None })
}

fn read_host(url: &Url) -> Result<String, ConfigFault> {
    let host = match url.host() {
        None => return Err(fault("names no host", FORM)),
        Some(Host::Domain(name)) => Host::parse(name).map_err(|error| {
            fault(&format!("names `{name}`, which is no host: {error}"), "write a name such as `mail.example.com`")
        })?,
        Some(Host::Ipv4(address)) => Host::Ipv4(address),
        Some(Host::Ipv6(address)) => Host::Ipv6(address),
    };
    Ok(match host {
        Host::Domain(name) => name,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

fn read_encryption(scheme: &str, url: &Url) -> Result<Encryption, ConfigFault> {
    let mut encryption = if scheme == "smtps" { Encryption::Tls } else { Encryption::Plain };
    for (key, value) in url.query_pairs() {
        // A mistyped word would mean mail, and the password with it, without encryption: no guess is made.
        let wanted = match (&*key, &*value) {
            ("tls", "required") => Encryption::StartTls,
            ("tls", "opportunistic") => Encryption::StartTlsIfOffered,
            _ => {
                let hint = "after the `?` only `tls=required` or `tls=opportunistic` may stand";
                return Err(fault(&format!("has `{key}={value}`, which means nothing"), hint));
            }
        };
        if scheme == "smtp" {
            encryption = wanted;
        }
    }
    Ok(encryption)
}

fn fault(problem: &str, hint: &str) -> ConfigFault {
    ConfigFault { path: KEY.to_owned(), problem: problem.to_owned(), hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{Encryption, MailUrl};

    fn read(url: &str) -> MailUrl {
        MailUrl::parse(url).unwrap_or_else(|fault| panic!("{url}: {fault}"))
    }

    #[test]
    fn schemes_and_tls_words_decide_encryption_and_port() {
        let cases = [
            ("smtp://mx", Encryption::Plain, 25),
            ("smtp://mx?tls=opportunistic", Encryption::StartTlsIfOffered, 587),
            ("smtp://mx?tls=required", Encryption::StartTls, 587),
            ("smtps://mx", Encryption::Tls, 465),
            ("smtps://mx?tls=required", Encryption::Tls, 465),
            ("smtp://mx:2525?tls=required", Encryption::StartTls, 2525),
        ];
        for (url, encryption, port) in cases {
            let read = read(url);
            assert_eq!((read.encryption, read.port), (encryption, port), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_raw_ones_do_not_move_the_host() {
        for (url, user, password) in [
            ("smtps://u%40x.test:p%3Aw%25@mx.test:465", "u@x.test", "p:w%"),
            ("smtps://u@x.test:a@b/c#d?e@mx.test:465", "u@x.test", "a@b/c#d?e"),
            ("smtps://u:@mx.test:465\n", "u", ""),
        ] {
            let read = read(url);
            let login = read.login.unwrap();
            assert_eq!((login.user.as_str(), login.password.as_str()), (user, password), "{url}");
            assert_eq!((read.host.as_str(), read.port), ("mx.test", 465), "{url}");
        }
    }

    #[test]
    fn hosts_are_names_in_ascii_or_addresses() {
        assert_eq!(read("smtp://[::1]:25").host, "::1");
        assert_eq!(read("smtp://127.0.0.1:25").host, "127.0.0.1");
        assert_eq!(read("smtp://bücher.example").host, "xn--bcher-kva.example");
        assert_eq!(read("smtp://mx/me.example").hello.as_deref(), Some("me.example"));
    }

    #[test]
    fn faults_have_a_hint_and_never_the_password() {
        for url in [
            "mail.example.com",
            "http://u:hunter2@mx",
            "smtp://u:hunter2@mx?tsl=required",
            "smtp://u:hunter2@mx?tls=yes",
            "smtp://hunter2@mx",
            "smtp://u:hunter2@",
            "smtp://u:hunter2@mx:99999",
            "smtp://u:hunter2%ff@mx",
            "smtp://u:hunter2@m x",
            "smtp://u:hunter2@mx/a/b",
        ] {
            let fault = MailUrl::parse(url).err().unwrap();
            assert!(fault.hint.is_some() && !fault.to_string().contains("hunter2"), "{url}: {fault}");
        }
    }

    #[test]
    fn what_people_see_has_no_login() {
        assert_eq!(read("smtps://u:hunter2@mx").to_string(), "mx:465 (TLS)");
    }
}
