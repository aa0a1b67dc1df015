//! Repetition, storms, and `max_per_minute`.

use watchbell_contract::Severity;

use super::gates::channel;
use super::outbox::Outbox;
use crate::domain::NotificationStatus;
use crate::domain::planning::LaneTraits;

const MAIL: &str = "a@x.test";

#[test]
fn ten_same_alerts_in_a_minute_are_one_and_one_digest_of_nine() {
    let mut outbox = Outbox::new();
    outbox.origin = Some("origin shop".to_owned());
    let first = outbox.alert(1, MAIL);
    outbox.plan();
    outbox.deliver();
    outbox.plan_at(10);
    let others: Vec<i64> = (2..=10).map(|monitor| outbox.alert(monitor, MAIL)).collect();
    outbox.plan();
    assert_eq!(
        outbox.fates([first, others[0], others[8]]),
        ["sent", "held repetition until 60", "held repetition until 60"]
    );
    outbox.plan_at(60);
    assert_eq!(outbox.fates(others), ["merged into 11"; 9]);
    let digest = outbox.row(11).clone();
    assert_eq!(digest.edits, None, "a mail cannot be edited");
    assert_eq!(digest.message.subject, "[Watchbell] 9 failing: m10, m2, m3 and 6 more");
    assert!(digest.message.body.contains("- m9: says m9\n") && !digest.message.body.contains("m1:"));
}

#[test]
fn where_the_channel_can_edit_the_first_message_comes_to_say_ten() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.lanes.insert("room".to_owned(), LaneTraits { can_edit: true, wants_each: false });
    outbox.origin = Some("origin shop".to_owned());
    outbox.alert(1, "room");
    outbox.plan();
    outbox.deliver();
    outbox.alerts(2..=10, "room");
    outbox.plan();
    outbox.plan_at(60);
    let digest = outbox.row(11).clone();
    assert_eq!(digest.edits.as_deref(), Some("$1"));
    assert!(digest.message.subject.contains("10 failing"), "{}", digest.message.subject);
    assert!(digest.message.body.contains("- m1: says m1\n"), "what it takes the place of is still said");
    outbox.deliver();
    // What the next minute brings must not overwrite this list.
    outbox.alerts(11..=12, "room");
    outbox.plan_at(61);
    outbox.plan_at(120);
    assert_eq!(outbox.fate(12), "merged into 14");
    assert_eq!(outbox.row(14).edits, None, "a message of its own");
}

#[test]
fn worse_news_of_the_same_origin_passes_once() {
    let mut outbox = Outbox::new();
    outbox.origin = Some("origin shop".to_owned());
    let first = outbox.alert(1, MAIL);
    outbox.severity = Severity::Critical;
    let critical: Vec<i64> = (2..=4).map(|monitor| outbox.alert(monitor, MAIL)).collect();
    outbox.plan();
    assert_eq!(outbox.fate(first), "pending");
    assert_eq!(outbox.fates(critical), ["pending", "held repetition until 60", "held repetition until 60"]);
}

#[test]
fn one_message_that_was_repeated_goes_out_as_itself() {
    let mut outbox = Outbox::new();
    outbox.origin = Some("origin shop".to_owned());
    outbox.alert(1, MAIL);
    let second = outbox.alert(2, MAIL);
    outbox.plan();
    outbox.plan_at(60);
    assert_eq!(outbox.fate(second), "pending");
}

#[test]
fn alerts_do_not_limit_recoveries() {
    let mut outbox = Outbox::new();
    outbox.limits.storm_first = 1;
    outbox.alert(1, MAIL);
    outbox.plan();
    outbox.deliver();
    let recovery = outbox.recovery(1, MAIL);
    outbox.plan_at(1);
    assert_eq!(outbox.fate(recovery), "pending");
}

#[test]
fn in_a_storm_the_first_ten_go_out_and_then_one_digest_with_the_full_list() {
    let mut outbox = Outbox::new();
    let all: Vec<i64> = (1..=500).map(|monitor| outbox.alert(monitor, MAIL)).collect();
    outbox.plan();
    assert_eq!(outbox.fates(all[..10].iter().copied()), ["pending"; 10]);
    assert_eq!(outbox.fates(all[10..].iter().copied()), ["held storm until 2"; 490]);
    outbox.plan_at(2);
    assert_eq!(outbox.fates(all[10..].iter().copied()), ["merged into 501"; 490]);
    let body = outbox.row(501).message.body.clone();
    assert_eq!(body.lines().filter(|line| line.starts_with("- m")).count(), 490);
    // What still comes is told by the next digest, which waits for half a minute.
    outbox.plan_at(3);
    let late: Vec<i64> = (601..=603).map(|monitor| outbox.alert(monitor, MAIL)).collect();
    outbox.plan();
    assert_eq!(outbox.fates(late.iter().copied()), ["held storm until 32"; 3]);
    outbox.plan_at(31);
    assert_eq!(outbox.fate(late[0]), "held storm until 32");
    outbox.plan_at(32);
    assert_eq!(outbox.fates(late), ["merged into 505"; 3]);
}

