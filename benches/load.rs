//! The load benchmark: the real engine on a real SQLite file with a trivial child.
//!
//! `cargo bench --bench load -- --monitors N --seconds S [--burst]` registers N monitors, each due once a minute,
//! spread over the minute or all on second 0, waits until each was checked once, and then measures S seconds. It
//! prints one line of JSON. Progress goes to stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends with what it did not expect")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Parser;
use serde_json::json;
use sqlx::{Connection, Row, SqliteConnection};
use watchbell::domain::planning::Limits;
use watchbell::domain::{OutboxRow, Policy};
use watchbell::engine::{Alive, Engine, Kinds, Membership, Parts};
use watchbell::ports::{Channel, Delivered, DeliveryError, MailOnly, NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, NoSecrets, Outcome,
};

#[derive(Parser)]
struct Arguments {
    /// How many monitors.
    #[arg(long, default_value_t = 10_000)]
    monitors: u64,
    /// How long is measured.
    #[arg(long, default_value_t = 60)]
    seconds: i64,
    /// All on second 0 instead of spread over the minute.
    #[arg(long)]
    burst: bool,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    watchbell::arenas::bound();
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let line = runtime.block_on(measure(&arguments, &folder.path().join("load.db").display().to_string()));
    println!("{line}");
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn measure(arguments: &Arguments, path: &str) -> serde_json::Value {
    let store: Arc<dyn Store> =
        Arc::new(SqlStore::open(&format!("sqlite://{path}"), Arc::new(SystemClock)).await.unwrap());
    let mut database = SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
    register(&mut database, arguments).await;
    let began = Instant::now();
    eprintln!("load: {} monitors registered, {} MB", arguments.monitors, rss_peak_mb());
    let engine = start(store.clone()).await;
    eprintln!("load: engine started, {} MB", rss_peak_mb());
    let mut checked = 0;
    while checked < arguments.monitors {
        tokio::time::sleep(Duration::from_millis(20)).await;
        checked = count(&mut database, "SELECT count(*) FROM monitor_runs WHERE cause = 'first'").await;
    }
    let first_check_all_s = began.elapsed().as_secs_f64();
    eprintln!(
        "load: every monitor was checked once within {first_check_all_s:.2} s; measuring {} s",
        arguments.seconds
    );

    let from = Utc::now().trunc_subsecs(0) + TimeDelta::seconds(2);
    let until = from + TimeDelta::seconds(arguments.seconds);
    sleep_until(from).await;
    engine.forget_figures();
    let cpu_before = cpu_seconds();
    sleep_until(until).await;
    // What was due at the last moment may be a second late and still is to be committed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let cpu = cpu_seconds() - cpu_before;
    let figures = engine.figures();
    let counters = engine.scheduler_counters();
    engine.shutdown().await;

    let (applied, doubled, lateness) = runs(&mut database, from, until).await;
    let due = due(arguments, from, until);
    let at = |quantile: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((lateness.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
        lateness.get(index).copied().unwrap_or(-1)
    };
    #[allow(clippy::cast_precision_loss)]
    let per_run = |total: f64| if applied == 0 { 0.0 } else { total / applied as f64 };
    #[allow(clippy::cast_precision_loss)]
    let runs_per_second = applied as f64 / arguments.seconds as f64;
    store.close().await;
    json!({
        "monitors": arguments.monitors,
        "seconds": arguments.seconds,
        "burst": arguments.burst,
        "store": "sqlite",
        "due": due,
        "applied": applied,
        "missed": due.saturating_sub(applied - doubled),
        "doubled": doubled,
        "lateness_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
        "commit_delay_ms": {
            "p50": figures.commit_delay_ms.p50, "p99": figures.commit_delay_ms.p99, "max": figures.commit_delay_ms.max,
        },
        "runs_per_second": (runs_per_second * 10.0).round() / 10.0,
        "cpu_us_per_run": (per_run(cpu * 1e6) * 10.0).round() / 10.0,
        "rss_peak_mb": rss_peak_mb(),
        "first_check_all_s": (first_check_all_s * 100.0).round() / 100.0,
        "recovered_by_watchdog": counters.recovered_by_watchdog,
        "counts": figures.counts,
    })
}

async fn register(database: &mut SqliteConnection, arguments: &Arguments) {
    let second = if arguments.burst { "0" } else { "n % 60" };
    let sql = format!(
        "WITH RECURSIVE counter (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counter WHERE n + 1 < {}) \
         INSERT INTO monitors (name, kind, schedule, config, people_to_notify) \
         SELECT 'monitor ' || n, 'trivial', ({second}) || ' * * * * *', '{{}}', '[\"ops@example.com\"]' FROM counter",
        arguments.monitors
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database).await.unwrap();
}

async fn start(store: Arc<dyn Store>) -> Engine {
    let parts = Parts {
        store,
        channels: Arc::new(MailOnly(Arc::new(Nowhere))),
        clock: Arc::new(SystemClock),
        kinds: Arc::new(Kinds::new(vec![Box::new(Trivial)], Arc::new(NoSecrets)).unwrap()),
        node: NodeIdentity { uuid: "bench".to_owned(), name: "bench".to_owned() },
        policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
        limits: Limits::default(),
        max_concurrent_checks: 256,
        shutdown_grace: Duration::from_secs(5),
        keep_history: watchbell::domain::HistoryPolicy::default(),
        is_only_node: true,
        membership: Membership::default(),
        alive: Alive::default(),
    };
    Engine::start(parts, cron()).await.unwrap()
}

async fn count(database: &mut SqliteConnection, sql: &'static str) -> u64 {
    let count: i64 = sqlx::query_scalar(sql).fetch_one(database).await.unwrap();
    count.unsigned_abs()
}

/// Runs of ticks within the window, how many of them are a tick's second one, and their sorted lateness in ms.
async fn runs(database: &mut SqliteConnection, from: DateTime<Utc>, until: DateTime<Utc>) -> (u64, u64, Vec<i64>) {
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let rows = sqlx::query(
        "SELECT monitor_id, tick_at, CAST(round((julianday(started_at) - julianday(tick_at)) * 86400000) AS INTEGER) \
         FROM monitor_runs WHERE cause IN ('schedule', 'catch_up') AND tick_at >= ?1 AND tick_at < ?2",
    )
    .bind(text(from))
    .bind(text(until))
    .fetch_all(database)
    .await
    .unwrap();
    let mut seen: BTreeMap<(i64, String), u64> = BTreeMap::new();
    let mut lateness: Vec<i64> = Vec::with_capacity(rows.len());
    for row in &rows {
        *seen.entry((row.get(0), row.get(1))).or_default() += 1;
        lateness.push(row.get(2));
    }
    lateness.sort_unstable();
    (rows.len() as u64, rows.len() as u64 - seen.len() as u64, lateness)
}

fn due(arguments: &Arguments, from: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
    (from.timestamp()..until.timestamp())
        .map(|second| match (arguments.burst, second.rem_euclid(60).unsigned_abs()) {
            (true, 0) => arguments.monitors,
            (true, _) => 0,
            (false, second) => (arguments.monitors + 59 - second) / 60,
        })
        .sum()
}

async fn sleep_until(at: DateTime<Utc>) {
    tokio::time::sleep((at - Utc::now()).to_std().unwrap_or_default()).await;
}

/// User and system time of this process, in seconds (`proc(5)`; the unit of `stat` is 1/100 s on Linux).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn rss_peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Trivial;

static MANIFEST: Manifest = Manifest {
    kind: "trivial",
    checks: "Nothing.",
    parameters: &[],
    verdicts: "Always ok.",
    examples: &[Example { name: "Trivial", schedule: "* * * * *", config: "{}" }],
    limits: "For the benchmark.",
    looks_at_this_machine: false,
};

impl Monitor for Trivial {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        config.finish(TrivialCheck)
    }
}

struct TrivialCheck;

#[async_trait]
impl Check for TrivialCheck {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        Ok(Outcome::ok("fine"))
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
