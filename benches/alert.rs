//! The alert benchmark: from the end of a failing check to the mail accepted by an SMTP server on loopback.
//!
//! `cargo bench --bench alert -- --alerts N` runs the real engine on a real SQLite file with the real mail channel and
//! the mail server of the tests (`tests/run` once installs it), registers one failing monitor after the other, each
//! when the mail of the one before was accepted, and prints one line of JSON. Both ends are taken inside this process,
//! by one monotonic clock: the check as it returns, the mail when the server's 250 was read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends with what it did not expect"
)]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/main/support/smtp.rs"]
mod smtp;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Parser;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use watchbell::channels::{EmailSettings, SmtpMail};
use watchbell::domain::planning::Limits;
use watchbell::domain::{OutboxRow, Policy};
use watchbell::engine::{Alive, Engine, Kinds, Membership, Parts};
use watchbell::ports::{Channel, Delivered, DeliveryError, MailOnly, NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, NoSecrets, Outcome, Secret,
};

use smtp::SmtpServer;

/// An alert that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    /// How many alerts, one by one.
    #[arg(long, default_value_t = 1_000)]
    alerts: usize,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let line = runtime.block_on(measure(arguments.alerts, &folder.path().join("alert.db").display().to_string()));
    println!("{line}");
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn measure(alerts: usize, path: &str) -> serde_json::Value {
    let url = format!("sqlite://{path}");
    let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let server = SmtpServer::start();
    let ended = Arc::<Mutex<HashMap<String, Instant>>>::default();
    let (accepted, mut arrivals) = unbounded_channel();
    let channel = TimedMail { mail: mail(&server), accepted };
    let engine = start(store.clone(), Arc::new(channel), Failing { ended: ended.clone() }).await;

    let mut waits = Vec::with_capacity(alerts);
    for number in 0..alerts {
        let name = format!("monitor {number}");
        register(&mut database, &name).await;
        let (subject, at) = next(&mut arrivals).await;
        assert_eq!(subject, format!("[Monitor ALERT] {name}"));
        waits.push(at - ended.lock().unwrap()[&name]);
        if number % 100 == 99 {
            eprintln!("alert: {} of {alerts}", number + 1);
        }
    }
    engine.shutdown().await;
    store.close().await;
    assert_eq!(server.mails().len(), alerts, "a mail for each alert");

    waits.sort_unstable();
    let at = |quantile: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((waits.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
        waits.get(index).map(|wait| (wait.as_secs_f64() * 10_000.0).round() / 10.0)
    };
    json!({
        "alerts": alerts,
        "store": "sqlite",
        "check_end_to_mail_accepted_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
    })
}

async fn next(arrivals: &mut UnboundedReceiver<(String, Instant)>) -> (String, Instant) {
    tokio::time::timeout(PATIENCE, arrivals.recv()).await.expect("an alert did not arrive").unwrap()
}

async fn register(database: &mut SqliteConnection, name: &str) {
    sqlx::query(
        "INSERT INTO monitors (name, kind, schedule, config, people_to_notify) \
         VALUES (?1, 'failing', '0 0 1 1 *', json_object('name', ?1), '[\"ops@y.test\"]')",
    )
    .bind(name)
    .execute(database)
    .await
    .unwrap();
}

fn mail(server: &SmtpServer) -> SmtpMail {
    let url = format!("smtp://127.0.0.1:{}", server.ports().plain);
    let settings = EmailSettings {
        url: Secret::parse(&url, Arc::new(NoSecrets)).unwrap(),
        from: "bell@x.test".to_owned(),
        ca_file: None,
        timeout: PATIENCE,
        max_connections: 4,
        public_url: None,
    };
    SmtpMail::new(settings).unwrap()
}

async fn start(store: Arc<dyn Store>, channel: Arc<dyn Channel>, kind: Failing) -> Engine {
    let parts = Parts {
        store,
        channels: Arc::new(MailOnly(channel)),
        clock: Arc::new(SystemClock),
        kinds: Arc::new(Kinds::new(vec![Box::new(kind)], Arc::new(NoSecrets)).unwrap()),
        node: NodeIdentity { uuid: "bench".to_owned(), name: "bench".to_owned() },
        policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
        limits: Limits { storm_first: 1_000_000, cut_off_monitors: 1_000_000, ..Limits::default() },
        max_concurrent_checks: 256,
        shutdown_grace: Duration::from_secs(5),
        keep_history: watchbell::domain::HistoryPolicy::default(),
        is_only_node: true,
        membership: Membership::default(),
        alive: Alive::default(),
    };
    Engine::start(parts, cron()).await.unwrap()
}

/// The mail channel, and when the server had accepted each mail.
struct TimedMail {
    mail: SmtpMail,
    accepted: UnboundedSender<(String, Instant)>,
}

#[async_trait]
impl Channel for TimedMail {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let delivered = self.mail.deliver(message).await?;
        self.accepted.send((message.subject.clone(), Instant::now())).unwrap();
        Ok(delivered)
    }

    fn describe(&self) -> String {
        self.mail.describe()
    }
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
    ended: Arc<Mutex<HashMap<String, Instant>>>,
}

struct FailingCheck {
    name: String,
    ended: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Monitor for Failing {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let name = config.required_text("name");
        config.finish(FailingCheck { name, ended: self.ended.clone() })
    }
}

#[async_trait]
impl Check for FailingCheck {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        self.ended.lock().unwrap().insert(self.name.clone(), Instant::now());
        Ok(Outcome::failed("broken"))
    }
}
