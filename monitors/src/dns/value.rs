//! Values of records in one spelling, so that what is expected and what is found can be compared.
//!
//! Names compare without regard to case and to a final dot, addresses by what they mean, texts exactly.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::excerpt::excerpt;

/// The words of the configuration, with what they ask for.
pub(super) const TYPES: [(&str, RecordType); 10] = [
    ("A", RecordType::A),
    ("AAAA", RecordType::AAAA),
    ("CNAME", RecordType::CNAME),
    ("MX", RecordType::MX),
    ("NS", RecordType::NS),
    ("TXT", RecordType::TXT),
    ("SOA", RecordType::SOA),
    ("SRV", RecordType::SRV),
    ("PTR", RecordType::PTR),
    ("CAA", RecordType::CAA),
];

/// The value of one record, in its parts: a preference, a name, ...
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(Vec<String>);

/// A text that cannot be the value of such a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be the value of {article} {record_type} record")]
pub(super) struct Unfit {
    text: String,
    article: &'static str,
    record_type: RecordType,
}

impl Value {
    /// Reads a value as people write it. An MX may be its server alone, a SOA only as many parts as matter.
    pub(super) fn expected(text: &str, record_type: RecordType) -> Result<Self, Unfit> {
        let parts = match record_type {
            RecordType::A => text.parse::<Ipv4Addr>().ok().map(|ip| vec![ip.to_string()]),
            RecordType::AAAA => text.parse::<Ipv6Addr>().ok().map(|ip| vec![ip.to_string()]),
            RecordType::TXT => Some(vec![text.to_owned()]),
            RecordType::CAA => certification_authority(text),
            RecordType::MX => words(text, 1..=2),
            RecordType::SRV => words(text, 4..=4),
            RecordType::SOA => words(text, 1..=7),
            _ => words(text, 1..=1),
        };
        let article = if matches!(record_type, RecordType::CNAME | RecordType::TXT | RecordType::CAA | RecordType::PTR)
        {
            "a"
        } else {
            "an"
        };
        parts.map(Value).ok_or_else(|| Unfit { text: excerpt(text.as_bytes()), article, record_type })
    }

    /// The value of a record that was found; `None` for a type that this kind does not ask for.
    pub(super) fn found(data: &RData) -> Option<Self> {
        let parts = match data {
            RData::A(ip) => vec![ip.0.to_string()],
            RData::AAAA(ip) => vec![ip.0.to_string()],
            RData::CNAME(name) => vec![spelled(&name.0)],
            RData::NS(name) => vec![spelled(&name.0)],
            RData::PTR(name) => vec![spelled(&name.0)],
            RData::MX(mx) => vec![mx.preference.to_string(), spelled(&mx.exchange)],
            RData::TXT(txt) => vec![String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()],
            RData::SRV(srv) => {
                let [priority, weight, port] = [srv.priority, srv.weight, srv.port].map(|number| number.to_string());
                vec![priority, weight, port, spelled(&srv.target)]
            }
            RData::SOA(soa) => {
                let mut parts = vec![spelled(&soa.mname), spelled(&soa.rname), soa.serial.to_string()];
                parts.extend([soa.refresh, soa.retry, soa.expire].map(|seconds| seconds.to_string()));
                parts.push(soa.minimum.to_string());
                parts
            }
            RData::CAA(caa) => {
                let value = String::from_utf8_lossy(&caa.value).to_lowercase();
                vec![caa.flags().to_string(), caa.tag.to_lowercase(), value]
            }
            _ => return None,
        };
        Some(Value(parts))
    }

    /// Whether a found value is what this expected one asks for.
    pub(super) fn accepts(&self, found: &Value, record_type: RecordType) -> bool {
        match record_type {
            RecordType::MX if self.0.len() == 1 => self.0.last() == found.0.last(),
            RecordType::SOA => found.0.starts_with(&self.0),
            _ => self == found,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", excerpt(self.0.join(" ").as_bytes()))
    }
}

/// A name as it is asked for: complete, so that no search domain is ever appended.
pub(super) fn complete_name(text: &str) -> Option<Name> {
    let name = if text.is_ascii() { Name::from_ascii(text) } else { Name::from_utf8(text) };
    let mut name = name.ok().filter(|name| !text.is_empty() && (!name.is_root() || text == "."))?;
    name.set_fqdn(true);
    Some(name)
}

fn spelled(name: &Name) -> String {
    without_dot(&name.to_ascii().to_lowercase())
}

fn words(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<Vec<String>> {
    let words: Vec<_> = text.split_whitespace().map(word).collect::<Option<_>>()?;
    count.contains(&words.len()).then_some(words)
}

fn word(word: &str) -> Option<String> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(word.to_owned());
    }
    complete_name(word).map(|name| spelled(&name))
}

