//! Forgetting: what is old and over goes, in steps; what an open incident needs stays.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::Value;
use std::sync::Arc;
use watchbell::domain::{HistoryPolicy, MonitorId, NotificationId, Settlement, Span};
use watchbell::ports::{HistoryStep, Store, SystemClock};
use watchbell::store::SqlStore;

use super::bench::Bench;
use crate::support::outbox;

async fn count(bench: &Bench, table: &str) -> String {
    bench.value(&format!("SELECT count(*) FROM {table}")).await
}

/// All steps that there are to do.
async fn keep_by(bench: &Bench, policy: &HistoryPolicy, limit: u32) -> Vec<HistoryStep> {
    let mut steps = Vec::new();
    loop {
        let step = bench.store().keep_history("node:me", bench.now(), policy, limit).await.unwrap();
        steps.push(step);
        if !step.has_more {
            return steps;
        }
        assert!(steps.len() < 2_000, "it never ends: {:?}", &steps[1_990..]);
    }
}

async fn keep(bench: &Bench) -> Vec<HistoryStep> {
    keep_by(bench, &HistoryPolicy::default(), 1_000).await
}

/// A day whose hours are all over, some days ago.
fn some_day(bench: &Bench) -> DateTime<Utc> {
    bench.now().duration_trunc(TimeDelta::days(1)).unwrap() - TimeDelta::days(3)
}

/// A time as Watchbell writes it there.
fn written(bench: &Bench, at: DateTime<Utc>) -> String {
    let is_server = bench.database.describe().contains("://");
    at.format(if is_server { "'%Y-%m-%d %H:%M:%S%.3f'" } else { "'%Y-%m-%dT%H:%M:%S%.3fZ'" }).to_string()
}

/// A run as it would have been written then.
async fn run(bench: &Bench, id: i64, at: DateTime<Utc>, cause: &str, late_ms: i64, is_ok: i64, duration_ms: i64) {
    let tick = if cause == "manual" { "NULL".to_owned() } else { written(bench, at) };
    let started = written(bench, at + TimeDelta::milliseconds(late_ms));
    bench
        .sql(&format!(
            "INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, state_before, \
             state_after, node) VALUES ({id}, '{cause}', {tick}, {started}, {duration_ms}, {is_ok}, 'm', 'ok', 'ok', 'n')"
        ))
        .await;
}

/// `monitor|span's beginning|runs|failed|total|max|latest`.
async fn figures(bench: &Bench, table: &str, from: DateTime<Utc>) -> Vec<String> {
    let span = if table == "monitor_run_hours" { Span::Hour } else { Span::Day };
    let mut lines = Vec::new();
    for id in bench.read(&format!("SELECT DISTINCT monitor_id FROM {table} ORDER BY monitor_id")).await {
        let rows = bench.store().rollups(MonitorId(id.parse().unwrap()), span, 100).await.unwrap();
        for row in rows.iter().rev() {
            let starts_at: DateTime<Utc> = row["starts_at"].as_str().unwrap().parse().unwrap();
            let number = |name: &str| match &row[name] {
                Value::Null => "-".to_owned(),
                number => number.as_i64().unwrap().to_string(),
            };
            let numbers = ["runs", "failed_runs", "duration_ms_total", "duration_ms_max", "lateness_ms_max"]
                .map(number)
                .join("|");
            lines.push(format!("{id}|{}h|{numbers}", (starts_at - from).num_hours()));
        }
    }
    lines
}

pub(crate) async fn runs_are_summed_up_by_hour_and_day(bench: &Bench) {
    let day = some_day(bench);
    let minute = TimeDelta::minutes(1);
    run(bench, 1, day, "schedule", 12, 1, 5).await;
    run(bench, 1, day + minute, "schedule", 1_500, 0, 30).await;
    run(bench, 1, day + minute * 30, "catch_up", 400_000, 1, 7).await;
    run(bench, 1, day + minute * 59, "manual", 59_999, 1, 1).await;
    run(bench, 1, day + minute * 60, "manual", 0, 0, 2).await;
    run(bench, 2, day + minute * 59, "schedule", 70_000, 1, 9).await;
    run(bench, 2, day + minute * (24 * 60 + 5), "schedule", 1, 1, 3).await;
    keep(bench).await;
    let hours = figures(bench, "monitor_run_hours", day).await;
    assert_eq!(hours, ["1|0h|4|1|43|30|1500", "1|1h|1|1|2|2|-", "2|1h|1|0|9|9|70000", "2|24h|1|0|3|3|1"]);
    let days = figures(bench, "monitor_run_days", day).await;
    assert_eq!(days, ["1|0h|5|2|45|30|1500", "2|0h|1|0|9|9|70000", "2|24h|1|0|3|3|1"]);
    // Nothing is counted again.
    let steps = keep(bench).await;
    assert_eq!(steps, [HistoryStep::default()]);
    assert_eq!(figures(bench, "monitor_run_hours", day).await, hours);
}

