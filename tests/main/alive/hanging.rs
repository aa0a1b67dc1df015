//! A scheduler that hangs while the process lives: no ping, no heartbeat, though the lease goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use watchbell::domain::planning::Limits;
use watchbell::domain::schedule::Schedule;
use watchbell::domain::{MonitorId, OutboxRow, Policy};
use watchbell::engine::{Alive, DeadMan, Engine, Kinds, Membership, Parts};
use watchbell::ports::{
    Channel, Clock, Delivered, DeliveryError, MailOnly, NodeIdentity, OnTick, PingError, Pinger, Scheduler,
    SchedulerCounters, SchedulerError, Store, SystemClock,
};
use watchbell::schedule::CronScheduler;
use watchbell::store::SqlStore;
use watchbell_contract::{NoSecrets, async_trait};

/// A hang is noticed after 10 s, and looked for every 5 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scheduler that looks for due ticks, until it stops to.
struct Stoppable {
    polled: Mutex<Instant>,
    hangs: Arc<AtomicBool>,
}

impl Stoppable {
    fn start(hangs: Arc<AtomicBool>) -> Arc<Self> {
        let scheduler = Arc::new(Self { polled: Mutex::new(Instant::now()), hangs });
        let polling = Arc::downgrade(&scheduler);
        tokio::spawn(async move {
            while let Some(scheduler) = polling.upgrade() {
                if !scheduler.hangs.load(Ordering::SeqCst) {
                    *scheduler.polled.lock().unwrap() = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        scheduler
    }
}

#[async_trait]
impl Scheduler for Stoppable {
    async fn put_many(&self, _jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> Result<(), SchedulerError> {
        Ok(())
    }

    async fn remove(&self, _monitor: MonitorId) {}

    fn counters(&self) -> SchedulerCounters {
        SchedulerCounters { since_last_poll: Some(self.polled.lock().unwrap().elapsed()), ..Default::default() }
    }

    async fn shutdown(&self) {}
}

/// Blocks whoever asks, while it hangs.
struct HangingClock(Arc<AtomicBool>);

impl Clock for HangingClock {
    fn now(&self) -> DateTime<Utc> {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Utc::now()
    }
}

#[derive(Default)]
struct Counting(AtomicU32);

#[async_trait]
impl Pinger for Counting {
    async fn ping(&self) -> Result<(), PingError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
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

type StartScheduler = fn(Arc<dyn OnTick>, usize, Arc<AtomicBool>) -> BoxFuture<'static, Arc<dyn Scheduler>>;

fn stoppable(_on_tick: Arc<dyn OnTick>, _: usize, hangs: Arc<AtomicBool>) -> BoxFuture<'static, Arc<dyn Scheduler>> {
    Box::pin(async move { Stoppable::start(hangs) as Arc<dyn Scheduler> })
}

/// The real one: whose thread is held in the middle of looking for due ticks.
fn real(on_tick: Arc<dyn OnTick>, monitors: usize, hangs: Arc<AtomicBool>) -> BoxFuture<'static, Arc<dyn Scheduler>> {
    Box::pin(async move {
        let clock = Arc::new(HangingClock(hangs));
        Arc::new(CronScheduler::start(on_tick, clock, monitors).await.unwrap()) as Arc<dyn Scheduler>
    })
}

struct Bench {
    engine: Engine,
    store: Arc<dyn Store>,
    database: SqliteConnection,
    pings: Arc<Counting>,
    hangs: Arc<AtomicBool>,
}

impl Bench {
    async fn start(folder: &Path, scheduler: StartScheduler) -> Self {
        let url = format!("sqlite://{}", folder.join("watchbell.db").display());
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
        let database = SqliteConnection::connect(&url).await.unwrap();
        let (pings, hangs) = (Arc::new(Counting::default()), Arc::new(AtomicBool::new(false)));
        let dead_man = DeadMan { pinger: pings.clone(), every: Duration::from_millis(200) };
        let parts = Parts {
            store: store.clone(),
            channels: Arc::new(MailOnly(Arc::new(Nowhere))),
            clock: Arc::new(SystemClock),
            kinds: Arc::new(Kinds::new(Vec::new(), Arc::new(NoSecrets)).unwrap()),
            node: NodeIdentity { uuid: "test".to_owned(), name: "test".to_owned() },
            policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
            limits: Limits::default(),
            max_concurrent_checks: 4,
            shutdown_grace: Duration::from_millis(200),
            keep_history: watchbell::domain::HistoryPolicy::default(),
            is_only_node: true,
            membership: Membership::default(),
            alive: Alive { self_test: None, dead_man: Some(dead_man) },
        };
        let hanging = hangs.clone();
        let start = Box::new(move |on_tick, _, monitors| {
            let started: BoxFuture<'static, Result<Arc<dyn Scheduler>, SchedulerError>> =
                Box::pin(async move { Ok(scheduler(on_tick, monitors, hanging).await) });
            started
        });
        let engine = Engine::start(parts, start).await.unwrap();
        Self { engine, store, database, pings, hangs }
    }

    fn pings(&self) -> u32 {
        self.pings.0.load(Ordering::SeqCst)
    }

    async fn node(&mut self) -> (Option<String>, Option<String>) {
        sqlx::query_as("SELECT heartbeat_at, lease_until FROM nodes").fetch_one(&mut self.database).await.unwrap()
    }

    /// Returns when no ping came for 3 s, which are fifteen turns.
    async fn until_silent(&self) {
        let began = Instant::now();
        loop {
            let before = self.pings();
            tokio::time::sleep(Duration::from_secs(3)).await;
            if self.pings() == before {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it pings though its scheduler hangs");
        }
    }

    async fn until_heard(&self, before: u32) {
        let began = Instant::now();
        while self.pings() == before {
            assert!(began.elapsed() < PATIENCE, "no ping");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) {
        self.engine.shutdown().await;
        self.database.close().await.unwrap();
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_looks_for_nothing_is_silence_though_the_lease_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(folder.path(), stoppable).await;
    bench.until_heard(0).await;
    let began = Instant::now();
    while bench.node().await.0.is_none() {
        assert!(began.elapsed() < PATIENCE, "no heartbeat");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.hangs.store(true, Ordering::SeqCst);
    bench.until_silent().await;
    let (heartbeat, lease) = bench.node().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let (later_heartbeat, later_lease) = bench.node().await;
    assert_eq!(heartbeat, later_heartbeat, "no heartbeat while the scheduler hangs");
    assert!(later_lease > lease, "the lease goes on");
    let before = bench.pings();
    bench.hangs.store(false, Ordering::SeqCst);
    bench.until_heard(before).await;
    bench.stop().await;
}

// In the end all threads of the runtime are blocked: this test waits on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_scheduler_that_is_held_in_the_middle_of_its_look_is_silence() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::start(folder.path(), real).await;
    bench.until_heard(0).await;
    bench.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let mut before = 0;
    while bench.pings() != before {
        assert!(began.elapsed() < PATIENCE, "it pings though its scheduler hangs");
        before = bench.pings();
        std::thread::sleep(Duration::from_secs(3));
    }
    bench.hangs.store(false, Ordering::SeqCst);
    bench.until_heard(before).await;
    bench.stop().await;
}
