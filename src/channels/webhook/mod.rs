//! Webhook: a notification as one HTTP request, to a program of one's own or to one that knows Alertmanager.
//!
//! Protocol: `POST` (or `PUT`) to the address, any `2xx` is a success. The body is the JSON object of [`super::payload`], the
//! Alertmanager webhook body, version 4 ([`alertmanager`]; prometheus.io/docs/alerting/latest/configuration,
//! `webhook_config`), or what a template of the user makes ([`template`]). With `hmac_key` it is signed as
//! [`signature`] tells, together with how a receiver verifies it.
//!
//! Idempotency: each request carries `Idempotency-Key`, the notification's uuid, the same at every attempt
//! (draft-ietf-httpapi-idempotency-key-header). A receiver that remembers the keys of four days shows nothing twice,
//! and answers a key that it knows with the `2xx` of the first time. `X-Watchbell-Attempt` counts the attempts, from 1; it
//! and the signature with its time are all that differs between them.
//!
//! It fails as [`super::http`] tells, but for two kinds of answers:
//! - `409` is tried again. By that draft a receiver says so while the same key is still being worked on, as after a
//!   connection that was cut. Taking it for "I have it" would lose the message where that work then fails.
//! - `404`, `405`, `410` and `415` speak of the address, the method and the content type, so of all messages, and a
//!   person mends them: everything waits.
//!
//! Limits: one request at a time, so that messages arrive in order; a slow receiver delays what waits for it and
//! nothing else. Redirects are not followed.

mod alertmanager;
mod hidden;
mod signature;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use futures_util::FutureExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use watchbell_contract::{ConfigFaults, Revealed, Secret};

use self::hidden::Hidden;
use self::template::Template;
use super::channel_type::{ChannelOption, ChannelSettings, ChannelType};
use super::http::{self, Answer};
use super::payload::Payload;
use super::url::{Address, ChannelUrl};
use crate::domain::OutboxRow;
use crate::ports::{Channel, Delivered, DeliveryError};

/// Which attempt at delivery this is, from 1. It is not part of the body, which stays the same.
const ATTEMPT_HEADER: &str = "X-Watchbell-Attempt";
const JSON: &str = "application/json";
const ADDRESS_HINT: &str = "for example `webhook+https://hooks.example.com/watchbell`";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "webhook",
    other_names: &[],
    delivers: "One HTTP request a notification: JSON of ours, the body that Alertmanager sends, so that its receivers work \
               unchanged, or what a template makes.",
    address: Some("`https://host/path?query`, or `http://...`"),
    options: &[
        ChannelOption::optional("format", "`watchbell`", "the body: `watchbell`, `alertmanager` or `template`"),
        ChannelOption::optional(
            "hmac_key",
            "not signed",
            "signs each request: `X-Watchbell-Signature` over `X-Watchbell-Timestamp` and the body, HMAC-SHA256",
        )
        .secret(),
        ChannelOption::optional("token", "none", "sent as `Authorization: Bearer`").secret(),
        ChannelOption::optional("method", "`POST`", "`POST` or `PUT`"),
        ChannelOption::optional(
            "template",
            "none",
            "with `format=template`: a minijinja template over the fields of the format `watchbell`; `%` and `&` in it \
             are written `%25` and `%26`",
        ),
        ChannelOption::optional(
            "content_type",
            "`application/json`",
            "with `format=template`: what the template makes",
        ),
    ],
    examples: &[
        "webhook+https://hooks.example.com/watchbell#hmac_key=${env:WATCHBELL_SECRET_HOOK}",
        "webhook+https://alerts.example.com/prometheus#format=alertmanager&token=${env:WATCHBELL_SECRET_ALERTS}",
        "webhook+https://chat.example.com/hook#format=template&template={\"text\": {{ subject|tojson }} }",
    ],
    doubles: "Each request carries `Idempotency-Key`: effectively once with a receiver that remembers it, else a crash or a \
              cut connection between its answer and our commit shows a message twice.",
    limits: "One request at a time, so that order holds; a slow receiver delays its own messages and no others. A \
             template has 16 KiB at most, and makes 256 KiB at most. Redirects are not followed.",
    open,
};

