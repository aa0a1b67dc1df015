//! Opening the file, migrating it, and keeping a second node out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use crate::ports::StoreError;
use crate::store::database::{Database, Pool, explain, is_busy};
use crate::store::migrations::{self, AppliedStep, Opened, Opening};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another program's transaction before it is reported; it is then tried again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads that may go on beside each other.
const READERS: u32 = 3;
/// Prepared statements kept for each connection; more than this store has.
const STATEMENTS: usize = 100;
/// Rows that SQLite's thread may be ahead of the reader: a batch's worth, so that the two do not wake each other for
/// every few rows.
const ROWS_AHEAD: usize = 2_048;

/// Opens the file, makes it on the first start, and applies what migrations are missing, on the conditions of
/// `opening`.
///
/// # Errors
/// [`StoreError::Unusable`] when it is no database, read-only, or of a newer version; [`StoreError::Unavailable`] when it
/// is locked or the disk is full.
pub(in crate::store) async fn open(url: &str, opening: Opening<'_>) -> Result<Opened, StoreError> {
    let path = database_path(url)?;
    let action = format!("open the database `{}`", path.display());
    let options = options(&path);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        // A file does not hang up: asking before each use would double the messages to SQLite's thread.
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .before_acquire(|connection, _| Box::pin(std::future::ready(Ok(is_usable(connection)))))
        .connect_with(options.clone())
        .await
        .map_err(|error| explain(&action, &error))?;
    must_be_writable(&options).await.map_err(|error| explain(&action, &error))?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|error| explain(&action, &error))?;
    let database = Database::new(Pool::Sqlite { writer: writer.clone(), readers });
    let shown = path.display().to_string();
    let applied = applied(&writer).await.map_err(|error| explain(&action, &error))?;
    let missing = migrations::missing(&MIGRATIONS, &applied);
    if !missing.is_empty() {
        migrations::refuse_others(&database, &shown, opening, !applied.is_empty()).await?;
    }
    MIGRATIONS.run(&writer).await.map_err(|error| migrations::explain(&shown, error))?;
    Ok(Opened { database, applied: missing, version: migrations::newest(&MIGRATIONS) })
}

/// What was applied to the tables that are there.
async fn applied(writer: &SqlitePool) -> Result<Vec<AppliedStep>, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'")
        .fetch_one(writer)
        .await?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations").fetch_all(writer).await?;
    Ok(rows.into_iter().map(|(version, checksum, is_done)| AppliedStep { version, checksum, is_done }).collect())
}

/// Whether the connection may be used again. When the disk is full or answers with an error, SQLite ends the
/// transaction by itself, sqlx's ROLLBACK then fails, and sqlx takes the connection for one inside a transaction for
/// ever: no other can begin on it. Such a connection is replaced.
fn is_usable(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}

/// The file that a `sqlite://` URL names.
///
/// # Errors
/// [`StoreError::Unusable`] when the URL names no file.
pub fn database_path(url: &str) -> Result<PathBuf, StoreError> {
    let rest = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    let path = rest.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return Err(StoreError::Unusable {
            action: format!("open the database `{url}`"),
            reason: "it names no file; write for example sqlite://watchbell.db".to_owned(),
        });
    }
    Ok(PathBuf::from(path))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS_AHEAD)
        // Larger checkpoints than SQLite's 1,000 pages: a burst writes some thousand pages within a second.
        .pragma("wal_autocheckpoint", "4000")
}

/// SQLite opens a file that it may not write without a word, and even begins a transaction on it; the first outcome
/// would then be the first to be lost. So something is written, and taken back.
async fn must_be_writable(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    match write_and_take_back(options).await {
        // Somebody is writing, so it can be written.
        Err(error) if is_busy(&error) => Ok(()),
        result => result,
    }
}

async fn write_and_take_back(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.clone().busy_timeout(Duration::ZERO).connect().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("CREATE TABLE is_writable (id INTEGER)").execute(&mut *transaction).await?;
    transaction.rollback().await?;
    connection.close().await
}

/// Held while a node serves the database: SQLite is for one node.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of the database at `url`: a file beside it, locked for as long as the value lives. The system
    /// gives it back when the process ends, however it ends.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when another node holds it.
    pub fn take(url: &str) -> Result<Self, StoreError> {
        let database = database_path(url)?;
        let mut name = database.clone().into_os_string();
        name.push(".lock");
        let action = format!("serve the database `{}`", database.display());
        let unusable = |reason: String| StoreError::Unusable { action: action.clone(), reason };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name)
            .map_err(|error| unusable(format!("its lock file cannot be opened: {error}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(unusable(
                "another `watchbell serve` is running on it; stop that one first, or name another database (a `watchbell copy` \
                 holds it, too, until it is done)"
                    .to_owned(),
            )),
            Err(TryLockError::Error(error)) => Err(unusable(format!("its lock file cannot be locked: {error}"))),
        }
    }
}
