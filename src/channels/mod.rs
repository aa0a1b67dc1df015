//! Where and how messages are delivered: one file, or folder, a channel, each an implementation of
//! [`crate::ports::Channel`].
//!
//! A channel tries once, within a bounded time and over a bounded number of connections, and says what came of it. It
//! must not retry, keep a queue, or know anything of states and incidents: the engine decides on another attempt, and
//! the outbox is in the database.
//!
//! - [`email`]: mail over SMTP.
//! - [`mail_files`]: the same mail as `.eml` files, for an installation without a mail server.
//! - `mime`: what such a mail looks like; shared by both.
//! - [`all`]: the types of the rows of `channels`, one file, or folder, each; `brief`, `hook`, `http`, `tls`, `url` and `wording` are what
//!   they share.

mod apprise;
mod brief;
mod channel_type;
mod discord;
pub mod email;
mod hook;
mod http;
pub mod mail_files;
mod mailto;
mod masked;
mod matrix;
mod mime;
mod ntfy;
mod pagerduty;
mod redis;
mod slack;
mod teams;
mod telegram;
mod tls;
mod url;
mod webhook;
mod wording;

pub use channel_type::{ChannelOption, ChannelSettings, ChannelType, Channels, OpenChannel, find, open};
pub use email::{EmailSettings, SmtpMail};
pub use mail_files::{MailFiles, MailFilesSettings};
pub use masked::{masked, plain_secrets};
pub use url::ChannelUrl;

/// Every type of channel, sorted by name. A new one is one file, and one line here.
pub fn all() -> Vec<&'static ChannelType> {
    vec![
        &apprise::TYPE,
        &discord::TYPE,
        &mailto::TYPE,
        &matrix::TYPE,
        &ntfy::TYPE,
        &pagerduty::TYPE,
        &redis::TYPE,
        &slack::TYPE,
        &teams::TYPE,
        &telegram::TYPE,
        &webhook::TYPE,
    ]
}
