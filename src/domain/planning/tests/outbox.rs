//! An outbox in memory: it reads what a plan depends on, applies steps as [`Step`] says, and refuses what no step may do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use crate::domain::planning::{
    Candidate, EarlierRecovery, LaneTraits, Limits, Member, Parent, Recent, Sibling, Situation, Sort, Step, Wave,
    WaveEnd, plan,
};
use crate::domain::rules::{RuleRows, Rules};
use crate::domain::{
    Facts, HoldReason, IncidentId, MonitorId, NewNotification, NotificationId, NotificationStatus, NotificationType,
    State,
};

/// A row of `notifications`.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) incident: Option<usize>,
    pub(super) message: NewNotification,
    pub(super) created_at: DateTime<Utc>,
    pub(super) status: NotificationStatus,
    pub(super) hold: Option<HoldReason>,
    pub(super) next_attempt_at: DateTime<Utc>,
    pub(super) planned_at: Option<DateTime<Utc>>,
    pub(super) waits_for: Option<i64>,
    pub(super) merged_into: Option<i64>,
    pub(super) edits: Option<String>,
    pub(super) sent_at: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Incident {
    pub(super) monitor: i64,
    pub(super) is_over: bool,
    pub(super) is_acknowledged: bool,
}

/// See the module. Public fields are what a test sets.
pub(super) struct Outbox {
    pub(super) now: DateTime<Utc>,
    pub(super) rows: Vec<Row>,
    pub(super) incidents: Vec<Incident>,
    pub(super) rules: RuleRows,
    pub(super) lanes: BTreeMap<String, LaneTraits>,
    pub(super) limits: Limits,
    pub(super) parents: HashMap<MonitorId, Parent>,
    pub(super) wave: Option<Wave>,
    /// Monitors that want nobody told now.
    pub(super) unwanted: BTreeSet<i64>,
    /// Of what is queued next.
    pub(super) severity: Severity,
    pub(super) origin: Option<String>,
    pub(super) rule: String,
    sent: usize,
}

