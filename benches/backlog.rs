//! The backlog benchmark: how long a long backlog takes to drain, and how long a new critical alert waits meanwhile.
//!
//! `cargo bench --bench backlog -- --rows N` runs the real engine on a real SQLite file with channels that take each
//! message after a few milliseconds, and prints one line of JSON for each case:
//! - `planned`: N rows of as many incidents wait for one room, which works again; each goes out by itself.
//! - `mail`: the same for mail, of which several are on their way at a time.
//! - `dead`: N rows wait for a channel that takes nothing, as long as the case runs.
//! - `unplanned`: N rows of as many incidents were queued while nothing planned them; they become digests.
//!
//! Meanwhile monitors fail one after the other, and tell the recipient of the backlog and two others. Both ends of a
//! wait are taken inside this process, by one monotonic clock: the check as it returns, the message as it is accepted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends with what it did not expect"
)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use watchbell::domain::planning::Limits;
use watchbell::domain::{NotificationType, OutboxRow, Policy};
use watchbell::engine::{Engine, Kinds, Membership, Parts};
use watchbell::ports::{Channel, ChannelSource, Delivered, DeliveryError, NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, NoSecrets, Outcome,
};

/// An alert that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two alerts.
const BETWEEN_ALERTS: Duration = Duration::from_millis(200);
/// What a service on the same network takes.
const SERVICE_TIME: Duration = Duration::from_millis(3);

#[derive(Parser)]
struct Arguments {
    /// How many rows wait.
    #[arg(long, default_value_t = 50_000)]
    rows: u64,
    /// How many alerts come meanwhile, one by one. In the case `unplanned`, whose limits are the defaults, fewer than
    /// these count as a storm to those who get them.
    #[arg(long, default_value_t = 30)]
    alerts: usize,
    /// One case only.
    #[arg(long)]
    case: Option<Case>,
    /// Does not wait until the backlog is drained.
    #[arg(long)]
    leave: bool,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    Planned,
    Mail,
    Dead,
    Unplanned,
}

impl Case {
    /// Alerts that are held as a storm of their own would say nothing of the backlog.
    fn alerts(self, asked: usize) -> usize {
        match self {
            Case::Planned | Case::Mail | Case::Dead => asked,
            Case::Unplanned => asked.min(Limits::default().storm_first - 1),
        }
    }

