//! Tests: how SQLite goes about the statements that run often, and what a full disk does to them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row, SqlitePool};
use tempfile::TempDir;
use watchbell_contract::Outcome;

use crate::domain::{Cause, Current, FinishedRun, MonitorId, Policy, decide_run};
use crate::ports::{Applied, NewMonitor, NodeIdentity, Store, StoreError, SystemClock, Work};
use crate::store::SqlStore;
use crate::store::database::{Batch, Dialect, Pool, Query, query};
use crate::store::history::{DAY_PIECE, FIRST_HOUR, FIRST_RUN, FORGETTABLE, HOUR_PIECE};

async fn open() -> (SqlStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("watchbell.db").display());
    (SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap(), folder)
}

fn pools(store: &SqlStore) -> (&SqlitePool, &SqlitePool) {
    match store.database.pool() {
        Pool::Sqlite { writer, readers } => (writer, readers),
        _ => panic!("it is SQLite"),
    }
}

/// The lines of the plan, with as many NULLs bound as the statement may name.
async fn plan(store: &SqlStore, statement: Query) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {}", statement.spelled(Dialect::Sqlite).text);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pools(store).1).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn statements_that_run_often_search() {
    let (store, _folder) = open().await;
    for (what, statement, expected) in [
        (
            "apply",
            query(&crate::store::apply::UPDATE_ROWS).batch(Batch::new(crate::store::apply::ROW_COLUMNS)),
            "SEARCH monitors USING INTEGER PRIMARY KEY",
        ),
        ("refresh", query(crate::store::apply::LOCK_ROWS), "SEARCH monitors USING INTEGER PRIMARY KEY"),
        (
            "incidents",
            query(crate::store::apply::READ_INCIDENTS),
            "SEARCH incidents USING INDEX incidents_one_open_for_each_monitor",
        ),
        ("told", query(crate::store::apply::READ_TOLD), "SEARCH n USING INDEX notifications_by_incident"),
        ("claim", query(&crate::store::delivery::DUE), "SEARCH n USING INDEX notifications_lane (lane=?"),
        ("line", query(&crate::store::delivery::DUE), "SEARCH e USING INDEX notifications_in_line"),
        (
            "urgent",
            query(&crate::store::delivery::DUE_URGENT),
            "SEARCH n USING INDEX notifications_urgent (lane=? AND created_at>?)",
        ),
        ("next", query(&crate::store::delivery::NEXT_OF_LANE), "SEARCH n USING INDEX notifications_lane (lane=?)"),
        (
            "on its way",
            query(&crate::store::delivery::NEXT_OF_LANE),
            "SEARCH n USING INDEX notifications_sending (lane=?)",
        ),
        ("lanes", query(&crate::store::delivery::LANES), "SEARCH n USING INDEX notifications_lane (lane>?)"),
        (
            "backlog",
            query(crate::store::delivery::BACKLOG),
            "SEARCH notifications USING INDEX notifications_lane (lane=?)",
        ),
        ("oldest waiting", query(&crate::store::oversight::OLDEST_WAITING), "SEARCH n USING INDEX notifications_lane"),
        ("failed", query(crate::store::oversight::FAILED), "SEARCH notifications USING INDEX notifications_failed"),
        ("told trouble", query(crate::store::oversight::TOLD), "notifications_of_channel_trouble"),
        ("candidates", query(crate::store::planning::CANDIDATES), "USING INDEX notifications_unplanned"),
        ("held", query(crate::store::planning::CANDIDATES), "notifications_held"),
        ("siblings", query(crate::store::planning::SIBLINGS), "SEARCH s USING INDEX notifications_by_incident"),
        (
            "earlier recoveries",
            query(crate::store::planning::EARLIER_RECOVERIES),
            "SEARCH r USING INDEX notifications_recoveries_not_begun",
        ),
        (
            "recent",
            query(crate::store::planning::RECENT),
            "SEARCH notifications USING INDEX notifications_by_recipient",
        ),
        ("members", query(crate::store::planning::HELD), "SEARCH n USING INDEX notifications_held_by_recipient"),
        (
            "send",
            query(crate::store::planning::SEND),
            "SEARCH d USING INDEX notifications_unsettled_digests (recipient=?",
        ),
        ("send behind", query(crate::store::planning::SEND), "USING INDEX notifications_merged (merged_into=?"),
        (
            "digests",
            query(crate::store::planning::WAIT_FOR_EARLIER_DIGESTS),
            "notifications_unsettled_digests (recipient=?",
        ),
        (
            "acknowledged",
            query(crate::store::acknowledgments::IS_ANY_UNTOLD),
            "SEARCH i USING INDEX incidents_acknowledgment_untold",
        ),
        (
            "acknowledgments",
            query(crate::store::acknowledgments::UNTOLD),
            "SEARCH i USING INDEX incidents_acknowledgment_untold",
        ),
        (
            "told of",
            query(crate::store::acknowledgments::TOLD),
            "SEARCH notifications USING INDEX notifications_by_incident",
        ),
        ("changes", query(crate::store::monitors::CHANGES), "SEARCH monitor_changes USING INTEGER PRIMARY KEY"),
        ("old runs", query(&FORGETTABLE[0].0), "SEARCH r USING INDEX monitor_runs_by_start"),
        ("an hour's runs", query(&HOUR_PIECE), "SEARCH monitor_runs USING INDEX monitor_runs_by_start (started_at>?"),
        ("a day's hours", query(DAY_PIECE), "SEARCH monitor_run_hours USING INDEX monitor_run_hours_by_start"),
        ("first run", query(FIRST_RUN), "SEARCH monitor_runs USING COVERING INDEX monitor_runs_by_start"),
        ("first hour", query(FIRST_HOUR), "SEARCH monitor_run_hours USING COVERING INDEX monitor_run_hours_by_start"),
        ("runs", query(FORGETTABLE[0].1), "SEARCH monitor_runs USING INTEGER PRIMARY KEY"),
        ("old notifications", query(&FORGETTABLE[1].0), "SEARCH n USING INDEX notifications_by_creation"),
        ("notifications", query(FORGETTABLE[1].1), "SEARCH notifications USING INTEGER PRIMARY KEY"),
        ("old incidents", query(&FORGETTABLE[2].0), "SEARCH i USING COVERING INDEX incidents_by_recovery"),
        ("incidents", query(FORGETTABLE[2].1), "SEARCH incidents USING INTEGER PRIMARY KEY"),
    ] {
        let plan = plan(&store, statement).await;
        assert!(plan.contains(expected), "{what}:\n{plan}");
        assert!(!plan.contains("SCAN monitors") && !plan.contains("SCAN incidents"), "{what}:\n{plan}");
    }
    // The triggers look up what they change, too.
    let plan = plan(&store, query("SELECT max(id) FROM monitor_changes")).await;
    assert!(plan.contains("SEARCH monitor_changes"), "{plan}");
    store.close().await;
}

