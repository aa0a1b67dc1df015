//! The dispatcher: takes due notifications from the outbox, hands them to the channel, writes how it ended.
//!
//! It takes no input: woken or not, it looks what is due. Sending starts after the commit that owes the message, and
//! what is taken is leased, so that a crash in between is taken up again. What is sent but not yet settled when the
//! process dies is sent once more with the same idempotency key: the one gap of at-least-once.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::domain::{DELIVERY_BACKOFF, NotificationId, OutboxRow, Settlement};
use crate::ports::{Channel, Clock, DeliveryError, Store};

/// Deliveries that go on at a time; the channel itself bounds its connections.
const MAX_IN_FLIGHT: usize = 16;
/// A delivery that takes longer is given up and tried again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer than any delivery: a lease must not end while its holder still sends.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// How often the outbox is looked at when nothing wakes the dispatcher: for rows of other processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a failure of the database itself.
const WAIT_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Delivers notifications.
pub struct Dispatcher {
    store: Arc<dyn Store>,
    channel: Arc<dyn Channel>,
    clock: Arc<dyn Clock>,
    owner: String,
    wake: Arc<Notify>,
}

type Settled = (NotificationId, Settlement);

/// Deliveries that go on.
#[derive(Default)]
struct InFlight {
    tasks: JoinSet<Settled>,
    /// Theirs: after a suspend the lease of one that still goes on may have run out, and it is claimed once more.
    ids: HashSet<NotificationId>,
}

impl InFlight {
    fn free(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.tasks.len())
    }

    fn spawn(&mut self, channel: &Arc<dyn Channel>, clock: &Arc<dyn Clock>, notification: OutboxRow) {
        if self.ids.insert(notification.id) {
            self.tasks.spawn(deliver(channel.clone(), clock.clone(), notification));
        }
    }

    fn try_next(&mut self) -> Option<Settled> {
        self.tasks.try_join_next().and_then(|done| self.ended(done))
    }

    /// The next that ends; `None`: nothing goes on.
    async fn next(&mut self) -> Option<Settled> {
        let done = self.tasks.join_next().await?;
        self.ended(done)
    }

    fn ended(&mut self, done: Result<Settled, JoinError>) -> Option<Settled> {
        match done {
            Ok(settled) => {
                self.ids.remove(&settled.0);
                Some(settled)
            }
            // Its lease runs out, and it is tried again.
            Err(error) => {
                tracing::error!(%error, "a delivery ended badly");
                None
            }
        }
    }
}

impl Dispatcher {
    /// A dispatcher that signs its leases as `owner`.
    pub fn new(store: Arc<dyn Store>, channel: Arc<dyn Channel>, clock: Arc<dyn Clock>, owner: String) -> Self {
        Self { store, channel, clock, owner, wake: Arc::new(Notify::new()) }
    }

