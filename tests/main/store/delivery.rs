//! The outbox: who may try what, when, and in which order.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell::domain::planning::MAIL_LANE;
use watchbell::domain::{MonitorId, NotificationId, OutboxRow, Settlement};
use watchbell::ports::LaneClaim;

use super::bench::{ANN_AND_BOB, Bench, sql_time};
use crate::support::outbox;

pub(super) const ME: &str = "node:me";
const OTHER: &str = "node:other";

pub(super) async fn claim(bench: &Bench, owner: &str, limit: u32) -> Vec<OutboxRow> {
    let now = bench.now();
    outbox::claim(bench.store(), owner, now, now + TimeDelta::minutes(5), limit).await.unwrap()
}

/// When something planned is due.
async fn next_attempt_at(bench: &Bench) -> Option<DateTime<Utc>> {
    bench.store().outlook().await.unwrap().lanes.into_iter().map(|due| due.at).min()
}

pub(super) async fn settle(bench: &Bench, owner: &str, id: NotificationId, settlement: Settlement) -> u64 {
    bench.store().settle_notifications(owner, &[(id, settlement)]).await.unwrap().written
}

pub(super) fn sent(at: DateTime<Utc>) -> Settlement {
    Settlement::Sent { at, answer: "250 ok".to_owned(), external_id: None }
}

fn words(rows: &[OutboxRow]) -> Vec<String> {
    rows.iter().map(|row| format!("{} {}", row.notification_type, row.recipient)).collect()
}

/// A monitor that tells Ann and Bob of every failing run, and recovers at the first ok.
async fn told_often(bench: &Bench) -> MonitorId {
    let columns = [
        ("people_to_notify", format!("'{ANN_AND_BOB}'")),
        ("required_consecutive_oks", "1".to_owned()),
        ("reminder_frequency_minutes", "0".to_owned()),
    ];
    bench.insert(&columns.each_ref().map(|(name, value)| (*name, value.as_str()))).await
}

/// An alert for Ann and for Bob.
async fn one_each(bench: &Bench) -> MonitorId {
    let id = told_often(bench).await;
    bench.fail(id).await;
    id
}

pub(crate) async fn messages_to_one_recipient_keep_their_order(bench: &Bench) {
    let id = one_each(bench).await;
    let first = claim(bench, ME, 10).await;
    assert_eq!(words(&first), ["alert ann@example.com", "alert bob@example.com"]);
    assert!(first.iter().all(|row| row.attempts == 1 && row.uuid == row.thread_uuid && row.monitor_uuid.is_some()));
    bench.fail(id).await;
    assert!(claim(bench, ME, 10).await.is_empty(), "what is being sent holds its line");

    // Ann's alert is taken; Bob's waits for another attempt, and everything after it waits with it.
    let later = bench.now() + TimeDelta::minutes(1);
    let retry = Settlement::Retry { next_attempt_at: later, error: "greylisted".to_owned() };
    let both = [(first[0].id, sent(bench.now())), (first[1].id, retry)];
    assert_eq!(bench.store().settle_notifications(ME, &both).await.unwrap().written, 2);
    let second = claim(bench, ME, 10).await;
    assert_eq!(words(&second), ["reminder ann@example.com"]);
    assert_eq!(second[0].thread_uuid, first[0].uuid, "one thread");

    bench.pass(TimeDelta::minutes(1));
    let again = claim(bench, ME, 10).await;
    assert_eq!(words(&again), ["alert bob@example.com"]);
    assert_eq!((again[0].attempts, &again[0].uuid), (2, &first[1].uuid), "the same key at every attempt");
    // Given up: the next one's turn.
    settle(bench, ME, again[0].id, Settlement::Failed { error: "no such user".to_owned() }).await;
    assert_eq!(words(&claim(bench, ME, 10).await), ["reminder bob@example.com"]);

    bench.succeed(id).await;
    assert!(claim(bench, ME, 10).await.is_empty(), "no recovery before how the reminders end is known");
    settle(bench, ME, second[0].id, sent(bench.now())).await;
    assert_eq!(words(&claim(bench, ME, 10).await), ["recovery ann@example.com"]);
    let ledger = bench.read("SELECT status, attempts, last_error FROM notifications ORDER BY id").await;
    assert_eq!(ledger[..3], ["sent|1|-", "failed|2|no such user", "sent|1|-"]);
}

