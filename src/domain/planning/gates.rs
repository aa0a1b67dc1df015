//! The gates, in their order: what passes all of them goes out.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Severity;

use super::{Candidate, Planner, Sibling, Sort};
use crate::domain::hold::HoldReason;
use crate::domain::monitor::MonitorId;
use crate::domain::notification::{NotificationStatus, NotificationType};
use crate::domain::selector::Subject;

/// What waits for a person or another monitor is looked at so often, beside being looked at when that changes.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(30);
/// While parents are being checked.
const LOOK_AT_PARENTS: TimeDelta = TimeDelta::milliseconds(200);
/// A storm is collected for so long before its digest goes out.
const COLLECT: TimeDelta = TimeDelta::seconds(2);
/// Between two digests of one storm.
const BETWEEN_DIGESTS: TimeDelta = TimeDelta::seconds(30);
/// What `max_per_minute` means.
const MINUTE: TimeDelta = TimeDelta::seconds(60);

impl Planner<'_> {
    pub(super) fn look_at_trouble(&mut self, candidate: &Candidate) {
        if self.is_no_longer_true(candidate) || self.is_told_by_a_sibling(candidate) {
            return;
        }
        let hold = self
            .escalates_later(candidate)
            .or_else(|| self.channel_off(candidate))
            .or_else(|| self.silenced(candidate))
            .or_else(|| self.quiet(candidate))
            .or_else(|| self.parents_down(candidate))
            .or_else(|| self.cut_off(candidate));
        if let Some((until, reason)) = hold {
            return self.hold(candidate, until, reason);
        }
        // A recovery that was held would be read as news of this incident.
        if let Some(recovery) = candidate.held_recovery {
            self.done.insert(recovery);
            self.steps.push(super::Step::Send { id: recovery, waits_for: None });
        }
        self.limit(candidate, None);
    }

    /// Limits on how much reaches a recipient; the last gates of alerts, reminders and recoveries alike.
    pub(super) fn limit(&mut self, candidate: &Candidate, waits_for: Option<crate::domain::NotificationId>) {
        let may_merge = !self.traits(candidate).wants_each;
        if may_merge && self.is_digest_due(candidate) {
            return;
        }
        let hold = match may_merge {
            true => {
                self.repeated(candidate).or_else(|| self.stormed(candidate)).or_else(|| self.rate_limited(candidate))
            }
            false => self.rate_limited(candidate),
        };
        match hold {
            Some((until, reason)) => self.hold(candidate, until, reason),
            None => self.send(candidate, waits_for),
        }
    }

    pub(super) fn look_at_other(&mut self, candidate: &Candidate) {
        if candidate.notification_type == NotificationType::Notice && candidate.hold == Some(HoldReason::CutOff) {
            self.retell_wave(candidate);
        }
        match self.channel_off(candidate) {
            Some((until, reason)) => self.hold(candidate, until, reason),
            None => self.send(candidate, None),
        }
    }

    /// An alert whose incident is over: its recovery tells it; where it was held from everybody, nobody needs to know.
    fn is_no_longer_true(&mut self, candidate: &Candidate) -> bool {
        let escalation = match candidate.hold {
            Some(HoldReason::Escalation(route)) => self.situation.rules.routes.iter().find(|other| other.id == route),
            _ => None,
        };
        let why = match candidate.hold {
            Some(_) if candidate.is_over => Some("the incident was over before this was told"),
            Some(HoldReason::Escalation(_)) if escalation.is_none() => Some("its route is gone or switched off"),
            Some(HoldReason::Escalation(_))
                if candidate.is_acknowledged && escalation.is_some_and(|route| route.unless_acknowledged) =>
            {
                Some("the incident is acknowledged")
            }
            _ => None,
        };
        if let Some(why) = why {
            self.withdraw(candidate.id, why);
            return true;
        }
        // The recovery in line behind it takes it along, at its own turn.
        candidate.is_over && candidate.siblings.iter().any(|sibling| sibling.is_waiting_recovery())
    }

    /// A reminder beside an alert, or an older reminder, that was not delivered yet: one of them is enough.
    fn is_told_by_a_sibling(&mut self, candidate: &Candidate) -> bool {
        if candidate.notification_type != NotificationType::Reminder {
            return false;
        }
        let earlier: Vec<&Sibling> =
            candidate.siblings.iter().filter(|sibling| sibling.id < candidate.id && sibling.is_undelivered()).collect();
        let alert = earlier.iter().find(|sibling| sibling.notification_type == NotificationType::Alert);
        match alert {
            Some(alert) if alert.severity >= candidate.severity && !self.done.contains(&alert.id) => {
                self.merge(vec![candidate.id], alert.id);
                true
            }
            _ => {
                let superseded =
                    earlier.iter().map(|sibling| sibling.id).filter(|id| !self.done.contains(id)).collect();
                self.merge(superseded, candidate.id);
                false
            }
        }
    }

    /// What an edit of the tables lets be looked at anew, or a route that waits longer by now, is not due for that.
    fn escalates_later(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let Some(HoldReason::Escalation(id)) = candidate.hold else { return None };
        let route = self.situation.rules.routes.iter().find(|route| route.id == id)?;
        let until = candidate.facts.opened_at.unwrap_or(candidate.created_at) + route.after;
        (until > self.situation.now).then_some((until, HoldReason::Escalation(id)))
    }

    pub(super) fn channel_off(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let channel = self.situation.rules.channel(&candidate.recipient)?;
        (!channel.row.is_active).then(|| (self.situation.now + LOOK_AGAIN, HoldReason::ChannelOff))
    }

    fn silenced(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let monitor = candidate.monitor_id?;
        let subject = Subject {
            labels: &candidate.facts.labels,
            kind: &candidate.facts.kind,
            name: &candidate.facts.monitor_name,
            severity: candidate.severity,
        };
        let silences = self.situation.rules.silences.iter().filter(|silence| silence.covers(monitor, &subject));
        let ends = silences.filter_map(|silence| Some((silence.end_if_within(self.situation.now)?, silence.id)));
        ends.max().map(|(end, silence)| (end, HoldReason::Silence(silence)))
    }

    pub(super) fn quiet(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        if candidate.severity == Severity::Critical {
            return None;
        }
        let hours = self.situation.rules.channel(&candidate.recipient)?.quiet_hours?;
        Some((hours.end_if_within(self.situation.now)?, HoldReason::QuietHours))
    }

    /// Only alerts wait: a reminder is due because its alert was told.
    fn parents_down(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        if candidate.notification_type != NotificationType::Alert {
            return None;
        }
        let now = self.situation.now;
        let ancestors = self.situation.rules.dependencies.ancestors(candidate.monitor_id?);
        let parents: Vec<(MonitorId, &super::Parent)> =
            ancestors.iter().filter_map(|id| Some((*id, self.situation.parents.get(id)?))).collect();
        if let Some((down, _)) = parents.iter().find(|(_, parent)| parent.is_down) {
            return Some((now + LOOK_AGAIN, HoldReason::Dependency(Some(down.0))));
        }
        if !matches!(candidate.hold, None | Some(HoldReason::Dependency(None))) {
            return None;
        }
        let is_asked = |parent: &super::Parent| parent.last_run_at.is_some_and(|at| at >= candidate.created_at);
        let deadline = candidate.created_at + self.limits.dependency_wait;
        let waits = now < deadline && parents.iter().any(|(_, parent)| parent.is_active && !is_asked(parent));
        waits.then(|| (deadline.min(now + LOOK_AT_PARENTS), HoldReason::Dependency(None)))
    }

    /// One message a span of one origin, unless it is worse than what was told.
    fn repeated(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let sort = Sort::of(candidate.notification_type);
        let told = self.situation.recent.get(&candidate.recipient)?.iter().rev();
        let told = told.filter(|recent| recent.sort == sort && recent.origin == candidate.origin);
        let last = told.max_by_key(|recent| recent.at)?;
        let until = last.at + self.limits.repetition;
        (until > self.situation.now && candidate.severity <= last.severity).then_some((until, HoldReason::Repetition))
    }

    fn stormed(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let now = self.situation.now;
        let sort = Sort::of(candidate.notification_type);
        let recent = self.situation.recent.get(&candidate.recipient)?;
        let of_storm = || recent.iter().filter(|recent| recent.sort == sort);
        let is_storm =
            of_storm().filter(|recent| recent.at > now - self.limits.storm_window).count() >= self.limits.storm_first;
        let digest = of_storm().filter(|recent| recent.origin == super::digest::STORM).map(|recent| recent.at).max();
        let goes_on = digest.is_some_and(|at| at > now - BETWEEN_DIGESTS);
        (is_storm || goes_on).then(|| {
            let next = digest.map_or(now + COLLECT, |at| (at + BETWEEN_DIGESTS).max(now + COLLECT));
            (next, HoldReason::Storm)
        })
    }

    fn rate_limited(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let limit = self.situation.rules.channel(&candidate.recipient)?.row.max_per_minute?;
        let now = self.situation.now;
        let recent = self.situation.recent.get(&candidate.recipient)?;
        let mut within: Vec<_> = recent.iter().map(|recent| recent.at).filter(|at| *at > now - MINUTE).collect();
        within.sort_unstable();
        // The one whose end of the minute makes room.
        let makes_room = within.len().checked_sub(usize::try_from(limit).unwrap_or(usize::MAX))?;
        within.get(makes_room).map(|at| (*at + MINUTE, HoldReason::RateLimit))
    }
}

impl Sibling {
    pub(super) fn is_undelivered(&self) -> bool {
        matches!(self.status, NotificationStatus::Pending | NotificationStatus::Held)
    }

    fn is_waiting_recovery(&self) -> bool {
        self.notification_type == NotificationType::Recovery && self.is_undelivered()
    }
}
