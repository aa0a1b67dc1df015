//! Black-box tests, in one binary.

// A test ends with what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acceptance;
mod bad_rows;
mod by_hand;
mod engine;
mod mail;
mod scheduling;
mod support;
mod troubled_database;
