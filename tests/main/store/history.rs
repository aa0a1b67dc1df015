//! Forgetting: what is old and over goes, in steps; what an open incident needs stays.

use chrono::TimeDelta;
use watchbell::domain::NotificationId;
use watchbell::domain::Settlement;

use super::bench::Bench;
use crate::support::outbox;

async fn count(bench: &Bench, table: &str) -> String {
    bench.value(&format!("SELECT count(*) FROM {table}")).await
}

/// Sends whatever is queued.
async fn send_all(bench: &Bench) {
    let now = bench.now();
    loop {
        let claimed = outbox::claim(bench.store(), "node:me", now, now + TimeDelta::minutes(5), 100).await.unwrap();
        if claimed.is_empty() {
            return;
        }
        let settled: Vec<(NotificationId, Settlement)> = claimed
            .iter()
            .map(|row| (row.id, Settlement::Sent { at: now, answer: String::new(), external_id: None }))
            .collect();
        bench.store().settle_notifications("node:me", &settled).await.unwrap();
    }
}

pub(crate) async fn what_belongs_to_an_open_incident_stays(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.succeed(id).await;
    bench.fail(id).await;
    bench.fail(id).await;
    send_all(bench).await;
    let later = bench.pass(TimeDelta::days(40));
    bench.store().prune_history(later, 1_000).await.unwrap();
    assert_eq!(bench.read("SELECT is_ok FROM monitor_runs").await, ["0", "0"], "the ok before it is over");
    assert_eq!((count(bench, "incidents").await, count(bench, "notifications").await), ("1".into(), "1".into()));

    // Told is told: the recovery still reaches whom the alert reached.
    bench.sql(r#"UPDATE monitors SET people_to_notify = '["bob@example.com"]'"#).await;
    bench.succeed(id).await;
    assert_eq!(bench.queued().await, ["alert|ann@example.com", "recovery|ann@example.com", "recovery|bob@example.com"]);

    // It is over, but two messages are still waiting: they stay, and so does their incident.
    let later = bench.pass(TimeDelta::days(40));
    bench.store().prune_history(later, 1_000).await.unwrap();
    assert_eq!(count(bench, "monitor_runs").await, "0");
    assert_eq!(bench.queued().await, ["recovery|ann@example.com", "recovery|bob@example.com"]);
    assert_eq!(count(bench, "incidents").await, "1");
    send_all(bench).await;
    bench.store().prune_history(later + TimeDelta::days(1), 1_000).await.unwrap();
    assert_eq!((count(bench, "incidents").await, count(bench, "notifications").await), ("0".into(), "0".into()));
}

pub(crate) async fn the_rest_goes_in_steps(bench: &Bench) {
    let id = bench.insert_simple().await;
    for _ in 0..5 {
        bench.fail(id).await;
        bench.succeed(id).await;
    }
    send_all(bench).await;
    let keep_from = bench.now() + TimeDelta::seconds(1);
    bench.fail(id).await;
    bench.succeed(id).await;
    send_all(bench).await;
    bench.pass(TimeDelta::days(40));
    let mut steps = 0;
    while bench.store().prune_history(keep_from, 3).await.unwrap() > 0 {
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps >= 4, "10 runs, at most 3 a step");
    assert_eq!(count(bench, "monitor_runs").await, "2", "what is younger stays");
    assert_eq!(count(bench, "notifications").await, "2");
    assert_eq!(count(bench, "incidents").await, "1");
    assert_eq!(bench.store().history(id, 100).await.unwrap().len(), 2);
}

pub(crate) async fn history_survives_the_row(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    bench.succeed(id).await;
    bench.sql("DELETE FROM monitors").await;
    bench.settle_edit(id).await;
    assert_eq!(count(bench, "monitor_runs").await, "2");
    assert_eq!((count(bench, "incidents").await, count(bench, "notifications").await), ("1".into(), "2".into()));
    assert_eq!(bench.store().history(id, 100).await.unwrap().len(), 2);
    let next = bench.insert_simple().await;
    assert!(next > id, "an id is not used again: its history is another monitor's");
    send_all(bench).await;
    bench.pass(TimeDelta::days(40));
    assert_eq!(bench.store().monitor_record(id).await.unwrap(), None);
}
