//! ntfy: push messages to telephones, over ntfy.sh or a server of one's own.
//!
//! Protocol: a POST of JSON to the server's root (docs.ntfy.sh/publish, "Publish as JSON"); the topic is the last part of
//! the address's path. A topic is as good as a password, so it is hidden like one.
//!
//! The notification's uuid is the message's `sequence_id`: from version 2.16 on, a server shows what comes again in the
//! place of the first. Older ones pass over it, which is why nothing is edited here.
//!
//! It fails as [`super::http`] tells; a server, topic or token that is refused is a person's to mend (the error's `code`:
//! ntfy's `server/errors.go`).
//! Limits: what is longer than 4,000 bytes is cut.

use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use reqwest::header::AUTHORIZATION;
use serde_json::json;
use watchbell_contract::{ConfigFaults, Secret, Severity};

use super::brief::{brief, json_bytes};
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::http::{self, Answer};
use super::url::{Address, ChannelUrl};
use super::wording;
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// As JSON. The server makes an attachment of 4,096 bytes and more, takes 8,192 bytes of JSON in all, and sends no more
/// than 4,000 on to a telephone. From 2.28 on a title has 1,024 bytes, which a heading never reaches.
const MAX_TEXT_BYTES: usize = 4_000;

pub(super) static TYPE: ChannelType = ChannelType {
    name: "ntfy",
    other_names: &[],
    delivers: "Push messages to a topic of ntfy.sh or of a server of one's own. Critical ones come with the highest \
               priority; good news and severity `info` make no sound.",
    address: Some("`https://server/topic`"),
    options: &[ChannelOption::optional("token", "none", "an access token of the server").secret()],
    examples: &[
        "ntfy+https://ntfy.sh/our-secret-topic",
        "ntfy+https://ntfy.example.com/ops#token=${env:WATCHBELL_SECRET_NTFY}",
    ],
    doubles: "A server from 2.16 on shows a message that is sent again in the place of the first. With an older one, a \
              crash between its answer and our commit shows a message twice.",
    limits: "Text beyond 4,000 bytes is cut. No replies and no edits: each message is one of its own. ntfy.sh limits how \
             many messages a day it takes for free.",
    open,
};

struct Ntfy {
    http: reqwest::Client,
    address: Address,
    shown: String,
    token: Option<Secret>,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Ntfy {
        http: http::client(settings)?,
        address: url.address(),
        shown: url.shown_address(),
        token: url.secret("token"),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Ntfy {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let (server, topic) = self.server_and_topic().await?;
        let body = json!({
            "topic": topic,
            "sequence_id": super::mime::token(&message.uuid),
            "title": format!("{} {}", wording::emoji(message), wording::heading(message)),
            "message": text(message),
            "priority": priority(message),
            "tags": [message.severity.as_str(), message.notification_type.as_str()],
            "click": wording::link(message, self.public_url.as_deref()),
        });
        let token = match &self.token {
            Some(token) => Some(token.reveal().await.map_err(http::secret_failure)?.as_str().trim().to_owned()),
            None => None,
        };
        if token.is_some() && (server.password().is_some() || !server.username().is_empty()) {
            return Err(mendable("the channel's `url` holds a user and a `token` (hint: keep one of them)".to_owned()));
        }
        let password = server.password().map(ToOwned::to_owned);
        let mut request = self.http.post(server).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let secrets = secrets(&request, password, topic);
        let answer = http::send(request).await?;
        let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
        match (answer.status.as_u16(), answer.json()["id"].as_str()) {
            (200, Some(id)) => Ok(Delivered { answer: answer.status.to_string(), external_id: Some(id.to_owned()) }),
            _ => Err(failure(&answer, &secrets)),
        }
    }

    fn describe(&self) -> String {
        format!("ntfy at {}", self.shown)
    }
}

impl Ntfy {
    async fn server_and_topic(&self) -> Result<(reqwest::Url, String), DeliveryError> {
        let address = self.address.reveal().await.map_err(http::secret_failure)?;
        let wrong = || mendable("the channel's `url` must be `ntfy+https://server/topic`".to_owned());
        let mut server = reqwest::Url::parse(&address).map_err(|_| wrong())?;
        let topic = server.path().trim_matches('/').to_owned();
        if topic.is_empty() || topic.contains('/') {
            return Err(wrong());
        }
        server.set_path("/");
        Ok((server, topic))
    }
}

/// 5 is the most urgent; what is good news makes no sound in the night.
fn priority(row: &OutboxRow) -> u8 {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery | NotificationType::SelfTest, _) | (_, Severity::Info) => 2,
        (_, Severity::Warning) => 3,
        (_, Severity::Critical) => 5,
    }
}

/// Never empty: the server would put `triggered` in its place.
fn text(row: &OutboxRow) -> String {
    let text = brief(row, MAX_TEXT_BYTES, json_bytes);
    if text.is_empty() { wording::heading(row) } else { text }
}

/// What the server may repeat: the login or token as it is sent, the password as it was written and as it was meant, and
/// the topic. The topic comes last: it may be a part of the others.
fn secrets(request: &reqwest::RequestBuilder, password: Option<String>, topic: String) -> Vec<String> {
    let sent = request.try_clone().and_then(|request| request.build().ok());
    let login = sent.as_ref().and_then(|sent| sent.headers().get(AUTHORIZATION)?.to_str().ok());
    let login = login.and_then(|login| login.split(' ').nth(1)).map(ToOwned::to_owned);
    let decoded = password.as_deref().map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
    [login, password, decoded, Some(topic)].into_iter().flatten().collect()
}

fn mendable(reason: String) -> DeliveryError {
    DeliveryError::Unavailable { reason, after: None }
}

fn failure(answer: &Answer, secrets: &[&str]) -> DeliveryError {
    let hint = match (answer.status.as_u16(), answer.json()["code"].as_u64()) {
        (400, Some(40_009 | 40_010)) => "this server takes no such topic: letters, digits, `_` and `-`, at most 64",
        (401 | 403, _) => "the topic is closed to this user or `token`; check both on the server",
        (404 | 405, _) => "check the address: the topic must be all of its path",
        (200..=299, _) => "this is no answer of an ntfy server; check the address",
        _ => return answer.failure(secrets),
    };
    mendable(format!("ntfy answered {} (hint: {hint})", answer.shown(secrets)))
}
