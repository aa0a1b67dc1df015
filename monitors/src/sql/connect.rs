//! From the URL of a connection to a database that can be asked once.
//!
//! A connection is opened for each check and closed after it: what is measured is then what an application would meet,
//! and a row cannot use up a pool that others wait for.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::time::Instant;
use watchbell_contract::CheckContext;

use super::failure::{Failure, Stage};
use super::statement::Statement;
use super::value::Table;
use super::{mysql, postgres, sqlite};

/// Which SQL a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

/// A database, by its driver's options.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
}

/// What ends a check: the server is told to stop first, so that its reason can still be reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// When the server stops the statement by itself.
    pub(super) server: Instant,
    /// When this side gives up.
    pub(super) here: Instant,
}

/// How much earlier than the engine the server stops a statement: a tenth of the time, within these.
const LEAST_MARGIN: Duration = Duration::from_millis(50);
const MOST_MARGIN: Duration = Duration::from_millis(1_000);

/// The longest time that all servers can be told, in milliseconds as a 32-bit number: 24 days.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 24 * 60 * 60);

impl Deadlines {
    pub(super) fn of(timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST_TIMEOUT);
        let margin = (timeout / 10).clamp(LEAST_MARGIN, MOST_MARGIN).min(timeout / 2);
        let now = Instant::now();
        Self { server: now + (timeout - margin), here: now + (timeout - margin / 3) }
    }

    /// What is left for a statement, at least a millisecond: zero would mean "for ever" to the servers.
    pub(super) fn left_for_server(&self) -> Duration {
        self.server.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
}

impl Target {
    /// Reads a URL. The error never repeats any of it.
    pub(super) fn read(url: &str) -> Result<Self, Failure> {
        let broken = |error: sqlx::Error| Failure::of(Stage::Url, &error);
        match url.split_once(':').map_or("", |(scheme, _)| scheme) {
            "sqlite" => {
                let options = SqliteConnectOptions::from_str(url).map_err(broken)?;
                Ok(Self::Sqlite(Box::new(options)))
            }
            "postgres" | "postgresql" => Ok(Self::Postgres(Box::new(PgConnectOptions::from_str(url).map_err(broken)?))),
            "mysql" | "mariadb" => Ok(Self::Mysql(Box::new(MySqlConnectOptions::from_str(url).map_err(broken)?))),
            _ => Err(Failure::new(
                Stage::Url,
                "it begins with none of `sqlite://`, `postgres://`, `mysql://`".to_owned(),
            )),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Whether both are one database, as far as their URLs tell.
    pub(super) fn is_same_database(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite(mine), Self::Sqlite(its)) => is_same_file(mine.get_filename(), its.get_filename()),
            (Self::Postgres(mine), Self::Postgres(its)) => {
                let name = |options: &PgConnectOptions| {
                    options.get_database().unwrap_or_else(|| options.get_username()).to_owned()
                };
                is_same_server(
                    (mine.get_host(), mine.get_port(), mine.get_socket().map(AsRef::as_ref)),
                    (its.get_host(), its.get_port(), its.get_socket().map(AsRef::as_ref)),
                ) && name(mine) == name(its)
            }
            (Self::Mysql(mine), Self::Mysql(its)) => {
                is_same_mysql_server(mine, its)
                    && matches!((mine.get_database(), its.get_database()),
                        (Some(mine), Some(its)) if mine.eq_ignore_ascii_case(its))
            }
            _ => false,
        }
    }

