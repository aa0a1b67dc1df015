//! Lanes: what is taken of which channel, and that a long backlog holds up no fresh critical alert.

use chrono::TimeDelta;
use watchbell::domain::{OutboxRow, Settlement};
use watchbell::ports::LaneClaim;

use super::bench::{Bench, sql_time};
use super::delivery::{ME, claim, sent, settle};
use crate::support::outbox;

async fn claim_lanes(bench: &Bench, lanes: &[(&str, u32)]) -> Vec<OutboxRow> {
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    let lanes: Vec<LaneClaim> =
        lanes.iter().map(|(lane, limit)| LaneClaim { lane: (*lane).to_owned(), limit: *limit }).collect();
    let now = bench.now();
    bench.store().claim_notifications(ME, now, now + TimeDelta::minutes(5), now, &lanes).await.unwrap()
}

fn recipients(rows: &[OutboxRow]) -> Vec<&str> {
    rows.iter().map(|row| row.recipient.as_str()).collect()
}

pub(crate) async fn each_lane_is_taken_for_itself(bench: &Bench) {
    for recipient in ["ann@example.com", "room", "bob@example.com", "room", "pager", "room"] {
        bench.queue("alert", recipient).await;
    }
    assert!(claim_lanes(bench, &[]).await.is_empty());
    assert_eq!(recipients(&claim_lanes(bench, &[("room", 2)]).await), ["room", "room"]);
    let claimed = claim_lanes(bench, &[("@", 1), ("room", 5), ("nowhere", 5)]).await;
    assert_eq!(recipients(&claimed), ["ann@example.com", "room"]);
    let left = bench.store().outlook().await.unwrap().lanes;
    let lease_end = bench.now() + TimeDelta::minutes(5);
    let left: Vec<_> = left.iter().map(|due| (due.lane.as_str(), due.at)).collect();
    assert_eq!(left, [("@", bench.now()), ("pager", bench.now()), ("room", lease_end)]);
}

/// Fifty that wait keep their order; of more, the newest critical alerts share the room with the oldest.
pub(crate) async fn a_long_backlog_holds_up_no_fresh_critical_alert(bench: &Bench) {
    let backlog = async |count: usize| {
        let now = sql_time(bench.now());
        let row = format!("('reminder', 'critical', 'room', 's', 'b', {now}, {now})");
        let columns = "type, severity, recipient, subject, body, created_at, next_attempt_at";
        bench.sql(&format!("INSERT INTO notifications ({columns}) VALUES {}", vec![row; count].join(", "))).await;
    };
    backlog(49).await;
    bench.pass_minutes(1);
    let alert = bench.queue("alert", "room").await;
    let ids = |rows: &[OutboxRow]| rows.iter().map(|row| row.id.0).collect::<Vec<_>>();
    let in_order = claim_lanes(bench, &[("room", 2)]).await;
    assert_eq!(ids(&in_order), [1, 2]);
    for row in in_order {
        settle(bench, ME, row.id, sent(bench.now())).await;
    }
    backlog(10).await;
    assert_eq!(ids(&claim_lanes(bench, &[("room", 2)]).await), [3, alert]);
    // One that is old by now has lost its turn, and gets it back in the order of the lane.
    let late = bench.queue("alert", "room").await;
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    bench.pass_minutes(1);
    let fresh = bench.queue("alert", "room").await;
    assert_eq!(ids(&claim_lanes(bench, &[("room", 3)]).await), [4, 5, fresh]);
    assert_eq!(bench.value(&format!("SELECT status FROM notifications WHERE id = {late}")).await, "pending");
}

pub(crate) async fn how_each_attempt_ended_is_in_the_ledger(bench: &Bench) {
    let [taken, refused] =
        [bench.queue("alert", "ann@example.com").await, bench.queue("alert", "bob@example.com").await];
    let claimed = claim(bench, ME, 10).await;
    let next_attempt_at = bench.now() + TimeDelta::minutes(1);
    settle(bench, ME, claimed[0].id, Settlement::Retry { next_attempt_at, error: "451 later".into() }).await;
    settle(bench, ME, claimed[1].id, Settlement::ChannelDown { error: "421 away".into() }).await;
    let row = format!("SELECT status, attempts, last_error FROM notifications WHERE id = {refused}");
    assert_eq!(bench.value(&row).await, "pending|1|421 away");
    assert_eq!(claim(bench, ME, 10).await[0].id.0, refused, "due when its channel takes anything, and not later");
    settle(bench, ME, claimed[1].id, Settlement::Failed { error: "550 no".into() }).await;
    bench.pass_minutes(1);
    let at = bench.now();
    let again = claim(bench, ME, 10).await;
    let answer = || Settlement::Sent { at, answer: "250 ok".into(), external_id: Some("m1".into()) };
    assert_eq!(settle(bench, "node:other", again[0].id, answer()).await, 0);
    settle(bench, ME, again[0].id, answer()).await;
    let ledger = bench.read("SELECT notification_id, event, detail FROM notification_events ORDER BY id").await;
    let line = |id: i64, rest: &str| format!("{id}|{rest}");
    let expected = [
        line(taken, "not taken|451 later"),
        line(refused, "not taken|421 away"),
        line(refused, "given up|550 no"),
        line(taken, "sent|250 ok"),
    ];
    assert_eq!(ledger, expected, "once each, by who held the lease");
    assert_eq!(bench.value(&format!("SELECT external_id FROM notifications WHERE id = {taken}")).await, "m1");
}

pub(crate) async fn what_the_service_calls_the_first_message_is_known_to_the_next(bench: &Bench) {
    let monitor = bench.insert_simple().await;
    bench.sql("UPDATE monitors SET reminder_frequency_minutes = 0").await;
    bench.fail(monitor).await;
    let named =
        |name: &str| Settlement::Sent { at: bench.now(), answer: String::new(), external_id: Some(name.into()) };
    let alert = claim(bench, ME, 1).await.remove(0);
    assert_eq!((&alert.thread_uuid, &alert.thread_external_id), (&alert.uuid, &None));
    settle(bench, ME, alert.id, named("first")).await;
    bench.fail(monitor).await;
    let reminder = claim(bench, ME, 1).await.remove(0);
    assert_eq!((&reminder.thread_uuid, reminder.thread_external_id.as_deref()), (&alert.uuid, Some("first")));
    assert_eq!(reminder.incident_uuid, alert.incident_uuid);
    settle(bench, ME, reminder.id, named("second")).await;
    bench.succeed(monitor).await;
    let recovery = claim(bench, ME, 1).await.remove(0);
    assert_eq!(recovery.thread_external_id.as_deref(), Some("first"), "the first of the incident, not the last");
    settle(bench, ME, recovery.id, named("third")).await;
    bench.fail(monitor).await;
    assert_eq!(claim(bench, ME, 1).await[0].thread_external_id, None, "another incident is another thread");
}
