//! Which ticks are due, handed over, called or missed. Plain state: `now` is an argument, nothing waits here.
//!
//! A tick's way: it stands in the heap as its monitor's next; a poll moves it to `pending`, some seconds ahead; an
//! activation takes it and sleeps; at its instant it is claimed, exactly once, and called. An edit, a removal or a clock
//! set back gives the monitor a new arming number, so that whatever sleeps under the old one finds nothing to claim.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::MonitorId;
use crate::domain::schedule::Schedule;
use crate::ports::{MissedTicks, SchedulerCounters};

/// Ticks are handed over this long before they are due: a burst of 100,000 then spreads over a dozen polls, and the
/// half second between polls does not show in the lateness.
const LOOK_AHEAD: TimeDelta = TimeDelta::seconds(6);
/// Ticks that are due within this time, three polls, are handed over first of all.
const SOON: TimeDelta = TimeDelta::milliseconds(1_500);
/// Of what is due later a poll hands over no more than this share of a batch, so that handing over does not delay what is
/// due now. Twelve polls of which three are full suffice for 100,000 at one instant.
const UNHURRIED_SHARE: (usize, usize) = (3, 8);
/// A tick this late was lost, slept through or jumped over. Also the least step of the wall clock that counts as set.
const LATE: TimeDelta = TimeDelta::seconds(2);
/// Outdated entries that the heap may hold, beside as many as there are jobs, before they are swept out.
const OUTDATED_ENTRIES: usize = 10_000;
/// Missed ticks are counted one by one up to here; the count then stays at this number, meaning that many or more.
pub const MAX_COUNTED_MISSES: u64 = 100;

/// All jobs and their ticks.
pub(super) struct Agenda {
    /// Ticks that one poll hands over at the most.
    batch: usize,
    jobs: HashMap<MonitorId, Job>,
    monitors: HashMap<Uuid, MonitorId>,
    /// Earliest first; an entry whose arming is not its job's any more is dropped when met.
    heap: BinaryHeap<Reverse<(DateTime<Utc>, MonitorId, Arming)>>,
    /// What was handed over, in that order, with the instant at which an activation that has not come is lost.
    handed_over: VecDeque<(DateTime<Utc>, Armed)>,
    last_arming: Arming,
    last_poll: Option<(DateTime<Utc>, Instant)>,
    counters: SchedulerCounters,
    is_stopped: bool,
}

/// Numbers the times at which a job's ticks were computed anew; never used twice.
type Arming = u64;

struct Job {
    schedule: Schedule,
    /// The job's name at the job scheduler; nil until it is registered there.
    name: Uuid,
    arming: Arming,
    next: Option<DateTime<Utc>>,
    /// Handed over and not called yet, earliest first.
    pending: VecDeque<Pending>,
    last_called: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy)]
struct Pending {
    tick: DateTime<Utc>,
    is_taken: bool,
}

/// A tick that sleeps until its instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) monitor: MonitorId,
    pub(super) tick: DateTime<Utc>,
    arming: Arming,
}

/// A job that is not registered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewJob {
    pub(super) monitor: MonitorId,
    arming: Arming,
}

/// What a poll found.
#[derive(Default)]
pub(super) struct Poll {
    /// A job's name for every tick handed over.
    pub(super) due: Vec<Uuid>,
    pub(super) missed: Vec<MissedTicks>,
    /// Ticks whose activation was lost, taken already: to be called at once.
    pub(super) lost: Vec<Armed>,
}

/// What is to be done at a tick's instant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Call,
    /// It is late, and a later one is due as well: that one is called.
    Missed(MissedTicks),
    /// Edited, removed, called already or shut down.
    Nothing,
}

