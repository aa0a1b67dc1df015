//! The node is killed at every step between a run's commit and the note that people were told, with a message to every
//! channel at that step: who was told of an alert is told once of its recovery, in order, and doubles only in the gap.
//!
//! `WATCHBELL_TORTURE_ROUNDS=N` repeats it with other combinations of steps; `--nocapture` prints the table.

mod check;
mod gate;
mod services;
mod site;
mod step;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use self::check::{Table, check};
use self::services::Doubles;
use self::site::Site;
use self::step::Step;

/// Installations that are tortured at a time.
const SITES: usize = 2;

/// How a monitor lives.
enum Life {
    /// The node dies at these steps of alert, reminder and recovery.
    Whole([Step; 3]),
    /// The node dies at this step of the alert, and the monitor recovers before it is back.
    Hurried(Step),
    /// And then no service is there until the recovery is planned.
    CutOff(Step),
    /// The node dies at this step of the alert, when the reminder waits behind it.
    InLine(Step),
}

#[test]
fn killed_at_every_step_on_every_channel_it_tells_everybody_once_and_in_order() {
    let rounds = std::env::var("WATCHBELL_TORTURE_ROUNDS").map_or(1, |text| text.parse().expect("a number of rounds"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lives = Mutex::new(lives(rounds).into_iter().enumerate().collect::<VecDeque<_>>());
    let tables: Vec<Table> = std::thread::scope(|threads| {
        let sites: Vec<_> = (0..SITES).map(|_| threads.spawn(|| torture(runtime.handle(), &lives))).collect();
        sites.into_iter().map(|site| site.join().expect("a site's own words are above")).collect()
    });
    let mut table = Table::new();
    for (place, (hits, doubles)) in tables.into_iter().flatten() {
        let entry = table.entry(place).or_default();
        *entry = (entry.0 + hits, entry.1 + doubles);
    }
    print(&table);
    // Else the test tested little: each channel was at each step.
    for ((recipient, step), (hits, _)) in &table {
        assert!(*hits >= rounds, "{recipient} at {step:?}: {hits}");
    }
    assert_eq!(table.len() % Step::ALL.len(), 0);
}

/// Each step once a round for each kind of message, in other company each round.
fn lives(rounds: usize) -> Vec<Life> {
    let round = |round: usize| {
        Step::ALL.into_iter().flat_map(move |step| {
            let steps = [step, step.plus(2 + round), step.plus(4 + 2 * round)];
            let in_line = step.stop().map(|_| Life::InLine(step));
            [Life::Whole(steps), Life::Hurried(step), Life::CutOff(step)].into_iter().chain(in_line)
        })
    };
    (0..rounds).flat_map(round).collect()
}

/// Lives as many lives as there are left, on a site of its own.
fn torture(runtime: &tokio::runtime::Handle, lives: &Mutex<VecDeque<(usize, Life)>>) -> Table {
    let mut site = Site::start(runtime);
    documents_its_doubles(&site);
    let mut lived = Vec::new();
    loop {
        let next = lives.lock().unwrap().pop_front();
        let Some((number, life)) = next else { break };
        match life {
            Life::Whole(steps) => site.live(number, steps),
            Life::Hurried(step) => site.live_in_a_hurry(number, step),
            Life::CutOff(step) => site.live_cut_off(number, step),
            Life::InLine(step) => site.live_in_line(number, step),
        }
        lived.push(number);
    }
    site.stop();
    check(&site, &lived)
}

/// Every type of channel is under torture, and promises what is checked here.
fn documents_its_doubles(site: &Site) {
    let recipients = &site.services.recipients;
    let tortured: BTreeSet<&str> = recipients.iter().map(|recipient| recipient.channel_type).collect();
    for channel_type in watchbell::channels::all() {
        assert!(tortured.contains(channel_type.name), "`{}` is not under torture", channel_type.name);
    }
    for recipient in recipients {
        let Some(channel_type) = watchbell::channels::find(recipient.channel_type) else { continue };
        let words: &[&str] = match recipient.doubles {
            Doubles::Shown => &["ot idempotent", "twice"],
            Doubles::Known(_) => &["shows once", "in the place of the first", "effectively once", "nothing doubles"],
            Doubles::Events => &["pages nobody"],
        };
        let is_told = words.iter().any(|words| channel_type.doubles.contains(words));
        assert!(is_told, "`{}` does not document its doubles: {}", recipient.name, channel_type.doubles);
    }
}

fn print(table: &Table) {
    let recipients: BTreeSet<&str> = table.keys().map(|(recipient, _)| *recipient).collect();
    let row = |name: &str, cells: Vec<String>| println!("torture: {name:14}{}", cells.join(""));
    row("kills/doubles", Step::ALL.iter().map(|step| format!("{:>10}", format!("{step:?}"))).collect());
    for recipient in recipients {
        let cell = |step: &Step| {
            let (hits, doubles) = table[&(recipient, *step)];
            format!("{:>10}", format!("{hits}/{doubles}"))
        };
        row(recipient, Step::ALL.iter().map(cell).collect());
    }
}
