//! PagerDuty: who is paged, how often, and what a failure becomes.

use std::time::Duration;

use serde_json::Value;
use watchbell::domain::{NotificationType, State};
use watchbell::ports::DeliveryError;
use watchbell_contract::Severity;

use super::pagerduty_server::{Fault, KEY, ruleset_key, start};
use super::sample_rows::{faults, open, own_row, row};

fn url(api: &str, key: &str) -> String {
    format!("pagerduty:#routing_key=${{env:{key}}}&api={api}")
}

#[tokio::test]
async fn an_incident_pages_once_is_acknowledged_and_resolved() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let mut acknowledgment = row(1, 2, NotificationType::Notice);
    acknowledgment.facts.acknowledged_by = Some("Ada".to_owned());
    let alert = row(1, 0, NotificationType::Alert);
    // The alert comes twice, as after a crash.
    for row in [&alert, &alert, &row(1, 1, NotificationType::Reminder)] {
        let delivered = channel.deliver(row).await.unwrap();
        assert_eq!(delivered.answer, "202 Accepted, trigger of `watchbell:incident:incident-1`");
    }
    channel.deliver(&acknowledgment).await.unwrap();
    {
        let service = service.lock().unwrap();
        let alert = service.alert("watchbell:incident:incident-1");
        assert!(alert.is_open && alert.is_acknowledged, "{alert:?}");
        assert_eq!((service.pages, alert.entries), (1, 3));
        assert_eq!(alert.event["payload"]["summary"], "Orders: ALERT: nothing came since noon (0)");
        assert_eq!(alert.event["payload"]["source"], "Orders");
        assert_eq!(alert.event["payload"]["component"], "sql");
        assert_eq!(alert.event["payload"]["custom_details"]["labels"]["team"], "sales");
        assert_eq!(alert.event["payload"]["timestamp"], "2026-11-22T10:00:00.000Z");
        let page = "https://watchbell.example.com/monitors/5f0c7a10-1111-4222-8333-444455556666";
        assert_eq!(alert.event["links"][0]["href"], page);
        assert_eq!(alert.event["client"], "Watchbell");
    }
    let recovery = row(1, 4, NotificationType::Recovery);
    channel.deliver(&recovery).await.unwrap();
    channel.deliver(&recovery).await.unwrap();
    channel.deliver(&row(2, 0, NotificationType::Alert)).await.unwrap();
    let service = service.lock().unwrap();
    assert!(!service.alert("watchbell:incident:incident-1").is_open);
    assert!(service.alert("watchbell:incident:incident-2").is_open);
    assert_eq!((service.pages, service.dropped), (2, 1), "a second recovery is nothing new");
}

#[tokio::test]
async fn a_lost_answer_does_not_page_twice() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let alert = row(1, 0, NotificationType::Alert);
    service.lock().unwrap().faults.push_back(Fault::LostAnswer);
    assert!(matches!(channel.deliver(&alert).await, Err(DeliveryError::Unavailable { .. })));
    channel.deliver(&alert).await.unwrap();
    assert_eq!(service.lock().unwrap().pages, 1);
}

#[tokio::test]
async fn a_recovery_tells_of_an_alert_that_was_never_delivered() {
    let (server, service) = start().await;
    let mut recovery = row(1, 3, NotificationType::Recovery);
    recovery.facts.tells_alert = true;
    let answer = open(&url(&server.address, KEY)).deliver(&recovery).await.unwrap().answer;
    assert!(answer.find("trigger").unwrap() < answer.find("resolve").unwrap(), "{answer}");
    let service = service.lock().unwrap();
    let alert = service.alert("watchbell:incident:incident-1");
    assert_eq!((alert.is_open, service.pages, service.dropped), (false, 1, 0));
    assert_eq!(alert.event["payload"]["timestamp"], "2026-11-22T10:00:00.000Z", "when it began");
    assert!(alert.event["payload"]["summary"].as_str().unwrap().contains("was down, RECOVERED"));
}

