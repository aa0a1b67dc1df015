//! The database as somebody beside the nodes sees it: monitors are registered there, and runs are read from there.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row, SqliteConnection};

pub(crate) enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

/// A run of a tick.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) monitor: i64,
    /// In ms, since whenever.
    pub(crate) tick: i64,
    pub(crate) lateness_ms: i64,
}

impl Database {
    pub(crate) async fn connect(url: &str) -> Self {
        match url.split(':').next() {
            Some("postgres" | "postgresql") => Database::Postgres(PgConnection::connect(url).await.unwrap()),
            Some("mysql" | "mariadb") => Database::MySql(MySqlConnection::connect(url).await.unwrap()),
            _ => Database::Sqlite(SqliteConnection::connect(url).await.unwrap()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "sqlite",
            Database::Postgres(_) => "postgres",
            Database::MySql(_) => "mysql",
        }
    }

    /// Registers monitors that are due once a minute, spread over it or all on second 0, by one statement that all
    /// databases understand.
    pub(crate) async fn register(&mut self, monitors: u64, is_burst: bool) {
        assert_eq!(self.number("SELECT count(*) FROM monitors").await, 0, "the database is not empty");
        let second = if is_burst { "0" } else { "n % 60" };
        let digits: Vec<String> = (1..10).map(|digit| format!("UNION ALL SELECT {digit}")).collect();
        let sql = format!(
            "INSERT INTO monitors (name, kind, schedule, people_to_notify) \
             WITH digits (d) AS (SELECT 0 {}), numbers (n) AS ( \
               SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d \
               FROM digits a CROSS JOIN digits b CROSS JOIN digits c CROSS JOIN digits e CROSS JOIN digits f \
                 CROSS JOIN digits g) \
             SELECT concat('monitor ', n), 'trivial', concat({second}, ' * * * * *'), '[\"ops@example.com\"]' \
             FROM numbers WHERE n < {monitors} ORDER BY n",
            digits.join(" ")
        );
        self.execute(&sql).await;
        // As after some minutes, when the server did it by itself.
        if matches!(self, Database::Postgres(_)) {
            self.execute("ANALYZE monitors").await;
        }
    }

    /// Whether a monitor is left that was never checked.
    pub(crate) async fn is_one_unchecked(&mut self) -> bool {
        self.number("SELECT count(*) FROM (SELECT 1 FROM monitors WHERE last_run_at IS NULL LIMIT 1) AS one").await > 0
    }

    pub(crate) async fn nodes(&mut self) -> i64 {
        self.number("SELECT count(*) FROM nodes").await
    }

    /// The runs of ticks within the window, sorted.
    pub(crate) async fn runs(&mut self, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Run> {
        let (tick, lateness, time) = match self {
            Database::Sqlite(_) => (
                "CAST(strftime('%s', tick_at) AS INTEGER) * 1000",
                "CAST(round((julianday(started_at) - julianday(tick_at)) * 86400000) AS INTEGER)",
                "",
            ),
            Database::Postgres(_) => (
                "CAST(extract(epoch FROM tick_at) * 1000 AS bigint)",
                "CAST(extract(epoch FROM started_at - tick_at) * 1000 AS bigint)",
                "timestamptz ",
            ),
            Database::MySql(_) => (
                "TIMESTAMPDIFF(MICROSECOND, '2000-01-01', tick_at) DIV 1000",
                "TIMESTAMPDIFF(MICROSECOND, tick_at, started_at) DIV 1000",
                "timestamp ",
            ),
        };
        let text = |at: DateTime<Utc>| match self {
            Database::MySql(_) => at.format("%Y-%m-%d %H:%M:%S").to_string(),
            Database::Sqlite(_) | Database::Postgres(_) => at.to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        let sql = format!(
            "SELECT monitor_id, {tick}, {lateness} FROM monitor_runs WHERE cause IN ('schedule', 'catch_up') \
               AND tick_at >= {time}'{}' AND tick_at < {time}'{}'",
            text(from),
            text(until)
        );
        let mut runs = self.rows(&sql).await;
        runs.sort_unstable();
        runs
    }

    async fn execute(&mut self, sql: &str) {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Database::Sqlite(connection) => statement.execute(connection).await.map(drop),
            Database::Postgres(connection) => statement.execute(connection).await.map(drop),
            Database::MySql(connection) => statement.execute(connection).await.map(drop),
        }
        .unwrap();
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        match self {
            Database::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
            Database::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
            Database::MySql(connection) => sqlx::query_scalar(sql).fetch_one(connection).await,
        }
        .unwrap()
    }

    async fn rows(&mut self, sql: &str) -> Vec<Run> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Database::Sqlite(connection) => {
                let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
                rows.iter().map(|row| Run { monitor: row.get(0), tick: row.get(1), lateness_ms: row.get(2) }).collect()
            }
            Database::Postgres(connection) => {
                let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
                rows.iter().map(|row| Run { monitor: row.get(0), tick: row.get(1), lateness_ms: row.get(2) }).collect()
            }
            Database::MySql(connection) => {
                let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
                rows.iter().map(|row| Run { monitor: row.get(0), tick: row.get(1), lateness_ms: row.get(2) }).collect()
            }
        }
    }
}
