//! The database is away for longer than a minute: nothing is checked and nothing is sent, the dead-man's switch is not
//! pinged, and afterwards one notice says what was missed.

use std::time::Duration;

use super::database::Database;
use super::now;
use super::world::{PATIENCE, World};
use crate::support::node::wait_until;

const LEASE_SECONDS: i64 = 5;
/// A shorter absence is a restart, and nobody is told of it: longer than a lease and a minute.
const AWAY: Duration = Duration::from_secs(72);
const MONITORS: i64 = 10;
/// What began before the lease ended is over by then, in ms.
const BEGUN: i64 = 1_000;
/// A node counts as well for so long after its last lease at most, in ms.
const WELL_FOR: i64 = 35_000;
const PING: &str = "ping";

#[test]
fn while_the_database_is_away_nothing_is_checked_or_sent_and_one_notice_follows() {
    let world = World::new(Database::postgres());
    let ping = world.targets.url(PING);
    let mut world = world
        .with("WATCHBELL_NODE__LEASE_SECONDS", &LEASE_SECONDS.to_string())
        .with("WATCHBELL_ADMINS", r#"["admin@y.test"]"#)
        .with("WATCHBELL_DEADMAN__URL", &ping)
        .with("WATCHBELL_DEADMAN__EVERY_SECONDS", "5");
    world.start_nodes(2);
    for number in 0..MONITORS {
        world.register(&format!("part-{number}"), "@every 2s", &[("reminder_frequency_minutes", "NULL")]);
    }
    wait_until("a ping", PATIENCE, || world.targets.requests_for(PING) > 0);
    world.wait_for_number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL", 0);
    std::thread::sleep(Duration::from_secs(5));

    world.database.kill_9();
    let gone = now();
    // What breaks now is found when the database is back.
    world.targets.set_failing("part-3", true);
    std::thread::sleep(AWAY);
    let (requests, mails) = (world.targets.requests(), world.mailbox.mails());
    let back = now();
    world.database.start();

    let without_lease = gone + LEASE_SECONDS * 1_000 + BEGUN;
    let checks = requests.iter().filter(|request| request.name != PING && request.at > without_lease);
    assert_eq!(checks.count(), 0, "checks while nobody had a lease\n{}", world.logs());
    assert_eq!(mails.len(), 0, "{mails:?}");
    let pings = requests.iter().filter(|request| request.name == PING && request.at > gone + WELL_FOR);
    assert_eq!(pings.count(), 0, "pings while the database is away\n{}", world.logs());

    world.wait_for_number("SELECT count(*) FROM notifications WHERE type = 'notice'", 1);
    world.wait_for_number("SELECT count(*) FROM notifications WHERE type = 'alert' AND status = 'sent'", 1);
    world.wait_for_number("SELECT count(*) FROM notifications WHERE status <> 'sent'", 0);
    wait_until("pings again", PATIENCE, || {
        world.targets.requests().iter().any(|request| request.name == PING && request.at > back)
    });
    // A second node would tell it once more about now.
    std::thread::sleep(Duration::from_secs(3));
    let notices = world.database.rows("SELECT recipient, body FROM notifications WHERE type = 'notice'");
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0][0].as_deref(), Some("admin@y.test"));
    check_counted(notices[0][1].as_deref().unwrap());
}

/// The ticks between the times that the notice names; who counts may be one off at each end for each monitor.
fn check_counted(body: &str) {
    let after = |word: &str| body.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{body}"));
    let span: i64 = after("Span: ").trim_end_matches(" s").parse().unwrap();
    let missed: Vec<i64> = after("Missed: ").split(' ').filter_map(|word| word.parse().ok()).collect();
    let [ticks, monitors] = missed[..] else { panic!("{body}") };
    assert_eq!(monitors, MONITORS, "{body}");
    let (least, most) = (MONITORS * (span / 2 - 2), MONITORS * (span / 2 + 2 + LEASE_SECONDS));
    assert!((least..=most).contains(&ticks), "{ticks} is not between {least} and {most}: {body}");
}
