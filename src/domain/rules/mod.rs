//! What people say about messages in the tables `channels`, `routes`, `silences` and `dependencies`.
//!
//! Each row is read by itself: one that cannot be read says so in its own `config_error` and steps aside.

mod dependencies;
mod quiet_hours;
mod route;
mod silence;

use std::collections::BTreeMap;

pub use dependencies::Dependencies;
pub use quiet_hours::QuietHours;
pub use route::{Route, RouteRow};
pub use silence::{Silence, SilenceRow};

use super::recipients::{self, RecipientFault};

/// A row of `channels`, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRow {
    /// `id`.
    pub id: i64,
    /// `name`: what recipients call it.
    pub name: String,
    /// `url`, with its secret references.
    pub url: String,
    /// `is_active`; 0 holds its messages.
    pub is_active: bool,
    /// `max_per_minute`; `None`: no limit.
    pub max_per_minute: Option<u32>,
    /// `quiet_hours`, such as `22:00-07:00`.
    pub quiet_hours: Option<String>,
    /// `quiet_timezone`; `None`: the installation's.
    pub quiet_timezone: Option<String>,
    /// `wants_state_changes`: every change of state of every monitor goes there as a notice.
    pub wants_state_changes: bool,
    /// `config_error`, as it stands in the row.
    pub config_error: Option<String>,
}

/// A channel, as far as messages are planned for it. Its URL is the adapters' to read.
#[derive(Debug, Clone)]
pub struct ChannelRule {
    /// The row.
    pub row: ChannelRow,
    /// When messages below critical are held.
    pub quiet_hours: Option<QuietHours>,
}

/// The rows of the four tables, unread.
#[derive(Debug, Clone, Default)]
pub struct RuleRows {
    /// Rises with every edit of the tables.
    pub version: i64,
    /// `channels`.
    pub channels: Vec<ChannelRow>,
    /// `routes`, by `sort_order` and `id`.
    pub routes: Vec<RouteRow>,
    /// `silences` that are not over for good.
    pub silences: Vec<SilenceRow>,
    /// `dependencies`: child and parent.
    pub dependencies: Vec<(i64, i64)>,
}

/// The same, read.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Rises with every edit of the tables.
    pub version: i64,
    /// By name.
    pub channels: BTreeMap<String, ChannelRule>,
    /// In their order.
    pub routes: Vec<Route>,
    /// Those that can be read.
    pub silences: Vec<Silence>,
    /// Who depends on whom.
    pub dependencies: Dependencies,
    /// What is wrong with rows, by table and id: what their `config_error` is to be. A row without a fault is not here.
    pub faults: BTreeMap<(RuleTable, i64), String>,
    /// What stands in `config_error` of each route and silence.
    pub reported: BTreeMap<(RuleTable, i64), Option<String>>,
}

/// A table whose rows report on themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleTable {
    /// `channels`.
    Channels,
    /// `routes`.
    Routes,
    /// `silences`.
    Silences,
}

impl RuleTable {
    /// The table's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            RuleTable::Channels => "channels",
            RuleTable::Routes => "routes",
            RuleTable::Silences => "silences",
        }
    }
}

impl Rules {
    /// Reads the rows. `default_zone` is that of rows that name none.
    pub fn read(rows: &RuleRows, default_zone: chrono_tz::Tz) -> Self {
        let mut rules = Self { version: rows.version, ..Self::default() };
        for row in &rows.channels {
            let quiet_hours = QuietHours::read(row.quiet_hours.as_deref(), row.quiet_timezone.as_deref(), default_zone);
            let quiet_hours = rules.keep(RuleTable::Channels, row.id, quiet_hours).flatten();
            rules.channels.insert(row.name.clone(), ChannelRule { row: row.clone(), quiet_hours });
        }
        for row in &rows.routes {
            let (route, faults) = Route::read(row, &rules.channels);
            if !faults.is_empty() {
                rules.faults.insert((RuleTable::Routes, row.id), faults.join("; "));
            }
            rules.reported.insert((RuleTable::Routes, row.id), row.config_error.clone());
            rules.routes.extend(route);
        }
        for row in &rows.silences {
            let silence = Silence::read(row, default_zone);
            let silence = rules.keep(RuleTable::Silences, row.id, silence);
            rules.reported.insert((RuleTable::Silences, row.id), row.config_error.clone());
            rules.silences.extend(silence);
        }
        rules.dependencies = Dependencies::new(&rows.dependencies);
        rules
    }

    fn keep<T>(&mut self, table: RuleTable, id: i64, read: Result<T, String>) -> Option<T> {
        read.map_err(|fault| self.faults.insert((table, id), fault)).ok()
    }

    /// The channel that a recipient names; `None`: it is an e-mail address, or none at all.
    pub fn channel(&self, recipient: &str) -> Option<&ChannelRule> {
        self.channels.get(recipient)
    }

    /// The channels that want every change of state.
    pub fn followers_of_states(&self) -> impl Iterator<Item = &str> {
        self.channels.values().filter(|rule| rule.row.wants_state_changes).map(|rule| rule.row.name.as_str())
    }

    /// Reads one recipient: an e-mail address, or the name of a channel.
    ///
    /// # Errors
    /// What it is instead.
    pub fn recipient(&self, entry: &serde_json::Value) -> Result<String, RecipientFault> {
        recipients::recipient(entry, &self.channels)
    }
}
