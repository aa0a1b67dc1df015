//! Silences, quiet hours, and channels that are switched off or gone: what is held, and what is told afterwards.

use std::time::Duration;

use super::{fail, recover, wait_for, wait_for_newest, wait_for_the_end};
use crate::support::node::{Node, people, quoted, wait_until};

const ALERT: &str = "[Monitor ALERT]";
const RECOVERED: &str = "[Monitor RECOVERED]";
/// SQL for a moment of this day.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

fn node() -> Node {
    let mut node = Node::new().with_mail();
    node.start();
    node
}

#[test]
fn what_a_silence_of_a_monitor_holds_is_told_at_its_end_if_it_is_still_true() {
    let node = node();
    let ops = people(&["ops@x.test"]);
    let names = ["lasting", "passing", "told"];
    // Known before they fail, so that the silence can name them.
    let ids: Vec<i64> = names.iter().map(|name| well(&node, name, &ops)).collect();
    node.break_with("told", "no answer");
    node.recheck(ids[2]);
    node.wait_for_mails("told", 1);
    for id in &ids {
        node.sql(&format!(
            "INSERT INTO silences (monitor_id, ends_at, created_by, reason) \
             VALUES ({id}, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+8 seconds'), 'ann', 'we move')"
        ));
    }
    for (name, id) in names.iter().zip(&ids).take(2) {
        node.break_with(name, "no answer");
        node.recheck(*id);
        wait_until(&format!("{name} is silenced"), super::PATIENCE, || {
            super::newest(&node, *id).starts_with("alert held silence ")
        });
    }
    recover(&node, "passing", ids[1]);
    // A recovery owed to somebody is sent at once, silence or not.
    recover(&node, "told", ids[2]);
    node.wait_for_mails("told", 2);
    assert_eq!(node.number("SELECT count(*) FROM silences WHERE ends_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"), 3);
    assert_eq!(node.told("lasting"), [""; 0]);
    wait_for_the_end(&node);
    assert_eq!(node.told("lasting"), [ALERT]);
    assert_eq!(node.told("passing"), [""; 0], "it was over before the silence ended");
    assert_eq!(node.told("told"), [ALERT, RECOVERED]);
    recover(&node, "lasting", ids[0]);
    wait_for_the_end(&node);
    assert_eq!(node.told("lasting"), [ALERT, RECOVERED]);
}

/// What follows from an edit is written later where it could not be written at once.
#[test]
fn a_silence_that_is_taken_back_is_over_though_the_database_was_in_trouble_then() {
    let node = node();
    let ops = people(&["ops@x.test"]);
    let silence = "INSERT INTO silences (selector, ends_at) VALUES ('', '2100-01-01')";
    node.sql(silence);
    let monitor = fail(&node, "silenced", &ops, &[]);
    wait_until("it is silenced", super::PATIENCE, || super::newest(&node, monitor).starts_with("alert held silence "));
    node.sql(
        "CREATE TRIGGER trouble BEFORE UPDATE OF next_attempt_at ON notifications WHEN NEW.status = 'held' BEGIN \
           SELECT RAISE(ABORT, 'the disk is full'); END; DELETE FROM silences",
    );
    // Longer than a few looks at the tables.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(node.told("silenced"), [""; 0]);
    node.sql("DROP TRIGGER trouble");
    wait_until("it is told", super::PATIENCE, || node.told("silenced") == [ALERT]);
}

#[test]
fn silences_choose_by_selector_and_come_back_on_a_schedule() {
    let node = node();
    let ops = people(&["ops@x.test"]);
    node.sql(&format!(
        "INSERT INTO silences (selector, ends_at) VALUES ('team=db, severity!=critical', datetime('now', '+1 hour'));
         INSERT INTO silences (selector, schedule, duration_minutes) VALUES ('team=shop', '* * * * *', 60);
         INSERT INTO silences (selector, schedule, duration_minutes) VALUES ('team=web', '0 0 29 2 *', 60);
         INSERT INTO silences (selector, starts_at, ends_at) VALUES ('team=web', {NOW}, {NOW});"
    ));
    let labels = |team: &str| quoted(&format!("{{\"team\": \"{team}\"}}"));
    let fail_of = |name: &str, team: &str, code: u8| {
        node.answer(name, code, "no answer");
        let columns = [("people_to_notify", &*ops), ("labels", &*labels(team)), ("required_consecutive_oks", "1")];
        node.register(name, crate::support::node::RARELY, &columns)
    };
    let warned = fail_of("warned", "db", 1);
    let shop = fail_of("shop", "shop", 2);
    fail_of("critical", "db", 2);
    fail_of("web", "web", 2);
    wait_for_newest(&node, warned, "alert held silence 1");
    wait_for_newest(&node, shop, "alert held silence 2");
    node.wait_for_mails("critical", 1);
    node.wait_for_mails("web", 1);
    assert_eq!(node.smtp().mails().len(), 2);
    // A silence that is taken back ends at once.
    node.sql("DELETE FROM silences WHERE id = 1; UPDATE silences SET schedule = '0 0 29 2 *' WHERE id = 2");
    wait_until("both are told", Duration::from_secs(60), || node.smtp().mails().len() == 4);
}

