//! What applying a finished run, or an edit made by hand, changes: one guarded UPDATE of the row and what it owes.
//!
//! Both functions see the row and its open incident as they are inside the transaction that will write, so an edit
//! made during the run is simply what they see.

mod draft;
mod reason;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::facts::Facts;
use super::incident::{ClosingReason, IncidentId, OpenIncident};
use super::monitor::{MonitorId, MonitorRow};
use super::notification::{NewNotification, NotificationType};
use super::rules::Rules;
use super::run::{Cause, FinishedRun};
use super::transition::{State, Verdict, transition};
pub(super) use draft::origin_of;
use draft::{Draft, Message, TOLD_BEFORE, closing_message, state_changes};
use reason::reason;

/// What the installation says about messages.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who is told where a row names only recipients that are none.
    pub admins: Vec<String>,
    /// The zone of rows that name none.
    pub default_zone: Tz,
}

/// A monitor as it is inside the transaction.
#[derive(Debug, Clone)]
pub struct Current {
    /// The row; `None`: it is gone.
    pub row: Option<MonitorRow>,
    /// Its open incident.
    pub incident: Option<OpenIncident>,
    /// The time by the database's clock.
    pub now: DateTime<Utc>,
    /// What people say about messages.
    pub rules: Arc<Rules>,
    /// The names of the monitors that depend on this one; read only where it has any.
    pub dependents: Vec<String>,
}

/// What is to be done with a run or an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is written.
    Discard(DiscardReason),
    /// This is written, in one transaction.
    Apply(Box<Change>),
}

/// Why nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscardReason {
    /// The row is gone.
    Gone,
    /// The row is paused.
    Paused,
    /// Somebody else applied this tick.
    TickAlreadyApplied,
    /// Somebody else did the check that was asked for.
    AlreadyRechecked,
    /// The row asks another question than the one that was answered: it is checked again at once.
    QuestionEdited,
    /// This very outcome was written by an earlier attempt, whose answer was lost.
    WrittenBefore,
    /// The node lost its lease since the check began, and the next tick was due before the outcome could be written: what
    /// it found is too old to be told.
    LeaseLost,
    /// An edit that owes nothing and leaves nothing to write.
    NothingToDo,
}

/// Everything that one run or edit writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row's new values; `None`: the row is gone.
    pub row: Option<RowUpdate>,
    /// The state before, for the record of the run.
    pub state_before: State,
    /// An incident that ends.
    pub closed: Option<(IncidentId, DateTime<Utc>)>,
    /// An incident that begins.
    pub opened: Option<NewIncident>,
    /// What is owed to people.
    pub notifications: Vec<(IncidentReference, NewNotification)>,
    /// What this run told people of, for its record; `None`: nothing.
    pub notification_type: Option<NotificationType>,
    /// Why people were told, or were not, for its record; `None`: there is nothing to say.
    pub reason: Option<String>,
}

/// The columns that Watchbell itself writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowUpdate {
    /// Which row.
    pub id: MonitorId,
    /// The guard: the row must still have this `write_seq` and this `revision`.
    pub write_seq: i64,
    /// See `write_seq`.
    pub revision: i64,
    /// `state`.
    pub state: State,
    /// `consecutive_ok_count`.
    pub consecutive_ok_count: u32,
    /// `consecutive_alert_count`.
    pub consecutive_alert_count: u32,
    /// `last_tick_at`.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// `last_run_at`; stays NULL where another check is asked for.
    pub last_run_at: Option<DateTime<Utc>>,
    /// `last_result_message`; `None`: as it was.
    pub last_result_message: Option<String>,
    /// `last_notification_at` and `last_notification_type`; `None`: as they were.
    pub last_notification: Option<(DateTime<Utc>, NotificationType)>,
    /// `next_run_at`.
    pub next_run_at: Option<DateTime<Utc>>,
    /// `config_error`.
    pub config_error: Option<String>,
}

/// An incident to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIncident {
    /// `opened_at`.
    pub opened_at: DateTime<Utc>,
    /// `opening_message`.
    pub opening_message: String,
    /// The monitor's name now.
    pub monitor_name: String,
    /// Set where the same run that found it (opened by hand, and never recorded) ends it.
    pub recovered_at: Option<DateTime<Utc>>,
}

