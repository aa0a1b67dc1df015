//! When a channel is in trouble, when that is over, and what the admins are told of both.
//!
//! A lane whose messages are due for long does not drain; one that refused messages for good loses them. Either is an
//! episode, told once to each admin over another lane, and its end is told once as well. The notices themselves never
//! count as failures, so that trouble with telling of trouble does not go round in circles.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use watchbell_contract::Severity;

use crate::domain::facts::Facts;
use crate::domain::message::subject;
use crate::domain::notification::{NewNotification, NotificationId, NotificationType};
use crate::domain::planning::MAIL_LANE;
use crate::domain::text::one_line;
use crate::domain::transition::State;

/// `rule` of the notices; they are found by it.
pub const CHANNEL_TROUBLE: &str = "channel trouble";
/// A lane with a message that is due for so long does not drain. Retries and short outages of a service stay below.
const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);
/// It drains again when nothing is due for longer than this.
const DRAINED_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// Messages given up are looked at for so long.
pub const FAILURE_WINDOW: TimeDelta = TimeDelta::hours(1);
/// Messages of a lane are counted up to this: a look at a long backlog stays cheap.
pub const MOST_COUNTED: u32 = 10_000;
/// What of an error is told.
const LONGEST_ERROR: usize = 500;

/// How the outbox drains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxState {
    /// Lanes of which there is something to say.
    pub lanes: Vec<LaneState>,
    /// When the oldest message was queued that was not even looked at yet.
    pub unplanned_since: Option<DateTime<Utc>>,
}

/// How one lane drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// [`MAIL_LANE`], or the name of a channel.
    pub lane: String,
    /// What waits.
    pub waiting: Option<Waiting>,
    /// What was given up lately.
    pub failures: Option<Failures>,
    /// The notice of an episode whose end was not told yet.
    pub told_trouble: Option<NotificationId>,
}

/// What waits in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The message that is due longest of those that could be tried.
    pub oldest: NotificationId,
    /// Since when it is due.
    pub due_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// What the channel said to it.
    pub last_error: Option<String>,
    /// How many messages wait, up to [`MOST_COUNTED`].
    pub count: u64,
}

/// What was given up in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// The first.
    pub first: NotificationId,
    /// How many, up to [`MOST_COUNTED`].
    pub count: u64,
    /// What was said to the last of them.
    pub last_error: Option<String>,
}

/// What is wrong with a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneTrouble<'a> {
    /// It does not drain.
    Stuck(&'a Waiting),
    /// It refused messages for good.
    Refuses(&'a Failures),
}

impl LaneState {
    /// What is wrong with it. `up_for`: how long this node runs; what was due while no node ran is no trouble of the
    /// channel unless it was tried since. A channel that is switched off holds its messages, and is not stuck.
    pub fn trouble(&self, now: DateTime<Utc>, up_for: TimeDelta, is_active: bool) -> Option<LaneTrouble<'_>> {
        let stuck = self.waiting.as_ref().filter(|waiting| {
            let is_of_channel = waiting.attempts > 0 || up_for >= STUCK_AFTER;
            is_active && is_of_channel && now - waiting.due_at >= STUCK_AFTER
        });
        stuck.map(LaneTrouble::Stuck).or_else(|| self.failures.as_ref().map(LaneTrouble::Refuses))
    }

    /// Whether nothing is wrong with it any more. Later than the end of [`LaneState::trouble`], so that a lane at the
    /// edge is not told of again and again.
    pub fn is_drained(&self, now: DateTime<Utc>, is_active: bool) -> bool {
        let waits = self.waiting.as_ref().is_some_and(|waiting| now - waiting.due_at > DRAINED_WITHIN);
        self.failures.is_none() && (!waits || !is_active)
    }

    /// `origin` of the notices of a lane.
    pub fn origin_of(lane: &str) -> String {
        format!("channel {lane}")
    }
}

impl LaneTrouble<'_> {
    /// The message by which an episode is known.
    pub fn first(&self) -> NotificationId {
        match self {
            LaneTrouble::Stuck(waiting) => waiting.oldest,
            LaneTrouble::Refuses(failures) => failures.first,
        }
    }

    /// A sentence.
    pub fn told(&self) -> String {
        match self {
            LaneTrouble::Stuck(waiting) => format!(
                "{} and the oldest is due since {}",
                counted(waiting.count, "waits", "wait"),
                waiting.due_at.to_rfc3339_opts(SecondsFormat::Secs, true)
            ),
            LaneTrouble::Refuses(failures) => {
                format!("{} given up within the last hour", counted(failures.count, "was", "were"))
            }
        }
    }

    fn last_error(&self) -> Option<&str> {
        match self {
            LaneTrouble::Stuck(waiting) => waiting.last_error.as_deref(),
            LaneTrouble::Refuses(failures) => failures.last_error.as_deref(),
        }
    }
}

