//! A change in the making: what a run, as the state machine sees it, owes to incidents and to people.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::{Change, Current, IncidentReference, NewIncident, Policy, RowUpdate};
use crate::domain::facts::Facts;
use crate::domain::hold::HoldReason;
use crate::domain::incident::{ClosingReason, IncidentId, OpenIncident};
use crate::domain::message::{body, subject};
use crate::domain::monitor::{MonitorId, MonitorRow};
use crate::domain::notification::{Hold, NewNotification, NotificationType};
use crate::domain::recipients::{People, Recipients};
use crate::domain::routing::{Chosen, Question};
use crate::domain::rules::Rules;
use crate::domain::transition::{Standing, State};

/// A change in the making.
pub(super) struct Draft<'a> {
    pub(super) row: &'a MonitorRow,
    pub(super) policy: &'a Policy,
    pub(super) current: &'a Current,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) recipients: Recipients,
    /// The incident that this run belongs to, as far as it was open before.
    pub(super) incident: Option<&'a OpenIncident>,
    pub(super) closed: Option<(IncidentId, DateTime<Utc>)>,
    pub(super) opened: Option<NewIncident>,
    pub(super) notifications: Vec<(IncidentReference, NewNotification)>,
    pub(super) told: Option<NotificationType>,
    /// See [`Change::reason`].
    pub(super) reason: Option<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(row: &'a MonitorRow, current: &'a Current, policy: &'a Policy) -> Self {
        Self {
            row,
            policy,
            current,
            labels: row.labels(),
            recipients: Recipients::read(row.people_to_notify.as_deref(), &policy.admins, &current.rules.channels),
            incident: current.incident.as_ref(),
            closed: None,
            opened: None,
            notifications: Vec::new(),
            told: None,
            reason: None,
        }
    }

    /// Brings incidents in line with a `state` that was set by hand.
    pub(super) fn settle_edits_by_hand(&mut self, now: DateTime<Utc>) {
        match (self.row.state, self.incident) {
            (State::Ok, Some(incident)) => {
                let severity = self.told_severity();
                let message = closing_message(ClosingReason::SetToOkByHand);
                self.tell(NotificationType::Recovery, State::Ok, severity, now, message);
                self.closed = Some((incident.id, now));
                self.incident = None;
            }
            (State::Alert, None) => self.open(now, "The state was set to alert by hand.".to_owned()),
            (State::Ok, None) | (State::Alert, Some(_)) => {}
        }
    }

    pub(super) fn standing(&self, now: DateTime<Utc>) -> Standing {
        let row = self.row;
        Standing {
            state: row.state,
            consecutive_ok_count: row.consecutive_ok_count,
            consecutive_alert_count: row.consecutive_alert_count,
            required_consecutive_oks: row.required_consecutive_oks,
            required_consecutive_alerts: row.required_consecutive_alerts,
            reminder_interval: row.reminder_frequency_minutes.map(|minutes| TimeDelta::minutes(i64::from(minutes))),
            last_notification_at: row.last_notification_at,
            told_severity: self.incident.and_then(|incident| incident.told_severity),
            is_acknowledged: self.incident.is_some_and(|incident| incident.is_acknowledged(now)),
        }
    }

    /// How bad a recovery says that it was: as bad as anybody was told.
    pub(super) fn told_severity(&self) -> Severity {
        self.incident.and_then(|incident| incident.told_severity).unwrap_or(self.row.severity)
    }

    pub(super) fn open(&mut self, opened_at: DateTime<Utc>, opening_message: String) {
        let monitor_name = self.row.name.clone();
        self.opened = Some(NewIncident { opened_at, opening_message, monitor_name, recovered_at: None });
    }

    pub(super) fn close(&mut self, now: DateTime<Utc>) {
        match (self.incident, &mut self.opened) {
            (Some(incident), _) => self.closed = Some((incident.id, now)),
            (None, Some(opened)) => opened.recovered_at = Some(now),
            (None, None) => {}
        }
    }

    /// Queues what is owed to people, and tells the channels that follow all states where this one changed.
    pub(super) fn tell(
        &mut self,
        notification_type: NotificationType,
        state: State,
        severity: Severity,
        at: DateTime<Utc>,
        message: &str,
    ) {
        let Some((reference, opened_at)) = self.incident_reference() else { return };
        let facts = self.facts(state, opened_at, at, message);
        let zone = self.zone();
        let origin = origin_of(&self.labels, self.row.id);
        let message = Message { notification_type, severity, zone, origin, facts: &facts };
        let chosen = self.choose(notification_type, severity, opened_at);
        if !chosen.is_empty() {
            self.told = Some(notification_type);
        }
        let queued =
            chosen.into_iter().map(|chosen| (reference, message.to(&chosen.recipient, chosen.rule, chosen.hold)));
        self.notifications.extend(queued);
        if notification_type == NotificationType::Reminder {
            self.escalate(&message, reference, opened_at);
        } else {
            self.notifications.extend(state_changes(&message, &self.current.rules, reference));
        }
    }

    /// A severity that rose has routes of its own that wait, and so may a route that was written since; who has a
    /// message already gets no alert as well. What was told before may have been held back, so this asks at each
    /// reminder that is not milder.
    fn escalate(&mut self, message: &Message<'_>, reference: IncidentReference, opened_at: DateTime<Utc>) {
        let told_severity = self.incident.and_then(|incident| incident.told_severity);
        if told_severity.is_some_and(|told| message.severity < told) {
            return;
        }
        let alert = Message { notification_type: NotificationType::Alert, origin: message.origin.clone(), ..*message };
        let alerted = self.incident.iter().flat_map(|incident| &incident.alerted);
        let reminded = self.notifications.iter().map(|(_, notification)| &notification.recipient);
        let known: BTreeSet<String> = alerted.chain(reminded).cloned().collect();
        let waiting =
            self.question().of_alert(message.severity, opened_at).into_iter().filter(|chosen| chosen.hold.is_some());
        let waiting = waiting.filter(|chosen| !known.contains(&chosen.recipient));
        let queued: Vec<_> =
            waiting.map(|chosen| (reference, alert.to(&chosen.recipient, chosen.rule, chosen.hold))).collect();
        self.notifications.extend(queued);
    }

    fn incident_reference(&self) -> Option<(IncidentReference, DateTime<Utc>)> {
        match (self.incident, &self.opened) {
            (Some(incident), _) => Some((IncidentReference::Existing(incident.id), incident.opened_at)),
            (None, Some(opened)) => Some((IncidentReference::Opened, opened.opened_at)),
            (None, None) => None,
        }
    }

    fn facts(&self, state: State, opened_at: DateTime<Utc>, at: DateTime<Utc>, message: &str) -> Facts {
        let is_alert = self.row.state == State::Ok && state == State::Alert;
        Facts {
            monitor_name: self.row.name.clone(),
            kind: self.row.kind.clone(),
            labels: self.labels.clone(),
            state_before: Some(self.row.state),
            state: Some(state),
            at: Some(at),
            opened_at: Some(opened_at),
            recovered_at: (state == State::Ok).then_some(at),
            message: message.to_owned(),
            suppressed: if is_alert { self.current.dependents.clone() } else { Vec::new() },
            ..Facts::default()
        }
    }

    fn question(&self) -> Question<'_> {
        Question::of_row(self.row, &self.recipients, &self.labels, &self.current.rules)
    }

    fn choose(&self, notification_type: NotificationType, severity: Severity, opened_at: DateTime<Utc>) -> Vec<Chosen> {
        match notification_type {
            NotificationType::Alert => {
                let mut chosen = self.question().of_alert(severity, opened_at);
                self.wait_for_parents(&mut chosen);
                chosen
            }
            NotificationType::Reminder => {
                let told_severity = self.incident.and_then(|incident| incident.told_severity).unwrap_or(severity);
                let told = self.incident.map_or(&[][..], |incident| &incident.told);
                self.question().of_reminder(&[severity, told_severity], told)
            }
            NotificationType::Recovery => self.recovery_recipients(severity),
            NotificationType::Digest
            | NotificationType::Notice
            | NotificationType::SelfTest
            | NotificationType::Test => Vec::new(),
        }
    }

    /// The alert of a monitor that depends on others waits until they have been asked.
    fn wait_for_parents(&self, chosen: &mut [Chosen]) {
        if self.current.rules.dependencies.ancestors(self.row.id).is_empty() {
            return;
        }
        let hold = Hold { until: self.current.now, reason: HoldReason::Dependency(None) };
        for chosen in chosen.iter_mut().filter(|chosen| chosen.hold.is_none()) {
            chosen.hold = Some(hold.clone());
        }
    }

    /// A recovery is owed to everyone who was told and to the present recipients; to nobody where nobody was told,
    /// or where the row wants nobody told.
    fn recovery_recipients(&self, severity: Severity) -> Vec<Chosen> {
        let told = self.incident.map_or(&[][..], |incident| &incident.told);
        if told.is_empty() || self.recipients.people == People::Nobody {
            return Vec::new();
        }
        let told = told.iter().map(|name| Chosen { recipient: name.clone(), rule: TOLD_BEFORE.to_owned(), hold: None });
        let mut chosen: Vec<Chosen> = told.collect();
        for present in self.question().at_once(&[severity]) {
            if !chosen.iter().any(|already| already.recipient == present.recipient) {
                chosen.push(present);
            }
        }
        chosen.sort_by(|one, other| one.recipient.cmp(&other.recipient));
        chosen
    }

    fn zone(&self) -> Tz {
        self.row.timezone.as_deref().and_then(|name| name.trim().parse().ok()).unwrap_or(self.policy.default_zone)
    }

    pub(super) fn finish(self, mut update: RowUpdate, at: DateTime<Utc>) -> Change {
        update.last_notification = self.told.map(|kind| (at, kind));
        Change {
            row: Some(update),
            state_before: self.row.state,
            closed: self.closed,
            opened: self.opened,
            notifications: self.notifications,
            notification_type: self.told,
            reason: self.reason,
        }
    }
}

