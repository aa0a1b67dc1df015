//! One run on a check thread: read the row, call the child, hand over what it found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use watchbell_contract::{CheckContext, Outcome};

use super::check::{Answer, ask, blocked};
use super::figures::Meter;
use super::follow::Follower;
use super::kinds::Kinds;
use super::lease::Lease;
use super::pool::{Runner, Slot};
use super::roster::{Begin, KnownRow, Request, Roster, Share};
use super::rulebook::Rulebook;
use super::write::{Began, WorkQueue};
use crate::domain::rules::Rules;
use crate::domain::{Cause, FinishedRun, MonitorRow};
use crate::ports::Clock;

/// A check's own timeout ends it at its next await; one that is not back after this much longer blocks its thread.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct CheckRunner {
    pub(super) runtime: Handle,
    pub(super) kinds: Arc<Kinds>,
    pub(super) roster: Arc<Roster>,
    pub(super) follower: Arc<Follower>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lease: Arc<Lease>,
    pub(super) finished: Arc<WorkQueue>,
    pub(super) meter: Arc<Meter>,
    /// Cancelled when running checks are to be dropped: nothing of them is written.
    pub(super) drop_checks: CancellationToken,
}

/// A check that has been called.
struct Called {
    request: Request,
    known: KnownRow,
    started_at: DateTime<Utc>,
    began: Instant,
    /// See [`Lease::term`].
    term: u64,
}

impl Runner for CheckRunner {
    fn run(&self, request: Request, slot: &Slot) {
        self.runtime.block_on(self.follower.be_fresh(request.asked_at));
        let Some(known) = self.roster.get(request.monitor).filter(|known| known.row.is_active) else {
            // Paused or deleted since. If it is active again by now, what was asked for in between begins.
            match self.roster.end(request.monitor) {
                Some(next) if self.roster.begin(next) == Begin::Now => return self.run(next, slot),
                Some(_) | None => return,
            }
        };
        // The last moment to look: a process that was frozen before this has nothing to begin. Whoever has the monitor now
        // asks for it, and this node does when it has its lease again.
        let term = self.lease.term();
        if !self.lease.may_begin() || !known.share.allows(request.cause) {
            self.roster.end(request.monitor);
            return self.meter.count("checks_not_begun", 1);
        }
        // The database keeps milliseconds; what is compared with it later must not know more.
        let started_at = self.clock.now().trunc_subsecs(3);
        let called = Arc::new(Called { request, known, started_at, began: Instant::now(), term });
        if let Some(tick) = request.tick.filter(|_| request.cause == Cause::Schedule) {
            self.meter.lateness(started_at - tick);
        }
        let row = &called.known.row;
        let (runner, abandoned) = (self.clone(), called.clone());
        slot.begin(called.began, longest(row), move || {
            let timeout = Duration::from_secs(u64::from(abandoned.known.row.timeout_seconds));
            let answer = Answer { outcome: blocked(timeout), config_error: abandoned.known.row.config_error.clone() };
            runner.hand_over(&abandoned, answer);
        });
        let context = context(&called);
        let asking = ask(&self.kinds, &called.known, &context);
        let asked = self.runtime.block_on(self.drop_checks.run_until_cancelled(asking));
        match (slot.finish(), asked) {
            (true, Some(asked)) => self.hand_over(&called, asked.answer(row, &self.rulebook.known().rules)),
            // Dropped at the end: nothing is written, so the tick counts as missed at the next start.
            (true, None) => drop(self.roster.end(request.monitor)),
            (false, _) => {}
        }
    }
}

impl CheckRunner {
    fn hand_over(&self, called: &Called, answer: Answer) {
        let Called { request, known, started_at, began, term } = called;
        let (skipped_ticks, missed) = self.roster.take_counts(request.monitor);
        let run = FinishedRun {
            monitor: known.row.clone(),
            cause: request.cause,
            tick: request.tick,
            started_at: *started_at,
            duration: began.elapsed(),
            outcome: answer.outcome,
            config_error: answer.config_error,
            next_run_at: known.timing.schedule.next_after(self.clock.now()),
            skipped_ticks,
            missed_ticks: missed.saturating_add(request.missed),
        };
        let next_tick = known.timing.schedule.next_after(run.instant());
        if !self.finished.send_run(run, Began { term: *term, next_tick }) {
            tracing::error!(monitor.id = request.monitor.0, "an outcome came after the writer had ended and is lost");
        }
    }
}

