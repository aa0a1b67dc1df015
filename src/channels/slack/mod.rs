//! Slack: messages in a channel of a workspace, by an incoming webhook or by a bot.
//!
//! Protocol: an incoming webhook takes a POST of JSON and answers `200` with the body `ok`
//! (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks). A bot uses the Web API
//! (docs.slack.dev/reference/methods/chat.postMessage and `chat.update`) with a Bearer token; there, errors come as
//! `200` with `{"ok":false,"error":".."}`.
//!
//! Idempotency: Slack has no key for it. A post can double; an update cannot, since it sets a message to what it shall
//! say. The notification's `uuid` stands in the message's `metadata` (`watchbell_notification`, `id`), by which a
//! program that may read the channel tells a double.
//!
//! With a bot, reminders and the recovery are replies in the thread of the incident's first message, and that one is
//! updated afterwards to show how things stand. The reply is what counts: once it is posted the notification is sent,
//! even where the update fails (trying again would double the reply); the answer in the ledger says so.
//!
//! It fails as [`answer`] tells. A message that cannot be edited or replied to (somebody deleted it, or the bot is not
//! in that channel any more) is no reason to lose a notification: it is posted into the channel of the URL instead.

mod answer;
mod message;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Value, json};
use watchbell_contract::{ConfigFaults, Secret};

use self::answer::{Place, Posted, Refusal};
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::http;
use super::url::ChannelUrl;
use crate::domain::{NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

const API: &str = "https://slack.com/api";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "slack",
    other_names: &[],
    delivers: "Messages to a Slack channel: by an incoming webhook (`webhook`), or by a bot (`token` and `channel`). With \
               a bot, reminders and the recovery go into the thread of the incident's first message, and that one is \
               updated to show how things stand.",
    address: None,
    options: &[
        ChannelOption::optional(
            "webhook",
            "none",
            "the incoming webhook's whole URL; instead of `token` and `channel`",
        )
        .secret(),
        ChannelOption::optional("token", "none", "the bot's token (`xoxb-...`), with the scope `chat:write`").secret(),
        ChannelOption::optional("channel", "none", "with `token`: the channel's id; the bot must be a member"),
        ChannelOption::optional("api", API, "with `token`: where the Web API is"),
    ],
    examples: &[
        "slack:#webhook=${env:WATCHBELL_SECRET_SLACK_HOOK}",
        "slack:#token=${env:WATCHBELL_SECRET_SLACK_TOKEN}&channel=C0123456789",
    ],
    doubles: "Not idempotent: a crash or a lost answer between Slack's taking a post and our commit shows that message \
              twice; both copies have the notification's `uuid` in their metadata (bot only). Updates do not double.",
    limits: "The child's message is cut at 3,000 characters. A webhook cannot reply in threads or edit. With a bot, a \
             failed update of the first message is not tried again once the reply is posted.",
    open,
};

struct Slack {
    http: reqwest::Client,
    way: Way,
    public_url: Option<String>,
}

enum Way {
    Webhook(Secret),
    Bot(Bot),
}

struct Bot {
    token: Secret,
    /// As the URL says it: an id, or a name.
    channel: String,
    api: String,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let way = way(&mut url);
    let channel = Slack { http: http::client(settings)?, way, public_url: settings.public_url.clone() };
    Ok(url.finish(channel)?)
}

fn way(url: &mut ChannelUrl) -> Way {
    let example = |at: usize| TYPE.examples.get(at).map(|example| format!("for example `{example}`"));
    if url.has("webhook") {
        for name in ["token", "channel", "api"].into_iter().filter(|name| url.has(name)).collect::<Vec<_>>() {
            url.fault(name, "belongs to a bot, and `webhook` is given", Some("leave out one of the two".to_owned()));
        }
        return Way::Webhook(url.required_secret("webhook"));
    }
    if !url.has("token") && !url.has("channel") {
        url.fault("url", "`webhook`, or `token` and `channel`, is required", example(0));
        return Way::Webhook(Secret::literal(""));
    }
    for name in ["token", "channel"] {
        if !url.has(name) {
            url.fault(name, "is required for a bot", example(1));
        }
    }
    let channel = url.text("channel").unwrap_or_default().trim().to_owned();
    if url.has("channel") && (channel.is_empty() || channel.contains(char::is_whitespace)) {
        url.fault("channel", "expected the id of a channel", example(1));
    }
    let api = url.text("api").unwrap_or_else(|| API.to_owned()).trim_end_matches('/').to_owned();
    if !Url::parse(&api).is_ok_and(|api| matches!(api.scheme(), "http" | "https") && api.has_host()) {
        url.fault("api", "expected an address", Some(format!("for example `{API}`")));
    }
    Way::Bot(Bot { token: url.secret("token").unwrap_or_else(|| Secret::literal("")), channel, api })
}

#[async_trait]
impl Channel for Slack {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let content = message::content(message, self.public_url.as_deref());
        match &self.way {
            Way::Webhook(webhook) => self.deliver_by_webhook(webhook, &content).await,
            Way::Bot(bot) => {
                let token = bot.token.reveal().await.map_err(http::secret_failure)?;
                Session { http: &self.http, bot, token: token.as_str().trim() }.deliver(message, content).await
            }
        }
    }

    fn describe(&self) -> String {
        match &self.way {
            Way::Webhook(_) => "Slack, by an incoming webhook".to_owned(),
            Way::Bot(bot) if bot.api == API => format!("Slack channel `{}`, by a bot", bot.channel),
            Way::Bot(bot) => {
                let host = Url::parse(&bot.api).ok().and_then(|api| api.host_str().map(ToOwned::to_owned));
                format!("Slack channel `{}` at {}, by a bot", bot.channel, host.unwrap_or_default())
            }
        }
    }

    fn can_edit(&self) -> bool {
        matches!(self.way, Way::Bot(_))
    }
}

