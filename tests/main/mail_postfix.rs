//! Mail through a real mail server: Postfix, with TLS and a login, and a node that serves.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::node::{Node, RARELY, people, wait_until};
use crate::support::postfix::{HARD, Postfix, StoredMail, TEMPORARY};

/// A message may wait for a minute behind another one of its origin, and for the next attempt.
const PATIENCE: Duration = Duration::from_secs(120);
const ALERT: &str = "[Monitor ALERT]";
const REMINDER: &str = "[Monitor REMINDER]";
const RECOVERED: &str = "[Monitor RECOVERED]";
const EVERYBODY: [&str; 3] = ["a@y.test", "b@y.test", "c@y.test"];

/// An installation, not started, that mails through `url`.
fn node(url: &str) -> Node {
    Node::new().with("WATCHBELL_MAIL__URL", url).with("WATCHBELL_MAIL__FROM", "Watchbell <bell@x.test>")
}

/// The same that trusts Postfix's authority.
fn trusting_node(postfix: &Postfix, url: &str) -> Node {
    node(url).with("WATCHBELL_MAIL__CA_FILE", postfix.ca_file().to_str().unwrap())
}

/// A monitor that fails from now on; a reminder comes at every run, a recovery at the first good one.
fn fail(node: &Node, name: &str, recipients: &[&str]) -> i64 {
    node.break_with(name, "nothing came since noon\n..not even a dot");
    let recipients = people(recipients);
    let columns =
        [("people_to_notify", &*recipients), ("required_consecutive_oks", "1"), ("reminder_frequency_minutes", "0")];
    let monitor = node.register(name, RARELY, &columns);
    node.wait_for_runs(monitor, 1);
    monitor
}

fn recover(node: &Node, name: &str, monitor: i64) {
    node.heal(name);
    node.recheck(monitor);
}

/// Waits until a query about notifications is true, through waits between attempts.
#[track_caller]
fn wait_for(node: &Node, condition: &str) {
    let sql = format!("SELECT {condition} FROM notifications");
    wait_until(&sql, PATIENCE, || node.sql(&sql) == "1");
}

#[track_caller]
fn wait_for_delivery(node: &Node) {
    wait_for(node, "sum(status NOT IN ('sent', 'merged', 'withdrawn', 'failed')) = 0");
}

/// What waits to be told to `tmp@y.test` was tried at least so often more, and none of it out of turn.
#[track_caller]
fn wait_in_line(node: &Node, further_attempts: i64) {
    let attempts = "sum(attempts * (recipient = 'tmp@y.test'))";
    let before = node.number(&format!("SELECT {attempts} FROM notifications"));
    wait_for(node, &format!("{attempts} >= {}", before + further_attempts));
    let overtaken = "SELECT count(*) FROM notifications earlier JOIN notifications later \
        ON later.incident_id = earlier.incident_id AND later.recipient = earlier.recipient AND later.id > earlier.id \
        WHERE earlier.status IN ('pending', 'sending') AND later.attempts > 0";
    assert_eq!(
        node.number(overtaken),
        0,
        "{}",
        node.sql("SELECT id, type, recipient, status, attempts FROM notifications")
    );
}

/// The kinds of the mails that a recipient got about a monitor, in order.
fn told(mails: &[StoredMail], recipient: &str, name: &str) -> Vec<String> {
    let mailbox = recipient.trim_end_matches("@y.test");
    let kind = |mail: &StoredMail| mail.subject.strip_suffix(&format!(" {name}")).map(str::to_owned);
    mails.iter().filter(|mail| mail.mailbox == mailbox).filter_map(kind).collect()
}

/// Every mail came over TLS, with a login, and none came twice.
#[track_caller]
fn assert_no_doubles(mails: &[StoredMail]) {
    let ids: BTreeSet<_> = mails.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!(ids.len(), mails.len(), "a mail came twice: {mails:#?}");
    assert!(mails.iter().all(|mail| mail.protocol == "ESMTPSA"), "{mails:#?}");
}