    /// Wakes the dispatcher: something was queued.
    pub(super) fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Delivers until `stop`, looks once more for what the last checks owe, then ends what is on its way and writes it
    /// back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut in_flight = InFlight::default();
        let mut settled: Vec<Settled> = Vec::new();
        let mut may_take = true;
        let mut is_unreadable = false;
        loop {
            settled.extend(std::iter::from_fn(|| in_flight.try_next()));
            let is_written = self.settle(&mut settled).await;
            let is_stopping = stop.is_cancelled();
            if !may_take && in_flight.tasks.is_empty() && settled.is_empty() {
                return;
            }
            if may_take && is_written && in_flight.free() > 0 {
                // One look after the stop, so that an end with a backlog is bounded; the rest waits for the next start.
                may_take = !is_stopping;
                let taken = self.take(&mut in_flight).await;
                let was_unreadable = std::mem::replace(&mut is_unreadable, taken.is_err());
                match taken {
                    Ok(_) if was_unreadable => tracing::info!("the outbox can be read again"),
                    Ok(true) => continue,
                    Ok(false) if is_stopping => continue,
                    Ok(false) => {}
                    Err(error) => {
                        if !was_unreadable {
                            tracing::error!(%error, "the outbox cannot be read; deliveries wait, and it is tried again");
                        }
                        tokio::time::sleep(WAIT_AFTER_ERROR).await;
                    }
                }
            }
            if !is_written {
                tokio::time::sleep(WAIT_AFTER_ERROR).await;
                continue;
            }
            tokio::select! {
                Some(done) = in_flight.next() => settled.push(done),
                () = self.wake.notified(), if !is_stopping => {}
                () = stop.cancelled(), if !is_stopping => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Delivers everything that is due now, and returns when it is settled: for one command, not for a node.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub async fn drain(&self) -> Result<(), crate::ports::StoreError> {
        let mut in_flight = InFlight::default();
        loop {
            self.take(&mut in_flight).await?;
            let Some(done) = in_flight.next().await else { return Ok(()) };
            let mut settled = vec![done];
            self.settle(&mut settled).await;
        }
    }

    /// Starts what is due; true when something was.
    async fn take(&self, in_flight: &mut InFlight) -> Result<bool, crate::ports::StoreError> {
        let now = self.clock.now();
        let free = in_flight.free();
        // A look costs little; a claim takes the database's write lock.
        if free == 0 || self.store.next_attempt_at().await?.is_none_or(|due| due > now) {
            return Ok(false);
        }
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        let claimed = self.store.claim_notifications(&self.owner, now, now + LEASE, limit).await?;
        let is_any = !claimed.is_empty();
        for notification in claimed {
            in_flight.spawn(&self.channel, &self.clock, notification);
        }
        Ok(is_any)
    }

    /// Writes what is settled; false when it could not be written, and is kept.
    async fn settle(&self, settled: &mut Vec<Settled>) -> bool {
        if settled.is_empty() {
            return true;
        }
        match self.store.settle_notifications(&self.owner, settled).await {
            Ok(_) => {
                settled.clear();
                true
            }
            Err(error) => {
                tracing::error!(%error, waiting = settled.len(), "how deliveries ended cannot be written; it is tried again");
                false
            }
        }
    }
}

async fn deliver(channel: Arc<dyn Channel>, clock: Arc<dyn Clock>, message: OutboxRow) -> Settled {
    let delivering = AssertUnwindSafe(async { channel.deliver(&message).await }).catch_unwind();
    let result = match tokio::time::timeout(DELIVERY_TIMEOUT, delivering).await {
        Ok(Ok(result)) => result,
        // Once more with the usual waits: without this it would wait for its lease, and nobody would know why.
        Ok(Err(_)) => {
            let reason = "the channel panicked while it delivered this message; the log says where".to_owned();
            Err(DeliveryError::Retry { reason, after: None })
        }
        Err(_) => {
            let reason = format!("no answer within {} s", DELIVERY_TIMEOUT.as_secs());
            Err(DeliveryError::Retry { reason, after: None })
        }
    };
    let now = clock.now();
    let notification = message.id.0;
    let settlement = match result {
        Ok(delivered) => {
            tracing::info!(notification, r#type = %message.notification_type, recipient = message.recipient, attempt = message.attempts, "a notification was sent");
            Settlement::Sent { at: now, answer: delivered.answer, external_id: delivered.external_id }
        }
        Err(DeliveryError::Permanent { reason }) => {
            tracing::error!(notification, r#type = %message.notification_type, recipient = message.recipient, reason, "a notification was refused for good");
            Settlement::Failed { error: reason }
        }
        Err(DeliveryError::Retry { reason, .. } | DeliveryError::Unavailable { reason, .. })
            if DELIVERY_BACKOFF.is_given_up(now - message.created_at, message.attempts) =>
        {
            tracing::error!(notification, r#type = %message.notification_type, recipient = message.recipient, reason, attempts = message.attempts, "a notification was given up");
            Settlement::Failed { error: reason }
        }
        Err(DeliveryError::Retry { reason, after } | DeliveryError::Unavailable { reason, after }) => {
            let wait = DELIVERY_BACKOFF.wait(message.attempts, message.id.0.unsigned_abs());
            let asked = after.and_then(|after| TimeDelta::from_std(after).ok()).unwrap_or_default();
            tracing::warn!(notification, r#type = %message.notification_type, recipient = message.recipient, reason, attempt = message.attempts, "a notification was not taken; it is tried again");
            Settlement::Retry { next_attempt_at: now + wait.max(asked), error: reason }
        }
    };
    (message.id, settlement)
}
