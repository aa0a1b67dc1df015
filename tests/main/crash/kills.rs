//! SIGKILL at random moments, more than a hundred times, while monitors alert and recover.
//!
//! Once with every message by itself, once under the default limits on noise, where most are held, merged or withdrawn.
//! `CRASH_SEED=N` repeats a run's choices (its timing is the machine's own), `CRASH_KILLS=N` makes it longer.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::site::Site;
use super::truth;

const MONITORS: u64 = 30;
const KILLS: u64 = 160;
/// With limits on noise each node is killed less often: what they hold back must be waited for at the end.
const KILLS_WITH_LIMITS: u64 = 60;
/// The longest span of the default limits (`delivery.repetition_seconds`), and a busy machine.
const UNTIL_HELD_IS_TOLD: Duration = Duration::from_secs(150);
/// From the start of a process to its end. The shortest lives end before it serves.
const SHORTEST_LIFE_MS: u64 = 30;
const LONGEST_LIFE_MS: u64 = 900;
/// Within such a span after a node began to tell people, most of what that brings about happens.
const THICK_OF_IT_MS: u64 = 120;
/// What goes out by mail at a time (`MAX_IN_FLIGHT` of `channels/email`): so many mails may be sent and not yet noted as such.
const MAX_IN_FLIGHT: u64 = 16;

/// The `SplitMix64` sequence.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_nothing_and_say_nothing_false() {
    let mut site = Site::new();
    site.set("WATCHBELL_DELIVERY__REPETITION_SECONDS", 0);
    site.set("WATCHBELL_DELIVERY__STORM_FIRST", 10_000);
    site.set("WATCHBELL_DELIVERY__CUT_OFF_MONITORS", 1_000_000);
    let figures = kill_and_check(site, from_environment("CRASH_KILLS", KILLS)).await;
    assert_eq!(figures.withdrawn, 0, "nothing is held, so everybody is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_on_noise_lose_nothing_and_say_nothing_false() {
    let figures = kill_and_check(Site::new(), from_environment("CRASH_KILLS", KILLS_WITH_LIMITS)).await;
    // Else the test tested little.
    assert!(figures.withdrawn > 0 && figures.merged > 0, "{figures:?}");
}

async fn kill_and_check(site: Site, kills: u64) -> truth::Figures {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let seed = from_environment("CRASH_SEED", clock);
    println!("crash: CRASH_SEED={seed}");
    let mut dice = Dice(seed);
    // Widens the one gap: the server has the mail, its sender does not know it yet.
    site.smtp.fault(json!({"at": "TAKEN", "delay": 0.01, "count": 1_000_000_000}));
    register(&site).await;

    let mut lives = Vec::new();
    for life in 0..kills {
        for monitor in 0..MONITORS {
            if dice.below(3) == 0 {
                set_failing(&site, monitor, dice.below(2) == 0);
            }
        }
        // Somebody asks for checks, of a node that is down or of one that runs; in other lives nobody but the node has
        // the database open when it dies.
        let third = dice.below(3);
        if life % 3 == 0 {
            ask_for_checks(&site, third).await;
        }
        let (began, said_before) = (Utc::now(), site.log_bytes());
        let node = site.start();
        let span = Duration::from_millis(SHORTEST_LIFE_MS + dice.below(LONGEST_LIFE_MS - SHORTEST_LIFE_MS));
        let end = tokio::time::Instant::now() + span;
        if life % 3 == 1 {
            tokio::time::sleep(span / 3).await;
            ask_for_checks(&site, third).await;
        }
        // Two of three die soon after they began to tell people, the others at any moment.
        let thick_of_it = Duration::from_millis(dice.below(THICK_OF_IT_MS));
        while tokio::time::Instant::now() < end {
            if life % 3 != 2 && site.log_from(said_before).contains("people are to be told") {
                tokio::time::sleep(thick_of_it).await;
                break;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        node.kill();
        lives.push((began, Utc::now()));
    }

    // Half of them end up failing for good.
    (0..MONITORS).for_each(|monitor| set_failing(&site, monitor, monitor % 2 == 0));
    let node = site.start();
    site.until("SELECT count(*) FROM monitors WHERE (state = 'alert') <> (id % 2 = 1)", 0).await;
    site.execute("UPDATE monitors SET is_active = 0").await;
    let unsettled = "SELECT count(*) FROM notifications WHERE status NOT IN ('sent', 'merged', 'withdrawn')";
    site.until_within(UNTIL_HELD_IS_TOLD, unsettled, 0).await;
    assert!(node.terminate().await.success(), "{}", site.log());

    let mut database = site.database().await;
    let figures = truth::check(&mut database, &site.smtp.mails()).await;
    let (with_runs, with_news) = busy_lives(&mut database, &lives).await;
    println!(
        "crash: {kills} kills ({with_runs} of a node that had written runs, {with_news} of one that had told people), \
         {} runs, {} incidents, {} notifications ({} merged, {} withdrawn), {} mails, {} duplicates (at most {})",
        figures.runs,
        figures.incidents,
        figures.notifications,
        figures.merged,
        figures.withdrawn,
        figures.mails,
        figures.duplicates,
        MAX_IN_FLIGHT * kills
    );
    assert!(figures.duplicates as u64 <= MAX_IN_FLIGHT * kills);
    assert!(!site.log().contains("ERROR") && !site.log().contains("panicked"), "{}", site.log());
    // Else the test tested little.
    assert!(
        with_news * 2 > kills && figures.incidents as u64 > kills / 2,
        "{with_news} of {kills}, {} incidents",
        figures.incidents
    );
    figures
}

fn from_environment<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |text| text.parse().ok().unwrap_or_else(|| panic!("{name} is no number")))
}

