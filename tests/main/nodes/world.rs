//! A database, what the monitors look at, a mailbox, and nodes: separate processes, each behind a proxy of its own and
//! with a wall clock of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::database::Database;
use super::mailbox::Mailbox;
use super::targets::Targets;
use crate::support::faketime::ShiftedClock;
use crate::support::node::{quoted, wait_until};
use crate::support::proxy::Proxy;
use crate::support::sql::block_on;

/// What is waited for takes a second or a few; this is for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// A log that is shown when a test fails.
const LOG_TAIL_LINES: usize = 40;

/// See the module.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) targets: Targets,
    pub(crate) mailbox: Mailbox,
    pub(crate) nodes: Vec<Node>,
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
}

impl World {
    /// One with its tables, and without nodes.
    pub(crate) fn new(database: Database) -> Self {
        let world = Self {
            database,
            targets: Targets::start(),
            mailbox: Mailbox::start(),
            nodes: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            settings: Vec::new(),
        };
        let migrated = Command::new(env!("CARGO_BIN_EXE_watchbell"))
            .arg("migrate")
            .current_dir(world.folder.path())
            .env_clear()
            .env("WATCHBELL_DATABASE_URL", world.database.url())
            .output()
            .unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        // Each message is to go out by itself.
        world
            .with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0")
            .with("WATCHBELL_DELIVERY__STORM_FIRST", "10000")
            .with("WATCHBELL_DELIVERY__CUT_OFF_MONITORS", "1000000")
            .with("WATCHBELL_MAIL__FROM", "bell@x.test")
    }

    /// A variable of all nodes that are added from now on.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A node that is not running; which one it is.
    pub(crate) fn add_node(&mut self, variables: &[(&str, &str)]) -> usize {
        let name = format!("n{}", self.nodes.len() + 1);
        let folder = self.folder.path().join(&name);
        fs::create_dir_all(folder.join("plugins")).unwrap();
        let proxy = block_on(Proxy::start(self.database.address()));
        let clock = ShiftedClock::new();
        let mut environment = self.settings.clone();
        environment.extend([
            ("WATCHBELL_NODE__NAME".to_owned(), name.clone()),
            ("WATCHBELL_DATABASE_URL".to_owned(), proxy.instead_of(self.database.url())),
            ("WATCHBELL_MAIL__URL".to_owned(), self.mailbox.url_for(&name)),
        ]);
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.nodes.push(Node {
            name,
            folder,
            proxy,
            clock,
            environment,
            has_clock: true,
            child: None,
            is_leaving: false,
            served: 0,
        });
        self.nodes.len() - 1
    }

    /// So many nodes that serve.
    pub(crate) fn start_nodes(&mut self, count: usize) {
        for _ in 0..count {
            let node = self.add_node(&[]);
            self.nodes[node].start();
        }
        for node in &self.nodes {
            node.wait_until_it_serves();
        }
        self.wait_for_live_nodes(count);
    }

    /// Waits until so many nodes have a lease, and no other.
    pub(crate) fn wait_for_live_nodes(&self, count: usize) {
        let now = if self.database.name() == "PostgreSQL" { "now()" } else { "UTC_TIMESTAMP(3)" };
        let sql = format!("SELECT count(*) FROM nodes WHERE lease_until > {now}");
        wait_until(&format!("{count} live nodes"), PATIENCE, || {
            self.database.try_number(&sql).is_ok_and(|live| live == i64::try_from(count).unwrap())
        });
    }

    /// Registers a monitor that asks [`Targets`] about its name, with further columns as pairs of name and SQL value.
    pub(crate) fn register(&self, name: &str, schedule: &str, columns: &[(&str, &str)]) {
        self.database.execute(&self.registration(name, schedule, columns));
    }

    /// The statement for it.
    pub(crate) fn registration(&self, name: &str, schedule: &str, columns: &[(&str, &str)]) -> String {
        let config = json!({ "url": self.targets.url(name) }).to_string();
        let mut all = vec![
            ("name", quoted(name)),
            ("kind", quoted("http")),
            ("schedule", quoted(schedule)),
            ("config", quoted(&config)),
            ("people_to_notify", quoted(r#"["ops@y.test"]"#)),
        ];
        for (column, value) in columns {
            all.retain(|(known, _)| known != column);
            all.push((column, (*value).to_owned()));
        }
        let (columns, values): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        format!("INSERT INTO monitors ({}) VALUES ({})", columns.join(", "), values.join(", "))
    }

    /// Waits until `sql` answers this number.
    pub(crate) fn wait_for_number(&self, sql: &str, wanted: i64) {
        let mut last = None;
        let began = std::time::Instant::now();
        while last != Some(wanted) {
            assert!(began.elapsed() < PATIENCE, "{sql}: {last:?} instead of {wanted}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
            last = self.database.try_number(sql).ok();
        }
    }

    /// The ends of the nodes' logs.
    pub(crate) fn logs(&self) -> String {
        let tail = |node: &Node| {
            let log = node.log();
            let lines: Vec<_> = log.lines().collect();
            format!("{} said:\n{}", node.name, lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"))
        };
        self.nodes.iter().map(tail).collect::<Vec<_>>().join("\n\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.end();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// How a process came to its end that was not killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    AsTold,
    /// The database was away when it started; what watches over services starts it again.
    BeforeItServed,
    ByItself,
}

/// A node: what is around it, and its process while it runs.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    pub(crate) clock: ShiftedClock,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    has_clock: bool,
    child: Option<Child>,
    /// It was told to stop.
    is_leaving: bool,
    /// How often it had said that it serves when it was last started.
    served: usize,
}

impl Node {
    /// Starts its process, and does not wait until it serves.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        self.served = self.times_served();
        self.is_leaving = false;
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
        command.arg("serve").current_dir(&self.folder).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.has_clock {
            command.envs(self.clock.env());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// It lives by the machine's clock: its clock cannot be shifted, and looks at it cost nothing.
    #[allow(dead_code, reason = "benches/failover.rs measures so")]
    pub(crate) fn on_the_true_clock(&mut self) {
        self.has_clock = false;
    }

    pub(crate) fn wait_until_it_serves(&self) {
        wait_until(&format!("{} serves: {}", self.name, self.log()), PATIENCE, || self.serves());
    }

    /// Whether it has said so since it was last started.
    pub(crate) fn serves(&self) -> bool {
        self.times_served() > self.served
    }

    fn times_served(&self) -> usize {
        self.log().matches("is serving").count()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Takes its process off if it has ended; then whether nobody had told it to.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        let is_early = !self.serves();
        Some(if self.is_leaving {
            Ended::AsTold
        } else if is_early {
            Ended::BeforeItServed
        } else {
            Ended::ByItself
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }

    /// SIGKILL: it learns nothing of it.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.signal(Signal::SIGTERM);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.leave();
        let mut child = self.child.take().unwrap();
        wait_until(&format!("{} ends", self.name), PATIENCE, || child.try_wait().unwrap().is_some());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it whatever state it is in.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
