//! SQL that people paste: an INSERT in the words of the database in use.

use crate::config::Configuration;

/// How a database reads a text in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite and PostgreSQL: only the quote is special.
    Standard,
    /// MySQL and MariaDB: the backslash is special too.
    Mysql,
}

impl Dialect {
    /// The dialect of the database that is configured. Where its URL is a secret that cannot be read now, what can be
    /// seen of it decides.
    pub(super) async fn of_configuration(configuration: &Configuration) -> Self {
        match configuration.database_url.reveal().await {
            Ok(url) => Self::of_url(url.as_str()),
            Err(_) => Self::of_url(&configuration.database_url.masked()),
        }
    }

    /// The dialect of the database that a URL names.
    pub(super) fn of_url(url: &str) -> Self {
        match url.split(':').next() {
            Some("mysql" | "mariadb") => Dialect::Mysql,
            _ => Dialect::Standard,
        }
    }

    /// A text as a literal.
    fn literal(self, text: &str) -> String {
        let doubled = text.replace('\'', "''");
        match self {
            Dialect::Standard => format!("'{doubled}'"),
            Dialect::Mysql => format!("'{}'", doubled.replace('\\', "\\\\")),
        }
    }
}

/// Columns that hold numbers, and are written without quotes.
const NUMBERS: [&str; 7] = [
    "is_active",
    "reminder_frequency_minutes",
    "required_consecutive_alerts",
    "required_consecutive_oks",
    "retries",
    "retry_delay_seconds",
    "timeout_seconds",
];
/// Columns whose text deserves a line of its own.
const LONG: [&str; 4] = ["config", "labels", "people_to_notify", "url"];

/// An INSERT into `monitors` of these columns; `None` is NULL.
pub(super) fn insert(dialect: Dialect, columns: &[(&str, Option<&str>)]) -> String {
    insert_into(dialect, "monitors", columns)
}

/// An INSERT into `table` of these columns; `None` is NULL.
pub(super) fn insert_into(dialect: Dialect, table: &str, columns: &[(&str, Option<&str>)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut values = String::new();
    for (number, (name, value)) in columns.iter().enumerate() {
        if number > 0 {
            let gap = if LONG.contains(name) || LONG.contains(&names[number - 1]) { ",\n        " } else { ", " };
            values.push_str(gap);
        }
        values.push_str(&match value {
            None => "NULL".to_owned(),
            Some(text) if NUMBERS.contains(name) && text.parse::<i64>().is_ok() => (*text).to_owned(),
            Some(text) => dialect.literal(text),
        });
    }
    format!("INSERT INTO {table} ({})\nVALUES ({values});", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, insert};

    #[test]
    fn quotes_are_doubled_and_backslashes_where_they_mean_something() {
        let columns = [("name", Some(r"O'Hara \d")), ("timezone", None)];
        let expected = "INSERT INTO monitors (name, timezone)\nVALUES ('O''Hara \\d', NULL);";
        assert_eq!(insert(Dialect::Standard, &columns), expected);
        assert!(insert(Dialect::Mysql, &columns).contains(r"'O''Hara \\d'"));
        assert_eq!(Dialect::of_url("mysql://u@h/d"), Dialect::Mysql);
        assert_eq!(Dialect::of_url("sqlite://watchbell.db"), Dialect::Standard);
    }

    #[test]
    fn numbers_are_bare_and_json_has_a_line_of_its_own() {
        let columns = [("name", Some("7")), ("kind", Some("tcp")), ("config", Some("{}")), ("retries", Some("3"))];
        let expected =
            "INSERT INTO monitors (name, kind, config, retries)\nVALUES ('7', 'tcp',\n        '{}',\n        3);";
        assert_eq!(insert(Dialect::Standard, &columns), expected);
    }
}
