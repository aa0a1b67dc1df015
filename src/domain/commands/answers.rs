//! What commands are answered with. No answer begins with `!`: two programs in one room must not command each other.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Acknowledge, IncidentRecord, SilenceRecord, Summary};
use crate::domain::message::{in_both_zones, span};
use crate::domain::monitor::{MonitorId, MonitorRow};
use crate::domain::text::one_line;

/// Every room takes so much in one message.
pub const MAX_CHARS: usize = 4_000;
/// What a person reads at night on a telephone.
pub const MAX_LINES: usize = 20;
/// Of [`MAX_LINES`]; the rest says how everything stands.
pub const MAX_FAILING: usize = 15;
/// So much that [`MAX_FAILING`] lines leave room for the rest within [`MAX_CHARS`].
const MAX_NAME_CHARS: usize = 100;
const MAX_BY_CHARS: usize = 60;

/// The commands, with an example each.
pub fn help() -> String {
    "`!status`: how everything stands, with the numbers of open incidents\n\
     `!ack 17 looking at it`: incident 17 is in hand; no reminders until it is over\n\
     `!ack 17 for 2h`: the same, for two hours\n\
     `!silence Orders arrive 2h`: the monitor (its id, uuid or name) tells nothing for two hours; checks go on\n\
     `!silence Orders arrive off`: ends that\n\
     `!help`: this list"
        .to_owned()
}

/// For somebody who may not command.
pub fn refusal() -> String {
    "Sorry, you are not among those who may command Watchbell in this room, so nothing was done. Whoever keeps this \
     channel can add you."
        .to_owned()
}

/// How everything stands. `silenced`: those of the failing ones that a silence holds; `silences`: how many hold now.
pub fn status(summary: &Summary, silenced: &BTreeSet<MonitorId>, silences: usize, now: DateTime<Utc>) -> String {
    let paused = if summary.paused > 0 { format!(" ({} paused)", summary.paused) } else { String::new() };
    let mut lines = vec![match summary.in_alert {
        0 => format!("{}{paused}, none in alert", monitors(summary.monitors)),
        failing => format!("{}{paused}, {failing} in alert:", monitors(summary.monitors)),
    }];
    for failing in summary.failing.iter().take(MAX_FAILING) {
        let name = name(&failing.row.name);
        let since = failing.opened_at.format("%Y-%m-%d %H:%M UTC");
        let mut line =
            format!("- incident {}: {name}, since {since} ({})", failing.incident.0, span(now - failing.opened_at));
        if let Some(by) = &failing.acknowledged_by {
            line.push_str(&format!(", acknowledged by {}", one_line(by, MAX_BY_CHARS)));
        }
        if silenced.contains(&failing.row.id) {
            line.push_str(", silenced");
        }
        lines.push(line);
    }
    let listed = u64::try_from(summary.failing.len().min(MAX_FAILING)).unwrap_or(u64::MAX);
    if let Some(more @ 1..) = summary.in_alert.checked_sub(listed) {
        lines.push(format!("- and {more} more; `watchbell list` shows all"));
    }
    lines.push(format!(
        "{silences} {} now; notifications: {} waiting, {} held, {} given up",
        if silences == 1 { "silence holds" } else { "silences hold" },
        summary.waiting,
        summary.held,
        summary.given_up
    ));
    bounded(&lines.join("\n"))
}

/// What became of an acknowledgment: `incident` as it stands after it.
pub fn acknowledged(request: &Acknowledge, incident: Option<&IncidentRecord>, now: DateTime<Utc>) -> String {
    let id = request.incident.0;
    let Some(incident) = incident else {
        return format!("There is no incident {id}; `!status` lists the open ones.");
    };
    let name = name(&incident.monitor_name);
    if let Some(over) = incident.recovered_at {
        return format!(
            "Incident {id} ({name}) is over since {}; there is nothing to acknowledge.",
            in_both_zones(over, Tz::UTC)
        );
    }
    if incident.acknowledgment_command.as_deref() == Some(request.command.as_str()) {
        let until = incident.acknowledged_until.map_or_else(
            || "until it is over".to_owned(),
            |until| format!("until {} ({})", in_both_zones(until, Tz::UTC), span(until - now)),
        );
        return format!("Incident {id} ({name}) is acknowledged by {}: no reminders {until}.", by(incident));
    }
    let since = incident.acknowledged_at.map(|at| format!(" since {}", in_both_zones(at, Tz::UTC)));
    let until = incident.acknowledged_until.map(|until| format!(" until {}", in_both_zones(until, Tz::UTC)));
    format!(
        "Incident {id} ({name}) is already acknowledged by {}{}{}; `!ack {id} for 2h` changes until when.",
        by(incident),
        since.unwrap_or_default(),
        until.unwrap_or_default()
    )
}

