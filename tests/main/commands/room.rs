//! A room in memory: what is written there is heard in order, from a place on, as long as somebody listens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use watchbell::domain::OutboxRow;
use watchbell::ports::{Channel, ChannelSource, Command, Delivered, DeliveryError, Inbox, Received};
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, async_trait,
};

use crate::support::node::SOON;

/// All rooms, by URL; they outlive the engine.
#[derive(Default)]
pub(super) struct Rooms(Mutex<BTreeMap<String, Arc<Room>>>);

impl Rooms {
    pub(super) fn room(&self, url: &str) -> Arc<Room> {
        self.0.lock().unwrap().entry(url.to_owned()).or_default().clone()
    }
}

impl ChannelSource for Rooms {
    fn mail(&self) -> Arc<dyn Channel> {
        Arc::new(Post(Arc::default(), false))
    }

    fn open(&self, url: &str) -> Result<Arc<dyn Channel>, String> {
        Ok(Arc::new(Post(self.room(url), true)))
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Broken {
    Refuses,
    Panics,
}

/// A room. Places are numbers of commands.
#[derive(Default)]
pub(super) struct Room {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    written: Vec<Command>,
    answers: BTreeMap<String, Vec<String>>,
    delivered: Vec<OutboxRow>,
    listening: usize,
    broken: Option<(Broken, u32)>,
    broken_replies: u32,
}

impl Room {
    pub(super) fn say(&self, sender: &str, text: &str, is_allowed: bool) -> String {
        let mut state = self.state.lock().unwrap();
        let id = format!("$event{}", state.written.len() + 1);
        state.written.push(Command { id: id.clone(), sender: sender.to_owned(), text: text.to_owned(), is_allowed });
        self.changed.notify_waiters();
        id
    }

    /// The one answer to a command.
    pub(super) async fn answer(&self, id: &str) -> String {
        let answers = self.wait_for(id, |state| state.answers.get(id).cloned()).await;
        assert_eq!(answers.len(), 1, "answered once: {answers:?}");
        let answer = answers[0].clone();
        assert!(
            !answer.starts_with('!') && answer.chars().count() <= 4_000 && answer.lines().count() <= 20,
            "{answer}"
        );
        answer
    }

    pub(super) fn answers(&self) -> usize {
        self.state.lock().unwrap().answers.values().map(Vec::len).sum()
    }

    pub(super) fn forget_answers(&self) {
        self.state.lock().unwrap().answers.clear();
    }

    pub(super) fn delivered(&self) -> Vec<OutboxRow> {
        self.state.lock().unwrap().delivered.clone()
    }

    pub(super) fn break_listening(&self, how: Broken, times: u32) {
        self.state.lock().unwrap().broken = Some((how, times));
        self.changed.notify_waiters();
    }

    pub(super) fn break_replies(&self, times: u32) {
        self.state.lock().unwrap().broken_replies = times;
    }

    pub(super) async fn wait_until_heard(&self) {
        self.wait_for("somebody listens", |state| (state.listening == 1).then_some(())).await;
    }

    pub(super) async fn wait_until_left(&self) {
        self.wait_for("nobody listens", |state| (state.listening == 0).then_some(())).await;
    }

    async fn wait_for<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(&self.state.lock().unwrap()) {
                return found;
            }
            assert!(began.elapsed() < SOON, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the next look finds; `None`: nothing yet.
    fn look(&self, from: usize) -> Option<Result<Received, DeliveryError>> {
        let mut state = self.state.lock().unwrap();
        if let Some((how, times @ 1..)) = state.broken {
            state.broken = Some((how, times - 1));
            drop(state);
            assert!(how != Broken::Panics, "the room is haunted");
            return Some(Err(DeliveryError::Unavailable { reason: "the room is locked".to_owned(), after: None }));
        }
        let commands = state.written[from..].to_vec();
        let cursor = state.written.len().to_string();
        (!commands.is_empty()).then_some(Ok(Received { commands, cursor }))
    }
}

/// Counts who listens, also when they are stopped.
struct Listening<'a>(&'a Room);

impl<'a> Listening<'a> {
    fn begin(room: &'a Room) -> Self {
        room.state.lock().unwrap().listening += 1;
        Self(room)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().listening -= 1;
    }
}

/// A channel into a room; with an inbox or without.
struct Post(Arc<Room>, bool);

#[async_trait]
impl Channel for Post {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        self.0.state.lock().unwrap().delivered.push(message.clone());
        Ok(Delivered::default())
    }

    fn describe(&self) -> String {
        "a room".to_owned()
    }

    fn inbox(&self) -> Option<&dyn Inbox> {
        self.1.then_some(self)
    }
}

#[async_trait]
impl Inbox for Post {
    async fn receive(&self, cursor: Option<&str>) -> Result<Received, DeliveryError> {
        let room = &self.0;
        let Some(cursor) = cursor else {
            let cursor = room.state.lock().unwrap().written.len().to_string();
            return Ok(Received { commands: Vec::new(), cursor });
        };
        let from = cursor.parse().expect("a place of ours");
        let _listening = Listening::begin(room);
        loop {
            let changed = room.changed.notified();
            if let Some(found) = room.look(from) {
                return found;
            }
            changed.await;
        }
    }

    async fn reply(&self, to: &Command, text: &str) -> Result<(), DeliveryError> {
        let mut state = self.0.state.lock().unwrap();
        if state.broken_replies > 0 {
            state.broken_replies -= 1;
            return Err(DeliveryError::Retry { reason: "the line is cut".to_owned(), after: None });
        }
        state.answers.entry(to.id.clone()).or_default().push(text.to_owned());
        Ok(())
    }
}

static FAILS: Manifest = Manifest {
    kind: "fails",
    checks: "Nothing.",
    parameters: &[],
    verdicts: "It always fails.",
    examples: &[Example { name: "Down", schedule: "* * * * *", config: "{}" }],
    limits: "For tests.",
    looks_at_this_machine: false,
};

/// A kind that always fails.
pub(super) struct Fails;

impl Monitor for Fails {
    fn manifest(&self) -> &Manifest {
        &FAILS
    }

    fn prepare(&self, config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        config.finish(Fails)
    }
}

#[async_trait]
impl Check for Fails {
    async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
        Ok(Outcome::failed("nothing came"))
    }
}
