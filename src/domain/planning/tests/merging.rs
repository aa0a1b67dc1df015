//! Alerts and reminders of one incident that meet before they are delivered.

use watchbell_contract::Severity;

use super::gates::{channel, silence};
use super::outbox::Outbox;
use crate::domain::NotificationStatus;

const MAIL: &str = "a@x.test";

#[test]
fn a_reminder_behind_an_undelivered_alert_is_told_by_it() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(3_600);
    assert_eq!(outbox.fates([alert, reminder]), ["pending".to_owned(), format!("merged into {alert}")]);
}

#[test]
fn a_worse_reminder_takes_the_alert_along() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.severity = Severity::Critical;
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(3_600);
    assert_eq!(outbox.fates([alert, reminder]), [format!("merged into {reminder}"), "pending".to_owned()]);
}

#[test]
fn a_reminder_behind_an_alert_that_is_being_tried_stays_in_line() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    assert_eq!(outbox.take(), [alert]);
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(3_600);
    outbox.settle(alert, NotificationStatus::Pending);
    assert_eq!(outbox.fates([alert, reminder]), ["pending", "pending"]);
    assert_eq!(outbox.take(), [alert], "only the head of the line");
}

#[test]
fn older_reminders_are_told_by_the_newer() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.deliver();
    let older = outbox.reminder(1, MAIL);
    outbox.plan_at(3_600);
    let newer = outbox.reminder(1, MAIL);
    outbox.plan_at(7_200);
    assert_eq!(
        outbox.fates([alert, older, newer]),
        ["sent".to_owned(), format!("merged into {newer}"), "pending".to_owned()]
    );
}

#[test]
fn a_worse_reminder_is_not_told_by_a_milder_one() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].quiet_hours = Some("12:30-23:00".to_owned());
    let alert = outbox.alert(1, "room");
    outbox.plan();
    outbox.deliver();
    outbox.severity = Severity::Critical;
    let worse = outbox.reminder(1, "room");
    outbox.plan_at(3_600);
    outbox.severity = Severity::Warning;
    let milder = outbox.reminder(1, "room");
    outbox.plan_at(7_200);
    assert_eq!(
        outbox.fates([alert, worse, milder]),
        ["sent".to_owned(), "pending".to_owned(), format!("merged into {worse}")]
    );
}

/// What is merged counts as told: nothing is merged into what may still be withdrawn.
#[test]
fn a_reminder_behind_a_held_alert_is_held_beside_it_and_both_are_withdrawn() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 36_000)];
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    let reminders = [3_600, 7_200].map(|seconds| {
        let reminder = outbox.reminder(1, MAIL);
        outbox.plan_at(seconds);
        reminder
    });
    assert_eq!(outbox.fates(reminders), ["withdrawn", "held silence 7 until 36000"], "only the newest is kept");
    let recovery = outbox.recovery(1, MAIL);
    outbox.plan_at(8_000);
    assert_eq!(outbox.fates([alert, reminders[1], recovery]), ["withdrawn"; 3], "nobody was told of anything");
}

#[test]
fn when_a_silence_ends_the_alert_tells_its_reminders() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 7_200)];
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(3_600);
    outbox.plan_at(7_200);
    assert_eq!(outbox.fates([alert, reminder]), ["pending".to_owned(), format!("merged into {alert}")]);
}

#[test]
fn a_critical_reminder_passes_the_quiet_hours_that_hold_its_alert() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].quiet_hours = Some("11:00-23:00".to_owned());
    let alert = outbox.alert(1, "room");
    outbox.plan();
    outbox.severity = Severity::Critical;
    let reminder = outbox.reminder(1, "room");
    outbox.plan_at(60);
    assert_eq!(outbox.fates([alert, reminder]), [format!("merged into {reminder}"), "pending".to_owned()]);
    let recovery = outbox.recovery(1, "room");
    outbox.plan_at(120);
    assert_eq!(outbox.fates([reminder, recovery]), [format!("merged into {recovery}"), "pending".to_owned()]);
    assert!(outbox.row(recovery).message.facts.tells_alert, "nothing had been delivered");
}

#[test]
fn a_reminder_does_not_overtake_the_digest_that_told_its_alert() {
    let mut outbox = Outbox::new();
    outbox.alerts(1..=12, MAIL);
    outbox.plan();
    outbox.plan_at(2);
    assert_eq!(outbox.fate(12), "merged into 13");
    let reminder = outbox.reminder(12, MAIL);
    outbox.plan_at(3_600);
    assert_eq!(outbox.fate(reminder), "pending after 13");
}
