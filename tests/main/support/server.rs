//! A server process of the tests: its folder, its port, its log, and how it is stopped, killed and paused.
//!
//! It ends with the tests, also with tests that were killed: a shell holds the other end of a pipe and cleans up once
//! the pipe is closed. Where the tests run as root it runs as a user of its own, since database servers refuse root.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How long a server may take to be ready, or to stop. They need less than 2 s; this is for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it did.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How much of the log a failure shows.
const LOG_TAIL_LINES: usize = 40;

/// Waits for the end of the tests; then ends every process that works in the folder `$1`, first with the signal `$2`,
/// and removes the folder. A PostgreSQL that was killed leaves a segment of shared memory; its file of the pid names it.
const WATCH: &str = r#"
cat >/dev/null
found() { find /proc -mindepth 2 -maxdepth 2 -name cwd \( -lname "$1" -o -lname "$1/*" \) 2>/dev/null | cut -d/ -f3; }
signal=$2
for round in $(seq 100); do
    pids=$(found "$1")
    [ -n "$pids" ] || break
    kill -s "$signal" $pids 2>/dev/null
    kill -s CONT $pids 2>/dev/null
    [ "$round" -lt 50 ] || signal=KILL
    sleep 0.05
done
segment=$(sed -n 7p "$1/data/postmaster.pid" 2>/dev/null | tr -s ' ' | cut -d' ' -f2)
[ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
rm -rf "$1"
"#;

/// What is to be known of a kind of server.
pub(super) struct Kind {
    /// Its name in messages.
    pub(super) name: &'static str,
    /// The Debian package that it comes in.
    pub(super) package: &'static str,
    /// Whom it runs as where the tests run as root.
    pub(super) user: &'static str,
    /// What its log says once it takes connections.
    pub(super) ready: &'static str,
    /// Stops it in good order.
    pub(super) stop: Signal,
    /// Ends it at once and leaves nothing behind in the machine, for a server that is not needed any more.
    pub(super) end: Signal,
}

/// A server, running or not.
pub(super) struct Server {
    kind: &'static Kind,
    folder: TempDir,
    /// Whether the tests run as root: what makes a folder owns it.
    is_root: bool,
    address: SocketAddr,
    /// Holds the port, without listening, so that nobody takes it while the server is down.
    _port: TcpSocket,
    process: Mutex<Option<Child>>,
    watch: Child,
}

impl Server {
    /// A server that was never started: an empty folder, and a port.
    pub(super) fn new(kind: &'static Kind) -> Self {
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let is_root = folder.path().metadata().unwrap().uid() == 0;
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = port.local_addr().unwrap();
        let watch = watch(folder.path(), kind.end);
        let server = Self { kind, folder, is_root, address, _port: port, process: Mutex::new(None), watch };
        server.give_away(server.folder.path());
        server
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path in its folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file or a folder the server's own.
    pub(super) fn give_away(&self, path: &Path) {
        if self.is_root {
            let user = self.kind.user;
            let output = Command::new("chown").arg(format!("{user}:")).arg(path).output().unwrap();
            assert!(
                output.status.success(),
                "there is no user `{user}`: run tests/run once, it installs what the tests need\n{output:?}"
            );
        }
    }

    /// A certificate for `localhost` and 127.0.0.1, `cert.pem` and `key.pem`, and the authority that signed it, `ca.pem`.
    pub(super) fn write_certificates(&self) {
        super::smtp::write_certificates(self.folder.path());
        let key = self.path("key.pem");
        // PostgreSQL wants a key that nobody else can read.
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        self.give_away(&key);
    }

    /// A program that comes with the server, run as its user.
    pub(super) fn program(&self, name: &str) -> Command {
        self.program_with(name, &[])
    }

    /// The same with variables for it.
    pub(super) fn program_with(&self, name: &str, environment: &[(String, String)]) -> Command {
        let package = self.kind.package;
        let path = found(name).unwrap_or_else(|| {
            panic!("`{name}` of the Debian package `{package}` is missing: run tests/run once, it installs it")
        });
        // The variables are set once it has become its user: libfaketime leaves things behind that are its user's.
        let mut command = if self.is_root {
            let user = self.kind.user;
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]).arg("env");
            command
        } else {
            Command::new("env")
        };
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}"))).arg(path);
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C").stdin(Stdio::null());
        // MariaDB removes what looks like its own from the folder for temporary files, also what is another server's.
        command.env("TMPDIR", self.folder.path());
        // By its working folder it is found when the tests are over; Ctrl-C ends the tests, and it ends because they did.
        command.current_dir(self.folder.path()).process_group(0);
        command
    }

    /// Runs such a program to its end.
    pub(super) fn run(&self, command: &mut Command) {
        let file = self.open_log();
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let ended = within(PATIENCE, || child.try_wait().unwrap());
        let Some(status) = ended else {
            child.kill().ok();
            child.wait().ok();
            panic!("{command:?} does not end within {PATIENCE:?}:\n{}", self.log_tail());
        };
        assert!(status.success(), "{command:?}: {status}\n{}", self.log_tail());
    }

    /// Starts `command`, the server, and returns once it takes connections.
    pub(super) fn start(&self, mut command: Command) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "{} runs already", self.kind.name);
        let before = self.log().len();
        let file = self.open_log();
        let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let is_ready = within(PATIENCE, || {
            let is_ready = self.log().get(before..).is_some_and(|log| log.contains(self.kind.ready));
            if is_ready {
                return Some(true);
            }
            child.try_wait().unwrap().map(|_| false)
        });
        if is_ready != Some(true) {
            child.kill().ok();
            let status = child.wait();
            let name = self.kind.name;
            panic!("{name} does not start within {PATIENCE:?} ({status:?}); its log ends with:\n{}", self.log_tail());
        }
        *process = Some(child);
    }

    /// Stops it in good order; its clients are disconnected.
    pub(super) fn stop(&self) {
        self.end(self.kind.stop);
    }

    /// Kills it and all its processes, as a loss of power would.
    pub(super) fn kill_9(&self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops all its processes where they are: connections stay open, and nobody answers.
    pub(super) fn pause(&self) {
        self.main_process();
        let have_stopped = within(PATIENCE, || {
            self.signal_all(Signal::SIGSTOP);
            // A thread goes on until the system comes to it.
            self.processes().into_iter().all(has_stopped).then_some(())
        });
        assert!(have_stopped.is_some(), "{} does not pause within {PATIENCE:?}", self.kind.name);
    }

    /// Ends the pause.
    pub(super) fn resume(&self) {
        self.main_process();
        self.signal_all(Signal::SIGCONT);
    }

    /// What it and the programs that prepared it printed.
    pub(super) fn log(&self) -> String {
        fs::read(self.path("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The end of it.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap()
    }

    fn main_process(&self) -> Pid {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let child = process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.kind.name));
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    /// Ends it with a signal, and returns once none of its processes is left.
    fn end(&self, signal: Signal) {
        // It may have ended by itself.
        kill(self.main_process(), signal).ok();
        // What is stopped does not end.
        self.signal_all(Signal::SIGCONT);
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let child = process.as_mut().unwrap();
        let has_ended = within(PATIENCE, || {
            if signal == Signal::SIGKILL {
                // Sessions of PostgreSQL would otherwise finish what they are at.
                self.signal_all(signal);
            }
            let is_over = child.try_wait().unwrap().is_some() && self.processes().is_empty();
            is_over.then_some(())
        });
        assert!(
            has_ended.is_some(),
            "{} does not stop within {PATIENCE:?}; its log ends with:\n{}",
            self.kind.name,
            self.log_tail()
        );
        *process = None;
    }

    fn signal_all(&self, signal: Signal) {
        for process in self.processes() {
            // It may have ended by now.
            kill(process, signal).ok();
        }
    }

    /// All processes that work in its folder; those that only wait to be buried do not count.
    fn processes(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let is_own = |folder: PathBuf| folder.starts_with(self.folder.path());
        let own = entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(is_own));
        own.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}'s log ends with:\n{}", self.kind.name, self.log_tail());
        }
        // The shell reads the end of its input, ends what runs, and removes the folder.
        drop(self.watch.stdin.take());
        self.watch.wait().ok();
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = process {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Whether all threads of a process have stopped. One that is gone has.
fn has_stopped(process: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).all(|stat| {
        // The state follows the name, which may hold anything.
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 'Z', 'X']))
    })
}

/// What `look` finds, or nothing after `patience`.
fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    look()
}

fn watch(folder: &Path, end: Signal) -> Child {
    let name = end.as_str().trim_start_matches("SIG");
    let mut command = Command::new("sh");
    command.args(["-c", WATCH, "sh"]).arg(folder).arg(name).process_group(0).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn found(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    // Debian keeps servers where only root looks, and PostgreSQL's programs where nobody does.
    folders.extend(["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}
