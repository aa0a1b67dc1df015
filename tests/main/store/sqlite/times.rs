//! Times that people write in their own spelling are brought into the one that is compared.

use super::super::bench::Bench;
use super::SqliteFile;

/// As written, and as it stands then.
const SPELLINGS: [(&str, &str); 7] = [
    ("'2026-11-21T21:00:00.000Z'", "2026-11-21T21:00:00.000Z"),
    ("'2026-11-21 21:00:00'", "2026-11-21T21:00:00.000Z"),
    ("'2026-11-21 21:00'", "2026-11-21T21:00:00.000Z"),
    ("'2026-11-21'", "2026-11-21T00:00:00.000Z"),
    ("'2026-11-21T23:00:00+02:00'", "2026-11-21T21:00:00.000Z"),
    ("datetime('2026-11-21 20:00:00', '+1 hour')", "2026-11-21T21:00:00.000Z"),
    ("'2026-11-21T21:00:00.123456Z'", "2026-11-21T21:00:00.123Z"),
];

const UNREADABLE: [&str; 9] =
    ["'soon'", "''", "'21.11.2026'", "1795000000", "0", "'21:00'", "'2026-13-01'", "'2026-11-21 25:00'", "x'00'"];

const MONITORS: [&str; 6] =
    ["created_at", "updated_at", "last_tick_at", "last_run_at", "last_notification_at", "next_run_at"];
const INCIDENTS: [&str; 4] = ["opened_at", "acknowledged_at", "acknowledged_until", "recovered_at"];
const NOTIFICATIONS: [&str; 3] = ["created_at", "next_attempt_at", "sent_at"];

/// A table, its required columns with values, and its times.
type Table = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const TABLES: [Table; 3] = [
    ("monitors", &[("name", "'x'"), ("kind", "'x'"), ("schedule", "'@hourly'")], &MONITORS),
    (
        "incidents",
        &[("monitor_id", "1"), ("monitor_name", "'x'"), ("opening_message", "'x'"), ("opened_at", "'2026-01-01'")],
        &INCIDENTS,
    ),
    (
        "notifications",
        &[("type", "'alert'"), ("severity", "'info'"), ("recipient", "'a'"), ("subject", "'s'"), ("body", "'b'")],
        &NOTIFICATIONS,
    ),
];

fn insert(table: &str, required: &[(&str, &str)], column: &str, value: &str) -> String {
    let given = required.iter().filter(|(name, _)| *name != column).copied().chain([(column, value)]);
    let (columns, values): (Vec<_>, Vec<_>) = given.unzip();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

#[tokio::test]
async fn usual_spellings_become_one() {
    let bench = Bench::new::<SqliteFile>().await;
    for (table, required, times) in TABLES {
        for column in times {
            for (written, expected) in SPELLINGS {
                let at = format!("{table}.{column} = {written}");
                let read = format!("SELECT {column} FROM {table}");
                bench.sql(&insert(table, required, column, written)).await;
                assert_eq!(bench.value(&read).await, expected, "INSERT {at}");
                bench.sql(&format!("UPDATE {table} SET {column} = '2000-01-01'")).await;
                assert_eq!(bench.value(&read).await, "2000-01-01T00:00:00.000Z");
                bench.sql(&format!("UPDATE {table} SET {column} = {written}")).await;
                assert_eq!(bench.value(&read).await, expected, "UPDATE {at}");
                bench.sql(&format!("DELETE FROM {table}")).await;
            }
        }
    }
    bench.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let bench = Bench::new::<SqliteFile>().await;
    for (table, required, times) in TABLES {
        let bad = || times.iter().flat_map(|column| UNREADABLE.map(|written| (*column, written)));
        let inserts = bad().map(|(column, written)| insert(table, required, column, written));
        for statement in inserts {
            refused(&bench, &statement).await;
        }
        assert_eq!(bench.value(&format!("SELECT count(*) FROM {table}")).await, "0");
        let (first, value) = required[0];
        bench.sql(&insert(table, required, first, value)).await;
        for (column, written) in bad() {
            refused(&bench, &format!("UPDATE {table} SET {column} = {written}")).await;
        }
    }
    bench.close().await;
}

async fn refused(bench: &Bench, statement: &str) {
    let refused = bench.refused(statement).await;
    assert!(refused.contains("write it in UTC as 2026-11-21T21:00:00.000Z"), "{statement}: {refused}");
}
