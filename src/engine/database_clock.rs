//! The database's time: ticks are instants on that clock, so that all nodes mean the same ones.
//!
//! Between two answers of the database it goes on by the clock since boot, which nobody sets. By the wall clock, a node
//! whose wall clock jumps would run ticks that are still to come, until it asks the database again.
//!
//! Each question to the database gives bounds: its clock was read after the question left here and before the answer
//! came. The correction is moved just as far as the bounds demand, so that a slow answer moves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

use super::lease::BootTime;
use crate::ports::Clock;

/// Databases keep milliseconds and cut off the rest.
const CUT_OFF: TimeDelta = TimeDelta::milliseconds(1);
/// Of the correction: the database was never asked, and the wall clock counts.
const NEVER_ASKED: i64 = i64::MIN;

/// See the module.
pub(super) struct DatabaseClock {
    own: Arc<dyn Clock>,
    /// What is added to the time since boot, in microseconds, for the database's since 1970.
    correction: AtomicI64,
}

/// A look at both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    wall: DateTime<Utc>,
    since_boot: BootTime,
}

impl DatabaseClock {
    pub(super) fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, correction: AtomicI64::new(NEVER_ASKED) }
    }

    /// Just before the database is asked, and just after.
    pub(super) fn read(&self) -> Reading {
        Reading { wall: self.own.now(), since_boot: BootTime::now() }
    }

    /// How far the wall clock is ahead of the database's at least, which said `database` to a question that was asked and
    /// answered then; negative: behind.
    pub(super) fn ahead(asked: Reading, database: DateTime<Utc>, answered: Reading) -> TimeDelta {
        let (least, most) = (database - answered.wall, database + CUT_OFF - asked.wall);
        // Else it was set meanwhile, and tells nothing.
        if least <= most { -TimeDelta::zero().clamp(least, most) } else { TimeDelta::zero() }
    }

    /// Corrects itself by an answer.
    pub(super) fn follow(&self, asked: Reading, database: DateTime<Utc>, answered: Reading) {
        let least = database.timestamp_micros().saturating_sub(answered.since_boot.micros());
        let most = (database + CUT_OFF).timestamp_micros().saturating_sub(asked.since_boot.micros());
        let now = match self.correction.load(Ordering::Relaxed) {
            NEVER_ASKED => answered.wall.timestamp_micros().saturating_sub(answered.since_boot.micros()),
            correction => correction,
        };
        if least <= most {
            self.correction.store(now.clamp(least, most), Ordering::Relaxed);
        }
    }

    /// How far the wall clock is ahead of the database's, as far as is known.
    pub(super) fn skew(&self) -> TimeDelta {
        let Reading { wall, since_boot } = self.read();
        wall - self.at(wall, since_boot)
    }

    fn at(&self, wall: DateTime<Utc>, since_boot: BootTime) -> DateTime<Utc> {
        match self.correction.load(Ordering::Relaxed) {
            NEVER_ASKED => wall,
            correction => {
                DateTime::from_timestamp_micros(since_boot.micros().saturating_add(correction)).unwrap_or(wall)
            }
        }
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> DateTime<Utc> {
        let Reading { wall, since_boot } = self.read();
        self.at(wall, since_boot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chrono::{DateTime, TimeDelta, Utc};

    use super::{DatabaseClock, Reading};
    use crate::engine::lease::BootTime;
    use crate::ports::Clock;

    /// A wall clock that is set by hand.
    struct Wall(Mutex<DateTime<Utc>>);

    impl Clock for Wall {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }
    }

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
    }

    /// So many ms after the boot, with a wall clock that was right then.
    fn reading(millis: i64) -> Reading {
        Reading { wall: at(millis), since_boot: BootTime::at_millis(millis.unsigned_abs()) }
    }

    /// What it says so many ms after the boot, ahead of [`at`].
    fn ahead_at(clock: &DatabaseClock, millis: i64) -> TimeDelta {
        let reading = reading(millis);
        clock.at(reading.wall, reading.since_boot) - reading.wall
    }

    #[test]
    fn a_slow_answer_moves_nothing_and_a_true_difference_is_made_good() {
        let clock = DatabaseClock::new(Arc::new(Wall(Mutex::new(at(0)))));
        clock.follow(reading(0), at(3_000), reading(5_000));
        assert_eq!(ahead_at(&clock, 5_000), TimeDelta::zero());
        clock.follow(reading(0), at(1_510), reading(10));
        assert_eq!(ahead_at(&clock, 10), TimeDelta::milliseconds(1_500));
        clock.follow(reading(0), at(1_200), reading(900));
        assert_eq!(ahead_at(&clock, 900), TimeDelta::milliseconds(1_201), "as little as the bounds demand");
    }

    #[test]
    fn a_wall_clock_that_jumps_moves_no_tick() {
        let wall = Arc::new(Wall(Mutex::new(at(0))));
        let clock = DatabaseClock::new(wall.clone());
        assert_eq!(clock.now(), at(0), "without a database beside it, the wall clock counts");
        let asked = clock.read();
        clock.follow(asked, at(0), clock.read());
        *wall.0.lock().unwrap() = at(60_000);
        assert!((clock.now() - at(0)).abs() < TimeDelta::seconds(5), "{}", clock.now());
        assert!((clock.skew() - TimeDelta::seconds(60)).abs() < TimeDelta::seconds(5), "{}", clock.skew());
    }

    #[test]
    fn the_least_that_is_certain_counts_against_a_node() {
        let ahead = |asked, database, answered| DatabaseClock::ahead(reading(asked), at(database), reading(answered));
        assert_eq!(ahead(0, -2_000, 500), TimeDelta::milliseconds(1_999));
        assert_eq!(ahead(0, 5_000, 1_000), TimeDelta::seconds(-4));
        assert_eq!(ahead(0, 400, 1_000), TimeDelta::zero());
        assert_eq!(ahead(5_000, 0, 1_000), TimeDelta::zero(), "it was set meanwhile");
    }
}
