//! The binary that is killed, stopped, or left without its mail server: what it owes people is neither lost nor said
//! falsely, and doubles only where at-least-once must.

mod gap;
mod kills;
mod mail_server_away;
mod site;
mod stop;
mod truth;
