//! What people do to rows by hand while these are in alert: nobody who was told is left without an end.

use std::time::{Duration, Instant};

use crate::support::node::{Node, RARELY, people};

/// "Within seconds": the change log is followed several times a second, and the mail server is on this machine.
const WITHIN_SECONDS: Duration = Duration::from_secs(5);

/// A monitor that is in alert, of which `ops@x.test` was told.
fn in_alert(node: &Node, name: &str, more: &[(&str, &str)]) -> i64 {
    node.break_with(name, "down");
    let ops = people(&["ops@x.test"]);
    let columns: Vec<(&str, &str)> =
        [("people_to_notify", ops.as_str())].into_iter().chain(more.iter().copied()).collect();
    let monitor = node.register(name, RARELY, &columns);
    node.wait_for_mails(name, 1);
    node.wait_for_delivery();
    monitor
}

#[test]
fn a_row_deleted_while_in_alert_is_recovered_once_and_the_mail_says_why() {
    let node = Node::started_with_mail();
    let monitor = in_alert(&node, "Deleted", &[]);
    let began = Instant::now();
    node.sql(&format!("DELETE FROM monitors WHERE id = {monitor}"));
    let recovery = node.wait_for_mails("Deleted", 2).remove(1);
    assert!(began.elapsed() < WITHIN_SECONDS, "{:?}", began.elapsed());
    assert_eq!(recovery.subject, "[Monitor RECOVERED] Deleted");
    let text = recovery.text.as_deref().unwrap();
    assert!(text.contains("The monitor was deleted while in alert."), "{text}");
    assert_eq!(recovery.header("In-Reply-To"), node.mails("Deleted")[0].header("Message-ID"));
    node.wait_for_truth("SELECT count(*) = 1 FROM incidents WHERE recovered_at IS NOT NULL");
    // A row of the same name is another monitor.
    in_alert(&node, "Another", &[]);
    assert_eq!(node.told("Deleted"), ["[Monitor ALERT]", "[Monitor RECOVERED]"]);
}

#[test]
fn a_row_deleted_while_no_node_runs_is_recovered_at_the_next_start() {
    let mut node = Node::started_with_mail();
    let deleted = in_alert(&node, "Deleted", &[]);
    let reset = in_alert(&node, "Reset", &[]);
    node.kill();
    node.sql(&format!(
        "DELETE FROM monitors WHERE id = {deleted}; UPDATE monitors SET state = 'ok' WHERE id = {reset};"
    ));
    node.start();
    let text = node.wait_for_mails("Deleted", 2).remove(1).text.unwrap();
    assert!(text.contains("The monitor was deleted"), "{text}");
    let text = node.wait_for_mails("Reset", 2).remove(1).text.unwrap();
    assert!(text.contains("The state was set to ok by hand."), "{text}");
    assert_eq!(node.number("SELECT count(*) FROM incidents WHERE recovered_at IS NULL"), 0);
}

#[test]
fn a_state_set_to_ok_is_recovered_within_seconds_and_the_next_failure_alerts_anew() {
    let node = Node::started_with_every_mail();
    let monitor = in_alert(&node, "Reset", &[]);
    let began = Instant::now();
    node.sql(&format!("UPDATE monitors SET state = 'ok', consecutive_ok_count = 0 WHERE id = {monitor}"));
    let text = node.wait_for_mails("Reset", 2).remove(1).text.unwrap();
    assert!(began.elapsed() < WITHIN_SECONDS, "{:?}", began.elapsed());
    assert!(text.contains("The state was set to ok by hand. No check confirmed it."), "{text}");
    assert_eq!(node.column(monitor, "last_notification_type"), "recovery");
    node.recheck(monitor);
    node.wait_for_mails("Reset", 3);
    node.wait_for_delivery();
    assert_eq!(node.told("Reset"), ["[Monitor ALERT]", "[Monitor RECOVERED]", "[Monitor ALERT]"]);
    assert_eq!(node.sql("SELECT count(*), sum(recovered_at IS NULL) FROM incidents"), "2|1");
}

