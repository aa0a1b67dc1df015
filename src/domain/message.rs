//! What people read: subjects and bodies of notifications.

use std::collections::{BTreeMap, BTreeSet};

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
    if !facts.suppressed.is_empty() {
        lines.push(format!("Depend on it, and are held back meanwhile: {}", names(&facts.suppressed)));
    }
    format!("{}\n\n{}\n", lines.join("\n"), facts.message)
}

/// A recovery that tells of its alert as well, since no delivery of that was confirmed before: subject, body and facts.
pub fn was_down(severity: Severity, recovery: &Facts, alert_message: &str) -> (String, String, Facts) {
    let facts = Facts { tells_alert: true, ..recovery.clone() };
    let subject = subject(NotificationType::Recovery, &facts.monitor_name);
    let told = body(NotificationType::Recovery, severity, &facts, Tz::UTC);
    let (head, message) = told.split_once("\n\n").unwrap_or((&told, ""));
    let span = facts.opened_at.zip(facts.at).map(|(from, until)| {
        let clock = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("Was down: {} to {}; no delivery of the alert was confirmed before", clock(from), clock(until))
    });
    let span = span.unwrap_or_else(|| "No delivery of the alert was confirmed before".to_owned());
    let alert = alert_message.trim_end();
    let body = format!("{head}\n{span}\n\n{}\n\nThe alert had said:\n{alert}\n", message.trim_end());
    (subject, body, facts)
}

/// `[Watchbell] 12 failing: a, b, c and 9 more`.
pub(super) fn digest_subject(what: &str, count: usize, names: &BTreeSet<&str>) -> String {
    const NAMED: usize = 3;
    let mut listed = names.iter().take(NAMED).map(|name| one_line(name, 60)).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        listed = format!("{listed} and {} more", names.len() - NAMED);
    }
    subject(NotificationType::Digest, &format!("{count} {what}: {listed}"))
}

/// The list of what a digest stands for, in the order in which it came; equal lines once, with their number.
pub(super) fn digest_body<'a>(what: &str, count: usize, lines: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    /// Mail programs and people cope with so many.
    const MOST_LINES: usize = 5_000;
    const MAX_MESSAGE_CHARS: usize = 160;
    let mut listed: Vec<(String, usize)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (name, message) in lines {
        let line = format!("{}: {}", one_line(name, MAX_NAME_IN_SUBJECT), one_line(message, MAX_MESSAGE_CHARS));
        match places.get(&line) {
            Some(place) => listed[*place].1 += 1,
            None => {
                places.insert(line.clone(), listed.len());
                listed.push((line, 1));
            }
        }
    }
    let mut body = format!("{count} messages in one, of what is {what}:\n\n");
    for (line, times) in listed.iter().take(MOST_LINES) {
        let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        body.push_str(&format!("- {line}{times}\n"));
    }
    if let Some(more @ 1..) = listed.len().checked_sub(MOST_LINES) {
        body.push_str(&format!("- and {more} more; `watchbell list` shows all\n"));
    }
    body
}

/// A node that looks cut off: subject and body.
pub(super) fn cut_off_text(node: &str, openings: u32, runs: u32) -> (String, String) {
    let node = one_line(node, MAX_NAME_IN_SUBJECT);
    let subject =
        subject(NotificationType::Notice, &format!("node {node} looks cut off: {openings} monitors failed at once"));
    let body = format!(
        "Node: {node}\nNotification: notice\nSeverity: critical\n\n{openings} of {runs} checks that this node made within \
         two seconds failed. That is more likely a trouble of the node itself (its network, its name server) than of all \
         of them. Their alerts are held for half a minute; then you are told whether it is confirmed, or over.\n"
    );
    (subject, body)
}

/// What became of that: subject and body.
pub(super) fn wave_end_text(node: &str, still_open: u32, count: u32) -> (String, String) {
    let node = one_line(node, MAX_NAME_IN_SUBJECT);
    let is_confirmed = u64::from(still_open) * 2 >= u64::from(count);
    let (what, more) = match is_confirmed {
        true => ("confirmed", "Their alerts follow."),
        false => ("over", "Of those that recovered meanwhile nobody was told more."),
    };
    let subject =
        subject(NotificationType::Notice, &format!("node {node}: {what}, {still_open} of {count} still fail"));
    let body = format!(
        "Node: {node}\nNotification: notice\nSeverity: critical\n\nHalf a minute after {count} monitors failed at once, \
         {still_open} of them still fail. {more}\n"
    );
    (subject, body)
}

/// Names in one line; of very many the first.
fn names(names: &[String]) -> String {
    const MOST: usize = 50;
    let listed = names.iter().take(MOST).map(|name| one_line(name, MAX_NAME_IN_SUBJECT)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

pub(super) fn in_both_zones(at: DateTime<Utc>, zone: Tz) -> String {
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
pub(super) fn span(span: TimeDelta) -> String {
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
