//! Which notification becomes which events, and what they say.
//!
//! | notification | events |
//! |---|---|
//! | alert, reminder | `trigger`; for an open alert that is a log entry |
//! | recovery | `resolve`; before it `trigger` where the alert was never delivered |
//! | notice of an acknowledgment | `acknowledge` |
//! | digest or notice of trouble | `trigger` with a key of its own |
//! | digest or notice of good news (its state is `ok`), self-test | a change event: it is kept, and pages nobody |
//! | test | `trigger` and `resolve` with a key of its own |

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};
use watchbell_contract::Severity;

use super::super::wording;
use crate::domain::{NotificationType, OutboxRow, State, one_line};

/// PagerDuty's limit of `payload.summary`.
const MAX_SUMMARY_CHARS: usize = 1_024;
/// Ours, of names in `source` and `component`; PagerDuty states none.
const MAX_NAME_CHARS: usize = 255;
/// PagerDuty's limit of a whole event, less what the routing key takes.
const MAX_EVENT_BYTES: usize = 512_000 - 1_000;

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// May page.
    Alert,
    /// Pages nobody.
    Change,
}

/// An event without the routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) endpoint: Endpoint,
    body: Map<String, Value>,
}

impl Event {
    /// What is sent.
    pub(super) fn body(&self, routing_key: &str) -> Value {
        let mut body = self.body.clone();
        body.insert("routing_key".to_owned(), json!(routing_key));
        Value::Object(body)
    }

    /// For the ledger.
    pub(super) fn shown(&self) -> String {
        let text = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or_default();
        match self.endpoint {
            Endpoint::Alert => format!("{} of `{}`", text("event_action"), text("dedup_key")),
            Endpoint::Change => "change event".to_owned(),
        }
    }
}

/// The events of one notification, in the order in which they are sent; at least one.
pub(super) fn events(row: &OutboxRow, public_url: Option<&str>) -> Vec<Event> {
    let trigger = |key: &str| trigger(row, key, public_url);
    let own = format!("watchbell:notification:{}", row.uuid);
    let is_good_news = row.facts.state == Some(State::Ok);
    match row.notification_type {
        NotificationType::Alert | NotificationType::Reminder => vec![trigger(&incident_key(row))],
        NotificationType::Recovery if row.facts.tells_alert => {
            vec![trigger(&incident_key(row)), follow_up("resolve", &incident_key(row))]
        }
        NotificationType::Recovery => vec![follow_up("resolve", &incident_key(row))],
        NotificationType::Notice if row.facts.acknowledged_by.is_some() && row.incident_uuid.is_some() => {
            vec![follow_up("acknowledge", &incident_key(row))]
        }
        NotificationType::Digest | NotificationType::Notice if is_good_news => vec![change(row, public_url)],
        NotificationType::Digest | NotificationType::Notice => vec![trigger(&own)],
        NotificationType::SelfTest => vec![change(row, public_url)],
        NotificationType::Test => vec![trigger(&own), follow_up("resolve", &own)],
    }
}

fn incident_key(row: &OutboxRow) -> String {
    format!("watchbell:incident:{}", row.incident_uuid.as_ref().unwrap_or(&row.thread_uuid))
}

fn follow_up(action: &str, key: &str) -> Event {
    let body = json!({ "event_action": action, "dedup_key": key });
    event(Endpoint::Alert, body)
}

fn trigger(row: &OutboxRow, key: &str, public_url: Option<&str>) -> Event {
    let mut payload = payload(row);
    payload["severity"] = json!(severity(row.severity));
    if !row.facts.kind.is_empty() {
        payload["component"] = json!(one_line(&row.facts.kind, MAX_NAME_CHARS));
    }
    let mut body = json!({
        "event_action": "trigger",
        "dedup_key": key,
        "payload": payload,
        "client": "Watchbell",
    });
    if let Some(public_url) = public_url {
        body["client_url"] = json!(public_url);
    }
    add_link(&mut body, row, public_url);
    event(Endpoint::Alert, within_limit(body))
}

fn change(row: &OutboxRow, public_url: Option<&str>) -> Event {
    let mut body = json!({ "payload": payload(row) });
    add_link(&mut body, row, public_url);
    event(Endpoint::Change, within_limit(body))
}

fn event(endpoint: Endpoint, body: Value) -> Event {
    let body = match body {
        Value::Object(body) => body,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    Event { endpoint, body }
}

/// What both kinds of events have.
fn payload(row: &OutboxRow) -> Value {
    let facts = &row.facts;
    let source = if facts.monitor_name.is_empty() { "Watchbell" } else { &facts.monitor_name };
    let at = if facts.tells_alert { facts.opened_at } else { None };
    let at = at.or(facts.at).unwrap_or(row.created_at);
    json!({
        "summary": summary(row),
        "source": one_line(source, MAX_NAME_CHARS),
        "timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "custom_details": {
            "message": if facts.message.is_empty() { &row.body } else { &facts.message },
            "labels": facts.labels,
        },
    })
}

/// Heading and message in one line.
fn summary(row: &OutboxRow) -> String {
    let heading = wording::heading(row);
    let text = wording::text(row, MAX_SUMMARY_CHARS);
    let both = match (heading.is_empty(), text.is_empty()) {
        (false, false) => format!("{heading}: {text}"),
        (false, true) => heading,
        (true, false) => text,
        (true, true) => row.notification_type.as_str().to_owned(),
    };
    one_line(&both, MAX_SUMMARY_CHARS).into_owned()
}

fn add_link(body: &mut Value, row: &OutboxRow, public_url: Option<&str>) {
    if let Some(link) = wording::link(row, public_url) {
        body["links"] = json!([{ "href": link, "text": "open in Watchbell" }]);
    }
}

/// The details go first: an event without them still pages.
fn within_limit(mut body: Value) -> Value {
    if body.to_string().len() > MAX_EVENT_BYTES {
        body["payload"]["custom_details"] = json!({ "note": "the details were too large for PagerDuty" });
    }
    body
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}
