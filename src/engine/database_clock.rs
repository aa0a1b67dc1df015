//! The wall clock, corrected to the database's: ticks are instants on that clock, so that all nodes mean the same ones.
//!
//! Each question to the database gives bounds: its clock was read after the question left here and before the answer
//! came. The correction is moved just as far as the bounds demand, so that a slow answer moves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

use crate::ports::Clock;

/// Databases keep milliseconds and cut off the rest.
const CUT_OFF: TimeDelta = TimeDelta::milliseconds(1);

/// See the module.
pub(super) struct DatabaseClock {
    own: Arc<dyn Clock>,
    /// What is added to the own clock, in microseconds.
    correction: AtomicI64,
}

impl DatabaseClock {
    pub(super) fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, correction: AtomicI64::new(0) }
    }

    /// The own clock, uncorrected: for the bounds of [`DatabaseClock::follow`].
    pub(super) fn own(&self) -> DateTime<Utc> {
        self.own.now()
    }

    /// How far the own clock is ahead of the database's at least, which said `database` to a question that was asked at
    /// `asked` and answered at `answered` by the own clock; negative: behind.
    pub(super) fn ahead(asked: DateTime<Utc>, database: DateTime<Utc>, answered: DateTime<Utc>) -> TimeDelta {
        bounds(asked, database, answered)
            .map_or_else(TimeDelta::zero, |(least, most)| -TimeDelta::zero().clamp(least, most))
    }

    /// Corrects itself by an answer.
    pub(super) fn follow(&self, asked: DateTime<Utc>, database: DateTime<Utc>, answered: DateTime<Utc>) {
        if let Some((least, most)) = bounds(asked, database, answered) {
            let correction = TimeDelta::microseconds(self.correction.load(Ordering::Relaxed)).clamp(least, most);
            self.correction.store(correction.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// How far the own clock is ahead of the database's, as far as is known.
    pub(super) fn skew(&self) -> TimeDelta {
        -TimeDelta::microseconds(self.correction.load(Ordering::Relaxed))
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> DateTime<Utc> {
        self.own.now() + TimeDelta::microseconds(self.correction.load(Ordering::Relaxed))
    }
}

/// What may have to be added to the own clock. `None`: it was set meanwhile, and tells nothing.
fn bounds(asked: DateTime<Utc>, database: DateTime<Utc>, answered: DateTime<Utc>) -> Option<(TimeDelta, TimeDelta)> {
    let (least, most) = (database - answered, database + CUT_OFF - asked);
    (least <= most).then_some((least, most))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::DatabaseClock;
    use crate::ports::{Clock, SystemClock};

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_slow_answer_moves_nothing_and_a_true_difference_is_made_good() {
        let clock = DatabaseClock::new(Arc::new(SystemClock));
        clock.follow(at(0), at(3_000), at(5_000));
        assert_eq!(clock.skew(), TimeDelta::zero());
        clock.follow(at(0), at(1_510), at(10));
        assert_eq!(clock.skew(), TimeDelta::milliseconds(-1_500));
        assert!((clock.now() - Utc::now() - TimeDelta::milliseconds(1_500)).abs() < TimeDelta::milliseconds(100));
        clock.follow(at(0), at(1_200), at(900));
        assert_eq!(clock.skew(), TimeDelta::milliseconds(-1_201), "as little as the bounds demand");
    }

    #[test]
    fn the_least_that_is_certain_counts_against_a_node() {
        assert_eq!(DatabaseClock::ahead(at(0), at(-2_000), at(500)), TimeDelta::milliseconds(1_999));
        assert_eq!(DatabaseClock::ahead(at(0), at(5_000), at(1_000)), TimeDelta::seconds(-4));
        assert_eq!(DatabaseClock::ahead(at(0), at(400), at(1_000)), TimeDelta::zero());
        assert_eq!(DatabaseClock::ahead(at(5_000), at(0), at(1_000)), TimeDelta::zero(), "it was set meanwhile");
    }
}
