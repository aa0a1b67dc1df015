//! A trial message: queued, tried once by this very process, and over, however it ended.
//!
//! It is taken in the moment in which it is queued, so that no node sends it as well. Where this process dies meanwhile,
//! a node takes it up when the lease ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deliver::{LEASE, try_once};
use crate::domain::{OutboxRow, Settlement};
use crate::ports::{Channel, Clock, Delivered, DeliveryError, Store, StoreError, Trial};

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialEnd {
    /// What was sent.
    pub message: OutboxRow,
    /// What the channel said.
    pub result: Result<Delivered, DeliveryError>,
    /// How long it took to say so.
    pub took: Duration,
}

/// Queues a trial and tries it once. One that is not taken is given up: the person who waits for it knows.
///
/// # Errors
/// When the database cannot be written.
pub async fn try_now(
    store: &dyn Store,
    channel: Arc<dyn Channel>,
    clock: &dyn Clock,
    owner: &str,
    trial: Trial,
) -> Result<TrialEnd, StoreError> {
    let trial = Trial { lease_until: clock.now() + LEASE, ..trial };
    let message = store.queue_trial(owner, &trial).await?;
    let began = Instant::now();
    let result = try_once(channel.as_ref(), &message).await;
    let took = began.elapsed();
    let settlement = match &result {
        Ok(delivered) => Settlement::Sent {
            at: clock.now(),
            answer: delivered.answer.clone(),
            external_id: delivered.external_id.clone(),
        },
        Err(error) => Settlement::Failed { error: error.to_string() },
    };
    let settled = store.settle_notifications(owner, &[(message.id, settlement)]).await?;
    if !settled.locked.is_empty() {
        let reason = "somebody's open transaction has its row locked; end it; a node may send this trial once more";
        return Err(StoreError::Unavailable {
            action: "write how the trial ended".to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok(TrialEnd { message, result, took })
}
