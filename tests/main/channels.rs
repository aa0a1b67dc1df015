//! Each channel against a server that follows its protocol strictly.

pub(crate) mod discord;
pub(crate) mod json_server;
mod matrix;
pub(crate) mod ntfy;
mod pagerduty;
pub(crate) mod pagerduty_server;
pub(crate) mod push_server;
mod redis;
mod sample_rows;
mod slack;
pub(crate) mod slack_server;
pub(crate) mod teams;
pub(crate) mod telegram;
