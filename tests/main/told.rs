//! What a node tells the person who starts it and reads its log: where mail goes, who is told and who is not.

use crate::support::node::{Node, RARELY, SOON, people, wait_until};

#[test]
fn a_start_names_the_mail_server_and_never_the_password() {
    let mut node = Node::new().with("WATCHBELL_MAIL__URL", "smtp://u:hunter2@mx.example.com:2525?tls=required");
    let said = node.start();
    let from = node.watchbell(["config"]).stdout;
    assert!(String::from_utf8_lossy(&from).contains("u:***@mx.example.com"));
    assert!(said.contains(" through mx.example.com:2525 (STARTTLS)"), "{said}");
    assert!(!(said + &node.log()).contains("hunter2"));
}

#[test]
fn a_start_tells_what_of_the_configuration_has_no_effect() {
    let mut node = Node::new()
        .with("WATCHBELL_MAIL__URL", "smtp://u:${env:NO_SUCH_PASSWORD}@mx.example.com")
        .with("WATCHBELL_LISTEN", "127.0.0.1:8787");
    let said = node.start();
    assert!(said.contains("waits, since `mail.url` (smtp://u:${env:NO_SUCH_PASSWORD}@mx.example.com)"), "{said}");
    wait_until("the warnings", SOON, || node.log_lines_with("`listen` (WATCHBELL_LISTEN) is not used") == 1);
    assert_eq!(node.log_lines_with("no mail can be sent"), 1, "{}", node.log());
    let plain = Node::started();
    assert_eq!(plain.log_lines_with("WARN"), 0, "{}", plain.log());
}

#[test]
fn an_alert_of_which_nobody_is_told_is_one_line_of_the_log() {
    let node = Node::started();
    for (name, recipients) in [("Null", "NULL"), ("Silent", "'[]'")] {
        node.break_with(name, "down");
        let id = node.register(name, RARELY, &[("people_to_notify", recipients)]);
        node.wait_for_truth(&format!("SELECT state = 'alert' FROM monitors WHERE id = {id}"));
        node.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {id}"));
        node.wait_for_truth(&format!("SELECT count(*) = 2 FROM monitor_runs WHERE monitor_id = {id}"));
    }
    wait_until("both lines", SOON, || node.log_lines_with("nobody is told") == 2);
    let log = node.log();
    let line = |text: &str| log.lines().filter(|line| line.contains(text)).collect::<Vec<_>>().join("\n");
    let (null, silent) = (
        line("neither its `people_to_notify` nor a route names a recipient that there is"),
        line("as its `people_to_notify` says"),
    );
    assert!(null.contains("WARN") && null.contains("monitor.name=\"Null\""), "{log}");
    assert!(silent.contains("INFO") && silent.contains("monitor.name=\"Silent\""), "{log}");
}

#[test]
fn who_is_told_is_a_line_of_the_log_also_where_no_run_tells() {
    let node = Node::started();
    let ops = people(&["ops@x.test"]);
    let [reset, deleted] = ["Reset", "Deleted"].map(|name| {
        node.break_with(name, "down");
        node.register(name, RARELY, &[("people_to_notify", &ops)])
    });
    node.wait_for_truth("SELECT count(*) = 2 FROM notifications WHERE type = 'alert'");
    node.sql(&format!(
        "UPDATE monitors SET state = 'ok' WHERE id = {reset}; DELETE FROM monitors WHERE id = {deleted}"
    ));
    wait_until("four lines", SOON, || node.log_lines_with("people are to be told") == 4);
    let log = node.log();
    for text in [
        &*format!(
            "people are to be told, since a state was set to ok by hand monitor.id={reset} kind=recovery recipients=1"
        ),
        &*format!("people are to be told, since a row was deleted while in alert monitor.id={deleted} kind=recovery"),
        "kind=alert recipients=1 state_before=ok state_after=alert",
    ] {
        assert!(log.contains(text), "`{text}` is missing in:\n{log}");
    }
}
