//! The agreed state machine: one `match`, the contract's table.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use watchbell_contract::Severity;

use super::monitor::UnknownWord;

/// The confirmed state of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// X is healthy, as far as confirmed.
    Ok,
    /// X is not healthy; an incident is open.
    Alert,
}

impl State {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Alert => "alert",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "ok" => Ok(State::Ok),
            "alert" => Ok(State::Alert),
            other => Err(UnknownWord { what: "state", word: other.to_owned() }),
        }
    }
}

/// What an outcome says, for the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// X is healthy.
    Ok,
    /// X is not, this badly.
    Failed(Severity),
}

/// Where a monitor stands before an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The confirmed state.
    pub state: State,
    /// Oks in a row while in alert.
    pub consecutive_ok_count: u32,
    /// Failures in a row while in ok.
    pub consecutive_alert_count: u32,
    /// Oks in a row that end an alert; 0 counts as 1.
    pub required_consecutive_oks: u32,
    /// Failures in a row that start one; 0 counts as 1.
    pub required_consecutive_alerts: u32,
    /// The cadence of reminders; `None`: never, zero: at every failing run.
    pub reminder_interval: Option<TimeDelta>,
    /// The instant of the run that queued the last notification; `None`: never told.
    pub last_notification_at: Option<DateTime<Utc>>,
    /// The highest severity that anybody was told in the open incident; `None`: nobody was told of it.
    pub told_severity: Option<Severity>,
    /// Whether the open incident is acknowledged at this instant.
    pub is_acknowledged: bool,
}

/// Why people are to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationReason {
    /// ok to alert.
    FirstFailure,
    /// Still failing, and the reminder interval has passed, or nobody was ever told.
    StillFailing,
    /// Still failing, and worse than anybody was told.
    SeverityRose,
    /// alert to ok.
    Recovered,
}

/// What an outcome makes of a standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state after.
    pub state: State,
    /// `consecutive_ok_count` after.
    pub consecutive_ok_count: u32,
    /// `consecutive_alert_count` after.
    pub consecutive_alert_count: u32,
    /// Why people are to be told, if they are.
    pub reason: Option<NotificationReason>,
}

/// Applies an outcome that belongs to the instant `at` (the tick, or the start of a run without one).
pub fn transition(before: &Standing, verdict: Verdict, at: DateTime<Utc>) -> Transition {
    match (before.state, verdict) {
        (State::Ok, Verdict::Ok) => stay_ok(0),
        (State::Ok, Verdict::Failed(_)) => {
            let failures = before.consecutive_alert_count.saturating_add(1);
            if failures >= before.required_consecutive_alerts {
                in_alert(0, Some(NotificationReason::FirstFailure))
            } else {
                stay_ok(failures)
            }
        }
        (State::Alert, Verdict::Failed(severity)) => in_alert(0, reminder_reason(before, severity, at)),
        (State::Alert, Verdict::Ok) => {
            let oks = before.consecutive_ok_count.saturating_add(1);
            if oks >= before.required_consecutive_oks {
                Transition { reason: Some(NotificationReason::Recovered), ..stay_ok(0) }
            } else {
                in_alert(oks, None)
            }
        }
    }
}

fn stay_ok(consecutive_alert_count: u32) -> Transition {
    Transition { state: State::Ok, consecutive_ok_count: 0, consecutive_alert_count, reason: None }
}

fn in_alert(consecutive_ok_count: u32, reason: Option<NotificationReason>) -> Transition {
    Transition { state: State::Alert, consecutive_ok_count, consecutive_alert_count: 0, reason }
}

