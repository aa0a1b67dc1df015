//! The channel against a receiver that follows the documents strictly.

mod alertmanager;
mod failures;
mod receiver;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity};

use self::receiver::{Receiver, Rules};
use crate::channels::{ChannelSettings, open};
use crate::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow, State};
use crate::ports::{Channel, Delivered, DeliveryError};

const KEY: &str = "k3y/with \"quotes\" & more";
const TOKEN: &str = "t0ken-of-the-hook";

/// What stands behind references.
struct Vault;

#[async_trait]
impl Secrets for Vault {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        Ok(match reference.name.as_str() {
            "KEY" => KEY,
            "TOKEN" => TOKEN,
            "PATH" => "p4th secret",
            "EMPTY" => "",
            "LINES" => "two\nlines",
            name => panic!("no test has `{name}`"),
        }
        .to_owned())
    }
}

struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("a webhook sends no mail")
    }

    fn describe(&self) -> String {
        "no mail".to_owned()
    }
}

fn settings() -> ChannelSettings {
    ChannelSettings {
        secrets: Arc::new(Vault),
        public_url: Some("https://watchbell.example.com".to_owned()),
        ca_file: None,
        mail: Arc::new(NoMail),
    }
}

async fn deliver(url: &str, row: &OutboxRow) -> Result<Delivered, DeliveryError> {
    open(url, &settings()).unwrap().deliver(row).await
}

/// All that is wrong with a URL.
fn faults(url: &str) -> String {
    open(url, &settings()).map(drop).unwrap_err().to_string()
}

/// An alert of a monitor whose texts are awkward.
pub(super) fn alert() -> OutboxRow {
    let uuid = "8a4f0d57-94ff-45f4-9f3f-3d34c6c8a001".to_owned();
    OutboxRow {
        id: NotificationId(11),
        uuid: uuid.clone(),
        monitor_id: Some(MonitorId(3)),
        monitor_uuid: Some("1d0f9b02-5b4c-4a9f-8f2e-7d0a5b6c7d8e".to_owned()),
        incident_id: Some(IncidentId(7)),
        incident_uuid: Some("c0ffee00-1111-4222-8333-444455556666".to_owned()),
        thread_uuid: uuid,
        thread_external_id: None,
        edits_external_id: None,
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "ops-hook".to_owned(),
        subject: "[Monitor ALERT] Purchase \"orders\"".to_owned(),
        body: "Monitor: Purchase \"orders\"\nState: alert".to_owned(),
        facts: Facts {
            monitor_name: "Purchase \"orders\"".to_owned(),
            kind: "sql".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
            state_before: Some(State::Ok),
            state: Some(State::Alert),
            at: Some("2026-11-22T10:00:00Z".parse().unwrap()),
            opened_at: Some("2026-11-22T10:00:00Z".parse().unwrap()),
            message: "expected \"1\",\n\tfound <0> \\".to_owned(),
            ..Facts::default()
        },
        attempts: 1,
        created_at: "2026-11-22T10:00:01Z".parse().unwrap(),
    }
}

/// The recovery of [`alert`].
fn recovery() -> OutboxRow {
    let mut row = alert();
    row.thread_uuid = std::mem::replace(&mut row.uuid, "8a4f0d57-94ff-45f4-9f3f-3d34c6c8a002".to_owned());
    row.notification_type = NotificationType::Recovery;
    row.facts.state_before = Some(State::Alert);
    row.facts.state = Some(State::Ok);
    row.facts.at = Some("2026-11-22T10:09:00Z".parse().unwrap());
    row.facts.recovered_at = row.facts.at;
    row
}

/// A notification that speaks of no monitor.
pub(super) fn self_test() -> OutboxRow {
    OutboxRow {
        monitor_id: None,
        monitor_uuid: None,
        incident_id: None,
        incident_uuid: None,
        notification_type: NotificationType::SelfTest,
        severity: Severity::Info,
        subject: "Watchbell is alive".to_owned(),
        body: "12 monitors".to_owned(),
        facts: Facts::default(),
        ..alert()
    }
}

