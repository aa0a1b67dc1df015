//! One run applied: what it writes, once, and what it leaves alone.

use std::time::Duration;

use chrono::TimeDelta;
use watchbell::domain::{Cause, DiscardReason, MonitorId, NotificationType, State};
use watchbell::ports::{Applied, StoreError, Work};
use watchbell_contract::Outcome;

use super::bench::Bench;

pub(crate) async fn a_run_writes_all_it_says(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let mut run = bench.tick(id, Outcome::failed("connection refused")).await;
    run.outcome.metrics.insert("response_ms".to_owned(), 12.5);
    run.duration = Duration::from_millis(1_234);
    run.config_error = Some("people_to_notify: 7 is not a recipient".to_owned());
    (run.skipped_ticks, run.missed_ticks) = (2, 3);
    let (at, next) = (run.started_at, run.next_run_at);
    let applied = bench.apply(run).await;
    let expected = Applied::Written {
        state_before: State::Ok,
        state_after: Some(State::Alert),
        notification_type: Some(NotificationType::Alert),
        queued: 1,
        is_recheck_asked_for: false,
    };
    assert_eq!(applied, expected);

    let row = bench.row(id).await;
    assert_eq!((row.state, row.last_tick_at, row.last_run_at), (State::Alert, Some(at), Some(at)));
    assert_eq!((row.last_notification_at, row.next_run_at), (Some(at), next));
    assert_eq!(row.config_error.as_deref(), Some("people_to_notify: 7 is not a recipient"));
    let columns = "last_result_message, last_notification_type, skipped_tick_count, missed_tick_count";
    assert_eq!(bench.value(&format!("SELECT {columns} FROM monitors")).await, "connection refused|alert|2|3");

    let columns = "monitor_id, cause, duration_ms, is_ok, message, state_before, state_after, notification_type, node";
    let expected = format!("{id}|schedule|1234|0|connection refused|ok|alert|alert|node-name");
    assert_eq!(bench.value(&format!("SELECT {columns} FROM monitor_runs")).await, expected);
    let record = bench.store().history(id, 10).await.unwrap().remove(0);
    assert_eq!(record["metrics"], serde_json::json!({"response_ms": 12.5}));

    let incident = "SELECT monitor_id, opening_message, acknowledged_at, recovered_at FROM incidents";
    assert_eq!(bench.value(incident).await, format!("{id}|connection refused|-|-"));
    let columns = "type, severity, recipient, subject, status, attempts, sent_at, last_error, merged_into";
    let expected = "alert|critical|ann@example.com|[Monitor ALERT] Orders arrive|pending|0|-|-|-";
    assert_eq!(bench.value(&format!("SELECT {columns} FROM notifications")).await, expected);
    assert!(bench.value("SELECT body FROM notifications").await.contains("connection refused"));
}

pub(crate) async fn a_tick_is_applied_once(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let first = bench.tick(id, Outcome::failed("broken")).await;
    let second = bench.tick(id, Outcome::failed("broken, says another node")).await;
    let mut earlier = bench.tick(id, Outcome::failed("from an earlier tick")).await;
    earlier.tick = earlier.tick.map(|tick| tick - TimeDelta::minutes(1));
    assert!(matches!(bench.apply(first).await, Applied::Written { .. }));
    let discarded = Applied::Discarded(DiscardReason::TickAlreadyApplied);
    assert_eq!(bench.apply(second).await, discarded);
    assert_eq!(bench.apply(earlier).await, discarded);
    assert_eq!(bench.value("SELECT count(*) FROM monitor_runs").await, "1");
    assert_eq!(bench.queued().await, ["alert|ann@example.com"]);
}

pub(crate) async fn a_tick_in_the_future_holds_up_nothing(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.sql(&format!("UPDATE monitors SET last_tick_at = '2999-01-01 00:00:00' WHERE id = {id}")).await;
    let run = bench.tick(id, Outcome::failed("broken")).await;
    let tick = run.tick;
    assert!(matches!(bench.apply(run).await, Applied::Written { .. }));
    assert_eq!(bench.row(id).await.last_tick_at, tick, "the clock was set back: the column follows it");
}

