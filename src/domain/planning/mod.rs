//! When and how what is owed goes out: at once, later, merged into another message, or not at all.
//!
//! A run queues what it owes in its own transaction. Before anything of it is tried, it is looked at here, once, and
//! whatever is held is looked at anew when its time has come. The order of the gates is the order of the functions in
//! `gates.rs`; each says what it holds, until when, and why, and the ledger keeps that.
//!
//! Nothing is dropped: a row that does not go out is `merged` (another row tells it) or `withdrawn` (nobody was told of
//! it, and it is no longer true).

mod cut_off;
mod digest;
mod gates;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use self::digest::collects;

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Severity;

use super::facts::Facts;
use super::hold::HoldReason;
use super::incident::IncidentId;
use super::monitor::MonitorId;
use super::notification::{Hold, NewNotification, NotificationId, NotificationStatus, NotificationType};
use super::rules::Rules;

/// What the installation says about noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One origin tells one recipient at most once in this span; what else it has to say becomes one further message.
    pub repetition: TimeDelta,
    /// So many messages in `storm_window` reach a recipient one by one; further ones become a digest.
    pub storm_first: usize,
    /// See `storm_first`.
    pub storm_window: TimeDelta,
    /// So many monitors that fail together, and half of all runs meanwhile, mean that the node is cut off.
    pub cut_off_monitors: u32,
    /// How long alerts wait for parents that are being checked.
    pub dependency_wait: TimeDelta,
    /// Who is told of trouble of the installation.
    pub admins: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            repetition: TimeDelta::seconds(60),
            storm_first: 10,
            storm_window: TimeDelta::seconds(10),
            cut_off_monitors: 20,
            dependency_wait: TimeDelta::seconds(3),
            admins: Vec::new(),
        }
    }
}

/// What a channel can do, as far as planning needs it. Mail is one channel for all its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneTraits {
    /// A message can be edited later.
    pub can_edit: bool,
    /// A program reads it that keeps incidents apart: it gets every message, merged into none.
    pub wants_each: bool,
}

/// A notification that is to be planned: new, or held until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `id`.
    pub id: NotificationId,
    /// `monitor_id`.
    pub monitor_id: Option<MonitorId>,
    /// `incident_id`.
    pub incident_id: Option<IncidentId>,
    /// `type`.
    pub notification_type: NotificationType,
    /// `severity`.
    pub severity: Severity,
    /// `recipient`.
    pub recipient: String,
    /// `rule`: what chose the recipient.
    pub rule: String,
    /// `origin`.
    pub origin: String,
    /// `facts`.
    pub facts: Facts,
    /// `created_at`.
    pub created_at: DateTime<Utc>,
    /// Why it was held until now; `None`: it is new.
    pub hold: Option<HoldReason>,
    /// Whether the incident is over.
    pub is_over: bool,
    /// Whether the incident is acknowledged now.
    pub is_acknowledged: bool,
    /// Whether its monitor wants nobody told now (`[]`).
    pub is_unwanted: bool,
    /// The other messages of this incident to this recipient, by id.
    pub siblings: Vec<Sibling>,
    /// Recoveries of earlier incidents of this monitor that are held from this recipient, or not planned yet, by id.
    pub earlier_recoveries: Vec<EarlierRecovery>,
    /// Of a recovery: whether news of a later incident of this monitor went on its way to this recipient already.
    pub is_overtaken: bool,
    /// Of a notice about a node that looked cut off: how many of its incidents are still open.
    pub wave_end: WaveEnd,
}

/// A recovery that has not gone on its way while its monitor has news of a later incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRecovery {
    /// `id`.
    pub id: NotificationId,
    /// Whether it is held; otherwise it is not planned yet.
    pub is_held: bool,
    /// The digest that told of its alert, where that is not settled yet.
    pub waits_for: Option<NotificationId>,
}

/// What became of the incidents of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaveEnd {
    /// How many are still open.
    pub still_open: u32,
    /// How many there were.
    pub total: u32,
}