struct Webhook {
    http: reqwest::Client,
    address: Address,
    shown: String,
    method: Method,
    format: Format,
    content_type: HeaderValue,
    hmac_key: Option<Secret>,
    token: Option<Secret>,
    public_url: Option<String>,
}

enum Format {
    Watchbell,
    Alertmanager,
    Template(Template),
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    check_address(&mut url);
    let content_type = content_type(&mut url);
    let channel = Webhook {
        http: http::client(settings)?,
        address: url.address(),
        shown: url.shown_address(),
        method: if url.choice("method", &["POST", "PUT"]) == "PUT" { Method::PUT } else { Method::POST },
        format: format(&mut url, content_type == JSON),
        content_type,
        hmac_key: filled_secret(&mut url, "hmac_key"),
        token: filled_secret(&mut url, "token"),
        public_url: settings.public_url.clone(),
    };
    Ok(url.finish(channel)?)
}

/// What an address that begins with a reference is, shows when it is used.
fn check_address(url: &mut ChannelUrl) {
    let shown = url.shown_address();
    let begins_with_reference = shown.contains(' ');
    let host = shown.strip_prefix("https://").or_else(|| shown.strip_prefix("http://"));
    if !begins_with_reference && host.is_none_or(str::is_empty) {
        url.fault("url", "holds no address of the web", Some(ADDRESS_HINT.to_owned()));
    }
}

fn format(url: &mut ChannelUrl, is_json: bool) -> Format {
    let format = url.choice("format", &["watchbell", "alertmanager", "template"]);
    if format != "template" {
        for name in ["template", "content_type"].into_iter().filter(|name| url.has(name)).collect::<Vec<_>>() {
            url.fault(name, "is used only by the format `template`", Some("add `format=template`".to_owned()));
        }
        return if format == "alertmanager" { Format::Alertmanager } else { Format::Watchbell };
    }
    let has_template = url.has("template");
    let Some(source) = url.text("template").filter(|source| !source.trim().is_empty()) else {
        // A template that cannot be read has its fault already.
        if !has_template || url.text("template").is_some() {
            let hint = "for example `format=template&template={\"text\": {{ subject|tojson }} }`";
            url.fault("template", "is required by the format `template`", Some(hint.to_owned()));
        }
        return Format::Watchbell;
    };
    match Template::read(source, is_json) {
        Ok(template) => Format::Template(template),
        Err(fault) => {
            url.fault("template", fault.problem, Some(fault.hint));
            Format::Watchbell
        }
    }
}

fn content_type(url: &mut ChannelUrl) -> HeaderValue {
    let json = HeaderValue::from_static(JSON);
    let Some(text) = url.text("content_type") else { return json };
    match HeaderValue::from_str(text.trim()) {
        Ok(value) if text.contains('/') => value,
        _ => {
            url.fault("content_type", "is no content type", Some("for example `text/plain; charset=utf-8`".to_owned()));
            json
        }
    }
}

/// An empty secret would sign, or log in, with what everybody knows.
fn filled_secret(url: &mut ChannelUrl, name: &str) -> Option<Secret> {
    let secret = url.secret(name)?;
    // What holds no reference is there without waiting.
    let is_empty = !secret.holds_reference()
        && secret.reveal().now_or_never().and_then(Result::ok).is_some_and(|revealed| revealed.as_str().is_empty());
    if is_empty {
        url.fault(name, "must not be empty", Some("leave it out, or name a secret, as `${env:NAME}`".to_owned()));
    }
    Some(secret)
}

#[async_trait]
impl Channel for Webhook {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let address = self.web_address().await?;
        let hmac_key = reveal("hmac_key", self.hmac_key.as_ref()).await?;
        let token = reveal("token", self.token.as_ref()).await?;
        let mut hidden = Hidden::of_address(&address);
        hidden.add_all([&hmac_key, &token].into_iter().flatten().map(Revealed::as_str));

