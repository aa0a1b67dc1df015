//! What a statement returns, column by column.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Error, Row as _, TypeInfo, ValueRef};

use super::bind::sqlite_time;

/// A row of any of the databases.
pub(in crate::store) enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
    /// From MySQL or MariaDB.
    MySql(MySqlRow),
}

impl Row {
    /// A whole number.
    pub(in crate::store) fn int(&self, column: &str) -> Result<i64, Error> {
        self.optional_int(column)?.ok_or_else(|| null(column))
    }

    /// A whole number that may be NULL.
    pub(in crate::store) fn optional_int(&self, column: &str) -> Result<Option<i64>, Error> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::MySql(row) => row.try_get(column),
            Row::Postgres(row) => match row.try_get_raw(column)?.type_info().name() {
                "INT2" => row.try_get::<Option<i16>, _>(column).map(|number| number.map(i64::from)),
                "INT4" => row.try_get::<Option<i32>, _>(column).map(|number| number.map(i64::from)),
                "BOOL" => row.try_get::<Option<bool>, _>(column).map(|flag| flag.map(i64::from)),
                _ => row.try_get(column),
            },
        }
    }

    /// A flag, or what a comparison said; NULL counts as no.
    pub(in crate::store) fn flag(&self, column: &str) -> Result<bool, Error> {
        Ok(self.optional_int(column)?.unwrap_or_default() != 0)
    }

    /// A count or a number of seconds; the CHECKs keep it within `u32`.
    pub(in crate::store) fn count(&self, column: &str) -> Result<u32, Error> {
        u32::try_from(self.int(column)?).map_err(|error| unreadable(column, error))
    }

    /// Like [`Row::count`], for columns that may be NULL.
    pub(in crate::store) fn optional_count(&self, column: &str) -> Result<Option<u32>, Error> {
        let number = self.optional_int(column)?;
        number.map(u32::try_from).transpose().map_err(|error| unreadable(column, error))
    }

    /// Text, JSON among it, as people wrote it.
    pub(in crate::store) fn text(&self, column: &str) -> Result<String, Error> {
        self.optional_text(column)?.ok_or_else(|| null(column))
    }

    /// Like [`Row::text`], for columns that may be NULL.
    ///
    /// SQLite lets bytes in that are no UTF-8; they become U+FFFD, so that the row is read, and whatever is wrong with it
    /// is reported like any other fault.
    pub(in crate::store) fn optional_text(&self, column: &str) -> Result<Option<String>, Error> {
        match self {
            Row::Sqlite(row) => {
                let bytes = row.try_get::<Option<&[u8]>, _>(column)?;
                Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            }
            Row::Postgres(row) => {
                let value = row.try_get_raw(column)?;
                match value.type_info().name() {
                    "JSONB" if value.is_null() => Ok(None),
                    "JSONB" => postgres_json(column, value.as_bytes().map_err(|error| boxed(column, error))?).map(Some),
                    _ => row.try_get(column),
                }
            }
            Row::MySql(row) => row.try_get_unchecked(column),
        }
    }

    /// An instant; NULL, and what is none (the database lets none in), is `None`.
    pub(in crate::store) fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, Error> {
        match self {
            Row::Sqlite(row) => Ok(read_time(row.try_get::<Option<&str>, _>(column)?)),
            Row::Postgres(row) => row.try_get(column),
            Row::MySql(row) => row.try_get(column),
        }
    }

    /// The word in a column, as the type that knows it.
    pub(in crate::store) fn word<T>(&self, column: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.text(column)?.parse().map_err(|error| unreadable(column, error))
    }

    /// The name of the first column.
    pub(super) fn first_column(&self) -> &str {
        match self {
            Row::Sqlite(row) => row.column(0).name(),
            Row::Postgres(row) => row.column(0).name(),
            Row::MySql(row) => row.column(0).name(),
        }
    }

    /// All columns that all databases have, as JSON, for people: times as text with milliseconds and `Z`; columns that hold
    /// JSON embedded as such.
    pub(in crate::store) fn columns(&self) -> BTreeMap<String, Value> {
        const JSON: [&str; 5] = ["config", "labels", "metrics", "people_to_notify", "recipients"];
        // MySQL has no partial index: by this column one incident of a monitor is open at most.
        const OF_MYSQL_ALONE: &str = "open_monitor_id";
        let names: Vec<&str> = match self {
            Row::Sqlite(row) => row.columns().iter().map(|column| column.name()).collect(),
            Row::Postgres(row) => row.columns().iter().map(|column| column.name()).collect(),
            Row::MySql(row) => row.columns().iter().map(|column| column.name()).collect(),
        };
        let value = |name: &str| match self.shown(name) {
            Value::String(text) if JSON.contains(&name) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            other => other,
        };
        names.into_iter().filter(|name| *name != OF_MYSQL_ALONE).map(|name| (name.to_owned(), value(name))).collect()
    }

    fn shown(&self, column: &str) -> Value {
        let time = |time: Result<Option<DateTime<Utc>>, Error>| Value::from(time.ok().flatten().map(sqlite_time));
        let int = || Value::from(self.optional_int(column).ok().flatten());
        let text = || Value::from(self.optional_text(column).ok().flatten());
        match self {
            Row::Sqlite(row) => {
                match row.try_get_raw(column).map(|value| value.type_info().name().to_owned()).as_deref() {
                    Ok("INTEGER" | "BOOLEAN") => int(),
                    Ok("REAL") => row.try_get::<f64, _>(column).map_or(Value::Null, Value::from),
                    _ => text(),
                }
            }
            Row::Postgres(row) => {
                match row.try_get_raw(column).map(|value| value.type_info().name().to_owned()).as_deref() {
                    Ok("INT2" | "INT4" | "INT8" | "BOOL") => int(),
                    Ok("FLOAT4" | "FLOAT8") => row.try_get::<f64, _>(column).map_or(Value::Null, Value::from),
                    Ok("TIMESTAMPTZ") => time(row.try_get(column)),
                    _ => text(),
                }
            }
            Row::MySql(row) => {
                match row.try_get_raw(column).map(|value| value.type_info().name().to_owned()).as_deref() {
                    Ok("DATETIME" | "TIMESTAMP") => time(row.try_get(column)),
                    Ok("FLOAT" | "DOUBLE") => row.try_get::<f64, _>(column).map_or(Value::Null, Value::from),
                    Ok(name) if name.contains("INT") || name == "BOOLEAN" => int(),
                    _ => text(),
                }
            }
        }
    }
}

/// A time as SQLite holds it; what is no time counts as none (the triggers let none in).
fn read_time(text: Option<&str>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text?).ok().map(|time| time.to_utc())
}

/// `jsonb` is sent as a version, which is 1, and the text:
/// <https://www.postgresql.org/docs/current/datatype-json.html>, `jsonb_send`.
fn postgres_json(column: &str, bytes: &[u8]) -> Result<String, Error> {
    let text = bytes.strip_prefix(&[1]).unwrap_or(bytes);
    std::str::from_utf8(text).map(str::to_owned).map_err(|error| unreadable(column, error))
}

fn null(column: &str) -> Error {
    boxed(column, "it is NULL".into())
}

fn unreadable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    boxed(column, Box::new(error))
}

pub(super) fn boxed(column: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::ColumnDecode { index: column.to_owned(), source }
}
