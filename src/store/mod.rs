//! The databases, one adapter each, behind [`crate::ports::Store`]. They store and find; they decide nothing.

pub mod sqlite;
