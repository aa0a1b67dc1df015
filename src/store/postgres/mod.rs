//! PostgreSQL 15 or newer, directly or through a pooler in transaction mode.

mod findings;
mod open;
pub(in crate::store) mod upkeep;

pub(in crate::store) use findings::{findings, missing_rights};
pub(in crate::store) use open::open;
