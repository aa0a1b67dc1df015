//! What history costs: how long writing outcomes takes without history, with it, and while it is summed up and forgotten;
//! and how long each step of that takes.
//!
//! `cargo bench --bench history -- [--database-url URL] [--monitors N] [--hours H] [--no-partitions]` makes H hours of
//! history of N monitors that ran once a minute, 33 days ago, and works it off. The database must be an empty one; without
//! a URL it is a SQLite file of its own. It prints one line of JSON for each phase.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends with what it did not expect")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use clap::Parser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, SqliteConnection};
use watchbell::domain::{Cause, FinishedRun, HistoryPolicy, MonitorId, MonitorRow, Policy, decide_run};
use watchbell::ports::{NodeIdentity, Store, SystemClock, Work};
use watchbell::store::SqlStore;
use watchbell_contract::Outcome;

/// As the writer of outcomes takes them under load.
const BATCH: u32 = 1_000;
/// Of `apply`, in the phases without upkeep.
const BATCHES: u32 = 60;
/// As the engine does it.
const STEP: u32 = 2_000;
const PAUSES: u32 = 4;

#[derive(Parser)]
struct Arguments {
    /// An empty database.
    #[arg(long)]
    database_url: Option<String>,
    /// How many monitors ran once a minute.
    #[arg(long, default_value_t = 10_000)]
    monitors: u32,
    /// For how many hours.
    #[arg(long, default_value_t = 8)]
    hours: u32,
    /// PostgreSQL: no partitions for that time, so that rows go one by one.
    #[arg(long)]
    no_partitions: bool,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().unwrap();
    let own = format!("sqlite://{}", folder.path().join("history.db").display());
    let url = arguments.database_url.clone().unwrap_or(own);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&arguments, &url));
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn measure(arguments: &Arguments, url: &str) {
    let store = Arc::new(SqlStore::open(url, Arc::new(SystemClock)).await.unwrap());
    let mut database = Person::connect(url).await;
    database.execute(&database.monitors(arguments.monitors)).await;
    let writer = Writer { store: store.clone(), rows: store.monitors(MonitorId(0), BATCH).await.unwrap() };
    report("without history", &json!({"apply_ms": writer.batches(BATCHES).await}));

    let from = Utc::now().duration_trunc(TimeDelta::days(1)).unwrap() - TimeDelta::days(33);
    let began = Instant::now();
    if matches!(database, Person::Postgres(_)) && !arguments.no_partitions {
        let days = arguments.hours.div_ceil(24);
        database.execute(&format!("SELECT watchbell_make_run_partitions('{}', {days})", from.to_rfc3339())).await;
    }
    for hour in 0..arguments.hours {
        let from = from + TimeDelta::hours(i64::from(hour));
        database.execute(&database.history(from, arguments.monitors)).await;
    }
    database.settle().await;
    let runs = u64::from(arguments.hours) * 60 * u64::from(arguments.monitors);
    report("filled", &json!({"runs": runs, "seconds": began.elapsed().as_secs()}));
    report("with history", &json!({"apply_ms": writer.batches(BATCHES).await}));

    let kept = HistoryPolicy { runs: TimeDelta::days(36_500), ..HistoryPolicy::default() };
    report("while it is summed up", &upkeep(&store, &writer, &kept).await);
    report("while it is forgotten", &upkeep(&store, &writer, &HistoryPolicy::default()).await);
    store.close().await;
}

fn report(phase: &str, figures: &Value) {
    println!("{}", json!({"phase": phase, "figures": figures}));
}

/// Works off all that there is to do, with pauses as the engine makes them, while outcomes are written.
async fn upkeep(store: &Arc<SqlStore>, writer: &Writer, policy: &HistoryPolicy) -> Value {
    let began = Instant::now();
    let keeping = async {
        let (mut written, mut forgotten, mut rolled_up, mut pruned, mut dropped) = (vec![], vec![], 0, 0, 0);
        loop {
            let began = Instant::now();
            let step = store.keep_history("bench", Utc::now(), policy, STEP).await.unwrap();
            let took = began.elapsed();
            (rolled_up, pruned) = (rolled_up + step.rolled_up, pruned + step.pruned);
            dropped += step.dropped_partitions;
            if step.pruned + step.dropped_partitions > 0 { &mut forgotten } else { &mut written }.push(took);
            if !step.has_more {
                return json!({
                    "steps_that_forget_ms": spread(forgotten), "other_steps_ms": spread(written), "rolled_up": rolled_up,
                    "pruned": pruned, "dropped_partitions": dropped,
                });
            }
            tokio::time::sleep((took * PAUSES).max(Duration::from_millis(20))).await;
        }
    };
    let mut keeping = std::pin::pin!(keeping);
    let mut applied = Vec::new();
    loop {
        tokio::select! {
            mut figures = &mut keeping => {
                figures["apply_ms"] = spread(applied);
                figures["seconds"] = json!(began.elapsed().as_secs());
                return figures;
            }
            took = writer.batch() => applied.push(took),
        }
    }
}

struct Writer {
    store: Arc<SqlStore>,
    rows: Vec<MonitorRow>,
}

