//! A real Redis server of the test's own, on a port of its own, stopped on drop.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// It is ready within milliseconds; this is for a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Somebody else may take the port between its choice and its use.
const TRIES: u32 = 5;

/// A running server.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    has_tls: bool,
    password: Option<String>,
    files: tempfile::TempDir,
}

impl RedisServer {
    /// One without a password.
    pub(crate) fn start() -> Self {
        Self::start_as(false, None)
    }

    /// One that wants a password of its default user.
    pub(crate) fn with_password(password: &str) -> Self {
        Self::start_as(false, Some(password))
    }

    /// One that speaks TLS only, with a certificate that [`RedisServer::ca_file`] signed, and wants a password.
    pub(crate) fn with_tls(password: &str) -> Self {
        Self::start_as(true, Some(password))
    }

    fn start_as(has_tls: bool, password: Option<&str>) -> Self {
        let files = tempfile::tempdir().unwrap();
        super::smtp::write_certificates(files.path());
        for _ in 0..TRIES {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = spawn(files.path(), port, has_tls, password) {
                return Self { child, port, has_tls, password: password.map(ToOwned::to_owned), files };
            }
        }
        panic!("redis-server does not start; its words are above");
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate authority that signed the server's certificate (for `localhost` and 127.0.0.1).
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Ends it, as a crash would; all that it held is gone.
    pub(crate) fn stop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, empty.
    pub(crate) fn start_again(&mut self) {
        let child = spawn(self.files.path(), self.port, self.has_tls, self.password.as_deref());
        self.child = child.expect("redis-server starts again on its port");
    }

    /// What `redis-cli` prints for a command, without the line break at its end.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = self.client().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// How many clients connected in all, without the one that asks.
    pub(crate) fn connections(&self) -> u32 {
        let stats = self.cli(&["info", "stats"]);
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
        count.trim().parse::<u32>().unwrap() - 1
    }

    /// A real subscriber; it has subscribed when this returns.
    pub(crate) fn subscribe(&self, channel: &str) -> Subscriber {
        let mut child = self.client().args(["subscribe", channel]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut subscriber = Subscriber { child, lines };
        assert_eq!(subscriber.next_lines(), ["subscribe", channel, "1"]);
        subscriber
    }

    fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stdin(Stdio::null());
        if self.has_tls {
            client.arg("--tls").arg("--cacert").arg(self.ca_file());
        }
        if let Some(password) = &self.password {
            client.args(["--no-auth-warning", "-a", password]);
        }
        client
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client that has subscribed to one channel.
pub(crate) struct Subscriber {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Subscriber {
    /// The next message's text; it waits for it.
    pub(crate) fn next(&mut self) -> String {
        let [kind, _, text] = self.next_lines();
        assert_eq!(kind, "message");
        text
    }

    /// All further messages, once the server is gone.
    pub(crate) fn rest(mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }

    fn next_lines(&mut self) -> [String; 3] {
        [(); 3].map(|()| {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It ends with its server.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server that is ready; `None`: it ended instead.
fn spawn(files: &Path, port: u16, has_tls: bool, password: Option<&str>) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(files);
    let port = port.to_string();
    if has_tls {
        let file = |name: &str| files.join(name).display().to_string();
        command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", &file("cert.pem"), "--tls-key-file", &file("key.pem")]);
        command.args(["--tls-ca-cert-file", &file("ca.pem")]);
    } else {
        command.args(["--port", &port]);
    }
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let log = std::fs::File::create(files.join("redis.log")).unwrap();
    let spawned = command.stdin(Stdio::null()).stdout(log).spawn();
    let mut child = spawned.expect("redis-server is missing: run tests/run once, it installs what the tests need");
    let end = Instant::now() + START_PATIENCE;
    while Instant::now() < end {
        let log = std::fs::read_to_string(files.join("redis.log")).unwrap();
        if log.contains("Ready to accept connections") {
            return Some(child);
        }
        if child.try_wait().unwrap().is_some() {
            eprintln!("{log}");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}