#[tokio::test]
async fn a_signed_message_is_taken_and_is_what_the_contract_says() {
    let rules = Rules { hmac_key: Some(KEY), token: Some(TOKEN), ..Rules::default() };
    let receiver = Receiver::start(rules, []).await;
    let url = receiver.url("/hook/${env:PATH}?a=1#hmac_key=${env:KEY}&token=${env:TOKEN}");
    let delivered = deliver(&url, &alert()).await.unwrap();
    assert_eq!(delivered, Delivered { answer: "200 OK: taken".to_owned(), external_id: None });

    let request = receiver.requests().remove(0);
    assert_eq!(request.path, "/hook/p4th%20secret?a=1");
    assert_eq!(request.headers["idempotency-key"], alert().uuid);
    let expected = json!({
        "version": 1,
        "id": "8a4f0d57-94ff-45f4-9f3f-3d34c6c8a001",
        "type": "alert",
        "severity": "critical",
        "subject": "[Monitor ALERT] Purchase \"orders\"",
        "body": "Monitor: Purchase \"orders\"\nState: alert",
        "created_at": "2026-11-22T10:00:01.000Z",
        "thread": "8a4f0d57-94ff-45f4-9f3f-3d34c6c8a001",
        "incident": {
            "id": 7,
            "uuid": "c0ffee00-1111-4222-8333-444455556666",
            "opened_at": "2026-11-22T10:00:00.000Z",
            "recovered_at": null,
        },
        "monitor": {
            "id": 3,
            "uuid": "1d0f9b02-5b4c-4a9f-8f2e-7d0a5b6c7d8e",
            "name": "Purchase \"orders\"",
            "kind": "sql",
            "labels": {"team": "shop"},
            "url": "https://watchbell.example.com/monitors/1d0f9b02-5b4c-4a9f-8f2e-7d0a5b6c7d8e",
        },
        "state_before": "ok",
        "state": "alert",
        "at": "2026-11-22T10:00:00.000Z",
        "message": "expected \"1\",\n\tfound <0> \\",
        "count": 0,
        "tells_alert": false,
        "acknowledged_by": null,
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn what_does_not_apply_is_null() {
    let receiver = Receiver::start(Rules::default(), []).await;
    deliver(&receiver.url("/"), &self_test()).await.unwrap();
    let body = receiver.requests().remove(0).json();
    for field in ["incident", "monitor", "state_before", "state", "at"] {
        assert!(body.as_object().unwrap().contains_key(field) && body[field].is_null(), "{field}: {body}");
    }
    assert_eq!((&body["type"], &body["message"]), (&json!("self_test"), &json!("")));
}

#[tokio::test]
async fn a_row_that_is_gone_leaves_what_is_known() {
    let receiver = Receiver::start(Rules::default(), []).await;
    let row = OutboxRow { monitor_id: None, monitor_uuid: None, incident_id: None, ..recovery() };
    deliver(&receiver.url("/"), &row).await.unwrap();
    let body = receiver.requests().remove(0).json();
    assert_eq!(body["monitor"]["name"], "Purchase \"orders\"");
    assert_eq!((&body["monitor"]["uuid"], &body["monitor"]["url"]), (&json!(null), &json!(null)));
    assert_eq!((&body["incident"]["id"], &body["incident"]["uuid"]), (&json!(null), &json!(row.incident_uuid)));
    assert_eq!(body["incident"]["recovered_at"], "2026-11-22T10:09:00.000Z");
}

#[tokio::test]
async fn a_put_is_a_put() {
    let receiver = Receiver::start(Rules { method: "PUT", ..Rules::default() }, []).await;
    deliver(&receiver.url("/#method=PUT"), &alert()).await.unwrap();
    assert_eq!(receiver.taken_and_doubled(), (1, 0));
}

#[test]
fn all_faults_of_a_url_come_at_once() {
    let text = faults("webhook+ftp://example.com#format=alertmanger&method=GET&hmac_key=&template=x&content_type=json");
    for part in [
        "url: holds no address of the web",
        "url#format: expected one of `watchbell`, `alertmanager`, `template` (hint: did you mean `alertmanager`?)",
        "url#method: expected one of `POST`, `PUT`",
        "url#template: is used only by the format `template`",
        "url#content_type: is no content type",
        "url#hmac_key: must not be empty",
    ] {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    assert!(faults("webhook:").contains("url: holds no address of the web"));
    assert!(faults("webhook+https://").contains("url: holds no address of the web"));
}

#[test]
fn it_is_described_without_secrets() {
    let url = "webhook+https://user:pw@hooks.example.com/T0/secret?key=s3cret#token=${env:TOKEN}";
    assert_eq!(open(url, &settings()).unwrap().describe(), "webhook at https://hooks.example.com");
    assert_eq!(open("webhook+${env:PATH}", &settings()).unwrap().describe(), "webhook at the address of a secret");
}

#[test]
fn the_examples_of_the_docs_work() {
    for example in super::TYPE.examples {
        assert!(open(example, &settings()).is_ok(), "{example}: {}", faults(example));
    }
}
