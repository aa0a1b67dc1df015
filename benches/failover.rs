//! How long monitors are left alone when the node that runs them is lost: three real nodes over one database.
//!
//! `cargo bench --bench failover -- --kills 50 --stops 10` kills a random node that runs monitors, again and again, and
//! measures for each of its monitors the time until another node's first check of it began; then the same with SIGTERM.
//! It starts a PostgreSQL of its own, durable, unless `--database-url` names an empty database. It prints one line of
//! JSON. Progress goes to stderr.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark ends with what it did not expect"
)]
#![allow(dead_code, unused_imports, reason = "it shares the nodes of the tests, and needs a part of them")]

#[path = "../tests/main/nodes/mod.rs"]
mod nodes;
#[path = "../tests/main/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use nodes::database::Database;
use nodes::dice::Dice;
use nodes::now;
use nodes::world::World;
use support::node::wait_until;

const NODES: usize = 3;
/// A lease, a takeover, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two losses, in ms: the shares are settled, and the moment within a lease is any.
const CALM_MS: (u64, u64) = (3_000, 5_000);

#[derive(Parser)]
struct Arguments {
    /// How often a node is killed.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// How often a node is stopped in good order.
    #[arg(long, default_value_t = 10)]
    stops: usize,
    /// How many monitors, half of them due every second, half every two.
    #[arg(long, default_value_t = 300)]
    monitors: usize,
    /// An empty database on a server of yours.
    #[arg(long)]
    database_url: Option<String>,
    /// Which nodes are lost, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Handed over by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
enum Loss {
    Kill,
    Stop,
}

/// Times in ms, from the loss of a node.
#[derive(Default)]
struct Figures {
    /// Of each loss, until all of the node's monitors are checked again.
    all: Vec<i64>,
    /// Of each monitor.
    each: Vec<i64>,
}

fn main() {
    let arguments = Arguments::parse();
    let database = match &arguments.database_url {
        Some(url) => Database::Theirs { url: url.clone() },
        None => Database::postgres(),
    };
    let mut dice = Dice::new(arguments.seed);
    let mut world = World::new(database);
    for _ in 0..NODES {
        let node = world.add_node(&[]);
        world.nodes[node].on_the_true_clock();
        world.nodes[node].start();
    }
    world.wait_for_live_nodes(NODES);
    let registrations: Vec<String> = (0..arguments.monitors)
        .map(|number| {
            let schedule = if number % 2 == 0 { "@every 1s" } else { "@every 2s" };
            world.registration(&format!("part-{number}"), schedule, &[])
        })
        .collect();
    world.database.execute(&registrations.join(";"));
    world.wait_for_number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL", 0);

    let kills = lose(&mut world, &mut dice, Loss::Kill, arguments.kills);
    let stops = lose(&mut world, &mut dice, Loss::Stop, arguments.stops);
    let line = json!({
        "database": world.database.name(),
        "nodes": NODES,
        "monitors": arguments.monitors,
        "kills": summary(kills),
        "stops": summary(stops),
    });
    println!("{line}");
}

fn lose(world: &mut World, dice: &mut Dice, loss: Loss, times: usize) -> Figures {
    let mut figures = Figures::default();
    while figures.all.len() < times {
        std::thread::sleep(Duration::from_millis(dice.between(CALM_MS.0, CALM_MS.1)));
        let which = usize::try_from(dice.below(NODES as u64)).unwrap();
        let name = world.nodes[which].name.clone();
        let owned = owned_by(world, &name);
        let lost_at = now();
        match loss {
            Loss::Kill => world.nodes[which].kill(),
            Loss::Stop => world.nodes[which].leave(),
        }
        let delays = until_checked_again(world, &name, &owned, lost_at);
        if let Some(longest) = delays.iter().max() {
            figures.all.push(*longest);
            eprintln!("failover: {} of {times}: {} monitors, {longest} ms", figures.all.len(), owned.len());
        }
        figures.each.extend(delays);
        if matches!(loss, Loss::Stop) {
            wait_until("the node ends", PATIENCE, || world.nodes[which].ended().is_some());
        }
        world.nodes[which].start();
        world.nodes[which].wait_until_it_serves();
        world.wait_for_live_nodes(NODES);
    }
    figures
}

/// The monitors whose latest run was this node's.
fn owned_by(world: &World, node: &str) -> Vec<String> {
    let rows = world.database.rows(&format!(
        "SELECT r.monitor_id FROM monitor_runs r \
         JOIN (SELECT max(id) AS id FROM monitor_runs GROUP BY monitor_id) l ON l.id = r.id WHERE r.node = '{node}'"
    ));
    rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
}

/// For each of them, how long after the loss another node's first check of it began.
fn until_checked_again(world: &World, lost: &str, owned: &[String], lost_at: i64) -> Vec<i64> {
    let started = world.database.millis("started_at");
    // By the id, which has an index: the time is looked at in what is left.
    let newest = world.database.number("SELECT max(id) FROM monitor_runs") - 10_000;
    let sql = format!(
        "SELECT monitor_id, min({started}) FROM monitor_runs \
         WHERE id > {newest} AND {started} >= {lost_at} AND node <> '{lost}' GROUP BY monitor_id"
    );
    let mut delays = Vec::new();
    wait_until("all are checked again", PATIENCE, || {
        let rows = world.database.rows(&sql);
        let first: HashMap<&str, i64> =
            rows.iter().map(|row| (row[0].as_deref().unwrap(), row[1].as_deref().unwrap().parse().unwrap())).collect();
        delays = owned.iter().filter_map(|monitor| Some(first.get(monitor.as_str())? - lost_at)).collect();
        delays.len() == owned.len()
    });
    delays
}

fn summary(mut figures: Figures) -> serde_json::Value {
    figures.all.sort_unstable();
    figures.each.sort_unstable();
    let quantiles = |sorted: &[i64]| {
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        json!({"p50": at(50), "p99": at(99), "max": sorted.last()})
    };
    json!({
        "times": figures.all.len(),
        "until_all_are_checked_ms": quantiles(&figures.all),
        "of_each_monitor_ms": quantiles(&figures.each),
        "monitors_moved": figures.each.len(),
    })
}
