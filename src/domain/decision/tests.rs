//! Invariant 5 as a property: random outcomes and hand edits, against a ledger that knows nothing of the code above.
//!
//! The table is played by [`Table`], which writes a [`Change`] as a store does. The [`Ledger`] beside it follows the
//! contract in its own words: who is told, who is owed a recovery, which state follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use watchbell_contract::{Outcome, Severity};

use super::{
    Change, Current, Decision, DiscardReason, IncidentReference, Policy, decide_edit, decide_late_run, decide_run,
};
use crate::domain::{
    Cause, FinishedRun, IncidentId, MissedTickPolicy, MonitorId, MonitorRow, NotificationType, OpenIncident, State,
};

/// What people write into `people_to_notify`, and whom it names.
const PEOPLE: [(Option<&str>, &[&str]); 6] = [
    (None, &[]),
    (Some("[]"), &[]),
    (Some(r#"["a@x.test"]"#), &["a@x.test"]),
    (Some(r#"["b@x.test", "a@x.test", "b@x.test"]"#), &["a@x.test", "b@x.test"]),
    (Some(r#"["c@x.test", 7]"#), &["c@x.test"]),
    (Some(r#"["none"]"#), &["admin@x.test"]),
];

#[derive(Debug, Clone)]
enum Step {
    /// A run without anything in between.
    Run {
        is_ok: bool,
        severity: Option<Severity>,
    },
    /// A run, with a hand at the row before it ends.
    EditedRun {
        is_ok: bool,
        edit: Edit,
    },
    /// A hand at the row, seen by a node at once.
    Edit(Edit),
    /// A hand at the row, seen by nobody before the next step.
    Unseen(Edit),
    /// Everything that waits for one recipient is held back, or is sent.
    Settle {
        recipient: usize,
        status: Status,
    },
    /// Acknowledged, for some minutes or without an end; or taken back.
    Acknowledge {
        is_acknowledged: bool,
        minutes: Option<i64>,
    },
    Delete,
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    State(State),
    People(usize),
    Active(bool),
    Oks(u32),
    Config,
    Recheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Sent,
    Held,
    Withdrawn,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        prop_oneof![Just(State::Ok), Just(State::Alert)].prop_map(Edit::State),
        (0..PEOPLE.len()).prop_map(Edit::People),
        (0..PEOPLE.len()).prop_map(Edit::People),
        prop::bool::weighted(0.7).prop_map(Edit::Active),
        (1_u32..4).prop_map(Edit::Oks),
        Just(Edit::Config),
        Just(Edit::Recheck),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let severity = prop_oneof![
        Just(None),
        Just(Some(Severity::Info)),
        Just(Some(Severity::Warning)),
        Just(Some(Severity::Critical))
    ];
    let status = prop_oneof![Just(Status::Sent), Just(Status::Held), Just(Status::Withdrawn)];
    prop_oneof![
        10 => (any::<bool>(), severity).prop_map(|(is_ok, severity)| Step::Run { is_ok, severity }),
        3 => (any::<bool>(), edit()).prop_map(|(is_ok, edit)| Step::EditedRun { is_ok, edit }),
        2 => edit().prop_map(Step::Edit),
        2 => edit().prop_map(Step::Unseen),
        2 => (0_usize..4, status).prop_map(|(recipient, status)| Step::Settle { recipient, status }),
        1 => (any::<bool>(), prop::option::of(1_i64..90)).prop_map(|(is_acknowledged, minutes)| {
            Step::Acknowledge { is_acknowledged, minutes }
        }),
        1 => prop::bool::weighted(0.1).prop_map(|is_deleted| {
            if is_deleted { Step::Delete } else { Step::Run { is_ok: false, severity: None } }
        }),
    ]
}

struct Incident {
    is_open: bool,
    acknowledged: Option<Option<DateTime<Utc>>>,
    opened_at: DateTime<Utc>,
    /// Type, recipient, severity, and what became of it.
    notifications: Vec<(NotificationType, String, Severity, Status)>,
}

impl Incident {
    fn told(&self) -> BTreeMap<String, Severity> {
        let mut told = BTreeMap::new();
        for (_, recipient, severity, status) in &self.notifications {
            if !matches!(status, Status::Held | Status::Withdrawn) {
                let highest = told.entry(recipient.clone()).or_insert(*severity);
                *highest = (*highest).max(*severity);
            }
        }
        told
    }

    fn recoveries(&self) -> Vec<&str> {
        let of_recovery = self.notifications.iter().filter(|(kind, ..)| *kind == NotificationType::Recovery);
        of_recovery.map(|(_, recipient, ..)| recipient.as_str()).collect()
    }
}

/// The row and the tables beside it, written as a store writes them.
struct Table {
    row: Option<MonitorRow>,
    incidents: Vec<Incident>,
    now: DateTime<Utc>,
    policy: Policy,
}

impl Table {
    fn open(&self) -> Option<usize> {
        self.incidents.iter().position(|incident| incident.is_open)
    }

    fn current(&self) -> Current {
        let incident = self.open().map(|at| {
            let incident = &self.incidents[at];
            let told = incident.told();
            OpenIncident {
                id: IncidentId(i64::try_from(at).unwrap()),
                monitor_id: MonitorId(1),
                alerted: told.keys().cloned().collect(),
                monitor_name: "m".to_owned(),
                opened_at: incident.opened_at,
                acknowledged_at: incident.acknowledged.map(|_| incident.opened_at),
                acknowledged_until: incident.acknowledged.flatten(),
                told_severity: told.values().max().copied(),
                is_silent: false,
                told: told.into_keys().collect(),
            }
        });
        Current { row: self.row.clone(), incident, now: self.now, rules: Arc::default(), dependents: Vec::new() }
    }

    fn write(&mut self, change: &Change) {
        if let Some((IncidentId(id), _)) = change.closed {
            let closed = &mut self.incidents[usize::try_from(id).unwrap()];
            assert!(closed.is_open, "an incident ends once");
            closed.is_open = false;
        }
        if let Some(opened) = &change.opened {
            assert!(self.open().is_none(), "one open incident at a time");
            self.incidents.push(Incident {
                is_open: opened.recovered_at.is_none(),
                acknowledged: None,
                opened_at: opened.opened_at,
                notifications: Vec::new(),
            });
        }
        for (reference, notification) in &change.notifications {
            let at = match reference {
                IncidentReference::Existing(IncidentId(id)) => usize::try_from(*id).unwrap(),
                IncidentReference::Opened => self.incidents.len() - 1,
            };
            let row = (
                notification.notification_type,
                notification.recipient.clone(),
                notification.severity,
                Status::Pending,
            );
            self.incidents[at].notifications.push(row);
        }
        if let Some(update) = &change.row {
            let row = self.row.as_mut().unwrap();
            assert_eq!((row.write_seq, row.revision), (update.write_seq, update.revision), "the guard");
            row.write_seq += 1;
            row.state = update.state;
            row.consecutive_ok_count = update.consecutive_ok_count;
            row.consecutive_alert_count = update.consecutive_alert_count;
            row.last_tick_at = update.last_tick_at;
            row.last_run_at = update.last_run_at;
            row.last_notification_at = update.last_notification.map(|(at, _)| at).or(row.last_notification_at);
        }
    }

    fn edit(&mut self, edit: Edit) {
        let Some(row) = &mut self.row else { return };
        row.revision += 1;
        match edit {
            Edit::State(state) => row.state = state,
            Edit::People(at) => row.people_to_notify = PEOPLE[at].0.map(str::to_owned),
            Edit::Active(is_active) => row.is_active = is_active,
            Edit::Oks(oks) => row.required_consecutive_oks = oks,
            Edit::Config => row.config.push(' '),
            Edit::Recheck => {
                row.last_run_at = None;
                row.recheck_seq += 1;
            }
        }
    }

    /// Whom the row names now.
    fn present(&self) -> BTreeSet<String> {
        let Some(row) = &self.row else { return BTreeSet::new() };
        let (_, names) = PEOPLE.iter().find(|(text, _)| *text == row.people_to_notify.as_deref()).unwrap();
        names.iter().map(ToString::to_string).collect()
    }

    fn wants_nobody(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.people_to_notify.as_deref() == Some("[]"))
    }

    fn play(&mut self, step: &Step) {
        self.now += TimeDelta::minutes(17);
        match step {
            Step::Run { is_ok, severity } => self.run(*is_ok, *severity, None),
            Step::EditedRun { is_ok, edit } => self.run(*is_ok, None, Some(*edit)),
            Step::Edit(edit) => {
                self.edit(*edit);
                self.follow();
            }
            Step::Unseen(edit) => self.edit(*edit),
            Step::Settle { recipient, status } => {
                let name = ["a@x.test", "b@x.test", "c@x.test", "admin@x.test"][*recipient];
                // What was sent stays sent; only alerts and reminders are ever held back.
                for (kind, to, _, now) in self.incidents.iter_mut().flat_map(|incident| &mut incident.notifications) {
                    if to == name && *now != Status::Sent && *kind != NotificationType::Recovery {
                        *now = *status;
                    }
                }
            }
            Step::Acknowledge { is_acknowledged, minutes } => {
                let until = minutes.map(|minutes| self.now + TimeDelta::minutes(minutes));
                if let Some(at) = self.open() {
                    self.incidents[at].acknowledged = is_acknowledged.then_some(until);
                }
            }
            Step::Delete => {
                self.row = None;
                self.follow();
            }
        }
    }

    fn run(&mut self, is_ok: bool, severity: Option<Severity>, edit: Option<Edit>) {
        let Some(row) = self.row.clone() else { return };
        let mut run = finished(row, self.now, is_ok);
        run.outcome.severity = severity;
        if let Some(edit) = edit {
            self.edit(edit);
        }
        let expected = Ledger::of_run(self, &run, is_ok);
        let decision = decide_run(&run, &self.current(), &self.policy);
        self.compare(&decision, expected);
        if let Decision::Apply(change) = &decision {
            assert_eq!(
                decide_run(&run, &self.current(), &self.policy),
                Decision::Discard(DiscardReason::TickAlreadyApplied),
                "a tick is applied once"
            );
            assert!(change.notifications.len() <= 8, "each recipient once for each message");
        }
    }

    fn follow(&mut self) {
        let expected = Ledger::of_edit(self);
        let decision = decide_edit(&self.current(), None, None, &self.policy);
        self.compare(&decision, expected);
    }

    fn compare(&mut self, decision: &Decision, expected: Option<Ledger>) {
        let (Decision::Apply(change), Some(expected)) = (decision, &expected) else {
            assert!(
                matches!(decision, Decision::Discard(_)) && expected.is_none(),
                "{decision:?} and not {expected:?}"
            );
            return;
        };
        let mut owed: Vec<(NotificationType, String)> = change
            .notifications
            .iter()
            .map(|(_, notification)| (notification.notification_type, notification.recipient.clone()))
            .collect();
        owed.sort_by_key(|(kind, recipient)| (kind.as_str(), recipient.clone()));
        let mut contract: Vec<(NotificationType, String)> = Vec::new();
        contract.extend(expected.recoveries.iter().map(|to| (NotificationType::Recovery, to.clone())));
        contract.extend(expected.alerts.iter().map(|to| (NotificationType::Alert, to.clone())));
        contract.sort_by_key(|(kind, recipient)| (kind.as_str(), recipient.clone()));
        let reminders = owed.iter().filter(|(kind, _)| *kind == NotificationType::Reminder).cloned();
        let reminded: Vec<String> = reminders.map(|(_, recipient)| recipient).collect();
        owed.retain(|(kind, _)| *kind != NotificationType::Reminder);
        assert_eq!(owed, contract);
        // When reminders are due is the state machine's own table; who gets them, and that none is doubled, is ours.
        assert!(reminded.is_empty() || (expected.may_remind && reminded.iter().eq(&self.present())), "{reminded:?}");
        assert_eq!(change.row.as_ref().map(|row| row.state), expected.state);
        self.write(change);
        let is_alert = self.row.as_ref().is_some_and(|row| row.state == State::Alert);
        assert_eq!(is_alert, self.open().is_some(), "the state and the open incident agree after each step");
    }
}

/// What one step owes, by the contract's words.
#[derive(Debug, Default)]
struct Ledger {
    recoveries: BTreeSet<String>,
    alerts: BTreeSet<String>,
    may_remind: bool,
    state: Option<State>,
}

impl Ledger {
    /// To everyone who was told and to the present recipients; with `[]`, or where nobody was told, to nobody.
    fn recovery_of_the_open_incident(table: &Table) -> BTreeSet<String> {
        let told: BTreeSet<String> =
            table.open().map(|at| table.incidents[at].told().into_keys().collect()).unwrap_or_default();
        if told.is_empty() || table.wants_nobody() { BTreeSet::new() } else { &told | &table.present() }
    }

    fn of_edit(table: &Table) -> Option<Self> {
        let Some(row) = &table.row else {
            return table
                .open()
                .map(|at| Self { recoveries: table.incidents[at].told().into_keys().collect(), ..Self::default() });
        };
        if !row.is_active || (row.state == State::Alert) == table.open().is_some() {
            return None;
        }
        let mut ledger = Self { state: Some(row.state), ..Self::default() };
        if row.state == State::Ok {
            ledger.recoveries = Self::recovery_of_the_open_incident(table);
        }
        Some(ledger)
    }

    fn of_run(table: &Table, run: &FinishedRun, is_ok: bool) -> Option<Self> {
        let row = table.row.as_ref()?;
        if !row.is_active || row.config != run.monitor.config {
            return None;
        }
        let is_recovering = is_ok && row.consecutive_ok_count + 1 >= row.required_consecutive_oks;
        let by_hand = row.state == State::Ok && table.open().is_some();
        let ends = row.state == State::Alert && is_recovering;
        let mut ledger = Self { may_remind: row.state == State::Alert && !is_ok, ..Self::default() };
        if by_hand || ends {
            ledger.recoveries = Self::recovery_of_the_open_incident(table);
        }
        if row.state == State::Ok && !is_ok {
            ledger.alerts = table.present();
        }
        let is_alert_after = if row.state == State::Ok { !is_ok } else { !ends };
        ledger.state = Some(if is_alert_after { State::Alert } else { State::Ok });
        Some(ledger)
    }
}

pub(super) fn row() -> MonitorRow {
    MonitorRow {
        id: MonitorId(1),
        uuid: "u".to_owned(),
        is_active: true,
        name: "m".to_owned(),
        kind: "sql".to_owned(),
        schedule: "* * * * *".to_owned(),
        timezone: None,
        config: "{}".to_owned(),
        severity: Severity::Warning,
        labels: "{}".to_owned(),
        runs_on: None,
        timeout_seconds: 30,
        retries: 0,
        retry_delay_seconds: 5,
        state: State::Ok,
        consecutive_ok_count: 0,
        required_consecutive_oks: 2,
        required_consecutive_alerts: 1,
        consecutive_alert_count: 0,
        reminder_frequency_minutes: Some(60),
        people_to_notify: Some(r#"["a@x.test"]"#.to_owned()),
        missed_tick_policy: MissedTickPolicy::RunOnce,
        last_tick_at: None,
        last_run_at: None,
        last_notification_at: None,
        next_run_at: None,
        config_error: None,
        revision: 1,
        recheck_seq: 1,
        write_seq: 0,
    }
}

pub(super) fn finished(row: MonitorRow, now: DateTime<Utc>, is_ok: bool) -> FinishedRun {
    FinishedRun {
        monitor: Arc::new(row),
        cause: Cause::Schedule,
        tick: Some(now),
        started_at: now,
        duration: Duration::ZERO,
        outcome: if is_ok { Outcome::ok("fine") } else { Outcome::failed("broken") },
        config_error: None,
        next_run_at: None,
        skipped_ticks: 0,
        missed_ticks: 0,
    }
}

fn table() -> Table {
    let policy = Policy { admins: vec!["admin@x.test".to_owned()], default_zone: Tz::UTC };
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    Table { row: Some(row()), incidents: Vec::new(), now, policy }
}

proptest! {
    #[test]
    fn whoever_was_told_gets_exactly_one_recovery(steps in prop::collection::vec(step(), 1..120)) {
        let mut table = table();
        for step in &steps {
            table.play(step);
            for incident in &table.incidents {
                let recoveries = incident.recoveries();
                let each: BTreeSet<&str> = recoveries.iter().copied().collect();
                assert_eq!(each.len(), recoveries.len(), "nobody gets two recoveries of one incident");
                assert!(!incident.is_open || recoveries.is_empty(), "no recovery of what goes on");
                let is_last = incident.notifications.iter().rev().map(|(kind, ..)| *kind).skip(recoveries.len());
                assert!(is_last.into_iter().all(|kind| kind != NotificationType::Recovery), "nothing after a recovery");
                let alerts = incident.notifications.iter().filter(|(kind, ..)| *kind == NotificationType::Alert);
                let alerted: BTreeSet<&String> = alerts.clone().map(|(_, recipient, ..)| recipient).collect();
                assert_eq!(alerted.len(), alerts.count(), "nobody gets two alerts of one incident");
            }
        }
    }
}

#[test]
fn a_manual_run_that_is_written_twice_counts_once() {
    let mut table = table();
    let run = FinishedRun { cause: Cause::Manual, tick: None, ..finished(row(), table.now, false) };
    let Decision::Apply(change) = decide_run(&run, &table.current(), &table.policy) else { panic!("it is applied") };
    table.write(&change);
    let again = decide_run(&run, &table.current(), &table.policy);
    assert_eq!(again, Decision::Discard(DiscardReason::AlreadyRechecked));
}

#[test]
fn an_outcome_after_a_lost_lease_counts_until_the_next_tick() {
    let table = table();
    let run = finished(row(), table.now, true);
    let next_tick = table.now + TimeDelta::minutes(1);
    let decide = |now, last_tick_at| {
        let current = Current {
            row: Some(MonitorRow { last_tick_at, ..row() }),
            incident: None,
            now,
            rules: Arc::default(),
            dependents: Vec::new(),
        };
        match decide_late_run(&run, Some(next_tick), &current, &table.policy) {
            Decision::Discard(reason) => Some(reason),
            Decision::Apply(_) => None,
        }
    };
    assert_eq!(decide(next_tick - TimeDelta::milliseconds(1), None), None);
    assert_eq!(decide(next_tick, None), Some(DiscardReason::LeaseLost));
    assert_eq!(decide(table.now, run.tick), Some(DiscardReason::TickAlreadyApplied), "another node was first");
}