fn context(called: &Called) -> CheckContext {
    let tick = called.request.tick.unwrap_or(called.started_at);
    CheckContext {
        tick,
        since: called.known.timing.schedule.previous_before(tick).unwrap_or(tick),
        timeout: Duration::from_secs(u64::from(called.known.row.timeout_seconds)),
    }
}

/// How long all attempts may take together before the thread counts as blocked.
fn longest(row: &MonitorRow) -> Duration {
    let attempts = row.retries.saturating_add(1);
    let timeout = Duration::from_secs(u64::from(row.timeout_seconds));
    let delay = Duration::from_secs(u64::from(row.retry_delay_seconds));
    timeout.saturating_mul(attempts) + delay.saturating_mul(row.retries) + GRACE.saturating_mul(attempts)
}

/// One check for somebody who waits for it, outside any engine. A child that blocks its thread blocks the caller's:
/// see [`run_once_guarded`].
pub async fn run_once(
    kinds: &Kinds,
    row: &MonitorRow,
    rules: &Rules,
    default_zone: chrono_tz::Tz,
    clock: &dyn Clock,
) -> FinishedRun {
    use super::inspect::{ScheduleReader, Timing};

    super::check::install_panic_hook();
    let started_at = clock.now().trunc_subsecs(3);
    let began = Instant::now();
    let timing = match ScheduleReader::new(default_zone) {
        Ok(schedules) => schedules.read(row),
        Err(error) => return manual_run(row, started_at, Outcome::failed(error.to_string())),
    };
    let mut run = manual_run(row, started_at, Outcome::failed("not run"));
    run.next_run_at = timing.schedule.next_after(started_at);
    let request = Request::now(row.id, Cause::Manual, None, 0);
    let known = KnownRow { row: run.monitor.clone(), timing: Arc::<Timing>::new(timing), share: Share::Ours };
    let called = Called { request, known, started_at, began, term: 0 };
    let answer = ask(kinds, &called.known, &context(&called)).await.answer(row, rules);
    run.outcome = answer.outcome;
    run.config_error = answer.config_error;
    run.duration = began.elapsed();
    run
}

/// The same on a thread of its own, as a node calls it: a child that panics or never gives its thread back is a
/// failed outcome, and such a thread is left behind. Dropping the future drops the check on its thread, so that it can
/// end what it started.
pub async fn run_once_guarded(
    kinds: Arc<Kinds>,
    row: MonitorRow,
    rules: Arc<Rules>,
    default_zone: chrono_tz::Tz,
    clock: Arc<dyn Clock>,
) -> FinishedRun {
    let started_at = clock.now().trunc_subsecs(3);
    let began = Instant::now();
    let (done, finished) = tokio::sync::oneshot::channel();
    let (runtime, asked) = (Handle::current(), row.clone());
    let dropped = CancellationToken::new();
    let _drop_with_caller = dropped.clone().drop_guard();
    let thread = std::thread::Builder::new().name("check".to_owned()).spawn(move || {
        super::check::mark_check_thread();
        let asking = run_once(&kinds, &asked, &rules, default_zone, clock.as_ref());
        if let Some(run) = runtime.block_on(dropped.run_until_cancelled(asking)) {
            // Nobody waits any more where the receiver is gone: the check counts as blocked.
            drop(done.send(run));
        }
    });
    let outcome = match thread {
        Ok(_) => match tokio::time::timeout(longest(&row), finished).await {
            Ok(Ok(run)) => return run,
            Ok(Err(_)) => Outcome::failed("the check's thread ended without an outcome"),
            Err(_) => blocked(Duration::from_secs(u64::from(row.timeout_seconds))),
        },
        Err(error) => Outcome::failed(format!("no thread can be started for the check: {error}")),
    };
    FinishedRun { duration: began.elapsed(), ..manual_run(&row, started_at, outcome) }
}

