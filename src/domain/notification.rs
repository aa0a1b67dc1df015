//! One message to one recipient: the outbox and ledger.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::facts::Facts;
use super::hold::HoldReason;
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
    /// One message for many: it lists what it stands for.
    Digest,
    /// Trouble of the installation itself, or a change of state for programs that follow all of them.
    Notice,
    /// Watchbell is alive: sent on a schedule.
    SelfTest,
    /// A trial, asked for by a person.
    Test,
}

impl NotificationType {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotificationType::Alert => "alert",
            NotificationType::Reminder => "reminder",
            NotificationType::Recovery => "recovery",
            NotificationType::Digest => "digest",
            NotificationType::Notice => "notice",
            NotificationType::SelfTest => "self_test",
            NotificationType::Test => "test",
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
            "digest" => Ok(NotificationType::Digest),
            "notice" => Ok(NotificationType::Notice),
            "self_test" => Ok(NotificationType::SelfTest),
            "test" => Ok(NotificationType::Test),
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

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationStatus {
    /// It goes out as soon as its channel takes it.
    Pending,
    /// It is being tried.
    Sending,
    /// The channel took it.
    Sent,
    /// It is not to be tried before `next_attempt_at`, then it is looked at anew.
    Held,
    /// Another row tells it.
    Merged,
    /// It was held back until it was no longer true.
    Withdrawn,
    /// It was given up.
    Failed,
}

impl NotificationStatus {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotificationStatus::Pending => "pending",
            NotificationStatus::Sending => "sending",
            NotificationStatus::Sent => "sent",
            NotificationStatus::Held => "held",
            NotificationStatus::Merged => "merged",
            NotificationStatus::Withdrawn => "withdrawn",
            NotificationStatus::Failed => "failed",
        }
    }
}

impl FromStr for NotificationStatus {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        use NotificationStatus::{Failed, Held, Merged, Pending, Sending, Sent, Withdrawn};
        let all = [Pending, Sending, Sent, Held, Merged, Withdrawn, Failed];
        let found = all.into_iter().find(|status| status.as_str() == word);
        found.ok_or_else(|| UnknownWord { what: "status of a notification", word: word.to_owned() })
    }
}

/// A notification to be queued with the run that owes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// `type`.
    pub notification_type: NotificationType,
    /// `severity`.
    pub severity: Severity,
    /// `recipient`.
    pub recipient: String,
    /// `subject`, one line.
    pub subject: String,
    /// `body`, plain text.
    pub body: String,
    /// What `subject` and `body` say, for channels that say it in their own way.
    pub facts: Facts,
    /// What chose the recipient, for people: ``people_to_notify``, ``route 3``.
    pub rule: String,
    /// What limits on repetition are counted by.
    pub origin: String,
    /// Set: it is held back until then, and looked at anew.
    pub hold: Option<Hold>,
}

/// Why and until when a notification is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// `next_attempt_at`: when it is looked at anew.
    pub until: DateTime<Utc>,
    /// `hold_reason`, for people and for the next look.
    pub reason: HoldReason,
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
    /// The incident's `uuid`: one key for all that other systems are told of it.
    pub incident_uuid: Option<String>,
    /// `uuid` of the first notification to this recipient of this incident; this one's own where it is the first.
    /// Messages with the same one belong into one thread.
    pub thread_uuid: String,
    /// What the service called that first message, where it was sent and the channel keeps such a name
    /// ([`crate::ports::Delivered::external_id`]): for replies. `None` for the first message itself.
    pub thread_external_id: Option<String>,
    /// What the service called the message that this one is to be edited into, where the channel can
    /// ([`crate::ports::Channel::can_edit`]). `None`: it is a message of its own.
    pub edits_external_id: Option<String>,
    /// What it tells.
    pub notification_type: NotificationType,
    /// How bad.
    pub severity: Severity,
    /// To whom.
    pub recipient: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// What `subject` and `body` say, for channels that say it in their own way.
    pub facts: Facts,
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
        /// The service's answer, for the ledger.
        answer: String,
        /// What the service calls the message, for replies and edits.
        external_id: Option<String>,
    },
    /// Not taken; it is tried again.
    Retry {
        /// Not before this.
        next_attempt_at: DateTime<Utc>,
        /// What the channel said.
        error: String,
    },
    /// Its channel takes nothing now; it is tried again when that takes anything.
    ChannelDown {
        /// What the channel said.
        error: String,
    },
    /// Given up; it is kept and shown.
    Failed {
        /// What the channel said.
        error: String,
    },
}
