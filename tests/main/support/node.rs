//! A node of the test's own: the real `watchbell serve` in a folder of its own, stopped on drop.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::smtp::{ReceivedMail, SmtpServer};

/// What is waited for comes within milliseconds; this is for a machine that is busy with other things.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How often a condition is looked at: each look may start a process.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// A schedule that never comes within a test: such a monitor runs when it is asked to.
pub(crate) const RARELY: &str = "0 0 29 2 *";
/// Every second.
pub(crate) const EVERY_SECOND: &str = "* * * * * *";

/// Returns what `look` finds, as soon as it does.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < timeout, "waited {timeout:?} in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Returns when `is_so` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, timeout: Duration, mut is_so: impl FnMut() -> bool) {
    wait_for(what, timeout, || is_so().then_some(()));
}

/// An installation in a temporary folder, and the node that serves it while it runs.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    smtp: Option<SmtpServer>,
    running: Option<Child>,
    is_limitable: bool,
}

impl Node {
    /// An installation that has not been started; its mail is written as files.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Self { folder, variables: Vec::new(), smtp: None, running: None, is_limitable: false };
        fs::create_dir(node.path("plugins")).unwrap();
        fs::create_dir(node.path("answers")).unwrap();
        node.write_plugin(
            "probe",
            &format!("{}\n", PROBE.replace("@DIR@", &node.path("answers").display().to_string())),
        );
        node
    }

    /// One that is running, without a mail server.
    pub(crate) fn started() -> Self {
        let mut node = Self::new();
        node.start();
        node
    }

    /// One that is running and mails through a server of its own.
    pub(crate) fn started_with_mail() -> Self {
        let mut node = Self::new().with_mail();
        node.start();
        node
    }

    /// The same, and each message goes out by itself, however soon after the one before.
    pub(crate) fn started_with_every_mail() -> Self {
        let mut node = Self::new().with_mail().with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0");
        node.start();
        node
    }

    /// Mail goes to a server of its own.
    pub(crate) fn with_mail(mut self) -> Self {
        let server = SmtpServer::start();
        let url = format!("smtp://127.0.0.1:{}", server.ports().plain);
        self.smtp = Some(server);
        self.with("WATCHBELL_MAIL__URL", &url)
    }

    /// A variable of the node's environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its files may be limited by [`Node::limit_files_to`]: a write beyond the limit is an error, and no signal.
    pub(crate) fn limitable(mut self) -> Self {
        self.is_limitable = true;
        self
    }

    /// A path in the installation's folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("watchbell.db")
    }

    // The process.

    /// Starts the node and returns once it serves: what it said.
    pub(crate) fn start(&mut self) -> String {
        self.start_and_hear("  mail ")
    }

    /// The same, and returns once it said `text`.
    pub(crate) fn start_and_hear(&mut self, text: &str) -> String {
        assert!(self.running.is_none(), "the node runs already");
        let log = fs::File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        let mut child = self.command(["serve"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        self.running = Some(child);
        let (send, lines) = mpsc::channel();
        // Ends with the node, whose output it drains.
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut said = String::new();
        let began = Instant::now();
        while !said.contains(text) {
            match lines.recv_timeout(SOON.saturating_sub(began.elapsed())) {
                Ok(line) => said.extend([&line, "\n"]),
                Err(_) => panic!("the node does not serve; it said: {said:?}"),
            }
        }
        assert!(said.contains("is serving"), "{said}");
        said
    }

    /// Runs `watchbell` with these arguments on this installation, to its end.
    pub(crate) fn watchbell<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Stops the node as systemd does; how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.running.take().unwrap();
        let ended = wait_for_end(&mut child);
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ended.unwrap_or_else(|| panic!("the node does not end at SIGTERM"))
    }

    /// Kills the node, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the node logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// How many lines of the log hold `text`.
    pub(crate) fn log_lines_with(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// From now on no file of the running node grows beyond so many bytes; `None`: as far as there is room.
    pub(crate) fn limit_files_to(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.running.as_ref().expect("the node runs").id().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
        assert!(set.unwrap().success(), "prlimit");
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        const WATCHBELL: &str = env!("CARGO_BIN_EXE_watchbell");
        let mut command = if self.is_limitable {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", WATCHBELL]);
            shell
        } else {
            Command::new(WATCHBELL)
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        // Nothing of the environment in which the tests run is to configure the node.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Sends the running node a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.running.as_ref().expect("the node runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    // The database, through the program that people use.

    /// What `sqlite3` answers: columns divided by `|`, rows by line breaks.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// The same where an error is expected.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut command = self.sqlite3();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may end at an error before it has read everything.
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), sql.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// `sqlite3` on the database; it waits for other writers.
    pub(crate) fn sqlite3(&self) -> Command {
        let mut command = Command::new("sqlite3");
        command.args(["-batch", "-bail", "-cmd", ".timeout 20000"]).arg(self.database());
        command
    }

    /// One number.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let answer = self.sql(sql);
        answer.parse().unwrap_or_else(|_| panic!("no number, but {answer:?} is the answer to: {sql}"))
    }

    /// Registers a monitor that asks `probe` about `name`, with these further columns: `"schedule = ..., ..."` is
    /// written as pairs of column and SQL value.
    #[track_caller]
    pub(crate) fn register(&self, name: &str, schedule: &str, columns: &[(&str, &str)]) -> i64 {
        let config = json!({"program": "probe", "args": [name]}).to_string();
        let mut all = vec![("name", quoted(name)), ("kind", quoted("command")), ("schedule", quoted(schedule))];
        if !columns.iter().any(|(column, _)| *column == "config") {
            all.push(("config", quoted(&config)));
        }
        for (column, value) in columns {
            all.retain(|(known, _)| known != column);
            all.push((column, (*value).to_owned()));
        }
        let (columns, values): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        self.number(&format!(
            "INSERT INTO monitors ({}) VALUES ({}) RETURNING id;",
            columns.join(", "),
            values.join(", ")
        ))
    }

    /// One column of one monitor.
    #[track_caller]
    pub(crate) fn column(&self, monitor: i64, column: &str) -> String {
        self.sql(&format!("SELECT {column} FROM monitors WHERE id = {monitor}"))
    }

    /// How many runs of a monitor are recorded.
    pub(crate) fn runs(&self, monitor: i64) -> i64 {
        self.number(&format!("SELECT count(*) FROM monitor_runs WHERE monitor_id = {monitor}"))
    }

    /// Waits until so many runs of a monitor are recorded.
    #[track_caller]
    pub(crate) fn wait_for_runs(&self, monitor: i64, runs: i64) {
        wait_until(&format!("{runs} runs of monitor {monitor}"), SOON, || self.runs(monitor) >= runs);
    }

    /// Waits until `sql` answers 1.
    #[track_caller]
    pub(crate) fn wait_for_truth(&self, sql: &str) {
        wait_until(sql, SOON, || self.sql(sql) == "1");
    }

    /// Forces a recheck and waits until it is recorded.
    #[track_caller]
    pub(crate) fn recheck(&self, monitor: i64) {
        let before = self.runs(monitor);
        self.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {monitor}"));
        self.wait_for_runs(monitor, before + 1);
    }

    // What the probe answers.

    /// From now on the probe is well when asked about `name`.
    pub(crate) fn heal(&self, name: &str) {
        self.answer(name, 0, "all is well");
    }

    /// From now on the probe finds `message` when asked about `name`.
    pub(crate) fn break_with(&self, name: &str, message: &str) {
        self.answer(name, 2, message);
    }

    /// From now on the probe prints `message` and ends with `code`.
    pub(crate) fn answer(&self, name: &str, code: u8, message: &str) {
        let path = self.path("answers").join(name);
        let new = path.with_extension("new");
        fs::write(&new, format!("{code}\n{message}\n")).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// How often the probe was asked about `name`.
    pub(crate) fn calls(&self, name: &str) -> usize {
        fs::read_to_string(self.path("answers").join(format!("{name}.calls"))).unwrap_or_default().lines().count()
    }

    /// A program for the kind `command`.
    pub(crate) fn write_plugin(&self, name: &str, script: &str) {
        let path = self.path("plugins").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    // Mail.

    /// The mail server.
    pub(crate) fn smtp(&self) -> &SmtpServer {
        self.smtp.as_ref().expect("a mail server")
    }

    /// The mails about the monitor of this name, in order.
    pub(crate) fn mails(&self, name: &str) -> Vec<ReceivedMail> {
        let end = format!("] {name}");
        self.smtp().mails().into_iter().filter(|mail| mail.subject.ends_with(&end)).collect()
    }

    /// The subjects of the mails about the monitor of this name, without the name, in order.
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        let word = |mail: ReceivedMail| mail.subject.trim_end_matches(name).trim().to_owned();
        self.mails(name).into_iter().map(word).collect()
    }

    /// Waits until so many mails about the monitor of this name have come.
    #[track_caller]
    pub(crate) fn wait_for_mails(&self, name: &str, count: usize) -> Vec<ReceivedMail> {
        wait_for(&format!("{count} mails about {name}"), SOON, || {
            Some(self.mails(name)).filter(|mails| mails.len() >= count)
        })
    }

    /// Waits until nothing is on its way to anybody.
    #[track_caller]
    pub(crate) fn wait_for_delivery(&self) {
        self.wait_for_truth("SELECT count(*) = 0 FROM notifications WHERE status IN ('pending', 'sending')");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(60).collect::<Vec<_>>();
            eprintln!("The node's log ends with:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A text as SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A JSON array of recipients as SQL.
pub(crate) fn people(recipients: &[&str]) -> String {
    quoted(&Value::from(recipients).to_string())
}

fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < SOON {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    None
}

/// Says what the file of its argument's name says: the exit code in the first line, then what to print. Well without one.
const PROBE: &str = r#"#!/bin/sh
echo called >> "@DIR@/$1.calls"
[ -f "@DIR@/$1" ] || { echo "all is well"; exit 0; }
{ read -r code; cat; } < "@DIR@/$1"
exit "$code"
"#;
