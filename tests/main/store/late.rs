//! The change log of a server: entries are numbered when they are written, and seen when their transactions commit.

use std::collections::BTreeMap;

use watchbell::domain::MonitorId;
use watchbell::ports::{ChangeCursor, Store};

use super::bench::Bench;
use crate::support::person::Person;

const SESSIONS: i64 = 8;
const EDITS: i64 = 5_000;
const EDITED: i64 = 40;

fn insert(name: &str) -> String {
    format!("INSERT INTO monitors (name, kind, schedule) VALUES ('{name}', 'test', '@hourly')")
}

/// The names of what changed since, sorted.
async fn seen(store: &dyn Store, cursor: &mut ChangeCursor) -> Vec<String> {
    let changes = store.changes(*cursor, 1_000).await.unwrap();
    *cursor = changes.cursor;
    let mut names: Vec<String> =
        changes.monitors.into_iter().map(|(id, row)| row.map_or(format!("{id} is gone"), |row| row.name)).collect();
    names.sort();
    names
}

/// Also the very first entry of all, and one that began before a reader did.
pub(crate) async fn what_commits_late_is_seen(bench: &Bench) {
    let (mut slow, mut quick) = (bench.person().await, bench.person().await);
    let mut cursor = bench.store().change_cursor().await.unwrap();
    for round in 0..3 {
        slow.must("BEGIN").await;
        slow.must(&insert(&format!("slow {round}"))).await;
        quick.must(&insert(&format!("quick {round}"))).await;
        assert_eq!(seen(bench.store(), &mut cursor).await, [format!("quick {round}")]);
        let fresh = bench.second_store().await;
        let mut fresh_cursor = fresh.change_cursor().await.unwrap();
        assert!(seen(&fresh, &mut fresh_cursor).await.is_empty());
        slow.must("COMMIT").await;
        assert_eq!(seen(&fresh, &mut fresh_cursor).await, [format!("slow {round}")], "by one that started meanwhile");
        assert_eq!(seen(bench.store(), &mut cursor).await, [format!("slow {round}")]);
        assert!(seen(bench.store(), &mut cursor).await.is_empty(), "once");
        fresh.close().await;
    }
    close(slow).await;
    close(quick).await;
}

pub(crate) async fn what_is_taken_back_does_no_harm(bench: &Bench) {
    let (mut slow, mut quick) = (bench.person().await, bench.person().await);
    let mut cursor = bench.store().change_cursor().await.unwrap();
    for round in 0..20 {
        slow.must("BEGIN").await;
        slow.must(&insert("never")).await;
        quick.must(&insert(&format!("quick {round}"))).await;
        assert_eq!(seen(bench.store(), &mut cursor).await, [format!("quick {round}")]);
        slow.must("ROLLBACK").await;
        assert!(seen(bench.store(), &mut cursor).await.is_empty());
    }
    close(slow).await;
    close(quick).await;
}

pub(crate) async fn who_may_only_insert_is_seen(bench: &Bench) {
    let url = bench.database.describe();
    let (_, database) = url.rsplit_once('/').unwrap();
    let user = format!("adds_to_{database}");
    let own_url = if url.starts_with("postgres") {
        bench
            .sql(&format!("CREATE ROLE {user} LOGIN; GRANT INSERT (name, kind, schedule) ON monitors TO {user}"))
            .await;
        url.replacen("watchbell@", &format!("{user}@"), 1)
    } else {
        bench.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'p'")).await;
        bench.sql(&format!("GRANT INSERT ON {database}.monitors TO {user}@'%'")).await;
        let (_, host) = url.rsplit_once('@').unwrap();
        format!("mysql://{user}:p@{host}")
    };
    let mut cursor = bench.store().change_cursor().await.unwrap();
    let mut person = Person::connect(&own_url).await.unwrap();
    person.must(&insert("registered")).await;
    assert_eq!(seen(bench.store(), &mut cursor).await, ["registered"]);
    assert!(person.read("SELECT id FROM monitors").await.is_err(), "it may do nothing else");
    close(person).await;
}

pub(crate) async fn every_edit_of_many_sessions_is_seen(bench: &Bench) {
    bench.sql(&bench.database.many_monitors(u32::try_from(EDITED).unwrap())).await;
    let mut cursor = bench.store().change_cursor().await.unwrap();
    let mut revisions: BTreeMap<MonitorId, i64> = BTreeMap::new();
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let mut person = bench.person().await;
        sessions.spawn(async move {
            for number in 0..EDITS / SESSIONS {
                // Each session has monitors of its own, so that nobody waits for a lock; every 50th takes its time.
                let monitor = 1 + session + SESSIONS * (number % (EDITED / SESSIONS));
                let edit = format!("UPDATE monitors SET name = 'edit {number}' WHERE id = {monitor}");
                match number % 50 {
                    0 => {
                        person.must("BEGIN").await;
                        person.must(&edit).await;
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        person.must("COMMIT").await;
                    }
                    1 => {
                        person.must("BEGIN").await;
                        person.must(&edit).await;
                        person.must("ROLLBACK").await;
                    }
                    _ => person.must(&edit).await,
                }
            }
            close(person).await;
        });
    }
    loop {
        let is_over = sessions.is_empty();
        let changes = bench.store().changes(cursor, 200).await.unwrap();
        cursor = changes.cursor;
        for (id, row) in changes.monitors {
            let revision = row.unwrap().revision;
            let last = revisions.insert(id, revision);
            assert!(last.is_none_or(|last| last <= revision), "what is read later is not older");
        }
        if is_over && !changes.has_more {
            break;
        }
        while let Some(ended) = sessions.try_join_next() {
            ended.unwrap();
        }
    }
    let rows = bench.store().monitors(MonitorId(0), 1_000).await.unwrap();
    let as_they_are: BTreeMap<MonitorId, i64> = rows.iter().map(|row| (row.id, row.revision)).collect();
    assert_eq!(revisions, as_they_are);
}

async fn close(person: Person) {
    person.close().await.unwrap();
}
