//! The load benchmark: the real engine on a real database with a trivial child.
//!
//! `cargo bench --bench load -- --monitors N --seconds S [--burst]` registers N monitors, each due once a minute,
//! spread over the minute or all on second 0, waits until each was checked once, and then measures S seconds on a
//! SQLite file of its own. With `--database-url URL` it does so in an empty database of PostgreSQL or MariaDB, with
//! `--nodes K` by K nodes in processes of their own; `--server-pid` adds the processor time of the server and its
//! children. It prints one line of JSON. Progress goes to stderr.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends with what it did not expect")]

mod database;
mod node;
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::Parser;
use serde_json::{Value, json};
use watchbell::ports::{Store, SystemClock};
use watchbell::store::SqlStore;

use database::{Database, Run};
use node::Node;
use process::{cpu_seconds, server_cpu_seconds};

/// A node that has joined takes its share once the others have looked.
const SETTLE: TimeDelta = TimeDelta::seconds(5);
/// What was due at the last moment may be a second late and still is to be committed.
const DRAIN: Duration = Duration::from_secs(3);

#[derive(Parser)]
struct Arguments {
    /// An empty database; without one, a SQLite file in a folder of its own.
    #[arg(long)]
    database_url: Option<String>,
    /// How many monitors, a million at most.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    monitors: u64,
    /// How long is measured.
    #[arg(long, default_value_t = 60)]
    seconds: i64,
    /// All on second 0 instead of spread over the minute.
    #[arg(long)]
    burst: bool,
    /// How many nodes: one is in this process, more are in processes of their own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    nodes: u32,
    /// The process of the server, for its processor time.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Be the node of this name, one of several.
    #[arg(long, hide = true)]
    join: Option<String>,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    watchbell::arenas::bound();
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().unwrap();
    let own = format!("sqlite://{}", folder.path().join("load.db").display());
    let url = arguments.database_url.clone().unwrap_or(own);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match &arguments.join {
        Some(name) => runtime.block_on(node::join(&url, name)),
        None => println!("{}", runtime.block_on(measure(&arguments, &url))),
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn measure(arguments: &Arguments, url: &str) -> Value {
    let store = SqlStore::open(url, Arc::new(SystemClock)).await.unwrap();
    store.close().await;
    let mut database = Database::connect(url).await;
    assert!(arguments.nodes == 1 || database.name() != "sqlite", "SQLite is for one node; name a --database-url");
    database.register(arguments.monitors, arguments.burst).await;
    let began = Instant::now();
    eprintln!("load: {} monitors registered", arguments.monitors);
    let mut nodes = start(arguments, url, &mut database).await;
    let look_every = Duration::from_millis(if database.name() == "sqlite" { 20 } else { 100 });
    while database.is_one_unchecked().await {
        tokio::time::sleep(look_every).await;
    }
    let first_check_all_s = began.elapsed().as_secs_f64();
    eprintln!("load: every monitor was checked within {first_check_all_s:.2} s; measuring {} s", arguments.seconds);

    let settle = if arguments.nodes == 1 { TimeDelta::seconds(2) } else { SETTLE };
    let from = Utc::now().trunc_subsecs(0) + settle;
    let until = from + TimeDelta::seconds(arguments.seconds);
    sleep_until(from).await;
    for node in &mut nodes {
        node.forget().await;
    }
    let before = used(&nodes, arguments);
    sleep_until(until).await;
    tokio::time::sleep(DRAIN).await;
    let after = used(&nodes, arguments);
    let rss_peak_mb = nodes.iter().map(|node| rss_peak_mb(node.pid())).max();
    let mut figures = Vec::new();
    for node in &mut nodes {
        figures.push(node.figures().await);
    }
    for node in nodes {
        node.stop().await;
    }

    let runs = database.runs(from, until).await;
    let mut line = json!({
        "store": database.name(),
        "nodes": arguments.nodes,
        "rss_peak_mb": rss_peak_mb,
        "first_check_all_s": (first_check_all_s * 100.0).round() / 100.0,
    });
    add(&mut line, of_runs(arguments, &runs, due(arguments, from, until)));
    add(&mut line, of_processes(&runs, after.0 - before.0, after.1 - before.1, arguments));
    add(&mut line, of_nodes(figures));
    line
}

async fn start(arguments: &Arguments, url: &str, database: &mut Database) -> Vec<Node> {
    if arguments.nodes == 1 {
        return vec![Node::start_here(url).await];
    }
    let nodes = (1..=arguments.nodes).map(|number| Node::start_there(url, &format!("node-{number}"))).collect();
    while database.nodes().await < i64::from(arguments.nodes) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    nodes
}

/// Processor time in seconds: of all nodes, and of the server.
fn used(nodes: &[Node], arguments: &Arguments) -> (f64, f64) {
    (nodes.iter().map(|node| cpu_seconds(node.pid())).sum(), arguments.server_pid.map_or(0.0, server_cpu_seconds))
}

fn add(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}

fn of_runs(arguments: &Arguments, runs: &[Run], due: u64) -> Value {
    let applied = runs.len() as u64;
    let again = |pair: &&[Run]| (pair[0].monitor, pair[0].tick) == (pair[1].monitor, pair[1].tick);
    let doubled = runs.windows(2).filter(again).count() as u64;
    let mut lateness: Vec<i64> = runs.iter().map(|run| run.lateness_ms).collect();
    lateness.sort_unstable();
    let at = |quantile: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((lateness.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
        lateness.get(index).copied().unwrap_or(-1)
    };
    #[allow(clippy::cast_precision_loss)]
    let runs_per_second = applied as f64 / arguments.seconds as f64;
    json!({
        "monitors": arguments.monitors,
        "seconds": arguments.seconds,
        "burst": arguments.burst,
        "due": due,
        "applied": applied,
        "missed": due.saturating_sub(applied - doubled),
        "doubled": doubled,
        "lateness_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
        "runs_per_second": (runs_per_second * 10.0).round() / 10.0,
    })
}

fn of_processes(runs: &[Run], nodes: f64, server: f64, arguments: &Arguments) -> Value {
    #[allow(clippy::cast_precision_loss)]
    let per_run = |seconds: f64| (seconds * 1e7 / runs.len().max(1) as f64).round() / 10.0;
    json!({
        "cpu_us_per_run": per_run(nodes),
        "server_cpu_us_per_run": arguments.server_pid.map(|_| per_run(server)),
    })
}

/// Of several nodes the slowest commits, and all counts together.
fn of_nodes(figures: Vec<Value>) -> Value {
    let p99 = |figures: &Value| figures["commit_delay_ms"]["p99"].as_f64().unwrap_or_default();
    let slowest = figures.iter().max_by(|left, right| p99(left).total_cmp(&p99(right))).unwrap();
    let watchdog: u64 = figures.iter().filter_map(|figures| figures["recovered_by_watchdog"].as_u64()).sum();
    let mut counts = serde_json::Map::new();
    for (what, count) in figures.iter().filter_map(|figures| figures["counts"].as_object()).flatten() {
        let sum = counts.get(what).and_then(Value::as_u64).unwrap_or_default() + count.as_u64().unwrap_or_default();
        counts.insert(what.clone(), sum.into());
    }
    json!({"commit_delay_ms": slowest["commit_delay_ms"], "recovered_by_watchdog": watchdog, "counts": counts})
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

fn rss_peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