/// Another message of the same incident to the same recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// `id`.
    pub id: NotificationId,
    /// `type`.
    pub notification_type: NotificationType,
    /// `severity`.
    pub severity: Severity,
    /// `status`.
    pub status: NotificationStatus,
    /// Why it is held, where it is.
    pub hold: Option<HoldReason>,
    /// What it was merged into: a digest, or another of the siblings, which then tells it or not.
    pub merged_into: Option<NotificationId>,
    /// The same, where that is not settled yet.
    pub unsettled_target: Option<NotificationId>,
    /// The child's message.
    pub message: String,
}

/// Good news and bad news are limited apart: a recovery never waits behind alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    /// Alerts and reminders.
    Trouble,
    /// Recoveries.
    Recovery,
    /// Everything that no limit is for.
    Other,
}

impl Sort {
    /// The sort of a type.
    pub const fn of(notification_type: NotificationType) -> Self {
        match notification_type {
            NotificationType::Alert | NotificationType::Reminder => Sort::Trouble,
            NotificationType::Recovery => Sort::Recovery,
            NotificationType::Digest
            | NotificationType::Notice
            | NotificationType::SelfTest
            | NotificationType::Test => Sort::Other,
        }
    }
}

/// A message that a recipient got, or is about to get, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// Its sort; of a digest, that of what it lists.
    pub sort: Sort,
    /// `origin`.
    pub origin: String,
    /// `severity`.
    pub severity: Severity,
    /// `planned_at`: when it was sent on its way.
    pub at: DateTime<Utc>,
    /// What the service calls it; `None` of a digest: what one lists must not be overwritten by the next.
    pub external_id: Option<String>,
    /// The monitor's name, where there is an `external_id`.
    pub monitor_name: String,
    /// The child's message, where there is an `external_id`.
    pub message: String,
}

/// A held message that may become part of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `id`.
    pub id: NotificationId,
    /// Its sort.
    pub sort: Sort,
    /// `origin`.
    pub origin: String,
    /// `severity`.
    pub severity: Severity,
    /// The monitor's name.
    pub monitor_name: String,
    /// The child's message.
    pub message: String,
    /// Whether its incident is over, or its monitor wants nobody told now: an alert is then not told any more.
    pub is_over: bool,
}

/// A monitor that others depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// In alert, not paused, and somebody is, or will be, told of it.
    pub is_down: bool,
    /// Of one that is down: somebody is writing to its incident at this moment, and may be ending it.
    pub is_ending: bool,
    /// Active at all.
    pub is_active: bool,
    /// When it last ran.
    pub last_run_at: Option<DateTime<Utc>>,
}

/// Many monitors that went into alert together on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The node's name.
    pub node: String,
    /// Runs within the span.
    pub runs: u32,
    /// Of them, those that opened an incident.
    pub openings: u32,
    /// When the span began.
    pub since: DateTime<Utc>,
}

/// Everything beside the candidates that a plan depends on.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The time by the database's clock.
    pub now: DateTime<Utc>,
    /// What people say about messages.
    pub rules: Arc<Rules>,
    /// By recipient, newest last; at least the last minute, and not endlessly many.
    pub recent: HashMap<String, Vec<Recent>>,
    /// What is held from recipients of candidates, by recipient and reason.
    pub held: HashMap<(String, HoldReason), Vec<Member>>,
    /// Monitors that those of candidates depend on.
    pub parents: HashMap<MonitorId, Parent>,
    /// Set where many monitors have just failed together.
    pub wave: Option<Wave>,
}

/// One thing to write. Steps are written in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It goes out now, by itself.
    Send {
        /// Which.
        id: NotificationId,
        /// A digest that must be settled before. Whoever writes the step adds the newest one to this recipient that
        /// tells of the same monitor, also where that was made in the same plan.
        waits_for: Option<NotificationId>,
    },
    /// It is held.
    Hold {
        /// Which.
        id: NotificationId,
        /// Until when, and why.
        hold: Hold,
    },
    /// It is no longer true, and nobody was told.
    Withdraw {
        /// Which.
        id: NotificationId,
        /// Why, for people.
        why: &'static str,
    },
    /// Another message tells it.
    Merge {
        /// Which.
        ids: Vec<NotificationId>,
        /// Which tells them.
        into: NotificationId,
    },
    /// It says something else than when it was queued.
    Retell {
        /// Which.
        id: NotificationId,
        /// `subject`.
        subject: String,
        /// `body`.
        body: String,
        /// `facts`.
        facts: Box<Facts>,
    },
    /// A new message that tells all of `members`, and goes out now.
    Digest {
        /// What it says.
        message: Box<NewNotification>,
        /// What it tells.
        members: Vec<NotificationId>,
        /// The message that it is edited into.
        edits: Option<String>,
    },
    /// A new message, which goes out now, or is held.
    Queue {
        /// What it says.
        message: Box<NewNotification>,
    },
}

