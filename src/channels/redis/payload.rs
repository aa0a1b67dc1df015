//! A notification as JSON, for programs.
//!
//! Everything is there in every message; what does not apply is `null`. New keys may come; those that are there keep
//! their meaning, or `version` rises.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::channels::wording;
use crate::domain::{OutboxRow, State};

/// Rises when a key goes or changes its meaning.
const VERSION: u32 = 1;

/// The object. `id` is the same at every attempt: by it a consumer knows a double.
pub(in crate::channels) fn payload(row: &OutboxRow, public_url: Option<&str>) -> Value {
    let facts = &row.facts;
    json!({
        "version": VERSION,
        "id": row.uuid,
        "type": row.notification_type.as_str(),
        "severity": row.severity.as_str(),
        "subject": row.subject,
        "body": row.body,
        "attempt": row.attempts,
        "created_at": instant(row.created_at),
        "thread": row.thread_uuid,
        "incident": incident(row),
        "monitor": monitor(row, public_url),
        "state_before": facts.state_before.map(State::as_str),
        "state": facts.state.map(State::as_str),
        "at": facts.at.map(instant),
        "message": facts.message,
        "count": facts.count,
        "tells_alert": facts.tells_alert,
        "acknowledged_by": facts.acknowledged_by,
    })
}

fn incident(row: &OutboxRow) -> Option<Value> {
    row.incident_id.map(|id| {
        json!({
            "id": id.0,
            "uuid": row.incident_uuid,
            "opened_at": row.facts.opened_at.map(instant),
            "recovered_at": row.facts.recovered_at.map(instant),
        })
    })
}

fn monitor(row: &OutboxRow, public_url: Option<&str>) -> Option<Value> {
    row.monitor_id.map(|id| {
        json!({
            "id": id.0,
            "uuid": row.monitor_uuid,
            "name": row.facts.monitor_name,
            "kind": row.facts.kind,
            "labels": row.facts.labels,
            "url": wording::link(row, public_url),
        })
    })
}

/// RFC 3339 in UTC with milliseconds, always of the same length.
fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
