//! SQLite, embedded: one file, one node, one writer, WAL, `synchronous=FULL`.
//!
//! All writes go through one connection, so that none waits for another inside SQLite; reads have connections of
//! their own.

mod open;
#[cfg(test)]
mod tests;

pub(in crate::store) use open::open;
pub use open::{FileLock, database_path};