pub(crate) async fn a_run_that_was_asked_for_is_applied_once(bench: &Bench) {
    let id = bench.insert_simple().await;
    let first = bench.without_tick(id, Cause::First, Outcome::failed("broken")).await;
    assert_eq!(first.monitor.asked_cause(), Cause::First);
    let second = bench.without_tick(id, Cause::First, Outcome::failed("broken")).await;
    assert!(matches!(bench.apply(first).await, Applied::Written { .. }));
    assert_eq!(bench.apply(second).await, Applied::Discarded(DiscardReason::AlreadyRechecked));
    assert_eq!(bench.row(id).await.last_tick_at, None, "a run without a tick moves none");

    bench.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {id}")).await;
    let forced = bench.without_tick(id, Cause::Forced, Outcome::ok("fine")).await;
    assert_eq!(forced.monitor.asked_cause(), Cause::Forced);
    let again = bench.without_tick(id, Cause::Forced, Outcome::ok("fine")).await;
    assert!(matches!(bench.apply(forced).await, Applied::Written { .. }));
    assert_eq!(bench.apply(again).await, Applied::Discarded(DiscardReason::AlreadyRechecked));
    assert_eq!(bench.read("SELECT cause FROM monitor_runs ORDER BY id").await, ["first", "forced"]);
}

pub(crate) async fn a_request_during_the_run_survives_it(bench: &Bench) {
    let id = bench.insert_simple().await;
    let first = bench.without_tick(id, Cause::First, Outcome::ok("fine")).await;
    bench.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {id}")).await;
    let Applied::Written { is_recheck_asked_for, .. } = bench.apply(first).await else { panic!("not written") };
    assert!(is_recheck_asked_for);
    assert_eq!(bench.row(id).await.last_run_at, None);
    let second = bench.without_tick(id, Cause::Forced, Outcome::ok("fine")).await;
    let Applied::Written { is_recheck_asked_for, .. } = bench.apply(second).await else { panic!("not written") };
    assert!(!is_recheck_asked_for);
    assert_eq!(bench.row(id).await.last_run_at, Some(bench.now()));
}

pub(crate) async fn a_manual_run_moves_no_tick(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.succeed(id).await;
    let tick = bench.row(id).await.last_tick_at;
    for _ in 0..2 {
        bench.pass_minutes(5);
        let manual = bench.without_tick(id, Cause::Manual, Outcome::failed("broken")).await;
        assert!(matches!(bench.apply(manual).await, Applied::Written { .. }));
    }
    assert_eq!(bench.row(id).await.last_tick_at, tick);
    assert_eq!(bench.row(id).await.last_run_at, Some(bench.now()));
}

