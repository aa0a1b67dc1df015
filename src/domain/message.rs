//! What people read: subjects and bodies of notifications.

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::notification::NotificationType;
use super::text::one_line;
use super::transition::State;

/// A subject stays readable in a list of mails, whatever the monitor's name is.
const MAX_NAME_IN_SUBJECT: usize = 180;

/// What a message says.
#[derive(Debug, Clone, Copy)]
pub struct MessageFacts<'a> {
    /// The monitor's name.
    pub monitor_name: &'a str,
    /// The state after the run.
    pub state: State,
    /// What kind of message it is.
    pub kind: NotificationType,
    /// How bad.
    pub severity: Severity,
    /// The run's instant.
    pub at: DateTime<Utc>,
    /// The monitor's zone.
    pub zone: Tz,
    /// When the incident was opened.
    pub opened_at: DateTime<Utc>,
    /// The child's message, word for word.
    pub message: &'a str,
}

/// `[Monitor ALERT] <name>` and its kin.
pub fn subject(kind: NotificationType, monitor_name: &str) -> String {
    let word = match kind {
        NotificationType::Alert => "ALERT",
        NotificationType::Reminder => "REMINDER",
        NotificationType::Recovery => "RECOVERED",
    };
    format!("[Monitor {word}] {}", one_line(monitor_name, MAX_NAME_IN_SUBJECT))
}

/// The plain text: facts, one a line as `Label: value`, an empty line, and the child's message word for word.
pub fn body(facts: &MessageFacts<'_>) -> String {
    let mut lines = vec![
        format!("Monitor: {}", one_line(facts.monitor_name, usize::MAX)),
        format!("State: {}", facts.state),
        format!("Notification: {}", facts.kind),
        format!("Severity: {}", facts.severity),
        format!("Time: {}", in_both_zones(facts.at, facts.zone)),
    ];
    match facts.kind {
        NotificationType::Alert => {}
        NotificationType::Reminder => lines.push(format!("In alert since: {}", since(facts))),
        NotificationType::Recovery => lines.push(format!("Was in alert since: {}", since(facts))),
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
fn since(facts: &MessageFacts<'_>) -> String {
    let span = span(facts.at.trunc_subsecs(0) - facts.opened_at.trunc_subsecs(0));
    format!("{} ({span})", in_both_zones(facts.opened_at, facts.zone))
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

    use super::{MessageFacts, body, span, subject};
    use crate::domain::{NotificationType, State};

    #[test]
    fn subjects_are_the_agreed_ones_and_one_line() {
        assert_eq!(subject(NotificationType::Alert, "Orders"), "[Monitor ALERT] Orders");
        assert_eq!(subject(NotificationType::Reminder, "Orders"), "[Monitor REMINDER] Orders");
        assert_eq!(subject(NotificationType::Recovery, "Ord\r\ners"), "[Monitor RECOVERED] Ord ers");
    }

    #[test]
    fn the_body_says_everything_once_and_the_message_word_for_word() {
        let at = DateTime::from_timestamp(1_795_294_800, 0).unwrap();
        let text = body(&MessageFacts {
            monitor_name: "Orders",
            state: State::Ok,
            kind: NotificationType::Recovery,
            severity: Severity::Critical,
            at,
            zone: Tz::Europe__Berlin,
            opened_at: at - TimeDelta::minutes(125) + TimeDelta::milliseconds(40),
            message: "12 orders\n  since noon",
        });
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
