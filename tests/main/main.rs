//! Black-box tests, in one binary: a module for each topic.

// A test ends with what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod crash;
mod custom_monitor;
mod demo;
mod kinds_docs;
mod mail;
mod plugins;
mod scenarios;
mod store;
mod support;
mod systemd;
mod tidy;
