//! `notify test`: one marked message, once, and the answer.

use std::time::Duration;

use super::Place;
use super::receiver::Receiver;
use crate::support::node::{Node, SOON, wait_until};

#[test]
fn a_test_mail_is_marked_and_its_answer_shown() {
    let place = Place::migrated();
    let shown = place.out(&["notify", "test", "ops@example.com"]);
    assert!(shown.starts_with("test message 1 to ops@example.com was taken after "), "{shown}");
    assert!(shown.contains("\nanswer: written to "), "{shown}");
    let mails = place.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains("Subject: [Watchbell TEST] this is a test, nothing is wrong\r\n"), "{mails:?}");
    assert!(mails[0].contains("This is a test, and nothing is wrong."), "{mails:?}");
    let json = place.json(&["notify", "test", "ops@example.com"]);
    assert_eq!((&json["is_taken"], &json["error"], &json["id"]), (&true.into(), &().into(), &2.into()), "{json}");
}

#[test]
fn a_wrong_recipient_is_answered_with_its_neighbours() {
    let place = Place::migrated();
    let none = place.run(&["notify", "test", "ops-matrix"]);
    assert!(none.status == 1 && none.err.contains("hint: there are no channels yet"), "{none}");
    place.sql("INSERT INTO channels (name, url) VALUES ('ops-matrix', 'mailto:a@example.com'), ('ops-slack', 'mailto:b@example.com')");
    let near = place.run(&["notify", "test", "ops-matrx"]).to_string();
    let expected = "\
error: `ops-matrx` is neither an e-mail address nor the name of a channel
hint: did you mean `ops-matrix` or `ops-slack`?
[1]";
    assert_eq!(near, expected);
    let bad = place.run(&["notify", "test", "a@@b"]);
    assert!(bad.status == 1 && bad.err.contains("is not an e-mail address"), "{bad}");
    assert_eq!(place.run(&["notify", "test"]).status, 2);
    assert_eq!(place.run(&["notify"]).status, 2);
    place.sql("INSERT INTO channels (name, url) VALUES ('broken', 'mailot:a@example.com')");
    let broken = place.run(&["notify", "test", "broken"]);
    assert!(broken.status == 1 && broken.err.contains("did you mean `mailto`?"), "{broken}");
    assert!(place.mails().is_empty() && place.json(&["outbox", "--status", "failed"]).as_array().unwrap().is_empty());
}

#[test]
fn a_test_that_failed_is_over_and_its_channel_is_shown_masked() {
    let (place, receiver) = (Place::migrated(), Receiver::start());
    place.sql(&receiver.channel("hook"));
    place.sql("UPDATE channels SET is_active = 0");
    let taken = place.out(&["notify", "test", "hook"]);
    assert!(
        taken.contains(&format!("`hook` (webhook+http://127.0.0.1:{}/***#token=***) was taken", receiver.port)),
        "{taken}"
    );
    assert!(taken.contains("note: the channel is switched off"), "{taken}");
    assert_eq!(receiver.got().len(), 1);
    for (status, hint) in [(503, "what is due there waits"), (400, "refused for good")] {
        receiver.answer(status);
        let ended = place.run(&["notify", "test", "hook"]);
        assert_eq!(ended.status, 1, "{ended}");
        assert!(ended.err.contains("was not taken, after ") && ended.err.contains(&status.to_string()), "{ended}");
        assert!(ended.err.contains("\nhint: "), "{hint}: {ended}");
        assert!(!ended.to_string().contains("hunter2"), "{ended}");
    }
    let json = place.run(&["notify", "test", "hook", "--json"]);
    assert!(json.status == 1 && json.out.contains("\"is_taken\": false") && !json.out.contains("hunter2"), "{json}");
    let failed = place.json(&["outbox", "--status", "failed"]);
    assert_eq!(failed.as_array().unwrap().len(), 3);
    assert_eq!(failed[0]["type"], "test");
    assert_eq!(place.json(&["outbox"]), serde_json::json!([]), "a test that failed is over");
    let again = place.run(&["outbox", "retry", &failed[0]["id"].to_string()]);
    assert!(again.status == 1 && again.out.contains("it was a test, and that is over"), "{again}");
    assert_eq!(place.out(&["outbox", "retry", "--all"]), "nothing was given up\n");
}

#[test]
fn a_running_node_does_not_send_it_as_well() {
    let receiver = Receiver::start();
    let node = Node::started();
    node.sql(&receiver.channel("hook"));
    // Long enough for the node to look at the outbox a few times meanwhile.
    receiver.take(Duration::from_millis(1_500));
    let output = node.watchbell(["notify", "test", "hook"]);
    assert!(output.status.success(), "{output:?}");
    receiver.take(Duration::ZERO);
    // What comes after it has been through the same dispatcher.
    node.break_with("shop", "broken");
    node.register("shop", "0 0 29 2 *", &[("people_to_notify", "'[\"hook\"]'")]);
    wait_until("the alert", SOON, || receiver.got().len() >= 2);
    node.wait_for_delivery();
    assert_eq!(receiver.got().len(), 2, "one test, one alert");
    assert_eq!(node.sql("SELECT status, attempts FROM notifications WHERE type = 'test'"), "sent|1");
}

#[test]
fn a_test_whose_process_died_is_tried_once_more_and_over() {
    let receiver = Receiver::start();
    receiver.answer(503);
    let node = Node::started();
    node.sql(&receiver.channel("hook"));
    node.sql(
        "INSERT INTO notifications (type, severity, recipient, subject, body, status, attempts, planned_at, lease_owner, \
           lease_until) \
         VALUES ('test', 'info', 'hook', 's', 'b', 'sending', 1, '2026-01-01', 'command:gone', '2026-01-01')",
    );
    node.wait_for_truth("SELECT status = 'failed' FROM notifications");
    assert_eq!(node.sql("SELECT attempts FROM notifications"), "2");
}
