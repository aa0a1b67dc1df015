//! The body that Alertmanager's `webhook_config` sends, version 4, so that its receivers work unchanged.
//!
//! | notification | becomes |
//! |---|---|
//! | alert, reminder | one alert, `firing`, with the same `startsAt` and `fingerprint` each time |
//! | recovery | that alert, `resolved`, with `endsAt`; also where its alert was never delivered: both times are in it |
//! | digest, notice | one alert, `firing`, named after its monitor, else `WatchbellDigest`, `WatchbellNotice`; `resolved` where it tells that something is ok again |
//! | self_test, test | one alert, `firing`, `WatchbellSelfTest`, `WatchbellTest` |
//!
//! What has no incident has a fingerprint and a group of its own and is never resolved: Alertmanager knows no message
//! that is no alert.
//!
//! - `labels`: `alertname` (the monitor's name), `severity`, `kind`, and the monitor's labels. Their names are made to
//!   fit `[a-zA-Z_][a-zA-Z0-9_]*`; a name that is taken gets `exported_` before it, as in Prometheus. Labels without
//!   a value are left out, as there.
//! - `annotations`: `summary` is the subject, `description` what the child said, `type` the type of the notification.
//! - `fingerprint` and `groupKey` are those of the incident, not of the monitor: a receiver that folds by them does not
//!   take a late recovery of an old incident for the end of a new one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ring::digest;
use serde::Serialize;

use super::signature::hex;
use crate::channels::wording;
use crate::domain::{NotificationType, OutboxRow, State};

/// What Go writes for a time that is not set: the alert has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";
/// Of a description, in characters; what a child says is shorter, a digest's list may not be.
const MAX_DESCRIPTION_CHARS: usize = 64 * 1024;
/// Of a fingerprint: Alertmanager's are 64 bits.
const FINGERPRINT_BYTES: usize = 8;

/// The body.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    version: &'static str,
    group_key: String,
    truncated_alerts: u64,
    status: &'static str,
    receiver: String,
    group_labels: BTreeMap<String, String>,
    common_labels: BTreeMap<String, String>,
    common_annotations: BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: [Alert; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: &'static str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

impl Body {
    pub(super) fn of(row: &OutboxRow, public_url: Option<&str>) -> Self {
        let alert = alert(row, public_url);
        let name = alertname(row);
        Self {
            version: "4",
            group_key: format!("{{}}/{{incident={:?}}}:{{alertname={name:?}}}", identity(row)),
            truncated_alerts: 0,
            status: alert.status,
            receiver: row.recipient.clone(),
            group_labels: BTreeMap::from([("alertname".to_owned(), name.to_owned())]),
            common_labels: alert.labels.clone(),
            common_annotations: alert.annotations.clone(),
            external_url: public_url.unwrap_or_default().to_owned(),
            alerts: [alert],
        }
    }
}

fn alert(row: &OutboxRow, public_url: Option<&str>) -> Alert {
    let facts = &row.facts;
    let happened_at = facts.at.unwrap_or(row.created_at);
    let is_resolved = is_resolved(row);
    let ended_at = is_resolved.then(|| facts.recovered_at.unwrap_or(happened_at));
    Alert {
        status: if is_resolved { "resolved" } else { "firing" },
        labels: labels(row),
        annotations: BTreeMap::from([
            ("summary".to_owned(), row.subject.clone()),
            ("description".to_owned(), wording::text(row, MAX_DESCRIPTION_CHARS)),
            ("type".to_owned(), row.notification_type.as_str().to_owned()),
        ]),
        starts_at: rfc3339(facts.opened_at.unwrap_or(happened_at)),
        ends_at: ended_at.map_or_else(|| NOT_ENDED.to_owned(), rfc3339),
        generator_url: wording::link(row, public_url).unwrap_or_default(),
        fingerprint: fingerprint(row),
    }
}

fn is_resolved(row: &OutboxRow) -> bool {
    match row.notification_type {
        NotificationType::Recovery => true,
        NotificationType::Digest | NotificationType::Notice => row.facts.state == Some(State::Ok),
        NotificationType::Alert | NotificationType::Reminder | NotificationType::SelfTest | NotificationType::Test => {
            false
        }
    }
}

fn alertname(row: &OutboxRow) -> &str {
    if !row.facts.monitor_name.is_empty() {
        return &row.facts.monitor_name;
    }
    match row.notification_type {
        NotificationType::Alert | NotificationType::Reminder | NotificationType::Recovery => "Watchbell",
        NotificationType::Digest => "WatchbellDigest",
        NotificationType::Notice => "WatchbellNotice",
        NotificationType::SelfTest => "WatchbellSelfTest",
        NotificationType::Test => "WatchbellTest",
    }
}

fn labels(row: &OutboxRow) -> BTreeMap<String, String> {
    let ours = [("alertname", alertname(row)), ("severity", row.severity.as_str()), ("kind", row.facts.kind.as_str())];
    let mut labels: BTreeMap<String, String> = ours
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (as_they_are, changed): (Vec<_>, Vec<_>) = row
        .facts
        .labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .partition(|(name, _)| label_name(name) == **name);
    // A label that had its name first keeps it.
    for (name, value) in as_they_are.into_iter().chain(changed) {
        let mut name = label_name(name);
        while ["alertname", "severity", "kind"].contains(&name.as_str()) || labels.contains_key(&name) {
            name.insert_str(0, "exported_");
        }
        labels.insert(name, value.clone());
    }
    labels
}

/// The name as `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(name: &str) -> String {
    let starts_well = name.starts_with(|first: char| !first.is_ascii_digit());
    let fitting = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    (!starts_well).then_some('_').into_iter().chain(fitting).collect()
}

/// One for all that is told of one incident.
fn identity(row: &OutboxRow) -> &str {
    row.incident_uuid.as_deref().unwrap_or(&row.thread_uuid)
}

fn fingerprint(row: &OutboxRow) -> String {
    let whole = digest::digest(&digest::SHA256, identity(row).as_bytes());
    hex(&whole.as_ref()[..FINGERPRINT_BYTES])
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
