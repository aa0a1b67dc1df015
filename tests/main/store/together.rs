//! Two nodes over one database, and people beside them: what both do is done once, and what people wrote stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use watchbell::domain::planning::{Limits, MAIL_LANE};
use watchbell::domain::{Cause, DiscardReason, FinishedRun, MonitorId, MonitorRow, NotificationId, Settlement, State};
use watchbell::ports::{Applied, LaneClaim, Settled, Store, Work};
use watchbell_contract::Outcome;

use super::bench::Bench;
use crate::support::outbox;

const MONITORS: u32 = 50;
const ROUNDS: u32 = 200;
/// For what must not be answered yet.
const MOMENT: Duration = Duration::from_millis(200);

/// Numbers without a pattern, the same at each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

fn run(bench: &Bench, row: &MonitorRow, is_ok: bool) -> Work {
    let outcome = if is_ok { Outcome::ok("fine") } else { Outcome::failed("broken") };
    Work::Run(Box::new(FinishedRun {
        monitor: Arc::new(row.clone()),
        cause: Cause::Schedule,
        tick: Some(bench.now()),
        started_at: bench.now(),
        duration: Duration::from_millis(7),
        outcome,
        config_error: None,
        next_run_at: None,
        skipped_ticks: 0,
        missed_ticks: 0,
    }))
}

pub(crate) async fn the_same_tick_by_two_nodes_is_applied_once(bench: &Bench) {
    let other = bench.second_store().await;
    bench.sql(&bench.database.many_monitors(MONITORS)).await;
    let all = "UPDATE monitors SET people_to_notify = '[\"ann@example.com\"]', required_consecutive_oks = 1";
    bench.sql(all).await;
    let mut dice = Dice(7);
    let (mut applied, mut queued) = (0, 0);
    for _ in 0..ROUNDS {
        bench.pass_minutes(1);
        let rows = bench.store().monitors(MonitorId(0), MONITORS).await.unwrap();
        let work = rows.iter().map(|row| run(bench, row, dice.below(2) == 0)).collect::<Vec<_>>();
        // The second has some of them, in another order, and a little later.
        let kept = MONITORS as usize - dice.below(20);
        let others: Vec<Work> = dice.shuffled(work.clone()).into_iter().take(kept).collect();
        let lateness = Duration::from_micros(dice.below(8_000) as u64);
        let late = async {
            tokio::time::sleep(lateness).await;
            bench.try_apply_by(&other, &others).await
        };
        let (first, second) = tokio::join!(bench.try_apply(&work), late);
        let (first, second) = (first.unwrap(), second.unwrap());
        // MariaDB locks for a moment what it only walks past, so that each may find a row locked by the other.
        let left: Vec<Work> = work
            .iter()
            .zip(&first)
            .filter(|(_, answer)| **answer == Applied::Locked)
            .map(|(piece, _)| piece.clone())
            .collect();
        let third = bench.try_apply(&left).await.unwrap();
        assert!(!third.contains(&Applied::Locked), "nobody else writes any more");
        let mut writers: BTreeMap<MonitorId, u32> = BTreeMap::new();
        let answers = work.iter().zip(&first).chain(others.iter().zip(&second)).chain(left.iter().zip(&third));
        for (piece, answer) in answers {
            match answer {
                Applied::Written { queued: more, .. } => {
                    *writers.entry(piece.monitor_id()).or_default() += 1;
                    queued += more;
                }
                Applied::Discarded(reason) => assert_eq!(*reason, DiscardReason::TickAlreadyApplied),
                Applied::Locked => {}
            }
        }
        assert!(writers.len() == MONITORS as usize && writers.values().all(|count| *count == 1), "{writers:?}");
        applied += writers.len();
    }
    let counts = bench.value("SELECT count(*) FROM monitor_runs").await;
    assert_eq!(counts, applied.to_string(), "a run for each tick");
    assert_eq!(bench.value("SELECT count(*) FROM notifications").await, queued.to_string());
    let doubled = "SELECT monitor_id, tick_at FROM monitor_runs GROUP BY monitor_id, tick_at HAVING count(*) > 1";
    assert!(bench.read(doubled).await.is_empty());
    assert!(bench.store().mismatched(10).await.unwrap().is_empty());
    other.close().await;
}

