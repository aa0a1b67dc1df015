//! Connecting, and bringing the tables up to date.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use url::Url;

use crate::ports::StoreError;
use crate::store::database::{Database, Dialect, Pool, explain, explain_opening, within};
use crate::store::migrations::{self, AppliedStep, Opened, Opening, Standing, Step, standing};
use crate::store::parameters;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of one node: the writer of outcomes, the dispatcher, the follower and the watchers seldom need more at once.
const CONNECTIONS: u32 = 8;
/// How long a connection may take to be had.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Any number that others are unlikely to use; migrations take turns by it.
const MIGRATION_LOCK: i64 = 0x7761_7463_6862_656c;
/// A transaction whose node hangs or is cut off must not hold its locks longer than a lease lasts.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '8s'; SET lock_timeout = '8s'; \
    SET statement_timeout = '12s'; SET jit = off";
/// The same for a transaction alone: behind a pooler the next one may be another session's.
const BEGIN_POOLED: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '8s'; \
    SET LOCAL lock_timeout = '8s'; SET LOCAL statement_timeout = '12s'; SET LOCAL jit = off";
/// An option of the URL that is ours; the driver is not told of it.
const POOLER: &str = "pooler";
/// What the driver reads, but for what is ours to set (`application_name`, `statement-cache-capacity`) and a second way to
/// write `options`. It would pass over a misspelt `sslmode` and trust whoever answers.
const KNOWN: [&str; 17] = [
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    POOLER,
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];
/// Of `sslmode`.
const TLS_MODES: &str = "disable, allow, prefer, require, verify-ca, verify-full";
const EXAMPLE: &str = "postgres://user:password@host:5432/database";

/// Connects, and applies what migrations are missing, on the conditions of `opening`.
pub(in crate::store) async fn open(url: &str, opening: Opening<'_>) -> Result<Opened, StoreError> {
    let Address { options, is_pooled, shown } = Address::read(url)?;
    let action = format!("open the database `{shown}`");
    // A pool would try for long what is refused, and then not say why.
    let first = within(ACQUIRE_TIMEOUT, options.connect())
        .await
        .map_err(|error| explain_opening(&action, &error, Dialect::Postgres))?;
    // In good order, so that the server logs nothing.
    first.close().await.ok();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if !is_pooled {
                    connection.execute(SESSION).await?;
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| explain(&action, &error))?;
    let database = Database::new(Pool::Postgres(pool.clone()));
    let database = if is_pooled { database.pooled_by_transaction(BEGIN_POOLED) } else { database };
    let applied = migrate(&pool, &database, opening, &shown).await?;
    Ok(Opened { database, applied, version: migrations::newest(&MIGRATIONS) })
}

/// What a URL says.
struct Address {
    options: PgConnectOptions,
    is_pooled: bool,
    /// Without its password.
    shown: String,
}

impl Address {
    fn read(url: &str) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { action: "open the database".to_owned(), reason };
        let mut url =
            Url::parse(url).map_err(|error| unusable(format!("its URL cannot be read ({error}); write {EXAMPLE}")))?;
        parameters::refuse_unknown(&url, &KNOWN)?;
        let (ours, theirs): (Vec<_>, Vec<_>) = url.query_pairs().into_owned().partition(|(name, _)| name == POOLER);
        let is_pooled = match ours.last().map(|(_, mode)| mode.as_str()) {
            None | Some("none" | "session") => false,
            Some("transaction") => true,
            Some(other) => return Err(unusable(format!("`pooler={other}`: write pooler=transaction, or nothing"))),
        };
        url.set_query(None);
        if !theirs.is_empty() {
            url.query_pairs_mut().extend_pairs(theirs);
        }
        // The driver would take the user of the process, or one that it makes up.
        let names_user = !url.username().is_empty() || url.query_pairs().any(|(name, _)| name == "user");
        let options: PgConnectOptions = url.as_str().parse().map_err(|error| parameters::refused(&error, TLS_MODES))?;
        let options = options.application_name("watchbell");
        let options = if is_pooled { options.statement_cache_capacity(0) } else { options };
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let named = if names_user { format!("{}@", options.get_username()) } else { String::new() };
        let shown = format!("postgres://{named}{place}/{}", options.get_database().unwrap_or_default());
        let lacks = |what: &str| Err(unusable(format!("`{shown}` names no {what}; write {EXAMPLE}")));
        if options.get_database().is_none() {
            // The server would take one that is called as the user is.
            return lacks("database");
        }
        if !names_user {
            return lacks("user");
        }
        Ok(Self { options, is_pooled, shown })
    }
}

