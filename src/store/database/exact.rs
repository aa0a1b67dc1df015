//! Values as they are, or not at all: for copying them elsewhere.

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use sqlx::{Error, Row as _, TypeInfo, ValueRef};

use super::row::boxed;
use super::{Bind, Row, Type};

impl Row {
    /// The value of a column. What another reader would bend is an error here: on SQLite, a column may hold a value of
    /// another type, bytes that are no text, and a text that is no time.
    pub(in crate::store) fn exact(&self, column: &str, kind: Type) -> Result<Bind, Error> {
        match (self, kind) {
            (Row::Sqlite(row), kind) => {
                let value = row.try_get_raw(column)?;
                if value.is_null() {
                    return Ok(nothing(kind));
                }
                let held = value.type_info().name().to_owned();
                match (kind, held.as_str()) {
                    (Type::Int, "INTEGER") => Ok(Bind::Int(row.try_get(column)?)),
                    (Type::Text, "TEXT" | "BLOB") => utf8(column, row.try_get(column)?).map(Bind::Text),
                    (Type::Time, "TEXT") => time(column, row.try_get(column)?).map(Bind::Time),
                    (Type::Int, other) => Err(boxed(column, format!("it holds no whole number, but {other}").into())),
                    (Type::Text, other) => Err(boxed(column, format!("it holds no text, but {other}").into())),
                    (Type::Time, other) => Err(boxed(column, format!("it holds no time, but {other}").into())),
                }
            }
            (_, Type::Int) => self.optional_int(column).map(Bind::Int),
            (_, Type::Text) => self.optional_text(column).map(Bind::Text),
            (_, Type::Time) => Ok(Bind::Time(self.time(column)?.map(|at| at.trunc_subsecs(3)))),
        }
    }
}

fn nothing(kind: Type) -> Bind {
    match kind {
        Type::Int => Bind::Int(None),
        Type::Text => Bind::Text(None),
        Type::Time => Bind::Time(None),
    }
}

fn utf8(column: &str, bytes: &[u8]) -> Result<Option<String>, Error> {
    let text = std::str::from_utf8(bytes);
    text.map(|text| Some(text.to_owned())).map_err(|_| boxed(column, "it holds bytes that are no UTF-8 text".into()))
}

/// People who write with SQL have other spellings where no trigger mends them.
fn time(column: &str, bytes: &[u8]) -> Result<Option<DateTime<Utc>>, Error> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let at = DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|at| at.and_utc()));
    match at {
        Ok(at) => Ok(Some(at.trunc_subsecs(3))),
        Err(_) => Err(boxed(column, "it holds a text that is no time; write it as 2026-11-21T21:00:00.000Z".into())),
    }
}
