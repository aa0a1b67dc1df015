//! The servers that other tests rely on work, and fail, as these tests are told to have it.

mod faketime;
mod killed;
mod mariadb;
mod pgbouncer;
mod postgres;
mod proxy;

use std::time::Duration;

use tokio::time::error::Elapsed;

/// What must not be answered is waited for this long.
const SILENCE: Duration = Duration::from_millis(300);

/// Whether nothing comes for a while.
async fn is_silent<T>(answer: impl Future<Output = T>) -> bool {
    let answer: Result<T, Elapsed> = tokio::time::timeout(SILENCE, answer).await;
    answer.is_err()
}

/// A cell of a table.
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}
