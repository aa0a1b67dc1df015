//! What Slack's answers mean. An answer is known by its word (`channel_not_found`), which a bot finds in the JSON and a
//! webhook as the body.
//!
//! - The message is refused for what it is (`msg_too_long`, `invalid_blocks`): `Permanent`.
//! - Nothing goes (`ratelimited`, a wrong token, a channel that is gone, Slack's own trouble): `Unavailable`.
//! - A word that is not known here: `Retry`, since it may be about this message only, and nothing may be lost.

use reqwest::Url;

use super::super::http::Answer;
use crate::domain::one_line;
use crate::ports::{Delivered, DeliveryError};

/// Shorter parts of a webhook's path are no secrets, and hiding them would make errors unreadable.
const SHORTEST_SECRET_CHARS: usize = 8;
/// Of a word and its explanation.
const MAX_SHOWN_CHARS: usize = 200;

/// Refused for what it is.
const OF_MESSAGE: &[&str] = &[
    "msg_too_long",
    "msg_too_large",
    "msg_blocks_too_long",
    "no_text",
    "missing_text_or_fallback_or_attachments",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_payload",
    "invalid_metadata_format",
    "invalid_metadata_schema",
    "metadata_too_large",
    "too_many_attachments",
];

/// A person must mend the credentials.
const OF_CREDENTIALS: &[&str] = &[
    "not_authed",
    "invalid_auth",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "not_allowed_token_type",
    "no_permission",
    "org_login_required",
    "team_access_not_granted",
    "ekm_access_denied",
    "access_denied",
    "accesslimited",
    "metadata_must_be_sent_from_app",
];

/// The webhook itself is gone or switched off.
const OF_WEBHOOK: &[&str] =
    &["no_service", "no_service_id", "no_active_hooks", "no_team", "invalid_token", "action_prohibited"];

/// A person must mend the channel.
const OF_CHANNEL: &[&str] = &[
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "channel_is_archived",
    "restricted_action",
    "restricted_action_read_only_channel",
];

/// The message that is edited or replied to is not there, or cannot be.
const OF_PLACE: &[&str] = &[
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "thread_not_found",
    "cannot_reply_to_message",
    "restricted_action_thread_locked",
];

/// Slack's own trouble.
const OF_SERVICE: &[&str] = &[
    "ratelimited",
    "rate_limited",
    "message_limit_exceeded",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "rollup_error",
    "team_added_to_org",
];

/// Where a message stands: what its `external_id` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The channel's id as Slack answered it; updates take no name.
    pub(super) channel: String,
    pub(super) ts: String,
}

impl Place {
    /// Reads an `external_id`; `None` where it is none of Slack's.
    pub(super) fn read(external_id: &str) -> Option<Self> {
        let (channel, ts) = external_id.rsplit_once(':')?;
        Self::of(channel, ts)
    }

    pub(super) fn external_id(&self) -> Option<String> {
        Self::of(&self.channel, &self.ts).map(|place| format!("{}:{}", place.channel, place.ts))
    }

    /// Of a message that Slack took without saying where.
    pub(super) fn unknown() -> Self {
        Self { channel: String::new(), ts: "?".to_owned() }
    }

    /// Only what looks like Slack's names is stored and shown.
    fn of(channel: &str, ts: &str) -> Option<Self> {
        const LONGEST: usize = 64;
        let is_channel = !channel.is_empty() && channel.chars().all(|c| c.is_ascii_alphanumeric());
        let is_ts = !ts.is_empty() && ts.chars().all(|c| c.is_ascii_digit() || c == '.');
        let fits = channel.len() <= LONGEST && ts.len() <= LONGEST;
        (is_channel && is_ts && fits).then(|| Self { channel: channel.to_owned(), ts: ts.to_owned() })
    }
}

/// What the API took.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) place: Option<Place>,
}

/// What the API did not take.
#[derive(Debug)]
pub(super) struct Refusal {
    word: String,
    pub(super) error: DeliveryError,
}

impl Refusal {
    /// Whether it is about the message at `place` or its channel alone, so that a post into `configured` may still go.
    pub(super) fn is_of_place(&self, place: &Place, configured: &str) -> bool {
        let word = self.word.as_str();
        OF_PLACE.contains(&word) || (OF_CHANNEL.contains(&word) && place.channel != configured)
    }
}

impl From<DeliveryError> for Refusal {
    fn from(error: DeliveryError) -> Self {
        Self { word: String::new(), error }
    }
}

