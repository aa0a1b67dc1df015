//! Black-box tests, in one binary: a module for each topic.

// A test ends with what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod mail;
mod scenarios;
mod schema_docs;
mod store;
mod support;
