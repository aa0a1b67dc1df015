//! The threads on which children are called.
//!
//! One check, one thread: a child that blocks its thread delays nobody but itself, and the engine's own tasks share
//! no thread with children at all. A check that does not give its thread back in time is abandoned: its outcome is
//! reported, another thread takes its place, and the stuck one ends by itself if it ever returns.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::check::mark_check_thread;
use super::roster::Request;
use super::supervise::{Alarm, panic_text};
use crate::domain::Cause;

/// How often overdue checks are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A check that takes longer waits for something outside: a thread more is worth its stack. Checks that are shorter
/// keep the processor busy, and more threads would only take turns.
const SHORT: Duration = Duration::from_millis(3);
/// Requests that one thread is left with before another is woken: less than [`SHORT`] for checks that never wait.
const ENOUGH_FOR_ONE: usize = 64;
/// Stuck threads that are replaced; each keeps its stack. Beyond these checks wait, and the log says so.
const MAX_STUCK: usize = 256;

/// What a pool's threads do.
pub(super) trait Runner: Send + Sync + 'static {
    /// Carries one request through on this thread. It registers its deadline in `slot` before it calls the child and
    /// must not report an outcome when [`Slot::finish`] says that it was abandoned.
    fn run(&self, request: Request, slot: &Slot);
}

/// Called, once, for a check that is abandoned.
type OnAbandoned = Box<dyn FnOnce() + Send>;

struct Call {
    began: Instant,
    deadline: Instant,
    on_abandoned: OnAbandoned,
}

/// One thread's present check.
pub(super) struct Slot {
    call: Mutex<Option<Call>>,
    /// Shared by all slots: threads that are awake and not in a call, so that they look at the queue very soon.
    looking: Arc<AtomicUsize>,
    is_abandoned: AtomicBool,
}

impl Slot {
    /// Notes that the child is called now, and what is to be done if it is not back by `deadline`.
    pub(super) fn begin(&self, began: Instant, longest: Duration, on_abandoned: impl FnOnce() + Send + 'static) {
        self.looking.fetch_sub(1, Ordering::Relaxed);
        *lock(&self.call) = Some(Call { began, deadline: began + longest, on_abandoned: Box::new(on_abandoned) });
    }

    /// Notes that the child is back; false when it was abandoned meanwhile.
    pub(super) fn finish(&self) -> bool {
        self.looking.fetch_add(1, Ordering::Relaxed);
        lock(&self.call).take().is_some()
    }

    fn is_waiting(&self, now: Instant) -> bool {
        lock(&self.call).as_ref().is_some_and(|call| now.saturating_duration_since(call.began) > SHORT)
    }

    fn take_overdue(&self, now: Instant) -> Option<OnAbandoned> {
        let mut call = lock(&self.call);
        call.as_ref().filter(|call| call.deadline <= now)?;
        self.is_abandoned.store(true, Ordering::Relaxed);
        call.take().map(|call| call.on_abandoned)
    }
}

/// Requests that wait. Ticks go first: a first check or one that is made up for has no instant to be late for.
#[derive(Default)]
struct Queue {
    ticks: VecDeque<Request>,
    others: VecDeque<Request>,
}

impl Queue {
    fn push(&mut self, request: Request) {
        match request.cause {
            Cause::Schedule => self.ticks.push_back(request),
            Cause::First | Cause::Forced | Cause::Manual | Cause::CatchUp | Cause::Dependency | Cause::Event => {
                self.others.push_back(request);
            }
        }
    }

    fn pop(&mut self) -> Option<Request> {
        self.ticks.pop_front().or_else(|| self.others.pop_front())
    }

