//! PagerDuty's Events API v2 as it is published: it refuses what is not an event, keeps the alerts that are open by
//! routing key and `dedup_key`, and counts whom it pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use serde_json::{Value, json};

use super::json_server::{JsonServer, Reply, Request};

pub(crate) const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee01";
const MAX_EVENT_BYTES: usize = 512 * 1000;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Alert {
    pub(crate) is_open: bool,
    pub(crate) is_acknowledged: bool,
    /// How often it was triggered while open, the first time included.
    pub(crate) entries: usize,
    pub(crate) event: Value,
}

#[derive(Default)]
pub(crate) struct PagerDuty {
    /// All alerts, the resolved ones too, by `dedup_key`, in order.
    pub(crate) alerts: BTreeMap<String, Vec<Alert>>,
    /// How often somebody was woken.
    pub(crate) pages: usize,
    pub(crate) changes: Vec<Value>,
    /// Acknowledgments and resolutions without an open alert: dropped without a word.
    pub(crate) dropped: usize,
    /// What to answer to the next requests instead.
    pub(crate) faults: VecDeque<Fault>,
}

pub(crate) enum Fault {
    Answer {
        status: u16,
        retry_after: Option<u64>,
        body: String,
    },
    /// The event is taken, and the answer is lost.
    LostAnswer,
    /// The event is refused, and the whole request repeated in the error.
    Echo(u16),
    /// This one goes well.
    None,
}

pub(crate) async fn start() -> (JsonServer, Arc<Mutex<PagerDuty>>) {
    let service = Arc::new(Mutex::new(PagerDuty::default()));
    let own = service.clone();
    let server = JsonServer::start(move |request| own.lock().unwrap().serve(request)).await;
    (server, service)
}

impl PagerDuty {
    /// The only alert that there ever was with this key.
    pub(crate) fn alert(&self, dedup_key: &str) -> &Alert {
        let alerts = self.alerts.get(dedup_key).unwrap_or_else(|| panic!("no `{dedup_key}` in {:?}", self.alerts));
        assert_eq!(alerts.len(), 1, "`{dedup_key}` was opened more than once");
        &alerts[0]
    }

    fn serve(&mut self, request: &Request) -> Reply {
        match self.faults.pop_front() {
            Some(Fault::Answer { status, retry_after, body }) => return Reply::Answer { status, retry_after, body },
            Some(Fault::Echo(status)) => return echo(status, request),
            Some(Fault::LostAnswer) => {
                self.take(request);
                return Reply::Lost;
            }
            Some(Fault::None) | None => {}
        }
        self.take(request)
    }

    fn take(&mut self, request: &Request) -> Reply {
        if request.method != "POST" {
            return Reply::text(405, "");
        }
        let Some(event) = request.json() else { return invalid(&["Check that the JSON is valid"]) };
        if request.body.len() > MAX_EVENT_BYTES {
            return invalid(&["event is larger than 512 KB"]);
        }
        let errors = match request.path.as_str() {
            "/v2/enqueue" => faults_of_alert(&event),
            "/v2/change/enqueue" => faults_of_change(&event),
            _ => return Reply::text(404, ""),
        };
        if !errors.is_empty() {
            return invalid(&errors.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if event["routing_key"] != KEY && event["routing_key"] != ruleset_key() {
            return Reply::text(400, "\"Invalid routing key\"");
        }
        if request.path == "/v2/change/enqueue" {
            if event["routing_key"] == ruleset_key() {
                return Reply::text(400, "\"Invalid routing key\"");
            }
            self.changes.push(event);
            return Reply::json(202, &json!({ "status": "success", "message": "Change event processed", "links": [] }));
        }
        let key = event["dedup_key"].as_str().unwrap().to_owned();
        self.apply(&key, event);
        Reply::json(202, &json!({ "status": "success", "message": "Event processed", "dedup_key": key }))
    }

    fn apply(&mut self, key: &str, event: Value) {
        let alerts = self.alerts.entry(key.to_owned()).or_default();
        let open = alerts.last_mut().filter(|alert| alert.is_open);
        match (event["event_action"].as_str().unwrap(), open) {
            ("trigger", Some(alert)) => alert.entries += 1,
            ("trigger", None) => {
                alerts.push(Alert { is_open: true, is_acknowledged: false, entries: 1, event });
                self.pages += 1;
            }
            ("acknowledge", Some(alert)) => alert.is_acknowledged = true,
            ("resolve", Some(alert)) => alert.is_open = false,
            _ => self.dropped += 1,
        }
    }
}

fn echo(status: u16, request: &Request) -> Reply {
    let key = request.json().unwrap()["routing_key"].clone();
    Reply::text(status, format!("refused {key}: {}", request.body))
}

/// The key of a ruleset: for alert events only.
pub(crate) fn ruleset_key() -> String {
    format!("R{}", &KEY[1..])
}

fn invalid(errors: &[&str]) -> Reply {
    Reply::json(400, &json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors }))
}

