//! MySQL 8.0.21 or newer, and MariaDB 10.6 or newer.

mod open;

pub(in crate::store) use open::open;
