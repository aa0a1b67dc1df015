//! Which of the live nodes runs a monitor. Pure: each computes it alone from the same rows, and none asks another. Only who
//! went lately is in each node's memory: it decides when something is called wrong, never which node runs it.
//!
//! Rendezvous hashing: each node has a weight for each monitor, and the heaviest of those that may run it does. A node
//! that comes or goes moves its own share and nothing else. The weights are made by a fixed mixer (splitmix64's
//! finalizer over FNV-1a of the node's uuid), which may never change: nodes of two versions run beside each other.
//!
//! Nodes see each other come and go at slightly different moments. Two may then run the same check, of which one outcome
//! is applied; that is held by the transaction that writes it, not here.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::monitor::{MonitorId, MonitorRow};
use super::selector::{Selector, SelectorError};

/// For so long after a node came it may be the successor of one whose lease has not ended yet, or the first of several that
/// start; and for so long after one went it may be back from a restart. Not before that it is wrong that a monitor of one
/// machine names none, or that it names one that is not there.
pub const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(60);

/// A live node, as far as placing monitors needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `nodes.id`: whoever registered first has the smallest.
    pub id: i64,
    /// `nodes.uuid`.
    pub uuid: String,
    /// `nodes.name`: a selector's word `name`.
    pub name: String,
    /// `nodes.labels`.
    pub labels: BTreeMap<String, String>,
    /// The kinds that it knows.
    pub kinds: BTreeSet<String>,
    /// It is about to stop, and is given nothing.
    pub is_leaving: bool,
    /// When it registered.
    pub started_at: DateTime<Utc>,
}

/// The live nodes, and those that are awaited. Equal ones place every row alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// By `id`, with their seeds; without those that are about to stop.
    nodes: Vec<(u64, Node)>,
    /// At least two have been there for longer than [`SETTLED_AFTER`].
    are_many_settled: bool,
    /// None has, so that others may be about to start as well.
    is_starting: bool,
    /// Those that had been there for longer, and went, or began to stop, less than that ago.
    awaited: Vec<Awaited>,
}

/// A node that may come back. A restart makes another node of the same name and labels. Where successors crash
/// again and again, it is awaited for what is left of its time and no longer: somebody must learn of it.
#[derive(Debug, Clone)]
struct Awaited {
    node: Node,
    /// Or began to stop.
    gone_at: DateTime<Utc>,
}

impl PartialEq for Awaited {
    /// For how long it is still awaited places nothing.
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl Eq for Awaited {}

/// Who runs a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement<'a> {
    /// The node that runs it or, where it cannot be run, reports why.
    pub owner: &'a Node,
    /// Why no node may run it as the row is written.
    pub fault: Option<PlacementFault>,
}

/// Why no node may run a monitor. What is wrong with a kind that no node knows is said where kinds are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementFault {
    /// `runs_on` is no selector.
    #[error("runs_on: {0}")]
    Unreadable(String),
    /// It selects no live node.
    #[error(
        "runs_on: `{selector}` {} (hint: `watchbell nodes` lists their labels; a node has those of `node.labels` in its \
         configuration)",
        if *nodes == 1 { "does not select the only live node".to_owned() } else { format!("selects none of the {nodes} live nodes") }
    )]
    NobodySelected {
        /// The selector.
        selector: String,
        /// How many live nodes there are.
        nodes: usize,
    },
    /// It selects nodes that do not know the kind, while others do.
    #[error(
        "runs_on: no node that `{selector}` selects knows the kind `{kind}`, but {others} (hint: start the same version \
         everywhere, or select such a node)"
    )]
    KindElsewhere {
        /// The selector.
        selector: String,
        /// The kind.
        kind: String,
        /// Names of nodes that know it.
        others: String,
    },
    /// The answer depends on the machine, and the row does not say which.
    #[error(
        "runs_on: kind `{kind}` looks at the machine that runs it, and there are {nodes} nodes (hint: say which is \
         meant, for example `runs_on = 'name={example}'`)"
    )]
    WhichMachine {
        /// The kind.
        kind: String,
        /// How many live nodes there are.
        nodes: usize,
        /// The name of one of them.
        example: String,
    },
}

impl Fleet {
    /// The nodes that are live at `now`, and nobody is awaited. Those that are about to stop are not given anything.
    pub fn new(nodes: impl IntoIterator<Item = Node>, now: DateTime<Utc>) -> Self {
        let mut nodes: Vec<(u64, Node)> =
            nodes.into_iter().filter(|node| !node.is_leaving).map(|node| (seed(&node.uuid), node)).collect();
        nodes.sort_by_key(|(_, node)| node.id);
        let are_many_settled = nodes.iter().filter(|(_, node)| is_settled(node.started_at, now)).count() >= 2;
        Self { nodes, are_many_settled, ..Self::default() }
    }

    /// The one that follows this one, when these are live at `now`: a node that went lately is awaited, and when all of them
    /// have just started, so are others.
    pub fn followed_by(&self, nodes: impl IntoIterator<Item = Node>, now: DateTime<Utc>) -> Self {
        let next = Self::new(nodes, now);
        let is_gone = |node: &Node| !next.has(&node.uuid);
        let still = self.awaited.iter().filter(|gone| is_gone(&gone.node) && !is_settled(gone.gone_at, now)).cloned();
        let were_live = self.nodes.iter().map(|(_, node)| node);
        let went = were_live.filter(|node| is_gone(node) && is_settled(node.started_at, now));
        let awaited = still.chain(went.map(|node| Awaited { node: node.clone(), gone_at: now })).collect();
        let is_starting = !next.nodes.iter().any(|(_, node)| is_settled(node.started_at, now));
        Self { is_starting, awaited, ..next }
    }

