//! A person with SQL, on any of the databases: what they write, and what they read as SQLite shows it.

use anyhow::{Context, Result, bail};
use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, Column, Connection, MySqlConnection, PgConnection, Row, SqliteConnection, TypeInfo, ValueRef,
};

/// A connection of a person's own, set to nothing that the server does not set by itself.
pub(crate) enum Person {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

/// What became of a statement that writes.
pub(crate) enum Written {
    Rows(u64),
    Refused(String),
}

impl Person {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(match url.split_once("://") {
            Some(("postgres", _)) => Self::Postgres(PgConnection::connect(url).await?),
            Some(("mysql", _)) => Self::MariaDb(MySqlConnection::connect(url).await?),
            sqlite => {
                let path = sqlite.map_or(url, |(_, path)| path);
                Self::Sqlite(SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?)
            }
        })
    }

    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(connection) => connection.close().await?,
            Self::MariaDb(connection) => connection.close().await?,
        }
        Ok(())
    }

    /// Executes statements that must be taken.
    pub(crate) async fn must(&mut self, sql: &str) {
        match self.write(sql).await.unwrap() {
            Written::Rows(_) => {}
            Written::Refused(reason) => panic!("{sql}: {reason}"),
        }
    }

    /// Executes statements; a refusal by the database is an answer.
    pub(crate) async fn write(&mut self, sql: &str) -> Result<Written> {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let done = match self {
            Self::Sqlite(connection) => statements.execute(connection).await.map(|done| done.rows_affected()),
            Self::Postgres(connection) => statements.execute(connection).await.map(|done| done.rows_affected()),
            Self::MariaDb(connection) => statements.execute(connection).await.map(|done| done.rows_affected()),
        };
        match done {
            Ok(rows) => Ok(Written::Rows(rows)),
            Err(sqlx::Error::Database(refusal)) => Ok(Written::Refused(refusal.message().to_owned())),
            Err(other) => Err(other).with_context(|| sql.to_owned()),
        }
    }

    /// All rows, as the scripts show values: times as SQLite holds them, flags as 0 and 1, `None` for NULL.
    pub(crate) async fn read(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => {
                let rows = statement.fetch_all(connection).await.with_context(|| sql.to_owned())?;
                rows.iter().map(|row| (0..row.len()).map(|at| sqlite_value(row, at)).collect()).collect()
            }
            Self::Postgres(connection) => {
                let rows = statement.fetch_all(connection).await.with_context(|| sql.to_owned())?;
                rows.iter().map(|row| (0..row.len()).map(|at| postgres_value(row, at)).collect()).collect()
            }
            Self::MariaDb(connection) => {
                let rows = statement.fetch_all(connection).await.with_context(|| sql.to_owned())?;
                rows.iter().map(|row| (0..row.len()).map(|at| mariadb_value(row, at)).collect()).collect()
            }
        }
    }

    /// The single value of the single row.
    pub(crate) async fn value(&mut self, sql: &str) -> Result<String> {
        let mut rows = self.read(sql).await?;
        match (rows.pop().and_then(|mut row| row.pop().flatten()), rows.is_empty()) {
            (Some(value), true) => Ok(value),
            _ => bail!("{sql}: there is not one row with one value"),
        }
    }

    /// Takes all rows from a server's tables that number them, and lets ids begin at 1 again; what the migrations put
    /// there stays.
    pub(crate) async fn empty_all_tables(&mut self) -> Result<()> {
        const KEPT: &str = "'_sqlx_migrations', 'installation', 'rules_version'";
        let statements = match self {
            Self::Sqlite(_) => bail!("a SQLite database is a new file"),
            Self::Postgres(_) => {
                let tables = format!(
                    "SELECT string_agg(quote_ident(relname), ', ') FROM pg_class WHERE relkind IN ('r', 'p') \
                     AND NOT relispartition AND relnamespace = current_schema()::regnamespace \
                     AND relname NOT IN ({KEPT})"
                );
                format!("TRUNCATE {} RESTART IDENTITY", self.value(&tables).await?)
            }
            Self::MariaDb(_) => {
                // Else MySQL tells what it last knew, and cuts off what is long. MariaDB does not read the comment.
                let settings = "SET SESSION /*!80003 information_schema_stats_expiry = 0, SESSION */ \
                    group_concat_max_len = 65536";
                self.read(settings).await?;
                let tables = format!(
                    "SELECT group_concat('TRUNCATE ', table_name, ';' SEPARATOR ' ') FROM information_schema.tables \
                     WHERE table_schema = database() AND auto_increment > 1 AND table_name NOT IN ({KEPT})"
                );
                match self.read(&tables).await?.pop().and_then(|mut row| row.pop().flatten()) {
                    Some(statements) => statements,
                    None => return Ok(()),
                }
            }
        };
        match self.write(&statements).await? {
            Written::Rows(_) => Ok(()),
            Written::Refused(reason) => bail!("{statements}: {reason}"),
        }
    }

    /// A time as a person writes it there. The servers' own zone is another than UTC.
    pub(crate) fn time(&self, at: DateTime<Utc>) -> String {
        let spelling = match self {
            Self::Sqlite(_) => "'%Y-%m-%dT%H:%M:%S%.3fZ'",
            Self::Postgres(_) => "'%Y-%m-%d %H:%M:%S%.3f+00'",
            Self::MariaDb(_) => "'%Y-%m-%d %H:%M:%S%.3f'",
        };
        at.format(spelling).to_string()
    }

    /// A text as a person quotes it there.
    pub(crate) fn quoted(&self, text: &str) -> String {
        let text = text.replace('\'', "''");
        match self {
            Self::MariaDb(_) => format!("'{}'", text.replace('\\', "\\\\")),
            Self::Sqlite(_) | Self::Postgres(_) => format!("'{text}'"),
        }
    }
}

fn sqlite_value(row: &sqlx::sqlite::SqliteRow, at: usize) -> Result<Option<String>> {
    if row.try_get_raw(at)?.is_null() {
        return Ok(None);
    }
    let number = || row.try_get::<i64, _>(at).map(|number| number.to_string());
    Ok(Some(row.try_get::<String, _>(at).or_else(|_| number())?))
}

fn postgres_value(row: &sqlx::postgres::PgRow, at: usize) -> Result<Option<String>> {
    let Some(text) = row.try_get_unchecked::<Option<String>, _>(at)? else { return Ok(None) };
    Ok(Some(match row.column(at).type_info().name() {
        "BOOL" => u8::from(text == "t").to_string(),
        "TIMESTAMPTZ" => shown_time(
            DateTime::<FixedOffset>::parse_from_str(&format!("{text}00"), "%Y-%m-%d %H:%M:%S%.f%z")
                .with_context(|| format!("`{text}` is no time"))?
                .to_utc(),
        ),
        _ => text,
    }))
}

fn mariadb_value(row: &sqlx::mysql::MySqlRow, at: usize) -> Result<Option<String>> {
    let Some(text) = row.try_get_unchecked::<Option<String>, _>(at)? else { return Ok(None) };
    Ok(Some(match row.column(at).type_info().name() {
        "DATETIME" => shown_time(NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")?.and_utc()),
        _ => text,
    }))
}

fn shown_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
