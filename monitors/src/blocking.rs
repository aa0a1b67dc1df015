//! Looks at this machine that may block: each on a thread of its own, within a time limit, and bounded in number.
//!
//! A mount that does not answer holds a thread until it does; nothing can free it. So the number of threads that one
//! subject can hold is bounded: a dead mount fails the checks that look at it and no others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Threads that one subject (a path, a mount) may hold. Two, so that a slow look does not make the next one wait.
const MAX_LOOKS_PER_SUBJECT: usize = 2;

/// Threads that all subjects together may hold: a quarter of the 512 that the runtime has for blocking work, so that
/// resolving names and the rest of it go on even if every mount is dead.
const MAX_LOOKS: usize = 128;

static ALL_LOOKS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_LOOKS)));
static LOOKS_BY_SUBJECT: LazyLock<Mutex<HashMap<String, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);

/// Why a look gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum LookError {
    /// It was begun and did not end.
    #[error(
        "`{subject}` did not answer within {seconds:.1} s (hint: is it very large, or on a mount whose server is gone? \
         see `mount`, and `dmesg` for disk errors)"
    )]
    NoAnswer {
        /// What was looked at.
        subject: String,
        /// The limit.
        seconds: f64,
    },
    /// It was not begun: earlier ones hold all places.
    #[error(
        "`{subject}` was not looked at: earlier looks have been hanging for {seconds:.1} s or more (hint: is a mount's server \
         gone? see `mount`, and `dmesg` for disk errors)"
    )]
    NoPlace {
        /// What was to be looked at.
        subject: String,
        /// The limit.
        seconds: f64,
    },
    /// The program is going down.
    #[error("`{0}` was not looked at: this node is shutting down")]
    ShuttingDown(String),
}

/// Tells the work that nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to give up. Work with a loop asks in each round.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// What is left of a check's time for the look itself: a tenth is kept to say what happened.
pub(crate) fn share_of(timeout: Duration) -> Duration {
    timeout.mul_f64(0.9)
}

/// Does `work` on a thread for blocking work. If it takes longer than `limit`, or the returned future is dropped, the
/// work is told to stop and left to itself; it keeps its place among the looks at `subject` until it ends.
///
/// # Errors
/// [`LookError`]. A panic of the work goes on in the caller.
pub(crate) async fn look<T, F>(subject: &str, limit: Duration, work: F) -> Result<T, LookError>
where
    T: Send + 'static,
    F: FnOnce(&Stop) -> T + Send + 'static,
{
    let deadline = Instant::now() + limit;
    let seconds = limit.as_secs_f64();
    let places = match timeout_at(deadline, places(subject)).await {
        Ok(Some(places)) => places,
        Ok(None) => return Err(LookError::ShuttingDown(subject.to_owned())),
        Err(_) => return Err(LookError::NoPlace { subject: subject.to_owned(), seconds }),
    };
    let stop = Stop::default();
    let _stop_on_drop = StopOnDrop(stop.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let _places = places;
        work(&stop)
    });
    match timeout_at(deadline, thread).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Ok(Err(_)) => Err(LookError::ShuttingDown(subject.to_owned())),
        Err(_) => Err(LookError::NoAnswer { subject: subject.to_owned(), seconds }),
    }
}

/// The subject's place first: a subject that hangs must not queue for the places of all.
async fn places(subject: &str) -> Option<[OwnedSemaphorePermit; 2]> {
    let own = looks_at(subject).acquire_owned().await.ok()?;
    let of_all = ALL_LOOKS.clone().acquire_owned().await.ok()?;
    Some([own, of_all])
}

fn looks_at(subject: &str) -> Arc<Semaphore> {
    let mut subjects = LOOKS_BY_SUBJECT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(looks) = subjects.get(subject).and_then(Weak::upgrade) {
        return looks;
    }
    // What nobody looks at any more is forgotten, so that the map is never larger than what is going on.
    subjects.retain(|_, looks| looks.strong_count() > 0);
    let looks = Arc::new(Semaphore::new(MAX_LOOKS_PER_SUBJECT));
    subjects.insert(subject.to_owned(), Arc::downgrade(&looks));
    looks
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{LookError, MAX_LOOKS_PER_SUBJECT, Stop, look};

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn an_answer_comes_back() {
        assert_eq!(look("answer", LONG, |_: &Stop| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_hanging_subject_is_named_bounded_and_told_to_stop() {
        let mut releases = Vec::new();
        let (told, was_told) = mpsc::channel();
        for _ in 0..MAX_LOOKS_PER_SUBJECT {
            let (release, released) = mpsc::channel::<()>();
            let told = told.clone();
            let hanging = look("hanging", SHORT, move |stop: &Stop| {
                released.recv().unwrap();
                told.send(stop.is_set()).unwrap();
            });
            let error = hanging.await.unwrap_err();
            assert!(matches!(&error, LookError::NoAnswer { subject, .. } if subject == "hanging"), "{error}");
            releases.push(release);
        }
        let error = look("hanging", SHORT, |_: &Stop| ()).await.unwrap_err();
        assert!(matches!(error, LookError::NoPlace { .. }), "{error}");
        assert_eq!(look("another", LONG, |_: &Stop| 1).await, Ok(1), "a neighbour must not wait");

        for release in releases {
            release.send(()).unwrap();
            assert!(was_told.recv_timeout(LONG).unwrap(), "the work was not told to stop");
        }
        assert_eq!(look("hanging", LONG, |_: &Stop| 2).await, Ok(2), "its places are free again");
    }

    #[tokio::test]
    async fn a_panic_goes_on_in_the_caller() {
        let panicking = tokio::spawn(look("panic", LONG, |_: &Stop| panic!("the work is broken")));
        assert!(panicking.await.unwrap_err().is_panic());
    }
}
