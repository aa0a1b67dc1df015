//! The log, on standard error: text for people, in colours on a terminal only, or JSON.

use std::io::{self, IsTerminal};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Configuration, LogFormat, Source};

/// What is said by a command that answers on standard output anyway, unless a level was asked for.
const LEVEL_OF_ONE_COMMAND: &str = "warn";

/// The scheduler's crate says a line for each job at `info`: 100,000 monitors would be 100,000 lines at each start.
/// sqlx says whole statements at `warn` when they are slow or wait, as behind a lock: what keeps outcomes from being
/// written is said in words by the engine, and the SQL of a row does not belong into the log.
const QUIET: &str = "tokio_cron_scheduler=warn,sqlx=error";

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
    let filter = EnvFilter::try_new(directives(level)).with_context(|| format!("log.level: `{level}` is no filter"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(wants_colours());
    let started = match configuration.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A program that embeds Watchbell and has a subscriber of its own keeps it.
    drop(started);
    Ok(())
}

/// The level with words for noisy crates before it, so that a level for such a crate overrides them.
fn directives(level: &str) -> String {
    let is_quieter = ["off", "error"].iter().any(|quiet| level.eq_ignore_ascii_case(quiet));
    if is_quieter { level.to_owned() } else { format!("{QUIET},{level}") }
}

/// <https://no-color.org>
fn wants_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn level(configuration: &Configuration, speaker: Speaker) -> &str {
    let level = configuration.effective().iter().find(|value| value.key == "log.level");
    let is_default = level.is_some_and(|value| value.source == Source::Default);
    match speaker {
        Speaker::OneCommand if is_default => LEVEL_OF_ONE_COMMAND,
        Speaker::OneCommand | Speaker::Node => &configuration.log.level,
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::directives;

    #[test]
    fn libraries_are_quiet_unless_asked() {
        let filter = |level| EnvFilter::try_new(directives(level)).unwrap().to_string();
        assert_eq!(filter("info"), "tokio_cron_scheduler=warn,sqlx=error,info");
        assert_eq!(filter("info,tokio_cron_scheduler=debug"), "tokio_cron_scheduler=debug,sqlx=error,info");
        assert_eq!(filter("off"), "off");
    }
}