impl Writer {
    async fn batches(&self, count: u32) -> Value {
        let mut took = Vec::new();
        for _ in 0..count {
            took.push(self.batch().await);
        }
        spread(took)
    }

    /// A thousand outcomes, ten batches a second.
    async fn batch(&self) -> Duration {
        let node = NodeIdentity { uuid: "bench".to_owned(), name: "bench".to_owned() };
        let policy = Policy { admins: Vec::new(), default_zone: chrono_tz::UTC };
        let now = Utc::now();
        let work: Vec<Work> = self.rows.iter().map(|row| Work::Run(Box::new(outcome(row, now)))).collect();
        let decide = move |work: &Work, current: &_| match work {
            Work::Run(run) => decide_run(run, current, &policy),
            Work::Edit { .. } => unreachable!("nobody edits"),
        };
        let began = Instant::now();
        self.store.apply(&node, &work, &decide).await.unwrap();
        let took = began.elapsed();
        tokio::time::sleep(Duration::from_millis(100).saturating_sub(took)).await;
        took
    }
}

fn outcome(row: &MonitorRow, now: DateTime<Utc>) -> FinishedRun {
    FinishedRun {
        monitor: Arc::new(row.clone()),
        cause: Cause::Schedule,
        tick: Some(now),
        started_at: now,
        duration: Duration::from_millis(41),
        outcome: Outcome::ok("the server answered 200 in 41 ms"),
        config_error: None,
        next_run_at: Some(now),
        skipped_ticks: 0,
        missed_ticks: 0,
    }
}

fn spread(mut took: Vec<Duration>) -> Value {
    took.sort_unstable();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    let millis = |took: Option<&Duration>| took.map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0);
    json!({"count": took.len(), "p50": millis(at(50)), "p99": millis(at(99)), "max": millis(took.last())})
}

/// A connection as a person has it.
enum Person {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Person {
    async fn connect(url: &str) -> Self {
        match url.split(':').next() {
            Some("postgres") => Person::Postgres(PgConnection::connect(url).await.unwrap()),
            Some("mysql") => Person::MySql(MySqlConnection::connect(url).await.unwrap()),
            _ => Person::Sqlite(SqliteConnection::connect(url).await.unwrap()),
        }
    }

    async fn execute(&mut self, sql: &str) {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Person::Sqlite(connection) => statement.execute(connection).await.map(drop),
            Person::Postgres(connection) => statement.execute(connection).await.map(drop),
            Person::MySql(connection) => statement.execute(connection).await.map(drop),
        }
        .unwrap();
    }

    /// As it is after some time.
    async fn settle(&mut self) {
        match self {
            Person::Sqlite(_) => self.execute("PRAGMA wal_checkpoint(TRUNCATE)").await,
            Person::Postgres(_) => self.execute("VACUUM ANALYZE monitor_runs").await,
            Person::MySql(_) => self.execute("ANALYZE TABLE monitor_runs").await,
        }
    }

    /// The numbers from 1 to `count`, as a table `name` with the column `n`.
    fn numbers(&self, count: u32, name: &str) -> String {
        match self {
            Person::Sqlite(_) => format!(
                "(WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < {count}) \
                 SELECT n FROM counter) AS {name}"
            ),
            Person::Postgres(_) => format!("generate_series(1, {count}) AS {name} (n)"),
            Person::MySql(_) => format!("(SELECT seq AS n FROM seq_1_to_{count}) AS {name}"),
        }
    }

    fn monitors(&self, count: u32) -> String {
        format!(
            "INSERT INTO monitors (name, kind, schedule) SELECT 'monitor', 'none', '* * * * *' FROM {}",
            self.numbers(count, "number")
        )
    }

    /// Each monitor once a minute, for an hour.
    fn history(&self, from: DateTime<Utc>, monitors: u32) -> String {
        let (minutes, monitors) = (self.numbers(60, "minute"), self.numbers(monitors, "monitor"));
        let start = from.format("%Y-%m-%d %H:%M:%S");
        let (tick, started) = match self {
            Person::Sqlite(_) => {
                let at = |more: &str| {
                    format!(
                        "strftime('%Y-%m-%dT%H:%M:%fZ', '{start}', '+' || ((minute.n - 1) * 60{more}) || ' seconds')"
                    )
                };
                (at(""), at(" + monitor.n % 60 + 0.012"))
            }
            Person::Postgres(_) => {
                let at =
                    |more: &str| format!("timestamptz '{start}Z' + make_interval(secs => (minute.n - 1) * 60{more})");
                (at(""), at(" + monitor.n % 60 + 0.012"))
            }
            Person::MySql(_) => {
                let at = |more: &str| {
                    format!("timestamp '{start}' + INTERVAL ((minute.n - 1) * 60000{more}) * 1000 MICROSECOND")
                };
                (at(""), at(" + (monitor.n % 60) * 1000 + 12"))
            }
        };
        format!(
            "INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, metrics, \
               state_before, state_after, node) \
             SELECT monitor.n, 'schedule', {tick}, {started}, 41, 1, 'the server answered 200 in 41 ms', \
               '{{\"response_ms\": 41}}', 'ok', 'ok', 'node-1' FROM {minutes} CROSS JOIN {monitors} \
             ORDER BY minute.n, monitor.n % 60, monitor.n"
        )
    }
}
