//! What the server said, and how that is told.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::tls::TlsInfo;
use reqwest::{Response, StatusCode, Url, header};
use watchbell_contract::Outcome;

use super::concealed::Concealed;
use super::problem;
use super::request::Request;

/// The most that is read of a body: a health page is far shorter, and hundreds of checks may run at once.
pub(super) const MOST_BODY_BYTES: usize = 1024 * 1024;

/// How much of a body stands in a message: enough to recognise an error page.
const EXCERPT_CHARS: usize = 200;

/// What the server said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Who gave it, after redirects.
    pub(super) url: Url,
    /// Where it redirects to, if it does and that was not followed.
    pub(super) location: Option<Url>,
    pub(super) body: Vec<u8>,
    /// Whether more of the body than was read.
    pub(super) is_cut: bool,
    /// Why the body ended too early, if so.
    pub(super) broken: Option<String>,
    pub(super) took: Duration,
    pub(super) certificate_days: Option<f64>,
    pub(super) concealed: Concealed,
}

impl Answer {
    /// Reads the body, up to its bound.
    pub(super) async fn read(mut response: Response, begin: Instant, concealed: Concealed) -> Self {
        let mut body = Vec::new();
        let mut is_cut = false;
        let broken = loop {
            match response.chunk().await {
                Ok(None) => break None,
                Ok(Some(chunk)) => {
                    let room = MOST_BODY_BYTES - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        is_cut = true;
                        break None;
                    }
                }
                Err(error) => break Some(concealed.hide(&problem::causes(&error))),
            }
        };
        let took = begin.elapsed();
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.filter(|_| response.status().is_redirection());
        Self {
            status: response.status(),
            url: response.url().clone(),
            location: location.and_then(|location| response.url().join(location).ok()),
            certificate_days: certificate_days(&response),
            body,
            is_cut,
            broken,
            took,
            concealed,
        }
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// A text of the server on one line, short and without secrets.
    fn shown(&self, text: &str) -> String {
        // Secrets go before the cut, so that no half of one is left.
        let text = self.concealed.hide(text);
        let mut words = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
            if words.len() > EXCERPT_CHARS * 4 {
                break;
            }
        }
        words.chars().take(EXCERPT_CHARS).collect()
    }

    pub(super) fn excerpt(&self) -> String {
        let text = self.text();
        let shown = self.shown(&text);
        if shown.is_empty() { "the body is empty".into() } else { format!("body starts: \"{shown}\"") }
    }

    pub(super) fn line(&self, request: &Request) -> String {
        let mut line = format!("{} {} answered {}", request.method, shown(&request.url), status_text(self.status));
        if let Some(location) = &self.location {
            line.push_str(&format!(" (a redirect to {})", shown(location)));
        }
        if self.url != request.url {
            line.push_str(&format!(" (redirected to {})", shown(&self.url)));
        }
        line.push_str(&format!(" in {} ms", self.took.as_millis()));
        line
    }

    #[allow(clippy::cast_precision_loss, reason = "a count of bytes up to the bound of a body")]
    pub(super) fn measure(&self, outcome: Outcome) -> Outcome {
        let outcome = outcome
            .with_metric("response_ms", (self.took.as_secs_f64() * 10_000.0).round() / 10.0)
            .with_metric("status", f64::from(self.status.as_u16()))
            .with_metric("body_bytes", self.body.len() as f64);
        match self.certificate_days {
            Some(days) => outcome.with_metric("certificate_days_left", tenths(days)),
            None => outcome,
        }
    }
}

/// How long the certificate of the server that answered is still valid; negative when it no longer is.
fn certificate_days(response: &Response) -> Option<f64> {
    const SECONDS: f64 = 86_400.0;
    let certificate = response.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let left = certificate.validity().not_after.timestamp().saturating_sub(Utc::now().timestamp());
    #[allow(clippy::cast_precision_loss, reason = "seconds of some centuries are exact")]
    Some(left as f64 / SECONDS)
}

/// Rounded down: what is not wholly left is not said to be.
pub(super) fn tenths(days: f64) -> f64 {
    (days * 10.0).floor() / 10.0
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// A URL for messages, without what is not for every reader of the mail: its query, and in a redirect a password.
pub(super) fn shown(url: &Url) -> String {
    const LONGEST: usize = 300;
    let host = url.host_str().map(|host| format!("//{host}")).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let whole = format!("{}:{host}{port}{}", url.scheme(), url.path());
    let mut text: String = whole.chars().take(LONGEST).collect();
    if url.query().is_some() {
        text.push_str("?...");
    }
    text
}
