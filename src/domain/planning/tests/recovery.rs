//! Recoveries: owed to whoever was told, to nobody else, and never before their alert.

use watchbell_contract::Severity;

use super::gates::{channel, silence};
use super::outbox::Outbox;
use crate::domain::NotificationStatus::{Failed, Pending, Sending, Sent};
use crate::domain::planning::LaneTraits;

const MAIL: &str = "a@x.test";

#[test]
fn after_a_delivered_alert_it_is_a_message_of_its_own() {
    let mut outbox = Outbox::new();
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.deliver();
    let recovery = outbox.recovery(1, MAIL);
    outbox.plan_at(60);
    assert_eq!(outbox.fates([alert, recovery]), ["sent", "pending"]);
    assert!(!outbox.row(recovery).message.facts.tells_alert);
}

#[test]
fn an_alert_that_was_not_delivered_before_becomes_one_message_that_tells_both() {
    for is_planned in [true, false] {
        let mut outbox = Outbox::new();
        let alert = outbox.alert(1, MAIL);
        if is_planned {
            outbox.plan();
        }
        let recovery = outbox.recovery(1, MAIL);
        outbox.plan_at(60);
        assert_eq!(outbox.fates([alert, recovery]), [format!("merged into {recovery}"), "pending".to_owned()]);
        let told = &outbox.row(recovery).message;
        assert!(told.facts.tells_alert && told.body.contains("Was down: ") && told.body.contains("says m1"));
    }
}

#[test]
fn while_the_alert_is_being_tried_it_waits() {
    for (ended, fates) in
        [(Sent, ["sent", "pending"]), (Pending, ["merged into 2", "pending"]), (Failed, ["failed", "pending"])]
    {
        let mut outbox = Outbox::new();
        let alert = outbox.alert(1, MAIL);
        outbox.plan();
        assert_eq!(outbox.take(), [alert]);
        let recovery = outbox.recovery(1, MAIL);
        outbox.plan_at(1);
        assert_eq!((outbox.fate(recovery), outbox.take()), ("pending".to_owned(), Vec::new()));
        outbox.settle(alert, ended);
        outbox.plan_at(2);
        assert_eq!(outbox.fates([alert, recovery]), fates);
        assert_eq!(outbox.row(recovery).message.facts.tells_alert, ended != Sent, "{ended:?}");
        assert_eq!(outbox.take(), [recovery]);
    }
}

#[test]
fn a_held_one_waits_where_its_alert_is_being_tried_once_more() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].quiet_hours = Some("12:01-13:00".to_owned());
    let alert = outbox.alert(1, "room");
    outbox.plan();
    outbox.deliver();
    let recovery = outbox.recovery(1, "room");
    outbox.plan_at(60);
    // Somebody repeated the alert by hand.
    outbox.row(alert).status = Sending;
    outbox.plan_at(3_600);
    assert_eq!(outbox.fate(recovery), "held quiet_hours until 3601");
    outbox.settle(alert, Sent);
    outbox.plan_at(3_601);
    assert_eq!(outbox.fate(recovery), "pending");
}

#[test]
fn a_present_recipient_who_heard_nothing_yet_is_told() {
    let mut outbox = Outbox::new();
    outbox.alert(1, "other@x.test");
    let recovery = outbox.recovery(1, MAIL);
    outbox.plan();
    assert_eq!(outbox.fate(recovery), "pending");
}

#[test]
fn a_held_alert_and_its_recovery_are_both_withdrawn() {
    let mut outbox = Outbox::new();
    outbox.rules.silences = vec![silence(Some(1), 600)];
    let alert = outbox.alert(1, MAIL);
    outbox.plan();
    let recovery = outbox.recovery(1, MAIL);
    // Both are looked at in one plan: the alert is withdrawn once.
    outbox.plan_at(600);
    assert_eq!(outbox.fates([alert, recovery]), ["withdrawn", "withdrawn"]);
}

#[test]
fn it_follows_the_digest_that_told_its_alert() {
    let mut outbox = Outbox::new();
    outbox.alerts(1..=12, MAIL);
    outbox.plan();
    outbox.plan_at(2);
    let recovery = outbox.recovery(12, MAIL);
    outbox.plan_at(3);
    assert_eq!(outbox.fates([12, recovery]), ["merged into 13", "pending after 13"]);
}

#[test]
fn quiet_hours_and_a_channel_that_is_off_hold_it_but_never_lose_it() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    let alert = outbox.alert(1, "room");
    outbox.plan();
    outbox.rules.channels[0].is_active = false;
    let recovery = outbox.recovery(1, "room");
    outbox.plan_at(10);
    assert_eq!(
        outbox.fates([alert, recovery]),
        [format!("merged into {recovery}"), "held channel_off until 40".to_owned()]
    );
    outbox.rules.channels[0].is_active = true;
    outbox.rules.channels[0].quiet_hours = Some("11:00-13:00".to_owned());
    outbox.plan_at(40);
    assert_eq!(outbox.fate(recovery), "held quiet_hours until 3600");
    outbox.plan_at(3_600);
    assert_eq!(outbox.fate(recovery), "pending", "the alert that it tells counts as told");
    assert!(outbox.row(recovery).message.facts.tells_alert);
}

#[test]
fn a_held_recovery_goes_out_before_the_alert_of_the_next_incident() {
    let mut outbox = Outbox::new();
    outbox.alert(1, MAIL);
    outbox.plan();
    outbox.deliver();
    let first = outbox.recovery(1, MAIL);
    outbox.plan_at(100);
    outbox.alert(1, MAIL);
    outbox.plan_at(110);
    outbox.deliver();
    let held = outbox.recovery(1, MAIL);
    outbox.plan_at(120);
    assert_eq!(outbox.fates([first, held]), ["sent", "held repetition until 160"]);
    outbox.severity = Severity::Critical;
    let next = outbox.alert(1, MAIL);
    outbox.plan_at(130);
    assert_eq!(outbox.fates([held, next]), ["pending", "pending"]);
    assert_eq!(outbox.take(), [held], "in order");
}

#[test]
fn a_held_recovery_that_is_due_in_the_same_plan_is_decided_once() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.lanes.insert("room".to_owned(), LaneTraits::default());
    outbox.alert(1, "room");
    outbox.plan();
    outbox.deliver();
    outbox.rules.channels[0].quiet_hours = Some("11:00-13:00".to_owned());
    let held = outbox.recovery(1, "room");
    outbox.plan_at(10);
    outbox.severity = Severity::Critical;
    let next = outbox.alert(1, "room");
    outbox.plan_at(3_600);
    assert_eq!(outbox.fates([held, next]), ["pending", "pending"]);
}

#[test]
fn one_that_was_merged_into_a_digest_is_not_sent_once_more_for_the_next_incident() {
    let mut outbox = Outbox::new();
    outbox.origin = Some("origin shop".to_owned());
    for monitor in 1..=3 {
        outbox.alert(monitor, MAIL);
        outbox.plan_at(monitor * 60);
    }
    outbox.deliver();
    let recoveries: Vec<i64> = (1..=3).map(|monitor| outbox.recovery(monitor, MAIL)).collect();
    outbox.plan_at(240);
    assert_eq!(
        outbox.fates(recoveries.iter().copied()),
        ["pending", "held repetition until 300", "held repetition until 300"]
    );
    outbox.deliver();
    outbox.now = super::outbox::start() + chrono::TimeDelta::seconds(300);
    let next = outbox.alert(3, MAIL);
    outbox.plan();
    assert_eq!(outbox.fates([recoveries[2], next]), ["merged into 8", "pending after 8"]);
}
