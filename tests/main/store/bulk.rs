//! What is long or strange, and much of it at once.

use std::sync::Arc;
use std::time::Duration;

use watchbell::domain::{Cause, FinishedRun, MonitorId};
use watchbell::ports::{Applied, Work};
use watchbell_contract::Outcome;

use super::bench::Bench;

/// Each with a long message.
const RUNS: u32 = 300;
const MESSAGE_BYTES: usize = 32 * 1024;

/// 10 MiB of messages, several times and with quotes, which are escaped: MariaDB takes no statement of more than 16 MiB.
pub(crate) async fn a_large_batch_is_written(bench: &Bench) {
    bench.sql(&bench.database.many_monitors(RUNS)).await;
    bench.sql("UPDATE monitors SET people_to_notify = '[\"ann@example.com\"]'").await;
    bench.pass_minutes(1);
    let mut work = Vec::new();
    for row in bench.store().monitors(MonitorId(0), RUNS).await.unwrap() {
        work.push(Work::Run(Box::new(FinishedRun {
            monitor: Arc::new(row),
            cause: Cause::Schedule,
            tick: Some(bench.now()),
            started_at: bench.now(),
            duration: Duration::from_millis(7),
            outcome: Outcome::failed("\"x".repeat(MESSAGE_BYTES / 2)),
            config_error: None,
            next_run_at: None,
            skipped_ticks: 0,
            missed_ticks: 0,
        })));
    }
    let answers = bench.try_apply(&work).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Applied::Written { queued: 1, .. })));
    let lengths = "SELECT count(*), min(length(message)), max(length(message)) FROM monitor_runs";
    assert_eq!(bench.value(lengths).await, format!("{RUNS}|{MESSAGE_BYTES}|{MESSAGE_BYTES}"));
    assert_eq!(
        bench.value("SELECT count(*), count(DISTINCT run_id) FROM notifications").await,
        format!("{RUNS}|{RUNS}")
    );
}

pub(crate) async fn strange_texts_are_kept(bench: &Bench) {
    let keeps_nul = !bench.database.describe().starts_with("postgres");
    let nul = if keeps_nul { "\0" } else { "\u{fffd}" };
    for (given, expected) in [
        ("a\0b".to_owned(), format!("a{nul}b")),
        ("\u{1f514} \u{1f9ea} ß".to_owned(), "\u{1f514} \u{1f9ea} ß".to_owned()),
        (
            "it's \"quoted\" \\ \\n \\' %_ {in 1} ?1 $1".to_owned(),
            "it's \"quoted\" \\ \\n \\' %_ {in 1} ?1 $1".to_owned(),
        ),
        ("six characters: \\u0000".to_owned(), "six characters: \\u0000".to_owned()),
        ("{\"json\": \"like\"} ".to_owned(), "{\"json\": \"like\"} ".to_owned()),
        ("trailing spaces   ".to_owned(), "trailing spaces   ".to_owned()),
        ("x".repeat(64 * 1024), "x".repeat(64 * 1024)),
        ("é".repeat(512 * 1024), "é".repeat(512 * 1024)),
    ] {
        let id = bench.insert_simple().await;
        bench.pass_minutes(1);
        let mut run = bench.tick(id, Outcome::failed(given)).await;
        run.outcome.metrics.insert("a\0\"\\ \u{1f514}".to_owned(), 1.5);
        assert!(matches!(bench.apply(run).await, Applied::Written { queued: 1, .. }));
        let record = bench.store().history(id, 1).await.unwrap().remove(0);
        assert_eq!(record["message"].as_str(), Some(expected.as_str()));
        let metric = format!("a{nul}\"\\ \u{1f514}");
        assert_eq!(record["metrics"], serde_json::json!({ metric: 1.5 }));
        let facts = bench.database.field("facts", "message");
        let told = format!("SELECT {facts} FROM notifications WHERE monitor_id = {id}");
        if !expected.contains('\0') && expected.len() < 1_000 {
            assert_eq!(bench.value(&told).await, expected, "what is told");
        }
    }
    let words = "SELECT count(*) FROM monitor_runs WHERE message = 'TRAILING SPACES   '";
    assert_eq!(bench.value(words).await, "0", "texts are compared exactly");
}
