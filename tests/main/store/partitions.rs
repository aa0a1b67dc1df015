//! PostgreSQL: days of runs are partitions, which are made ahead and go whole.

use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use watchbell::domain::HistoryPolicy;
use watchbell::ports::{HistoryStep, Store, SystemClock};
use watchbell::store::SqlStore;

use crate::support::postgres::Postgres;
use crate::support::sql;

/// A database with two days of runs of monitors 1 and 2, 40 days ago, each day a partition. Monitor 2 is in an incident
/// since the second hour of the first day.
async fn with_old_days() -> (String, DateTime<Utc>) {
    let url = Postgres::shared().await.fresh_database().await;
    open(&url).await.close().await;
    let day = Utc::now().duration_trunc(TimeDelta::days(1)).unwrap() - TimeDelta::days(40);
    let from = day.to_rfc3339();
    for statement in [
        format!("SELECT watchbell_make_run_partitions('{from}', 2)"),
        format!(
            "INSERT INTO monitor_runs (monitor_id, cause, started_at, duration_ms, is_ok, message, state_before, \
               state_after, node) \
             SELECT monitor, 'forced', timestamptz '{from}' + make_interval(hours => hour), 5, 1, 'm', 'ok', 'ok', 'n' \
             FROM generate_series(1, 2) AS monitor, generate_series(0, 47) AS hour"
        ),
        format!(
            "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message) \
             VALUES (2, 'm', timestamptz '{from}' + interval '1 hour', 'broken')"
        ),
    ] {
        sql::execute(&url, &statement).await;
    }
    (url, day)
}

async fn open(url: &str) -> SqlStore {
    SqlStore::open(url, Arc::new(SystemClock)).await.unwrap()
}

async fn keep(store: &SqlStore, limit: u32) -> Vec<HistoryStep> {
    let (now, mut steps) = (Utc::now(), Vec::new());
    while steps.last().is_none_or(|step: &HistoryStep| step.has_more) {
        steps.push(store.keep_history("node:me", now, &HistoryPolicy::default(), limit).await.unwrap());
        assert!(steps.len() < 1_000, "it never ends");
    }
    steps
}

async fn value(url: &str, statement: &str) -> String {
    sql::rows(url, statement).await.remove(0).remove(0).unwrap_or_default()
}

async fn is_there(url: &str, day: DateTime<Utc>) -> bool {
    let name = format!("monitor_runs_{}", day.format("%Y%m%d"));
    value(url, &format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'")).await == "1"
}

#[tokio::test]
async fn old_days_go_whole_and_coming_ones_are_made() {
    let (url, day) = with_old_days().await;
    let coming = Utc::now() + TimeDelta::days(5);
    sql::execute(&url, &format!("DROP TABLE monitor_runs_{}", coming.format("%Y%m%d"))).await;
    let store = open(&url).await;
    let steps = keep(&store, 10).await;
    store.close().await;
    assert_eq!(steps.iter().map(|step| step.dropped_partitions).sum::<u64>(), 2, "{steps:?}");
    assert_eq!(steps.iter().map(|step| step.pruned).sum::<u64>(), 0, "nothing was deleted row by row: {steps:?}");
    assert!(!is_there(&url, day).await && !is_there(&url, day + TimeDelta::days(1)).await);
    assert!(is_there(&url, coming).await);
    let left = "SELECT min(monitor_id)::text || ' ' || count(*) FROM monitor_runs_default";
    assert_eq!(value(&url, left).await, "2 47", "what the open incident needs");
    let summed_up = "SELECT count(*) || ' ' || sum(runs) FROM monitor_run_hours";
    assert_eq!(value(&url, summed_up).await, "96 96", "before they went");
}

#[tokio::test]
async fn a_role_that_may_not_drop_partitions_forgets_rows() {
    let (url, day) = with_old_days().await;
    let grants =
        "CREATE ROLE forgetful LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO forgetful";
    sql::execute(&url, grants).await;
    let store = open(&url.replace("//watchbell@", "//forgetful@")).await;
    let steps = keep(&store, 10).await;
    store.close().await;
    assert_eq!(steps.iter().map(|step| step.dropped_partitions).sum::<u64>(), 0, "{steps:?}");
    assert!(steps.iter().all(|step| step.pruned <= 10), "{steps:?}");
    assert_eq!(value(&url, "SELECT count(*) FROM monitor_runs").await, "47", "what the open incident needs");
    assert!(is_there(&url, day).await);
    assert_eq!(value(&url, "SELECT sum(runs) FROM monitor_run_hours").await, "96");
}

#[tokio::test]
async fn another_node_leaves_it_to_the_one_that_does_it() {
    let (url, _) = with_old_days().await;
    let store = open(&url).await;
    let step = async |owner: &str| {
        store.keep_history(owner, Utc::now(), &HistoryPolicy::default(), 10).await.unwrap().has_more
    };
    assert!(step("node:one").await);
    assert!(!step("node:two").await, "it is the turn of the other one");
    assert!(step("node:one").await);
    sql::execute(&url, "UPDATE rollup_progress SET taken_until = now() - interval '1 second'").await;
    assert!(step("node:two").await, "the other one is gone");
    assert!(!step("node:one").await);
    // Taken by a clock that was years ahead.
    sql::execute(&url, "UPDATE rollup_progress SET taken_by = 'x', taken_until = now() + interval '3 years'").await;
    assert!(step("node:one").await);
    store.close().await;
}
