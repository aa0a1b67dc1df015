//! Bodies against a receiver of Alertmanager's version 4 that takes nothing else.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Deserialize;
use watchbell_contract::Severity;

use super::receiver::{Receiver, Rules};
use super::{alert, deliver, recovery, self_test};
use crate::domain::{NotificationType, OutboxRow, State};

/// As `webhook_config` is documented, each field required.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    version: String,
    group_key: String,
    truncated_alerts: u64,
    status: String,
    receiver: String,
    group_labels: BTreeMap<String, String>,
    common_labels: BTreeMap<String, String>,
    common_annotations: BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Alert {
    status: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

fn check(body: &[u8]) -> Result<(), String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let sets = [&body.group_labels, &body.common_labels, &body.common_annotations];
    let sets = sets.into_iter().chain(body.alerts.iter().flat_map(|alert| [&alert.labels, &alert.annotations]));
    for (label, value) in sets.flatten() {
        if !is_label_name(label) || value.is_empty() {
            return Err(format!("the label `{label}` = `{value}`"));
        }
    }
    let firing = body.alerts.iter().any(|alert| alert.status == "firing");
    let wrong = [
        ("version", body.version != "4"),
        ("groupKey", body.group_key.is_empty()),
        ("status", body.status != if firing { "firing" } else { "resolved" }),
        ("receiver", body.receiver.is_empty()),
        ("alerts", body.alerts.is_empty()),
        ("groupLabels", body.group_labels.iter().any(|(name, value)| body.common_labels.get(name) != Some(value))),
        ("truncatedAlerts", body.truncated_alerts != 0),
        ("externalURL", url::Url::parse(&body.external_url).is_err()),
    ];
    if let Some((field, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
        return Err((*field).to_owned());
    }
    body.alerts.iter().try_for_each(check_alert)
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
fn is_label_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_alert(alert: &Alert) -> Result<(), String> {
    let time = |text: &str| DateTime::parse_from_rfc3339(text).map_err(|error| format!("{text}: {error}"));
    let (starts_at, ends_at) = (time(&alert.starts_at)?, time(&alert.ends_at)?);
    let is_hex = |text: &str| text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let wrong = [
        ("endsAt", (alert.ends_at == NOT_ENDED) != (alert.status == "firing")),
        ("endsAt before startsAt", alert.status == "resolved" && ends_at < starts_at),
        ("status", !["firing", "resolved"].contains(&alert.status.as_str())),
        ("fingerprint", alert.fingerprint.len() != 16 || !is_hex(&alert.fingerprint)),
        ("alertname", !alert.labels.contains_key("alertname")),
        ("generatorURL", !alert.generator_url.is_empty() && url::Url::parse(&alert.generator_url).is_err()),
    ];
    wrong.iter().find(|(_, wrong)| *wrong).map_or(Ok(()), |(field, _)| Err((*field).to_owned()))
}

/// What a strict receiver took of these rows.
async fn taken(rows: &[OutboxRow]) -> Vec<Body> {
    let receiver = Receiver::start(Rules { body: check, ..Rules::default() }, []).await;
    for row in rows {
        deliver(&receiver.url("/alerts#format=alertmanager"), row).await.unwrap();
    }
    receiver.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

#[tokio::test]
async fn an_alert_fires_and_its_recovery_resolves_it() {
    let reminder = OutboxRow {
        uuid: uuid::Uuid::new_v4().to_string(),
        notification_type: NotificationType::Reminder,
        severity: Severity::Warning,
        ..alert()
    };
    let bodies = taken(&[alert(), reminder, recovery()]).await;
    let alerts: Vec<&Alert> = bodies.iter().map(|body| &body.alerts[0]).collect();
    let told: Vec<_> = alerts.iter().map(|alert| (&*alert.status, &*alert.starts_at, &*alert.ends_at)).collect();
    let start = "2026-11-22T10:00:00Z";
    let expected =
        [("firing", start, NOT_ENDED), ("firing", start, NOT_ENDED), ("resolved", start, "2026-11-22T10:09:00Z")];
    assert_eq!(told, expected);
    for body in &bodies {
        assert_eq!(body.group_key, bodies[0].group_key);
        assert_eq!(body.alerts[0].fingerprint, alerts[0].fingerprint);
    }
    let labels: Vec<_> = alerts[0].labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [("alertname", "Purchase \"orders\""), ("kind", "sql"), ("severity", "critical"), ("team", "shop")];
    assert_eq!(labels, expected);
    assert_eq!(alerts[0].annotations["summary"], alert().subject);
    assert_eq!(alerts[0].annotations["description"], alert().facts.message);
    assert_eq!(bodies[0].receiver, "ops-hook");
    assert!(alerts[0].generator_url.starts_with("https://watchbell.example.com/monitors/1d0f"));
}

#[tokio::test]
async fn a_recovery_that_tells_its_alert_has_both_times() {
    let mut row = recovery();
    row.facts.tells_alert = true;
    let bodies = taken(&[row]).await;
    assert_eq!(bodies[0].alerts.len(), 1);
    let alert = &bodies[0].alerts[0];
    assert_eq!((&*alert.status, &*alert.starts_at), ("resolved", "2026-11-22T10:00:00Z"));
    assert_eq!(alert.ends_at, "2026-11-22T10:09:00Z");
}

#[tokio::test]
async fn another_incident_is_another_alert() {
    let other = OutboxRow { incident_uuid: Some("another".to_owned()), ..alert() };
    let bodies = taken(&[alert(), other]).await;
    assert_ne!(bodies[0].alerts[0].fingerprint, bodies[1].alerts[0].fingerprint);
    assert_ne!(bodies[0].group_key, bodies[1].group_key);
}

#[tokio::test]
async fn what_is_no_alert_has_a_name_of_its_own() {
    let of = |notification_type| OutboxRow { notification_type, ..self_test() };
    let mut good_news = of(NotificationType::Notice);
    good_news.facts.state = Some(State::Ok);
    let bodies = taken(&[
        of(NotificationType::SelfTest),
        of(NotificationType::Test),
        of(NotificationType::Digest),
        of(NotificationType::Notice),
        good_news,
    ])
    .await;
    let told: Vec<_> = bodies.iter().map(|body| (&*body.status, &*body.alerts[0].labels["alertname"])).collect();
    let expected = [
        ("firing", "WatchbellSelfTest"),
        ("firing", "WatchbellTest"),
        ("firing", "WatchbellDigest"),
        ("firing", "WatchbellNotice"),
        ("resolved", "WatchbellNotice"),
    ];
    assert_eq!(told, expected);
    assert_eq!(bodies[0].alerts[0].annotations["description"], "12 monitors");
}

#[tokio::test]
async fn labels_are_made_to_fit_and_none_is_lost() {
    let mut row = alert();
    let labels =
        [("team", "a"), ("te-am", "b"), ("te_am", "c"), ("7up", "d"), ("größe", "e"), ("severity", "f"), ("no", "")];
    row.facts.labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let labels = taken(&[row]).await.remove(0).alerts.remove(0).labels;
    for (name, value) in [
        ("team", "a"),
        ("exported_te_am", "b"),
        ("te_am", "c"),
        ("_7up", "d"),
        ("gr__e", "e"),
        ("exported_severity", "f"),
        ("severity", "critical"),
    ] {
        assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name} in {labels:?}");
    }
    assert_eq!(labels.len(), 9, "{labels:?}");
}
