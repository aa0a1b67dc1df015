//! A channel's `max_per_minute`, and routes that wait.

use super::{fail, recover, wait_for, wait_for_newest, wait_for_the_end};
use crate::support::node::{Node, people};

const ALERT: &str = "[Monitor ALERT]";
const RECOVERED: &str = "[Monitor RECOVERED]";

fn node() -> Node {
    let mut node = Node::new()
        .with_mail()
        .with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0")
        .with("WATCHBELL_DELIVERY__STORM_FIRST", "1000");
    node.start();
    node
}

/// What was planned or is held stands as if it had been so a minute (and a second) before.
fn let_a_minute_pass(node: &Node) {
    node.sql(
        "UPDATE notifications SET planned_at = strftime('%Y-%m-%dT%H:%M:%fZ', planned_at, '-61 seconds'), \
           next_attempt_at = strftime('%Y-%m-%dT%H:%M:%fZ', next_attempt_at, '-61 seconds')",
    );
}

/// Who got a mail about a monitor, and of which kind, in order.
fn told(node: &Node, name: &str) -> Vec<String> {
    let word = |subject: &str| subject.trim_end_matches(name).trim().to_owned();
    node.mails(name).into_iter().map(|mail| format!("{} {}", mail.rcpt.join(","), word(&mail.subject))).collect()
}

#[test]
fn a_channel_gets_no_more_than_it_takes_in_a_minute_and_the_rest_as_one() {
    let node = node();
    node.sql("INSERT INTO channels (name, url, max_per_minute) VALUES ('ops', 'mailto:ops@x.test', 3)");
    let names: Vec<String> = (0..8).map(|number| format!("m-{number}")).collect();
    let recipients = people(&["ops", "free@x.test"]);
    for name in &names {
        fail(&node, name, &recipients, &[]);
    }
    wait_for(&node, "SELECT count(*) = 5 FROM notifications WHERE status = 'held' AND hold_reason = 'rate_limit'");
    wait_for(&node, "SELECT count(*) = 11 FROM notifications WHERE status = 'sent'");
    let limited = || node.smtp().mails().into_iter().filter(|mail| mail.rcpt == ["ops@x.test"]).collect::<Vec<_>>();
    assert_eq!(limited().len(), 3);
    let_a_minute_pass(&node);
    wait_for_the_end(&node);
    let mails = limited();
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
    assert_eq!(mails.len(), 4, "{subjects:?}");
    assert!(subjects[3].contains("5 failing: "), "{subjects:?}");
    let lines = mails[3].text.as_deref().unwrap_or_default();
    let listed = names.iter().filter(|name| lines.contains(&format!("- {name}: "))).count();
    assert_eq!(listed, 5, "{lines}");
}

#[test]
fn a_route_that_waits_tells_of_what_is_still_open_and_not_acknowledged() {
    let node = node();
    node.sql(
        "INSERT INTO routes (recipients, after_minutes, unless_acknowledged) \
         VALUES ('[\"boss@x.test\"]', 1, 1), ('[\"chief@x.test\"]', 1, 0)",
    );
    let ops = people(&["ops@x.test"]);
    let open = fail(&node, "open", &ops, &[]);
    let acknowledged = fail(&node, "acknowledged", &ops, &[]);
    let over = fail(&node, "over", &ops, &[]);
    for name in ["open", "acknowledged", "over"] {
        node.wait_for_mails(name, 1);
    }
    wait_for_newest(&node, open, "alert held escalation 2");
    wait_for_newest(&node, acknowledged, "alert held escalation 2");
    let waits = "SELECT min((julianday(next_attempt_at) - julianday(created_at)) * 86400) > 55 \
        FROM notifications WHERE status = 'held'";
    assert_eq!(node.sql(waits), "1", "for a minute");
    node.sql(&format!(
        "UPDATE incidents SET acknowledged_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), acknowledged_by = 'ann' \
         WHERE monitor_id = {acknowledged}"
    ));
    recover(&node, "over", over);
    let_a_minute_pass(&node);
    wait_for_the_end(&node);
    recover(&node, "open", open);
    recover(&node, "acknowledged", acknowledged);
    wait_for_the_end(&node);
    let all = |name: &str| {
        let mut told = told(&node, name);
        told.sort_unstable();
        told
    };
    let of = |recipients: &[&str]| -> Vec<String> {
        recipients.iter().flat_map(|one| [ALERT, RECOVERED].map(|word| format!("{one} {word}"))).collect()
    };
    assert_eq!(all("open"), of(&["boss@x.test", "chief@x.test", "ops@x.test"]));
    assert_eq!(all("acknowledged"), of(&["chief@x.test", "ops@x.test"]), "somebody cares");
    assert_eq!(all("over"), of(&["ops@x.test"]), "it was over before");
}