pub(crate) async fn what_was_not_delivered_is_told_by_its_recovery(bench: &Bench) {
    let id = one_each(bench).await;
    let first = claim(bench, ME, 10).await;
    let retry = |minutes| Settlement::Retry {
        next_attempt_at: bench.now() + TimeDelta::minutes(minutes),
        error: "away".into(),
    };
    let both = [(first[0].id, sent(bench.now())), (first[1].id, retry(30))];
    bench.store().settle_notifications(ME, &both).await.unwrap();
    bench.fail(id).await;
    bench.succeed(id).await;
    let claimed = claim(bench, ME, 10).await;
    assert_eq!(words(&claimed), ["recovery ann@example.com", "recovery bob@example.com"]);
    assert!(!claimed[0].facts.tells_alert && !claimed[0].body.contains("Was down"), "{}", claimed[0].body);
    assert!(claimed[1].facts.tells_alert && claimed[1].body.contains("Was down"), "{}", claimed[1].body);
    // Each row says which one told it in the end, also what had been merged before.
    let merged = bench.read("SELECT type, merged_into FROM notifications WHERE status = 'merged' ORDER BY id").await;
    let (ann, bob) = (claimed[0].id.0, claimed[1].id.0);
    assert_eq!(merged, [format!("alert|{bob}"), format!("reminder|{ann}"), format!("reminder|{bob}")]);
    bench.pass_minutes(60);
    for row in &claimed {
        settle(bench, ME, row.id, sent(bench.now())).await;
    }
    assert!(claim(bench, ME, 10).await.is_empty(), "no alert is tried after its recovery");
}

pub(crate) async fn a_lease_keeps_others_out_until_it_ends(bench: &Bench) {
    one_each(bench).await;
    let mine = claim(bench, ME, 1).await;
    assert_eq!(words(&mine), ["alert ann@example.com"]);
    assert_eq!(words(&claim(bench, OTHER, 10).await), ["alert bob@example.com"]);
    bench.pass(TimeDelta::minutes(5) - TimeDelta::milliseconds(1));
    assert!(claim(bench, OTHER, 10).await.is_empty());
    bench.pass(TimeDelta::milliseconds(1));
    // After an absence of all, whoever has it may be about to write how it ended.
    let (now, lanes) = (bench.now(), [LaneClaim { lane: MAIL_LANE.to_owned(), limit: 10 }]);
    let (until, lapsed_before) = (now + TimeDelta::minutes(5), now - TimeDelta::milliseconds(1));
    let taken = bench.store().claim_notifications(OTHER, now, until, lapsed_before, &lanes).await.unwrap();
    assert_eq!(words(&taken), [""; 0]);
    let taken = claim(bench, OTHER, 10).await;
    assert_eq!(words(&taken), ["alert ann@example.com", "alert bob@example.com"]);
    assert!(taken.iter().all(|row| row.attempts == 2));
}

pub(crate) async fn only_the_holder_settles(bench: &Bench) {
    one_each(bench).await;
    let id = claim(bench, ME, 1).await[0].id;
    assert_eq!(settle(bench, OTHER, id, sent(bench.now())).await, 0);
    let status = format!("SELECT status FROM notifications WHERE id = {}", id.0);
    assert_eq!(bench.value(&status).await, "sending");
    bench.pass_minutes(5);
    assert_eq!(claim(bench, OTHER, 1).await[0].id, id);
    assert_eq!(settle(bench, ME, id, Settlement::Failed { error: "late".to_owned() }).await, 0, "the lease is lost");
    assert_eq!(settle(bench, OTHER, id, sent(bench.now())).await, 1);
    assert_eq!(settle(bench, OTHER, id, Settlement::Failed { error: "twice".to_owned() }).await, 0);
    assert_eq!(bench.value(&status).await, "sent");
    assert_eq!(
        bench.value(&format!("SELECT count(*) FROM notifications WHERE sent_at IS NOT NULL AND id = {}", id.0)).await,
        "1"
    );
}

pub(crate) async fn leases_of_nodes_that_are_gone_are_given_up(bench: &Bench) {
    for _ in 0..3 {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
    }
    let (mine, other, command) =
        (claim(bench, ME, 1).await, claim(bench, OTHER, 1).await, claim(bench, "command:1", 1).await);
    assert_eq!((mine.len(), other.len(), command.len()), (1, 1, 1));
    assert_eq!(bench.store().release_leases_of_others(ME).await.unwrap(), 1, "a command line may still be sending");
    let taken = claim(bench, ME, 10).await;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].id, taken[0].attempts), (other[0].id, 2));
}