impl Slack {
    async fn deliver_by_webhook(&self, webhook: &Secret, content: &Value) -> Result<Delivered, DeliveryError> {
        let webhook = webhook.reveal().await.map_err(http::secret_failure)?;
        let webhook = webhook.as_str().trim();
        let Some(url) = Url::parse(webhook).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
            return Err(DeliveryError::Unavailable {
                reason: "the secret in `webhook` is no address; it is the whole URL that Slack shows for the webhook"
                    .to_owned(),
                after: None,
            });
        };
        let secrets = answer::parts_of_webhook(webhook, &url);
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let reply = http::send(self.http.post(url).json(content)).await?;
        answer::of_webhook(&reply, &secrets)
    }
}

/// One delivery by a bot.
struct Session<'a> {
    http: &'a reqwest::Client,
    bot: &'a Bot,
    token: &'a str,
}

impl Session<'_> {
    async fn deliver(&self, message: &OutboxRow, content: Value) -> Result<Delivered, DeliveryError> {
        let posts_anew = match message.edits_external_id.as_deref().map(Place::read) {
            None => None,
            Some(None) => Some("the message to edit is not one of Slack's"),
            Some(Some(place)) => match self.update(&place, &content, &message.uuid).await {
                Ok(()) => return Ok(delivered(&place, format!("200 OK, `{}` edited", place.ts))),
                Err(refusal) if refusal.is_of_place(&place, &self.bot.channel) => Some("it could not be edited"),
                Err(refusal) => return Err(refusal.error),
            },
        };
        if let Some(first) = message.thread_external_id.as_deref().and_then(Place::read) {
            match self.post(&first.channel, Some(&first.ts), &content, &message.uuid).await {
                Ok(reply) => return Ok(self.update_first(message, &first, reply, &content).await),
                Err(refusal) if refusal.is_of_place(&first, &self.bot.channel) => {}
                Err(refusal) => return Err(refusal.error),
            }
        }
        let place =
            self.post(&self.bot.channel, None, &content, &message.uuid).await.map_err(|refusal| refusal.error)?;
        let note = posts_anew.map(|why| format!(" ({why})")).unwrap_or_default();
        Ok(delivered(&place, format!("200 OK, posted as `{}`{note}", place.ts)))
    }

    /// After the reply: whatever comes of it, the notification is sent.
    async fn update_first(&self, message: &OutboxRow, first: &Place, reply: Place, content: &Value) -> Delivered {
        let mut answer = format!("200 OK, replied as `{}`", reply.ts);
        if shows_state(message) {
            match self.update(first, content, &message.thread_uuid).await {
                Ok(()) => answer.push_str(&format!(", `{}` updated", first.ts)),
                Err(refusal) => {
                    answer.push_str(&format!(", but the first message was not updated: {}", refusal.error));
                }
            }
        }
        delivered(&reply, answer)
    }

    async fn post(
        &self,
        channel: &str,
        thread_ts: Option<&str>,
        content: &Value,
        uuid: &str,
    ) -> Result<Place, Refusal> {
        let mut body = with_metadata(content, uuid);
        body["channel"] = json!(channel);
        // What a failing page looks like is no news, and a preview would fetch it.
        body["unfurl_links"] = json!(false);
        body["unfurl_media"] = json!(false);
        if let Some(thread_ts) = thread_ts {
            body["thread_ts"] = json!(thread_ts);
        }
        match self.call("chat.postMessage", &body).await? {
            Posted { place: Some(place) } => Ok(place),
            // Posted, and no more to be had of it: without a name there is no thread, and a retry would double it.
            Posted { place: None } => Ok(Place::unknown()),
        }
    }

    async fn update(&self, place: &Place, content: &Value, uuid: &str) -> Result<(), Refusal> {
        let mut body = with_metadata(content, uuid);
        body["channel"] = json!(place.channel);
        body["ts"] = json!(place.ts);
        self.call("chat.update", &body).await.map(drop)
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Posted, Refusal> {
        let request = self.http.post(format!("{}/{method}", self.bot.api)).bearer_auth(self.token).json(body);
        let reply = http::send(request).await.map_err(Refusal::from)?;
        answer::of_api(&reply, &[self.token])
    }
}

/// Whether the incident's first message is to show what this one says.
fn shows_state(message: &OutboxRow) -> bool {
    match message.notification_type {
        NotificationType::Reminder | NotificationType::Recovery => true,
        NotificationType::Notice => message.facts.acknowledged_by.is_some(),
        NotificationType::Alert | NotificationType::Digest | NotificationType::SelfTest | NotificationType::Test => {
            false
        }
    }
}

fn with_metadata(content: &Value, uuid: &str) -> Value {
    let mut body = content.clone();
    body["metadata"] = json!({ "event_type": "watchbell_notification", "event_payload": { "id": uuid } });
    body
}

fn delivered(place: &Place, answer: String) -> Delivered {
    Delivered { answer, external_id: place.external_id() }
}
