//! The change log: what people do is seen, what Watchbell does is not.

use chrono::TimeDelta;
use watchbell::domain::{Cause, DiscardReason, MonitorId, MonitorRow};
use watchbell::ports::{Applied, ChangeCursor};
use watchbell_contract::Outcome;

use super::bench::Bench;

type Seen = Vec<(MonitorId, Option<MonitorRow>)>;

/// All that changed since `after`.
async fn since(bench: &Bench, after: ChangeCursor) -> (Seen, ChangeCursor) {
    let changes = bench.store().changes(after, 1_000).await.unwrap();
    assert!(!changes.has_more);
    (changes.monitors, changes.cursor)
}

pub(crate) async fn an_insert_an_update_and_a_delete_are_seen_with_fresh_rows(bench: &Bench) {
    let start = bench.store().change_cursor().await.unwrap();
    assert!(since(bench, start).await.0.is_empty());
    let id = bench.insert_simple().await;
    let (seen, cursor) = since(bench, start).await;
    let [(changed, Some(inserted))] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((*changed, inserted.last_run_at), (id, None));
    assert!(since(bench, cursor).await.0.is_empty(), "what was read is not read again");
    assert_eq!(bench.store().change_cursor().await.unwrap(), cursor);

    bench.sql("UPDATE monitors SET name = 'one'").await;
    bench.sql("UPDATE monitors SET name = 'two', state = 'alert'").await;
    let (seen, cursor) = since(bench, cursor).await;
    let [(_, Some(updated))] = &seen[..] else { panic!("once: {seen:?}") };
    assert_eq!(updated.name, "two");
    assert!(updated.revision > inserted.revision);

    bench.sql("DELETE FROM monitors").await;
    assert_eq!(since(bench, cursor).await.0, [(id, None)]);
}

pub(crate) async fn ten_thousand_rows_in_one_transaction_are_seen_in_pages(bench: &Bench) {
    let mut cursor = bench.store().change_cursor().await.unwrap();
    bench.sql(&bench.database.many_monitors(10_000)).await;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let changes = bench.store().changes(cursor, 3_000).await.unwrap();
        assert!(changes.monitors.len() <= 3_000);
        assert!(changes.monitors.iter().all(|(_, row)| row.is_some()));
        seen.extend(changes.monitors.into_iter().map(|(id, _)| id));
        cursor = changes.cursor;
        if !changes.has_more {
            break;
        }
    }
    assert_eq!(seen.len(), 10_000);
    assert!(since(bench, cursor).await.0.is_empty());

    let mut paged = Vec::new();
    while let page = bench.store().monitors(paged.last().copied().unwrap_or(MonitorId(i64::MIN)), 3_333).await.unwrap()
        && !page.is_empty()
    {
        paged.extend(page.into_iter().map(|row| row.id));
    }
    assert!(paged.iter().eq(seen.iter()), "all rows, each once, by ascending id");

    bench.sql("UPDATE monitors SET last_run_at = NULL").await;
    let changes = bench.store().changes(cursor, 30_000).await.unwrap();
    assert_eq!((changes.monitors.len(), changes.has_more), (10_000, false), "a bulk UPDATE asks for all");
}

pub(crate) async fn own_writes_wake_nobody(bench: &Bench) {
    let id = bench.insert_simple().await;
    let cursor = bench.store().change_cursor().await.unwrap();
    let before = bench.row(id).await;
    let run = bench.without_tick(id, Cause::First, Outcome::failed("broken")).await;
    bench.apply(run).await;
    bench.fail(id).await;
    bench.succeed(id).await;
    assert!(since(bench, cursor).await.0.is_empty());
    let after = bench.row(id).await;
    assert_eq!((after.revision, after.recheck_seq), (before.revision, before.recheck_seq));
    assert_eq!(after.write_seq, before.write_seq + 3);

    bench.sql("UPDATE monitors SET state = 'ok' WHERE state = 'alert'").await;
    bench.settle_edit(id).await;
    assert!(since(bench, cursor).await.0.is_empty(), "an UPDATE that met no row, and an edit that was settled");
}

