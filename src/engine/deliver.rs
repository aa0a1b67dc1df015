//! The dispatcher: plans what is owed, takes what is due, hands it to its channel, writes how it ended.
//!
//! It takes no input: woken or not, it looks what is due. Sending starts after the commit that owes the message, and
//! what is taken is leased, so that a crash in between is taken up again. What is sent but not yet settled when the
//! process dies is sent once more with the same idempotency key: the one gap of at-least-once.
//!
//! Each channel is a lane of its own, with a bound on what is on its way: one that is slow or away holds up no other. Of
//! several nodes, one has a lane.
//! While a channel takes nothing, one message at a time is tried, with growing waits; the rest keeps its order.

mod in_flight;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use super::membership::Member;
use super::rulebook::Rulebook;
use crate::domain::planning::{Limits, lane_of, plan};
use crate::domain::{DELIVERY_BACKOFF, NotificationId, NotificationType, OutboxRow, Settlement};
use crate::ports::{Channel, ChannelSource, Clock, DeliveryError, LaneClaim, Outlook, PlanRequest, Store, StoreError};
use in_flight::{Down, Ended, InFlight, Unwritten};

/// Deliveries that go on at a time, over all channels.
const MAX_IN_FLIGHT: usize = 64;
/// A delivery that takes longer is given up and tried again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer than any delivery: a lease must not end while its holder still sends.
pub(super) const LEASE: TimeDelta = TimeDelta::minutes(5);
/// What a node had taken that is gone for so long is sent by others. It sends nothing new without a lease; what was on its
/// way has mostly arrived by then, and the rest may double, as that of a node that died. A node that had no lease itself
/// until now waits as long: the database was away for all, and the others come back with what they have delivered.
pub(super) const GONE_FOR: TimeDelta = TimeDelta::seconds(30);
/// How often the outbox is looked at when nothing wakes the dispatcher: for rows of other processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a failure of the database itself.
const WAIT_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Of a command, one each [`LOOK_EVERY`]: five seconds, which the person who waits for it bears.
const WRITE_ATTEMPTS: u32 = 10;
/// Notifications that are planned in one transaction: a few milliseconds.
const PLAN_BATCH: u32 = 500;
/// How far back messages to a recipient are looked at, where the limits look less far.
const LEAST_LOOK_BACK: TimeDelta = TimeDelta::minutes(5);

/// Delivers notifications.
pub struct Dispatcher {
    store: Arc<dyn Store>,
    rulebook: Arc<Rulebook>,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    owner: String,
    wake: Arc<Notify>,
    /// Without its lease nothing is planned, taken or sent. `None`: of a command, which has none.
    member: Option<Arc<Member>>,
}

impl Dispatcher {
    /// A dispatcher that signs its leases as `owner`.
    pub fn new(
        store: Arc<dyn Store>,
        source: Arc<dyn ChannelSource>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        owner: String,
    ) -> Self {
        let rulebook = Arc::new(Rulebook::new(store.clone(), source));
        Self::with_rulebook(store, rulebook, clock, limits, owner)
    }

    pub(super) fn with_rulebook(
        store: Arc<dyn Store>,
        rulebook: Arc<Rulebook>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        owner: String,
    ) -> Self {
        Self { store, rulebook, limits: Arc::new(limits), clock, owner, wake: Arc::new(Notify::new()), member: None }
    }

    /// The same for a node among others: it works while it has a lease, on the lanes that are its own, so that the order
    /// and the pauses of a lane are those of one dispatcher.
    pub(super) fn of(self, member: Arc<Member>) -> Self {
        Self { member: Some(member), ..self }
    }

    fn may_work(&self) -> bool {
        holds(self.lease().as_deref())
    }

    /// Whether what others had taken is as good as given up where their lease of it ended.
    fn may_take_up(&self) -> bool {
        self.member.as_ref().is_none_or(|member| member.is_only_node || member.lease.has_held_for(GONE_FOR))
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        self.member.as_ref().map(|member| member.lease.clone())
    }

    fn carries(&self, lane: &str) -> bool {
        self.member.as_ref().is_none_or(|member| member.carries(lane))
    }

