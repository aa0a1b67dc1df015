//! What is not copied, and why: told before anything is lost.

use super::sample::{installation, migrated};
use super::{copied, copy, file, one, refused, servers};
use crate::support::node::Node;
use crate::support::sql;

#[tokio::test]
async fn a_database_that_is_served_is_not_copied() {
    let mut node = Node::started();
    let from = file(&node, "watchbell.db");
    let said = refused(&node, &from, &file(&node, "b.db"));
    assert!(said.contains("another `watchbell serve` is running on it; stop that one first"), "{said}");
    assert!(!node.path("b.db").exists());
    assert!(node.stop().success());
    for url in servers().await {
        let source = installation();
        copied(&source, &file(&source, "watchbell.db"), &url);
        sql::execute(
            &url,
            "INSERT INTO nodes (uuid, name, started_at, lease_until, version) VALUES ('u', 'alive', '2026-01-01', '2999-01-01', 'v')",
        )
        .await;
        let said = refused(&node, &url, &file(&node, "c.db"));
        assert!(said.contains("is being served by `alive` (its lease lasts until 00:00:00 UTC)"), "{said}");
        assert!(said.contains("hint: stop it first"), "{said}");
        sql::execute(&url, "DELETE FROM nodes WHERE uuid = 'u'").await;
        copied(&node, &url, &file(&node, "c.db"));
        for suffix in ["", ".lock"] {
            std::fs::remove_file(node.path(format!("c.db{suffix}"))).unwrap();
        }
    }
}

#[tokio::test]
async fn a_target_that_holds_something_is_not_touched() {
    let node = installation();
    let from = file(&node, "watchbell.db");
    for url in servers().await {
        let other = Node::new();
        migrated(&other);
        other.sql("INSERT INTO channels (name, url) VALUES ('theirs', 'ntfy://x.test/t')");
        copied(&other, &file(&other, "watchbell.db"), &url);
        for anew in [&[][..], &["--anew"]] {
            let output = copy(&node, &[&["--from", &from, "--to", &url], anew].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("is in use: its table `channels` is not empty"), "{said}");
        }
        assert_eq!(one(&url, "SELECT count(*) FROM channels").await, "1");
    }
    assert_eq!(node.sql("SELECT name FROM installation"), "it's ours", "and the source is as it was");
}

#[test]
fn a_source_that_is_none_or_was_copied_before_is_told_of() {
    let node = installation();
    let from = file(&node, "watchbell.db");
    let said = refused(&node, &file(&node, "nowhere.db"), &file(&node, "b.db"));
    assert!(said.contains("there is no database `") && said.contains("nowhere.db`"), "{said}");
    let said = refused(&node, &from, &from);
    assert!(said.contains("name the same database"), "{said}");
    copied(&node, &from, &file(&node, "b.db"));
    let said = refused(&node, &from, &file(&node, "c.db"));
    assert!(said.contains("b.db` already"), "{said}");
    let said = refused(&node, &file(&node, "b.db"), &from);
    assert!(said.contains("is in use"), "{said}");
    // `serve` opens the database in the same place; were it not refused, it would not end.
    for command in ["migrate", "list"] {
        let output = node.watchbell([command]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("whoever served both would tell everybody twice"), "{said}");
    }
    // The way back that it tells.
    node.sql("UPDATE installation SET name = 'it''s ours' WHERE id = 1;");
    assert!(node.watchbell(["list"]).status.success());
}

/// What is wrong, in which row of the sample, and how it is told. `None`: this target can hold it.
#[tokio::test]
async fn a_row_that_cannot_be_held_is_named_and_mended() {
    // MariaDB keeps JSON as it was written; MySQL writes it anew, with spaces, as PostgreSQL does.
    let is_mysql = !one(&servers().await[1], "SELECT version()").await.contains("MariaDB");
    let cases: [(&str, &str, Option<&str>, Option<&str>); 6] = [
        (
            "UPDATE notifications SET recipient = replace(hex(zeroblob(200)), '0', 'é') WHERE id = 900",
            "UPDATE notifications SET recipient = 'short@x.test' WHERE id = 900",
            None,
            Some("table `notifications`, row id = 900, column `recipient`: Data too long"),
        ),
        (
            "UPDATE monitor_runs SET message = CAST(x'66ff6f' AS TEXT) WHERE id = 700",
            "UPDATE monitor_runs SET message = 'foo' WHERE id = 700",
            Some("table `monitor_runs`, row id = 700, column `message`: it holds bytes that are no UTF-8 text"),
            Some("table `monitor_runs`, row id = 700, column `message`: it holds bytes that are no UTF-8 text"),
        ),
        (
            "UPDATE monitor_run_hours SET runs = 'many' WHERE monitor_id = 2000",
            "UPDATE monitor_run_hours SET runs = 1 WHERE monitor_id = 2000",
            Some(
                "row monitor_id = 2000 AND starts_at = '2021-06-01 12:00:00.000', column `runs`: it holds no whole number, but TEXT",
            ),
            Some("column `runs`: it holds no whole number"),
        ),
        (
            "UPDATE channels SET created_at = 'yesterday'",
            "UPDATE channels SET created_at = '2021-01-01 12:00:00'",
            Some("table `channels`, row id = 1, column `created_at`: it holds a text that is no time"),
            Some("column `created_at`: it holds a text that is no time"),
        ),
        (
            "UPDATE monitor_runs SET is_ok = 70000 WHERE id = 701",
            "UPDATE monitor_runs SET is_ok = 1 WHERE id = 701",
            Some("table `monitor_runs`, row id = 701"),
            Some("table `monitor_runs`, row id = 701, column `is_ok`: Out of range"),
        ),
        (
            "UPDATE monitors SET config = '{\"a\":[' || substr(replace(hex(zeroblob(15000)), '0', '1,'), 1, 59999) || ']}' WHERE id = 1002",
            "UPDATE monitors SET config = '{}' WHERE id = 1002",
            Some("table `monitors`, row id = 1002, column `config`"),
            is_mysql.then_some("table `monitors`, row id = 1002, column `config`"),
        ),
    ];
    for (break_it, mend_it, on_postgres, on_mariadb) in cases {
        for (url, expected) in servers().await.into_iter().zip([on_postgres, on_mariadb]) {
            let node = installation();
            let from = file(&node, "watchbell.db");
            node.sql(break_it);
            let Some(expected) = expected else {
                copied(&node, &from, &url);
                continue;
            };
            let said = refused(&node, &from, &url);
            assert!(said.contains(expected), "{break_it}: {said}");
            assert!(said.contains("hint: look at it in the source: SELECT "), "{said}");
            node.sql(mend_it);
            let output = copy(&node, &["--from", &from, "--to", &url, "--anew"]);
            assert!(output.status.success(), "{mend_it}: {output:?}");
        }
    }
}

#[tokio::test]
async fn nul_is_replaced_where_it_cannot_be_held_and_counted() {
    for url in servers().await {
        let node = installation();
        node.sql(
            "UPDATE monitor_runs SET message = 'a' || char(0) || 'b', metrics = '{\"x\": \"\\u0000\"}' WHERE id = 700",
        );
        let said = copied(&node, &file(&node, "watchbell.db"), &url);
        let (message, replaced) = if url.starts_with("postgres") { ("a\u{fffd}b", true) } else { ("a\0b", false) };
        assert_eq!(one(&url, "SELECT message FROM monitor_runs WHERE id = 700").await, message);
        assert_eq!(said.contains("2 texts held the character NUL"), replaced, "{said}");
    }
}
