//! Each channel against a server that follows its protocol strictly.

mod discord;
mod ntfy;
mod push_server;
mod teams;
mod telegram;
