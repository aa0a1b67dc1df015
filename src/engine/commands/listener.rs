//! Listens in one room: receives, has it executed, answers, keeps how far it was read.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::execute::Executor;
use crate::domain::commands::answers;
use crate::domain::{DELIVERY_BACKOFF, one_line};
use crate::ports::{Channel, Command, DeliveryError, Inbox, Received, Store, StoreError};

/// A channel waits about half a minute for commands.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(120);
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// A service may ask for patience, but not for deafness.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// A channel that returns at once keeps no processor busy.
const LEAST_ROUND: Duration = Duration::from_millis(100);
/// Then a command that cannot be executed or answered is passed over, so that those behind it have their turn.
const MOST_TRIES: u32 = 5;
/// More at once is no person.
const MOST_COMMANDS: usize = 200;

/// In a busy room every word moves the place; read again, words that are no commands cost nothing.
const KEEP_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Listener {
    name: String,
    url: String,
    channel: Arc<dyn Channel>,
    store: Arc<dyn Store>,
    executor: Executor,
    /// Where the room is read from; the outer `None`: the database was not asked yet.
    cursor: Option<Option<String>>,
    /// Answered since the cursor was kept: not to be answered again when the same comes in again.
    answered: HashSet<String>,
    /// Tries of commands that failed since then.
    tries: HashMap<String, u32>,
    /// When the cursor was last kept.
    kept_at: Option<Instant>,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Channel(#[from] DeliveryError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Other(String),
}

impl Trouble {
    fn asked(&self) -> Duration {
        match self {
            Trouble::Channel(DeliveryError::Unavailable { after, .. } | DeliveryError::Retry { after, .. }) => {
                after.unwrap_or_default().min(LONGEST_ASKED)
            }
            Trouble::Channel(DeliveryError::Permanent { .. }) | Trouble::Store(_) | Trouble::Other(_) => Duration::ZERO,
        }
    }
}

impl Listener {
    pub(super) fn new(
        name: String,
        url: String,
        channel: Arc<dyn Channel>,
        store: Arc<dyn Store>,
        executor: Executor,
    ) -> Self {
        let (answered, tries) = (HashSet::new(), HashMap::new());
        Self { name, url, channel, store, executor, cursor: None, answered, tries, kept_at: None }
    }

    /// Until it is aborted.
    pub(super) async fn run(mut self) {
        let channel = self.channel.clone();
        let Some(inbox) = channel.inbox() else { return std::future::pending().await };
        tracing::info!(channel = self.name, "commands are listened for in the room of a channel");
        let mut failures: u32 = 0;
        loop {
            let began = Instant::now();
            match self.round(inbox).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(channel = self.name, failures, "commands are heard again");
                    }
                    failures = 0;
                    tokio::time::sleep(LEAST_ROUND.saturating_sub(began.elapsed())).await;
                }
                Err(trouble) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(channel = self.name, error = %trouble, "commands are not heard; it is tried again");
                    }
                    let seed = self.name.len() as u64;
                    let wait = DELIVERY_BACKOFF.wait(failures, seed).to_std().unwrap_or_default();
                    tokio::time::sleep(wait.max(trouble.asked())).await;
                }
            }
        }
    }

    async fn round(&mut self, inbox: &dyn Inbox) -> Result<(), Trouble> {
        let cursor = match &self.cursor {
            Some(cursor) => cursor.clone(),
            None => self.store.inbox_cursor(&self.name, &self.url).await?,
        };
        self.cursor = Some(cursor.clone());
        let Received { commands, cursor: next } =
            match caught("listening", RECEIVE_TIMEOUT, inbox.receive(cursor.as_deref())).await? {
                // The service does not know the place any more, and never will: what was written meanwhile is lost.
                Err(DeliveryError::Permanent { reason }) if cursor.is_some() => {
                    tracing::warn!(
                        channel = self.name,
                        reason,
                        "a room cannot be read on from where it was; it is read from now on"
                    );
                    self.cursor = Some(None);
                    return Ok(());
                }
                received => received?,
            };
        if commands.len() > MOST_COMMANDS {
            tracing::warn!(
                channel = self.name,
                commands = commands.len(),
                most = MOST_COMMANDS,
                "too many commands at once; the last are passed over"
            );
        }
        for command in commands.iter().take(MOST_COMMANDS) {
            self.handle(inbox, command).await?;
        }
        self.keep(&next, commands.is_empty()).await?;
        self.cursor = Some(Some(next));
        self.answered.clear();
        self.tries.clear();
        Ok(())
    }

    /// Keeps how far the room was read: at once where commands were executed, else now and then.
    async fn keep(&mut self, next: &str, is_empty: bool) -> Result<(), StoreError> {
        if is_empty && self.kept_at.is_some_and(|at| at.elapsed() < KEEP_EVERY) {
            return Ok(());
        }
        self.store.set_inbox_cursor(&self.name, &self.url, next).await?;
        self.kept_at = Some(Instant::now());
        Ok(())
    }

    /// Executes and answers one command.
    ///
    /// # Errors
    /// When it is to be tried again.
    async fn handle(&mut self, inbox: &dyn Inbox, command: &Command) -> Result<(), Trouble> {
        if self.answered.contains(&command.id) {
            return Ok(());
        }
        let tries = self.tries.entry(command.id.clone()).or_default();
        *tries += 1;
        let is_last_try = *tries >= MOST_TRIES;
        let answer = match self.answer(command).await {
            Ok(answer) => answer,
            Err(trouble) if is_last_try => {
                tracing::error!(channel = self.name, sender = command.sender, error = %trouble, "a command was given up");
                answers::trouble(&trouble.to_string())
            }
            Err(trouble) => return Err(trouble),
        };
        let reply = async { inbox.reply(command, &answers::bounded(&answer)).await };
        match caught("answering", REPLY_TIMEOUT, reply).await.and_then(|replied| Ok(replied?)) {
            Ok(()) => {}
            Err(trouble) if is_last_try || matches!(trouble, Trouble::Channel(DeliveryError::Permanent { .. })) => {
                tracing::warn!(channel = self.name, sender = command.sender, error = %trouble, "a command could not be answered");
            }
            Err(trouble) => return Err(trouble),
        }
        self.answered.insert(command.id.clone());
        Ok(())
    }

    async fn answer(&self, command: &Command) -> Result<String, Trouble> {
        if !command.is_allowed {
            let sender = one_line(&command.sender, 200);
            tracing::warn!(channel = self.name, %sender, "somebody who may not command was refused");
            return Ok(answers::refusal());
        }
        match AssertUnwindSafe(self.executor.execute(command)).catch_unwind().await {
            Ok(Ok(answer)) => Ok(answer),
            // Trying again does not help.
            Ok(Err(error @ StoreError::Refused { .. })) => Ok(answers::trouble(&error.to_string())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(answers::trouble("an internal error; the log of the node says where")),
        }
    }
}

/// What a channel's code returns, with its panics and hangs turned into trouble.
async fn caught<T>(what: &str, most: Duration, body: impl Future<Output = T>) -> Result<T, Trouble> {
    match tokio::time::timeout(most, AssertUnwindSafe(body).catch_unwind()).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(Trouble::Other(format!("the channel panicked while {what}; the log says where"))),
        Err(_) => Err(Trouble::Other(format!("no answer within {} s while {what}", most.as_secs()))),
    }
}
