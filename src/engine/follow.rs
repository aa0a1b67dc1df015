//! Follows what people change in `monitors`: the change log soon and before each check, the whole table now and then.

mod balance;
mod trouble;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use self::trouble::Trouble;
use super::inspect::{ScheduleReader, Timing, config_error, hard_faults, soft_faults};
use super::kinds::Kinds;
use super::membership::Member;
use super::roster::{KnownRow, Request, Roster, Share};
use super::rulebook::Rulebook;
use crate::domain::oversight::Unwatched;
use crate::domain::rules::Rules;
use crate::domain::schedule::Schedule;
use crate::domain::{Cause, MissedTickPolicy, MonitorId, MonitorRow};
use crate::ports::{ChangeCursor, Clock, Scheduler, Store, StoreError, Work};

/// How often the change log is looked at when no check asks for it. The contract: within one second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A run that had to wait for a thread uses what was read this little before.
const FRESH_ENOUGH: Duration = Duration::from_millis(20);
/// Rows read at a time.
const PAGE: u32 = 2_000;
/// Missed ticks are counted up to this: nobody needs to know how many seconds a month has.
const MOST_MISSED: u32 = 1_000;

/// A tick that is missed for less than this when a monitor is taken over fell into the hand-over: a lease, a look, and the
/// time to read the rows.
const HAND_OVER: TimeDelta = TimeDelta::seconds(20);

/// Why a row is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Somebody edited it.
    Edit,
    /// This node starts where nobody ran, or has its lease again.
    Start,
    /// Another node had it until now.
    TakeOver,
}

/// What the follower causes elsewhere.
pub(super) trait Consequences: Send + Sync + 'static {
    /// A run is wanted now.
    fn request(&self, request: Request);
    /// A row was edited, and is not about to run: what it owes is to be written.
    fn edited(&self, work: Work);
}

/// A change of the cron jobs, for the one actor that adds and removes.
enum JobChange {
    Put(MonitorId, Schedule, DateTime<Utc>),
    Remove(MonitorId),
}

pub(super) struct Follower {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    kinds: Arc<Kinds>,
    roster: Arc<Roster>,
    member: Arc<Member>,
    rulebook: Arc<Rulebook>,
    schedules: ScheduleReader,
    /// Counted while a time was caught up with in which nobody watched, and not told yet.
    unwatched: std::sync::Mutex<Option<Unwatched>>,
    /// Weak: the consequences own the follower.
    consequences: Weak<dyn Consequences>,
    jobs: UnboundedSender<JobChange>,
    /// How far the change log was read; held while it is read.
    cursor: Mutex<ChangeCursor>,
    /// When the last look began, in microseconds since `began`: what was committed before it is known. Apart from the
    /// lock, so that runs that need no look do not queue for it.
    looked_at: AtomicU64,
    /// Whether the last look failed.
    changes_trouble: Trouble,
    rules_trouble: Trouble,
    began: Instant,
}

impl Follower {
    pub(super) fn new(
        member: Arc<Member>,
        clock: Arc<dyn Clock>,
        rulebook: Arc<Rulebook>,
        schedules: ScheduleReader,
        consequences: Weak<dyn Consequences>,
    ) -> (Self, JobActor) {
        let (store, kinds, roster) = (member.store.clone(), member.kinds.clone(), member.roster.clone());
        let (jobs, changes) = tokio::sync::mpsc::unbounded_channel();
        let (cursor, looked_at, began) = (Mutex::default(), AtomicU64::new(0), Instant::now());
        (
            Self {
                store,
                clock,
                kinds,
                roster,
                member,
                rulebook,
                schedules,
                unwatched: std::sync::Mutex::default(),
                consequences,
                jobs,
                cursor,
                looked_at,
                changes_trouble: Trouble::default(),
                rules_trouble: Trouble::default(),
                began,
            },
            JobActor { changes },
        )
    }

