//! Commands from a room, in an engine on a real database: what allowed people write is done once and answered, also when
//! the node ends between the two, and a room that misbehaves harms nobody.

mod room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use watchbell::domain::Policy;
use watchbell::engine::{Engine, Kinds, Membership, Parts};
use watchbell::ports::{NodeIdentity, Store, SystemClock};
use watchbell::schedule::cron;
use watchbell::store::SqlStore;
use watchbell_contract::NoSecrets;

use self::room::{Broken, Room, Rooms};
use crate::support::node::SOON;
use crate::support::outbox::no_limits;

/// An engine with rooms, and a connection of the test's own.
struct World {
    engine: Option<Engine>,
    store: Arc<dyn Store>,
    database: SqliteConnection,
    rooms: Arc<Rooms>,
    _folder: tempfile::TempDir,
}

impl World {
    /// An engine on a database with one channel `ops` and one failing monitor that tells it.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("commands.db").display());
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(&url, Arc::new(SystemClock)).await.unwrap());
        let database = SqliteConnection::connect(&url).await.unwrap();
        let mut world = Self { engine: None, store, database, rooms: Arc::default(), _folder: folder };
        world.sql("INSERT INTO channels (name, url) VALUES ('ops', 'room:ops')").await;
        world
            .sql(
                "INSERT INTO monitors (name, kind, schedule, people_to_notify, reminder_frequency_minutes) \
                 VALUES ('Orders arrive', 'fails', '* * * * * *', '[\"ops\"]', 0)",
            )
            .await;
        world.restart().await;
        world
    }

    /// Ends the engine where one runs, and starts one.
    async fn restart(&mut self) {
        self.end_engine().await;
        let kinds = Kinds::new(vec![Box::new(room::Fails)], Arc::new(NoSecrets)).unwrap();
        let parts = Parts {
            store: self.store.clone(),
            channels: self.rooms.clone(),
            clock: Arc::new(SystemClock),
            kinds: Arc::new(kinds),
            node: NodeIdentity { uuid: "test".to_owned(), name: "test".to_owned() },
            policy: Policy { admins: Vec::new(), default_zone: chrono_tz::Tz::Europe__Berlin },
            limits: no_limits(),
            max_concurrent_checks: 8,
            shutdown_grace: Duration::from_millis(500),
            keep_history: watchbell::domain::HistoryPolicy::default(),
            is_only_node: true,
            membership: Membership::default(),
            alive: Default::default(),
        };
        self.engine = Some(Engine::start(parts, cron()).await.unwrap());
    }

    async fn end_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            tokio::time::timeout(SOON, engine.shutdown()).await.expect("the engine ends");
        }
    }

    fn room(&self) -> Arc<Room> {
        self.rooms.room("room:ops")
    }

    /// Somebody who may writes `text` once the room is listened to, and waits for the answer.
    async fn ask(&self, text: &str) -> String {
        let room = self.room();
        room.wait_until_heard().await;
        let id = room.say("@ann:x.test", text, true);
        room.answer(&id).await
    }

    async fn sql(&mut self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut self.database).await.unwrap();
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.database).await.unwrap()
    }

    async fn text(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.database).await.unwrap()
    }

    async fn wait_until(&mut self, sql: &str) {
        let began = Instant::now();
        while self.number(sql).await == 0 {
            assert!(began.elapsed() < SOON, "waited in vain: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_for_alert(&mut self) {
        self.wait_until("SELECT count(*) FROM notifications WHERE type = 'alert' AND status = 'sent'").await;
    }

    async fn end(mut self) {
        self.end_engine().await;
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_acknowledged_from_the_room_and_its_reminders_stop() {
    let mut world = World::start().await;
    world.wait_for_alert().await;
    world.wait_until("SELECT count(*) FROM notifications WHERE type = 'reminder'").await;
    let incident = world.number("SELECT id FROM incidents").await;
    let status = world.ask("!status").await;
    assert!(status.starts_with("1 monitor, 1 in alert:\n"), "{status}");
    assert!(status.contains(&format!("- incident {incident}: Orders arrive, since 20")), "{status}");

    let answer = world.ask(&format!("!ack {incident} looking at it")).await;
    assert!(
        answer.contains(&format!("Incident {incident} (Orders arrive) is acknowledged by @ann:x.test")),
        "{answer}"
    );
    let columns =
        "SELECT acknowledged_by || '|' || acknowledgment_note FROM incidents WHERE acknowledged_at IS NOT NULL";
    assert_eq!(world.text(columns).await, "@ann:x.test|looking at it");
    let reminders = "SELECT count(*) FROM notifications WHERE type = 'reminder'";
    let before = world.number(reminders).await;
    let runs = world.number("SELECT count(*) FROM monitor_runs").await;
    world.wait_until(&format!("SELECT count(*) >= {runs} + 2 FROM monitor_runs")).await;
    // The run that was going on when it was acknowledged may have owed one more.
    assert!(world.number(reminders).await <= before + 1, "no more reminders");

    world.wait_until("SELECT count(*) FROM notifications WHERE rule = 'acknowledged' AND status = 'sent'").await;
    let told = world.room().delivered().into_iter().find(|row| row.facts.acknowledged_by.is_some()).unwrap();
    assert_eq!(told.facts.message, "Acknowledged by @ann:x.test: looking at it");
    assert_eq!(told.incident_id.map(|id| id.0), Some(incident));
    let again = world.ask(&format!("!ack {incident}")).await;
    assert!(again.contains("already acknowledged by @ann:x.test since"), "{again}");
    assert!(world.ask("!status").await.contains("acknowledged by @ann:x.test"));
    assert!(world.ask("!ack 4711").await.contains("no incident 4711"));
    assert_eq!(world.number("SELECT count(*) FROM notifications WHERE rule = 'acknowledged'").await, 1, "told once");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_is_silenced_from_the_room_and_told_again() {
    let mut world = World::start().await;
    let answer = world.ask("!silence Orders arrive 2h").await;
    assert!(answer.starts_with("Monitor 1 (Orders arrive) is silenced until 20"), "{answer}");
    assert!(answer.contains("Europe/Berlin (silence 1)") && answer.contains("Z = "), "{answer}");
    let row = "SELECT created_by || '|' || reason || '|' || monitor_id || '|' || \
        CAST(round((julianday(ends_at) - julianday(starts_at)) * 1440) AS INTEGER) FROM silences";
    assert_eq!(world.text(row).await, "@ann:x.test|by command|1|120");
    world.wait_until("SELECT count(*) FROM notifications WHERE hold_reason = 'silence 1' AND status = 'held'").await;
    let status = world.ask("!status").await;
    assert!(status.contains(", silenced") && status.contains("1 silence holds now"), "{status}");
    let ended = world.ask("!silence 1 off").await;
    assert!(ended.contains("Silence 1 of monitor 1 (Orders arrive) is ended"), "{ended}");
    world.wait_for_alert().await;
    assert!(world.ask("!silence 1 off").await.starts_with("No silence that a command made"));

    world.sql("INSERT INTO monitors (name, kind, schedule) VALUES ('Orders arrive', 'fails', '@hourly')").await;
    let ambiguous = world.ask("!silence \"Orders arrive\" 30m").await;
    assert!(ambiguous.contains("names 2 monitors") && ambiguous.contains("- 2: Orders arrive"), "{ambiguous}");
    assert!(world.ask("!silence Orders 30m").await.contains("no monitor `Orders`"));
    assert_eq!(world.number("SELECT count(*) FROM silences").await, 1, "nothing was guessed");
    assert!(world.ask("!hlep").await.contains("did you mean `!help`"));
    let help = world.ask("!help").await;
    assert!(["!status", "!ack", "!silence", "!help"].iter().all(|name| help.contains(name)), "{help}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_nothing_is_done() {
    let mut world = World::start().await;
    world.wait_for_alert().await;
    let room = world.room();
    room.wait_until_heard().await;
    for text in ["!ack 1", "!silence 1 2h", "!status"] {
        let id = room.say("@mallory:x.test", text, false);
        let answer = room.answer(&id).await;
        assert!(answer.starts_with("Sorry") && !answer.contains("Orders"), "{answer}");
    }
    // What an allowed person asks next is answered: the refusals were no trouble.
    world.ask("!status").await;
    assert_eq!(world.number("SELECT count(*) FROM incidents WHERE acknowledged_at IS NOT NULL").await, 0);
    assert_eq!(world.number("SELECT count(*) FROM silences").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_before_it_kept_its_place_executes_again_and_changes_nothing() {
    let mut world = World::start().await;
    world.wait_for_alert().await;
    let room = world.room();
    room.wait_until_heard().await;
    // The database takes everything but how far the room was read: as if the node died just before that.
    world
        .sql("CREATE TRIGGER trap BEFORE UPDATE OF inbox_cursor ON channels BEGIN SELECT RAISE(ABORT, 'trap'); END")
        .await;
    let silence = room.say("@ann:x.test", "!silence 1 2h", true);
    let ack = room.say("@ann:x.test", "!ack 1 for 2h", true);
    let answered = (room.answer(&silence).await, room.answer(&ack).await);
    let rows = "SELECT (SELECT group_concat(id || ends_at) FROM silences) || \
        (SELECT group_concat(acknowledged_at || acknowledged_until) FROM incidents)";
    let before = world.text(rows).await;
    world.end_engine().await;
    world.sql("DROP TRIGGER trap").await;
    room.forget_answers();
    world.restart().await;
    assert_eq!((room.answer(&silence).await, room.answer(&ack).await).0, answered.0, "the same answer");
    assert!(room.answer(&ack).await.contains("is acknowledged by @ann:x.test"));
    assert_eq!(world.text(rows).await, before, "executed again, and nothing changed");
    world.wait_until("SELECT count(*) FROM channels WHERE inbox_cursor = '2'").await;
    // The next one reads on from there.
    room.forget_answers();
    world.restart().await;
    world.ask("!help").await;
    assert_eq!(room.answers(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_get_through_is_tried_again_and_the_command_is_not_done_twice() {
    let mut world = World::start().await;
    let room = world.room();
    room.wait_until_heard().await;
    room.break_replies(2);
    let id = room.say("@ann:x.test", "!silence 1 2h", true);
    assert!(room.answer(&id).await.contains("is silenced until"));
    assert_eq!(world.number("SELECT count(*) FROM silences").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_fails_or_panics_is_listened_to_again() {
    let world = World::start().await;
    let room = world.room();
    for broken in [Broken::Refuses, Broken::Panics] {
        room.wait_until_heard().await;
        room.break_listening(broken, 2);
        let id = room.say("@ann:x.test", "!help", true);
        room.answer(&id).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_follow_the_table() {
    let mut world = World::start().await;
    world.room().wait_until_heard().await;
    world.sql("INSERT INTO channels (name, url) VALUES ('second', 'room:second')").await;
    let second = world.rooms.room("room:second");
    second.wait_until_heard().await;
    world.sql("UPDATE channels SET is_active = 0 WHERE name = 'second'").await;
    second.wait_until_left().await;
    world.sql("UPDATE channels SET is_active = 1, url = 'room:third' WHERE name = 'second'").await;
    let third = world.rooms.room("room:third");
    third.wait_until_heard().await;
    world.sql("DELETE FROM channels WHERE name = 'second'").await;
    third.wait_until_left().await;
    assert!(world.ask("!help").await.contains("!status"), "the first is still listened to");
    world.end().await;
}
