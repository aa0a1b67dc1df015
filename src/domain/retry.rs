//! Whether a notification that was given up may be sent again, and along with what.
//!
//! What is sent late must still be true: no alert after its recovery, and none of an incident that is over unless its
//! recovery goes with it.

use std::fmt;

use super::notification::{NotificationId, NotificationStatus, NotificationType};

/// A message of the same incident to the same recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    /// `id`.
    pub id: NotificationId,
    /// `status`.
    pub status: NotificationStatus,
}

/// A notification that somebody wants sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// `id`.
    pub id: NotificationId,
    /// `type`.
    pub notification_type: NotificationType,
    /// `status`.
    pub status: NotificationStatus,
    /// Whether its incident is over; false where it has none.
    pub is_over: bool,
    /// The recovery of the same incident to the same recipient, for an alert or a reminder.
    pub recovery: Option<Relative>,
}

/// How it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// By itself.
    Alone,
    /// Told by this recovery, as is all else of the incident that was given up; where it was given up itself, it is sent
    /// again.
    Through(NotificationId),
}

/// Why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRefusal {
    /// There is none with this id.
    Unknown,
    /// It has not been given up.
    NotGivenUp(NotificationStatus),
    /// It was a trial, and that is over.
    Trial,
    /// Its recovery was sent.
    RecoveryTold(NotificationId),
    /// Its recovery is on its way at this moment.
    RecoveryOnItsWay(NotificationId),
    /// Its incident is over, and no recovery would follow.
    Over,
}

impl fmt::Display for RetryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryRefusal::Unknown => f.write_str("there is no such notification"),
            RetryRefusal::NotGivenUp(status) => {
                write!(f, "it is `{}`, and only what was given up (`failed`) is sent again", status.as_str())
            }
            RetryRefusal::Trial => {
                f.write_str("it was a test, and that is over: `watchbell notify test` sends another")
            }
            RetryRefusal::RecoveryTold(recovery) => write!(
                f,
                "its recovery was sent (notification {}): after that it would say something false",
                recovery.0
            ),
            RetryRefusal::RecoveryOnItsWay(recovery) => write!(
                f,
                "its recovery (notification {}) is being sent at this moment: try again in a minute",
                recovery.0
            ),
            RetryRefusal::Over => f.write_str(
                "its incident is over, and no recovery is owed that would follow: it would say something false",
            ),
        }
    }
}

/// Decides on one notification as it is inside the transaction that will write.
///
/// # Errors
/// Why it is not sent again.
pub fn retry(given_up: &GivenUp) -> Result<Retry, RetryRefusal> {
    use NotificationStatus::{Failed, Held, Merged, Pending, Sending, Sent, Withdrawn};
    if given_up.status != Failed {
        return Err(RetryRefusal::NotGivenUp(given_up.status));
    }
    match given_up.notification_type {
        NotificationType::Alert | NotificationType::Reminder => match given_up.recovery {
            Some(recovery) => match recovery.status {
                Pending | Held | Failed => Ok(Retry::Through(recovery.id)),
                Sending => Err(RetryRefusal::RecoveryOnItsWay(recovery.id)),
                Sent | Merged => Err(RetryRefusal::RecoveryTold(recovery.id)),
                Withdrawn => Err(RetryRefusal::Over),
            },
            None if given_up.is_over => Err(RetryRefusal::Over),
            None => Ok(Retry::Alone),
        },
        NotificationType::Recovery => Ok(Retry::Through(given_up.id)),
        NotificationType::Digest | NotificationType::Notice | NotificationType::SelfTest => Ok(Retry::Alone),
        NotificationType::Test => Err(RetryRefusal::Trial),
    }
}

#[cfg(test)]
mod tests {
    use super::{GivenUp, Relative, Retry, RetryRefusal, retry};
    use crate::domain::{NotificationId, NotificationStatus, NotificationType};

    const OTHER: NotificationId = NotificationId(9);

    fn given_up(notification_type: NotificationType) -> GivenUp {
        GivenUp {
            id: NotificationId(7),
            notification_type,
            status: NotificationStatus::Failed,
            is_over: false,
            recovery: None,
        }
    }

    #[test]
    fn an_alert_never_follows_its_recovery() {
        use NotificationStatus::{Failed, Held, Merged, Pending, Sending, Sent, Withdrawn};
        for notification_type in [NotificationType::Alert, NotificationType::Reminder] {
            let alert = given_up(notification_type);
            assert_eq!(retry(&alert), Ok(Retry::Alone));
            assert_eq!(retry(&GivenUp { is_over: true, ..alert.clone() }), Err(RetryRefusal::Over));
            for (status, expected) in [
                (Pending, Ok(Retry::Through(OTHER))),
                (Held, Ok(Retry::Through(OTHER))),
                (Failed, Ok(Retry::Through(OTHER))),
                (Sending, Err(RetryRefusal::RecoveryOnItsWay(OTHER))),
                (Sent, Err(RetryRefusal::RecoveryTold(OTHER))),
                (Merged, Err(RetryRefusal::RecoveryTold(OTHER))),
                (Withdrawn, Err(RetryRefusal::Over)),
            ] {
                let recovery = Some(Relative { id: OTHER, status });
                assert_eq!(retry(&GivenUp { is_over: true, recovery, ..alert.clone() }), expected, "{status:?}");
            }
        }
    }

    #[test]
    fn a_recovery_tells_what_was_not_told_before_it() {
        assert_eq!(retry(&given_up(NotificationType::Recovery)), Ok(Retry::Through(NotificationId(7))));
    }

    #[test]
    fn only_what_was_given_up_is_sent_again() {
        let sent = GivenUp { status: NotificationStatus::Sent, ..given_up(NotificationType::Digest) };
        assert_eq!(retry(&sent), Err(RetryRefusal::NotGivenUp(NotificationStatus::Sent)));
        assert_eq!(retry(&given_up(NotificationType::Digest)), Ok(Retry::Alone));
        assert_eq!(retry(&given_up(NotificationType::Test)), Err(RetryRefusal::Trial));
    }
}