pub(crate) async fn a_null_that_is_already_there_is_a_new_request(bench: &Bench) {
    let id = bench.insert_simple().await;
    let mut cursor = bench.store().change_cursor().await.unwrap();
    let mut last = bench.row(id).await.recheck_seq;
    for _ in 0..3 {
        bench.sql("UPDATE monitors SET last_run_at = NULL").await;
        let (seen, next) = since(bench, cursor).await;
        let [(_, Some(row))] = &seen[..] else { panic!("{seen:?}") };
        assert!(row.recheck_seq > last);
        (cursor, last) = (next, row.recheck_seq);
    }
    bench.sql("UPDATE monitors SET name = 'edited'").await;
    assert_eq!(bench.row(id).await.recheck_seq, last, "an edit of another column asks for nothing");
    // To wait for the first tick instead, a row is inserted with `last_run_at` set.
    let waits = bench.insert(&[("last_run_at", "'2026-01-01 00:00:00'")]).await;
    assert!(bench.row(waits).await.last_run_at.is_some());
}

pub(crate) async fn updated_at_follows_the_configuration_only(bench: &Bench) {
    let id = bench.insert(&[("updated_at", "'2026-01-01 00:00:00'"), ("people_to_notify", "'[]'")]).await;
    let updated_at = "SELECT updated_at FROM monitors";
    let old = bench.value(updated_at).await;
    bench.fail(id).await;
    for edit in ["state = 'ok'", "last_run_at = NULL", "consecutive_ok_count = 1", "last_notification_at = NULL"] {
        bench.sql(&format!("UPDATE monitors SET {edit}")).await;
        assert_eq!(bench.value(updated_at).await, old, "{edit}");
    }
    for edit in [
        "is_active = 0",
        "name = 'x'",
        "kind = 'x'",
        "schedule = '@daily'",
        "timezone = 'Europe/Berlin'",
        r#"config = '{"a": 1}'"#,
        "severity = 'info'",
        r#"labels = '{"a": "b"}'"#,
        "runs_on = 'a=b'",
        "timeout_seconds = 31",
        "retries = 1",
        "retry_delay_seconds = 6",
        "required_consecutive_oks = 3",
        "required_consecutive_alerts = 2",
        "reminder_frequency_minutes = NULL",
        "people_to_notify = NULL",
        "missed_tick_policy = 'skip'",
    ] {
        bench.sql("UPDATE monitors SET updated_at = '2026-01-01 00:00:00'").await;
        assert_eq!(bench.value(updated_at).await, old);
        bench.sql(&format!("UPDATE monitors SET {edit}")).await;
        assert_ne!(bench.value(updated_at).await, old, "{edit}");
    }
}

pub(crate) async fn a_pruned_log_keeps_its_place(bench: &Bench) {
    bench.sql(&bench.database.many_monitors(10)).await;
    let cursor = bench.store().change_cursor().await.unwrap();
    bench.pass(TimeDelta::days(1));
    bench.store().prune_changes(3).await.unwrap();
    assert_eq!(bench.value("SELECT count(*) FROM monitor_changes").await, "3");
    bench.store().prune_changes(0).await.unwrap();
    assert_eq!(bench.value("SELECT count(*) FROM monitor_changes").await, "1", "the newest tells where it goes on");
    bench.store().prune_changes(0).await.unwrap();
    assert_eq!(bench.store().change_cursor().await.unwrap(), cursor);
    assert!(since(bench, cursor).await.0.is_empty());
    bench.sql("UPDATE monitors SET name = 'edited' WHERE name = 'monitor 7'").await;
    assert_eq!(since(bench, cursor).await.0.len(), 1, "a pruned log goes on where it was");
    assert!(bench.store().change_cursor().await.unwrap() > cursor);
}

/// A burst of edits is longer than what is kept, and nobody has read it yet.
pub(crate) async fn what_was_just_written_is_not_pruned(bench: &Bench) {
    let cursor = bench.store().change_cursor().await.unwrap();
    bench.sql(&bench.database.many_monitors(50)).await;
    bench.store().prune_changes(3).await.unwrap();
    assert_eq!(since(bench, cursor).await.0.len(), 50);
}

/// The new row is another question, is checked at once, and takes no outcome of the old one.
pub(crate) async fn a_row_written_again_under_its_id_is_a_new_edit(bench: &Bench) {
    let id = bench.insert_simple().await;
    let cursor = bench.store().change_cursor().await.unwrap();
    bench.pass_minutes(1);
    let run = bench.tick(id, Outcome::failed("broken")).await;
    bench.sql(&bench.database.replace_monitor(id, "other")).await;
    let (seen, _) = since(bench, cursor).await;
    let [(_, Some(row))] = &seen[..] else { panic!("{seen:?}") };
    assert!(row.revision > run.monitor.revision && row.recheck_seq > run.monitor.recheck_seq, "{row:?}");
    assert_eq!(row.last_run_at, None);
    assert_eq!(bench.apply(run).await, Applied::Discarded(DiscardReason::QuestionEdited));
}
