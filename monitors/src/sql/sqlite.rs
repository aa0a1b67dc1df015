//! Asking a SQLite file: opened read-only, and stopped by SQLite's own progress handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, TypeInfo, ValueRef};
use tokio::time::Instant;
use watchbell_contract::CheckContext;

use super::connect::Deadlines;
use super::failure::{Failure, Stage};
use super::statement::Statement;
use super::value::{Table, Value};

/// How many steps of SQLite's machine lie between two looks at the clock: some ten microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 2_000;

/// Tells the connection's thread to stop when the check is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) async fn ask(
    options: &SqliteConnectOptions,
    statement: &Statement,
    context: &CheckContext,
    deadlines: Deadlines,
) -> Result<Table, Failure> {
    let options = options.clone().busy_timeout(deadlines.left_for_server());
    let mut connection = open(&options).await?;
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let is_dropped = stop.0.clone();
    let until = deadlines.server;
    connection
        .lock_handle()
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?
        .set_progress_handler(STEPS_BETWEEN_LOOKS, move || {
            !is_dropped.load(Ordering::Relaxed) && Instant::now() < until
        });
    let table = fetch(&mut connection, statement, context).await.map_err(|error| match &error {
        sqlx::Error::Database(database) if database.message() == "interrupted" => Failure::stopped(context.timeout),
        _ => Failure::of(Stage::Statement, &error),
    })?;
    // Also ends a statement of which no more rows are wanted.
    drop(stop);
    Ok(table)
}

/// Opens and closes the file.
pub(super) async fn try_open(options: &SqliteConnectOptions) -> Result<(), Failure> {
    let mut connection = open(options).await?;
    // SQLite reads the file only when it is asked something.
    sqlx::query("select count(*) from sqlite_master")
        .execute(&mut connection)
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?;
    Ok(())
}

async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, Failure> {
    let options = options.clone().read_only(true).create_if_missing(false).pragma("query_only", "ON");
    let options = options.disable_statement_logging();
    options.connect().await.map_err(|error| Failure::of(Stage::Connect, &error))
}

async fn fetch(
    connection: &mut SqliteConnection,
    statement: &Statement,
    context: &CheckContext,
) -> Result<Table, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone())).persistent(false);
    for instant in &statement.parameters {
        query = query.bind(instant.of(context).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    }
    Table::read(query.fetch(connection), value).await
}

/// The type is the value's, not the column's: SQLite lets them differ.
fn value(row: &SqliteRow, index: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let type_name = raw.type_info().name().to_owned();
    drop(raw);
    Ok(match type_name.as_str() {
        "INTEGER" | "INT4" | "INT8" | "BIGINT" | "BOOLEAN" => Value::Whole(row.try_get_unchecked(index)?),
        "REAL" => Value::Float(row.try_get_unchecked(index)?),
        "TEXT" | "DATE" | "TIME" | "DATETIME" => Value::Text(row.try_get_unchecked(index)?),
        other => Value::of_bytes(row.try_get_unchecked::<&[u8], _>(index)?, other),
    })
}
