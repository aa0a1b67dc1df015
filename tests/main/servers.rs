//! The servers that other tests rely on work, and fail, as these tests are told.

mod postgres;
