//! The kind `tls`: the certificate that a server shows: how long it holds, for whom, and who vouches for it.
//!
//! It must not accept what a careful client would refuse. A certificate that is refused is described all the same,
//! because its dates and names are what the person who renews it needs.

mod certificate;
mod reason;
mod starttls;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, Severity,
    async_trait,
};

use crate::connect::{Connection, Target, answer_by};
use certificate::{Certificate, date, span};
use starttls::StartTls;
use trust::{Inspection, Inspector, Trusted};

/// Below this, a renewal that should have happened did not: usual ones renew 30 days before the end.
const DEFAULT_MIN_DAYS: f64 = 14.0;
const HTTPS_PORT: u16 = 443;

static MANIFEST: Manifest = Manifest {
    kind: "tls",
    checks: "Whether the TLS certificate of a server holds for its name, comes from a trusted authority, and does not \
             expire soon.",
    parameters: &[
        Parameter::required("host", "text", "name or address to connect to; every address of a name is tried in turn"),
        Parameter::optional("port", "whole number", "443; with `starttls` 25, 143 or 110", "1 to 65535"),
        Parameter::optional(
            "server_name",
            "text",
            "`host`",
            "the name to ask for (SNI) and that the certificate must hold",
        ),
        Parameter::optional(
            "min_days",
            "number",
            "14",
            "fail with severity `warning` when fewer days are left; 0: never",
        ),
        Parameter::optional(
            "ca_file",
            "text",
            "the system's list of authorities",
            "PEM file on the node with the only authorities to trust, or with the server's own certificate",
        ),
        Parameter::optional(
            "starttls",
            "text",
            "TLS from the first byte",
            "`smtp`, `imap` or `pop3`: go over to TLS first",
        ),
        Parameter::optional(
            "min_tls_version",
            "text",
            "1.2",
            "`1.2` or `1.3`: fail when an older version is negotiated",
        ),
        Parameter::optional("ip_version", "whole number", "both", "4 or 6: use only addresses of this version"),
    ],
    verdicts: "ok when the handshake succeeds with a valid certificate and at least `min_days` are left; failed with \
               severity `warning` when it is valid with fewer days left; failed as bad as the row says when it has \
               expired, is not valid yet, is for another name or not trusted, when the TLS version is too old, or when \
               there is no handshake. Metrics: `days_left` (negative once expired), `handshake_ms`.",
    examples: &[
        Example {
            name: "Certificate of the web site",
            schedule: "0 8 * * *",
            config: r#"{"host": "localhost", "server_name": "www.example.com"}"#,
        },
        Example {
            name: "Certificate of the mail server",
            schedule: "0 8 * * *",
            config: r#"{"host": "localhost", "port": 587, "starttls": "smtp", "server_name": "mx.example.com", "min_days": 21}"#,
        },
        Example {
            name: "Certificate of an internal service",
            schedule: "@hourly",
            config: r#"{"host": "localhost", "port": 8443, "ca_file": "/etc/watchbell/internal-ca.pem", "min_tls_version": "1.3"}"#,
        },
    ],
    limits: "Only the server's own certificate counts for `days_left`; an expired one between it and the authority fails \
             the check once it has expired. Revocation is not checked. It shows no client certificate, so a server that \
             demands one within a TLS 1.2 handshake fails. TLS 1.0 and 1.1 are not spoken. With several addresses of a \
             name, the first that accepts the connection is looked at.",
    looks_at_this_machine: false,
};

/// The kind `tls`.
pub struct Tls;

impl Monitor for Tls {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let starttls = config.choice("starttls", &starttls::WORDS).and_then(|word| StartTls::from_word(&word));
        let target = Target::read(&mut config, Some(starttls.map_or(HTTPS_PORT, StartTls::default_port)));
        let server_name = read_server_name(&mut config, &target.host);
        let min_days = config.number("min_days").unwrap_or(DEFAULT_MIN_DAYS);
        if min_days < 0.0 {
            config.fault("min_days", format!("expected 0 or more, found {min_days}"), None);
        }
        let ca_file = config.text("ca_file").map(PathBuf::from);
        if ca_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            config.fault("ca_file", "is no absolute path", Some("for example \"/etc/watchbell/ca.pem\"".into()));
        }
        let needs_tls13 = config.choice("min_tls_version", &["1.2", "1.3"]).is_some_and(|version| version == "1.3");
        config.finish(TlsCheck { target, server_name, min_days, ca_file, starttls, needs_tls13 })
    }
}

struct TlsCheck {
    target: Target,
    server_name: ServerName<'static>,
    min_days: f64,
    ca_file: Option<PathBuf>,
    starttls: Option<StartTls>,
    needs_tls13: bool,
}

/// How a handshake went: its TLS version, or why there is none.
type Handshake = Result<Option<ProtocolVersion>, String>;