pub(crate) async fn an_hour_is_summed_up_when_nothing_more_can_come(bench: &Bench) {
    bench.insert(&[("timeout_seconds", "600"), ("retries", "1"), ("retry_delay_seconds", "60")]).await;
    let hour = bench.now().duration_trunc(TimeDelta::hours(1)).unwrap();
    bench.pass(hour - bench.now());
    run(bench, 1, hour, "schedule", 0, 1, 5).await;
    // The hour, ten minutes for the writing, and twice ten and one minute for the longest run.
    for (passes, rows) in [(60, "0"), (30, "0"), (1, "1")] {
        bench.pass_minutes(passes);
        keep(bench).await;
        assert_eq!(count(bench, "monitor_run_hours").await, rows, "after {passes} more minutes");
    }
}

pub(crate) async fn many_monitors_are_written_in_steps_and_a_restart_goes_on(bench: &Bench) {
    bench.sql(&bench.database.many_monitors(1_201)).await;
    let day = some_day(bench);
    for hour in [0, 5] {
        let at = written(bench, day + TimeDelta::hours(hour));
        bench
            .sql(&format!(
                "INSERT INTO monitor_runs (monitor_id, cause, started_at, duration_ms, is_ok, message, state_before, \
                 state_after, node) SELECT id, 'forced', {at}, id, 1, 'm', 'ok', 'ok', 'n' FROM monitors"
            ))
            .await;
    }
    let mut largest = 0;
    loop {
        let policy = HistoryPolicy::default();
        let step = bench.store().keep_history("node:me", bench.now(), &policy, 100).await.unwrap();
        largest = largest.max(step.rolled_up);
        if count(bench, "monitor_run_hours").await == "500" {
            break;
        }
    }
    assert_eq!(largest, 500);
    // Another process over the same database knows nothing of what this one had read.
    let other = SqlStore::open(&bench.database.describe(), Arc::new(SystemClock)).await.unwrap();
    loop {
        // Both at it, by turns: each finds itself overtaken by the other.
        let step = other.keep_history("node:me", bench.now(), &HistoryPolicy::default(), 100).await.unwrap();
        let mine = bench.store().keep_history("node:me", bench.now(), &HistoryPolicy::default(), 100).await.unwrap();
        if !step.has_more && !mine.has_more {
            break;
        }
    }
    other.close().await;
    let sums = "SELECT count(*), sum(runs), sum(duration_ms_total) FROM";
    let total = 1_201 * 1_202;
    assert_eq!(bench.value(&format!("{sums} monitor_run_hours")).await, format!("2402|2402|{total}"));
    assert_eq!(bench.value(&format!("{sums} monitor_run_days")).await, format!("1201|2402|{total}"));
}

pub(crate) async fn weeks_without_runs_are_skipped(bench: &Bench) {
    let day = some_day(bench);
    run(bench, 1, day - TimeDelta::days(20), "schedule", 0, 1, 5).await;
    run(bench, 1, day, "schedule", 0, 1, 5).await;
    let steps = keep(bench).await;
    assert!(steps.len() < 20, "{} steps", steps.len());
    assert_eq!(count(bench, "monitor_run_hours").await, "2");
    assert_eq!(count(bench, "monitor_run_days").await, "2");
}

