//! One installation under torture: its node, its services, and how the node is brought to a step and killed there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::gate::Gate;
use super::services::{Services, programs};
use super::step::Step;
use crate::support::node::{Node, people, quoted, wait_until};

/// A message of each kind is one phase of a monitor's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Alert,
    Reminder,
    Recovery,
}

impl Kind {
    /// As in the column `type`.
    fn word(self) -> &'static str {
        match self {
            Kind::Alert => "alert",
            Kind::Reminder => "reminder",
            Kind::Recovery => "recovery",
        }
    }
}

/// What is waited for comes within a second or two; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One death of the node.
pub(super) struct Kill {
    /// Whose message was on its way, and which.
    pub(super) life: usize,
    pub(super) kind: Kind,
    pub(super) step: Step,
    /// To whom it was really at that step. On a busy machine one that was stopped early is given up, and tried again,
    /// before the last one is there.
    pub(super) there: Vec<String>,
}

/// An installation, and what was done to it.
pub(super) struct Site {
    node: Node,
    pub(super) services: Services,
    pub(super) kills: Vec<Kill>,
    /// Whose alert was not tried again.
    pub(super) cut_off: BTreeSet<usize>,
    /// Whose reminder waited behind its alert.
    pub(super) in_line: BTreeSet<usize>,
    /// How much the node had said when the next step was set.
    log_before: usize,
}

impl Site {
    /// One that serves, with all channels.
    pub(super) fn start(runtime: &Handle) -> Self {
        let services = Services::start(runtime);
        let mut node = Node::new()
            .with("WATCHBELL_MAIL__URL", &format!("smtp://127.0.0.1:{}", services.mail.port))
            .with("WATCHBELL_PUBLIC_URL", "https://watchbell.example.com")
            .with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0")
            .with("WATCHBELL_DELIVERY__STORM_FIRST", "1000")
            .with("PATH", &programs());
        node.start();
        for recipient in &services.recipients {
            if let Some(url) = &recipient.url {
                let (name, url) = (quoted(recipient.name), quoted(url));
                node.sql(&format!("INSERT INTO channels (name, url) VALUES ({name}, {url})"));
            }
        }
        Self { node, services, kills: Vec::new(), cut_off: BTreeSet::new(), in_line: BTreeSet::new(), log_before: 0 }
    }

    /// A monitor that alerts, reminds and recovers; the node dies at a step of each, and all is told before it goes on.
    pub(super) fn live(&mut self, life: usize, steps: [Step; 3]) {
        for (kind, step) in [Kind::Alert, Kind::Reminder, Kind::Recovery].into_iter().zip(steps) {
            self.arm(step);
            self.cause(life, kind);
            self.die(life, kind, step);
            self.node.start();
            self.wait_for_sent(life, kind);
        }
    }

    /// A monitor that recovers while the node is dead of its alert: nobody knows yet who was told.
    pub(super) fn live_in_a_hurry(&mut self, life: usize, step: Step) {
        self.arm(step);
        self.cause(life, Kind::Alert);
        self.die(life, Kind::Alert, step);
        self.cause(life, Kind::Recovery);
        self.node.start();
        self.wait_for_sent(life, Kind::Recovery);
    }

    /// The same, and no service can be reached until the recovery is planned: it takes the alert's place.
    pub(super) fn live_cut_off(&mut self, life: usize, step: Step) {
        self.arm(step);
        self.cause(life, Kind::Alert);
        self.die(life, Kind::Alert, step);
        self.cause(life, Kind::Recovery);
        self.gates().for_each(|gate| gate.set_away(true));
        self.node.start();
        let what = format!("recovery of {} planned", name(life));
        let merged = if step == Step::Settled { "status = 'sent'" } else { "status = 'merged'" };
        wait_until(&what, PATIENCE, || {
            self.rows(life, Kind::Recovery, "planned_at IS NOT NULL") == self.everybody()
                && self.rows(life, Kind::Alert, merged) == self.everybody()
        });
        self.gates().for_each(|gate| gate.set_away(false));
        self.wait_for_sent(life, Kind::Recovery);
        self.cut_off.insert(life);
    }

    /// A monitor that reminds while its alert is stopped at the services: what is behind in the line must not go first.
    pub(super) fn live_in_line(&mut self, life: usize, step: Step) {
        self.arm(step);
        self.cause(life, Kind::Alert);
        let what = format!("alert of {} at {step:?}", name(life));
        wait_until(&what, PATIENCE, || self.is_at(life, Kind::Alert, step));
        self.cause(life, Kind::Reminder);
        let what = format!("reminder of {} planned", name(life));
        wait_until(&what, PATIENCE, || {
            self.rows(life, Kind::Reminder, "planned_at IS NOT NULL OR status = 'merged'") == self.everybody()
        });
        self.die(life, Kind::Alert, step);
        self.in_line.insert(life);
        self.node.start();
        self.wait_for_sent(life, Kind::Alert);
        let what = format!("reminder of {} told", name(life));
        let is_told = "status IN ('sent', 'merged')";
        wait_until(&what, PATIENCE, || self.rows(life, Kind::Reminder, is_told) == self.everybody());
        self.cause(life, Kind::Recovery);
        self.wait_for_sent(life, Kind::Recovery);
    }

