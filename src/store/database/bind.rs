//! Values that statements are given.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde_json::Value;

/// A value, with its type where it is NULL.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Bind {
    /// A whole number; flags are 0 and 1.
    Int(Option<i64>),
    /// Text, JSON among it.
    Text(Option<String>),
    /// An instant, to the millisecond.
    Time(Option<DateTime<Utc>>),
    /// Numbers for `{in N}`.
    Ints(Vec<i64>),
    /// Texts for `{in N}`.
    Texts(Vec<String>),
}

impl Bind {
    /// How long it is in a JSON text, about.
    pub(super) fn sent_bytes(&self) -> usize {
        /// A number or a time, with what stands between values.
        const SHORT: usize = 28;
        let text = |text: &str| {
            let escaped = |byte: u8| match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
                0..0x20 => 6,
                _ => 1,
            };
            text.bytes().map(escaped).sum::<usize>() + 3
        };
        match self {
            Bind::Int(_) | Bind::Time(_) => SHORT,
            Bind::Text(value) => value.as_deref().map_or(SHORT, text),
            Bind::Ints(numbers) => numbers.len() * SHORT,
            Bind::Texts(texts) => texts.iter().map(|value| text(value)).sum(),
        }
    }

    /// As an element of a JSON array, in the spelling that the database reads from there.
    pub(super) fn json(&self, time: fn(DateTime<Utc>) -> String) -> Value {
        match self {
            Bind::Int(number) => Value::from(*number),
            Bind::Text(text) => Value::from(text.as_deref()),
            Bind::Time(at) => Value::from(at.map(time)),
            Bind::Ints(numbers) => Value::from(numbers.as_slice()),
            Bind::Texts(texts) => Value::from(texts.as_slice()),
        }
    }
}

/// As SQLite holds a time: `2026-11-21T21:00:00.000Z`.
pub(in crate::store) fn sqlite_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// As MySQL reads a time from text.
pub(super) fn mysql_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Columns hold milliseconds; what is compared with them must not hold more.
pub(super) fn to_millisecond(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Bind::Int(Some(number))
    }
}

impl From<Option<i64>> for Bind {
    fn from(number: Option<i64>) -> Self {
        Bind::Int(number)
    }
}

impl From<u32> for Bind {
    fn from(number: u32) -> Self {
        Bind::Int(Some(i64::from(number)))
    }
}

impl From<bool> for Bind {
    fn from(flag: bool) -> Self {
        Bind::Int(Some(i64::from(flag)))
    }
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Bind::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Bind {
    fn from(text: &String) -> Self {
        Bind::Text(Some(text.clone()))
    }
}

impl From<String> for Bind {
    fn from(text: String) -> Self {
        Bind::Text(Some(text))
    }
}

impl From<Option<String>> for Bind {
    fn from(text: Option<String>) -> Self {
        Bind::Text(text)
    }
}

impl From<&Option<String>> for Bind {
    fn from(text: &Option<String>) -> Self {
        Bind::Text(text.clone())
    }
}

impl From<Option<&str>> for Bind {
    fn from(text: Option<&str>) -> Self {
        Bind::Text(text.map(str::to_owned))
    }
}

impl From<DateTime<Utc>> for Bind {
    fn from(at: DateTime<Utc>) -> Self {
        Bind::Time(Some(at))
    }
}

impl From<Option<DateTime<Utc>>> for Bind {
    fn from(at: Option<DateTime<Utc>>) -> Self {
        Bind::Time(at)
    }
}

impl From<Vec<i64>> for Bind {
    fn from(numbers: Vec<i64>) -> Self {
        Bind::Ints(numbers)
    }
}

impl From<&[i64]> for Bind {
    fn from(numbers: &[i64]) -> Self {
        Bind::Ints(numbers.to_vec())
    }
}

impl From<Vec<String>> for Bind {
    fn from(texts: Vec<String>) -> Self {
        Bind::Texts(texts)
    }
}
