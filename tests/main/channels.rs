//! Each channel against a server that follows its protocol strictly.

mod json_server;
mod pagerduty;
mod pagerduty_server;
mod sample_rows;
mod slack;
mod slack_server;
