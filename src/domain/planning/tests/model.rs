//! Delivery as a property: random incidents, silences, results and times, against a ledger that knows nothing of gates.
//!
//! The [`Ledger`] reads only what was sent, and what each sent message stands for. [`Outbox`] refuses by itself what no
//! step may do: naming a row that is finished or on its way, or withdrawing what counts as told.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use watchbell_contract::Severity;

use super::gates::{channel, silence};
use super::outbox::{Outbox, Row, start};
use crate::domain::planning::{LaneTraits, Parent};
use crate::domain::rules::RouteRow;
use crate::domain::{HoldReason, MonitorId, NotificationStatus, NotificationType};

/// The second has quiet hours, a limit, and may be switched off.
const RECIPIENTS: [&str; 2] = ["a@x.test", "room"];
/// Told of what stays open for a while.
const LATER: &str = "later@x.test";
const MONITORS: i64 = 3;

#[derive(Debug, Clone)]
enum Event {
    /// A failing run: it opens an incident, or reminds of it.
    Fails {
        monitor: i64,
        severity: Severity,
        recipients: usize,
    },
    Recovers {
        monitor: i64,
    },
    Acknowledges {
        monitor: i64,
    },
    Silences {
        monitor: i64,
        seconds: i64,
    },
    Unsilences,
    Switches {
        is_active: bool,
    },
    /// `[]`, or not any more.
    WantsNobody {
        monitor: i64,
        nobody: bool,
    },
    /// Monitor 1 depends on another one.
    ParentIs {
        is_down: bool,
    },
    Passes {
        milliseconds: i64,
    },
    Plans,
    /// What is on its way ends so, one after the other.
    Delivers {
        results: Vec<NotificationStatus>,
    },
    /// Begun, and not ended before something else happens.
    Takes,
}

fn severity() -> impl Strategy<Value = Severity> {
    prop_oneof![Just(Severity::Info), Just(Severity::Warning), Just(Severity::Critical)]
}

fn event() -> impl Strategy<Value = Event> {
    use NotificationStatus::{Failed, Pending, Sent};
    let monitor = 1..=MONITORS;
    let result = prop_oneof![4 => Just(Sent), 3 => Just(Pending), 1 => Just(Failed)];
    let span = prop_oneof![0_i64..2_000, 2_000_i64..20_000, 20_000_i64..120_000, 120_000_i64..7_200_000];
    prop_oneof![
        6 => (monitor.clone(), severity(), 1_usize..4)
            .prop_map(|(monitor, severity, recipients)| Event::Fails { monitor, severity, recipients }),
        4 => monitor.clone().prop_map(|monitor| Event::Recovers { monitor }),
        1 => monitor.clone().prop_map(|monitor| Event::Acknowledges { monitor }),
        1 => (monitor.clone(), 1_i64..4_000).prop_map(|(monitor, seconds)| Event::Silences { monitor, seconds }),
        1 => Just(Event::Unsilences),
        1 => any::<bool>().prop_map(|is_active| Event::Switches { is_active }),
        1 => (monitor, any::<bool>()).prop_map(|(monitor, nobody)| Event::WantsNobody { monitor, nobody }),
        1 => any::<bool>().prop_map(|is_down| Event::ParentIs { is_down }),
        6 => span.prop_map(|milliseconds| Event::Passes { milliseconds }),
        8 => Just(Event::Plans),
        4 => prop::collection::vec(result, 1..4).prop_map(|results| Event::Delivers { results }),
        2 => Just(Event::Takes),
    ]
}

struct World {
    outbox: Outbox,
    taken: Vec<i64>,
    /// What each recovery run saw: whom it owes a recovery because they were told. By incident.
    owed: BTreeMap<usize, BTreeSet<String>>,
    /// Whom it told as a present recipient only.
    present: BTreeMap<usize, BTreeSet<String>>,
}

