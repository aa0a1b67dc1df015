//! A room of a real homeserver that a real node tells: how soon, in which order, how often, and which room.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::homeserver::{BOT, Homeserver, Message};
use crate::support::node::{Node, RARELY, people, quoted, wait_for, wait_until};

/// The password store's name of the bot's token.
const TOKEN: &str = "matrix/bot-token";
/// A message may wait for the next attempt at a homeserver that was away.
const PATIENCE: Duration = Duration::from_secs(120);

/// An installation, not started, whose `pass` knows the bot's token, and where every message is one of its own.
fn node(homeserver: &Homeserver) -> Node {
    let node = Node::new();
    let folder = node.path("bin");
    fs::create_dir(&folder).unwrap();
    fs::write(node.path("token"), homeserver.token(BOT)).unwrap();
    let script = PASS.replace("@TOKEN@", &node.path("token").display().to_string());
    fs::write(folder.join("pass"), script.replace("@NAME@", TOKEN)).unwrap();
    fs::set_permissions(folder.join("pass"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    node.with("PATH", &path).with("WATCHBELL_SECRETS__ALLOW", &format!("[\"pass:{TOKEN}\"]"))
}

/// The same without limits on noise.
fn blunt_node(homeserver: &Homeserver) -> Node {
    node(homeserver)
        .with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "0")
        .with("WATCHBELL_DELIVERY__STORM_FIRST", "10000")
        .with("WATCHBELL_DELIVERY__CUT_OFF_MONITORS", "100000")
}

/// As `pass` answers: a password store with one entry.
const PASS: &str = r#"#!/bin/sh
[ "$*" = "show @NAME@" ] || { echo "Error: $2 is not in the password store." >&2; exit 1; }
exec cat "@TOKEN@"
"#;

/// A room that the bot is invited to, as a channel of this name.
fn add_room(node: &Node, homeserver: &Homeserver, name: &str) -> String {
    let room = homeserver.create_room(&[BOT]);
    let url = format!("matrix+{}#room={room}&token=${{pass:{TOKEN}}}", homeserver.url());
    node.sql(&format!("INSERT INTO channels (name, url) VALUES ({}, {})", quoted(name), quoted(&url)));
    room
}

/// A monitor that fails from now on: each failing run reminds, and the first good one ends it.
fn fail(node: &Node, name: &str, recipients: &str, further: &[(&str, &str)]) -> i64 {
    node.break_with(name, &format!("{name} does not answer"));
    let mut columns =
        vec![("people_to_notify", recipients), ("required_consecutive_oks", "1"), ("reminder_frequency_minutes", "0")];
    columns.extend(further);
    node.register(name, RARELY, &columns)
}

fn recover(node: &Node, name: &str, monitor: i64) {
    node.heal(name);
    node.recheck(monitor);
}

/// What people read first of each message, in order.
fn headings(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.body.lines().next().unwrap_or_default().to_owned()).collect()
}

fn of<'a>(headings: &'a [String], name: &str) -> Vec<&'a str> {
    let start = format!(" {name}: ");
    headings.iter().filter_map(|heading| heading.split_once(&*start)).map(|(_, what)| what).collect()
}

/// Waits until nothing is on its way, nor waits for its time.
#[track_caller]
fn wait_for_the_end(node: &Node) {
    let sql = "SELECT count(*) = 0 FROM notifications WHERE status IN ('pending', 'sending', 'held')";
    wait_until(sql, PATIENCE, || node.sql(sql) == "1");
}

/// In milliseconds since 1970: the ends of the runs that alerted, by the monitor's name.
fn check_ends(node: &Node) -> Vec<(String, i64)> {
    let rows = node.sql(
        "SELECT m.name, CAST(round((julianday(r.started_at) - 2440587.5) * 86400000.0) AS INTEGER) + r.duration_ms \
         FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id WHERE r.notification_type = 'alert' ORDER BY r.id",
    );
    let row = |line: &str| line.split_once('|').map(|(name, at)| (name.to_owned(), at.parse().unwrap())).unwrap();
    rows.lines().map(row).collect()
}

#[test]
fn a_hundred_alerts_reach_the_room_at_once_and_once() {
    const ALERTS: usize = 100;
    let homeserver = Homeserver::shared();
    let mut node = blunt_node(&homeserver);
    node.start();
    let room = add_room(&node, &homeserver, "ops");
    for number in 0..ALERTS {
        fail(&node, &format!("point-{number:03}"), &people(&["ops"]), &[]);
        std::thread::sleep(Duration::from_millis(150));
    }
    node.wait_for_truth("SELECT count(*) = 100 FROM notifications WHERE status = 'sent'");
    let messages = homeserver.messages(&room);
    assert_eq!(messages.len(), ALERTS, "{:?}", headings(&messages));
    let mut waits = Vec::new();
    for (name, ended) in check_ends(&node) {
        let heading = format!("\u{1F534} {name}: ALERT");
        let of_it: Vec<_> = messages.iter().filter(|message| message.body.starts_with(&heading)).collect();
        assert_eq!(of_it.len(), 1, "{heading}");
        waits.push(of_it[0].at_millis - ended);
    }
    waits.sort_unstable();
    let at = |percent: usize| waits[(ALERTS * percent).div_ceil(100) - 1];
    println!(
        "matrix_room: {ALERTS} alerts, check's end to message in the room in ms: p50 {}, p95 {}, max {}",
        at(50),
        at(95),
        at(100)
    );
    assert!(at(95) < 3_000, "{waits:?}");
}