pub(crate) async fn a_claim_that_was_not_answered_is_given_up(bench: &Bench) {
    for _ in 0..3 {
        let id = bench.insert_simple().await;
        bench.fail(id).await;
    }
    let (known, unanswered, other) =
        (claim(bench, ME, 1).await, claim(bench, ME, 1).await, claim(bench, OTHER, 1).await);
    assert_eq!((known.len(), unanswered.len(), other.len()), (1, 1, 1));
    assert_eq!(bench.store().release_unknown(ME, &[known[0].id]).await.unwrap(), 1);
    let taken = claim(bench, ME, 10).await;
    assert_eq!((taken.len(), taken[0].id), (1, unanswered[0].id), "not after five minutes, but now");
    assert_eq!(bench.store().release_unknown(ME, &[]).await.unwrap(), 2);
}

pub(crate) async fn the_next_attempt_is_the_earliest_that_can_be_taken(bench: &Bench) {
    assert_eq!(next_attempt_at(bench).await, None);
    let id = one_each(bench).await;
    assert_eq!(next_attempt_at(bench).await, None, "nothing is due before it is planned");
    assert!(bench.store().outlook().await.unwrap().is_unplanned);
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    assert!(!bench.store().outlook().await.unwrap().is_unplanned);
    let queued = bench.now();
    assert!(next_attempt_at(bench).await.is_some_and(|next| next <= queued));
    let claimed = claim(bench, ME, 10).await;
    let lease_end = Some(queued + TimeDelta::minutes(5));
    bench.fail(id).await;
    outbox::plan_all(bench.store(), outbox::no_limits()).await.unwrap();
    assert_eq!(next_attempt_at(bench).await, lease_end, "what waits in line is not due before");
    let retry =
        |minutes| Settlement::Retry { next_attempt_at: queued + TimeDelta::minutes(minutes), error: "down".to_owned() };
    settle(bench, ME, claimed[0].id, retry(3)).await;
    settle(bench, ME, claimed[1].id, retry(2)).await;
    assert_eq!(next_attempt_at(bench).await, Some(queued + TimeDelta::minutes(2)));
    let tomorrow = queued + TimeDelta::days(1);
    let held = format!("UPDATE notifications SET status = 'held', next_attempt_at = {}", sql_time(tomorrow));
    bench.sql(&held).await;
    assert_eq!(next_attempt_at(bench).await, None);
    assert_eq!(bench.store().outlook().await.unwrap().held_until, Some(tomorrow), "then it is looked at anew");
    assert!(claim(bench, ME, 10).await.is_empty());
    // Somebody has it tried at once.
    bench.sql("UPDATE notifications SET status = 'pending', next_attempt_at = '2026-01-01 00:00:00' WHERE type = 'reminder'").await;
    assert_eq!(claim(bench, ME, 10).await.len(), 2);
}

pub(crate) async fn a_row_that_cannot_be_read_steps_aside(bench: &Bench) {
    let values = "'critical', 'ann@example.com', 's', 'b'";
    let columns = "type, severity, recipient, subject, body";
    bench.sql(&format!("INSERT INTO notifications ({columns}) VALUES ('telegram', {values})")).await;
    bench.sql(&format!("INSERT INTO notifications ({columns}) VALUES ('alert', {values})")).await;
    bench.pass_minutes(60);
    let claimed = claim(bench, ME, 10).await;
    assert_eq!(words(&claimed), ["alert ann@example.com"]);
    assert_eq!((claimed[0].incident_id, claimed[0].monitor_id, &claimed[0].monitor_uuid), (None, None, &None));
    let ledger = bench.read("SELECT status, lease_owner FROM notifications ORDER BY id").await;
    assert_eq!(ledger, ["failed|-".to_owned(), format!("sending|{ME}")]);
    let error = bench.value("SELECT last_error FROM notifications WHERE status = 'failed'").await;
    assert!(error.contains("telegram"), "{error}");
}

pub(crate) async fn a_backlog_is_taken_in_pieces(bench: &Bench) {
    bench.sql(&bench.database.many_monitors(5_000)).await;
    bench
        .sql(
            "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body) \
             SELECT id, id, 'alert', 'critical', 'ann@example.com', 's', 'b' FROM monitors",
        )
        .await;
    bench.pass_minutes(60);
    let mut taken = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let claimed = claim(bench, ME, 500).await;
        assert_eq!(claimed.len(), 500);
        taken.extend(claimed.iter().map(|row| row.id));
        let settlements: Vec<_> = claimed.iter().map(|row| (row.id, sent(bench.now()))).collect();
        assert_eq!(bench.store().settle_notifications(ME, &settlements).await.unwrap().written, 500);
    }
    assert_eq!(taken.len(), 5_000);
    assert!(claim(bench, ME, 500).await.is_empty());
}
