//! Three nodes under load, a fault every few seconds from a seed, then calm, then the verdict.
//!
//! `NODES_SEED=N` repeats a run's choices (its timing is the machine's own). `WATCHBELL_CHAOS_SECONDS=1800` makes it half
//! an hour, as `tests/run --full` does; then a line a minute says how it goes.

use std::time::{Duration, Instant, SystemTime};

use super::database::Database;
use super::dice::Dice;
use super::faults::{Faults, plan};
use super::now;
use super::record::Record;
use super::verdict::{Evidence, Verdict};
use super::world::{Ended, World};
use crate::support::node::{people, wait_until};

/// How many nodes are always there; one more comes and goes.
const NODES: usize = 3;
const STORM_SECONDS: u64 = 45;
/// By schedule, how many monitors have it.
const MONITORS: [(&str, usize); 6] = [
    ("@every 1s", 12),
    ("* * * * * *", 8),
    ("*/2 * * * * *", 20),
    ("@every 2s", 20),
    ("*/5 * * * * *", 100),
    ("* * * * *", 40),
];
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Each time so many monitors may change what they find.
const CHANGE_EVERY: Duration = Duration::from_millis(500);
const CHANGES: usize = 3;
/// The calm after the storm: leases are taken again and what waited is done.
const CALM: Duration = Duration::from_secs(30);
/// What a node had begun to send when it was killed is tried again by another at the latest then.
const UNTIL_SETTLED: Duration = Duration::from_secs(400);
/// Runs of the last ticks are applied by then, in ms.
const LAST_RUNS: i64 = 5_000;

/// See the module.
pub(super) fn storm(database: Database) {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let seed = from_environment("NODES_SEED", clock);
    let seconds = from_environment("WATCHBELL_CHAOS_SECONDS", STORM_SECONDS);
    let name = database.name();
    println!("nodes: {name}, {seconds} s, NODES_SEED={seed}");
    let mut dice = Dice::new(seed);
    let faults = plan(&mut dice, NODES, seconds * 1_000);

    let mut world = World::new(database);
    let monitors = register(&world);
    world.start_nodes(NODES);
    world.add_node(&[]);
    world.wait_for_number("SELECT count(*) FROM monitors WHERE last_run_at IS NULL", 0);
    let from = now() + 1_000;

    let mut storm = Storm { faults: Faults::new(faults), failing: monitors, violations: Vec::new() };
    storm.rage(&mut world, &mut dice, Duration::from_secs(seconds));
    storm.calm_down(&mut world);
    let until = now() - LAST_RUNS;
    world.database.execute("UPDATE monitors SET is_active = 0");
    wait_until("everything is told", UNTIL_SETTLED, || {
        let sql = "SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'merged', 'withdrawn', 'failed')";
        world.database.number(sql) == 0
    });
    for node in world.nodes.iter_mut().filter(|node| node.is_running()) {
        node.stop();
    }
    storm.look_for_panics(&world);
    let evidence = Evidence {
        database: name,
        seed,
        record: Record::read(&world.database),
        mails: world.mailbox.mails(),
        requests: world.targets.requests(),
        windows: storm.faults.over,
        from,
        until,
        violations: storm.violations,
    };
    Verdict::of(evidence).pronounce();
}

struct Storm {
    faults: Faults,
    /// What changes: the names of monitors, and whether each is failing.
    failing: Vec<(String, bool)>,
    violations: Vec<String>,
}

impl Storm {
    fn rage(&mut self, world: &mut World, dice: &mut Dice, span: Duration) {
        let began = Instant::now();
        let (mut changed_at, mut minutes) = (Instant::now(), 0);
        while began.elapsed() < span {
            self.faults.advance(world);
            self.look_after_nodes(world);
            if changed_at.elapsed() >= CHANGE_EVERY {
                changed_at = Instant::now();
                for _ in 0..CHANGES {
                    self.change(world, dice);
                }
            }
            if began.elapsed().as_secs() / 60 > minutes {
                minutes += 1;
                self.say_how_it_goes(world, minutes);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn change(&mut self, world: &World, dice: &mut Dice) {
        let which = usize::try_from(dice.below(self.failing.len() as u64)).unwrap();
        let (name, is_failing) = &mut self.failing[which];
        *is_failing = !*is_failing;
        world.targets.set_failing(name, *is_failing);
    }

    /// Heals everything, and waits until all monitors find what is so.
    fn calm_down(&mut self, world: &mut World) {
        self.faults.end_all(world);
        let began = Instant::now();
        while began.elapsed() < CALM {
            self.look_after_nodes(world);
            std::thread::sleep(LOOK_EVERY);
        }
        world.wait_for_live_nodes(NODES);
        let failing: Vec<String> =
            self.failing.iter().filter(|(_, is_failing)| *is_failing).map(|(name, _)| format!("'{name}'")).collect();
        let fails = format!("name LIKE 'still-down%' OR name IN ('', {})", failing.join(", "));
        let unlike = format!("SELECT count(*) FROM monitors WHERE (state = 'alert') <> ({fails})");
        world.wait_for_number(&unlike.replace(", )", ")"), 0);
        // The last transitions are a few runs old.
        std::thread::sleep(Duration::from_secs(2));
    }

    /// What systemd does: whoever ended and is to run is started again.
    fn look_after_nodes(&mut self, world: &mut World) {
        for (which, node) in world.nodes.iter_mut().enumerate() {
            if node.ended() == Some(Ended::ByItself) {
                self.violations.push(format!("{} ended by itself; its log:\n{}", node.name, node.log()));
            }
            if !node.is_running() && self.faults.is_to_run(which, which == NODES) {
                node.start();
            }
        }
    }

    fn look_for_panics(&mut self, world: &World) {
        for node in &world.nodes {
            let panics = node.log().lines().filter(|line| line.contains("panicked")).count();
            if panics > 0 {
                self.violations.push(format!("{} panicked {panics} times; its log:\n{}", node.name, node.log()));
            }
        }
    }

    fn say_how_it_goes(&self, world: &World, minutes: u64) {
        let count = |sql: &str| world.database.try_number(sql).map_or("?".to_owned(), |count| count.to_string());
        println!(
            "nodes: minute {minutes}: {} faults, {} runs, {} incidents, {} mails, {} violations",
            self.faults.count(),
            count("SELECT count(*) FROM monitor_runs"),
            count("SELECT count(*) FROM incidents"),
            world.mailbox.mails().len(),
            self.violations.len()
        );
    }
}

/// Registers all monitors; those that change. Those of every minute would take minutes to follow: every second one of
/// them is down from the beginning to the end.
fn register(world: &World) -> Vec<(String, bool)> {
    let (mut changing, mut number) = (Vec::new(), 0);
    for (schedule, count) in MONITORS {
        for _ in 0..count {
            number += 1;
            let is_slow = schedule == "* * * * *";
            let is_down = is_slow && number % 2 == 0;
            let name = format!("{} {number}", if is_down { "still down" } else { "part" }).replace(' ', "-");
            let (one, two) = (format!("a{number}@y.test"), format!("b{number}@y.test"));
            let recipients = if number % 3 == 0 { people(&[&one, &two]) } else { people(&[&one]) };
            let oks = (1 + number % 2).to_string();
            world.targets.set_failing(&name, is_down);
            let columns = [
                ("people_to_notify", recipients.as_str()),
                ("required_consecutive_oks", &oks),
                ("reminder_frequency_minutes", "NULL"),
                ("timeout_seconds", "10"),
            ];
            world.register(&name, schedule, &columns);
            if !is_slow {
                changing.push((name, false));
            }
        }
    }
    changing
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}
