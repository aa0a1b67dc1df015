//! As a service of systemd: what `packaging/watchbell.service` asks for is really signalled (`sd_notify(3)`).

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use watchbell::config::keys::{KEYS, KeyDefault};

/// `WatchdogSec` of the test; shorter than the unit's so that the test is.
const WATCHDOG: Duration = Duration::from_millis(1500);
/// Start and stop take well below a second; the machine may be busy.
const A_WHILE: Duration = Duration::from_secs(20);

const UNIT: &str = include_str!("../../packaging/watchbell.service");

/// The values of a key of the unit, in order.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// A node that was started as systemd does it.
struct Service {
    child: Child,
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let config = folder.path().join("watchbell.toml");
        std::fs::write(&config, "").unwrap();
        let child = command(&config)
            .current_dir(folder.path())
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket, _folder: folder }
    }

    /// The next datagram, as its lines; `None`: nothing came within the time.
    fn signal_within(&self, time: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a datagram with this line, past others.
    fn wait_for(&self, line: &str) {
        let until = Instant::now() + A_WHILE;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.signal_within(left).is_some_and(|lines| lines.iter().any(|said| said == line)) {
                return;
            }
        }
        panic!("`{line}` was not signalled");
    }

    fn kill(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The unit's own command line, for this binary and this configuration. `WATCHDOG_PID` has to be the process's own.
fn command(config: &Path) -> Command {
    let line = unit("ExecStart")[0].split(' ').skip(1);
    let arguments = line.map(|word| if word.starts_with('/') { config.to_str().unwrap() } else { word });
    let mut command = Command::new("sh");
    command.args(["-c", r#"WATCHDOG_PID=$$ exec "$0" "$@""#, env!("CARGO_BIN_EXE_watchbell")]).args(arguments);
    command
}

#[test]
fn readiness_the_watchdog_and_the_stop_are_signalled() {
    let mut service = Service::start();
    service.wait_for("READY=1");

    let began = Instant::now();
    for _ in 0..4 {
        service.wait_for("WATCHDOG=1");
    }
    assert!(began.elapsed() < WATCHDOG * 4, "systemd would have killed it: {:?}", began.elapsed());

    // A process that hangs is silent, so that systemd restarts it.
    service.kill("-STOP");
    std::thread::sleep(Duration::from_millis(100));
    while service.signal_within(Duration::from_millis(1)).is_some() {}
    assert_eq!(service.signal_within(WATCHDOG * 2), None);
    service.kill("-CONT");
    service.wait_for("WATCHDOG=1");

    service.kill("-TERM");
    service.wait_for("STOPPING=1");
    let until = Instant::now() + A_WHILE;
    while service.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_unit_asks_for_what_is_signalled_and_gives_time_to_end() {
    assert_eq!(unit("Type"), ["notify"]);
    assert_eq!(unit("Restart"), ["always"]);
    let watchdog: u64 = unit("WatchdogSec")[0].parse().unwrap();
    assert!(watchdog >= 20, "the scheduler is said to hang after 10 s; it must have signalled before");
    let stop: u64 = unit("TimeoutStopSec")[0].parse().unwrap();
    let grace = KEYS.iter().find(|key| key.name == "checks.shutdown_grace_seconds").unwrap();
    let KeyDefault::Value(grace) = grace.default else { panic!("the grace has no default") };
    let grace: u64 = grace.parse().unwrap();
    assert!(stop > 2 * grace, "running checks have {grace} s, and what they found has to be written after that");
    assert_eq!(unit("CapabilityBoundingSet"), [""], "no capability is kept");
    for key in ["NoNewPrivileges", "DynamicUser", "PrivateDevices", "ProtectKernelModules", "MemoryDenyWriteExecute"] {
        assert_eq!(unit(key), ["yes"], "{key}");
    }
    assert_eq!(unit("ProtectSystem"), ["strict"]);
    assert_eq!(unit("StateDirectory"), ["watchbell"]);
}
