//! One stay in alert, and what is known of who was told.

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::monitor::MonitorId;

/// The `id` of a row of `incidents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(pub i64);

/// An incident that has not recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIncident {
    /// `id`.
    pub id: IncidentId,
    /// `monitor_id`.
    pub monitor_id: MonitorId,
    /// The monitor's name when the incident was opened: it outlives the row.
    pub monitor_name: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// `acknowledged_at`.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// `acknowledged_until`.
    pub acknowledged_until: Option<DateTime<Utc>>,
    /// Everybody who was told of it, sorted, each once. What is `held` or `withdrawn` told nobody.
    pub told: Vec<String>,
    /// Everybody who has an alert of it in the outbox, in whatever status: each gets one.
    pub alerted: Vec<String>,
    /// The highest severity that anybody was told.
    pub told_severity: Option<Severity>,
    /// Whether its row wanted nobody told (`[]`) when it was deleted; while there is a row, the row says so itself.
    pub is_silent: bool,
}

impl OpenIncident {
    /// Whether it is acknowledged at this instant.
    pub fn is_acknowledged(&self, now: DateTime<Utc>) -> bool {
        self.acknowledged_at.is_some() && self.acknowledged_until.is_none_or(|until| until > now)
    }
}

/// How a person's hand ended an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosingReason {
    /// Somebody set `state` to `ok`.
    SetToOkByHand,
    /// The row was deleted.
    MonitorDeleted,
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{IncidentId, OpenIncident};
    use crate::domain::MonitorId;

    #[test]
    fn an_acknowledgment_holds_until_its_end_or_for_ever() {
        let now: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let acknowledged = |at: Option<i64>, until: Option<i64>| {
            OpenIncident {
                id: IncidentId(1),
                monitor_id: MonitorId(1),
                monitor_name: "x".into(),
                opened_at: now,
                acknowledged_at: at.map(|minutes| now + TimeDelta::minutes(minutes)),
                acknowledged_until: until.map(|minutes| now + TimeDelta::minutes(minutes)),
                told: Vec::new(),
                alerted: Vec::new(),
                told_severity: None,
                is_silent: false,
            }
            .is_acknowledged(now)
        };
        assert!(acknowledged(Some(-5), None));
        assert!(acknowledged(Some(-5), Some(1)));
        assert!(!acknowledged(Some(-5), Some(0)), "it ends at its end");
        assert!(!acknowledged(None, Some(10)), "an end without an acknowledgment is none");
    }
}
