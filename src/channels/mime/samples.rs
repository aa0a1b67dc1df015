//! Rows for the tests of the mail channels.

use chrono::DateTime;
use watchbell_contract::Severity;

use crate::domain::{IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow};

/// The first alert of an incident.
pub(in crate::channels) fn alert() -> OutboxRow {
    let uuid = "0d0a4f6e-8f0c-4d0b-9b1e-2f3a4b5c6d7e".to_owned();
    OutboxRow {
        id: NotificationId(1),
        thread_uuid: uuid.clone(),
        uuid,
        monitor_id: Some(MonitorId(7)),
        monitor_uuid: Some("5f0c7a10-1111-4222-8333-444455556666".to_owned()),
        incident_id: Some(IncidentId(3)),
        kind: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "ops@example.com".to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "Monitor: Orders\nState: alert\n\nnothing came since noon\n".to_owned(),
        attempts: 1,
        created_at: DateTime::from_timestamp_millis(1_795_294_800_123).unwrap(),
    }
}
