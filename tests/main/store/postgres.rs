//! PostgreSQL: the suite.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};
use watchbell::domain::MonitorId;
use watchbell::ports::{Clock, Store};
use watchbell::store::SqlStore;

use super::bench::Database;
use crate::support::postgres::Postgres;

super::conformance!(PostgresDatabase, server);

/// A database of its own on the server that all tests share.
pub(crate) struct PostgresDatabase {
    store: SqlStore,
    person: PgPool,
    url: String,
}

#[async_trait]
impl Database for PostgresDatabase {
    async fn create(clock: Arc<dyn Clock>) -> Self {
        let url = Postgres::shared().await.fresh_database().await;
        let store = SqlStore::open(&url, clock).await.unwrap();
        let person = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        Self { store, person, url }
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
            sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&self.person).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.iter()
            .map(|row| (0..row.len()).map(|index| shown(row.try_get_unchecked(index).unwrap())).collect())
            .collect()
    }

    async fn columns(&self, table: &str) -> Vec<String> {
        let rows = self
            .rows(&format!(
                "SELECT column_name::text FROM information_schema.columns WHERE table_schema = current_schema() \
                 AND table_name = '{table}' ORDER BY ordinal_position"
            ))
            .await;
        rows.into_iter().flatten().flatten().collect()
    }

    fn describe(&self) -> String {
        self.url.clone()
    }

    fn many_monitors(&self, count: u32) -> String {
        format!(
            "INSERT INTO monitors (name, kind, schedule) SELECT 'monitor ' || i, 'test', '* * * * *' \
             FROM generate_series(1, {count}) AS i"
        )
    }

    fn field(&self, column: &str, name: &str) -> String {
        format!("{column} ->> '{name}'")
    }

    fn shown_time(&self, at: DateTime<Utc>) -> String {
        at.format("%Y-%m-%d %H:%M:%S+00").to_string()
    }

    fn replace_monitor(&self, id: MonitorId, kind: &str) -> String {
        format!(
            "DELETE FROM monitors WHERE id = {id}; \
             INSERT INTO monitors (id, name, kind, schedule) VALUES ({id}, 'again', '{kind}', '@hourly')"
        )
    }
}

/// Flags of comparisons as the other databases show them.
fn shown(value: Option<String>) -> Option<String> {
    value.map(|value| match value.as_str() {
        "t" => "1".to_owned(),
        "f" => "0".to_owned(),
        _ => value,
    })
}
