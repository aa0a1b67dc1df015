//! The use cases: following the table, running checks at their ticks, writing what they owe, delivering it.
//!
//! On ports only: nothing here names a database or a protocol, and nothing decides about states; that is the
//! domain's. Background loops take no input: they do the same work whether woken or on their own timer.

mod acknowledgments;
mod announce;
mod channel_trouble;
mod check;
mod commands;
mod deadman;
mod deliver;
mod figures;
mod follow;
mod health;
mod inspect;
mod kinds;
mod notice_key;
mod pool;
mod roster;
mod rulebook;
mod run;
mod self_test;
mod supervise;
mod sweep;
mod trial;
mod upkeep;
mod write;

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::planning::Limits;
use crate::domain::rules::Rules;
use crate::domain::{Cause, DiscardReason, HistoryPolicy, MonitorId, Policy, State};
use crate::ports::{
    Applied, ChannelSource, Clock, MissedTicks, NodeIdentity, OnTick, Scheduler, SchedulerCounters, SchedulerError,
    StartScheduler, Store, StoreError, Work,
};

pub use deadman::DeadMan;
pub use deliver::Dispatcher;
pub use figures::{Figures, Spread};
pub use inspect::row_faults;
pub use kinds::{DuplicateKind, Kinds};
pub use run::{run_once, run_once_guarded};
pub use self_test::SelfTest;
pub use trial::{TrialEnd, try_now};
pub use write::decide_with;

use acknowledgments::AcknowledgmentTeller;
use announce::announce;
use channel_trouble::TroubleWatch;
use commands::Listeners;
use deadman::DeadManSwitch;
use figures::Meter;
use follow::{Consequences, Follower};
use health::Health;
use inspect::ScheduleReader;
use pool::CheckPool;
use roster::{Begin, Request, Roster};
use rulebook::Rulebook;
use run::CheckRunner;
use self_test::SelfTester;
use supervise::Supervisor;
use sweep::Sweeper;
use upkeep::HistoryKeeper;
use write::{OnApplied, WorkQueue, Writer};

/// A tick that is called later than this was slept over: it is a missed one.
const LATE: TimeDelta = TimeDelta::seconds(30);

/// What an engine is made of.
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where messages go.
    pub channels: Arc<dyn ChannelSource>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The kinds of this node.
    pub kinds: Arc<Kinds>,
    /// Who this node is.
    pub node: NodeIdentity,
    /// What the installation says about messages.
    pub policy: Policy,
    /// What it says about noise.
    pub limits: Limits,
    /// Checks that may go on at a time.
    pub max_concurrent_checks: usize,
    /// How long running checks may go on when the engine is stopped.
    pub shutdown_grace: Duration,
    /// How long history is kept.
    pub keep_history: HistoryPolicy,
    /// Whether this node has the database for itself: then deliveries that others had begun were interrupted, and are
    /// taken up at once instead of when their leases end.
    pub is_only_node: bool,
    /// Who is told that this installation is alive.
    pub alive: Alive,
}

