//! An acknowledgment as others are told of it: who has the incident in hand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::decision::origin_of;
use super::facts::Facts;
use super::incident::IncidentId;
use super::message::{body, subject};
use super::monitor::MonitorId;
use super::notification::{NewNotification, NotificationType};
use super::text::one_line;
use super::transition::State;

/// The rule that chooses who is told of an acknowledgment.
const RULE: &str = "acknowledged";
const MAX_BY_CHARS: usize = 100;
const MAX_NOTE_CHARS: usize = 1_000;

/// An acknowledgment of an open incident that nobody was told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgment {
    /// The incident.
    pub incident: IncidentId,
    /// Its monitor.
    pub monitor: MonitorId,
    /// The monitor's name.
    pub monitor_name: String,
    /// Its kind.
    pub kind: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `timezone` of the row.
    pub timezone: Option<String>,
    /// When the incident was opened.
    pub opened_at: DateTime<Utc>,
    /// `acknowledged_at`.
    pub at: DateTime<Utc>,
    /// `acknowledged_by`.
    pub by: Option<String>,
    /// `acknowledgment_note`.
    pub note: Option<String>,
    /// `acknowledged_until`.
    pub until: Option<DateTime<Utc>>,
    /// The channels that were told of the incident, and how badly. E-mail addresses are not among them: a mail for each
    /// acknowledgment is noise.
    pub told: Vec<(String, Severity)>,
}

/// What `recipient` is told of it.
pub fn acknowledgment_notice(
    acknowledgment: &Acknowledgment,
    recipient: &str,
    severity: Severity,
    default_zone: Tz,
) -> NewNotification {
    let by = match acknowledgment.by.as_deref().map(str::trim) {
        None | Some("") => "somebody".to_owned(),
        Some(by) => one_line(by, MAX_BY_CHARS).into_owned(),
    };
    let zone = acknowledgment.timezone.as_deref().and_then(|name| name.trim().parse().ok()).unwrap_or(default_zone);
    let facts = Facts {
        monitor_name: acknowledgment.monitor_name.clone(),
        kind: acknowledgment.kind.clone(),
        labels: acknowledgment.labels.clone(),
        state_before: Some(State::Alert),
        state: Some(State::Alert),
        at: Some(acknowledgment.at),
        opened_at: Some(acknowledgment.opened_at),
        message: message(acknowledgment, &by),
        acknowledged_by: Some(by.clone()),
        ..Facts::default()
    };
    let name = facts.title().to_owned();
    NewNotification {
        notification_type: NotificationType::Notice,
        severity,
        recipient: recipient.to_owned(),
        subject: subject(NotificationType::Notice, &format!("{}: acknowledged by {by}", one_line(&name, 120))),
        body: body(NotificationType::Notice, severity, &facts, zone),
        rule: RULE.to_owned(),
        origin: origin_of(&facts.labels, acknowledgment.monitor),
        facts,
        hold: None,
    }
}

fn message(acknowledgment: &Acknowledgment, by: &str) -> String {
    let until = acknowledgment.until.map(|until| format!(" until {}", until.format("%Y-%m-%d %H:%M UTC")));
    let note = acknowledgment.note.as_deref().map(|note| one_line(note.trim(), MAX_NOTE_CHARS));
    let note = note.filter(|note| !note.is_empty()).map(|note| format!(": {note}"));
    format!("Acknowledged by {by}{}{}", until.unwrap_or_default(), note.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use chrono_tz::Tz;
    use watchbell_contract::Severity;

    use super::{Acknowledgment, acknowledgment_notice};
    use crate::domain::{IncidentId, MonitorId, NotificationType, State};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn acknowledgment() -> Acknowledgment {
        Acknowledgment {
            incident: IncidentId(17),
            monitor: MonitorId(3),
            monitor_name: "Orders".into(),
            kind: "sql".into(),
            labels: [("app".to_owned(), "Shop".to_owned())].into(),
            timezone: None,
            opened_at: at("2026-11-22T10:00:00Z"),
            at: at("2026-11-22T10:05:00Z"),
            by: Some("@ann:example.org".into()),
            note: Some("the switch\nis dead".into()),
            until: None,
            told: Vec::new(),
        }
    }

    #[test]
    fn it_says_who_and_why() {
        let notice = acknowledgment_notice(&acknowledgment(), "ops", Severity::Warning, Tz::UTC);
        assert_eq!(notice.notification_type, NotificationType::Notice);
        assert_eq!(
            (notice.severity, notice.recipient.as_str(), notice.rule.as_str()),
            (Severity::Warning, "ops", "acknowledged")
        );
        assert_eq!(notice.subject, "[Watchbell] Shop: acknowledged by @ann:example.org");
        assert_eq!(notice.facts.message, "Acknowledged by @ann:example.org: the switch is dead");
        assert_eq!(notice.facts.acknowledged_by.as_deref(), Some("@ann:example.org"));
        assert_eq!(notice.facts.state, Some(State::Alert));
        assert_eq!(notice.origin, "monitor 3");
        assert!(notice.hold.is_none());
    }

    #[test]
    fn what_was_set_by_sql_may_name_nobody() {
        let nameless = Acknowledgment {
            by: None,
            note: Some("  ".into()),
            until: Some(at("2026-11-22T12:00:00Z")),
            ..acknowledgment()
        };
        let notice = acknowledgment_notice(&nameless, "ops", Severity::Critical, Tz::UTC);
        assert_eq!(notice.facts.message, "Acknowledged by somebody until 2026-11-22 12:00 UTC");
        assert_eq!(notice.facts.acknowledged_by.as_deref(), Some("somebody"));
    }
}
