//! SQL against the tests' servers, as by `psql` or `mariadb`: `postgres://` and `mysql://` alike.
//!
//! It works on threads of its own: a test whose clock stands still may wait for a server too.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Decode, MySqlConnection, PgConnection, Row, Type};
use tokio::runtime::{Builder, Runtime};

/// A statement of a test takes milliseconds; none may hang for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Executes statements, on a connection of their own. Several in one text are one transaction on PostgreSQL.
///
/// # Panics
///
/// When the server refuses, or does not answer within 60 s.
pub(crate) async fn execute(url: &str, sql: &str) {
    rows(url, sql).await;
}

/// All rows of the statements, each column as the text in which the server sends it.
///
/// # Panics
///
/// As [`execute`].
pub(crate) async fn rows(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    try_rows(url, sql).await.unwrap_or_else(|error| panic!("{url}: {sql}: {error}"))
}

/// The same; a refusal is returned.
///
/// # Errors
///
/// Whatever the server or the way to it says.
pub(crate) async fn try_rows(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let (own_url, own_sql) = (url.to_owned(), sql.to_owned());
    // The deadline is made there too: it is on the wall clock then.
    let answer = runtime().spawn(async move { tokio::time::timeout(PATIENCE, ask(&own_url, own_sql)).await });
    answer.await.unwrap().unwrap_or_else(|_| panic!("{url}: {sql}: no answer within {PATIENCE:?}"))
}

/// Waits for a future in a test that is not `async`.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

async fn ask(url: &str, sql: String) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let statements = sqlx::raw_sql(AssertSqlSafe(sql));
    match url.split_once("://") {
        Some(("postgres", _)) => {
            let mut connection = PgConnection::connect(url).await?;
            let rows = statements.fetch_all(&mut connection).await?;
            connection.close().await?;
            rows.iter().map(texts).collect()
        }
        Some(("mysql", _)) => {
            let mut connection = MySqlConnection::connect(url).await?;
            let rows = statements.fetch_all(&mut connection).await?;
            connection.close().await?;
            rows.iter().map(texts).collect()
        }
        _ => panic!("`{url}` is neither postgres:// nor mysql://"),
    }
}

/// Without a look at the types: in the simple protocol all values are texts.
fn texts<R: Row>(row: &R) -> Result<Vec<Option<String>>, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    String: for<'row> Decode<'row, R::Database> + Type<R::Database>,
{
    (0..row.len()).map(|column| row.try_get_unchecked::<Option<String>, _>(column)).collect()
}