/// How it is told outside that this installation is alive. By default it is not.
#[derive(Clone, Default)]
pub struct Alive {
    /// A message on a schedule.
    pub self_test: Option<SelfTest>,
    /// A dead-man's switch.
    pub dead_man: Option<DeadMan>,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the monitors cannot be loaded")]
    Store(#[from] StoreError),
    /// The scheduler.
    #[error("the scheduler does not start")]
    Scheduler(#[from] SchedulerError),
    /// Something that only a mistake in this program can cause.
    #[error("an internal part cannot be made: {0}")]
    Internal(String),
}

/// A running engine. [`Engine::shutdown`] ends it in order; dropping it without leaves its tasks running.
pub struct Engine {
    core: Arc<Core>,
    pool: Arc<CheckPool>,
    scheduler: Arc<dyn Scheduler>,
    supervisor: Supervisor,
    /// Ends following, sweeping and new requests.
    stop: CancellationToken,
    stop_delivery: CancellationToken,
    drop_checks: CancellationToken,
    shutdown_grace: Duration,
    loops: Vec<JoinHandle<()>>,
    jobs: JoinHandle<()>,
    writer: JoinHandle<()>,
    delivery: JoinHandle<()>,
    monitors: usize,
}

/// What ties the parts together: requests come in, work goes to the writer, what was written has consequences.
struct Core {
    roster: Arc<Roster>,
    meter: Arc<Meter>,
    clock: Arc<dyn Clock>,
    pool: OnceLock<Arc<CheckPool>>,
    follower: OnceLock<Arc<Follower>>,
    work: Arc<WorkQueue>,
    wake_delivery: Arc<Notify>,
    rulebook: Arc<Rulebook>,
}

impl Engine {
    /// Loads the monitors and starts everything.
    ///
    /// # Errors
    /// When the monitors cannot be read or the scheduler does not start.
    pub async fn start(parts: Parts, start_scheduler: StartScheduler) -> Result<Self, StartError> {
        check::install_panic_hook();
        let internal = |error: String| StartError::Internal(error);
        let meter = Arc::new(Meter::new().map_err(|error| internal(error.to_string()))?);
        let schedules = ScheduleReader::new(parts.policy.default_zone).map_err(|error| internal(error.to_string()))?;
        let owner = format!("node:{}", parts.node.uuid);
        if parts.is_only_node {
            parts.store.release_leases_of_others(&owner).await?;
        }
        let rulebook = Arc::new(Rulebook::new(parts.store.clone(), parts.channels));
        rulebook.refresh().await?;
        let dispatcher =
            Dispatcher::with_rulebook(parts.store.clone(), rulebook.clone(), parts.clock.clone(), parts.limits, owner);
        let roster = Arc::new(Roster::default());
        let (work, queue) = WorkQueue::new();
        let work = Arc::new(work);
        let core = Arc::new(Core {
            roster: roster.clone(),
            meter: meter.clone(),
            clock: parts.clock.clone(),
            pool: OnceLock::new(),
            follower: OnceLock::new(),
            work: work.clone(),
            wake_delivery: dispatcher.waker(),
            rulebook: rulebook.clone(),
        });
        let (follower, jobs) = Follower::new(
            parts.store.clone(),
            parts.clock.clone(),
            parts.kinds.clone(),
            roster.clone(),
            rulebook.clone(),
            schedules,
            Arc::downgrade(&core) as Weak<dyn Consequences>,
        );
        let follower = core.follower.get_or_init(|| Arc::new(follower)).clone();
        let drop_checks = CancellationToken::new();
        let runner = CheckRunner {
            runtime: tokio::runtime::Handle::current(),
            kinds: parts.kinds.clone(),
            roster,
            follower: follower.clone(),
            rulebook: rulebook.clone(),
            clock: parts.clock.clone(),
            finished: work,
            meter,
            drop_checks: drop_checks.clone(),
        };
        let supervisor = Supervisor::new();
        let pool = core
            .pool
            .get_or_init(|| CheckPool::start(Arc::new(runner), parts.max_concurrent_checks, supervisor.alarm()))
            .clone();
        let writer = Writer {
            store: parts.store.clone(),
            node: parts.node.clone(),
            policy: parts.policy.clone(),
            listener: core.clone(),
        };
        let stop = CancellationToken::new();
        let stop_delivery = CancellationToken::new();
        let writer = supervisor.spawn("writer of outcomes", &stop, writer.run(queue));
        let monitors = follower.load().await?;
        let scheduler = start_scheduler(core.clone(), monitors).await?;
        let jobs = supervisor.spawn("keeper of cron jobs", &stop, jobs.run(scheduler.clone()));

        let health = Health::new(parts.store.clone(), parts.clock.clone(), rulebook.clone(), &core, scheduler.clone());
        let health = Arc::new(health);
        let watchers = Watchers {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            node: parts.node.clone(),
            installation: parts.store.installation_uuid().await?,
            health: health.clone(),
            admins: parts.policy.admins,
        };
        let history = HistoryKeeper::new(parts.store.clone(), parts.clock.clone(), &parts.node, parts.keep_history);
        let sweeper = Sweeper {
            health,
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            node: parts.node,
            follower: follower.clone(),
            consequences: core.clone(),
        };
        let teller = AcknowledgmentTeller {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            default_zone: parts.policy.default_zone,
            wake_delivery: dispatcher.waker(),
        };
        let listeners =
            Listeners { store: parts.store, clock: parts.clock, rulebook, default_zone: parts.policy.default_zone };
        let (stop_follower, stop_sweeper) = (stop.clone(), stop.clone());
        let (stop_teller, stop_listeners, stop_history) = (stop.clone(), stop.clone(), stop.clone());
        let mut loops = vec![
            supervisor.spawn("follower of changes", &stop, async move { follower.run(stop_follower).await }),
            supervisor.spawn("sweeper", &stop, async move { sweeper.run(stop_sweeper).await }),
            supervisor.spawn("keeper of history", &stop, async move { history.run(stop_history).await }),
            supervisor.spawn("teller of acknowledgments", &stop, async move { teller.run(stop_teller).await }),
            supervisor.spawn("listener for commands", &stop, async move { listeners.run(stop_listeners).await }),
        ];
        loops.extend(watchers.start(parts.alive, &supervisor, &stop));
        let stop_dispatcher = stop_delivery.clone();
        let delivery = supervisor
            .spawn("dispatcher of messages", &stop_delivery, async move { dispatcher.run(stop_dispatcher).await });
        let shutdown_grace = parts.shutdown_grace;
        Ok(Self {
            core,
            pool,
            scheduler,
            supervisor,
            stop,
            stop_delivery,
            drop_checks,
            shutdown_grace,
            loops,
            jobs,
            writer,
            delivery,
            monitors,
        })
    }

    /// How many rows were loaded at the start.
    pub fn monitors(&self) -> usize {
        self.monitors
    }

    /// Begins to measure anew.
    pub fn forget_figures(&self) {
        self.core.meter.forget();
    }

    /// Returns when a background loop ended though nobody stopped it: which, and how. The engine is of no use any more
    /// then; end it with [`Engine::shutdown`] and start the process anew.
    pub async fn failed(&self) -> String {
        self.supervisor.failed().await
    }

    /// What was measured so far.
    pub fn figures(&self) -> Figures {
        self.core.meter.read()
    }

    /// What the scheduler has done so far. A `since_last_poll` well above a second: it hangs.
    pub fn scheduler_counters(&self) -> SchedulerCounters {
        self.scheduler.counters()
    }

    /// Ends in order: no new ticks, a grace for running checks, everything decided written, deliveries on their way
    /// settled. What is still running after the grace is dropped, and nothing of it is written.
    pub async fn shutdown(self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        const DROPPING: Duration = Duration::from_secs(2);
        self.scheduler.shutdown().await;
        self.stop.cancel();
        self.pool.close();
        let wait_for_checks = async {
            while self.pool.running() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(self.shutdown_grace, wait_for_checks).await.is_err() {
            tracing::warn!(checks = self.pool.running(), "checks still running after the grace period are dropped");
            self.drop_checks.cancel();
            let wait_for_drops = async {
                while self.pool.running() > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            drop(tokio::time::timeout(DROPPING, wait_for_drops).await);
        }
        for ended in self.loops {
            until_ended(ended, "housekeeping waits for the database").await;
        }
        self.core.work.close();
        self.jobs.abort();
        until_ended(self.writer, "outcomes of checks are not written yet").await;
        self.stop_delivery.cancel();
        until_ended(self.delivery, "how deliveries ended is not written yet, or the last of them go on").await;
    }
}

/// Waits, and says for what: a node that does not end must not look as if it hung.
async fn until_ended(mut ended: JoinHandle<()>, what_is_left: &str) {
    const SAY_EVERY: Duration = Duration::from_secs(5);
    let began = Instant::now();
    while tokio::time::timeout(SAY_EVERY, &mut ended).await.is_err() {
        tracing::warn!(
            seconds = began.elapsed().as_secs(),
            "still stopping: {what_is_left}; if the database cannot be written, mend that, or stop this node at once"
        );
    }
}

/// What the loops that watch this node itself are made of.
struct Watchers {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    node: NodeIdentity,
    installation: String,
    health: Arc<Health>,
    admins: Vec<String>,
}

impl Watchers {
    fn start(self, alive: Alive, supervisor: &Supervisor, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let Self { store, clock, node, installation, health, admins } = self;
        let mut loops = Vec::new();
        if let Some(self_test) = alive.self_test.filter(|self_test| !self_test.recipients.is_empty()) {
            let (store, clock, installation, until) =
                (store.clone(), clock.clone(), installation.clone(), stop.clone());
            let tester = SelfTester { store, clock, node, installation, self_test };
            loops.push(supervisor.spawn("self-test", stop, async move { tester.run(until).await }));
        }
        if let Some(switch) = alive.dead_man {
            let (health, until) = (health.clone(), stop.clone());
            let switch = DeadManSwitch { health, switch };
            loops.push(supervisor.spawn("dead-man's switch", stop, async move { switch.run(until).await }));
        }
        let watch = TroubleWatch { store, clock, health, installation, admins };
        let until = stop.clone();
        loops.push(supervisor.spawn("watch over the channels", stop, async move { watch.run(until).await }));
        loops
    }
}

impl Core {
    fn start(&self, request: Request) {
        match self.roster.begin(request) {
            Begin::Now => match self.pool.get() {
                Some(pool) => pool.push(request),
                None => drop(self.roster.end(request.monitor)),
            },
            Begin::Busy if request.cause == Cause::Schedule => self.meter.count("ticks_skipped", 1),
            Begin::Busy | Begin::Not => {}
        }
    }

    /// A monitor that fails while it depends on others has them asked at once: its alert waits for what they say.
    fn ask_parents(&self, work: &Work, applied: &Applied, rules: &Rules) {
        let is_new_alert = matches!(
            applied,
            Applied::Written { state_before: State::Ok, state_after: Some(State::Alert), queued: 1.., .. }
        );
        if is_new_alert {
            for parent in rules.dependencies.ancestors(work.monitor_id()) {
                self.start(Request::now(parent, Cause::Dependency, None, 0));
            }
        }
    }

    /// A run ended; what was asked for meanwhile begins.
    fn end(&self, monitor: MonitorId, again: Option<Request>) {
        let asked_meanwhile = self.roster.end(monitor);
        if let Some(request) = asked_meanwhile.filter(|asked| asked.tick.is_some()).or(again).or(asked_meanwhile) {
            self.start(request);
        }
    }
}

impl OnTick for Core {
    fn on_tick(self: Arc<Self>, monitor: MonitorId, tick: DateTime<Utc>) -> BoxFuture<'static, ()> {
        let now = self.clock.now();
        match self.follower.get() {
            // The machine slept over it, or the clock was set forward: the row says whether it is made up for.
            Some(follower) if now - tick > LATE => follower.missed(monitor, tick, 1),
            _ => self.start(Request::now(monitor, Cause::Schedule, Some(tick), 0)),
        }
        Box::pin(std::future::ready(()))
    }

    fn on_missed(&self, missed: MissedTicks) {
        self.meter.count("ticks_missed", missed.count);
        self.roster.count_missed(missed.monitor, u32::try_from(missed.count).unwrap_or(u32::MAX));
    }
}

impl Consequences for Core {
    fn request(&self, request: Request) {
        self.start(request);
    }

    fn edited(&self, work: Work) {
        // After the end, what an edit owes is found by the sweep of the next start.
        if !self.work.send(work) {
            tracing::debug!("an edit came after the writer had ended");
        }
    }
}

impl OnApplied for Core {
    fn are_checks_rushed(&self) -> bool {
        self.pool.get().is_some_and(|pool| pool.is_rushed())
    }

    fn on_applied(&self, work: Work, applied: Applied) {
        self.work.done();
        if let Applied::Written { queued: 1.., .. } = applied {
            self.wake_delivery.notify_one();
        }
        let rules = self.rulebook.known().rules;
        announce(&work, &applied, &rules);
        self.ask_parents(&work, &applied, &rules);
        let Work::Run(run) = work else { return };
        let monitor = run.monitor.id;
        let again = match applied {
            Applied::Written { is_recheck_asked_for, .. } => {
                let now = self.clock.now();
                self.meter.commit_delay((now - run.finished_at()).to_std().unwrap_or_default());
                self.meter.count("runs_applied", 1);
                is_recheck_asked_for.then(|| Request::now(monitor, Cause::Forced, None, 0))
            }
            Applied::Discarded(reason) => {
                self.meter.count("runs_discarded", 1);
                self.roster.restore_counts(monitor, run.skipped_ticks, run.missed_ticks);
                tracing::debug!(monitor.id = monitor.0, ?reason, "an outcome was discarded");
                (reason == DiscardReason::QuestionEdited).then(|| Request::now(monitor, run.cause, run.tick, 0))
            }
        };
        self.end(monitor, again);
    }

    fn on_refused(&self, work: Work, error: &StoreError) {
        self.work.done();
        let monitor = work.monitor_id();
        tracing::error!(monitor.id = monitor.0, %error, "the outcome of a check cannot be stored and is lost");
        if let Work::Run(_) = work {
            self.end(monitor, None);
        }
    }
}
