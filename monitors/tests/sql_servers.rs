//! The kind `sql` against real servers, which this test starts for itself on loopback and stops again.
//!
//! The Debian packages `postgresql` and `mariadb-server` must be installed; without them the tests fail and say so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test reports by panicking; only `#[test]` functions are exempt"
)]

#[path = "sql_servers/asking.rs"]
mod asking;
#[path = "sql_servers/mariadb.rs"]
mod mariadb;
#[path = "sql_servers/postgres.rs"]
mod postgres;
#[path = "sql_servers/server.rs"]
mod server;
