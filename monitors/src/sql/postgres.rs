//! Asking a PostgreSQL server: inside one read-only transaction with its own `statement_timeout`.
//!
//! Everything is set for the transaction only (`SET LOCAL`): behind a pooler such as PgBouncer the server's session
//! is handed on to others.

use chrono::{DateTime, Days, NaiveDate, NaiveTime};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgTypeKind, PgValueRef};
use sqlx::types::BigDecimal;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, TypeInfo, ValueRef};
use watchbell_contract::CheckContext;

use super::connect::Deadlines;
use super::failure::{Failure, Stage};
use super::statement::Statement;
use super::value::{Table, Value};

/// `query_canceled`: what `statement_timeout` ends a statement with.
const STOPPED: &str = "57014";
/// `invalid_sql_statement_name`: the driver looks up an enum or another type that it does not know between preparing
/// and running, with the one nameless statement that there is. Named ones would be left behind in a pooler's sessions.
const LOST_STATEMENT: &str = "26000";
/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

pub(super) async fn ask(
    options: &PgConnectOptions,
    statement: &Statement,
    context: &CheckContext,
    deadlines: Deadlines,
) -> Result<Table, Failure> {
    let mut connection = open(options, || deadlines.left_for_server().as_millis()).await?;
    let mut fetched = fetch(&mut connection, statement, context).await;
    if matches!(&fetched, Err(error) if has_code(error, LOST_STATEMENT)) {
        // The driver asked for the types of the result meanwhile, which it now knows.
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut connection)
            .await
            .map_err(|error| Failure::of(Stage::Session, &error))?;
        begin(&mut connection, deadlines.left_for_server().as_millis()).await?;
        fetched = fetch(&mut connection, statement, context).await;
    }
    // A polite close would first read the rows that nobody wants any more.
    if !matches!(&fetched, Ok(table) if table.is_cut) {
        // The answer is there; that the server does not take the goodbye changes nothing of it.
        connection.close().await.ok();
    }
    fetched.map_err(|error| match has_code(&error, STOPPED) {
        true => Failure::stopped(context.timeout),
        false => Failure::of(Stage::Statement, &error),
    })
}

/// What the role may do beyond reading.
pub(super) async fn excess_rights(options: &PgConnectOptions) -> Result<Vec<String>, Failure> {
    const RIGHTS: &str = "select
        (select rolsuper from pg_roles where rolname = current_user),
        coalesce((select bool_or(pg_has_role(current_user, oid, 'member')) from pg_roles
            where rolname in ('pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program')), false),
        has_database_privilege(current_database(), 'CREATE'),
        (select count(*) from pg_namespace where nspname !~ '^(pg_|information_schema$)'
            and has_schema_privilege(oid, 'CREATE')),
        (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p') and n.nspname !~ '^(pg_|information_schema$)'
            and has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))";
    const LIMIT_MS: u128 = 5_000;
    let mut connection = open(options, || LIMIT_MS).await?;
    let (is_super, files, creates, schemas, tables): (bool, bool, bool, i64, i64) = sqlx::query_as(RIGHTS)
        .persistent(false)
        .fetch_one(&mut connection)
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?;
    connection.close().await.ok();
    let mut rights = Vec::new();
    if is_super {
        // A superuser has all the others too: one sentence is enough.
        return Ok(vec!["is a superuser: it can write tables and files and run programs on the server".to_owned()]);
    }
    if files {
        rights
            .push("can reach files or programs of the server (a role of the kind `pg_write_server_files`)".to_owned());
    }
    if creates || schemas > 0 {
        rights.push("can create tables or schemas".to_owned());
    }
    if tables > 0 {
        rights.push(format!("can write {tables} table(s)"));
    }
    Ok(rights)
}

/// `limit_ms` is asked once connected: what connecting took is not left for the statement.
async fn open(options: &PgConnectOptions, limit_ms: impl FnOnce() -> u128) -> Result<PgConnection, Failure> {
    let options = options.clone().application_name("watchbell").statement_cache_capacity(0).disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| Failure::of(Stage::Connect, &error))?;
    begin(&mut connection, limit_ms()).await?;
    Ok(connection)
}