/// Monitors of every second, with one to three recipients; each fifth reminds at every failing run.
async fn register(site: &Site) {
    for monitor in 0..MONITORS {
        let config = json!({"path": site.text_path(&format!("broken-{monitor}")), "exists": false});
        let people: Vec<String> = (0..=monitor % 3).map(|person| format!("p{person}-{monitor}@y.test")).collect();
        let reminder = if monitor % 5 == 0 { "0" } else { "NULL" };
        site.execute(&format!(
            "INSERT INTO monitors (id, name, kind, schedule, config, required_consecutive_oks, \
               reminder_frequency_minutes, people_to_notify) \
             VALUES ({}, 'Part {monitor}', 'file', '* * * * * *', '{config}', {}, {reminder}, '{}')",
            monitor + 1,
            1 + monitor % 2,
            json!(people),
        ))
        .await;
    }
}

/// Of each third monitor. One that was never run has been asked for already.
async fn ask_for_checks(site: &Site, third: u64) {
    let has_run = "last_run_at IS NOT NULL";
    site.execute(&format!("UPDATE monitors SET last_run_at = NULL WHERE {has_run} AND id % 3 = {third}")).await;
}

fn set_failing(site: &Site, monitor: u64, is_failing: bool) {
    let path = site.path(&format!("broken-{monitor}"));
    match is_failing {
        true => std::fs::write(path, "").unwrap(),
        false if path.exists() => std::fs::remove_file(path).unwrap(),
        false => {}
    }
}

/// In how many lives runs were written, and how many told people something.
async fn busy_lives(database: &mut sqlx::SqliteConnection, lives: &[(DateTime<Utc>, DateTime<Utc>)]) -> (u64, u64) {
    let runs: Vec<(DateTime<Utc>, bool)> =
        sqlx::query_as("SELECT started_at, notification_type IS NOT NULL FROM monitor_runs")
            .fetch_all(database)
            .await
            .unwrap();
    let count = |is_wanted: &dyn Fn(bool) -> bool| {
        let has_one = |&&(began, ended): &&(DateTime<Utc>, DateTime<Utc>)| {
            runs.iter().any(|&(at, is_news)| is_wanted(is_news) && began <= at && at < ended)
        };
        lives.iter().filter(has_one).count() as u64
    };
    (count(&|_| true), count(&|is_news| is_news))
}
