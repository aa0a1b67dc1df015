//! What people edit by hand while a check is going on, and between checks.

use chrono::TimeDelta;
use watchbell::domain::{DiscardReason, NotificationType, State};
use watchbell::ports::Applied;
use watchbell_contract::Outcome;

use super::bench::{ANN, Bench};

pub(crate) async fn state_counters_and_recipients_count_as_they_are_now(bench: &Bench) {
    // Counters: the second ok of two, as set during the run.
    let id = bench.insert(&[("people_to_notify", &format!("'{ANN}'"))]).await;
    bench.fail(id).await;
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::ok("fine")).await;
    bench.sql(&format!("UPDATE monitors SET consecutive_ok_count = 1 WHERE id = {id}")).await;
    let Applied::Written { state_after, .. } = bench.apply(run).await else { panic!("discarded") };
    assert_eq!(state_after, Some(State::Ok));

    // Recipients.
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    bench.sql(r#"UPDATE monitors SET people_to_notify = '["bob@example.com"]'"#).await;
    bench.apply(run).await;
    let last = "SELECT type, recipient FROM notifications ORDER BY id DESC LIMIT 1";
    assert_eq!(bench.value(last).await, "alert|bob@example.com");

    // State: set to ok during a failing run, the failure is a new incident, and the old one was closed.
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    bench.sql("UPDATE monitors SET state = 'ok'").await;
    let Applied::Written { state_before, notification_type, .. } = bench.apply(run).await else { panic!("discarded") };
    assert_eq!((state_before, notification_type), (State::Ok, Some(NotificationType::Alert)));
    let open = bench.value("SELECT id FROM incidents WHERE recovered_at IS NULL").await;
    let mut sent = bench.read("SELECT type, incident_id FROM notifications ORDER BY id DESC LIMIT 2").await;
    sent.reverse();
    assert_eq!(sent, ["recovery|2".to_owned(), format!("alert|{open}")]);
    assert_eq!(open, "3");

    // Its own columns, written during the run by a person: `last_notification_at` decides on the reminder.
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    bench.sql("UPDATE monitors SET last_notification_at = NULL").await;
    let Applied::Written { notification_type, .. } = bench.apply(run).await else { panic!("discarded") };
    assert_eq!(notification_type, Some(NotificationType::Reminder));
}

pub(crate) async fn an_edited_interval_counts_at_once(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    bench.sql("UPDATE monitors SET reminder_frequency_minutes = 1").await;
    let Applied::Written { notification_type, .. } = bench.apply(run).await else { panic!("discarded") };
    assert_eq!(notification_type, Some(NotificationType::Reminder));
    // Retries, delay, severity, schedule, labels and name belong to no question: the outcome counts.
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::ok("fine")).await;
    let set = "retries = 3, severity = 'info', schedule = '@hourly', name = 'New name', labels = '{\"a\": \"b\"}'";
    bench.sql(&format!("UPDATE monitors SET {set}")).await;
    assert!(matches!(bench.apply(run).await, Applied::Written { state_after: Some(State::Ok), .. }));
    let subject = bench.value("SELECT subject FROM notifications WHERE type = 'recovery'").await;
    assert_eq!(subject, "[Monitor RECOVERED] New name");
}

pub(crate) async fn an_edited_question_discards_the_outcome(bench: &Bench) {
    for edit in ["kind = 'other'", r#"config = '{"url": "x"}'"#, "timeout_seconds = 31"] {
        let id = bench.insert_simple().await;
        bench.pass_minutes(1);
        let run = bench.tick(id, Outcome::failed("broken")).await;
        bench.sql(&format!("UPDATE monitors SET {edit} WHERE id = {id}")).await;
        assert_eq!(bench.apply(run).await, Applied::Discarded(DiscardReason::QuestionEdited), "{edit}");
        assert_eq!(bench.row(id).await.write_seq, 0, "nothing is written");
    }
    assert!(bench.queued().await.is_empty());
    assert_eq!(bench.value("SELECT count(*) FROM monitor_runs").await, "0");
}