/// Whether a reminder is due, and why. An acknowledgment holds all of them; a rise in severity does not wait for the
/// interval, even where the row wants no cadence.
fn reminder_reason(before: &Standing, severity: Severity, at: DateTime<Utc>) -> Option<NotificationReason> {
    if before.is_acknowledged {
        return None;
    }
    if before.told_severity.is_some_and(|told| severity > told) {
        return Some(NotificationReason::SeverityRose);
    }
    let interval = before.reminder_interval?;
    let is_due = match before.last_notification_at {
        None => true,
        // The absolute span: a clock that was set back by more than the interval must not silence the reminders.
        Some(last) => (at - last).abs() >= interval,
    };
    is_due.then_some(NotificationReason::StillFailing)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
    use watchbell_contract::Severity;

    use super::{NotificationReason, Standing, State, Transition, Verdict, transition};

    const FAILED: Verdict = Verdict::Failed(Severity::Critical);

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    fn standing(state: State) -> Standing {
        Standing {
            state,
            consecutive_ok_count: 0,
            consecutive_alert_count: 0,
            required_consecutive_oks: 2,
            required_consecutive_alerts: 1,
            reminder_interval: Some(TimeDelta::minutes(60)),
            last_notification_at: Some(at(0)),
            told_severity: Some(Severity::Critical),
            is_acknowledged: false,
        }
    }

    fn after(state: State, oks: u32, reason: Option<NotificationReason>) -> Transition {
        Transition { state, consecutive_ok_count: oks, consecutive_alert_count: 0, reason }
    }

    #[test]
    fn the_agreed_table() {
        use NotificationReason::{FirstFailure, Recovered, StillFailing};
        let told_at = |minute| Standing { last_notification_at: Some(at(minute)), ..standing(State::Alert) };
        let oks = |count| Standing { consecutive_ok_count: count, ..standing(State::Alert) };
        let table = [
            ("ok, ok: nothing", standing(State::Ok), Verdict::Ok, after(State::Ok, 0, None)),
            (
                "ok, failed: alert, always, at once",
                standing(State::Ok),
                FAILED,
                after(State::Alert, 0, Some(FirstFailure)),
            ),
            (
                "ok, failed: not gated by the reminder interval",
                Standing { last_notification_at: Some(at(99)), ..standing(State::Ok) },
                FAILED,
                after(State::Alert, 0, Some(FirstFailure)),
            ),
            ("alert, failed: 59 minutes: not yet", told_at(41), FAILED, after(State::Alert, 0, None)),
            ("alert, failed: exactly 60 minutes: due", told_at(40), FAILED, after(State::Alert, 0, Some(StillFailing))),
            ("alert, failed: 61 minutes: due", told_at(39), FAILED, after(State::Alert, 0, Some(StillFailing))),
            (
                "alert, failed: never told: due",
                Standing { last_notification_at: None, told_severity: None, ..standing(State::Alert) },
                FAILED,
                after(State::Alert, 0, Some(StillFailing)),
            ),
            (
                "alert, failed: 0 minutes: at every failing run",
                Standing { reminder_interval: Some(TimeDelta::zero()), ..told_at(100) },
                FAILED,
                after(State::Alert, 0, Some(StillFailing)),
            ),
            (
                "alert, failed: NULL: never",
                Standing { reminder_interval: None, last_notification_at: None, ..standing(State::Alert) },
                FAILED,
                after(State::Alert, 0, None),
            ),
            (
                "alert, failed: a failure sets the oks back",
                Standing { ..oks(1) },
                FAILED,
                after(State::Alert, 0, Some(StillFailing)),
            ),
            ("alert, ok: the first of two", oks(0), Verdict::Ok, after(State::Alert, 1, None)),
            ("alert, ok: the second of two", oks(1), Verdict::Ok, after(State::Ok, 0, Some(Recovered))),
            ("alert, ok: a count already beyond", oks(7), Verdict::Ok, after(State::Ok, 0, Some(Recovered))),
            (
                "alert, ok: recovery is not gated by the reminder interval",
                Standing { last_notification_at: Some(at(100)), ..oks(1) },
                Verdict::Ok,
                after(State::Ok, 0, Some(Recovered)),
            ),
            (
                "alert, ok: one is enough where the row says so",
                Standing { required_consecutive_oks: 1, ..oks(0) },
                Verdict::Ok,
                after(State::Ok, 0, Some(Recovered)),
            ),
        ];
        for (case, before, verdict, expected) in table {
            assert_eq!(transition(&before, verdict, at(100)), expected, "{case}");
        }
    }

    #[test]
    fn more_failures_may_be_required_before_an_alert() {
        let mut before = Standing { required_consecutive_alerts: 3, ..standing(State::Ok) };
        for failures in 1..3 {
            let now = transition(&before, FAILED, at(100));
            assert_eq!((now.state, now.consecutive_alert_count, now.reason), (State::Ok, failures, None));
            before.consecutive_alert_count = now.consecutive_alert_count;
        }
        assert_eq!(
            transition(&before, Verdict::Ok, at(100)).consecutive_alert_count,
            0,
            "an ok in between starts anew"
        );
        assert_eq!(
            transition(&before, FAILED, at(100)),
            after(State::Alert, 0, Some(NotificationReason::FirstFailure))
        );
    }

    #[test]
    fn a_rise_in_severity_is_told_at_once() {
        let told = |severity| Standing {
            last_notification_at: Some(at(99)),
            told_severity: severity,
            ..standing(State::Alert)
        };
        let reason = |before: &Standing, severity| transition(before, Verdict::Failed(severity), at(100)).reason;
        let warned = told(Some(Severity::Warning));
        assert_eq!(reason(&warned, Severity::Critical), Some(NotificationReason::SeverityRose));
        assert_eq!(reason(&warned, Severity::Warning), None);
        assert_eq!(reason(&warned, Severity::Info), None);
        assert_eq!(reason(&told(None), Severity::Critical), None, "nobody was told of it, so nothing rose");
        let never = Standing { reminder_interval: None, ..warned };
        assert_eq!(reason(&never, Severity::Critical), Some(NotificationReason::SeverityRose));
    }

    #[test]
    fn an_acknowledged_incident_is_not_reminded_of_but_its_recovery_is_told() {
        let acknowledged = Standing { is_acknowledged: true, consecutive_ok_count: 1, ..standing(State::Alert) };
        assert_eq!(transition(&acknowledged, FAILED, at(100)).reason, None);
        assert_eq!(transition(&acknowledged, Verdict::Ok, at(100)).reason, Some(NotificationReason::Recovered));
    }

    #[test]
    fn a_clock_set_back_does_not_silence_reminders() {
        let before = Standing { last_notification_at: Some(at(170)), ..standing(State::Alert) };
        assert_eq!(transition(&before, FAILED, at(100)).reason, Some(NotificationReason::StillFailing));
    }

    /// An independent model: it keeps the whole history of verdicts and decides from it, not from counters.
    struct Model {
        history: Vec<bool>,
        alert_since: Option<usize>,
        last_told: Option<i64>,
    }

    impl Model {
        fn step(
            &mut self,
            is_ok: bool,
            minute: i64,
            oks: usize,
            failures: usize,
            every: Option<i64>,
        ) -> Option<&'static str> {
            self.history.push(is_ok);
            let run = self.history.iter().rev().take_while(|past| **past == is_ok).count();
            let told = match self.alert_since {
                None if !is_ok && run >= failures => {
                    self.alert_since = Some(self.history.len());
                    Some("alert")
                }
                Some(since) if is_ok && run.min(self.history.len() - since) >= oks => {
                    self.alert_since = None;
                    // What came before a recovery must not count for the next alert; an ok breaks any run of failures.
                    Some("recovery")
                }
                Some(_) if !is_ok => {
                    let due = every.is_some_and(|every| self.last_told.is_none_or(|last| minute - last >= every));
                    due.then_some("reminder")
                }
                _ => None,
            };
            if told.is_some() {
                self.last_told = Some(minute);
            }
            told
        }
    }

    proptest! {
        #[test]
        fn random_sequences_agree_with_an_independent_model(
            verdicts in prop::collection::vec((any::<bool>(), 1_i64..50), 1..200),
            oks in 1_u32..5,
            failures in 1_u32..4,
            every in prop_oneof![Just(None), (0_i64..120).prop_map(Some)],
        ) {
            let mut model = Model { history: Vec::new(), alert_since: None, last_told: None };
            let mut now = Standing {
                required_consecutive_oks: oks,
                required_consecutive_alerts: failures,
                reminder_interval: every.map(TimeDelta::minutes),
                last_notification_at: None,
                told_severity: None,
                ..standing(State::Ok)
            };
            let mut minute = 0;
            for (is_ok, gap) in verdicts {
                minute += gap;
                let verdict = if is_ok { Verdict::Ok } else { FAILED };
                let next = transition(&now, verdict, at(minute));
                let told = next.reason.map(|reason| match reason {
                    NotificationReason::FirstFailure => "alert",
                    NotificationReason::StillFailing | NotificationReason::SeverityRose => "reminder",
                    NotificationReason::Recovered => "recovery",
                });
                assert_eq!(told, model.step(is_ok, minute, oks as usize, failures as usize, every));
                assert_eq!(next.state == State::Alert, model.alert_since.is_some());
                assert!(next.state == State::Alert || next.consecutive_ok_count == 0);
                now = Standing {
                    state: next.state,
                    consecutive_ok_count: next.consecutive_ok_count,
                    consecutive_alert_count: next.consecutive_alert_count,
                    last_notification_at: if next.reason.is_some() { Some(at(minute)) } else { now.last_notification_at },
                    told_severity: match next.reason {
                        Some(NotificationReason::Recovered) => None,
                        Some(_) => Some(Severity::Critical),
                        None => now.told_severity,
                    },
                    ..now
                };
            }
        }
    }
}