/// The engine applies the pieces of a refused batch one by one; here is what it can rely on.
pub(crate) async fn one_bad_piece_harms_no_neighbour_that_is_applied_alone(bench: &Bench) {
    let good = bench.insert_simple().await;
    let bad = bench.insert_simple().await;
    bench.pass_minutes(1);
    let work = [
        Work::Run(Box::new(bench.tick(good, Outcome::failed("broken")).await)),
        Work::Run(Box::new(bench.tick(bad, Outcome::failed("broken")).await)),
    ];
    // The database refuses what is decided for one of them: a counter beyond what its column takes.
    let decide = move |work: &Work, current: &watchbell::domain::Current| {
        let policy = watchbell::domain::Policy { admins: Vec::new(), default_zone: chrono_tz::UTC };
        let Work::Run(run) = work else { panic!("no run") };
        let mut decision = watchbell::domain::decide_run(run, current, &policy);
        if let watchbell::domain::Decision::Apply(change) = &mut decision
            && run.monitor.id == bad
            && let Some(row) = &mut change.row
        {
            row.consecutive_ok_count = u32::MAX;
        }
        decision
    };
    let error = bench.store().apply(&bench.node, &work, &decide).await.unwrap_err();
    let names_it = |reason: &str| ["consecutive_ok_count", "out of range"].iter().any(|word| reason.contains(word));
    assert!(matches!(&error, StoreError::Refused { reason, .. } if names_it(reason)), "{error}");
    for table in ["monitor_runs", "incidents", "notifications"] {
        assert_eq!(bench.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
    }
    assert_eq!(bench.value("SELECT count(*) FROM monitors WHERE state = 'ok' AND write_seq = 0").await, "2");
    let alone = bench.store().apply(&bench.node, &work[..1], &decide).await.unwrap();
    assert!(matches!(alone[..], [Applied::Written { .. }]));
    assert_eq!(bench.row(good).await.state, State::Alert);
}

pub(crate) async fn a_batch_decides_each_piece_for_itself(bench: &Bench) {
    let mut monitors = Vec::new();
    for _ in 0..5 {
        monitors.push(bench.insert_simple().await);
    }
    let [fine, stale, edited, paused, gone] = monitors[..] else { panic!("five") };
    bench.pass_minutes(1);
    let mut work = Vec::new();
    for id in monitors {
        work.push(Work::Run(Box::new(bench.tick(id, Outcome::failed("broken")).await)));
    }
    let same_tick = bench.tick(stale, Outcome::ok("another node was faster")).await;
    bench.apply(same_tick).await;
    bench.sql(&format!("UPDATE monitors SET kind = 'other' WHERE id = {edited}")).await;
    bench.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {paused}")).await;
    bench.sql(&format!("DELETE FROM monitors WHERE id = {gone}")).await;
    work.push(Work::Edit { monitor: MonitorId(999_999), config_error: None, next_run_at: None });
    let answers = bench.try_apply(&work).await.unwrap();
    assert!(matches!(answers[0], Applied::Written { state_after: Some(State::Alert), .. }), "{:?}", answers[0]);
    let reasons = [
        DiscardReason::TickAlreadyApplied,
        DiscardReason::QuestionEdited,
        DiscardReason::Paused,
        DiscardReason::Gone,
        DiscardReason::Gone,
    ];
    assert_eq!(answers[1..], reasons.map(Applied::Discarded));
    assert_eq!(bench.queued().await, ["alert|ann@example.com"]);
    assert_eq!(bench.value("SELECT count(*) FROM monitors WHERE state = 'alert'").await, "1");
    assert_eq!(bench.value("SELECT id FROM monitors WHERE state = 'alert'").await, fine.to_string());
}

pub(crate) async fn text_of_any_kind_is_kept(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let message =
        "quotes ' \" \\ \u{fffd} \u{2028} {\"a\": [1]} $[0] %s\n\tßあ🔔 ' OR 1=1 --".to_owned() + &"x".repeat(60_000);
    let run = bench.tick(id, Outcome::failed(message.clone())).await;
    bench.apply(run).await;
    assert_eq!(bench.value("SELECT last_result_message FROM monitors").await, message);
    assert_eq!(bench.value("SELECT message FROM monitor_runs").await, message);
    assert_eq!(bench.value("SELECT opening_message FROM incidents").await, message);
}

/// What is decided on another row than the one that is there is never written, whatever let it come so far.
pub(crate) async fn a_guard_that_does_not_hold_writes_nothing(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.pass_minutes(1);
    let work = [Work::Run(Box::new(bench.tick(id, Outcome::failed("broken")).await))];
    for (revision, write_seq) in [(1, 0), (0, 1), (-1, 0), (0, -1)] {
        let decide = move |work: &Work, current: &watchbell::domain::Current| {
            let policy = watchbell::domain::Policy { admins: Vec::new(), default_zone: chrono_tz::UTC };
            let Work::Run(run) = work else { panic!("no run") };
            let mut decision = watchbell::domain::decide_run(run, current, &policy);
            if let watchbell::domain::Decision::Apply(change) = &mut decision
                && let Some(row) = &mut change.row
            {
                row.revision += revision;
                row.write_seq += write_seq;
            }
            decision
        };
        let error = bench.store().apply(&bench.node, &work, &decide).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert_eq!(bench.row(id).await.write_seq, 0);
        assert_eq!(bench.value("SELECT count(*) FROM monitor_runs").await, "0");
        assert!(bench.queued().await.is_empty());
    }
}