#[test]
fn the_same_holds_for_recoveries_and_their_digest_follows_that_of_the_alerts() {
    let mut outbox = Outbox::new();
    outbox.alerts(1..=30, MAIL);
    outbox.plan();
    outbox.plan_at(2);
    assert_eq!(outbox.fates([11, 30]), ["merged into 31"; 2]);
    // The mail server does not take the digest yet; the ten alerts were taken.
    for id in outbox.take() {
        let status = if id == 31 { NotificationStatus::Pending } else { NotificationStatus::Sent };
        outbox.settle(id, status);
    }
    let recoveries: Vec<i64> = (1..=30).map(|monitor| outbox.recovery(monitor, MAIL)).collect();
    outbox.plan_at(10);
    assert_eq!(outbox.fates(recoveries[..10].iter().copied()), ["pending"; 10]);
    outbox.plan_at(12);
    assert_eq!(outbox.fates(recoveries[10..].iter().copied()), ["merged into 62"; 20]);
    assert_eq!(outbox.fate(62), "pending after 31");
    assert!(outbox.row(62).message.subject.contains("20 recovered"));
    let taken = outbox.take();
    assert!(taken.contains(&31) && !taken.contains(&62), "{taken:?}");
}

#[test]
fn what_is_over_is_not_in_the_digest() {
    let mut outbox = Outbox::new();
    outbox.alerts(1..=14, MAIL);
    outbox.plan();
    outbox.incidents[11].is_over = true;
    outbox.plan_at(2);
    assert_eq!(outbox.fates([11, 12, 13]), ["merged into 15", "withdrawn", "merged into 15"]);
}

#[test]
fn what_was_silenced_meanwhile_is_not_in_the_digest() {
    let mut outbox = Outbox::new();
    outbox.alerts(1..=14, MAIL);
    outbox.plan();
    outbox.rules.silences = vec![super::gates::silence(Some(11), 600)];
    outbox.plan_at(2);
    assert_eq!(outbox.fates([11, 12]), ["held silence 7 until 600", "merged into 15"]);
}

#[test]
fn a_lone_message_behind_a_storm_waits_until_that_is_over() {
    let mut outbox = Outbox::new();
    let all: Vec<i64> = (1..=11).map(|monitor| outbox.alert(monitor, MAIL)).collect();
    outbox.plan();
    let mut seconds = 0;
    while outbox.fate(all[10]) != "pending" {
        seconds += 1;
        outbox.plan_at(seconds);
        assert!(seconds <= 10, "{}", outbox.fate(all[10]));
    }
}

#[test]
fn a_program_that_keeps_incidents_apart_gets_every_message() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("duty")];
    outbox.lanes.insert("duty".to_owned(), LaneTraits { can_edit: false, wants_each: true });
    outbox.origin = Some("origin shop".to_owned());
    let all: Vec<i64> = (1..=100).map(|monitor| outbox.alert(monitor, "duty")).collect();
    outbox.plan();
    assert_eq!(outbox.fates(all), ["pending"; 100]);
}

#[test]
fn max_per_minute_holds_and_tells_the_rest_in_one() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].max_per_minute = Some(2);
    let all: Vec<i64> = (1..=5).map(|monitor| outbox.alert(monitor, "room")).collect();
    outbox.plan();
    assert_eq!(outbox.fates(all[..2].iter().copied()), ["pending"; 2]);
    assert_eq!(outbox.fates(all[2..].iter().copied()), ["held rate_limit until 60"; 3]);
    outbox.plan_at(60);
    assert_eq!(outbox.fates(all[2..].iter().copied()), ["merged into 6"; 3]);
}

#[test]
fn digests_keep_to_max_per_minute_too() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("room")];
    outbox.rules.channels[0].max_per_minute = Some(10);
    let all: Vec<i64> = (1..=30).map(|monitor| outbox.alert(monitor, "room")).collect();
    outbox.plan();
    outbox.plan_at(2);
    assert_eq!(outbox.fates(all[10..].iter().copied()), ["held rate_limit until 60"; 20]);
    outbox.plan_at(60);
    assert_eq!(outbox.fates(all[10..].iter().copied()), ["merged into 31"; 20]);
}

#[test]
fn where_each_is_wanted_max_per_minute_lets_so_many_pass_each_minute() {
    let mut outbox = Outbox::new();
    outbox.rules.channels = vec![channel("duty")];
    outbox.rules.channels[0].max_per_minute = Some(2);
    outbox.lanes.insert("duty".to_owned(), LaneTraits { can_edit: false, wants_each: true });
    let all: Vec<i64> = (1..=5).map(|monitor| outbox.alert(monitor, "duty")).collect();
    outbox.plan();
    outbox.plan_at(60);
    assert_eq!(outbox.fates(all[2..4].iter().copied()), ["pending"; 2]);
    assert_eq!(outbox.fate(all[4]), "held rate_limit until 120");
}
