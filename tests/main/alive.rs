//! Is the watcher alive: what it says of itself, and what is noticed of it elsewhere when it is not.

mod channel_trouble;
mod hanging;
mod listener;
mod outbox_state;
mod second_installation;
mod self_test;
