//! PostgreSQL 15 or newer, directly or through a pooler in transaction mode.

mod open;
pub(in crate::store) mod upkeep;

pub(in crate::store) use open::open;
