//! The scheduler on the real job scheduler and real time, a few seconds each, with a wall clock that can be set.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{CronScheduler, ScheduleAdapterError};
use crate::domain::MonitorId;
use crate::domain::schedule::Schedule;
use crate::ports::{Clock, MissedTicks, OnTick};

/// The machine's clock, as if somebody had set it.
#[derive(Default)]
struct SettableClock {
    ahead_millis: AtomicI64,
}

impl SettableClock {
    fn set_by(&self, span: TimeDelta) {
        self.ahead_millis.fetch_add(span.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for SettableClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::milliseconds(self.ahead_millis.load(Ordering::SeqCst))
    }
}

struct Recorder {
    clock: Arc<SettableClock>,
    calls: Mutex<HashMap<MonitorId, Vec<DateTime<Utc>>>>,
    missed: Mutex<Vec<MissedTicks>>,
    early: AtomicI64,
}

impl OnTick for Recorder {
    fn on_tick(self: Arc<Self>, monitor: MonitorId, tick: DateTime<Utc>) -> BoxFuture<'static, ()> {
        async move {
            if self.clock.now() < tick {
                self.early.fetch_add(1, Ordering::SeqCst);
            }
            self.calls.lock().unwrap().entry(monitor).or_default().push(tick);
        }
        .boxed()
    }

    fn on_missed(&self, missed: MissedTicks) {
        self.missed.lock().unwrap().push(missed);
    }
}

impl Recorder {
    fn calls_of(&self, monitor: i64) -> Vec<DateTime<Utc>> {
        self.calls.lock().unwrap().get(&MonitorId(monitor)).cloned().unwrap_or_default()
    }
}

struct Bench {
    clock: Arc<SettableClock>,
    recorder: Arc<Recorder>,
    scheduler: CronScheduler,
}

impl Bench {
    async fn start() -> Self {
        let clock = Arc::new(SettableClock::default());
        let recorder = Arc::new(Recorder {
            clock: Arc::clone(&clock),
            calls: Mutex::default(),
            missed: Mutex::default(),
            early: AtomicI64::new(0),
        });
        let scheduler = CronScheduler::start(recorder.clone(), clock.clone(), 10_000).await.unwrap();
        Self { clock, recorder, scheduler }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn put(&self, monitor: i64, text: &str) -> Option<DateTime<Utc>> {
        self.scheduler.put(MonitorId(monitor), schedule(text), self.now()).await.unwrap()
    }
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text, chrono_tz::UTC).unwrap()
}

/// An expression that is due once, at the full second that many seconds from now.
fn once_in(now: DateTime<Utc>, seconds: i64) -> (String, DateTime<Utc>) {
    let tick = DateTime::from_timestamp(now.timestamp() + seconds, 0).unwrap();
    (tick.format("%-S %-M %-H * * *").to_string(), tick)
}

