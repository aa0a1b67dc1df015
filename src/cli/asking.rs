//! One check for a person who waits for it, and who may lose patience.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::Trouble;
use crate::domain::rules::Rules;
use crate::domain::{FinishedRun, MonitorRow};
use crate::engine::{Kinds, run_once_guarded};
use crate::ports::Clock;

/// A check that is dropped ends what it started, such as a program, within this time, or it is left behind.
const CLEAN_UP: Duration = Duration::from_millis(500);

/// Asks the row's child once.
///
/// # Errors
/// When the person (Ctrl-C) or the system (SIGTERM) ends the command first.
pub(super) async fn ask(
    kinds: Arc<Kinds>,
    row: MonitorRow,
    rules: Arc<Rules>,
    default_zone: chrono_tz::Tz,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<FinishedRun> {
    const ACTION: &str = "cannot listen for signals";
    let mut interrupted = signal(SignalKind::interrupt()).context(ACTION)?;
    let mut terminated = signal(SignalKind::terminate()).context(ACTION)?;
    tokio::select! {
        run = run_once_guarded(kinds, row, rules, default_zone, clock) => return Ok(run),
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    tokio::time::sleep(CLEAN_UP).await;
    Err(Trouble::failed("the check was interrupted; nothing was written").into())
}
