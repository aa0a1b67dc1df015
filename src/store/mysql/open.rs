//! Connecting, and bringing the tables up to date.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, MySqlPool};
use url::Url;

use crate::ports::StoreError;
use crate::store::database::{Database, Dialect, Pool, explain, explain_opening, within};
use crate::store::migrations::{self, AppliedStep, Opened, Opening, Standing, Step, standing};
use crate::store::parameters;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/mysql");

/// Connections of one node: the writer of outcomes, the dispatcher, the follower and the watchers seldom need more at once.
const CONNECTIONS: u32 = 8;
/// How long a connection may take to be had.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without locks on gaps; and a transaction whose node hangs or is cut off must not hold its locks longer than a lease
/// lasts: `wait_timeout` ends a session that says nothing, inside a transaction or not.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET SESSION innodb_lock_wait_timeout = 8, SESSION wait_timeout = 8";
/// What the driver reads, but for what is ours to set (`statement-cache-capacity`) and what would end the exactness of texts
/// and times: `charset`, `collation`, `timezone`.
const KNOWN: [&str; 9] =
    ["socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslca", "sslcert", "sslkey", "sslmode"];
/// Of `ssl-mode`.
const TLS_MODES: &str = "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";
const NO_SUCH_TABLE: u16 = 1146;
/// How long other nodes may take to prepare the tables.
const TURN: Duration = Duration::from_secs(60);
/// Connections that are idle are closed before the server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, and applies what migrations are missing, on the conditions of `opening`.
pub(in crate::store) async fn open(url: &str, opening: Opening<'_>) -> Result<Opened, StoreError> {
    let unusable = |reason: String| StoreError::Unusable { action: "open the database".to_owned(), reason };
    let url = url.replacen("mariadb://", "mysql://", 1);
    let parsed = Url::parse(&url).map_err(|error| {
        unusable(format!("its URL cannot be read ({error}); write mysql://user:password@host:3306/database"))
    })?;
    parameters::refuse_unknown(&parsed, &KNOWN)?;
    let options: MySqlConnectOptions = url.parse().map_err(|error| parameters::refused(&error, TLS_MODES))?;
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let shown = format!("mysql://{place}/{}", options.get_database().unwrap_or_default());
    if options.get_database().is_none() {
        return Err(unusable(format!("`{shown}` names no database; write mysql://user:password@host:3306/database")));
    }
    let action = format!("open the database `{shown}`");
    // A pool would try for long what is refused, and then not say why.
    let first = within(ACQUIRE_TIMEOUT, options.connect())
        .await
        .map_err(|error| explain_opening(&action, &error, Dialect::MySql))?;
    // In good order, so that the server logs nothing.
    first.close().await.ok();
    let pool = MySqlPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(SESSION).await?;
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| explain(&action, &error))?;
    let database = Database::new(Pool::MySql(pool.clone()));
    let applied = migrate(&pool, &database, opening, &shown).await?;
    Ok(Opened { database, applied, version: migrations::newest(&MIGRATIONS) })
}

async fn migrate(
    pool: &MySqlPool,
    database: &Database,
    opening: Opening<'_>,
    shown: &str,
) -> Result<Vec<Step>, StoreError> {
    let action = format!("prepare the tables of `{shown}`");
    let explain = |error: sqlx::Error| explain(&action, &error);
    // In this order: another node that begins meanwhile makes the list of steps first.
    let has_monitors = is_there(pool, "monitors").await.map_err(explain)?;
    let applied = applied(pool).await.map_err(explain)?;
    if applied.is_none() && has_monitors {
        return Err(StoreError::Unusable {
            action: action.clone(),
            reason: "it holds a table `monitors` that is none of Watchbell's; name a database that is empty".to_owned(),
        });
    }
    match standing(&MIGRATIONS, &applied.unwrap_or_default()).map_err(|error| migrations::explain(shown, error))? {
        Standing::UpToDate => Ok(Vec::new()),
        Standing::Behind => apply(pool, database, opening, shown).await,
    }
}

/// Applies what is missing, in turns with other nodes.
///
/// sqlx's own lock is none on MariaDB (`GET_LOCK` with a negative time answers NULL there, and sqlx does not look).
async fn apply(
    pool: &MySqlPool,
    database: &Database,
    opening: Opening<'_>,
    shown: &str,
) -> Result<Vec<Step>, StoreError> {
    let action = format!("prepare the tables of `{shown}`");
    let explain = |error: sqlx::Error| explain(&action, &error);
    let mut connection = pool.acquire().await.map_err(explain)?.detach();
    connection.execute("SET SESSION wait_timeout = 3600").await.map_err(explain)?;
    let turn: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(concat('watchbell ', left(database(), 50)), ?)")
        .bind(TURN.as_secs())
        .fetch_one(&mut connection)
        .await
        .map_err(explain)?;
    if turn != Some(1) {
        let reason = format!("another node has been preparing them for {} s; look what it does", TURN.as_secs());
        return Err(StoreError::Unavailable { action, reason });
    }
    // Only now: whoever had the turn before may have made them.
    let applied = applied(pool).await.map_err(explain)?;
    let missing = migrations::missing(&MIGRATIONS, applied.as_deref().unwrap_or_default());
    if !missing.is_empty() {
        migrations::refuse_others(database, shown, opening, applied.is_some()).await?;
    }
    // A step that another node began and did not end cannot be taken back, but may be applied once more.
    if is_there(pool, "_sqlx_migrations").await.map_err(explain)? {
        connection.execute("DELETE FROM _sqlx_migrations WHERE success = FALSE").await.map_err(explain)?;
    }
    let mut migrator = sqlx::migrate!("migrations/mysql");
    migrator.set_locking(false);
    let migrated =
        migrator.run_direct(None, &mut connection, false).await.map_err(|error| migrations::explain(shown, error));
    // The lock goes with its connection.
    drop(connection);
    migrated.map(|()| missing)
}

/// What was applied; `None`: nothing of ours is there.
async fn applied(pool: &MySqlPool) -> Result<Option<Vec<AppliedStep>>, sqlx::Error> {
    let read = sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    // To who may not read it, the table seems not to be there, but for the error.
    let rows: Vec<(i64, Vec<u8>, bool)> = match read.fetch_all(pool).await {
        Err(sqlx::Error::Database(error)) if is_missing_table(error.as_ref()) => return Ok(None),
        rows => rows?,
    };
    let steps = rows.into_iter().map(|(version, checksum, is_done)| AppliedStep { version, checksum, is_done });
    Ok(Some(steps.collect()))
}

fn is_missing_table(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| error.number() == NO_SUCH_TABLE)
}

async fn is_there(pool: &MySqlPool, table: &str) -> Result<bool, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = ?",
    )
    .bind(table)
    .fetch_one(pool)
    .await?;
    Ok(tables > 0)
}
