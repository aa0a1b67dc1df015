//! A real PostgreSQL: one that all tests share, or one of the test's own, to be restarted, killed and paused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;

use super::server::{Kind, Server};
use super::sql;

/// Stopped by a fast shutdown, which does not wait for clients; ended by an immediate one.
const KIND: Kind = Kind {
    name: "PostgreSQL",
    package: "postgresql",
    user: "postgres",
    ready: "database system is ready to accept connections",
    stop: Signal::SIGINT,
    end: Signal::SIGQUIT,
};

/// What a server of a test's own is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct PostgresOptions {
    /// Whether what was committed is on the disk (`fsync`).
    pub(crate) is_durable: bool,
    /// Whether it speaks TLS only, with a certificate that [`Postgres::ca_file`] signed.
    pub(crate) has_tls: bool,
    /// The password that it wants (SCRAM); without one it trusts everybody.
    pub(crate) password: Option<String>,
    /// Further settings, such as `("max_connections", "10")`.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Variables of its environment, such as a shifted clock's.
    pub(crate) environment: Vec<(String, String)>,
}

/// A server; `watchbell` is its superuser. Its own time zone and its order of texts are not the plain ones, so that
/// nothing comes to rely on them.
pub(crate) struct Postgres {
    server: Server,
    options: PostgresOptions,
    databases: AtomicU32,
}

impl Postgres {
    /// The server that all tests of this process share. It must not be stopped or filled.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        // Whoever comes first starts it; where that fails, the others do not try again.
        let start = || std::panic::catch_unwind(|| Self::own(PostgresOptions::default())).ok();
        SHARED.get_or_init(start).as_ref().expect("PostgreSQL does not start: see the first test that failed by it")
    }

    /// A server of the test's own, ready to be used.
    pub(crate) fn own(options: PostgresOptions) -> Self {
        let server = Server::new(&KIND);
        let postgres = Self { server, options, databases: AtomicU32::new(0) };
        postgres.initialize();
        postgres.start();
        postgres
    }

    /// A new, empty database: its URL.
    pub(crate) async fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        sql::execute(&self.url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        self.url(&name)
    }

    /// The URL of a database on this server; `postgres` is always there.
    pub(crate) fn url(&self, database: &str) -> String {
        let password = self.options.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        let tls = if self.options.has_tls {
            format!("?sslmode=verify-full&sslrootcert={}", self.ca_file().display())
        } else {
            String::new()
        };
        format!("postgres://watchbell{password}@{}/{database}{tls}", self.address())
    }

    /// Where it listens; it stays the same for the server's life.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The certificate authority of a server with TLS.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.server.path("ca.pem")
    }

    /// Starts it on its data, after [`Postgres::stop`] or [`Postgres::kill_9`].
    pub(crate) fn start(&self) {
        let mut command = self.server.program_with("postgres", &self.options.environment);
        command.arg("-D").arg(self.server.path("data"));
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
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

    /// Kills it and all its sessions, as a loss of power would.
    pub(crate) fn kill_9(&self) {
        self.server.kill_9();
    }

    /// Freezes it and all its sessions: connections stay open, and nobody answers.
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
        let mut command = self.server.program("initdb");
        // As on most installations, texts are not in the order of their bytes.
        command.args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--encoding=UTF8"]);
        command.args(["--username=watchbell", "--no-sync", "--pgdata"]).arg(self.server.path("data"));
        if let Some(password) = &self.options.password {
            let file = self.server.path("password");
            std::fs::write(&file, password).unwrap();
            command.arg("--auth=scram-sha-256").arg(format!("--pwfile={}", file.display()));
        } else {
            command.arg("--auth=trust");
        }
        self.server.run(&mut command);
        if self.options.has_tls {
            self.server.write_certificates();
            let auth = if self.options.password.is_some() { "scram-sha-256" } else { "trust" };
            let rules = format!("hostssl all all 127.0.0.1/32 {auth}\n");
            std::fs::write(self.server.path("data/pg_hba.conf"), rules).unwrap();
        }
    }

    fn settings(&self) -> Vec<(&str, String)> {
        let on = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let folder = self.server.path("").display().to_string();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.address().port().to_string()),
            ("unix_socket_directories", folder),
            ("max_connections", "300".to_owned()),
            ("fsync", on(self.options.is_durable)),
            ("full_page_writes", on(self.options.is_durable)),
            // Its files are in the folder then, and go with it.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("timezone", "Asia/Tokyo".to_owned()),
            ("ssl", on(self.options.has_tls)),
        ];
        if self.options.has_tls {
            let file = |name: &str| self.server.path(name).display().to_string();
            settings.extend([("ssl_cert_file", file("cert.pem")), ("ssl_key_file", file("key.pem"))]);
        }
        // The last one counts.
        settings.extend(self.options.settings.iter().cloned());
        settings
    }
}
