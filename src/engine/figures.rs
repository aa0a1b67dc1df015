//! What the engine measures of itself: lateness, delay to the commit, and everything that was not done.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use hdrhistogram::Histogram;

/// The longest span that is told apart; longer ones count as this.
const LONGEST_MS: u64 = 24 * 3_600 * 1_000;
/// What was lately is of this minute and the last one.
const MINUTE: Duration = Duration::from_secs(60);

/// A span's distribution, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of all spans are at most this.
    pub p50: f64,
    /// 99 of 100 are.
    pub p99: f64,
    /// All are.
    pub max: f64,
}

/// The figures since the start, or since they were last forgotten.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// From a tick's instant to the call of the child.
    pub lateness_ms: Spread,
    /// From the end of a check to its commit.
    pub commit_delay_ms: Spread,
    /// What happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

struct Inner {
    // In microseconds.
    lateness: Histogram<u32>,
    recent: Recent,
    commit_delay: Histogram<u32>,
    counts: BTreeMap<&'static str, u64>,
}

/// The lateness of this minute and of the last one.
struct Recent {
    since: Instant,
    this: Histogram<u32>,
    last: Histogram<u32>,
}

impl Recent {
    /// Forgets what is older than two minutes.
    fn turn(&mut self) {
        let minutes = self.since.elapsed().as_secs() / MINUTE.as_secs();
        if minutes > 0 {
            std::mem::swap(&mut self.this, &mut self.last);
            self.this.reset();
            if minutes > 1 {
                self.last.reset();
            }
            self.since = Instant::now();
        }
    }
}

/// Collects figures. Cheap enough for every run.
pub(super) struct Meter {
    inner: Mutex<Inner>,
}

impl Meter {
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        // Two digits: a few KiB each, and nobody needs a lateness to the microsecond.
        let histogram = || Histogram::new_with_bounds(1, LONGEST_MS * 1_000, 2);
        let recent = Recent { since: Instant::now(), this: histogram()?, last: histogram()? };
        let inner = Inner { lateness: histogram()?, recent, commit_delay: histogram()?, counts: BTreeMap::new() };
        Ok(Self { inner: Mutex::new(inner) })
    }

    pub(super) fn lateness(&self, late: TimeDelta) {
        let micros = u64::try_from(late.num_microseconds().unwrap_or(i64::MAX)).unwrap_or(0);
        self.with(|inner| {
            inner.lateness.saturating_record(micros);
            inner.recent.turn();
            inner.recent.this.saturating_record(micros);
        });
    }

    pub(super) fn commit_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.with(|inner| inner.commit_delay.saturating_record(micros));
    }

    pub(super) fn count(&self, what: &'static str, by: u64) {
        self.with(|inner| *inner.counts.entry(what).or_default() += by);
    }

    pub(super) fn read(&self) -> Figures {
        self.with(|inner| Figures {
            lateness_ms: spread(&inner.lateness),
            commit_delay_ms: spread(&inner.commit_delay),
            counts: inner.counts.clone(),
        })
    }

    /// 99 of 100 checks of the last minute or two began at most so late; `None`: none began.
    pub(super) fn recent_lateness_p99(&self) -> Option<TimeDelta> {
        let micros = self.with(|Inner { recent, .. }| {
            recent.turn();
            let spans = [&recent.this, &recent.last].into_iter().filter(|span| !span.is_empty());
            spans.map(|span| span.value_at_quantile(0.99)).max()
        })?;
        i64::try_from(micros).ok().map(TimeDelta::microseconds)
    }

    pub(super) fn forget(&self) {
        self.with(|inner| {
            inner.lateness.reset();
            inner.commit_delay.reset();
            inner.counts.clear();
        });
    }

    fn with<T>(&self, use_inner: impl FnOnce(&mut Inner) -> T) -> T {
        use_inner(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn spread(histogram: &Histogram<u32>) -> Spread {
    let at = |quantile| ms(histogram.value_at_quantile(quantile));
    Spread { p50: at(0.5), p99: at(0.99), max: ms(histogram.max()) }
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
