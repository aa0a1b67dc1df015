//! Tests of Watchbell from outside: one binary, a module for each topic.

#[cfg(test)]
mod scenarios;