#[test]
fn a_homeserver_that_was_away_gets_everything_in_order_and_once() {
    let homeserver = Homeserver::start();
    let mut node = blunt_node(&homeserver);
    node.start();
    let room = add_room(&node, &homeserver, "ops");
    let ops = people(&["ops"]);
    let told = fail(&node, "told", &ops, &[]);
    let ended = fail(&node, "ended", &ops, &[]);
    node.wait_for_runs(told, 1);
    node.wait_for_runs(ended, 1);
    wait_until("both alerts", PATIENCE, || homeserver.messages(&room).len() == 2);
    wait_for_the_end(&node);

    homeserver.stop();
    node.recheck(told);
    let fresh = fail(&node, "fresh", &ops, &[]);
    let brief = fail(&node, "brief", &ops, &[]);
    node.wait_for_runs(fresh, 1);
    node.wait_for_runs(brief, 1);
    // Tried in vain, so that the room is known to be away.
    node.wait_for_truth("SELECT count(*) > 0 FROM notifications WHERE attempts > 0 AND status = 'pending'");
    for _ in 0..2 {
        node.recheck(told);
        node.recheck(fresh);
    }
    recover(&node, "brief", brief);
    recover(&node, "ended", ended);
    assert_eq!(node.number("SELECT count(*) FROM notifications WHERE status = 'sent'"), 2);

    homeserver.start_again();
    wait_for_the_end(&node);
    for (name, monitor) in [("told", told), ("fresh", fresh)] {
        recover(&node, name, monitor);
    }
    wait_for_the_end(&node);
    let messages = homeserver.messages(&room);
    let headings = headings(&messages);
    println!("matrix_room: after the homeserver was away: {headings:#?}");
    assert_eq!(of(&headings, "ended"), ["ALERT", "RECOVERED"]);
    assert_eq!(of(&headings, "brief"), ["was down, RECOVERED"], "one message tells both");
    assert_eq!(of(&headings, "fresh"), ["ALERT", "RECOVERED"], "its reminders are told by the alert");
    let of_told = of(&headings, "told");
    assert_eq!((of_told.first(), of_told.last()), (Some(&"ALERT"), Some(&"RECOVERED")));
    let reminders = &of_told[1..of_told.len() - 1];
    assert!((1..=2).contains(&reminders.len()) && reminders.iter().all(|what| *what == "still failing"), "{of_told:?}");
    let brief = messages.iter().find(|message| message.body.contains(" brief: ")).unwrap();
    assert!(brief.body.contains("It was down from 20"), "{}", brief.body);
    // In order also among each other: the room reads what happened as it happened. Of the reminders the last is told.
    let place = |text: &str| headings.iter().position(|heading| heading.ends_with(text)).unwrap();
    let order = ["fresh: ALERT", "told: still failing", "brief: was down, RECOVERED", "ended: RECOVERED"].map(place);
    assert!(order.is_sorted(), "{headings:#?}");
    assert_eq!(node.number("SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'merged')"), 0);
}

#[test]
fn ten_same_alerts_of_one_origin_are_one_message_with_their_number() {
    let homeserver = Homeserver::shared();
    let mut node = node(&homeserver).with("WATCHBELL_DELIVERY__REPETITION_SECONDS", "6");
    node.start();
    let room = add_room(&node, &homeserver, "ops");
    let names: Vec<String> = (1..=10).map(|number| format!("db-{number:02}")).collect();
    let labels = quoted(r#"{"origin": "db"}"#);
    let began = std::time::Instant::now();
    let monitors: Vec<i64> =
        names.iter().map(|name| fail(&node, name, &people(&["ops"]), &[("labels", &labels)])).collect();
    let first = wait_for("the first alert", PATIENCE, || homeserver.messages(&room).pop());
    assert!(began.elapsed() < Duration::from_secs(6), "the first is told at once");
    wait_for_the_end(&node);
    let [shown] = &homeserver.shown(&room)[..] else { panic!("{:?}", headings(&homeserver.shown(&room))) };
    assert_eq!(shown.event_id, first.event_id);
    println!("matrix_room: ten of one origin: {}", shown.body);
    assert!(shown.body.contains("10 failing: db-"), "{}", shown.body);
    assert_eq!(homeserver.messages(&room).len(), 2, "the first, and one edit");

    for (name, monitor) in names.iter().zip(monitors) {
        recover(&node, name, monitor);
    }
    wait_for_the_end(&node);
    let shown = headings(&homeserver.shown(&room));
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[1].contains("10 recovered: db-"), "{shown:?}");
}

