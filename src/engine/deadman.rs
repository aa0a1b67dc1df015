//! The dead-man's switch: tells something outside that this node is well, and is silent while it is not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use crate::ports::Pinger;

/// While it is silent, a node that recovers is noticed within this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is told outside, and how often.
#[derive(Clone)]
pub struct DeadMan {
    /// What is told.
    pub pinger: Arc<dyn Pinger>,
    /// How often.
    pub every: Duration,
}

pub(super) struct DeadManSwitch {
    pub(super) health: Arc<Health>,
    pub(super) switch: DeadMan,
}

impl DeadManSwitch {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut is_failing = false;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let mut wait = self.switch.every;
            if self.health.is_well().await {
                // A ping that is on its way is of no use when this node ends.
                let Some(pinged) = stop.run_until_cancelled(self.switch.pinger.ping()).await else { return };
                let was_failing = std::mem::replace(&mut is_failing, pinged.is_err());
                match pinged {
                    Ok(()) if was_failing => tracing::info!("the dead-man's switch is reached again"),
                    Err(error) if !was_failing => tracing::warn!(
                        %error, "the dead-man's switch cannot be reached, and will raise the alarm; it is tried again"
                    ),
                    Ok(()) | Err(_) => {}
                }
            } else {
                wait = wait.min(LOOK_AGAIN);
            }
            stop.run_until_cancelled(tokio::time::sleep_until(began + wait)).await;
        }
    }
}
