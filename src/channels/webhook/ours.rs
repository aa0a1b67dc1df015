//! The JSON of the format `watchbell`, which templates see as well: a contract with the programs that read it.
//!
//! Every field is always there; what does not apply is `null`, `""` or `0`. Fields may be added without a new `version`,
//! so a receiver ignores what it does not know; a change of meaning would be `version` 2. Times are RFC 3339 in UTC.
//!
//! | field | meaning |
//! |---|---|
//! | `version` | 1 |
//! | `id` | uuid of the notification: the `Idempotency-Key` |
//! | `type` | `alert`, `reminder`, `recovery`, `digest`, `notice`, `self_test` or `test` |
//! | `severity` | `info`, `warning` or `critical` |
//! | `subject` | one line |
//! | `body` | plain text, as in a mail |
//! | `attempt` | which attempt at delivery this is, from 1; the one field that differs between attempts |
//! | `created_at` | when the notification was queued |
//! | `thread` | uuid that all notifications of one incident to this channel share |
//! | `incident` | `null`, or `id`, `uuid`, `opened_at` and, in a recovery, `recovered_at`; each may be `null` |
//! | `monitor` | `null`, or `id` and `uuid` (`null` when the row is gone), `name`, `kind`, `labels` (an object of texts), `url` (its page, or `null`) |
//! | `state_before`, `state` | `ok`, `alert` or `null`: before and after the run |
//! | `at` | the run's instant, or `null` |
//! | `message` | what the child said, word for word |
//! | `count` | how many messages this one stands for; 0: itself alone |
//! | `tells_alert` | true in a recovery whose alert was never delivered: it tells of both |
//! | `acknowledged_by` | who acknowledged the incident, in the `notice` that says so; else `null` |

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::channels::wording;
use crate::domain::{OutboxRow, State};

/// The object; its fields are in the table above.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    version: u8,
    id: &'a str,
    #[serde(rename = "type")]
    notification_type: &'static str,
    severity: &'static str,
    subject: &'a str,
    body: &'a str,
    attempt: u32,
    created_at: DateTime<Utc>,
    thread: &'a str,
    incident: Option<Incident<'a>>,
    monitor: Option<Monitor<'a>>,
    state_before: Option<State>,
    state: Option<State>,
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
    opened_at: Option<DateTime<Utc>>,
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

impl<'a> Message<'a> {
    pub(super) fn of(row: &'a OutboxRow, public_url: Option<&str>) -> Self {
        let facts = &row.facts;
        let has_incident = row.incident_id.is_some() || row.incident_uuid.is_some();
        let has_monitor = row.monitor_id.is_some() || !facts.monitor_name.is_empty();
        Self {
            version: 1,
            id: &row.uuid,
            notification_type: row.notification_type.as_str(),
            severity: row.severity.as_str(),
            subject: &row.subject,
            body: &row.body,
            attempt: row.attempts,
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
