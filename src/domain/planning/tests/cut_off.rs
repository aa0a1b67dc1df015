//! A wave of failures on one node.

use chrono::TimeDelta;

use super::outbox::{Outbox, start};
use crate::domain::NotificationType;
use crate::domain::planning::Wave;

const MAIL: &str = "a@x.test";
const ADMIN: &str = "admin@x.test";

/// Twenty alerts to one recipient, planned while the node looks cut off.
fn wave() -> Outbox {
    let mut outbox = Outbox::new();
    outbox.limits.admins = vec![ADMIN.to_owned()];
    outbox.alerts(1..=20, MAIL);
    let since = start() - TimeDelta::seconds(3);
    outbox.wave = Some(Wave { node: "one".to_owned(), runs: 24, openings: 20, since });
    outbox.plan();
    outbox
}

/// The notices as `recipient: fate`, in their order.
fn notices(outbox: &Outbox) -> Vec<String> {
    let notices = outbox.rows.iter().filter(|row| row.message.notification_type == NotificationType::Notice);
    notices.map(|row| format!("{}: {}", row.message.recipient, outbox.fate(row.id))).collect()
}

#[test]
fn everybody_concerned_and_the_admins_are_told_once_and_the_alerts_are_held() {
    let mut outbox = wave();
    assert_eq!(outbox.fates(1..=20), ["held cut_off until 30"; 20]);
    let expected = [
        "admin@x.test: pending",
        "admin@x.test: held cut_off until 30",
        "a@x.test: pending",
        "a@x.test: held cut_off until 30",
    ];
    assert_eq!(notices(&outbox), expected);
    assert!(outbox.row(21).message.subject.contains("node one looks cut off: 20 monitors failed at once"));
    // What comes later of the wave is held as well, and tells nobody once more.
    let late = outbox.alert(99, MAIL);
    outbox.plan_at(1);
    assert_eq!(outbox.fate(late), "held cut_off until 31");
    assert_eq!(notices(&outbox).len(), 4);
}

#[test]
fn what_is_confirmed_follows_as_one_digest() {
    let mut outbox = wave();
    outbox.wave = None;
    outbox.deliver();
    outbox.plan_at(30);
    let digest = i64::try_from(outbox.rows.len()).unwrap();
    assert_eq!(outbox.fates(1..=20), vec![format!("merged into {digest}"); 20]);
    let end = outbox.row(22).message.clone();
    assert!(end.subject.contains("confirmed, 20 of 20 still fail"), "{}", end.subject);
    assert_eq!(notices(&outbox)[1], "admin@x.test: pending");
}

#[test]
fn what_is_over_is_withdrawn_and_the_end_is_told() {
    let mut outbox = wave();
    outbox.wave = None;
    outbox.deliver();
    let recovery = outbox.recovery(1, MAIL);
    outbox.incidents.iter_mut().for_each(|incident| incident.is_over = true);
    outbox.plan_at(30);
    assert_eq!(outbox.fates(1..=20), ["withdrawn"; 20]);
    assert_eq!(outbox.fate(recovery), "withdrawn", "nobody was told of an alert");
    let end = outbox.row(22).message.clone();
    assert!(end.subject.contains("over, 0 of 20 still fail"), "{}", end.subject);
}

#[test]
fn alerts_from_before_the_wave_and_reminders_are_not_of_it() {
    let mut outbox = Outbox::new();
    let before = outbox.alert(1, MAIL);
    let reminder = outbox.reminder(2, MAIL);
    let since = start() + TimeDelta::seconds(10);
    outbox.wave = Some(Wave { node: "one".to_owned(), runs: 24, openings: 20, since });
    outbox.plan_at(12);
    assert_eq!(outbox.fates([before, reminder]), ["pending", "pending"]);
}

#[test]
fn a_reminder_of_what_a_wave_holds_waits_with_it() {
    let mut outbox = wave();
    let reminder = outbox.reminder(1, MAIL);
    outbox.plan_at(10);
    assert_eq!(outbox.fates([1, reminder]), ["held cut_off until 30", "held cut_off until 40"]);
}