    /// Returns when everything that was committed by `asked_at` is known here, and nothing known is older than
    /// [`FRESH_ENOUGH`] beyond that, or cannot be read now: one look serves all that were asked for at the same instant.
    pub(super) async fn be_fresh(&self, asked_at: Instant) {
        let asked_at = Instant::now().checked_sub(FRESH_ENOUGH).map_or(asked_at, |recent| recent.max(asked_at));
        let asked_at = self.micros(asked_at);
        if self.looked_at.load(Ordering::Acquire) >= asked_at {
            return;
        }
        let mut cursor = self.cursor.lock().await;
        if self.looked_at.load(Ordering::Acquire) >= asked_at {
            return;
        }
        let looks_at = self.micros(Instant::now());
        self.changes_trouble.report(self.read_changes(&mut cursor).await.err(), "changes of monitors");
        // Also where it failed: who waits for this look goes on with the row as last known, since what a check finds is
        // decided on the row itself. Each trying for itself, one after the other, would hold up every check.
        self.looked_at.store(looks_at, Ordering::Release);
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// Follows the change log until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut rules = self.rulebook.known().rules;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.be_fresh(Instant::now()).await;
            let followed = match self.rulebook.refresh().await {
                Ok(()) => self.rulebook.report_owed().await,
                error => error,
            };
            self.rules_trouble.report(followed.err(), "routes, channels, silences and dependencies");
            let before = std::mem::replace(&mut rules, self.rulebook.known().rules);
            if before.version != rules.version {
                self.report_rows_anew(&before, &rules);
            }
        }
    }

    /// After an edit of the channels: what is wrong with rows that name them may be another thing now.
    fn report_rows_anew(&self, before: &Rules, rules: &Rules) {
        let now = self.clock.now();
        for known in self.roster.ids().into_iter().filter_map(|id| self.roster.get(id)) {
            let row = &known.row;
            let soft = soft_faults(row, rules);
            if row.is_active && known.share.is_ours() && soft != soft_faults(row, before) {
                let mut faults = hard_faults(row, &known.timing, &known.share, &self.kinds);
                faults.extend(soft);
                self.edited(row, &known.timing, config_error(&faults), now);
            }
        }
    }

    /// Compares all rows with what is known: a safety net, for what the change log should have said.
    pub(super) async fn reconcile(&self) -> Result<(), StoreError> {
        let mut seen = std::collections::HashSet::new();
        let mut doubtful = Vec::new();
        self.for_each_row(|row| {
            seen.insert(row.id);
            if !self.is_known(&row) {
                doubtful.push(row.id);
            }
        })
        .await?;
        doubtful.extend(self.roster.ids().into_iter().filter(|id| !seen.contains(id)));
        for id in doubtful {
            // Read again while nobody follows the change log: what it brought meanwhile must not be undone.
            let _cursor = self.cursor.lock().await;
            match self.store.monitor(id).await {
                Ok(Some(row)) if !self.is_known(&row) => self.take_in(row, self.clock.now(), Occasion::Edit),
                Ok(Some(_)) => {}
                Ok(None) => self.take_out(id),
                // One row that cannot be read keeps no other from being compared.
                Err(error) => {
                    tracing::warn!(monitor.id = id.0, %error, "a monitor cannot be compared with what is known")
                }
            }
        }
        Ok(())
    }

    fn is_known(&self, row: &MonitorRow) -> bool {
        self.roster.get(row.id).is_some_and(|known| known.row.revision >= row.revision)
    }

    async fn for_each_row(&self, mut each: impl FnMut(MonitorRow)) -> Result<(), StoreError> {
        let mut after = MonitorId(i64::MIN);
        loop {
            let page = self.store.monitors(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            page.into_iter().for_each(&mut each);
        }
    }

    async fn read_changes(&self, cursor: &mut ChangeCursor) -> Result<(), StoreError> {
        loop {
            let changes = self.store.changes(*cursor, PAGE).await?;
            if !changes.monitors.is_empty() {
                // A row may name a channel that was inserted along with it.
                self.rulebook.refresh().await?;
            }
            let now = self.clock.now();
            for (id, row) in changes.monitors {
                match row {
                    Some(row) => self.take_in(row, now, Occasion::Edit),
                    None => self.take_out(id),
                }
            }
            *cursor = changes.cursor;
            if !changes.has_more {
                return Ok(());
            }
        }
    }

    fn take_in(&self, row: MonitorRow, now: DateTime<Utc>, occasion: Occasion) {
        let timing = Arc::new(self.schedules.read(&row));
        let row = Arc::new(row);
        let (share, before) = self.put(&row, &timing);
        let was_ours = before.as_ref().is_some_and(|before| before.share.is_ours());
        if !share.is_ours() {
            if was_ours {
                self.change_job(JobChange::Remove(row.id));
            }
            return;
        }
        // Edited so that it is run here from now on, as `runs_on` may be.
        let occasion = match occasion {
            Occasion::Edit if before.is_some() && !was_ours => Occasion::TakeOver,
            other => other,
        };
        if !was_ours || before.as_ref().is_none_or(|before| before.timing.schedule != timing.schedule) {
            self.change_job(JobChange::Put(row.id, timing.schedule.clone(), now));
        }
        if !row.is_active {
            return;
        }
        let mut faults = hard_faults(&row, &timing, &share, &self.kinds);
        let is_runnable = faults.is_empty();
        faults.extend(soft_faults(&row, &self.rulebook.known().rules));
        let error = config_error(&faults);
        let is_news =
            || before.as_ref().is_none_or(|before| before.row.recheck_seq != row.recheck_seq || !before.row.is_active);
        let is_asked_for = row.last_run_at.is_none() && (occasion != Occasion::Edit || is_news());
        let was_runnable = row.config_error.is_none();
        if is_asked_for {
            self.request(asked(&row));
        } else if occasion != Occasion::Edit {
            let is_made_up = self.catch_up(&row, &timing, now, occasion);
            if occasion == Occasion::TakeOver && was_runnable && !is_runnable && !is_made_up {
                // Nobody has said so yet, and its next tick may be a day away.
                self.request(Request::now(row.id, Cause::Event, None, 0));
            } else if error != row.config_error {
                self.edited(&row, &timing, error, now);
            }
        } else if !is_runnable || (!was_runnable && error != row.config_error) {
            self.request(Request::now(row.id, Cause::Event, None, 0));
        } else {
            self.edited(&row, &timing, error, now);
        }
    }

    /// Keeps the row with its share, and returns what was known before. Nodes may come and go meanwhile: whoever follows
    /// that has either seen what is kept here, or is seen here.
    fn put(&self, row: &Arc<MonitorRow>, timing: &Arc<Timing>) -> (Share, Option<KnownRow>) {
        let mut share = self.member.share_of(row);
        let known = |share: &Share| KnownRow { row: row.clone(), timing: timing.clone(), share: share.clone() };
        let before = self.roster.put(known(&share));
        loop {
            let now = self.member.share_of(row);
            if now == share {
                return (share, before);
            }
            self.roster.put(known(&now));
            share = now;
        }
    }

    fn take_out(&self, id: MonitorId) {
        self.roster.remove(id);
        self.change_job(JobChange::Remove(id));
        if !self.member.inherits(id) {
            return;
        }
        self.owe(Work::Edit { monitor: id, config_error: None, next_run_at: None });
    }

    fn edited(&self, row: &MonitorRow, timing: &Timing, config_error: Option<String>, now: DateTime<Utc>) {
        let next_run_at = timing.schedule.next_after(now);
        self.owe(Work::Edit { monitor: row.id, config_error, next_run_at });
    }

    /// Ticks between the last one written back and now: one run for the latest of them, or none, as the row says. A tick
    /// that fell into a hand-over between nodes was not slept over by anybody, and is run whatever the row says. Returns
    /// whether a run is made.
    fn catch_up(&self, row: &MonitorRow, timing: &Timing, now: DateTime<Utc>, occasion: Occasion) -> bool {
        let Some((latest, count)) = missed_ticks(row, timing, now) else { return false };
        let is_handed_over = occasion == Occasion::TakeOver && now - latest < HAND_OVER;
        if is_handed_over {
            self.make_up(row.id, latest, count);
            return true;
        }
        self.missed(row.id, latest, count)
    }

    /// `count` ticks passed unseen, the latest at `latest`: one run for it, or none, as the row says. Returns whether a run
    /// is made.
    pub(super) fn missed(&self, monitor: MonitorId, latest: DateTime<Utc>, count: u32) -> bool {
        let Some(known) = self.roster.get(monitor) else { return false };
        let is_run = known.row.missed_tick_policy == MissedTickPolicy::RunOnce;
        if is_run {
            self.make_up(monitor, latest, count);
        } else {
            self.roster.count_missed(monitor, count);
        }
        is_run
    }

    fn make_up(&self, monitor: MonitorId, latest: DateTime<Utc>, count: u32) {
        let missed = count.saturating_sub(1);
        self.request(Request::now(monitor, Cause::CatchUp, Some(latest), missed));
    }

    /// Whether this node settles what `monitor` owes.
    pub(super) fn looks_after(&self, monitor: MonitorId) -> bool {
        match self.roster.get(monitor) {
            Some(known) => known.share.is_ours(),
            None => self.member.inherits(monitor),
        }
    }

    fn request(&self, request: Request) {
        if let Some(consequences) = self.consequences.upgrade() {
            consequences.request(request);
        }
    }

    fn owe(&self, work: Work) {
        if let Some(consequences) = self.consequences.upgrade() {
            consequences.edited(work);
        }
    }

    fn change_job(&self, change: JobChange) {
        if self.jobs.send(change).is_err() {
            tracing::debug!("a job changed after the scheduler had ended");
        }
    }
}

