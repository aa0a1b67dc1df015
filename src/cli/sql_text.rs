//! SQL that people paste: an INSERT in the words of the database in use.

/// How a database reads a text in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite and PostgreSQL: only the quote is special.
    Standard,
    /// MySQL and MariaDB: the backslash is special too.
    Mysql,
}

impl Dialect {
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

/// An INSERT into `monitors` of these columns; `None` is NULL.
pub(super) fn insert(dialect: Dialect, columns: &[(&str, Option<&str>)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> =
        columns.iter().map(|(_, value)| value.map_or("NULL".to_owned(), |text| dialect.literal(text))).collect();
    format!("INSERT INTO monitors ({})\nVALUES ({});", names.join(", "), values.join(",\n        "))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, insert};

    #[test]
    fn quotes_are_doubled_and_backslashes_where_they_mean_something() {
        let columns = [("name", Some(r"O'Hara \d")), ("timezone", None)];
        assert_eq!(
            insert(Dialect::Standard, &columns),
            "INSERT INTO monitors (name, timezone)\nVALUES ('O''Hara \\d',\n        NULL);"
        );
        assert!(insert(Dialect::Mysql, &columns).contains(r"'O''Hara \\d'"));
        assert_eq!(Dialect::of_url("mysql://u@h/d"), Dialect::Mysql);
        assert_eq!(Dialect::of_url("sqlite://watchbell.db"), Dialect::Standard);
    }
}