    fn len(&self) -> usize {
        self.ticks.len() + self.others.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct State {
    queue: Queue,
    /// When a request was taken last, or began to wait where none did.
    progressed: Instant,
    slots: Vec<Arc<Slot>>,
    idle: usize,
    stuck: usize,
    is_closed: bool,
}

/// The pool. It begins with two threads for each processor. More are started, up to the bound, while requests wait and
/// the threads that are there wait as well; they stay.
pub(super) struct CheckPool {
    state: Mutex<State>,
    /// Wakes threads: a request is queued.
    wake: Condvar,
    /// Wakes the watch: requests wait.
    crowded: Condvar,
    looking: Arc<AtomicUsize>,
    runner: Arc<dyn Runner>,
    /// Raised by a thread that ended though the pool is open: its monitor, or all, would never be checked again.
    alarm: Alarm,
    first_threads: usize,
    max_threads: usize,
}

impl CheckPool {
    pub(super) fn start(runner: Arc<dyn Runner>, max_threads: usize, alarm: Alarm) -> Arc<Self> {
        let state = State {
            queue: Queue::default(),
            progressed: Instant::now(),
            slots: Vec::new(),
            idle: 0,
            stuck: 0,
            is_closed: false,
        };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let first_threads = (2 * processors).min(max_threads);
        let (wake, crowded) = (Condvar::new(), Condvar::new());
        let looking = Arc::new(AtomicUsize::new(0));
        let pool = Arc::new(Self {
            state: Mutex::new(state),
            wake,
            crowded,
            looking,
            runner,
            alarm,
            first_threads,
            max_threads,
        });
        let watched = Arc::downgrade(&pool);
        let alarm = pool.alarm.clone();
        spawn("check-watch", move || guarded("watch over the checks", &alarm, || watch(&watched)));
        pool
    }

    /// Queues a request. The queue is bounded by the number of monitors: each has one run at a time.
    pub(super) fn push(self: &Arc<Self>, request: Request) {
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        if state.queue.is_empty() {
            state.progressed = Instant::now();
        }
        state.queue.push(request);
        // A thread that looks at the queue soon takes more than one request: to wake another for each would cost more
        // than most checks do. Should it stay in a call, the watch wakes others.
        let looking = self.looking.load(Ordering::Relaxed);
        if looking > 0 && state.queue.len() <= ENOUGH_FOR_ONE * looking {
            if state.queue.len() == 1 {
                self.crowded.notify_one();
            }
        } else if state.idle > 0 {
            self.wake.notify_one();
        } else if state.slots.len() < self.first_threads {
            self.start_thread(&mut state);
        }
    }

    /// Whether checks keep the processor busy and more of them wait than the threads will have taken at once.
    pub(super) fn is_rushed(&self) -> bool {
        let looking = self.looking.load(Ordering::Relaxed);
        looking > 0 && lock(&self.state).queue.len() > ENOUGH_FOR_ONE * looking
    }

    /// For how long requests wait and none is taken; zero where none waits.
    pub(super) fn waits_for(&self) -> Duration {
        let state = lock(&self.state);
        if state.queue.is_empty() { Duration::ZERO } else { state.progressed.elapsed() }
    }

    /// Takes no more requests and drops what waits: nothing of it has begun.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.queue = Queue::default();
        drop(state);
        self.wake.notify_all();
    }

    /// How many checks are going on.
    pub(super) fn running(&self) -> usize {
        lock(&self.state).slots.iter().filter(|slot| lock(&slot.call).is_some()).count()
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) {
        if state.slots.len() + state.stuck >= self.max_threads + MAX_STUCK {
            tracing::error!(
                stuck = state.stuck,
                "too many checks block their threads; checks wait for one that comes back"
            );
            return;
        }
        let (call, is_abandoned) = (Mutex::default(), AtomicBool::new(false));
        let slot = Arc::new(Slot { call, looking: self.looking.clone(), is_abandoned });
        state.slots.push(slot.clone());
        let pool = self.clone();
        if !spawn("check", move || guarded("thread of a check", &pool.alarm, || pool.work(&slot))) {
            state.slots.pop();
            // With no thread at all the request would wait for ever; with some, it waits for one of them.
            if state.slots.is_empty() {
                tracing::error!("no thread can be started for checks; the system's limit on tasks is too low");
            }
            self.wake.notify_one();
        }
    }

    fn work(&self, slot: &Arc<Slot>) {
        mark_check_thread();
        self.looking.fetch_add(1, Ordering::Relaxed);
        while let Some(request) = self.next() {
            self.runner.run(request, slot);
            if slot.is_abandoned.load(Ordering::Relaxed) {
                // Abandoned, replaced, and back after all.
                self.looking.fetch_sub(1, Ordering::Relaxed);
                lock(&self.state).stuck -= 1;
                return;
            }
        }
    }

    fn next(&self) -> Option<Request> {
        let mut state = lock(&self.state);
        loop {
            if let Some(request) = state.queue.pop() {
                state.progressed = Instant::now();
                return Some(request);
            }
            if state.is_closed {
                return None;
            }
            state.idle += 1;
            self.looking.fetch_sub(1, Ordering::Relaxed);
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.looking.fetch_add(1, Ordering::Relaxed);
            state.idle -= 1;
        }
    }

    /// Abandons what is overdue; returns what is to be reported.
    fn abandon_overdue(self: &Arc<Self>) -> Vec<OnAbandoned> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let mut abandoned = Vec::new();
        let mut slots = std::mem::take(&mut state.slots);
        slots.retain(|slot| match slot.take_overdue(now) {
            None => true,
            Some(report) => {
                abandoned.push(report);
                false
            }
        });
        state.slots = slots;
        state.stuck += abandoned.len();
        if !abandoned.is_empty() && !state.queue.is_empty() {
            self.start_thread(&mut state);
        }
        abandoned
    }

