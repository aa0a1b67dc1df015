//! What holds a message back, until when, and what becomes of it then.

use chrono::TimeDelta;
use watchbell_contract::Severity;

use super::outbox::{Outbox, start};
use crate::domain::planning::Parent;
use crate::domain::rules::{ChannelRow, RouteRow, SilenceRow};
use crate::domain::{HoldReason, MonitorId};

const MAIL: &str = "a@x.test";

pub(super) fn channel(name: &str) -> ChannelRow {
    ChannelRow {
        id: 1,
        name: name.to_owned(),
        url: "ntfy://x.test/room".to_owned(),
        is_active: true,
        max_per_minute: None,
        quiet_hours: None,
        quiet_timezone: None,
        wants_state_changes: false,
        config_error: None,
    }
}

/// From the start for so many seconds.
pub(super) fn silence(monitor: Option<i64>, seconds: i64) -> SilenceRow {
    SilenceRow {
        id: 7,
        monitor_id: monitor,
        selector: monitor.is_none().then(|| "kind=any".to_owned()),
        starts_at: start(),
        ends_at: Some(start() + TimeDelta::seconds(seconds)),
        schedule: None,
        timezone: None,
        duration_minutes: None,
        config_error: None,
    }
}

fn route(unless_acknowledged: bool) -> RouteRow {
    RouteRow {
        id: 3,
        severity: None,
        selector: None,
        recipients: format!(r#"["{MAIL}"]"#),
        after_minutes: 10,
        unless_acknowledged,
        is_active: true,
        config_error: None,
    }
}

#[test]
fn a_new_message_goes_out_at_once() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    assert_eq!(outbox.fate(alert), "pending");
    outbox.deliver();
    assert_eq!(outbox.fate(alert), "sent");
}

#[test]
fn a_silence_holds_what_is_looked_at_anew_at_its_end() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 600)];
    let (silenced, other) = (outbox.alert(1, MAIL), outbox.alert(2, MAIL));
    outbox.plan();
    assert_eq!(outbox.fates([silenced, other]), ["held silence 7 until 600", "pending"]);
    outbox.plan_at(599);
    assert_eq!(outbox.fate(silenced), "held silence 7 until 600");
    outbox.plan_at(600);
    assert_eq!(outbox.fate(silenced), "pending", "it is still true");
}

#[test]
fn what_is_over_when_the_silence_ends_is_withdrawn() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 600)];
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.incidents[0].is_over = true;
    outbox.plan_at(600);
    assert_eq!(outbox.fate(alert), "withdrawn");
}

#[test]
fn in_a_silence_a_recovery_goes_to_whom_was_told_and_to_nobody_else() {
    let mut outbox = Outbox::new();
    let told = outbox.alert(1, "told@x.test");
    outbox.plan();
    outbox.deliver();
    outbox.rules.silences = vec![silence(Some(1), 600)];
    let untold = outbox.alert(1, "untold@x.test");
    let reminder = outbox.reminder(1, "told@x.test");
    outbox.plan_at(100);
    assert_eq!(
        outbox.fates([told, untold, reminder]),
        ["sent", "held silence 7 until 600", "held silence 7 until 600"]
    );
    let recoveries = [outbox.recovery(1, "told@x.test"), outbox.recovery(1, "untold@x.test")];
    outbox.plan_at(200);
    assert_eq!(outbox.fates(recoveries), ["pending", "withdrawn"]);
    assert_eq!(outbox.fates([untold, reminder]), ["withdrawn", "withdrawn"]);
}

#[test]
fn quiet_hours_hold_everything_below_critical() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].quiet_hours = Some("11:00-13:00".to_owned());
    let warning = outbox.alert(1, "room");
    outbox.severity = Severity::Critical;
    let (critical, by_mail) = (outbox.alert(2, "room"), outbox.alert(1, MAIL));
    outbox.plan();
    assert_eq!(outbox.fates([warning, critical, by_mail]), ["held quiet_hours until 3600", "pending", "pending"]);
    outbox.plan_at(3_600);
    assert_eq!(outbox.fate(warning), "pending");
}

#[test]
fn a_channel_that_is_off_holds_everything() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].is_active = false;
    outbox.severity = Severity::Critical;
    let alert = outbox.alert(1, "room");
    outbox.plan();
    assert_eq!(outbox.fate(alert), "held channel_off until 30");
    outbox.plan_at(30);
    assert_eq!(outbox.fate(alert), "held channel_off until 60");
    outbox.rules.channels[0].is_active = true;
    outbox.plan_at(60);
    assert_eq!(outbox.fate(alert), "pending");
}

fn parent(is_down: bool, asked: Option<i64>) -> Parent {
    let last_run_at = asked.map(|at| start() + TimeDelta::seconds(at));
    Parent { is_down, is_ending: false, is_active: true, last_run_at }
}

/// Monitor 1 depends on 2; its alert is held from the start, as a run queues it.
fn child(parent: Parent) -> (Outbox, i64) {
    let mut outbox = Outbox::new();
    outbox.rules.dependencies = vec![(1, 2)];
    outbox.parents.insert(MonitorId(2), parent);
    let alert = outbox.alert(1, MAIL);
    outbox.held_from_the_start(alert, HoldReason::Dependency(None), 0);
    outbox.plan();
    (outbox, alert)
}