/// The rule that chooses who is owed a recovery.
pub(super) const TOLD_BEFORE: &str = "told before";

/// What is told, whoever is told.
pub(super) struct Message<'a> {
    pub(super) notification_type: NotificationType,
    pub(super) severity: Severity,
    pub(super) zone: Tz,
    pub(super) origin: String,
    pub(super) facts: &'a Facts,
}

impl Message<'_> {
    pub(super) fn to(&self, recipient: &str, rule: String, hold: Option<Hold>) -> NewNotification {
        NewNotification {
            notification_type: self.notification_type,
            severity: self.severity,
            recipient: recipient.to_owned(),
            subject: subject(self.notification_type, &self.facts.monitor_name),
            body: body(self.notification_type, self.severity, self.facts, self.zone),
            facts: self.facts.clone(),
            rule,
            origin: self.origin.clone(),
            hold,
        }
    }
}

/// The change of state for the channels that follow all of them, silences and quiet hours or not: they are read by
/// programs.
pub(super) fn state_changes(
    message: &Message<'_>,
    rules: &Rules,
    reference: IncidentReference,
) -> Vec<(IncidentReference, NewNotification)> {
    let notice = Message { notification_type: NotificationType::Notice, origin: message.origin.clone(), ..*message };
    let followers = rules.followers_of_states();
    followers.map(|channel| (reference, notice.to(channel, "wants_state_changes".to_owned(), None))).collect()
}

/// What limits on repetition are counted by: the label `origin` where there is one, else the monitor.
pub(in crate::domain) fn origin_of(labels: &BTreeMap<String, String>, monitor: MonitorId) -> String {
    match labels.get("origin").filter(|origin| !origin.is_empty()) {
        Some(origin) => format!("origin {origin}"),
        None => format!("monitor {monitor}"),
    }
}

pub(super) fn closing_message(reason: ClosingReason) -> &'static str {
    match reason {
        ClosingReason::SetToOkByHand => "The state was set to ok by hand. No check confirmed it.",
        ClosingReason::MonitorDeleted => "The monitor was deleted while in alert. It is not watched any more.",
    }
}
