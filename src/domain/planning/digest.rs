//! One message for many.

use std::collections::BTreeSet;

use super::{Candidate, Member, Planner, Sort, Step};
use crate::domain::facts::Facts;
use crate::domain::hold::HoldReason;
use crate::domain::message::{digest_body, digest_subject};
use crate::domain::notification::{NewNotification, NotificationId, NotificationType};

/// The origin of digests of a storm: one storm has many origins.
pub(super) const STORM: &str = "storm";

impl Planner<'_> {
    /// Whether this candidate was collected until now, and goes out with what was collected with it.
    pub(super) fn is_digest_due(&mut self, candidate: &Candidate) -> bool {
        let Some(reason) = candidate.hold.filter(|reason| collects(*reason)) else { return false };
        let members = self.members(candidate, reason);
        if members.len() < 2 {
            return false;
        }
        let ids: Vec<NotificationId> = members.iter().map(|member| member.id).collect();
        let edits = self.edited_message(candidate, reason);
        let message = digest(candidate, reason, &members, edits.is_some());
        self.done.extend(&ids);
        self.remember_digest(candidate, &message);
        self.steps.push(Step::Digest { message: Box::new(message), members: ids, edits });
        true
    }

    /// What was collected with it, without what is no longer true, and without what was decided already.
    fn members(&self, candidate: &Candidate, reason: HoldReason) -> Vec<Member> {
        let sort = Sort::of(candidate.notification_type);
        let held = self.situation.held.get(&(candidate.recipient.clone(), reason));
        let is_of_it = |member: &&Member| {
            member.sort == sort
                && !(sort == Sort::Trouble && member.is_over)
                && !self.done.contains(&member.id)
                && (reason != HoldReason::Repetition || member.origin == candidate.origin)
        };
        held.into_iter().flatten().filter(is_of_it).cloned().collect()
    }

    /// The message that began the repetition, where the channel can change what it says.
    fn edited_message(&self, candidate: &Candidate, reason: HoldReason) -> Option<String> {
        if reason != HoldReason::Repetition || !self.traits(candidate).can_edit {
            return None;
        }
        let sort = Sort::of(candidate.notification_type);
        let recent = self.situation.recent.get(&candidate.recipient)?.iter();
        let of_origin = recent.filter(|recent| recent.sort == sort && recent.origin == candidate.origin);
        of_origin.filter(|recent| recent.external_id.is_some()).max_by_key(|recent| recent.at)?.external_id.clone()
    }

    fn remember_digest(&mut self, candidate: &Candidate, message: &NewNotification) {
        let sort = Sort::of(candidate.notification_type);
        let digest = Candidate { origin: message.origin.clone(), severity: message.severity, ..candidate.clone() };
        self.remember(&digest, sort);
    }
}

/// Whether what is held for this reason waits for others to go out with.
const fn collects(reason: HoldReason) -> bool {
    match reason {
        HoldReason::Repetition | HoldReason::Storm | HoldReason::RateLimit | HoldReason::CutOff => true,
        HoldReason::Escalation(_)
        | HoldReason::Silence(_)
        | HoldReason::QuietHours
        | HoldReason::ChannelOff
        | HoldReason::Dependency(_) => false,
    }
}

fn digest(candidate: &Candidate, reason: HoldReason, members: &[Member], is_edit: bool) -> NewNotification {
    let sort = Sort::of(candidate.notification_type);
    // The message that came first counts too where this one takes its place.
    let count = members.len() + usize::from(is_edit);
    let names: BTreeSet<&str> = members.iter().map(|member| member.monitor_name.as_str()).collect();
    let what = match sort {
        Sort::Recovery => "recovered",
        Sort::Trouble | Sort::Other => "failing",
    };
    let severity = members.iter().map(|member| member.severity).max().unwrap_or(candidate.severity);
    let lines = members.iter().map(|member| (member.monitor_name.as_str(), member.message.as_str()));
    NewNotification {
        notification_type: NotificationType::Digest,
        severity,
        recipient: candidate.recipient.clone(),
        subject: digest_subject(what, count, &names),
        body: digest_body(what, count, lines),
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
