//! A node that sees most of what it checks fail at one moment is more likely cut off itself.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Severity;

use super::{Candidate, Planner, Step, WaveEnd};
use crate::domain::facts::Facts;
use crate::domain::hold::HoldReason;
use crate::domain::message::{cut_off_text, wave_end_text};
use crate::domain::notification::{Hold, NewNotification, NotificationStatus, NotificationType};

/// So long the alerts of a wave wait for it to be confirmed, or over.
const CONFIRM: TimeDelta = TimeDelta::seconds(30);

impl Planner<'_> {
    /// Holds the alerts of a wave, and sees to it that everybody concerned, and the admins, are told of it once.
    pub(super) fn cut_off(&mut self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let wave = self.situation.wave.clone()?;
        let is_of_wave = candidate.notification_type == NotificationType::Alert
            && matches!(candidate.hold, None | Some(HoldReason::Dependency(None)))
            && candidate.created_at >= wave.since;
        if !is_of_wave || self.traits(candidate).wants_each {
            return None;
        }
        let origin = format!("cut off {}", wave.node);
        let concerned: Vec<String> = self.limits.admins.iter().chain([&candidate.recipient]).cloned().collect();
        for recipient in concerned {
            let recent = self.situation.recent.entry(recipient.clone()).or_default();
            if recent.iter().any(|recent| recent.origin == origin) {
                continue;
            }
            recent.push(super::Recent {
                sort: super::Sort::Other,
                origin: origin.clone(),
                severity: Severity::Critical,
                at: self.situation.now,
                external_id: None,
                monitor_name: String::new(),
                message: String::new(),
            });
            let facts = Facts {
                at: Some(self.situation.now),
                opened_at: Some(wave.since),
                count: u64::from(wave.openings),
                ..Facts::default()
            };
            let (subject, body) = cut_off_text(&wave.node, wave.openings, wave.runs);
            let notice = NewNotification {
                notification_type: NotificationType::Notice,
                severity: Severity::Critical,
                recipient,
                subject,
                body,
                facts,
                rule: "cut off".to_owned(),
                origin: origin.clone(),
                hold: None,
            };
            let end = NewNotification {
                hold: Some(Hold { until: self.situation.now + CONFIRM, reason: HoldReason::CutOff }),
                ..notice.clone()
            };
            self.steps.push(Step::Queue { message: Box::new(notice) });
            self.steps.push(Step::Queue { message: Box::new(end) });
        }
        Some((self.situation.now + CONFIRM, HoldReason::CutOff))
    }

    /// A reminder of what is held as part of a wave waits with it.
    pub(super) fn behind_cut_off(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let is_held = candidate.earlier_trouble().any(|sibling| {
            sibling.hold == Some(HoldReason::CutOff) && self.status(sibling) == NotificationStatus::Held
        });
        let is_first_look = candidate.hold.is_none();
        (is_held && is_first_look).then(|| (self.situation.now + CONFIRM, HoldReason::CutOff))
    }

    /// What the wave came to.
    pub(super) fn retell_wave(&mut self, candidate: &Candidate) {
        let node = candidate.origin.strip_prefix("cut off ").unwrap_or(&candidate.origin);
        let WaveEnd { still_open, total } = candidate.wave_end;
        let (subject, body) = wave_end_text(node, still_open, total);
        self.steps.push(Step::Retell { id: candidate.id, subject, body, facts: Box::new(candidate.facts.clone()) });
    }
}
