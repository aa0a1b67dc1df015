//! `runs_on`: monitors run on the nodes that it selects; where it selects none, or where a monitor of one machine names
//! none, the row says so.

use std::time::Duration;

use super::database::Database;
use super::world::{PATIENCE, World};
use crate::support::node::{quoted, wait_until};

const EACH: i64 = 6;

#[test]
fn monitors_run_on_the_nodes_that_they_select() {
    let mut world = World::new(Database::mariadb());
    for zone in ["eu", "us"] {
        world.add_node(&[("WATCHBELL_NODE__LABELS__ZONE", zone)]);
    }
    world.nodes[0].start();
    world.nodes[0].wait_until_it_serves();
    for zone in ["eu", "us", "mars"] {
        for number in 0..EACH {
            let selector = quoted(&format!("zone={zone}"));
            world.register(&format!("{zone}-{number}"), "@every 1s", &[("runs_on", &selector)]);
        }
    }
    // Its answer depends on the machine that it runs on.
    let twice_a_year = [("schedule", "'0 0 1 1,7 *'"), ("runs_on", "'name=n2'")];
    world.register("slow", "", &twice_a_year);
    world.register("nowhere", "", &[twice_a_year[0], ("runs_on", "'name=n9'")]);
    world.register(
        "machine",
        "@every 1s",
        &[("kind", "'file'"), ("config", &quoted(r#"{"path": "/proc/self/stat", "exists": true}"#))],
    );
    // The first of several that start does not call those missing that have not started yet.
    wait_until("runs in eu", PATIENCE, || count(&world, "eu", "1 = 1") >= 3 * EACH);
    // However long that took.
    world.database.execute("UPDATE nodes SET started_at = UTC_TIMESTAMP(3)");
    world.nodes[1].start();
    for (zone, node) in [("eu", "n1"), ("us", "n2")] {
        wait_until(&format!("runs in {zone}"), PATIENCE, || count(&world, zone, "1 = 1") >= 3 * EACH);
        assert_eq!(count(&world, zone, &format!("r.node <> '{node}'")), 0, "{zone}");
    }
    world.wait_for_live_nodes(2);
    // As if they had been there for long: nobody else is about to start.
    world.database.execute("UPDATE nodes SET started_at = started_at - INTERVAL 2 MINUTE");
    let unplaced = "SELECT count(*) FROM monitors WHERE config_error LIKE '%selects none of the 2 live nodes%'";
    world.wait_for_number(unplaced, EACH + 1);

    let node = world.add_node(&[("WATCHBELL_NODE__LABELS__ZONE", "mars")]);
    world.nodes[node].start();
    world.nodes[node].wait_until_it_serves();
    world.wait_for_live_nodes(3);
    world.wait_for_number(unplaced, 0);
    world.wait_for_number("SELECT count(*) FROM monitors WHERE config_error LIKE '%selects none of the 3%'", 1);
    assert_eq!(count(&world, "nowhere", "1 = 1"), 1, "that there are more nodes is no news");
    world.database.execute("DELETE FROM monitors WHERE name = 'nowhere'");
    wait_until("runs on mars", PATIENCE, || count(&world, "mars", "r.is_ok = 1 AND r.node = 'n3'") >= EACH);
    for (zone, node) in [("eu", "n1"), ("us", "n2")] {
        assert_eq!(count(&world, zone, &format!("r.node <> '{node}'")), 0, "{zone}");
    }

    // Two that have been there for long are meant to stay.
    let which_machine =
        "SELECT count(*) FROM monitors WHERE name = 'machine' AND config_error LIKE '%runs_on%machine%'";
    world.wait_for_number(which_machine, 1);
    world.database.execute("UPDATE monitors SET runs_on = 'name=n2' WHERE name = 'machine'");
    world.wait_for_number("SELECT count(*) FROM monitors WHERE config_error IS NOT NULL", 0);
    let before = count(&world, "machine", "r.node = 'n2'");
    wait_until("runs on n2", PATIENCE, || count(&world, "machine", "r.node = 'n2' AND r.is_ok = 1") > before + 1);

    // A restart is waited for, and what fell into it is caught up with.
    let before = count(&world, "us", "1 = 1");
    world.nodes[1].stop();
    std::thread::sleep(Duration::from_secs(3));
    world.nodes[1].start();
    wait_until("runs in us", PATIENCE, || count(&world, "us", "1 = 1") >= before + 3 * EACH);
    assert_eq!(count(&world, "us", "(r.is_ok = 0 OR r.node <> 'n2')"), 0);
    assert!(count(&world, "us", "r.cause = 'catch_up'") >= EACH);
    assert_eq!(world.database.number("SELECT count(*) FROM notifications WHERE subject LIKE '%us-%'"), 0);

    // One that does not come back is missed, also where nothing is due.
    world.nodes[1].stop();
    let missed = "SELECT count(*) FROM monitors WHERE state = 'alert' AND (name LIKE 'us%' OR name = 'slow')";
    world.wait_for_number(missed, EACH + 1);
}

/// Runs of the monitors whose names begin so.
fn count(world: &World, name: &str, condition: &str) -> i64 {
    world.database.number(&format!(
        "SELECT count(*) FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id \
         WHERE m.name LIKE '{name}%' AND {condition}"
    ))
}
