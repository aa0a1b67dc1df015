//! The gates, in their order: what passes all of them goes out.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Severity;

use super::digest::collects;
use super::{Candidate, Member, Planner, Sibling, Sort, Step};
use crate::domain::hold::HoldReason;
use crate::domain::monitor::MonitorId;
use crate::domain::notification::{NotificationId, NotificationStatus, NotificationType};
use crate::domain::selector::Subject;

/// What waits for a person or another monitor is looked at so often, beside being looked at when that changes.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(30);
/// While parents are being checked.
const LOOK_AT_PARENTS: TimeDelta = TimeDelta::milliseconds(200);
/// While a parent may be ending its incident: what waits for that is let go in that transaction, which may not see yet
/// that this one waits.
const LOOK_AT_ENDING_PARENT: TimeDelta = TimeDelta::seconds(1);
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
            .or_else(|| self.cut_off(candidate))
            .or_else(|| self.behind_cut_off(candidate));
        // What is collected may go out with others, without being looked at again itself.
        if hold.is_none_or(|(_, reason)| collects(reason)) {
            self.release_recoveries(candidate);
        }
        let is_held = match hold {
            Some((until, reason)) => {
                self.hold(candidate, until, reason);
                true
            }
            None => self.limit(candidate, candidate.unsettled_digest()),
        };
        if is_held {
            self.withdraw_older_reminders(candidate);
        }
    }

    /// A recovery that was held would be read as news of this incident: it goes out before.
    pub(super) fn release_recoveries(&mut self, candidate: &Candidate) {
        for earlier in &candidate.earlier_recoveries {
            let is_held = match self.decided.get(&earlier.id) {
                Some(status) => *status == NotificationStatus::Held,
                None => earlier.is_held,
            };
            if is_held {
                self.decided.insert(earlier.id, NotificationStatus::Pending);
                self.steps.push(Step::Send { id: earlier.id, waits_for: earlier.waits_for });
                self.remember(candidate, Sort::Recovery);
            }
        }
    }

    /// Limits on how much reaches a recipient; the last gates of alerts, reminders and recoveries alike. True where
    /// they hold it.
    pub(super) fn limit(&mut self, candidate: &Candidate, waits_for: Option<NotificationId>) -> bool {
        let may_merge = !self.traits(candidate).wants_each;
        let collected = if may_merge { self.collected(candidate) } else { None };
        // What was collected goes out as one, and is limited as one.
        let hold = match may_merge && collected.is_none() {
            true => {
                self.repeated(candidate).or_else(|| self.stormed(candidate)).or_else(|| self.rate_limited(candidate))
            }
            false => self.rate_limited(candidate),
        };
        match (hold, collected) {
            (Some((until, reason)), None) => self.hold(candidate, until, reason),
            (Some((until, reason)), Some((_, members))) => self.hold_together(&members, until, reason),
            (None, Some((reason, members))) => {
                self.take_along(candidate, &members);
                self.send_digest(candidate, reason, &members);
            }
            (None, None) => {
                self.take_along(candidate, &[]);
                self.send(candidate, waits_for);
            }
        }
        hold.is_some()
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
        let route = self.escalation(candidate);
        let rule = route.and_then(|id| self.situation.rules.routes.iter().find(|other| other.id == id));
        let why = match candidate.hold {
            Some(_) if candidate.is_over => Some("the incident was over before this was told"),
            Some(_) if candidate.is_unwanted => Some("its monitor wants nobody told now"),
            Some(_) if route.is_some() && rule.is_none() => Some("its route is gone or switched off"),
            Some(_) if candidate.is_acknowledged && rule.is_some_and(|route| route.unless_acknowledged) => {
                Some("the incident is acknowledged")
            }
            _ => None,
        };
        if let Some(why) = why {
            self.withdraw(candidate.id, why);
            return true;
        }
        // The recovery in line behind it takes it along, at its own turn.
        candidate.is_over && candidate.siblings.iter().any(Sibling::is_waiting_recovery)
    }

    /// The route that waits and chose this recipient, also where something else held the message after it.
    fn escalation(&self, candidate: &Candidate) -> Option<i64> {
        if let Some(HoldReason::Escalation(route)) = candidate.hold {
            return Some(route);
        }
        let route = candidate.rule.strip_prefix("route ")?.parse().ok()?;
        let is_escalation = self.situation.rules.routes.iter().any(|other| other.id == route && other.is_escalation());
        (is_escalation && candidate.notification_type == NotificationType::Alert).then_some(route)
    }

    /// A reminder behind an alert, or a worse reminder, that is on its way and was not delivered yet: that is enough.
    fn is_told_by_a_sibling(&mut self, candidate: &Candidate) -> bool {
        if candidate.notification_type != NotificationType::Reminder {
            return false;
        }
        let tells_it = candidate.earlier_trouble().find(|sibling| {
            let is_bad_enough = match sibling.notification_type {
                NotificationType::Alert => sibling.severity >= candidate.severity,
                _ => sibling.severity > candidate.severity,
            };
            is_bad_enough && self.status(sibling) == NotificationStatus::Pending
        });
        match tells_it.map(|sibling| sibling.id) {
            Some(id) => {
                self.merge(vec![candidate.id], id);
                true
            }
            None => false,
        }
    }

    /// A reminder that goes out takes along what was not delivered before it, unless that is worse, or listed beside it.
    fn take_along(&mut self, candidate: &Candidate, listed: &[Member]) {
        let is_untold = |sibling: &&Sibling| {
            matches!(self.status(sibling), NotificationStatus::Pending | NotificationStatus::Held)
                && listed.iter().all(|member| member.id != sibling.id)
        };
        let untold = candidate.milder_before().filter(is_untold).map(|sibling| sibling.id).collect();
        self.merge(untold, candidate.id);
    }

    /// While a reminder is held it may still be withdrawn, so nothing is merged into it; it only takes the place of
    /// older reminders that are held as well.
    fn withdraw_older_reminders(&mut self, candidate: &Candidate) {
        let is_held = |sibling: &&Sibling| {
            sibling.notification_type == NotificationType::Reminder && self.status(sibling) == NotificationStatus::Held
        };
        for id in candidate.milder_before().filter(is_held).map(|sibling| sibling.id).collect::<Vec<_>>() {
            self.withdraw(id, "a newer reminder, which is held as well, takes its place");
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

    /// Alerts wait, and reminders that would be the first that their recipient hears.
    fn parents_down(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let is_alert = candidate.notification_type == NotificationType::Alert;
        if !is_alert && candidate.earlier_trouble().any(|sibling| self.tells(sibling, candidate)) {
            return None;
        }
        let now = self.situation.now;
        let ancestors = self.situation.rules.dependencies.ancestors(candidate.monitor_id?);
        let parents: Vec<(MonitorId, &super::Parent)> =
            ancestors.iter().filter_map(|id| Some((*id, self.situation.parents.get(id)?))).collect();
        let down = parents.iter().filter(|(_, parent)| parent.is_down).min_by_key(|(_, parent)| parent.is_ending);
        if let Some((down, parent)) = down {
            let look = if parent.is_ending { LOOK_AT_ENDING_PARENT } else { LOOK_AGAIN };
            return Some((now + look, HoldReason::Dependency(Some(down.0))));
        }
        if !is_alert || !matches!(candidate.hold, None | Some(HoldReason::Dependency(None))) {
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
        let now = self.situation.now;
        let told = self.situation.recent.get(&candidate.recipient)?.iter();
        let told = told.filter(|recent| recent.sort == sort && recent.origin == candidate.origin);
        let within = || told.clone().filter(|recent| recent.at + self.limits.repetition > now);
        let worst = within().map(|recent| recent.severity).max()?;
        let last = within().map(|recent| recent.at).max()?;
        (candidate.severity <= worst).then(|| (last + self.limits.repetition, HoldReason::Repetition))
    }

    fn stormed(&self, candidate: &Candidate) -> Option<(DateTime<Utc>, HoldReason)> {
        let now = self.situation.now;
        let sort = Sort::of(candidate.notification_type);
        let recent = self.situation.recent.get(&candidate.recipient)?;
        let of_storm = || recent.iter().filter(|recent| recent.sort == sort);
        let is_storm = of_storm().filter(|recent| recent.at > now - self.limits.storm_window).count()
            >= self.limits.storm_first.max(1);
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

impl Candidate {
    /// The alert and reminders of this incident that were queued before, oldest first.
    pub(super) fn earlier_trouble(&self) -> impl Iterator<Item = &Sibling> {
        self.siblings
            .iter()
            .filter(|sibling| sibling.id < self.id && Sort::of(sibling.notification_type) == Sort::Trouble)
    }

    /// Of a reminder: what came before and is not worse.
    fn milder_before(&self) -> impl Iterator<Item = &Sibling> {
        let is_reminder = self.notification_type == NotificationType::Reminder;
        self.earlier_trouble().filter(move |sibling| is_reminder && sibling.severity <= self.severity)
    }

    /// The newest digest that told of this incident and is not settled yet: what follows must not overtake it.
    pub(super) fn unsettled_digest(&self) -> Option<NotificationId> {
        let earlier = self.siblings.iter().filter(|sibling| sibling.id < self.id);
        let is_sibling = |id: &NotificationId| self.siblings.iter().any(|sibling| sibling.id == *id);
        earlier.filter_map(|sibling| sibling.unsettled_target).filter(|target| !is_sibling(target)).max()
    }
}

impl Sibling {
    fn is_waiting_recovery(&self) -> bool {
        self.notification_type == NotificationType::Recovery
            && matches!(self.status, NotificationStatus::Pending | NotificationStatus::Held)
    }
}
