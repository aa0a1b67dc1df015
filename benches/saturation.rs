//! The saturation benchmark: how many runs a second a database takes, whatever the checks do.
//!
//! `cargo bench --bench saturation -- --database-url URL` registers monitors in an empty database, and then writes
//! finished runs of them for some seconds, as a node does, through the real store: batches of `--batch`, by
//! `--writers` at a time. One run in a hundred fails, so that incidents and notifications are written too. It prints
//! one line of JSON; `--server-pid` adds the processor time of the server and its children.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends with what it did not expect")]

#[allow(dead_code, reason = "it shares what the load benchmark reads and writes, and needs a part of it")]
#[path = "load/database.rs"]
mod database;
#[path = "load/process.rs"]
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Parser;
use serde_json::json;
use watchbell::domain::{Cause, FinishedRun, MonitorId, MonitorRow, Policy};
use watchbell::engine::decide_with;
use watchbell::ports::{Applied, NodeIdentity, Store, SystemClock, Work};
use watchbell::store::SqlStore;
use watchbell_contract::Outcome;

use database::Database;
use process::{cpu_seconds, server_cpu_seconds};

#[derive(Parser)]
struct Arguments {
    /// An empty database; without one, a SQLite file in a folder of its own.
    #[arg(long)]
    database_url: Option<String>,
    /// How many monitors.
    #[arg(long, default_value_t = 20_000)]
    monitors: usize,
    /// How long is measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Runs in a transaction.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// How many write at a time, each its own share of the monitors.
    #[arg(long, default_value_t = 1)]
    writers: usize,
    /// The process of the server, for its processor time.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().unwrap();
    let url = arguments
        .database_url
        .clone()
        .unwrap_or_else(|| format!("sqlite://{}", folder.path().join("saturation.db").display()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{}", runtime.block_on(measure(&arguments, &url)));
}

async fn measure(arguments: &Arguments, url: &str) -> serde_json::Value {
    let store: Arc<dyn Store> = Arc::new(SqlStore::open(url, Arc::new(SystemClock)).await.unwrap());
    let rows = registered(store.as_ref(), url, arguments.monitors).await;
    eprintln!("saturation: {} monitors; measuring {} s", rows.len(), arguments.seconds);
    let written = Arc::new(AtomicU64::new(0));
    let tick = Arc::new(AtomicI64::new(Utc::now().timestamp() - 100_000));
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let cpu = || cpu_seconds(std::process::id());
    let server = || arguments.server_pid.map_or(0.0, server_cpu_seconds);
    let (own_before, server_before) = (cpu(), server());
    let share = rows.len().div_ceil(arguments.writers);
    let writers = rows.chunks(share).map(|rows| {
        let (store, rows, written, tick, batch) =
            (store.clone(), rows.to_vec(), written.clone(), tick.clone(), arguments.batch);
        tokio::spawn(async move { write(store.as_ref(), rows, batch, until, &tick, &written).await })
    });
    let mut durations: Vec<Duration> = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        durations.extend(writer.await.unwrap());
    }
    let (own, server) = (cpu() - own_before, server() - server_before);
    durations.sort_unstable();
    let runs = written.load(Ordering::Relaxed);
    let at = |part: usize| durations.get(durations.len() * part / 100).map_or(0, Duration::as_millis);
    #[allow(clippy::cast_precision_loss)]
    let (per_second, per_run) = (runs as f64 / arguments.seconds as f64, |cpu: f64| cpu * 1e6 / runs as f64);
    store.close().await;
    json!({
        "database": url.split(':').next(),
        "monitors": rows.len(),
        "batch": arguments.batch,
        "writers": arguments.writers,
        "seconds": arguments.seconds,
        "runs_per_second": per_second.round(),
        "transaction_ms": {"p50": at(50), "p99": at(99)},
        "cpu_us_per_run": {"node": (per_run(own) * 10.0).round() / 10.0, "server": (per_run(server) * 10.0).round() / 10.0},
    })
}

/// The monitors, registered and read.
async fn registered(store: &dyn Store, url: &str, count: usize) -> Vec<Arc<MonitorRow>> {
    Database::connect(url).await.register(count as u64, false).await;
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        let after = rows.last().map_or(MonitorId(0), |row: &Arc<MonitorRow>| row.id);
        rows.extend(store.monitors(after, 10_000).await.unwrap().into_iter().map(Arc::new));
    }
    rows
}

/// Writes batch after batch, the monitors in turn; returns how long each transaction took.
async fn write(
    store: &dyn Store,
    rows: Vec<Arc<MonitorRow>>,
    batch: usize,
    until: Instant,
    tick: &AtomicI64,
    written: &AtomicU64,
) -> Vec<Duration> {
    let node = NodeIdentity { uuid: "bench".to_owned(), name: "bench".to_owned() };
    let decide = decide_with(Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC });
    let mut durations = Vec::new();
    let mut from = 0;
    while Instant::now() < until {
        let second = tick.fetch_add(1, Ordering::Relaxed);
        let at = DateTime::<Utc>::from_timestamp(second, 0).unwrap().trunc_subsecs(3);
        let work: Vec<Work> =
            (0..batch.min(rows.len())).map(|number| run(&rows[(from + number) % rows.len()], at)).collect();
        from += batch;
        let began = Instant::now();
        let applied = store.apply(&node, &work, &decide).await.unwrap();
        durations.push(began.elapsed());
        let count = applied.iter().filter(|applied| matches!(applied, Applied::Written { .. })).count();
        assert_eq!(count, work.len(), "every run is written");
        written.fetch_add(count as u64, Ordering::Relaxed);
    }
    durations
}

fn run(monitor: &Arc<MonitorRow>, tick: DateTime<Utc>) -> Work {
    // A failing run, and oks that end its incident again.
    let fails = (monitor.id.0 + tick.timestamp()).rem_euclid(100) == 0;
    Work::Run(Box::new(FinishedRun {
        monitor: monitor.clone(),
        cause: Cause::Schedule,
        tick: Some(tick),
        started_at: tick + TimeDelta::milliseconds(3),
        duration: Duration::from_millis(2),
        outcome: if fails { Outcome::failed("broken") } else { Outcome::ok("fine") },
        config_error: None,
        next_run_at: Some(tick + TimeDelta::minutes(1)),
        skipped_ticks: 0,
        missed_ticks: 0,
    }))
}
