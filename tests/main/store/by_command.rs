//! What people do from a room: acknowledgments, silences, how far a room was read, and who is told of it.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::domain::commands::{Acknowledge, IncidentRecord, NewSilence};
use watchbell::domain::{Acknowledgment, IncidentId, MonitorId, acknowledgment_notice};

use super::bench::Bench;

/// The open incident of a new monitor that told these recipients, a JSON array.
async fn incident(bench: &Bench, recipients: &str) -> (MonitorId, IncidentId) {
    let people = format!("'{recipients}'");
    let id = bench.insert(&[("people_to_notify", &people), ("required_consecutive_oks", "1")]).await;
    bench.fail(id).await;
    let incident = bench.value(&format!("SELECT id FROM incidents WHERE monitor_id = {id}")).await;
    (id, IncidentId(incident.parse().unwrap()))
}

fn request(incident: IncidentId, command: &str, until: Option<DateTime<Utc>>) -> Acknowledge {
    Acknowledge { incident, by: "@ann:x.test".to_owned(), note: None, until, command: command.to_owned() }
}

async fn acknowledge(bench: &Bench, request: &Acknowledge) -> Option<IncidentRecord> {
    bench.store().acknowledge(request, bench.now()).await.unwrap()
}

const ROOMS: &str = "INSERT INTO channels (name, url) VALUES ('ops', 'matrix:ops'), ('pager', 'pagerduty:x')";
const TOLD: &str = "SELECT type, recipient, incident_id FROM notifications WHERE rule = 'acknowledged' ORDER BY id";

/// Tells as the engine does; the number that was queued.
async fn tell(bench: &Bench) -> usize {
    let compose = |acknowledgment: &Acknowledgment| {
        let told = acknowledgment.told.iter();
        told.map(|(name, severity)| acknowledgment_notice(acknowledgment, name, *severity, chrono_tz::UTC)).collect()
    };
    bench.store().tell_acknowledgments(bench.now(), 100, &compose).await.unwrap()
}