impl World {
    fn new(can_edit: bool, wants_each: bool, one_origin: bool) -> Self {
        let mut outbox = Outbox::new();
        outbox.rules.channels = vec![channel("room")];
        outbox.rules.channels[0].quiet_hours = Some("12:30-13:00".to_owned());
        outbox.rules.channels[0].max_per_minute = Some(3);
        outbox.rules.dependencies = vec![(1, 9)];
        outbox.rules.routes = vec![RouteRow {
            id: 3,
            severity: None,
            selector: None,
            recipients: format!(r#"["{LATER}"]"#),
            after_minutes: 10,
            unless_acknowledged: true,
            is_active: true,
            config_error: None,
        }];
        outbox.lanes.insert("room".to_owned(), LaneTraits { can_edit, wants_each });
        outbox.limits.storm_first = 2;
        outbox.origin = one_origin.then(|| "origin shop".to_owned());
        Self { outbox, taken: Vec::new(), owed: BTreeMap::new(), present: BTreeMap::new() }
    }

    fn open(&self, monitor: i64) -> Option<usize> {
        self.outbox.incidents.iter().rposition(|incident| incident.monitor == monitor && !incident.is_over)
    }

    /// Who was told of an incident, as a run's transaction sees it: by a message that is not held back, or by one that
    /// another message tells which is not.
    fn told(&self, incident: usize) -> BTreeSet<String> {
        let is_told = |row: &&Row| {
            let teller = row.merged_into.map_or(*row, |into| &self.outbox.rows[usize::try_from(into).unwrap() - 1]);
            !matches!(teller.status, NotificationStatus::Held | NotificationStatus::Withdrawn)
        };
        let of_incident = self.outbox.rows.iter().filter(|row| row.incident == Some(incident));
        of_incident.filter(is_told).map(|row| row.message.recipient.clone()).collect()
    }

    fn fails(&mut self, monitor: i64, severity: Severity, recipients: usize) {
        self.outbox.severity = severity;
        self.outbox.rule = "people_to_notify".to_owned();
        let is_nobody = self.outbox.unwanted.contains(&monitor);
        let is_new = self.open(monitor).is_none();
        let named = RECIPIENTS.iter().enumerate().filter(|(at, _)| recipients & (1 << at) != 0 && !is_nobody);
        for (_, name) in named {
            let kind = if is_new { NotificationType::Alert } else { NotificationType::Reminder };
            // Both of one run belong to the same incident.
            let id = self.queue(kind, monitor, name);
            if is_new && monitor == 1 {
                self.hold(id, HoldReason::Dependency(None), TimeDelta::zero());
            }
        }
        if is_new && !is_nobody {
            self.outbox.rule = "route 3".to_owned();
            let id = self.queue(NotificationType::Alert, monitor, LATER);
            self.hold(id, HoldReason::Escalation(3), TimeDelta::minutes(10));
        }
    }

    fn queue(&mut self, kind: NotificationType, monitor: i64, name: &str) -> i64 {
        self.outbox.queue(kind, monitor, name)
    }

    fn hold(&mut self, id: i64, reason: HoldReason, wait: TimeDelta) {
        let until = self.outbox.now - start() + wait;
        self.outbox.held_from_the_start(id, reason, 0);
        self.outbox.row(id).next_attempt_at = start() + until;
    }

    fn recovers(&mut self, monitor: i64) {
        let Some(incident) = self.open(monitor) else { return };
        let told = self.told(incident);
        self.outbox.severity = Severity::Warning;
        self.outbox.rule = "told before".to_owned();
        if !told.is_empty() && !self.outbox.unwanted.contains(&monitor) {
            for name in told.iter().map(String::as_str).chain(RECIPIENTS).collect::<BTreeSet<_>>() {
                self.outbox.queue(NotificationType::Recovery, monitor, name);
            }
            let of_incident = self.outbox.rows.iter().filter(|row| row.incident == Some(incident));
            let known: BTreeSet<String> = of_incident
                .filter(|row| row.message.notification_type != NotificationType::Recovery)
                .map(|row| row.message.recipient.clone())
                .collect();
            let strangers = RECIPIENTS.iter().map(ToString::to_string).filter(|name| !known.contains(name));
            self.present.insert(incident, strangers.collect());
            self.owed.insert(incident, told);
        }
        self.outbox.incidents[incident].is_over = true;
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Fails { monitor, severity, recipients } => self.fails(*monitor, *severity, *recipients),
            Event::Recovers { monitor } => self.recovers(*monitor),
            Event::Acknowledges { monitor } => {
                if let Some(incident) = self.open(*monitor) {
                    self.outbox.incidents[incident].is_acknowledged = true;
                }
            }
            Event::Silences { monitor, seconds } => {
                let mut silence = silence(Some(*monitor), 0);
                silence.starts_at = self.outbox.now;
                silence.ends_at = Some(self.outbox.now + TimeDelta::seconds(*seconds));
                self.outbox.rules.silences.push(silence);
            }
            Event::Unsilences => {
                self.outbox.rules.silences.clear();
                self.look_at_everything();
            }
            Event::Switches { is_active } => {
                self.outbox.rules.channels[0].is_active = *is_active;
                self.look_at_everything();
            }
            Event::WantsNobody { monitor, nobody: true } => drop(self.outbox.unwanted.insert(*monitor)),
            Event::WantsNobody { monitor, nobody: false } => drop(self.outbox.unwanted.remove(monitor)),
            Event::ParentIs { is_down } => {
                let last_run_at = Some(self.outbox.now);
                let parent = Parent { is_down: *is_down, is_ending: false, is_active: true, last_run_at };
                self.outbox.parents.insert(MonitorId(9), parent);
            }
            Event::Passes { milliseconds } => self.outbox.now += TimeDelta::milliseconds(*milliseconds),
            Event::Plans => self.outbox.plan(),
            Event::Takes => self.take(),
            Event::Delivers { results } => {
                self.take();
                for (at, id) in std::mem::take(&mut self.taken).into_iter().enumerate() {
                    self.outbox.settle(id, results[at % results.len()]);
                }
            }
        }
    }

