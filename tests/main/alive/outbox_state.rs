//! What the store says of the outbox, and notices that are let in once.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use watchbell::domain::NotificationId;
use watchbell::domain::oversight::{LaneState, LaneTrouble, OutboxState, over_notice, trouble_notice};
use watchbell::ports::{Store, SystemClock};
use watchbell::store::SqlStore;

struct Outbox {
    store: Arc<dyn Store>,
    database: SqliteConnection,
}

impl Outbox {
    async fn open(folder: &Path) -> Self {
        let url = format!("sqlite://{}", folder.join("outbox.db").display());
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
        Self { store, database: SqliteConnection::connect(&url).await.unwrap() }
    }

    /// A row that was queued, and is due, since so many minutes ago.
    async fn row(&mut self, recipient: &str, minutes: i64, columns: &str, values: &str) -> i64 {
        let then = format!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '{:+} minutes')", -minutes);
        let sql = format!(
            "INSERT INTO notifications (type, severity, recipient, subject, body, created_at, next_attempt_at{columns}) \
             VALUES ('alert', 'critical', '{recipient}', 's', 'b', {then}, {then}{values})"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.database).await.unwrap().last_insert_rowid()
    }

    async fn state(&self) -> OutboxState {
        self.store.outbox_state(Utc::now() - TimeDelta::hours(1)).await.unwrap()
    }

    async fn lane(&self, name: &str) -> Option<LaneState> {
        self.state().await.lanes.into_iter().find(|lane| lane.lane == name)
    }
}

fn now() -> DateTime<Utc> {
    Utc::now()
}

#[tokio::test]
async fn the_oldest_that_could_be_tried_tells_for_how_long_a_lane_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).await;
    assert_eq!(outbox.state().await, OutboxState::default());
    let planned = ", planned_at, attempts, monitor_id, status";
    // Its turn comes in a minute; what stands behind it in its line waits for it, not for the channel.
    outbox.row("a@x.test", -1, planned, ", 'x', 3, 1, 'pending'").await;
    outbox.row("a@x.test", 60, planned, ", 'x', 0, 1, 'pending'").await;
    let hours = TimeDelta::hours(5);
    assert_eq!(outbox.lane("@").await.unwrap().trouble(now(), hours, true), None);
    let stuck = outbox.row("b@x.test", 20, planned, ", 'x', 2, 2, 'sending'").await;
    let lane = outbox.lane("@").await.unwrap();
    let waiting = lane.waiting.clone().unwrap();
    assert_eq!((waiting.oldest, waiting.count), (NotificationId(stuck), 3), "also while it is being tried");
    assert!(matches!(lane.trouble(now(), hours, true), Some(LaneTrouble::Stuck(_))));
    // Nobody has looked at this one.
    outbox.row("hook", 30, "", "").await;
    let state = outbox.state().await;
    assert!(state.unplanned_since.is_some_and(|since| now() - since >= TimeDelta::minutes(30)));
}

#[tokio::test]
async fn an_episode_is_told_once_and_notices_are_no_trouble_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).await;
    let failed = ", status, last_error, failed_at, rule";
    let lately = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-5 minutes')";
    let before = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-65 minutes')";
    outbox.row("hook", 90, failed, &format!(", 'failed', 'long ago', {before}, NULL")).await;
    outbox.row("hook", 9, failed, &format!(", 'failed', 'no such', {lately}, 'channel trouble'")).await;
    let trial = format!(", 'failed', 'refused', {lately}, 'notify test'");
    let trial = outbox.row("hook", 9, failed, &trial).await;
    let as_test = sqlx::query("UPDATE notifications SET type = 'test' WHERE id = ?1").bind(trial);
    as_test.execute(&mut outbox.database).await.unwrap();
    assert_eq!(outbox.lane("hook").await, None, "neither what is old nor a notice nor a test counts");
    let first = outbox.row("hook", 9, failed, &format!(", 'failed', 'gone', {lately}, 'route 1'")).await;
    let lane = outbox.lane("hook").await.unwrap();
    let trouble = lane.trouble(now(), TimeDelta::zero(), true).unwrap();
    assert_eq!((trouble.first(), lane.told_trouble), (NotificationId(first), None));

    let notice = ("key".to_owned(), trouble_notice("hook", trouble, "boss@x.test", now()));
    let twice = [notice.clone(), notice.clone()];
    assert_eq!(outbox.store.queue_notices(&twice).await.unwrap(), 1);
    assert_eq!(outbox.store.queue_notices(&[notice]).await.unwrap(), 0, "its key is there already");
    let told = outbox.lane("hook").await.unwrap().told_trouble;
    assert!(told.is_some(), "an open episode");
    let over = ("key of the end".to_owned(), over_notice("hook", "boss@x.test", now()));
    assert_eq!(outbox.store.queue_notices(&[over]).await.unwrap(), 1);
    assert_eq!(outbox.lane("hook").await.unwrap().told_trouble, None, "it is over");
}

#[tokio::test]
async fn two_installations_are_told_apart() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uuid = |folder: std::path::PathBuf| async move {
        let outbox = Outbox::open(&folder).await;
        outbox.store.installation_uuid().await.unwrap()
    };
    let first = uuid(one.path().to_owned()).await;
    assert_eq!(first, uuid(one.path().to_owned()).await, "the same after a restart");
    assert_ne!(first, uuid(two.path().to_owned()).await);
}
