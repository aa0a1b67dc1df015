//! Children that misbehave, in an engine on a real database: each is a failed outcome with a message that helps, and
//! no neighbour misses a tick.

mod misbehaving;
mod proxy;
mod sharing;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use watchbell::domain::planning::Limits;
use watchbell::domain::{OutboxRow, Policy};
use watchbell::engine::{Alive, Engine, Kinds, Membership, Parts};
use watchbell::ports::{
    Applied, Channel, Clock, Delivered, DeliveryError, MailOnly, NodeIdentity, Store, StoreError, SystemClock, Work,
};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::{NoSecrets, async_trait};

use self::misbehaving::{Child, PanicsInPrepare};
use self::proxy::Proxy;
use crate::support::node::SOON;

/// An engine with children that misbehave, and a connection of the test's own.
struct TestEngine {
    engine: Engine,
    store: Arc<dyn Store>,
    database: SqliteConnection,
    _folder: tempfile::TempDir,
}

impl TestEngine {
    /// Starts on an empty database.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, database) = open(folder.path()).await;
        let engine = start(store.clone()).await;
        Self { engine, store, database, _folder: folder }
    }

    async fn register(&mut self, name: &str, kind: &str, schedule: &str) -> i64 {
        let sql = "INSERT INTO monitors (name, kind, schedule, config, timeout_seconds, people_to_notify) \
             VALUES (?1, ?2, ?3, json_object('does', ?1), 1, '[\"ops@x.test\"]')";
        let inserted = sqlx::query(sql).bind(name).bind(kind).bind(schedule).execute(&mut self.database).await.unwrap();
        inserted.last_insert_rowid()
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.database).await.unwrap()
    }

    async fn wait_until(&mut self, sql: &str) {
        let began = Instant::now();
        while self.number(sql).await == 0 {
            assert!(began.elapsed() < SOON, "waited in vain: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What each monitor said first, by name.
    async fn first_messages(&mut self) -> BTreeMap<String, (bool, String)> {
        let sql = "SELECT m.name, r.is_ok, r.message FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id \
             WHERE r.id IN (SELECT min(id) FROM monitor_runs GROUP BY monitor_id)";
        let rows = sqlx::query(sql).fetch_all(&mut self.database).await.unwrap();
        rows.iter().map(|row| (row.get(0), (row.get::<i64, _>(1) == 1, row.get(2)))).collect()
    }

    /// From its first tick to its last, the monitor ran each, once.
    async fn no_tick_is_missing(&mut self, monitor: i64) {
        let sql = "SELECT count(*), count(DISTINCT tick_at), \
               CAST(round((julianday(max(tick_at)) - julianday(min(tick_at))) * 86400) AS INTEGER) + 1 \
             FROM monitor_runs WHERE monitor_id = ?1 AND tick_at IS NOT NULL";
        let row = sqlx::query(sql).bind(monitor).fetch_one(&mut self.database).await.unwrap();
        let [runs, ticks, due]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        assert!(runs == ticks && ticks == due && due > 0, "{due} ticks were due, {ticks} were run, in {runs} runs");
    }

    async fn stop(self) {
        self.engine.shutdown().await;
        self.database.close().await.unwrap();
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_is_a_failed_outcome_and_the_neighbour_keeps_its_ticks() {
    let mut engine = TestEngine::start().await;
    let neighbour = engine.register("well", "child", "* * * * * *").await;
    for (does, ..) in FAILURES {
        engine.register(does, "child", "* * * * * *").await;
    }
    let panics_early = engine.register("prepare", "panics_in_prepare", "* * * * * *").await;
    engine
        .wait_until("SELECT min(runs) >= 3 FROM (SELECT count(*) AS runs FROM monitor_runs GROUP BY monitor_id)")
        .await;
    engine.wait_until(&format!("SELECT count(*) >= 3 FROM monitor_runs WHERE monitor_id = {panics_early}")).await;
    let said = engine.first_messages().await;
    for (does, words) in FAILURES {
        let (is_ok, message) = &said[does];
        assert!(!is_ok, "`{does}` is a failure");
        for word in words {
            assert!(message.contains(word), "{does}: `{word}` is missing in: {message:.300}");
        }
        assert!(message.len() < 40_000, "{does}: the message is bounded, not {} bytes", message.len());
        assert!(!message.contains('\0'), "{does}: no NUL reaches the database");
    }
    let (is_ok, message) = &said["prepare"];
    assert!(!is_ok && message.contains("panicked while reading it: no config is good enough"), "{message}");
    engine.no_tick_is_missing(neighbour).await;
    let told = engine.number("SELECT count(DISTINCT monitor_id) FROM notifications WHERE type = 'alert'").await;
    assert_eq!(told, i64::try_from(FAILURES.len()).unwrap() + 1, "each alerted");
    engine.stop().await;
}

/// What a child does, and what its message must hold.
const FAILURES: [(&str, &[&str]); 13] = [
    ("panic_at_once", &["the check panicked", "before the first await", "misbehaving.rs:"]),
    ("panic_later", &["the check panicked", "after the first await", "misbehaving.rs:"]),
    ("panic_without_text", &["the check panicked", "a panic without a text"]),
    ("hang", &["timed out after 1 s"]),
    ("panic_when_dropped", &["timed out after 1 s", "panicked when it was stopped: it failed while it was dropped"]),
    ("block", &["blocked its thread beyond its timeout of 1 s"]),
    ("error", &["the shop cannot be asked: the wire is cut"]),
    ("error_that_panics", &["the check panicked: it failed while it was read", "misbehaving.rs:"]),
    ("panic_when_done", &["the check panicked: it failed when it was done", "misbehaving.rs:"]),
    ("say_nothing", &["failed without a message"]),
    ("measure_nonsense", &["nonsense"]),
    ("say_too_much", &["xxxx", "more bytes cut]"]),
    ("say_nul", &["before\u{fffd}after", "bell\u{fffd}"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_that_make_no_sense_are_stored_as_what_of_them_does() {
    let mut engine = TestEngine::start().await;
    engine.register("measure_nonsense", "child", "0 0 29 2 *").await;
    engine.register("say_nothing_well", "child", "0 0 29 2 *").await;
    engine.wait_until("SELECT count(*) = 2 FROM monitor_runs").await;
    let sql = "SELECT metrics FROM monitor_runs WHERE metrics IS NOT NULL";
    let metrics: String = sqlx::query_scalar(sql).fetch_one(&mut engine.database).await.unwrap();
    let metrics: BTreeMap<String, f64> = serde_json::from_str(&metrics).unwrap();
    assert_eq!(metrics.get("finite"), Some(&1.5));
    assert!(!metrics.contains_key("nan") && !metrics.contains_key("infinite"), "only numbers are numbers");
    assert!(metrics.len() <= 200, "{} metrics of 1,000 are kept", metrics.len());
    let said = engine.first_messages().await;
    assert_eq!(said["say_nothing_well"], (true, "ok".to_owned()));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_children_that_block_their_threads_stop_no_neighbour() {
    let mut engine = TestEngine::start().await;
    let neighbours =
        [engine.register("well", "child", "* * * * * *").await, engine.register("well", "child", "* * * * * *").await];
    engine.wait_until("SELECT count(*) >= 4 FROM monitor_runs").await;
    for _ in 0..40 {
        engine.register("block", "child", "* * * * * *").await;
    }
    engine
        .wait_until(
            "SELECT count(DISTINCT monitor_id) = 40 FROM monitor_runs \
             WHERE message LIKE '%blocked its thread%' AND cause = 'schedule'",
        )
        .await;
    for neighbour in neighbours {
        engine.no_tick_is_missing(neighbour).await;
        assert_eq!(engine.number(&format!("SELECT skipped_tick_count FROM monitors WHERE id = {neighbour}")).await, 0);
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_panics_is_told_and_the_engine_still_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _database) = open(folder.path()).await;
    let clock = Arc::new(BrokenClock::default());
    let engine = start_by(store.clone(), clock.clone()).await;
    clock.0.store(true, Ordering::SeqCst);
    let how = tokio::time::timeout(SOON, engine.failed()).await.expect("nobody noticed");
    assert!(how.contains("panicked: the clock is broken"), "{how}");
    clock.0.store(false, Ordering::SeqCst);
    tokio::time::timeout(SOON, engine.shutdown()).await.expect("it does not end");
    store.close().await;
}

/// The database refuses an outcome for good, and when a failure is to be written in its place, somebody has locked the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_for_a_refused_outcome_is_kept_while_somebody_has_its_row_locked() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut database) = open(folder.path()).await;
    let looks = AtomicU32::new(0);
    let on_apply = move |work: &[Work]| match work {
        [Work::Run(run)] if !run.outcome.message.contains("could not be stored") => {
            let (action, reason) = ("write it".to_owned(), "it is poisoned".to_owned());
            Some(Err(StoreError::Refused { action, reason }))
        }
        [Work::Run(_)] if looks.fetch_add(1, Ordering::SeqCst) < 2 => Some(Ok(vec![Applied::Locked])),
        _ => None,
    };
    let engine = start(Proxy::answering(store.clone(), Box::new(on_apply))).await;
    let sql = "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) \
         VALUES ('one', 'child', '0 0 29 2 *', '{\"does\": \"well\"}', '[\"ops@x.test\"]')";
    sqlx::query(sql).execute(&mut database).await.unwrap();
    let told = "SELECT count(*) FROM notifications n JOIN monitor_runs r ON r.monitor_id = n.monitor_id \
         WHERE n.type = 'alert' AND r.is_ok = 0 AND r.message LIKE '%could not be stored%it is poisoned%'";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(told).fetch_one(&mut database).await.unwrap() == 0 {
        assert!(began.elapsed() < SOON, "the outcome is lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    engine.shutdown().await;
    store.close().await;
}

/// Panics when asked, once it is broken.
#[derive(Default)]
struct BrokenClock(AtomicBool);

impl Clock for BrokenClock {
    fn now(&self) -> DateTime<Utc> {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        Utc::now()
    }
}

async fn open(folder: &Path) -> (Arc<dyn Store>, SqliteConnection) {
    let url = format!("sqlite://{}", folder.join("engine.db").display());
    let store = SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap();
    (Arc::new(store), SqliteConnection::connect(&url).await.unwrap())
}

async fn start(store: Arc<dyn Store>) -> Engine {
    start_by(store, Arc::new(SystemClock)).await
}

async fn start_by(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Engine {
    let kinds = Kinds::new(vec![Box::new(Child), Box::new(PanicsInPrepare)], Arc::new(NoSecrets)).unwrap();
    let parts = Parts {
        store,
        channels: Arc::new(MailOnly(Arc::new(Nowhere))),
        clock,
        kinds: Arc::new(kinds),
        node: NodeIdentity { uuid: "test".to_owned(), name: "test".to_owned() },
        policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
        limits: Limits::default(),
        max_concurrent_checks: 256,
        shutdown_grace: Duration::from_millis(200),
        keep_history: watchbell::domain::HistoryPolicy::default(),
        is_only_node: true,
        membership: Membership::default(),
        alive: Alive::default(),
    };
    Engine::start(parts, cron()).await.unwrap()
}

struct Nowhere;

#[async_trait]
impl Channel for Nowhere {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        Ok(Delivered::default())
    }

    fn describe(&self) -> String {
        "nowhere".to_owned()
    }
}
