//! This node's right to work, by a clock that nobody sets.
//!
//! The database's clock says when a lease ends; this node counts from the moment before it asked for it, on a clock that
//! also goes on while the machine sleeps, and stops a little earlier. So it has stopped before anybody takes over,
//! whatever the wall clocks say, however long the answer took, and also when it was frozen meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use nix::time::{ClockId, clock_gettime};

/// The last part of a lease is not used: between looking at it and beginning a check there is time.
const LEAST_MARGIN: Duration = Duration::from_secs(1);
/// See [`LEAST_MARGIN`]: the larger of both.
const MARGIN_PART: u32 = 10;

/// An instant of the clock since boot, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootTime(u64);

impl BootTime {
    /// Now.
    pub(super) fn now() -> Self {
        // `CLOCK_MONOTONIC` stands still while the machine sleeps. That no clock can be read does not happen on Linux; then
        // there is no lease.
        let read = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        Self(read.map_or(u64::MAX, |since_boot| u64::try_from(since_boot.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Microseconds since boot.
    pub(super) fn micros(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// So many milliseconds after the boot.
    #[cfg(test)]
    pub(super) fn at_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// How long ago `earlier` was.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// See the module. All of it may be asked at any time and costs next to nothing.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The end in [`BootTime`]; 0: there is none.
    ends_at: AtomicU64,
    /// Counts how often a lease was taken that did not follow upon another.
    term: AtomicU64,
    /// When the last of those was asked for, in [`BootTime`].
    taken_at: AtomicU64,
    /// This node is about to stop: what was begun is ended and delivered, no check begins.
    is_leaving: AtomicBool,
}

impl Lease {
    /// Whether this node may work.
    pub(super) fn holds(&self) -> bool {
        BootTime::now().0 < self.ends_at.load(Ordering::Acquire)
    }

    /// Whether it has held for so long without a break.
    pub(super) fn has_held_for(&self, span: TimeDelta) -> bool {
        let span = span.to_std().unwrap_or_default();
        // In this order: whoever sees the new end sees the new beginning as well.
        self.holds() && BootTime::now().since(BootTime(self.taken_at.load(Ordering::Acquire))) >= span
    }

    /// Whether a check may begin.
    pub(super) fn may_begin(&self) -> bool {
        self.holds() && !self.is_leaving()
    }

    /// Whether this node is about to stop.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// From now on no check begins.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// The database took a lease of this length that was asked for at `asked_at`. True: there was none just before.
    pub(super) fn renewed(&self, asked_at: BootTime, length: TimeDelta) -> bool {
        let length = length.to_std().unwrap_or_default();
        let usable = length.saturating_sub((length / MARGIN_PART).max(LEAST_MARGIN));
        let usable = u64::try_from(usable.as_micros()).unwrap_or(u64::MAX);
        let is_new = !self.holds();
        if is_new {
            self.taken_at.store(asked_at.0, Ordering::Release);
            self.term.fetch_add(1, Ordering::AcqRel);
        }
        self.ends_at.store(asked_at.0.saturating_add(usable), Ordering::Release);
        is_new
    }

    /// Ends it at once.
    pub(super) fn give_up(&self) {
        self.ends_at.store(0, Ordering::Release);
    }

    /// Names the unbroken row of leases that holds now.
    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Whether this node was without a lease at any moment since `term` was read, or is now.
    pub(super) fn is_lost_since(&self, term: u64) -> bool {
        !self.holds() || self.term() != term
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::{BootTime, Lease};

    #[test]
    fn a_lease_ends_before_the_database_says_so_and_counts_from_the_question() {
        let lease = Lease::default();
        assert!(!lease.holds());
        let now = BootTime::now();
        assert!(lease.renewed(now, TimeDelta::seconds(10)));
        assert!(lease.holds() && lease.may_begin());
        let term = lease.term();
        assert!(!lease.renewed(BootTime::now(), TimeDelta::seconds(10)), "one follows upon the other");
        assert!(!lease.is_lost_since(term));
        // The answer took nine seconds.
        let asked_at = BootTime(now.0.saturating_sub(9_000_000));
        lease.renewed(asked_at, TimeDelta::seconds(10));
        assert!(!lease.holds() && lease.is_lost_since(term));
        assert!(lease.renewed(BootTime::now(), TimeDelta::seconds(10)));
        assert!(lease.holds() && lease.is_lost_since(term), "a gap stays a gap");
    }

    #[test]
    fn how_long_a_lease_has_held_counts_from_the_last_gap() {
        let lease = Lease::default();
        let ago = |seconds: u64| BootTime(BootTime::now().0.saturating_sub(seconds * 1_000_000));
        lease.renewed(ago(40), TimeDelta::seconds(60));
        lease.renewed(ago(20), TimeDelta::seconds(60));
        assert!(lease.has_held_for(TimeDelta::seconds(30)));
        lease.give_up();
        assert!(!lease.has_held_for(TimeDelta::zero()));
        lease.renewed(ago(20), TimeDelta::seconds(60));
        assert!(lease.has_held_for(TimeDelta::seconds(10)) && !lease.has_held_for(TimeDelta::seconds(30)));
    }

    #[test]
    fn who_leaves_begins_nothing_and_may_still_deliver() {
        let lease = Lease::default();
        lease.renewed(BootTime::now(), TimeDelta::seconds(10));
        lease.leave();
        assert!(lease.holds() && !lease.may_begin());
        lease.give_up();
        assert!(!lease.holds());
        assert!(BootTime::now().since(BootTime(0)) > Duration::ZERO);
    }
}
