//! Tells channels that were told of an incident that somebody has it in hand, however that was written down: by a
//! command, by SQL, by a page. Each acknowledgment is told once.

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::domain::{Acknowledgment, acknowledgment_notice};
use crate::ports::{Clock, Store};

/// A look is one step through an index that is almost always empty.
const EVERY: Duration = Duration::from_secs(1);
/// Told in one transaction: a few milliseconds. More wait for the next look.
const BATCH: u32 = 100;

pub(super) struct AcknowledgmentTeller {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) default_zone: Tz,
    pub(super) lease: Arc<Lease>,
    pub(super) wake_delivery: Arc<Notify>,
}

impl AcknowledgmentTeller {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut is_failing = false;
        while !stop.is_cancelled() {
            if !self.lease.holds() {
                // Nothing is tried, so that nothing is known to work again.
                stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
                continue;
            }
            let was_failing = std::mem::replace(&mut is_failing, false);
            match self.tell().await {
                Ok(0) => {}
                Ok(_) => self.wake_delivery.notify_one(),
                Err(error) => {
                    is_failing = true;
                    if !was_failing {
                        tracing::warn!(%error, "acknowledgments are not told; it is tried again");
                    }
                }
            }
            if was_failing && !is_failing {
                tracing::info!("acknowledgments are told again");
            }
            stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
    }

    async fn tell(&self) -> Result<usize, crate::ports::StoreError> {
        let zone = self.default_zone;
        let compose = move |acknowledgment: &Acknowledgment| {
            let told = acknowledgment.told.iter();
            told.map(|(channel, severity)| acknowledgment_notice(acknowledgment, channel, *severity, zone)).collect()
        };
        self.store.tell_acknowledgments(self.clock.now(), BATCH, &compose).await
    }
}