    /// Wakes the dispatcher: something was queued.
    pub(super) fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Delivers until `stop`, looks once more for what the last checks owe, then ends what is on its way and writes it
    /// back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut in_flight = InFlight::default();
        let mut unwritten: Vec<Unwritten> = Vec::new();
        let mut may_take = true;
        let mut is_unreadable = false;
        loop {
            let now = self.clock.now();
            unwritten.extend(std::iter::from_fn(|| in_flight.try_next(now)));
            let is_written = self.settle(&mut in_flight, &mut unwritten).await;
            let is_stopping = stop.is_cancelled();
            if !may_take && in_flight.tasks.is_empty() && unwritten.is_empty() {
                return;
            }
            if may_take && is_written {
                // One look after the stop, so that an end with a backlog is bounded; the rest waits for the next start.
                may_take = !is_stopping;
                let taken = self.take(&mut in_flight).await;
                let was_unreadable = is_unreadable;
                // Without a lease nobody looks, so that nothing is known to work again.
                is_unreadable = taken.is_err() || (was_unreadable && !self.may_work());
                match taken {
                    Ok(_) if was_unreadable && !is_unreadable => tracing::info!("the outbox can be read again"),
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
                Some(done) = in_flight.next(self.clock.as_ref()) => unwritten.push(done),
                () = self.wake.notified(), if !is_stopping => {}
                () = stop.cancelled(), if !is_stopping => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Delivers everything that is due now, and returns when it is settled: for one command, not for a node.
    ///
    /// # Errors
    /// When the outbox cannot be read, or how a delivery ended cannot be written.
    pub async fn drain(&self) -> Result<(), StoreError> {
        let mut in_flight = InFlight::default();
        let mut unwritten = Vec::new();
        loop {
            let is_any = self.take(&mut in_flight).await?;
            let Some(done) = in_flight.next(self.clock.as_ref()).await else {
                if is_any {
                    continue;
                }
                return self.write_rest(&mut in_flight, unwritten).await;
            };
            unwritten.push(done);
            self.settle(&mut in_flight, &mut unwritten).await;
        }
    }

    /// A command does not end well with something unwritten that it sent: a node would send it again when the lease ends.
    async fn write_rest(&self, in_flight: &mut InFlight, mut unwritten: Vec<Unwritten>) -> Result<(), StoreError> {
        for attempt in 0..WRITE_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if self.settle(in_flight, &mut unwritten).await && unwritten.is_empty() {
                return Ok(());
            }
        }
        let reason = "somebody's open transaction has a row locked, or the database is away; what was sent may be sent once \
                      more";
        Err(StoreError::Unavailable { action: "write how deliveries ended".to_owned(), reason: reason.to_owned() })
    }

    /// Plans what is to be planned, and starts what is due; true when anything was.
    async fn take(&self, in_flight: &mut InFlight) -> Result<bool, StoreError> {
        if !self.may_work() {
            return Ok(false);
        }
        if in_flight.is_claim_doubtful {
            let known: Vec<NotificationId> = in_flight.ids.iter().copied().collect();
            self.store.release_unknown(&self.owner, &known).await?;
            in_flight.is_claim_doubtful = false;
        }
        let now = self.clock.now();
        // A look costs little; a plan or a claim takes the database's write lock.
        let mut outlook = self.store.outlook().await?;
        if outlook.rules_version != self.rulebook.known().rules.version {
            self.rulebook.refresh().await?;
        }
        in_flight.forget_pauses(outlook.rules_version);
        let is_planned = self.plan(&outlook, now).await?;
        if is_planned {
            outlook = self.store.outlook().await?;
        }
        let known = self.rulebook.known();
        // A channel that was inserted meanwhile is not known yet: what was planned for it would be given up. The next
        // look knows it.
        if outlook.rules_version != known.rules.version {
            return Ok(true);
        }
        let claims: Vec<LaneClaim> = outlook
            .lanes
            .into_iter()
            .filter(|due| due.at <= now && self.carries(&due.lane))
            .filter_map(|due| {
                let room = in_flight.room(&due.lane, known.lanes.get(&due.lane), now);
                let limit = u32::try_from(room).ok().filter(|room| *room > 0)?;
                Some(LaneClaim { lane: due.lane, limit })
            })
            .collect();
        if claims.is_empty() || !self.may_work() {
            return Ok(is_planned);
        }
        in_flight.is_claim_doubtful = true;
        let lapsed_before = if self.may_take_up() { now } else { DateTime::UNIX_EPOCH };
        let claimed = self.store.claim_notifications(&self.owner, now, now + LEASE, lapsed_before, &claims).await?;
        in_flight.is_claim_doubtful = false;
        let is_any = is_planned || !claimed.is_empty();
        for notification in claimed {
            let lane = known.lanes.get(lane_of(&notification.recipient));
            in_flight.spawn(lane, &self.clock, self.lease(), notification);
        }
        Ok(is_any)
    }

    async fn plan(&self, outlook: &Outlook, now: DateTime<Utc>) -> Result<bool, StoreError> {
        if !outlook.is_unplanned && outlook.held_until.is_none_or(|until| until > now) {
            return Ok(false);
        }
        let limits = self.limits.clone();
        let request = PlanRequest {
            limit: PLAN_BATCH,
            look_back: limits.repetition.max(limits.storm_window).max(LEAST_LOOK_BACK),
            cut_off_monitors: limits.cut_off_monitors,
            admins: limits.admins.clone(),
        };
        let traits = self.rulebook.known().traits;
        let decide = move |candidates: &[_], situation| plan(candidates, situation, &traits, &limits);
        Ok(self.store.plan_notifications(&request, &decide).await? > 0)
    }

    /// Writes what is settled; false when it could not be written, and is kept. What somebody has locked is kept as well,
    /// and holds up nothing.
    async fn settle(&self, in_flight: &mut InFlight, unwritten: &mut Vec<Unwritten>) -> bool {
        if unwritten.is_empty() {
            return true;
        }
        match self.store.settle_notifications(&self.owner, unwritten).await {
            Ok(settled) => {
                let is_locked = |(id, _): &Unwritten| settled.locked.contains(id);
                for (id, _) in unwritten.iter().filter(|ended| !is_locked(ended)) {
                    in_flight.ids.remove(id);
                }
                unwritten.retain(is_locked);
                in_flight.tell_of_locked(unwritten.len());
                true
            }
            Err(error) => {
                tracing::error!(%error, waiting = unwritten.len(), "how deliveries ended cannot be written; it is tried again");
                false
            }
        }
    }
}

fn holds(lease: Option<&Lease>) -> bool {
    lease.is_none_or(Lease::holds)
}

async fn deliver(
    channel: Result<Arc<dyn Channel>, DeliveryError>,
    lane: String,
    clock: Arc<dyn Clock>,
    lease: Option<Arc<Lease>>,
    message: OutboxRow,
) -> Ended {
    // The node may have been frozen since it took the message: somebody else may be sending it by now.
    if !holds(lease.as_deref()) {
        let error = "not sent: the node had no lease any more when its turn came".to_owned();
        let settlement = Settlement::Retry { next_attempt_at: clock.now(), error };
        return Ended { id: message.id, lane, settlement, down: None };
    }
    let result = match channel {
        Ok(channel) => try_once(channel.as_ref(), &message).await,
        Err(error) => Err(error),
    };
    let down = match &result {
        Err(DeliveryError::Unavailable { reason, after }) => {
            let after = after.and_then(|after| TimeDelta::from_std(after).ok());
            Some(Down { after, reason: reason.clone() })
        }
        Ok(_) | Err(DeliveryError::Retry { .. } | DeliveryError::Permanent { .. }) => None,
    };
    Ended { id: message.id, lane, settlement: settlement(&message, result, clock.now()), down }
}

pub(super) async fn try_once(
    channel: &dyn Channel,
    message: &OutboxRow,
) -> Result<crate::ports::Delivered, DeliveryError> {
    let delivering = AssertUnwindSafe(async { channel.deliver(message).await }).catch_unwind();
    match tokio::time::timeout(DELIVERY_TIMEOUT, delivering).await {
        Ok(Ok(result)) => result,
        // Once more with the usual waits: without this it would wait for its lease, and nobody would know why.
        Ok(Err(_)) => {
            let reason = "the channel panicked while it delivered this message; the log says where".to_owned();
            Err(DeliveryError::Retry { reason, after: None })
        }
        Err(_) => {
            let reason = format!("no answer within {} s", DELIVERY_TIMEOUT.as_secs());
            Err(DeliveryError::Unavailable { reason, after: None })
        }
    }
}

fn settlement(
    message: &OutboxRow,
    result: Result<crate::ports::Delivered, DeliveryError>,
    now: DateTime<Utc>,
) -> Settlement {
    let notification = message.id.0;
    let (kind, recipient) = (message.notification_type, message.recipient.as_str());
    let attempt = message.attempts;
    match result {
        Ok(delivered) => {
            tracing::info!(notification, r#type = %kind, recipient, attempt, "a notification was sent");
            Settlement::Sent { at: now, answer: delivered.answer, external_id: delivered.external_id }
        }
        Err(DeliveryError::Permanent { reason }) => {
            tracing::error!(notification, r#type = %kind, recipient, reason, "a notification was refused for good");
            Settlement::Failed { error: reason }
        }
        Err(DeliveryError::Retry { reason, .. } | DeliveryError::Unavailable { reason, .. })
            // A trial is over after one try, also where its own process died over it.
            if kind == NotificationType::Test
                || DELIVERY_BACKOFF.is_given_up(now - message.created_at, attempt) =>
        {
            tracing::error!(notification, r#type = %kind, recipient, reason, attempts = attempt, "a notification was given up");
            Settlement::Failed { error: reason }
        }
        Err(DeliveryError::Retry { reason, after }) => {
            let wait = DELIVERY_BACKOFF.wait(attempt, notification.unsigned_abs());
            let asked = after.and_then(|after| TimeDelta::from_std(after).ok()).unwrap_or_default();
            tracing::warn!(notification, r#type = %kind, recipient, reason, attempt, "a notification was not taken; it is tried again");
            Settlement::Retry { next_attempt_at: now + wait.max(asked), error: reason }
        }
        // The log says it once for the channel, not for each attempt.
        Err(DeliveryError::Unavailable { reason, .. }) => Settlement::ChannelDown { error: reason },
    }
}
