//! The self-test message arrives once a tick and recipient, however often the node is started.

use std::time::Duration;

use crate::support::node::{Node, RARELY, people, wait_until};

const SELF_TESTS: &str = "SELECT count(*) FROM notifications WHERE type = 'self_test'";

#[test]
fn a_self_test_that_was_slept_over_is_told_once_although_the_node_is_restarted() {
    // The last tick is at most eleven hours ago.
    let mut node = Node::new()
        .with_mail()
        .with("WATCHBELL_SELF_TEST__RECIPIENTS", r#"["ops@x.test", "boss@x.test"]"#)
        .with("WATCHBELL_SELF_TEST__SCHEDULE", "@every 11h");
    node.start();
    wait_until("two self-tests", Duration::from_secs(20), || node.smtp().mails().len() == 2);
    for round in 0..2 {
        if round == 0 {
            node.stop();
        } else {
            node.kill();
        }
        node.start();
        // What was queued meanwhile would be sent before what is queued now.
        let name = format!("later {round}");
        node.break_with(&name, "down");
        node.register(&name, RARELY, &[("people_to_notify", &people(&["ops@x.test"]))]);
        node.wait_for_mails(&name, 1);
        node.wait_for_truth("SELECT count(*) > 0 FROM nodes WHERE heartbeat_at > started_at");
    }
    node.wait_for_delivery();
    assert_eq!(node.number(SELF_TESTS), 2);
    let mails = node.smtp().mails();
    let told: Vec<_> = mails.iter().filter(|mail| mail.subject.starts_with("[Watchbell] alive: ")).collect();
    assert_eq!(told.len(), 2, "{mails:#?}");
    let text = told[0].text.clone().unwrap();
    for words in ["is alive on node", "Monitors: 0 (0 active, 0 paused)", "In alert: 0", "no tick was run", "0 sent"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_self_test_comes_at_its_tick_and_says_how_it_went() {
    let mut node = Node::new().with_mail();
    node.start();
    node.break_with("Orders", "down");
    let orders = node.register("Orders", "* * * * * *", &[("people_to_notify", &people(&["ops@x.test"]))]);
    node.register("Paused", RARELY, &[("is_active", "0")]);
    node.wait_for_mails("Orders", 1);
    node.wait_for_truth("SELECT count(*) > 1 FROM monitor_runs WHERE cause = 'schedule'");
    node.stop();
    // Ticks of every second from here on: the first after the start tells of what was.
    let mut node = node
        .with("WATCHBELL_SELF_TEST__RECIPIENTS", r#"["boss@x.test"]"#)
        .with("WATCHBELL_SELF_TEST__SCHEDULE", "*/2 * * * * *");
    node.start();
    wait_until("three self-tests", Duration::from_secs(30), || {
        node.smtp().mails().iter().filter(|mail| mail.rcpt == ["boss@x.test"]).count() >= 3
    });
    let mails = node.smtp().mails();
    let told = mails.iter().find(|mail| mail.rcpt == ["boss@x.test"]).unwrap();
    assert_eq!(told.subject, "[Watchbell] alive: 2 monitors, 1 in alert");
    let text = told.text.clone().unwrap();
    for words in ["Monitors: 2 (1 active, 1 paused)", "In alert: 1\n- Orders", "Lateness p99: ", "1 sent, 0 given up"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(node.column(orders, "state"), "alert");
    let ticks =
        "SELECT count(*) = count(DISTINCT json_extract(facts, '$.at')) FROM notifications WHERE type = 'self_test'";
    assert_eq!(node.sql(ticks), "1");
}