    fn take(&mut self) {
        let taken = self.outbox.take();
        self.taken.extend(taken);
    }

    /// As a store does when the rules are edited.
    fn look_at_everything(&mut self) {
        let now = self.outbox.now;
        for row in self.outbox.rows.iter_mut().filter(|row| row.status == NotificationStatus::Held) {
            if !matches!(row.hold, Some(HoldReason::Escalation(_))) {
                row.next_attempt_at = row.next_attempt_at.min(now);
            }
        }
    }

    /// Everything is over, everything works, and time passes.
    fn end(&mut self) {
        (1..=MONITORS).for_each(|monitor| self.recovers(monitor));
        self.outbox.rules.silences.clear();
        self.outbox.rules.channels[0].is_active = true;
        self.outbox.parents.clear();
        for _ in 0..80 {
            self.play(&Event::Delivers { results: vec![NotificationStatus::Sent] });
            self.play(&Event::Plans);
            self.play(&Event::Passes { milliseconds: 90_000 });
        }
    }
}

/// What one message that was sent says, and to whom, in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    order: usize,
    incident: usize,
    is_recovery: bool,
    is_in_digest: bool,
}

struct Ledger {
    /// By recipient, in order.
    said: BTreeMap<String, Vec<Said>>,
}

impl Ledger {
    fn read(rows: &[Row]) -> Self {
        let mut said: BTreeMap<String, Vec<Said>> = BTreeMap::new();
        for row in rows {
            let mut teller = row;
            let mut steps = 0;
            while let Some(into) = teller.merged_into {
                teller = &rows[usize::try_from(into).unwrap() - 1];
                steps += 1;
                assert!(steps <= rows.len(), "merges go in a circle: {row:?}");
            }
            let is_told = matches!(teller.status, NotificationStatus::Sent | NotificationStatus::Failed);
            assert!(row.merged_into.is_none() || is_told, "{row:?} was merged into {teller:?}");
            assert_eq!(row.message.recipient, teller.message.recipient);
            if let (Some(incident), Some(order)) = (row.incident, teller.sent_at) {
                let is_recovery = row.message.notification_type == NotificationType::Recovery;
                said.entry(row.message.recipient.clone()).or_default().push(Said {
                    order,
                    incident,
                    is_recovery,
                    is_in_digest: teller.incident.is_none(),
                });
            }
        }
        said.values_mut().for_each(|said| said.sort_by_key(|said| said.order));
        Self { said }
    }

    fn of(&self, recipient: &str, incident: usize) -> Vec<Said> {
        let said = self.said.get(recipient).into_iter().flatten();
        said.filter(|said| said.incident == incident).copied().collect()
    }
}

