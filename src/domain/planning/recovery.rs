//! Recoveries: owed to whoever was told, told to nobody else, and never before their alert.

use chrono::TimeDelta;

use super::{Candidate, Planner, Sibling, Step};
use crate::domain::message::was_down;
use crate::domain::notification::{NotificationStatus, NotificationType};

const NOBODY_TOLD: &str = "the incident was over before anybody was told of it";
/// A held recovery whose alert is being tried once more is looked at again so soon.
const LOOK_SOON: TimeDelta = TimeDelta::seconds(1);

impl Planner<'_> {
    pub(super) fn look_at_recovery(&mut self, candidate: &Candidate) {
        let earlier: Vec<&Sibling> = candidate.siblings.iter().filter(|sibling| sibling.id < candidate.id).collect();
        // How it ends is written soon, and wakes this planning again.
        if earlier.iter().any(|sibling| self.status(sibling) == NotificationStatus::Sending) {
            if let Some(reason) = candidate.hold {
                self.hold(candidate, self.situation.now + LOOK_SOON, reason);
            }
            return;
        }
        for sibling in &earlier {
            if self.status(sibling) == NotificationStatus::Held {
                self.withdraw(sibling.id, "the incident was over before this was told");
            }
        }
        let is_present_recipient = earlier.is_empty();
        if !is_present_recipient && !earlier.iter().any(|sibling| self.tells(sibling, candidate)) {
            return self.withdraw(candidate.id, NOBODY_TOLD);
        }
        if !is_present_recipient && !candidate.facts.tells_alert {
            self.tell_alert_too(candidate, &earlier);
        }
        let undelivered = earlier.iter().filter(|sibling| self.status(sibling) == NotificationStatus::Pending);
        self.merge(undelivered.map(|sibling| sibling.id).collect(), candidate.id);
        let waits_for = candidate.unsettled_digest();
        // Held any longer it would be read as the end of a later incident.
        if candidate.is_overtaken {
            return self.send(candidate, waits_for);
        }
        let hold = self.channel_off(candidate).or_else(|| self.quiet(candidate));
        match hold {
            Some((until, reason)) => self.hold(candidate, until, reason),
            None => {
                self.release_recoveries(candidate);
                self.limit(candidate, waits_for);
            }
        }
    }

    /// Where nothing of the incident was delivered, whether it waits still or was given up, the recovery tells both.
    fn tell_alert_too(&mut self, candidate: &Candidate, earlier: &[&Sibling]) {
        let is_delivered = |sibling: &&&Sibling| {
            let status = self.status(sibling);
            status == NotificationStatus::Sent
                || (status == NotificationStatus::Merged && self.tells(sibling, candidate))
        };
        if earlier.iter().any(|sibling| is_delivered(&sibling)) {
            return;
        }
        let alert = earlier.iter().find(|sibling| sibling.notification_type == NotificationType::Alert);
        if let Some(first) = alert.or(earlier.first()) {
            let (subject, body, facts) = was_down(candidate.severity, &candidate.facts, &first.message);
            self.steps.push(Step::Retell { id: candidate.id, subject, body, facts: Box::new(facts) });
        }
    }
}
