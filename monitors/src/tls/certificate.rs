//! What a person wants to know of a certificate.

use chrono::{DateTime, TimeDelta, Utc};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use crate::excerpt::excerpt;

/// Most names that a message lists; certificates of hosters hold hundreds.
const SHOWN_NAMES: usize = 5;

/// The facts of one certificate, fit to stand in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) is_self_issued: bool,
    /// For whom it holds, at most a few of them.
    pub(super) names: String,
    pub(super) not_before: DateTime<Utc>,
    pub(super) not_after: DateTime<Utc>,
}

/// The bytes are no certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's certificate cannot be read; its encoding is broken")]
pub(super) struct Unreadable;

impl Certificate {
    pub(super) fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        let validity = parsed.validity();
        Ok(Self {
            subject: shown(parsed.subject()),
            issuer: shown(parsed.issuer()),
            is_self_issued: parsed.subject() == parsed.issuer(),
            names: names(&parsed),
            not_before: DateTime::from_timestamp(validity.not_before.timestamp(), 0).ok_or(Unreadable)?,
            not_after: DateTime::from_timestamp(validity.not_after.timestamp(), 0).ok_or(Unreadable)?,
        })
    }

    /// Days until it expires, with fractions; negative once it has.
    pub(super) fn days_left(&self, now: DateTime<Utc>) -> f64 {
        const SECONDS_A_DAY: f64 = 86_400.0;
        // Seconds of any date that a certificate can hold fit without loss.
        (self.not_after - now).num_seconds() as f64 / SECONDS_A_DAY
    }
}

/// A date as people compare it with their calendar.
pub(super) fn date(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A span in the largest unit that still tells people how much time they have, rounded down.
pub(super) fn span(span: TimeDelta) -> String {
    let span = span.abs();
    let (count, unit) = match (span.num_days(), span.num_hours()) {
        (days, _) if days >= 2 => (days, "day"),
        (_, hours) if hours >= 2 => (hours, "hour"),
        _ => (span.num_minutes(), "minute"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The common name where there is one, else everything.
fn shown(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|common| common.as_str().ok());
    match common {
        Some(common) => excerpt(common.as_bytes()),
        None => excerpt(name.to_string().as_bytes()),
    }
}

fn names(certificate: &X509Certificate<'_>) -> String {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let all: Vec<String> = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(excerpt(name.as_bytes())),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    match all.len() {
        0 => "no name at all (it has no subject alternative names)".into(),
        count if count > SHOWN_NAMES => format!("{} and {} more", all[..SHOWN_NAMES].join(", "), count - SHOWN_NAMES),
        _ => all.join(", "),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    v4.or(v6).ok()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::{Certificate, Unreadable, span};

    #[test]
    fn spans_are_told_in_the_unit_that_helps() {
        for (minutes, text) in [
            (60 * 24 * 9 + 5, "9 days"),
            (60 * 24, "24 hours"),
            (119, "119 minutes"),
            (-1, "1 minute"),
            (0, "0 minutes"),
        ] {
            assert_eq!(span(TimeDelta::minutes(minutes)), text);
        }
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (1..=7).map(|n| format!("host{n}.test")).chain(["10.0.0.1".into()]).collect();
        let key = rcgen::generate_simple_self_signed(names).unwrap();
        let facts = Certificate::read(key.cert.der()).unwrap();
        assert_eq!(facts.names, "host1.test, host2.test, host3.test, host4.test, host5.test and 3 more");
        assert!(facts.is_self_issued);
    }

    #[test]
    fn addresses_and_no_names_are_told() {
        let key = rcgen::generate_simple_self_signed(["10.0.0.1".into(), "::1".into()]).unwrap();
        assert_eq!(Certificate::read(key.cert.der()).unwrap().names, "10.0.0.1, ::1");
        let key = rcgen::generate_simple_self_signed([]).unwrap();
        assert!(Certificate::read(key.cert.der()).unwrap().names.starts_with("no name at all"));
        assert_eq!(Certificate::read(b"nonsense"), Err(Unreadable));
    }
}