    /// The names of those that are not in `other`.
    pub fn names_beyond(&self, other: &Self) -> String {
        let beyond = self.nodes.iter().filter(|(_, node)| !other.has(&node.uuid));
        beyond.map(|(_, node)| node.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether this node is one of them.
    pub fn has(&self, uuid: &str) -> bool {
        self.nodes.iter().any(|(_, node)| node.uuid == uuid)
    }

    /// Where `row` is run; `None`: nowhere, since there are no nodes, or since one is awaited that may run it: one that went
    /// lately or, where the row selects nobody and all have just started, any.
    /// `is_of_a_machine`: the answer of its kind depends on the machine that asks. Only a node that knows the kind can say
    /// so, and only such a node is given it.
    pub fn place(&self, row: &MonitorRow, is_of_a_machine: bool) -> Option<Placement<'_>> {
        let selector = match selector_of(row) {
            Ok(selector) => selector,
            Err(error) => {
                let (_, first) = self.nodes.first()?;
                return Some(Placement { owner: first, fault: Some(PlacementFault::Unreadable(error.to_string())) });
            }
        };
        let able: Vec<_> = self.nodes.iter().filter(|(_, node)| may_run(node, &selector, row)).collect();
        let Some((_, first)) = able.first() else { return self.place_what_nobody_may_run(row, &selector) };
        if is_of_a_machine && row.runs_on.is_none() && self.nodes.len() > 1 {
            let fault = self.are_many_settled.then(|| PlacementFault::WhichMachine {
                kind: row.kind.clone(),
                nodes: self.nodes.len(),
                example: first.name.clone(),
            });
            return Some(Placement { owner: first, fault });
        }
        Some(Placement { owner: heaviest(&able, mix(row.id.0.cast_unsigned()))?, fault: None })
    }

    /// It is reported by whoever has been there for longest, who knows best whether somebody went lately.
    fn place_what_nobody_may_run(&self, row: &MonitorRow, selector: &Selector) -> Option<Placement<'_>> {
        if self.awaited.iter().any(|gone| may_run(&gone.node, selector, row)) {
            return None;
        }
        let (_, owner) = self.nodes.first()?;
        let is_any_selected = self.nodes.iter().any(|(_, node)| selects(selector, node));
        if !is_any_selected && self.is_starting {
            return None;
        }
        let knowing = self.nodes.iter().filter(|(_, node)| node.kinds.contains(&row.kind));
        let others = knowing.map(|(_, node)| node.name.as_str()).collect::<Vec<_>>().join(", ");
        let selector = selector.to_string();
        let fault = if !is_any_selected {
            Some(PlacementFault::NobodySelected { selector, nodes: self.nodes.len() })
        } else if !others.is_empty() {
            Some(PlacementFault::KindElsewhere { selector, kind: row.kind.clone(), others })
        } else {
            None
        };
        Some(Placement { owner, fault })
    }

    /// Whether the node with this uuid may run `row`, though another may be the one that does.
    pub fn may_run(&self, uuid: &str, row: &MonitorRow) -> bool {
        let Ok(selector) = selector_of(row) else { return false };
        self.nodes.iter().any(|(_, node)| node.uuid == uuid && may_run(node, &selector, row))
    }

    /// Who looks after a monitor whose row is gone.
    pub fn owner_of(&self, monitor: MonitorId) -> Option<&Node> {
        heaviest(&self.all(), mix(monitor.0.cast_unsigned()))
    }

    /// Who does what one node does for all: whatever `task` names.
    pub fn doer_of(&self, task: &str) -> Option<&Node> {
        heaviest(&self.all(), mix(seed(task)))
    }

    fn all(&self) -> Vec<&(u64, Node)> {
        self.nodes.iter().collect()
    }
}

/// Whether something at `since` is longer ago than [`SETTLED_AFTER`]. (What lies as far ahead was written before the
/// database's clock was set back.)
fn is_settled(since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - since).abs() > SETTLED_AFTER
}

/// Of a row without one: that which selects every node.
fn selector_of(row: &MonitorRow) -> Result<Selector, SelectorError> {
    row.runs_on.as_deref().map_or_else(|| Ok(Selector::default()), str::parse)
}

fn may_run(node: &Node, selector: &Selector, row: &MonitorRow) -> bool {
    node.kinds.contains(&row.kind) && selects(selector, node)
}

/// The word `name` wins over a label of that name, as in selectors over monitors.
fn selects(selector: &Selector, node: &Node) -> bool {
    selector.holds_for(|key| match key {
        "name" => Some(node.name.as_str()),
        label => node.labels.get(label).map(String::as_str),
    })
}

/// With equal weights, which are as likely as a collision of 64 bits, the smaller id.
fn heaviest<'a>(nodes: &[&'a (u64, Node)], key: u64) -> Option<&'a Node> {
    let weight = |(seed, _): &(u64, Node)| mix(seed ^ key);
    let best =
        nodes.iter().max_by(|one, other| weight(one).cmp(&weight(other)).then_with(|| other.1.id.cmp(&one.1.id)));
    best.map(|(_, node)| node)
}

/// FNV-1a over 64 bits, mixed: uuids differ in few bits.
fn seed(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

/// splitmix64's step: every bit of the result depends on every bit of `value`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
