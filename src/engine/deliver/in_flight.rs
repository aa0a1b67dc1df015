//! What is on its way, lane by lane.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::{JoinError, JoinSet};

use super::{MAX_IN_FLIGHT, deliver};
use crate::domain::planning::{MAIL_LANE, lane_of};
use crate::domain::{DELIVERY_BACKOFF, NotificationId, OutboxRow, Settlement};
use crate::engine::lease::Lease;
use crate::engine::rulebook::Lane;
use crate::ports::{Clock, DeliveryError};

/// A delivery that ended.
pub(super) struct Ended {
    pub(super) id: NotificationId,
    pub(super) lane: String,
    pub(super) settlement: Settlement,
    /// Set where the channel takes nothing now.
    pub(super) down: Option<Down>,
}

/// A channel that takes nothing now.
pub(super) struct Down {
    /// How long it asked to wait.
    pub(super) after: Option<TimeDelta>,
    pub(super) reason: String,
}

/// How a delivery ended, which is not written yet.
pub(super) type Unwritten = (NotificationId, Settlement);

/// What goes on in one lane.
#[derive(Default)]
struct Traffic {
    in_flight: usize,
    /// In a row, of the channel itself.
    failures: u32,
    /// Nothing is tried before.
    paused_until: Option<DateTime<Utc>>,
    /// Why it took nothing, as the log said last.
    said: Option<String>,
}

/// Deliveries that go on.
#[derive(Default)]
pub(super) struct InFlight {
    pub(super) tasks: JoinSet<Ended>,
    /// Theirs, until it is written how they ended: the lease of one may run out before (after a suspend, or while somebody
    /// has its row locked), and it is claimed once more.
    pub(super) ids: HashSet<NotificationId>,
    lanes: HashMap<String, Traffic>,
    /// A claim was not answered: it may have been made all the same, and nobody would send it before its lease ends.
    pub(super) is_claim_doubtful: bool,
    /// Somebody has rows locked, and the log says so.
    is_lock_told: bool,
    /// The rules that the pauses were made under: an edit may have mended the channel.
    rules_version: i64,
}

impl InFlight {
    /// How much more of a lane may be on its way. While its channel is down: one message, when the pause is over.
    pub(super) fn room(&self, lane: &str, known: Option<&Lane>, now: DateTime<Utc>) -> usize {
        let idle = Traffic::default();
        let traffic = self.lanes.get(lane).unwrap_or(&idle);
        // What no channel can take is not worth a queue: it is settled at once.
        let most = match known.map(|lane| &lane.channel) {
            Some(Ok(channel)) => channel.max_in_flight(),
            Some(Err(_)) | None => 1,
        };
        let most = if traffic.failures > 0 { 1 } else { most };
        let is_paused = traffic.paused_until.is_some_and(|until| until > now);
        let is_off = known.is_some_and(|lane| !lane.is_active);
        if is_paused || is_off {
            return 0;
        }
        most.saturating_sub(traffic.in_flight).min(MAX_IN_FLIGHT.saturating_sub(self.tasks.len()))
    }

    pub(super) fn spawn(
        &mut self,
        known: Option<&Lane>,
        clock: &Arc<dyn Clock>,
        lease: Option<Arc<Lease>>,
        notification: OutboxRow,
    ) {
        if !self.ids.insert(notification.id) {
            return;
        }
        let lane = lane_of(&notification.recipient).to_owned();
        self.lanes.entry(lane.clone()).or_default().in_flight += 1;
        let channel = match known {
            Some(known) => known.channel.clone().map_err(|fault| DeliveryError::Unavailable {
                reason: format!("the channel `{lane}` cannot be used: {fault}"),
                after: None,
            }),
            None => Err(DeliveryError::Permanent {
                reason: format!(
                    "there is no channel `{lane}` (hint: a row of `channels` with this name makes one; then \
                     `watchbell outbox retry {}`)",
                    notification.id.0
                ),
            }),
        };
        self.tasks.spawn(deliver(channel, lane, clock.clone(), lease, notification));
    }

    pub(super) fn try_next(&mut self, now: DateTime<Utc>) -> Option<Unwritten> {
        self.tasks.try_join_next().and_then(|done| self.ended(done, now))
    }

    /// The next that ends; `None`: nothing goes on.
    pub(super) async fn next(&mut self, clock: &dyn Clock) -> Option<Unwritten> {
        let done = self.tasks.join_next().await?;
        self.ended(done, clock.now())
    }

    fn ended(&mut self, done: Result<Ended, JoinError>, now: DateTime<Utc>) -> Option<Unwritten> {
        let Ended { id, lane, settlement, down } = match done {
            Ok(ended) => ended,
            // Its lease runs out, and it is tried again. A delivery catches its panics, so this is the end of the runtime.
            Err(error) => {
                tracing::error!(%error, "a delivery ended badly");
                return None;
            }
        };
        let traffic = self.lanes.entry(lane.clone()).or_default();
        traffic.in_flight = traffic.in_flight.saturating_sub(1);
        let channel = if lane == MAIL_LANE { "mail" } else { lane.as_str() };
        match down {
            None => {
                if traffic.failures > 0 {
                    tracing::info!(
                        channel,
                        failures = traffic.failures,
                        "a channel answers again; what waits for it goes out"
                    );
                }
                traffic.failures = 0;
                traffic.paused_until = None;
                traffic.said = None;
            }
            Some(Down { after, reason }) => {
                traffic.failures = traffic.failures.saturating_add(1);
                let wait = DELIVERY_BACKOFF.wait(traffic.failures, id.0.unsigned_abs());
                traffic.paused_until = Some(now + after.unwrap_or_default().max(wait));
                // A night of it is one line, and one more for each new reason; the ledger has every attempt.
                if traffic.said.as_ref() == Some(&reason) {
                    tracing::debug!(
                        channel,
                        notification = id.0,
                        reason,
                        failures = traffic.failures,
                        "a channel still takes nothing"
                    );
                } else {
                    tracing::warn!(
                        channel,
                        notification = id.0,
                        reason,
                        "a channel takes nothing now; its messages wait, and it is tried again"
                    );
                    traffic.said = Some(reason);
                }
            }
        }
        Some((id, settlement))
    }

    /// So many settlements wait for rows that somebody has locked.
    pub(super) fn tell_of_locked(&mut self, count: usize) {
        if count > 0 && !self.is_lock_told {
            tracing::warn!(
                messages = count,
                "how deliveries ended waits for rows that somebody's open transaction has locked; end that transaction"
            );
        }
        self.is_lock_told = count > 0;
    }

    /// After an edit of the tables every channel is worth a try.
    pub(super) fn forget_pauses(&mut self, rules_version: i64) {
        if self.rules_version != rules_version {
            self.rules_version = rules_version;
            self.lanes.values_mut().for_each(|traffic| traffic.paused_until = None);
        }
    }
}
