//! From the alert to the recovery: who is told, of what, once.

use chrono::TimeDelta;
use watchbell::domain::{NotificationType, State};
use watchbell::ports::Applied;
use watchbell_contract::{Outcome, Severity};

use super::bench::{ANN, ANN_AND_BOB, Bench, sql_time};

fn told(applied: &Applied) -> Option<NotificationType> {
    match applied {
        Applied::Written { notification_type, .. } => *notification_type,
        other => panic!("not written: {other:?}"),
    }
}

pub(crate) async fn an_alert_reminders_and_one_recovery(bench: &Bench) {
    let people = format!("'{ANN_AND_BOB}'");
    let id = bench.insert(&[("people_to_notify", &people), ("reminder_frequency_minutes", "2")]).await;
    use NotificationType::{Alert, Recovery, Reminder};
    let mut seen = Vec::new();
    for is_ok in [true, false, false, false, true, false, true, true, true] {
        let applied = if is_ok { bench.succeed(id).await } else { bench.fail(id).await };
        seen.push(told(&applied));
    }
    let expected = [None, Some(Alert), None, Some(Reminder), None, Some(Reminder), None, Some(Recovery), None];
    assert_eq!(seen, expected);
    let both = |kind: &str| [format!("{kind}|ann@example.com"), format!("{kind}|bob@example.com")];
    let expected = ["alert", "reminder", "reminder", "recovery"].map(both).concat();
    assert_eq!(bench.queued().await, expected);
    let of_incident = "SELECT count(DISTINCT incident_id), min(incident_id) FROM notifications";
    let incident = bench.value("SELECT id FROM incidents WHERE recovered_at IS NOT NULL").await;
    assert_eq!(bench.value(of_incident).await, format!("1|{incident}"));
    assert_eq!(bench.row(id).await.state, State::Ok);
    assert_eq!(bench.value("SELECT count(*) FROM monitor_runs").await, "9");
    assert_eq!(bench.value("SELECT write_seq FROM monitors").await, "9", "one UPDATE a run");
}