/// Ticks of `row` that nobody ran up to `now`: the latest, and how many, counted up to [`MOST_MISSED`].
fn missed_ticks(row: &MonitorRow, timing: &Timing, now: DateTime<Utc>) -> Option<(DateTime<Utc>, u32)> {
    // A row that has run without a tick owes those after that run.
    let last = row.last_tick_at.or(row.last_run_at).filter(|last| *last < now)?;
    // With the tick at `now` itself: the job that is registered calls those after it.
    let latest = timing.schedule.previous_before(now + TimeDelta::nanoseconds(1)).filter(|latest| *latest > last)?;
    let mut missed = 1;
    let mut tick = timing.schedule.next_after(last);
    while let Some(passed) = tick.filter(|tick| *tick < latest && missed < MOST_MISSED) {
        missed += 1;
        tick = timing.schedule.next_after(passed);
    }
    Some((latest, missed))
}

/// The run that a NULL `last_run_at` asks for.
pub(super) fn asked(row: &MonitorRow) -> Request {
    Request::now(row.id, row.asked_cause(), None, 0)
}

/// The one actor that adds and removes cron jobs.
pub(super) struct JobActor {
    changes: UnboundedReceiver<JobChange>,
}

impl JobActor {
    /// Works until all followers are gone. It ends before only when jobs cannot be registered at all: the node is then
    /// of no use, and says so by that end.
    pub(super) async fn run(mut self, scheduler: Arc<dyn Scheduler>) {
        let mut changes = Vec::new();
        while self.changes.recv_many(&mut changes, PAGE as usize).await > 0 {
            let mut puts = Vec::new();
            for change in changes.drain(..) {
                match change {
                    JobChange::Put(monitor, schedule, after) => puts.push((monitor, schedule, after)),
                    JobChange::Remove(monitor) => {
                        if !put(scheduler.as_ref(), std::mem::take(&mut puts)).await {
                            return;
                        }
                        scheduler.remove(monitor).await;
                    }
                }
            }
            if !put(scheduler.as_ref(), puts).await {
                return;
            }
        }
    }
}

/// Registers jobs, several times if need be; false when it cannot be done.
async fn put(scheduler: &dyn Scheduler, jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> bool {
    const ATTEMPTS: u32 = 5;
    const WAIT: Duration = Duration::from_secs(1);
    if jobs.is_empty() {
        return true;
    }
    for attempt in 1..=ATTEMPTS {
        // What is registered already stays as it is.
        let Err(error) = scheduler.put_many(jobs.clone()).await else { return true };
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::error!(error, attempt, "monitors have no cron job and do not run on their schedule");
        tokio::time::sleep(WAIT).await;
    }
    false
}
