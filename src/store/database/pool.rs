//! Where connections come from.

use sqlx::{AssertSqlSafe, Error, MySqlPool, PgPool, SqlitePool};

use super::connection::{Connection, Inner};
use super::{Dialect, Executor, Query, Row};

/// The level holds for the next transaction only.
const MYSQL_SNAPSHOT: &str =
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// Open connections to one database.
#[derive(Debug, Clone)]
pub(in crate::store) enum Pool {
    /// SQLite: one connection that writes, and some that read, so that no write waits for another inside SQLite.
    Sqlite {
        /// One connection.
        writer: SqlitePool,
        /// Several.
        readers: SqlitePool,
    },
    /// PostgreSQL.
    Postgres(PgPool),
    /// MySQL or MariaDB.
    MySql(MySqlPool),
}

/// A database, and how it is to be used.
#[derive(Debug, Clone)]
pub(in crate::store) struct Database {
    pool: Pool,
    /// Behind a pooler that gives each transaction another connection: nothing outlasts a transaction, and nothing is
    /// done outside of one.
    is_pooled_by_transaction: bool,
    /// How a transaction begins.
    begin: &'static str,
}

impl Database {
    /// Takes open connections.
    pub(in crate::store) fn new(pool: Pool) -> Self {
        let begin = match pool {
            // The lock for writing is taken at once: what is decided on is what is written to.
            Pool::Sqlite { .. } => "BEGIN IMMEDIATE",
            Pool::Postgres(_) | Pool::MySql(_) => "BEGIN",
        };
        Self { pool, is_pooled_by_transaction: false, begin }
    }

    /// Uses it through a pooler in transaction mode; `begin` also sets what a session would have been set to.
    pub(in crate::store) fn pooled_by_transaction(self, begin: &'static str) -> Self {
        Self { is_pooled_by_transaction: true, begin, ..self }
    }

    /// Whose SQL is spoken.
    pub(in crate::store) fn dialect(&self) -> Dialect {
        match self.pool {
            Pool::Sqlite { .. } => Dialect::Sqlite,
            Pool::Postgres(_) => Dialect::Postgres,
            Pool::MySql(_) => Dialect::MySql,
        }
    }

    /// Whether a pooler gives each transaction another connection.
    pub(in crate::store) fn is_pooled_by_transaction(&self) -> bool {
        self.is_pooled_by_transaction
    }

    /// The connections themselves.
    #[cfg(test)]
    pub(in crate::store) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// For reading, each statement by itself.
    pub(in crate::store) async fn reader(&self) -> Result<Connection, Error> {
        if self.is_pooled_by_transaction {
            return self.transaction().await;
        }
        self.connection().await
    }

    /// For reading several things as of one moment.
    pub(in crate::store) async fn snapshot(&self) -> Result<Connection, Error> {
        let connection = match &self.pool {
            Pool::Sqlite { readers, .. } => {
                return Ok(Connection::new(Inner::SqliteTransaction(readers.begin().await?), true));
            }
            Pool::Postgres(_) | Pool::MySql(_) => self.connection().await?,
        };
        let begin = match self.dialect() {
            Dialect::MySql => MYSQL_SNAPSHOT,
            Dialect::Sqlite | Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        connection.begin(begin).await
    }

    /// For several statements, all or nothing; [`Connection::commit`] ends it.
    pub(in crate::store) async fn transaction(&self) -> Result<Connection, Error> {
        match &self.pool {
            Pool::Sqlite { writer, .. } => {
                let transaction = writer.begin_with(AssertSqlSafe(self.begin)).await?;
                Ok(Connection::new(Inner::SqliteTransaction(transaction), true))
            }
            Pool::Postgres(_) | Pool::MySql(_) => self.connection().await?.begin(self.begin).await,
        }
    }

    async fn connection(&self) -> Result<Connection, Error> {
        let inner = match &self.pool {
            Pool::Sqlite { readers, .. } => Inner::Sqlite(readers.acquire().await?),
            Pool::Postgres(pool) => Inner::Postgres(pool.acquire().await?),
            Pool::MySql(pool) => Inner::MySql(pool.acquire().await?),
        };
        Ok(Connection::new(inner, !self.is_pooled_by_transaction))
    }

    /// Ends all connections.
    pub(in crate::store) async fn close(&self) {
        match &self.pool {
            Pool::Sqlite { writer, readers } => {
                readers.close().await;
                // The last connection to close checkpoints the WAL into the database file.
                writer.close().await;
            }
            Pool::Postgres(pool) => pool.close().await,
            Pool::MySql(pool) => pool.close().await,
        }
    }
}

impl Executor for &Database {
    /// Of a statement that reads.
    async fn fetch_all(self, query: Query) -> Result<Vec<Row>, Error> {
        let mut connection = self.reader().await?;
        let rows = connection.fetch_all(query).await?;
        connection.commit().await?;
        Ok(rows)
    }

    async fn execute(self, query: Query) -> Result<u64, Error> {
        let mut connection = match &self.pool {
            Pool::Sqlite { writer, .. } => Connection::new(Inner::Sqlite(writer.acquire().await?), true),
            Pool::Postgres(_) | Pool::MySql(_) => self.reader().await?,
        };
        let written = connection.execute(query).await?;
        connection.commit().await?;
        Ok(written)
    }
}
