//! A connection to any of the databases, inside a transaction or not.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use serde_json::Value;
use sqlx::mysql::MySqlArguments;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{
    Arguments, AssertSqlSafe, Error, MySql, MySqlConnection, PgConnection, Postgres, Sqlite, SqliteConnection,
    Transaction,
};

use super::bind::{sqlite_time, to_millisecond};
use super::statement::Spelled;
use super::{Batch, Bind, Dialect, Query, Row, Type};

/// How long a statement may take on a server. A connection that says nothing for so long (the network is cut, the server
/// hangs) is given up; a driver would wait for ever. The servers end the statement a little earlier by themselves.
const LIMIT: Duration = Duration::from_secs(15);

/// A statement for MySQL is one packet, and none is taken that is longer than `max_allowed_packet`: 16 MiB on MariaDB,
/// 4 MiB on the oldest servers that anybody still sets up. A larger batch is written by several statements. (MariaDB's
/// JSON_TABLE is slow with long texts: smaller pieces took half of the time of 2 MiB, and each ends well within the limit.)
const MOST_BATCH_BYTES: usize = 256 * 1024;

/// A connection. Dropped inside a transaction without [`Connection::commit`], it takes back what was done.
pub(in crate::store) struct Connection {
    /// `None` only while it is being ended.
    inner: Option<Inner>,
    /// Whether statements are prepared once for each connection.
    keeps_statements: bool,
    /// Set inside a transaction on a server, and after a statement that did not end: then the connection cannot be used
    /// again and is closed, which takes back what was done.
    must_close: bool,
    /// How long a statement may take.
    limit: Duration,
}

pub(super) enum Inner {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTransaction(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    MySql(PoolConnection<MySql>),
}

enum Handle<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
    MySql(&'c mut MySqlConnection),
}

impl Connection {
    /// One that is in no transaction of a server.
    pub(super) fn new(inner: Inner, keeps_statements: bool) -> Self {
        Self { inner: Some(inner), keeps_statements, must_close: false, limit: LIMIT }
    }

    /// For work that is long by its nature.
    #[must_use]
    pub(in crate::store) fn patient(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Begins a transaction on a server.
    pub(super) async fn begin(mut self, statement: &'static str) -> Result<Self, Error> {
        self.must_close = true;
        self.raw(statement).await?;
        Ok(self)
    }

    /// Statements without values, as they are.
    pub(in crate::store) async fn raw(&mut self, statements: &'static str) -> Result<(), Error> {
        let limit = self.limit;
        let running = async {
            match self.handle()? {
                Handle::Sqlite(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
                Handle::Postgres(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
                Handle::MySql(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
            }
        };
        within(limit, running).await
    }

    /// Whose SQL is spoken here.
    pub(in crate::store) fn dialect(&self) -> Dialect {
        match self.inner {
            Some(Inner::Sqlite(_) | Inner::SqliteTransaction(_)) | None => Dialect::Sqlite,
            Some(Inner::Postgres(_)) => Dialect::Postgres,
            Some(Inner::MySql(_)) => Dialect::MySql,
        }
    }

    /// Makes a transaction's work last. Without a transaction there is nothing to do.
    ///
    /// # Errors
    /// When it is not known to last: on a server it may have, if the connection broke at that moment.
    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        if let Some(Inner::SqliteTransaction(_)) = self.inner {
            let Some(Inner::SqliteTransaction(transaction)) = self.inner.take() else { return Ok(()) };
            return transaction.commit().await;
        }
        if self.must_close {
            self.raw("COMMIT").await?;
            self.must_close = false;
        }
        Ok(())
    }

    fn prepare(&self, query: &Query) -> Prepared {
        let spelled = query.spelled(self.dialect());
        let text = AssertSqlSafe(spelled.text.clone());
        Prepared { is_kept: spelled.is_fixed && self.keeps_statements, spelled, text }
    }

    fn handle(&mut self) -> Result<Handle<'_>, Error> {
        Ok(match self.inner.as_mut().ok_or(Error::PoolClosed)? {
            Inner::Sqlite(connection) => Handle::Sqlite(connection),
            Inner::SqliteTransaction(transaction) => Handle::Sqlite(transaction),
            Inner::Postgres(connection) => Handle::Postgres(connection),
            Inner::MySql(connection) => Handle::MySql(connection),
        })
    }

    /// Runs something on the connection, which is closed where it does not come to its end.
    async fn guarded<T>(&mut self, running: impl AsyncFnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let (limit, before) = (self.limit, self.must_close);
        self.must_close = !matches!(self.inner, Some(Inner::Sqlite(_) | Inner::SqliteTransaction(_)));
        let result = within(limit, running(self)).await;
        // An error that the server itself told leaves the connection usable.
        if !matches!(&result, Err(error) if !matches!(error, Error::Database(_) | Error::ColumnDecode { .. })) {
            self.must_close = before;
        }
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.must_close {
            match self.inner.take() {
                Some(Inner::Postgres(connection)) => drop(connection.detach()),
                Some(Inner::MySql(connection)) => drop(connection.detach()),
                Some(Inner::Sqlite(_) | Inner::SqliteTransaction(_)) | None => {}
            }
        }
    }
}

/// Gives up after `limit`.
pub(in crate::store) async fn within<T>(
    limit: Duration,
    running: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, running).await {
        Ok(result) => result,
        Err(_) => Err(Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the database did not answer within {} s", limit.as_secs()),
        ))),
    }
}

