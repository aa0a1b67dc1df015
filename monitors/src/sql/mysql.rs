//! Asking a MySQL or MariaDB server: inside one read-only transaction, with the server's own time limit.

use chrono::{NaiveDate, NaiveDateTime};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, TypeInfo, ValueRef};
use watchbell_contract::CheckContext;

use super::connect::Deadlines;
use super::failure::{Failure, Stage};
use super::statement::Statement;
use super::value::{Table, Value};

/// What the time limit ends a statement with: 3024 on MySQL, 1969 on MariaDB, 1317 where it was interrupted.
const STOPPED: [u16; 3] = [3024, 1969, 1317];

/// Rights that a monitor does not need, as `SHOW GRANTS` writes them.
const WRITING_RIGHTS: [&str; 13] = [
    "ALL PRIVILEGES",
    "ALTER",
    "CREATE",
    "CREATE TEMPORARY TABLES",
    "DELETE",
    "DROP",
    "EXECUTE",
    "FILE",
    "INSERT",
    "LOCK TABLES",
    "SUPER",
    "UPDATE",
    "TRIGGER",
];

pub(super) async fn ask(
    options: &MySqlConnectOptions,
    statement: &Statement,
    context: &CheckContext,
    deadlines: Deadlines,
) -> Result<Table, Failure> {
    let mut connection = open(options, || deadlines.left_for_server().as_millis()).await?;
    let fetched = fetch(&mut connection, statement, context).await;
    // A polite close would first read the rows that nobody wants any more.
    if !matches!(&fetched, Ok(table) if table.is_cut) {
        // The answer is there; that the server does not take the goodbye changes nothing of it.
        connection.close().await.ok();
    }
    fetched.map_err(|error| {
        if number_of(&error).is_some_and(|number| STOPPED.contains(&number)) {
            Failure::stopped(context.timeout)
        } else {
            Failure::of(Stage::Statement, &error)
        }
    })
}

/// What the account may do beyond reading.
pub(super) async fn excess_rights(options: &MySqlConnectOptions) -> Result<Vec<String>, Failure> {
    const LIMIT_MS: u128 = 5_000;
    let mut connection = open(options, || LIMIT_MS).await?;
    let grants = sqlx::query("SHOW GRANTS")
        .persistent(false)
        .fetch_all(&mut connection)
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?;
    connection.close().await.ok();
    let mut rights = Vec::new();
    for grant in &grants {
        // The rest of the line may hold a password's hash.
        let line: String = grant.try_get_unchecked(0).map_err(|error| Failure::of(Stage::Session, &error))?;
        let Some((granted, on)) = line.strip_prefix("GRANT ").and_then(|line| line.split_once(" ON ")) else {
            continue;
        };
        let object = on.split_once(" TO ").map_or(on, |(object, _)| object);
        let writing: Vec<_> = granted
            .split(", ")
            .map(|right| right.split('(').next().unwrap_or(right).trim())
            .filter(|right| WRITING_RIGHTS.contains(right))
            .collect();
        if !writing.is_empty() {
            rights.push(format!("has {} on {object}", writing.join(", ")));
        }
    }
    Ok(rights)
}

/// `limit_ms` is asked once connected: what connecting took is not left for the statement.
async fn open(options: &MySqlConnectOptions, limit_ms: impl FnOnce() -> u128) -> Result<MySqlConnection, Failure> {
    // In another character set a backslash may be half of a character, and literals would end elsewhere than the guard
    // believes.
    let options = options
        .clone()
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        .statement_cache_capacity(0)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| Failure::of(Stage::Connect, &error))?;
    let version: String = sqlx::query_scalar("SELECT VERSION()")
        .persistent(false)
        .fetch_one(&mut connection)
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?;
    let limit_ms = limit_ms();
    let limit = if version.contains("MariaDB") {
        format!("max_statement_time = {}.{:03}", limit_ms / 1_000, limit_ms % 1_000)
    } else {
        format!("max_execution_time = {limit_ms}")
    };
    let wait_seconds = limit_ms.div_ceil(1_000);
    // The mode is set whole: with `ANSI_QUOTES` or `NO_BACKSLASH_ESCAPES` literals would end elsewhere than the guard
    // believes, and with the driver's own `PIPES_AS_CONCAT` a statement would mean something else than in a client.
    for setting in [
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'".to_owned(),
        format!("SET SESSION {limit}, lock_wait_timeout = {wait_seconds}, innodb_lock_wait_timeout = {wait_seconds}"),
        "START TRANSACTION READ ONLY".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(setting))
            .execute(&mut connection)
            .await
            .map_err(|error| Failure::of(Stage::Session, &error))?;
    }
    Ok(connection)
}

fn number_of(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(sqlx::mysql::MySqlDatabaseError::number)
}

async fn fetch(
    connection: &mut MySqlConnection,
    statement: &Statement,
    context: &CheckContext,
) -> Result<Table, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone())).persistent(false);
    for instant in &statement.parameters {
        query = query.bind(instant.of(context).naive_utc());
    }
    Table::read(query.fetch(connection), value).await
}

fn value(row: &MySqlRow, index: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let type_name = raw.type_info().name().to_owned();
    let unread = || Value::Unread(type_name.to_lowercase());
    Ok(match type_name.as_str() {
        // `tinyint(1)` is a number to people, whatever it is called.
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "INT" | "MEDIUMINT" | "BIGINT" => {
            Value::Whole(row.try_get_unchecked(index)?)
        }
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "INT UNSIGNED" | "MEDIUMINT UNSIGNED" | "BIGINT UNSIGNED"
        | "YEAR" | "BIT" => unsigned(row.try_get_unchecked(index)?),
        "FLOAT" => Value::Float(row.try_get_unchecked::<f32, _>(index)?.into()),
        "DOUBLE" => Value::Float(row.try_get_unchecked(index)?),
        // The server sends it as text.
        "DECIMAL" => Value::Decimal(row.try_get_unchecked(index)?),
        "DATETIME" | "TIMESTAMP" => {
            row.try_get_unchecked::<NaiveDateTime, _>(index).map_or_else(|_| unread(), |at| Value::Time(at.and_utc()))
        }
        "DATE" => {
            row.try_get_unchecked::<NaiveDate, _>(index).map_or_else(|_| unread(), |date| Value::Text(date.to_string()))
        }
        "TIME" | "GEOMETRY" => unread(),
        _ => Value::of_bytes(row.try_get_unchecked::<&[u8], _>(index)?, &type_name),
    })
}

fn unsigned(number: u64) -> Value {
    i64::try_from(number).map_or_else(|_| Value::Decimal(number.to_string()), Value::Whole)
}
