//! Work on rows that somebody has locked: it is tried again now and then, and holds up nothing else.

use std::time::{Duration, Instant};

use super::HandedIn;

/// Between two looks at rows that were locked.
pub(super) const LOCKED_WAIT: Duration = Duration::from_millis(500);
/// After so many looks it is told, and at the end given up.
const LOCKED_ATTEMPTS: u32 = 10;
/// While nothing waits for a time.
const LONG: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Default)]
pub(super) struct LockedOut {
    pub(super) work: Vec<HandedIn>,
    tried_at: Option<Instant>,
    /// How often in a row there was something left.
    attempts: u32,
}

impl LockedOut {
    pub(super) fn add(&mut self, work: impl Iterator<Item = HandedIn>) {
        let before = self.work.len();
        self.work.extend(work);
        if self.work.len() > before {
            if self.attempts == LOCKED_ATTEMPTS {
                tracing::warn!(
                    monitors = self.work.len(),
                    "outcomes of checks wait for rows that somebody's open transaction has locked; end that transaction"
                );
            }
            self.attempts = self.attempts.saturating_add(1);
            self.tried_at = Some(Instant::now());
        }
        if self.work.is_empty() {
            self.attempts = 0;
        }
    }

    pub(super) fn wait(&self) -> Duration {
        if self.work.is_empty() { LONG } else { LOCKED_WAIT }
    }

    pub(super) fn take_due(&mut self) -> Vec<HandedIn> {
        let is_due = self.tried_at.is_none_or(|at| at.elapsed() >= LOCKED_WAIT);
        if is_due { std::mem::take(&mut self.work) } else { Vec::new() }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.attempts > LOCKED_ATTEMPTS
    }
}
