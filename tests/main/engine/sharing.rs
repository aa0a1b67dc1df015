//! Several engines over one database in one process: they share the monitors, take over from each other, hand over, and
//! do nothing without a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use watchbell::domain::planning::Limits;
use watchbell::domain::{HistoryPolicy, MonitorId, NotificationId, Policy, Settlement};
use watchbell::engine::{Alive, Engine, Kinds, Membership, MembershipError, Parts, StartError};
use watchbell::ports::{Clock, MailOnly, NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::NoSecrets;

use super::Nowhere;
use super::misbehaving::Child;
use super::proxy::Proxy;
use crate::support::node::SOON;

/// As short as the margin allows: a second of it is not used.
const LEASE: TimeDelta = TimeDelta::seconds(3);

/// The machine's clock, as if somebody had set it.
struct Shifted(TimeDelta);

impl Clock for Shifted {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.0
    }
}

struct Site {
    store: Arc<dyn Store>,
    database: SqliteConnection,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("watchbell.db").display());
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
        Self { store, database: SqliteConnection::connect(&url).await.unwrap(), _folder: folder }
    }

    /// A node, and what stands between it and the database.
    async fn node(&self, name: &str) -> (Engine, Arc<AtomicBool>) {
        let (store, proxy) = Proxy::before(self.store.clone());
        (self.start(name, store, TimeDelta::zero()).await.unwrap(), proxy.is_away.clone())
    }

    async fn start(&self, name: &str, store: Arc<dyn Store>, shift: TimeDelta) -> Result<Engine, StartError> {
        let labels = BTreeMap::from([("is".to_owned(), name.to_owned())]);
        let parts = Parts {
            store,
            channels: Arc::new(MailOnly(Arc::new(Nowhere))),
            clock: Arc::new(Shifted(shift)),
            kinds: Arc::new(Kinds::new(vec![Box::new(Child)], Arc::new(NoSecrets)).unwrap()),
            node: NodeIdentity { uuid: uuid(name), name: name.to_owned() },
            membership: Membership { labels, lease: LEASE, ..Membership::default() },
            policy: Policy { admins: vec!["admin@x.test".to_owned()], default_zone: chrono_tz::UTC },
            limits: Limits::default(),
            max_concurrent_checks: 16,
            shutdown_grace: Duration::from_secs(3),
            keep_history: HistoryPolicy::default(),
            is_only_node: false,
            alive: Alive::default(),
        };
        Engine::start(parts, cron()).await
    }

    async fn register(&mut self, count: i64, schedule: &str, does: &str, more: (&str, &str)) {
        let sql = format!(
            "INSERT INTO monitors (name, kind, schedule, config, timeout_seconds, people_to_notify{}) \
             VALUES ('m', 'child', ?1, json_object('does', ?2), 60, '[\"ops@x.test\"]'{})",
            more.0, more.1
        );
        for _ in 0..count {
            let insert = sqlx::query(AssertSqlSafe(sql.clone())).bind(schedule).bind(does);
            insert.execute(&mut self.database).await.unwrap();
        }
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.database).await.unwrap()
    }

    async fn wait_until(&mut self, sql: &str) {
        let began = Instant::now();
        while self.number(sql).await == 0 {
            assert!(began.elapsed() < SOON, "waited in vain: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The lease of every node ended then.
    async fn was_away_for_ten_minutes(&mut self) {
        sqlx::query("UPDATE nodes SET lease_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-600 seconds')")
            .execute(&mut self.database)
            .await
            .unwrap();
    }

    /// Runs after the run with this id, by node.
    async fn runs_by_node(&mut self, after: i64) -> BTreeMap<String, i64> {
        let sql = "SELECT node, count(*) FROM monitor_runs WHERE id > ?1 GROUP BY node";
        let rows = sqlx::query(sql).bind(after).fetch_all(&mut self.database).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// No tick of a monitor has two runs.
    async fn no_tick_is_applied_twice(&mut self) {
        let sql = "SELECT count(*) FROM (SELECT monitor_id, count(*) AS runs, count(DISTINCT tick_at) AS ticks \
             FROM monitor_runs WHERE tick_at IS NOT NULL GROUP BY monitor_id) WHERE runs <> ticks";
        assert_eq!(self.number(sql).await, 0, "a tick was applied twice");
    }
}

fn uuid(name: &str) -> String {
    format!("00000000-0000-4000-8000-00000000000{}", name.len())
}

const EACH_RAN_TWICE_SINCE: &str = "SELECT count(*) >= 40 FROM (SELECT monitor_id FROM monitor_runs WHERE id > @ AND \
     tick_at IS NOT NULL GROUP BY monitor_id HAVING count(*) >= 2)";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_share_and_one_that_is_lost_is_replaced() {
    let mut site = Site::new().await;
    site.register(40, "* * * * * *", "well", ("", "")).await;
    let (one, _) = site.node("a").await;
    site.wait_until(&EACH_RAN_TWICE_SINCE.replace('@', "0")).await;
    assert_eq!(site.runs_by_node(0).await.len(), 1);

    let (two, two_is_away) = site.node("bb").await;
    site.wait_until("SELECT count(DISTINCT node) = 2 FROM monitor_runs").await;
    let joined = site.number("SELECT max(id) FROM monitor_runs").await;
    site.wait_until(&EACH_RAN_TWICE_SINCE.replace('@', &joined.to_string())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let owners = "SELECT count(*) FROM (SELECT monitor_id FROM monitor_runs WHERE started_at > \
         strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 seconds') GROUP BY monitor_id HAVING count(DISTINCT node) > 1)";
    assert_eq!(site.number(owners).await, 0, "each has one owner");
    let shares = site.number("SELECT min(monitor_count) >= 10 AND sum(monitor_count) = 40 FROM nodes").await;
    assert_eq!(shares, 1, "both have a fair share");

    // Lost: it cannot reach the database any more.
    two_is_away.store(true, Ordering::SeqCst);
    let (lost, lost_at) = (site.number("SELECT max(id) FROM monitor_runs").await, Instant::now());
    site.wait_until(&EACH_RAN_TWICE_SINCE.replace('@', &lost.to_string())).await;
    let taken_over = lost_at.elapsed();
    assert!(taken_over < Duration::from_secs(9), "taken over after {taken_over:?}");
    let begun = two.figures().counts.get("runs_applied").copied();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(two.figures().counts.get("runs_applied").copied(), begun, "without a lease nothing is run");
    assert!(two.figures().counts["checks_not_begun"] > 0);

    // Back, it has its share again, and what it had in hand is not applied over what others did.
    two_is_away.store(false, Ordering::SeqCst);
    let back = site.number("SELECT max(id) FROM monitor_runs").await;
    site.wait_until(&format!("SELECT count(DISTINCT node) = 2 FROM monitor_runs WHERE id > {back}")).await;
    site.no_tick_is_applied_twice().await;
    one.shutdown().await;
    two.shutdown().await;
    assert_eq!(site.number("SELECT count(*) FROM nodes").await, 0, "who stops in order leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_stops_hands_over_without_losing_a_tick() {
    let mut site = Site::new().await;
    // Skipped ticks would be lost for good: the hand-over must not make any.
    site.register(40, "@every 2s", "well", (", missed_tick_policy", ", 'skip'")).await;
    // These hold up the end of the node that has them, and must not hold up the hand-over.
    site.register(10, "@every 2s", "hang", ("", "")).await;
    let (one, _) = site.node("a").await;
    let (two, _) = site.node("bb").await;
    site.wait_until("SELECT min(monitor_count) > 0 AND count(*) = 2 FROM nodes").await;
    site.wait_until(&EACH_RAN_TWICE_SINCE.replace('@', "0")).await;
    // So that a tick falls into it.
    let millis = 2_000 - u64::try_from(Utc::now().timestamp_millis() % 2_000).unwrap();
    tokio::time::sleep(Duration::from_millis((millis + 1_950) % 2_000)).await;
    let before = site.number("SELECT max(id) FROM monitor_runs").await;
    two.shutdown().await;
    site.wait_until(&EACH_RAN_TWICE_SINCE.replace('@', &before.to_string())).await;
    one.shutdown().await;
    let gaps = "SELECT count(*) FROM (SELECT (julianday(tick_at) - julianday(lag(tick_at) OVER \
           (PARTITION BY monitor_id ORDER BY tick_at))) * 86400 AS gap FROM monitor_runs \
           WHERE tick_at IS NOT NULL AND monitor_id <= 40) WHERE gap > 2.5";
    assert_eq!(site.number(gaps).await, 0, "a tick was lost");
    site.no_tick_is_applied_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_monitor_runs_where_its_selector_says_and_moves_with_an_edit() {
    let mut site = Site::new().await;
    site.register(6, "* * * * * *", "well", (", runs_on", ", 'is=bb'")).await;
    let (one, _) = site.node("a").await;
    let (two, _) = site.node("bb").await;
    site.wait_until("SELECT count(*) = 2 FROM nodes").await;
    site.wait_until("SELECT max(monitor_count) = 6 AND min(monitor_count) = 0 FROM nodes").await;
    sqlx::query("UPDATE monitors SET runs_on = 'name=a' WHERE id <= 3").execute(&mut site.database).await.unwrap();
    // As if they had been there for long: nobody else is about to start.
    sqlx::query("UPDATE nodes SET started_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 minutes')")
        .execute(&mut site.database)
        .await
        .unwrap();
    sqlx::query("UPDATE monitors SET runs_on = 'is=nobody' WHERE id = 6").execute(&mut site.database).await.unwrap();
    site.wait_until("SELECT count(*) = 1 FROM monitors WHERE id = 6 AND state = 'alert' AND config_error LIKE '%selects none of the 2%'")
        .await;
    let edited = site.number("SELECT max(id) FROM monitor_runs").await;
    site.wait_until(&format!("SELECT count(*) >= 6 FROM monitor_runs WHERE monitor_id <= 3 AND id > {edited}")).await;
    let strays =
        format!("SELECT count(*) FROM monitor_runs WHERE id > {edited} + 6 AND monitor_id <= 3 AND node <> 'a'");
    assert_eq!(site.number(&strays).await, 0);
    sqlx::query("UPDATE monitors SET runs_on = NULL WHERE id = 6").execute(&mut site.database).await.unwrap();
    site.wait_until("SELECT count(*) = 1 FROM monitors WHERE id = 6 AND config_error IS NULL").await;
    assert_eq!(site.store.monitor(MonitorId(6)).await.unwrap().unwrap().config_error, None);
    one.shutdown().await;
    two.shutdown().await;
}

/// Its lease was written, and the answer to that was lost: it is alive before it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_absence_is_told_also_where_the_answer_to_the_first_renewal_is_lost() {
    let mut site = Site::new().await;
    let (store, proxy) = Proxy::before(site.store.clone());
    let node = site.start("a", store, TimeDelta::zero()).await.unwrap();
    proxy.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.was_away_for_ten_minutes().await;
    proxy.loses_renewals.store(1, Ordering::SeqCst);
    proxy.is_away.store(false, Ordering::SeqCst);
    site.wait_until("SELECT count(*) = 1 FROM notifications WHERE recipient = 'admin@x.test' AND subject LIKE '%nothing was watched%'")
        .await;
    assert_eq!(proxy.loses_renewals.load(Ordering::SeqCst), 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_lease_nothing_is_sent_and_an_absence_is_told_once() {
    let mut site = Site::new().await;
    site.register(1, "@every 1s", "panic_at_once", ("", "")).await;
    let (node, is_away) = site.node("a").await;
    site.wait_until("SELECT count(*) = 1 FROM notifications WHERE status = 'sent'").await;
    is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Written by somebody else, due at once, and to be sent by nobody.
    sqlx::query("INSERT INTO notifications (type, severity, recipient, subject, body) VALUES ('notice', 'info', 'b@x.test', 's', 'b')")
        .execute(&mut site.database)
        .await
        .unwrap();
    let run = site.number("SELECT max(id) FROM monitor_runs").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.number("SELECT count(*) FROM notifications WHERE status = 'sent'").await, 1);
    assert_eq!(site.number("SELECT max(id) FROM monitor_runs").await, run, "and nothing is checked");
    site.was_away_for_ten_minutes().await;
    is_away.store(false, Ordering::SeqCst);
    site.wait_until("SELECT count(*) = 1 FROM notifications WHERE recipient = 'admin@x.test' AND subject LIKE '%nothing was watched%'")
        .await;
    site.wait_until("SELECT count(*) = 1 FROM notifications WHERE recipient = 'b@x.test' AND status = 'sent'").await;
    let body: String = sqlx::query_scalar("SELECT body FROM notifications WHERE recipient = 'admin@x.test'")
        .fetch_one(&mut site.database)
        .await
        .unwrap();
    assert!(body.contains("ticks of 1 monitors"), "{body}");
    node.shutdown().await;
    assert_eq!(site.number("SELECT count(*) FROM notifications WHERE subject LIKE '%nothing was watched%'").await, 1);
}

/// The answer to each commit is lost, and each outcome applied once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn skipped_ticks_are_counted_once_where_the_answer_to_a_commit_is_lost() {
    let mut site = Site::new().await;
    // Each run takes a second, so that a tick is skipped.
    site.register(1, "* * * * * *", "hang", ("", "")).await;
    sqlx::query("UPDATE monitors SET timeout_seconds = 1").execute(&mut site.database).await.unwrap();
    let (store, proxy) = Proxy::before(site.store.clone());
    proxy.loses_answers.store(true, Ordering::SeqCst);
    let node = site.start("a", store, TimeDelta::zero()).await.unwrap();
    site.wait_until("SELECT count(*) >= 6 FROM monitor_runs WHERE tick_at IS NOT NULL").await;
    node.shutdown().await;
    let skipped = site.number("SELECT skipped_tick_count FROM monitors").await;
    let ticks = site
        .number("SELECT CAST(round((julianday(max(started_at)) - julianday(min(started_at))) * 86400) AS INTEGER) FROM monitor_runs")
        .await;
    let runs = site.number("SELECT count(*) FROM monitor_runs WHERE tick_at IS NOT NULL").await;
    assert!(skipped > 0 && skipped + runs <= ticks + 3, "{skipped} of {ticks} ticks were skipped beside {runs} runs");
}

/// The database was away for all. Who had delivered just then is a little slower to come back, and finds its message still
/// its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_had_taken_before_an_absence_of_all_is_left_to_it_for_a_while() {
    let mut site = Site::new().await;
    let long_ago = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-600 seconds')";
    let sql = format!(
        "INSERT INTO nodes (uuid, name, started_at, lease_until, version, labels, settings, monitor_count, clock_skew_ms) \
           VALUES ('{}', 'bb', {long_ago}, {long_ago}, '1', '{{}}', '{{}}', 0, 0); \
         INSERT INTO notifications (type, severity, recipient, subject, body, status, attempts, planned_at, lease_owner, \
           lease_until) VALUES ('notice', 'info', 'b@x.test', 's', 'b', 'sending', 1, {long_ago}, 'node:{}', {long_ago}); \
         INSERT INTO notifications (type, severity, recipient, subject, body) VALUES ('notice', 'info', 'c@x.test', 's', 'b'); \
         INSERT INTO monitor_runs (monitor_id, cause, started_at, duration_ms, is_ok, message, state_before, state_after, node) \
           VALUES (1, 'manual', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-3 days'), 1, 1, 'm', 'ok', 'ok', 'bb')",
        uuid("bb"),
        uuid("bb")
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut site.database).await.unwrap();
    let (node, _) = site.node("a").await;
    site.wait_until("SELECT count(*) = 1 FROM notifications WHERE recipient = 'c@x.test' AND status = 'sent'").await;
    // Longer than between two looks for what lost nodes had taken.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mine = site.number("SELECT id FROM notifications WHERE recipient = 'b@x.test'").await;
    let sent = Settlement::Sent { at: Utc::now(), answer: "250 ok".to_owned(), external_id: None };
    let owner = format!("node:{}", uuid("bb"));
    let settled = site.store.settle_notifications(&owner, &[(NotificationId(mine), sent)]).await.unwrap();
    assert_eq!(settled.written, 1, "it was sent once more");
    // Its outcomes may be about to be written as well.
    assert_eq!(site.number("SELECT count(*) FROM monitor_run_hours").await, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_is_refused_and_says_how_to_mend_it() {
    let site = Site::new().await;
    let refused = site.start("a", site.store.clone(), TimeDelta::seconds(30)).await.err().unwrap();
    let StartError::Membership(error @ MembershipError::ClockSkew { .. }) = refused else { panic!("{refused}") };
    let text = error.to_string();
    assert!(text.contains("ahead of that of the database") && text.contains("chrony"), "{text}");
    assert!(site.store.live_nodes().await.unwrap().nodes.is_empty(), "and it was never among the nodes");
    // Within the limit it is made good.
    let late = site.start("a", site.store.clone(), TimeDelta::milliseconds(-1_500)).await.unwrap();
    late.shutdown().await;
}
