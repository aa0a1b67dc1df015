//! Where and how a message is delivered.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::OutboxRow;

/// What a channel says of a message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The service's answer, for the ledger; never a secret.
    pub answer: String,
}

/// Why a message was not taken. The text is the service's answer or the cause; never a secret, never the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It may work later: unreachable, busy, a temporary refusal, wrong credentials (somebody will mend them).
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// How long the service asks to wait, where it says.
        after: Option<Duration>,
    },
    /// It will never work for this message: the address does not exist, the message is refused for what it is.
    #[error("{reason}")]
    Permanent {
        /// What happened.
        reason: String,
    },
}

/// Delivers one message to one recipient, once called; bounded in time and in open connections by itself.
/// The same notification may be handed over again (after a crash): its `uuid` is the idempotency key.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Tries once.
    ///
    /// # Errors
    /// What kind of failure it was, so that the engine can decide on another attempt.
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError>;

    /// One line for people: where messages go, without secrets.
    fn describe(&self) -> String;
}