        let body = self.body(message)?;
        let mut request = self
            .http
            .request(self.method.clone(), address)
            .header("Idempotency-Key", &message.uuid)
            .header(ATTEMPT_HEADER, message.attempts)
            .header(CONTENT_TYPE, self.content_type.clone());
        if let Some(token) = &token {
            request = request.header(AUTHORIZATION, bearer(token.as_str())?);
        }
        if let Some(key) = &hmac_key {
            let timestamp = Utc::now().timestamp();
            request = request
                .header(signature::TIMESTAMP_HEADER, timestamp)
                .header(signature::SIGNATURE_HEADER, signature::sign(key.as_str(), timestamp, &body));
        }
        let (client, request) = request.body(body).build_split();
        let request = request.map_err(|error| DeliveryError::Permanent {
            reason: format!("no request can be made: {}", error.without_url()),
        })?;
        hidden.add_authorization(request.headers());
        let answer = http::send(RequestBuilder::from_parts(client, request)).await?;
        verdict(&answer, &hidden.texts())
    }

    fn wants_each(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("webhook at {}", self.shown)
    }
}

impl Webhook {
    async fn web_address(&self) -> Result<Url, DeliveryError> {
        let address = self.address.reveal().await.map_err(http::secret_failure)?;
        let url = Url::parse(&address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| for_a_person(format!("the channel's `url` holds no address; {ADDRESS_HINT}")))?;
        let names_user = !url.username().is_empty() || url.password().is_some();
        if names_user && self.token.is_some() {
            // Both are the one header `Authorization`.
            return Err(for_a_person(
                "the channel's `url` has a user before its host, and `token`; keep one".to_owned(),
            ));
        }
        Ok(url)
    }

    fn body(&self, message: &OutboxRow) -> Result<Vec<u8>, DeliveryError> {
        let public_url = self.public_url.as_deref();
        let body = match &self.format {
            Format::Watchbell => serde_json::to_vec(&Payload::of(message, public_url)),
            Format::Alertmanager => serde_json::to_vec(&alertmanager::Body::of(message, public_url)),
            Format::Template(template) => {
                return template
                    .render(&Payload::of(message, public_url))
                    .map(String::into_bytes)
                    .map_err(|problem| DeliveryError::Permanent { reason: format!("the template {problem}") });
            }
        };
        body.map_err(|error| DeliveryError::Permanent { reason: format!("the message cannot be written: {error}") })
    }
}

fn verdict(answer: &Answer, hidden: &[&str]) -> Result<Delivered, DeliveryError> {
    let reason = || format!("the service answered {}", answer.shown(hidden));
    match answer.status.as_u16() {
        200..=299 => Ok(Delivered { answer: answer.shown(hidden), external_id: None }),
        409 => Err(DeliveryError::Retry { reason: reason(), after: answer.retry_after }),
        404 | 405 | 410 | 415 => {
            let hint = "look at the address, `method` and `content_type` of the channel's `url`";
            Err(for_a_person(format!("{} ({hint})", reason())))
        }
        _ => Err(answer.failure(hidden)),
    }
}

async fn reveal(name: &str, secret: Option<&Secret>) -> Result<Option<Revealed>, DeliveryError> {
    let Some(secret) = secret else { return Ok(None) };
    let revealed = secret.reveal().await.map_err(http::secret_failure)?;
    if revealed.as_str().is_empty() {
        return Err(for_a_person(format!("the secret of `{name}` is empty")));
    }
    Ok(Some(revealed))
}

fn bearer(token: &str) -> Result<HeaderValue, DeliveryError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        for_a_person("the secret of `token` holds characters that a header cannot, such as a line end".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Nothing is lost while somebody mends it.
fn for_a_person(reason: String) -> DeliveryError {
    DeliveryError::Unavailable { reason, after: None }
}