    /// Wakes or starts threads where requests wait and nobody looks at them.
    fn grow(self: &Arc<Self>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.queue.is_empty() || self.looking.load(Ordering::Relaxed) > 0 {
            return;
        }
        if state.idle > 0 {
            for _ in 0..state.idle.min(state.queue.len()) {
                self.wake.notify_one();
            }
            return;
        }
        let waiting = state.slots.iter().filter(|slot| slot.is_waiting(now)).count();
        if 2 * waiting < state.slots.len() {
            return;
        }
        let more = state.queue.len().min(state.slots.len()).min(self.max_threads.saturating_sub(state.slots.len()));
        for _ in 0..more {
            self.start_thread(&mut state);
        }
    }

    /// Waits until it is time to look at the checks again; false at the end.
    fn wait_to_look(&self) -> bool {
        let state = lock(&self.state);
        if state.is_closed {
            return false;
        }
        if state.queue.is_empty() {
            drop(self.crowded.wait_timeout(state, LOOK_EVERY));
        } else {
            drop(state);
        }
        std::thread::sleep(SHORT);
        true
    }
}

fn watch(pool: &Weak<CheckPool>) {
    let mut looked_at = Instant::now();
    while let Some(pool) = pool.upgrade() {
        if !pool.wait_to_look() {
            return;
        }
        pool.grow();
        if looked_at.elapsed() >= LOOK_EVERY {
            looked_at = Instant::now();
            for report in pool.abandon_overdue() {
                report();
            }
        }
    }
}

/// Runs the body of a thread. Children's panics are outcomes before they come here; any other is a fault of ours.
fn guarded(name: &str, alarm: &Alarm, body: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(body)) {
        alarm.raise(name, &format!("panicked: {}", panic_text(panic.as_ref())));
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    match std::thread::Builder::new().name(name.to_owned()).spawn(body) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "a thread cannot be started");
            false
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Children run outside the locks, so a panic cannot leave half a change behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{CheckPool, Runner, Slot};
    use crate::domain::{Cause, MonitorId};
    use crate::engine::roster::Request;
    use crate::engine::supervise::Supervisor;

    struct Broken;

    impl Runner for Broken {
        fn run(&self, _request: Request, _slot: &Slot) {
            panic!("no ground");
        }
    }

    #[tokio::test]
    async fn a_thread_that_ends_by_a_fault_of_ours_ends_the_node() {
        let supervisor = Supervisor::new();
        let pool = CheckPool::start(Arc::new(Broken), 1, supervisor.alarm());
        pool.push(Request::now(MonitorId(1), Cause::Forced, None, 0));
        assert_eq!(supervisor.failed().await, "the thread of a check panicked: no ground");
        pool.close();
    }
}
