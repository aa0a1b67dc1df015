//! What is done to the nodes and to their database, planned from a seed.
//!
//! Faults may overlap, also on the database and on nodes at once; but at each moment one of the nodes that are always
//! there is left alone.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use nix::sys::signal::Signal;

use super::dice::Dice;
use super::now;
use super::world::World;

/// A pause is to last longer than this: the default of `node.lease_seconds`.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// Between the beginnings of two faults, in ms.
const FAULT_EVERY_MS: (u64, u64) = (2_500, 5_000);
/// How long a node is left alone between two faults, in ms.
const REST_MS: u64 = 3_000;
/// The same of the database.
const DATABASE_REST_MS: u64 = 20_000;
const SLOWNESS: Duration = Duration::from_millis(200);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL, and a start later.
    Killed,
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Frozen,
    /// The wall clock is wrong by so many seconds, then right again.
    Shifted(i64),
    /// The database resets the node's connections and refuses new ones.
    Cut,
    /// The database resets the node's connections, once.
    Reset,
    /// No byte passes between the node and the database.
    Swallowed,
    /// Each packet between the node and the database takes 200 ms.
    Slowed,
    /// SIGTERM, and a start later.
    Removed,
    /// A node more, for a while; its end is a SIGTERM.
    Added,
    /// The database is stopped in good order, and started.
    DatabaseStopped,
    /// The database is killed, and started.
    DatabaseKilled,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::Killed,
        Self::Frozen,
        Self::Shifted(0),
        Self::Cut,
        Self::Reset,
        Self::Swallowed,
        Self::Slowed,
        Self::Removed,
        Self::Added,
        Self::DatabaseStopped,
        Self::DatabaseKilled,
    ];

    pub(crate) fn is_of_database(self) -> bool {
        matches!(self, Self::DatabaseStopped | Self::DatabaseKilled)
    }

    /// Whether it may come between the taking of a mail and the note of it.
    pub(crate) fn may_double_mail(self) -> bool {
        !matches!(self, Self::Slowed | Self::Removed | Self::Added)
    }

    /// Between these, in ms.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::Killed | Self::Removed => (1_000, 15_000),
            Self::Frozen => (12_000, 18_000),
            Self::Shifted(_) => (4_000, 20_000),
            Self::Cut | Self::Swallowed => (2_000, 22_000),
            Self::Reset => (1, 1),
            Self::Slowed => (5_000, 15_000),
            Self::Added => (12_000, 30_000),
            Self::DatabaseStopped | Self::DatabaseKilled => (500, 6_000),
        }
    }
}

/// A fault that is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    /// In ms from the beginning.
    at: u64,
    fault: Fault,
    /// `None`: the database.
    node: Option<usize>,
    lasts: u64,
}

