//! Real plugins, from Debian's `monitoring-plugins-basic`, through `watchbell check command`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::node::{SOON, wait_until};

const PLUGINS: &str = "/usr/lib/nagios/plugins";

/// `watchbell check command` over this folder of plugins.
fn watchbell(folder: &Path, allowed: &[&str], config: &Value, timeout: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command
        .args(["check", "command", "--json", "--timeout", &timeout.to_string(), "--config", &config.to_string()])
        .current_dir(std::env::temp_dir())
        .env("WATCHBELL_PLUGIN_DIRS", json!([folder]).to_string())
        .env("WATCHBELL_COMMAND__ALLOW", json!(allowed).to_string());
    command
}

/// How a check ended: the exit status and what was printed.
#[derive(Debug)]
struct Checked {
    status: Option<i32>,
    answer: Value,
}

impl Checked {
    fn of(mut command: Command) -> Self {
        let ended = command.output().unwrap();
        let answer = serde_json::from_slice(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr)));
        Self { status: ended.status.code(), answer }
    }

    fn message(&self) -> &str {
        self.answer["message"].as_str().unwrap()
    }

    /// Holds it to be ok, with these words.
    fn is_ok(&self, words: &str) {
        assert_eq!((self.status, &self.answer["is_ok"]), (Some(0), &json!(true)), "{self:?}");
        assert!(self.message().contains(words), "{self:?}");
    }

    /// Holds it to have failed, with this severity of its own and these words.
    fn has_failed(&self, severity: Option<&str>, words: &str) {
        assert_eq!((self.status, &self.answer["is_ok"]), (Some(2), &json!(false)), "{self:?}");
        assert_eq!(self.answer["severity"].as_str(), severity, "{self:?}");
        assert!(self.message().contains(words), "{self:?}");
    }
}

fn plugin(program: &str, args: &[&str]) -> Checked {
    let is_there = Path::new(PLUGINS).join(program).exists();
    assert!(is_there, "{PLUGINS}/{program} is missing: run tests/run once, it installs what the tests need");
    Checked::of(watchbell(Path::new(PLUGINS), &[], &json!({"program": program, "args": args}), 20))
}

#[test]
fn exit_codes_are_verdicts() {
    plugin("check_dummy", &["0", "all well"]).is_ok("OK: all well");
    plugin("check_dummy", &["1", "so so"]).has_failed(Some("warning"), "WARNING: so so");
    plugin("check_dummy", &["2", "broken"]).has_failed(Some("critical"), "CRITICAL: broken");
    plugin("check_dummy", &["3", "who knows"]).has_failed(None, "UNKNOWN: who knows");
    plugin("check_dummy", &[]).has_failed(None, "");
}

#[test]
fn what_this_machine_tells() {
    let load = plugin("check_load", &["-w", "9000,9000,9000", "-c", "9999,9999,9999"]);
    load.is_ok("load average");
    assert!(load.answer["metrics"]["load1"].is_number(), "{load:?}");
    plugin("check_disk", &["-w", "0%", "-c", "0%", "-p", "/"]).is_ok("DISK OK");
    plugin("check_disk", &["-c", "100%", "-p", "/"]).has_failed(Some("critical"), "DISK CRITICAL");
    plugin("check_procs", &["-c", "1:1000000"]).is_ok("PROCS OK");
    plugin("check_procs", &["-c", "0:0"]).has_failed(Some("critical"), "PROCS CRITICAL");
}

/// A web server on loopback: `/` is there, the rest is not, `/broken` is out of order. It ends with the process.
fn web_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let status = match String::from_utf8_lossy(&head[..length]).split(' ').nth(1) {
                Some("/") => "200 OK",
                Some("/broken") => "503 Service Unavailable",
                _ => "404 Not Found",
            };
            // A check of the port alone does not read.
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").as_bytes()).ok();
        }
    });
    port
}

