//! A node: in this process, or one of several in processes of their own, which are told what to do over their stdin.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use watchbell::domain::planning::Limits;
use watchbell::domain::{OutboxRow, Policy};
use watchbell::engine::{Alive, Engine, Kinds, Membership, Parts};
use watchbell::ports::{Channel, Delivered, DeliveryError, MailOnly, NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, NoSecrets, Outcome,
};

/// Begin to measure.
const FORGET: &str = "forget";
/// Answer with the figures.
const FIGURES: &str = "figures";

pub(crate) enum Node {
    /// In this process.
    Here { engine: Engine, store: Arc<dyn Store> },
    /// In a process of its own.
    There { process: Child, orders: ChildStdin, answers: Lines<BufReader<ChildStdout>> },
}

impl Node {
    /// In this process, the only one there is.
    pub(crate) async fn start_here(url: &str) -> Self {
        let (engine, store) = start(url, "bench", true).await;
        Node::Here { engine, store }
    }

    /// In a process of its own, one of several.
    pub(crate) fn start_there(url: &str, name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--database-url", url, "--join", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Node::There { process, orders, answers }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Node::Here { .. } => std::process::id(),
            Node::There { process, .. } => process.id().unwrap(),
        }
    }

    /// Begins to measure.
    pub(crate) async fn forget(&mut self) {
        match self {
            Node::Here { engine, .. } => engine.forget_figures(),
            Node::There { orders, .. } => orders.write_all(format!("{FORGET}\n").as_bytes()).await.unwrap(),
        }
    }

    pub(crate) async fn figures(&mut self) -> Value {
        match self {
            Node::Here { engine, .. } => figures_of(engine),
            Node::There { orders, answers, .. } => {
                orders.write_all(format!("{FIGURES}\n").as_bytes()).await.unwrap();
                serde_json::from_str(&answers.next_line().await.unwrap().unwrap()).unwrap()
            }
        }
    }

    /// Ends it in good order: what was checked is written.
    pub(crate) async fn stop(self) {
        match self {
            Node::Here { engine, store } => {
                engine.shutdown().await;
                store.close().await;
            }
            Node::There { mut process, orders, .. } => {
                drop(orders);
                assert!(process.wait().await.unwrap().success(), "a node did not end well");
            }
        }
    }
}

/// What a process does that was started as one of several nodes.
pub(crate) async fn join(url: &str, name: &str) {
    let (engine, store) = start(url, name, false).await;
    while let Some(order) = next_order().await {
        match order.as_str() {
            FORGET => engine.forget_figures(),
            FIGURES => println!("{}", figures_of(&engine)),
            other => unreachable!("nobody orders `{other}`"),
        }
    }
    engine.shutdown().await;
    store.close().await;
}

async fn next_order() -> Option<String> {
    let read = || std::io::stdin().lines().next().map(Result::unwrap);
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn figures_of(engine: &Engine) -> Value {
    let figures = engine.figures();
    let delay = figures.commit_delay_ms;
    json!({
        "commit_delay_ms": {"p50": delay.p50, "p99": delay.p99, "max": delay.max},
        "recovered_by_watchdog": engine.scheduler_counters().recovered_by_watchdog,
        "counts": figures.counts,
    })
}

async fn start(url: &str, name: &str, is_only_node: bool) -> (Engine, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(SqlStore::open(url, Arc::new(SystemClock)).await.unwrap());
    let parts = Parts {
        store: store.clone(),
        channels: Arc::new(MailOnly(Arc::new(Nowhere))),
        clock: Arc::new(SystemClock),
        kinds: Arc::new(Kinds::new(vec![Box::new(Trivial)], Arc::new(NoSecrets)).unwrap()),
        node: NodeIdentity { uuid: format!("{name}-{}", std::process::id()), name: name.to_owned() },
        policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::UTC },
        limits: Limits::default(),
        max_concurrent_checks: 256,
        shutdown_grace: Duration::from_secs(5),
        keep_history: watchbell::domain::HistoryPolicy::default(),
        is_only_node,
        membership: Membership::default(),
        alive: Alive::default(),
    };
    (Engine::start(parts, cron()).await.unwrap(), store)
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