#[async_trait]
impl Check for TlsCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let deadline = answer_by(context.timeout);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = Trusted::load(self.ca_file.as_deref()).await?;
        let inspector = Arc::new(Inspector::new(trusted, provider.clone())?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(inspector.clone())
            .with_no_client_auth();

        let Connection { mut stream, address, detours, .. } = self.target.connect(deadline).await?;
        let place = format!("`{}` port {} ({})", self.target.host, self.target.port, address.ip());
        if let Err(problem) = self.negotiate(&mut stream, deadline).await {
            return Ok(Outcome::failed(format!("{place} {problem}{detours}")));
        }
        let started = Instant::now();
        let handshake = self.shake_hands(config, stream, deadline).await;
        let handshake_ms = started.elapsed().as_secs_f64() * 1000.0;

        let outcome = match inspector.seen() {
            Some(inspection) => self.judge(&place, inspection, handshake, Utc::now())?,
            None => {
                let problem = handshake.err().unwrap_or_else(|| "the server showed no certificate".into());
                Outcome::failed(format!("{place}: no TLS handshake: {problem}"))
            }
        };
        let message = format!("{}{detours}", outcome.message);
        Ok(Outcome { message, ..outcome }.with_metric("handshake_ms", handshake_ms))
    }
}

impl TlsCheck {
    async fn negotiate(&self, stream: &mut TcpStream, deadline: Instant) -> Result<(), String> {
        let Some(starttls) = self.starttls else { return Ok(()) };
        match timeout_at(deadline, starttls.negotiate(stream)).await {
            Ok(negotiated) => negotiated.map_err(|error| error.to_string()),
            Err(_) => Err("does not answer before TLS begins; the program behind the port hangs".into()),
        }
    }

    async fn shake_hands(&self, config: ClientConfig, stream: TcpStream, deadline: Instant) -> Handshake {
        let started = Instant::now();
        let connecting = TlsConnector::from(Arc::new(config)).connect(self.server_name.clone(), stream);
        match timeout_at(deadline, connecting).await {
            Ok(Ok(mut stream)) => {
                // Taking leave keeps the server's log free of broken connections. The verdict stands without it.
                timeout_at(deadline, stream.shutdown()).await.ok();
                Ok(stream.get_ref().1.protocol_version())
            }
            Ok(Err(error)) => Err(reason::of_handshake(&error, &self.server_name, self.starttls.is_none())),
            Err(_) => Err(format!("it did not come to an end within {:.1} s", started.elapsed().as_secs_f64())),
        }
    }

    /// The verdict on a server that has shown a certificate.
    fn judge(
        &self,
        place: &str,
        inspection: &Inspection,
        handshake: Handshake,
        now: DateTime<Utc>,
    ) -> Result<Outcome, certificate::Unreadable> {
        let facts = Certificate::read(&inspection.certificate)?;
        let days_left = facts.days_left(now);
        let of = format!("the certificate `{}` of {place}", facts.subject);
        let until = format!("until {}, issued by `{}`", date(facts.not_after), facts.issuer);

        let problems = reason::unfit(&facts, inspection, &self.server_name, self.ca_file.as_deref(), now);
        let outcome = if !problems.is_empty() {
            Outcome::failed(format!("{of} {} (valid {until})", problems.join("; and it ")))
        } else {
            match handshake {
                Err(problem) => {
                    Outcome::failed(format!("{of} is valid {until}, but the TLS handshake fails: {problem}"))
                }
                Ok(version) if self.needs_tls13 && version != Some(ProtocolVersion::TLSv1_3) => {
                    Outcome::failed(format!(
                        "{place} speaks only {}, older than the `min_tls_version` 1.3; its certificate is valid {until}",
                        version_name(version)
                    ))
                }
                Ok(_) if days_left < self.min_days => Outcome::failed(format!(
                    "{of} expires in {}, less than the {} days of `min_days`: renew it (valid {until})",
                    span(facts.not_after - now),
                    self.min_days
                ))
                .with_severity(Severity::Warning),
                Ok(version) => Outcome::ok(format!(
                    "{of} is valid for another {}, {until}; {}",
                    span(facts.not_after - now),
                    version_name(version)
                )),
            }
        };
        Ok(outcome.with_metric("days_left", days_left))
    }
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "an unknown TLS version",
    }
}

fn read_server_name(config: &mut ConfigReader<'_>, host: &str) -> ServerName<'static> {
    let given = config.text("server_name");
    let key = if given.is_some() { "server_name" } else { "host" };
    let name = given.unwrap_or_else(|| host.to_owned());
    match ServerName::try_from(name.trim_end_matches('.').to_owned()) {
        Ok(server_name) => server_name,
        Err(_) => {
            // An empty host is a fault already.
            if !name.is_empty() || key == "server_name" {
                let hint = "write a name such as `www.example.com` (with umlauts in its `xn--` form), or an address";
                config.fault(key, format!("`{name}` is no name that a certificate can hold"), Some(hint.into()));
            }
            ServerName::from(std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED))
        }
    }
}

#[cfg(test)]
mod tests;