impl Agenda {
    /// An agenda without jobs; `batch` ticks are handed over by one poll at the most.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            batch,
            jobs: HashMap::new(),
            monitors: HashMap::new(),
            heap: BinaryHeap::new(),
            handed_over: VecDeque::new(),
            last_arming: Arming::default(),
            last_poll: None,
            counters: SchedulerCounters::default(),
            is_stopped: false,
        }
    }

    /// Returns the monitors that had no job, those due first in front: registering 100,000 takes some seconds, in which
    /// none should be late. The others have their new schedule already.
    pub(super) fn put_many(&mut self, jobs: Vec<(MonitorId, Schedule, DateTime<Utc>)>) -> Vec<NewJob> {
        let mut new: Vec<NewJob> =
            jobs.into_iter().filter_map(|(monitor, schedule, after)| self.put(monitor, schedule, after)).collect();
        new.sort_by_key(|new| self.jobs.get(&new.monitor).and_then(|job| job.next));
        new
    }

    fn put(&mut self, monitor: MonitorId, schedule: Schedule, after: DateTime<Utc>) -> Option<NewJob> {
        self.last_arming += 1;
        let arming = self.last_arming;
        let Some(job) = self.jobs.get_mut(&monitor) else {
            let next = schedule.next_after(after);
            let job = Job { schedule, name: Uuid::nil(), arming, next, pending: VecDeque::new(), last_called: None };
            self.jobs.insert(monitor, job);
            return Some(NewJob { monitor, arming });
        };
        if job.schedule == schedule {
            return None;
        }
        // What was called stays called, however far back `after` reaches.
        let after = job.last_called.map_or(after, |last_called| after.max(last_called));
        job.next = schedule.next_after(after);
        job.schedule = schedule;
        job.arming = arming;
        job.pending = VecDeque::new();
        if !job.name.is_nil() {
            self.heap.extend(job.next.map(|next| Reverse((next, monitor, arming))));
            return None;
        }
        // Its registration is on its way under the old arming, and will be found outdated.
        Some(NewJob { monitor, arming })
    }

    /// Gives a new job its name at the job scheduler. False: it was removed or edited meanwhile.
    pub(super) fn name(&mut self, new: NewJob, name: Uuid) -> bool {
        match self.jobs.get_mut(&new.monitor) {
            Some(job) if job.arming == new.arming && job.name.is_nil() => {
                job.name = name;
                self.monitors.insert(name, new.monitor);
                true
            }
            _ => false,
        }
    }

    /// The job scheduler has the job: its ticks count from now on.
    pub(super) fn registered(&mut self, name: Uuid) {
        let Some(monitor) = self.monitors.get(&name) else { return };
        let Some(job) = self.jobs.get(monitor) else { return };
        self.heap.extend(job.next.map(|next| Reverse((next, *monitor, job.arming))));
    }

    /// Forgets the monitor. Returns its job's name at the job scheduler, if it has one.
    pub(super) fn remove(&mut self, monitor: MonitorId) -> Option<Uuid> {
        let job = self.jobs.remove(&monitor)?;
        self.monitors.remove(&job.name)?;
        Some(job.name)
    }

    /// Hands over what is due soon, and looks after what went wrong since the last time.
    pub(super) fn poll(&mut self, now: DateTime<Utc>) -> Poll {
        let mut poll = Poll::default();
        if self.is_stopped {
            return poll;
        }
        if self.last_poll.is_some_and(|(last, _)| now < last - LATE) {
            self.start_anew(now);
        }
        self.last_poll = Some((now, Instant::now()));
        self.drop_outdated();
        self.hand_over(now, &mut poll);
        self.find_lost(now, &mut poll);
        self.counters.recovered_by_watchdog += poll.lost.len() as u64;
        self.counters.missed += poll.missed.iter().map(|missed| missed.count).sum::<u64>();
        poll
    }

    /// The clock was set back: without this nothing would be called until it has caught up with itself. Ticks that were
    /// called and now lie ahead again are called again; that a tick is applied only once is held by the store.
    fn start_anew(&mut self, now: DateTime<Utc>) {
        self.counters.clock_jumps_back += 1;
        self.heap.clear();
        self.handed_over.clear();
        for (monitor, job) in &mut self.jobs {
            job.next = job.schedule.next_after(now);
            if job.name.is_nil() {
                continue;
            }
            self.last_arming += 1;
            job.arming = self.last_arming;
            job.pending = VecDeque::new();
            job.last_called = None;
            self.heap.extend(job.next.map(|next| Reverse((next, *monitor, job.arming))));
        }
    }

    /// Edits leave entries behind that would stay until their tick, which may be a year away.
    fn drop_outdated(&mut self) {
        if self.heap.len() > 2 * self.jobs.len() + OUTDATED_ENTRIES {
            let jobs = &self.jobs;
            self.heap
                .retain(|Reverse((_, monitor, arming))| jobs.get(monitor).is_some_and(|job| job.arming == *arming));
        }
    }

    fn hand_over(&mut self, now: DateTime<Utc>, poll: &mut Poll) {
        let unhurried_batch = self.batch * UNHURRIED_SHARE.0 / UNHURRIED_SHARE.1;
        while poll.due.len() < self.batch {
            let Some(&Reverse((tick, monitor, arming))) = self.heap.peek() else { break };
            let is_unhurried = tick > now + SOON;
            if tick > now + LOOK_AHEAD || (is_unhurried && poll.due.len() >= unhurried_batch) {
                break;
            }
            self.heap.pop();
            let Some(job) = self.jobs.get_mut(&monitor).filter(|job| job.arming == arming && job.next == Some(tick))
            else {
                continue;
            };
            let tick = if tick < now - LATE { job.latest(monitor, tick, now, &mut poll.missed) } else { tick };
            job.next = job.schedule.next_after(tick);
            self.heap.extend(job.next.map(|next| Reverse((next, monitor, arming))));
            job.pending.push_back(Pending { tick, is_taken: false });
            self.handed_over.push_back((tick.max(now) + LATE, Armed { monitor, tick, arming }));
            poll.due.push(job.name);
        }
    }

    fn find_lost(&mut self, now: DateTime<Utc>, poll: &mut Poll) {
        while let Some((_, armed)) = self.handed_over.front().copied().filter(|(lost_at, _)| *lost_at < now) {
            self.handed_over.pop_front();
            let Some(job) = self.jobs.get_mut(&armed.monitor).filter(|job| job.arming == armed.arming) else {
                continue;
            };
            let lost = job.pending.iter_mut().find(|pending| pending.tick == armed.tick && !pending.is_taken);
            if let Some(lost) = lost {
                lost.is_taken = true;
                poll.lost.push(armed);
            }
        }
    }

    /// An activation arrived: the earliest tick of that job that nobody took.
    pub(super) fn take(&mut self, name: Uuid) -> Option<Armed> {
        let monitor = *self.monitors.get(&name)?;
        let job = self.jobs.get_mut(&monitor)?;
        let pending = job.pending.iter_mut().find(|pending| !pending.is_taken)?;
        pending.is_taken = true;
        Some(Armed { monitor, tick: pending.tick, arming: job.arming })
    }

    /// Whether the tick is still to be waited for.
    pub(super) fn is_armed(&self, armed: Armed) -> bool {
        !self.is_stopped && self.jobs.get(&armed.monitor).is_some_and(|job| job.arming == armed.arming)
    }

    /// At the tick's instant: decides, once, what becomes of it.
    pub(super) fn claim(&mut self, armed: Armed, now: DateTime<Utc>) -> Claim {
        if self.is_stopped {
            return Claim::Nothing;
        }
        let Some(job) = self.jobs.get_mut(&armed.monitor).filter(|job| job.arming == armed.arming) else {
            return Claim::Nothing;
        };
        let Some(place) = job.pending.iter().position(|pending| pending.tick == armed.tick) else {
            return Claim::Nothing;
        };
        job.pending.remove(place);
        if job.pending.is_empty() {
            job.pending = VecDeque::new();
        }
        let is_late = armed.tick < now - LATE;
        if is_late && job.schedule.next_after(armed.tick).is_some_and(|later| later <= now) {
            self.counters.missed += 1;
            let Armed { monitor, tick, .. } = armed;
            return Claim::Missed(MissedTicks { monitor, from: tick, to: tick, count: 1 });
        }
        job.last_called = job.last_called.max(Some(armed.tick));
        self.counters.dispatched += 1;
        Claim::Call
    }

    pub(super) fn next_tick(&self, monitor: MonitorId) -> Option<DateTime<Utc>> {
        let job = self.jobs.get(&monitor)?;
        job.pending.front().map_or(job.next, |pending| Some(pending.tick))
    }

    pub(super) fn counters(&self) -> SchedulerCounters {
        SchedulerCounters {
            jobs: self.jobs.len() as u64,
            last_poll_at: self.last_poll.map(|(at, _)| at),
            since_last_poll: self.last_poll.map(|(_, instant)| instant.elapsed()),
            ..self.counters
        }
    }

    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }
}

impl Job {
    /// The latest tick up to now; those from `first` up to it are missed.
    fn latest(
        &self,
        monitor: MonitorId,
        first: DateTime<Utc>,
        now: DateTime<Utc>,
        missed: &mut Vec<MissedTicks>,
    ) -> DateTime<Utc> {
        let previous = |instant| self.schedule.previous_before(instant);
        let latest = previous(now + TimeDelta::nanoseconds(1)).map_or(first, |latest| latest.max(first));
        if latest > first {
            let ticks = std::iter::successors(Some(first), |tick| self.schedule.next_after(*tick));
            let counted = ticks.take_while(|tick| *tick < latest).take(MAX_COUNTED_MISSES as usize).count();
            let to = previous(latest).map_or(first, |to| to.max(first));
            missed.push(MissedTicks { monitor, from: first, to, count: counted as u64 });
        }
        latest
    }
}