fn manual_run(row: &MonitorRow, started_at: DateTime<Utc>, outcome: Outcome) -> FinishedRun {
    FinishedRun {
        monitor: Arc::new(row.clone()),
        cause: Cause::Manual,
        tick: None,
        started_at,
        duration: Duration::ZERO,
        outcome,
        config_error: row.config_error.clone(),
        next_run_at: row.next_run_at,
        skipped_ticks: 0,
        missed_ticks: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use watchbell_contract::{
        Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, NoSecrets, Outcome, Severity,
        async_trait,
    };

    use super::run_once_guarded;
    use crate::domain::{MissedTickPolicy, MonitorId, MonitorRow, State};
    use crate::engine::Kinds;
    use crate::ports::SystemClock;

    /// Does what a child must not.
    struct Rude;

    #[derive(Clone, Copy)]
    struct RudeCheck {
        blocks: bool,
    }

    static RUDE: Manifest = Manifest {
        kind: "rude",
        checks: "Nothing.",
        parameters: &[watchbell_contract::Parameter::required("does", "text", "`block` or `panic`")],
        verdicts: "It gives none.",
        examples: &[Example { name: "x", schedule: "@hourly", config: r#"{"does": "panic"}"# }],
        limits: "None.",
        looks_at_this_machine: false,
    };

    impl Monitor for Rude {
        fn manifest(&self) -> &Manifest {
            &RUDE
        }

        fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
            let blocks = config.required_choice("does", &["block", "panic"]) == "block";
            config.finish(RudeCheck { blocks })
        }
    }

    #[async_trait]
    impl Check for RudeCheck {
        async fn check(&self, _context: &CheckContext) -> anyhow::Result<Outcome> {
            if self.blocks {
                std::thread::sleep(Duration::from_secs(10));
            }
            panic!("rude");
        }
    }

    fn row(does: &str) -> MonitorRow {
        MonitorRow {
            id: MonitorId(1),
            uuid: String::new(),
            is_active: true,
            name: "rude".to_owned(),
            kind: "rude".to_owned(),
            schedule: "@hourly".to_owned(),
            timezone: None,
            config: format!(r#"{{"does": "{does}"}}"#),
            severity: Severity::Critical,
            labels: "{}".to_owned(),
            runs_on: None,
            timeout_seconds: 1,
            retries: 0,
            retry_delay_seconds: 0,
            state: State::Ok,
            consecutive_ok_count: 0,
            required_consecutive_oks: 1,
            required_consecutive_alerts: 1,
            consecutive_alert_count: 0,
            reminder_frequency_minutes: None,
            people_to_notify: None,
            missed_tick_policy: MissedTickPolicy::Skip,
            last_tick_at: None,
            last_run_at: None,
            last_notification_at: None,
            next_run_at: None,
            config_error: None,
            revision: 0,
            recheck_seq: 0,
            write_seq: 0,
        }
    }

    async fn message(does: &str) -> String {
        let kinds = Arc::new(Kinds::new(vec![Box::new(Rude)], Arc::new(NoSecrets)).unwrap());
        let run = run_once_guarded(kinds, row(does), Arc::default(), chrono_tz::UTC, Arc::new(SystemClock)).await;
        assert!(!run.outcome.is_ok);
        run.outcome.message
    }

    #[tokio::test]
    async fn a_child_that_panics_is_a_failed_outcome_that_names_the_place() {
        let message = message("panic").await;
        assert!(message.contains("the check panicked: rude (at ") && message.contains("run.rs:"), "{message}");
    }

    #[tokio::test]
    async fn a_child_that_keeps_its_thread_is_left_behind() {
        let message = message("block").await;
        assert!(message.contains("blocked its thread beyond its timeout of 1 s"), "{message}");
    }
}
