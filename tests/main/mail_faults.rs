//! Mail servers that refuse, are slow, or break off: whom it concerns, and what arrives in the end.

use std::time::Duration;

use serde_json::{Value, json};
use watchbell::channels::{EmailSettings, SmtpMail};
use watchbell::ports::{Channel, DeliveryError};

use crate::mail::{notification, plain, plain_url, settings, starttls_url, trusting};
use crate::support::node::{Node, RARELY, people, wait_until};
use crate::support::smtp::SmtpServer;

/// A message may wait for a minute behind another one of its origin, and for the next attempt.
const PATIENCE: Duration = Duration::from_secs(120);
const ALERT: &str = "[Monitor ALERT]";
const RECOVERED: &str = "[Monitor RECOVERED]";

/// Whom a failure concerns.
#[derive(Debug, PartialEq)]
enum Concerns {
    /// All mail: the engine lets the rest wait.
    All,
    /// This mail, for now.
    This,
    /// This mail, for good.
    ThisForGood,
}

async fn failure(channel: &SmtpMail, recipient: &str) -> (Concerns, String) {
    match channel.deliver(&notification(1, recipient)).await {
        Err(DeliveryError::Unavailable { reason, .. }) => (Concerns::All, reason),
        Err(DeliveryError::Retry { reason, .. }) => (Concerns::This, reason),
        Err(DeliveryError::Permanent { reason }) => (Concerns::ThisForGood, reason),
        Ok(delivered) => panic!("it was delivered: {delivered:?}"),
    }
}

#[tokio::test]
async fn a_refusal_concerns_all_mail_until_the_sender_is_taken_and_this_mail_from_then_on() {
    use Concerns::{All, This, ThisForGood};
    let server = SmtpServer::start();
    let channel = trusting(&server, &starttls_url(&server));
    for (at, reply, concerns) in [
        ("CONNECT", "421 4.3.2 too busy", All),
        ("CONNECT", "554 5.3.2 no service here", All),
        ("AUTH", "454 4.7.0 not now", All),
        ("AUTH", "535 5.7.8 wrong", All),
        ("MAIL", "421 4.3.2 going down", All),
        ("MAIL", "451 4.3.0 later", All),
        ("MAIL", "452 4.3.1 disk full", All),
        ("MAIL", "530 5.7.0 login first", All),
        ("MAIL", "550 5.7.1 not you", All),
        ("RCPT", "421 4.7.0 too many errors", This),
        ("RCPT", "450 4.2.0 greylisted", This),
        ("RCPT", "452 4.5.3 too many recipients", This),
        ("RCPT", "530 5.7.0 login first", This),
        ("RCPT", "550 5.1.8 no such domain of the sender", This),
        ("RCPT", "553 5.7.1 <bell@x.test>: Sender address rejected: not owned by user u", This),
        ("RCPT", "550 5.1.1 no such mailbox", ThisForGood),
        ("RCPT", "554 5.7.1 relay access denied", ThisForGood),
        ("DATA", "421 4.3.2 going down", This),
        ("DATA", "451 4.7.1 the filter does not answer", This),
        ("DATA", "452 4.3.1 disk full", This),
        ("DATA", "552 5.3.4 too large", ThisForGood),
        ("DATA", "554 5.6.0 spam", ThisForGood),
    ] {
        server.fault(json!({"at": at, "reply": reply}));
        let (found, reason) = failure(&channel, "ops@y.test").await;
        assert_eq!(found, concerns, "{at} {reply}: {reason}");
        assert!(reason.contains(reply), "{at} {reply}: {reason}");
        assert_eq!(reason.contains("hint: `mail.from`"), reply.starts_with("550 5.7.1"), "{reason}");
    }
    assert!(server.mails().is_empty());
    channel.deliver(&notification(1, "ops@y.test")).await.unwrap();
}

