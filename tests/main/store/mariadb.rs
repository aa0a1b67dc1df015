//! MariaDB: the suite.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlPool, Row};
use watchbell::domain::MonitorId;
use watchbell::ports::{Clock, Store};
use watchbell::store::SqlStore;

use super::bench::Database;
use crate::support::mariadb::MariaDb;

super::conformance!(MariaDbDatabase, server);

/// A database of its own on the server that all tests share.
pub(crate) struct MariaDbDatabase {
    store: SqlStore,
    person: MySqlPool,
    url: String,
}

#[async_trait]
impl Database for MariaDbDatabase {
    async fn create(clock: Arc<dyn Clock>) -> Self {
        let url = MariaDb::shared().await.fresh_database().await;
        let store = SqlStore::open(&url, clock).await.unwrap();
        let person = MySqlPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
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
        rows.iter().map(|row| (0..row.len()).map(|index| row.try_get_unchecked(index).unwrap()).collect()).collect()
    }

    async fn columns(&self, table: &str) -> Vec<String> {
        let rows = self
            .rows(&format!(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = database() \
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
            "INSERT INTO monitors (name, kind, schedule) SELECT concat('monitor ', seq), 'test', '* * * * *' \
             FROM {}",
            numbers(count)
        )
    }

    fn field(&self, column: &str, name: &str) -> String {
        format!("JSON_VALUE({column}, '$.{name}')")
    }

    fn shown_time(&self, at: DateTime<Utc>) -> String {
        at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
    }

    fn replace_monitor(&self, id: MonitorId, kind: &str) -> String {
        format!("REPLACE INTO monitors (id, name, kind, schedule) VALUES ({id}, 'again', '{kind}', '@hourly')")
    }
}

/// A table of the numbers 1 to `count`, in the column `seq`. (MariaDB alone has tables of that kind.)
fn numbers(count: u32) -> String {
    format!("JSON_TABLE(concat('[0', repeat(',0', {count} - 1), ']'), '$[*]' COLUMNS (seq FOR ORDINALITY)) AS numbers")
}
