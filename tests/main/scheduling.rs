//! Scheduling truth: what people write into the table takes effect soon, each tick is run once, nobody waits for anybody.

use std::time::Duration;

use crate::support::node::{EVERY_SECOND, Node, RARELY, SOON, people, quoted, wait_until};

const OPS: &str = r#"'["ops@x.test"]'"#;
/// Seconds from one time in the table to another, as a column.
const SECONDS: &str = "(julianday({to}) - julianday({from})) * 86400.0";

fn seconds(from: &str, to: &str) -> String {
    SECONDS.replace("{from}", from).replace("{to}", to)
}

#[test]
fn insert_update_and_delete_take_effect_within_a_second() {
    let node = Node::started();
    let monitor = node.register("Edited", RARELY, &[]);
    node.wait_for_runs(monitor, 1);
    let waited = format!(
        "SELECT {} < 1.0 FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id",
        seconds("m.created_at", "r.started_at")
    );
    assert_eq!(node.sql(&waited), "1", "the insert");

    node.sql(&format!("UPDATE monitors SET schedule = {} WHERE id = {monitor}", quoted(EVERY_SECOND)));
    node.wait_for_runs(monitor, 4);
    let first_tick = format!(
        "SELECT {} <= 2.0 FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id WHERE r.cause = 'schedule' \
         ORDER BY r.id LIMIT 1",
        seconds("m.updated_at", "r.tick_at")
    );
    assert_eq!(node.sql(&first_tick), "1", "within a second, and then at the next tick");

    let calls = || node.calls("Edited");
    node.sql(&format!("DELETE FROM monitors WHERE id = {monitor}"));
    let deleted_at = node.sql("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')");
    let witness = node.register("Witness", EVERY_SECOND, &[]);
    node.wait_for_runs(witness, 3);
    let before = calls();
    node.wait_for_runs(witness, 6);
    assert_eq!(calls(), before, "no child is called any more");
    let later = format!(
        "SELECT count(*) FROM monitor_runs WHERE monitor_id = {monitor} AND started_at > {}",
        quoted(&deleted_at)
    );
    assert_eq!(node.sql(&later), "0", "and nothing is written");
    assert!(node.runs(monitor) >= 4, "history survives the row");
}

#[test]
fn a_new_schedule_and_a_new_name_are_used_from_the_next_run_on() {
    let node = Node::started_with_mail();
    let monitor = node.register("Old name", EVERY_SECOND, &[("people_to_notify", OPS)]);
    node.wait_for_runs(monitor, 2);
    node.sql(&format!("UPDATE monitors SET name = 'New name', schedule = {} WHERE id = {monitor}", quoted(RARELY)));
    node.wait_for_truth(&format!("SELECT strftime('%m-%d', next_run_at) = '02-29' FROM monitors WHERE id = {monitor}"));
    let before = node.runs(monitor);
    let witness = node.register("Witness", EVERY_SECOND, &[]);
    node.wait_for_runs(witness, 3);
    assert_eq!(node.runs(monitor), before, "its old ticks come no more");
    node.break_with("Old name", "down");
    node.recheck(monitor);
    assert_eq!(node.wait_for_mails("New name", 1)[0].subject, "[Monitor ALERT] New name");
    assert_eq!(node.log_lines_with("tokio_cron_scheduler"), 0, "the log has no line for each job");
}

#[test]
fn ten_thousand_rows_in_one_transaction_are_all_checked_and_all_have_their_cron_job() {
    let node = Node::started();
    let neighbour = node.register("Neighbour", EVERY_SECOND, &[]);
    node.sql(
        "WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < 9999) \
         INSERT INTO monitors (name, kind, schedule, config) \
         SELECT 'many ' || n, 'file', (n % 15) || '-59/15 * * * * *', '{\"path\": \"/\"}' FROM c",
    );
    let long = Duration::from_secs(60);
    let firsts = || node.number("SELECT count(*) FROM monitor_runs WHERE cause = 'first' AND monitor_id > 1");
    wait_until("every row is checked once", long, || firsts() >= 10_000);
    let ticked = "SELECT count(DISTINCT monitor_id) FROM monitor_runs WHERE cause = 'schedule' AND monitor_id > 1";
    wait_until("every row has its tick", long, || node.number(ticked) == 10_000);
    assert_eq!(firsts(), 10_000, "each was checked for the first time once");
    assert_eq!(node.number("SELECT count(*) FROM monitors WHERE next_run_at IS NULL"), 0);
    // Ten thousand first checks keep a small machine busy for seconds: a tick may be skipped, but not lost.
    let [runs, ticks, due] = ticks(&node, neighbour);
    let skipped = node.number(&format!("SELECT skipped_tick_count FROM monitors WHERE id = {neighbour}"));
    assert_eq!(runs, ticks, "none is doubled");
    assert!((due..=due + 1).contains(&(runs + skipped)), "{due} were due, {runs} ran, {skipped} were skipped");
}

