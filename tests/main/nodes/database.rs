//! The database that the nodes share: a server of the test's own, durable, or one that is named by its URL.

use std::net::SocketAddr;

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::{block_on, try_rows};

/// See the module.
pub(crate) enum Database {
    Postgres {
        server: Postgres,
        url: String,
    },
    MariaDb {
        server: MariaDb,
        url: String,
    },
    /// Somebody else's server, which is not stopped.
    #[allow(dead_code, reason = "benches/failover.rs names one")]
    Theirs {
        url: String,
    },
}

impl Database {
    /// A PostgreSQL, with an empty database.
    pub(crate) fn postgres() -> Self {
        let server = Postgres::own(PostgresOptions { is_durable: true, ..PostgresOptions::default() });
        let url = block_on(server.fresh_database());
        Self::Postgres { server, url }
    }

    /// A MariaDB, with an empty database.
    pub(crate) fn mariadb() -> Self {
        let server = MariaDb::own(MariaDbOptions { is_durable: true, ..MariaDbOptions::default() });
        let url = block_on(server.fresh_database());
        Self::MariaDb { server, url }
    }

    /// What the figures are called by.
    pub(crate) fn name(&self) -> &'static str {
        if self.url().starts_with("postgres") { "PostgreSQL" } else { "MariaDB" }
    }

    /// The way past the proxies.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Postgres { url, .. } | Self::MariaDb { url, .. } | Self::Theirs { url } => url,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Postgres { server, .. } => server.address(),
            Self::MariaDb { server, .. } => server.address(),
            Self::Theirs { url } => {
                url::Url::parse(url).unwrap().socket_addrs(|| None).unwrap().into_iter().next().unwrap()
            }
        }
    }

    /// Stops it in good order.
    pub(crate) fn stop(&self) {
        match self {
            Self::Postgres { server, .. } => server.stop(),
            Self::MariaDb { server, .. } => server.stop(),
            Self::Theirs { .. } => panic!("this server is somebody else's"),
        }
    }

    /// Kills it, as a loss of power would.
    pub(crate) fn kill_9(&self) {
        match self {
            Self::Postgres { server, .. } => server.kill_9(),
            Self::MariaDb { server, .. } => server.kill_9(),
            Self::Theirs { .. } => panic!("this server is somebody else's"),
        }
    }

    pub(crate) fn start(&self) {
        match self {
            Self::Postgres { server, .. } => server.start(),
            Self::MariaDb { server, .. } => server.start(),
            Self::Theirs { .. } => panic!("this server is somebody else's"),
        }
    }

    /// The milliseconds since 1970 of a column with a time, as SQL.
    pub(crate) fn millis(&self, column: &str) -> String {
        if self.url().starts_with("postgres") {
            format!("CAST(round(extract(epoch FROM {column}) * 1000) AS bigint)")
        } else {
            format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {column}) DIV 1000")
        }
    }

    /// What MariaDB ended since it was in the way of somebody else is said again, as a person would.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        const ATTEMPTS: usize = 5;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_rows(sql) {
                Ok(rows) => return rows,
                Err(error) if error.to_string().contains("Deadlock") => last = Some(error),
                Err(error) => panic!("{sql}: {error}"),
            }
        }
        panic!("{sql}: {last:?}")
    }

    /// The same while the server may be away.
    pub(crate) fn try_rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        block_on(try_rows(self.url(), sql))
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.rows(sql);
    }

    /// One number; 0 where it is NULL.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.try_number(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same while the server may be away.
    pub(crate) fn try_number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        let rows = self.try_rows(sql)?;
        Ok(rows[0][0].as_deref().map_or(0, |text| text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))))
    }
}
