//! The kind `file`: a file, or the files that a pattern names, are there, fresh, of the right size, and hold a text.
//!
//! It reads and never writes. It must not hang on a pipe, a device or a dead mount: only regular files are opened, and
//! everything that may block does so in `blocking`, where it is bounded. What it may not look at is a failure, never
//! taken for "not there".

mod content;
mod search;
mod verdict;

use std::path::PathBuf;

use chrono::Utc;
use regex::bytes::Regex;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

use crate::blocking::{Stop, look, share_of};
use content::Wanted;
use search::{Found, Place};
use verdict::{Clock, Content, Criteria, judge};

static MANIFEST: Manifest = Manifest {
    kind: "file",
    checks: "Whether a file, or the files that a pattern names, exist (or do not), and are as young, as large and as many as \
             they should be, and hold a text.",
    parameters: &[
        Parameter::required(
            "path",
            "text",
            "absolute path; `*`, `?` and `[a-z]` make it a pattern, `**` stands for any directories between (once). As in a \
             shell, a leading dot must be written; `[*]` is a literal `*`. Only regular files, also behind symlinks, match",
        ),
        Parameter::optional(
            "exists",
            "true or false",
            "true",
            "`false`: nothing of that name may be there, not even a directory; goes with no other parameter",
        ),
        Parameter::optional(
            "max_age_minutes",
            "number",
            "no limit",
            "the newest match was changed at most so many minutes before the run's instant",
        ),
        Parameter::optional(
            "min_age_minutes",
            "number",
            "no limit",
            "the newest match was changed at least so many minutes before the run's instant",
        ),
        Parameter::optional(
            "max_oldest_age_minutes",
            "number",
            "no limit",
            "the same for the oldest match: for queues that must drain (with `\"min_count\": 0`)",
        ),
        Parameter::optional("min_bytes", "whole number", "no limit", "least size of the newest match, in bytes"),
        Parameter::optional("max_bytes", "whole number", "no limit", "greatest size of the newest match, in bytes"),
        Parameter::optional("min_count", "whole number", "1", "least number of matches; 0: there may be none"),
        Parameter::optional("max_count", "whole number", "no limit", "greatest number of matches"),
        Parameter::optional("contains", "text", "not looked at", "a text that the newest match must contain"),
        Parameter::optional(
            "matches",
            "text",
            "not looked at",
            "a regular expression that must match somewhere in the newest match; `(?m)` lets `^` and `$` mean lines",
        ),
    ],
    verdicts: "Ok when all that is asked holds. Failed, with the row's severity and everything that does not hold in the \
               message, otherwise; also when something cannot be looked at (permissions, a mount that does not answer), and \
               when an age is asked for and the file is dated more than 5 minutes in the future. Where a pattern has several \
               matches, ages, sizes and contents are those of the newest. Metrics: `count`; of the newest match \
               `age_minutes`, `bytes`.",
    examples: &[
        Example {
            name: "Last night's backup is there",
            schedule: "0 7 * * *",
            config: r#"{"path": "/var/backups/db-*.dump", "max_age_minutes": 1500, "min_bytes": 1000000}"#,
        },
        Example {
            name: "Outgoing orders do not pile up",
            schedule: "*/5 * * * *",
            config: r#"{"path": "/var/spool/orders/*.xml", "min_count": 0, "max_count": 50, "max_oldest_age_minutes": 30}"#,
        },
        Example {
            name: "Nobody left the maintenance page on",
            schedule: "@hourly",
            config: r#"{"path": "/var/www/maintenance.html", "exists": false}"#,
        },
    ],
    limits: "It sees the files of the machine on which the node runs, as the user that runs it. `contains` and `matches` read \
             a whole file up to 1 MiB, and of a larger one the last 1 MiB. A pattern may lead to at most 100,000 directory \
             entries, and `**` 64 directories deep; more is a failure that says so. `**` does not follow symlinks. \
             Directories, pipes, sockets and devices are never opened as files.",
    looks_at_this_machine: true,
};

/// The kind `file`.
#[derive(Debug, Clone, Copy, Default)]
pub struct File;

struct FileCheck {
    place: Place,
    criteria: Criteria,
}

impl Monitor for File {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let path = config.required_text("path");
        let place = place(&mut config, &path);
        let criteria = criteria(&mut config, path);
        refuse_contradictions(&mut config, &criteria, &place);
        config.finish(FileCheck { place, criteria })
    }
}

