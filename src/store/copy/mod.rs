//! An installation moved from one database to another, of any two kinds: all rows with their ids, times and counters.
//!
//! Every table is copied in the order of its key, a page in each transaction, so that the last key in the target says how
//! far the copy is: after a crash at any moment it goes on from there. When all is there, both sides are read once more
//! and compared row by row. Until then the target is marked, and nobody can serve it; afterwards the source is.
//!
//! Nothing is decided about states here, and the source's rows are left as they are.

mod error;
mod pages;
mod partitions;
mod sequences;
mod standing;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use sqlx::Error;

use super::database::{Database, Dialect, Sql, explain, query};
use super::open::{database, is_sqlite};
use super::sqlite::{FileLock, database_path};
use pages::{Values, count, fit, key_of, last_key, long, read};
use standing::{Installation, Standing};
use tables::{TABLES, Table};

pub use error::CopyError;
pub(in crate::store) use standing::refuse_copies;
pub use verify::Checked;

/// One of the two databases.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its URL.
    pub url: &'a str,
    /// The same for people: without a password.
    pub shown: &'a str,
}

/// What is to be copied.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The database that holds the installation.
    pub from: Side<'a>,
    /// The one that is to hold it.
    pub to: Side<'a>,
    /// Whether a copy that was begun before is thrown away.
    pub is_anew: bool,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are copied.
    Copying,
    /// Both sides are compared.
    Checking,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// The table at hand.
    pub table: &'static str,
    /// Rows of all tables that are done.
    pub done: u64,
    /// Rows of all tables.
    pub total: u64,
}

/// What was copied.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Each table, with what the comparison found; empty when the target was complete already.
    pub tables: Vec<(&'static str, Checked)>,
    /// The statement that makes the source usable again.
    pub way_back: String,
}

/// Told how far it is, after each page.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Sync);

/// Copies an installation, or goes on with a copy that was begun before.
///
/// # Errors
/// What keeps it from being copied, see [`CopyError`]. The target cannot be served then; the source is as it was.
pub async fn copy(request: &Request<'_>, watch: Watch<'_>) -> Result<Copied, CopyError> {
    if request.from.url == request.to.url {
        return Err(CopyError::SameDatabase);
    }
    let _source_lock = lock(request.from.url, true)?;
    let source = database(request.from.url, false).await?;
    let _target_lock = lock(request.to.url, false)?;
    let target = database(request.to.url, true).await?;
    let copied = carry_out(request, &source, &target, watch).await;
    source.close().await;
    target.close().await;
    copied
}

/// A file is kept from being served while this goes on.
fn lock(url: &str, must_exist: bool) -> Result<Option<FileLock>, CopyError> {
    if !is_sqlite(url) {
        return Ok(None);
    }
    let path = database_path(url)?;
    if must_exist && !path.exists() {
        return Err(CopyError::NoSource(path.display().to_string()));
    }
    Ok(Some(FileLock::take(url)?))
}

async fn carry_out(
    request: &Request<'_>,
    source: &Database,
    target: &Database,
    watch: Watch<'_>,
) -> Result<Copied, CopyError> {
    let name = Installation::read(source).await.map_err(|error| failed("read which installation it is", &error))?;
    let way_back = standing::way_back(name.true_name());
    if let Standing::Complete = standing::begin(request, source, target).await? {
        return Ok(Copied { tables: Vec::new(), way_back });
    }
    let total = copy_tables(source, target, watch).await?;
    sequences::follow(source, target).await?;
    let before = fingerprint(source).await.map_err(|error| failed("look whether the source changed", &error))?;
    let tables = check_tables(source, target, total, watch).await?;
    let after = fingerprint(source).await.map_err(|error| failed("look whether the source changed", &error))?;
    if before != after {
        return Err(CopyError::SourceChanged(request.from.shown.to_owned()));
    }
    standing::refuse_served(&request.from, source).await?;
    standing::end(request, source, target).await.map_err(|error| failed("end the copy", &error))?;
    Ok(Copied { tables, way_back })
}

/// Copies what is not there yet; how many rows there are in all.
async fn copy_tables(source: &Database, target: &Database, watch: Watch<'_>) -> Result<u64, CopyError> {
    let (mut total, mut done) = (0, 0);
    for table in TABLES {
        total += count(source, table).await?;
    }
    for table in TABLES {
        let there = if table.is_single { 0 } else { count(target, table).await? };
        let at = |rows: u64| watch(Progress { phase: Phase::Copying, table: table.name, done: done + rows, total });
        at(there);
        if table.name == "monitor_runs" && target.dialect() == Dialect::Postgres {
            partitions::make(source, target).await?;
        }
        done += copy_table(source, target, table, there, &at).await?;
    }
    Ok(total)
}

/// Copies the rest of a table; while a page is written, the next one is read.
async fn copy_table(
    source: &Database,
    target: &Database,
    table: &'static Table,
    there: u64,
    at: &(dyn Fn(u64) + Sync),
) -> Result<u64, CopyError> {
    let after = if table.is_single { None } else { last_key(target, table).await? };
    let mut page = read(source, table, after.as_deref()).await?;
    let mut done = there;
    while let Some(last) = page.last() {
        let key = key_of(table, last);
        let is_last = page.len() < table.page as usize;
        fit(&mut page, target.dialect());
        let following =
            async { if is_last { Ok(Vec::<Values>::new()) } else { read(source, table, Some(&key)).await } };
        let (written, following) = tokio::join!(write::write(target, table, &page), following);
        written?;
        done += page.len() as u64;
        at(done);
        page = following?;
    }
    Ok(done)
}

async fn check_tables(
    source: &Database,
    target: &Database,
    total: u64,
    watch: Watch<'_>,
) -> Result<Vec<(&'static str, Checked)>, CopyError> {
    let (mut tables, mut done) = (Vec::new(), 0);
    for table in TABLES {
        let seen = |rows: u64| watch(Progress { phase: Phase::Checking, table: table.name, done: done + rows, total });
        let checked = verify::verify(source, target, table, &seen).await?;
        done += checked.rows;
        tables.push((table.name, checked));
    }
    Ok(tables)
}

/// What an edit, a run or a message changes.
async fn fingerprint(database: &Database) -> Result<Vec<i64>, Error> {
    let mut connection = long(database).await?;
    let mut numbers = Vec::new();
    for table in TABLES {
        numbers.push(query(format!("SELECT count(*) AS n FROM {}", table.name)).int(&mut connection).await?);
        if table.is_numbered() {
            let highest = query(format!("SELECT COALESCE(max(id), 0) AS n FROM {}", table.name));
            numbers.push(highest.int(&mut connection).await?);
        }
    }
    let counters = Sql::each(
        "SELECT COALESCE(sum(write_seq + revision), 0) AS n FROM monitors",
        "SELECT COALESCE(sum(write_seq + revision), 0)::bigint AS n FROM monitors",
        "SELECT CAST(COALESCE(sum(write_seq + revision), 0) AS SIGNED) AS n FROM monitors",
    );
    numbers.push(query(counters).int(&mut connection).await?);
    numbers.push(query("SELECT version FROM rules_version WHERE id = 1").int(&mut connection).await?);
    connection.commit().await?;
    Ok(numbers)
}

fn failed(action: &str, error: &Error) -> CopyError {
    CopyError::Store(explain(action, error))
}
