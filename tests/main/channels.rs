//! Each channel against a server that follows its protocol strictly.

mod discord;
mod ntfy;
mod push_server;
mod redis;
mod teams;
mod telegram;
