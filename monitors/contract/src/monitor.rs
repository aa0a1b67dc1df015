//! The trait that every kind implements, and what a check is told of its run.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{ConfigFaults, ConfigReader, Manifest, Outcome};

/// A monitor kind. One value serves all rows of its kind, so it holds no state of any row.
pub trait Monitor: Send + Sync + 'static {
    /// How this kind describes itself.
    fn manifest(&self) -> &Manifest;

    /// Reads a row's `config` into a check that can be asked. Pure: no I/O, no clock; it runs on every tick.
    ///
    /// # Errors
    /// All faults of the config at once. They become the row's `config_error`.
    fn prepare(&self, config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults>;
}

/// A check that is ready to be asked once.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// Asks. The future may be dropped at any await point (time-out, shutdown): whatever it opened must then close
    /// by itself. Use async I/O; a check that blocks its thread is reported as failed at its time-out.
    ///
    /// # Errors
    /// An error counts as a failed outcome whose message is the chain of causes, so `?` may be used freely.
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome>;
}

/// What a check is told of the run that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckContext {
    /// The run's instant: the tick, or the start of a run without one. The end of the window that is looked at.
    pub tick: DateTime<Utc>,
    /// The schedule's instant before `tick`, also on the first run. The begin of the window.
    pub since: DateTime<Utc>,
    /// How long this check may take; the engine stops it then. For handing on to servers and programs.
    pub timeout: Duration,
}
