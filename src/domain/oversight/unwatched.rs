//! What is told of a time in which nobody watched: the database or all nodes were away.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use watchbell_contract::Severity;

use crate::domain::{Facts, NewNotification, NotificationType, State, subject};

/// The word in `rule` of such a notice, and in its key.
pub const UNWATCHED: &str = "unwatched";

/// A shorter time is a restart, and not worth a message at night. Counted from the end of the last lease.
pub const WORTH_TELLING: TimeDelta = TimeDelta::seconds(60);

/// What was missed while nobody watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwatched {
    /// When the last lease had ended.
    pub since: DateTime<Utc>,
    /// When somebody took one again.
    pub until: DateTime<Utc>,
    /// Active monitors with at least one tick that was missed.
    pub monitors: u64,
    /// Their ticks.
    pub ticks: u64,
    /// Whether there may be more, since of one monitor only so many are counted.
    pub are_ticks_bounded: bool,
    /// Monitors that are checked once now, for the last of their ticks.
    pub made_up: u64,
}

impl Unwatched {
    /// Nothing counted yet; `None`: it was too short to tell anybody.
    pub fn between(since: DateTime<Utc>, until: DateTime<Utc>) -> Option<Self> {
        (until - since > WORTH_TELLING).then_some(Self {
            since,
            until,
            monitors: 0,
            ticks: 0,
            are_ticks_bounded: false,
            made_up: 0,
        })
    }

    /// The notice for one recipient.
    pub fn notice(&self, recipient: &str) -> NewNotification {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let seconds = (self.until - self.since).num_seconds();
        let more = if self.are_ticks_bounded { " or more" } else { "" };
        let left_out = self.monitors - self.made_up;
        let body = format!(
            "Notification: notice\nSeverity: critical\nFrom: {}\nUntil: {}\nSpan: {seconds} s\n\n\
             Nothing was watched in this time: no node of Watchbell could work, since the database was away or no node \
             ran. What broke and mended meanwhile was not seen.\n\n\
             Missed: {}{more} ticks of {} monitors.\n\
             {} of these monitors are checked once now, for the last tick that they missed. {left_out} are checked at \
             their next tick, as their `missed_tick_policy` says.\n\n\
             `watchbell nodes` shows which nodes are alive; their logs say why they stopped.\n",
            time(self.since),
            time(self.until),
            self.ticks,
            self.monitors,
            self.made_up,
        );
        NewNotification {
            notification_type: NotificationType::Notice,
            // Quiet hours do not hold it: what may be broken now is not known yet.
            severity: Severity::Critical,
            recipient: recipient.to_owned(),
            subject: subject(NotificationType::Notice, &format!("nothing was watched for {seconds} s")),
            body,
            facts: Facts { at: Some(self.until), state: Some(State::Alert), ..Facts::default() },
            rule: UNWATCHED.to_owned(),
            origin: UNWATCHED.to_owned(),
            hold: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::Unwatched;

    #[test]
    fn a_restart_is_not_worth_a_message_and_a_night_is() {
        let since: DateTime<Utc> = "2026-11-22T01:00:00Z".parse().unwrap();
        assert_eq!(Unwatched::between(since, since + TimeDelta::seconds(60)), None);
        let mut unwatched = Unwatched::between(since, since + TimeDelta::minutes(10)).unwrap();
        (unwatched.monitors, unwatched.ticks, unwatched.made_up) = (3, 30, 2);
        let notice = unwatched.notice("ops@x.test");
        assert!(notice.subject.contains("nothing was watched for 600 s"), "{}", notice.subject);
        for words in
            ["From: 2026-11-22T01:00:00Z", "Until: 2026-11-22T01:10:00Z", "30 ticks of 3 monitors", "1 are checked"]
        {
            assert!(notice.body.contains(words), "{words}: {}", notice.body);
        }
    }
}
