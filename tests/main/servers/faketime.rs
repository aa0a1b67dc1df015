//! Clocks that are shifted while programs run on them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chrono::TimeDelta;

use crate::support::faketime::ShiftedClock;
use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::node::{SOON, wait_until};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::rows;

/// Programs start, and tests wait for each other, within this many seconds.
const SLACK: f64 = 30.0;

/// Prints both clocks for each line that it reads.
const CLOCKS: &str = "
import sys, time
for line in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
";

fn true_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[track_caller]
fn assert_near(seen: f64, wanted: f64) {
    assert!((seen - wanted).abs() < SLACK, "{seen} is not near {wanted}");
}

#[test]
fn a_program_sees_the_shifted_time() {
    let clock = ShiftedClock::new();
    for hours in [0, 5, -48] {
        clock.shift(TimeDelta::hours(hours));
        let output = Command::new("date").arg("+%s").envs(clock.env()).output().unwrap();
        let seen: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert_near(seen, true_time() + f64::from(i32::try_from(hours).unwrap()) * 3600.0);
    }
}

#[test]
fn a_shift_reaches_a_program_that_runs_and_leaves_its_monotonic_clock_alone() {
    let clock = ShiftedClock::new();
    let mut child = Command::new("python3")
        .args(["-c", CLOCKS])
        .envs(clock.env())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut look = || {
        orders.write_all(b"\n").unwrap();
        let line = answers.next().unwrap().unwrap();
        let (wall, monotonic) = line.split_once(' ').unwrap();
        (wall.parse::<f64>().unwrap(), monotonic.parse::<f64>().unwrap())
    };
    let (_, first) = look();
    let began = Instant::now();
    for (shift, seconds) in [(TimeDelta::days(3), 259_200.0), (TimeDelta::milliseconds(-3_600_500), -3600.5)] {
        clock.shift(shift);
        let (wall, monotonic) = look();
        assert_near(wall, true_time() + seconds);
        assert_near(monotonic - first, began.elapsed().as_secs_f64());
    }
    drop(orders);
    child.wait().unwrap();
}

#[test]
fn the_product_runs_on_it() {
    let clock = ShiftedClock::new();
    clock.shift(TimeDelta::days(-1));
    let output = Command::new(env!("CARGO_BIN_EXE_watchbell")).arg("--version").envs(clock.env()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("watchbell "), "{output:?}");
}

#[tokio::test]
async fn database_servers_live_by_it() {
    let clock = ShiftedClock::new();
    let environment = clock.env();
    let postgres = Postgres::own(PostgresOptions { environment: environment.clone(), ..PostgresOptions::default() });
    let mariadb = MariaDb::own(MariaDbOptions { environment, ..MariaDbOptions::default() });
    clock.shift(TimeDelta::hours(7));
    for (url, now) in [
        (postgres.url("postgres"), "SELECT extract(epoch FROM clock_timestamp())"),
        (mariadb.url("mysql"), "SELECT unix_timestamp(sysdate())"),
    ] {
        let seen = rows(&url, now).await[0][0].as_ref().unwrap().parse().unwrap();
        assert_near(seen, true_time() + 7.0 * 3600.0);
    }
}

#[test]
fn what_a_killed_program_leaves_goes_with_the_clock() {
    let clock = ShiftedClock::new();
    let mut child = Command::new("sleep").arg("600").envs(clock.env()).spawn().unwrap();
    let left = PathBuf::from(format!("/dev/shm/faketime_shm_{}", child.id()));
    wait_until("the library is loaded", SOON, || left.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(left.exists(), "libfaketime is tidier than it was");
    drop(clock);
    assert!(!left.exists());
}