/// What is owed for an incident that is over, however much of it was put together while nothing could be sent: one
/// recovery, at the end, and before it at most one alert, which nothing comes before.
#[track_caller]
fn assert_whole_story(mails: &[StoredMail], recipient: &str, name: &str) {
    let told = told(mails, recipient, name);
    let Some((last, before)) = told.split_last() else { panic!("{recipient} was told nothing of {name}") };
    assert_eq!(last, RECOVERED, "{recipient}, {name}: {told:?}");
    let is_story =
        before.first().is_none_or(|first| first == ALERT) && before.iter().skip(1).all(|kind| kind == REMINDER);
    assert!(is_story, "{recipient}, {name}: {told:?}");
}

/// A bad recipient and one who is refused for now, among good ones.
fn good_recipients_are_told_at_once(url: fn(&Postfix) -> String) {
    let mut postfix = Postfix::start();
    let mut node = trusting_node(&postfix, &url(&postfix));
    node.start();
    let monitor = fail(&node, "Orders", &["a@y.test", "hard@y.test", "tmp@y.test", "b@y.test", "c@y.test"]);

    wait_for(&node, "sum(status = 'sent' AND attempts = 1) = 3");
    let quick = "max(julianday(sent_at) - julianday(created_at)) * 86400 < 10";
    assert_eq!(node.sql(&format!("SELECT {quick} FROM notifications WHERE status = 'sent'")), "1");
    let refused = |recipient: &str, status: &str, said: &str| {
        format!("sum(recipient = '{recipient}' AND status = '{status}' AND last_error LIKE '%{said}%')")
    };
    wait_for(&node, &format!("{} = 1", refused("hard@y.test", "failed", &format!("{HARD}%this mailbox is gone"))));
    let tmp = refused("tmp@y.test", "pending", &format!("{TEMPORARY}%try again later"));
    wait_for(&node, &format!("{tmp} = 1 AND sum(attempts * (recipient = 'tmp@y.test')) >= 2"));

    let mails = postfix.mails();
    assert_no_doubles(&mails);
    for recipient in EVERYBODY {
        assert_eq!(told(&mails, recipient, "Orders"), [ALERT], "{recipient}");
    }
    assert_eq!(mails.len(), EVERYBODY.len(), "nobody else is told");
    for mail in &mails {
        assert_eq!(mail.header("To"), Some(&*format!("{}@y.test", mail.mailbox)));
        assert_eq!(mail.header("From"), Some("Watchbell <bell@x.test>"));
        for part in [&mail.text, &mail.html] {
            assert!(part.as_ref().is_some_and(|part| part.contains("nothing came since noon\n..not even")), "{mail:?}");
        }
    }

    recover(&node, "Orders", monitor);
    wait_for(&node, "sum(status = 'sent') = 6");
    wait_in_line(&node, 2);
    postfix.accept_tmp();
    wait_for_delivery(&node);
    let mails = postfix.mails();
    assert_no_doubles(&mails);
    for recipient in EVERYBODY {
        assert_eq!(told(&mails, recipient, "Orders"), [ALERT, RECOVERED], "{recipient}");
    }
    assert_whole_story(&mails, "tmp@y.test", "Orders");
    assert_eq!(told(&mails, "hard@y.test", "Orders"), [""; 0]);
    assert_eq!(
        node.number("SELECT count(*) FROM notifications WHERE status = 'failed' AND recipient <> 'hard@y.test'"),
        0
    );
}

#[test]
fn good_recipients_are_told_at_once_beside_bad_ones_over_starttls() {
    good_recipients_are_told_at_once(|postfix| postfix.starttls_url("p"));
}

#[test]
fn good_recipients_are_told_at_once_beside_bad_ones_over_tls_from_the_first_byte() {
    good_recipients_are_told_at_once(|postfix| postfix.tls_url("p"));
}

#[test]
fn what_a_recipient_is_owed_comes_in_order_once_he_is_taken() {
    let mut postfix = Postfix::start();
    let mut node = trusting_node(&postfix, &postfix.starttls_url("p"));
    node.start();
    let monitor = fail(&node, "Orders", &["tmp@y.test"]);
    wait_for(&node, "max(attempts) >= 2");
    node.recheck(monitor);
    wait_in_line(&node, 1);
    postfix.accept_tmp();
    wait_for_delivery(&node);
    recover(&node, "Orders", monitor);
    wait_for_delivery(&node);
    let mails = postfix.mails();
    assert_no_doubles(&mails);
    assert_whole_story(&mails, "tmp@y.test", "Orders");
    assert_eq!(told(&mails, "tmp@y.test", "Orders")[0], ALERT);
}

