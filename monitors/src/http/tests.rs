//! Tests of the kind `http`.
