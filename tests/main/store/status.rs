//! The views that people read.

use chrono::{TimeDelta, Utc};
use watchbell_contract::Outcome;

use super::bench::{Bench, sql_time};

pub(crate) async fn each_status_is_told_apart(bench: &Bench) {
    let never = bench.insert(&[]).await;
    let waits = bench.insert(&[("last_run_at", "'2026-01-01 00:00:00'")]).await;
    let fine = bench.insert_simple().await;
    bench.succeed(fine).await;
    let failing = bench.insert_simple().await;
    bench.fail(failing).await;
    let overdue = bench.insert_simple().await;
    bench.succeed(overdue).await;
    let long_ago = sql_time(Utc::now() - TimeDelta::seconds(30 + 60 + 5));
    bench.sql(&format!("UPDATE monitors SET next_run_at = {long_ago} WHERE id = {overdue}")).await;
    let late = bench.insert_simple().await;
    bench.succeed(late).await;
    let just_now = sql_time(Utc::now() - TimeDelta::seconds(30 + 60 - 20));
    bench.sql(&format!("UPDATE monitors SET next_run_at = {just_now} WHERE id = {late}")).await;
    let paused = bench.insert_simple().await;
    bench.fail(paused).await;
    bench.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {paused}")).await;

    let expected = [
        (never, "never run", "ok"),
        (waits, "never run", "ok"),
        (fine, "ok", "ok"),
        (failing, "alert", "alert"),
        (overdue, "overdue", "ok"),
        (late, "ok", "ok"),
        (paused, "paused", "alert"),
    ];
    let lines: Vec<String> = expected.iter().map(|(id, status, state)| format!("{id}|{status}|{state}")).collect();
    assert_eq!(bench.read("SELECT id, status, state FROM monitor_status ORDER BY id").await, lines);
    let is_overdue = "SELECT count(*), max(id) FROM monitor_status WHERE is_overdue = 1";
    assert_eq!(bench.read(is_overdue).await, [format!("1|{overdue}")]);
    let records = bench.store().monitor_status(100).await.unwrap();
    assert_eq!(records.len(), expected.len());
    for (id, status, _) in expected {
        let record = bench.store().monitor_record(id).await.unwrap().unwrap();
        assert_eq!(record["status"], status);
        assert_eq!(record["config"], serde_json::json!({}));
    }
    assert_eq!(bench.store().monitor_status(3).await.unwrap().len(), 3);
    let figures = bench.store().figures(bench.now()).await.unwrap();
    let figure = |name: &str| figures[name];
    assert_eq!((figure("monitors"), figure("active_monitors"), figure("monitors_in_alert")), (7, 6, 2));
    assert_eq!((figure("monitors_overdue"), figure("notifications_waiting")), (1, 2));
}

pub(crate) async fn an_acknowledgment_is_shown_until_it_ends(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let shown = "SELECT is_acknowledged, acknowledged_by, incident_id IS NOT NULL FROM monitor_status";
    assert_eq!(bench.value(shown).await, "0|-|1");
    let opened = bench.value("SELECT opened_at FROM incidents").await;
    assert_eq!(bench.value("SELECT since FROM monitor_status").await, opened);
    let acknowledge = |until: i64| {
        let until = sql_time(Utc::now() + TimeDelta::seconds(until));
        let at = sql_time(Utc::now());
        format!("UPDATE incidents SET acknowledged_at = {at}, acknowledged_by = 'ann', acknowledged_until = {until}")
    };
    bench.sql(&acknowledge(3_600)).await;
    assert_eq!(bench.value(shown).await, "1|ann|1");
    bench.sql(&acknowledge(-10)).await;
    assert_eq!(bench.value(shown).await, "0|ann|1");
    bench.sql("UPDATE incidents SET acknowledged_until = NULL").await;
    assert_eq!(bench.value(shown).await, "1|ann|1");
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::ok("fine")).await;
    bench.apply(run).await;
    assert_eq!(bench.value(shown).await, "0|-|0");
    let recovered = bench.value("SELECT recovered_at FROM incidents").await;
    assert_eq!(bench.value("SELECT since FROM monitor_status").await, recovered);
    assert_eq!(bench.value("SELECT acknowledged_by FROM incidents").await, "ann", "the columns stay");
}

pub(crate) async fn the_backlog_is_counted(bench: &Bench) {
    for _ in 0..4 {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
    }
    bench.sql("UPDATE notifications SET status = 'failed', last_error = 'refused' WHERE id = 1").await;
    bench.sql("UPDATE notifications SET status = 'sent' WHERE id = 2").await;
    let columns = "recipient, status, notifications, an_error";
    let backlog = bench.read(&format!("SELECT {columns} FROM outbox_backlog ORDER BY status")).await;
    assert_eq!(backlog, ["ann@example.com|failed|1|refused", "ann@example.com|pending|2|-"]);
}
