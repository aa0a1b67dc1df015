//! Recoveries: owed to whoever was told, told to nobody else, and never before their alert.

use super::{Candidate, Planner, Sibling, Step};
use crate::domain::message::was_down;
use crate::domain::notification::{NotificationStatus, NotificationType};

const NOBODY_TOLD: &str = "the incident was over before anybody was told of it";

impl Planner<'_> {
    pub(super) fn look_at_recovery(&mut self, candidate: &Candidate) {
        let earlier: Vec<&Sibling> = candidate.siblings.iter().filter(|sibling| sibling.id < candidate.id).collect();
        // How it ends is written soon, and wakes this planning again.
        if earlier.iter().any(|sibling| sibling.status == NotificationStatus::Sending) {
            return;
        }
        for sibling in earlier.iter().filter(|sibling| sibling.status == NotificationStatus::Held) {
            self.withdraw(sibling.id, "the incident was over before this was told");
        }
        let is_present_recipient = earlier.is_empty();
        if !is_present_recipient && !earlier.iter().any(|sibling| sibling.tells()) {
            return self.withdraw(candidate.id, NOBODY_TOLD);
        }
        let undelivered: Vec<&&Sibling> =
            earlier.iter().filter(|sibling| sibling.status == NotificationStatus::Pending).collect();
        let untold_alert = undelivered.iter().find(|sibling| sibling.notification_type == NotificationType::Alert);
        if let Some(alert) = untold_alert {
            let (subject, body, facts) = was_down(candidate.severity, &candidate.facts, &alert.message);
            self.steps.push(Step::Retell { id: candidate.id, subject, body, facts: Box::new(facts) });
        }
        self.merge(undelivered.iter().map(|sibling| sibling.id).collect(), candidate.id);
        let waits_for = earlier.iter().filter_map(|sibling| sibling.unsettled_target).max();
        let hold = self.channel_off(candidate).or_else(|| self.quiet(candidate));
        match hold {
            Some((until, reason)) => self.hold(candidate, until, reason),
            None => self.limit(candidate, waits_for),
        }
    }
}

impl Sibling {
    /// Whether the recipient was told by it, or would be by now if the channel worked.
    fn tells(&self) -> bool {
        match self.status {
            NotificationStatus::Pending
            | NotificationStatus::Sending
            | NotificationStatus::Sent
            | NotificationStatus::Merged
            | NotificationStatus::Failed => true,
            NotificationStatus::Held | NotificationStatus::Withdrawn => false,
        }
    }
}
