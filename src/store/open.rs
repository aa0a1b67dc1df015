//! Which database a URL names.

use std::sync::Arc;

use super::database::Database;
use super::gaps::Gaps;
use super::migrations::{Opened, Opening};
use super::rules::RulesCache;
use super::server_time::ServerTime;
use super::{SqlStore, copy, mysql, postgres, sqlite};
use crate::ports::{Clock, StoreError};

/// Whosever it is, and new ones as well.
const ANY: Opening<'static> = Opening { installation: None, may_make: true };

impl SqlStore {
    /// Opens the database that `url` names, and applies what migrations are missing: `sqlite://`, `postgres://` or
    /// `mysql://` (MySQL and MariaDB). A SQLite file is made on the first start.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it is none of ours, of a newer version, or refuses this user, or when a copy into
    /// it is not complete, or it was copied to another database;
    /// [`StoreError::Unavailable`] when it cannot be reached or is locked.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_if(ANY, url, clock).await
    }

    /// The same, where missing steps are applied on conditions. A database that lacks nothing is opened in any case,
    /// whosever it is.
    ///
    /// # Errors
    /// As [`SqlStore::open`], and [`StoreError::Unusable`] where steps are missing and a condition does not hold; none was
    /// applied then.
    pub async fn open_if(opening: Opening<'_>, url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::over(opened(url, opening).await?, clock).await
    }

    async fn over(opened: Opened, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        copy::refuse_copies(&opened.database).await?;
        Ok(Self {
            database: opened.database,
            steps_applied: opened.applied,
            schema_version: opened.version,
            clock,
            rules: RulesCache::new(chrono_tz::UTC),
            gaps: Gaps::default(),
            server_time: ServerTime::default(),
            keeping: Default::default(),
        })
    }
}

/// The database that `url` names, whosever it is, its tables brought up to date; made where there are none and `may_make`.
pub(super) async fn database(url: &str, may_make: bool) -> Result<Database, StoreError> {
    Ok(opened(url, Opening { installation: None, may_make }).await?.database)
}

async fn opened(url: &str, opening: Opening<'_>) -> Result<Opened, StoreError> {
    // Boxed: what awaits this awaits a pointer, and not all that opening does.
    match scheme(url) {
        Some("postgres" | "postgresql") => Box::pin(postgres::open(url, opening)).await,
        Some("mysql" | "mariadb") => Box::pin(mysql::open(url, opening)).await,
        Some("sqlite") | None => Box::pin(sqlite::open(url, opening)).await,
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
