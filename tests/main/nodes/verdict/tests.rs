//! The verdict finds what is wrong, and lets pass what a fault explains.

use super::super::faults::{Fault, Window};
use super::super::mailbox::Mail;
use super::super::record::{Incident, Monitor, Notification, Record, Run};
use super::super::targets::Request;
use super::{Evidence, Verdict};

/// A minute in which one monitor of every second was ok and ran on `n1`, without the ticks of these seconds.
fn minute_without(missing: &[i64]) -> Evidence {
    let run = |second: i64| Run {
        id: second,
        monitor: 1,
        cause: "schedule".to_owned(),
        tick_at: Some(second * 1_000),
        started_at: second * 1_000 + 10,
        duration: 5,
        is_ok: true,
        state_before: "ok".to_owned(),
        state_after: "ok".to_owned(),
        told: None,
        node: "n1".to_owned(),
    };
    let runs: Vec<Run> = (0..=60).filter(|second| !missing.contains(second)).map(run).collect();
    let requests = runs.iter().map(|run| Request { at: run.started_at + 1, name: "m".to_owned(), is_ok: true });
    let monitor = Monitor {
        id: 1,
        name: "m".to_owned(),
        period: 1_000,
        state: "ok".to_owned(),
        oks: 0,
        required_oks: 1,
        recipients: vec!["ops@y.test".to_owned()],
        skipped: 0,
        missed: 0,
    };
    Evidence {
        database: "none",
        seed: 0,
        requests: requests.collect(),
        record: Record { monitors: vec![monitor], runs, incidents: Vec::new(), notifications: Vec::new() },
        mails: Vec::new(),
        windows: Vec::new(),
        from: 0,
        until: 60_000,
        violations: Vec::new(),
    }
}

/// The same minute with an incident that was told and is over.
fn minute_with_alert() -> Evidence {
    let mut evidence = minute_without(&[]);
    let states = [(20, false, "ok", "alert", "alert"), (21, true, "alert", "ok", "recovery")];
    for (second, is_ok, before, after, told) in states {
        let run = &mut evidence.record.runs[second];
        (run.is_ok, run.told) = (is_ok, Some(told.to_owned()));
        (run.state_before, run.state_after) = (before.to_owned(), after.to_owned());
    }
    evidence.record.incidents.push(Incident { id: 1, monitor: 1, is_over: true });
    for (id, kind) in [(1, "alert"), (2, "recovery")] {
        evidence.record.notifications.push(Notification {
            id,
            uuid: kind.to_owned(),
            incident: Some(1),
            kind: kind.to_owned(),
            recipient: "ops@y.test".to_owned(),
            status: "sent".to_owned(),
            merged_into: None,
        });
        evidence.mails.push(mail(kind, "n1", 20_000 + id * 100));
    }
    evidence
}

fn mail(uuid: &str, node: &str, at: i64) -> Mail {
    Mail {
        at,
        node: node.to_owned(),
        uuid: uuid.to_owned(),
        recipient: "ops@y.test".to_owned(),
        subject: uuid.to_owned(),
    }
}

fn window(fault: Fault, node: Option<&str>, from: i64, to: i64) -> Window {
    Window { fault, node: node.map(str::to_owned), from, to }
}

#[track_caller]
fn finds(evidence: Evidence, wanted: &[&str]) {
    let found = Verdict::of(evidence).violations;
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn a_quiet_minute_and_an_incident_that_was_told_pass() {
    finds(minute_without(&[]), &[]);
    finds(minute_with_alert(), &[]);
}

#[test]
fn a_missed_tick_needs_a_fault_of_its_own_node_that_is_not_long_ago() {
    let with = |window| Evidence { windows: vec![window], ..minute_without(&[40]) };
    finds(minute_without(&[40]), &["ticks missed otherwise"]);
    finds(with(window(Fault::Killed, Some("n1"), 16_000, 20_000)), &[]);
    finds(with(window(Fault::Killed, Some("n1"), 10_000, 12_000)), &["ticks missed otherwise"]);
    finds(with(window(Fault::Killed, Some("n2"), 16_000, 20_000)), &["ticks missed otherwise"]);
    finds(with(window(Fault::DatabaseKilled, None, 5_000, 16_000)), &[]);
    // Away for long, it is taken over; its return is a change again.
    finds(with(window(Fault::Cut, Some("n1"), 5_000, 55_000)), &["ticks missed otherwise"]);
    finds(with(window(Fault::Cut, Some("n1"), 5_000, 38_000)), &[]);
}

#[test]
fn whoever_is_hit_while_it_takes_over_is_an_excuse_too() {
    let missing: Vec<i64> = (20..50).collect();
    let killed = window(Fault::Killed, Some("n1"), 20_000, 58_000);
    let finds_first = |windows, first: usize| {
        let found = Verdict::of(Evidence { windows, ..minute_without(&missing) }).violations;
        assert_eq!(found.is_empty(), first == 0, "{found:?}");
    };
    finds_first(vec![killed.clone()], 1);
    finds_first(vec![killed.clone(), window(Fault::Killed, Some("n2"), 30_000, 31_000)], 0);
    finds_first(vec![killed, window(Fault::Killed, Some("n2"), 53_000, 54_000)], 1);
}

#[test]
fn what_runs_and_rows_must_not_say_is_found() {
    let mut invented = minute_without(&[]);
    invented.requests.retain(|request| !(20_000..30_000).contains(&request.at));
    let found = Verdict::of(invented).violations;
    assert!(!found.is_empty() && found.iter().all(|it| it.contains("say ok and were not answered so")), "{found:?}");
    let mut owed = minute_with_alert();
    owed.record.notifications.pop();
    owed.mails.pop();
    finds(owed, &["recoveries not as owed"]);
    let mut lost = minute_with_alert();
    lost.mails.pop();
    finds(lost, &["never arrived"]);
    let mut unknown = minute_with_alert();
    unknown.mails.push(mail("another", "n1", 40_000));
    finds(unknown, &["nothing owes"]);
    let mut early = minute_with_alert();
    early.mails[1].at = 20_000;
    finds(early, &["the recovery came first"]);
}

#[test]
fn a_double_needs_a_fault_of_who_sent_it_and_mail_needs_a_lease() {
    let doubled = |windows| {
        let mut evidence = minute_with_alert();
        evidence.mails.push(mail("recovery", "n2", 31_000));
        Evidence { windows, ..evidence }
    };
    finds(doubled(Vec::new()), &["doubles otherwise"]);
    finds(doubled(vec![window(Fault::Killed, Some("n1"), 20_300, 50_000)]), &[]);
    finds(doubled(vec![window(Fault::Killed, Some("n3"), 20_300, 50_000)]), &["doubles otherwise"]);
    finds(doubled(vec![window(Fault::Slowed, Some("n1"), 20_300, 50_000)]), &["doubles otherwise"]);
    // n2 had been cut off for longer than a lease when it sent.
    let cut = window(Fault::Cut, Some("n2"), 15_000, 50_000);
    finds(doubled(vec![cut]), &["doubles otherwise", "without a lease"]);
}
