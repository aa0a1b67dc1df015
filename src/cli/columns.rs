//! Columns of a record as text for people.

use serde_json::Value;

use crate::ports::Columns;

/// The column as people read it; empty for NULL and for a column that is not there.
pub(super) fn text(columns: &Columns, name: &str) -> String {
    match columns.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A time to the second, without the letters between: `2026-11-21 21:00:00`. What is no such time stays as it is.
pub(super) fn time(columns: &Columns, name: &str) -> String {
    let text = text(columns, name);
    match text.parse::<chrono::DateTime<chrono::Utc>>() {
        Ok(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text,
    }
}

/// Whether a flag is 1.
pub(super) fn is_set(columns: &Columns, name: &str) -> bool {
    columns.get(name).and_then(Value::as_i64) == Some(1)
}