/// A silence was made.
pub fn silenced(monitor: &MonitorRow, silence: SilenceRecord, default_zone: Tz) -> String {
    let zone = monitor.timezone.as_deref().and_then(|name| name.trim().parse().ok()).unwrap_or(default_zone);
    format!(
        "Monitor {} ({}) is silenced until {} (silence {}). Checks go on; what is still true then is told then. \
         `!silence {} off` ends it before.",
        monitor.id,
        name(&monitor.name),
        in_both_zones(silence.ends_at, zone),
        silence.id,
        monitor.id
    )
}

/// Silences were ended.
pub fn silences_ended(monitor: &MonitorRow, ended: &[i64]) -> String {
    let called = format!("monitor {} ({})", monitor.id, name(&monitor.name));
    match ended {
        [] => format!("No silence that a command made holds for {called}. Those made by SQL are ended by SQL."),
        [one] => format!("Silence {one} of {called} is ended."),
        several => {
            let ids = several.iter().take(MAX_LINES).map(i64::to_string).collect::<Vec<_>>().join(", ");
            format!("{} silences of {called} are ended: {ids}.", several.len())
        }
    }
}

/// No monitor, or several, are called so.
pub fn not_one_monitor(text: &str, found: &[MonitorRow]) -> String {
    let text = name(text);
    if found.is_empty() {
        return format!("There is no monitor `{text}`; it is named by its id, uuid or whole name.");
    }
    let hint = if text.parse::<i64>().is_ok() { "its uuid" } else { "its id" };
    let mut lines = vec![format!("`{text}` names {} monitors, so nothing was done; write {hint}:", found.len())];
    lines.extend(
        found
            .iter()
            .map(|row| format!("- {}: {} (kind {}, uuid {})", row.id, name(&row.name), name(&row.kind), row.uuid)),
    );
    bounded(&lines.join("\n"))
}

/// Something that is no fault of whoever asked.
pub fn trouble(error: &str) -> String {
    bounded(&format!("That could not be done: {error}"))
}

/// At most [`MAX_LINES`] lines and [`MAX_CHARS`] characters.
pub fn bounded(text: &str) -> String {
    let lines = text.lines().count();
    let text = match lines > MAX_LINES {
        true => {
            let kept: Vec<&str> = text.lines().take(MAX_LINES - 1).collect();
            format!("{}\n- and {} more lines", kept.join("\n"), lines - kept.len())
        }
        false => text.to_owned(),
    };
    if text.chars().count() <= MAX_CHARS {
        return text;
    }
    text.chars().take(MAX_CHARS - 1).chain(['\u{2026}']).collect()
}

fn monitors(count: u64) -> String {
    if count == 1 { "1 monitor".to_owned() } else { format!("{count} monitors") }
}

fn name(name: &str) -> String {
    one_line(name, MAX_NAME_CHARS).replace('`', "'")
}