pub(crate) async fn a_paused_or_deleted_row_takes_nothing(bench: &Bench) {
    let paused = bench.insert_simple().await;
    let gone = bench.insert_simple().await;
    bench.pass_minutes(1);
    let (run_of_paused, run_of_gone) =
        (bench.tick(paused, Outcome::failed("broken")).await, bench.tick(gone, Outcome::failed("broken")).await);
    bench.sql(&format!("UPDATE monitors SET is_active = 0 WHERE id = {paused}")).await;
    bench.sql(&format!("DELETE FROM monitors WHERE id = {gone}")).await;
    assert_eq!(bench.apply(run_of_paused).await, Applied::Discarded(DiscardReason::Paused));
    assert_eq!(bench.apply(run_of_gone).await, Applied::Discarded(DiscardReason::Gone));
    assert_eq!(bench.settle_edit(paused).await, Applied::Discarded(DiscardReason::Paused));
    assert_eq!(bench.settle_edit(gone).await, Applied::Discarded(DiscardReason::Gone));
    for table in ["monitor_runs", "incidents", "notifications"] {
        assert_eq!(bench.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
    }
}

pub(crate) async fn a_state_set_to_ok_closes_the_incident_once(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    bench.sql("UPDATE monitors SET state = 'ok'").await;
    assert!(matches!(bench.settle_edit(id).await, Applied::Written { queued: 1, .. }));
    assert_eq!(bench.settle_edit(id).await, Applied::Discarded(DiscardReason::NothingToDo));
    bench.succeed(id).await;
    assert_eq!(bench.queued().await, ["alert|ann@example.com", "recovery|ann@example.com"]);
    let body = bench.value("SELECT body FROM notifications WHERE type = 'recovery'").await;
    assert!(body.contains("by hand"), "{body}");
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NULL").await, "0");
}

pub(crate) async fn a_state_set_to_alert_opens_an_incident_silently(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.sql("UPDATE monitors SET state = 'alert'").await;
    assert!(matches!(bench.settle_edit(id).await, Applied::Written { queued: 0, .. }));
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NULL").await, "1");
    assert!(matches!(bench.succeed(id).await, Applied::Written { queued: 0, state_after: Some(State::Ok), .. }));
    // Opened and ended by the same run, when nothing looked in between.
    bench.sql("UPDATE monitors SET state = 'alert'").await;
    assert!(matches!(bench.succeed(id).await, Applied::Written { queued: 0, state_after: Some(State::Ok), .. }));
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NOT NULL").await, "2");
    assert!(bench.queued().await.is_empty());
}

pub(crate) async fn a_deleted_monitor_owes_one_recovery(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    bench.pass(TimeDelta::seconds(5));
    bench.sql(&format!("DELETE FROM monitors WHERE id = {id}")).await;
    let written = bench.settle_edit(id).await;
    assert!(matches!(written, Applied::Written { queued: 1, state_after: None, .. }), "{written:?}");
    assert_eq!(bench.settle_edit(id).await, Applied::Discarded(DiscardReason::Gone));
    assert_eq!(bench.queued().await, ["alert|ann@example.com", "recovery|ann@example.com"]);
    let columns = "subject, monitor_id, incident_id";
    let recovery = bench.value(&format!("SELECT {columns} FROM notifications WHERE type = 'recovery'")).await;
    assert_eq!(recovery, format!("[Monitor RECOVERED] Orders arrive|{id}|1"));
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NULL").await, "0");
}

pub(crate) async fn mismatches_are_found(bench: &Bench) {
    let mut monitors = Vec::new();
    for _ in 0..5 {
        monitors.push(bench.insert_simple().await);
    }
    let [fits, set_to_ok, set_to_alert, deleted, paused] = monitors[..] else { panic!("five") };
    for id in [fits, set_to_ok, deleted, paused] {
        bench.fail(id).await;
    }
    assert!(bench.store().mismatched(100).await.unwrap().is_empty());
    bench.sql(&format!("UPDATE monitors SET state = 'ok' WHERE id = {set_to_ok}")).await;
    bench.sql(&format!("UPDATE monitors SET state = 'alert' WHERE id = {set_to_alert}")).await;
    bench.sql(&format!("DELETE FROM monitors WHERE id = {deleted}")).await;
    bench.sql(&format!("UPDATE monitors SET state = 'ok', is_active = 0 WHERE id = {paused}")).await;
    let mut found = bench.store().mismatched(100).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, [set_to_ok, set_to_alert, deleted], "a paused monitor's incident stays open");
    assert_eq!(bench.store().mismatched(2).await.unwrap().len(), 2);
    for id in found {
        bench.settle_edit(id).await;
    }
    assert!(bench.store().mismatched(100).await.unwrap().is_empty());
}
