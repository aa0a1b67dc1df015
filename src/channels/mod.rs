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
//! - [`all`]: the types of the rows of `channels`, one file, or folder, each; `brief`, `hook`, `html`, `http`, `payload`, `tls`,
//!   `url` and `wording` are what they share.
//! - `pinger`: the dead-man's switch, which shares their HTTP client and is none of them.

mod apprise;
mod brief;
mod channel_type;
mod discord;
pub mod email;
mod hook;
mod html;
mod http;
pub mod mail_files;
mod mailto;
mod masked;
mod matrix;
mod mime;
mod ntfy;
mod pagerduty;
mod payload;
mod pinger;
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
pub use pinger::HttpPinger;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::all;

    /// A file, or the `mod.rs` of a folder, that defines a `TYPE`.
    fn defines_a_type(entry: &Path) -> bool {
        let file = if entry.is_dir() { entry.join("mod.rs") } else { entry.to_owned() };
        std::fs::read_to_string(file).unwrap().lines().any(|line| line.contains("static TYPE: ChannelType"))
    }

    #[test]
    fn every_type_is_registered_under_its_files_name_and_the_list_is_sorted() {
        let names: Vec<_> = all().iter().map(|channel_type| channel_type.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/channels"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|entry| !entry.ends_with("mod.rs") && defines_a_type(entry))
            .map(|entry| entry.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, names.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    }

    #[test]
    fn no_word_means_two_types() {
        let words = all().into_iter().flat_map(|of| [of.name].into_iter().chain(of.other_names.iter().copied()));
        let mut seen = BTreeSet::new();
        for word in words {
            assert!(seen.insert(word), "{word}");
        }
    }
}
