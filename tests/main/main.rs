//! Tests from outside: one binary, so that the product is linked once.

// Said aloud so that the lints know it: a test may panic.
#[cfg(test)]
mod store;
