//! What black-box tests need around the product.

pub(crate) mod faketime;
pub(crate) mod homeserver;
pub(crate) mod mariadb;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod person;
pub(crate) mod pgbouncer;
pub(crate) mod postfix;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod redis;
mod server;
pub(crate) mod smtp;
pub(crate) mod sql;