pub(crate) async fn what_a_person_is_writing_is_not_overwritten(bench: &Bench) {
    let mut person = bench.person().await;
    for (edit, end, expected) in [
        ("kind = 'other'", "COMMIT", Some(DiscardReason::QuestionEdited)),
        ("is_active = 0", "COMMIT", Some(DiscardReason::Paused)),
        ("kind = 'other'", "ROLLBACK", None),
        ("severity = 'info'", "COMMIT", None),
    ] {
        let id = bench.insert_simple().await;
        bench.pass_minutes(1);
        let run = bench.tick(id, Outcome::failed("broken")).await;
        person.must("BEGIN").await;
        person.must(&format!("UPDATE monitors SET {edit} WHERE id = {id}")).await;
        let work = [Work::Run(Box::new(run))];
        let mut applying = std::pin::pin!(bench.try_apply(&work));
        // SQLite waits for its one lock; on servers the row is left out.
        let meanwhile = tokio::time::timeout(MOMENT, applying.as_mut()).await;
        person.must(end).await;
        let answers = match meanwhile {
            Err(_) => applying.await.unwrap(),
            Ok(answers) => {
                let mut answers = answers.unwrap();
                assert_eq!(answers, [Applied::Locked], "{edit}");
                while answers == [Applied::Locked] {
                    answers = bench.try_apply(&work).await.unwrap();
                }
                answers
            }
        };
        match (expected, &answers[..]) {
            (Some(expected), [Applied::Discarded(reason)]) => assert_eq!(*reason, expected),
            (None, [Applied::Written { state_after: Some(State::Alert), .. }]) => {}
            _ => panic!("{edit}, {end}: {answers:?}"),
        }
        if end == "COMMIT" {
            let (column, value) = edit.split_once(" = ").unwrap();
            let written = bench.value(&format!("SELECT {column} FROM monitors WHERE id = {id}")).await;
            assert_eq!(written, value.trim_matches('\''), "what the person wrote stays");
        }
    }
    let severity = "SELECT severity FROM notifications ORDER BY id DESC LIMIT 1";
    assert_eq!(bench.value(severity).await, "info", "it is decided on the row as the person left it");
    person.close().await.unwrap();
}

pub(crate) async fn a_batch_with_a_stale_an_edited_and_a_poisoned_run(bench: &Bench) {
    let (stale, edited, poisoned, fine) = (
        bench.insert_simple().await,
        bench.insert_simple().await,
        bench.insert_simple().await,
        bench.insert_simple().await,
    );
    bench.pass_minutes(1);
    let mut work = Vec::new();
    for id in [stale, edited, poisoned, fine] {
        work.push(Work::Run(Box::new(bench.tick(id, Outcome::failed("broken")).await)));
    }
    if let Work::Run(run) = &mut work[2] {
        // More than its column takes.
        run.skipped_ticks = u32::MAX;
        run.missed_ticks = u32::MAX;
    }
    let faster = bench.tick(stale, Outcome::ok("another node was faster")).await;
    bench.apply(faster).await;
    bench.sql(&format!("UPDATE monitors SET kind = 'other' WHERE id = {edited}")).await;
    let whole = bench.try_apply(&work).await;
    if bench.is_server() {
        assert!(whole.is_err(), "{whole:?}");
        assert_eq!(bench.value("SELECT count(*) FROM monitor_runs").await, "1", "all or nothing");
        assert!(bench.queued().await.is_empty());
        assert!(bench.try_apply(&work[2..3]).await.is_err());
        work.remove(2);
        let answers = bench.try_apply(&work).await.unwrap();
        let [first, second, third] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(*first, Applied::Discarded(DiscardReason::TickAlreadyApplied));
        assert_eq!(*second, Applied::Discarded(DiscardReason::QuestionEdited));
        assert!(matches!(third, Applied::Written { queued: 1, .. }), "{third:?}");
    }
    assert!(bench.row(fine).await.state == State::Alert);
}

