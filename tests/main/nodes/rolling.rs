//! A rolling restart: each node is replaced by a new one, under load, and no tick is missed.

use std::time::Duration;

use super::database::Database;
use super::now;
use super::record::Record;
use super::verdict::{Evidence, Verdict};
use super::world::World;

const NODES: usize = 3;
const SCHEDULES: [(&str, usize); 3] = [("@every 1s", 10), ("*/2 * * * * *", 20), ("@every 5s", 30)];
const BETWEEN: Duration = Duration::from_secs(4);
/// Runs of the last ticks are applied by then, in ms.
const LAST_RUNS: i64 = 5_000;

#[test]
fn a_rolling_restart_misses_no_tick() {
    let mut world = World::new(Database::postgres());
    world.start_nodes(NODES);
    for (schedule, count) in SCHEDULES {
        for number in 0..count {
            let name = format!("{}-{number}", schedule.replace([' ', '*', '/', '@'], ""));
            world.register(&name, schedule, &[]);
        }
    }
    world.wait_for_number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL", 0);
    let from = now() + 1_000;
    for old in 0..NODES {
        std::thread::sleep(BETWEEN);
        let new = world.add_node(&[]);
        world.nodes[new].start();
        world.nodes[new].wait_until_it_serves();
        world.wait_for_live_nodes(NODES + 1);
        std::thread::sleep(BETWEEN);
        world.nodes[old].stop();
        world.wait_for_live_nodes(NODES);
    }
    std::thread::sleep(BETWEEN + Duration::from_millis(LAST_RUNS.unsigned_abs()));
    let until = now() - LAST_RUNS;
    world.database.execute("UPDATE monitors SET is_active = 0");
    std::thread::sleep(Duration::from_secs(2));
    let record = Record::read(&world.database);
    let nodes: std::collections::HashSet<&str> = record.runs.iter().map(|run| run.node.as_str()).collect();
    assert_eq!(nodes.len(), 2 * NODES, "each node had its share: {nodes:?}");
    Verdict::of(Evidence {
        database: world.database.name(),
        seed: 0,
        record,
        mails: world.mailbox.mails(),
        requests: world.targets.requests(),
        windows: Vec::new(),
        from,
        until,
        violations: Vec::new(),
    })
    .pronounce();
}
