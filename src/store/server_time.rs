//! What time it is on the server, from one answer to the next.
//!
//! Several nodes write times into the same rows, and the wall clock of one of them may jump. A node asks the server twice a
//! second who is alive, and is told the time with it; until the next answer it counts on from there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::database::{Database, Dialect};

/// An answer that is older says nothing any more: the machine may have been suspended.
const TRUE_FOR: Duration = Duration::from_secs(60);

/// An answer that took longer to arrive tells a time that may be long past.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// See the module. A SQLite file has no clock of its own, and nothing is ever told of it.
#[derive(Debug, Default)]
pub(super) struct ServerTime {
    told: Mutex<Option<(DateTime<Utc>, Instant)>>,
}

impl ServerTime {
    /// The server said so when it was asked at `asked`.
    pub(super) fn told(&self, database: &Database, asked: Instant, now: DateTime<Utc>) {
        if database.dialect() != Dialect::Sqlite && asked.elapsed() < LONGEST_WAY {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Instant::now()));
        }
    }

    /// Now, where it was told lately.
    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        let (told, at) = (*self.told.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = at.elapsed();
        if since > TRUE_FOR {
            return None;
        }
        chrono::TimeDelta::from_std(since).ok().map(|since| told + since)
    }
}
