//! A database server of one test: its own directory, a port that the system chose, gone when it is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

/// How long a server may take to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between choosing a port and using it, another program may take it.
const PORTS_TO_TRY: usize = 5;

/// A running server.
pub(crate) struct Server {
    child: Child,
    stop_signal: Signal,
    pub(crate) port: u16,
    /// Removed after the server has stopped: fields are dropped in this order, after `drop`.
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, self.stop_signal).ok();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A directory that belongs to `user` where this test runs as root, which servers refuse to run as.
fn folder_of(user: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        let known = User::from_name(user).unwrap();
        let known = known.unwrap_or_else(|| panic!("there is no user `{user}`: install the server's Debian package"));
        std::os::unix::fs::chown(folder.path(), Some(known.uid.as_raw()), Some(known.gid.as_raw())).unwrap();
    }
    folder
}

/// A program of a server, as `user` where this test runs as root, that ends with this test whatever happens to it.
fn program(name: &str, package: &str, user: &str, signal_at_end: &str) -> Command {
    let path = found(name).unwrap_or_else(|| panic!("`{name}` is missing: install the Debian package `{package}`"));
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig").arg(signal_at_end);
    if geteuid().is_root() {
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
    }
    command.arg(path).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn found(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/bin"].map(PathBuf::from));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Starts `command` on ports until one works; `is_ready` asks whether the log says that it listens.
fn started(folder: TempDir, stop_signal: Signal, ready: &str, command: impl Fn(&Path, u16) -> Command) -> Server {
    let mut told = String::new();
    for _ in 0..PORTS_TO_TRY {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = folder.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        let mut command = command(folder.path(), port);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        loop {
            told = std::fs::read_to_string(&log).unwrap_or_default();
            if told.contains(ready) {
                return Server { child, stop_signal, port, _folder: folder };
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            if begin.elapsed() > PATIENCE {
                child.kill().ok();
                child.wait().ok();
                panic!("the server is not ready after {PATIENCE:?}:\n{told}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("the server does not start:\n{told}");
}

/// A PostgreSQL whose superuser is `postgres` with `password`.
pub(crate) fn postgres(password: &str) -> Server {
    const USER: &str = "postgres";
    let folder = folder_of(USER);
    let (data, secret) = (folder.path().join("data"), folder.path().join("password"));
    std::fs::write(&secret, password).unwrap();
    run(program("initdb", "postgresql", USER, "KILL")
        .args(["-U", USER, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "-D"])
        .arg(&data)
        .arg(format!("--pwfile={}", secret.display())));
    started(folder, Signal::SIGINT, "database system is ready to accept connections", |folder, port| {
        let mut command = program("postgres", "postgresql", USER, "INT");
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]).args([
            "-c".to_owned(),
            "listen_addresses=127.0.0.1".to_owned(),
            "-c".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "-c".to_owned(),
            "fsync=off".to_owned(),
            // Statements must not depend on the server's own zone.
            "-c".to_owned(),
            "timezone=Asia/Tokyo".to_owned(),
        ]);
        command
    })
}

/// A MariaDB whose `root` has no password.
pub(crate) fn mariadb() -> Server {
    const USER: &str = "mysql";
    let folder = folder_of(USER);
    run(program("mariadb-install-db", "mariadb-server", USER, "KILL")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", folder.path().join("data").display())));
    started(folder, Signal::SIGTERM, "ready for connections", |folder, port| {
        let mut command = program("mariadbd", "mariadb-server", USER, "TERM");
        command.args([
            "--no-defaults".to_owned(),
            format!("--datadir={}", folder.join("data").display()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--socket={}", folder.join("socket").display()),
            format!("--pid-file={}", folder.join("pid").display()),
            "--skip-log-bin".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            // Statements must not depend on the server's own zone.
            "--default-time-zone=+09:00".to_owned(),
        ]);
        command
    })
}
