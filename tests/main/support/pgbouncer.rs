//! A real PgBouncer in transaction mode: clients share a few connections to PostgreSQL, and each transaction may get
//! another one.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::server::{Kind, Server};

const KIND: Kind = Kind {
    name: "PgBouncer",
    package: "pgbouncer",
    user: "postgres",
    ready: "process up:",
    stop: Signal::SIGINT,
    end: Signal::SIGKILL,
};

/// A pooler in front of a PostgreSQL that trusts everybody.
pub(crate) struct PgBouncer {
    server: Server,
}

impl PgBouncer {
    /// Starts one in front of the server at `upstream`; it is ready when this returns. A database has at most
    /// `pool_size` connections to the server.
    pub(crate) fn start(upstream: SocketAddr, pool_size: u32) -> Self {
        let server = Server::new(&KIND);
        let (own, users) = (server.address(), server.path("users"));
        // What sqlx sends first, and PgBouncer refuses unless it is told to overlook it: users of it must do the same.
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {pool_size}\n\
             max_client_conn = 500\nignore_startup_parameters = extra_float_digits\nadmin_users = watchbell\n",
            upstream.ip(),
            upstream.port(),
            own.ip(),
            own.port(),
            users.display()
        );
        std::fs::write(users, "\"watchbell\" \"\"\n").unwrap();
        std::fs::write(server.path("pgbouncer.ini"), settings).unwrap();
        let pgbouncer = Self { server };
        pgbouncer.start_again();
        pgbouncer
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of a database of the server behind it; `pgbouncer` is its own, for `SHOW POOLS`.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://watchbell@{}/{database}", self.address())
    }

    /// The same database as in the URL of the server, through the pooler.
    pub(crate) fn instead_of(&self, url: &str) -> String {
        self.url(url.rsplit('/').next().unwrap())
    }

    /// Stops it; its clients are disconnected.
    pub(crate) fn stop(&self) {
        self.server.stop();
    }

    /// Starts it again, on the same port.
    pub(crate) fn start_again(&self) {
        let mut command = self.server.program("pgbouncer");
        command.arg(self.server.path("pgbouncer.ini"));
        self.server.start(command);
    }

    /// All that it logged.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }
}
