//! What went wrong with a request, for people.

use std::error::Error;
use std::io;

use chrono::DateTime;
use reqwest::Url;
use rustls::{CertificateError, InvalidMessage};

use super::answer::shown;
use super::progress::{Phase, Progress};

/// Layers of the client that say nothing of the cause below them.
const EMPTY_WORDS: [&str; 5] = [
    "dns error",
    "client error (Connect)",
    "client error (SendRequest)",
    "client error (Canceled)",
    "error resolving DNS",
];

/// Why no answer came.
pub(super) fn no_answer(error: &reqwest::Error, progress: &Progress) -> String {
    if error.is_redirect() {
        return causes(error);
    }
    let url = progress.url();
    let server = server(&url);
    if let Some(error) = tls_error(error) {
        return format!("the TLS handshake with {server} failed: {}", tls_text(error));
    }
    let causes = causes(error);
    match progress.phase() {
        Phase::Preparing => causes,
        Phase::Resolving => format!("the name `{}` cannot be used: {causes}", url.host_str().unwrap_or_default()),
        Phase::Connecting => format!("cannot connect to {server}: {causes}"),
        Phase::Waiting | Phase::Reading => format!("connected to {server}, but it gave no valid answer: {causes}"),
    }
}

/// How far a request had come when the time was up.
pub(super) fn unfinished(progress: &Progress) -> String {
    let url = progress.url();
    match progress.phase() {
        Phase::Preparing => "still reading the secrets and certificates that the request needs".into(),
        Phase::Resolving => format!("still looking up the name `{}`", url.host_str().unwrap_or_default()),
        Phase::Connecting => format!("still connecting to {}", server(&url)),
        Phase::Waiting => format!("connected to {}, still waiting for its answer", server(&url)),
        Phase::Reading => format!("{} began its answer, but its body has not ended", shown(&url)),
    }
}

/// What lies below an error, from the outermost to the innermost cause, without repetitions.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        let is_told = texts.last().is_some_and(|last| last.contains(&text));
        if !is_told && !EMPTY_WORDS.contains(&text.as_str()) {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() { "no cause is known".into() } else { texts.join(": ") }
}

fn server(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("`{}{port}`", url.host_str().unwrap_or_default())
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // An I/O error leaves what it was made of out of `source`, which goes on below that.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| -> &(dyn Error + 'static) { inner }).or_else(|| cause.source());
    }
    None
}

fn tls_text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_text(error),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{error} (hint: is this a port for plain http?)")
        }
        other => other.to_string(),
    }
}

fn certificate_text(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "its certificate has expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate has expired, it was valid until {}", instant(not_after.as_secs()))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}", instant(not_before.as_secs()))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("its certificate is not for `{}`, but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::UnknownIssuer => "its certificate is signed by nobody who is trusted (hint: the server may \
                                            not send its intermediate certificate; a private CA goes into `ca_file`)"
            .into(),
        other => format!("its certificate is not valid: {other}"),
    }
}

fn instant(unix_seconds: u64) -> String {
    let instant = i64::try_from(unix_seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    instant.map_or_else(|| unix_seconds.to_string(), |instant| instant.format("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::unfinished;
    use crate::http::progress::{Phase, Progress};

    #[test]
    fn each_phase_is_told() {
        let progress = Progress::new(Url::parse("https://a.example/").unwrap());
        progress.moves_to(&Url::parse("https://b.example:8443/x?token=y").unwrap());
        for (phase, says) in [
            (Phase::Preparing, "still reading the secrets and certificates that the request needs"),
            (Phase::Resolving, "still looking up the name `b.example`"),
            (Phase::Connecting, "still connecting to `b.example:8443`"),
            (Phase::Waiting, "connected to `b.example:8443`, still waiting for its answer"),
            (Phase::Reading, "https://b.example:8443/x?... began its answer, but its body has not ended"),
        ] {
            progress.enter(phase);
            assert_eq!(unfinished(&progress), says);
        }
    }
}