#[tokio::test]
async fn a_commit_that_was_reported_is_on_disk() {
    let (store, _folder) = open().await;
    for pool in [pools(&store).0, pools(&store).1] {
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.unwrap();
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
        assert_eq!((synchronous, mode.as_str()), (2, "wal"), "2 is FULL");
    }
    store.close().await;
}

async fn failing_run(store: &SqlStore, id: MonitorId) -> Work {
    let now: DateTime<Utc> = Utc::now();
    Work::Run(Box::new(FinishedRun {
        monitor: Arc::new(store.monitor(id).await.unwrap().unwrap()),
        cause: Cause::Schedule,
        tick: Some(now),
        started_at: now,
        duration: Duration::ZERO,
        outcome: Outcome::failed("x".repeat(30_000)),
        config_error: None,
        next_run_at: None,
        skipped_ticks: 0,
        missed_ticks: 0,
    }))
}

fn decide(work: &Work, current: &Current) -> crate::domain::Decision {
    let Work::Run(run) = work else { panic!("no run") };
    decide_run(run, current, &Policy { admins: Vec::new(), default_zone: chrono_tz::UTC })
}

/// SQLite's own limit on pages answers as a full disk does.
#[tokio::test]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let (store, _folder) = open().await;
    let node = NodeIdentity { uuid: "u".to_owned(), name: "n".to_owned() };
    let mut new = NewMonitor { name: "one".to_owned(), kind: "k".to_owned(), ..NewMonitor::default() };
    new.schedule = "@hourly".to_owned();
    new.columns.insert("people_to_notify", Some(r#"["a@example.com"]"#.to_owned()));
    let id = store.add_monitor(&new).await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(pools(&store).0).await.unwrap();
    let limit = |pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(AssertSqlSafe(sql)).execute(pools(&store).0)
    };
    limit(pages + 4).await.unwrap();
    let work = [failing_run(&store, id).await];
    for _ in 0..3 {
        let error = store.apply(&node, &work, &decide).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("disk is full"), "{error}");
    }
    for table in ["monitor_runs", "incidents", "notifications"] {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count: i64 = sqlx::query_scalar(sql).fetch_one(pools(&store).1).await.unwrap();
        assert_eq!(count, 0, "{table}");
    }
    assert_eq!(store.monitor(id).await.unwrap().unwrap().write_seq, 0, "nothing is half-written");
    limit(1_000_000).await.unwrap();
    let applied = store.apply(&node, &work, &decide).await.unwrap();
    assert!(matches!(applied[..], [Applied::Written { queued: 1, .. }]), "{applied:?}");
    store.close().await;
}

