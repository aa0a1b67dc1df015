//! One check, from a row to an outcome that can be stored. What a child does wrong ends here.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use watchbell_contract::{Check, CheckContext, Metrics, Outcome};

use super::inspect::{config_error, soft_faults};
use super::kinds::Kinds;
use super::roster::KnownRow;
use crate::domain::rules::Rules;
use crate::domain::{MonitorRow, make_safe};

/// The longest message that is kept: four times what a Nagios plugin may say, and no burden to a mail.
const MAX_MESSAGE_BYTES: usize = 32 * 1024;
/// Metrics beyond these are dropped: a row of a history table is no time series database.
const MAX_METRICS: usize = 200;
const MAX_METRIC_NAME_BYTES: usize = 200;

/// What asking a row gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) config_error: Option<String>,
}

/// What the child said, before it is known who can be told.
pub(super) struct Asked {
    outcome: Outcome,
    faults: Vec<String>,
}

impl Asked {
    /// With what is wrong with the rest of the row by the rules as they are now: a channel that came while the child was
    /// busy is no fault, and this is written after whatever was written when it came.
    pub(super) fn answer(mut self, row: &MonitorRow, rules: &Rules) -> Answer {
        self.faults.extend(soft_faults(row, rules));
        Answer {
            outcome: self.outcome,
            config_error: config_error(&self.faults).map(|text| make_safe(&text, MAX_MESSAGE_BYTES)),
        }
    }
}

/// Asks the row's check, again up to `retries` times while it fails. It cannot fail itself: whatever goes wrong is a
/// failed outcome with a message that helps.
pub(super) async fn ask(kinds: &Kinds, known: &KnownRow, context: &CheckContext) -> Asked {
    let row = &known.row;
    let mut faults: Vec<String> = known.timing.fault.iter().cloned().chain(known.share.fault()).collect();
    let check = match kinds.prepare(&row.kind, &row.config) {
        Ok(check) if faults.is_empty() => Some(check),
        Ok(_) => None,
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let outcome = match check {
        None => Outcome::failed(format!("this monitor cannot be run as written: {}", faults.join("; "))),
        Some(check) => ask_until_done_with(check, row, context).await,
    };
    Asked { outcome: made_safe(outcome), faults }
}

/// What is said of a check that did not give its thread back.
pub(super) fn blocked(timeout: Duration) -> Outcome {
    Outcome::failed(format!(
        "the check blocked its thread beyond its timeout of {} s and was abandoned; its kind must use async I/O",
        timeout.as_secs()
    ))
}

/// Asks, and drops the check: its end is the child's code too, and so is the text of its error. A panic there must not
/// take the thread along, which would leave this monitor in a run that never ends.
async fn ask_until_done_with(check: Box<dyn Check>, row: &MonitorRow, context: &CheckContext) -> Outcome {
    let asking = async move {
        let outcome = ask_with_retries(check.as_ref(), row, context).await;
        drop(check);
        outcome
    };
    match AssertUnwindSafe(asking).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => panicked(panic.as_ref()),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    Outcome::failed(format!("the check panicked: {}", panic_text(panic)))
}

async fn ask_with_retries(check: &dyn Check, row: &MonitorRow, context: &CheckContext) -> Outcome {
    let mut attempt = 0;
    loop {
        let outcome = ask_once(check, context).await;
        if outcome.is_ok || attempt >= row.retries {
            return outcome;
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_secs(u64::from(row.retry_delay_seconds))).await;
    }
}

async fn ask_once(check: &dyn Check, context: &CheckContext) -> Outcome {
    // The child is called inside the guarded future, so that a panic before its first await is caught as well.
    let mut guarded = Box::pin(AssertUnwindSafe(async { check.check(context).await }).catch_unwind());
    match tokio::time::timeout(context.timeout, &mut guarded).await {
        Ok(Ok(Ok(outcome))) => outcome,
        Ok(Ok(Err(error))) => Outcome::failed(format!("{error:#}")),
        Ok(Err(panic)) => panicked(panic.as_ref()),
        Err(_) => {
            let timed_out = format!("the check timed out after {} s", context.timeout.as_secs_f64());
            // What the child holds is dropped here, and may panic too.
            match catch_panic(|| drop(guarded)) {
                Ok(()) => Outcome::failed(timed_out),
                Err(panic) => Outcome::failed(format!("{timed_out}, and panicked when it was stopped: {panic}")),
            }
        }
    }
}

fn made_safe(mut outcome: Outcome) -> Outcome {
    outcome.message = make_safe(&outcome.message, MAX_MESSAGE_BYTES);
    if outcome.message.trim().is_empty() {
        outcome.message = if outcome.is_ok { "ok" } else { "the check failed without a message" }.to_owned();
    }
    outcome.metrics = std::mem::take(&mut outcome.metrics)
        .into_iter()
        .filter(|(name, value)| value.is_finite() && !name.is_empty())
        .map(|(name, value)| (make_safe(&name, MAX_METRIC_NAME_BYTES), value))
        .take(MAX_METRICS)
        .collect::<Metrics>();
    outcome
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_CHECK_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one whose panics are outcomes: they are reported in messages, with their place.
pub(super) fn mark_check_thread() {
    IS_CHECK_THREAD.set(true);
}

/// Installs the hook that keeps a child's panic for its message, and leaves all other panics as they were.
pub(super) fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_CHECK_THREAD.get() {
                return previous(info);
            }
            let text = payload_text(info.payload());
            LAST_PANIC.set(Some(match info.location() {
                Some(place) => format!("{text} (at {}:{})", place.file(), place.line()),
                None => text,
            }));
        }));
    });
}

/// Calls a child's code on any thread; its panic as text.
pub(super) fn catch_panic<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let is_check_thread = IS_CHECK_THREAD.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_text(panic.as_ref()));
    IS_CHECK_THREAD.set(is_check_thread);
    result
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    LAST_PANIC.take().unwrap_or_else(|| payload_text(payload))
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