#[tokio::test]
async fn a_resolve_that_fails_after_its_trigger_is_made_good_without_a_second_page() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let busy = Fault::Answer { status: 503, retry_after: None, body: String::new() };
    service.lock().unwrap().faults.extend([Fault::None, busy]);
    let mut recovery = row(1, 3, NotificationType::Recovery);
    recovery.facts.tells_alert = true;
    assert!(matches!(channel.deliver(&recovery).await, Err(DeliveryError::Unavailable { .. })));
    assert!(service.lock().unwrap().alert("watchbell:incident:incident-1").is_open);
    channel.deliver(&recovery).await.unwrap();
    let service = service.lock().unwrap();
    assert!(!service.alert("watchbell:incident:incident-1").is_open);
    assert_eq!(service.pages, 1);
}

#[tokio::test]
async fn what_belongs_to_no_incident_is_told_and_only_trouble_pages() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let mut good_news = own_row(2, NotificationType::Digest);
    good_news.facts.state = Some(State::Ok);
    for quiet in [&own_row(1, NotificationType::SelfTest), &good_news] {
        assert_eq!(channel.deliver(quiet).await.unwrap().answer, "202 Accepted, change event");
    }
    assert_eq!(service.lock().unwrap().pages, 0, "a self-test wakes nobody");
    assert_eq!(service.lock().unwrap().changes[0]["payload"]["source"], "Watchbell");
    let mut warning = own_row(3, NotificationType::Notice);
    warning.severity = Severity::Warning;
    for trouble in [&warning, &own_row(4, NotificationType::Digest), &own_row(5, NotificationType::Test)] {
        channel.deliver(trouble).await.unwrap();
    }
    let service = service.lock().unwrap();
    let notice = service.alert("watchbell:notification:notification-0-3");
    assert!(notice.is_open);
    assert_eq!(notice.event["payload"]["severity"], "warning");
    assert!(service.alert("watchbell:notification:notification-0-4").is_open);
    assert!(!service.alert("watchbell:notification:notification-0-5").is_open, "a test resolves itself");
    assert_eq!((service.pages, service.changes.len()), (3, 2));
}

#[tokio::test]
async fn an_acknowledgment_without_an_incident_is_not_lost() {
    let (server, service) = start().await;
    let mut notice = own_row(1, NotificationType::Notice);
    notice.facts.acknowledged_by = Some("Ada".to_owned());
    open(&url(&server.address, KEY)).deliver(&notice).await.unwrap();
    let service = service.lock().unwrap();
    assert_eq!((service.pages, service.dropped), (1, 0));
}

