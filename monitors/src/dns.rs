//! The kind `dns`: what a name server says of a name.
//!
//! Every check asks anew; nothing is cached and no search domain is appended. That a name does not exist, has no such
//! record, or that the server fails, refuses or keeps silent are told apart, because each is mended elsewhere.

mod ask;
mod value;

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::Instant;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

use crate::connect::answer_by;
use ask::{Answer, Answered, Transport, ask};
use value::{TYPES, Value, complete_name};

const DNS_PORT: u16 = 53;
/// Most values that a message lists.
const SHOWN_VALUES: usize = 10;

static MANIFEST: Manifest = Manifest {
    kind: "dns",
    checks: "Whether a name server knows a name, with the records that it should have.",
    parameters: &[
        Parameter::required("name", "text", "the complete name; with type `PTR` also an address such as `192.0.2.1`"),
        Parameter::optional(
            "type",
            "text",
            "A",
            "`A`, `AAAA`, `CNAME`, `MX`, `NS`, `TXT`, `SOA`, `SRV`, `PTR` or `CAA`",
        ),
        Parameter::optional(
            "expect",
            "list of text",
            "any value",
            "values that must all be there, beside others: `192.0.2.1`, `10 mx.example.com` or only `mx.example.com`, \
             `1 2 443 host.example.com` (SRV), `0 issue \"letsencrypt.org\"` (CAA), the first parts of a SOA",
        ),
        Parameter::optional("expect_exactly", "list of text", "any value", "as `expect`, and there must be no others"),
        Parameter::optional("min_count", "whole number", "1", "least number of records"),
        Parameter::optional(
            "resolver",
            "text",
            "the node's own, from `/etc/resolv.conf`",
            "address of the name server to ask, with a port other than 53 as `192.0.2.53:5353` or `[2001:db8::53]:5353`",
        ),
        Parameter::optional(
            "protocol",
            "text",
            "UDP, and TCP for answers that are too long",
            "`udp` or `tcp`: only this one",
        ),
        Parameter::optional(
            "max_response_ms",
            "number",
            "no limit but the timeout",
            "longest time for the answer in milliseconds",
        ),
    ],
    verdicts: "ok when a name server answers with at least `min_count` records that are as expected, within \
               `max_response_ms`; failed otherwise, as bad as the row says. Metrics: `response_ms`, `record_count`.",
    examples: &[
        Example {
            name: "Our name server knows the web site",
            schedule: "*/5 * * * *",
            config: r#"{"name": "www.example.com", "resolver": "127.0.0.1", "expect": ["192.0.2.10"]}"#,
        },
        Example {
            name: "Mail goes to our servers only",
            schedule: "@hourly",
            config: r#"{"name": "example.com", "type": "MX", "resolver": "127.0.0.1", "protocol": "tcp", "expect_exactly": ["10 mx1.example.com", "20 mx2.example.com"]}"#,
        },
    ],
    limits: "Names compare without regard to case and a final dot; TXT compares exactly, its pieces joined. Up to 3 of the \
             node's name servers are asked, in their order, until one answers. Nothing is cached here, but the server may \
             do so: to see a zone itself, set `resolver` to one of its own servers. An alias is followed only by servers \
             that do so. `/etc/hosts` is not looked at. DNSSEC is not validated here; a validating server says SERVFAIL.",
    looks_at_this_machine: false,
};

/// The kind `dns`.
pub struct Dns;

impl Monitor for Dns {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let record_type = read_type(&mut config);
        let asked = config.required_text("name");
        let name = read_name(&mut config, &asked, record_type);
        let expect = read_values(&mut config, "expect", record_type);
        let expect_exactly = read_values(&mut config, "expect_exactly", record_type);
        if expect.is_some() && expect_exactly.is_some() {
            config.fault("expect_exactly", "stands beside `expect`", Some("keep one of the two".into()));
        }
        let min_count = config.whole_number("min_count", 1..=i64::from(u16::MAX)).unwrap_or(1);
        let resolver = read_resolver(&mut config);
        let transport = match config.choice("protocol", &["udp", "tcp"]).as_deref() {
            Some("udp") => Transport::Udp,
            Some("tcp") => Transport::Tcp,
            _ => Transport::Any,
        };
        let max_response_ms = config.number("max_response_ms");
        if max_response_ms.is_some_and(|limit| limit <= 0.0) {
            config.fault("max_response_ms", "must be more than 0", None);
        }
        let allows_others = expect_exactly.is_none();
        let expected = expect.or(expect_exactly).unwrap_or_default();
        let min_count = usize::try_from(min_count).unwrap_or(1);
        config.finish(DnsCheck {
            asked,
            name,
            record_type,
            expected,
            allows_others,
            min_count,
            resolver,
            transport,
            max_response_ms,
        })
    }
}

struct DnsCheck {
    /// As the row writes it, for messages.
    asked: String,
    name: Name,
    record_type: RecordType,
    expected: Vec<Value>,
    allows_others: bool,
    min_count: usize,
    resolver: Option<SocketAddr>,
    transport: Transport,
    max_response_ms: Option<f64>,
}