#[test]
fn a_state_set_to_alert_opens_an_incident_without_telling_anyone() {
    let node = Node::started_with_mail();
    let ops = people(&["ops@x.test"]);
    let columns = [("people_to_notify", ops.as_str()), ("required_consecutive_oks", "1")];
    let monitor = node.register("Exercise", RARELY, &columns);
    let reminded = node.register("Reminded", RARELY, &columns);
    node.wait_for_runs(monitor, 1);
    node.wait_for_runs(reminded, 1);
    node.sql("UPDATE monitors SET state = 'alert'");
    node.wait_for_truth("SELECT count(*) = 2 FROM incidents WHERE recovered_at IS NULL");
    assert_eq!(node.sql("SELECT count(*) FROM notifications"), "0");
    assert_eq!(node.sql("SELECT DISTINCT opening_message FROM incidents"), "The state was set to alert by hand.");
    // Nobody was told of it, so nobody is told of its end.
    node.recheck(monitor);
    assert_eq!(node.column(monitor, "state"), "ok");
    // One that fails goes on like any other: nobody was ever told, so a reminder is due.
    node.break_with("Reminded", "really down");
    node.recheck(reminded);
    node.wait_for_mails("Reminded", 1);
    node.heal("Reminded");
    node.recheck(reminded);
    node.wait_for_mails("Reminded", 2);
    node.wait_for_delivery();
    assert_eq!(node.told("Reminded"), ["[Monitor REMINDER]", "[Monitor RECOVERED]"]);
    assert!(node.mails("Exercise").is_empty());
}

#[test]
fn recipients_edited_during_an_alert() {
    let node = Node::started_with_mail();
    let often = [("reminder_frequency_minutes", "0"), ("required_consecutive_oks", "1")];
    let handed_over = in_alert(&node, "Handed over", &often);
    let muted = in_alert(&node, "Muted", &often);
    node.sql(&format!(
        "UPDATE monitors SET people_to_notify = {} WHERE id = {handed_over}; \
         UPDATE monitors SET people_to_notify = '[]' WHERE id = {muted};",
        people(&["dev@x.test"])
    ));
    for monitor in [handed_over, muted] {
        node.recheck(monitor);
    }
    node.heal("Handed over");
    node.heal("Muted");
    for monitor in [handed_over, muted] {
        node.recheck(monitor);
        assert_eq!(node.column(monitor, "state"), "ok");
    }
    node.wait_for_mails("Handed over", 4);
    node.wait_for_delivery();
    let mut told: Vec<(String, String)> =
        node.mails("Handed over").into_iter().map(|mail| (mail.subject, mail.rcpt[0].clone())).collect();
    told[2..].sort();
    let expected = [
        ("[Monitor ALERT] Handed over", "ops@x.test"),
        ("[Monitor REMINDER] Handed over", "dev@x.test"),
        ("[Monitor RECOVERED] Handed over", "dev@x.test"),
        ("[Monitor RECOVERED] Handed over", "ops@x.test"),
    ];
    let expected: Vec<(String, String)> = expected.map(|(subject, to)| (subject.to_owned(), to.to_owned())).into();
    assert_eq!(told, expected, "who was told learns the end, and so does who is to be told now");
    assert_eq!(node.told("Muted"), ["[Monitor ALERT]"], "with `[]` nobody is told, not even of the end");
}

#[test]
fn an_acknowledgment_by_sql_holds_reminders_until_it_ends() {
    let node = Node::started_with_every_mail();
    let monitor = in_alert(&node, "Known", &[("reminder_frequency_minutes", "0"), ("required_consecutive_oks", "1")]);
    node.sql("UPDATE incidents SET acknowledged_at = datetime('now'), acknowledged_by = 'kim'");
    node.recheck(monitor);
    node.recheck(monitor);
    assert_eq!(node.sql("SELECT is_acknowledged, acknowledged_by FROM monitor_status"), "1|kim");
    node.wait_for_delivery();
    assert_eq!(node.told("Known"), ["[Monitor ALERT]"]);
    node.sql("UPDATE incidents SET acknowledged_until = datetime('now', '-1 second')");
    node.recheck(monitor);
    node.wait_for_mails("Known", 2);
    node.heal("Known");
    node.recheck(monitor);
    node.wait_for_mails("Known", 3);
    assert_eq!(node.told("Known"), ["[Monitor ALERT]", "[Monitor REMINDER]", "[Monitor RECOVERED]"]);
}

#[test]
fn a_pause_keeps_the_incident_open_and_what_is_queued_still_goes_out() {
    let node = Node::started_with_mail();
    node.smtp().fault(serde_json::json!({"at": "RCPT", "reply": "451 4.3.0 later", "count": 1}));
    node.break_with("Paused", "down");
    let monitor = node.register("Paused", RARELY, &[("people_to_notify", &people(&["ops@x.test"]))]);
    node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE attempts >= 1 AND last_error IS NOT NULL");
    node.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {monitor}"));
    node.wait_for_mails("Paused", 1);
    assert_eq!(node.number("SELECT count(*) FROM incidents WHERE recovered_at IS NULL"), 1);
    node.heal("Paused");
    node.sql(&format!(
        "UPDATE monitors SET is_active = 1, required_consecutive_oks = 1, last_run_at = NULL WHERE id = {monitor}"
    ));
    node.wait_for_mails("Paused", 2);
    node.wait_for_delivery();
    assert_eq!(node.told("Paused"), ["[Monitor ALERT]", "[Monitor RECOVERED]"]);
}
