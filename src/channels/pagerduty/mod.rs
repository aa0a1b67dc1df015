//! PagerDuty: alerts that page whoever is on call, over the Events API v2.
//!
//! Protocol: a POST of JSON to `/v2/enqueue` (alert events: `trigger`, `acknowledge`, `resolve`) or `/v2/change/enqueue`
//! (change events, which page nobody); `202` is the only success and means "queued"
//! (developer.pagerduty.com/docs/events-api-v2). [`event`] says which notification becomes which event.
//!
//! Idempotency: all events of one incident have one `dedup_key`, `watchbell:incident:<uuid>`. While its alert is open, a
//! second `trigger` is a log entry and pages nobody. After its `resolve` the same key opens a new alert, so what sends
//! both at once can page twice when it is repeated.
//!
//! It fails: `400` refuses this message for good, unless it is about the routing key, which a person mends, or is not in
//! JSON, and so perhaps not PagerDuty's (then this message is tried again); `429`, `5xx` and silence let everything wait.

mod event;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use watchbell_contract::{ConfigFaults, Secret};

use self::event::{Endpoint, Event};
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::http::{self, Answer};
use super::url::ChannelUrl;
use crate::domain::OutboxRow;
use crate::ports::{Channel, Delivered, DeliveryError};

/// What PagerDuty asks for after a `429`: "a backoff of a few minutes".
const WAIT_WHEN_BUSY: Duration = Duration::from_secs(120);
/// Of an answer that is no JSON, what is looked through for the word "routing key".
const MAX_PLAIN_ANSWER_BYTES: usize = 200;

pub(super) static TYPE: ChannelType = ChannelType {
    name: "pagerduty",
    other_names: &[],
    delivers: "Events to a PagerDuty service: an alert or reminder triggers, an acknowledgment acknowledges, the recovery \
               resolves. A self-test, and a digest or notice of good news, is a change event, which pages nobody; a test \
               triggers and resolves.",
    address: None,
    options: &[
        ChannelOption::required("routing_key", "the integration key of an Events API v2 integration on a service")
            .secret(),
        ChannelOption::optional("region", "`us`", "`us` or `eu`: where the PagerDuty account is"),
        ChannelOption::optional("api", "the region's address", "another address of the Events API"),
    ],
    examples: &[
        "pagerduty:#routing_key=${env:WATCHBELL_SECRET_PAGERDUTY}",
        "pagerduty:#routing_key=${env:WATCHBELL_SECRET_PAGERDUTY}&region=eu",
    ],
    doubles: "One `dedup_key` an incident: while PagerDuty's alert is open, a repeated trigger is a log entry and pages \
              nobody; a repeated resolve or acknowledgment does nothing. What triggers and resolves in one go (a test, a \
              recovery whose alert was never delivered) can page twice, and a change event can show twice, after a crash \
              or a lost answer.",
    limits: "Summaries are cut at 1,024 characters; an event beyond 512 KB loses its details. What triggers without an \
             incident (a digest, a notice of trouble) is resolved by a person. Change events need the key of a service, \
             not of a ruleset. `202` means queued, not paged.",
    open,
};

struct PagerDuty {
    http: reqwest::Client,
    routing_key: Secret,
    api: String,
    /// For [`Channel::describe`].
    shown: String,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let region = url.choice("region", &["us", "eu"]);
    let own = url.text("api");
    if own.is_some() && url.has("region") {
        url.fault("region", "has no meaning beside `api`", Some("leave out one of the two".to_owned()));
    }
    let api = own.unwrap_or_else(|| match region {
        "eu" => "https://events.eu.pagerduty.com".to_owned(),
        _ => "https://events.pagerduty.com".to_owned(),
    });
    let parsed = reqwest::Url::parse(&api).ok().filter(|api| matches!(api.scheme(), "http" | "https"));
    let shown = parsed.and_then(|api| api.host_str().map(ToOwned::to_owned));
    if shown.is_none() {
        let hint = "for example `https://events.pagerduty.com`".to_owned();
        url.fault("api", "expected an address", Some(hint));
    }
    let channel = PagerDuty {
        http: http::client(settings)?,
        routing_key: url.required_secret("routing_key"),
        api: api.trim_end_matches('/').to_owned(),
        shown: shown.unwrap_or_default(),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for PagerDuty {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let key = self.routing_key.reveal().await.map_err(http::secret_failure)?;
        let key = key.as_str().trim();
        let mut said = Vec::new();
        for event in event::events(message, self.public_url.as_deref()) {
            said.push(self.send(&event, key).await?);
        }
        Ok(Delivered { answer: said.join("; "), external_id: None })
    }

    fn wants_each(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("PagerDuty at {}", self.shown)
    }
}

impl PagerDuty {
    /// Says what was taken.
    async fn send(&self, event: &Event, key: &str) -> Result<String, DeliveryError> {
        if event.endpoint == Endpoint::Change && key.starts_with('R') {
            return Err(DeliveryError::Permanent {
                reason:
                    "this is a change event, and PagerDuty takes none for the key of a ruleset (it begins with `R`); \
                         use the integration key of a service"
                        .to_owned(),
            });
        }
        let path = match event.endpoint {
            Endpoint::Alert => "v2/enqueue",
            Endpoint::Change => "v2/change/enqueue",
        };
        let answer = http::send(self.http.post(format!("{}/{path}", self.api)).json(&event.body(key))).await?;
        match answer.status.as_u16() {
            202 => Ok(format!("202 Accepted, {}", event.shown())),
            _ => Err(failure(&answer, event, key)),
        }
    }
}

fn failure(answer: &Answer, event: &Event, key: &str) -> DeliveryError {
    let reason = format!("PagerDuty answered {}", answer.shown(&[key]));
    match answer.status.as_u16() {
        400 if is_of_key(answer) => {
            let reason = format!(
                "{reason}; put the integration key of an Events API v2 integration into the secret in `routing_key`"
            );
            match event.endpoint {
                Endpoint::Alert => DeliveryError::Unavailable { reason, after: None },
                // The key may be good for alerts: a self-test must not hold them up.
                Endpoint::Change => DeliveryError::Retry { reason, after: None },
            }
        }
        429 => DeliveryError::Unavailable { reason, after: Some(answer.retry_after.unwrap_or(WAIT_WHEN_BUSY)) },
        400 if answer.json().is_null() => DeliveryError::Retry { reason, after: None },
        400 | 413 => DeliveryError::Permanent { reason },
        // Whatever else is not PagerDuty's word on this message: something between, or a wrong `api`.
        404 | 405 | 200..=299 => DeliveryError::Unavailable {
            reason: format!("{reason}; is `api` the address of PagerDuty's Events API?"),
            after: None,
        },
        _ => answer.failure(&[key]),
    }
}

/// Whether a `400` is about the routing key: in the service's own words, not in what it may repeat of the event.
fn is_of_key(answer: &Answer) -> bool {
    let says = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.contains("routing key") || text.contains("routing_key")
    };
    let json = answer.json();
    match &json {
        Value::Object(fields) => {
            let errors = fields.get("errors").and_then(Value::as_array).into_iter().flatten();
            let texts = errors.chain(fields.get("message")).chain(fields.get("error"));
            texts.filter_map(Value::as_str).any(says)
        }
        Value::String(text) => says(text),
        _ => answer.body.len() <= MAX_PLAIN_ANSWER_BYTES && says(&answer.body),
    }
}