#[async_trait]
impl Check for DnsCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let deadline = answer_by(context.timeout);
        let answered = ask(&self.name, self.record_type, self.resolver, self.transport, deadline)
            .await
            .with_context(|| format!("no answer to {} of `{}`", self.record_type, self.asked))?;
        let response_ms = started.elapsed().as_secs_f64() * 1000.0;

        let (told, problems, count) = self.judge(&answered, response_ms);
        let detours = match answered.failures.join("; ") {
            failures if failures.is_empty() => failures,
            failures => format!(" (asked before: {failures})"),
        };
        let outcome = if problems.is_empty() {
            Outcome::ok(format!("{told}, in {response_ms:.1} ms{detours}"))
        } else {
            Outcome::failed(format!("{told}: {}{detours}", problems.join("; ")))
        };
        Ok(outcome.with_metric("response_ms", response_ms).with_metric("record_count", count as f64))
    }
}

impl DnsCheck {
    /// What the server said, what is wrong with it, and how many records there are.
    fn judge(&self, answered: &Answered, response_ms: f64) -> (String, Vec<String>, usize) {
        let (name, record_type, server) = (&self.asked, self.record_type, answered.server);
        let mut problems = Vec::new();
        let (told, count) = match &answered.answer {
            Answer::Values(values) => {
                problems.extend(self.deviations(values));
                (format!("{record_type} of `{name}` is {} according to {server}", list(values)), values.len())
            }
            Answer::NoSuchName => {
                problems.push("the name does not exist (NXDOMAIN); was it deleted, or has the domain expired?".into());
                (format!("{record_type} of `{name}` is unknown to {server}"), 0)
            }
            Answer::NoRecord => {
                problems.push(format!("the name exists, but has no {record_type} record there"));
                (format!("{record_type} of `{name}` is unknown to {server}"), 0)
            }
            Answer::AliasOnly(alias) => {
                problems.push(format!("the name is an alias for {alias}, for which it gives no {record_type} record"));
                (format!("{record_type} of `{name}` is unknown to {server}"), 0)
            }
        };
        if let Some(limit) = self.max_response_ms.filter(|limit| response_ms > *limit) {
            problems.push(format!("it took {response_ms:.0} ms, more than the {limit} ms of `max_response_ms`"));
        }
        (told, problems, count)
    }

    fn deviations(&self, values: &[Value]) -> Vec<String> {
        let mut deviations = Vec::new();
        let fits = |expected: &Value, found: &Value| expected.accepts(found, self.record_type);
        let missing: Vec<_> = self
            .expected
            .iter()
            .filter(|expected| !values.iter().any(|found| fits(expected, found)))
            .cloned()
            .collect();
        if !missing.is_empty() {
            deviations.push(format!("expected but missing: {}", list(&missing)));
        }
        let others: Vec<_> = values
            .iter()
            .filter(|found| !self.expected.iter().any(|expected| fits(expected, found)))
            .cloned()
            .collect();
        if !self.allows_others && !others.is_empty() {
            deviations.push(format!("not expected: {}", list(&others)));
        }
        if values.len() < self.min_count {
            deviations.push(format!("{} records, less than the {} of `min_count`", values.len(), self.min_count));
        }
        deviations
    }
}

/// Values in a fixed order, because servers rotate them and a message should not change with that.
fn list(values: &[Value]) -> String {
    let mut texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    texts.sort();
    match texts.len() {
        count if count > SHOWN_VALUES => {
            format!("{} and {} more", texts[..SHOWN_VALUES].join(", "), count - SHOWN_VALUES)
        }
        _ => texts.join(", "),
    }
}

fn read_type(config: &mut ConfigReader<'_>) -> RecordType {
    let words = TYPES.map(|(word, _)| word);
    let chosen = config.choice("type", &words);
    let of_word =
        |chosen: String| TYPES.into_iter().find(|(word, _)| *word == chosen).map(|(_, record_type)| record_type);
    chosen.and_then(of_word).unwrap_or(RecordType::A)
}

fn read_name(config: &mut ConfigReader<'_>, text: &str, record_type: RecordType) -> Name {
    if text.is_empty() {
        return Name::root();
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        if record_type == RecordType::PTR {
            return Name::from(address);
        }
        let hint = "set \"type\": \"PTR\" to ask for the name of an address";
        config.fault("name", format!("`{text}` is an address"), Some(hint.into()));
    }
    complete_name(text).unwrap_or_else(|| {
        let hint = "labels of 1 to 63 characters, joined by dots";
        config.fault("name", format!("`{text}` is no domain name"), Some(hint.into()));
        Name::root()
    })
}

/// The values of a list; `None` when it is left out.
fn read_values(config: &mut ConfigReader<'_>, key: &str, record_type: RecordType) -> Option<Vec<Value>> {
    if !config.has(key) {
        return None;
    }
    let texts = config.texts(key);
    if config.value(key).is_some_and(|value| value.as_array().is_some_and(Vec::is_empty)) {
        config.fault(key, "lists nothing", Some("leave it out to accept any value".into()));
    }
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        match Value::expected(&text, record_type) {
            Ok(value) => values.push(value),
            Err(unfit) => config.fault(key, unfit.to_string(), None),
        }
    }
    Some(values)
}

fn read_resolver(config: &mut ConfigReader<'_>) -> Option<SocketAddr> {
    let text = config.text("resolver")?;
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0),
    };
    if address.is_none() {
        let hint =
            "write an address, such as \"192.0.2.53\" or \"192.0.2.53:5353\"; names do not help to find a name server";
        config.fault("resolver", format!("`{text}` is no address of a name server"), Some(hint.into()));
    }
    address
}

#[cfg(test)]
mod tests;
