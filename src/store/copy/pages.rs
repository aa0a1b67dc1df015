//! Rows in the order of their keys, a page at a time, exactly as they are.

use std::borrow::Cow;
use std::time::Duration;

use chrono::DateTime;
use sqlx::Error;

use super::error::CopyError;
use super::tables::Table;
use crate::store::database::{Bind, Connection, Database, Dialect, Row, Type, explain, query, without_nul};

/// Counting, or deleting, all rows of a large table takes its time; a server that is gone is noticed then, too.
const LONG: Duration = Duration::from_secs(3_600);

/// The values of a row, in the order of the table's columns.
pub(super) type Values = Vec<Bind>;

/// Rows after the one with the key `after`, or from the first on; the last page has fewer than the table's page size.
pub(super) async fn read(database: &Database, table: &Table, after: Option<&[Bind]>) -> Result<Vec<Values>, CopyError> {
    let keys = table.key.join(", ");
    let (condition, limit) = match table.key {
        [one] => (format!("{one} > ?1"), "?2"),
        [first, second, ..] => (format!("{first} >= ?1 AND ({first} > ?1 OR {second} > ?2)"), "?3"),
        [] => ("1 = 1".to_owned(), "?1"),
    };
    let statement =
        format!("SELECT {} FROM {} WHERE {condition} ORDER BY {keys} LIMIT {limit}", table.names(), table.name);
    let mut page = query(statement);
    for (index, column) in table.key.iter().enumerate() {
        page = page.bind_value(match after {
            Some(key) => key[index].clone(),
            None => before_all(table.columns[table.position(column)].1),
        });
    }
    let rows = page.bind(table.page).fetch_all(database).await.map_err(|error| failed("read", table, &error))?;
    rows.iter().map(|row| values(table, row)).collect()
}

/// The key of the last row; `None`: there is no row.
pub(super) async fn last_key(database: &Database, table: &Table) -> Result<Option<Vec<Bind>>, CopyError> {
    let order: Vec<String> = table.key.iter().map(|column| format!("{column} DESC")).collect();
    let statement =
        format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", table.key.join(", "), table.name, order.join(", "));
    let row = query(statement).fetch_optional(database).await.map_err(|error| failed("read", table, &error))?;
    let Some(row) = row else { return Ok(None) };
    let key = table.key.iter().map(|column| row.exact(column, table.columns[table.position(column)].1));
    key.collect::<Result<_, _>>().map(Some).map_err(|error| failed("read", table, &error))
}

/// How many rows there are.
pub(super) async fn count(database: &Database, table: &Table) -> Result<u64, CopyError> {
    let counting = async {
        let mut connection = long(database).await?;
        let rows = query(format!("SELECT count(*) AS n FROM {}", table.name)).int(&mut connection).await?;
        connection.commit().await?;
        Ok(rows)
    };
    let rows = counting.await.map_err(|error| failed("count", table, &error))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// A connection, for reading as of one moment, whose statements may take long.
pub(super) async fn long(database: &Database) -> Result<Connection, Error> {
    without_limits(database.snapshot().await?).await
}

/// A transaction whose statements may take long.
pub(super) async fn long_transaction(database: &Database) -> Result<Connection, Error> {
    without_limits(database.transaction().await?).await
}

async fn without_limits(connection: Connection) -> Result<Connection, Error> {
    let mut connection = connection.patient(LONG);
    if connection.dialect() == Dialect::Postgres {
        connection.raw("SET LOCAL statement_timeout = 0").await?;
    }
    Ok(connection)
}

/// The key of a row.
pub(super) fn key_of(table: &Table, values: &[Bind]) -> Vec<Bind> {
    table.key.iter().map(|column| values[table.position(column)].clone()).collect()
}

/// A key as a condition: `id = 7`.
pub(super) fn shown(table: &Table, key: &[Bind]) -> String {
    let parts = table.key.iter().zip(key).map(|(column, value)| match value {
        Bind::Int(Some(number)) => format!("{column} = {number}"),
        Bind::Time(Some(at)) => format!("{column} = '{}'", at.format("%Y-%m-%d %H:%M:%S%.3f")),
        _ => format!("{column} = ?"),
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

/// Replaces what the target cannot hold by U+FFFD, as Watchbell itself does when it writes there; how many values that
/// were. It is NUL, which is no text for PostgreSQL.
pub(super) fn fit(rows: &mut [Values], target: Dialect) -> u64 {
    if target != Dialect::Postgres {
        return 0;
    }
    let mut replaced = 0;
    for value in rows.iter_mut().flatten() {
        if let Bind::Text(Some(text)) = value
            && let Cow::Owned(other) = without_nul(text)
            && other != *text
        {
            *text = other;
            replaced += 1;
        }
    }
    replaced
}

/// What an action on a table failed with.
pub(super) fn failed(action: &str, table: &Table, error: &Error) -> CopyError {
    CopyError::Store(explain(&format!("{action} `{}`", table.name), error))
}

fn values(table: &Table, row: &Row) -> Result<Values, CopyError> {
    let values = table.columns.iter().map(|(column, kind)| row.exact(column, *kind)).collect::<Result<Vec<_>, _>>();
    values.map_err(|error| match &error {
        Error::ColumnDecode { index, source } => {
            let key = table.key.iter().map(|column| row.exact(column, table.columns[table.position(column)].1));
            let key: Vec<Bind> = key.map(|value| value.unwrap_or(Bind::Int(None))).collect();
            CopyError::BadRow {
                table: table.name,
                row: shown(table, &key),
                column: index.clone(),
                reason: source.to_string(),
            }
        }
        _ => failed("read", table, &error),
    })
}

/// Less than any value of a key. Only the first column's counts, which is a number.
fn before_all(kind: Type) -> Bind {
    match kind {
        Type::Int => Bind::Int(Some(i64::MIN)),
        Type::Time => Bind::Time(Some(DateTime::UNIX_EPOCH)),
        Type::Text => Bind::Text(Some(String::new())),
    }
}