fn faults_of_alert(event: &Value) -> Vec<String> {
    let mut errors = faults_of_key(event);
    let action = event["event_action"].as_str().unwrap_or_default();
    let known: &[&str] = match action {
        "trigger" => {
            &["routing_key", "event_action", "dedup_key", "payload", "links", "images", "client", "client_url"]
        }
        "acknowledge" | "resolve" => &["routing_key", "event_action", "dedup_key"],
        _ => return vec!["'event_action' must be trigger, acknowledge or resolve".to_owned()],
    };
    only(event, known, &mut errors);
    let key = event["dedup_key"].as_str().unwrap_or_default();
    if key.is_empty() || key.chars().count() > 255 {
        errors.push("Length of 'dedup_key' is incorrect".to_owned());
    }
    if action == "trigger" {
        let payload = &event["payload"];
        let fields = ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];
        only(payload, &fields, &mut errors);
        faults_of_payload(payload, &mut errors);
        if payload["source"].as_str().unwrap_or_default().is_empty() {
            errors.push("'payload.source' is missing or blank".to_owned());
        }
        if !matches!(payload["severity"].as_str(), Some("critical" | "error" | "warning" | "info")) {
            errors.push("'payload.severity' is invalid (must be one of the following: ...)".to_owned());
        }
        faults_of_links(event, &mut errors);
    }
    errors
}

fn faults_of_change(event: &Value) -> Vec<String> {
    let mut errors = faults_of_key(event);
    only(event, &["routing_key", "payload", "links"], &mut errors);
    only(&event["payload"], &["summary", "source", "timestamp", "custom_details"], &mut errors);
    faults_of_payload(&event["payload"], &mut errors);
    faults_of_links(event, &mut errors);
    errors
}

fn faults_of_key(event: &Value) -> Vec<String> {
    let key = event["routing_key"].as_str().unwrap_or_default();
    if key.chars().count() == 32 {
        return Vec::new();
    }
    vec!["Length of 'routing_key' is incorrect (should be 32 characters)".to_owned()]
}

fn faults_of_payload(payload: &Value, errors: &mut Vec<String>) {
    let summary = payload["summary"].as_str().unwrap_or_default();
    if summary.is_empty() || summary.chars().count() > 1024 {
        errors.push("Length of 'payload.summary' is incorrect".to_owned());
    }
    if let Some(timestamp) = payload.get("timestamp")
        && DateTime::parse_from_rfc3339(timestamp.as_str().unwrap_or_default()).is_err()
    {
        errors.push("'payload.timestamp' is no timestamp".to_owned());
    }
    if payload.get("custom_details").is_some_and(|details| !details.is_object()) {
        errors.push("'payload.custom_details' is no object".to_owned());
    }
}

fn faults_of_links(event: &Value, errors: &mut Vec<String>) {
    for link in event["links"].as_array().into_iter().flatten() {
        only(link, &["href", "text"], errors);
        if !link["href"].as_str().unwrap_or_default().starts_with("https://") {
            errors.push("'links.href' is missing".to_owned());
        }
    }
}

fn only(object: &Value, known: &[&str], errors: &mut Vec<String>) {
    let Some(fields) = object.as_object() else { return errors.push("an object is missing".to_owned()) };
    errors.extend(fields.keys().filter(|key| !known.contains(&key.as_str())).map(|key| format!("'{key}' is unknown")));
}
