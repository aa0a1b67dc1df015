//! The dispatcher against channels and clocks that misbehave: nothing is lost, and nothing is sent beside itself.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tokio_util::sync::CancellationToken;
use watchbell::domain::OutboxRow;
use watchbell::domain::planning::Limits;
use watchbell::engine::Dispatcher;
use watchbell::ports::{Channel, Clock, Delivered, DeliveryError, MailOnly, Store, SystemClock};
use watchbell::store::SqlStore;
use watchbell_contract::async_trait;

use crate::support::node::SOON;

/// A clock that is set.
struct SetClock(Mutex<DateTime<Utc>>);

impl SetClock {
    fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Panic,
    Hang,
    Refuse,
}

struct Rude {
    does: Does,
    calls: AtomicU32,
}

#[async_trait]
impl Channel for Rude {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.does {
            Does::Panic => panic!("the channel is broken"),
            Does::Hang => std::future::pending().await,
            Does::Refuse => Err(DeliveryError::Retry { reason: "the network is not up".to_owned(), after: None }),
        }
    }

    fn describe(&self) -> String {
        "rude".to_owned()
    }

    /// Room beside the one that hangs: else nothing would be taken while it does.
    fn max_in_flight(&self) -> usize {
        2
    }
}

struct Bench {
    clock: Arc<SetClock>,
    channel: Arc<Rude>,
    database: SqliteConnection,
    stop: CancellationToken,
    dispatcher: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A dispatcher at work, and one notification that was queued so long ago.
    async fn start(does: Does, queued: TimeDelta) -> Self {
        Self::start_with(does, queued, "a@x.test", "").await
    }

    /// The same with another recipient; `beginning` goes on in the database while the dispatcher begins.
    async fn start_with(does: Does, queued: TimeDelta, recipient: &str, beginning: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("outbox.db").display());
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        let clock = Arc::new(SetClock(Mutex::new(Utc::now())));
        let channel = Arc::new(Rude { does, calls: AtomicU32::new(0) });
        sqlx::query(
            "INSERT INTO notifications (type, severity, recipient, subject, body, created_at, next_attempt_at) \
             VALUES ('alert', 'critical', ?2, 's', 'b', ?1, ?1)",
        )
        .bind((clock.now() - queued).to_rfc3339())
        .bind(recipient)
        .execute(&mut database)
        .await
        .unwrap();
        if !beginning.is_empty() {
            sqlx::raw_sql(beginning).execute(&mut database).await.unwrap();
        }
        let dispatcher = Dispatcher::new(
            store,
            Arc::new(MailOnly(channel.clone())),
            clock.clone(),
            Limits::default(),
            "node:test".to_owned(),
        );
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let dispatcher = tokio::spawn(async move { dispatcher.run(stopped).await });
        Self { clock, channel, database, stop, dispatcher, _folder: folder }
    }

    async fn wait_until(&mut self, condition: &str) {
        let sql = format!("SELECT count(*) FROM notifications WHERE {condition}");
        let began = Instant::now();
        while sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone())).fetch_one(&mut self.database).await.unwrap() == 0
        {
            assert!(began.elapsed() < SOON, "waited in vain: {condition}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.dispatcher).await.expect("the dispatcher ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_panics_is_a_failed_attempt() {
    let mut bench = Bench::start(Does::Panic, TimeDelta::seconds(1)).await;
    bench.wait_until("status = 'pending' AND attempts = 1 AND last_error LIKE '%panicked%'").await;
    bench.end().await;
}

/// Nothing is given up for a channel that was inserted after the tables were read, and before the message was planned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_inserted_meanwhile_is_known_before_anything_is_tried() {
    let insert = "BEGIN IMMEDIATE; INSERT INTO channels (name, url) VALUES ('late', 'x')";
    let mut bench = Bench::start_with(Does::Refuse, TimeDelta::seconds(1), "late", insert).await;
    // The dispatcher has read the tables, and waits for the lock.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    sqlx::raw_sql("COMMIT").execute(&mut bench.database).await.unwrap();
    bench.wait_until("attempts = 1 AND status <> 'sending'").await;
    bench.wait_until("status = 'pending' AND last_error LIKE '%cannot be used%'").await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_is_not_sent_beside_itself_when_its_lease_ran_out() {
    let mut bench = Bench::start(Does::Hang, TimeDelta::seconds(1)).await;
    bench.wait_until("status = 'sending' AND attempts = 1").await;
    // As after a suspend.
    bench.clock.advance(TimeDelta::minutes(10));
    bench.wait_until("status = 'sending' AND attempts = 2").await;
    assert_eq!(bench.channel.calls.load(Ordering::SeqCst), 1);
    bench.dispatcher.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_off_for_days_does_not_give_up_at_its_first_attempt() {
    let mut bench = Bench::start(Does::Refuse, TimeDelta::days(7)).await;
    bench.wait_until("status = 'pending' AND attempts = 1 AND last_error LIKE '%not up%'").await;
    bench.end().await;
}
