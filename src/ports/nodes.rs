//! The nodes that serve one database, as it knows them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::placement::Node;

/// A node, as it signs what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Unique to this start of the process.
    pub uuid: String,
    /// For people, and for `runs_on`.
    pub name: String,
}

/// What a node says of itself each time it renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Of the program.
    pub version: String,
    /// From its configuration.
    pub labels: BTreeMap<String, String>,
    /// The kinds that it knows. `None`, the JSON `null` in the column: it is about to stop, and is given no monitor.
    pub kinds: Option<Vec<String>>,
    /// The settings that must be the same on all nodes: a JSON object of texts, without secrets.
    pub settings: String,
    /// How many monitors it runs.
    pub monitor_count: u64,
    /// How late its checks began lately: 99 of 100 at most so much. `None`: none began.
    pub lateness_p99: Option<TimeDelta>,
    /// How far its own clock was ahead of the database's.
    pub clock_skew: TimeDelta,
    /// For how long the lease holds from now on, by the database's clock.
    pub lease: TimeDelta,
    /// Whether it is well: then its heartbeat is written as well, which a second installation watches.
    pub is_well: bool,
}

/// A row of `nodes` whose lease has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// `id`: the smaller, the earlier it registered.
    pub id: i64,
    /// `uuid`.
    pub uuid: String,
    /// `name`.
    pub name: String,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `kinds`; `None`: it is about to stop.
    pub kinds: Option<Vec<String>>,
    /// `started_at`: when it registered.
    pub started_at: DateTime<Utc>,
    /// `lease_until`.
    pub lease_until: DateTime<Utc>,
    /// `version`.
    pub version: String,
    /// `settings`, JSON.
    pub settings: String,
}

/// Who is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNodes {
    /// The time by the database's clock.
    pub now: DateTime<Utc>,
    /// Everybody whose lease ends after `now`, by id.
    pub nodes: Vec<LiveNode>,
    /// Set where that is nobody: when the last lease had ended.
    pub nobody_is_alive_since: Option<DateTime<Utc>>,
}

/// What a renewal gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Who is alive, this node included.
    pub live: LiveNodes,
    /// When this node's lease ends, by the database's clock.
    pub lease_until: DateTime<Utc>,
    /// Set where nobody was alive just before, this node included: when the last lease had ended. `None` also where no
    /// node ever was, or the last one went in order.
    pub nobody_was_alive_since: Option<DateTime<Utc>>,
}

impl From<&LiveNode> for Node {
    fn from(node: &LiveNode) -> Self {
        Self {
            id: node.id,
            uuid: node.uuid.clone(),
            name: node.name.clone(),
            labels: node.labels.clone(),
            kinds: node.kinds.iter().flatten().cloned().collect(),
            is_leaving: node.kinds.is_none(),
            started_at: node.started_at,
        }
    }
}
