//! The kind `tcp`: whether a port is open, and optionally whether what listens there answers as it should.
//!
//! It must not speak any protocol beyond one `send` and one `expect`. It fails by refusal, silence, a wrong answer
//! or slowness, and says which.

use std::time::Duration;

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

use crate::connect::{Target, answer_by, explain};
use crate::excerpt::excerpt;

/// How much of an answer is read unless the row says otherwise: any banner or short reply.
const DEFAULT_MAX_BYTES: i64 = 16 * 1024;
/// The most a row may ask to be read and held in memory.
const LARGEST_MAX_BYTES: i64 = 1024 * 1024;
/// The most that a row may send: a request, not an upload.
const LARGEST_SEND: usize = 64 * 1024;

static MANIFEST: Manifest = Manifest {
    kind: "tcp",
    checks: "Whether a TCP port is open. With `send` and `expect` also whether what listens there answers as it should.",
    parameters: &[
        Parameter::required("host", "text", "name or address; every address of a name is tried in turn"),
        Parameter::required("port", "whole number", "1 to 65535"),
        Parameter::optional(
            "send",
            "text",
            "nothing",
            "what to send once connected; line ends as JSON writes them: `PING\\r\\n`",
        ),
        Parameter::optional("expect", "text", "no answer is waited for", "text that the answer must contain"),
        Parameter::optional(
            "expect_regex",
            "text",
            "no answer is waited for",
            "regular expression that must match in the answer, tried on what has arrived so far; instead of `expect`",
        ),
        Parameter::optional(
            "max_bytes",
            "whole number",
            "16384",
            "how many bytes of the answer are read, up to 1048576",
        ),
        Parameter::optional(
            "max_response_ms",
            "number",
            "no limit but the timeout",
            "longest time in milliseconds from looking up the name to the connection, or to the expected answer",
        ),
        Parameter::optional("ip_version", "whole number", "both", "4 or 6: use only addresses of this version"),
    ],
    verdicts: "ok when an address of `host` accepts the connection, what is expected comes, and all of it within \
               `max_response_ms`; failed otherwise, as bad as the row says. Metrics: `connect_ms` (the connection alone) \
               and `response_ms` (everything).",
    examples: &[
        Example {
            name: "PostgreSQL accepts connections",
            schedule: "* * * * *",
            config: r#"{"host": "localhost", "port": 5432, "max_response_ms": 500}"#,
        },
        Example {
            name: "The mail server greets",
            schedule: "*/5 * * * *",
            config: r#"{"host": "localhost", "port": 25, "expect_regex": "^220 .*ESMTP"}"#,
        },
        Example {
            name: "Redis answers a ping",
            schedule: "* * * * *",
            config: r#"{"host": "localhost", "port": 6379, "send": "PING\r\n", "expect": "+PONG"}"#,
        },
    ],
    limits: "Without `expect`, an open port says nothing of the program behind it: the kernel accepts for a program that \
             hangs. Up to 8 addresses of a name are tried, and the first that accepts is the one that is asked. `send` \
             is no field for secrets. No TLS: see the kind `tls`.",
    looks_at_this_machine: false,
};

/// The kind `tcp`.
pub struct Tcp;

impl Monitor for Tcp {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let target = Target::read(&mut config, None);
        let send = config.text("send");
        if send.as_ref().is_some_and(|send| send.len() > LARGEST_SEND) {
            config.fault("send", format!("is longer than {LARGEST_SEND} bytes"), None);
        }
        let expect = read_expectation(&mut config);
        let max_bytes = config.whole_number("max_bytes", 1..=LARGEST_MAX_BYTES).unwrap_or(DEFAULT_MAX_BYTES);
        let max_response_ms = config.number("max_response_ms");
        if max_response_ms.is_some_and(|limit| limit <= 0.0) {
            config.fault("max_response_ms", "must be more than 0", None);
        }
        let max_bytes = usize::try_from(max_bytes).unwrap_or_default();
        config.finish(TcpCheck { target, send, expect, max_bytes, max_response_ms })
    }
}

struct TcpCheck {
    target: Target,
    send: Option<String>,
    expect: Option<Expectation>,
    max_bytes: usize,
    max_response_ms: Option<f64>,
}

enum Expectation {
    Text(String),
    Pattern(Regex),
}

