//! One way to talk to three databases: a connection, a statement, a row.
//!
//! Statements are written once, in SQL that all three understand, with a few tokens where they spell a thing
//! differently ([`statement`]); where they truly differ, a statement has a text for each ([`Sql::each`]). Nothing here
//! knows a table.

mod batch;
mod bind;
mod connection;
mod errors;
mod exact;
mod pool;
mod row;
mod statement;

pub(super) use batch::{Batch, Type};
pub(super) use bind::{Bind, sqlite_time};
pub(super) use connection::{Connection, Executor, within, without_nul};
pub(super) use errors::{explain, explain_opening, is_busy, is_deadlock};
pub(super) use pool::{Database, Pool};
pub(super) use row::Row;
pub(super) use statement::{Query, Sql, query};

/// Whose SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dialect {
    /// SQLite, as bundled.
    Sqlite,
    /// PostgreSQL 15 or newer.
    Postgres,
    /// MySQL 8 and MariaDB 10.6 or newer.
    MySql,
}