#[tokio::test]
async fn what_is_too_long_is_cut_and_details_go_before_the_page() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    for (incident, message) in [(1, "\u{1F525}\n".repeat(5_000)), (2, "\"\u{7}".repeat(300_000))] {
        let mut alert = row(incident, 0, NotificationType::Alert);
        alert.facts.message = message;
        alert.facts.monitor_name = "Long ".repeat(500);
        channel.deliver(&alert).await.unwrap();
    }
    let service = service.lock().unwrap();
    let details = |incident: u32| {
        service.alert(&format!("watchbell:incident:incident-{incident}")).event["payload"]["custom_details"].clone()
    };
    assert!(details(1)["message"].as_str().unwrap().len() == 25_000, "word for word where it fits");
    assert_eq!(details(2)["message"], Value::Null);
    assert_eq!(service.pages, 2);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let alert = row(1, 0, NotificationType::Alert);
    let fail = async |status: u16, retry_after: Option<u64>, body: &str| {
        service.lock().unwrap().faults.push_back(Fault::Answer { status, retry_after, body: body.to_owned() });
        channel.deliver(&alert).await.unwrap_err()
    };
    let wait = |error: DeliveryError| match error {
        DeliveryError::Unavailable { after, .. } => after,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(fail(429, None, "").await), Some(Duration::from_secs(120)));
    assert_eq!(wait(fail(429, Some(7), "").await), Some(Duration::from_secs(7)));
    assert_eq!(wait(fail(503, None, "").await), None);
    assert_eq!(wait(fail(200, None, "hello").await), None, "only 202 is a success");
    assert_eq!(wait(fail(404, None, "").await), None);
    let refused = fail(400, None, r#"{"status":"invalid event","errors":["'payload.source' is missing"]}"#).await;
    assert!(matches!(&refused, DeliveryError::Permanent { reason } if reason.contains("payload.source")), "{refused}");
    // It speaks of the key only because it repeats the message.
    let echoed = r#"{"errors":["bad event"],"event":{"message":"the routing key is wrong"}}"#;
    assert!(matches!(fail(400, None, echoed).await, DeliveryError::Permanent { .. }));
    for (plain, is_of_key) in [("Invalid routing key", true), ("<html>Bad Request</html>", false)] {
        let error = fail(400, None, plain).await;
        assert_eq!(matches!(error, DeliveryError::Unavailable { .. }), is_of_key, "{plain}");
        assert_eq!(matches!(error, DeliveryError::Retry { .. }), !is_of_key, "who knows who said {plain}");
    }
    let long = format!("refused: {} routing_key", "x".repeat(300));
    assert!(matches!(fail(400, None, &long).await, DeliveryError::Retry { .. }), "an echo, most likely");
    drop(server);
    assert_eq!(wait(channel.deliver(&alert).await.unwrap_err()), None);
}

#[tokio::test]
async fn a_wrong_key_lets_alerts_wait_and_a_self_test_holds_up_none() {
    let (server, _service) = start().await;
    for key in ["short", "ffffffffffffffffffffffffffffffff"] {
        let channel = open(&url(&server.address, key));
        let error = channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("integration key"), "{error}");
        let error = channel.deliver(&own_row(1, NotificationType::SelfTest)).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Retry { .. }), "{error:?}");
    }
    let ruleset = open(&url(&server.address, &ruleset_key()));
    ruleset.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap();
    let error = ruleset.deliver(&own_row(1, NotificationType::SelfTest)).await.unwrap_err();
    assert!(matches!(&error, DeliveryError::Permanent { reason } if reason.contains("key of a service")), "{error}");
}

#[tokio::test]
async fn the_key_is_never_shown() {
    let (server, service) = start().await;
    let channel = open(&url(&server.address, KEY));
    let mut shown = vec![channel.describe()];
    for status in [400, 401, 429, 500, 302, 418, 200] {
        service.lock().unwrap().faults.push_back(Fault::Echo(status));
        let error = channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    shown.push(channel.deliver(&row(1, 0, NotificationType::Alert)).await.unwrap().answer);
    service.lock().unwrap().faults.push_back(Fault::LostAnswer);
    shown.push(format!("{:?}", channel.deliver(&row(1, 0, NotificationType::Alert)).await));
    assert!(shown[1].contains("***"), "the echo came through: {}", shown[1]);
    for text in shown {
        assert!(!text.contains(KEY) && !text.contains(&KEY[..8]), "{text}");
    }
}

#[test]
fn faults_of_a_url_come_with_hints() {
    let missing = faults("pagerduty:#region=mars");
    assert!(missing.contains("url#region: expected one of `us`, `eu`"), "{missing}");
    assert!(missing.contains("url#routing_key: is required"), "{missing}");
    assert!(faults("pagerduty:#routing_key=x&api=ftp://x").contains("url#api: expected an address"));
    assert!(faults("pagerduty:#routing_key=x&api=https://x&region=eu").contains("url#region: has no meaning"));
    for example in watchbell::channels::find("pagerduty").unwrap().examples {
        assert!(open(example).describe().starts_with("PagerDuty"), "{example}");
    }
    assert_eq!(open("pagerduty:#routing_key=x").describe(), "PagerDuty at events.pagerduty.com");
    assert_eq!(open("pagerduty:#routing_key=x&region=eu").describe(), "PagerDuty at events.eu.pagerduty.com");
}
