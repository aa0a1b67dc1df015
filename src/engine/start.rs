//! How an engine is put together and started.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::acknowledgments::AcknowledgmentTeller;
use super::channel_trouble::TroubleWatch;
use super::commands::Listeners;
use super::core::Core;
use super::database_clock::DatabaseClock;
use super::deadman::{DeadMan, DeadManSwitch};
use super::deliver::Dispatcher;
use super::figures::Meter;
use super::follow::{Consequences, Follower};
use super::health::Health;
use super::inspect::ScheduleReader;
use super::kinds::Kinds;
use super::membership::{Member, Membership, MembershipError, View};
use super::pool::CheckPool;
use super::roster::Roster;
use super::rulebook::Rulebook;
use super::run::CheckRunner;
use super::self_test::{SelfTest, SelfTester};
use super::supervise::Supervisor;
use super::sweep::Sweeper;
use super::unwatched::UnwatchedTeller;
use super::upkeep::HistoryKeeper;
use super::write::{WorkQueue, Writer};
use crate::domain::planning::Limits;
use crate::domain::{HistoryPolicy, Policy};
use crate::ports::{ChannelSource, Clock, NodeIdentity, SchedulerError, StartScheduler, Store, StoreError};

/// What an engine is made of.
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Where messages go.
    pub channels: Arc<dyn ChannelSource>,
    /// The wall clock; the engine corrects it to the database's.
    pub clock: Arc<dyn Clock>,
    /// The kinds of this node.
    pub kinds: Arc<Kinds>,
    /// Who this node is.
    pub node: NodeIdentity,
    /// What it is among others.
    pub membership: Membership,
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
    /// taken up at once instead of when their leases end; and whoever else stands in `nodes` is gone.
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
    /// This node cannot work among the others.
    #[error("this node cannot take part")]
    Membership(#[from] MembershipError),
    /// The scheduler.
    #[error("the scheduler does not start")]
    Scheduler(#[from] SchedulerError),
    /// Something that only a mistake in this program can cause.
    #[error("an internal part cannot be made: {0}")]
    Internal(String),
}

impl Engine {
    /// Loads the monitors and starts everything.
    ///
    /// # Errors
    /// When the monitors cannot be read or the scheduler does not start.
    pub async fn start(parts: Parts, start_scheduler: StartScheduler) -> Result<Self, StartError> {
        super::check::install_panic_hook();
        let internal = |error: String| StartError::Internal(error);
        let meter = Arc::new(Meter::new().map_err(|error| internal(error.to_string()))?);
        let schedules = ScheduleReader::new(parts.policy.default_zone).map_err(|error| internal(error.to_string()))?;
        let owner = format!("node:{}", parts.node.uuid);
        let roster = Arc::new(Roster::default());
        let clock = Arc::new(DatabaseClock::new(parts.clock));
        let member = Arc::new(Member {
            store: parts.store.clone(),
            node: parts.node.clone(),
            settings: parts.membership,
            is_only_node: parts.is_only_node,
            kinds: parts.kinds.clone(),
            clock: clock.clone(),
            lease: Arc::default(),
            meter: meter.clone(),
            roster: roster.clone(),
            view: View::default(),
        });
        let supervisor = Supervisor::new();
        let clock: Arc<dyn Clock> = clock;
        member.join().await?;
        // From here on the lease is kept: loading many monitors may take longer than it holds.
        let stop_membership = CancellationToken::new();
        let membership = {
            let (member, stop) = (member.clone(), stop_membership.clone());
            supervisor.spawn("keeper of the lease", &stop_membership, async move { member.run(stop).await })
        };
        let end_if_not_started = stop_membership.clone().drop_guard();
        if parts.is_only_node {
            parts.store.release_leases_of_others(&owner).await?;
        }
        let rulebook = Arc::new(Rulebook::new(parts.store.clone(), parts.channels));
        rulebook.refresh().await?;
        let dispatcher = Dispatcher::with_rulebook(
            parts.store.clone(),
            rulebook.clone(),
            clock.clone(),
            parts.limits,
            owner.clone(),
        )
        .of(member.clone());
        let (work, queue) = WorkQueue::new();
        let work = Arc::new(work);
        let core = Arc::new(Core {
            roster: roster.clone(),
            meter: meter.clone(),
            clock: clock.clone(),
            lease: member.lease.clone(),
            pool: OnceLock::new(),
            follower: OnceLock::new(),
            work: work.clone(),
            wake_delivery: dispatcher.waker(),
            rulebook: rulebook.clone(),
        });
        let (follower, jobs) = Follower::new(
            member.clone(),
            clock.clone(),
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
            clock: clock.clone(),
            lease: member.lease.clone(),
            finished: work,
            meter,
            drop_checks: drop_checks.clone(),
        };
        let pool = core
            .pool
            .get_or_init(|| CheckPool::start(Arc::new(runner), parts.max_concurrent_checks, supervisor.alarm()))
            .clone();
        let writer = Writer {
            store: parts.store.clone(),
            node: parts.node.clone(),
            policy: parts.policy.clone(),
            lease: member.lease.clone(),
            listener: core.clone(),
            is_doubtful: Arc::default(),
        };
        let stop = CancellationToken::new();
        let stop_delivery = CancellationToken::new();
        let writer = supervisor.spawn("writer of outcomes", &stop, writer.run(queue));
        let monitors_seen = follower.load().await?;
        let monitors = core.roster.len();
        let scheduler = start_scheduler(core.clone(), clock.clone(), monitors).await?;
        let jobs = supervisor.spawn("keeper of cron jobs", &stop, jobs.run(scheduler.clone()));

        let health = Health::new(parts.store.clone(), clock.clone(), rulebook.clone(), &core, scheduler.clone());
        let health = Arc::new(health);
        let watchers = Watchers {
            store: parts.store.clone(),
            clock: clock.clone(),
            node: parts.node.clone(),
            installation: parts.store.installation_uuid().await?,
            health: health.clone(),
            member: member.clone(),
            admins: parts.policy.admins.clone(),
        };
        let sweeper = Sweeper {
            health,
            store: parts.store.clone(),
            clock: clock.clone(),
            member: member.clone(),
            follower: follower.clone(),
            consequences: core.clone(),
        };
        let history = HistoryKeeper {
            store: parts.store.clone(),
            clock: clock.clone(),
            owner,
            lease: member.lease.clone(),
            policy: parts.keep_history,
        };
        let teller = AcknowledgmentTeller {
            store: parts.store.clone(),
            clock: clock.clone(),
            default_zone: parts.policy.default_zone,
            lease: member.lease.clone(),
            wake_delivery: dispatcher.waker(),
        };
        let listeners = Listeners {
            store: parts.store,
            clock,
            rulebook,
            default_zone: parts.policy.default_zone,
            member: member.clone(),
        };
        let unwatched = UnwatchedTeller {
            store: teller.store.clone(),
            installation: watchers.installation.clone(),
            admins: parts.policy.admins,
        };
        let (balancer, stop_balancer) = (follower.clone(), stop.clone());
        let (stop_follower, stop_sweeper) = (stop.clone(), stop.clone());
        let (stop_teller, stop_listeners, stop_history) = (stop.clone(), stop.clone(), stop.clone());
        let mut loops = vec![
            supervisor.spawn("follower of changes", &stop, async move { follower.run(stop_follower).await }),
            supervisor.spawn("balancer of monitors", &stop, async move {
                balancer.follow_the_fleet(monitors_seen, &unwatched, stop_balancer).await;
            }),
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
            membership,
            stop_membership: end_if_not_started.disarm(),
            member,
            monitors,
        })
    }
}

/// What the loops that watch this node itself are made of.
struct Watchers {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    node: NodeIdentity,
    installation: String,
    health: Arc<Health>,
    member: Arc<Member>,
    admins: Vec<String>,
}

impl Watchers {
    fn start(self, alive: Alive, supervisor: &Supervisor, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let Self { store, clock, node, installation, health, member, admins } = self;
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
        let watch = TroubleWatch { store, clock, health, member, installation, admins };
        let until = stop.clone();
        loops.push(supervisor.spawn("watch over the channels", stop, async move { watch.run(until).await }));
        loops
    }
}
