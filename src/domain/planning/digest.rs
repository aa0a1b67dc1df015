//! One message for many.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Candidate, Member, Planner, Recent, Sort, Step};
use crate::domain::facts::Facts;
use crate::domain::hold::HoldReason;
use crate::domain::message::{digest_body, digest_subject};
use crate::domain::notification::{Hold, NewNotification, NotificationId, NotificationStatus, NotificationType};

/// The origin of digests of a storm: one storm has many origins.
pub(super) const STORM: &str = "storm";

impl Planner<'_> {
    /// What goes out with this candidate, where it was collected until now: without what is no longer true, and
    /// without what was decided already. `None`: it is alone, and goes out as itself.
    pub(super) fn collected(&self, candidate: &Candidate) -> Option<(HoldReason, Vec<Member>)> {
        let reason = candidate.hold.filter(|reason| collects(*reason))?;
        let sort = Sort::of(candidate.notification_type);
        let held = self.situation.held.get(&(candidate.recipient.clone(), reason))?;
        let is_of_it = |member: &&Member| {
            member.sort == sort
                && !(sort == Sort::Trouble && member.is_over)
                && !self.decided.contains_key(&member.id)
                && (reason != HoldReason::Repetition || member.origin == candidate.origin)
        };
        let members: Vec<Member> = held.iter().filter(is_of_it).cloned().collect();
        let is_many = members.len() > 1 && members.iter().any(|member| member.id == candidate.id);
        is_many.then_some((reason, members))
    }

    pub(super) fn send_digest(&mut self, candidate: &Candidate, reason: HoldReason, members: &[Member]) {
        let edited = self.edited_message(candidate, reason);
        let edits = edited.as_ref().and_then(|edited| edited.external_id.clone());
        let message = digest(candidate, reason, members, edited.as_ref());
        let ids: Vec<NotificationId> = members.iter().map(|member| member.id).collect();
        self.decided.extend(ids.iter().map(|id| (*id, NotificationStatus::Merged)));
        self.remember_digest(candidate, &message);
        self.steps.push(Step::Digest { message: Box::new(message), members: ids, edits });
    }

    /// What was collected stays together.
    pub(super) fn hold_together(&mut self, members: &[Member], until: DateTime<Utc>, reason: HoldReason) {
        for Member { id, .. } in members {
            self.decided.insert(*id, NotificationStatus::Held);
            self.steps.push(Step::Hold { id: *id, hold: Hold { until, reason } });
        }
    }

    /// The message that began the repetition, where the channel can change what it says.
    fn edited_message(&self, candidate: &Candidate, reason: HoldReason) -> Option<Recent> {
        if reason != HoldReason::Repetition || !self.traits(candidate).can_edit {
            return None;
        }
        let sort = Sort::of(candidate.notification_type);
        let recent = self.situation.recent.get(&candidate.recipient)?.iter();
        let of_origin = recent.filter(|recent| recent.sort == sort && recent.origin == candidate.origin);
        let newest = of_origin.max_by_key(|recent| recent.at)?;
        // A list is not replaced by a later one: what it had told would be gone.
        let is_single = !newest.monitor_name.is_empty();
        (is_single && newest.external_id.is_some()).then(|| newest.clone())
    }

    fn remember_digest(&mut self, candidate: &Candidate, message: &NewNotification) {
        let sort = Sort::of(candidate.notification_type);
        let digest = Candidate { origin: message.origin.clone(), severity: message.severity, ..candidate.clone() };
        self.remember(&digest, sort);
    }
}

/// Whether what is held for this reason waits for others to go out with.
pub const fn collects(reason: HoldReason) -> bool {
    match reason {
        HoldReason::Repetition | HoldReason::Storm | HoldReason::RateLimit | HoldReason::CutOff => true,
        HoldReason::Escalation(_)
        | HoldReason::Silence(_)
        | HoldReason::QuietHours
        | HoldReason::ChannelOff
        | HoldReason::Dependency(_) => false,
    }
}

fn digest(candidate: &Candidate, reason: HoldReason, members: &[Member], edited: Option<&Recent>) -> NewNotification {
    let sort = Sort::of(candidate.notification_type);
    // The message that came first is listed too where this one takes its place.
    let first = edited.map(|edited| (edited.monitor_name.as_str(), edited.message.as_str()));
    let lines = members.iter().map(|member| (member.monitor_name.as_str(), member.message.as_str()));
    let lines: Vec<(&str, &str)> = first.into_iter().chain(lines).collect();
    let count = lines.len();
    let names: BTreeSet<&str> = lines.iter().map(|(name, _)| *name).collect();
    let what = match sort {
        Sort::Recovery => "recovered",
        Sort::Trouble | Sort::Other => "failing",
    };
    let severities = members.iter().map(|member| member.severity).chain(edited.map(|edited| edited.severity));
    let severity = severities.max().unwrap_or(candidate.severity);
    NewNotification {
        notification_type: NotificationType::Digest,
        severity,
        recipient: candidate.recipient.clone(),
        subject: digest_subject(what, count, &names),
        body: digest_body(what, count, lines.into_iter()),
        facts: Facts {
            count: u64::try_from(count).unwrap_or(u64::MAX),
            state: match sort {
                Sort::Recovery => Some(crate::domain::State::Ok),
                Sort::Trouble | Sort::Other => Some(crate::domain::State::Alert),
            },
            ..Facts::default()
        },
        rule: format!("digest of {reason}"),
        origin: if reason == HoldReason::Repetition { candidate.origin.clone() } else { STORM.to_owned() },
        hold: None,
    }
}