pub(crate) async fn two_nodes_never_take_the_same_notification(bench: &Bench) {
    let other = bench.second_store().await;
    let mut monitors = Vec::new();
    for _ in 0..4 {
        monitors.push(bench.insert_simple().await);
    }
    let now = bench.now().format("'%Y-%m-%d %H:%M:%S'").to_string();
    let mut rows = Vec::new();
    for number in 0..240 {
        let (monitor, recipient) = (monitors[number % 4], number % 3);
        rows.push(format!("({monitor}, 'notice', 'critical', 'r{recipient}@x.test', 's', 'b', {now}, {now})"));
    }
    bench
        .sql(&format!(
            "INSERT INTO notifications (monitor_id, type, severity, recipient, subject, body, created_at, next_attempt_at) \
             VALUES {}",
            rows.join(", ")
        ))
        .await;
    let (first, second) = tokio::join!(
        outbox::plan_all(bench.store(), outbox::no_limits()),
        outbox::plan_all(&other, outbox::no_limits())
    );
    first.unwrap();
    second.unwrap();
    let planned = "SELECT count(*), count(planned_at) FROM notifications";
    assert_eq!(bench.value(planned).await, "240|240", "nothing is planned into two");

    let now = bench.pass(TimeDelta::seconds(1));
    let lanes = [LaneClaim { lane: MAIL_LANE.to_owned(), limit: 9 }];
    let mut taken = BTreeSet::new();
    let mut last: BTreeMap<(Option<MonitorId>, String), i64> = BTreeMap::new();
    loop {
        let until = now + TimeDelta::minutes(5);
        let (mine, theirs) = tokio::join!(
            bench.store().claim_notifications("node:me", now, until, now, &lanes),
            other.claim_notifications("node:other", now, until, now, &lanes)
        );
        let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
        if mine.is_empty() && theirs.is_empty() {
            break;
        }
        for row in mine.iter().chain(&theirs) {
            assert!(taken.insert(row.id), "{:?} was taken twice", row.id);
            let line = (row.monitor_id, row.recipient.clone());
            let before = last.insert(line, row.id.0).unwrap_or_default();
            assert!(before < row.id.0, "the order of a recipient's messages holds");
        }
        let sent = |rows: &[watchbell::domain::OutboxRow]| {
            let sent = || Settlement::Sent { at: now, answer: String::new(), external_id: None };
            rows.iter().map(|row| (row.id, sent())).collect::<Vec<_>>()
        };
        let (mine, theirs) = (sent(&mine), sent(&theirs));
        let (first, second) = tokio::join!(
            bench.store().settle_notifications("node:me", &mine),
            other.settle_notifications("node:other", &theirs)
        );
        assert_eq!((first.unwrap().written, second.unwrap().written), (mine.len() as u64, theirs.len() as u64));
    }
    assert_eq!(taken.len(), 240);
    other.close().await;
}

pub(crate) async fn limits_count_what_another_node_planned(bench: &Bench) {
    let other = bench.second_store().await;
    let limits = || Limits { storm_first: 3, storm_window: TimeDelta::seconds(10), ..outbox::no_limits() };
    for planner in [bench.store(), &other] {
        for _ in 0..3 {
            let id = bench.insert_simple().await;
            let run = bench.tick(id, Outcome::failed("broken")).await;
            bench.apply(run).await;
        }
        outbox::plan_all(planner, limits()).await.unwrap();
    }
    let fates = bench.read("SELECT status FROM notifications ORDER BY id").await;
    assert_eq!(fates, ["pending", "pending", "pending", "held", "held", "held"], "three in ten seconds, of both nodes");
    other.close().await;
}

pub(crate) async fn a_lease_is_renewed_however_long_the_outbox_is_locked(bench: &Bench) {
    if !bench.is_server() {
        // On SQLite one transaction writes at a time, and every one of them waits.
        return;
    }
    let mut planner = bench.person().await;
    planner.must("BEGIN").await;
    planner.must("SELECT id FROM installation WHERE id = 1 FOR UPDATE").await;
    let report = watchbell::ports::NodeReport {
        version: "1.2.3".to_owned(),
        labels: BTreeMap::new(),
        kinds: None,
        settings: "{}".to_owned(),
        monitor_count: 0,
        lateness_p99: None,
        clock_skew: TimeDelta::zero(),
        lease: TimeDelta::seconds(10),
        is_well: true,
    };
    for _ in 0..2 {
        let renewing = bench.store().renew_node(&bench.node, &report);
        tokio::time::timeout(Duration::from_secs(5), renewing).await.expect("it waits for nobody").unwrap();
    }
    planner.must("ROLLBACK").await;
    planner.close().await.unwrap();
}

