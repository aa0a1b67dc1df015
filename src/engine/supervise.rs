//! Sees to it that no background loop ends unnoticed: a node whose writer or dispatcher is gone looks alive, and
//! wakes nobody.
//!
//! It restarts nothing: what a panic left half-done in memory is sound again only in a new process.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Spawns loops, and tells of the first that ended when it should not have.
pub(super) struct Supervisor {
    alarm: Alarm,
}

/// Where an end that should not have been is told: by what is no task as well.
#[derive(Clone)]
pub(super) struct Alarm {
    first_end: Arc<watch::Sender<Option<String>>>,
}

impl Alarm {
    /// `name` ended, and how.
    pub(super) fn raise(&self, name: &str, how: &str) {
        tracing::error!(name, how, "a part of this node ended; the node cannot go on without it");
        self.first_end.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| format!("the {name} {how}"));
            is_first
        });
    }
}

impl Supervisor {
    pub(super) fn new() -> Self {
        Self { alarm: Alarm { first_end: Arc::new(watch::Sender::new(None)) } }
    }

    pub(super) fn alarm(&self) -> Alarm {
        self.alarm.clone()
    }

    /// Spawns a loop that may end only after `may_end` was cancelled, and may never panic.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        may_end: &CancellationToken,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (alarm, may_end) = (self.alarm(), may_end.clone());
        tokio::spawn(async move {
            let how = match AssertUnwindSafe(body).catch_unwind().await {
                Ok(()) if may_end.is_cancelled() => return,
                Ok(()) => "ended by itself".to_owned(),
                Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
            };
            alarm.raise(name, &how);
        })
    }

    /// Returns when a loop ended badly: which, and how. Never otherwise.
    pub(super) async fn failed(&self) -> String {
        let mut first_end = self.alarm.first_end.subscribe();
        match first_end.wait_for(Option::is_some).await {
            Ok(first) => first.clone().unwrap_or_default(),
            // Only when `self` is gone, which this borrows.
            Err(_) => std::future::pending().await,
        }
    }
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;
    use tokio_util::sync::CancellationToken;

    use super::Supervisor;

    #[tokio::test]
    async fn the_first_bad_end_is_told_to_all_who_ask() {
        let supervisor = Supervisor::new();
        let end = CancellationToken::new();
        drop(supervisor.spawn("sleeper", &end, pending()));
        supervisor.spawn("writer", &end, async { panic!("no ink") }).await.unwrap();
        supervisor.spawn("sweeper", &end, ready(())).await.unwrap();
        for _ in 0..2 {
            assert_eq!(supervisor.failed().await, "the writer panicked: no ink");
        }
    }

    #[tokio::test]
    async fn an_end_without_being_told_to_is_a_bad_one() {
        let supervisor = Supervisor::new();
        supervisor.spawn("sweeper", &CancellationToken::new(), ready(())).await.unwrap();
        assert_eq!(supervisor.failed().await, "the sweeper ended by itself");
    }

    #[tokio::test]
    async fn an_end_in_order_is_none() {
        let supervisor = Supervisor::new();
        let end = CancellationToken::new();
        end.cancel();
        supervisor.spawn("sweeper", &end, ready(())).await.unwrap();
        assert_eq!(supervisor.failed().now_or_never(), None);
    }
}
