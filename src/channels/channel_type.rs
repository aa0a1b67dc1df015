//! How a type of channel describes itself, and how the `url` of a row of `channels` becomes a channel.
//!
//! A URL is `<type>+https://address#option=value&option=value`, or `<type>:#option=value` where the service's address is
//! known. What stands after `#` is never sent as part of an address. Values are percent-decoded where they hold a `%`;
//! a secret reference `${...}` is put in as it is, whatever characters the secret holds.

use std::sync::Arc;

use watchbell_contract::{ConfigFault, ConfigFaults, Secrets, nearest};

use super::url::ChannelUrl;
use crate::ports::{Channel, ChannelSource};

/// One option of a channel's URL.
#[derive(Debug, Clone, Copy)]
pub struct ChannelOption {
    /// Its name after `#`.
    pub name: &'static str,
    /// What holds when it is left out; `None`: it is required.
    pub default: Option<&'static str>,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// Whether it is a secret: masked wherever a URL is shown.
    pub is_secret: bool,
}

impl ChannelOption {
    /// An option that must be given.
    pub const fn required(name: &'static str, meaning: &'static str) -> Self {
        Self { name, default: None, meaning, is_secret: false }
    }

    /// An option that may be left out; `default` says in words what holds then.
    pub const fn optional(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, default: Some(default), meaning, is_secret: false }
    }

    /// The same option, as a secret.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }
}

/// Makes a channel of a URL. Nothing is resolved or connected to.
pub type OpenChannel = fn(ChannelUrl, &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults>;

/// Everything that people can read about a type of channel, and how one is made. Texts are plain Markdown.
pub struct ChannelType {
    /// The word before `+` or `:` in the URL; lower case.
    pub name: &'static str,
    /// Further words that mean the same type: `rediss` beside `redis`.
    pub other_names: &'static [&'static str],
    /// What it delivers, and where to, in a sentence or two.
    pub delivers: &'static str,
    /// What stands before `#`; `None`: nothing but the name.
    pub address: Option<&'static str>,
    /// What may stand after `#`, in the order in which people should read it.
    pub options: &'static [ChannelOption],
    /// At least one URL that works as it stands, the most usual first.
    pub examples: &'static [&'static str],
    /// What at-least-once means here: what a retry after a crash can double, and what not.
    pub doubles: &'static str,
    /// Its bounds, and what it does not do.
    pub limits: &'static str,
    /// Makes a channel. Nothing is resolved or connected to.
    pub open: OpenChannel,
}

/// What channels need of the installation.
#[derive(Clone)]
pub struct ChannelSettings {
    /// Resolves the references of database rows: only those that `secrets.allow` lists.
    pub secrets: Arc<dyn Secrets>,
    /// `public_url`: where people reach the pages that messages link to; without a `/` at its end.
    pub public_url: Option<String>,
    /// Certificate authorities in PEM form that are trusted beside the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// What delivers mail, for rows with a `mailto:` URL.
    pub mail: Arc<dyn Channel>,
}

/// Mail, and whatever the rows of `channels` name.
pub struct Channels {
    settings: ChannelSettings,
}

impl Channels {
    /// Channels that work as `settings` say.
    pub fn new(settings: ChannelSettings) -> Self {
        Self { settings }
    }
}

impl ChannelSource for Channels {
    fn mail(&self) -> Arc<dyn Channel> {
        self.settings.mail.clone()
    }

    fn open(&self, url: &str) -> Result<Arc<dyn Channel>, String> {
        open(url, &self.settings).map_err(|faults| faults.to_string())
    }
}

/// Makes the channel of a row.
///
/// # Errors
/// All that is wrong with the URL, each with a hint, without any secret.
pub fn open(url: &str, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let name = ChannelUrl::type_name(url);
    let Some(channel_type) = find(name) else { return Err(ConfigFaults(vec![unknown(name)])) };
    let url = ChannelUrl::read(url, channel_type, settings.secrets.clone());
    (channel_type.open)(url, settings)
}

/// A type by one of its names.
pub fn find(name: &str) -> Option<&'static ChannelType> {
    super::all().into_iter().find(|channel_type| channel_type.name == name || channel_type.other_names.contains(&name))
}

fn unknown(name: &str) -> ConfigFault {
    const LONGEST_SHOWN: usize = 40;
    let names = || super::all().into_iter().map(|channel_type| channel_type.name);
    let shown: String = name.chars().take(LONGEST_SHOWN).collect();
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a URL begins with one of {}", names().collect::<Vec<_>>().join(", ")),
    };
    ConfigFault { path: "url".to_owned(), problem: format!("`{shown}` is not a type of channel"), hint: Some(hint) }
}