/// Plans the candidates, in the order of their ids.
pub fn plan(
    candidates: &[Candidate],
    situation: Situation,
    lanes: &BTreeMap<String, LaneTraits>,
    limits: &Limits,
) -> Vec<Step> {
    let mut planner = Planner { situation, lanes, limits, steps: Vec::new(), decided: BTreeMap::new() };
    for candidate in candidates {
        planner.look_at(candidate);
    }
    planner.steps
}

/// The lane of a recipient: all mail is one, each channel is one.
pub fn lane_of(recipient: &str) -> &str {
    if recipient.contains('@') { MAIL_LANE } else { recipient }
}

/// No channel can have this name.
pub const MAIL_LANE: &str = "@";

struct Planner<'a> {
    /// Grows with what is decided.
    situation: Situation,
    lanes: &'a BTreeMap<String, LaneTraits>,
    limits: &'a Limits,
    steps: Vec<Step>,
    /// What became of rows in this plan: what was read of them before it is out of date.
    decided: BTreeMap<NotificationId, NotificationStatus>,
}

impl Planner<'_> {
    fn look_at(&mut self, candidate: &Candidate) {
        if self.decided.contains_key(&candidate.id) {
            return;
        }
        match Sort::of(candidate.notification_type) {
            Sort::Trouble => self.look_at_trouble(candidate),
            Sort::Recovery => self.look_at_recovery(candidate),
            Sort::Other => self.look_at_other(candidate),
        }
    }

    fn traits(&self, candidate: &Candidate) -> LaneTraits {
        self.lanes.get(lane_of(&candidate.recipient)).copied().unwrap_or_default()
    }

    /// Where a sibling stands by now.
    fn status(&self, sibling: &Sibling) -> NotificationStatus {
        self.decided.get(&sibling.id).copied().unwrap_or(sibling.status)
    }

    /// Whether the recipient was told by this sibling, or would be by now if the channel worked. One that another
    /// sibling tells does not count: that one does.
    fn tells(&self, sibling: &Sibling, candidate: &Candidate) -> bool {
        match self.status(sibling) {
            NotificationStatus::Pending
            | NotificationStatus::Sending
            | NotificationStatus::Sent
            | NotificationStatus::Failed => true,
            NotificationStatus::Merged => {
                sibling.merged_into.is_none_or(|into| candidate.siblings.iter().all(|other| other.id != into))
            }
            NotificationStatus::Held | NotificationStatus::Withdrawn => false,
        }
    }

    fn send(&mut self, candidate: &Candidate, waits_for: Option<NotificationId>) {
        self.decided.insert(candidate.id, NotificationStatus::Pending);
        self.steps.push(Step::Send { id: candidate.id, waits_for });
        self.remember(candidate, Sort::of(candidate.notification_type));
    }

    fn remember(&mut self, candidate: &Candidate, sort: Sort) {
        let recent = Recent {
            sort,
            origin: candidate.origin.clone(),
            severity: candidate.severity,
            at: self.situation.now,
            external_id: None,
            monitor_name: String::new(),
            message: String::new(),
        };
        self.situation.recent.entry(candidate.recipient.clone()).or_default().push(recent);
    }

    fn hold(&mut self, candidate: &Candidate, until: DateTime<Utc>, reason: HoldReason) {
        self.decided.insert(candidate.id, NotificationStatus::Held);
        self.steps.push(Step::Hold { id: candidate.id, hold: Hold { until, reason } });
    }

    fn withdraw(&mut self, id: NotificationId, why: &'static str) {
        self.decided.insert(id, NotificationStatus::Withdrawn);
        self.steps.push(Step::Withdraw { id, why });
    }

    fn merge(&mut self, ids: Vec<NotificationId>, into: NotificationId) {
        if !ids.is_empty() {
            self.decided.extend(ids.iter().map(|id| (*id, NotificationStatus::Merged)));
            self.steps.push(Step::Merge { ids, into });
        }
    }
}