#[async_trait]
impl Check for FileCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let (place, wanted) = (self.place.clone(), self.criteria.wanted.clone());
        let work = move |stop: &Stop| gather(&place, &wanted, stop);
        let (found, content, missing) = match look(&self.criteria.path, share_of(context.timeout), work).await {
            Ok(gathered) => gathered,
            Err(error) => return Ok(Outcome::failed(error.to_string())),
        };
        let clock = Clock { tick: context.tick, now: Utc::now() };
        Ok(judge(&self.criteria, &found, &content, clock, missing.as_deref()))
    }
}

/// All that blocks or may take long, in one go.
fn gather(place: &Place, wanted: &[Wanted], stop: &Stop) -> (Found, Content, Option<PathBuf>) {
    let found = place.search(stop);
    let is_asked = !wanted.is_empty() && found.troubles.is_empty() && !stop.is_set();
    let newest = found.newest.as_ref().filter(|_| is_asked);
    let content = newest.map(|newest| content::missing(&newest.path, wanted));
    let missing = if found.count == 0 { place.missing_directory() } else { None };
    (found, content, missing)
}

fn place(config: &mut ConfigReader<'_>, path: &str) -> Place {
    match Place::parse(path) {
        Ok(place) => return place,
        // An empty path was named already.
        Err(_) if path.is_empty() => {}
        Err(problem) => {
            let hint =
                "for example \"/var/backups/db-*.dump\"; a literal `*`, `?` or `[` is written `[*]`, `[?]`, `[[]`";
            config.fault("path", problem, Some(hint.into()));
        }
    }
    Place::default()
}

fn criteria(config: &mut ConfigReader<'_>, path: String) -> Criteria {
    let max_count = count(config, "max_count");
    Criteria {
        path,
        must_be_absent: config.flag("exists") == Some(false),
        min_count: count(config, "min_count").unwrap_or(max_count.unwrap_or(1).min(1)),
        max_count,
        min_age: minutes(config, "min_age_minutes"),
        max_age: minutes(config, "max_age_minutes"),
        max_oldest_age: minutes(config, "max_oldest_age_minutes"),
        min_bytes: count(config, "min_bytes"),
        max_bytes: count(config, "max_bytes"),
        wanted: wanted(config),
    }
}

fn wanted(config: &mut ConfigReader<'_>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if let Some(text) = config.text("contains") {
        match Regex::new(&regex::escape(&text)) {
            Ok(pattern) if !text.is_empty() => {
                wanted.push(Wanted { pattern, shown: format!("the text `{}`", short(&text)) })
            }
            Ok(_) => config.fault("contains", "is empty", Some("leave it out to accept any content".into())),
            Err(_) => config.fault("contains", "is too long a text to look for", None),
        }
    }
    if let Some(pattern) = config.parsed::<Regex>("matches", "a regular expression") {
        wanted.push(Wanted { shown: format!("a match of `{}`", short(pattern.as_str())), pattern });
    }
    wanted
}

/// A text for messages: whole, unless it is long.
fn short(text: &str) -> String {
    const LONGEST: usize = 100;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}...", text.chars().take(LONGEST).collect::<String>())
}

fn count(config: &mut ConfigReader<'_>, name: &str) -> Option<u64> {
    config.whole_number(name, 0..=i64::MAX).and_then(|number| u64::try_from(number).ok())
}

fn minutes(config: &mut ConfigReader<'_>, name: &str) -> Option<f64> {
    let minutes = config.number(name)?;
    if minutes < 0.0 {
        config.fault(name, format!("expected minutes, 0 or more, found {minutes}"), None);
        return None;
    }
    Some(minutes)
}

