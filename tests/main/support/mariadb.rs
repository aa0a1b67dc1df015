//! A real MariaDB: one that all tests share, or one of the test's own, to be restarted, killed and paused.
//!
//! In the place of the shared one, the tests take a server that `TEST_MYSQL_URL` names, such as
//! `mysql://user:password@127.0.0.1:3306/mysql`: how the SQL of this dialect is tried on MySQL itself, or on another
//! version of MariaDB. The user may do everything there; the databases `test_...` stay behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::Utc;
use nix::sys::signal::Signal;

use super::server::{Kind, Server};
use super::sql;

const KIND: Kind = Kind {
    name: "MariaDB",
    package: "mariadb-server",
    user: "mysql",
    ready: "ready for connections",
    stop: Signal::SIGTERM,
    end: Signal::SIGKILL,
};

/// The password of the user `watchbell`.
pub(crate) const PASSWORD: &str = "bell-tower";

/// What a server of a test's own is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct MariaDbOptions {
    /// Whether what was committed is on the disk (`innodb_flush_log_at_trx_commit=1`).
    pub(crate) is_durable: bool,
    /// Whether it speaks TLS only, with a certificate that [`MariaDb::ca_file`] signed.
    pub(crate) has_tls: bool,
    /// Whether it writes a binary log, as a server with replicas does; some rules for triggers depend on it.
    pub(crate) has_binary_log: bool,
    /// Further settings, such as `("max_connections", "10")`.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Variables of its environment, such as a shifted clock's.
    pub(crate) environment: Vec<(String, String)>,
}

/// The variable that names the server to share. (Of variables `WATCHBELL_...` the product reads each.)
const NAMED: &str = "TEST_MYSQL_URL";

/// The server that all tests of this process share. It must not be stopped or filled.
pub(crate) enum Shared {
    /// One of ours.
    Started(MariaDb),
    /// One that [`NAMED`] names, by its URL.
    Named(String),
}

/// A server; `watchbell` may do everything there. Its own time zone and character set are not the plain ones, so that
/// nothing comes to rely on them.
pub(crate) struct MariaDb {
    server: Server,
    options: MariaDbOptions,
    databases: AtomicU32,
}

impl Shared {
    /// A new, empty database: its URL.
    pub(crate) async fn fresh_database(&self) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        match self {
            Self::Started(mariadb) => mariadb.fresh_database().await,
            Self::Named(url) => {
                // Other runs of the tests were there, too.
                let number = DATABASES.fetch_add(1, Ordering::Relaxed) + 1;
                let name = format!("test_{:x}_{number}", Utc::now().timestamp_millis());
                create_database(url, &name).await;
                let mut own = url::Url::parse(url).unwrap();
                own.set_path(&name);
                own.to_string()
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Started(mariadb) => mariadb.address(),
            Self::Named(url) => url::Url::parse(url).unwrap().socket_addrs(|| Some(3306)).unwrap()[0],
        }
    }
}

impl MariaDb {
    /// The server that all tests of this process share.
    pub(crate) async fn shared() -> &'static Shared {
        static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
        let start = || match std::env::var(NAMED) {
            Ok(url) => Some(Shared::Named(url)),
            // Whoever comes first starts it; where that fails, the others do not try again.
            Err(_) => std::panic::catch_unwind(|| Self::own(MariaDbOptions::default())).ok().map(Shared::Started),
        };
        SHARED.get_or_init(start).as_ref().expect("MariaDB does not start: see the first test that failed by it")
    }

    /// A server of the test's own, ready to be used.
    pub(crate) fn own(options: MariaDbOptions) -> Self {
        let server = Server::new(&KIND);
        let mariadb = Self { server, options, databases: AtomicU32::new(0) };
        mariadb.initialize();
        mariadb.start();
        mariadb
    }

    /// A new, empty database: its URL.
    pub(crate) async fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        create_database(&self.url("mysql"), &name).await;
        self.url(&name)
    }

    /// The URL of a database on this server; `mysql` is always there.
    pub(crate) fn url(&self, database: &str) -> String {
        let tls = if self.options.has_tls {
            format!("?ssl-mode=VERIFY_IDENTITY&ssl-ca={}", self.ca_file().display())
        } else {
            String::new()
        };
        format!("mysql://watchbell:{PASSWORD}@{}/{database}{tls}", self.address())
    }

    /// Where it listens; it stays the same for the server's life.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The certificate authority of a server with TLS.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.server.path("ca.pem")
    }

    /// Starts it on its data, after [`MariaDb::stop`] or [`MariaDb::kill_9`].
    pub(crate) fn start(&self) {
        let mut command = self.server.program_with("mariadbd", &self.options.environment);
        command.arg("--no-defaults");
        for (name, value) in self.settings() {
            command.arg(format!("--{name}={value}"));
        }
        self.server.start(command);
    }

    /// Stops it in good order, without waiting for its clients.
    pub(crate) fn stop(&self) {
        self.server.stop();
    }

    /// Stops it in good order and starts it again.
    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Kills it, as a loss of power would.
    pub(crate) fn kill_9(&self) {
        self.server.kill_9();
    }

    /// Freezes it: connections stay open, and nobody answers.
    pub(crate) fn pause(&self) {
        self.server.pause();
    }

    /// Ends the pause.
    pub(crate) fn resume(&self) {
        self.server.resume();
    }

    /// All that it logged.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    fn initialize(&self) {
        let mut command = self.server.program("mariadb-install-db");
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        self.server.run(command.arg(format!("--datadir={}", self.server.path("data").display())));
        // Read at each start, before the first connection is taken.
        let user = format!(
            "CREATE USER IF NOT EXISTS watchbell@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO watchbell@'%' WITH GRANT OPTION;\n"
        );
        std::fs::write(self.server.path("init.sql"), user).unwrap();
        if self.options.has_tls {
            self.server.write_certificates();
        }
    }

    fn settings(&self) -> Vec<(&str, String)> {
        let file = |name: &str| self.server.path(name).display().to_string();
        let mut settings = vec![
            ("datadir", file("data")),
            ("bind-address", "127.0.0.1".to_owned()),
            ("port", self.address().port().to_string()),
            ("socket", file("socket")),
            ("pid-file", file("pid")),
            ("init-file", file("init.sql")),
            ("max-connections", "500".to_owned()),
            ("innodb-flush-log-at-trx-commit", u8::from(self.options.is_durable).to_string()),
            ("default-time-zone", "+09:00".to_owned()),
            ("character-set-server", "latin1".to_owned()),
        ];
        if self.options.has_tls {
            settings.extend([("ssl-ca", file("ca.pem")), ("ssl-cert", file("cert.pem")), ("ssl-key", file("key.pem"))]);
            settings.push(("require-secure-transport", "ON".to_owned()));
        }
        if self.options.has_binary_log {
            settings.extend([("log-bin", file("data/binlog")), ("server-id", "1".to_owned())]);
            settings.push(("sync-binlog", u8::from(self.options.is_durable).to_string()));
        }
        // The last one counts.
        settings.extend(self.options.settings.iter().cloned());
        settings
    }
}

async fn create_database(url: &str, name: &str) {
    sql::execute(url, &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
}
