//! `outbox` and `outbox retry`.

use serde_json::{Value, json};

use super::Place;
use super::receiver::Receiver;
use crate::support::node::{Node, RARELY, SOON, people, wait_until};

/// An incident with these notifications to `a@example.com`, as type and status; over where there is a recovery.
fn incident(place: &Place, notifications: &[(&str, &str)]) {
    let is_over = notifications.iter().any(|(what, _)| *what == "recovery");
    let recovered_at = if is_over { "'2026-11-22T12:00:00.000Z'" } else { "NULL" };
    place.sql(&format!(
        "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message, recovered_at)
         VALUES (1, 'orders', '2026-11-22T11:00:00.000Z', 'x', {recovered_at})"
    ));
    for (what, status) in notifications {
        place.sql(&format!(
            "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, facts, status,
               attempts, planned_at, created_at, last_error, next_attempt_at)
             SELECT 1, max(id), '{what}', 'critical', 'a@example.com', 'orders {what}', 'b',
               '{{\"monitor_name\": \"orders\", \"message\": \"said by the {what}\", \"opened_at\": \"2026-11-22T11:00:00Z\",
                 \"at\": \"2026-11-22T12:00:00Z\", \"state\": \"ok\"}}',
               '{status}', 100, '2026-11-22T11:00:00.000Z', '2026-11-22T11:00:00.000Z', 'no such user',
               '2099-01-01T00:00:00.000Z' FROM incidents"
        ));
    }
}

fn statuses(place: &Place) -> Vec<String> {
    let all = ["pending", "sending", "held", "failed", "sent", "merged", "withdrawn"];
    let arguments: Vec<&str> = ["outbox"].into_iter().chain(all.iter().flat_map(|word| ["--status", *word])).collect();
    let of = |row: &Value| format!("{} {}", row["type"].as_str().unwrap(), row["status"].as_str().unwrap());
    place.json(&arguments).as_array().unwrap().iter().map(of).collect()
}

