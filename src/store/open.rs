//! Which database a URL names.

use std::sync::Arc;

use super::database::Database;
use super::gaps::Gaps;
use super::rules::RulesCache;
use super::server_time::ServerTime;
use super::{SqlStore, copy, mysql, postgres, sqlite};
use crate::ports::{Clock, StoreError};

impl SqlStore {
    /// Opens the database that `url` names, and applies what migrations are missing: `sqlite://`, `postgres://` or
    /// `mysql://` (MySQL and MariaDB). A SQLite file is made on the first start.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it is none of ours, of a newer version, or refuses this user, or when a copy into
    /// it is not complete, or it was copied to another database;
    /// [`StoreError::Unavailable`] when it cannot be reached or is locked.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let database = database(url).await?;
        copy::refuse_copies(&database).await?;
        Ok(Self::over(database, clock))
    }

    fn over(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self {
            database,
            clock,
            rules: RulesCache::new(chrono_tz::UTC),
            gaps: Gaps::default(),
            server_time: ServerTime::default(),
            keeping: Default::default(),
        }
    }
}

/// The database that `url` names, its tables brought up to date.
pub(super) async fn database(url: &str) -> Result<Database, StoreError> {
    match scheme(url) {
        Some("postgres" | "postgresql") => postgres::open(url).await,
        Some("mysql" | "mariadb") => mysql::open(url).await,
        Some("sqlite") | None => sqlite::open(url).await,
        Some(other) => Err(StoreError::Unusable {
            action: "open the database".to_owned(),
            reason: format!("`{other}` is none that Watchbell knows; write sqlite://, postgres:// or mysql://"),
        }),
    }
}

/// Whether `url` names a file.
pub(super) fn is_sqlite(url: &str) -> bool {
    matches!(scheme(url), Some("sqlite") | None)
}

/// What stands before the colon; a bare path has none.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once(':')?;
    (rest.starts_with("//") || scheme == "sqlite").then_some(scheme)
}
