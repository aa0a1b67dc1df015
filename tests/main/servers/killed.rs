//! Nothing is left of servers whose tests were killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::mariadb::{MariaDb, MariaDbOptions};
use crate::support::node::{SOON, wait_until};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::sql::block_on;

/// Set where [`the_process_to_be_killed`] shall hold servers instead of passing at once.
const HOLDS: &str = "WATCHBELL_TEST_HOLDS_SERVERS";
/// What stands before each folder that it prints.
const FOLDER: &str = "folder: ";

#[test]
fn the_process_to_be_killed() {
    if std::env::var_os(HOLDS).is_none() {
        return;
    }
    let frozen = Postgres::own(PostgresOptions::default());
    frozen.pause();
    let mariadb = MariaDb::own(MariaDbOptions::default());
    let shared = block_on(Postgres::shared());
    for ca_file in [frozen.ca_file(), mariadb.ca_file(), shared.ca_file()] {
        println!("\n{FOLDER}{}", ca_file.parent().unwrap().display());
    }
    std::thread::sleep(2 * SOON);
}

#[test]
fn servers_end_with_tests_that_are_killed() {
    let mut tests = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::killed::the_process_to_be_killed", "--nocapture"])
        .env(HOLDS, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines().map(Result::unwrap);
    let folders = lines.filter_map(|line| line.strip_prefix(FOLDER).map(PathBuf::from));
    let folders: Vec<_> = folders.take(3).collect();
    let running = || folders.iter().flat_map(|folder| processes_in(folder)).count();
    assert!(folders.len() == 3 && running() > 10, "{folders:?}: {} processes", running());
    tests.kill().unwrap();
    tests.wait().unwrap();
    wait_until("the servers end", SOON, || running() == 0);
    wait_until("their folders are gone", SOON, || folders.iter().all(|folder| !folder.exists()));
}

fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_there = |process: &PathBuf| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes.filter(is_there).collect()
}
