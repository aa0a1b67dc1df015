//! Discord: messages into a channel, over a webhook of it.
//!
//! Protocol: POST to the webhook's URL with `?wait=true`, which answers with the message; PATCH `/messages/{id}` below it
//! edits one (docs.discord.com/developers/resources/webhook). The text stands in a code block of an embed: nothing of it
//! is taken for markup, and `allowed_mentions` lets nothing of it call anybody.
//!
//! It is not idempotent: webhooks take no nonce. It fails as [`super::http`] tells; a webhook, channel or thread that is
//! gone is a person's to mend. Limits: 4,096 characters of text, beyond which it is cut; webhooks cannot reply.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::SecondsFormat;
use reqwest::Url;
use serde_json::{Value, json};
use watchbell_contract::{ConfigFaults, Secret, Severity};

use super::brief::brief;
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::hook::Hook;
use super::http::{self, Answer};
use super::url::ChannelUrl;
use super::wording;
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// Of an embed's description. Counted in UTF-16 code units, which are never fewer than Discord's characters.
const MAX_DESCRIPTION_UNITS: usize = 4_096;
const FENCE_OPENS: &str = "```\n";
const FENCE_CLOSES: &str = "\n```";
const HOOK_HINT: &str = "copy the webhook's URL in Discord: the channel's settings, Integrations, Webhooks";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "discord",
    other_names: &[],
    delivers: "Messages into a Discord channel, over one of its webhooks; repetition is edited into the first message.",
    address: None,
    options: &[ChannelOption::required(
        "webhook",
        "the webhook's whole URL; with `?thread_id=<number>` at its end it posts into that thread",
    )
    .secret()],
    examples: &["discord:#webhook=${env:WATCHBELL_SECRET_DISCORD}"],
    doubles: "Not idempotent: a crash between Discord's answer and our commit shows a message twice. An edit \
              may be repeated unseen.",
    limits: "4,096 characters of text, beyond which it is cut. A webhook cannot reply: reminders and recoveries are \
             messages of their own. About 30 messages a minute a webhook. It calls nobody (`@everyone` in a text stays text).",
    open,
};

struct Discord {
    http: reqwest::Client,
    webhook: Secret,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Discord {
        http: http::client(settings)?,
        webhook: url.required_secret("webhook"),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Discord {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let hook = Hook::reveal(&self.webhook, HOOK_HINT).await?;
        let body = body(message, wording::link(message, self.public_url.as_deref()));
        if let Some(id) = message.edits_external_id.as_deref().filter(|id| is_id(id)) {
            let answer = http::send(self.http.patch(message_url(&hook.url, id)).json(&body)).await?;
            // Somebody deleted it: what is new must still be told.
            if answer.json()["code"] != UNKNOWN_MESSAGE {
                return delivered(&answer, &hook);
            }
        }
        let mut url = hook.url.clone();
        url.query_pairs_mut().append_pair("wait", "true");
        delivered(&http::send(self.http.post(url).json(&body)).await?, &hook)
    }

    fn describe(&self) -> String {
        "a Discord webhook".to_owned()
    }

    fn can_edit(&self) -> bool {
        true
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The query stays: a message in a thread is found only with its `thread_id`.
fn message_url(webhook: &Url, id: &str) -> Url {
    let mut url = webhook.clone();
    url.set_path(&format!("{}/messages/{id}", webhook.path().trim_end_matches('/')));
    url
}

/// `content` is what a telephone shows; the embed says the rest.
fn body(row: &OutboxRow, link: Option<String>) -> Value {
    let at = row.facts.at.unwrap_or(row.created_at);
    let mut embed = json!({
        "description": fenced(row),
        "color": color(row),
        "timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    if let Some(link) = link {
        embed["title"] = "Open the monitor".into();
        embed["url"] = link.into();
    }
    json!({
        "content": format!("{} {}", wording::emoji(row), escape(&wording::heading(row))),
        "embeds": [embed],
        "allowed_mentions": { "parse": [] },
    })
}

/// The text in a code block: as the child wrote it, whatever means something to Discord.
fn fenced(row: &OutboxRow) -> String {
    let budget = MAX_DESCRIPTION_UNITS - FENCE_OPENS.len() - FENCE_CLOSES.len();
    // A backtick may get a companion that keeps it from closing the block.
    let text = brief(row, budget, |character| if character == '`' { 2 } else { character.len_utf16() });
    format!("{FENCE_OPENS}{}{FENCE_CLOSES}", text.replace("``", "`\u{200b}`"))
}

/// Without what Discord takes for markup. A heading has at most 200 characters; doubled, it is far below the 2,000 of
/// `content`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '#' | '@') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn color(row: &OutboxRow) -> u32 {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery, _) => 0x2e_cc_71,
        (_, Severity::Critical) => 0xe7_4c_3c,
        (_, Severity::Warning) => 0xf1_c4_0f,
        (_, Severity::Info) => 0x34_98_db,
    }
}

const UNKNOWN_MESSAGE: u64 = 10_008;

fn delivered(answer: &Answer, hook: &Hook) -> Result<Delivered, DeliveryError> {
    let body = answer.json();
    match (answer.status.as_u16(), body["id"].as_str()) {
        (200, Some(id)) => Ok(Delivered { answer: answer.status.to_string(), external_id: Some(id.to_owned()) }),
        _ => Err(failure(answer, &body, &hook.secrets())),
    }
}

fn failure(answer: &Answer, body: &Value, secrets: &[&str]) -> DeliveryError {
    let shown = answer.shown(secrets);
    let mendable = |hint: &str| DeliveryError::Unavailable {
        reason: format!("discord answered {shown} (hint: {hint})"),
        after: None,
    };
    match (answer.status.as_u16(), body["code"].as_u64()) {
        (_, Some(10_003)) => {
            mendable("the webhook's channel or thread is gone; check `thread_id` in the webhook's URL")
        }
        (_, Some(50_083 | 160_005)) => mendable("the thread is archived or locked; open it, or take another"),
        (400, Some(220_001 | 220_003)) => mendable(
            "a forum's or another channel's webhook: add `?thread_id=<number>` of a thread in a forum, none elsewhere",
        ),
        (401 | 403 | 404 | 405, _) => mendable(&format!("the webhook was deleted or its URL is wrong; {HOOK_HINT}")),
        (429, _) => DeliveryError::Unavailable {
            reason: format!("discord answered {shown}"),
            after: body["retry_after"]
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(|asked| asked.min(http::LONGEST_RETRY_AFTER))
                .or(answer.retry_after),
        },
        (200..=299, _) => mendable(&format!("this is no answer of a Discord webhook; {HOOK_HINT}")),
        _ => answer.failure(secrets),
    }
}