#[tokio::test]
async fn a_session_that_breaks_or_is_silent_concerns_whom_a_refusal_there_would() {
    let server = SmtpServer::start();
    let quick = EmailSettings { timeout: Duration::from_secs(2), ..settings(&plain_url(&server)) };
    let (channel, quick) = (plain(&server), SmtpMail::new(quick).unwrap());
    for (at, concerns, when) in [
        ("CONNECT", Concerns::All, "before it was ready"),
        ("MAIL", Concerns::All, "while taking the sender"),
        ("RCPT", Concerns::This, "while taking the recipient"),
        ("BODY", Concerns::This, "while taking the mail"),
        ("DATA", Concerns::This, "while taking the mail"),
        ("TAKEN", Concerns::This, "while taking the mail"),
    ] {
        server.fault(json!({"at": at, "drop": true}));
        let (found, reason) = failure(&channel, "ops@y.test").await;
        assert_eq!(found, concerns, "{at} breaks: {reason}");
        server.fault(json!({"at": at, "delay": 30}));
        let (found, reason) = failure(&quick, "ops@y.test").await;
        assert_eq!(found, concerns, "{at} is silent: {reason}");
        assert!(reason.contains(when) && reason.contains(" 2 s"), "{at}: {reason}");
    }
    // Nobody learned that it was taken: the next attempt is a double.
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn a_sender_is_refused_for_this_mail_only_where_the_recipient_asks_for_more() {
    let server = SmtpServer::start();
    let channel = plain(&server);
    for (reply, concerns) in [("451 4.3.0 later", Concerns::This), ("555 5.5.4 no", Concerns::ThisForGood)] {
        server.fault(json!({"at": "MAIL", "reply": reply}));
        assert_eq!(failure(&channel, "jörg@bücher.example").await.0, concerns, "{reply}");
    }
}

/// A node whose mail server waits at most so long, and a monitor `Orders` that fails with these recipients.
fn alerting(timeout_seconds: u32, recipients: &[&str], faults: &[Value]) -> (Node, i64) {
    let mut node = Node::new().with_mail().with("WATCHBELL_MAIL__TIMEOUT_SECONDS", &timeout_seconds.to_string());
    faults.iter().for_each(|fault| node.smtp().fault(fault.clone()));
    node.start();
    node.break_with("Orders", "nothing came since noon");
    let columns = [("people_to_notify", &*people(recipients)), ("required_consecutive_oks", "1")];
    let monitor = node.register("Orders", RARELY, &columns);
    node.wait_for_runs(monitor, 1);
    (node, monitor)
}

/// What a recipient got: kind and Message-ID.
fn received(node: &Node, recipient: &str) -> Vec<(String, String)> {
    let mails = node.mails("Orders").into_iter().filter(|mail| mail.rcpt == [recipient]);
    mails.map(|mail| (mail.subject.replace(" Orders", ""), mail.header("Message-ID").unwrap())).collect()
}

#[track_caller]
fn wait_for_kinds(node: &Node, recipient: &str, wanted: &[&str]) {
    let kinds = || received(node, recipient).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    wait_until(&format!("{recipient} got {wanted:?}"), PATIENCE, || kinds().len() >= wanted.len());
    assert_eq!(kinds(), wanted, "{recipient}");
}

fn recover(node: &Node, monitor: i64) {
    node.heal("Orders");
    node.recheck(monitor);
}

#[test]
fn refused_for_now_at_any_step_all_arrives_once_and_in_order() {
    for at in ["CONNECT", "MAIL", "RCPT", "DATA"] {
        let fault = json!({"at": at, "reply": "451 4.3.0 later", "count": 3});
        let everybody = ["a@y.test", "b@y.test"];
        let (node, monitor) = alerting(30, &everybody, &[fault]);
        everybody.iter().for_each(|recipient| wait_for_kinds(&node, recipient, &[ALERT]));
        recover(&node, monitor);
        for recipient in everybody {
            wait_for_kinds(&node, recipient, &[ALERT, RECOVERED]);
        }
        assert_eq!(node.smtp().pending_faults(), 0, "{at}");
    }
}

#[test]
fn one_recipient_who_is_refused_for_now_or_for_good_holds_up_no_other() {
    let later = json!({"at": "RCPT", "address": "full@y.test", "reply": "452 4.2.2 full", "count": 1_000});
    let recipients = ["a@y.test", "full@y.test", "hard@y.test", "b@y.test"];
    let (node, monitor) = alerting(30, &recipients, &[later]);
    for recipient in ["a@y.test", "b@y.test"] {
        wait_for_kinds(&node, recipient, &[ALERT]);
    }
    node.wait_for_truth(
        "SELECT count(*) = 1 FROM notifications WHERE recipient = 'hard@y.test' AND status = 'failed' \
         AND attempts = 1 AND last_error LIKE '%550 5.1.1 no such mailbox%'",
    );
    node.wait_for_truth(
        "SELECT count(*) = 1 FROM notifications WHERE recipient = 'full@y.test' AND status = 'pending' \
         AND attempts >= 2 AND last_error LIKE '%452 4.2.2 full%'",
    );
    recover(&node, monitor);
    for recipient in ["a@y.test", "b@y.test"] {
        wait_for_kinds(&node, recipient, &[ALERT, RECOVERED]);
    }
    assert_eq!(received(&node, "full@y.test"), []);
}

#[test]
fn a_mail_that_is_refused_for_good_is_given_up_and_the_next_one_arrives() {
    let (node, monitor) = alerting(30, &["a@y.test"], &[json!({"at": "DATA", "reply": "554 5.6.0 spam"})]);
    node.wait_for_truth(
        "SELECT count(*) = 1 FROM notifications WHERE status = 'failed' AND last_error LIKE '%554 5.6.0 spam%'",
    );
    recover(&node, monitor);
    wait_for_kinds(&node, "a@y.test", &[RECOVERED]);
}

#[test]
fn broken_off_in_the_middle_it_arrives_once_and_broken_off_at_the_end_twice_recognizably() {
    for (at, arrivals) in [("MAIL", 1), ("RCPT", 1), ("BODY", 1), ("DATA", 1), ("TAKEN", 2)] {
        let (node, monitor) = alerting(30, &["a@y.test"], &[json!({"at": at, "drop": true})]);
        wait_for_kinds(&node, "a@y.test", &vec![ALERT; arrivals]);
        node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE status = 'sent' AND attempts = 2");
        recover(&node, monitor);
        wait_for_kinds(&node, "a@y.test", &[&vec![ALERT; arrivals][..], &[RECOVERED]].concat());
        let mut ids: Vec<_> = received(&node, "a@y.test").into_iter().map(|(_, id)| id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 2, "{at}: one Message-ID for the alert, one for the recovery: {ids:?}");
    }
}

#[test]
fn a_server_that_is_slow_with_one_recipient_is_quick_with_the_others_and_slowness_doubles_nothing() {
    let slow = json!({"at": "RCPT", "address": "slow@y.test", "delay": 8});
    let too_slow = json!({"at": "RCPT", "address": "slower@y.test", "delay": 60});
    let recipients = ["slow@y.test", "slower@y.test", "a@y.test", "b@y.test"];
    let (node, _) = alerting(15, &recipients, &[slow, too_slow]);
    for recipient in ["a@y.test", "b@y.test"] {
        wait_for_kinds(&node, recipient, &[ALERT]);
    }
    let times = |recipient: &str| {
        let mails = node.mails("Orders").into_iter().filter(|mail| mail.rcpt == [recipient]);
        mails.map(|mail| mail.time).next().unwrap()
    };
    for recipient in ["slow@y.test", "slower@y.test"] {
        wait_for_kinds(&node, recipient, &[ALERT]);
        assert!(times("a@y.test") + 4.0 < times(recipient), "{recipient} was told before the others");
    }
    node.wait_for_delivery();
    let attempts = "SELECT group_concat(attempts) FROM (SELECT attempts FROM notifications ORDER BY recipient)";
    assert_eq!(node.sql(attempts), "1,1,1,2");
    assert_eq!(node.log_lines_with("took longer than 15 s while taking the recipient"), 1);
    assert_eq!(node.mails("Orders").len(), recipients.len());
}
