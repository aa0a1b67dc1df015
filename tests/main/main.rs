//! Black-box tests, in one binary.

mod mail;
mod support;
