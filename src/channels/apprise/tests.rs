//! The real program against a small server, and programs in its place that do wrong.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use watchbell_contract::{SecretError, SecretReference, Secrets, Severity};

use super::process::{self, End};
use super::{Apprise, PATIENCE, TYPE, hidden};
use crate::channels::{ChannelSettings, ChannelUrl, open};
use crate::domain::{Facts, MonitorId, NotificationId, NotificationType, OutboxRow};
use crate::ports::{Channel, Delivered, DeliveryError};

/// With what means something in a URL, in a shell, and in Apprise's file.
const PLANTED: &str = "pl4nted/#@% &:?";

/// Each reference stands for itself, or for a text that the test gave.
struct Planted(String);

#[async_trait]
impl Secrets for Planted {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, _reference: &SecretReference) -> Result<String, SecretError> {
        Ok(self.0.clone())
    }
}

struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("nobody writes mail here");
    }

    fn describe(&self) -> String {
        String::new()
    }
}

fn settings(secret: &str) -> ChannelSettings {
    ChannelSettings {
        secrets: Arc::new(Planted(secret.to_owned())),
        public_url: Some("https://watchbell.example.com".to_owned()),
        ca_file: None,
        mail: Arc::new(NoMail),
    }
}

fn channel_with(url: &str, secret: &str, program: &Path, patience: Duration) -> Arc<Apprise> {
    let settings = settings(secret);
    let mut url = ChannelUrl::read(url, &TYPE, settings.secrets.clone());
    let channel = Apprise::new(&mut url, &settings, program.to_owned(), patience);
    url.finish(channel).unwrap()
}

fn channel(url: &str) -> Arc<Apprise> {
    channel_with(url, PLANTED, &real_program(), PATIENCE)
}

fn real_program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/apprise");
    assert!(program.exists(), "{} is missing: run tests/run once, it installs what the tests need", program.display());
    program
}

/// A shell script in the program's place. Another process writes it: a program that this one still has open for writing
/// while another test forks could not be run.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("apprise");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(&path).stdin(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    path
}

/// Delivers over `script`, with the planted secret in the URL.
async fn over(text: &str) -> Result<Delivered, DeliveryError> {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), text);
    channel_with("apprise:json://u:${env:S}@host/path", PLANTED, &program, PATIENCE).deliver(&row()).await
}

fn row() -> OutboxRow {
    OutboxRow {
        id: NotificationId(1),
        uuid: "one".to_owned(),
        monitor_id: Some(MonitorId(3)),
        monitor_uuid: Some("3e6f".to_owned()),
        incident_id: None,
        incident_uuid: None,
        thread_uuid: "one".to_owned(),
        thread_external_id: None,
        edits_external_id: None,
        notification_type: NotificationType::Alert,
        severity: Severity::Critical,
        recipient: "ops".to_owned(),
        subject: "[Monitor ALERT] Z\u{fc}rich".to_owned(),
        body: "body".to_owned(),
        facts: Facts {
            monitor_name: "Z\u{fc}rich".to_owned(),
            message: "0 rows\n$(reboot) `x`".to_owned(),
            labels: BTreeMap::new(),
            ..Facts::default()
        },
        attempts: 1,
        created_at: "2026-11-22T01:00:00Z".parse().unwrap(),
    }
}

fn retry(result: Result<Delivered, DeliveryError>) -> String {
    let Err(DeliveryError::Retry { reason, .. }) = result else { panic!("expected `Retry`: {result:?}") };
    assert!(!reason.contains("pl4nted"), "{reason}");
    reason
}

fn unavailable(result: Result<Delivered, DeliveryError>) -> String {
    let Err(DeliveryError::Unavailable { reason, .. }) = result else { panic!("expected `Unavailable`: {result:?}") };
    assert!(!reason.contains("pl4nted"), "{reason}");
    reason
}

/// Takes one request, whole: its head and its JSON.
async fn request(listener: &TcpListener) -> (TcpStream, String, serde_json::Value) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return (stream, head.to_owned(), serde_json::from_str(body).unwrap());
            }
        }
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "cut off: {text}");
    }
}

