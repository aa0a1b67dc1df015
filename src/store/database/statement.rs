//! Statements, and how they are spelled for each database.
//!
//! | token | stands for |
//! |---|---|
//! | `?1` | the first value; it may be used more than once |
//! | `{in 1}` | being one of the first value, which is a list: `id {in 1}` |
//! | `{batch}` | the rows of the statement's [`Batch`], as a table that must be given a name |
//! | `{lock}` | that the rows that are read are locked until the end of the transaction |
//! | `{skip locked}` | the same, without those that somebody else has locked |
//! | `{now}` | the time by the database's own clock |
//! | `{field n.facts message}` | a field of a JSON column, as text |
//! | `{length m.people_to_notify}` | how many elements a JSON array has |
//! | `{as json b.metrics}` | a text that is written into a JSON column |
//! | `{returning id}` | that the id of the inserted row is returned, see [`Query::insert`] |
//! | `{differs a b}` | that two values differ, NULL being a value like others |
//!
//! SQLite has one writer, so that nothing needs to be locked there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Error;

use super::{Batch, Bind, Connection, Dialect, Executor, Row};

/// The text of a statement.
#[derive(Debug, Clone)]
pub(in crate::store) enum Sql {
    /// One for all databases.
    Portable(Cow<'static, str>),
    /// One for each.
    Each {
        /// For SQLite.
        sqlite: &'static str,
        /// For PostgreSQL.
        postgres: &'static str,
        /// For MySQL and MariaDB.
        mysql: &'static str,
    },
}

impl Sql {
    /// One text for all of them.
    pub(in crate::store) const fn portable(text: &'static str) -> Self {
        Sql::Portable(Cow::Borrowed(text))
    }

    /// A text for each database: SQLite, PostgreSQL, MySQL.
    pub(in crate::store) const fn each(sqlite: &'static str, postgres: &'static str, mysql: &'static str) -> Self {
        Sql::Each { sqlite, postgres, mysql }
    }

    fn text(&self, dialect: Dialect) -> &str {
        match (self, dialect) {
            (Sql::Portable(text), _) => text,
            (Sql::Each { sqlite, .. }, Dialect::Sqlite) => sqlite,
            (Sql::Each { postgres, .. }, Dialect::Postgres) => postgres,
            (Sql::Each { mysql, .. }, Dialect::MySql) => mysql,
        }
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Sql::Portable(Cow::Borrowed(text))
    }
}

impl From<String> for Sql {
    fn from(text: String) -> Self {
        Sql::Portable(Cow::Owned(text))
    }
}

impl From<&Sql> for Sql {
    fn from(sql: &Sql) -> Self {
        sql.clone()
    }
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(in crate::store) struct Query {
    sql: Sql,
    pub(super) binds: Vec<Bind>,
    pub(super) batch: Option<Batch>,
}

/// A statement that is given values with [`Query::bind`].
pub(in crate::store) fn query(sql: impl Into<Sql>) -> Query {
    Query { sql: sql.into(), binds: Vec::new(), batch: None }
}

impl Query {
    /// The next value: `?1`, then `?2`, ...
    pub(in crate::store) fn bind(mut self, value: impl Into<Bind>) -> Self {
        self.binds.push(value.into());
        self
    }

    /// The next value, where its type is known only at run time.
    pub(in crate::store) fn bind_value(mut self, value: Bind) -> Self {
        self.binds.push(value);
        self
    }

    /// The rows of `{batch}`.
    pub(in crate::store) fn batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    /// All rows.
    pub(in crate::store) async fn fetch_all(self, executor: impl Executor) -> Result<Vec<Row>, Error> {
        executor.fetch_all(self).await
    }

    /// The first row, where there is one.
    pub(in crate::store) async fn fetch_optional(self, executor: impl Executor) -> Result<Option<Row>, Error> {
        Ok(executor.fetch_all(self).await?.into_iter().next())
    }

    /// The first row.
    pub(in crate::store) async fn fetch_one(self, executor: impl Executor) -> Result<Row, Error> {
        self.fetch_optional(executor).await?.ok_or(Error::RowNotFound)
    }

