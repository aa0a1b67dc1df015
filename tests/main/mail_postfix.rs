//! Mail through a real mail server: Postfix, with TLS and a login, and a node that serves.

use crate::support::node::{Node, RARELY, SOON, people, wait_until};
use crate::support::postfix::{HARD, Postfix, StoredMail, TEMPORARY};

const ALERT: &str = "[Monitor ALERT] Orders";
const RECOVERED: &str = "[Monitor RECOVERED] Orders";

/// A node, not started, that mails through `url` and trusts Postfix's authority.
fn node(postfix: &Postfix, url: &str) -> Node {
    Node::new()
        .with("WATCHBELL_MAIL__URL", url)
        .with("WATCHBELL_MAIL__FROM", "bell@x.test")
        .with("WATCHBELL_MAIL__CA_FILE", postfix.ca_file().to_str().unwrap())
}

#[test]
fn good_recipients_are_told_at_once_beside_a_bad_one() {
    let mut postfix = Postfix::start();
    let mut node = node(&postfix, &postfix.starttls_url("p"));
    node.start();
    node.break_with("Orders", "nothing came since noon");
    let all = people(&["a@y.test", "hard@y.test", "tmp@y.test", "b@y.test"]);
    node.register("Orders", RARELY, &[("people_to_notify", &all)]);
    node.wait_for_truth("SELECT count(*) = 2 FROM notifications WHERE status = 'sent'");
    let mails = postfix.mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    postfix.stop();
}