#[test]
fn critical_and_warning_land_in_their_rooms_and_what_gets_worse_in_both() {
    let homeserver = Homeserver::shared();
    let mut node = blunt_node(&homeserver);
    node.start();
    let (critical, warning) = (add_room(&node, &homeserver, "red"), add_room(&node, &homeserver, "yellow"));
    node.sql(
        "INSERT INTO routes (severity, recipients) VALUES ('critical', '[\"red\"]'), ('warning', '[\"yellow\"]');",
    );
    fail(&node, "down", "NULL", &[]);
    node.answer("slow", 1, "slow");
    node.register("slow", RARELY, &[]);
    node.answer("rising", 1, "slow");
    let rising = node.register("rising", RARELY, &[("required_consecutive_oks", "1")]);
    node.wait_for_truth("SELECT count(*) = 3 FROM notifications WHERE status = 'sent'");
    let shown = |room: &str| {
        let mut shown = headings(&homeserver.messages(room));
        shown.sort_unstable();
        shown
    };
    assert_eq!(shown(&critical), ["\u{1F534} down: ALERT"]);
    assert_eq!(shown(&warning), ["\u{1F7E1} rising: ALERT", "\u{1F7E1} slow: ALERT"]);

    node.answer("rising", 2, "down");
    node.recheck(rising);
    recover(&node, "rising", rising);
    wait_for_the_end(&node);
    let (critical, warning) = (headings(&homeserver.messages(&critical)), headings(&homeserver.messages(&warning)));
    println!("matrix_room: routes: {critical:?} {warning:?}");
    assert_eq!(of(&critical, "rising").len(), 2, "{critical:?}");
    assert_eq!(of(&critical, "rising")[1], "RECOVERED");
    let of_warning = of(&warning, "rising");
    assert_eq!((of_warning[0], of_warning.last()), ("ALERT", Some(&"RECOVERED")));
    assert!(of(&critical, "slow").is_empty() && of(&warning, "down").is_empty());
}

#[test]
fn the_token_comes_from_pass_and_stands_nowhere_else() {
    let homeserver = Homeserver::shared();
    let mut node = blunt_node(&homeserver).with("WATCHBELL_LOG__LEVEL", "trace");
    node.start();
    let room = add_room(&node, &homeserver, "ops");
    let monitor = fail(&node, "secret", &people(&["ops"]), &[]);
    let token = homeserver.token(BOT);
    let mut of_processes = String::new();
    wait_until("the alert", PATIENCE, || {
        of_processes.push_str(&command_lines());
        homeserver.messages(&room).len() == 1
    });
    // A token that is wrong: the homeserver's refusal is written down.
    fs::write(node.path("token"), "syt_wrong_token").unwrap();
    recover(&node, "secret", monitor);
    node.wait_for_truth("SELECT count(*) = 1 FROM notifications WHERE last_error IS NOT NULL");
    fs::write(node.path("token"), &token).unwrap();
    wait_for_the_end(&node);
    assert_eq!(homeserver.messages(&room).len(), 2);
    let ledger = node.sql("SELECT * FROM notifications; SELECT * FROM notification_events");
    node.stop();
    let database = String::from_utf8_lossy(&fs::read(node.database()).unwrap()).into_owned();
    let url = node.sql("SELECT url FROM channels");
    assert!(url.contains(&format!("${{pass:{TOKEN}}}")), "{url}");
    for secret in [&*token, "syt_wrong_token"] {
        for (place, text) in
            [("database", &database), ("ledger", &ledger), ("log", &node.log()), ("process list", &of_processes)]
        {
            assert!(!text.is_empty() && !text.contains(secret), "the token stands in the {place}");
        }
    }
    // Without permission it is not asked for, and the row says so.
    let mut strict = blunt_node(&homeserver).with("WATCHBELL_SECRETS__ALLOW", "[\"env:NOTHING\"]");
    strict.start();
    add_room(&strict, &homeserver, "ops");
    strict.wait_for_truth("SELECT config_error IS NOT NULL FROM channels");
    let fault = strict.sql("SELECT config_error FROM channels");
    assert!(fault.contains("secrets.allow"), "{fault}");
}

/// Of all processes that run now.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).fold(
        String::new(),
        |mut all, line| {
            all.push_str(&String::from_utf8_lossy(&line));
            all.push('\n');
            all
        },
    )
}
