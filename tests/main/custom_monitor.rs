//! `examples/custom_monitor`: a package outside the workspace that adds a kind and builds a binary of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// From the INSERT to the first run it is at most a second; the machine may be busy.
const FIRST_RUN: Duration = Duration::from_secs(20);
const ABOUT_THE_LOCK: &str = "examples/custom_monitor/Cargo.lock must name the versions of the workspace's Cargo.lock, \
    so that it builds without the network. Refresh it: UPDATE=1 cargo test --test main custom_monitor";

fn example(file: &str) -> PathBuf {
    Path::new(ROOT).join("examples/custom_monitor").join(file)
}

/// Where this very test was built, so that dependencies are not compiled again.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_watchbell")).ancestors().nth(2).unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    // What the outer cargo says of this package would make build scripts run again, here and then outside.
    for (name, _) in std::env::vars_os() {
        let is_of_this_package = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"]
                .iter()
                .any(|start| name.starts_with(start))
        });
        if is_of_this_package {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .arg("--manifest-path")
        .arg(example("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target_dir())
        .current_dir(ROOT)
        .output()
        .unwrap()
}

fn locked_packages(file: &Path) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let lock: toml::Table = text.parse().unwrap();
    let word = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
    let packages = lock["package"].as_array().unwrap();
    packages.iter().map(|package| (word(package, "name"), word(package, "version"))).collect()
}

/// Brings the example's lock file up to the workspace's where that is asked for, else holds it to be.
fn check_lock() {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::copy(Path::new(ROOT).join("Cargo.lock"), example("Cargo.lock")).unwrap();
        let updated = cargo(&["update", "--workspace", "--offline"]);
        assert!(updated.status.success(), "{}", String::from_utf8_lossy(&updated.stderr));
    }
    let workspace = locked_packages(&Path::new(ROOT).join("Cargo.lock"));
    let mut own = locked_packages(&example("Cargo.lock"));
    own.retain(|package| !workspace.contains(package) && package.0 != "queue-watchbell");
    assert!(own.is_empty(), "{ABOUT_THE_LOCK}\nOnly the example has {own:?}");
}

/// Builds the package, runs its own tests, and returns its binary.
fn build() -> PathBuf {
    check_lock();
    let built = cargo(&["test", "--locked", "--offline", "--quiet"]);
    let told = String::from_utf8_lossy(&built.stdout).into_owned() + &String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the example does not build or its tests fail; {ABOUT_THE_LOCK}\n{told}");
    assert!(told.contains("3 passed"), "the example's own tests were run: {told}");
    target_dir().join("debug/queue-watchbell")
}

/// The example's binary in a folder of its own.
struct Installation {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Installation {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// What a command answers on standard output, and how it ends.
    fn ask(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let ended = self.command(arguments).output().unwrap();
        (String::from_utf8(ended.stdout).unwrap(), ended.status.code())
    }

    fn sql(&self, statement: &str) {
        let ended = Command::new("sqlite3")
            .args(["watchbell.db", ".timeout 5000", statement])
            .current_dir(self.folder.path())
            .output()
            .expect("`sqlite3` is missing: run tests/run once, it installs what the tests need");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    fn first_run(&self, monitor: &str) -> Value {
        let began = Instant::now();
        loop {
            let (answer, _) = self.ask(&["history", monitor, "--json"]);
            if let Some(run) = serde_json::from_str::<Value>(&answer).ok().and_then(|runs| runs.get(0).cloned()) {
                return run;
            }
            assert!(began.elapsed() < FIRST_RUN, "`{monitor}` was not checked: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A node that ends with the test, however that ends.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_kind_of_a_package_of_its_own_is_listed_checked_and_served() {
    let installation = Installation { binary: build(), folder: tempfile::tempdir().unwrap() };
    let spool = tempfile::tempdir().unwrap();
    for name in ["one", "two", "three"] {
        std::fs::write(spool.path().join(name), "").unwrap();
    }

    let (kinds, _) = installation.ask(&["kinds"]);
    for kind in ["http ", "queue_depth "] {
        assert!(kinds.lines().any(|line| line.starts_with(kind)), "`{kind}` is not listed:\n{kinds}");
    }
    let config = |max: u32| serde_json::json!({"folder": spool.path(), "max": max}).to_string();
    let (told, status) = installation.ask(&["check", "queue_depth", "--config", &config(3)]);
    assert_eq!(status, Some(0), "{told}");
    let (told, status) = installation.ask(&["check", "queue_depth", "--config", &config(2)]);
    assert_eq!(status, Some(2), "{told}");
    assert!(told.contains("3 files wait in "), "{told}");

    assert_eq!(installation.ask(&["migrate"]).1, Some(0));
    let serve = installation.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _node = Node(serve);
    installation.sql(&format!(
        "INSERT INTO monitors (name, kind, schedule, config) VALUES ('Spool', 'queue_depth', '0 0 1 1 *', '{}')",
        config(2)
    ));
    let run = installation.first_run("Spool");
    assert_eq!((&run["is_ok"], &run["state_after"]), (&Value::from(0), &Value::from("alert")), "{run}");
    assert!(run["message"].as_str().unwrap().starts_with("3 files wait in "), "{run}");
}
