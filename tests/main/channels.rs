//! Each channel against a server that follows its protocol strictly.

mod discord;
mod json_server;
mod matrix;
mod ntfy;
mod pagerduty;
mod pagerduty_server;
mod push_server;
mod redis;
mod sample_rows;
mod slack;
mod slack_server;
mod teams;
mod telegram;
