//! Runs one program within its bounds, and leaves nothing of it behind.
//!
//! The program leads a process group of its own. It is not reaped before its group has been killed: as long as the
//! dead leader is there, the group's number cannot belong to anybody else. A future that is dropped kills at once.
//!
//! Rejected: becoming a subreaper, so that processes which leave the group come back to us. It changes the whole
//! process, also one that only embeds Watchbell, and somebody would have to reap strangers. Instead each program
//! inherits a [`MARK`], by which its descendants are found when it is stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use watchbell_contract::Revealed;

use super::mark::{self, MARK};
use super::pipes::Pipes;

/// How much of a check's time is set aside for ending the program: this part of it, and at most so much.
const RESERVE_PART: u32 = 5;
const LONGEST_RESERVE: Duration = Duration::from_secs(2);
/// How long the output of a program that has ended is waited for: something it left behind may hold the pipe open.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// How long a killed program may take to go. One that hangs in the kernel is reaped by the runtime whenever it does.
const REAP_GRACE: Duration = Duration::from_millis(250);
/// A program that is just being installed is busy for a moment.
const BUSY_TRIES: u32 = 5;
const BUSY_DELAY: Duration = Duration::from_millis(20);

/// Where programs look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run.
pub(super) struct Request<'a> {
    pub(super) path: &'a Path,
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<String, Revealed>,
    pub(super) stdin: Option<&'a Revealed>,
}

/// How long a program may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Time {
    /// When the check began.
    started: Instant,
    /// What the check may take in all.
    allowed: Duration,
    /// What the program may take of it.
    run: Duration,
    /// How long it may take to heed TERM.
    grace: Duration,
}

impl Time {
    /// Divides what a check that began at `started` is allowed.
    pub(super) fn divide(started: Instant, allowed: Duration) -> Self {
        let reserve = (allowed / RESERVE_PART).min(LONGEST_RESERVE);
        Self { started, allowed, run: allowed.saturating_sub(reserve), grace: reserve / 2 }
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, or by somebody else's signal.
    Status(ExitStatus),
    /// By us, after so long, because its time was up.
    TimedOut { after: Duration, allowed: Duration },
    /// By us, because it printed more than [`super::pipes::MOST_OUTPUT`].
    TooMuchOutput,
    /// It never began.
    NotStarted(io::Error),
}

/// What a program left.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    /// Whether there was more than `stdout` holds.
    pub(super) was_cut: bool,
    pub(super) stderr: Vec<u8>,
}

/// Runs the program to its end, or ends it when its time is up.
///
/// # Errors
/// When this process itself lacks what it needs (signal handling, pipes), not when the program does wrong.
pub(super) async fn run(request: &Request<'_>, time: &Time) -> anyhow::Result<Finished> {
    // Before the program starts: no death may be missed.
    let mut deaths = signal(SignalKind::child())?;
    let mark = mark::fresh();
    let mut child = match spawn(request, &mark).await {
        Ok(child) => child,
        Err(error) => {
            let end = End::NotStarted(error);
            return Ok(Finished { end, stdout: Vec::new(), was_cut: false, stderr: Vec::new() });
        }
    };
    let mut pipes = Pipes::of(&mut child);
    let Some(leader) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else {
        anyhow::bail!("the program has no process id");
    };
    let mut running = Running { group: Group { leader, mark, is_over: false }, child };

    let timed_out = || End::TimedOut { after: time.started.elapsed(), allowed: time.allowed };
    let stopped = {
        let ended = until_end(leader, &mut deaths, &mut pipes, request.stdin);
        tokio::pin!(ended);
        match timeout_at(time.started + time.run, &mut ended).await {
            Ok(true) => None,
            Ok(false) => Some(End::TooMuchOutput),
            // Its output was still waited for, but it ended in time.
            Err(_) if is_dead(leader) => None,
            Err(_) => {
                let stopped = timed_out();
                running.group.terminate();
                // Still listening, so that a program can say a last word without being blocked by a full pipe.
                drop(timeout(time.grace, &mut ended).await);
                Some(stopped)
            }
        }
    };
    let status = running.end(stopped.is_some()).await;
    let end = match (stopped, status) {
        (Some(stopped), _) => stopped,
        (None, Some(status)) => End::Status(status?),
        (None, None) => timed_out(),
    };
    let was_cut = pipes.stdout.was_cut();
    Ok(Finished { end, stdout: pipes.stdout.kept, was_cut, stderr: pipes.stderr.kept })
}