pub(crate) async fn a_recovery_is_owed_to_everyone_who_was_told(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let people = r#"["carl@example.com"]"#;
    bench.sql(&format!("UPDATE monitors SET people_to_notify = '{people}', reminder_frequency_minutes = 0")).await;
    bench.fail(id).await;
    bench.sql(r#"UPDATE monitors SET people_to_notify = '["dora@example.com"]'"#).await;
    bench.succeed(id).await;
    let expected = [
        "alert|ann@example.com",
        "reminder|carl@example.com",
        "recovery|ann@example.com",
        "recovery|carl@example.com",
        "recovery|dora@example.com",
    ];
    assert_eq!(bench.queued().await, expected);
}

pub(crate) async fn an_empty_list_tells_nobody(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let told_at = bench.row(id).await.last_notification_at;
    bench.sql("UPDATE monitors SET people_to_notify = '[]', reminder_frequency_minutes = 0").await;
    assert_eq!(told(&bench.fail(id).await), None);
    assert_eq!(bench.row(id).await.last_notification_at, told_at, "unchanged where nobody was to be told");
    assert_eq!(told(&bench.succeed(id).await), None);
    assert_eq!(bench.queued().await, ["alert|ann@example.com"]);
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NOT NULL").await, "1");
}

pub(crate) async fn what_is_held_or_withdrawn_told_nobody(bench: &Bench) {
    for (status, expected) in
        [("held", 0), ("withdrawn", 0), ("pending", 1), ("sending", 1), ("sent", 1), ("failed", 1), ("merged", 1)]
    {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
        bench.sql(&format!("UPDATE notifications SET status = '{status}' WHERE monitor_id = {id}")).await;
        let Applied::Written { queued, state_after, .. } = bench.succeed(id).await else { panic!("discarded") };
        assert_eq!((queued, state_after), (expected, Some(State::Ok)), "{status}");
    }
    // One of two was told: the recovery goes to that one, and to whom the row names.
    let people = format!("'{ANN_AND_BOB}'");
    let id = bench.insert(&[("people_to_notify", &people), ("required_consecutive_oks", "1")]).await;
    bench.fail(id).await;
    bench
        .sql(&format!("UPDATE notifications SET status = 'held' WHERE monitor_id = {id} AND recipient LIKE 'ann%'"))
        .await;
    bench.sql(&format!(r#"UPDATE monitors SET people_to_notify = '["dora@example.com"]' WHERE id = {id}"#)).await;
    bench.succeed(id).await;
    let recoveries =
        format!("SELECT recipient FROM notifications WHERE type = 'recovery' AND monitor_id = {id} ORDER BY id");
    assert_eq!(bench.read(&recoveries).await, ["bob@example.com", "dora@example.com"]);
}

pub(crate) async fn an_acknowledgment_by_sql_holds_reminders(bench: &Bench) {
    let people = format!("'{ANN}'");
    let id = bench.insert(&[("people_to_notify", &people), ("reminder_frequency_minutes", "0")]).await;
    bench.fail(id).await;
    let until = bench.now() + TimeDelta::minutes(3);
    let set = format!("acknowledged_at = {}, acknowledged_by = 'ann'", sql_time(bench.now()));
    bench.sql(&format!("UPDATE incidents SET {set}, acknowledged_until = {}", sql_time(until))).await;
    assert_eq!(told(&bench.fail(id).await), None);
    assert_eq!(told(&bench.fail(id).await), None);
    assert_eq!(told(&bench.fail(id).await), Some(NotificationType::Reminder), "the acknowledgment has ended");
    bench.sql("UPDATE incidents SET acknowledged_until = NULL").await;
    assert_eq!(told(&bench.fail(id).await), None, "without an end it holds until the recovery");
    // A new incident needs a new one.
    bench.succeed(id).await;
    bench.succeed(id).await;
    assert_eq!(told(&bench.fail(id).await), Some(NotificationType::Alert));
    assert_eq!(told(&bench.fail(id).await), Some(NotificationType::Reminder));
}

pub(crate) async fn nothing_is_said_twice(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    let columns = "monitor_id, incident_id, type, severity, recipient, subject, body";
    let copy = |kind: &str| {
        let values = columns.replace("type", &format!("'{kind}'"));
        format!("INSERT INTO notifications ({columns}) SELECT {values} FROM notifications WHERE type = 'alert'")
    };
    bench.refused_twice(&copy("alert")).await;
    bench.sql(&copy("reminder")).await;
    bench.sql("DELETE FROM notifications WHERE type = 'reminder'").await;
    bench.sql(&copy("recovery")).await;
    bench.refused_twice(&copy("recovery")).await;
    let second = "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message) \
        SELECT monitor_id, monitor_name, opened_at, opening_message FROM incidents";
    // One open incident a monitor.
    bench.refused_twice(second).await;

    // A severity that rises is told at once, and what was told is the highest.
    let severe = bench.insert(&[("people_to_notify", &format!("'{ANN}'")), ("severity", "'info'")]).await;
    bench.fail(severe).await;
    bench.pass_minutes(1);
    let worse = Outcome { severity: Some(Severity::Warning), ..Outcome::failed("worse") };
    let run = bench.tick(severe, worse.clone()).await;
    assert_eq!(told(&bench.apply(run).await), Some(NotificationType::Reminder));
    bench.pass_minutes(1);
    let run = bench.tick(severe, worse).await;
    assert_eq!(told(&bench.apply(run).await), None);
}

/// Somebody sets `recovered_at` back to NULL: the monitor goes on, and nobody is told of the recovery twice.
pub(crate) async fn a_reopened_incident_stops_nothing(bench: &Bench) {
    let id = bench.insert_simple().await;
    bench.fail(id).await;
    bench.succeed(id).await;
    bench.sql("UPDATE incidents SET recovered_at = NULL").await;
    bench.sql("UPDATE monitors SET state = 'alert'").await;
    let Applied::Written { state_after, .. } = bench.succeed(id).await else { panic!("discarded") };
    assert_eq!(state_after, Some(State::Ok));
    assert_eq!(bench.queued().await, ["alert|ann@example.com", "recovery|ann@example.com"]);
    assert_eq!(bench.value("SELECT count(*) FROM incidents WHERE recovered_at IS NULL").await, "0");
}
