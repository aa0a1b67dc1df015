//! Queues the self-test message at its ticks. Its keys are of the tick and the recipient, so that a restart, or another
//! node, sends none twice; a tick that was slept over is made up for when it is not too long ago.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::notice_key::notice_key;
use crate::domain::oversight::{last_tick, self_test_message};
use crate::domain::schedule::Schedule;
use crate::ports::{Clock, NodeIdentity, Store, StoreError};

/// The longest sleep: the wall clock may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a failure of the database.
const WAIT_AFTER_ERROR: Duration = Duration::from_secs(5);

/// Who is told that Watchbell is alive, and when.
#[derive(Debug, Clone)]
pub struct SelfTest {
    /// Nobody: it is off.
    pub recipients: Vec<String>,
    /// When.
    pub schedule: Schedule,
}

pub(super) struct SelfTester {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: NodeIdentity,
    pub(super) installation: String,
    pub(super) self_test: SelfTest,
}

impl SelfTester {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut done = None;
        let mut is_failing = false;
        while !stop.is_cancelled() {
            let looked = self.look(done).await;
            let was_failing = std::mem::replace(&mut is_failing, looked.is_err());
            match looked {
                Ok(tick) => done = tick,
                Err(error) if !was_failing => {
                    tracing::warn!(%error, "the self-test message cannot be queued; it is tried again");
                }
                Err(_) => {}
            }
            let wait = if is_failing { WAIT_AFTER_ERROR } else { self.until_next(self.clock.now()) };
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    /// Queues the message of the last tick, unless `done` says that this was done. Returns that tick.
    async fn look(&self, done: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StoreError> {
        let now = self.clock.now();
        let Some(tick) = last_tick(&self.self_test.schedule, now).filter(|tick| Some(*tick) != done) else {
            return Ok(done);
        };
        let figures = self.store.day_figures(now - TimeDelta::days(1)).await?;
        let instant = tick.to_rfc3339_opts(SecondsFormat::Millis, true);
        let message = |recipient: &String| {
            let key = notice_key(&self.installation, &["self_test", &instant, recipient]);
            let version = env!("CARGO_PKG_VERSION");
            let schedule = &self.self_test.schedule;
            (key, self_test_message(recipient, &self.node.name, version, tick, schedule, &figures))
        };
        let messages: Vec<_> = self.self_test.recipients.iter().map(message).collect();
        let queued = self.store.queue_notices(&messages).await?;
        if queued > 0 {
            tracing::info!(%tick, recipients = queued, "the self-test message is queued");
        }
        Ok(Some(tick))
    }

    fn until_next(&self, now: DateTime<Utc>) -> Duration {
        let next = self.self_test.schedule.next_after(now);
        let wait = next.and_then(|next| (next - now).to_std().ok());
        // A millisecond more, so that the tick's instant is surely over.
        wait.map_or(LOOK_EVERY, |wait| (wait + Duration::from_millis(1)).min(LOOK_EVERY))
    }
}