/// `0 issue "letsencrypt.org"`, with or without the quotes.
fn certification_authority(text: &str) -> Option<Vec<String>> {
    let mut parts = text.trim().splitn(3, char::is_whitespace);
    let (flags, tag, value) = (parts.next()?, parts.next()?, parts.next()?);
    flags.parse::<u8>().ok()?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    Some(vec![flags.to_owned(), tag.to_lowercase(), value.to_lowercase()])
}

fn without_dot(name: &str) -> String {
    match name.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::RecordType;
    use hickory_resolver::proto::rr::rdata::{A, CAA, MX, NS, SOA, SRV, TXT};
    use hickory_resolver::proto::rr::{Name, RData};

    use super::{Value, complete_name};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn accepts(expected: &str, found: &RData) -> bool {
        let record_type = found.record_type();
        Value::expected(expected, record_type).unwrap().accepts(&Value::found(found).unwrap(), record_type)
    }

    #[test]
    fn names_compare_without_case_and_final_dot() {
        let found = RData::NS(NS(name("NS1.Example.COM.")));
        for same in ["ns1.example.com", "NS1.EXAMPLE.com."] {
            assert!(accepts(same, &found), "{same}");
        }
        for other in ["ns1.example.co", "example.com", "ns1.example.com.x"] {
            assert!(!accepts(other, &found), "{other}");
        }
        assert!(accepts("bücher.test", &RData::NS(NS(name("xn--bcher-kva.test.")))));
    }

    #[test]
    fn a_mail_server_may_leave_out_its_preference() {
        let found = RData::MX(MX::new(10, name("mx.test.")));
        assert!(accepts("10 MX.test.", &found) && accepts("mx.test", &found));
        assert!(!accepts("20 mx.test", &found) && !accepts("10", &found));
    }

    #[test]
    fn a_zone_may_be_told_by_its_first_parts() {
        let found = RData::SOA(SOA::new(name("ns.test."), name("host.test."), 7, 1, 2, 3, 4));
        assert!(accepts("ns.test", &found) && accepts("ns.test. host.test. 7 1 2 3 4", &found));
        assert!(!accepts("host.test", &found) && !accepts("ns.test host.test 8", &found));
    }

    #[test]
    fn texts_compare_exactly_and_in_one_piece() {
        let found = RData::TXT(TXT::from_bytes(vec![b"v=spf1 ", b"-ALL"]));
        assert!(accepts("v=spf1 -ALL", &found));
        assert!(!accepts("v=spf1 -all", &found) && !accepts("v=spf1 -ALL.", &found));
    }

    #[test]
    fn services_addresses_and_authorities_compare() {
        assert!(accepts("1 2 443 a.test", &RData::SRV(SRV::new(1, 2, 443, name("A.test.")))));
        assert!(accepts("192.0.2.1", &RData::A(A::new(192, 0, 2, 1))));
        let found = RData::CAA(CAA::new_issue(false, Some(name("ca.test")), vec![]));
        assert!(accepts("0 issue \"ca.test\"", &found) && accepts("0 ISSUE CA.test", &found));
        assert!(!accepts("128 issue ca.test", &found));
        let (long, short) = ("2001:0db8:0:0::1", "2001:db8::1");
        assert_eq!(Value::expected(long, RecordType::AAAA), Value::expected(short, RecordType::AAAA));
    }

    #[test]
    fn what_can_never_be_found_is_refused() {
        for (text, record_type) in [
            ("2001:db8::1", RecordType::A),
            ("192.0.2.1", RecordType::AAAA),
            ("a.test b.test", RecordType::NS),
            ("", RecordType::CNAME),
            ("10 a.test b.test", RecordType::MX),
            ("1 2 a.test", RecordType::SRV),
            ("issue ca.test", RecordType::CAA),
            ("a..test", RecordType::PTR),
        ] {
            assert!(Value::expected(text, record_type).is_err(), "{text} {record_type}");
        }
    }

    #[test]
    fn asked_names_are_complete() {
        for text in ["www", "www.test", "www.test.", "_dmarc.test", "*.test", "."] {
            assert!(complete_name(text).unwrap().is_fqdn(), "{text}");
        }
        for text in ["", "a..b", &"x".repeat(64)] {
            assert!(complete_name(text).is_none(), "{text}");
        }
    }
}
