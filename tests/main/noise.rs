//! What is told when much happens: storms, dependencies, silences, quiet hours, limits and escalation, by a real node.

mod dependencies;
mod limits;
mod quiet;
mod storms;

use std::time::Duration;

use crate::support::node::{Node, RARELY, wait_until};

/// Some of what is held waits for half a minute; the machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(150);

/// A monitor that fails from now on and recovers with its first good run.
fn fail(node: &Node, name: &str, recipients: &str, further: &[(&str, &str)]) -> i64 {
    node.break_with(name, &format!("{name} does not answer"));
    let mut columns = vec![("people_to_notify", recipients), ("required_consecutive_oks", "1")];
    columns.extend(further);
    node.register(name, RARELY, &columns)
}

fn recover(node: &Node, name: &str, monitor: i64) {
    node.heal(name);
    node.recheck(monitor);
}

/// Waits until `sql` answers 1, however long what is held waits.
#[track_caller]
fn wait_for(node: &Node, sql: &str) {
    wait_until(sql, PATIENCE, || node.sql(sql) == "1");
}

/// Waits until nothing is on its way, nor waits for its time.
#[track_caller]
fn wait_for_the_end(node: &Node) {
    wait_for(node, "SELECT count(*) = 0 FROM notifications WHERE status IN ('pending', 'sending', 'held')");
}

/// `status` and `hold_reason` of the newest notification about a monitor.
fn newest(node: &Node, monitor: i64) -> String {
    node.sql(&format!(
        "SELECT type || ' ' || status || coalesce(' ' || CASE WHEN status = 'held' THEN hold_reason END, '') \
         FROM notifications WHERE monitor_id = {monitor} ORDER BY id DESC LIMIT 1"
    ))
}

/// Waits until the newest notification about a monitor stands like this.
#[track_caller]
fn wait_for_newest(node: &Node, monitor: i64, stand: &str) {
    wait_until(&format!("{stand} of monitor {monitor}, not {}", newest(node, monitor)), PATIENCE, || {
        newest(node, monitor) == stand
    });
}
