//! The message that says, on a schedule, that Watchbell is alive, and how it did.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use crate::domain::facts::Facts;
use crate::domain::message::subject;
use crate::domain::notification::{NewNotification, NotificationType};
use crate::domain::schedule::Schedule;
use crate::domain::text::one_line;

/// A self-test that is later than this is not made up for: its figures would be of another day.
const LATEST: TimeDelta = TimeDelta::hours(12);
/// So many monitors in alert are named.
pub const MOST_NAMED: u32 = 20;
/// A name is cut after so many characters.
const LONGEST_NAME: usize = 100;

/// The installation in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayFigures {
    /// Monitors that are not paused.
    pub active: u64,
    /// Monitors that are.
    pub paused: u64,
    /// Monitors in alert.
    pub in_alert: u64,
    /// The names of the first [`MOST_NAMED`] of them.
    pub alert_names: Vec<String>,
    /// Monitors that cannot be run, or not wholly, as written.
    pub config_errors: u64,
    /// How late checks were called; `None`: no tick was run.
    pub lateness: Option<Lateness>,
    /// Messages of the day that were sent.
    pub sent: u64,
    /// Messages that wait now.
    pub waiting: u64,
    /// Messages that are held now.
    pub held: u64,
    /// Messages that were given up within the day.
    pub given_up: u64,
}

/// How late checks were called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    /// 99 of 100 were at most so late.
    pub p99: TimeDelta,
    /// Of so many runs, the newest of the day.
    pub runs: u64,
    /// The first of them.
    pub since: DateTime<Utc>,
}

/// The tick whose self-test is due at `now`: the last one, unless that is too long ago.
pub fn last_tick(schedule: &Schedule, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // The tick at this very instant counts.
    let tick = schedule.previous_before(now + TimeDelta::milliseconds(1))?;
    (now - tick < LATEST).then_some(tick)
}

/// The message of `tick` to `recipient`.
pub fn self_test_message(
    recipient: &str,
    node: &str,
    version: &str,
    tick: DateTime<Utc>,
    schedule: &Schedule,
    figures: &DayFigures,
) -> NewNotification {
    NewNotification {
        notification_type: NotificationType::SelfTest,
        severity: Severity::Info,
        recipient: recipient.to_owned(),
        subject: subject(
            NotificationType::SelfTest,
            &format!("alive: {}, {} in alert", counted(figures.active + figures.paused, "monitor"), figures.in_alert),
        ),
        body: body(node, version, tick, schedule, figures),
        facts: Facts { at: Some(tick), ..Facts::default() },
        rule: "self_test.recipients".to_owned(),
        origin: "self-test".to_owned(),
        hold: None,
    }
}

fn body(node: &str, version: &str, tick: DateTime<Utc>, schedule: &Schedule, figures: &DayFigures) -> String {
    let DayFigures { active, paused, in_alert, config_errors, sent, waiting, held, given_up, .. } = figures;
    let zone = schedule.zone();
    let local = match zone {
        Tz::UTC => String::new(),
        _ => format!(" = {} {zone}", tick.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z")),
    };
    let mut lines = vec![
        format!("Watchbell {version} is alive on node {}.", one_line(node, LONGEST_NAME)),
        format!("Self-test of: {}{local}", tick.to_rfc3339_opts(SecondsFormat::Secs, true)),
        String::new(),
        format!("Monitors: {} ({active} active, {paused} paused)", active + paused),
        format!("In alert: {in_alert}"),
    ];
    lines.extend(figures.alert_names.iter().map(|name| format!("- {}", one_line(name, LONGEST_NAME))));
    let unnamed = in_alert.saturating_sub(figures.alert_names.len() as u64);
    if unnamed > 0 {
        lines.push(format!("- and {unnamed} more; `watchbell list` shows all"));
    }
    lines.push(format!("With a config error: {config_errors}"));
    lines.push(match figures.lateness {
        None => "Lateness: no tick was run within the last day".to_owned(),
        Some(Lateness { p99, runs, since }) => format!(
            "Lateness p99: {} ms, of the last {} since {}",
            p99.num_milliseconds(),
            counted(runs, "scheduled run"),
            since.to_rfc3339_opts(SecondsFormat::Secs, true)
        ),
    });
    lines.push(format!("Messages of the last day: {sent} sent, {given_up} given up"));
    lines.push(format!("Messages now: {waiting} waiting, {held} held"));
    format!("{}\n", lines.join("\n"))
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::{DayFigures, Lateness, last_tick, self_test_message};
    use crate::domain::schedule::Schedule;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_tick_is_made_up_for_within_half_a_day() {
        let schedule = Schedule::parse("0 9 * * *", Tz::Europe__Berlin).unwrap();
        let tick = at("2026-11-22T08:00:00Z");
        for (now, expected) in [
            ("2026-11-22T07:59:59.999Z", None),
            ("2026-11-22T08:00:00Z", Some(tick)),
            ("2026-11-22T08:20:00Z", Some(tick)),
            ("2026-11-22T19:59:59Z", Some(tick)),
            ("2026-11-22T20:00:00Z", None),
        ] {
            assert_eq!(last_tick(&schedule, at(now)), expected, "{now}");
        }
        let often = Schedule::parse("* * * * *", Tz::UTC).unwrap();
        assert_eq!(last_tick(&often, at("2026-11-22T08:20:31Z")), Some(at("2026-11-22T08:20:00Z")));
    }

    #[test]
    fn the_message_says_how_it_did() {
        let schedule = Schedule::parse("0 9 * * *", Tz::Europe__Berlin).unwrap();
        let figures = DayFigures {
            active: 11,
            paused: 1,
            in_alert: 3,
            alert_names: vec!["Orders".to_owned(), "Back\nup".to_owned()],
            config_errors: 4,
            lateness: Some(Lateness { p99: TimeDelta::milliseconds(12), runs: 1, since: at("2026-11-21T09:00:00Z") }),
            sent: 5,
            waiting: 6,
            held: 7,
            given_up: 8,
        };
        let message = self_test_message("ops@x.test", "n1", "1.2.3", at("2026-11-22T08:00:00Z"), &schedule, &figures);
        assert_eq!(message.subject, "[Watchbell] alive: 12 monitors, 3 in alert");
        let expected = "Watchbell 1.2.3 is alive on node n1.\n\
            Self-test of: 2026-11-22T08:00:00Z = 2026-11-22 09:00:00 CET Europe/Berlin\n\n\
            Monitors: 12 (11 active, 1 paused)\nIn alert: 3\n- Orders\n- Back up\n\
            - and 1 more; `watchbell list` shows all\nWith a config error: 4\n\
            Lateness p99: 12 ms, of the last 1 scheduled run since 2026-11-21T09:00:00Z\n\
            Messages of the last day: 5 sent, 8 given up\nMessages now: 6 waiting, 7 held\n";
        assert_eq!(message.body, expected);
        let idle = self_test_message("a", "n", "1", at("2026-11-22T08:00:00Z"), &schedule, &DayFigures::default());
        assert!(idle.body.contains("no tick was run within the last day"), "{}", idle.body);
    }
}
