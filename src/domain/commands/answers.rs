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
const MAX_NAME_CHARS: usize = 100;
const MAX_BY_CHARS: usize = 100;

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
