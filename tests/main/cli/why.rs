//! `why`: the story of a tick, whoever was told, or not.

use serde_json::{Value, json};

use super::Place;
use super::receiver::Receiver;
use crate::support::node::{Node, RARELY, people, quoted};

fn why(node: &Node, arguments: &[&str]) -> Value {
    let output = node.watchbell([&["why"], arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn why_text(node: &Node, monitor: &str) -> String {
    String::from_utf8(node.watchbell(["why", monitor]).stdout).unwrap()
}

#[test]
fn who_was_told_by_which_rule_and_why_a_reminder_was_not_due() {
    let place = Place::migrated();
    place.add_file_monitor("orders", &["--notify", "ops@example.com", "--timezone", "Europe/Berlin"]);
    place.sql(
        "INSERT INTO routes (severity, selector, recipients, after_minutes, unless_acknowledged)
           VALUES ('critical', 'kind=file', '[\"boss@example.com\"]', 15, 1)",
    );
    let none = place.run(&["why", "orders"]);
    assert!(none.status == 1 && none.err.starts_with("error: monitor 1 `orders` has no runs yet\nhint: "), "{none}");
    place.out(&["run", "orders"]);
    place.out(&["run", "orders"]);

    let told = place.out(&["why", "orders"]);
    for line in [
        "monitor 1 `orders`\nrun 1, no tick (manual)\n",
        ", on node ",
        "  outcome   failed: ",
        "  state     ok -> alert: first failure\n",
        "  incident  1, opened ",
        "notification 1 (alert, critical) to ops@example.com: sent ",
        "  chosen by people_to_notify\n",
        "sent; the service answered: written to ",
        "notification 2 (alert, critical) to boss@example.com: held by route 1, which waits \
         (critical, where kind=file, after 15 min unless acknowledged), until ",
        " CET",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let latest = place.json(&["why", "orders", "--at", "2099-01-01T00:00:00Z"]);
    assert_eq!(latest["run"]["id"], 2);
    assert_eq!(latest["notifications"], json!([]));
    let nobody = latest["nobody_told_because"].as_str().unwrap();
    assert!(
        nobody.starts_with("still failing; no reminder due before 20") && nobody.contains("every 60 min"),
        "{nobody}"
    );
    assert_eq!(latest["transition"]["reason"], latest["nobody_told_because"]);

    let early = place.run(&["why", "orders", "--at", "2001-01-01 00:00"]);
    assert!(early.status == 1 && early.err.contains("has no run at that time or before\nhint: "), "{early}");
    for wrong in ["noon", "25:00", "2026-13-01 12:00", "2026-03-29 02:30"] {
        let ended = place.run(&["why", "orders", "--at", wrong]);
        assert!(ended.status == 2 && ended.err.contains("hint: "), "{wrong}: {ended}");
    }
    let unknown = place.run(&["why", "order"]).to_string();
    assert_eq!(unknown, "error: there is no monitor `order`\nhint: did you mean `orders` (id 1)?\n[1]");
}

#[test]
fn nobody_is_explained() {
    let place = Place::migrated();
    place.add_file_monitor("muted", &["--notify-nobody"]);
    place.add_file_monitor("unnamed", &[]);
    place.add_file_monitor("acked", &["--notify", "ops@example.com"]);
    for monitor in ["muted", "unnamed", "acked"] {
        place.out(&["run", monitor]);
    }
    place.sql("UPDATE incidents SET acknowledged_at = '2026-01-01', acknowledged_by = 'alice' WHERE monitor_id = 3");
    place.out(&["run", "acked"]);
    let why =
        |monitor: &str, more: &[&str]| place.json(&[&["why", monitor], more].concat())["nobody_told_because"].clone();
    assert_eq!(why("muted", &[]), "first failure; nobody is told: people_to_notify is `[]`");
    assert_eq!(
        why("unnamed", &[]),
        "first failure; nobody is told: neither people_to_notify nor a route names a recipient that there is"
    );
    let acked = "still failing; no reminder, since the incident is acknowledged";
    assert_eq!(why("acked", &["--at", "2099-01-01T00:00:00Z"]), acked);
    place.write("acked", "x");
    place.out(&["run", "acked"]);
    assert_eq!(why("acked", &["--at", "2099-01-01T00:00:00Z"]), "ok 1 of 2 in a row that end the alert");
    place.out(&["run", "acked"]);
    assert_eq!(place.json(&["why", "acked"])["transition"]["reason"], "ok 2 of 2 in a row: recovered");
    assert_eq!(place.json(&["why", "acked"])["notifications"][0]["rule"], "told before");
    place.out(&["run", "acked"]);
    assert_eq!(why("acked", &["--at", "2099-01-01T00:00:00Z"]), "the state stayed ok");
}

#[test]
fn what_a_silence_held_until_it_was_no_longer_true() {
    let place = Place::migrated();
    place.add_file_monitor("orders", &["--notify", "ops@example.com"]);
    place.sql(
        "INSERT INTO silences (monitor_id, ends_at, created_by, reason) VALUES (1, '2099-01-01', 'alice', 'deploy')",
    );
    place.out(&["run", "orders"]);
    let told = place.out(&["why", "orders"]);
    assert!(told.contains("held by silence 1 (by alice: deploy), until 2099-01-01 00:00:00 UTC"), "{told}");
    place.write("orders", "x");
    place.out(&["run", "orders"]);
    place.out(&["run", "orders"]);
    place.sql("DELETE FROM silences");
    // Whoever delivers anything looks at the edit.
    place.add_file_monitor("other", &["--notify", "other@example.com"]);
    place.out(&["run", "other"]);
    let run = place.json(&["history", "orders"])[2]["started_at"].as_str().unwrap().to_owned();
    let told = place.out(&["why", "orders", "--at", &run]);
    assert!(told.contains("to ops@example.com: withdrawn\n"), "{told}");
    assert!(told.contains("held by silence 1, which is gone by now, until 2099"), "{told}");
    assert!(told.contains("withdrawn: the incident was over before this was told"), "{told}");
}

#[test]
fn runs_that_are_written_together_owe_each_their_own() {
    const MONITORS: i64 = 40;
    let mut node = Node::new().with("WATCHBELL_DELIVERY__STORM_FIRST", "1000");
    assert!(node.watchbell(["migrate"]).status.success());
    for number in 0..MONITORS {
        let name = format!("m{number}");
        node.break_with(&name, "broken");
        node.register(&name, RARELY, &[("people_to_notify", &people(&["a@example.com", "b@example.com"]))]);
    }
    node.start();
    node.wait_for_truth(&format!("SELECT count(*) = {} FROM notifications WHERE type = 'alert'", 2 * MONITORS));
    let wrong = "SELECT count(*) FROM notifications n LEFT JOIN monitor_runs r ON r.id = n.run_id \
        WHERE n.type = 'alert' AND (r.id IS NULL OR r.monitor_id <> n.monitor_id OR r.notification_type IS NOT 'alert')";
    assert_eq!(node.number(wrong), 0);
    let batches = node.number("SELECT count(DISTINCT created_at) FROM notifications WHERE type = 'alert'");
    assert!(batches < MONITORS, "some share a transaction");
    assert_eq!(why(&node, &["m7"])["notifications"].as_array().unwrap().len(), 2);
}

#[test]
fn a_digest_and_what_became_of_it() {
    let mut node =
        Node::new().with("WATCHBELL_DELIVERY__STORM_FIRST", "1").with("WATCHBELL_DELIVERY__STORM_WINDOW_SECONDS", "60");
    assert!(node.watchbell(["migrate"]).status.success());
    for name in ["first", "second", "third"] {
        node.break_with(name, "broken");
        node.register(name, RARELY, &[("people_to_notify", &people(&["ops@example.com"]))]);
    }
    node.start();
    node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE type = 'digest' AND status = 'sent'");
    let merged = node.sql(
        "SELECT m.name FROM notifications n JOIN monitors m ON m.id = n.monitor_id WHERE n.status = 'merged' LIMIT 1",
    );
    let told = why_text(&node, &merged);
    assert!(told.contains("held by a storm: "), "{told}");
    assert!(told.contains(": told by notification ") && told.contains(" (digest): sent "), "{told}");
    assert!(told.contains(": sent; the service answered: written to "), "{told}");
    let story = why(&node, &[&merged]);
    assert_eq!(story["notifications"][0]["told_by"]["type"], "digest", "{story}");
}

#[test]
fn a_channel_that_takes_nothing_is_named_with_its_reason() {
    let receiver = Receiver::start();
    receiver.answer(503);
    let node = Node::started();
    node.sql(&receiver.channel("hook"));
    node.break_with("shop", "broken");
    let monitor = node.register("shop", RARELY, &[("people_to_notify", &people(&["hook"]))]);
    node.wait_for_truth("SELECT count(*) > 1 FROM notification_events WHERE event = 'not taken'");
    let standing = why(&node, &["shop"])["notifications"][0]["standing"].as_str().unwrap().to_owned();
    // The look may fall into an attempt.
    if !standing.starts_with("being sent now") {
        assert!(
            standing.starts_with("waits: the channel takes nothing since ") && standing.contains("503"),
            "{standing}"
        );
    }
    let told = why_text(&node, &monitor.to_string());
    assert!(told.contains("tried and not taken: ") && told.contains(" times, the last "), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    receiver.answer(200);
    node.wait_for_delivery();
    assert!(why_text(&node, "shop").contains("to hook: sent "), "{}", why_text(&node, "shop"));
    assert_eq!(receiver.got().len(), 1);
}

#[test]
fn an_edit_by_hand_is_told_beside_the_run_before_it() {
    let node = Node::started();
    node.break_with("shop", "broken");
    let monitor = node.register("shop", RARELY, &[("people_to_notify", &people(&["ops@example.com"]))]);
    node.wait_for_runs(monitor, 1);
    node.wait_for_delivery();
    node.sql(&format!("UPDATE monitors SET state = {} WHERE id = {monitor}", quoted("ok")));
    node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE type = 'recovery' AND status = 'sent'");
    let story = why(&node, &["shop"]);
    assert_eq!(story["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(story["without_run"][0]["type"], "recovery");
    assert!(why_text(&node, "shop").contains("told because somebody edited the row by hand"));
}

#[test]
fn what_an_older_version_wrote_is_not_called_an_edit() {
    let place = Place::migrated();
    place.add_file_monitor("orders", &["--notify", "ops@example.com"]);
    place.out(&["run", "orders"]);
    place.sql("UPDATE notifications SET run_id = NULL, rule = NULL; UPDATE monitor_runs SET reason = NULL");
    let told = place.out(&["why", "orders"]);
    assert!(told.contains("  told      alert; to whom is not recorded with the run"), "{told}");
    assert!(told.contains("told because of this run, or of an edit by hand"), "{told}");
    assert_eq!(place.json(&["why", "orders"])["nobody_told_because"], Value::Null);
}
