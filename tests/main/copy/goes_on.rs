//! What was copied is the same, and goes on where it was.

use std::fs;

use super::sample::{contents, installation, migrated};
use super::{copied, file, one, servers};
use crate::support::node::{Node, RARELY, SOON, people, wait_until};
use crate::support::sql;

#[tokio::test]
async fn round_all_three_databases_nothing_changes() {
    let node = installation();
    let [postgres, mariadb] = servers().await;
    let before = contents(&node.database());
    assert!(before.iter().all(|(table, rows)| !rows.is_empty() || table == "monitor_changes"), "{:?}", before.keys());
    let way = [file(&node, "watchbell.db"), postgres, mariadb, file(&node, "back.db")];
    for step in way.windows(2) {
        copied(&node, &step[0], &step[1]);
    }
    let after = contents(&node.path("back.db"));
    for (table, rows) in &before {
        // The order in which tables came to be numbered means nothing; an empty one is numbered by nobody.
        assert_eq!(rows, &after[table], "{table}");
    }
    let mark = node.sql("SELECT name FROM installation");
    assert!(mark.starts_with("(copied to `postgres://") && mark.ends_with("`, was it's ours)"), "{mark}");
}

#[tokio::test]
async fn on_each_server_numbers_edits_and_days_go_on() {
    for url in servers().await {
        let node = installation();
        let logged = node.number("SELECT max(id) FROM monitor_changes");
        let said = copied(&node, &file(&node, "watchbell.db"), &url);
        assert!(said.contains("monitors             2     the same, "), "{said}");
        assert!(said.contains("UPDATE installation SET name = 'it''s ours' WHERE id = 1;"), "{said}");
        assert!(said.contains("1. Give the role of the service its rights there (`docs/databases.md`"), "{said}");
        assert_eq!(one(&url, "SELECT name FROM installation").await, "it's ours");
        assert_eq!(
            one(&url, "SELECT recheck_seq FROM monitors WHERE id = 1002").await,
            node.column(1002, "recheck_seq")
        );
        let insert = "INSERT INTO monitors (name, kind, schedule) VALUES ('new', 'tcp', '* * * * *')";
        sql::execute(&url, insert).await;
        // 2000 was deleted before: its history must not become the new one's.
        assert_eq!(one(&url, "SELECT id FROM monitors WHERE name = 'new'").await, "2001", "{url}");
        sql::execute(&url, "UPDATE monitors SET name = 'edited' WHERE id = 1002").await;
        let revision: i64 = one(&url, "SELECT revision FROM monitors WHERE id = 1002").await.parse().unwrap();
        assert!(revision > logged, "{revision} after {logged}");
        let seen = one(&url, &format!("SELECT monitor_id FROM monitor_changes WHERE id = {revision}")).await;
        assert_eq!(seen, "1002");
        sql::execute(&url, "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message) VALUES (2001, 'n', '2026-01-01', 'm')").await;
        assert_eq!(one(&url, "SELECT max(id) FROM incidents").await, "502");
        if url.starts_with("postgres") {
            assert_eq!(one(&url, "SELECT count(*) FROM monitor_runs_default").await, "0");
            assert_eq!(one(&url, "SELECT count(*) FROM monitor_runs_20210601").await, "1");
        }
    }
}

/// An incident that is open, mail that waits, a silence, a route and a channel, over PostgreSQL and MariaDB and back.
#[tokio::test]
async fn an_installation_that_was_moved_goes_on() {
    let mut node = Node::new().with_mail().with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0");
    migrated(&node);
    node.start();
    let told = node.register(
        "Told",
        RARELY,
        &[("people_to_notify", &people(&["one@x.test", "two@x.test"])), ("required_consecutive_oks", "1")],
    );
    let silenced = node.register("Silenced", RARELY, &[("people_to_notify", &people(&["one@x.test"]))]);
    let routed = node.register("Routed", RARELY, &[("labels", r#"'{"team": "db"}'"#)]);
    for monitor in [told, silenced, routed] {
        node.wait_for_runs(monitor, 1);
    }
    node.sql(&format!(
        "INSERT INTO channels (name, url) VALUES ('desk', 'mailto:desk@x.test');
         INSERT INTO routes (selector, recipients) VALUES ('team=db', '[\"desk\"]');
         INSERT INTO silences (monitor_id, ends_at, reason) VALUES ({silenced}, datetime('now', '+1 day'), 'planned');"
    ));
    node.break_with("Told", "down before the move");
    node.recheck(told);
    node.wait_for_mails("Told", 2);
    node.wait_for_delivery();
    assert!(node.stop().success());
    // Written, and not sent: the node ended right then.
    node.sql(&format!(
        "INSERT INTO notifications (monitor_id, type, severity, recipient, subject, body, status, planned_at, origin)
         VALUES ({told}, 'test', 'info', 'waiting@x.test', '[Monitor TEST] Waiting', 'b', 'pending', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 'x')"
    ));
    move_around(&node).await;
    node.start();
    node.wait_for_mails("Waiting", 1);
    node.heal("Told");
    node.recheck(told);
    node.wait_for_mails("Told", 4);
    for (name, monitor) in [("Silenced", silenced), ("Routed", routed)] {
        node.break_with(name, "down after the move");
        node.recheck(monitor);
    }
    wait_until("the channel is told", SOON, || node.smtp().mails().iter().any(|mail| mail.subject.ends_with("Routed")));
    node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE status = 'held'");
    // An edit is seen: a new name is in the next message.
    node.sql(&format!("UPDATE monitors SET name = 'Renamed' WHERE id = {told}"));
    node.break_with("Told", "down again");
    node.recheck(told);
    node.wait_for_mails("Renamed", 2);
    node.wait_for_delivery();
    assert_eq!(node.told("Waiting").len(), 1, "sent once");
    let mut recovered: Vec<_> =
        node.mails("Told").into_iter().filter(|mail| mail.subject.contains("RECOVERED")).collect();
    recovered.sort_by(|one, other| one.rcpt.cmp(&other.rcpt));
    let recipients: Vec<_> = recovered.iter().flat_map(|mail| &mail.rcpt).collect();
    assert_eq!(recipients, ["one@x.test", "two@x.test"], "one recovery for each who was told");
    assert!(node.mails("Silenced").is_empty());
}

/// The node's database, moved to both servers and back.
async fn move_around(node: &Node) {
    let [postgres, mariadb] = servers().await;
    let way = [file(node, "watchbell.db"), postgres, mariadb, file(node, "back.db")];
    for step in way.windows(2) {
        copied(node, &step[0], &step[1]);
    }
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(node.path(format!("watchbell.db{suffix}"))).ok();
    }
    fs::rename(node.path("back.db"), node.database()).unwrap();
}
