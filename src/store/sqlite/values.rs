//! How values stand in the columns.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type};

/// A time as SQLite holds it: `2026-11-21T21:00:00.000Z`.
pub(super) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A time as read; what is no time counts as none (the triggers let none in).
pub(super) fn read_time(text: Option<&str>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text?).ok().map(|time| time.to_utc())
}

/// The time in a column.
pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    Ok(read_time(row.try_get::<Option<&str>, _>(column)?))
}

/// The word in a column, as the type that knows it.
pub(super) fn word<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error| column_error(column, error))
}

/// A count or a number of seconds; the CHECKs keep it within `u32`.
pub(super) fn count(row: &SqliteRow, column: &str) -> Result<u32, sqlx::Error> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|error| column_error(column, error))
}

/// A text that a person wrote. It may stand there as a BLOB (what `readfile()` of the sqlite3 shell and some drivers
/// make of it) or hold bytes that are no UTF-8: such a row is watched like any other.
pub(super) fn written_text(row: &SqliteRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get_unchecked::<&[u8], _>(column).map(lossy)
}

/// The same where it may be NULL.
pub(super) fn optional_written_text(row: &SqliteRow, column: &str) -> Result<Option<String>, sqlx::Error> {
    Ok(row.try_get_unchecked::<Option<&[u8]>, _>(column)?.map(lossy))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Any column by name.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
    for<'i> &'i str: ColumnIndex<SqliteRow>,
{
    row.try_get(column)
}

fn column_error(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}
