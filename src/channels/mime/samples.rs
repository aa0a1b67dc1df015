//! Rows for the tests of channels.

use chrono::DateTime;
use watchbell_contract::Severity;

use crate::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow, State};

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
        incident_uuid: Some("7a3e1c52-9999-4aaa-8bbb-ccccddddeeee".to_owned()),
        thread_external_id: None,
        edits_external_id: None,
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "ops@example.com".to_owned(),
        subject: "[Monitor ALERT] Orders".to_owned(),
        body: "Monitor: Orders\nState: alert\n\nnothing came since noon\n".to_owned(),
        facts: Facts {
            monitor_name: "Orders".to_owned(),
            kind: "sql".to_owned(),
            labels: [("app".to_owned(), "Shop".to_owned()), ("team".to_owned(), "sales".to_owned())].into(),
            state_before: Some(State::Ok),
            state: Some(State::Alert),
            at: DateTime::from_timestamp(1_795_294_800, 0),
            opened_at: DateTime::from_timestamp(1_795_294_800, 0),
            message: "nothing came since noon".to_owned(),
            ..Facts::default()
        },
        attempts: 1,
        created_at: DateTime::from_timestamp_millis(1_795_294_800_123).unwrap(),
    }
}
