//! Listens in the rooms of channels that take commands, executes what allowed people write there, and answers.
//!
//! One node listens in each room; when it is lost, another does, and goes on where the last one stopped.
//! One loop for each channel, as the rulebook knows them: added, edited, switched off and deleted ones are followed. How
//! far a room was read is stored after its commands were executed, so a crash in between executes them again: each is
//! made such that this changes nothing. A room that cannot be heard, and a channel that panics, harm no other.

mod execute;
mod listener;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::membership::Member;
use super::rulebook::Rulebook;
use crate::ports::{Channel, Clock, Store};
use execute::Executor;
use listener::Listener;

/// How soon an edit of `channels` is followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Listeners {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) default_zone: Tz,
    pub(super) member: Arc<Member>,
}

/// A room that is listened to.
struct Listening {
    channel: Arc<dyn Channel>,
    /// Dropped, it ends: a command that is interrupted is executed again by whoever listens next.
    task: AbortOnDropHandle<()>,
}

impl Listeners {
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut listening = BTreeMap::new();
        while !stop.is_cancelled() {
            self.follow(&mut listening);
            stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
        }
        for room in listening.into_values() {
            room.task.abort();
            // Cancelled is how it is to end.
            drop(room.task.await);
        }
    }

    fn follow(&self, listening: &mut BTreeMap<String, Listening>) {
        let lanes = self.rulebook.known().lanes;
        let wanted: BTreeMap<&String, (&String, &Arc<dyn Channel>)> = lanes
            .iter()
            .filter(|(_, lane)| lane.is_active)
            .filter_map(|(name, lane)| Some((name, (&lane.url, lane.channel.as_ref().ok()?))))
            .filter(|(_, (_, channel))| channel.inbox().is_some())
            .filter(|(name, _)| self.member.does(&format!("listen in {name}")))
            .collect();
        listening.retain(|name, room| {
            let is_wanted = wanted.get(name).is_some_and(|(_, channel)| Arc::ptr_eq(channel, &room.channel));
            // It catches panics, so this is a mistake of ours; the room must not stay deaf.
            if is_wanted && room.task.is_finished() {
                tracing::error!(channel = name, "listening for commands ended badly; it begins anew");
            }
            is_wanted && !room.task.is_finished()
        });
        for (name, (url, channel)) in wanted {
            if !listening.contains_key(name) {
                listening.insert(name.clone(), self.listen(name, url, channel));
            }
        }
    }

    fn listen(&self, name: &str, url: &str, channel: &Arc<dyn Channel>) -> Listening {
        let executor = Executor {
            store: self.store.clone(),
            clock: self.clock.clone(),
            rulebook: self.rulebook.clone(),
            default_zone: self.default_zone,
            channel: name.to_owned(),
        };
        let listener = Listener::new(name.to_owned(), url.to_owned(), channel.clone(), self.store.clone(), executor);
        Listening { channel: channel.clone(), task: AbortOnDropHandle::new(tokio::spawn(listener.run())) }
    }
}
