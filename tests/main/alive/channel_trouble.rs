//! A mail server that is away for long: the switch outside is silent, the admins are told over another channel, once,
//! and once that it is over.

use std::time::Duration;

use serde_json::json;

use super::listener::Listener;
use crate::support::node::{Node, quoted, wait_until};

const PATIENCE: Duration = Duration::from_secs(100);

#[test]
fn a_mail_server_that_is_away_is_told_over_another_channel_once_and_stops_the_pings() {
    let outside = Listener::start();
    let mut node = Node::new()
        .with_mail()
        .with("WATCHBELL_ADMINS", r#"["ops-hook", "boss@x.test"]"#)
        .with("WATCHBELL_DEADMAN__URL", &outside.url("/ping"))
        .with("WATCHBELL_DEADMAN__METHOD", "POST")
        .with("WATCHBELL_DEADMAN__EVERY_SECONDS", "5");
    node.smtp().fault(json!({"at": "CONNECT", "reply": "421 4.3.2 away", "count": 1_000_000}));
    assert!(node.watchbell(["migrate"]).status.success());
    let hook = format!("webhook+{}", outside.url("/hook"));
    node.sql(&format!("INSERT INTO channels (name, url) VALUES ('ops-hook', {})", quoted(&hook)));
    // It was tried in vain since eleven minutes ago.
    let then = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-11 minutes')";
    node.sql(&format!(
        "INSERT INTO notifications (type, severity, recipient, subject, body, created_at, planned_at, next_attempt_at, \
           attempts, last_error) VALUES ('alert', 'critical', 'a@x.test', 's', 'b', {then}, {then}, {then}, 3, 'away')"
    ));
    node.start();
    let notices = || outside.heard("/hook");
    wait_until("a notice", PATIENCE, || notices().len() == 1);
    let notice = &notices()[0].body;
    assert!(notice.contains("mail: messages do not get through") && notice.contains("421 4.3.2 away"), "{notice}");
    node.wait_for_truth("SELECT count(*) = 1 FROM nodes");
    assert_eq!(node.sql("SELECT count(heartbeat_at) FROM nodes"), "0", "no heartbeat of a node that is not well");
    node.kill();
    node.start();
    // Two looks of the watch after the restart.
    std::thread::sleep(Duration::from_secs(22));
    assert_eq!(notices().len(), 1, "told once, although the node was restarted");
    assert_eq!(outside.heard("/ping").len(), 0, "no ping while mail is not delivered");
    assert_eq!(node.number("SELECT count(*) FROM notifications WHERE type = 'notice' AND recipient LIKE '%@%'"), 0);
    assert!(node.log_lines_with("this node is not well") >= 1, "{}", node.log());

    node.smtp().clear();
    wait_until("the end is told", PATIENCE, || notices().len() == 2);
    let end = &notices()[1].body;
    assert!(end.contains("mail: messages get through again"), "{end}");
    wait_until("pings again", PATIENCE, || !outside.heard("/ping").is_empty());
    assert!(outside.heard("/ping").iter().all(|heard| heard.what == "POST /ping"));
    node.wait_for_truth("SELECT count(heartbeat_at) > 0 FROM nodes");
}
