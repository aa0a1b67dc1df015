//! One message to one recipient: the outbox and ledger.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::incident::IncidentId;
use super::monitor::{MonitorId, UnknownWord};
use super::transition::NotificationReason;

/// The `id` of a row of `notifications`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationId(pub i64);

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationType {
    /// X broke.
    Alert,
    /// X is still broken.
    Reminder,
    /// X is healthy again, or is not watched any more.
    Recovery,
}

impl NotificationType {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotificationType::Alert => "alert",
            NotificationType::Reminder => "reminder",
            NotificationType::Recovery => "recovery",
        }
    }
}

impl fmt::Display for NotificationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NotificationType {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "alert" => Ok(NotificationType::Alert),
            "reminder" => Ok(NotificationType::Reminder),
            "recovery" => Ok(NotificationType::Recovery),
            other => Err(UnknownWord { what: "notification type", word: other.to_owned() }),
        }
    }
}

impl From<NotificationReason> for NotificationType {
    fn from(reason: NotificationReason) -> Self {
        match reason {
            NotificationReason::FirstFailure => NotificationType::Alert,
            NotificationReason::StillFailing | NotificationReason::SeverityRose => NotificationType::Reminder,
            NotificationReason::Recovered => NotificationType::Recovery,
        }
    }
}

/// A notification to be queued with the run that owes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// `type`.
    pub kind: NotificationType,
    /// `severity`.
    pub severity: Severity,
    /// `recipient`.
    pub recipient: String,
    /// `subject`, one line.
    pub subject: String,
    /// `body`, plain text.
    pub body: String,
}

/// A queued notification, claimed for one attempt at delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// `id`.
    pub id: NotificationId,
    /// `uuid`: the idempotency key, the same at every attempt.
    pub uuid: String,
    /// The monitor; the row may be gone.
    pub monitor_id: Option<MonitorId>,
    /// The monitor's `uuid`, where its row is still there: for links.
    pub monitor_uuid: Option<String>,
    /// The incident.
    pub incident_id: Option<IncidentId>,
    /// `uuid` of the first notification to this recipient of this incident; this one's own where it is the first.
    /// Messages with the same one belong into one thread.
    pub thread_uuid: String,
    /// What it tells.
    pub kind: NotificationType,
    /// How bad.
    pub severity: Severity,
    /// To whom.
    pub recipient: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Which attempt this is, from 1.
    pub attempts: u32,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
}

/// How one attempt at delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The channel took it.
    Sent {
        /// When.
        at: DateTime<Utc>,
    },
    /// Not taken; it is tried again.
    Retry {
        /// Not before this.
        next_attempt_at: DateTime<Utc>,
        /// What the channel said.
        error: String,
    },
    /// Given up; it is kept and shown.
    Failed {
        /// What the channel said.
        error: String,
    },
}