pub(super) fn start() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            now: start(),
            rows: Vec::new(),
            incidents: Vec::new(),
            rules: RuleRows::default(),
            lanes: BTreeMap::new(),
            limits: Limits::default(),
            parents: HashMap::new(),
            wave: None,
            unwanted: BTreeSet::new(),
            severity: Severity::Warning,
            origin: None,
            rule: "people_to_notify".to_owned(),
            sent: 0,
        }
    }

    /// Moves the clock to so many seconds after the start, and plans.
    pub(super) fn plan_at(&mut self, seconds: i64) {
        self.now = start() + TimeDelta::seconds(seconds);
        self.plan();
    }

    pub(super) fn row(&mut self, id: i64) -> &mut Row {
        self.rows.iter_mut().find(|row| row.id == id).unwrap_or_else(|| panic!("there is no row {id}"))
    }

    /// The open incident of a monitor, else its last one; opened where there is none.
    fn incident(&mut self, monitor: i64, opens: bool) -> usize {
        let open =
            self.incidents.iter().rposition(|incident| incident.monitor == monitor && !(opens && incident.is_over));
        open.unwrap_or_else(|| {
            self.incidents.push(Incident { monitor, is_over: false, is_acknowledged: false });
            self.incidents.len() - 1
        })
    }

    /// Queues one message, in the last incident of its monitor, and returns its id.
    pub(super) fn queue(&mut self, kind: NotificationType, monitor: i64, recipient: &str) -> i64 {
        let incident = self.incident(monitor, kind == NotificationType::Alert);
        let state = if kind == NotificationType::Recovery { State::Ok } else { State::Alert };
        let facts = Facts {
            monitor_name: format!("m{monitor}"),
            message: format!("says m{monitor}"),
            state: Some(state),
            opened_at: Some(start()),
            at: Some(self.now),
            ..Facts::default()
        };
        let message = NewNotification {
            notification_type: kind,
            severity: self.severity,
            recipient: recipient.to_owned(),
            subject: format!("{kind} m{monitor}"),
            body: format!("{kind} m{monitor}"),
            facts,
            rule: self.rule.clone(),
            origin: self.origin.clone().unwrap_or_else(|| format!("monitor {monitor}")),
            hold: None,
        };
        self.insert(message, Some(incident), None)
    }

    pub(super) fn alert(&mut self, monitor: i64, recipient: &str) -> i64 {
        self.queue(NotificationType::Alert, monitor, recipient)
    }

    /// One alert of each of these monitors.
    pub(super) fn alerts(&mut self, monitors: RangeInclusive<i64>, recipient: &str) {
        for monitor in monitors {
            self.alert(monitor, recipient);
        }
    }

    pub(super) fn reminder(&mut self, monitor: i64, recipient: &str) -> i64 {
        self.queue(NotificationType::Reminder, monitor, recipient)
    }

    /// The incident is over; its recovery is owed to this recipient.
    pub(super) fn recovery(&mut self, monitor: i64, recipient: &str) -> i64 {
        let id = self.queue(NotificationType::Recovery, monitor, recipient);
        let incident = self.row(id).incident.unwrap();
        self.incidents[incident].is_over = true;
        id
    }

    /// As a run queues it where a route or a dependency waits.
    pub(super) fn held_from_the_start(&mut self, id: i64, reason: HoldReason, seconds: i64) {
        let until = start() + TimeDelta::seconds(seconds);
        let row = self.row(id);
        (row.status, row.hold, row.next_attempt_at) = (NotificationStatus::Held, Some(reason), until);
    }

    fn insert(&mut self, message: NewNotification, incident: Option<usize>, planned_at: Option<DateTime<Utc>>) -> i64 {
        let id = i64::try_from(self.rows.len()).unwrap() + 1;
        let hold = message.hold.clone();
        self.rows.push(Row {
            id,
            incident,
            created_at: self.now,
            status: if hold.is_some() { NotificationStatus::Held } else { NotificationStatus::Pending },
            next_attempt_at: hold.as_ref().map_or(self.now, |hold| hold.until),
            planned_at: if hold.is_some() { None } else { planned_at },
            hold: hold.map(|hold| hold.reason),
            waits_for: None,
            merged_into: None,
            edits: None,
            sent_at: None,
            message,
        });
        id
    }

    pub(super) fn plan(&mut self) {
        let candidates: Vec<Candidate> =
            self.rows.iter().filter(|row| self.is_candidate(row)).map(|row| self.candidate(row)).collect();
        let situation = self.situation();
        for step in plan(&candidates, situation, &self.lanes, &self.limits) {
            self.apply(step);
        }
        for row in self.rows.iter().filter(|row| row.status == NotificationStatus::Merged) {
            let into = &self.rows[usize::try_from(row.merged_into.unwrap()).unwrap() - 1];
            let is_held_recovery =
                into.status == NotificationStatus::Held && into.message.notification_type == NotificationType::Recovery;
            let may_be_lost = matches!(into.status, NotificationStatus::Held | NotificationStatus::Withdrawn);
            assert!(!may_be_lost || is_held_recovery, "{row:?} was merged into {into:?}");
        }
    }

    fn is_candidate(&self, row: &Row) -> bool {
        let of_same = |other: &&Row| {
            other.incident.is_some()
                && other.incident == row.incident
                && other.message.recipient == row.message.recipient
        };
        let is_taken_care_of = self.rows.iter().filter(of_same).any(|other| match row.message.notification_type {
            NotificationType::Recovery => other.status == NotificationStatus::Sending,
            _ => {
                let is_new = other.status == NotificationStatus::Pending && other.planned_at.is_none();
                other.message.notification_type == NotificationType::Recovery && is_new && other.id > row.id
            }
        });
        match row.status {
            NotificationStatus::Pending => row.planned_at.is_none() && !is_taken_care_of,
            NotificationStatus::Held => row.next_attempt_at <= self.now,
            _ => false,
        }
    }

    fn unsettled(&self, id: Option<i64>) -> Option<NotificationId> {
        let row = &self.rows[usize::try_from(id?).unwrap() - 1];
        let is_unsettled = matches!(row.status, NotificationStatus::Pending | NotificationStatus::Sending);
        is_unsettled.then_some(NotificationId(row.id))
    }

    /// What is not settled yet of what the messages before `row` were merged into.
    fn unsettled_digest(&self, row: &Row) -> Option<NotificationId> {
        let before = self.rows.iter().filter(|other| {
            other.incident == row.incident && other.message.recipient == row.message.recipient && other.id < row.id
        });
        before.filter_map(|other| self.unsettled(other.merged_into)).max()
    }

    fn monitor(&self, row: &Row) -> Option<i64> {
        row.incident.map(|incident| self.incidents[incident].monitor)
    }

    fn candidate(&self, row: &Row) -> Candidate {
        let incident = row.incident.map(|incident| &self.incidents[incident]);
        let monitor = self.monitor(row);
        let siblings = self.rows.iter().filter(|other| {
            other.id != row.id
                && row.incident.is_some()
                && other.incident == row.incident
                && other.message.recipient == row.message.recipient
        });
        let of_line = |other: &&Row| {
            other.id != row.id
                && monitor.is_some()
                && self.monitor(other) == monitor
                && other.message.recipient == row.message.recipient
        };
        let earlier_recoveries = self.rows.iter().filter(of_line).filter(|other| {
            other.id < row.id
                && other.message.notification_type == NotificationType::Recovery
                && matches!(other.status, NotificationStatus::Held | NotificationStatus::Pending)
                && other.planned_at.is_none()
        });
        let is_overtaken = row.message.notification_type == NotificationType::Recovery
            && self.rows.iter().filter(of_line).any(|other| {
                other.id > row.id && (other.planned_at.is_some() || other.status == NotificationStatus::Merged)
            });
        let open = self.incidents.iter().filter(|incident| !incident.is_over).count();
        Candidate {
            id: NotificationId(row.id),
            monitor_id: monitor.map(MonitorId),
            incident_id: row.incident.map(|incident| IncidentId(i64::try_from(incident).unwrap())),
            notification_type: row.message.notification_type,
            severity: row.message.severity,
            recipient: row.message.recipient.clone(),
            rule: row.message.rule.clone(),
            origin: row.message.origin.clone(),
            facts: row.message.facts.clone(),
            created_at: row.created_at,
            hold: row.hold,
            is_over: incident.is_some_and(|incident| incident.is_over),
            is_acknowledged: incident.is_some_and(|incident| incident.is_acknowledged),
            is_unwanted: monitor.is_some_and(|monitor| self.unwanted.contains(&monitor)),
            siblings: siblings.map(|sibling| self.sibling(sibling)).collect(),
            earlier_recoveries: earlier_recoveries
                .map(|other| EarlierRecovery {
                    id: NotificationId(other.id),
                    is_held: other.status == NotificationStatus::Held,
                    waits_for: self.unsettled_digest(other),
                })
                .collect(),
            is_overtaken,
            wave_end: WaveEnd {
                still_open: u32::try_from(open).unwrap(),
                total: u32::try_from(self.incidents.len()).unwrap(),
            },
        }
    }

    fn sibling(&self, row: &Row) -> Sibling {
        Sibling {
            id: NotificationId(row.id),
            notification_type: row.message.notification_type,
            severity: row.message.severity,
            status: row.status,
            hold: row.hold,
            merged_into: row.merged_into.map(NotificationId),
            unsettled_target: self.unsettled(row.merged_into),
            message: row.message.facts.message.clone(),
        }
    }

    fn situation(&self) -> Situation {
        let mut recent: HashMap<String, Vec<Recent>> = HashMap::new();
        let mut held: HashMap<(String, HoldReason), Vec<Member>> = HashMap::new();
        for row in &self.rows {
            let is_gone = matches!(row.status, NotificationStatus::Merged | NotificationStatus::Withdrawn);
            if let Some(at) = row.planned_at.filter(|_| !is_gone) {
                recent.entry(row.message.recipient.clone()).or_default().push(recent_of(row, at));
            }
            if let (NotificationStatus::Held, Some(reason)) = (row.status, row.hold) {
                let monitor = self.monitor(row).unwrap_or_default();
                let is_over = row.incident.is_some_and(|incident| self.incidents[incident].is_over);
                held.entry((row.message.recipient.clone(), reason)).or_default().push(Member {
                    id: NotificationId(row.id),
                    sort: Sort::of(row.message.notification_type),
                    origin: row.message.origin.clone(),
                    severity: row.message.severity,
                    monitor_name: row.message.facts.monitor_name.clone(),
                    message: row.message.facts.message.clone(),
                    is_over: is_over || self.unwanted.contains(&monitor),
                });
            }
        }
        let rules = Arc::new(Rules::read(&self.rules, Tz::UTC));
        Situation { now: self.now, rules, recent, held, parents: self.parents.clone(), wave: self.wave.clone() }
    }

    fn apply(&mut self, step: Step) {
        use NotificationStatus::{Held, Pending, Withdrawn};
        let now = self.now;
        match step {
            Step::Send { id, waits_for } => {
                let waits_for = self.newest_digest_of_monitor(id.0).or(waits_for.map(|id| id.0));
                let row = self.unfinished(id);
                (row.status, row.hold, row.planned_at) = (Pending, None, Some(now));
                row.next_attempt_at = row.next_attempt_at.min(now);
                row.waits_for = waits_for;
            }
            Step::Hold { id, hold } => {
                let row = self.unfinished(id);
                assert!(row.planned_at.is_none() && hold.until > now, "{row:?} {hold:?}");
                (row.status, row.hold, row.next_attempt_at) = (Held, Some(hold.reason), hold.until);
            }
            Step::Withdraw { id, why } => {
                let row = self.unfinished(id);
                let is_recovery = row.message.notification_type == NotificationType::Recovery;
                assert!(row.status == Held || is_recovery, "what counts as told is not withdrawn: {row:?} {why}");
                row.status = Withdrawn;
            }
            Step::Merge { ids, into } => {
                let target = self.unfinished(into).id;
                ids.iter().for_each(|id| self.merge(*id, target));
            }
            Step::Retell { id, subject, body, facts } => {
                let row = self.unfinished(id);
                (row.message.subject, row.message.body, row.message.facts) = (subject, body, *facts);
            }
            Step::Queue { message } => drop(self.insert(*message, None, Some(now))),
            Step::Digest { message, members, edits } => {
                assert!(members.len() > 1, "a digest of one");
                let digest = self.insert(*message, None, Some(now));
                members.iter().for_each(|id| self.merge(*id, digest));
                let is_earlier =
                    |row: &&Row| row.message.notification_type == NotificationType::Digest && row.id < digest;
                let recipient = self.row(digest).message.recipient.clone();
                let of_same = self.rows.iter().filter(is_earlier).filter(|row| row.message.recipient == recipient);
                let waits_for = of_same.filter_map(|row| self.unsettled(Some(row.id))).max().map(|id| id.0);
                let row = self.row(digest);
                (row.edits, row.waits_for) = (edits, waits_for);
            }
        }
    }

    /// The newest unsettled digest to the same recipient that tells something earlier of the same monitor.
    fn newest_digest_of_monitor(&self, id: i64) -> Option<i64> {
        let row = &self.rows[usize::try_from(id).unwrap() - 1];
        let told = self.rows.iter().filter(|other| {
            other.id < id
                && row.incident.is_some()
                && self.monitor(other) == self.monitor(row)
                && other.message.recipient == row.message.recipient
        });
        let digests = told.filter_map(|other| self.unsettled(other.merged_into)).map(|id| id.0);
        digests.filter(|id| self.rows[usize::try_from(*id).unwrap() - 1].incident.is_none()).max()
    }

    /// What was merged into it is told by the same message.
    fn merge(&mut self, id: NotificationId, into: i64) {
        let row = self.unfinished(id);
        (row.status, row.merged_into) = (NotificationStatus::Merged, Some(into));
        for row in self.rows.iter_mut().filter(|row| row.merged_into == Some(id.0)) {
            row.merged_into = Some(into);
        }
    }

    fn unfinished(&mut self, id: NotificationId) -> &mut Row {
        let row = self.row(id.0);
        let is_open = matches!(row.status, NotificationStatus::Pending | NotificationStatus::Held);
        assert!(is_open, "a step names a row that is finished or on its way: {row:?}");
        row
    }

    /// Takes every row that is the head of its line, as a claim does.
    pub(super) fn take(&mut self) -> Vec<i64> {
        let is_busy = |row: &Row| matches!(row.status, NotificationStatus::Pending | NotificationStatus::Sending);
        let heads = self.rows.iter().filter(|row| {
            let is_ready = row.status == NotificationStatus::Pending
                && row.planned_at.is_some()
                && row.next_attempt_at <= self.now;
            let same_line = |other: &&Row| {
                row.incident.is_some()
                    && other.incident.is_some()
                    && self.monitor(other) == self.monitor(row)
                    && other.message.recipient == row.message.recipient
                    && other.id < row.id
            };
            let waits = row.waits_for.is_some_and(|id| is_busy(&self.rows[usize::try_from(id).unwrap() - 1]));
            is_ready && !waits && !self.rows.iter().filter(same_line).any(is_busy)
        });
        let taken: Vec<i64> = heads.map(|row| row.id).collect();
        for id in &taken {
            self.row(*id).status = NotificationStatus::Sending;
        }
        taken
    }

    /// How an attempt ended.
    pub(super) fn settle(&mut self, id: i64, status: NotificationStatus) {
        self.sent += 1;
        let sent = self.sent;
        let row = self.row(id);
        assert_eq!(row.status, NotificationStatus::Sending);
        row.status = status;
        row.sent_at = (status == NotificationStatus::Sent).then_some(sent);
    }

    /// Delivers until nothing is left that goes out now.
    pub(super) fn deliver(&mut self) {
        loop {
            let taken = self.take();
            if taken.is_empty() {
                return;
            }
            taken.into_iter().for_each(|id| self.settle(id, NotificationStatus::Sent));
        }
    }

    /// What became of a row, in words: `sent`, `held storm until 2`, `merged into 7`.
    pub(super) fn fate(&self, id: i64) -> String {
        let row = &self.rows[usize::try_from(id).unwrap() - 1];
        match (row.status, row.hold, row.merged_into, row.waits_for) {
            (NotificationStatus::Held, Some(reason), ..) => {
                format!("held {reason} until {}", (row.next_attempt_at - start()).as_seconds_f64())
            }
            (NotificationStatus::Merged, _, Some(into), _) => format!("merged into {into}"),
            (NotificationStatus::Pending, _, _, Some(other)) => format!("pending after {other}"),
            (status, ..) => status.as_str().to_owned(),
        }
    }

    pub(super) fn fates(&self, ids: impl IntoIterator<Item = i64>) -> Vec<String> {
        ids.into_iter().map(|id| self.fate(id)).collect()
    }
}

fn recent_of(row: &Row, at: DateTime<Utc>) -> Recent {
    let kind = row.message.notification_type;
    let is_digest = kind == NotificationType::Digest;
    let is_sent = row.status == NotificationStatus::Sent;
    Recent {
        sort: match kind {
            NotificationType::Digest if row.message.facts.state == Some(State::Ok) => Sort::Recovery,
            NotificationType::Digest => Sort::Trouble,
            other => Sort::of(other),
        },
        origin: row.message.origin.clone(),
        severity: row.message.severity,
        at,
        external_id: (is_sent && !is_digest).then(|| format!("${}", row.id)),
        monitor_name: row.message.facts.monitor_name.clone(),
        message: row.message.facts.message.clone(),
    }
}
