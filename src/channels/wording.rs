//! How chat channels say what a notification says: one heading, some facts, the child's message, a link.

use watchbell_contract::Severity;

use crate::domain::{NotificationType, OutboxRow, one_line};

/// Chat programs show a heading in one or two lines.
const MAX_HEADING_CHARS: usize = 200;

/// A severity, or good news, as one character that is seen before anything is read.
pub(super) fn emoji(row: &OutboxRow) -> &'static str {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery, _) => "\u{2705}",
        (NotificationType::SelfTest, _) => "\u{1F514}",
        (NotificationType::Test, _) => "\u{1F9EA}",
        (_, Severity::Critical) => "\u{1F534}",
        (_, Severity::Warning) => "\u{1F7E1}",
        (_, Severity::Info) => "\u{1F535}",
    }
}

/// What happened, in one line without the emoji: `Orders: ALERT`, or the subject where there is no monitor.
pub(super) fn heading(row: &OutboxRow) -> String {
    let what = match row.notification_type {
        NotificationType::Alert => "ALERT",
        NotificationType::Reminder => "still failing",
        NotificationType::Recovery if row.facts.tells_alert => "was down, RECOVERED",
        NotificationType::Recovery => "RECOVERED",
        NotificationType::Digest | NotificationType::Notice | NotificationType::SelfTest | NotificationType::Test => {
            return one_line(&row.subject, MAX_HEADING_CHARS).into_owned();
        }
    };
    let title = row.facts.title();
    if title.is_empty() {
        return one_line(&row.subject, MAX_HEADING_CHARS).into_owned();
    }
    one_line(&format!("{title}: {what}"), MAX_HEADING_CHARS).into_owned()
}

/// What there is to read below the heading: the child's message, or the whole body where there is no single one.
/// At most `max_chars` characters.
pub(super) fn text(row: &OutboxRow, max_chars: usize) -> String {
    let text = if row.facts.message.is_empty() { &row.body } else { &row.facts.message };
    let text = text.trim();
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// The page of the notification's monitor, where there is one.
pub(super) fn link(row: &OutboxRow, public_url: Option<&str>) -> Option<String> {
    let (public_url, uuid) = (public_url?, row.monitor_uuid.as_deref()?);
    Some(format!("{public_url}/monitors/{}", super::mime::token(uuid)))
}

/// Which incident it tells of, by the number that commands and tables call it by: `incident 17`.
pub(super) fn incident(row: &OutboxRow) -> Option<String> {
    row.incident_id.map(|incident| format!("incident {}", incident.0))
}
