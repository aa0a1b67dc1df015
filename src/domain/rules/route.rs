//! Routes: recipients that need not be repeated in every monitor, and escalation.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::Value;
use watchbell_contract::Severity;

use super::ChannelRule;
use crate::domain::recipients;
use crate::domain::selector::{Selector, Subject};

/// A row of `routes`, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// `id`.
    pub id: i64,
    /// `severity`; `None`: any.
    pub severity: Option<Severity>,
    /// `selector`; `None`: every monitor.
    pub selector: Option<String>,
    /// `recipients`, a JSON array.
    pub recipients: String,
    /// `after_minutes`.
    pub after_minutes: u32,
    /// `unless_acknowledged`.
    pub unless_acknowledged: bool,
    /// `is_active`.
    pub is_active: bool,
    /// `config_error`, as it stands in the row.
    pub config_error: Option<String>,
}

/// A route that can be followed.
#[derive(Debug, Clone)]
pub struct Route {
    /// `id`.
    pub id: i64,
    /// The recipients that are some.
    pub recipients: Vec<String>,
    /// How long an incident must be open before they are told; zero: at once.
    pub after: TimeDelta,
    /// Whether an acknowledgment keeps them from being told.
    pub unless_acknowledged: bool,
    severity: Option<Severity>,
    selector: Selector,
}

impl Route {
    /// Reads a row; `None` where it is switched off, or cannot be followed at all. Recipients that are none are faults,
    /// and the others are told.
    pub fn read(row: &RouteRow, channels: &BTreeMap<String, ChannelRule>) -> (Option<Self>, Vec<String>) {
        let mut faults = Vec::new();
        let selector = row.selector.as_deref().unwrap_or_default().parse::<Selector>();
        let selector = selector.map_err(|error| faults.push(format!("selector: {error}"))).ok();
        let entries = match serde_json::from_str(&row.recipients) {
            Ok(Value::Array(entries)) => entries,
            Ok(_) | Err(_) => Vec::new(),
        };
        let mut names: Vec<String> = Vec::with_capacity(entries.len());
        for entry in &entries {
            match recipients::recipient(entry, channels) {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(fault) => faults.push(format!("recipients: {}", fault.problem())),
            }
        }
        if names.is_empty() && faults.is_empty() {
            faults.push(r#"recipients: nobody is named (hint: for example ["ops@example.com"])"#.to_owned());
        }
        let route = selector.filter(|_| row.is_active && !names.is_empty()).map(|selector| Self {
            id: row.id,
            recipients: names,
            after: TimeDelta::minutes(i64::from(row.after_minutes)),
            unless_acknowledged: row.unless_acknowledged,
            severity: row.severity,
            selector,
        });
        (route, faults)
    }

    /// Whether an incident of this monitor goes there.
    pub fn leads(&self, subject: &Subject<'_>) -> bool {
        self.severity.is_none_or(|severity| severity == subject.severity) && self.selector.selects(subject)
    }

    /// Whether it waits.
    pub fn is_escalation(&self) -> bool {
        self.after > TimeDelta::zero()
    }
}