/// Which incident a notification belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentReference {
    /// One that was open before.
    Existing(IncidentId),
    /// The one that this change opens.
    Opened,
}

/// What applying `run` to the monitor as it is now changes.
pub fn decide_run(run: &FinishedRun, current: &Current, policy: &Policy) -> Decision {
    let Some(row) = &current.row else { return Decision::Discard(DiscardReason::Gone) };
    if let Some(reason) = reason_to_discard(run, row, current.now) {
        return Decision::Discard(reason);
    }
    let mut draft = Draft::new(row, current, policy);
    draft.settle_edits_by_hand(run.finished_at());

    let verdict = match run.outcome.is_ok {
        true => Verdict::Ok,
        false => Verdict::Failed(run.outcome.severity.unwrap_or(row.severity)),
    };
    let was_closed_by_hand = draft.closed.is_some();
    let standing = draft.standing(run.finished_at());
    let next = transition(&standing, verdict, run.instant());
    if row.state == State::Ok && next.state == State::Alert {
        draft.open(run.started_at, run.outcome.message.clone());
    }
    if let Some(reason_to_tell) = next.reason {
        let severity = match verdict {
            Verdict::Failed(severity) => severity,
            Verdict::Ok => draft.told_severity(),
        };
        draft.tell(NotificationType::from(reason_to_tell), next.state, severity, run.instant(), &run.outcome.message);
    }
    draft.reason = reason(&draft, &standing, verdict, &next, was_closed_by_hand);
    if row.state == State::Alert && next.state == State::Ok {
        draft.close(run.finished_at());
    }

    // A check that was asked for while this one was going on is still owed: its NULL stays.
    let is_still_asked_for = row.last_run_at.is_none() && row.recheck_seq != run.monitor.recheck_seq;
    let update = RowUpdate {
        state: next.state,
        consecutive_ok_count: next.consecutive_ok_count,
        consecutive_alert_count: next.consecutive_alert_count,
        last_tick_at: run.tick.or(row.last_tick_at),
        last_run_at: if is_still_asked_for { None } else { Some(run.started_at) },
        last_result_message: Some(run.outcome.message.clone()),
        ..RowUpdate::unchanged(row)
    };
    let update = with_reports(update, run, row);
    Decision::Apply(Box::new(draft.finish(update, run.instant())))
}

/// The same for a run whose node lost its lease since it began. Others may have looked after the monitor meanwhile: what
/// it found counts until `next_tick`, the tick after its own, and not after that.
pub fn decide_late_run(
    run: &FinishedRun,
    next_tick: Option<DateTime<Utc>>,
    current: &Current,
    policy: &Policy,
) -> Decision {
    if next_tick.is_some_and(|next_tick| next_tick <= current.now) {
        return Decision::Discard(DiscardReason::LeaseLost);
    }
    decide_run(run, current, policy)
}

/// What the run knows of the row as written, where the row is still so written. Where it was edited meanwhile, what
/// follows that edit says it, and may have said it already.
fn with_reports(update: RowUpdate, run: &FinishedRun, row: &MonitorRow) -> RowUpdate {
    let ran = &run.monitor;
    let is_same_schedule = (&row.schedule, &row.timezone) == (&ran.schedule, &ran.timezone);
    let is_same_rest =
        (&row.people_to_notify, &row.labels, &row.runs_on) == (&ran.people_to_notify, &ran.labels, &ran.runs_on);
    RowUpdate {
        next_run_at: if is_same_schedule { run.next_run_at } else { row.next_run_at },
        config_error: if is_same_schedule && is_same_rest {
            run.config_error.clone()
        } else {
            row.config_error.clone()
        },
        ..update
    }
}

/// What an edit made by hand owes: an incident closed for a state that was set to `ok` or a row that was deleted, one
/// opened for a state that was set to `alert`, and the columns that report on the row itself.
pub fn decide_edit(
    current: &Current,
    config_error: Option<&str>,
    next_run_at: Option<DateTime<Utc>>,
    policy: &Policy,
) -> Decision {
    let Some(row) = &current.row else { return decide_deletion(current, policy) };
    if !row.is_active {
        return Decision::Discard(DiscardReason::Paused);
    }
    let mut draft = Draft::new(row, current, policy);
    draft.settle_edits_by_hand(current.now);
    let is_reported = row.config_error.as_deref() == config_error && row.next_run_at == next_run_at;
    if is_reported && draft.closed.is_none() && draft.opened.is_none() {
        return Decision::Discard(DiscardReason::NothingToDo);
    }
    let update =
        RowUpdate { next_run_at, config_error: config_error.map(ToOwned::to_owned), ..RowUpdate::unchanged(row) };
    Decision::Apply(Box::new(draft.finish(update, current.now)))
}

