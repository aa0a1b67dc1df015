//! SQLite: the suite, and what only an embedded file does.

mod broken;
mod person;
mod strange;
mod times;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row, SqlitePool};
use tempfile::TempDir;
use watchbell::domain::MonitorId;
use watchbell::ports::{Clock, Store};
use watchbell::store::SqlStore;

use super::bench::Database;

super::conformance!(SqliteFile);

/// A database file in a folder of its own.
pub(crate) struct SqliteFile {
    store: SqlStore,
    person: SqlitePool,
    folder: TempDir,
}

#[async_trait]
impl Database for SqliteFile {
    async fn create(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchbell.db");
        let store = SqlStore::open(&format!("sqlite://{}", path.display()), clock).await.unwrap();
        let person = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(SqliteConnectOptions::new().filename(&path))
            .await
            .unwrap();
        Self { store, person, folder }
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn execute(&self, sql: &str) -> Result<(), String> {
        let mut transaction = self.person.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(|error| error.to_string())?;
        transaction.commit().await.map_err(|error| error.to_string())
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows =
            sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.person).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.iter().map(|row| (0..row.len()).map(|index| row.try_get_unchecked(index).unwrap()).collect()).collect()
    }

    async fn columns(&self, table: &str) -> Vec<String> {
        let rows = self.rows(&format!("SELECT name FROM pragma_table_info('{table}')")).await;
        rows.into_iter().flatten().flatten().collect()
    }

    fn describe(&self) -> String {
        self.folder.path().join("watchbell.db").display().to_string()
    }

    fn many_monitors(&self, count: u32) -> String {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO monitors (name, kind, schedule) SELECT 'monitor ' || i, 'test', '* * * * *' FROM n"
        )
    }

    fn is_loosely_typed(&self) -> bool {
        true
    }

    fn field(&self, column: &str, name: &str) -> String {
        format!("json_extract({column}, '$.{name}')")
    }

    fn shown_time(&self, at: DateTime<Utc>) -> String {
        at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    fn replace_monitor(&self, id: MonitorId, kind: &str) -> String {
        format!(
            "INSERT OR REPLACE INTO monitors (id, name, kind, schedule) VALUES ({id}, 'again', '{kind}', '@hourly')"
        )
    }
}
