//! Telegram: messages of a bot to a person, a group or a channel, over the Bot API.
//!
//! Protocol: POST `/bot<token>/sendMessage` and `/bot<token>/editMessageText` as JSON, with `parse_mode` HTML
//! (core.telegram.org/bots/api). What is repeated is edited into the first message, and what follows within an incident
//! replies to its first message.
//!
//! It is not idempotent: the Bot API knows no key. It fails as [`super::http`] tells, but for `400`, which Telegram also
//! uses for rooms that are gone; these are told apart by `description`, the one thing that the Bot API offers for it.
//! Limits: 4,096 UTF-16 code units after the markup is read; what is longer is cut.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Value, json};
use watchbell_contract::{ConfigFaults, Secret, Severity};

use super::brief::brief;
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::html::escape;
use super::http::{self, Answer};
use super::url::ChannelUrl;
use super::wording;
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// Of a message, in UTF-16 code units, markup not counted.
const MAX_TEXT_UNITS: usize = 4_096;
const OFFICIAL_API: &str = "https://api.telegram.org";
const LINK_TEXT: &str = "Open the monitor";
/// Between the heading and the text, and between the text and the link.
const BREAK: &str = "\n\n";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "telegram",
    other_names: &[],
    delivers: "Messages of a Telegram bot to a person, a group or a channel; what follows in an incident replies to its \
               first message, and repetition is edited into it. Good news and severity `info` make no sound.",
    address: None,
    options: &[
        ChannelOption::required("token", "the bot's token, from @BotFather").secret(),
        ChannelOption::required("chat_id", "the chat's number (groups and channels: negative) or a channel's `@name`"),
        ChannelOption::optional("thread_id", "none", "the number of a topic in a group with topics"),
        ChannelOption::optional("api", OFFICIAL_API, "the address of a Bot API server of one's own"),
    ],
    examples: &[
        "telegram:#token=${env:WATCHBELL_SECRET_TELEGRAM}&chat_id=-1001234567890",
        "telegram:#token=${env:WATCHBELL_SECRET_TELEGRAM}&chat_id=@our_alerts",
        "telegram:#token=${env:WATCHBELL_SECRET_TELEGRAM}&chat_id=-1001234567890&thread_id=42",
    ],
    doubles: "Not idempotent: a crash between Telegram's answer and our commit shows a message twice. An edit \
              may be repeated unseen.",
    limits: "4,096 UTF-16 code units a message, beyond which it is cut. About 20 messages a minute into one group.",
    open,
};

struct Telegram {
    http: reqwest::Client,
    api: String,
    token: Secret,
    chat_id: Value,
    chat_shown: String,
    thread_id: Option<i64>,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let chat = url.required_text("chat_id");
    let channel = Telegram {
        http: http::client(settings)?,
        api: api(&mut url),
        token: url.required_secret("token"),
        chat_id: chat_id(&mut url, &chat),
        chat_shown: chat,
        thread_id: thread_id(&mut url),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

fn api(url: &mut ChannelUrl) -> String {
    let api = url.text("api").unwrap_or_else(|| OFFICIAL_API.to_owned());
    let is_web = Url::parse(&api).is_ok_and(|api| {
        matches!(api.scheme(), "https" | "http") && api.has_host() && api.query().is_none() && api.fragment().is_none()
    });
    if !is_web {
        url.fault("api", "is no web address", Some(format!("leave it out for `{OFFICIAL_API}`")));
    }
    api.trim_end_matches('/').to_owned()
}

fn chat_id(url: &mut ChannelUrl, text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if !text.is_empty() && (text.len() < 2 || !text.starts_with('@')) {
        let hint = "a number such as `-1001234567890`, or a channel's `@name`";
        url.fault("chat_id", "is neither a number nor a name", Some(hint.to_owned()));
    }
    text.into()
}

fn thread_id(url: &mut ChannelUrl) -> Option<i64> {
    let text = url.text("thread_id")?;
    let number = text.parse::<i64>().ok().filter(|number| *number > 0);
    if number.is_none() {
        url.fault("thread_id", "expected a number above 0", Some("leave it out for the group itself".to_owned()));
    }
    number
}

#[async_trait]
impl Channel for Telegram {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let token = self.token.reveal().await.map_err(http::secret_failure)?;
        let token = token.as_str().trim();
        check_shape(token)?;
        let content = self.content(message);
        if let Some(id) = message.edits_external_id.as_deref().and_then(|id| id.parse::<i64>().ok()) {
            let answer = self.call(token, "editMessageText", with(content.clone(), "message_id", id.into())).await?;
            if says(&answer, &["message is not modified"]) {
                return Ok(Delivered { answer: "unchanged".to_owned(), external_id: Some(id.to_string()) });
            }
            // Somebody deleted it, or it is too old: what is new must still be told.
            if !says(&answer, &["message to edit not found", "message can't be edited", "MESSAGE_ID_INVALID"]) {
                return delivered(&answer, token);
            }
        }
        delivered(&self.call(token, "sendMessage", self.as_new(content, message)).await?, token)
    }

    fn describe(&self) -> String {
        format!("Telegram chat {}", self.chat_shown)
    }

    fn can_edit(&self) -> bool {
        true
    }
}

impl Telegram {
    async fn call(&self, token: &str, method: &str, body: Value) -> Result<Answer, DeliveryError> {
        http::send(self.http.post(format!("{}/bot{token}/{method}", self.api)).json(&body)).await
    }