pub(crate) async fn an_acknowledgment_by_command_is_as_good_as_by_sql(bench: &Bench) {
    let (monitor, incident) = incident(bench, r#"["ann@example.com"]"#).await;
    bench.sql(&format!("UPDATE monitors SET reminder_frequency_minutes = 0 WHERE id = {monitor}")).await;
    let until = bench.now() + TimeDelta::minutes(90);
    let asked = Acknowledge { note: Some("on it".to_owned()), ..request(incident, "ops/1", Some(until)) };
    let record = acknowledge(bench, &asked).await.unwrap();
    assert_eq!(record.acknowledged_at, Some(bench.now()));
    assert_eq!((record.acknowledged_until, record.acknowledgment_command.as_deref()), (Some(until), Some("ops/1")));
    let columns = "SELECT acknowledged_by, acknowledgment_note FROM incidents";
    assert_eq!(bench.value(columns).await, "@ann:x.test|on it");
    bench.fail(monitor).await;
    assert_eq!(bench.queued().await, ["alert|ann@example.com"], "reminders are not due");
    bench.pass_minutes(90);
    bench.fail(monitor).await;
    assert_eq!(bench.queued().await.len(), 2, "and are again at its end");
}

pub(crate) async fn the_same_acknowledgment_is_made_once(bench: &Bench) {
    let (monitor, incident) = incident(bench, r#"["ann@example.com"]"#).await;
    let first = acknowledge(bench, &request(incident, "ops/1", None)).await.unwrap();
    bench.pass_minutes(5);
    assert_eq!(acknowledge(bench, &request(incident, "ops/1", None)).await.as_ref(), Some(&first));
    let other = Acknowledge { by: "@bob:x.test".to_owned(), ..request(incident, "ops/2", None) };
    assert_eq!(acknowledge(bench, &other).await.as_ref(), Some(&first), "somebody else's holds");
    let until = bench.now() + TimeDelta::minutes(5);
    let shorter = acknowledge(bench, &request(incident, "ops/3", Some(until))).await.unwrap();
    assert_eq!((shorter.acknowledged_at, shorter.acknowledged_until), (first.acknowledged_at, Some(until)));
    bench.pass_minutes(1);
    let again = request(incident, "ops/3", Some(bench.now() + TimeDelta::minutes(5)));
    assert_eq!(acknowledge(bench, &again).await.as_ref(), Some(&shorter), "executed again, it ends no later");
    bench.pass_minutes(4);
    let anew = acknowledge(bench, &request(incident, "ops/4", None)).await.unwrap();
    assert_eq!((anew.acknowledged_at, anew.acknowledged_until), (Some(bench.now()), None), "the old one had ended");

    bench.succeed(monitor).await;
    let over = acknowledge(bench, &request(incident, "ops/5", None)).await.unwrap();
    assert!(over.recovered_at.is_some());
    assert_eq!(over.acknowledgment_command.as_deref(), Some("ops/4"), "what is over is left as it is");
    assert_eq!(acknowledge(bench, &request(IncidentId(999), "ops/6", None)).await, None);
}

pub(crate) async fn a_command_makes_one_silence_and_another_ends_it(bench: &Bench) {
    let monitor = bench.insert_simple().await;
    let new = |command: &str, minutes| NewSilence {
        monitor,
        starts_at: bench.now(),
        ends_at: bench.now() + TimeDelta::minutes(minutes),
        created_by: "@ann:x.test".to_owned(),
        reason: "by command".to_owned(),
        command: command.to_owned(),
    };
    let made = bench.store().add_silence(&new("ops/1", 30)).await.unwrap();
    let again = bench.store().add_silence(&new("ops/1", 60)).await.unwrap();
    assert_eq!(made, again, "the same command");
    let other = bench.store().add_silence(&new("ops/2", 60)).await.unwrap();
    assert_ne!(made.id, other.id);
    bench.sql(&format!("INSERT INTO silences (monitor_id, ends_at) VALUES ({monitor}, '2099-01-01')")).await;
    assert_eq!(bench.value("SELECT count(*) FROM silences").await, "3");
    let ended = bench.store().end_silences(monitor, bench.now()).await.unwrap();
    assert_eq!(ended, [made.id, other.id], "one by SQL is not a command's to end");
    assert!(bench.store().end_silences(monitor, bench.now()).await.unwrap().is_empty());
    bench.store().add_silence(&new("ops/1", 30)).await.unwrap();
    let ended = bench.store().end_silences(monitor, bench.now()).await.unwrap();
    assert!(ended.is_empty(), "what was ended stays ended");
}

pub(crate) async fn how_far_a_room_was_read_is_kept_and_edits_nothing(bench: &Bench) {
    bench.sql(ROOMS).await;
    let store = bench.store();
    let version = bench.value("SELECT version FROM rules_version").await;
    assert_eq!(store.inbox_cursor("ops", "matrix:ops").await.unwrap(), None);
    store.set_inbox_cursor("ops", "matrix:ops", "s1").await.unwrap();
    store.set_inbox_cursor("ops", "matrix:other", "s2").await.unwrap();
    store.set_inbox_cursor("gone", "matrix:ops", "s3").await.unwrap();
    assert_eq!(store.inbox_cursor("ops", "matrix:ops").await.unwrap().as_deref(), Some("s1"));
    assert_eq!(store.inbox_cursor("pager", "pagerduty:x").await.unwrap(), None);
    assert_eq!(bench.value("SELECT version FROM rules_version").await, version);
    bench.sql("UPDATE channels SET url = 'matrix:other' WHERE name = 'ops'").await;
    assert_eq!(store.inbox_cursor("ops", "matrix:other").await.unwrap(), None, "another room");
}

pub(crate) async fn how_everything_stands_is_counted(bench: &Bench) {
    let (_, older) = incident(bench, r#"["ann@example.com"]"#).await;
    let (_, newer) = incident(bench, r#"["ann@example.com"]"#).await;
    let (_, lapsed) = incident(bench, "[]").await;
    let (paused, _) = incident(bench, "[]").await;
    bench.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {paused}")).await;
    acknowledge(bench, &request(newer, "ops/1", None)).await;
    acknowledge(bench, &request(lapsed, "ops/2", Some(bench.now() + TimeDelta::minutes(1)))).await;
    bench.pass_minutes(1);
    let summary = bench.store().summary(bench.now(), 10).await.unwrap();
    assert_eq!((summary.monitors, summary.paused, summary.in_alert), (4, 1, 3));
    assert_eq!((summary.waiting, summary.held, summary.given_up), (2, 0, 0));
    let failing: Vec<_> = summary.failing.iter().map(|one| (one.incident, one.acknowledged_by.as_deref())).collect();
    assert_eq!(failing, [(lapsed, None), (older, None), (newer, Some("@ann:x.test"))], "who waits comes first");
    assert_eq!(bench.store().summary(bench.now(), 1).await.unwrap().failing.len(), 1);
}

pub(crate) async fn channels_that_were_told_are_told_of_the_acknowledgment_once(bench: &Bench) {
    bench.sql(ROOMS).await;
    let (_, first) = incident(bench, r#"["ops", "ann@example.com", "pager"]"#).await;
    let (_, held) = incident(bench, r#"["ops"]"#).await;
    bench.sql(&format!("UPDATE notifications SET status = 'held' WHERE incident_id = {}", held.0)).await;
    assert_eq!(tell(bench).await, 0, "nothing is acknowledged");
    bench
        .sql("UPDATE incidents SET acknowledged_at = '2026-11-22 01:00:00', acknowledged_by = 'Ann', acknowledgment_note = 'on it'")
        .await;
    assert_eq!(tell(bench).await, 2);
    assert_eq!(bench.read(TOLD).await, [format!("notice|ops|{}", first.0), format!("notice|pager|{}", first.0)]);
    let [by, state, message] = ["acknowledged_by", "state", "message"].map(|name| bench.database.field("facts", name));
    let facts = format!(
        "SELECT DISTINCT {by}, {state}, {message}, status, severity FROM notifications WHERE rule = 'acknowledged'"
    );
    assert_eq!(bench.value(&facts).await, "Ann|alert|Acknowledged by Ann: on it|pending|critical");
    assert_eq!(tell(bench).await, 0, "once");
    bench.sql("UPDATE incidents SET acknowledged_until = '2099-01-01', acknowledgment_note = 'still'").await;
    assert_eq!(tell(bench).await, 0, "another end is no other acknowledgment");
    bench.sql("UPDATE incidents SET acknowledged_at = NULL").await;
    assert_eq!(tell(bench).await, 0);
    bench.sql("UPDATE incidents SET acknowledged_at = '2026-11-22 02:00:00'").await;
    assert_eq!(tell(bench).await, 2, "a new one");
}

pub(crate) async fn nobody_is_told_of_acknowledgments_that_do_not_hold(bench: &Bench) {
    bench.sql(ROOMS).await;
    let (monitor, _) = incident(bench, r#"["ops"]"#).await;
    bench
        .sql("UPDATE incidents SET acknowledged_at = '2026-11-22 01:00:00', acknowledged_until = '2026-11-22 01:00:01'")
        .await;
    assert_eq!(tell(bench).await, 0, "it has ended");
    bench.sql("UPDATE incidents SET acknowledged_until = NULL; UPDATE monitors SET is_active = 0").await;
    assert_eq!(tell(bench).await, 0, "nothing new is sent of a paused monitor");
    bench.sql("UPDATE monitors SET is_active = 1").await;
    bench.succeed(monitor).await;
    assert_eq!(tell(bench).await, 0, "the incident is over");
    let (silent, _) = incident(bench, r#"["ops"]"#).await;
    bench.sql("UPDATE incidents SET acknowledged_at = '2026-11-22 01:00:00' WHERE recovered_at IS NULL").await;
    bench.sql(&format!("UPDATE monitors SET people_to_notify = '[]' WHERE id = {silent}")).await;
    assert_eq!(tell(bench).await, 0, "its row wants nobody told");
    bench.sql(&format!("UPDATE monitors SET people_to_notify = '[\"ops\"]' WHERE id = {silent}")).await;
    assert_eq!(tell(bench).await, 0, "nor later");
    assert!(bench.read(TOLD).await.is_empty());
}
