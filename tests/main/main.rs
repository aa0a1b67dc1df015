//! Black-box tests, in one binary: a module for each topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends with what it did not expect")]

mod acceptance;
mod alive;
mod bad_databases;
mod bad_rows;
mod by_hand;
mod channels;
mod channels_docs;
mod cli;
mod commands;
mod copy;
mod crash;
mod custom_monitor;
mod databases_docs;
mod demo;
mod dispatching;
mod engine;
mod kinds_docs;
mod mail;
mod mail_faults;
mod mail_postfix;
mod matrix_room;
mod nodes;
mod noise;
mod plugins;
mod scenarios;
mod scheduling;
mod schema_docs;
mod secrets_leak;
mod servers;
mod store;
mod support;
mod systemd;
mod tidy;
mod told;
mod torture;
mod troubled_database;