#[test]
fn quiet_hours_hold_what_is_below_critical() {
    let node = node();
    // From an hour ago to in two hours, over midnight or not.
    node.sql(
        "INSERT INTO channels (name, url, quiet_hours) VALUES ('night', 'mailto:night@x.test', \
         strftime('%H:%M', 'now', '-1 hour') || '-' || strftime('%H:%M', 'now', '+2 hours'))",
    );
    let night = people(&["night"]);
    let loud = fail(&node, "loud", &night, &[]);
    node.answer("quiet", 1, "slow");
    let quiet = node.register(
        "quiet",
        crate::support::node::RARELY,
        &[("people_to_notify", &*night), ("required_consecutive_oks", "1")],
    );
    node.wait_for_mails("loud", 1);
    wait_for_newest(&node, quiet, "alert held quiet_hours");
    let until = "SELECT next_attempt_at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+118 minutes') \
        AND next_attempt_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+120 minutes') \
        FROM notifications WHERE hold_reason = 'quiet_hours'";
    assert_eq!(node.sql(until), "1", "until their end");
    recover(&node, "loud", loud);
    node.wait_for_mails("loud", 2);
    // They end: the same as their time coming.
    node.sql(&format!(
        "UPDATE channels SET quiet_hours = NULL; UPDATE notifications SET next_attempt_at = {NOW} WHERE status = 'held'"
    ));
    let mails = node.wait_for_mails("quiet", 1);
    assert_eq!(mails[0].rcpt, ["night@x.test"]);
    recover(&node, "quiet", quiet);
    wait_for_the_end(&node);
    assert_eq!(node.told("quiet"), [ALERT, RECOVERED]);
}

#[test]
fn a_channel_that_is_switched_off_holds_its_messages() {
    let node = node();
    node.sql("INSERT INTO channels (name, url, is_active) VALUES ('ops', 'mailto:ops@x.test', 0)");
    let ops = people(&["ops"]);
    let lasting = fail(&node, "lasting", &ops, &[]);
    let passing = fail(&node, "passing", &ops, &[]);
    wait_for_newest(&node, lasting, "alert held channel_off");
    wait_for_newest(&node, passing, "alert held channel_off");
    recover(&node, "passing", passing);
    assert_eq!(node.smtp().mails().len(), 0);
    node.sql("UPDATE channels SET is_active = 1");
    wait_for_the_end(&node);
    assert_eq!(node.told("lasting"), [ALERT]);
    // Switched off once more, between alert and recovery.
    node.sql("UPDATE channels SET is_active = 0");
    recover(&node, "lasting", lasting);
    wait_for_newest(&node, lasting, "recovery held channel_off");
    node.sql("UPDATE channels SET is_active = 1");
    wait_for_the_end(&node);
    assert_eq!(node.told("lasting"), [ALERT, RECOVERED]);
    println!("noise: passing while its channel was off: {:?}", node.told("passing"));
    let told = node.told("passing");
    assert!(told.is_empty() || told == [RECOVERED], "never an alert of what is over: {told:?}");
}

#[test]
fn a_deleted_channel_is_a_fault_of_the_rows_that_name_it_until_it_is_back() {
    let node = node();
    node.sql("INSERT INTO channels (name, url) VALUES ('ops', 'mailto:ops@x.test')");
    let both = people(&["ops", "ann@x.test"]);
    let monitor = fail(&node, "orders", &both, &[]);
    node.wait_for_mails("orders", 2);
    assert_eq!(node.column(monitor, "config_error IS NULL"), "1");
    node.sql("DELETE FROM channels");
    wait_for(&node, &format!("SELECT config_error LIKE '%\"ops\" is neither%' FROM monitors WHERE id = {monitor}"));
    // The others are told as before, and the one that cannot be is kept as given up.
    recover(&node, "orders", monitor);
    node.wait_for_mails("orders", 3);
    wait_for(&node, "SELECT count(*) = 0 FROM notifications WHERE status IN ('pending', 'sending')");
    println!("noise: a deleted channel: {}", node.sql("SELECT type, recipient, status, last_error FROM notifications"));
    let began = std::time::Instant::now();
    node.sql("INSERT INTO channels (name, url) VALUES ('ops', 'mailto:ops@x.test')");
    wait_for(&node, &format!("SELECT config_error IS NULL FROM monitors WHERE id = {monitor}"));
    assert!(began.elapsed() < Duration::from_secs(3), "within a second, on a machine that has time");
}

/// A monitor that is well.
fn well(node: &Node, name: &str, recipients: &str) -> i64 {
    let columns = [("people_to_notify", recipients), ("required_consecutive_oks", "1")];
    let monitor = node.register(name, crate::support::node::RARELY, &columns);
    node.wait_for_runs(monitor, 1);
    monitor
}

#[test]
fn a_row_that_comes_along_with_its_channel_is_right_from_the_start() {
    const PAIRS: usize = 15;
    let node = node();
    for number in 0..PAIRS {
        let name = format!("m-{number}");
        node.break_with(&name, "no answer");
        node.sql(&format!(
            "INSERT INTO channels (name, url) VALUES ('c-{number}', 'mailto:ops@x.test');
             INSERT INTO monitors (name, kind, schedule, config, people_to_notify) VALUES ('{name}', 'command', '@yearly',
               json_object('program', 'probe', 'args', json_array('{name}')), '[\"c-{number}\"]');"
        ));
        // At another moment of the node's looks each time.
        std::thread::sleep(Duration::from_millis(37));
    }
    wait_for(&node, &format!("SELECT count(*) = {PAIRS} FROM notifications WHERE type = 'alert'"));
    // What is wrong is written with the run, or within one look after it.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(node.sql("SELECT name, config_error FROM monitors WHERE config_error IS NOT NULL"), "");
}
