//! The contract as scripts that people can read: what happens at which minute, and who is told of it.
//!
//! A script drives the pure decisions through a real database on a simulated clock; there is no scheduler and no wall
//! clock. Each is played on SQLite, PostgreSQL and MariaDB. On SQLite, `UPDATE=1` writes what was found into the scripts,
//! for a person to read in the diff.
//!
//! ```text
//! case what this is about
//! monitor orders: people ["a@x.test"], reminder 60, oks 2
//! 12:00 tick failed "no orders since noon"
//!   -> state alert, told alert to a@x.test
//! 12:30 sql UPDATE monitors SET people_to_notify = '[]'
//! 13:00 tick ok ; 13:01 tick ok
//!   -> state ok, told nobody
//! ```
//!
//! | line | does |
//! |---|---|
//! | `case TITLE` | begins with an empty database at 12:00 on 2026-11-21 |
//! | `only on sqlite, mariadb` | the case is for these databases: it is about a spelling that others do not have |
//! | `admins JSON`, `zone NAME` | what the installation says |
//! | `monitor NAME: people JSON, reminder N, oks N, alerts N, severity S, timezone Z` | a row, each part may be left out |
//! | `use NAME` | goes on with another row; else it is the one named last |
//! | `at [DATE] TIME`, `clock set to TIME` | the clock goes on, or is set either way |
//! | `tick`, `catch_up`, `first`, `forced`, `manual`, `event` and an outcome | a run; `of TIME`: of an earlier tick |
//! | `begin tick`, `finish OUTCOME` | the two ends of a run, for what people do in between |
//! | `sql TEXT`, `ask SELECT` | a person's own connection; `@now` and `@13:00` are times, `\r\n` is a line break |
//! | `edit` | what follows an edit once a node has seen it |
//! | `mark sent`, `failed`, `held`, `withdrawn`, with `to RECIPIENT` | what became of what was waiting |
//! | `restart` | the process ends and starts again: only the database is left |
//!
//! An outcome is `ok` or `failed`, then a severity, a message in quotes, and `error "..."` for `config_error`, each
//! optional. The lines below a step are what it must do: `->`, the `subject` of what it queued, and the first body
//! after `|`. A run begins 40 ms after the time of its line and takes 120 ms, so that ticks, starts and ends differ.

mod found;
mod script;
mod world;

use std::path::{Path, PathBuf};

use script::{Script, Step};
use world::{Played, World};

/// One test for each script on each database.
macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),+];
        scripts!(@on sqlite Sqlite $($name)+);
        scripts!(@on postgres Postgres $($name)+);
        scripts!(@on mariadb MariaDb $($name)+);
    };
    (@on $module:ident $played:ident $($name:ident)+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    super::play(stringify!($name), super::Played::$played).await;
                }
            )+
        }
    };
}

scripts! {
    acknowledgment,
    agreed_table,
    deleted_rows,
    edits_by_hand,
    edits_during_a_run,
    messages,
    pauses,
    recipients,
    recovery,
    reminders,
    required_alerts,
    severity,
    ticks_and_rechecks,
    unrunnable_rows,
}

#[test]
fn every_script_is_played() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, SCRIPTS, "a script that is not listed is not played (or the list is not sorted)");
}

#[test]
fn rewriting_with_what_was_expected_changes_nothing() {
    for name in SCRIPTS {
        let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        let script = Script::parse(&text).unwrap();
        let expected: Vec<Vec<String>> = script.steps.iter().map(|step| step.expected.clone()).collect();
        assert_eq!(script.rewritten(&expected), text, "{name}.txt");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/scenarios")
}

async fn play(name: &str, played: Played) {
    let path = folder().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}.txt:{error}"));
    let mut world = World::new(played).await;
    let mut differences = String::new();
    let mut found_lines = Vec::with_capacity(script.steps.len());
    for step in &script.steps {
        let found = match world.take(step).await {
            Ok(found) => found,
            Err(error) => panic!("{differences}{name}.txt:{}: {}\n  {error:#}\n", step.line, step.text),
        };
        if found != step.expected {
            differences.push_str(&difference(name, step, &found));
        }
        found_lines.push(found);
    }
    world.close().await;
    if differences.is_empty() {
        return;
    }
    if played == Played::Sqlite && std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        return std::fs::write(&path, script.rewritten(&found_lines)).unwrap();
    }
    panic!("\non {played:?}\n{differences}UPDATE=1 writes what was found on SQLite into the scripts.\n");
}

fn difference(name: &str, step: &Step, found: &[String]) -> String {
    let shown = |lines: &[String]| match lines {
        [] => "    (nothing)\n".to_owned(),
        lines => lines.iter().map(|line| format!("    {line}\n")).collect(),
    };
    let (expected, found) = (shown(&step.expected), shown(found));
    format!("{name}.txt:{}: {}\n  expected\n{expected}  found\n{found}\n", step.line, step.text)
}
