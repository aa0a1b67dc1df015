//! The floors of `docs/architecture.md`: each uses only floors below it, and only what it needs of the world.

use std::path::Path;

use super::paths::{module_of, paths, without_tests};
use super::{files_below, read, report};

/// A floor, and what it may use.
struct Floor {
    folder: &'static str,
    /// Modules of the same package.
    own: &'static [&'static str],
    packages: Packages,
    /// Paths that hold this are not for this floor.
    never: &'static [&'static str],
    /// What a breach costs.
    why: &'static str,
}

enum Packages {
    /// These alone.
    Only(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

const FLOORS: [Floor; 9] = [
    Floor {
        folder: "src/domain",
        own: &["domain"],
        packages: Packages::Only(&[
            "chrono",
            "chrono_tz",
            "croner",
            "email_address",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "watchbell_contract",
        ]),
        never: &[
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "Instant::now",
            "SystemTime::now",
            "Utc::now",
            "Local::now",
            "chrono::Local",
        ],
        why: "the rules are pure: `now` and seeds are arguments, so that every case can be tested as a table. Read the \
              clock or the world in the engine or the shell, and hand over what was read",
    },
    Floor {
        folder: "src/ports",
        own: &["domain", "ports"],
        packages: Packages::Only(&[
            "async_trait",
            "chrono",
            "futures_util",
            "serde",
            "serde_json",
            "thiserror",
            "watchbell_contract",
        ]),
        never: &["std::env", "std::fs", "std::net", "std::process"],
        why: "a port says what the core needs of the world in the core's words; what a database or a protocol calls it \
              belongs into the adapter",
    },
    Floor {
        folder: "src/engine",
        own: &["domain", "ports", "engine"],
        packages: Packages::AllBut(&["clap", "croner", "lettre", "reqwest", "sqlx", "tokio_cron_scheduler"]),
        never: &["std::env", "std::fs", "std::net", "std::process", "Utc::now", "SystemTime::now"],
        why: "the use cases work on ports alone, so that they run on a simulated clock and on any database. Put what \
              names a database or a protocol behind a port",
    },
    Floor {
        folder: "src/schedule",
        own: &["domain", "ports", "schedule"],
        packages: Packages::AllBut(&["clap", "lettre", "reqwest", "sqlx"]),
        never: &[],
        why: "the scheduler calls ticks; it knows neither the database nor the other adapters",
    },
    Floor {
        folder: "src/store",
        own: &["domain", "ports", "store"],
        packages: Packages::AllBut(&["clap", "lettre", "reqwest", "tokio_cron_scheduler"]),
        never: &[],
        why: "a store reads and writes rows; what they mean is decided above it",
    },
    Floor {
        folder: "src/channels",
        own: &["domain", "ports", "channels"],
        packages: Packages::AllBut(&["clap", "sqlx", "tokio_cron_scheduler"]),
        never: &[],
        why: "a channel delivers one message once; retries, states and the outbox are the engine's and the store's",
    },
    Floor {
        folder: "src/config",
        own: &["config", "domain"],
        packages: Packages::AllBut(&["clap", "reqwest", "sqlx", "tokio_cron_scheduler"]),
        never: &[],
        why: "the configuration is read into types; what they start is the shell's",
    },
    Floor {
        folder: "monitors/src",
        own: ANY_OF_ITS_OWN,
        packages: Packages::AllBut(&["watchbell", "lettre"]),
        never: &[],
        why: "a kind answers one question; it depends on the contract and its own client, and knows no orchestrator",
    },
    Floor {
        folder: "monitors/contract/src",
        own: ANY_OF_ITS_OWN,
        packages: Packages::AllBut(&["watchbell", "watchbell_monitors", "sqlx", "reqwest", "lettre"]),
        never: &[],
        why: "third parties build on the contract: it stays tiny and knows neither database nor channel",
    },
];

/// Kinds and the contract have no floors within.
const ANY_OF_ITS_OWN: &[&str] = &[];

#[test]
fn each_floor_uses_only_floors_below_it() {
    let packages = packages();
    let mut breaches = Vec::new();
    for floor in FLOORS {
        let before = breaches.len();
        for file in files_below(floor.folder) {
            if file.extension().is_none_or(|extension| extension != "rs") || is_of_tests(&file) {
                continue;
            }
            for path in paths(&without_tests(&read(&file)), &module_of(&file)) {
                if let Some(problem) = problem(&floor, &path, &packages) {
                    breaches.push(format!("{}: `{path}`: {problem}", file.display()));
                }
            }
        }
        if breaches.len() > before {
            breaches.push(format!("`{}` leaves its floor: {}", floor.folder, floor.why));
        }
    }
    report("a floor uses only floors below it, and of the world only what it needs", &breaches);
}

fn problem(floor: &Floor, path: &str, packages: &[String]) -> Option<String> {
    let names: Vec<&str> = path.split("::").collect();
    if floor.never.iter().any(|never| format!("::{path}::").contains(&format!("::{never}::"))) {
        return Some("not on this floor".to_owned());
    }
    if names[0] == "crate" {
        let is_module = names[1].starts_with(char::is_lowercase);
        let is_other = is_module && !floor.own.is_empty() && !floor.own.contains(&names[1]);
        return is_other.then(|| format!("this floor uses only {:?} of its own package", floor.own));
    }
    if !packages.iter().any(|package| package == names[0]) {
        return None;
    }
    match floor.packages {
        Packages::Only(these) => (!these.contains(&names[0])).then(|| format!("this floor uses only {these:?}")),
        Packages::AllBut(these) => these.contains(&names[0]).then(|| format!("this floor never uses {these:?}")),
    }
}

/// Every package of the lock file, as its name is written in paths.
fn packages() -> Vec<String> {
    let lock: toml::Table = read(Path::new("Cargo.lock")).parse().unwrap();
    let names = lock["package"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap());
    names.map(|name| name.replace('-', "_")).collect()
}

/// Whether a file is a test module of its own, as its parent declares it: `#[cfg(test)] mod name;`.
fn is_of_tests(file: &Path) -> bool {
    file.ancestors().take_while(|ancestor| !ancestor.ends_with("src")).any(|part| {
        let Some(name) = part.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { return false };
        let Some(folder) = part.parent() else { return false };
        let parents = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")];
        parents.iter().filter(|parent| super::root().join(parent).is_file()).any(|parent| {
            let text = read(parent);
            [format!("#[cfg(test)]\nmod {name};"), format!("#[cfg(test)]\npub(crate) mod {name};")]
                .iter()
                .any(|declared| text.contains(declared))
        })
    })
}