/// The notice that a lane is in trouble.
pub fn trouble_notice(lane: &str, trouble: LaneTrouble<'_>, recipient: &str, now: DateTime<Utc>) -> NewNotification {
    let (what, hint) = match trouble {
        LaneTrouble::Stuck(_) => (
            "messages do not get through",
            "Nothing is lost: what waits goes out, in order, as soon as the channel takes it. `watchbell doctor` says \
             what is wrong; a channel that is to stay down is switched off with is_active = 0.",
        ),
        LaneTrouble::Refuses(_) => (
            "messages are refused for good",
            "What was given up is kept. Mend the address or the channel; then `watchbell outbox retry --all` sends again \
             what was given up.",
        ),
    };
    let error = trouble.last_error().map_or_else(
        || "It was not tried yet.".to_owned(),
        |error| format!("The last error: {}", one_line(error, LONGEST_ERROR)),
    );
    let body = format!(
        "Channel: {}\nNotification: notice\nSeverity: critical\nTime: {}\n\n{}.\n{error}\n\n{hint}\n",
        named(lane),
        now.to_rfc3339_opts(SecondsFormat::Secs, true),
        trouble.told(),
    );
    notice(lane, recipient, now, State::Alert, what, body)
}

/// The notice that the trouble of a lane is over.
pub fn over_notice(lane: &str, recipient: &str, now: DateTime<Utc>) -> NewNotification {
    let body = format!(
        "Channel: {}\nNotification: notice\nSeverity: critical\nTime: {}\n\nThe trouble is over: nothing waits any \
         more that is due, and nothing was given up within the last hour.\n",
        named(lane),
        now.to_rfc3339_opts(SecondsFormat::Secs, true),
    );
    notice(lane, recipient, now, State::Ok, "messages get through again", body)
}

fn notice(lane: &str, recipient: &str, now: DateTime<Utc>, state: State, what: &str, body: String) -> NewNotification {
    NewNotification {
        notification_type: NotificationType::Notice,
        // Quiet hours do not hold it: whoever is to be woken over this lane is not.
        severity: Severity::Critical,
        recipient: recipient.to_owned(),
        subject: subject(NotificationType::Notice, &format!("{}: {what}", shown(lane))),
        body,
        facts: Facts { at: Some(now), state: Some(state), ..Facts::default() },
        rule: CHANNEL_TROUBLE.to_owned(),
        origin: LaneState::origin_of(lane),
        hold: None,
    }
}

fn named(lane: &str) -> String {
    if lane == MAIL_LANE { "mail".to_owned() } else { one_line(lane, 100).into_owned() }
}

fn shown(lane: &str) -> String {
    if lane == MAIL_LANE { named(lane) } else { format!("channel {}", named(lane)) }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 message {one}"),
        count if count >= u64::from(MOST_COUNTED) => format!("{count} messages or more {many}"),
        count => format!("{count} messages {many}"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{Failures, LaneState, LaneTrouble, Waiting, trouble_notice};
    use crate::domain::NotificationId;

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn lane(minutes_due: i64, attempts: u32) -> LaneState {
        let waiting = Waiting {
            oldest: NotificationId(7),
            due_at: now() - TimeDelta::minutes(minutes_due),
            attempts,
            last_error: Some("421 away".to_owned()),
            count: 3,
        };
        LaneState { lane: "@".to_owned(), waiting: Some(waiting), failures: None, told_trouble: None }
    }

    #[test]
    fn a_lane_is_stuck_when_its_channel_takes_nothing_for_long() {
        let (fresh, long) = (TimeDelta::minutes(1), TimeDelta::hours(1));
        for (minutes, attempts, up_for, is_active, expected) in [
            (9, 5, long, true, false),
            (10, 5, long, true, true),
            (10, 5, fresh, true, true),
            // It waited while no node ran, and was not tried yet.
            (60, 0, fresh, true, false),
            (60, 0, long, true, true),
            (60, 5, long, false, false),
        ] {
            let is_stuck =
                matches!(lane(minutes, attempts).trouble(now(), up_for, is_active), Some(LaneTrouble::Stuck(_)));
            assert_eq!(is_stuck, expected, "{minutes} {attempts} {up_for} {is_active}");
        }
    }

    #[test]
    fn it_is_over_when_nothing_is_due_and_nothing_was_refused() {
        assert!(!lane(2, 1).is_drained(now(), true));
        assert!(lane(2, 1).is_drained(now(), false));
        assert!(lane(0, 1).is_drained(now(), true));
        let refusing = LaneState {
            waiting: None,
            failures: Some(Failures { first: NotificationId(3), count: 1, last_error: None }),
            ..lane(0, 0)
        };
        assert!(!refusing.is_drained(now(), true));
        let trouble = refusing.trouble(now(), TimeDelta::zero(), true).unwrap();
        assert_eq!(
            (trouble.first(), trouble.told()),
            (NotificationId(3), "1 message was given up within the last hour".to_owned())
        );
    }

    #[test]
    fn the_notice_says_what_waits_and_why() {
        let lane = lane(15, 4);
        let trouble = lane.trouble(now(), TimeDelta::hours(1), true).unwrap();
        let notice = trouble_notice("@", trouble, "ops-hook", now());
        assert_eq!(notice.subject, "[Watchbell] mail: messages do not get through");
        for words in
            ["3 messages wait and the oldest is due since 2026-11-22T09:45:00Z.", "421 away", "Nothing is lost"]
        {
            assert!(notice.body.contains(words), "{words}: {}", notice.body);
        }
    }
}