/// A row that was deleted while in alert: who was told gets one recovery that says so; nobody where the row wanted
/// nobody told.
fn decide_deletion(current: &Current, policy: &Policy) -> Decision {
    let Some(incident) = &current.incident else { return Decision::Discard(DiscardReason::Gone) };
    let severity = incident.told_severity.unwrap_or(Severity::Critical);
    let facts = Facts {
        monitor_name: incident.monitor_name.clone(),
        state_before: Some(State::Alert),
        state: Some(State::Ok),
        at: Some(current.now),
        opened_at: Some(incident.opened_at),
        recovered_at: Some(current.now),
        message: closing_message(ClosingReason::MonitorDeleted).to_owned(),
        ..Facts::default()
    };
    let told: &[String] = if incident.is_silent { &[] } else { &incident.told };
    let message = Message {
        notification_type: NotificationType::Recovery,
        severity,
        zone: policy.default_zone,
        origin: origin_of(&facts.labels, incident.monitor_id),
        facts: &facts,
    };
    let mut notifications: Vec<_> = told
        .iter()
        .map(|recipient| {
            (IncidentReference::Existing(incident.id), message.to(recipient, TOLD_BEFORE.to_owned(), None))
        })
        .collect();
    let notification_type = (!notifications.is_empty()).then_some(NotificationType::Recovery);
    notifications.extend(state_changes(&message, &current.rules, IncidentReference::Existing(incident.id)));
    Decision::Apply(Box::new(Change {
        row: None,
        state_before: State::Alert,
        closed: Some((incident.id, current.now)),
        opened: None,
        notification_type,
        notifications,
        reason: None,
    }))
}

/// What nodes hold for now differs by less: by the skew that they tolerate, and by how late an answer of the database is.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(10);

fn reason_to_discard(run: &FinishedRun, row: &MonitorRow, now: DateTime<Utc>) -> Option<DiscardReason> {
    if !row.is_active {
        return Some(DiscardReason::Paused);
    }
    if !row.asks_the_same_as(&run.monitor) {
        return Some(DiscardReason::QuestionEdited);
    }
    match (run.cause, run.tick) {
        // A `last_tick_at` in the future (the clock was set back) holds up nothing but that very tick. One that is hardly
        // in the future was written by another node.
        (_, Some(tick)) => row
            .last_tick_at
            .is_some_and(|last| tick == last || (tick < last && last <= now + CLOCKS_DIFFER))
            .then_some(DiscardReason::TickAlreadyApplied),
        (Cause::First | Cause::Forced, None) => row.last_run_at.is_some().then_some(DiscardReason::AlreadyRechecked),
        // A later edit asks for a run of its own; a run that began later has seen the edit.
        (Cause::Event, None) => (row.revision != run.monitor.revision
            || row.last_run_at.is_some_and(|last| last >= run.started_at))
        .then_some(DiscardReason::AlreadyRechecked),
        // Nothing asked for it in the row; what can come twice is the same run, whose first writing seemed to fail.
        (Cause::Schedule | Cause::Manual | Cause::CatchUp | Cause::Dependency, None) => {
            (row.last_run_at == Some(run.started_at)).then_some(DiscardReason::AlreadyRechecked)
        }
    }
}

impl RowUpdate {
    fn unchanged(row: &MonitorRow) -> Self {
        Self {
            id: row.id,
            write_seq: row.write_seq,
            revision: row.revision,
            state: row.state,
            consecutive_ok_count: row.consecutive_ok_count,
            consecutive_alert_count: row.consecutive_alert_count,
            last_tick_at: row.last_tick_at,
            last_run_at: row.last_run_at,
            last_result_message: None,
            last_notification: None,
            next_run_at: row.next_run_at,
            config_error: row.config_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_with_rules;
