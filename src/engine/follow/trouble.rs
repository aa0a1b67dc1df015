//! Says in the log when something that is read again and again begins to fail, and when it works again.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::ports::StoreError;

/// Whether reading one thing failed the last time.
#[derive(Debug, Default)]
pub(super) struct Trouble(AtomicBool);

impl Trouble {
    /// `error`: how it went now. Each thing has a trouble of its own, so that one that works does not speak for another. Not
    /// every look is told, only where it turns.
    pub(super) fn report(&self, error: Option<StoreError>, what: &'static str) {
        let was_in_trouble = self.0.swap(error.is_some(), Ordering::AcqRel);
        match error {
            Some(error) if !was_in_trouble => {
                tracing::error!(%error, "{what} cannot be read; what was last known counts, and it is tried again");
            }
            None if was_in_trouble => tracing::info!("{what} can be read again"),
            Some(_) | None => {}
        }
    }
}
