//! An installation in a folder of its own, with a mail server, and the binary as a process that can be killed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, SqliteConnection};

use crate::support::smtp::SmtpServer;

/// A test must not hang, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder with a database, a log and plugins, and the mail server that serves it.
pub(super) struct Site {
    folder: tempfile::TempDir,
    pub(super) smtp: SmtpServer,
    settings: Vec<(&'static str, String)>,
}

impl Site {
    /// Makes one, its tables included.
    pub(super) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), smtp: SmtpServer::start(), settings: Vec::new() };
        std::fs::create_dir(site.path("plugins")).unwrap();
        assert!(site.command("migrate").status().unwrap().success(), "{}", site.log());
        site
    }

    /// Sets a variable of the nodes that are started from now on.
    pub(super) fn set(&mut self, name: &'static str, value: impl ToString) {
        self.settings.push((name, value.to_string()));
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the folder, as text for a config.
    pub(super) fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts a node, and waits until it says that it serves.
    pub(super) async fn serve(&self) -> Node {
        let said_before = self.log().matches("is serving").count();
        let (node, start) = (self.start(), Instant::now());
        while self.log().matches("is serving").count() == said_before {
            assert!(start.elapsed() < PATIENCE, "the node does not serve; the log:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        node
    }

    /// Starts a node, and does not wait until it serves.
    pub(super) fn start(&self) -> Node {
        Node { child: self.command("serve").spawn().unwrap() }
    }

    /// A connection of the test's own.
    pub(super) async fn database(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.database_url()).await.unwrap()
    }

    /// One number from the database.
    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        let mut database = self.database().await;
        let number = sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap();
        database.close().await.unwrap();
        number
    }

    /// Runs a statement.
    pub(super) async fn execute(&self, sql: &str) {
        let mut database = self.database().await;
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }

    /// Waits until a query finds this number.
    pub(super) async fn until(&self, sql: &'static str, wanted: i64) {
        self.until_within(PATIENCE, sql, wanted).await;
    }

    /// The same, of something that takes its time.
    pub(super) async fn until_within(&self, patience: Duration, sql: &'static str, wanted: i64) {
        let start = Instant::now();
        loop {
            let found = self.number(sql).await;
            if found == wanted {
                return;
            }
            assert!(start.elapsed() < patience, "{sql}: {found} instead of {wanted}; the log:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until so many mails are in the mailbox.
    pub(super) async fn until_mails(&self, wanted: usize) {
        let start = Instant::now();
        while self.smtp.mails().len() < wanted {
            assert!(start.elapsed() < PATIENCE, "not {wanted} mails; the log:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the nodes wrote to their standard streams.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// How much they wrote.
    pub(super) fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.path("log")).unwrap().len()
    }

    /// What they wrote after the first so many bytes.
    pub(super) fn log_from(&self, bytes: u64) -> String {
        let mut log = File::open(self.path("log")).unwrap();
        log.seek(SeekFrom::Start(bytes)).unwrap();
        let mut text = Vec::new();
        log.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn database_url(&self) -> String {
        format!("sqlite://{}", self.text_path("watchbell.db"))
    }

    fn command(&self, subcommand: &str) -> Command {
        let log: File = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
        command
            .arg(subcommand)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("WATCHBELL_DATABASE_URL", self.database_url())
            .env("WATCHBELL_LISTEN", "127.0.0.1:0")
            .env("WATCHBELL_MAIL__FROM", "bell@x.test")
            .env("WATCHBELL_MAIL__URL", format!("smtp://127.0.0.1:{}", self.smtp.ports().plain))
            .env("WATCHBELL_PLUGIN_DIRS", format!("[{:?}]", self.text_path("plugins")))
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }
}

/// A running node. Dropping kills it.
pub(super) struct Node {
    child: Child,
}

impl Node {
    /// SIGKILL: it learns nothing of it. It must not have ended before.
    pub(super) fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the node ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(super) async fn terminate(mut self) -> ExitStatus {
        self.send_sigterm();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the node does not end");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGTERM.
    pub(super) fn send_sigterm(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