pub(crate) async fn what_was_held_is_not_told_while_its_incident_ends(bench: &Bench) {
    if !bench.is_server() {
        // On SQLite one transaction writes at a time, and every one of them waits.
        return;
    }
    let mut node = bench.person().await;
    let mut expected = Vec::new();
    for (end, fate) in [("COMMIT", "withdrawn"), ("ROLLBACK", "pending")] {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
        let held = "UPDATE notifications SET status = 'held', hold_reason = 'repetition' WHERE status = 'pending'";
        bench.sql(&format!("{held} AND monitor_id = {id}")).await;
        bench.pass(TimeDelta::seconds(1));
        // As another node ends it: nobody was told, so that nobody is owed a recovery.
        node.must("BEGIN").await;
        let incident = bench.value("SELECT max(id) FROM incidents").await;
        let now = super::bench::sql_time(bench.now());
        node.must(&format!("UPDATE incidents SET recovered_at = {now} WHERE id = {incident}")).await;
        let statuses = "SELECT status FROM notifications ORDER BY id";
        let before = bench.read(statuses).await;
        outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
        assert_eq!(bench.read(statuses).await, before, "it is not known yet whether it is over");
        node.must(end).await;
        outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
        expected.push(fate);
        assert_eq!(bench.read(statuses).await, expected, "{end}");
    }
    node.close().await.unwrap();
}

/// What must not wait for a person: a lock is waited for 8 seconds.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(4), work).await.unwrap_or_else(|_| panic!("{what}: it waits"))
}

fn ids(rows: &[watchbell::domain::OutboxRow]) -> Vec<i64> {
    rows.iter().map(|row| row.id.0).collect()
}

pub(crate) async fn a_message_that_a_person_has_locked_holds_up_no_other(bench: &Bench) {
    if !bench.is_server() {
        // On SQLite one transaction writes at a time, and every one of them waits.
        return;
    }
    for _ in 0..2 {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
    }
    let rows = bench.read("SELECT id FROM notifications ORDER BY id").await;
    let [locked, other] = &rows[..] else { panic!("{rows:?}") };
    let (locked_id, other_id) = (locked.parse::<i64>().unwrap(), other.parse::<i64>().unwrap());
    let mut person = bench.person().await;
    let edit = format!("UPDATE notifications SET last_error = 'looked at' WHERE id = {locked}");
    let now = bench.pass(TimeDelta::seconds(1));
    let plan = || outbox::plan_all(bench.store(), outbox::no_limits());
    let claim = || super::delivery::claim(bench, "node:me", 1);

    person.must("BEGIN").await;
    person.must(&edit).await;
    soon("planning", plan()).await.unwrap();
    let planned = "SELECT id FROM notifications WHERE planned_at IS NOT NULL ORDER BY id";
    assert_eq!(bench.read(planned).await, rows[1..], "the other is planned");
    person.must("ROLLBACK").await;
    plan().await.unwrap();
    assert_eq!(bench.read(planned).await, rows);

    // One that cannot be read, and that somebody is just mending.
    let bad = bench.queue("notice", "c@x.test").await;
    bench.sql(&format!("UPDATE notifications SET hold_reason = 'nonsense', status = 'held' WHERE id = {bad}")).await;
    person.must("BEGIN").await;
    person.must(&format!("UPDATE notifications SET hold_reason = NULL, status = 'withdrawn' WHERE id = {bad}")).await;
    soon("planning", plan()).await.unwrap();
    person.must("COMMIT").await;
    assert_eq!(bench.value(&format!("SELECT status FROM notifications WHERE id = {bad}")).await, "withdrawn");

    // It is the first of its lane, where there is room for one.
    person.must("BEGIN").await;
    person.must(&edit).await;
    assert_eq!(ids(&soon("claiming", claim()).await), [other_id], "the other goes out");
    person.must("COMMIT").await;
    assert_eq!(ids(&claim().await), [locked_id]);

    person.must("BEGIN").await;
    person.must(&edit).await;
    let both = [
        (NotificationId(locked_id), super::delivery::sent(now)),
        (NotificationId(other_id), super::delivery::sent(now)),
    ];
    let settled = soon("settling", bench.store().settle_notifications("node:me", &both)).await.unwrap();
    assert_eq!(settled, Settled { written: 1, locked: vec![NotificationId(locked_id)] });
    assert_eq!(soon("giving up", bench.store().release_unknown("node:me", &[])).await.unwrap(), 0);
    person.must("ROLLBACK").await;
    let settled = bench.store().settle_notifications("node:me", &both).await.unwrap();
    assert_eq!(settled, Settled { written: 1, locked: Vec::new() }, "how it ended is written in the end, once");
    assert_eq!(bench.read("SELECT status FROM notifications ORDER BY id").await, ["sent", "sent", "withdrawn"]);
    person.close().await.unwrap();
}