    /// Ends the node in order.
    pub(super) fn stop(&mut self) {
        assert!(self.node.stop().success(), "{}", self.node.log());
    }

    /// One number of the database.
    pub(super) fn number(&self, sql: &str) -> i64 {
        self.node.number(sql)
    }

    /// How often a message was tried.
    pub(super) fn attempts(&self, life: usize, kind: Kind, recipient: &str) -> usize {
        let is_it = row(life, kind, &format!("recipient = '{recipient}'"));
        let sql = format!("SELECT coalesce(sum(attempts), 0) FROM notifications WHERE {is_it}");
        usize::try_from(self.node.number(&sql)).unwrap()
    }

    fn everybody(&self) -> usize {
        self.services.recipients.len()
    }

    fn gates(&self) -> impl Iterator<Item = &Arc<Gate>> {
        self.services.recipients.iter().map(|recipient| &recipient.gate)
    }

    /// From now on the node does not get beyond the step.
    fn arm(&mut self, step: Step) {
        self.log_before = self.node.log().len();
        self.gates().for_each(|gate| gate.arm(step.stop()));
        if let Some((what, _)) = step.refusal() {
            let refuse = "BEGIN SELECT RAISE(ABORT, 'no further'); END";
            self.node.sql(&format!("CREATE TRIGGER torture BEFORE {what} {refuse}"));
        }
    }

    fn cause(&self, life: usize, kind: Kind) {
        let (name, broken) = (name(life), self.node.path(format!("broken-{life}")));
        match kind {
            Kind::Alert => {
                std::fs::write(&broken, "").unwrap();
                let config = serde_json::json!({"path": broken, "exists": false}).to_string();
                let names: Vec<_> = self.services.recipients.iter().map(|recipient| recipient.name).collect();
                self.node.sql(&format!(
                    "INSERT INTO monitors (name, kind, schedule, config, required_consecutive_oks, \
                       reminder_frequency_minutes, people_to_notify) \
                     VALUES ('{name}', 'file', '@every 1h', {}, 1, 0, {})",
                    quoted(&config),
                    people(&names)
                ));
                return;
            }
            Kind::Reminder => {}
            Kind::Recovery => std::fs::remove_file(&broken).unwrap(),
        }
        self.node.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE name = '{name}'"));
    }

    /// Waits until the node is at the step with what everybody is to be told, and kills it there.
    fn die(&mut self, life: usize, kind: Kind, step: Step) {
        let what = format!("{kind:?} of {} at {step:?}", name(life));
        wait_until(&what, PATIENCE, || self.is_at(life, kind, step));
        self.node.kill();
        let there =
            self.node.sql(&format!("SELECT recipient FROM notifications WHERE {}", row(life, kind, step.row())));
        let there: Vec<String> = there.lines().map(ToOwned::to_owned).collect();
        let may_be_late = step.stop().is_some();
        assert!(may_be_late || there.len() == self.everybody(), "{what}: killed elsewhere\n{}", self.told(life));
        if step.refusal().is_some() {
            self.node.sql("DROP TRIGGER torture");
        }
        self.gates().for_each(|gate| gate.cut());
        self.kills.push(Kill { life, kind, step, there });
    }

    fn is_at(&self, life: usize, kind: Kind, step: Step) -> bool {
        let said = || self.node.log()[self.log_before..].to_owned();
        match step {
            Step::Decided | Step::Planned => {
                let (_, words) = step.refusal().unwrap();
                self.rows(life, kind, step.row()) == self.everybody() && said().contains(words)
            }
            Step::Claimed | Step::HalfRead | Step::Taken => self.is_at_all_gates(Gate::stopped),
            // All of them, in one attempt to write them down.
            Step::Answered => {
                self.is_at_all_gates(Gate::answered) && said().contains(&format!("waiting={}", self.everybody()))
            }
            Step::Settled => self.rows(life, kind, step.row()) == self.everybody(),
        }
    }

    fn is_at_all_gates(&self, count: fn(&Gate) -> usize) -> bool {
        let wanted = |gate: &Arc<Gate>| self.gates().filter(|other| Arc::ptr_eq(gate, other)).count();
        self.gates().all(|gate| count(gate) >= wanted(gate))
    }

    fn rows(&self, life: usize, kind: Kind, condition: &str) -> usize {
        let sql = format!("SELECT count(*) FROM notifications WHERE {}", row(life, kind, condition));
        usize::try_from(self.node.number(&sql)).unwrap()
    }

    fn wait_for_sent(&self, life: usize, kind: Kind) {
        let what = format!("{kind:?} of {} sent", name(life));
        wait_until(&what, PATIENCE, || self.rows(life, kind, "status = 'sent'") == self.everybody());
    }

    fn told(&self, life: usize) -> String {
        let columns = "type, recipient, status, attempts, planned_at, last_error";
        self.node.sql(&format!("SELECT {columns} FROM notifications WHERE {}", about(life)))
    }
}

/// The name of a life's monitor; it stands in all its messages.
pub(super) fn name(life: usize) -> String {
    format!("torture-{life:03}")
}

fn row(life: usize, kind: Kind, condition: &str) -> String {
    format!("type = '{}' AND ({condition}) AND {}", kind.word(), about(life))
}

fn about(life: usize) -> String {
    format!("monitor_id = (SELECT id FROM monitors WHERE name = '{}')", name(life))
}
