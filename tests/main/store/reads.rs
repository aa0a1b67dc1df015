//! What runs often reads few rows, however many are settled: counted by the servers themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use watchbell::domain::planning::MAIL_LANE;
use watchbell::domain::{Cause, FinishedRun, MonitorId, Policy, Settlement, decide_run};
use watchbell::ports::{Clock, LaneClaim, NodeIdentity, Store, SystemClock, Work};
use watchbell::store::SqlStore;
use watchbell_contract::Outcome;

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::outbox;
use crate::support::person::Person;
use crate::support::postgres::{Postgres, PostgresOptions};

/// Of 20,000 monitors, 100,000 settled and 400 waiting notifications a call may read so many, in each table.
const MOST_ROWS: i64 = 5_000;

/// `{numbers N}` is a table with a column `i`.
const FILL: [&str; 5] = [
    "INSERT INTO monitors (name, kind, schedule, people_to_notify, last_run_at) \
     SELECT 'monitor', 'test', '* * * * *', '[\"ann@example.com\"]', '2026-11-21 12:00:00' FROM {numbers 20000}",
    "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message, recovered_at) \
     SELECT i, 'monitor', '2026-11-20 12:00:00', 'broken', '2026-11-20 13:00:00' FROM {numbers 20000}",
    "INSERT INTO incidents (monitor_id, monitor_name, opened_at, opening_message) \
     SELECT i * 50, 'monitor', '2026-11-21 12:00:00', 'broken' FROM {numbers 200}",
    "INSERT INTO notifications (monitor_id, incident_id, type, severity, recipient, subject, body, status, planned_at, \
       created_at, next_attempt_at, sent_at) \
     SELECT 1 + i % 20000, 1 + i % 20000, 'reminder', 'critical', concat('r', i % 500, '@x.test'), 's', 'b', 'sent', \
       '2026-11-20 12:00:00', '2026-11-20 12:00:00', '2026-11-20 12:00:00', '2026-11-20 12:00:01' FROM {numbers 100000}",
    "INSERT INTO notifications (monitor_id, type, severity, recipient, subject, body, status, planned_at, created_at, \
       next_attempt_at) \
     SELECT 1 + i % 100, 'notice', 'critical', concat('r', i % 20, '@x.test'), 's', 'b', 'pending', \
       '2026-11-21 12:00:00', '2026-11-21 12:00:00', '2026-11-21 12:00:00' FROM {numbers 400}",
];

/// A filled database, and how its server counts.
struct Site {
    url: String,
    person: Person,
    /// Rows read of each table.
    counts: &'static str,
    /// No connection of a store is there any more, so that all it read is counted.
    is_idle: &'static str,
}

impl Site {
    async fn fill(&mut self, numbers: fn(&str) -> String, analyze: &str) {
        SqlStore::open(&self.url, Arc::new(SystemClock)).await.unwrap().close().await;
        for statement in FILL {
            let (before, rest) = statement.split_once("{numbers ").unwrap();
            let (count, after) = rest.split_once('}').unwrap();
            self.person.must(&format!("{before}{}{after}", numbers(count))).await;
        }
        self.person.must(analyze).await;
    }

    async fn read_so_far(&mut self) -> BTreeMap<String, i64> {
        while self.person.value(self.is_idle).await.unwrap() != "1" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rows = self.person.read(self.counts).await.unwrap();
        let row = |row: Vec<Option<String>>| match &row[..] {
            [Some(table), Some(rows)] => (table.clone(), rows.parse().unwrap()),
            other => panic!("{other:?}"),
        };
        rows.into_iter().map(row).collect()
    }

    /// A call by a store that is opened for it alone.
    async fn measure(&mut self, what: &str, call: impl AsyncFnOnce(&SqlStore)) -> Option<String> {
        let before = self.read_so_far().await;
        let store = SqlStore::open(&self.url, Arc::new(SystemClock)).await.unwrap();
        call(&store).await;
        store.close().await;
        let after = self.read_so_far().await;
        let many = |(table, rows): &(String, i64)| {
            let read = rows - before.get(table).copied().unwrap_or_default();
            (read > MOST_ROWS).then(|| format!("{what} reads {read} rows of {table}"))
        };
        let many: Vec<String> = after.into_iter().filter_map(|counted| many(&counted)).collect();
        (!many.is_empty()).then(|| many.join("; "))
    }

