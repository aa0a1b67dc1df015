//! The installation's configuration: flags over `WATCHBELL_*` variables over `watchbell.toml` over defaults.
//!
//! [`Configuration::load`] gives typed values, or every fault at once, each with its key, where it was written, and a
//! hint. It reads the configuration file and the host's name, nothing else: no secret is resolved, no server asked.
//! [`keys::KEYS`] is the one list of keys; `watchbell config` shows [`Configuration::effective`].
//!
//! figment was tried on paper and not taken: it stops at the first wrong type and knows no lines of the file.

mod assembly;
mod effective;
mod fault;
mod file;
pub mod keys;
mod layers;
mod mask;
mod reader;
mod secret_url;
pub mod secrets;
mod shapes;
mod typed;
mod variables;

pub use effective::EffectiveValue;
pub use fault::{ConfigurationFault, ConfigurationFaults};
pub use layers::Source;
pub use mask::mask_url;
pub use secret_url::SecretUrl;
pub use secrets::ConfiguredSecrets;
pub use typed::{Checks, Configuration, Connection, Deadman, History, Log, LogFormat, Mail, Node, SelfTest};
pub use variables::{Flags, process_environment};

#[cfg(test)]
mod tests;
