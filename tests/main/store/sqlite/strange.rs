//! What SQLite lets into a column and other databases do not: bytes, NUL, text that is no UTF-8.

use chrono::TimeDelta;
use watchbell::domain::State;
use watchbell::ports::{Applied, Work};

use super::super::bench::Bench;
use super::SqliteFile;
use crate::support::outbox;

#[tokio::test]
async fn bytes_and_hidden_lengths_are_refused() {
    let bench = Bench::new::<SqliteFile>().await;
    bench.insert_simple().await;
    for (column, value) in [
        ("name", "x'4142'"),
        ("kind", "x'4142'"),
        ("schedule", "x'4142'"),
        ("timezone", "x'4142'"),
        ("runs_on", "x'4142'"),
        ("config", "x'7b7d'"),
        ("labels", "x'7b7d'"),
        ("people_to_notify", "x'5b5d'"),
        ("uuid", "x'4142'"),
        ("uuid", "''"),
        ("timeout_seconds", "1.5"),
        ("timeout_seconds", "9223372036854775807"),
        ("retries", "x'01'"),
        ("reminder_frequency_minutes", "0.5"),
        // The first NUL ends what `length` counts.
        ("name", "'a' || char(0) || printf('%.*c', 1000000, 'x')"),
        ("kind", "'a' || char(0) || printf('%.*c', 1000000, 'x')"),
        ("schedule", "'a' || char(0) || printf('%.*c', 1000000, 'x')"),
        ("timezone", "'a' || char(0) || printf('%.*c', 1000000, 'x')"),
    ] {
        let refused = bench.refused(&format!("UPDATE monitors SET {column} = {value}")).await;
        assert!(refused.contains(column), "{column} = {value}: {refused}");
    }
    bench.close().await;
}

/// A row that cannot be read must not pass for one that was deleted: its incident would be closed with a lie.
#[tokio::test]
async fn text_that_is_no_utf_8_is_read_with_replacements() {
    let bench = Bench::new::<SqliteFile>().await;
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let cursor = bench.store().change_cursor().await.unwrap();
    let broken = "CAST(x'61ff62' AS TEXT)";
    for column in ["name", "kind", "schedule", "timezone", "runs_on", "config_error", "last_result_message"] {
        bench.sql(&format!("UPDATE monitors SET {column} = {broken}")).await;
    }
    bench.sql("UPDATE notifications SET subject = CAST(x'61ff62' AS TEXT)").await;
    let seen = bench.store().changes(cursor, 10).await.unwrap().monitors;
    assert_eq!(seen[0].1.as_ref().map(|row| row.name.as_str()), Some("a\u{fffd}b"));
    let now = bench.pass_minutes(1);
    let claimed = outbox::claim(bench.store(), "node:me", now, now + TimeDelta::minutes(5), 10).await.unwrap();
    assert_eq!(claimed[0].subject, "a\u{fffd}b", "it is sent, not given up");
    let written = bench.succeed(id).await;
    assert!(matches!(written, Applied::Written { state_after: Some(State::Ok), queued: 1, .. }), "{written:?}");
    assert_eq!(bench.store().monitor_status(10).await.unwrap()[0]["name"], "a\u{fffd}b");
    bench.close().await;
}

/// The columns of our own have no check, and SQLite takes any value.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_taken_for_a_deleted_one() {
    let bench = Bench::new::<SqliteFile>().await;
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let other = bench.insert_simple().await;
    let cursor = bench.store().change_cursor().await.unwrap();
    bench.sql(&format!("UPDATE monitors SET recheck_seq = 'many' WHERE id = {id}")).await;
    bench.sql(&format!("UPDATE monitors SET name = 'other' WHERE id = {other}")).await;
    let seen = bench.store().changes(cursor, 10).await.unwrap().monitors;
    let seen: Vec<_> = seen.iter().map(|(id, row)| (*id, row.is_some())).collect();
    assert_eq!(seen, [(other, true)], "it is no news, least of all that it is gone");
    let edit = Work::Edit { monitor: id, config_error: None, next_run_at: None };
    let refused = bench.try_apply(&[edit]).await.unwrap_err();
    assert!(refused.to_string().contains("recheck_seq"), "{refused}");
    assert_eq!(bench.value("SELECT count(*) FROM notifications WHERE type = 'recovery'").await, "0");
    bench.close().await;
}