#[test]
fn a_child_waits_until_its_parent_was_asked() {
    let (mut outbox, alert) = child(parent(false, Some(-60)));
    assert_eq!(outbox.fate(alert), "held dependency until 0.2");
    outbox.parents.insert(MonitorId(2), parent(false, Some(1)));
    outbox.plan_at(1);
    assert_eq!(outbox.fate(alert), "pending", "the parent is fine");
}

#[test]
fn a_child_waits_at_most_three_seconds() {
    let (mut outbox, alert) = child(parent(false, None));
    outbox.now = start() + TimeDelta::milliseconds(2_900);
    outbox.plan();
    assert_eq!(outbox.fate(alert), "held dependency until 3");
    outbox.plan_at(3);
    assert_eq!(outbox.fate(alert), "pending");
}

#[test]
fn a_child_waits_until_its_parent_is_back_and_so_does_its_reminder() {
    let (mut outbox, alert) = child(parent(true, Some(0)));
    assert_eq!(outbox.fate(alert), "held dependency 2 until 30");
    outbox.now = start() + TimeDelta::seconds(20);
    outbox.severity = Severity::Critical;
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan();
    assert_eq!(outbox.fate(reminder), "held dependency 2 until 50", "it would be the first that anybody hears");
    outbox.parents.insert(MonitorId(2), parent(false, Some(55)));
    outbox.plan_at(60);
    assert_eq!(outbox.fates([alert, reminder]), [format!("merged into {reminder}"), "pending".to_owned()]);
}

#[test]
fn a_parent_that_may_be_ending_its_incident_is_looked_at_soon() {
    let (mut outbox, alert) = child(Parent { is_ending: true, ..parent(true, Some(0)) });
    assert_eq!(outbox.fate(alert), "held dependency 2 until 1");
    outbox.rules.dependencies = vec![(1, 2), (1, 3)];
    outbox.parents.insert(MonitorId(3), parent(true, Some(0)));
    outbox.plan_at(1);
    assert_eq!(outbox.fate(alert), "held dependency 3 until 31", "the other parent stays down");
}

#[test]
fn a_reminder_of_what_was_told_does_not_wait_for_parents() {
    let (mut outbox, alert) = child(parent(false, Some(0)));
    outbox.deliver();
    outbox.parents.insert(MonitorId(2), parent(true, Some(0)));
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(90);
    assert_eq!(outbox.fates([alert, reminder]), ["sent", "pending"]);
}

#[test]
fn a_paused_parent_a_circle_and_no_parent_at_all_are_no_reason_to_wait() {
    let (outbox, alert) = child(Parent { is_active: false, ..parent(false, None) });
    assert_eq!(outbox.fate(alert), "pending", "a paused parent is not asked");
    let mut outbox = Outbox::new();
    outbox.rules.dependencies = vec![(1, 2), (2, 1)];
    outbox.parents.insert(MonitorId(2), parent(true, None));
    let (in_circle, without) = (outbox.alert(1, MAIL), outbox.alert(3, MAIL));
    outbox.plan();
    assert_eq!(outbox.fates([in_circle, without]), ["pending", "pending"]);
}

/// Held by route 3 for ten minutes, as a run queues it.
fn escalation(unless_acknowledged: bool) -> (Outbox, i64) {
    let mut outbox = Outbox::new();
    outbox.rules.routes = vec![route(unless_acknowledged)];
    outbox.rule = "route 3".to_owned();
    let alert = outbox.alert(1, MAIL);
    outbox.held_from_the_start(alert, HoldReason::Escalation(3), 600);
    outbox.plan_at(599);
    assert_eq!(outbox.fate(alert), "held escalation 3 until 600");
    (outbox, alert)
}

#[test]
fn an_escalation_is_told_if_the_incident_is_still_open() {
    for (unless_acknowledged, acknowledged, over, gone, expected) in [
        (false, false, false, false, "pending"),
        (false, true, false, false, "pending"),
        (true, false, false, false, "pending"),
        (true, true, false, false, "withdrawn"),
        (false, false, true, false, "withdrawn"),
        (false, false, false, true, "withdrawn"),
    ] {
        let (mut outbox, alert) = escalation(unless_acknowledged);
        outbox.incidents[0].is_acknowledged = acknowledged;
        outbox.incidents[0].is_over = over;
        outbox.rules.routes[0].is_active = !gone;
        outbox.plan_at(600);
        assert_eq!(outbox.fate(alert), expected, "{unless_acknowledged} {acknowledged} {over} {gone}");
    }
}

#[test]
fn an_escalation_that_is_held_once_more_stays_one() {
    let (mut outbox, alert) = escalation(true);
    outbox.rules.silences = vec![silence(Some(1), 1_200)];
    outbox.plan_at(600);
    assert_eq!(outbox.fate(alert), "held silence 7 until 1200");
    outbox.incidents[0].is_acknowledged = true;
    outbox.plan_at(1_200);
    assert_eq!(outbox.fate(alert), "withdrawn", "acknowledged during the silence");
}

#[test]
fn an_escalation_that_was_never_told_owes_no_recovery() {
    let (mut outbox, alert) = escalation(false);
    let recovery = outbox.recovery(1, MAIL);
    outbox.plan_at(599);
    assert_eq!(outbox.fates([alert, recovery]), ["withdrawn", "withdrawn"]);
}

#[test]
fn what_is_held_is_not_told_once_its_monitor_wants_nobody_told() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 600)];
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.unwanted.insert(1);
    outbox.plan_at(600);
    assert_eq!(outbox.fate(alert), "withdrawn");
}
