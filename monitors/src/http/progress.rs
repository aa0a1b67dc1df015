//! How far a request has come, so that what went wrong can be said of the right part of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;

/// The parts of a request, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Preparing,
    Resolving,
    /// TCP, and for https the TLS handshake.
    Connecting,
    Waiting,
    Reading,
}

/// Shared by the parts of one request; each notes when it begins.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<State>>);

struct State {
    phase: Phase,
    /// Whom the present hop asks.
    url: Url,
}

impl Progress {
    pub(super) fn new(url: Url) -> Self {
        Self(Arc::new(Mutex::new(State { phase: Phase::Preparing, url })))
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// A redirect leads to `url`.
    pub(super) fn moves_to(&self, url: &Url) {
        self.state().url = url.clone();
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(super) fn url(&self) -> Url {
        self.state().url.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is two plain values: a panic elsewhere leaves nothing half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