#[test]
fn a_wrong_password_loses_nothing_and_the_right_one_counts_without_a_restart() {
    let mut postfix = Postfix::start();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "hunter2").unwrap();
    let url = postfix.starttls_url(&format!("${{file:{}}}", password.display()));
    let mut node = trusting_node(&postfix, &url);
    node.start();
    let monitor = fail(&node, "Orders", &EVERYBODY);
    wait_for(&node, "count(*) > 0 AND max(attempts) >= 2 AND max(last_error) LIKE '%refused the login: 535 5.7.8%'");
    node.recheck(monitor);
    recover(&node, "Orders", monitor);
    assert!(postfix.mails().is_empty());
    assert_eq!(node.number("SELECT count(*) FROM notifications WHERE status IN ('sent', 'failed')"), 0);

    std::fs::write(&password, "p\n").unwrap();
    wait_for_delivery(&node);
    let mails = postfix.mails();
    assert_no_doubles(&mails);
    for recipient in EVERYBODY {
        assert_whole_story(&mails, recipient, "Orders");
    }
    assert!(!node.log().contains("hunter2") && !node.sql(".dump").contains("hunter2"));
}

#[test]
fn a_server_that_was_away_gets_in_order_and_once_what_happened_meanwhile() {
    let mut postfix = Postfix::start();
    let mut node = trusting_node(&postfix, &postfix.tls_url("p"));
    node.start();
    let early = fail(&node, "Early", &EVERYBODY);
    wait_for(&node, "sum(status = 'sent') = 3");

    postfix.stop();
    let orders = fail(&node, "Orders", &EVERYBODY);
    wait_for(&node, "max(last_error) LIKE '%refused%' AND max(attempts) >= 2");
    recover(&node, "Early", early);
    node.recheck(orders);
    fail(&node, "Still", &EVERYBODY);
    recover(&node, "Orders", orders);
    assert_eq!(node.number("SELECT count(*) FROM notifications WHERE status IN ('sent', 'failed')"), 3);

    postfix.start_again();
    wait_for_delivery(&node);
    let mails = postfix.mails();
    assert_no_doubles(&mails);
    for recipient in EVERYBODY {
        assert_eq!(told(&mails, recipient, "Early"), [ALERT, RECOVERED], "{recipient}");
        assert_whole_story(&mails, recipient, "Orders");
        assert_eq!(told(&mails, recipient, "Still"), [ALERT], "{recipient}");
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_gets_no_mail_and_no_password() {
    let mut postfix = Postfix::start();
    for url in [postfix.starttls_url("p"), postfix.tls_url("p")] {
        let before = postfix.mails().len();
        let mut node = node(&url);
        node.start();
        fail(&node, "Orders", &["a@y.test"]);
        wait_for(&node, "max(last_error) LIKE '%certificate%`mail.ca_file`%'");
        assert!(node.stop().success());
        assert_eq!(postfix.mails().len(), before);

        let mut node = node.with("WATCHBELL_MAIL__CA_FILE", postfix.ca_file().to_str().unwrap());
        node.start();
        wait_for_delivery(&node);
        assert_eq!(postfix.mails().len(), before + 1);
    }
    assert_no_doubles(&postfix.mails());
    assert!(!postfix.log().contains("authentication failed"), "{}", postfix.log());
}

#[test]
fn a_sender_that_the_server_does_not_want_is_no_end_of_the_mail() {
    let mut postfix = Postfix::start();
    let mut node = trusting_node(&postfix, &postfix.tls_url("p")).with("WATCHBELL_MAIL__FROM", "bell@box");
    node.start();
    fail(&node, "Orders", &["a@y.test"]);
    // Postfix says it in its answer to the recipient.
    wait_for(&node, "max(last_error) LIKE '%504 5.5.2 <bell@box>: Sender address rejected%' AND max(attempts) >= 2");
    assert!(node.stop().success());
    let mut node = node.with("WATCHBELL_MAIL__FROM", "bell@x.test");
    node.start();
    wait_for_delivery(&node);
    assert_eq!(told(&postfix.mails(), "a@y.test", "Orders"), [ALERT]);
}
