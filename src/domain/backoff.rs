//! How long to wait before the next attempt.

use chrono::TimeDelta;

/// Exponential backoff with jitter and a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failed attempt.
    pub first: TimeDelta,
    /// Never longer than this.
    pub longest: TimeDelta,
    /// After this span since the message was queued it is given up.
    pub give_up_after: TimeDelta,
    /// And not before it failed so often: a machine that was off for a week, or whose clock was set forward, has not
    /// tried in earnest when its first attempt fails because the network is not up yet.
    pub least_attempts: u32,
}

/// For messages to people. A mail server that was down is found again within a minute of its return, and is waited
/// for over a long weekend.
pub const DELIVERY_BACKOFF: Backoff = Backoff {
    first: TimeDelta::seconds(1),
    longest: TimeDelta::seconds(60),
    give_up_after: TimeDelta::days(4),
    least_attempts: 100,
};

impl Backoff {
    /// Whether a message that was queued `age` ago is given up after its failed attempt number `attempts`.
    pub fn is_given_up(&self, age: TimeDelta, attempts: u32) -> bool {
        age > self.give_up_after && attempts >= self.least_attempts
    }

    /// The wait after `attempts` failed attempts (from 1). `seed` spreads equal waits over the upper half of the
    /// span, so that what failed together does not come back together.
    pub fn wait(&self, attempts: u32, seed: u64) -> TimeDelta {
        let doublings = attempts.saturating_sub(1).min(20);
        let full = self.first.num_milliseconds().saturating_mul(1 << doublings).min(self.longest.num_milliseconds());
        // SplitMix64's finalizer: equal seeds of neighbouring attempts give unrelated fractions.
        let mut mixed = seed.wrapping_add(u64::from(attempts).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let half = full / 2;
        let jitter = i64::try_from(mixed % u64::try_from(half.max(1)).unwrap_or(1)).unwrap_or(0);
        TimeDelta::milliseconds(full - half + jitter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use chrono::TimeDelta;

    use super::DELIVERY_BACKOFF;

    #[test]
    fn what_was_hardly_tried_is_not_given_up() {
        let (young, old) = (TimeDelta::days(4), TimeDelta::days(5));
        assert!(!DELIVERY_BACKOFF.is_given_up(old, 1), "off for five days");
        assert!(!DELIVERY_BACKOFF.is_given_up(young, 6_000));
        assert!(DELIVERY_BACKOFF.is_given_up(old, 100));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(attempts in 1_u32..5_000, seed: u64) {
            let wait = DELIVERY_BACKOFF.wait(attempts, seed);
            assert!(wait >= DELIVERY_BACKOFF.first / 2 && wait <= DELIVERY_BACKOFF.longest, "{wait}");
        }

        #[test]
        fn waits_grow(seed: u64) {
            assert!(DELIVERY_BACKOFF.wait(1, seed) <= DELIVERY_BACKOFF.wait(3, seed));
            assert!(DELIVERY_BACKOFF.wait(3, seed) <= DELIVERY_BACKOFF.wait(5, seed));
        }
    }
}