async fn answer(mut stream: TcpStream, status: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Number and arguments of every process of the machine.
fn command_lines() -> Vec<(String, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let processes =
        entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    // Some end while they are looked at.
    let lines = processes.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    lines.collect()
}

#[tokio::test]
async fn nobody_sees_the_url_or_the_message_while_the_program_runs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Of this run alone: any process of the machine may have the same word for reasons of its own.
    let [secret, name, message] = [(); 3].map(|()| uuid::Uuid::new_v4().to_string());
    let url = format!("apprise:json://u:${{env:S}}@{address}/told");
    let channel = channel_with(&url, &secret, &real_program(), PATIENCE);
    let facts = Facts { monitor_name: name.clone(), message: message.clone(), ..Facts::default() };
    let delivery = tokio::spawn(async move { channel.deliver(&OutboxRow { facts, ..row() }).await });

    // The server does not answer yet: the program is in the middle of it.
    let (stream, _, body) = request(&listener).await;
    assert!(body["message"].as_str().unwrap().contains(&message));
    let lines = command_lines();
    for secret in [&secret, &name, &message, &address.to_string()] {
        assert!(lines.iter().all(|(_, line)| !line.contains(secret)), "{secret}: {lines:?}");
    }
    let config = |line: &str| PathBuf::from(line.split_whitespace().last().unwrap_or_default());
    let encoded = secret.replace('-', "%2D");
    // Other tests run the program too.
    let is_ours = |line: &str| {
        line.contains("watchbell-") && std::fs::read_to_string(config(line)).is_ok_and(|url| url.contains(&encoded))
    };
    let (pid, line) = lines.iter().find(|(_, line)| is_ours(line)).expect("the program is at work");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains(&secret) && !environment.contains(&encoded));
    let file = config(line);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    answer(stream, "200 OK").await;
    delivery.await.unwrap().unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_message_arrives_over_the_real_program() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = channel(&format!("apprise:json://u:${{env:S}}@{}/here", listener.local_addr().unwrap()));
    assert_eq!(channel.describe(), "apprise (json)");
    let delivery = tokio::spawn(async move { channel.deliver(&row()).await });
    let (stream, head, body) = request(&listener).await;
    answer(stream, "200 OK").await;
    assert_eq!(delivery.await.unwrap().unwrap().answer, "apprise reports that it was sent");
    assert!(head.starts_with("POST /here"), "{head}");
    // `u:pl4nted/#@% &:?` as Basic credentials have it.
    assert!(head.contains("Authorization: Basic dTpwbDRudGVkLyNAJSAmOj8="), "{head}");
    assert_eq!((&body["title"], &body["type"]), (&"Watchbell: alert".into(), &"failure".into()));
    let text = "\u{1F534} Z\u{fc}rich: ALERT\n\n0 rows\n$(reboot) `x`\n\nhttps://watchbell.example.com/monitors/3e6f";
    assert_eq!(body["message"], text);
}

#[tokio::test]
async fn a_service_that_refuses_or_is_away_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let channel = channel(&format!("apprise:json://u:${{env:S}}@127.0.0.1:{port}/told"));
    let server = tokio::spawn(async move {
        let (stream, ..) = request(&listener).await;
        answer(stream, "401 Unauthorized").await;
    });
    let refused = retry(channel.deliver(&row()).await);
    assert!(refused.contains("error=401"), "{refused}");
    server.await.unwrap();
    // The listener is gone.
    let away = retry(channel.deliver(&row()).await);
    assert!(away.contains("Connection error"), "{away}");
}

#[tokio::test]
async fn what_apprise_does_not_know_makes_the_channel_wait() {
    let unknown = unavailable(channel("apprise:nosuch://u:${env:S}@host").deliver(&row()).await);
    assert!(unknown.contains("can do nothing with the channel's URL"), "{unknown}");
    let usage = unavailable(over("echo 'Error: No such option: -v' >&2; exit 2").await);
    assert!(usage.contains("No such option: -v (is it too old?)"), "{usage}");
    let missing = channel_with("apprise:json://host", "", Path::new("/nonexistent/apprise"), PATIENCE);
    let missing = unavailable(missing.deliver(&row()).await);
    assert!(missing.contains("pip install apprise"), "{missing}");
}

#[tokio::test]
async fn a_whole_secret_is_one_url_or_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("json://{}\n", listener.local_addr().unwrap());
    let whole = channel_with("apprise:${pass:apprise/ops}", &url, &real_program(), PATIENCE);
    assert_eq!(whole.describe(), "apprise (the address of a secret)");
    let server = tokio::spawn(async move { answer(request(&listener).await.0, "200 OK").await });
    whole.deliver(&row()).await.unwrap();
    server.await.unwrap();

    for secret in ["include /etc/pl4nted", "json://pl4nted\ninclude /etc/x", "ops=json://pl4nted", "# pl4nted", ""] {
        let wrong = channel_with("apprise:${pass:apprise/ops}", secret, &real_program(), PATIENCE);
        let reason = unavailable(wrong.deliver(&row()).await);
        assert!(reason.contains("must hold one URL of Apprise"), "{secret}: {reason}");
    }
}

