//! What does not need the database: files and folders, who is told of trouble, the clock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chrono::{DateTime, Datelike, Utc};

use super::finding::Finding;
use crate::config::Configuration;

const WRITABLE_BY_OTHERS: u32 = 0o022;
/// This version is not older, so a clock that is is wrong.
const EARLIEST_YEAR: i32 = 2026;

pub(super) fn examine(configuration: &Configuration) -> Vec<Finding> {
    let mut findings = vec![file(configuration), clock(Utc::now()), admins(configuration)];
    findings.extend(configuration.plugin_dirs.iter().map(|dir| plugin_dir(dir)));
    findings
}

fn file(configuration: &Configuration) -> Finding {
    const ABOUT: &str = "configuration";
    let Some(path) = &configuration.file else {
        return Finding::ok(ABOUT, "it can be read; there is no `watchbell.toml` here, so defaults count");
    };
    let shown = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.mode() & WRITABLE_BY_OTHERS != 0 => Finding::problem(
            ABOUT,
            format!(
                "`{shown}` may be written by others (mode {:03o}), who could name programs to run",
                metadata.mode() & 0o7777
            ),
            format!("chmod go-w {shown}"),
        ),
        Ok(_) => Finding::ok(ABOUT, format!("`{shown}` can be read, without faults")),
        Err(error) => {
            Finding::warning(ABOUT, format!("`{shown}` cannot be looked at: {error}"), "look at its folder's rights")
        }
    }
}

fn clock(now: DateTime<Utc>) -> Finding {
    let shown = now.format("%Y-%m-%d %H:%M:%S UTC");
    if now.year() < EARLIEST_YEAR {
        return Finding::problem("clock", format!("it says {shown}, which cannot be"), "set the clock; use NTP");
    }
    Finding::ok("clock", format!("it says {shown}"))
}

fn admins(configuration: &Configuration) -> Finding {
    match configuration.admins.as_slice() {
        [] => Finding::warning(
            "admins",
            "nobody is told where a row names only recipients that are none",
            "admins = [\"you@example.com\"] in the configuration",
        ),
        admins => Finding::ok("admins", admins.join(", ")),
    }
}

fn plugin_dir(dir: &Path) -> Finding {
    const ABOUT: &str = "plugin_dirs";
    let shown = dir.display();
    match watchbell_monitors::command::distrust(dir) {
        Some((problem, hint)) => Finding::problem(ABOUT, problem, hint),
        None if dir.is_dir() => Finding::ok(ABOUT, format!("`{shown}`")),
        None => Finding::ok(ABOUT, format!("`{shown}` does not exist, so no program is run from there")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::clock;

    #[test]
    fn a_clock_before_this_version_is_wrong() {
        assert_eq!(clock("1970-01-01T00:00:01Z".parse().unwrap()).level, Level::Problem);
        assert_eq!(clock("2026-11-21T21:00:00Z".parse().unwrap()).level, Level::Ok);
    }
}
