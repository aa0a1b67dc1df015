//! Each channel against a server that follows its protocol strictly.

pub(crate) mod discord;
pub(crate) mod json_server;
pub(crate) mod matrix;
pub(crate) mod ntfy;
pub(crate) mod pagerduty;
pub(crate) mod pagerduty_server;
pub(crate) mod push_server;
pub(crate) mod redis;
pub(crate) mod sample_rows;
pub(crate) mod slack;
pub(crate) mod slack_server;
pub(crate) mod teams;
pub(crate) mod telegram;