pub(crate) async fn what_is_not_summed_up_is_not_forgotten(bench: &Bench) {
    let old = some_day(bench) - TimeDelta::days(60);
    for hour in 0..3 {
        run(bench, 1, old + TimeDelta::hours(hour), "schedule", 0, 1, 5).await;
    }
    let mut steps = 0;
    loop {
        let step = bench.store().keep_history("node:me", bench.now(), &HistoryPolicy::default(), 1_000).await.unwrap();
        let (runs, hours) = (count(bench, "monitor_runs").await, count(bench, "monitor_run_hours").await);
        let (runs, hours): (u32, u32) = (runs.parse().unwrap(), hours.parse().unwrap());
        assert!(runs + hours >= 3, "{runs} runs are left, {hours} hours are summed up");
        steps += 1;
        if !step.has_more {
            assert_eq!((runs, hours), (0, 3), "after {steps} steps");
            return;
        }
    }
}

pub(crate) async fn figures_go_by_their_own_age(bench: &Bench) {
    let day = some_day(bench);
    for days in [0, 10, 20] {
        run(bench, 1, day - TimeDelta::days(days), "schedule", 0, 1, 5).await;
        run(bench, 2, day - TimeDelta::days(days), "schedule", 0, 1, 5).await;
    }
    keep(bench).await;
    assert_eq!(count(bench, "monitor_run_hours").await, "6");
    let kept = |hours: i64, days: Option<i64>| HistoryPolicy {
        runs: TimeDelta::days(300),
        hours: Some(TimeDelta::days(hours)),
        days: days.map(TimeDelta::days),
    };
    keep_by(bench, &kept(15, None), 1).await;
    assert_eq!(
        (count(bench, "monitor_run_hours").await, count(bench, "monitor_run_days").await),
        ("4".into(), "6".into())
    );
    keep_by(bench, &kept(15, Some(8)), 1_000).await;
    assert_eq!(
        (count(bench, "monitor_run_hours").await, count(bench, "monitor_run_days").await),
        ("4".into(), "2".into())
    );
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
    bench.pass(TimeDelta::days(40));
    keep(bench).await;
    assert_eq!(bench.read("SELECT is_ok FROM monitor_runs").await, ["0", "0"], "the ok before it is over");
    assert_eq!((count(bench, "incidents").await, count(bench, "notifications").await), ("1".into(), "1".into()));

    // Told is told: the recovery still reaches whom the alert reached.
    bench.sql(r#"UPDATE monitors SET people_to_notify = '["bob@example.com"]'"#).await;
    bench.succeed(id).await;
    assert_eq!(bench.queued().await, ["alert|ann@example.com", "recovery|ann@example.com", "recovery|bob@example.com"]);

    // It is over, but two messages are still waiting: they stay, and so does their incident.
    bench.pass(TimeDelta::days(40));
    keep(bench).await;
    assert_eq!(count(bench, "monitor_runs").await, "0");
    assert_eq!(bench.queued().await, ["recovery|ann@example.com", "recovery|bob@example.com"]);
    assert_eq!(count(bench, "incidents").await, "1");
    send_all(bench).await;
    keep(bench).await;
    assert_eq!((count(bench, "incidents").await, count(bench, "notifications").await), ("0".into(), "0".into()));
}

pub(crate) async fn the_rest_goes_in_steps(bench: &Bench) {
    let id = bench.insert_simple().await;
    // Where runs are partitioned there is no partition for that day: rows go one by one.
    bench.pass(TimeDelta::days(20));
    for _ in 0..5 {
        bench.fail(id).await;
        bench.succeed(id).await;
    }
    send_all(bench).await;
    // Where they are, the rest of the day stays with the day.
    let keep_from = bench.now().duration_trunc(TimeDelta::days(1)).unwrap() + TimeDelta::days(1);
    bench.pass(keep_from - bench.now());
    bench.fail(id).await;
    bench.succeed(id).await;
    send_all(bench).await;
    let policy = HistoryPolicy { runs: bench.pass(TimeDelta::days(40)) - keep_from, ..HistoryPolicy::default() };
    let steps = keep_by(bench, &policy, 3).await;
    let is_small = |step: &HistoryStep| step.pruned <= 9;
    assert!(steps.iter().all(is_small), "3 runs, 3 messages and 3 incidents at most: {steps:?}");
    assert!(steps.iter().filter(|step| step.pruned > 0).count() >= 4, "10 runs, at most 3 a step: {steps:?}");
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
