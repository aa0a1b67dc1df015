//! Rows of the outbox as the engine hands them to a channel, and what channels need of an installation.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use watchbell::channels::ChannelSettings;
use watchbell::domain::{Facts, IncidentId, MonitorId, NotificationId, NotificationType, OutboxRow, State};
use watchbell::ports::{Channel, Delivered, DeliveryError};
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity};

/// What every secret reference stands for is its own argument, so that a test plants what it likes: `${env:VALUE}`.
struct Named;

#[async_trait]
impl Secrets for Named {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        let reference = reference.to_string();
        Ok(reference.split_once(':').map(|(_, value)| value.trim_end_matches('}').to_owned()).unwrap())
    }
}

struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("no mail is to be sent here");
    }

    fn describe(&self) -> String {
        "no mail".to_owned()
    }
}

/// Opens a channel for an installation at `https://watchbell.example.com`.
pub(super) fn open(url: &str) -> Arc<dyn Channel> {
    watchbell::channels::open(url, &settings()).unwrap()
}

/// The faults of a URL.
pub(super) fn faults(url: &str) -> String {
    watchbell::channels::open(url, &settings()).map(drop).unwrap_err().to_string()
}

fn settings() -> ChannelSettings {
    ChannelSettings {
        secrets: Arc::new(Named),
        public_url: Some("https://watchbell.example.com".to_owned()),
        ca_file: None,
        mail: Arc::new(NoMail),
    }
}

/// The notification `number` of `incident` of the monitor `Orders`, ten minutes after the one before.
pub(super) fn row(incident: u32, number: u32, notification_type: NotificationType) -> OutboxRow {
    let opened_at: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
    let at = opened_at + TimeDelta::minutes(10 * i64::from(number));
    let is_over = notification_type == NotificationType::Recovery;
    OutboxRow {
        id: NotificationId(i64::from(100 * incident + number)),
        uuid: format!("notification-{incident}-{number}"),
        thread_uuid: format!("notification-{incident}-0"),
        monitor_id: Some(MonitorId(7)),
        monitor_uuid: Some("5f0c7a10-1111-4222-8333-444455556666".to_owned()),
        incident_id: Some(IncidentId(i64::from(incident))),
        incident_uuid: Some(format!("incident-{incident}")),
        thread_external_id: None,
        edits_external_id: None,
        notification_type,
        severity: Severity::Critical,
        recipient: "night-shift".to_owned(),
        subject: format!("[Monitor {notification_type}] Orders"),
        body: "Monitor: Orders\n\nnothing came since noon\n".to_owned(),
        facts: Facts {
            monitor_name: "Orders".to_owned(),
            kind: "sql".to_owned(),
            labels: [("team".to_owned(), "sales".to_owned())].into(),
            state_before: Some(State::Alert),
            state: Some(if is_over { State::Ok } else { State::Alert }),
            at: Some(at),
            opened_at: Some(opened_at),
            recovered_at: is_over.then_some(at),
            message: format!("nothing came since noon ({number})"),
            ..Facts::default()
        },
        attempts: 1,
        created_at: at,
    }
}

/// A notification that belongs to no incident.
pub(super) fn own_row(number: u32, notification_type: NotificationType) -> OutboxRow {
    let uuid = format!("notification-0-{number}");
    OutboxRow {
        thread_uuid: uuid.clone(),
        uuid,
        monitor_id: None,
        monitor_uuid: None,
        incident_id: None,
        incident_uuid: None,
        subject: format!("[Watchbell] {notification_type}"),
        facts: Facts::default(),
        ..row(0, number, notification_type)
    }
}
