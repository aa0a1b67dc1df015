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
        let is_first = self.work.is_empty();
        self.work.extend(work);
        // What comes while others wait is looked at along with them: it neither counts as a look nor puts theirs off.
        if is_first && !self.work.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MonitorId;
    use crate::ports::Work;

    fn handed_in() -> HandedIn {
        HandedIn { work: Work::Edit { monitor: MonitorId(1), config_error: None, next_run_at: None }, began: None }
    }

    #[test]
    fn rows_that_are_locked_later_do_not_put_off_those_before_them() {
        let mut locked = LockedOut::default();
        locked.add([handed_in()].into_iter());
        let first_look = locked.tried_at;
        (0..100).for_each(|_| locked.add([handed_in()].into_iter()));
        assert_eq!(locked.tried_at, first_look);
        assert!(!locked.is_given_up(), "a look is a look, however much comes meanwhile");
        locked.tried_at = Instant::now().checked_sub(LOCKED_WAIT);
        assert_eq!(locked.take_due().len(), 101);
        locked.add(std::iter::empty());
        assert_eq!(locked.attempts, 0);
    }
}
