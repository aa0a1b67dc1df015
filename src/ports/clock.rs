//! The wall clock.

use chrono::{DateTime, Utc};

/// Tells the time. Tests set it; everything else reads the system's.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock. It may jump either way.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
