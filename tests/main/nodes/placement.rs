//! `runs_on`: monitors run on the nodes that it selects; where it selects none, or where a monitor of one machine names
//! none, the row says so.

use super::database::Database;
use super::world::{PATIENCE, World};
use crate::support::node::{quoted, wait_until};

const EACH: i64 = 6;

#[test]
fn monitors_run_on_the_nodes_that_they_select() {
    let mut world = World::new(Database::mariadb());
    for zone in ["eu", "us"] {
        let node = world.add_node(&[("WATCHBELL_NODE__LABELS__ZONE", zone)]);
        world.nodes[node].start();
    }
    world.nodes.iter().for_each(|node| node.wait_until_it_serves());
    world.wait_for_live_nodes(2);
    for zone in ["eu", "us", "mars"] {
        for number in 0..EACH {
            let selector = quoted(&format!("zone={zone}"));
            world.register(&format!("{zone}-{number}"), "@every 1s", &[("runs_on", &selector)]);
        }
    }
    // Its answer depends on the machine that it runs on.
    world.register(
        "machine",
        "@every 1s",
        &[("kind", "'file'"), ("config", &quoted(r#"{"path": "/proc/self/stat", "exists": true}"#))],
    );
    for (zone, node) in [("eu", "n1"), ("us", "n2")] {
        wait_until(&format!("runs in {zone}"), PATIENCE, || count(&world, zone, "1 = 1") >= 3 * EACH);
        assert_eq!(count(&world, zone, &format!("r.node <> '{node}'")), 0, "{zone}");
    }
    let unplaced = "SELECT count(*) FROM monitors WHERE config_error LIKE '%selects none of the 2 live nodes%'";
    world.wait_for_number(unplaced, EACH);

    let node = world.add_node(&[("WATCHBELL_NODE__LABELS__ZONE", "mars")]);
    world.nodes[node].start();
    world.nodes[node].wait_until_it_serves();
    world.wait_for_live_nodes(3);
    world.wait_for_number(unplaced, 0);
    wait_until("runs on mars", PATIENCE, || count(&world, "mars", "r.is_ok = 1 AND r.node = 'n3'") >= EACH);
    for (zone, node) in [("eu", "n1"), ("us", "n2")] {
        assert_eq!(count(&world, zone, &format!("r.node <> '{node}'")), 0, "{zone}");
    }

    // Nodes that have been there for a minute are meant to stay.
    let which_machine =
        "SELECT count(*) FROM monitors WHERE name = 'machine' AND config_error LIKE '%runs_on%machine%'";
    world.wait_for_number(which_machine, 1);
    world.database.execute("UPDATE monitors SET runs_on = 'name=n2' WHERE name = 'machine'");
    world.wait_for_number("SELECT count(*) FROM monitors WHERE config_error IS NOT NULL", 0);
    let before = count(&world, "machine", "r.node = 'n2'");
    wait_until("runs on n2", PATIENCE, || count(&world, "machine", "r.node = 'n2' AND r.is_ok = 1") > before + 1);
}

/// Runs of the monitors whose names begin so.
fn count(world: &World, name: &str, condition: &str) -> i64 {
    world.database.number(&format!(
        "SELECT count(*) FROM monitor_runs r JOIN monitors m ON m.id = r.monitor_id \
         WHERE m.name LIKE '{name}%' AND {condition}"
    ))
}