/// What runs statements: a connection, or a database with one connection for each statement.
pub(in crate::store) trait Executor: Send {
    /// All rows.
    fn fetch_all(self, query: Query) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// How many rows were written.
    fn execute(self, query: Query) -> impl Future<Output = Result<u64, Error>> + Send;
}

impl Executor for &mut Connection {
    async fn fetch_all(self, query: Query) -> Result<Vec<Row>, Error> {
        let Prepared { spelled, text, is_kept } = self.prepare(&query);
        self.guarded(async |connection| {
            Ok(match connection.handle()? {
                Handle::Sqlite(connection) => {
                    let query = sqlx::query_with(text, sqlite_arguments(&query)?).persistent(is_kept);
                    query.fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect()
                }
                Handle::Postgres(connection) => {
                    let query = sqlx::query_with(text, postgres_arguments(&query)?).persistent(is_kept);
                    query.fetch_all(connection).await?.into_iter().map(Row::Postgres).collect()
                }
                Handle::MySql(connection) => {
                    let arguments = mysql_arguments(&query, &spelled)?;
                    let rows = if is_said_once(is_kept, &arguments) {
                        sqlx::raw_sql(text).fetch_all(connection).await?
                    } else {
                        sqlx::query_with(text, arguments).persistent(is_kept).fetch_all(connection).await?
                    };
                    rows.into_iter().map(Row::MySql).collect()
                }
            })
        })
        .await
    }

    async fn execute(self, mut query: Query) -> Result<u64, Error> {
        // In a transaction, so that the pieces are written together; outside of one nobody writes batches.
        if self.dialect() == Dialect::MySql
            && let Some(batch) = query.batch.take()
        {
            let mut written = 0;
            for piece in batch.pieces(MOST_BATCH_BYTES) {
                written += self.execute_whole(query.clone().batch(piece)).await?;
            }
            return Ok(written);
        }
        self.execute_whole(query).await
    }
}

impl Connection {
    async fn execute_whole(&mut self, query: Query) -> Result<u64, Error> {
        let Prepared { spelled, text, is_kept } = self.prepare(&query);
        self.guarded(async |connection| {
            Ok(match connection.handle()? {
                Handle::Sqlite(connection) => {
                    let query = sqlx::query_with(text, sqlite_arguments(&query)?).persistent(is_kept);
                    query.execute(connection).await?.rows_affected()
                }
                Handle::Postgres(connection) => {
                    let query = sqlx::query_with(text, postgres_arguments(&query)?).persistent(is_kept);
                    query.execute(connection).await?.rows_affected()
                }
                Handle::MySql(connection) => {
                    let query = sqlx::query_with(text, mysql_arguments(&query, &spelled)?).persistent(is_kept);
                    query.execute(connection).await?.rows_affected()
                }
            })
        })
        .await
    }
}

struct Prepared {
    spelled: Spelled,
    text: AssertSqlSafe<std::sync::Arc<str>>,
    is_kept: bool,
}

