//! Watchbell: the database is the control plane. INSERT a row, get a monitor.
//!
//! Data flows one way: tick, row, check, transition, one UPDATE with what it owes, delivery, settling. A floor uses
//! only floors below it; `docs/architecture.md` names them.

pub mod channels;
pub mod config;
pub mod domain;
pub mod engine;
pub mod ports;
pub mod store;