#[test]
fn what_waits_is_held_or_was_given_up_is_listed_with_its_reason() {
    let place = Place::migrated();
    assert_eq!(place.out(&["outbox"]), "nothing waits, nothing is held, nothing was given up\n");
    place.add_file_monitor("orders", &["--notify", "ops@example.com"]);
    place.sql(
        "INSERT INTO silences (monitor_id, ends_at, created_by, reason) VALUES (1, '2099-01-01', 'alice', 'deploy')",
    );
    place.out(&["run", "orders"]);
    incident(&place, &[("recovery", "failed")]);
    let list = place.out(&["outbox"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("id  age") && lines.len() == 3, "{list}");
    for part in ["held", "2099-01-01 00:00:00", "held by silence 1 (by alice: deploy)"] {
        assert!(lines[1].contains(part), "{part}: {list}");
    }
    assert!(lines[2].contains("failed  100") && lines[2].ends_with("no such user"), "{list}");
    let count = |arguments: &[&str]| place.json(&[&["outbox"], arguments].concat()).as_array().unwrap().len();
    assert_eq!(count(&["--status", "held"]), 1);
    assert_eq!(count(&["--status", "held", "--status", "failed"]), 2);
    assert_eq!(count(&["--recipient", "a@example.com"]), 1);
    assert_eq!(count(&["-n", "1"]), 1);
    assert!(place.out(&["outbox", "-n", "1"]).ends_with("the oldest 1; `-n` shows more\n"));
    assert_eq!(place.out(&["outbox", "--status", "sending"]), "there is no such notification\n");
    assert_eq!(place.run(&["outbox", "--status", "gone"]).status, 2);
    assert_eq!(place.run(&["outbox", "retry"]).status, 2);
    assert_eq!(place.run(&["outbox", "retry", "1", "--all"]).status, 2);
}

#[test]
fn an_alert_is_never_sent_after_its_recovery() {
    for (notifications, id, refusal) in [
        (&[("alert", "failed"), ("recovery", "sent")][..], "1", Some("its recovery was sent (notification 2)")),
        (&[("reminder", "failed"), ("recovery", "merged")], "1", Some("its recovery was sent (notification 2)")),
        (&[("alert", "failed"), ("recovery", "sending")], "1", Some("is being sent at this moment")),
        (&[("alert", "failed"), ("recovery", "withdrawn")], "1", Some("its incident is over")),
        (&[("alert", "sent")], "1", Some("it is `sent`, and only what was given up")),
        (&[("alert", "sent")], "7", Some("there is no such notification")),
        (&[("alert", "failed")], "1", None),
    ] {
        let place = Place::migrated();
        incident(&place, notifications);
        let before = statuses(&place);
        let ended = place.run(&["outbox", "retry", id]);
        match refusal {
            Some(refusal) => {
                assert!(ended.status == 1 && ended.out.contains(refusal), "{notifications:?}: {ended}");
                assert_eq!(statuses(&place), before, "{notifications:?}");
            }
            None => {
                assert_eq!(ended.status, 0, "{ended}");
                assert!(ended.out.starts_with("1 notification goes out again; nobody serves this database"), "{ended}");
                let row = &place.json(&["outbox"])[0];
                assert_eq!((&row["status"], &row["attempts"]), (&json!("pending"), &json!(0)));
                assert!(row["next_attempt_at"].as_str().unwrap() < "2099", "{row}");
                assert_eq!(row["planned_at"], "2026-11-22T11:00:00.000Z");
            }
        }
    }
}

#[test]
fn an_alert_whose_recovery_waits_is_told_by_it() {
    for (recovery, id, expected) in [
        ("failed", "1", "recovery pending"),
        ("failed", "2", "recovery pending"),
        ("pending", "1", "recovery pending"),
        ("held", "1", "recovery held"),
    ] {
        let place = Place::migrated();
        incident(&place, &[("alert", "failed"), ("recovery", recovery)]);
        let ended = place.run(&["outbox", "retry", id, "--json"]);
        assert_eq!(ended.status, 0, "{ended}");
        assert_eq!(statuses(&place), ["alert merged", expected], "{recovery} {id}");
    }
    let place = Place::migrated();
    incident(&place, &[("alert", "failed"), ("recovery", "failed")]);
    assert!(place.out(&["outbox", "retry", "--all"]).starts_with("2 notifications go out again"));
    assert_eq!(statuses(&place), ["alert merged", "recovery pending"]);
    assert_told_together(&place);
}

#[test]
fn a_recovery_that_is_not_planned_yet_does_not_wait_for_itself() {
    let place = Place::migrated();
    incident(&place, &[("alert", "failed"), ("recovery", "pending")]);
    place.sql("UPDATE notifications SET planned_at = NULL, attempts = 0, next_attempt_at = '2026-01-01' WHERE id = 2");
    place.out(&["outbox", "retry", "1"]);
    assert_told_together(&place);
}

/// Whoever drains the outbox sends one message that tells both.
#[track_caller]
fn assert_told_together(place: &Place) {
    place.add_file_monitor("orders", &["--notify", "someone-else@example.com"]);
    place.out(&["run", "orders"]);
    let mails = place.mails();
    let told: Vec<&String> = mails.iter().filter(|mail| mail.contains("To: a@example.com")).collect();
    assert!(told.len() == 1 && told[0].contains("Was down: ") && told[0].contains("said by the alert"), "{mails:?}");
}

#[test]
fn a_node_sends_again_what_was_refused() {
    let receiver = Receiver::start();
    receiver.answer(400);
    let node = Node::started();
    node.sql(&receiver.channel("hook"));
    for name in ["a", "b"] {
        node.break_with(name, "broken");
        node.register(name, RARELY, &[("people_to_notify", &people(&["hook"]))]);
    }
    node.wait_for_truth("SELECT count(*) = 2 FROM notifications WHERE status = 'failed'");
    receiver.answer(200);
    let other = node.watchbell(["outbox", "retry", "--recipient", "nobody"]);
    assert_eq!(String::from_utf8_lossy(&other.stdout), "nothing was given up\n");
    let output = node.watchbell(["outbox", "retry", "--recipient", "hook"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 notifications go out again; the node sends what waits\n");
    wait_until("both", SOON, || receiver.got().len() == 2);
    node.wait_for_delivery();
    let events = "SELECT group_concat(event, ',') FROM notification_events WHERE notification_id = 1 ORDER BY id";
    assert_eq!(node.sql(events), "given up,retried,sent");
    assert_eq!(receiver.got().len(), 2);
}