    /// The number in the first column of each row.
    pub(in crate::store) async fn ints(self, executor: impl Executor) -> Result<Vec<i64>, Error> {
        executor.fetch_all(self).await?.iter().map(|row| row.int(row.first_column())).collect()
    }

    /// The number in the first column of the first row.
    pub(in crate::store) async fn int(self, executor: impl Executor) -> Result<i64, Error> {
        let row = self.fetch_one(executor).await?;
        row.int(row.first_column())
    }

    /// The text in the first column of each row.
    pub(in crate::store) async fn texts(self, executor: impl Executor) -> Result<Vec<String>, Error> {
        executor.fetch_all(self).await?.iter().map(|row| row.text(row.first_column())).collect()
    }

    /// Inserts one row, with `{returning id}` at the end of the statement; returns its id.
    pub(in crate::store) async fn insert(self, connection: &mut Connection) -> Result<i64, Error> {
        if connection.dialect() != Dialect::MySql {
            return self.int(connection).await;
        }
        self.execute(&mut *connection).await?;
        query("SELECT CAST(LAST_INSERT_ID() AS SIGNED) AS id").int(connection).await
    }

    /// How many rows were written; on MySQL also those that were already as they are written.
    pub(in crate::store) async fn execute(self, executor: impl Executor) -> Result<u64, Error> {
        executor.execute(self).await
    }

    /// The statement as this database takes it.
    pub(in crate::store) fn spelled(&self, dialect: Dialect) -> Spelled {
        let text = self.sql.text(dialect);
        // On MySQL a list is part of the text, which is then another for each list.
        let is_fixed =
            dialect != Dialect::MySql || !self.binds.iter().any(|bind| matches!(bind, Bind::Ints(_) | Bind::Texts(_)));
        if !is_fixed {
            return self.spell(dialect, text, false);
        }
        // A bound for texts that are made at run time; there are few of those.
        const MOST_KEPT: usize = 1_000;
        static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get_or_insert_default();
        let key = (dialect, Box::from(text));
        if let Some(spelled) = kept.get(&key) {
            return spelled.clone();
        }
        let spelled = self.spell(dialect, text, true);
        if kept.len() < MOST_KEPT {
            kept.insert(key, spelled.clone());
        }
        spelled
    }

    fn spell(&self, dialect: Dialect, text: &str, is_fixed: bool) -> Spelled {
        let mut writer =
            Speller { dialect, query: self, text: String::with_capacity(text.len() + 64), order: Vec::new() };
        writer.write(text);
        Spelled { text: writer.text.into(), order: writer.order.into(), is_fixed }
    }
}

/// Spelled once for all times.
type Kept = HashMap<(Dialect, Box<str>), Spelled>;

/// A statement as one database takes it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Spelled {
    /// The text.
    pub(in crate::store) text: Arc<str>,
    /// Which values are bound, in order; one past the last is the batch. Only for MySQL, which cannot number them.
    pub(super) order: Arc<[usize]>,
    /// Whether it is worth being prepared once for all times.
    pub(super) is_fixed: bool,
}

struct Speller<'q> {
    dialect: Dialect,
    query: &'q Query,
    text: String,
    order: Vec<usize>,
}

