//! Tests from outside: one binary, so that the product is linked once.

mod store;
