//! The dead-man's switch: something outside that raises the alarm when it is not heard of for a while.

use async_trait::async_trait;

/// Why it could not be told. Never any part of its URL, which is a secret.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PingError {
    /// For people.
    pub reason: String,
}

/// Tells it that this node is well.
#[async_trait]
pub trait Pinger: Send + Sync + 'static {
    /// Tells it once, within a bounded time.
    ///
    /// # Errors
    /// When it was not reached, or did not take it.
    async fn ping(&self) -> Result<(), PingError>;
}