/// All faults of so many ms, over `nodes` nodes that are always there and one more that comes and goes.
pub(crate) fn plan(dice: &mut Dice, nodes: usize, span: u64) -> Vec<Planned> {
    let (mut planned, mut bag): (Vec<Planned>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut busy_until = vec![0_u64; nodes + 2];
    let (extra, database) = (nodes, nodes + 1);
    let mut at = 1_000;
    while at < span {
        if bag.is_empty() {
            bag.extend(Fault::ALL);
        }
        let fault = bag.swap_remove(usize::try_from(dice.below(bag.len() as u64)).unwrap());
        let fault = match fault {
            Fault::Shifted(_) => {
                let seconds = i64::try_from(dice.between(1, 60)).unwrap();
                Fault::Shifted(if dice.below(2) == 0 { seconds } else { -seconds })
            }
            other => other,
        };
        let (least, most) = fault.lasts();
        let lasts = dice.between(least, most);
        let free: Vec<usize> = (0..nodes).filter(|node| busy_until[*node] <= at).collect();
        let victim = match fault {
            Fault::Added => Some(extra),
            Fault::DatabaseStopped | Fault::DatabaseKilled => Some(database),
            _ if free.len() > 1 => Some(*dice.one_of(&free)),
            _ => None,
        };
        match victim.filter(|victim| busy_until[*victim] <= at) {
            Some(victim) => {
                let rest = if victim == database { DATABASE_REST_MS } else { REST_MS };
                busy_until[victim] = at + lasts + rest;
                planned.push(Planned { at, fault, node: (victim != database).then_some(victim), lasts });
                at += dice.between(FAULT_EVERY_MS.0, FAULT_EVERY_MS.1);
            }
            // It waits for its turn.
            None => {
                bag.push(fault);
                at += 500;
            }
        }
    }
    planned
}

/// A fault that struck. Times are in ms since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) fault: Fault,
    /// `None`: the database.
    pub(crate) node: Option<String>,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Carries a plan out.
pub(crate) struct Faults {
    began: Instant,
    /// The next one last.
    plan: Vec<Planned>,
    active: Vec<(Planned, Window)>,
    pub(crate) over: Vec<Window>,
}

impl Faults {
    pub(crate) fn new(mut plan: Vec<Planned>) -> Self {
        plan.reverse();
        Self { began: Instant::now(), plan, active: Vec::new(), over: Vec::new() }
    }

    /// How many have begun.
    pub(crate) fn count(&self) -> usize {
        self.active.len() + self.over.len()
    }

    /// Ends what is over, and begins what is due.
    pub(crate) fn advance(&mut self, world: &mut World) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.end_those(world, |planned| planned.at + planned.lasts <= elapsed);
        while let Some(planned) = self.plan.pop_if(|planned| planned.at <= elapsed) {
            let node = planned.node.map(|node| world.nodes[node].name.clone());
            let window = Window { fault: planned.fault, node, from: now(), to: i64::MAX };
            begin(world, planned);
            self.active.push((planned, window));
        }
    }

    /// Ends everything.
    pub(crate) fn end_all(&mut self, world: &mut World) {
        self.end_those(world, |_| true);
    }

    /// Whether this node is to run now; the last one does only while it is added.
    pub(crate) fn is_to_run(&self, node: usize, is_last: bool) -> bool {
        let mut faults = self.active.iter().filter(|(planned, _)| planned.node == Some(node)).map(|(_, it)| it.fault);
        if is_last {
            faults.any(|fault| fault == Fault::Added)
        } else {
            !faults.any(|fault| matches!(fault, Fault::Killed | Fault::Removed))
        }
    }

    fn end_those(&mut self, world: &mut World, is_over: impl Fn(&Planned) -> bool) {
        let (over, active) = std::mem::take(&mut self.active).into_iter().partition(|(planned, _)| is_over(planned));
        self.active = active;
        for (planned, window) in over {
            end(world, planned);
            self.over.push(Window { to: now(), ..window });
        }
    }
}

fn begin(world: &mut World, planned: Planned) {
    let Some(node) = planned.node else {
        return match planned.fault {
            Fault::DatabaseKilled => world.database.kill_9(),
            _ => world.database.stop(),
        };
    };
    let node = &mut world.nodes[node];
    match planned.fault {
        // It may still be busy with its last end.
        Fault::Added if node.is_running() => {}
        Fault::Added => node.start(),
        Fault::Shifted(seconds) => node.clock.shift(TimeDelta::seconds(seconds)),
        Fault::Cut => {
            node.proxy.reset_all();
            node.proxy.cut();
        }
        Fault::Reset => node.proxy.reset_all(),
        Fault::Swallowed => node.proxy.blackhole(),
        Fault::Slowed => node.proxy.delay(SLOWNESS),
        // It may have ended by itself just before, since the database was away when it started.
        _ if !node.is_running() => {}
        Fault::Killed => node.kill(),
        Fault::Frozen => node.signal(Signal::SIGSTOP),
        Fault::Removed => node.leave(),
        Fault::DatabaseStopped | Fault::DatabaseKilled => unreachable!("they strike no node"),
    }
}

fn end(world: &mut World, planned: Planned) {
    let Some(node) = planned.node else { return world.database.start() };
    let node = &mut world.nodes[node];
    match planned.fault {
        Fault::Added if node.is_running() => node.leave(),
        Fault::Frozen if node.is_running() => node.signal(Signal::SIGCONT),
        Fault::Shifted(_) => node.clock.shift(TimeDelta::zero()),
        Fault::Cut | Fault::Swallowed => node.proxy.heal(),
        Fault::Slowed => node.proxy.delay(Duration::ZERO),
        // Who looks after the nodes starts it.
        Fault::Killed | Fault::Removed => {}
        Fault::Added | Fault::Frozen | Fault::Reset | Fault::DatabaseStopped | Fault::DatabaseKilled => {}
    }
}