async fn migrate(
    pool: &PgPool,
    database: &Database,
    opening: Opening<'_>,
    shown: &str,
) -> Result<Vec<Step>, StoreError> {
    let action = format!("prepare the tables of `{shown}`");
    let explain = |error: sqlx::Error| explain(&action, &error);
    let unusable = |reason: &str| StoreError::Unusable { action: action.clone(), reason: reason.to_owned() };
    // In a transaction: behind a pooler, a statement is prepared on one session and would be executed on another.
    let mut look = pool.begin().await.map_err(explain)?;
    // In this order: another node that begins meanwhile makes the list of steps first.
    let has_monitors = is_there(&mut look, "monitors").await.map_err(explain)?;
    let applied = applied(&mut look).await.map_err(explain)?;
    let is_foreign = applied.is_none() && has_monitors;
    look.rollback().await.map_err(explain)?;
    if is_foreign {
        return Err(unusable(
            "its schema holds a table `monitors` that is none of Watchbell's; name a database, or a schema \
             (?options=-c%20search_path%3Dwatchbell), that is empty",
        ));
    }
    match standing(&MIGRATIONS, &applied.unwrap_or_default()).map_err(|error| migrations::explain(shown, error))? {
        Standing::UpToDate => Ok(Vec::new()),
        Standing::Behind if database.is_pooled_by_transaction() => Err(unusable(
            "steps are missing, and they cannot be applied through a pooler; run `watchbell migrate` with the \
                 server's own address",
        )),
        Standing::Behind => apply(pool, database, opening, shown).await,
    }
}

/// Applies what is missing, in turns with other nodes.
async fn apply(pool: &PgPool, database: &Database, opening: Opening<'_>, shown: &str) -> Result<Vec<Step>, StoreError> {
    let action = format!("prepare the tables of `{shown}`");
    let explain = |error: sqlx::Error| explain(&action, &error);
    // Nodes that start together take turns. The lock is the session's that migrates: of a node that was killed, it goes on
    // until its statement ends, and a second one beside it would give sequences other names than they are known by.
    let mut connection = pool.acquire().await.map_err(explain)?;
    connection
        .execute("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        .await
        .map_err(explain)?;
    let take_turn = sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK);
    take_turn.execute(&mut *connection).await.map_err(explain)?;
    // Only now: whoever had the turn before may have made them.
    let applied = applied(&mut connection).await.map_err(explain)?;
    let missing = migrations::missing(&MIGRATIONS, applied.as_deref().unwrap_or_default());
    if !missing.is_empty() {
        migrations::refuse_others(database, shown, opening, applied.is_some()).await?;
    }
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.set_locking(false);
    let migrated =
        migrator.run_direct(None, &mut *connection, false).await.map_err(|error| migrations::explain(shown, error));
    // Its settings are those of a migration, and the lock goes with it.
    drop(connection.detach());
    migrated.map(|()| missing)
}

/// What was applied; `None`: nothing of ours is there.
async fn applied(connection: &mut PgConnection) -> Result<Option<Vec<AppliedStep>>, sqlx::Error> {
    if !is_there(connection, "_sqlx_migrations").await? {
        return Ok(None);
    }
    let rows: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .persistent(false)
            .fetch_all(connection)
            .await?;
    let steps = rows.into_iter().map(|(version, checksum, is_done)| AppliedStep { version, checksum, is_done });
    Ok(Some(steps.collect()))
}

async fn is_there(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").persistent(false).bind(table).fetch_one(connection).await
}
