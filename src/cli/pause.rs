//! `watchbell pause` and `watchbell resume`.

use clap::Args;

use super::FileFlag;
use super::answer::Answer;
use super::find;
use super::installation::Installation;
use crate::domain::State;

/// What follows `pause` and `resume`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The monitor: its id, uuid or name
    monitor: String,
}

/// Sets `is_active`. A monitor that is so already stays so, and that is no error.
///
/// # Errors
/// When there is no such monitor, or the database cannot be written.
pub(super) async fn set_active(
    arguments: &Arguments,
    installation: &Installation,
    is_active: bool,
) -> anyhow::Result<Answer> {
    let store = installation.store.as_ref();
    let row = find::monitor(store, &arguments.monitor).await?;
    let which = format!("monitor {}", find::called(&row));
    if row.is_active == is_active {
        let state = if is_active { "active" } else { "paused" };
        return Ok(Answer::of_text(format!("{which} was {state} already")));
    }
    store.set_active(row.id, is_active).await?;
    Ok(Answer::of_text(match (is_active, row.state) {
        (true, _) => format!("{which} is active again"),
        (false, State::Ok) => format!("{which} is paused: nothing runs, nothing new is sent"),
        (false, State::Alert) => {
            format!("{which} is paused in alert: its incident stays open, nothing runs, nothing new is sent")
        }
    }))
}
