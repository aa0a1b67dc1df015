//! Each channel against a server that follows its protocol strictly.

mod redis;