impl Speller<'_> {
    fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(['?', '{', '\'']) {
            let (before, from) = rest.split_at(at);
            self.text.push_str(before);
            rest = match from.as_bytes()[0] {
                b'\'' => {
                    let end = from[1..].find('\'').map_or(from.len(), |end| end + 2);
                    self.text.push_str(&from[..end]);
                    &from[end..]
                }
                b'?' => {
                    let digits = from[1..].bytes().take_while(u8::is_ascii_digit).count();
                    self.placeholder(from[1..=digits].parse().unwrap_or(0));
                    &from[1 + digits..]
                }
                _ => {
                    let end = from.find('}').unwrap_or(from.len() - 1);
                    self.token(&from[1..end]);
                    &from[end + 1..]
                }
            };
        }
        self.text.push_str(rest);
    }

    fn placeholder(&mut self, number: usize) {
        let written = match self.dialect {
            Dialect::Sqlite => write!(self.text, "?{number}"),
            Dialect::Postgres => write!(self.text, "${number}"),
            Dialect::MySql => {
                self.order.push(number.saturating_sub(1));
                self.text.write_char('?')
            }
        };
        debug_assert!(written.is_ok());
    }

    fn token(&mut self, token: &str) {
        let words: Vec<&str> = token.split(' ').collect();
        let dialect = self.dialect;
        match (words.as_slice(), dialect) {
            (["in", number], _) => self.list(number.parse().unwrap_or(0)),
            (["batch"], _) => {
                if dialect == Dialect::MySql {
                    self.order.push(self.query.binds.len());
                }
                let first = self.query.binds.len() + 1;
                let table = self.query.batch.as_ref().map(|batch| batch.table(dialect, first));
                self.text.push_str(table.as_deref().unwrap_or_default());
            }
            (["lock"] | ["skip", "locked"], Dialect::Sqlite) => {}
            (["lock"], _) => self.text.push_str("FOR UPDATE"),
            (["skip", "locked"], _) => self.text.push_str("FOR UPDATE SKIP LOCKED"),
            (["returning", "id"], Dialect::MySql) => {}
            (["returning", "id"], _) => self.push("RETURNING id"),
            (["now"], Dialect::Sqlite) => self.text.push_str("strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"),
            (["now"], Dialect::Postgres) => self.text.push_str("date_trunc('milliseconds', clock_timestamp())"),
            (["now"], Dialect::MySql) => self.text.push_str("UTC_TIMESTAMP(3)"),
            (["field", column, name], Dialect::Sqlite) => self.push(&format!("json_extract({column}, '$.{name}')")),
            (["field", column, name], Dialect::Postgres) => self.push(&format!("({column} ->> '{name}')")),
            // Without the words MySQL takes no value of more than 512 characters; MariaDB does not read them.
            (["field", column, name], Dialect::MySql) => {
                self.push(&format!("JSON_VALUE({column}, '$.{name}' /*!80021 RETURNING CHAR */)"));
            }
            (["length", column], Dialect::Sqlite) => self.push(&format!("json_array_length({column})")),
            (["length", column], Dialect::Postgres) => self.push(&format!("jsonb_array_length({column})")),
            (["length", column], Dialect::MySql) => self.push(&format!("JSON_LENGTH({column})")),
            (["as", "json", value], Dialect::Postgres) => {
                self.write(value);
                self.text.push_str("::jsonb");
            }
            (["as", "json", value], _) => self.write(value),
            (["differs", left, right], Dialect::MySql) => {
                self.text.push_str("NOT (");
                self.write(left);
                self.text.push_str(" <=> ");
                self.write(right);
                self.text.push(')');
            }
            (["differs", left, right], _) => {
                self.write(left);
                self.text.push_str(" IS DISTINCT FROM ");
                self.write(right);
            }
            // The database refuses it, and a test reads every statement.
            _ => self.push(&format!("{{{token}}}")),
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// On MySQL the list is written out: numbers as they are, a placeholder for each text. (`JSON_TABLE` in a subquery
    /// leaves it open from which end the two are joined; a list of constants is looked up in the index.)
    fn list(&mut self, number: usize) {
        match (self.dialect, self.query.binds.get(number.saturating_sub(1))) {
            (Dialect::Sqlite, _) => self.push(&format!("IN (SELECT value FROM json_each(?{number}))")),
            (Dialect::Postgres, _) => self.push(&format!("= ANY(${number})")),
            (Dialect::MySql, Some(Bind::Ints(numbers))) if !numbers.is_empty() => {
                let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
                self.push(&format!("IN ({})", numbers.join(", ")));
            }
            (Dialect::MySql, Some(Bind::Texts(texts))) if !texts.is_empty() => {
                self.order.push(number.saturating_sub(1));
                self.push(&format!("IN ({})", vec!["?"; texts.len()].join(", ")));
            }
            (Dialect::MySql, _) => self.text.push_str("IN (NULL)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::database::Type;

    fn spelled(query: &Query) -> [String; 3] {
        [Dialect::Sqlite, Dialect::Postgres, Dialect::MySql].map(|dialect| query.spelled(dialect).text.to_string())
    }

    #[test]
    fn values_are_numbered_where_the_database_can() {
        let query = query("SELECT '?9' WHERE a = ?2 OR b = ?1 OR c = ?2").bind(1_i64).bind("x");
        assert_eq!(
            spelled(&query),
            [
                "SELECT '?9' WHERE a = ?2 OR b = ?1 OR c = ?2",
                "SELECT '?9' WHERE a = $2 OR b = $1 OR c = $2",
                "SELECT '?9' WHERE a = ? OR b = ? OR c = ?",
            ]
        );
        assert_eq!(*query.spelled(Dialect::MySql).order, [1, 0, 1]);
    }

    #[test]
    fn lists_are_looked_up() {
        let numbers = query("SELECT 1 WHERE id {in 1}").bind(vec![3, 4]);
        assert_eq!(
            spelled(&numbers),
            [
                "SELECT 1 WHERE id IN (SELECT value FROM json_each(?1))",
                "SELECT 1 WHERE id = ANY($1)",
                "SELECT 1 WHERE id IN (3, 4)"
            ]
        );
        assert!(!numbers.spelled(Dialect::MySql).is_fixed, "the list is part of the text");
        let none = query("SELECT 1 WHERE id {in 1}").bind(Vec::<i64>::new());
        assert_eq!(&*none.spelled(Dialect::MySql).text, "SELECT 1 WHERE id IN (NULL)");
    }

    #[test]
    fn rows_are_a_table() {
        const COLUMNS: &[(&str, Type)] = &[("id", Type::Int), ("at", Type::Time)];
        let mut batch = Batch::new(COLUMNS);
        batch.push(vec![Bind::Int(Some(1)), Bind::Time(None)]);
        let query = query("SELECT b.id FROM {batch} AS b WHERE b.id > ?1").bind(0_i64).batch(batch);
        assert_eq!(
            spelled(&query),
            [
                "SELECT b.id FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS at \
                 FROM json_each(?2)) AS b WHERE b.id > ?1",
                "SELECT b.id FROM (SELECT * FROM UNNEST($2::bigint[], $3::timestamptz[]) AS given (id, at)) AS b \
                 WHERE b.id > $1",
                "SELECT b.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]' ERROR ON ERROR, \
                 at DATETIME(3) PATH '$[1]' ERROR ON ERROR)) AS b \
                 WHERE b.id > ?",
            ]
        );
        assert_eq!(*query.spelled(Dialect::MySql).order, [1, 0]);
    }

    #[test]
    fn the_other_tokens() {
        let query = query(
            "SELECT {field n.facts message}, {length m.people}, {as json ?1} WHERE {differs a ?2} AND t < {now} {lock} {skip locked}",
        )
        .bind("{}")
        .bind(1_i64);
        assert_eq!(
            spelled(&query),
            [
                "SELECT json_extract(n.facts, '$.message'), json_array_length(m.people), ?1 WHERE a IS DISTINCT FROM ?2 \
                 AND t < strftime('%Y-%m-%dT%H:%M:%fZ', 'now')  ",
                "SELECT (n.facts ->> 'message'), jsonb_array_length(m.people), $1::jsonb WHERE a IS DISTINCT FROM $2 \
                 AND t < date_trunc('milliseconds', clock_timestamp()) FOR UPDATE FOR UPDATE SKIP LOCKED",
                "SELECT JSON_VALUE(n.facts, '$.message' /*!80021 RETURNING CHAR */), JSON_LENGTH(m.people), ? WHERE NOT (a <=> ?) \
                 AND t < UTC_TIMESTAMP(3) FOR UPDATE FOR UPDATE SKIP LOCKED",
            ]
        );
    }
}