    async fn check_all(mut self) {
        let mut found = Vec::new();
        let now = SystemClock.now();
        let node = NodeIdentity { uuid: "u".to_owned(), name: "n".to_owned() };
        let policy = Policy { admins: Vec::new(), default_zone: chrono_tz::UTC };
        let decide = move |work: &Work, current: &_| match work {
            Work::Run(run) => decide_run(run, current, &policy),
            Work::Edit { .. } => panic!("no run"),
        };
        for is_ok in [false, true, true, false] {
            let applying = async |store: &SqlStore| {
                let mut work = Vec::new();
                for row in store.monitors(MonitorId(5_000), 50).await.unwrap() {
                    work.push(run(row, is_ok));
                }
                store.apply(&node, &work, &decide).await.unwrap();
            };
            found.extend(self.measure("apply", applying).await);
        }
        let plan = async |store: &SqlStore| outbox::plan_all(store, outbox::no_limits()).await.unwrap();
        found.extend(self.measure("planning", plan).await);
        let look = async |store: &SqlStore| drop(store.outlook().await.unwrap());
        found.extend(self.measure("outlook", look).await);
        let deliver = async |store: &SqlStore| {
            let lanes = [LaneClaim { lane: MAIL_LANE.to_owned(), limit: 20 }];
            let until = now + TimeDelta::minutes(5);
            let claimed = store.claim_notifications("node:u", Utc::now(), until, Utc::now(), &lanes).await.unwrap();
            assert_eq!(claimed.len(), 20);
            let sent = || Settlement::Sent { at: now, answer: String::new(), external_id: None };
            let settled: Vec<_> = claimed.iter().map(|row| (row.id, sent())).collect();
            store.settle_notifications("node:u", &settled).await.unwrap();
        };
        found.extend(self.measure("claim and settle", deliver).await);
        let changes = async |store: &SqlStore| {
            let cursor = store.change_cursor().await.unwrap();
            drop(store.changes(cursor, 1_000).await.unwrap());
        };
        found.extend(self.measure("changes", changes).await);
        let acknowledgments = async |store: &SqlStore| {
            assert_eq!(store.tell_acknowledgments(now, 100, &|_| Vec::new()).await.unwrap(), 0)
        };
        found.extend(self.measure("acknowledgments", acknowledgments).await);
        let state = async |store: &SqlStore| drop(store.outbox_state(now - TimeDelta::days(1)).await.unwrap());
        found.extend(self.measure("outbox_state", state).await);
        assert!(found.is_empty(), "{}", found.join("\n"));
        self.person.close().await.unwrap();
    }
}

fn run(row: watchbell::domain::MonitorRow, is_ok: bool) -> Work {
    Work::Run(Box::new(FinishedRun {
        monitor: Arc::new(row),
        cause: Cause::Schedule,
        tick: Some(Utc::now()),
        started_at: Utc::now(),
        duration: Duration::from_millis(7),
        outcome: if is_ok { Outcome::ok("fine") } else { Outcome::failed("broken") },
        config_error: None,
        next_run_at: None,
        skipped_ticks: 0,
        missed_ticks: 0,
    }))
}

#[tokio::test]
async fn postgres() {
    let server = Postgres::own(PostgresOptions::default());
    let url = server.fresh_database().await;
    let mut site = Site {
        person: Person::connect(&url).await.unwrap(),
        url,
        counts: "SELECT t.relname::text, t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0) FROM pg_stat_user_tables t \
            LEFT JOIN pg_stat_user_indexes i ON i.relid = t.relid GROUP BY t.relid, t.relname, t.seq_tup_read",
        is_idle: "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'watchbell'",
    };
    site.fill(|count| format!("generate_series(1, {count}) AS g (i)"), "ANALYZE").await;
    site.check_all().await;
}

#[tokio::test]
async fn mariadb() {
    let settings = vec![("userstat", "1".to_owned())];
    let server = MariaDb::own(MariaDbOptions { settings, ..Default::default() });
    let url = server.fresh_database().await;
    let mut site = Site {
        person: Person::connect(&url).await.unwrap(),
        url,
        counts: "SELECT table_name, rows_read FROM information_schema.table_statistics WHERE table_schema = database()",
        is_idle: "SELECT count(*) = 1 FROM information_schema.processlist WHERE user = 'watchbell'",
    };
    let analyze = "ANALYZE TABLE monitors, notifications, incidents";
    site.fill(|count| format!("(SELECT seq AS i FROM seq_1_to_{count}) AS g"), analyze).await;
    site.check_all().await;
}
