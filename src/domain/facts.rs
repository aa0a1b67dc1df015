//! What a notification says, in parts: for subjects, bodies, and channels that say it in their own way.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::transition::State;

/// The facts of one notification, as stored beside it in `notifications.facts`. What does not apply is empty or `None`:
/// a self-test has no monitor, a digest no single one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The monitor's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub monitor_name: String,
    /// The monitor's kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The monitor's labels. The label `app` names what people know the thing by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The state before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_before: Option<State>,
    /// The state after the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The run's instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// When the incident was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<DateTime<Utc>>,
    /// When the incident ended; only in a recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_at: Option<DateTime<Utc>>,
    /// The child's message word for word, or what there is to say where no child spoke.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The names of the monitors that depend on this one: while it is down, their own alerts wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppressed: Vec<String>,
    /// How many messages it stands for; 0: itself alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// A recovery before which no delivery of its alert was confirmed: it tells of both.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tells_alert: bool,
    /// Who acknowledged the incident; only in a notice that tells of the acknowledgment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
}

// serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Facts {
    /// What people know the thing by: the label `app`, else the monitor's name.
    pub fn title(&self) -> &str {
        self.labels.get("app").filter(|app| !app.trim().is_empty()).map_or(&self.monitor_name, |app| app)
    }
}
