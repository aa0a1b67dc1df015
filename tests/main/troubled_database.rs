//! A database that is locked, full, missing, read-only, of a newer version or none at all: clear words, nothing lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::support::node::{EVERY_SECOND, Node, RARELY, SOON, wait_until};

const OPS: &str = r#"'["ops@x.test"]'"#;
/// What the log says, once, when outcomes cannot be written, and once when they can again.
const CANNOT: &str = "outcomes cannot be written";
const CAN_AGAIN: &str = "outcomes can be written again";

#[test]
fn a_lock_held_for_long_by_another_program_loses_nothing() {
    let node = Node::started_with_mail();
    let names = ["One", "Two", "Three"];
    for name in names {
        node.register(name, EVERY_SECOND, &[("people_to_notify", OPS)]);
    }
    let healing = node.register("Healing", RARELY, &[("people_to_notify", OPS), ("required_consecutive_oks", "1")]);
    node.break_with("Healing", "down");
    node.recheck(healing);
    node.wait_for_mails("Healing", 1);
    node.wait_for_delivery();
    node.heal("Healing");
    node.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {healing}"));
    let lock = Lock::hold(&node);
    for name in names {
        node.break_with(name, "down while the database is locked");
    }
    let held_since = Instant::now();
    wait_until("the log says why", SOON, || node.log().contains(CANNOT));
    assert!(node.log().contains("another program holds the database's lock; end its open transaction"));
    wait_until("the lock was held for 8 s", SOON, || held_since.elapsed() > Duration::from_secs(8));
    let asked = node.calls("One");
    lock.release();
    for name in names {
        node.wait_for_mails(name, 1);
    }
    node.wait_for_mails("Healing", 2);
    node.wait_for_delivery();
    wait_until("the log says that it is over", SOON, || node.log().contains(CAN_AGAIN));
    for name in names {
        assert_eq!(node.told(name), ["[Monitor ALERT]"]);
        let text = node.mails(name).remove(0).text.unwrap();
        assert!(text.contains("down while the database is locked"), "{text}");
    }
    assert_eq!(node.told("Healing"), ["[Monitor ALERT]", "[Monitor RECOVERED]"]);
    assert_eq!(node.log_lines_with(CANNOT), 1, "said once");
    // Ticks that came meanwhile were skipped and counted; what goes on afterwards is as usual.
    wait_until("the checks go on", SOON, || node.calls("One") > asked + 2);
    assert_eq!(node.sql("SELECT min(skipped_tick_count) > 0 FROM monitors WHERE name = 'One'"), "1");
    let doubled = "SELECT count(*) - count(DISTINCT monitor_id || tick_at) FROM monitor_runs WHERE tick_at IS NOT NULL";
    assert_eq!(node.sql(doubled), "0");
}

#[test]
fn a_lock_met_by_a_command_or_at_the_start_is_told_of() {
    let mut node = Node::started();
    assert!(node.stop().success());
    let lock = Lock::hold(&node);
    let add = ["add", "--name", "Locked out", "--kind", "file", "--schedule", RARELY, "--config", r#"{"path": "/"}"#];
    for arguments in [&["serve"][..], &add] {
        let ended = node.watchbell(arguments);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("another program holds the database's lock; end its open transaction"), "{said}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    lock.release();
    node.start();
}

#[test]
fn a_file_that_can_grow_no_more_loses_nothing_and_goes_on_when_it_can() {
    let mut node = Node::new().with_mail().limitable();
    node.start();
    let monitor = node.register("Filling", EVERY_SECOND, &[("people_to_notify", OPS)]);
    node.wait_for_runs(monitor, 1);
    node.limit_files_to(Some(1024));
    node.break_with("Filling", "down while nothing can be written");
    wait_until("the log says why", SOON, || node.log().contains(CANNOT));
    assert!(node.smtp().mails().is_empty(), "nothing is said that is not written");
    assert_eq!(node.column(monitor, "state"), "ok");
    node.limit_files_to(None);
    node.wait_for_mails("Filling", 1);
    wait_until("the log says that it is over", SOON, || node.log().contains(CAN_AGAIN));
    node.wait_for_runs(monitor, node.runs(monitor) + 2);
    assert_eq!(node.told("Filling"), ["[Monitor ALERT]"]);
    assert_eq!(node.sql("PRAGMA integrity_check"), "ok");
    assert_eq!(node.log_lines_with(CANNOT), 1, "said once");
}

#[test]
fn what_cannot_be_opened_is_refused_at_the_start_with_a_hint() {
    let refusal = |node: &Node| {
        let ended = node.watchbell(["serve"]);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(ended.stdout.is_empty(), "it does not say that it serves: {ended:?}");
        said
    };
    let missing = Node::new().with("WATCHBELL_DATABASE_URL", "sqlite://no/such/folder/w.db");
    let said = refusal(&missing);
    assert!(said.contains("no/such/folder/w.db") && said.contains("its folder must exist"), "{said}");

    let nonsense = Node::new();
    fs::write(nonsense.database(), "This is a letter to my aunt, not a database. ".repeat(100)).unwrap();
    let said = refusal(&nonsense);
    assert!(said.contains("file is not a database; name another file, or move this one away"), "{said}");
    assert!(fs::read_to_string(nonsense.database()).unwrap().starts_with("This is a letter"), "it is left as it was");

    let folder = Node::new();
    fs::create_dir(folder.database()).unwrap();
    let said = refusal(&folder);
    assert!(said.contains("unable to open database file"), "{said}");

    let mut newer = Node::started();
    assert!(newer.stop().success());
    newer.sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 1)",
    );
    let said = refusal(&newer);
    assert!(said.contains("a newer version of Watchbell (step 9999 is unknown here); start that version"), "{said}");

    let mut edited = Node::started();
    assert!(edited.stop().success());
    edited.sql("UPDATE _sqlx_migrations SET checksum = x'00'");
    let said = refusal(&edited);
    assert!(said.contains("was the schema edited by hand?"), "{said}");

    let mut read_only = Node::started();
    assert!(read_only.stop().success());
    make_read_only(&read_only);
    let said = refusal(&read_only);
    assert!(said.contains("must be writable by this user"), "{said}");
}

/// Byte 18 of the file is the version that is needed to write to it: SQLite opens one that it does not know read-only.
/// Permissions would not keep root from writing.
fn make_read_only(node: &Node) {
    let mut bytes = fs::read(node.database()).unwrap();
    bytes[18] = 3;
    fs::write(node.database(), bytes).unwrap();
}

/// Another program that holds the database's write lock.
struct Lock {
    sqlite3: Child,
    input: ChildStdin,
}

impl Lock {
    fn hold(node: &Node) -> Self {
        let mut sqlite3 = node.sqlite3().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = sqlite3.stdin.take().unwrap();
        writeln!(input, "BEGIN IMMEDIATE; SELECT 'held';").unwrap();
        let mut line = String::new();
        BufReader::new(sqlite3.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self { sqlite3, input }
    }

    fn release(mut self) {
        writeln!(self.input, "COMMIT;").unwrap();
        drop(self.input);
        assert!(self.sqlite3.wait().unwrap().success());
    }
}
