//! What a run owes to people where routes, dependencies and followers of states say more than the row.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use watchbell_contract::Severity;

use super::tests::{finished, row};
use super::{Change, Current, Decision, Policy, decide_edit, decide_run};
use crate::domain::rules::{ChannelRow, RouteRow, RuleRows, Rules};
use crate::domain::{HoldReason, IncidentId, MonitorId, MonitorRow, NewNotification, OpenIncident, State};

fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn route(id: i64, severity: Severity, recipient: &str, after_minutes: u32) -> RouteRow {
    RouteRow {
        id,
        severity: Some(severity),
        selector: None,
        recipients: format!(r#"["{recipient}"]"#),
        after_minutes,
        unless_acknowledged: false,
        is_active: true,
        config_error: None,
    }
}

/// Warnings to one room, criticals to another, and an escalation for each.
fn routes() -> RuleRows {
    let routes = vec![
        route(1, Severity::Warning, "warn@x.test", 0),
        route(2, Severity::Critical, "crit@x.test", 0),
        route(3, Severity::Warning, "warn-later@x.test", 10),
        route(4, Severity::Critical, "crit-later@x.test", 10),
    ];
    RuleRows { routes, ..RuleRows::default() }
}

fn incident(told: &[&str], told_severity: Option<Severity>) -> OpenIncident {
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    OpenIncident {
        id: IncidentId(1),
        monitor_id: MonitorId(1),
        monitor_name: "m".to_owned(),
        opened_at: now() - TimeDelta::minutes(90),
        acknowledged_at: None,
        acknowledged_until: None,
        alerted: told.clone(),
        told,
        told_severity,
        is_silent: false,
    }
}

fn policy() -> Policy {
    Policy { admins: vec!["admin@x.test".to_owned()], default_zone: Tz::UTC }
}

fn current(row: MonitorRow, incident: Option<OpenIncident>, rules: &RuleRows) -> Current {
    let rules = Arc::new(Rules::read(rules, Tz::UTC));
    Current { row: Some(row), incident, now: now(), rules, dependents: Vec::new() }
}

fn failing(current: &Current, severity: Severity) -> Change {
    let mut run = finished(current.row.clone().unwrap(), now(), false);
    run.outcome.severity = Some(severity);
    change(decide_run(&run, current, &policy()))
}

fn change(decision: Decision) -> Change {
    let Decision::Apply(change) = decision else { panic!("it is applied, and not {decision:?}") };
    *change
}

/// `type recipient (rule)`, and what holds it.
fn shown(change: &Change) -> Vec<String> {
    let hold =
        |message: &NewNotification| message.hold.as_ref().map_or(String::new(), |hold| format!(", {}", hold.reason));
    let messages = change.notifications.iter().map(|(_, message)| message);
    messages
        .map(|message| {
            format!("{} {} ({}{})", message.notification_type, message.recipient, message.rule, hold(message))
        })
        .collect()
}

fn by_routes() -> MonitorRow {
    MonitorRow { people_to_notify: None, ..row() }
}

fn in_alert(told_at: DateTime<Utc>) -> MonitorRow {
    MonitorRow { state: State::Alert, last_notification_at: Some(told_at), ..by_routes() }
}

#[test]
fn an_alert_goes_to_the_routes_of_its_severity() {
    let change = failing(&current(by_routes(), None, &routes()), Severity::Warning);
    assert_eq!(shown(&change), ["alert warn@x.test (route 1)", "alert warn-later@x.test (route 3, escalation 3)"]);
}

#[test]
fn a_rise_adds_the_routes_of_the_new_severity_and_its_escalations_at_once() {
    let incident = incident(&["warn@x.test"], Some(Severity::Warning));
    let change = failing(&current(in_alert(now()), Some(incident), &routes()), Severity::Critical);
    let expected = [
        "reminder crit@x.test (route 2)",
        "reminder warn@x.test (route 1)",
        "alert crit-later@x.test (route 4, escalation 4)",
    ];
    assert_eq!(shown(&change), expected);
}

#[test]
fn a_rise_while_everything_was_held_back_has_its_escalations_too() {
    let mut incident = incident(&[], None);
    incident.alerted = vec!["warn@x.test".to_owned(), "warn-later@x.test".to_owned()];
    let hours_ago = now() - TimeDelta::hours(2);
    let change = failing(&current(in_alert(hours_ago), Some(incident), &routes()), Severity::Critical);
    assert!(
        shown(&change).contains(&"alert crit-later@x.test (route 4, escalation 4)".to_owned()),
        "{:?}",
        shown(&change)
    );
}

#[test]
fn who_has_a_message_of_the_incident_gets_no_second_alert() {
    let told = incident(&["crit@x.test", "crit-later@x.test"], Some(Severity::Critical));
    let change = failing(&current(in_alert(now() - TimeDelta::hours(2)), Some(told), &routes()), Severity::Critical);
    assert_eq!(shown(&change), ["reminder crit@x.test (route 2)", "reminder crit-later@x.test (route 4)"]);
    // Milder than before: the escalations of the milder severity are nobody's business.
    let told = incident(&["crit@x.test"], Some(Severity::Critical));
    let change = failing(&current(in_alert(now() - TimeDelta::hours(2)), Some(told), &routes()), Severity::Warning);
    assert_eq!(shown(&change), ["reminder warn@x.test (route 1)", "reminder crit@x.test (route 2)"]);
}

#[test]
fn an_empty_list_silences_alerts_reminders_and_recoveries_of_the_routes_too() {
    let nobody = |row: MonitorRow| MonitorRow { people_to_notify: Some("[]".to_owned()), ..row };
    let told = || Some(incident(&["crit@x.test"], Some(Severity::Critical)));
    assert_eq!(shown(&failing(&current(nobody(by_routes()), None, &routes()), Severity::Critical)), [""; 0]);
    let alert = nobody(in_alert(now() - TimeDelta::hours(2)));
    assert_eq!(shown(&failing(&current(alert.clone(), told(), &routes()), Severity::Critical)), [""; 0]);
    let ok = MonitorRow { required_consecutive_oks: 1, ..alert };
    let run = finished(ok.clone(), now(), true);
    assert_eq!(shown(&change(decide_run(&run, &current(ok, told(), &routes()), &policy()))), [""; 0]);
}

#[test]
fn a_recovery_is_owed_to_everyone_told_also_by_routes_that_are_gone() {
    let told = incident(&["gone@x.test", "crit@x.test"], Some(Severity::Critical));
    let row = MonitorRow { required_consecutive_oks: 1, ..in_alert(now()) };
    let run = finished(row.clone(), now(), true);
    let change = change(decide_run(&run, &current(row, Some(told), &routes()), &policy()));
    assert_eq!(shown(&change), ["recovery crit@x.test (told before)", "recovery gone@x.test (told before)"]);
}

#[test]
fn where_only_an_escalation_waits_nobody_is_owed_a_recovery() {
    let mut untold = incident(&[], None);
    untold.alerted = vec!["warn-later@x.test".to_owned()];
    let row = MonitorRow { required_consecutive_oks: 1, ..in_alert(now()) };
    let run = finished(row.clone(), now(), true);
    assert_eq!(shown(&change(decide_run(&run, &current(row, Some(untold), &routes()), &policy()))), [""; 0]);
}

#[test]
fn the_alert_of_a_child_waits_and_that_of_a_parent_names_its_children() {
    let rules = RuleRows { dependencies: vec![(1, 2)], ..routes() };
    let child = failing(&current(by_routes(), None, &rules), Severity::Warning);
    assert_eq!(
        shown(&child),
        ["alert warn@x.test (route 1, dependency)", "alert warn-later@x.test (route 3, escalation 3)"]
    );
    assert_eq!(child.notifications[0].1.hold.as_ref().unwrap().reason, HoldReason::Dependency(None));
    let names = vec!["Carts".to_owned(), "Orders".to_owned()];
    let parent = Current { dependents: names.clone(), ..current(by_routes(), None, &routes()) };
    let alert = failing(&parent, Severity::Warning).notifications[0].1.clone();
    assert_eq!(alert.facts.suppressed, names);
    assert!(alert.body.contains("Carts, Orders") && alert.hold.is_none(), "{}", alert.body);
}

#[test]
fn channels_that_follow_all_states_get_a_notice_of_each_change_whoever_is_told() {
    let channel = ChannelRow {
        id: 1,
        name: "states".to_owned(),
        url: "redis://x.test".to_owned(),
        is_active: true,
        max_per_minute: None,
        quiet_hours: None,
        quiet_timezone: None,
        wants_state_changes: true,
        config_error: None,
    };
    let rules = RuleRows { channels: vec![channel], ..RuleRows::default() };
    let nobody = MonitorRow { people_to_notify: Some("[]".to_owned()), ..row() };
    let opened = failing(&current(nobody.clone(), None, &rules), Severity::Critical);
    assert_eq!(shown(&opened), ["notice states (wants_state_changes)"]);
    assert_eq!(opened.notification_type, None, "nobody was to be told");
    let alert = MonitorRow { state: State::Alert, last_notification_at: None, ..nobody };
    let untold = || Some(incident(&[], None));
    assert_eq!(shown(&failing(&current(alert.clone(), untold(), &rules), Severity::Critical)), [""; 0], "no change");
    let gone = Current { row: None, ..current(alert, untold(), &rules) };
    assert_eq!(shown(&change(decide_edit(&gone, None, None, &policy()))), ["notice states (wants_state_changes)"]);
}