async fn begin(connection: &mut PgConnection, limit_ms: u128) -> Result<(), Failure> {
    let session = format!(
        "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = {limit_ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {limit_ms}; SET LOCAL standard_conforming_strings = on; \
         SET LOCAL TimeZone = 'UTC'"
    );
    sqlx::raw_sql(AssertSqlSafe(session))
        .execute(connection)
        .await
        .map_err(|error| Failure::of(Stage::Session, &error))?;
    Ok(())
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|database| database.code()).as_deref() == Some(code)
}

async fn fetch(
    connection: &mut PgConnection,
    statement: &Statement,
    context: &CheckContext,
) -> Result<Table, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone())).persistent(false);
    for instant in &statement.parameters {
        query = query.bind(instant.of(context));
    }
    Table::read(query.fetch(connection), value).await
}

fn value(row: &PgRow, index: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let type_info = raw.type_info().into_owned();
    let type_name = type_info.name();
    let unread = || Value::Unread(type_name.to_lowercase());
    Ok(match type_name {
        "BOOL" => Value::Bool(row.try_get(index)?),
        "INT2" => Value::Whole(row.try_get::<i16, _>(index)?.into()),
        "INT4" => Value::Whole(row.try_get::<i32, _>(index)?.into()),
        "INT8" => Value::Whole(row.try_get(index)?),
        "FLOAT4" => Value::Float(row.try_get::<f32, _>(index)?.into()),
        "FLOAT8" => Value::Float(row.try_get(index)?),
        // `NaN` and the infinities are no decimals.
        "NUMERIC" => {
            row.try_get::<BigDecimal, _>(index).map_or_else(|_| unread(), |d| Value::Decimal(d.to_plain_string()))
        }
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "JSON" | "XML" | "CITEXT" | "citext" => {
            text(&raw, type_name)
        }
        // One byte says which version of the format follows.
        "JSONB" => bytes(&raw).get(1..).map_or_else(unread, |json| Value::of_bytes(json, type_name)),
        "TIMESTAMPTZ" | "TIMESTAMP" => instant(bytes(&raw)).unwrap_or_else(unread),
        "DATE" => date(bytes(&raw)).unwrap_or_else(unread),
        "TIME" => Value::Text(row.try_get::<NaiveTime, _>(index)?.to_string()),
        "UUID" => uuid(bytes(&raw)).unwrap_or_else(unread),
        "OID" => {
            <[u8; 4]>::try_from(bytes(&raw)).map_or_else(|_| unread(), |id| Value::Whole(u32::from_be_bytes(id).into()))
        }
        _ if matches!(type_info.kind(), PgTypeKind::Enum(_)) => text(&raw, type_name),
        _ => unread(),
    })
}

fn bytes<'r>(raw: &PgValueRef<'r>) -> &'r [u8] {
    raw.as_bytes().unwrap_or_default()
}

fn text(raw: &PgValueRef<'_>, type_name: &str) -> Value {
    std::str::from_utf8(bytes(raw)).map_or_else(|_| Value::Unread(type_name.to_lowercase()), |t| Value::Text(t.into()))
}

/// Read here and not by the driver, which panics at `infinity`.
fn instant(bytes: &[u8]) -> Option<Value> {
    match i64::from_be_bytes(bytes.try_into().ok()?) {
        i64::MAX => Some(Value::Text("infinity".into())),
        i64::MIN => Some(Value::Text("-infinity".into())),
        micros => DateTime::from_timestamp_micros(micros.checked_add(EPOCH_MICROS)?).map(Value::Time),
    }
}

fn date(bytes: &[u8]) -> Option<Value> {
    let days = i32::from_be_bytes(bytes.try_into().ok()?);
    let epoch = NaiveDate::from_ymd_opt(2000, 1, 1)?;
    let distance = Days::new(days.unsigned_abs().into());
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    Some(Value::Text(date.map_or_else(|| "infinity".to_owned(), |date| date.to_string())))
}

fn uuid(bytes: &[u8]) -> Option<Value> {
    let hex: String = <[u8; 16]>::try_from(bytes).ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Value::Text([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")))
}
