//! Runs `apprise` once, within its bounds, and leaves nothing of it behind.
//!
//! It leads a process group of its own, which is killed as a whole when its time is up, or when nobody waits for it any
//! more. The leader is not reaped before that, so that the group's number cannot belong to anybody else.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// What of its output is kept, from the end: the last line says what happened.
const MOST_OUTPUT: usize = 16 * 1024;
/// How long the output of a program that has ended is waited for: something it left behind may hold the pipe open.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// How long a killed program may take to go. One that hangs in the kernel is reaped by the runtime whenever it does.
const REAP_GRACE: Duration = Duration::from_millis(500);
/// What of our environment it gets: where programs and its own files are, and how to get out of the house.
const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "LANG",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
];

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, with what it printed last.
    Exited(ExitStatus, String),
    /// By us, because its time was up.
    TimedOut,
    /// It never began.
    NotStarted(io::Error),
}

/// Runs the program with `input` as its standard input.
pub(super) async fn run(program: &Path, args: &[&OsStr], input: &str, patience: Duration) -> End {
    let mut running = match Running::start(program, args) {
        Ok(running) => running,
        Err(error) => return End::NotStarted(error),
    };
    match timeout(patience, running.until_end(input)).await {
        Ok(Ok((status, output))) => End::Exited(status, output),
        Ok(Err(error)) => End::NotStarted(error),
        Err(_) => {
            running.kill().await;
            End::TimedOut
        }
    }
}

/// A started program. The order counts: the group is killed before its leader can be reaped.
struct Running {
    group: Group,
    child: Child,
}

impl Running {
    fn start(program: &Path, args: &[&OsStr]) -> io::Result<Self> {
        let kept = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(kept)
            // Whatever the locale: the message is UTF-8.
            .env("PYTHONUTF8", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let Some(leader) = leader else {
            // It was not waited for yet, so that it has one.
            child.start_kill()?;
            return Err(io::Error::other("the program has no process id"));
        };
        Ok(Self { group: Group { leader, is_over: false }, child })
    }

    async fn until_end(&mut self, input: &str) -> io::Result<(ExitStatus, String)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = {
            let pipes = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
            let talk =
                async { tokio::join!(write(pipes.0, input), tail(pipes.1, &mut stdout), tail(pipes.2, &mut stderr)) };
            tokio::pin!(talk);
            tokio::select! {
                _ = &mut talk => {
                    let status = self.child.wait().await?;
                    self.group.is_over = true;
                    status
                }
                status = self.child.wait() => {
                    self.group.is_over = true;
                    // Too slow: what it left behind is not waited for.
                    drop(timeout(LEFTOVER_GRACE, talk).await);
                    status?
                }
            }
        };
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((status, format!("{}\n{}", words(&stdout), words(&stderr))))
    }

    async fn kill(&mut self) {
        self.group.kill();
        // Too slow: see `REAP_GRACE`.
        drop(timeout(REAP_GRACE, self.child.wait()).await);
    }
}

async fn write(stdin: Option<ChildStdin>, input: &str) {
    let Some(mut stdin) = stdin else { return };
    // A program that ended without reading says by its exit what happened. Dropped: the end of the input.
    stdin.write_all(input.as_bytes()).await.ok();
}

/// Reads to the end, and keeps the last of it.
async fn tail(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..length]);
        let surplus = kept.len().saturating_sub(MOST_OUTPUT);
        kept.drain(..surplus);
    }
}

struct Group {
    leader: Pid,
    is_over: bool,
}

impl Group {
    fn kill(&mut self) {
        if !self.is_over {
            // It may have ended meanwhile.
            killpg(self.leader, Signal::SIGKILL).ok();
            self.is_over = true;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
