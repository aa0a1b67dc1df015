//! `watchbell config`: what is in effect, and where it was written.

use clap::Args;

use super::FileFlag;
use super::answer::Answer;
use super::table;
use crate::config::Configuration;

/// What follows `config`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Every key with its value and its source, secrets masked.
///
/// # Errors
/// When the values cannot be written as JSON.
pub(super) fn config(arguments: &Arguments, configuration: &Configuration) -> anyhow::Result<Answer> {
    if arguments.json {
        return Answer::of_json(&configuration.effective());
    }
    let rows: Vec<Vec<String>> = configuration
        .effective()
        .iter()
        .map(|value| vec![value.key.clone(), value.source.to_string(), value.shown()])
        .collect();
    Ok(Answer::of_text(table::aligned(&["key", "written in", "value"], &rows, usize::MAX)))
}