/// Talks to the program until it is dead and has been heard out; `false`: it prints without end.
async fn until_end(leader: Pid, deaths: &mut SignalStream, pipes: &mut Pipes, stdin: Option<&Revealed>) -> bool {
    let talk = pipes.talk(stdin);
    tokio::pin!(talk);
    tokio::select! {
        has_end = &mut talk => {
            if has_end {
                died(leader, deaths).await;
            }
            has_end
        }
        () = died(leader, deaths) => timeout(LEFTOVER_GRACE, talk).await.unwrap_or(true),
    }
}

async fn spawn(request: &Request<'_>, mark: &str) -> io::Result<Child> {
    let mut command = Command::new(request.path);
    command
        .args(request.args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("LC_NUMERIC", "C")
        .envs(request.env.iter().map(|(name, value)| (name, value.as_str())))
        .env(MARK, mark)
        .current_dir("/")
        .stdin(if request.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                sleep(BUSY_DELAY).await;
            }
            result => return result,
        }
    }
}

/// Waits until the process is dead, without reaping it.
async fn died(process: Pid, deaths: &mut SignalStream) {
    while !is_dead(process) {
        deaths.recv().await;
    }
}

/// A process that cannot be asked about counts as dead.
fn is_dead(process: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(process), flags), Ok(WaitStatus::StillAlive))
}

/// A started program. The order counts: the group is killed before the leader can be reaped.
struct Running {
    group: Group,
    child: Child,
}

impl Running {
    /// Kills what is left of the group and reaps the leader; `None`: it does not go.
    async fn end(&mut self, was_stopped: bool) -> Option<io::Result<ExitStatus>> {
        self.group.kill(was_stopped);
        timeout(REAP_GRACE, self.child.wait()).await.ok()
    }
}

struct Group {
    leader: Pid,
    mark: String,
    is_over: bool,
}

impl Group {
    fn terminate(&self) {
        self.signal(Signal::SIGTERM);
        mark::signal_all(&self.mark, Signal::SIGTERM);
    }

    /// What left the group is killed only where the program was stopped: one that ended well may have meant it.
    fn kill(&mut self, also_who_left: bool) {
        self.signal(Signal::SIGKILL);
        if also_who_left {
            mark::kill_all(&self.mark);
        }
        self.is_over = true;
    }

    fn signal(&self, signal: Signal) {
        // The group may have ended meanwhile, and what became another user's cannot be signalled: neither is news.
        killpg(self.leader, signal).ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{End, Request, Time, run};

    #[test]
    fn time_is_divided() {
        let started = Instant::now();
        for (allowed, run, grace) in [(30_000, 28_000, 1_000), (10_000, 8_000, 1_000), (1_000, 800, 100), (0, 0, 0)] {
            let time = Time::divide(started, Duration::from_millis(allowed));
            assert_eq!((time.run.as_millis(), time.grace.as_millis()), (run, grace), "{allowed}");
        }
    }

    #[tokio::test]
    async fn a_program_that_heeds_term_may_say_a_last_word() {
        let script = "trap 'echo last word; exit 0' TERM; for i in $(seq 600); do sleep 0.1; done";
        let (args, env) = (["-c".to_owned(), script.to_owned()], BTreeMap::new());
        let request = Request { path: Path::new("/bin/sh"), args: &args, env: &env, stdin: None };
        // The grace is long for a loaded machine; nothing waits for its end.
        let time = Time {
            started: Instant::now(),
            allowed: Duration::from_secs(60),
            run: Duration::from_secs(1),
            grace: Duration::from_secs(59),
        };
        let finished = run(&request, &time).await.unwrap();
        assert!(matches!(finished.end, End::TimedOut { .. }), "{finished:?}");
        assert_eq!(finished.stdout, b"last word\n");
        assert!(time.started.elapsed() < Duration::from_secs(30), "it waited for the grace to end");
    }
}