fn by(incident: &IncidentRecord) -> String {
    let by = incident.acknowledged_by.as_deref().filter(|by| !by.trim().is_empty());
    by.map_or_else(|| "somebody".to_owned(), |by| one_line(by, MAX_BY_CHARS).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::{MAX_CHARS, MAX_LINES, acknowledged, bounded, help, not_one_monitor, refusal, silenced, status};
    use crate::domain::commands::{Acknowledge, FailingMonitor, IncidentRecord, SilenceRecord, Summary};
    use crate::domain::{IncidentId, MissedTickPolicy, MonitorId, MonitorRow, State};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn monitor(id: i64, name: &str) -> MonitorRow {
        MonitorRow {
            id: MonitorId(id),
            uuid: format!("uuid-{id}"),
            is_active: true,
            name: name.to_owned(),
            kind: "sql".into(),
            schedule: "* * * * *".into(),
            timezone: Some("Europe/Berlin".into()),
            config: "{}".into(),
            severity: watchbell_contract::Severity::Critical,
            labels: "{}".into(),
            runs_on: None,
            timeout_seconds: 30,
            retries: 0,
            retry_delay_seconds: 5,
            state: State::Alert,
            consecutive_ok_count: 0,
            required_consecutive_oks: 2,
            required_consecutive_alerts: 1,
            consecutive_alert_count: 0,
            reminder_frequency_minutes: Some(60),
            people_to_notify: None,
            missed_tick_policy: MissedTickPolicy::RunOnce,
            last_tick_at: None,
            last_run_at: None,
            last_notification_at: None,
            next_run_at: None,
            config_error: None,
            revision: 1,
            recheck_seq: 1,
            write_seq: 1,
        }
    }

    fn failing(id: i64, name: &str, acknowledged_by: Option<&str>) -> FailingMonitor {
        FailingMonitor {
            row: monitor(id, name),
            incident: IncidentId(id + 100),
            opened_at: at("2026-11-22T10:00:00Z"),
            acknowledged_by: acknowledged_by.map(str::to_owned),
        }
    }

    #[test]
    fn the_status_says_who_fails_since_when_and_who_has_it_in_hand() {
        let mut summary = Summary { monitors: 12, paused: 1, waiting: 3, held: 2, ..Summary::default() };
        let now = at("2026-11-22T12:05:00Z");
        let quiet = status(&summary, &BTreeSet::new(), 1, now);
        let counts = "notifications: 3 waiting, 2 held, 0 given up";
        assert_eq!(quiet, format!("12 monitors (1 paused), none in alert\n1 silence holds now; {counts}"));
        summary.in_alert = 2;
        summary.failing = vec![failing(1, "Orders", None), failing(2, "Disk", Some("@ann:x.test"))];
        let expected = format!(
            "12 monitors (1 paused), 2 in alert:\n\
             - incident 101: Orders, since 2026-11-22 10:00 UTC (2 h 5 min)\n\
             - incident 102: Disk, since 2026-11-22 10:00 UTC (2 h 5 min), acknowledged by @ann:x.test, silenced\n\
             0 silences hold now; {counts}"
        );
        assert_eq!(status(&summary, &BTreeSet::from([MonitorId(2)]), 0, now), expected);
        summary.in_alert = 5_000;
        summary.failing = (0..50).map(|id| failing(id, &"\u{1F525}\n".repeat(9_000), Some(&"x".repeat(999)))).collect();
        let long = status(&summary, &BTreeSet::new(), 0, now);
        assert!(long.lines().count() <= MAX_LINES && long.chars().count() <= MAX_CHARS, "{long}");
        assert!(long.contains("- and 4985 more;") && long.ends_with(counts), "{long}");
    }

    #[test]
    fn an_acknowledgment_is_answered_by_what_became_of_it() {
        let now = at("2026-11-22T12:00:00Z");
        let request = |command: &str| Acknowledge {
            incident: IncidentId(17),
            by: "@ann:x.test".into(),
            note: None,
            until: None,
            command: command.into(),
        };
        let done = IncidentRecord {
            id: IncidentId(17),
            monitor_name: "Orders".into(),
            opened_at: at("2026-11-22T10:00:00Z"),
            recovered_at: None,
            acknowledged_at: Some(now),
            acknowledged_by: Some("@ann:x.test".into()),
            acknowledged_until: None,
            acknowledgment_command: Some("ops/1".into()),
        };
        let limited = IncidentRecord { acknowledged_until: Some(now + TimeDelta::hours(2)), ..done.clone() };
        let over = IncidentRecord { recovered_at: Some(now), ..done.clone() };
        let by_sql = IncidentRecord { acknowledged_by: None, acknowledgment_command: None, ..done.clone() };
        for (command, record, expected) in [
            (
                "ops/1",
                Some(&done),
                "Incident 17 (Orders) is acknowledged by @ann:x.test: no reminders until it is over.",
            ),
            (
                "ops/1",
                Some(&limited),
                "is acknowledged by @ann:x.test: no reminders until 2026-11-22T14:00:00Z (2 h 0 min).",
            ),
            ("ops/2", Some(&done), "is already acknowledged by @ann:x.test since 2026-11-22T12:00:00Z;"),
            ("ops/2", Some(&limited), "since 2026-11-22T12:00:00Z until 2026-11-22T14:00:00Z; `!ack 17 for 2h`"),
            ("ops/2", Some(&by_sql), "is already acknowledged by somebody since"),
            ("ops/1", Some(&over), "is over since 2026-11-22T12:00:00Z; there is nothing to acknowledge"),
            ("ops/1", None, "There is no incident 17;"),
        ] {
            let answer = acknowledged(&request(command), record, now);
            assert!(answer.contains(expected), "{answer}");
        }
    }

    #[test]
    fn a_silence_is_told_in_utc_and_in_the_monitors_zone() {
        let silence = SilenceRecord { id: 4, ends_at: at("2026-11-22T14:00:00Z") };
        let answer = silenced(&monitor(7, "Orders"), silence, Tz::UTC);
        let expected = "Monitor 7 (Orders) is silenced until 2026-11-22T14:00:00Z = 2026-11-22 15:00:00 CET \
                        Europe/Berlin (silence 4).";
        assert!(answer.starts_with(expected), "{answer}");
    }

    #[test]
    fn an_answer_is_bounded_and_commands_nobody() {
        let many: Vec<MonitorRow> = (0..20).map(|id| monitor(id, &"n".repeat(5_000))).collect();
        for answer in [help(), refusal(), not_one_monitor("!ack", &many), not_one_monitor("!ack", &[])] {
            assert!(answer.lines().count() <= MAX_LINES && answer.chars().count() <= MAX_CHARS, "{answer}");
            assert!(answer.lines().all(|line| !line.starts_with('!')), "{answer}");
        }
        assert_eq!(bounded(&"x".repeat(9_000)).chars().count(), MAX_CHARS);
        let lines = bounded(&"line\n".repeat(30));
        assert!(lines.lines().count() == MAX_LINES && lines.ends_with("- and 11 more lines"), "{lines}");
    }
}