/// The answer of a method of the Web API.
pub(super) fn of_api(answer: &Answer, secrets: &[&str]) -> Result<Posted, Refusal> {
    let json = answer.json();
    if answer.status.as_u16() == 200 && json["ok"] == true {
        let text = |name: &str| json[name].as_str().unwrap_or_default();
        return Ok(Posted { place: Place::of(text("channel"), text("ts")) });
    }
    let Some(word) = json["error"].as_str() else {
        return Err(Refusal::from(without_word(answer, secrets, "is `api` the address of Slack's Web API?")));
    };
    let explained = json["response_metadata"]["messages"].as_array().into_iter().flatten();
    let explained = explained.filter_map(|text| text.as_str()).collect::<Vec<_>>().join("; ");
    let needed = json["needed"].as_str().map(|scope| format!("needed: {scope}")).unwrap_or_default();
    let explained = [explained, needed].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    let error = failure(answer, word, &explained, secrets);
    Err(Refusal { word: word.to_owned(), error })
}

/// The answer of an incoming webhook.
pub(super) fn of_webhook(answer: &Answer, secrets: &[&str]) -> Result<Delivered, DeliveryError> {
    let word = answer.body.trim();
    if answer.status.as_u16() == 200 && word == "ok" {
        return Ok(Delivered { answer: "200 OK: ok".to_owned(), external_id: None });
    }
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_word && answer.status.as_u16() != 200 {
        return Err(failure(answer, word, "", secrets));
    }
    Err(without_word(answer, secrets, "is the secret in `webhook` the webhook's whole URL?"))
}

/// What of a webhook's URL must not be shown: all of it, its path, and each part of the path that is no usual word.
pub(super) fn parts_of_webhook(webhook: &str, url: &Url) -> Vec<String> {
    let mut parts = vec![webhook.to_owned(), url.as_str().to_owned(), url.path().trim_matches('/').to_owned()];
    parts.push(parts[2].replace('/', "\\/"));
    parts.extend(url.query().map(ToOwned::to_owned));
    let segments = url.path_segments().into_iter().flatten().map(ToOwned::to_owned);
    parts.extend(segments.filter(|part| part.len() >= SHORTEST_SECRET_CHARS && part != "services"));
    parts.retain(|part| !part.is_empty());
    parts
}

fn failure(answer: &Answer, word: &str, explained: &str, secrets: &[&str]) -> DeliveryError {
    let colon = if explained.is_empty() { "" } else { ": " };
    let said = hidden(&format!("`{word}`{colon}{explained}"), secrets);
    let said = one_line(&said, MAX_SHOWN_CHARS);
    let reason = |hint: &str| format!("Slack answered {said}{}{hint}", if hint.is_empty() { "" } else { "; " });
    let unavailable = |hint: &str| DeliveryError::Unavailable { reason: reason(hint), after: answer.retry_after };
    match word {
        _ if OF_MESSAGE.contains(&word) => DeliveryError::Permanent { reason: reason("") },
        "missing_scope" => unavailable("give the bot the scope `chat:write` and install its app anew"),
        _ if OF_CREDENTIALS.contains(&word) => unavailable("put a valid token of the bot into the secret in `token`"),
        _ if OF_WEBHOOK.contains(&word) => {
            unavailable("make a new incoming webhook and put its URL into the secret in `webhook`")
        }
        _ if OF_CHANNEL.contains(&word) => unavailable("does the channel exist, and is the bot or webhook in it?"),
        _ if OF_SERVICE.contains(&word) => unavailable(""),
        _ if OF_PLACE.contains(&word) => DeliveryError::Retry { reason: reason(""), after: None },
        _ => match answer.status.as_u16() {
            401 | 403 | 404 | 407 | 410 => unavailable("is the channel's `url` still valid?"),
            408 | 429 | 500.. => unavailable(""),
            _ => DeliveryError::Retry { reason: reason(""), after: answer.retry_after },
        },
    }
}

/// No answer that Slack would give: by its status, and never for good, since something else may have answered.
fn without_word(answer: &Answer, secrets: &[&str], hint: &str) -> DeliveryError {
    let after = answer.retry_after;
    match answer.failure(secrets) {
        DeliveryError::Unavailable { reason, after } if answer.status.as_u16() != 403 => {
            DeliveryError::Unavailable { reason, after }
        }
        DeliveryError::Unavailable { reason, .. }
        | DeliveryError::Retry { reason, .. }
        | DeliveryError::Permanent { reason } => {
            DeliveryError::Unavailable { reason: format!("{reason}; {hint}"), after }
        }
    }
}

fn hidden(text: &str, secrets: &[&str]) -> String {
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}