    /// The schema of `own` that a statement sent here could reach by naming it.
    pub(super) fn reachable_schema(&self, own: &Self) -> Option<String> {
        match (self, own) {
            (Self::Mysql(mine), Self::Mysql(its)) if is_same_mysql_server(mine, its) => {
                its.get_database().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// Connects, asks and disconnects.
    ///
    /// # Errors
    /// What failed, at which stage. Never any part of the URL.
    pub(super) async fn ask(
        &self,
        statement: &Statement,
        context: &CheckContext,
        deadlines: Deadlines,
    ) -> Result<Table, Failure> {
        let asked = async {
            match self {
                Self::Sqlite(options) => sqlite::ask(options, statement, context, deadlines).await,
                Self::Postgres(options) => postgres::ask(options, statement, context, deadlines).await,
                Self::Mysql(options) => mysql::ask(options, statement, context, deadlines).await,
            }
        };
        match tokio::time::timeout_at(deadlines.here, asked).await {
            Ok(result) => result,
            Err(_) => Err(Failure::timed_out(context.timeout)),
        }
    }

    /// What the role of this connection may do that a monitor does not need.
    pub(super) async fn excess_rights(&self) -> Result<Vec<String>, Failure> {
        match self {
            // Whoever may read a SQLite file may usually write it; the session is opened read-only all the same.
            Self::Sqlite(options) => sqlite::try_open(options).await.map(|()| Vec::new()),
            Self::Postgres(options) => postgres::excess_rights(options).await,
            Self::Mysql(options) => mysql::excess_rights(options).await,
        }
    }
}

fn is_same_file(mine: &Path, its: &Path) -> bool {
    let resolved = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if resolved(mine) == resolved(its) {
        return true;
    }
    // Two names of one file: a hard link.
    match (nix::sys::stat::stat(mine), nix::sys::stat::stat(its)) {
        (Ok(mine), Ok(its)) => (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino),
        _ => false,
    }
}

fn is_same_mysql_server(mine: &MySqlConnectOptions, its: &MySqlConnectOptions) -> bool {
    is_same_server(
        (mine.get_host(), mine.get_port(), mine.get_socket().map(AsRef::as_ref)),
        (its.get_host(), its.get_port(), its.get_socket().map(AsRef::as_ref)),
    )
}

/// A socket is always on this machine; which port belongs to it is not known, so it counts as the same server.
fn is_same_server(mine: (&str, u16, Option<&Path>), its: (&str, u16, Option<&Path>)) -> bool {
    let is_here = |(host, _, socket): (&str, u16, Option<&Path>)| {
        socket.is_some()
            || matches!(host.to_ascii_lowercase().as_str(), "localhost" | "::1" | "[::1]")
            || host.starts_with("127.")
    };
    match (mine.2, its.2) {
        (Some(mine), Some(its)) => mine == its,
        (None, None) => mine.1 == its.1 && (mine.0.eq_ignore_ascii_case(its.0) || (is_here(mine) && is_here(its))),
        _ => is_here(mine) && is_here(its),
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn same(mine: &str, its: &str) -> bool {
        Target::read(mine).unwrap().is_same_database(&Target::read(its).unwrap())
    }

    #[test]
    fn one_database_is_known_under_other_spellings() {
        assert!(same("postgres://a@localhost/wb", "postgresql://b:c@127.0.0.1:5432/wb"));
        assert!(same("mysql://a@[::1]:3306/wb", "mysql://b@localhost/wb"));
        assert!(same("mariadb://a@db1/wb", "mysql://b@DB1:3306/WB"));
        assert!(!same("postgres://a@localhost/wb", "postgres://a@localhost/shop"));
        assert!(!same("postgres://a@db1/wb", "postgres://a@db2/wb"));
        assert!(!same("postgres://a@localhost/wb", "mysql://a@localhost/wb"));
    }

    #[test]
    fn one_file_is_known_under_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("own.db"), "").unwrap();
        std::os::unix::fs::symlink(at("own.db"), at("soft.db")).unwrap();
        std::fs::hard_link(at("own.db"), at("hard.db")).unwrap();
        std::fs::write(at("other.db"), "").unwrap();
        let url = |name: &str| format!("sqlite://{}", at(name).display());
        assert!(same(&url("soft.db"), &url("own.db")));
        assert!(same(&url("hard.db"), &url("own.db")));
        assert!(!same(&url("other.db"), &url("own.db")));
    }

    #[test]
    fn a_schema_of_the_same_server_is_reachable() {
        let own = Target::read("mysql://w@localhost/watchbell").unwrap();
        let shop = Target::read("mysql://r@127.0.0.1/shop").unwrap();
        assert_eq!(shop.reachable_schema(&own).as_deref(), Some("watchbell"));
    }

    #[test]
    fn a_url_that_is_none_is_not_repeated() {
        for url in
            ["oracle://u:s3cret@h/d", "s3cret", "postgres://u:s3cret@h:port/d", "mysql://u:s3cret@h/d?ssl-mode=s3cret"]
        {
            let text = Target::read(url).unwrap_err().to_string();
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
