//! A person's own `sqlite3` program on the file, as old as 3.34: triggers and views keep to what it understands.

use std::io::Write as _;
use std::process::{Command, Stdio};

use watchbell::domain::MonitorId;
use watchbell::ports::Applied;
use watchbell_contract::Outcome;

use super::super::bench::Bench;
use super::SqliteFile;

/// What `sqlite3` prints for this script, or what it complains of.
fn sqlite3(bench: &Bench, script: &str) -> Result<String, String> {
    let file = bench.database.describe();
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail", &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's package sqlite3 is needed");
    child.stdin.take().unwrap().write_all(format!(".timeout 5000\n{script}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    if output.status.success() && error.is_empty() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(error)
    }
}

async fn changed_since(bench: &Bench, before: watchbell::ports::ChangeCursor) -> Vec<(MonitorId, bool)> {
    let changes = bench.store().changes(before, 1_000).await.unwrap();
    changes.monitors.into_iter().map(|(id, row)| (id, row.is_some())).collect()
}

/// The same by hand with and without recursive triggers, which make REPLACE fire the triggers of DELETE.
#[tokio::test]
async fn every_way_to_write_a_row_is_seen() {
    for pragma in ["PRAGMA recursive_triggers = OFF;", "PRAGMA recursive_triggers = ON;"] {
        let bench = Bench::new::<SqliteFile>().await;
        let mut cursor = bench.store().change_cursor().await.unwrap();
        let insert = "INSERT INTO monitors (id, uuid, name, kind, schedule, last_run_at)";
        let steps: [(&str, &[(i64, bool)]); 10] = [
            (
                "VALUES (1, 'a', 'one', 'k', '@hourly', datetime('now')), (2, 'b', 'two', 'k', '@hourly', NULL);",
                &[(1, true), (2, true)],
            ),
            (
                "VALUES (1, 'a', 'uno', 'k', '@hourly', NULL) ON CONFLICT (id) DO UPDATE SET name = excluded.name;",
                &[(1, true)],
            ),
            ("UPDATE monitors SET name = name || '!';", &[(1, true), (2, true)]),
            ("UPDATE monitors SET last_run_at = NULL;", &[(1, true), (2, true)]),
            ("UPDATE OR IGNORE monitors SET id = 7 WHERE id = 2;", &[(2, false), (7, true)]),
            (
                "INSERT OR REPLACE INTO monitors (id, name, kind, schedule) VALUES (1, 'new', 'k2', '@daily');",
                &[(1, true)],
            ),
            (
                "REPLACE INTO monitors (id, uuid, name, kind, schedule) VALUES (9, 'b', 'new', 'k2', '@daily');",
                &[(7, false), (9, true)],
            ),
            ("BEGIN; UPDATE monitors SET name = 'never'; ROLLBACK;", &[]),
            (
                "BEGIN; DELETE FROM monitors WHERE id = 1; UPDATE monitors SET is_active = 0; COMMIT;",
                &[(1, false), (9, true)],
            ),
            ("DELETE FROM monitors;", &[(9, false)]),
        ];
        for (step, expected) in steps {
            let verb = if step.starts_with("VALUES") { insert } else { "" };
            sqlite3(&bench, &format!("{pragma}\n{verb} {step}")).unwrap_or_else(|error| panic!("{step}: {error}"));
            let expected: Vec<_> = expected.iter().map(|(id, is_there)| (MonitorId(*id), *is_there)).collect();
            assert_eq!(changed_since(&bench, cursor).await, expected, "{pragma} {step}");
            cursor = bench.store().change_cursor().await.unwrap();
        }
        bench.close().await;
    }
}

#[tokio::test]
async fn an_edit_by_the_program_keeps_its_counters_true() {
    for pragma in ["PRAGMA recursive_triggers = OFF;", "PRAGMA recursive_triggers = ON;"] {
        let bench = Bench::new::<SqliteFile>().await;
        let id = bench.insert_simple().await;
        let before = bench.row(id).await;
        sqlite3(&bench, &format!("{pragma} UPDATE monitors SET last_run_at = NULL;")).unwrap();
        let after = bench.row(id).await;
        assert_eq!((after.recheck_seq, after.write_seq), (before.recheck_seq + 1, 0));
        assert!(after.revision > before.revision);
        sqlite3(&bench, &format!("{pragma} UPDATE monitors SET last_run_at = datetime('now');")).unwrap();
        assert_eq!(bench.row(id).await.recheck_seq, after.recheck_seq);
        bench.close().await;
    }
}

#[tokio::test]
async fn the_program_reads_views_and_writes_every_table() {
    let bench = Bench::new::<SqliteFile>().await;
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    assert!(matches!(bench.apply(run).await, Applied::Written { .. }));
    assert_eq!(
        sqlite3(&bench, "SELECT name, status, is_acknowledged FROM monitor_status;").unwrap(),
        "Orders arrive|alert|0"
    );
    let acknowledge = "UPDATE incidents SET acknowledged_at = datetime('now'), acknowledged_by = 'ann', \
        acknowledged_until = datetime('now', '+1 hour');";
    sqlite3(&bench, acknowledge).unwrap();
    assert_eq!(sqlite3(&bench, "SELECT is_acknowledged, acknowledged_by FROM monitor_status;").unwrap(), "1|ann");
    assert_eq!(sqlite3(&bench, "SELECT recipient, status FROM outbox_backlog;").unwrap(), "ann@example.com|pending");
    sqlite3(&bench, "UPDATE notifications SET status = 'pending', next_attempt_at = datetime('now');").unwrap();
    let error = sqlite3(&bench, "UPDATE incidents SET acknowledged_until = 'tomorrow';").unwrap_err();
    assert!(error.contains("write it in UTC"), "{error}");
    let error = sqlite3(&bench, "UPDATE monitors SET severity = 'urgent';").unwrap_err();
    assert!(error.contains("severity_is_critical_warning_or_info"), "{error}");
    let integrity = sqlite3(&bench, "PRAGMA integrity_check; PRAGMA journal_mode;").unwrap();
    assert_eq!(integrity, "ok\nwal");
    bench.close().await;
}

/// The tests run against a newer program than the oldest that people may have.
#[test]
fn triggers_and_views_keep_to_what_3_34_understands() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let sql = std::fs::read_to_string(&path).unwrap();
        let code: String =
            sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
        let words =
            format!(" {} ", code.split(|c: char| !c.is_alphanumeric() && c != '_').collect::<Vec<_>>().join(" "));
        for newer in
            ["returning", "unixepoch", "octet_length", "materialized", "strict", "string_agg", "timediff", "format"]
        {
            assert!(!words.to_lowercase().contains(&format!(" {newer} ")), "{}: `{newer}`", path.display());
        }
        assert!(!code.contains("->"), "{}: `->`", path.display());
        for statement in code.split(';').map(str::trim).filter(|statement| statement.starts_with("UPDATE ")) {
            let mut depth = 0;
            let outside: String = statement
                .chars()
                .filter(|&c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth == 0
                })
                .collect();
            assert!(!outside.contains(" FROM "), "{}: UPDATE ... FROM: {statement}", path.display());
        }
    }
}
