//! `watchbell demo`, as a newcomer runs it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WATCHBELL: &str = env!("CARGO_BIN_EXE_watchbell");
/// What a newcomer is promised.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Starts it in an empty folder, with a configuration around it that it must leave alone.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    std::fs::create_dir(folder.join("tmp")).unwrap();
    std::fs::create_dir(folder.join("work")).unwrap();
    Command::new(WATCHBELL)
        .arg("demo")
        .args(arguments)
        .current_dir(folder.join("work"))
        .env("TMPDIR", folder.join("tmp"))
        .env("WATCHBELL_MAIL__URL", "smtp://127.0.0.1:9")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_newcomer_sees_an_alert_a_reminder_and_a_recovery_within_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let ended = start(folder.path(), &["--keep"]).wait_with_output().unwrap();
    assert!(began.elapsed() < A_MINUTE, "it took {:?}", began.elapsed());
    let (told, log) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert_eq!(ended.status.code(), Some(0), "{told}{log}");
    assert_eq!(log, "", "the engine's log is kept out of the way");

    let mut rest = told.as_str();
    for step in [
        "INSERT INTO monitors",
        "first check ok",
        "THE SHOP BREAKS",
        "check failed, state ok -> alert",
        "mail to you@example.com: [Monitor ALERT] Demo shop is open\n         | Monitor: Demo shop is open\n",
        "check failed, state stays alert",
        "mail to you@example.com: [Monitor REMINDER] Demo shop is open\n         | Monitor: Demo shop is open\n",
        "THE SHOP IS MENDED",
        "check ok, state alert -> ok",
        "mail to you@example.com: [Monitor RECOVERED] Demo shop is open\n         | Monitor: Demo shop is open\n",
        "Kept: ",
        "watchbell serve",
        "INSERT INTO monitors",
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is not told, or not in its place:\n{told}"));
        rest = &rest[at + step.len()..];
    }
    assert!(!told.contains('\x1b'), "colours are for terminals:\n{told}");

    let kept = names(&folder.path().join("tmp"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    let installation = folder.path().join("tmp").join(&kept[0]);
    assert!(installation.join("watchbell.db").is_file());
    let mails = names(&installation.join("mail"));
    for kind in ["-alert-", "-reminder-", "-recovery-"] {
        assert_eq!(mails.iter().filter(|name| name.contains(kind)).count(), 1, "{mails:?}");
    }
    assert_eq!(names(&folder.path().join("work")), Vec::<String>::new(), "the working directory is left alone");
}

#[test]
fn a_person_who_stops_it_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = start(folder.path(), &[]);
    let mut told = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("first check ok") {
        line.clear();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "it ended before its first check");
    }
    let killed = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let stopped = Instant::now();
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "not everything was seen");
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    assert!(rest.contains("stopped\n") && rest.contains("Removed: "), "{rest}");
    assert_eq!(names(&folder.path().join("tmp")), Vec::<String>::new());
}