fn refuse_contradictions(config: &mut ConfigReader<'_>, criteria: &Criteria, place: &Place) {
    let others =
        MANIFEST.parameters.iter().map(|parameter| parameter.name).filter(|name| !["path", "exists"].contains(name));
    if criteria.must_be_absent {
        for name in others {
            if config.has(name) {
                let hint = "leave one of them out; `\"min_count\": 0` without `exists` means \"it may be missing\"";
                config.fault(name, "goes not together with `\"exists\": false`", Some(hint.into()));
            }
        }
    }
    let asked = MANIFEST.parameters.iter().filter(|parameter| config.has(parameter.name)).count();
    if !criteria.must_be_absent && criteria.min_count == 0 {
        if config.has("exists") {
            config.fault(
                "exists",
                "goes not together with a number of 0 matches",
                Some("leave one of them out".into()),
            );
        }
        if config.has("min_count") && asked == 2 {
            let hint = "ask for something of the files that may be there, for example `max_oldest_age_minutes`";
            config.fault("min_count", "0 and nothing else: nothing could ever fail", Some(hint.into()));
        }
    }
    let spans = [
        ("min_count", Some(criteria.min_count as f64), criteria.max_count.map(|max| max as f64), "max_count"),
        ("min_bytes", criteria.min_bytes.map(|min| min as f64), criteria.max_bytes.map(|max| max as f64), "max_bytes"),
        ("min_age_minutes", criteria.min_age, criteria.max_age, "max_age_minutes"),
    ];
    for (min_name, min, max, max_name) in spans {
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            config.fault(min_name, format!("{min} is more than `{max_name}`, {max}: nothing could be ok"), None);
        }
    }
    if !place.is_pattern() && criteria.min_count > 1 {
        let hint = "write a pattern, for example \"/var/backups/db-*.dump\"";
        config.fault("min_count", "is more than the one file that `path` names", Some(hint.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use serde_json::{Value, json};
    use tempfile::TempDir;
    use watchbell_contract::{Check, ConfigReader, Monitor, Outcome, testing};

    use super::File;
    use super::content::MAX_READ_BYTES;

    fn prepared(config: &Value) -> Result<Box<dyn Check>, String> {
        let reader = ConfigReader::without_secrets(File.manifest(), config.as_object().unwrap());
        File.prepare(reader).map_err(|faults| faults.to_string())
    }

    async fn outcome(path: impl AsRef<Path>, mut config: Value) -> Outcome {
        config["path"] = json!(path.as_ref().to_str().unwrap());
        let check = prepared(&config).unwrap();
        check.check(&testing::context(Duration::from_secs(20))).await.unwrap()
    }

    #[track_caller]
    fn fails(outcome: &Outcome, words: &str) {
        assert!(!outcome.is_ok && outcome.message.contains(words), "`{words}` is missing in: {}", outcome.message);
    }

    /// Three files: `old.log` of 100 minutes, `new.log` of 10 minutes with "one\ntwo\n", and a hidden one.
    fn three_files() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, minutes_old) in [("old.log", "old", 100), ("new.log", "one\ntwo\n", 10), (".h.log", "", 1)]
        {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            let modified = SystemTime::now() - Duration::from_secs(minutes_old * 60);
            fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
        dir
    }

    #[tokio::test]
    async fn it_is_a_kind() {
        testing::exercise(&File).await;
    }

    #[tokio::test]
    async fn one_file_and_a_pattern_are_measured() {
        let dir = three_files();
        let one = outcome(dir.path().join("old.log"), json!({})).await;
        assert!(one.is_ok && one.message.contains("old.log`: 100 min old, 3 bytes"), "{}", one.message);
        let both =
            outcome(dir.path().join("*.log"), json!({"max_age_minutes": 11, "min_count": 2, "max_count": 2})).await;
        assert!(both.is_ok && both.message.contains("2 files, the newest"), "{}", both.message);
        assert_eq!((both.metrics["count"], both.metrics["bytes"]), (2.0, 8.0));
        assert!((10.0..11.0).contains(&both.metrics["age_minutes"]), "{:?}", both.metrics);
    }

    #[tokio::test]
    async fn each_parameter_can_fail() {
        let dir = three_files();
        for (config, words) in [
            (json!({"max_age_minutes": 9}), "new.log` is 10 min old, at most 9 min allowed"),
            (json!({"min_age_minutes": 60}), "at least 60 min needed"),
            (json!({"max_oldest_age_minutes": 60}), "the oldest, `"),
            (json!({"min_bytes": 9}), "8 bytes, at least 9 needed"),
            (json!({"max_bytes": 7}), "8 bytes, at most 7 allowed"),
            (json!({"min_count": 3}), "2 files match, at least 3 needed"),
            (json!({"max_count": 1}), "2 files match, at most 1 allowed"),
            (json!({"contains": "t.o"}), "does not contain the text `t.o`"),
            (json!({"matches": "^two"}), "does not contain a match of `^two`"),
            (json!({"exists": false}), "must not exist, but 2 files do"),
        ] {
            fails(&outcome(dir.path().join("*.log"), config).await, words);
        }
        let good = json!({"contains": "two", "matches": "(?m)^two$", "min_bytes": 8, "max_bytes": 8});
        assert!(outcome(dir.path().join("*.log"), good).await.is_ok);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_and_can_be_right() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fails(&outcome(&file, json!({})).await, "no such file");
        fails(&outcome(dir.path().join("a/b/*"), json!({})).await, "/a` does not exist");
        assert!(outcome(&file, json!({"exists": false})).await.is_ok);
        assert!(outcome(&file, json!({"min_count": 0, "max_age_minutes": 1})).await.is_ok);
        assert!(outcome(&file, json!({"max_count": 0})).await.is_ok);
    }

    #[tokio::test]
    async fn what_is_no_file_is_named_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fails(&outcome(&pipe, json!({})).await, "pipe` is a named pipe, not a regular file");
        fails(&outcome(&pipe, json!({"contains": "x"})).await, "no such file: `");
        fails(&outcome(dir.path(), json!({})).await, "is a directory, not a regular file");
        fails(&outcome(dir.path(), json!({"exists": false})).await, "something is there");
        fails(&outcome("/dev/zero", json!({"contains": "x"})).await, "is a device");
        let link = dir.path().join("link");
        symlink("nowhere", &link).unwrap();
        fails(&outcome(&link, json!({})).await, "link` is a symlink to `nowhere`, which does not exist");
        fails(&outcome(&link, json!({"exists": false})).await, "a symlink to");
        symlink("loop", dir.path().join("loop")).unwrap();
        fails(&outcome(dir.path().join("loop"), json!({})).await, "cannot look at");
    }

    #[tokio::test]
    async fn a_swapped_in_pipe_and_a_vanished_file_do_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let text = super::content::read_end(&pipe).unwrap_err();
        assert!(text.contains("it is a named pipe"), "{text}");
        let text = super::content::read_end(&dir.path().join("gone")).unwrap_err();
        assert!(text.contains("vanished while it was being looked at"), "{text}");
    }

    #[tokio::test]
    async fn of_a_large_file_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("large");
        let limit = usize::try_from(MAX_READ_BYTES).unwrap();
        let content = [b"early".as_slice(), &vec![b'.'; limit - 4], b"late"].concat();
        fs::write(&file, content).unwrap();
        assert!(outcome(&file, json!({"contains": "late"})).await.is_ok);
        fails(&outcome(&file, json!({"contains": "early"})).await, "in its last 1048576 bytes");
    }

    /// The outcome for a user who is not root, whoever runs the tests: the file system's user id is one of the thread
    /// and of the threads that it starts.
    fn outcome_as_nobody(path: &Path, config: &Value) -> Outcome {
        let ask = || {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(outcome(path, config.clone()))
        };
        std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
    }

    #[test]
    fn permission_denied_is_said_and_is_no_absence() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("x"), "x").unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(dir.path().join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cases =
            [("closed/x", json!({"exists": false})), ("closed/*", json!({})), ("secret", json!({"contains": "x"}))];
        for (name, config) in cases {
            let outcome = outcome_as_nobody(&dir.path().join(name), &config);
            fails(&outcome, "permission denied (hint: the user that runs this node");
            assert!(!outcome.message.contains("no such file"), "{}", outcome.message);
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn contradictions_and_relative_paths_are_faults() {
        for (config, words) in [
            (json!({}), "config.path: is required"),
            (json!({"path": "a"}), "expected an absolute path, found `a`"),
            (json!({"path": "/a/**b"}), "is no pattern"),
            (json!({"path": "/a/**/b/**"}), "more than once"),
            (json!({"path": "/a", "exists": false, "min_bytes": 1}), "config.min_bytes: goes not together"),
            (json!({"path": "/a", "min_bytes": 2, "max_bytes": 1}), "config.min_bytes: 2 is more than `max_bytes`"),
            (json!({"path": "/a", "min_count": 2}), "config.min_count: is more than the one file"),
            (json!({"path": "/a", "exists": true, "max_count": 0}), "config.exists: goes not together"),
            (json!({"path": "/a", "min_count": 0}), "nothing could ever fail"),
            (json!({"path": "/a", "max_age_minutes": -1}), "config.max_age_minutes: expected minutes, 0 or more"),
            (json!({"path": "/a", "matches": "("}), "config.matches: expected a regular expression"),
            (json!({"path": "/a", "contains": ""}), "config.contains: is empty"),
        ] {
            let text = prepared(&config).err().unwrap_or_default();
            assert!(text.contains(words), "{config}: {text}");
        }
        assert_eq!(prepared(&json!({"path": 1})).err().unwrap().matches("config.path").count(), 1);
    }
}
