//! Why a certificate or a handshake is no good, in sentences for the person who has to mend it.

use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::certificate::{Certificate, date, span};
use super::trust::Inspection;
use crate::connect::explain;

/// Everything that makes the certificate unfit, each to follow on "the certificate"; empty when rustls accepts it.
pub(super) fn unfit(
    facts: &Certificate,
    inspection: &Inspection,
    server_name: &ServerName<'_>,
    ca_file: Option<&Path>,
    now: DateTime<Utc>,
) -> Vec<String> {
    let Err(error) = &inspection.verdict else { return Vec::new() };
    let mut problems = Vec::new();
    let is_out_of_date = now > facts.not_after || now < facts.not_before;
    if now > facts.not_after {
        problems.push(format!("expired {} ago", span(now - facts.not_after)));
    } else if now < facts.not_before {
        problems.push(format!("is not valid before {}", date(facts.not_before)));
    }
    if inspection.name.is_err() {
        problems.push(format!("is not for `{}` but for {}", server_name.to_str(), facts.names));
    }
    match error {
        Error::InvalidCertificate(error) => {
            problems.extend(distrust(error, facts, ca_file, is_out_of_date));
        }
        other => problems.push(format!("is refused: {other}")),
    }
    problems
}

/// Why a handshake failed, to follow on "the handshake fails". `is_first`: TLS begins with the first byte.
pub(super) fn of_handshake(error: &io::Error, server_name: &ServerName<'_>, is_first: bool) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return explain(error);
    };
    match tls {
        Error::InvalidMessage(_) if is_first => {
            "what answers there does not speak TLS (wrong port, or does it need `starttls`?)".into()
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("the server speaks no TLS version from 1.2 on ({tls})")
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            format!("the server knows no site named `{}`", server_name.to_str())
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server refuses it (no cipher in common, no certificate set up, or it demands a client certificate)"
                .into()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => "the server demands a client certificate".into(),
        other => other.to_string(),
    }
}

/// Why nobody vouches for the certificate. `None` when it is about its own dates or names, which are told apart.
fn distrust(
    error: &CertificateError,
    facts: &Certificate,
    ca_file: Option<&Path>,
    is_out_of_date: bool,
) -> Option<String> {
    use CertificateError as E;
    let trusted = match ca_file {
        Some(path) => format!("`ca_file` `{}`", path.display()),
        None => "the system's list of authorities".into(),
    };
    match error {
        E::NotValidForName | E::NotValidForNameContext { .. } => None,
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } if is_out_of_date => None,
        E::Expired | E::ExpiredContext { .. } => {
            Some("is itself valid, but a certificate between it and the authority has expired".into())
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            Some("is itself valid, but a certificate between it and the authority is not valid yet".into())
        }
        E::UnknownIssuer if facts.is_self_issued => Some(format!("is self-signed and not in {trusted}")),
        E::UnknownIssuer => Some(format!(
            "is not trusted: nobody in {trusted} vouches for its issuer (does the server leave out an intermediate certificate?)"
        )),
        E::BadSignature => Some(format!(
            "is not trusted: {trusted} holds an authority with its issuer's name, but with another key (was the authority renewed?)"
        )),
        other => Some(format!("is refused: {other}")),
    }
}