fn check(world: &World) {
    let rows = &world.outbox.rows;
    for row in rows {
        let is_finished = matches!(
            row.status,
            NotificationStatus::Sent
                | NotificationStatus::Failed
                | NotificationStatus::Merged
                | NotificationStatus::Withdrawn
        );
        assert!(is_finished, "nothing is left when everything is over: {row:?}");
    }
    let ledger = Ledger::read(rows);
    for incident in 0..world.outbox.incidents.len() {
        for recipient in RECIPIENTS.into_iter().chain([LATER]) {
            let said = ledger.of(recipient, incident);
            let recoveries: Vec<&Said> = said.iter().filter(|said| said.is_recovery).collect();
            let failed = rows.iter().any(|row| {
                let teller = row.merged_into.map_or(row, |into| &rows[usize::try_from(into).unwrap() - 1]);
                row.incident == Some(incident)
                    && row.message.recipient == recipient
                    && row.message.notification_type == NotificationType::Recovery
                    && teller.status == NotificationStatus::Failed
            });
            let of =
                |map: &BTreeMap<usize, BTreeSet<String>>| map.get(&incident).is_some_and(|to| to.contains(recipient));
            let is_owed = of(&world.owed) || of(&world.present);
            assert!(recoveries.len() <= 1, "one recovery: {recipient} {incident} {said:?}");
            assert!(recoveries.is_empty() || is_owed, "nobody else is told: {recipient} {incident}");
            assert!(!is_owed || failed || recoveries.len() == 1, "it is owed: {recipient} {incident} {said:?}");
            if let Some(recovery) = recoveries.first() {
                let last = said.iter().map(|said| said.order).max();
                assert_eq!(last, Some(recovery.order), "nothing comes after it: {recipient} {incident} {said:?}");
            }
        }
    }
    for recipient in RECIPIENTS.into_iter().chain([LATER]) {
        check_order(world, &ledger, recipient);
    }
}

/// Of one monitor, what is said of a later incident comes after what is said of an earlier one. A digest may come before
/// a single message of an earlier incident that its channel did not take yet: lists wait for lists only.
fn check_order(world: &World, ledger: &Ledger, recipient: &str) {
    for monitor in 1..=MONITORS {
        let said = ledger.said.get(recipient).into_iter().flatten();
        let of_monitor: Vec<&Said> =
            said.filter(|said| world.outbox.incidents[said.incident].monitor == monitor).collect();
        for pair in of_monitor.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            let is_in_order =
                earlier.is_in_digest || earlier.order == later.order || earlier.incident <= later.incident;
            assert!(is_in_order, "{recipient} hears of incident {} after {}", later.incident, earlier.incident);
        }
    }
}

/// Of one sort, within one window, a recipient gets the first ones and digests, no more, unless it wants each.
fn check_storms(world: &World) {
    let limits = &world.outbox.limits;
    let digests_in_window = 1;
    let by_itself = |row: &&Row| row.status == NotificationStatus::Sent;
    for kind in [NotificationType::Alert, NotificationType::Recovery] {
        let times: Vec<_> = world
            .outbox
            .rows
            .iter()
            .filter(by_itself)
            .filter(|row| row.message.recipient == RECIPIENTS[0] && row.message.notification_type == kind)
            .filter_map(|row| row.planned_at)
            .collect();
        for first in &times {
            let within = times.iter().filter(|at| *at >= first && **at < *first + limits.storm_window).count();
            // A recovery that was held goes out before the next alert of its monitor, whatever the limits say.
            let released = if kind == NotificationType::Recovery { usize::try_from(MONITORS).unwrap() } else { 0 };
            assert!(within <= limits.storm_first + digests_in_window + released, "{kind}: {times:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn whoever_was_told_hears_the_end_once_and_nothing_stays(
        events in prop::collection::vec(event(), 1..80),
        can_edit in any::<bool>(),
        wants_each in any::<bool>(),
        one_origin in any::<bool>(),
    ) {
        let mut world = World::new(can_edit, wants_each, one_origin);
        events.iter().for_each(|event| world.play(event));
        world.end();
        check(&world);
        check_storms(&world);
    }
}
