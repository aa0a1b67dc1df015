//! Commands that people write into a room: `!status`, `!ack`, `!silence`, `!help`.
//!
//! Read here, executed by the engine, answered in the words of [`answers`]. What cannot be read is answered with how to
//! write it; nothing is guessed.

pub mod answers;
mod parse;

use chrono::{DateTime, TimeDelta, Utc};

pub use parse::parse;

use super::incident::IncidentId;
use super::monitor::{MonitorId, MonitorRow};

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The commands, with an example each.
    Help,
    /// How everything stands.
    Status,
    /// Somebody has this incident in hand.
    Acknowledge {
        /// The incident.
        incident: IncidentId,
        /// For how long; `None`: until it is over.
        span: Option<TimeDelta>,
        /// What they say of it.
        note: Option<String>,
    },
    /// A monitor is not to tell anything for a while.
    Silence {
        /// Its id, uuid or name.
        monitor: String,
        /// For how long.
        span: TimeDelta,
    },
    /// The silences that commands made for a monitor end now.
    EndSilences {
        /// Its id, uuid or name.
        monitor: String,
    },
}

/// An acknowledgment by a command, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    /// The incident.
    pub incident: IncidentId,
    /// `acknowledged_by`.
    pub by: String,
    /// `acknowledgment_note`.
    pub note: Option<String>,
    /// `acknowledged_until`.
    pub until: Option<DateTime<Utc>>,
    /// The command's own key: the same one is executed once.
    pub command: String,
}

/// An incident as it stands after a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentRecord {
    /// `id`.
    pub id: IncidentId,
    /// `monitor_name`.
    pub monitor_name: String,
    /// `opened_at`.
    pub opened_at: DateTime<Utc>,
    /// `recovered_at`.
    pub recovered_at: Option<DateTime<Utc>>,
    /// `acknowledged_at`.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// `acknowledged_by`.
    pub acknowledged_by: Option<String>,
    /// `acknowledged_until`.
    pub acknowledged_until: Option<DateTime<Utc>>,
    /// The command that acknowledged it last.
    pub acknowledgment_command: Option<String>,
}

/// A silence by a command, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSilence {
    /// `monitor_id`.
    pub monitor: MonitorId,
    /// `starts_at`.
    pub starts_at: DateTime<Utc>,
    /// `ends_at`.
    pub ends_at: DateTime<Utc>,
    /// `created_by`.
    pub created_by: String,
    /// `reason`.
    pub reason: String,
    /// The command's own key: the same one makes one silence.
    pub command: String,
}

/// A silence that a command made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceRecord {
    /// `id`.
    pub id: i64,
    /// `ends_at`.
    pub ends_at: DateTime<Utc>,
}

/// A monitor in alert, with its open incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingMonitor {
    /// The row.
    pub row: MonitorRow,
    /// The incident.
    pub incident: IncidentId,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Who acknowledged it, where that holds now.
    pub acknowledged_by: Option<String>,
}

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// All rows.
    pub monitors: u64,
    /// Those that are switched off.
    pub paused: u64,
    /// Those that are in alert and not paused.
    pub in_alert: u64,
    /// The first of them: who waits for a person first, then by age.
    pub failing: Vec<FailingMonitor>,
    /// Notifications that are to go out and have not.
    pub waiting: u64,
    /// Notifications that are held back.
    pub held: u64,
    /// Notifications that were given up.
    pub given_up: u64,
}
