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

pub mod email;
pub mod mail_files;
mod mime;

pub use email::{EmailSettings, SmtpMail};
pub use mail_files::{MailFiles, MailFilesSettings};