#[async_trait]
impl Check for TcpCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let deadline = answer_by(context.timeout);
        let mut connection = self.target.connect(deadline).await?;
        let place = format!("port {} of `{}` ({})", self.target.port, self.target.host, connection.address);
        let connect_ms = milliseconds(connection.took);

        let answer = match self.converse(&mut connection.stream, deadline).await {
            Ok(answer) => answer,
            Err(problem) => {
                let message = format!("{place} is open, but {problem}{}", connection.detours);
                return Ok(Outcome::failed(message).with_metric("connect_ms", connect_ms));
            }
        };
        let response_ms = milliseconds(started.elapsed());
        let answered = answer.map(|answer| format!(" and answered `{answer}`")).unwrap_or_default();
        let outcome = match self.max_response_ms {
            Some(limit) if response_ms > limit => Outcome::failed(format!(
                "{place} is open{answered}, but it took {response_ms:.0} ms, more than the {limit} ms of `max_response_ms`{}",
                connection.detours
            )),
            _ => Outcome::ok(format!("{place} is open{answered}, in {response_ms:.1} ms{}", connection.detours)),
        };
        Ok(outcome.with_metric("connect_ms", connect_ms).with_metric("response_ms", response_ms))
    }
}

impl TcpCheck {
    /// Sends and waits for what is expected. Gives what came, shown; or what went wrong, to follow on "is open, but".
    async fn converse(&self, stream: &mut TcpStream, deadline: Instant) -> Result<Option<String>, String> {
        if let Some(send) = &self.send {
            match timeout_at(deadline, stream.write_all(send.as_bytes())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("nothing can be sent: {}", explain(&error))),
                Err(_) => return Err("what is sent is not taken: the program behind it hangs".into()),
            }
        }
        match &self.expect {
            Some(expectation) => self.wait_for(expectation, stream, deadline).await.map(Some),
            None => Ok(None),
        }
    }

    async fn wait_for(
        &self,
        expectation: &Expectation,
        stream: &mut TcpStream,
        deadline: Instant,
    ) -> Result<String, String> {
        let started = Instant::now();
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let room = chunk.len().min(self.max_bytes - received.len());
            if room == 0 {
                let bytes = self.max_bytes;
                return Err(format!("its first {bytes} bytes do not hold {expectation}: it sent {}", shown(&received)));
            }
            let count = match timeout_at(deadline, stream.read(&mut chunk[..room])).await {
                Ok(Ok(count)) => count,
                Ok(Err(error)) => {
                    return Err(format!(
                        "instead of {expectation} came {}, then {}",
                        shown(&received),
                        explain(&error)
                    ));
                }
                Err(_) => {
                    let seconds = started.elapsed().as_secs_f64();
                    return Err(format!(
                        "{expectation} did not come within {seconds:.1} s: it sent {}",
                        shown(&received)
                    ));
                }
            };
            if count == 0 {
                return Err(format!("it closed the connection without {expectation}: it sent {}", shown(&received)));
            }
            received.extend_from_slice(&chunk[..count]);
            if expectation.holds(&received) {
                return Ok(excerpt(&received));
            }
        }
    }
}

impl Expectation {
    fn holds(&self, received: &[u8]) -> bool {
        match self {
            Expectation::Text(text) => received.windows(text.len()).any(|window| window == text.as_bytes()),
            Expectation::Pattern(pattern) => pattern.is_match(received),
        }
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expectation::Text(text) => write!(f, "the expected `{}`", excerpt(text.as_bytes())),
            Expectation::Pattern(pattern) => write!(f, "a match of `{pattern}`"),
        }
    }
}

fn read_expectation(config: &mut ConfigReader<'_>) -> Option<Expectation> {
    let text = config.text("expect");
    let pattern = config.parsed::<Regex>("expect_regex", "a regular expression");
    if text.is_some() && pattern.is_some() {
        config.fault("expect_regex", "stands beside `expect`", Some("keep one of the two".into()));
    }
    if text.as_ref().is_some_and(String::is_empty) {
        config.fault("expect", "must not be empty", Some("leave it out to check only that the port is open".into()));
    }
    text.map(Expectation::Text).or(pattern.map(Expectation::Pattern))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn shown(received: &[u8]) -> String {
    if received.is_empty() { "nothing".into() } else { format!("`{}`", excerpt(received)) }
}

#[cfg(test)]
mod tests;
