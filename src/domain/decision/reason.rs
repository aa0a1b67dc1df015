//! Why a run told people, or told nobody, in words: kept with the run, since the row may say something else tomorrow.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::draft::Draft;
use crate::domain::incident::OpenIncident;
use crate::domain::recipients::People;
use crate::domain::transition::{NotificationReason, Standing, State, Transition, Verdict};

/// What is said of a run; `None` where ok stayed ok and there is nothing to say.
pub(super) fn reason(
    draft: &Draft<'_>,
    before: &Standing,
    verdict: Verdict,
    after: &Transition,
    was_closed_by_hand: bool,
) -> Option<String> {
    let mut text = of_transition(before, verdict, after, draft.incident);
    if after.reason.is_some() && draft.told.is_none() {
        let nobody = format!("nobody is told: {}", why_nobody(draft, after));
        text = Some(text.map_or_else(|| nobody.clone(), |text| format!("{text}; {nobody}")));
    }
    if !was_closed_by_hand {
        return text;
    }
    let by_hand = "the state was set to `ok` by hand, which ended the incident";
    Some(text.map_or_else(|| by_hand.to_owned(), |text| format!("{by_hand}; {text}")))
}

fn of_transition(
    before: &Standing,
    verdict: Verdict,
    after: &Transition,
    incident: Option<&OpenIncident>,
) -> Option<String> {
    match (before.state, verdict, after.state) {
        (State::Ok, Verdict::Ok, _) => {
            let failures = before.consecutive_alert_count;
            (failures > 0)
                .then(|| format!("ok again after {failures} of {} failures", before.required_consecutive_alerts))
        }
        (State::Ok, Verdict::Failed(_), State::Alert) if before.required_consecutive_alerts <= 1 => {
            Some("first failure".to_owned())
        }
        (State::Ok, Verdict::Failed(_), State::Alert) => {
            Some(format!("{} failures in a row", before.consecutive_alert_count.saturating_add(1)))
        }
        (State::Ok, Verdict::Failed(_), State::Ok) => Some(format!(
            "failure {} of {} in a row that start an alert",
            after.consecutive_alert_count, before.required_consecutive_alerts
        )),
        (State::Alert, Verdict::Failed(severity), _) => Some(match after.reason {
            Some(NotificationReason::SeverityRose) => match before.told_severity {
                Some(told) => format!("it got worse: {severity}, and only {told} was told"),
                None => format!("it got worse: {severity}"),
            },
            Some(_) => reminder_due(before),
            None => no_reminder(before, incident),
        }),
        (State::Alert, Verdict::Ok, State::Ok) => {
            Some(format!("ok {0} of {0} in a row: recovered", before.consecutive_ok_count.saturating_add(1)))
        }
        (State::Alert, Verdict::Ok, State::Alert) => Some(format!(
            "ok {} of {} in a row that end the alert",
            after.consecutive_ok_count, before.required_consecutive_oks
        )),
    }
}

fn reminder_due(before: &Standing) -> String {
    match (before.last_notification_at, before.reminder_interval) {
        (Some(last), Some(interval)) if interval > TimeDelta::zero() => {
            format!("a reminder was due: last told {}, every {} min", clock(last), interval.num_minutes())
        }
        (Some(_), _) => "a reminder at every failing run, as reminder_frequency_minutes = 0 says".to_owned(),
        (None, _) => "a reminder was due: nobody was ever told".to_owned(),
    }
}

fn no_reminder(before: &Standing, incident: Option<&OpenIncident>) -> String {
    if before.is_acknowledged {
        let until = incident.and_then(|incident| incident.acknowledged_until);
        let until = until.map_or_else(String::new, |until| format!(" until {}", clock(until)));
        return format!("still failing; no reminder, since the incident is acknowledged{until}");
    }
    match (before.last_notification_at, before.reminder_interval) {
        (_, None) => "still failing; no reminder, since reminder_frequency_minutes is NULL".to_owned(),
        (Some(last), Some(interval)) => format!(
            "still failing; no reminder due before {}: last told {}, every {} min",
            clock(last + interval),
            clock(last),
            interval.num_minutes()
        ),
        (None, Some(_)) => "still failing; no reminder due".to_owned(),
    }
}

fn why_nobody(draft: &Draft<'_>, after: &Transition) -> &'static str {
    if draft.recipients.people == People::Nobody {
        return "people_to_notify is `[]`";
    }
    match after.reason {
        Some(NotificationReason::Recovered) => "nobody was told of the incident",
        _ => "neither people_to_notify nor a route names a recipient that there is",
    }
}

fn clock(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use watchbell_contract::Severity;

    use super::of_transition;
    use crate::domain::transition::{Standing, State, Verdict, transition};

    #[test]
    fn each_row_of_the_table_says_why() {
        let at = DateTime::from_timestamp(1_795_294_800, 0).unwrap();
        let standing = |state| Standing {
            state,
            consecutive_ok_count: 0,
            consecutive_alert_count: 0,
            required_consecutive_oks: 2,
            required_consecutive_alerts: 1,
            reminder_interval: Some(TimeDelta::minutes(60)),
            last_notification_at: Some(at - TimeDelta::minutes(20)),
            told_severity: Some(Severity::Warning),
            is_acknowledged: false,
        };
        let failed = Verdict::Failed(Severity::Warning);
        let (ok, alert) = (standing(State::Ok), standing(State::Alert));
        for (before, verdict, expected) in [
            (ok, Verdict::Ok, None),
            (
                Standing { consecutive_alert_count: 1, required_consecutive_alerts: 3, ..ok },
                Verdict::Ok,
                Some("ok again after 1 of 3 failures"),
            ),
            (ok, failed, Some("first failure")),
            (
                Standing { required_consecutive_alerts: 3, ..ok },
                failed,
                Some("failure 1 of 3 in a row that start an alert"),
            ),
            (
                Standing { consecutive_alert_count: 2, required_consecutive_alerts: 3, ..ok },
                failed,
                Some("3 failures in a row"),
            ),
            (
                alert,
                failed,
                Some(
                    "still failing; no reminder due before 2026-11-21T21:40:00Z: last told 2026-11-21T20:40:00Z, every 60 min",
                ),
            ),
            (
                Standing { reminder_interval: Some(TimeDelta::minutes(20)), ..alert },
                failed,
                Some("a reminder was due: last told 2026-11-21T20:40:00Z, every 20 min"),
            ),
            (
                Standing { reminder_interval: Some(TimeDelta::zero()), ..alert },
                failed,
                Some("a reminder at every failing run, as reminder_frequency_minutes = 0 says"),
            ),
            (
                Standing { reminder_interval: None, ..alert },
                failed,
                Some("still failing; no reminder, since reminder_frequency_minutes is NULL"),
            ),
            (
                Standing { is_acknowledged: true, ..alert },
                failed,
                Some("still failing; no reminder, since the incident is acknowledged"),
            ),
            (alert, Verdict::Failed(Severity::Critical), Some("it got worse: critical, and only warning was told")),
            (alert, Verdict::Ok, Some("ok 1 of 2 in a row that end the alert")),
            (Standing { consecutive_ok_count: 1, ..alert }, Verdict::Ok, Some("ok 2 of 2 in a row: recovered")),
        ] {
            let after = transition(&before, verdict, at);
            assert_eq!(of_transition(&before, verdict, &after, None).as_deref(), expected);
        }
    }
}
