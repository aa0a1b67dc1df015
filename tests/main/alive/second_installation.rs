//! A second installation watches the first through its database, and an outside switch is pinged only while it is well.

use std::time::Duration;

use serde_json::json;

use super::listener::Listener;
use crate::support::node::{EVERY_SECOND, Node, RARELY, people, quoted, wait_until};

/// A heartbeat comes every 5 s, and the silence that is allowed here is 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// An installation that watches `first`, and its monitor.
fn watching(first: &Node) -> (Node, i64) {
    let url = format!("sqlite://{}", first.database().display());
    let mut second = Node::new().with_mail().with("WATCHBELL_CONNECTIONS__FIRST__URL", &url);
    second = second.with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0");
    second.start();
    let config = json!({"connection": "first", "max_silence_seconds": 10}).to_string();
    let columns = [
        ("kind", quoted("watchbell")),
        ("config", quoted(&config)),
        ("required_consecutive_oks", "1".to_owned()),
        ("people_to_notify", people(&["ops@x.test"])),
    ];
    let columns: Vec<(&str, &str)> = columns.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let monitor = second.register("First", EVERY_SECOND, &columns);
    (second, monitor)
}

fn wait_for_state(node: &Node, monitor: i64, state: &str) -> String {
    wait_until(&format!("the monitor is in {state}"), PATIENCE, || node.column(monitor, "state") == state);
    node.column(monitor, "last_result_message")
}

#[test]
fn a_node_that_stands_still_or_is_killed_is_an_alert_elsewhere_and_pings_nothing() {
    let outside = Listener::start();
    let mut first = Node::new()
        .with("WATCHBELL_DEADMAN__URL", &outside.url("/ping/planted-s3cret"))
        .with("WATCHBELL_DEADMAN__EVERY_SECONDS", "5");
    first.start();
    let pings = || outside.heard("/ping/planted-s3cret").len();
    wait_until("a first ping", PATIENCE, || pings() >= 1);
    let (second, monitor) = watching(&first);
    second
        .wait_for_truth(&format!("SELECT last_result_message LIKE 'alive: node %' FROM monitors WHERE id = {monitor}"));

    first.signal("STOP");
    let before = pings();
    let said = wait_for_state(&second, monitor, "alert");
    assert!(said.contains("no node of it is well within 10 s") && said.contains("silent for 1"), "{said}");
    assert!(pings() <= before + 1, "a node that stands still pings nothing");
    second.wait_for_mails("First", 1);

    first.signal("CONT");
    wait_for_state(&second, monitor, "ok");
    let after = pings();
    wait_until("pings again", PATIENCE, || pings() > after);

    first.kill();
    wait_for_state(&second, monitor, "alert");
    first.start();
    wait_for_state(&second, monitor, "ok");
    first.stop();
    let said = wait_for_state(&second, monitor, "alert");
    assert!(said.contains("node"), "{said}");

    let told = second.wait_for_mails("First", 5);
    assert_eq!(told.len(), 5);
    let shown = String::from_utf8(first.watchbell(["config"]).stdout).unwrap();
    for text in [first.log(), shown] {
        assert!(!text.contains("planted-s3cret"), "{text}");
    }
}

#[test]
fn an_installation_does_not_watch_itself() {
    let node = Node::new();
    let url = format!("sqlite://{}", node.database().display());
    let mut node = node.with("WATCHBELL_CONNECTIONS__OWN", &url);
    node.start();
    let config = quoted(r#"{"connection": "own"}"#);
    let monitor = node.register("Own", RARELY, &[("kind", "'watchbell'"), ("config", &config)]);
    node.wait_for_runs(monitor, 1);
    let said = node.column(monitor, "last_result_message");
    assert!(said.contains("cannot notice its own end") && said.contains("second installation"), "{said}");
}
