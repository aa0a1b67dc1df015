//! What channels over HTTP share: one client with the installation's trust, bounded in time and bytes, and what kind of
//! failure an answer is.
//!
//! It follows no redirect (a message that is sent on elsewhere is a message in wrong hands), and no error of it names a
//! URL, since URLs hold secrets.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{RequestBuilder, StatusCode};
use watchbell_contract::{ConfigFault, ConfigFaults, SecretError};

use super::channel_type::ChannelSettings;
use crate::domain::one_line;
use crate::ports::DeliveryError;

/// From the connection to the answer's end. A service that is slower is as good as away, and the outbox waits better.
const PATIENCE: Duration = Duration::from_secs(20);
/// To a server that does not answer at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
/// Of an answer; what these services say is shorter by far.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// What of an answer stands in errors and in the ledger.
const MAX_SHOWN_CHARS: usize = 300;
/// A service that asks for more, in its header or in a field of its own, is asked again earlier: a wrong number must not
/// silence it for a day.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A client for one channel.
///
/// # Errors
/// When `ca_file` cannot be used.
pub(super) fn client(settings: &ChannelSettings) -> Result<reqwest::Client, ConfigFaults> {
    client_with(settings, PATIENCE)
}

/// The same for requests that wait long on purpose.
///
/// # Errors
/// When `ca_file` cannot be used.
pub(super) fn client_with(settings: &ChannelSettings, patience: Duration) -> Result<reqwest::Client, ConfigFaults> {
    let tls = super::tls::client_config(settings.ca_file.as_deref())?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("watchbell/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .timeout(patience)
        .connect_timeout(CONNECT_PATIENCE)
        .build()
        .map_err(|error| {
            let problem = format!("no HTTP client can be made: {error}");
            ConfigFaults(vec![ConfigFault { path: "url".to_owned(), problem, hint: None }])
        })
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `Retry-After`, where the service sent one that can be read.
    pub(super) retry_after: Option<Duration>,
    /// The body, cut at a bound.
    pub(super) body: String,
}

impl Answer {
    /// The body as JSON; `Null` where it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Status and the beginning of the body, in one line, with `secrets` hidden: services repeat what they were sent.
    pub(super) fn shown(&self, secrets: &[&str]) -> String {
        let mut body = self.body.clone();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            body = body.replace(secret, "***");
        }
        let body = one_line(body.trim(), MAX_SHOWN_CHARS);
        if body.is_empty() { self.status.to_string() } else { format!("{}: {body}", self.status) }
    }

    /// What kind of failure it is, by the status alone, as most services mean it: `429` and `5xx` pass, for all
    /// messages; `401` and `403` are mended by a person, for all messages; any other `4xx` refuses this message for good.
    pub(super) fn failure(&self, secrets: &[&str]) -> DeliveryError {
        let reason = format!("the service answered {}", self.shown(secrets));
        match self.status.as_u16() {
            401 | 403 | 407 => DeliveryError::Unavailable { reason, after: None },
            408 | 425 | 429 | 500.. => DeliveryError::Unavailable { reason, after: self.retry_after },
            300..=399 => DeliveryError::Unavailable {
                reason: format!(
                    "{reason} (a redirect is not followed; write the final address into the channel's `url`)"
                ),
                after: None,
            },
            _ => DeliveryError::Permanent { reason },
        }
    }
}

/// Sends, and reads the answer. Any status is an answer.
///
/// # Errors
/// [`DeliveryError::Unavailable`] where no answer came.
pub(super) async fn send(request: RequestBuilder) -> Result<Answer, DeliveryError> {
    send_up_to(request, MAX_ANSWER_BYTES).await
}

/// The same for answers that may be longer: at most `max_bytes` are read.
///
/// # Errors
/// [`DeliveryError::Unavailable`] where no answer came.
pub(super) async fn send_up_to(request: RequestBuilder, max_bytes: usize) -> Result<Answer, DeliveryError> {
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(reqwest::header::RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?, Utc::now()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        let room = max_bytes - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == max_bytes {
            break;
        }
    }
    Ok(Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A secret that cannot be read now: a person mends that.
pub(super) fn secret_failure(error: SecretError) -> DeliveryError {
    DeliveryError::Unavailable { reason: error.to_string(), after: None }
}

fn unreachable(error: reqwest::Error) -> DeliveryError {
    let error = error.without_url();
    let what = if error.is_timeout() { "the service did not answer in time" } else { "the service cannot be reached" };
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let last = causes.pop().unwrap_or_else(|| error.to_string());
    DeliveryError::Unavailable { reason: format!("{what}: {}", one_line(&last, MAX_SHOWN_CHARS)), after: None }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let asked = match value.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(asked.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use reqwest::StatusCode;

    use super::{Answer, retry_after};
    use crate::ports::DeliveryError;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sun, 22 Nov 2026 10:00:09 GMT", now), Some(Duration::from_secs(9)));
        assert_eq!(retry_after("Sun, 22 Nov 2026 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("864000", now), Some(Duration::from_secs(3600)));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn statuses_are_told_apart_and_secrets_hidden() {
        let failure = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, retry_after: None, body: "no token s3cret here\n".to_owned() };
            answer.failure(&["s3cret", ""])
        };
        assert!(matches!(failure(400), DeliveryError::Permanent { reason } if reason.contains("no token *** here")));
        assert!(matches!(failure(429), DeliveryError::Unavailable { .. }));
        assert!(matches!(failure(503), DeliveryError::Unavailable { .. }));
        assert!(matches!(failure(401), DeliveryError::Unavailable { .. }));
        assert!(matches!(failure(302), DeliveryError::Unavailable { reason, .. } if reason.contains("redirect")));
    }
}
