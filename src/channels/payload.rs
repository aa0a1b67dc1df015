//! A notification as a JSON object, for programs: what the webhook's format `watchbell` posts, what its templates see, and
//! what the Redis channel publishes. It is a contract with whoever reads it.
//!
//! Every field is always there; what does not apply is `null`, `""` or `0`. Fields may be added without a new `version`,
//! so a receiver ignores what it does not know; a change of meaning would be `version` 2. Times are RFC 3339 in UTC with
//! milliseconds. The object is the same at every attempt.
//!
//! | field | meaning |
//! |---|---|
//! | `version` | 1 |
//! | `id` | uuid of the notification; by it a receiver knows a double |
//! | `type` | `alert`, `reminder`, `recovery`, `digest`, `notice`, `self_test` or `test` |
//! | `severity` | `info`, `warning` or `critical` |
//! | `subject` | one line |
//! | `body` | plain text, as in a mail |
//! | `created_at` | when the notification was queued |
//! | `thread` | uuid that all notifications of one incident to this recipient share |
//! | `incident` | `null`, or `id`, `uuid`, `opened_at` and, in a recovery, `recovered_at`; each may be `null` |
//! | `monitor` | `null`, or `id` and `uuid` (`null` when the row is gone), `name`, `kind`, `labels` (an object of texts), `url` (its page, or `null`) |
//! | `state_before`, `state` | `ok`, `alert` or `null`: before and after the run |
//! | `at` | the run's instant, or `null` |
//! | `message` | what the child said, word for word |
//! | `count` | how many messages this one stands for; 0: itself alone |
//! | `tells_alert` | true in a recovery that tells of its alert too, since no delivery of that was confirmed before |
//! | `acknowledged_by` | who acknowledged the incident, in the `notice` that says so; else `null` |

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::channels::wording;
use crate::domain::{OutboxRow, State};

/// Rises when a field goes or changes its meaning.
const VERSION: u8 = 1;

/// The object; its fields are in the table above.
#[derive(Debug, Serialize)]
pub(super) struct Payload<'a> {
    version: u8,
    id: &'a str,
    #[serde(rename = "type")]
    notification_type: &'static str,
    severity: &'static str,
    subject: &'a str,
    body: &'a str,
    #[serde(serialize_with = "instant")]
    created_at: DateTime<Utc>,
    thread: &'a str,
    incident: Option<Incident<'a>>,
    monitor: Option<Monitor<'a>>,
    state_before: Option<State>,
    state: Option<State>,
    #[serde(serialize_with = "instant_or_null")]
    at: Option<DateTime<Utc>>,
    message: &'a str,
    count: u64,
    tells_alert: bool,
    acknowledged_by: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Incident<'a> {
    id: Option<i64>,
    uuid: Option<&'a str>,
    #[serde(serialize_with = "instant_or_null")]
    opened_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant_or_null")]
    recovered_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
struct Monitor<'a> {
    id: Option<i64>,
    uuid: Option<&'a str>,
    name: &'a str,
    kind: &'a str,
    labels: &'a BTreeMap<String, String>,
    url: Option<String>,
}

impl<'a> Payload<'a> {
    /// What `row` says. `public_url` is where people reach the pages.
    pub(super) fn of(row: &'a OutboxRow, public_url: Option<&str>) -> Self {
        let facts = &row.facts;
        let has_incident = row.incident_id.is_some() || row.incident_uuid.is_some();
        let has_monitor = row.monitor_id.is_some() || !facts.monitor_name.is_empty();
        Self {
            version: VERSION,
            id: &row.uuid,
            notification_type: row.notification_type.as_str(),
            severity: row.severity.as_str(),
            subject: &row.subject,
            body: &row.body,
            created_at: row.created_at,
            thread: &row.thread_uuid,
            incident: has_incident.then(|| Incident {
                id: row.incident_id.map(|id| id.0),
                uuid: row.incident_uuid.as_deref(),
                opened_at: facts.opened_at,
                recovered_at: facts.recovered_at,
            }),
            monitor: has_monitor.then(|| Monitor {
                id: row.monitor_id.map(|id| id.0),
                uuid: row.monitor_uuid.as_deref(),
                name: &facts.monitor_name,
                kind: &facts.kind,
                labels: &facts.labels,
                url: wording::link(row, public_url),
            }),
            state_before: facts.state_before,
            state: facts.state,
            at: facts.at,
            message: &facts.message,
            count: facts.count,
            tells_alert: facts.tells_alert,
            acknowledged_by: facts.acknowledged_by.as_deref(),
        }
    }
}

/// Always of the same length, so that texts sort as times do.
fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

// serde hands over a reference.
#[allow(clippy::ref_option)]
fn instant_or_null<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}