    /// Who the backlog is for.
    const fn recipient(self) -> &'static str {
        match self {
            Case::Planned | Case::Unplanned => "room",
            Case::Mail => "ops@x.test",
            Case::Dead => "dead",
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let cases = [Case::Planned, Case::Mail, Case::Dead, Case::Unplanned];
    for case in cases.into_iter().filter(|case| arguments.case.is_none_or(|only| only == *case)) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        println!("{}", runtime.block_on(measure(&arguments, case, &folder.path().join("backlog.db"))));
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn measure(arguments: &Arguments, case: Case, path: &Path) -> Value {
    let url = format!("sqlite://{}", path.display());
    let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    for channel in ["room", "dead", "other"] {
        let insert = "INSERT INTO channels (name, url) VALUES (?1, ?1)";
        sqlx::query(insert).bind(channel).execute(&mut database).await.unwrap();
    }
    queue(&mut database, case, arguments.rows).await;
    eprintln!("backlog: {case:?}: {} rows wait", arguments.rows);

    let measured = Arc::<Measured>::default();
    let engine = start(store.clone(), measured.clone(), case).await;
    let began = Instant::now();
    let mut waits: HashMap<&str, Vec<Duration>> = HashMap::new();
    for number in 0..case.alerts(arguments.alerts) {
        for (recipient, wait) in alert(&mut database, &measured, case, number).await {
            waits.entry(recipient).or_default().push(wait);
        }
        tokio::time::sleep(BETWEEN_ALERTS).await;
    }
    let drained_meanwhile = measured.drained.load(Ordering::Relaxed);
    let is_waited_for = case != Case::Dead && !arguments.leave;
    while is_waited_for && unsettled(&mut database).await > 0 {
        tokio::time::sleep(BETWEEN_ALERTS).await;
    }
    let drained_in = is_waited_for.then(|| began.elapsed().as_secs_f64());
    engine.shutdown().await;
    store.close().await;
    let worst = waits.into_iter().map(|(recipient, waits)| (recipient.to_owned(), spread(waits))).collect();
    json!({
        "case": format!("{case:?}").to_lowercase(),
        "rows": arguments.rows,
        "drained_in_s": drained_in,
        "messages_of_the_backlog": measured.drained.load(Ordering::Relaxed),
        "of_them_before_the_last_alert": drained_meanwhile,
        "check_end_to_accepted_ms": Value::Object(worst),
    })
}

fn spread(mut waits: Vec<Duration>) -> Value {
    waits.sort_unstable();
    let millis = |wait: Option<&Duration>| wait.map(|wait| (wait.as_secs_f64() * 10_000.0).round() / 10.0);
    json!({"p50": millis(waits.get(waits.len() / 2)), "max": millis(waits.last())})
}

async fn unsettled(database: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM notifications WHERE status IN ('pending', 'sending', 'held')")
        .fetch_one(database)
        .await
        .unwrap()
}

/// Rows of as many incidents of paused monitors, which wait since yesterday.
async fn queue(database: &mut SqliteConnection, case: Case, rows: u64) {
    const YESTERDAY: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')";
    let numbers =
        format!("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})");
    let planned_at = if case == Case::Unplanned { "NULL" } else { YESTERDAY };
    let recipient = case.recipient();
    let statements = [
        format!(
            "{numbers} INSERT INTO monitors (name, kind, schedule, config, is_active, state) \
             SELECT 'old ' || n, 'failing', '@yearly', '{{}}', 0, 'alert' FROM numbers"
        ),
        format!(
            "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message) \
             SELECT id, name, {YESTERDAY}, 'broken' FROM monitors"
        ),
        format!(
            "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, origin, \
               created_at, next_attempt_at, planned_at, facts) \
             SELECT monitor_id, id, 'alert', 'critical', '{recipient}', '[Monitor ALERT] ' || monitor_name, 'broken', \
               'monitor ' || monitor_id, {YESTERDAY}, {YESTERDAY}, {planned_at}, \
               json_object('monitor_name', monitor_name, 'kind', 'failing', 'state', 'alert', 'message', 'broken') \
             FROM incidents"
        ),
    ];
    let mut transaction = database.begin().await.unwrap();
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Registers a monitor that fails, and returns how long each of its recipients waited for it.
async fn alert(
    database: &mut SqliteConnection,
    measured: &Measured,
    case: Case,
    number: usize,
) -> Vec<(&'static str, Duration)> {
    let mut recipients = vec!["other", "night@x.test"];
    // The dead one gets nothing; in the unplanned case a storm is told of as one.
    recipients.extend(matches!(case, Case::Planned | Case::Mail).then(|| case.recipient()));
    let name = format!("new {number}");
    sqlx::query(
        "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) \
         VALUES (?1, 'failing', '@yearly', json_object('name', ?1), ?2)",
    )
    .bind(&name)
    .bind(json!(recipients).to_string())
    .execute(database)
    .await
    .unwrap();
    let began = Instant::now();
    loop {
        let found: Vec<_> =
            recipients.iter().filter_map(|recipient| Some((*recipient, measured.wait(&name, recipient)?))).collect();
        if found.len() == recipients.len() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "`{name}` reached only {found:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What was seen at both ends.
#[derive(Default)]
struct Measured {
    /// By the monitor's name.
    ended: Mutex<HashMap<String, Instant>>,
    /// By the monitor's name and the recipient.
    accepted: Mutex<HashMap<(String, String), Instant>>,
    /// Messages of the backlog.
    drained: AtomicU64,
}

impl Measured {
    fn wait(&self, name: &str, recipient: &str) -> Option<Duration> {
        let accepted = *self.accepted.lock().unwrap().get(&(name.to_owned(), recipient.to_owned()))?;
        Some(accepted - self.ended.lock().unwrap()[name])
    }
}

struct Channels(Arc<Measured>);

impl ChannelSource for Channels {
    fn mail(&self) -> Arc<dyn Channel> {
        Arc::new(Timed { measured: self.0.clone(), max_in_flight: 4, takes: true })
    }

    fn open(&self, url: &str) -> Result<Arc<dyn Channel>, String> {
        Ok(Arc::new(Timed { measured: self.0.clone(), max_in_flight: 1, takes: url != "dead" }))
    }
}

/// A service that takes messages, or none.
struct Timed {
    measured: Arc<Measured>,
    max_in_flight: usize,
    takes: bool,
}

#[async_trait]
impl Channel for Timed {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        tokio::time::sleep(SERVICE_TIME).await;
        if !self.takes {
            return Err(DeliveryError::Unavailable { reason: "nobody is there".to_owned(), after: None });
        }
        let name = &message.facts.monitor_name;
        if message.notification_type == NotificationType::Alert && name.starts_with("new ") {
            let key = (name.clone(), message.recipient.clone());
            let before = self.measured.accepted.lock().unwrap().insert(key, Instant::now());
            assert!(before.is_none(), "`{name}` came twice");
        } else {
            self.measured.drained.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Delivered { answer: "250 taken".to_owned(), external_id: None })
    }

    fn describe(&self) -> String {
        "of the benchmark".to_owned()
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }
}

async fn start(store: Arc<dyn Store>, measured: Arc<Measured>, case: Case) -> Engine {
    let kind = Failing { measured: measured.clone() };
    let storm_first = if case == Case::Unplanned { Limits::default().storm_first } else { 1_000_000 };
    let parts = Parts {
        store,
        channels: Arc::new(Channels(measured)),
        clock: Arc::new(SystemClock),
        kinds: Arc::new(Kinds::new(vec![Box::new(kind)], Arc::new(NoSecrets)).unwrap()),
        node: NodeIdentity { uuid: "bench".to_owned(), name: "bench".to_owned() },
        policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
        limits: Limits { storm_first, cut_off_monitors: 1_000_000, ..Limits::default() },
        max_concurrent_checks: 256,
        shutdown_grace: Duration::from_secs(5),
        keep_history: watchbell::domain::HistoryPolicy::default(),
        is_only_node: true,
        membership: Membership::default(),
        alive: Default::default(),
    };
    Engine::start(parts, cron()).await.unwrap()
}

static MANIFEST: Manifest = Manifest {
    kind: "failing",
    checks: "Nothing.",
    parameters: &[watchbell_contract::Parameter::required("name", "text", "whose end it is")],
    verdicts: "Always failed.",
    examples: &[Example { name: "Failing", schedule: "* * * * *", config: r#"{"name": "x"}"# }],
    limits: "For the benchmark.",
    looks_at_this_machine: false,
};

/// A kind that fails, and notes when.
struct Failing {
    measured: Arc<Measured>,
}

struct FailingCheck {
    name: String,
    measured: Arc<Measured>,
}

impl Monitor for Failing {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let name = config.required_text("name");
        config.finish(FailingCheck { name, measured: self.measured.clone() })
    }
}

#[async_trait]
impl Check for FailingCheck {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        self.measured.ended.lock().unwrap().insert(self.name.clone(), Instant::now());
        Ok(Outcome::failed("broken"))
    }
}
