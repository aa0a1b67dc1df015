//! Carries a tick from its activation to the call at its instant.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::agenda::{Agenda, Armed, Claim};
use crate::ports::{Clock, MissedTicks, OnTick};

/// Longest sleep without a look at the wall clock: timers do not notice that it was set, or that the machine slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(4);

/// What every activation needs.
pub(super) struct Dispatcher {
    agenda: Mutex<Agenda>,
    on_tick: Arc<dyn OnTick>,
    clock: Arc<dyn Clock>,
}

impl Dispatcher {
    pub(super) fn new(on_tick: Arc<dyn OnTick>, clock: Arc<dyn Clock>, batch: usize) -> Self {
        Self { agenda: Mutex::new(Agenda::new(batch)), on_tick, clock }
    }

    /// Never hold it across an await. No code under it calls out, so a poisoned lock guards sound data.
    pub(super) fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for due ticks. Returns the names of the jobs to activate, one for each tick.
    pub(super) fn poll(self: &Arc<Self>) -> Vec<Uuid> {
        let poll = self.agenda().poll(self.clock.now());
        for lost in poll.lost {
            tracing::warn!(monitor.id = lost.monitor.0, tick = %lost.tick, "an activation was lost; it is run now");
            tokio::spawn(Arc::clone(self).run(lost));
        }
        if !poll.missed.is_empty() {
            self.tell(poll.missed);
        }
        poll.due
    }

    /// What an activation of that job does.
    pub(super) async fn activate(self: Arc<Self>, name: Uuid) {
        let armed = self.agenda().take(name);
        if let Some(armed) = armed {
            self.run(armed).await;
        }
    }

    async fn run(self: Arc<Self>, armed: Armed) {
        let now = loop {
            let now = self.clock.now();
            let early = match (armed.tick - now).to_std() {
                Ok(early) if !early.is_zero() => early,
                _ => break now,
            };
            if !self.agenda().is_armed(armed) {
                return;
            }
            tokio::time::sleep(early.min(LONGEST_SLEEP)).await;
        };
        let claim = self.agenda().claim(armed, now);
        match claim {
            Claim::Call => Arc::clone(&self.on_tick).on_tick(armed.monitor, armed.tick).await,
            Claim::Missed(missed) => self.on_tick.on_missed(missed),
            Claim::Nothing => {}
        }
    }

    /// On a task of its own: a panic there must not end the loop that polls.
    fn tell(&self, missed: Vec<MissedTicks>) {
        let on_tick = Arc::clone(&self.on_tick);
        tokio::spawn(async move { missed.into_iter().for_each(|missed| on_tick.on_missed(missed)) });
    }
}