/// Each statement of the transaction in turn meets an error: the row, the run, the incident, the notification.
#[tokio::test]
async fn an_error_at_any_statement_leaves_nothing_half_written() {
    for (event, table) in
        [("UPDATE", "monitors"), ("INSERT", "monitor_runs"), ("INSERT", "incidents"), ("INSERT", "notifications")]
    {
        let (store, _folder) = open().await;
        let node = NodeIdentity { uuid: "u".to_owned(), name: "n".to_owned() };
        let mut new = NewMonitor { name: "one".to_owned(), kind: "k".to_owned(), ..NewMonitor::default() };
        new.schedule = "@hourly".to_owned();
        new.columns.insert("people_to_notify", Some(r#"["a@example.com"]"#.to_owned()));
        let id = store.add_monitor(&new).await.unwrap();
        let trap =
            format!("CREATE TEMP TRIGGER trap BEFORE {event} ON main.{table} BEGIN SELECT RAISE(ABORT, 'trap'); END");
        sqlx::query(AssertSqlSafe(trap)).execute(pools(&store).0).await.unwrap();
        let work = [failing_run(&store, id).await];
        let error = store.apply(&node, &work, &decide).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused { reason, .. } if reason.contains("trap")), "{table}: {error:?}");
        sqlx::query("DROP TRIGGER trap").execute(pools(&store).0).await.unwrap();
        assert_eq!(store.monitor(id).await.unwrap().unwrap().write_seq, 0, "{table}");
        assert!(store.history(id, 10).await.unwrap().is_empty(), "{table}");
        assert!(matches!(store.apply(&node, &work, &decide).await.unwrap()[..], [Applied::Written { .. }]), "{table}");
        store.close().await;
    }
}

/// One UPDATE a run, however many runs share a transaction.
#[tokio::test]
async fn a_batch_updates_each_row_once() {
    let (store, _folder) = open().await;
    let node = NodeIdentity { uuid: "u".to_owned(), name: "n".to_owned() };
    let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
        INSERT INTO monitors (name, kind, schedule, people_to_notify) SELECT i, 'k', '@hourly', '[\"a@example.com\"]' FROM n";
    sqlx::query(insert).execute(pools(&store).0).await.unwrap();
    sqlx::query("CREATE TEMP TABLE updates (id INTEGER)").execute(pools(&store).0).await.unwrap();
    let count =
        "CREATE TEMP TRIGGER counted AFTER UPDATE ON main.monitors BEGIN INSERT INTO updates VALUES (NEW.id); END";
    sqlx::query(count).execute(pools(&store).0).await.unwrap();
    let mut work = Vec::new();
    for row in store.monitors(MonitorId(0), 1_000).await.unwrap() {
        work.push(failing_run(&store, row.id).await);
    }
    store.apply(&node, &work, &decide).await.unwrap();
    let counts: (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT id) FROM updates").fetch_one(pools(&store).0).await.unwrap();
    assert_eq!(counts, (500, 500));
    store.close().await;
}
