//! The command line as people and scripts meet it: the binary, on a fresh database in a folder of its own.

mod broken;
mod check;
mod databases;
mod doctor;
mod monitors;
mod next;
mod notify;
mod outbox;
mod receiver;
mod route;
mod why;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with an installation of its own; gone when the test ends.
struct Place {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Place {
    /// An empty folder.
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A folder with a migrated database.
    fn migrated() -> Self {
        let place = Self::empty();
        let ended = place.run(&["migrate"]);
        let steps = "applied step 1 `core`\napplied step 2 `delivery`\napplied step 3 `nodes`\n";
        assert_eq!(
            ended.to_string(),
            format!("{steps}the tables of sqlite://watchbell.db are up to date, at step 3\n[0]")
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[], "")
    }

    /// With these variables and this standard input.
    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Ended {
        let mut child = command(self.dir.path(), arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input may be gone already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        Ended {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What a command that must work prints.
    fn out(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.status, ended.err.as_str()), (0, ""), "{arguments:?}: {ended}");
        ended.out
    }

    /// What a command that must work prints as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.out(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Writes to the database as a person with a client of their own does.
    fn sql(&self, statement: &str) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            use sqlx::Connection as _;
            let url = format!("sqlite://{}", self.path("watchbell.db").display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// A monitor that looks whether the file `name` exists; returns its id.
    fn add_file_monitor(&self, name: &str, more: &[&str]) -> String {
        let config = format!(r#"{{"path": "{}"}}"#, self.path(name).display());
        let arguments = ["add", "--name", name, "--kind", "file", "--schedule", "*/5 * * * *", "--config", &config];
        self.json(&[&arguments[..], more].concat())["id"].to_string()
    }

    fn mails(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("mail")) else { return Vec::new() };
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

/// All that a terminal would show, and the exit status.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}[{}]", self.out, self.err, self.status)
    }
}

/// The binary in `dir`, with an environment that holds nothing of this machine's.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchbell"));
    command.args(arguments).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

#[test]
fn usage_is_told_with_status_2_and_help_with_0() {
    let place = Place::empty();
    assert_eq!(place.run(&["frob"]).status, 2);
    assert_eq!(place.run(&["list", "--frob"]).status, 2);
    assert_eq!(place.run(&["show"]).status, 2);
    let version = place.out(&["--version"]);
    assert_eq!(version, format!("watchbell {}\n", env!("CARGO_PKG_VERSION")));
    let help = place.out(&["--help"]);
    for command in [
        "serve", "migrate", "kinds", "channels", "check", "run", "list", "show", "add", "pause", "resume", "history",
        "next", "doctor", "config", "demo", "why", "notify", "outbox", "route",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert_eq!(place.run(&[command, "--help"]).status, 0, "{command}");
    }
    assert!(!place.path("watchbell.db").exists(), "asking for help makes no database");
}

#[test]
fn a_reader_that_goes_away_early_is_no_failure() {
    let place = Place::empty();
    let mut child =
        command(place.dir.path(), &["kinds", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_configuration_is_shown_with_its_sources_and_without_secrets() {
    let place = Place::empty();
    place.write("other.toml", "default_timezone = \"Europe/Berlin\"\nmail.url = \"smtp://u:hunter2@mx\"\n");
    let arguments = ["config", "--config", "other.toml", "--log-level", "warn"];
    let shown = place.run_with(&arguments, &[("WATCHBELL_LISTEN", "127.0.0.1:1")], "");
    for line in [
        "default_timezone                  other.toml:1      Europe/Berlin",
        "mail.url                          other.toml:2      smtp://u:***@mx",
        "listen                            WATCHBELL_LISTEN  127.0.0.1:1",
        "log.level                         --log-level       warn",
        "admins                            default           []",
    ] {
        assert!(shown.out.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    let before = place.run(&["--config", "other.toml", "config", "--json"]).out;
    let values: Value = serde_json::from_str(&before).unwrap();
    let zone = values.as_array().unwrap().iter().find(|value| value["key"] == "default_timezone").unwrap();
    assert_eq!(
        zone,
        &serde_json::json!({"key": "default_timezone", "value": "Europe/Berlin", "source": "other.toml:1"})
    );
}

#[test]
fn the_log_goes_to_standard_error_as_text_or_json_and_only_when_asked_for() {
    let place = Place::migrated();
    place.add_file_monitor("absent", &["--notify", "ops@example.com"]);
    assert_eq!(place.run(&["run", "absent", "--dry-run"]).err, "", "a command that answers does not log");
    let json = place.run_with(&["run", "absent", "--log-level", "info"], &[("WATCHBELL_LOG__FORMAT", "json")], "");
    let lines: Vec<Value> = json.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "a notification was sent"), "{json}");
    place.write("absent", "x");
    place.out(&["run", "absent"]);
    let text = place.run(&["run", "absent", "--log-level", "info"]);
    assert!(text.err.contains("a notification was sent") && !text.err.contains('\u{1b}'), "{text}");
}

#[test]
fn every_example_of_every_kind_can_be_pasted() {
    let place = Place::migrated();
    let kinds = place.json(&["kinds"]);
    let kinds = kinds.as_array().unwrap();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let mut examples = 0;
    for kind in kinds {
        let name = kind["kind"].as_str().unwrap();
        let text = place.out(&["kinds", name]);
        assert!(text.starts_with(&format!("{name}: {}", kind["checks"].as_str().unwrap())), "{text}");
        for example in kind["examples"].as_array().unwrap() {
            let insert = example["insert"].as_str().unwrap();
            assert!(text.contains(insert), "{insert}");
            place.sql(insert);
            examples += 1;
        }
    }
    let monitors = place.json(&["list"]);
    assert_eq!(monitors.as_array().unwrap().len(), examples);
    assert!(place.out(&["kinds"]).contains("\ntcp "));
    let shown = place.run_with(&["kinds", "tcp"], &[("WATCHBELL_DATABASE_URL", "mysql://h/d")], "").out;
    assert!(shown.contains(r#""PING\\r\\n""#), "the backslash is doubled for MySQL: {shown}");
}

#[test]
fn every_example_of_every_channel_can_be_pasted() {
    let place = Place::migrated();
    let types = place.json(&["channels"]);
    let types = types.as_array().unwrap();
    assert!(types.len() >= 11, "{types:?}");
    for of in types {
        let name = of["type"].as_str().unwrap();
        let text = place.out(&["channels", name]);
        assert!(text.starts_with(&format!("{name}: {}", of["delivers"].as_str().unwrap())), "{text}");
        for option in of["options"].as_array().unwrap() {
            assert!(text.contains(&format!("\n  {} (", option["name"].as_str().unwrap())), "{option}: {text}");
        }
        for example in of["examples"].as_array().unwrap() {
            let insert = example["insert"].as_str().unwrap();
            assert!(text.contains(insert), "{insert}: {text}");
            place.sql(&format!("DELETE FROM channels; {insert}"));
            assert!(insert.contains(example["url"].as_str().unwrap()), "{insert}");
        }
    }
    assert!(place.out(&["channels"]).contains("\nmatrix "));
    assert!(place.out(&["channels", "rediss"]).starts_with("redis: "), "by its other name");
    let shown = place.run(&["channels", "matrx"]);
    assert_eq!((shown.status, shown.err.contains("did you mean `matrix`?")), (2, true), "{shown}");
}
