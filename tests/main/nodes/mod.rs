//! Several nodes as separate processes over one database: what must hold whatever happens to them.

mod away;
mod belief;
pub(crate) mod database;
pub(crate) mod dice;
pub(crate) mod faults;
pub(crate) mod mailbox;
mod model;
mod placement;
mod record;
mod rolling;
mod storm;
pub(crate) mod targets;
mod verdict;
pub(crate) mod world;

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use database::Database;

/// Storms are heavy: one at a time.
static STORMS: Mutex<()> = Mutex::new(());

#[test]
fn faults_on_postgres_lose_no_tick_and_double_no_message_beyond_what_is_promised() {
    let _alone = STORMS.lock().unwrap_or_else(PoisonError::into_inner);
    storm::storm(Database::postgres());
}

#[test]
fn faults_on_mariadb_lose_no_tick_and_double_no_message_beyond_what_is_promised() {
    let _alone = STORMS.lock().unwrap_or_else(PoisonError::into_inner);
    storm::storm(Database::mariadb());
}

/// In ms since 1970, by the machine's clock.
pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
