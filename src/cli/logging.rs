//! The log, on standard error: text for people, in colours on a terminal only, or JSON.

use std::io::{self, IsTerminal};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Configuration, LogFormat, Source};

/// What is said by a command that answers on standard output anyway, unless a level was asked for.
const LEVEL_OF_ONE_COMMAND: &str = "warn";
/// The scheduler's crate notes each job at level `info`, which is a line for each monitor. A filter that names the
/// crate itself has the last word.
const QUIET_CRATES: &str = "tokio_cron_scheduler=warn";

/// Who writes the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// A node, for as long as it runs.
    Node,
    /// A command that ends by itself.
    OneCommand,
}

/// Starts the log of this process.
///
/// # Errors
/// When `log.level` is no filter.
pub(super) fn start(configuration: &Configuration, speaker: Speaker) -> anyhow::Result<()> {
    let level = level(configuration, speaker);
    let filter = EnvFilter::try_new(format!("{QUIET_CRATES},{level}"))
        .with_context(|| format!("log.level: `{level}` is no filter"))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let started = match configuration.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A program that embeds Watchbell and has a subscriber of its own keeps it.
    drop(started);
    Ok(())
}

fn level(configuration: &Configuration, speaker: Speaker) -> &str {
    let level = configuration.effective().iter().find(|value| value.key == "log.level");
    let is_default = level.is_some_and(|value| value.source == Source::Default);
    match speaker {
        Speaker::OneCommand if is_default => LEVEL_OF_ONE_COMMAND,
        Speaker::OneCommand | Speaker::Node => &configuration.log.level,
    }
}
