//! What people ask about messages: the story of a run, the outbox, what is to be sent again.

use chrono::{DateTime, Utc};

use super::store::Columns;
use crate::domain::{Facts, NotificationId, RetryRefusal};

/// Everything that is known of one run and of whom it told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story {
    /// The row of `monitor_runs`.
    pub run: Columns,
    /// The incident that the run belongs to.
    pub incident: Option<Columns>,
    /// What the run owes to people, in the order of the ids.
    pub notifications: Vec<Ledger>,
    /// What was owed between this run and the next one without a run: after an edit by hand.
    pub without_run: Vec<Ledger>,
}

/// One notification, and what became of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// The row, without its body and facts.
    pub notification: Columns,
    /// The row that tells it, where it was merged.
    pub merged_into: Option<Columns>,
    /// What was decided and tried, in order: `at`, `event`, `detail`.
    pub events: Vec<Columns>,
    /// What became of the row that tells it.
    pub events_of_merged_into: Vec<Columns>,
    /// What must be settled before it is tried: an earlier message of its line, or a digest.
    pub ahead: Option<Columns>,
    /// Where its channel takes nothing now: `since`, `error`.
    pub channel_trouble: Option<Columns>,
}

/// Which notifications are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxFilter {
    /// Words of `status`; empty: what is not settled, and what was given up.
    pub statuses: Vec<String>,
    /// Only to this recipient.
    pub recipient: Option<String>,
    /// At most so many, the oldest first.
    pub limit: u32,
}

/// What became of one wish to send again: which others go with it, or why not.
pub type Retried = (NotificationId, Result<Vec<NotificationId>, RetryRefusal>);

/// A trial that is sent at once by whoever queues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// To whom.
    pub recipient: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The same in parts.
    pub facts: Facts,
    /// What asked for it, for the ledger.
    pub rule: String,
    /// Until when nobody else may take it.
    pub lease_until: DateTime<Utc>,
}
