//! What people read: subjects and bodies of notifications.

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::facts::Facts;
use super::notification::NotificationType;
use super::text::one_line;

/// A subject stays readable in a list of mails, whatever the monitor's name is.
const MAX_NAME_IN_SUBJECT: usize = 180;

/// `[Monitor ALERT] <name>` and its kin; for what is of no single monitor, `name` is the whole subject.
pub fn subject(notification_type: NotificationType, name: &str) -> String {
    let word = match notification_type {
        NotificationType::Alert => "[Monitor ALERT] ",
        NotificationType::Reminder => "[Monitor REMINDER] ",
        NotificationType::Recovery => "[Monitor RECOVERED] ",
        NotificationType::Digest | NotificationType::Notice | NotificationType::SelfTest => "[Watchbell] ",
        NotificationType::Test => "[Watchbell TEST] ",
    };
    format!("{word}{}", one_line(name, MAX_NAME_IN_SUBJECT))
}

/// The plain text of a message of one monitor: facts, one a line as `Label: value`, an empty line, and the child's
/// message word for word.
pub fn body(notification_type: NotificationType, severity: Severity, facts: &Facts, zone: Tz) -> String {
    let mut lines = vec![format!("Monitor: {}", one_line(&facts.monitor_name, usize::MAX))];
    lines.extend(facts.state.map(|state| format!("State: {state}")));
    lines.push(format!("Notification: {notification_type}"));
    lines.push(format!("Severity: {severity}"));
    lines.extend(facts.at.map(|at| format!("Time: {}", in_both_zones(at, zone))));
    let since = facts.opened_at.zip(facts.at).map(|(opened_at, at)| since(opened_at, at, zone));
    match notification_type {
        NotificationType::Reminder => lines.extend(since.map(|since| format!("In alert since: {since}"))),
        NotificationType::Recovery => lines.extend(since.map(|since| format!("Was in alert since: {since}"))),
        NotificationType::Alert
        | NotificationType::Digest
        | NotificationType::Notice
        | NotificationType::SelfTest
        | NotificationType::Test => {}
    }
    format!("{}\n\n{}\n", lines.join("\n"), facts.message)
}

fn in_both_zones(at: DateTime<Utc>, zone: Tz) -> String {
    let utc = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    if zone == Tz::UTC {
        return utc;
    }
    format!("{utc} = {} {}", at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z"), zone.name())
}

/// When the incident was opened, and how long ago that is between the two times as they are shown: the run that opened
/// it began some milliseconds after its tick, which must not make 59 minutes of an hour.
fn since(opened_at: DateTime<Utc>, at: DateTime<Utc>, zone: Tz) -> String {
    let span = span(at.trunc_subsecs(0) - opened_at.trunc_subsecs(0));
    format!("{} ({span})", in_both_zones(opened_at, zone))
}

/// A span for people: its two largest units.
fn span(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use chrono_tz::Tz;
    use watchbell_contract::Severity;

    use super::{body, span, subject};
    use crate::domain::{Facts, NotificationType, State};

    #[test]
    fn subjects_are_the_agreed_ones_and_one_line() {
        assert_eq!(subject(NotificationType::Alert, "Orders"), "[Monitor ALERT] Orders");
        assert_eq!(subject(NotificationType::Reminder, "Orders"), "[Monitor REMINDER] Orders");
        assert_eq!(subject(NotificationType::Recovery, "Ord\r\ners"), "[Monitor RECOVERED] Ord ers");
    }

    #[test]
    fn the_body_says_everything_once_and_the_message_word_for_word() {
        let at = DateTime::from_timestamp(1_795_294_800, 0).unwrap();
        let facts = Facts {
            monitor_name: "Orders".to_owned(),
            state: Some(State::Ok),
            at: Some(at),
            opened_at: Some(at - TimeDelta::minutes(125) + TimeDelta::milliseconds(40)),
            message: "12 orders\n  since noon".to_owned(),
            ..Facts::default()
        };
        let text = body(NotificationType::Recovery, Severity::Critical, &facts, Tz::Europe__Berlin);
        let expected = "Monitor: Orders\nState: ok\nNotification: recovery\nSeverity: critical\n\
            Time: 2026-11-21T21:00:00Z = 2026-11-21 22:00:00 CET Europe/Berlin\n\
            Was in alert since: 2026-11-21T18:55:00Z = 2026-11-21 19:55:00 CET Europe/Berlin (2 h 5 min)\n\n\
            12 orders\n  since noon\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn spans_are_short() {
        let text = |seconds| span(TimeDelta::seconds(seconds));
        assert_eq!(
            [text(-1), text(59), text(60), text(3_661), text(90_000)],
            ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h"]
        );
    }
}