#[test]
fn what_the_network_tells() {
    let port = web_server().to_string();
    let http = |path: &str| plugin("check_http", &["-I", "127.0.0.1", "-p", &port, "-u", path]);
    http("/").is_ok("HTTP OK");
    http("/missing").has_failed(Some("warning"), "404 Not Found");
    http("/broken").has_failed(Some("critical"), "503 Service Unavailable");
    plugin("check_tcp", &["-H", "127.0.0.1", "-p", &port]).is_ok("TCP OK");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    plugin("check_tcp", &["-H", "127.0.0.1", "-p", &closed]).has_failed(Some("critical"), "refused");
}

#[test]
fn a_program_that_runs_what_its_arguments_name_must_be_listed() {
    plugin("negate", &["/bin/sh", "-c", "id"]).has_failed(None, "command.allow");
    let config = json!({"program": "negate", "args": [format!("{PLUGINS}/check_dummy"), "2", "expected"]});
    Checked::of(watchbell(Path::new(PLUGINS), &["negate"], &config, 20)).is_ok("expected");
}

/// Processes whose environment holds a mark, whoever their parent is by now.
fn processes_with(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    environments.filter(|bytes| String::from_utf8_lossy(bytes).contains(mark)).count()
}

/// A folder of plugins with one program in it.
fn folder_with(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// It forks, within its group and out of it, ignores TERM, prints 10 MB and does not end.
const NASTY: &str = r#"#!/bin/sh
trap '' TERM
sleep 1000 &
setsid sleep 1000 &
head -c 10000000 /dev/zero | tr '\0' 'x'
echo
sleep 1000
"#;

#[test]
fn a_nasty_plugin_is_ended_within_its_timeout_and_leaves_no_process() {
    const TIMEOUT: u32 = 6;
    let folder = folder_with("nasty", NASTY);
    let mark = format!("NASTY_MARK={}", uuid::Uuid::new_v4());
    let (name, value) = mark.split_once('=').unwrap();
    let config = json!({"program": "nasty", "env": {name: value}});
    let began = Instant::now();
    let check = watchbell(folder.path(), &[], &config, TIMEOUT).stdout(Stdio::piped()).spawn().unwrap();
    let seen = most_processes(&mark, began + Duration::from_secs(u64::from(TIMEOUT)));
    assert!(seen >= 4, "the shell and its three sleeps are seen before they are ended: {seen}");

    let ended = check.wait_with_output().unwrap();
    // The rest is the start of the process, on a machine that may be busy.
    assert!(began.elapsed() < Duration::from_secs(u64::from(TIMEOUT) + 2), "{:?}", began.elapsed());
    let checked = Checked { status: ended.status.code(), answer: serde_json::from_slice(&ended.stdout).unwrap() };
    checked.has_failed(None, "");
    assert!(checked.message().len() < 16 * 1024, "8 KiB of the output are kept: {}", checked.message().len());
    assert!(checked.answer["duration_ms"].as_u64().unwrap() <= u64::from(TIMEOUT) * 1000, "{checked:?}");
    // Who was killed dies when the kernel comes to it, on a busy machine a moment after the program that killed.
    wait_until("no process is left behind", SOON, || processes_with(&mark) == 0);
}

/// The most processes with this mark at a time, until the time or four of them.
fn most_processes(mark: &str, until: Instant) -> usize {
    let mut most = 0;
    while most < 4 && Instant::now() < until {
        most = most.max(processes_with(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
    most
}

#[test]
fn a_folder_or_a_program_that_others_may_write_is_refused() {
    let folder = folder_with("mine", "#!/bin/sh\necho fine\n");
    let config = json!({"program": "mine"});
    let check = || Checked::of(watchbell(folder.path(), &[], &config, 20));
    check().is_ok("fine");
    let may = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    may(&folder.path().join("mine"), 0o757);
    check().has_failed(None, "by others (mode 757)");
    may(&folder.path().join("mine"), 0o755);
    may(folder.path(), 0o777);
    check().has_failed(None, "by others (mode 777)");
}