    /// What a new message and an edited one have in common.
    fn content(&self, row: &OutboxRow) -> Value {
        json!({
            "chat_id": self.chat_id,
            "text": html(row, wording::link(row, self.public_url.as_deref()).as_deref()),
            "parse_mode": "HTML",
            "link_preview_options": { "is_disabled": true },
        })
    }

    fn as_new(&self, content: Value, row: &OutboxRow) -> Value {
        let mut body = with(content, "disable_notification", is_quiet(row).into());
        if let Some(thread) = self.thread_id {
            body = with(body, "message_thread_id", thread.into());
        }
        if let Some(first) = row.thread_external_id.as_deref().and_then(|id| id.parse::<i64>().ok()) {
            let reply = json!({ "message_id": first, "allow_sending_without_reply": true });
            body = with(body, "reply_parameters", reply);
        }
        body
    }
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

/// The token becomes a part of a path: anything but a token's characters would lead somewhere else.
fn check_shape(token: &str) -> Result<(), DeliveryError> {
    let is_token = token.split_once(':').is_some_and(|(bot, key)| {
        !bot.is_empty()
            && bot.bytes().all(|byte| byte.is_ascii_digit())
            && !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    });
    if is_token {
        return Ok(());
    }
    let reason = "the option `token` of the channel's `url` is no bot token (hint: @BotFather gives one, such as \
                  `123456:ABC-DEF`)";
    Err(DeliveryError::Unavailable { reason: reason.to_owned(), after: None })
}

/// The message as HTML. It is cut before it is escaped: neither an entity nor a tag is ever halved.
fn html(row: &OutboxRow, link: Option<&str>) -> String {
    let heading = format!("{} {}", wording::emoji(row), wording::heading(row));
    let link_units = if link.is_some() { BREAK.len() + LINK_TEXT.len() } else { 0 };
    let taken = heading.encode_utf16().count() + BREAK.len() + link_units;
    let text = brief(row, MAX_TEXT_UNITS.saturating_sub(taken), char::len_utf16);
    let mut html = format!("<b>{}</b>", escape(&heading));
    if !text.is_empty() {
        html.push_str(BREAK);
        html.push_str(&escape(&text));
    }
    if let Some(link) = link {
        html.push_str(&format!("{BREAK}<a href=\"{}\">{LINK_TEXT}</a>", escape(link)));
    }
    html
}

/// Good news makes no sound in the night.
fn is_quiet(row: &OutboxRow) -> bool {
    matches!(row.notification_type, NotificationType::Recovery | NotificationType::SelfTest)
        || row.severity == Severity::Info
}

fn delivered(answer: &Answer, token: &str) -> Result<Delivered, DeliveryError> {
    let body = answer.json();
    match (body["ok"].as_bool(), body["result"]["message_id"].as_i64()) {
        (Some(true), Some(id)) if answer.status.is_success() => {
            Ok(Delivered { answer: answer.status.to_string(), external_id: Some(id.to_string()) })
        }
        _ => Err(failure(answer, &body, token)),
    }
}

fn failure(answer: &Answer, body: &Value, token: &str) -> DeliveryError {
    let key = token.split_once(':').map_or(token, |(_, key)| key);
    let shown = match body["description"].as_str() {
        Some(description) => Answer { body: description.to_owned(), ..answer.clone() }.shown(&[token, key]),
        None => answer.shown(&[token, key]),
    };
    let mendable = |hint: &str| DeliveryError::Unavailable {
        reason: format!("telegram answered {shown} (hint: {hint})"),
        after: None,
    };
    if let Some(chat) = body["parameters"]["migrate_to_chat_id"].as_i64() {
        return mendable(&format!("the group became a supergroup; write `chat_id={chat}` into the channel's `url`"));
    }
    let code = body["error_code"].as_u64().unwrap_or_else(|| answer.status.as_u16().into());
    match code {
        401 | 404 => mendable("the bot's token is wrong or was revoked; @BotFather gives a new one"),
        403 => mendable("the bot was removed or blocked, or may not write; a person must let it in"),
        400 if says(answer, ROOM_TROUBLE) => {
            mendable("check `chat_id` and `thread_id`, and that the bot may write there")
        }
        400 | 413 => DeliveryError::Permanent { reason: format!("telegram answered {shown}") },
        429 | 500.. => DeliveryError::Unavailable {
            reason: format!("telegram answered {shown}"),
            after: body["parameters"]["retry_after"]
                .as_u64()
                .map(|seconds| Duration::from_secs(seconds).min(http::LONGEST_RETRY_AFTER))
                .or(answer.retry_after),
        },
        _ if answer.status.is_success() => mendable("this is no answer of the Bot API; check the option `api`"),
        _ => answer.failure(&[token, key]),
    }
}

/// Words of `400` that are about the room, not about the message.
const ROOM_TROUBLE: &[&str] = &[
    "chat not found",
    "group chat was upgraded",
    "migrated to",
    "deactivated",
    "user not found",
    "PEER_ID_INVALID",
    "CHAT_ID_INVALID",
    "message thread not found",
    "TOPIC_CLOSED",
    "TOPIC_DELETED",
    "not enough rights",
    "no rights to send",
    "need administrator rights",
    "CHAT_WRITE_FORBIDDEN",
    "CHAT_RESTRICTED",
    "CHAT_ADMIN_REQUIRED",
];

/// Whether it is a refusal whose description holds one of the words.
fn says(answer: &Answer, words: &[&str]) -> bool {
    let body = answer.json();
    let description = body["description"].as_str().unwrap_or_default().to_lowercase();
    body["ok"] == Value::Bool(false) && words.iter().any(|word| description.contains(&word.to_lowercase()))
}
