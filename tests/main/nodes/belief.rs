//! Two nodes that both believe that they own a monitor: the one that owned it was frozen in the middle of its check.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::database::Database;
use super::model::replay;
use super::record::{Record, Run};
use super::world::{PATIENCE, World};
use crate::support::node::{wait_for, wait_until};

const MONITOR: &str = "slow";
/// Longer than it takes to see the request and to freeze who sent it.
const CHECK_LASTS: Duration = Duration::from_secs(3);
/// A node that goes on has done by then whatever it would do.
const AFTERMATH: Duration = Duration::from_secs(8);

#[test]
fn who_wakes_up_with_an_old_outcome_changes_nothing_and_tells_nobody() {
    let mut world =
        World::new(Database::postgres()).with("WATCHBELL_NODE__LEASE_SECONDS", "5").with("WATCHBELL_ADMINS", "[]");
    world.start_nodes(2);
    world.register(MONITOR, "@every 5s", &[("timeout_seconds", "20"), ("reminder_frequency_minutes", "NULL")]);
    wait_until("two scheduled runs", PATIENCE, || runs(&world).len() >= 3);

    // What it saw is no longer true when it goes on.
    let sleeper = freeze_in_its_check(&world, true);
    world.targets.set_failing(MONITOR, false);
    wait_for_runs_of_the_other(&world, sleeper);
    wake(&world, sleeper);
    let record = Record::read(&world.database);
    assert_eq!((record.incidents.len(), record.notifications.len()), (0, 0), "{}", world.logs());
    assert!(world.mailbox.mails().is_empty());

    // It is true, and another has told of it.
    let sleeper = freeze_in_its_check(&world, true);
    wait_for_runs_of_the_other(&world, sleeper);
    wake(&world, sleeper);
    let record = Record::read(&world.database);
    assert_eq!((record.incidents.len(), record.notifications.len()), (1, 1), "{}", world.logs());
    assert_eq!(world.mailbox.mails().len(), 1, "{:?}", world.mailbox.mails());

    let (_, faults) = replay(&record.monitors[0], &record.runs.iter().collect::<Vec<_>>());
    assert!(faults.is_empty(), "{faults:?}");
}

fn runs(world: &World) -> Vec<Run> {
    Record::read(&world.database).runs
}

/// Freezes the owner while what it looks at is about to answer; which node that is.
fn freeze_in_its_check(world: &World, is_failing: bool) -> usize {
    world.targets.set_slow(MONITOR, CHECK_LASTS);
    world.targets.set_failing(MONITOR, is_failing);
    let before = world.targets.requests_for(MONITOR);
    wait_until("a check", PATIENCE, || world.targets.requests_for(MONITOR) > before);
    let owner = runs(world).pop().unwrap().node;
    let which = world.nodes.iter().position(|node| node.name == owner).unwrap();
    world.nodes[which].signal(Signal::SIGSTOP);
    // The answer comes, and nobody reads it.
    std::thread::sleep(CHECK_LASTS);
    world.targets.set_slow(MONITOR, Duration::ZERO);
    which
}

/// Two, so that its view of the monitor is settled.
fn wait_for_runs_of_the_other(world: &World, sleeper: usize) {
    let sleeper = &world.nodes[sleeper].name;
    let before = runs(world).len();
    wait_for("runs of the other node", PATIENCE, || {
        let runs = runs(world);
        (runs.len() >= before + 2).then(|| assert!(runs[before..].iter().all(|run| run.node != *sleeper), "{runs:?}"))
    });
}

fn wake(world: &World, sleeper: usize) {
    world.nodes[sleeper].signal(Signal::SIGCONT);
    world.wait_for_live_nodes(2);
    std::thread::sleep(AFTERMATH);
}
