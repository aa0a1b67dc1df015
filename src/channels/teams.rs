//! Microsoft Teams: cards into a channel or chat, over a workflow's webhook.
//!
//! Protocol: POST of a message with one Adaptive Card to the URL of a workflow that begins with "When a Teams webhook
//! request is received" (learn.microsoft.com, "Create incoming webhooks with Workflows"); it answers `202` and posts
//! afterwards. The older connectors take the same body and answer `200` with `1`, or `200` with an error in words, which
//! is an error here. The text stands in `RichTextBlock`s, which know no Markdown: it is shown as it is.
//!
//! It is not idempotent. It fails as [`super::http`] tells; a workflow that is gone, switched off or of another kind is a
//! person's to mend. Limits: the text is cut so that the whole stays below what Teams takes; no replies, no edits.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use watchbell_contract::{ConfigFaults, Secret, Severity};

use super::brief::{brief, json_bytes};
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::hook::Hook;
use super::http::{self, Answer};
use super::url::ChannelUrl;
use super::wording;
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// Of the text, as JSON. Teams takes about 28 KB a message, but connectors were seen to refuse from 14 KB on, since they
/// count two bytes a character; what stands around the text stays below the rest.
const MAX_TEXT_BYTES: usize = 9_000;
/// What each line of the text costs beside itself: a block of its own.
const LINE_BYTES: usize = 96;
const HOOK_HINT: &str = "copy the URL in Teams: the channel's Workflows, `When a Teams webhook request is received`";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "teams",
    other_names: &[],
    delivers: "Cards into a Microsoft Teams channel or chat, over the webhook of a workflow.",
    address: None,
    options: &[ChannelOption::required(
        "webhook",
        "the whole URL of a workflow that begins with `When a Teams webhook request is received`",
    )
    .secret()],
    examples: &["teams:#webhook=${env:WATCHBELL_SECRET_TEAMS}"],
    doubles: "Not idempotent: a crash between the answer and our commit shows a card twice.",
    limits: "Text beyond about 9,000 bytes is cut. No replies and no edits: each message is a card of its own. A workflow's \
             `202` says that it was started; a card that it then cannot post is seen only in the workflow's run history. At \
             most 4 requests a second.",
    open,
};

struct Teams {
    http: reqwest::Client,
    webhook: Secret,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Teams {
        http: http::client(settings)?,
        webhook: url.required_secret("webhook"),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Teams {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let hook = Hook::reveal(&self.webhook, HOOK_HINT).await?;
        let body = body(message, wording::link(message, self.public_url.as_deref()));
        // Without the charset, connectors take the bytes for something else and count them twice.
        let request = self.http.post(hook.url.clone()).header(CONTENT_TYPE, "application/json; charset=utf-8");
        let answer = http::send(request.json(&body)).await?;
        match refusal(&answer, &hook.secrets()) {
            None => Ok(Delivered { answer: answer.status.to_string(), external_id: None }),
            Some(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        "a Microsoft Teams webhook".to_owned()
    }
}

fn body(row: &OutboxRow, link: Option<String>) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card(row, link),
        }],
    })
}

fn card(row: &OutboxRow, link: Option<String>) -> Value {
    let heading = format!("{} {}", wording::emoji(row), wording::heading(row));
    let mut blocks = vec![json!({
        "type": "Container",
        "style": style(row),
        "bleed": true,
        "items": [run(&heading, json!({ "weight": "Bolder", "size": "Medium" }))],
    })];
    let text = brief(row, MAX_TEXT_BYTES, card_bytes);
    blocks.extend(text.lines().map(|line| with_spacing(run(line, json!({})))));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": heading,
        "msteams": { "width": "Full" },
        "body": blocks,
    });
    if let Some(link) = link {
        card["actions"] = json!([{ "type": "Action.OpenUrl", "title": "Open the monitor", "url": link }]);
    }
    card
}

/// One line of plain text. A block without any text is refused, so an empty line is a space.
fn run(line: &str, look: Value) -> Value {
    let mut run = look;
    run["type"] = "TextRun".into();
    run["text"] = if line.is_empty() { " " } else { line }.into();
    json!({ "type": "RichTextBlock", "inlines": [run] })
}

fn with_spacing(mut block: Value) -> Value {
    block["spacing"] = "None".into();
    block
}

/// Each line is a block of its own.
fn card_bytes(character: char) -> usize {
    if character == '\n' { LINE_BYTES } else { json_bytes(character) }
}

fn style(row: &OutboxRow) -> &'static str {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery, _) => "good",
        (_, Severity::Critical) => "attention",
        (_, Severity::Warning) => "warning",
        (_, Severity::Info) => "accent",
    }
}

/// What kind of failure the answer is, if any.
fn refusal(answer: &Answer, secrets: &[&str]) -> Option<DeliveryError> {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    let status = match answer.status.as_u16() {
        200 | 202 if !speaks_of_failure(&answer.body) => return None,
        // A connector's failure in words; `500` stands for one that names no status.
        200..=299 => status_in_words(&answer.body).unwrap_or(500),
        status => status,
    };
    let reason = format!("teams answered {}", answer.shown(secrets));
    Some(match status {
        401 | 403 | 404 | 405 | 410 => mendable(&reason, "the webhook was removed, or its URL is wrong"),
        400 if answer.body.to_lowercase().contains("webhook url") => mendable(&reason, "its URL is wrong"),
        400 if code == "RequestEntityTooLarge" => DeliveryError::Permanent { reason },
        400 if !code.is_empty() => mendable(&reason, "the workflow is switched off, or begins with another trigger"),
        300..=399 => answer.failure(secrets),
        408 | 425 | 429 | 500.. => DeliveryError::Unavailable { reason, after: answer.retry_after },
        _ => DeliveryError::Permanent { reason },
    })
}

fn mendable(reason: &str, hint: &str) -> DeliveryError {
    DeliveryError::Unavailable { reason: format!("{reason} (hint: {hint}; {HOOK_HINT})"), after: None }
}

/// Whether the body of a success is none: connectors answer `1`, workflows nothing, and a page is no webhook's.
fn speaks_of_failure(body: &str) -> bool {
    let body = body.trim().to_lowercase();
    body.starts_with('<') || ["error", "failed", "failure"].iter().any(|word| body.contains(word))
}

/// The `429` of `Microsoft Teams endpoint returned HTTP error 429 with ContextId ...`.
fn status_in_words(body: &str) -> Option<u16> {
    let after = body.split_once("HTTP error ")?.1;
    after.get(..3)?.parse().ok()
}