#[tokio::test]
async fn what_the_program_prints_is_shown_without_the_url_and_bounded() {
    let config = "while [ \"$1\" != -c ]; do shift; done; cat \"$2\"";
    let whole = retry(over(&format!("{config}; exit 1")).await);
    assert_eq!(whole, "`apprise` did not deliver: ***");
    // In Apprise's own way of encoding, and as the last line of its log.
    let parts =
        "echo '2026-11-22 02:12:34,635 - WARNING - no u:pl4nted%2F%23@%25%20&:? at /path'; echo 'see above'; exit 1";
    assert_eq!(retry(over(parts).await), "`apprise` did not deliver: no u:*** at /***");
    let flood = retry(over("head -c 3000000 /dev/zero | tr '\\0' x; echo end of it; exit 1").await);
    assert!(flood.starts_with("`apprise` did not deliver: xxx") && flood.len() < 1_000, "{}", flood.len());
    let silent = retry(over("kill -9 $$").await);
    assert!(silent.contains("signal: 9"), "{silent}");
}

#[tokio::test]
async fn only_the_end_of_what_it_prints_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let flood = script(dir.path(), "head -c 3000000 /dev/zero | tr '\\0' x; echo end of it");
    let End::Exited(_, output) = process::run(&flood, &[], "", PATIENCE).await else { panic!("it did not end") };
    assert!(output.trim_end().ends_with("xxxend of it"));
    assert_eq!(output.len(), 16 * 1024 + 1);
}

#[test]
fn every_part_of_a_url_is_hidden() {
    let url = "slack://bot@T0KENA/T0KEN%2FB/a%20b%20c/%23ops?key=v4lue&x=y";
    let words = "https://h/T0KEN/B T0KEN%2fB T0KENA #ops a b c v4lue y";
    assert_eq!(hidden(words, url), "https://h/*** *** *** *** *** *** y");
}

#[tokio::test]
async fn the_program_gets_no_environment_but_what_it_needs() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "a variable to look for");
    let words = retry(over("echo \"manifest=$CARGO_MANIFEST_DIR. path=${PATH:+set}.\"; exit 1").await);
    assert_eq!(words, "`apprise` did not deliver: manifest=. ***=set.");
}

/// Waits for the numbers of the script's two processes: its own, and that of what it started.
async fn pids(file: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let pids = std::fs::read_to_string(file).unwrap_or_default();
        if pids.ends_with('\n') && pids.lines().count() == 2 {
            return pids.lines().map(ToOwned::to_owned).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the script does not write {}", file.display());
}

async fn are_gone(pids: &[String]) -> bool {
    let is_alive = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A dead process that nobody reaped yet is gone.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let end = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(is_alive) {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

const HANGS: &str = "sleep 600 & echo $$ >> \"$0.pids\"; echo $! >> \"$0.pids\"; wait";

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), HANGS);
    let hanging = channel_with("apprise:json://u:${env:S}@host", PLANTED, &program, Duration::from_secs(2));
    let started = Instant::now();
    let reason = retry(hanging.deliver(&row()).await);
    assert_eq!(reason, "`apprise` did not end within 2 s and was stopped");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(are_gone(&pids(&dir.path().join("apprise.pids")).await).await);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), HANGS);
    let hanging = channel_with("apprise:json://host", "", &program, PATIENCE);
    let delivery = tokio::spawn(async move { hanging.deliver(&row()).await });
    let pids = pids(&dir.path().join("apprise.pids")).await;
    delivery.abort();
    assert!(delivery.await.unwrap_err().is_cancelled());
    assert!(are_gone(&pids).await);
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), &HANGS.replace("wait", "exit 0"));
    let leaving = channel_with("apprise:json://host", "", &program, PATIENCE);
    let started = Instant::now();
    let delivered = leaving.deliver(&row()).await;
    let left = pids(&dir.path().join("apprise.pids")).await[1].parse().unwrap();
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
    delivered.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_no_url_of_apprise_is_a_fault() {
    for url in ["apprise:", "apprise:host/path", "apprise:js on://host", "apprise:json://host#channel"] {
        let faults = open(url, &settings("")).map(drop).unwrap_err().to_string();
        assert!(faults.contains("url"), "{url}: {faults}");
    }
    for example in TYPE.examples {
        open(example, &settings("")).unwrap();
    }
    assert_eq!(open("apprise:slack://T0KEN/b/c", &settings("")).unwrap().describe(), "apprise (slack)");
}