#[test]
fn watchbells_own_writes_wake_nobody() {
    let node = Node::started();
    let monitor = node.register("Quiet", EVERY_SECOND, &[]);
    let look = || {
        let row = node.column(monitor, "revision, recheck_seq, updated_at, created_at");
        (row, node.number("SELECT seq FROM sqlite_sequence WHERE name = 'monitor_changes'"))
    };
    node.wait_for_runs(monitor, 1);
    let before = look();
    node.wait_for_runs(monitor, 4);
    assert_eq!(look(), before, "runs leave no entry in the change log");
    node.break_with("Quiet", "down");
    node.wait_for_truth(&format!("SELECT state = 'alert' FROM monitors WHERE id = {monitor}"));
    assert_eq!(look(), before, "neither does an alert");
}

#[test]
fn a_slow_monitor_skips_its_ticks_and_delays_nobody() {
    let node = Node::started();
    node.write_plugin("slow", "#!/bin/sh\nsleep 3\necho slowly\n");
    let slow = node.register("Slow", EVERY_SECOND, &[("config", r#"'{"program": "slow"}'"#)]);
    let neighbours = ["One", "Two", "Three"].map(|name| node.register(name, EVERY_SECOND, &[]));
    node.wait_for_runs(slow, 3);
    let overlaps = format!(
        "SELECT count(*) FROM monitor_runs a JOIN monitor_runs b ON b.monitor_id = a.monitor_id AND b.id > a.id \
         WHERE a.monitor_id = {slow} AND {} < a.duration_ms / 1000.0 - 0.01",
        seconds("a.started_at", "b.started_at")
    );
    assert_eq!(node.sql(&overlaps), "0", "it never overlaps itself");
    // The ticks from the first run on, less those that ran.
    let expected = format!(
        "SELECT round({}) - count(tick_at) + 1 FROM monitor_runs WHERE monitor_id = {slow} AND tick_at IS NOT NULL",
        seconds("min(tick_at)", "max(tick_at)")
    );
    let between: f64 = node.sql(&expected).parse().unwrap();
    let skipped = node.number(&format!("SELECT skipped_tick_count FROM monitors WHERE id = {slow}"));
    assert!(between >= 2.0, "a run of 3 s skips ticks, but {between} were");
    // Ticks during the first run, before the first tick that ran, and during the last one, are counted too.
    #[allow(clippy::cast_precision_loss, reason = "a count of some seconds")]
    let more = skipped as f64 - between;
    assert!((0.0..=7.0).contains(&more), "{skipped} are counted, {between} lie between its runs");
    assert_eq!(node.sql("SELECT skipped_tick_count > 0 FROM monitor_status WHERE name = 'Slow'"), "1");
    for neighbour in neighbours {
        no_tick_is_missing_or_doubled(&node, neighbour);
        assert_eq!(node.column(neighbour, "skipped_tick_count"), "0");
    }
}

#[test]
fn last_run_at_null_forces_one_recheck_each_time() {
    let node = Node::started();
    node.write_plugin("gate", &gate(&node));
    let monitor = node.register("Gated", RARELY, &[("config", r#"'{"program": "gate"}'"#)]);
    let ask = || node.sql(&format!("UPDATE monitors SET last_run_at = NULL WHERE id = {monitor}"));
    wait_until("the first run is going on", SOON, || node.calls("gate") == 1);
    // Asked for thrice during the run: one recheck follows it.
    for _ in 0..3 {
        ask();
    }
    let witness = node.register("Witness", EVERY_SECOND, &[]);
    node.wait_for_runs(witness, 2);
    assert_eq!((node.calls("gate"), node.runs(monitor)), (1, 0), "the recheck waits for the run");
    open_gate(&node);
    node.wait_for_runs(monitor, 2);
    settle(&node, witness);
    assert_eq!((node.calls("gate"), node.runs(monitor)), (2, 2));
    // And then, one each.
    for count in 3..6 {
        ask();
        node.wait_for_runs(monitor, count);
        settle(&node, witness);
        assert_eq!(node.runs(monitor), count);
        assert_eq!(node.column(monitor, "last_run_at IS NOT NULL"), "1");
    }
    let causes = node.sql(&format!("SELECT group_concat(cause, ' ') FROM monitor_runs WHERE monitor_id = {monitor}"));
    assert_eq!(causes, "first forced forced forced forced");
    assert_eq!(node.column(monitor, "last_tick_at IS NULL"), "1", "a recheck is no tick");
}

#[test]
fn a_row_that_was_run_elsewhere_waits_for_its_first_tick() {
    let node = Node::started();
    let waits = node.register("Waits", RARELY, &[("last_run_at", "datetime('now')")]);
    let ticks = node.register("Ticks", EVERY_SECOND, &[("last_run_at", "datetime('now')")]);
    node.wait_for_runs(ticks, 3);
    assert_eq!((node.runs(waits), node.calls("Waits")), (0, 0));
    assert_eq!(node.sql(&format!("SELECT DISTINCT cause FROM monitor_runs WHERE monitor_id = {ticks}")), "schedule");
    assert_eq!(node.sql(&format!("SELECT status FROM monitor_status WHERE id = {waits}")), "never run");
}

#[test]
fn downtime_is_made_up_for_once_or_not_at_all_as_the_row_says() {
    let mut node = Node::started();
    let last_run = ("last_run_at", "datetime('now')");
    let once = node.register("Once", "* * * * *", &[last_run, ("missed_tick_policy", "'run_once'")]);
    let skip = node.register("Skip", "* * * * *", &[last_run, ("missed_tick_policy", "'skip'")]);
    let paused = node.register("Paused", "* * * * *", &[last_run, ("is_active", "0")]);
    assert!(node.stop().success());
    node.sql("UPDATE monitors SET last_tick_at = strftime('%Y-%m-%dT%H:%M:00.000Z', 'now', '-10 minutes')");
    let since = node.column(once, "last_tick_at");
    node.start();
    node.wait_for_truth(&format!("SELECT count(*) > 0 FROM monitor_runs WHERE monitor_id = {once}"));
    let caught_up = node.sql(&format!(
        "SELECT cause, tick_at = strftime('%Y-%m-%dT%H:%M:00.000Z', started_at), \
           CAST(round({}) AS INTEGER) - 1 = (SELECT missed_tick_count FROM monitors WHERE id = {once}) \
         FROM monitor_runs WHERE monitor_id = {once} ORDER BY id LIMIT 1",
        format_args!("(julianday(tick_at) - julianday({})) * 1440.0", quoted(&since))
    ));
    assert_eq!(caught_up, "catch_up|1|1", "one run, for the latest tick; the others are counted");
    node.recheck(skip);
    let causes =
        node.sql(&format!("SELECT DISTINCT cause FROM monitor_runs WHERE monitor_id = {skip} AND cause <> 'schedule'"));
    assert_eq!(causes, "forced", "nothing is made up for");
    let missed = node.number(&format!("SELECT missed_tick_count FROM monitors WHERE id = {skip}"));
    assert!((10..=11).contains(&missed), "all of them are counted, not {missed}");
    assert_eq!((node.runs(paused), node.calls("Paused")), (0, 0));
}

#[test]
fn a_second_node_on_the_same_database_is_refused() {
    let node = Node::started();
    let monitor = node.register("Served", EVERY_SECOND, &[]);
    let second = node.watchbell(["serve"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another `watchbell serve` is running on it; stop that one first"), "{said}");
    assert!(second.stdout.is_empty(), "it does not say that it serves");
    node.wait_for_runs(monitor, 3);
    no_tick_is_missing_or_doubled(&node, monitor);
}

#[test]
fn an_edit_of_the_question_during_a_run_discards_its_answer() {
    let node = Node::started_with_mail();
    node.write_plugin("gate", &gate(&node));
    let config = |argument: &str| quoted(&format!(r#"{{"program": "gate", "args": ["{argument}"]}}"#));
    let columns = [("people_to_notify", OPS.to_owned()), ("config", config("before"))];
    let columns = columns.each_ref().map(|(column, value)| (*column, value.as_str()));
    let edited = node.register("Edited", RARELY, &columns);
    let paused = node.register("Paused", RARELY, &columns);
    let deleted = node.register("Deleted", RARELY, &columns);
    let people_edited = node.register("People edited", RARELY, &columns);
    wait_until("all four run", SOON, || node.calls("gate") == 4);
    node.sql(&format!(
        "UPDATE monitors SET config = {} WHERE id = {edited}; UPDATE monitors SET is_active = 0 WHERE id = {paused}; \
         DELETE FROM monitors WHERE id = {deleted}; \
         UPDATE monitors SET people_to_notify = {} WHERE id = {people_edited};",
        config("after"),
        people(&["dev@x.test"])
    ));
    node.answer("gate", 2, "down");
    open_gate(&node);
    node.wait_for_runs(edited, 1);
    node.wait_for_mails("People edited", 1);
    node.wait_for_mails("Edited", 1);
    assert_eq!(node.calls("gate"), 5, "the edited one is asked again at once");
    assert_eq!(node.runs(edited), 1, "and only that answer counts");
    assert_eq!((node.runs(paused), node.runs(deleted)), (0, 0));
    assert_eq!(node.mails("People edited")[0].rcpt, ["dev@x.test"], "the fresh row says who is told");
    assert_eq!(node.smtp().mails().len(), 2);
    assert_eq!(node.column(paused, "state, last_result_message IS NULL"), "ok|1");
}

#[test]
fn sigterm_lets_a_running_check_end_and_writes_what_it_found() {
    let mut node = Node::new().with_mail();
    node.write_plugin("gate", &gate(&node));
    node.start();
    let monitor = node.register("Late", RARELY, &[("config", r#"'{"program": "gate"}'"#), ("people_to_notify", OPS)]);
    wait_until("it runs", SOON, || node.calls("gate") == 1);
    node.answer("gate", 2, "down at the end");
    let log = node.path("stderr");
    let opens = node.path("answers").join("gate.open");
    let opener = std::thread::spawn(move || {
        wait_until("the node is stopping", SOON, || std::fs::read_to_string(&log).unwrap().contains("stopping"));
        std::fs::write(opens, "").unwrap();
    });
    assert!(node.stop().success());
    opener.join().unwrap();
    assert_eq!(node.runs(monitor), 1);
    assert_eq!(node.column(monitor, "state, last_result_message"), "alert|down at the end");
    assert_eq!(
        node.sql("SELECT count(*) FROM notifications WHERE type = 'alert' AND status IN ('pending', 'sent')"),
        "1"
    );
    assert_eq!(node.sql("SELECT count(*) FROM nodes"), "0", "it took itself off the table of nodes");
    node.start();
    node.wait_for_mails("Late", 1);
    node.wait_for_delivery();
    assert_eq!(node.told("Late"), ["[Monitor ALERT]"]);
}

/// A program that notes its call, waits for the gate, and then says what is in the answer about `gate`.
fn gate(node: &Node) -> String {
    GATE.replace("@DIR@", &node.path("answers").display().to_string())
}

const GATE: &str = r#"#!/bin/sh
echo called >> "@DIR@/gate.calls"
while [ ! -e "@DIR@/gate.open" ]; do sleep 0.05; done
[ -f "@DIR@/gate" ] || { echo "all is well"; exit 0; }
{ read -r code; cat; } < "@DIR@/gate"
exit "$code"
"#;

fn open_gate(node: &Node) {
    std::fs::write(node.path("answers").join("gate.open"), "").unwrap();
}

/// Waits long enough for a run that should not come: two more runs of another monitor.
#[track_caller]
fn settle(node: &Node, witness: i64) {
    node.wait_for_runs(witness, node.runs(witness) + 2);
}

/// From its first tick to its last, a monitor of every second ran each, once.
#[track_caller]
fn no_tick_is_missing_or_doubled(node: &Node, monitor: i64) {
    let [runs, ticks, due] = ticks(node, monitor);
    assert!(runs == ticks && ticks == due, "{due} ticks were due, {ticks} were run, in {runs} runs");
}

/// Of a monitor of every second, from its first tick to its last: runs, ticks that were run, ticks that were due.
#[track_caller]
fn ticks(node: &Node, monitor: i64) -> [i64; 3] {
    let answer = node.sql(&format!(
        "SELECT count(*), count(DISTINCT tick_at), CAST(round({}) AS INTEGER) + 1 FROM monitor_runs \
         WHERE monitor_id = {monitor} AND cause = 'schedule'",
        seconds("min(tick_at)", "max(tick_at)")
    ));
    let numbers: Vec<i64> = answer.split('|').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}
