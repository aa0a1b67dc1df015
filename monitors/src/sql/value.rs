//! What a statement gave: values of all databases in one form, and a bounded table of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt};
use serde_json::json;
use sqlx::{Column, Row};

/// The most rows that are read. Enough to list in a message; to count more, a statement counts itself.
pub(super) const MOST_ROWS: usize = 1_000;
/// The most bytes of values that are kept of one statement, so that a wide table cannot fill the node's memory.
const MOST_BYTES: usize = 1024 * 1024;
/// The most bytes that are kept of one value.
const MOST_VALUE_BYTES: usize = 16 * 1024;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Whole(i64),
    Float(f64),
    /// An exact number, as the database writes it.
    Decimal(String),
    Text(String),
    Time(DateTime<Utc>),
    /// Of a type that is not read; the name of the type.
    Unread(String),
}

impl Value {
    /// Bytes: a text where they are one, such as MySQL gives for some functions.
    pub(super) fn of_bytes(bytes: &[u8], type_name: &str) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => Self::Text(text.to_owned()),
            _ => Self::Unread(type_name.to_lowercase()),
        }
    }

    /// The number, also of a text that is one.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self {
            #[allow(clippy::cast_precision_loss, reason = "thresholds are compared as numbers of JSON")]
            Self::Whole(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Bool(flag) => f64::from(u8::from(*flag)),
            Self::Decimal(text) | Self::Text(text) => text.trim().parse().ok()?,
            Self::Null | Self::Time(_) | Self::Unread(_) => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "NULL".into(),
            Self::Bool(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Decimal(text) | Self::Text(text) => text.clone(),
            Self::Time(time) => shown_time(*time),
            Self::Unread(type_name) => format!("({type_name}: not read, cast it to text)"),
        }
    }

    /// The value for a message template.
    pub(super) fn for_template(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(flag) => json!(flag),
            Self::Whole(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Decimal(text) => match text.parse::<f64>() {
                // As a number where nothing is lost by it, so that templates can round and compare.
                Ok(number) if number.to_string() == trimmed_zeros(text) => json!(number),
                _ => json!(text),
            },
            Self::Text(_) | Self::Time(_) | Self::Unread(_) => json!(self.shown()),
        }
    }

    fn bounded(self) -> Self {
        match self {
            Self::Text(mut text) if text.len() > MOST_VALUE_BYTES => {
                text.truncate(text.floor_char_boundary(MOST_VALUE_BYTES));
                text.push_str("...");
                Self::Text(text)
            }
            other => other,
        }
    }

    fn bytes(&self) -> usize {
        let text = match self {
            Self::Decimal(text) | Self::Text(text) | Self::Unread(text) => text.len(),
            _ => 0,
        };
        size_of::<Self>() + text
    }
}

/// A time as it stands in messages: to the minute where it has no seconds.
pub(super) fn shown_time(time: DateTime<Utc>) -> String {
    let pattern = if time.timestamp() % 60 == 0 { "%Y-%m-%d %H:%M UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
    time.format(pattern).to_string()
}

fn trimmed_zeros(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

/// The rows that were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    /// Names of the columns; empty when there was no row.
    pub(super) columns: Vec<String>,
    /// The first rows, as many as there is room for.
    pub(super) rows: Vec<Vec<Value>>,
    /// How many rows were read.
    pub(super) count: usize,
    /// Whether there were more rows than are read.
    pub(super) is_cut: bool,
    bytes: usize,
}

impl Table {
    /// What `rows` give, as far as there is room for it; `value` reads the value at an index of a row.
    pub(super) async fn read<R: Row>(
        mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
        value: impl Fn(&R, usize) -> Result<Value, sqlx::Error>,
    ) -> Result<Self, sqlx::Error> {
        let mut table = Self::default();
        while let Some(row) = rows.try_next().await? {
            let columns = || row.columns().iter().map(|column| column.name().to_owned()).collect();
            let values = (0..row.len()).map(|index| value(&row, index)).collect::<Result<_, _>>()?;
            if !table.push(columns, values) {
                break;
            }
        }
        Ok(table)
    }

    /// Adds a row. False: enough was read, and this row does not count.
    pub(super) fn push(&mut self, columns: impl FnOnce() -> Vec<String>, row: Vec<Value>) -> bool {
        if self.count >= MOST_ROWS {
            self.is_cut = true;
            return false;
        }
        self.count += 1;
        if self.bytes > MOST_BYTES {
            return true;
        }
        if self.rows.is_empty() {
            self.columns = columns();
        }
        let row: Vec<Value> = row.into_iter().map(Value::bounded).collect();
        self.bytes += row.iter().map(Value::bytes).sum::<usize>();
        self.rows.push(row);
        true
    }

    /// The rows as objects, for a template.
    pub(super) fn for_template(&self) -> Vec<BTreeMap<&str, serde_json::Value>> {
        let object = |row: &Vec<Value>| {
            self.columns.iter().map(String::as_str).zip(row.iter().map(Value::for_template)).collect()
        };
        self.rows.iter().map(object).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_ROWS, MOST_VALUE_BYTES, Table, Value};

    #[test]
    fn rows_and_bytes_are_bounded() {
        let mut table = Table::default();
        let columns = || vec!["a".to_owned()];
        while table.push(columns, vec![Value::Whole(1)]) {}
        assert_eq!((table.rows.len(), table.is_cut), (MOST_ROWS, true));

        let mut wide = Table::default();
        while wide.push(columns, vec![Value::Text("x".repeat(MOST_VALUE_BYTES * 2))]) {}
        assert!(wide.is_cut && wide.rows.len() < 80, "{}", wide.rows.len());
        assert_eq!(wide.count, MOST_ROWS);
    }

    #[test]
    fn a_decimal_is_a_number_for_a_template_only_where_nothing_is_lost() {
        assert_eq!(Value::Decimal("12.50".into()).for_template(), serde_json::json!(12.5));
        let long = "12345678901234567890.123456789";
        assert_eq!(Value::Decimal(long.into()).for_template(), serde_json::json!(long));
        assert_eq!(Value::Decimal("100".into()).number(), Some(100.0));
    }
}
