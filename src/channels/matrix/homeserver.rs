//! Requests to the homeserver's client-server API, and what it means when it refuses one.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use watchbell_contract::{ConfigFaults, Revealed, Secret};

use crate::channels::channel_type::ChannelSettings;
use crate::channels::http::{self, Answer};
use crate::channels::url::ChannelUrl;
use crate::ports::DeliveryError;

/// A homeserver and the bot's account on it.
pub(super) struct Homeserver {
    client: Client,
    /// Without a `/` at its end.
    address: String,
    shown: String,
    token: Secret,
}

impl Homeserver {
    /// Reads the address and `token`.
    ///
    /// # Errors
    /// When the installation's trust cannot be used.
    pub(super) fn open(url: &mut ChannelUrl, settings: &ChannelSettings) -> Result<Self, ConfigFaults> {
        let address = url.plain_address();
        let is_http = Url::parse(&address).is_ok_and(|address| {
            matches!(address.scheme(), "http" | "https") && address.has_host() && address.query().is_none()
        });
        if !is_http {
            let hint = "write it as `matrix+https://matrix.example.com#room=...`";
            url.fault("url", "holds no address of a homeserver", Some(hint.to_owned()));
        }
        Ok(Self {
            client: http::client(settings)?,
            address: address.trim_end_matches('/').to_owned(),
            shown: url.shown_address(),
            token: url.required_secret("token"),
        })
    }

    /// The address, for people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Resolves the token, for the requests of one attempt.
    ///
    /// # Errors
    /// [`DeliveryError::Unavailable`] where there is no token that can be sent.
    pub(super) async fn session(&self) -> Result<Session<'_>, DeliveryError> {
        let token = self.token.reveal().await.map_err(http::secret_failure)?;
        let authorization = HeaderValue::from_str(&format!("Bearer {}", token.as_str())).ok();
        let Some(mut authorization) = authorization.filter(|_| !token.as_str().is_empty()) else {
            let reason = "the channel's `token` is empty or holds a line break (hint: let its secret hold the access \
                          token and nothing else)";
            return Err(DeliveryError::Unavailable { reason: reason.to_owned(), after: None });
        };
        authorization.set_sensitive(true);
        Ok(Session { homeserver: self, token, authorization })
    }
}

/// The homeserver with the token of this moment.
pub(super) struct Session<'a> {
    homeserver: &'a Homeserver,
    token: Revealed,
    authorization: HeaderValue,
}

impl Session<'_> {
    /// A request to the path below `/_matrix/client/v3`, over the client for short answers.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.request_over(&self.homeserver.client, method, path)
    }

    /// The same over another client.
    pub(super) fn request_over(&self, client: &Client, method: Method, path: &[&str]) -> RequestBuilder {
        let mut address = format!("{}/_matrix/client/v3", self.homeserver.address);
        for segment in path {
            address.push('/');
            // All but letters and digits: room ids and aliases hold `!`, `#`, `:` and, from strangers, anything.
            address.extend(utf8_percent_encode(segment, NON_ALPHANUMERIC));
        }
        client.request(method, address).header(AUTHORIZATION, self.authorization.clone())
    }

    /// The failure that an answer stands for where it says nothing against a message: the whole channel is concerned, and
    /// somebody, or time, mends it.
    pub(super) fn failure(&self, answer: &Answer) -> DeliveryError {
        self.failure_with(answer, hint(answer.status))
    }

    /// The same with a hint of the caller's.
    pub(super) fn failure_with(&self, answer: &Answer, hint: Option<&str>) -> DeliveryError {
        let hint = hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        DeliveryError::Unavailable {
            reason: format!("the homeserver answered {}{hint}", self.shown(answer)),
            after: wait(answer),
        }
    }

    /// The failure that an answer to a message stands for: one that refuses the message for what it is, is final.
    pub(super) fn refusal(&self, answer: &Answer) -> DeliveryError {
        match answer.status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                DeliveryError::Permanent {
                    reason: format!("the homeserver refuses the message: {}", self.shown(answer)),
                }
            }
            _ => self.failure(answer),
        }
    }

    /// Status, error code and the homeserver's words, without the token.
    fn shown(&self, answer: &Answer) -> String {
        let json = answer.json();
        let body = match (json["errcode"].as_str(), json["error"].as_str()) {
            (Some(code), Some(words)) => format!("{code}: {words}"),
            (Some(code), None) => code.to_owned(),
            _ => answer.body.clone(),
        };
        Answer { body, ..answer.clone() }.shown(&[self.token.as_str()])
    }
}

/// Whether this is how a homeserver says that the bot is not in the room, or may not do this there, or that there is no
/// such room (any more).
pub(super) fn is_not_let_in(answer: &Answer) -> bool {
    let json = answer.json();
    match answer.status {
        StatusCode::FORBIDDEN => json["errcode"] == "M_FORBIDDEN",
        StatusCode::NOT_FOUND => json["errcode"] == "M_NOT_FOUND",
        _ => false,
    }
}

/// An answer that no homeserver gives.
pub(super) fn not_understood(what: &str) -> DeliveryError {
    DeliveryError::Unavailable {
        reason: format!("{what} (hint: is the channel's address that of the homeserver's client interface?)"),
        after: None,
    }
}

/// What to do about a status.
fn hint(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 => Some("log the bot in again, and put its new access token where the channel's `token` is read from"),
        403 => Some("invite the bot into the room, and let it write there"),
        404 => Some(
            "is the channel's address that of the homeserver's client interface? \
             `https://<server>/.well-known/matrix/client` names it",
        ),
        300..=399 => Some("redirects are not followed: write the final address into the channel's `url`"),
        _ => None,
    }
}

/// How long the homeserver asks to wait: the header, else the field that older ones send.
fn wait(answer: &Answer) -> Option<Duration> {
    let field = || answer.json()["retry_after_ms"].as_u64().map(Duration::from_millis);
    answer.retry_after.or_else(field).map(|wait| wait.min(http::LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::StatusCode;

    use super::{is_not_let_in, wait};
    use crate::channels::http::Answer;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body: body.to_owned() }
    }

    #[test]
    fn the_wait_is_the_headers_else_the_bodys_and_bounded() {
        let old = answer(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#);
        assert_eq!(wait(&old), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&Answer { retry_after: Some(Duration::from_secs(2)), ..old }), Some(Duration::from_secs(2)));
        assert_eq!(wait(&answer(429, r#"{"retry_after_ms":864000000}"#)), Some(Duration::from_secs(3600)));
        assert_eq!(wait(&answer(502, "<html>")), None);
    }

    #[test]
    fn only_the_homeservers_own_word_means_not_in_the_room() {
        assert!(is_not_let_in(&answer(403, r#"{"errcode":"M_FORBIDDEN","error":"not in room"}"#)));
        assert!(is_not_let_in(&answer(404, r#"{"errcode":"M_NOT_FOUND","error":"unknown room"}"#)));
        assert!(!is_not_let_in(&answer(403, r#"{"errcode":"M_CONSENT_NOT_GIVEN"}"#)));
        assert!(!is_not_let_in(&answer(404, r#"{"errcode":"M_UNRECOGNIZED"}"#)));
        assert!(!is_not_let_in(&answer(403, "<html>a proxy says no</html>")));
    }
}
