//! Where and how a message is delivered.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::OutboxRow;

/// What a channel says of a message that it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// The service's answer, for the ledger; one line, never a secret.
    pub answer: String,
    /// What the service calls the message, where replies and edits need it: a Matrix event id, a Slack `ts`.
    pub external_id: Option<String>,
}

/// Why a message was not taken. The text is the service's answer or the cause; one line, never a secret, never the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Nothing can be delivered over this channel now: unreachable, busy (`429`), wrong credentials (somebody will mend
    /// them). The engine lets the channel's other messages wait as well, and tries with one whether it works again.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// How long the service asks to wait, where it says.
        after: Option<Duration>,
    },
    /// This message may be taken later; others may be taken now.
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

    /// Whether it obeys [`OutboxRow::edits_external_id`].
    fn can_edit(&self) -> bool {
        false
    }

    /// How many messages may be on their way over it at a time. One keeps the order of a room's messages.
    fn max_in_flight(&self) -> usize {
        1
    }

    /// Whether a program reads it that keeps incidents apart: then it gets every message, and none is merged into
    /// another.
    fn wants_each(&self) -> bool {
        false
    }

    /// Where people write commands, where the channel listens to any.
    fn inbox(&self) -> Option<&dyn Inbox> {
        None
    }
}

/// Where channels come from.
pub trait ChannelSource: Send + Sync + 'static {
    /// What delivers to recipients that are e-mail addresses.
    fn mail(&self) -> Arc<dyn Channel>;

    /// The channel of a row of `channels`, by its URL. Nothing is connected to.
    ///
    /// # Errors
    /// All that is wrong with the URL, with hints, without any secret.
    fn open(&self, url: &str) -> Result<Arc<dyn Channel>, String>;
}

/// Mail and nothing else.
pub struct MailOnly(pub Arc<dyn Channel>);

impl ChannelSource for MailOnly {
    fn mail(&self) -> Arc<dyn Channel> {
        self.0.clone()
    }

    fn open(&self, _url: &str) -> Result<Arc<dyn Channel>, String> {
        Err("this installation delivers mail only".to_owned())
    }
}

/// A command that a person wrote, by somebody who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What the service calls it: for the reply, and as its idempotency key.
    pub id: String,
    /// Who wrote it, as the service calls them.
    pub sender: String,
    /// Its text, from the `!` on, one line.
    pub text: String,
    /// Whether `sender` is allowed to command. What others write is answered with a refusal and does nothing.
    pub is_allowed: bool,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Where to go on.
    pub cursor: String,
}

/// The listening side of a channel.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Waits up to about half a minute for commands after `cursor`; `None`: from now on.
    ///
    /// # Errors
    /// What keeps it from listening.
    async fn receive(&self, cursor: Option<&str>) -> Result<Received, DeliveryError>;

    /// Answers a command; the same answer twice must show once where the service can do that.
    ///
    /// # Errors
    /// What keeps the answer from being delivered.
    async fn reply(&self, to: &Command, text: &str) -> Result<(), DeliveryError>;
}