pub(crate) async fn what_is_held_and_locked_keeps_no_outcome_from_being_written(bench: &Bench) {
    if !bench.is_server() {
        // On SQLite one transaction writes at a time, and every one of them waits.
        return;
    }
    let parent = bench.insert_simple().await;
    bench.fail(parent).await;
    let far = super::bench::sql_time(bench.now() + TimeDelta::hours(9));
    let mut held = Vec::new();
    for recipient in ["a@x.test", "b@x.test"] {
        let id = bench.queue("notice", recipient).await;
        let hold = format!("SET status = 'held', hold_reason = 'dependency {parent}', next_attempt_at = {far}");
        bench.sql(&format!("UPDATE notifications {hold} WHERE id = {id}")).await;
        held.push(id.to_string());
    }
    let waiting = format!("SELECT id FROM notifications WHERE status = 'held' AND next_attempt_at = {far} ORDER BY id");
    assert_eq!(bench.read(&waiting).await, held);
    let mut person = bench.person().await;
    person.must("BEGIN").await;
    person.must(&format!("UPDATE notifications SET last_error = 'looked at' WHERE id = {}", held[0])).await;
    let applied = soon("a recovery", bench.succeed(parent)).await;
    assert!(matches!(applied, Applied::Written { state_after: Some(State::Ok), .. }), "{applied:?}");
    assert_eq!(bench.read(&waiting).await, held[..1], "the other is looked at anew");

    // After an edit of the rules too; what is locked is looked at anew once the person is done.
    bench.sql(&format!("UPDATE notifications SET next_attempt_at = {far} WHERE id = {}", held[1])).await;
    assert!(!soon("a report", bench.store().report_rules(&[])).await.unwrap(), "it is to be done once more");
    assert_eq!(bench.read(&waiting).await, held[..1]);
    person.must("ROLLBACK").await;
    assert!(bench.store().report_rules(&[]).await.unwrap());
    assert!(bench.read(&waiting).await.is_empty());
    person.close().await.unwrap();
}

pub(crate) async fn who_waits_for_a_parent_that_is_just_ending_its_incident_waits_a_moment(bench: &Bench) {
    if !bench.is_server() {
        // On SQLite one transaction writes at a time, and every one of them waits.
        return;
    }
    let (parent, child) = (bench.insert_simple().await, bench.insert_simple().await);
    bench.sql(&format!("INSERT INTO dependencies (child_id, parent_id) VALUES ({child}, {parent})")).await;
    bench.fail(parent).await;
    bench.fail(child).await;
    let alert = bench.value(&format!("SELECT id FROM notifications WHERE monitor_id = {child}")).await;
    let at = |seconds| bench.database.shown_time(bench.now() + TimeDelta::seconds(seconds));
    let hold = format!("SELECT hold_reason, next_attempt_at FROM notifications WHERE id = {alert}");

    // As another node does it, which sees no child that waits: that is not written yet.
    let mut node = bench.person().await;
    node.must("BEGIN").await;
    let now = super::bench::sql_time(bench.now());
    node.must(&format!("UPDATE incidents SET recovered_at = {now} WHERE monitor_id = {parent}")).await;
    bench.pass(TimeDelta::seconds(4));
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    assert_eq!(bench.value(&hold).await, format!("dependency {parent}|{}", at(1)));
    node.must("ROLLBACK").await;
    bench.pass(TimeDelta::seconds(1));
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    assert_eq!(bench.value(&hold).await, format!("dependency {parent}|{}", at(30)), "it did not end");
    node.close().await.unwrap();
}
