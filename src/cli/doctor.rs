//! `watchbell doctor`.

use clap::Args;
use watchbell_contract::Monitor;

use super::FileFlag;
use super::answer::Answer;
use crate::config::{Configuration, ConfigurationFaults};

/// What follows `doctor`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(
    _arguments: &Arguments,
    loaded: Result<Configuration, ConfigurationFaults>,
    _extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Answer> {
    loaded?;
    Ok(Answer::silent())
}
