//! Tells the admins of a channel in trouble, over another one: once when it begins, once when it is over.
//!
//! What was told stands in the database, so that a restart, or another node, tells nothing twice. It takes no input.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::membership::Member;
use super::notice_key::notice_key;
use crate::domain::NewNotification;
use crate::domain::oversight::{CHANNEL_TROUBLE, FAILURE_WINDOW, LaneState, over_notice, trouble_notice};
use crate::domain::planning::lane_of;
use crate::ports::{Clock, Store, StoreError};

/// A look is a few steps through indexes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) struct TroubleWatch {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Arc<Health>,
    pub(super) member: Arc<Member>,
    pub(super) installation: String,
    pub(super) admins: Vec<String>,
}

/// Nodes that see an episode begin within so many seconds tell of it once.
const KEY_SECONDS: i64 = 600;

impl TroubleWatch {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut untold = BTreeSet::new();
        let mut is_failing = false;
        // Not at once: the first attempts of a node that has just started are to show which channels work.
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            // One node looks: two that see an episode begin a moment apart would tell of it twice.
            if !self.member.does(CHANNEL_TROUBLE) {
                continue;
            }
            let looked = self.look(&mut untold).await;
            let was_failing = std::mem::replace(&mut is_failing, looked.is_err());
            if let (Err(error), false) = (looked, was_failing) {
                tracing::warn!(%error, "whether channels are in trouble cannot be seen; it is tried again");
            }
        }
    }

    /// One look. `untold`: lanes in trouble of which nobody can be told.
    async fn look(&self, untold: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let state = self.store.outbox_state(now - FAILURE_WINDOW).await?;
        let off = self.health.channels_off();
        let up_for = self.health.up_for();
        for lane in &state.lanes {
            let is_active = !off.contains(&lane.lane);
            let notices = match (lane.trouble(now, up_for, is_active), lane.told_trouble) {
                (Some(trouble), None) => {
                    // With the time: the same message may begin another episode, when it is sent again and refused again.
                    let first = format!("{} {}", trouble.first().0, now.timestamp() / KEY_SECONDS);
                    let begun = |to: &str| trouble_notice(&lane.lane, trouble, to, now);
                    let notices = self.notices(lane, "begin", &first, begun);
                    if notices.is_empty() && untold.insert(lane.lane.clone()) {
                        tracing::error!(
                            lane = lane.lane,
                            trouble = trouble.told(),
                            "a channel is in trouble, and no admin can be told of it over another one; \
                             add one to `admins`"
                        );
                    }
                    notices
                }
                (None, Some(told)) if lane.is_drained(now, is_active) => {
                    self.notices(lane, "end", &told.0.to_string(), |to| over_notice(&lane.lane, to, now))
                }
                (None, None) => {
                    untold.remove(&lane.lane);
                    continue;
                }
                _ => continue,
            };
            self.queue(lane, &notices).await?;
        }
        untold.retain(|name| state.lanes.iter().any(|lane| lane.lane == *name));
        Ok(())
    }

    fn notices(
        &self,
        lane: &LaneState,
        what: &str,
        episode: &str,
        notice: impl Fn(&str) -> NewNotification,
    ) -> Vec<(String, NewNotification)> {
        let others = self.admins.iter().filter(|admin| lane_of(admin) != lane.lane);
        let keyed = |admin: &String| {
            let key = notice_key(&self.installation, &[CHANNEL_TROUBLE, what, &lane.lane, episode, admin]);
            (key, notice(admin))
        };
        others.map(keyed).collect()
    }

    async fn queue(&self, lane: &LaneState, notices: &[(String, NewNotification)]) -> Result<(), StoreError> {
        if !notices.is_empty() && self.store.queue_notices(notices).await? > 0 {
            let subject = notices[0].1.subject.as_str();
            tracing::warn!(lane = lane.lane, subject, recipients = notices.len(), "admins are told of a channel");
        }
        Ok(())
    }
}
