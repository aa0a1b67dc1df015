//! MySQL 8.0.21 or newer, and MariaDB 10.6 or newer.

mod findings;
mod open;

pub(in crate::store) use findings::{findings, missing_rights};
pub(in crate::store) use open::open;