fn sqlite_arguments(query: &Query) -> Result<SqliteArguments, Error> {
    let mut arguments = SqliteArguments::default();
    for bind in &query.binds {
        match bind {
            Bind::Int(number) => arguments.add(*number),
            Bind::Text(text) => arguments.add(text.clone()),
            Bind::Time(at) => arguments.add(at.map(sqlite_time)),
            Bind::Ints(numbers) => arguments.add(Value::from(numbers.as_slice()).to_string()),
            Bind::Texts(texts) => arguments.add(Value::from(texts.as_slice()).to_string()),
        }
        .map_err(Error::Encode)?;
    }
    if let Some(batch) = &query.batch {
        arguments.add(batch.json(Dialect::Sqlite)).map_err(Error::Encode)?;
    }
    Ok(arguments)
}

/// Whether a statement is best sent as it is. One that is not kept would be prepared, executed and closed; nothing answers
/// the closing, so that the next statement would lie in the client's system until the server's acknowledges it: 40 ms, for
/// each (the driver does not set TCP_NODELAY).
fn is_said_once(is_kept: bool, arguments: &MySqlArguments) -> bool {
    !is_kept && arguments.len() == 0
}

fn mysql_arguments(query: &Query, spelled: &Spelled) -> Result<MySqlArguments, Error> {
    let mut arguments = MySqlArguments::default();
    for index in spelled.order.iter() {
        match query.binds.get(*index) {
            Some(Bind::Int(number)) => arguments.add(*number),
            Some(Bind::Text(text)) => arguments.add(text.clone()),
            Some(Bind::Time(at)) => arguments.add(at.map(to_millisecond)),
            // Written out in the text.
            Some(Bind::Ints(_)) => Ok(()),
            Some(Bind::Texts(texts)) => texts.iter().try_for_each(|text| arguments.add(text.clone())),
            None => match &query.batch {
                Some(batch) => arguments.add(batch.json(Dialect::MySql)),
                None => Err("a statement has more placeholders than values".into()),
            },
        }
        .map_err(Error::Encode)?;
    }
    Ok(arguments)
}

fn postgres_arguments(query: &Query) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for bind in &query.binds {
        match bind {
            Bind::Int(number) => arguments.add(*number),
            Bind::Text(text) => arguments.add(text.as_deref().map(without_nul)),
            Bind::Time(at) => arguments.add(at.map(to_millisecond)),
            Bind::Ints(numbers) => arguments.add(numbers.clone()),
            Bind::Texts(texts) => arguments.add(texts.clone()),
        }
        .map_err(Error::Encode)?;
    }
    if let Some(batch) = &query.batch {
        add_columns(&mut arguments, batch).map_err(Error::Encode)?;
    }
    Ok(arguments)
}

fn add_columns(arguments: &mut PgArguments, batch: &Batch) -> Result<(), sqlx::error::BoxDynError> {
    for (kind, values) in batch.columns() {
        match kind {
            Type::Int => arguments.add(
                values
                    .map(|value| match value {
                        Bind::Int(number) => *number,
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            ),
            Type::Time => {
                let times = values.map(|value| match value {
                    Bind::Time(at) => at.map(to_millisecond),
                    _ => None,
                });
                arguments.add(times.collect::<Vec<_>>())
            }
            Type::Text => {
                let texts = values.map(|value| match value {
                    Bind::Text(text) => text.as_deref().map(without_nul),
                    _ => None,
                });
                arguments.add(texts.collect::<Vec<_>>())
            }
        }?;
    }
    Ok(())
}

/// PostgreSQL holds no NUL in texts, nor its escape in JSON; what a child says may hold both.
pub(in crate::store) fn without_nul(text: &str) -> Cow<'_, str> {
    const ESCAPE: &str = "\\u0000";
    if !text.contains('\0') && !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let plain = text.replace('\0', "\u{fffd}");
    // A backslash before it makes it the six characters themselves.
    match serde_json::from_str::<Value>(&plain) {
        Ok(Value::Object(_) | Value::Array(_)) => {
            Cow::Owned(plain.replace("\\\\", "\u{1}").replace(ESCAPE, "\\ufffd").replace('\u{1}', "\\\\"))
        }
        _ => Cow::Owned(plain),
    }
}
