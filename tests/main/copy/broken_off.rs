//! A copy that is killed, and goes on.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use watchbell::ports::SystemClock;
use watchbell::store::SqlStore;

use super::sample::{add_many, contents, installation};
use super::{copied, copy, file, one, refused, servers};
use crate::support::node::Node;
use crate::support::sql;

/// After how many milliseconds it is killed, again and again: from before the first row to far into the runs.
const KILLS_MS: [u64; 8] = [40, 150, 300, 500, 700, 900, 1_200, 1_500];

#[tokio::test]
async fn killed_again_and_again_it_completes_exactly() {
    let node = installation();
    add_many(&node);
    let before = contents(&node.database());
    let mut way = vec![file(&node, "watchbell.db")];
    way.extend(servers().await);
    way.push(file(&node, "back.db"));
    for step in way.windows(2) {
        let mut kills = 0;
        for after in KILLS_MS {
            kills += u32::from(killed_after(&node, &step[0], &step[1], after));
        }
        assert!(kills >= 3, "{step:?} was killed only {kills} times");
        copied(&node, &step[0], &step[1]);
    }
    let after = contents(&node.path("back.db"));
    for (table, rows) in before.iter().filter(|(table, _)| *table != "sqlite_sequence") {
        assert!(rows == &after[table], "`{table}` is another: {} rows, {} before", after[table].len(), rows.len());
    }
    // Pages that were broken off used up numbers.
    for (was, is) in before["sqlite_sequence"].iter().zip(&after["sqlite_sequence"]) {
        assert!(was["name"] == is["name"] && was["seq"].as_i64() <= is["seq"].as_i64(), "{was:?}, {is:?}");
    }
    assert!(!after.contains_key("copy_progress"));
}

#[tokio::test]
async fn what_is_not_complete_is_refused_until_the_copy_goes_on() {
    for url in servers().await {
        let node = installation();
        add_many(&node);
        let from = file(&node, "watchbell.db");
        broken_off(&node, &from, &url).await;
        let error = SqlStore::open(&url, Arc::new(SystemClock)).await.err().unwrap().to_string();
        assert!(error.contains("it is a copy that is not complete; run the same `watchbell copy` again"), "{error}");
        let other = installation();
        let said = refused(&other, &file(&other, "watchbell.db"), &url);
        assert!(said.contains("holds a copy that was begun from another database"), "{said}");
        assert!(said.contains("--anew"), "{said}");
        // The source may still be used: it was not copied.
        assert!(node.watchbell(["list"]).status.success());
        copied(&node, &from, &url);
        assert_eq!(one(&url, "SELECT count(*) FROM monitor_runs").await, "40002");
        assert!(SqlStore::open(&url, Arc::new(SystemClock)).await.is_ok());
        assert!(copied(&node, &from, &url).contains("holds the installation of"), "asked for once more");
    }
}

#[tokio::test]
async fn a_source_that_was_changed_meanwhile_is_noticed() {
    for url in servers().await {
        let node = installation();
        add_many(&node);
        let from = file(&node, "watchbell.db");
        broken_off(&node, &from, &url).await;
        node.sql("UPDATE monitors SET name = 'edited meanwhile' WHERE id = 1001");
        let said = refused(&node, &from, &url);
        assert!(
            said.contains("the copy is not the same: table `monitors`, row id = 1001: `updated_at` is another"),
            "{said}"
        );
        assert!(said.contains("run the same command with `--anew`"), "{said}");
        let output = copy(&node, &["--from", &from, "--to", &url, "--anew"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(one(&url, "SELECT name FROM monitors WHERE id = 1001").await, "edited meanwhile");
        assert_eq!(one(&url, "SELECT count(*) FROM monitor_runs").await, "40002");
    }
}

/// Between the mark on the source and the one on the target nobody may be served, and the command completes it.
#[tokio::test]
async fn killed_between_the_two_marks_it_completes() {
    for url in servers().await {
        let node = installation();
        let from = file(&node, "watchbell.db");
        copied(&node, &from, &url);
        let uuid = node.sql("SELECT uuid FROM installation");
        sql::execute(&url, "UPDATE installation SET name = '(copy not complete)', uuid = 'fresh'").await;
        sql::execute(&url, "CREATE TABLE copy_progress (id BIGINT PRIMARY KEY, source_uuid VARCHAR(100) NOT NULL)")
            .await;
        sql::execute(&url, &format!("INSERT INTO copy_progress (id, source_uuid) VALUES (1, '{uuid}')")).await;
        assert!(SqlStore::open(&url, Arc::new(SystemClock)).await.is_err());
        assert!(SqlStore::open(&from, Arc::new(SystemClock)).await.is_err());
        copied(&node, &from, &url);
        assert_eq!(one(&url, "SELECT name FROM installation").await, "it's ours");
        assert!(node.sql("SELECT name FROM installation").ends_with("was it's ours)"));
    }
}

/// Kills a copy as soon as some runs, and not all, are in the target.
async fn broken_off(node: &Node, from: &str, to: &str) {
    let mut child = start(node, from, to);
    loop {
        let runs = sql::try_rows(to, "SELECT count(*) FROM monitor_runs").await.unwrap_or_default();
        let runs: u32 = runs.first().and_then(|row| row[0].as_ref()).map_or(0, |runs| runs.parse().unwrap());
        assert!(runs < 40_002, "it was too fast to be killed");
        if runs > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether it was killed before it ended.
fn killed_after(node: &Node, from: &str, to: &str, milliseconds: u64) -> bool {
    let mut child = start(node, from, to);
    std::thread::sleep(Duration::from_millis(milliseconds));
    let was_running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    was_running
}

fn start(node: &Node, from: &str, to: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command.args(["copy", "--from", from, "--to", to]).current_dir(node.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