async fn wait(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        wait(25).await;
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_thousands_is_called_once_each_and_never_early() {
    const MONITORS: i64 = 5_000;
    let bench = Bench::start().await;
    let (text, tick) = once_in(bench.now(), 4);
    let burst = schedule(&text);
    let jobs = (0..MONITORS).map(|id| (MonitorId(id), burst.clone(), bench.now())).collect();
    bench.scheduler.put_many(jobs).await.unwrap();
    until("all are called", || bench.scheduler.counters().dispatched >= MONITORS as u64).await;
    wait(3_000).await;
    for id in 0..MONITORS {
        assert_eq!(bench.recorder.calls_of(id), [tick], "monitor {id}");
    }
    assert_eq!(bench.recorder.early.load(Ordering::SeqCst), 0);
    let counters = bench.scheduler.counters();
    assert_eq!((counters.jobs, counters.dispatched, counters.missed), (MONITORS as u64, MONITORS as u64, 0));
    assert_eq!(counters.recovered_by_watchdog, 0);
    bench.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_come_and_go_without_disturbing_a_monitor() {
    let bench = Bench::start().await;
    let began = bench.now();
    bench.put(-1, "* * * * * *").await;
    for round in 0..300 {
        bench.put(round % 20, "* * * * * *").await;
        bench.scheduler.remove(MonitorId(round % 20)).await;
        wait(10).await;
    }
    wait(1_000).await;
    bench.scheduler.shutdown().await;
    let calls = bench.recorder.calls_of(-1);
    let seconds: Vec<i64> = calls.iter().map(|tick| tick.timestamp() - calls[0].timestamp()).collect();
    assert_eq!(seconds, (0..calls.len() as i64).collect::<Vec<_>>(), "every second, once");
    assert!((calls[0] - began).num_milliseconds() <= 1_000 && calls.len() >= 4);
    assert_eq!(bench.scheduler.counters().jobs, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_within_the_look_ahead_take_effect() {
    let bench = Bench::start().await;
    let (soon, soon_tick) = once_in(bench.now(), 5);
    let (later, later_tick) = once_in(bench.now(), 6);
    for id in 1..=4 {
        assert_eq!(bench.put(id, &soon).await, Some(soon_tick));
    }
    // By now the ticks are handed over and sleep.
    wait(1_200).await;
    assert_eq!(bench.put(1, &later).await, Some(later_tick), "moved");
    bench.scheduler.remove(MonitorId(2)).await;
    assert_eq!(bench.put(3, &soon).await, Some(soon_tick), "unchanged");
    bench.scheduler.remove(MonitorId(4)).await;
    assert_eq!(bench.put(4, &soon).await, Some(soon_tick), "removed and added again");
    assert_eq!(bench.scheduler.next_tick(MonitorId(2)), None);
    until("the later tick", || !bench.recorder.calls_of(1).is_empty()).await;
    wait(2_500).await;
    assert_eq!(bench.recorder.calls_of(1), [later_tick]);
    assert!(bench.recorder.calls_of(2).is_empty());
    assert_eq!(bench.recorder.calls_of(3), [soon_tick]);
    assert_eq!(bench.recorder.calls_of(4), [soon_tick]);
    assert_eq!(bench.scheduler.counters().recovered_by_watchdog, 0);
    bench.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_silences_nobody() {
    let bench = Bench::start().await;
    bench.put(1, "* * * * * *").await;
    until("first calls", || bench.recorder.calls_of(1).len() >= 2).await;
    let before = bench.recorder.calls_of(1).len();
    bench.clock.set_by(TimeDelta::hours(-3));
    until("calls on the new time", || bench.recorder.calls_of(1).len() >= before + 3).await;
    bench.scheduler.shutdown().await;
    let calls = bench.recorder.calls_of(1);
    let fresh: Vec<_> = calls.iter().filter(|tick| calls[0] - **tick > TimeDelta::hours(2)).collect();
    assert!(fresh.len() >= 2 && fresh.is_sorted(), "{calls:?}");
    assert!(fresh.windows(2).all(|pair| *pair[1] - *pair[0] == TimeDelta::seconds(1)), "{calls:?}");
    assert_eq!(bench.scheduler.counters().clock_jumps_back, 1);
    assert_eq!(bench.recorder.early.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_forward_calls_the_latest_tick_and_tells_of_the_others() {
    let bench = Bench::start().await;
    // Five minutes from any tick, so that none falls into the seconds of the test.
    bench.clock.set_by(TimeDelta::seconds(900 - bench.now().timestamp().rem_euclid(600)));
    bench.put(1, "@every 10m").await;
    wait(700).await;
    let jumped_from = bench.now();
    bench.clock.set_by(TimeDelta::hours(8));
    until("the latest tick", || !bench.recorder.calls_of(1).is_empty()).await;
    wait(2_600).await;
    bench.scheduler.shutdown().await;
    let ten_minutes = schedule("@every 10m");
    let first = ten_minutes.next_after(jumped_from).unwrap();
    let latest = first + TimeDelta::minutes(47 * 10);
    assert_eq!(bench.recorder.calls_of(1), [latest]);
    let missed = bench.recorder.missed.lock().unwrap().clone();
    let expected = MissedTicks { monitor: MonitorId(1), from: first, to: latest - TimeDelta::minutes(10), count: 47 };
    assert_eq!(missed, [expected]);
    assert_eq!(bench.scheduler.counters().missed, 47);
    assert_eq!(bench.scheduler.counters().recovered_by_watchdog, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_requests_at_once_are_all_served() {
    let bench = Arc::new(Bench::start().await);
    let requests = (0..2_000).map(|id| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.put(id, "@every 1s").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert!(request.await.unwrap().is_some());
    }
    until("each is called", || (0..2_000).all(|id| !bench.recorder.calls_of(id).is_empty())).await;
    bench.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_call_harms_neither_the_monitor_nor_the_others() {
    struct Panics(AtomicI64);
    impl OnTick for Panics {
        fn on_tick(self: Arc<Self>, _: MonitorId, _: DateTime<Utc>) -> BoxFuture<'static, ()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("before the first await");
        }
        fn on_missed(&self, _: MissedTicks) {}
    }
    let panics = Arc::new(Panics(AtomicI64::new(0)));
    let scheduler = CronScheduler::start(panics.clone(), Arc::new(SettableClock::default()), 1).await.unwrap();
    scheduler.put(MonitorId(1), schedule("* * * * * *"), Utc::now()).await.unwrap();
    until("it is called again and again", || panics.0.load(Ordering::SeqCst) >= 3).await;
    scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_shutdown_nothing_is_called() {
    let bench = Bench::start().await;
    bench.put(1, "* * * * * *").await;
    until("first call", || !bench.recorder.calls_of(1).is_empty()).await;
    bench.scheduler.shutdown().await;
    let calls = bench.recorder.calls_of(1).len();
    wait(2_200).await;
    assert_eq!(bench.recorder.calls_of(1).len(), calls);
    let refused = bench.scheduler.put(MonitorId(2), schedule("* * * * *"), bench.now()).await;
    assert!(matches!(refused, Err(ScheduleAdapterError::ShutDown)));
}
