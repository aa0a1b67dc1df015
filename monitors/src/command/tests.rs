//! The kind as a whole, with real programs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use watchbell_contract::{
    ConfigReader, Monitor, Outcome, SecretError, SecretReference, Secrets, Severity, async_trait, testing,
};

use super::{Command, MANIFEST};
use crate::Settings;

/// Where Debian's `monitoring-plugins-basic` puts its programs.
const REAL_PLUGINS: &str = "/usr/lib/nagios/plugins";
/// Long enough for a loaded machine, where nothing is meant to time out.
const PATIENCE: Duration = Duration::from_secs(30);

/// One secret, `${env:PASSWORD}`.
struct OneSecret;

#[async_trait]
impl Secrets for OneSecret {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        match reference.name.as_str() {
            "PASSWORD" => Ok("hunter22".into()),
            _ => Err(SecretError::Unreadable { reference: reference.clone(), reason: "there is none".into() }),
        }
    }
}

/// A plugin directory with one shell script, `check_it`.
struct Plugins {
    dir: TempDir,
}

impl Plugins {
    fn with(script: &str) -> Self {
        let plugins = Self { dir: tempfile::tempdir().unwrap() };
        plugins.add("check_it", &format!("#!/bin/sh\n{script}\n"));
        plugins
    }

    fn add(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    async fn ask(&self, config: Value) -> Outcome {
        self.ask_within(config, PATIENCE).await.unwrap()
    }

    async fn ask_within(&self, config: Value, timeout: Duration) -> anyhow::Result<Outcome> {
        ask(self.dir.path(), &[], config, timeout).await
    }

    /// The ids of the processes that the script wrote down, one file each.
    async fn noted(&self, names: &[&str]) -> Vec<i32> {
        let mut ids = Vec::new();
        for name in names {
            let read = || fs::read_to_string(self.path(name)).ok()?.trim().parse::<i32>().ok();
            eventually(&format!("`{name}` is written"), || read().is_some()).await;
            ids.extend(read());
        }
        ids
    }
}

async fn ask(dir: &Path, allow: &[&str], config: Value, timeout: Duration) -> anyhow::Result<Outcome> {
    let settings = Settings {
        plugin_dirs: vec![dir.to_owned()],
        command_allow: allow.iter().map(ToString::to_string).collect(),
        ..Settings::default()
    };
    let reader = ConfigReader::new(&MANIFEST, config.as_object().unwrap(), Arc::new(OneSecret));
    let check = Command::new(Arc::new(settings)).prepare(reader)?;
    check.check(&testing::context(timeout)).await
}

fn faults(config: Value) -> String {
    let reader = ConfigReader::new(&MANIFEST, config.as_object().unwrap(), Arc::new(OneSecret));
    Command::new(Arc::new(Settings::default())).prepare(reader).err().map(|faults| faults.to_string()).unwrap()
}

/// Waits for what another process does in its own time; fails after [`PATIENCE`].
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process lives; one that is dead and only not yet reaped does not.
fn lives(id: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The living processes of a group.
fn members(group: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        lives(*id) && rest.split_whitespace().nth(2) == Some(&group.to_string())
    })
    .collect()
}

#[tokio::test]
async fn it_is_a_kind() {
    testing::exercise(&Command::new(Arc::new(Settings::default()))).await;
    let settings = Settings { plugin_dirs: vec![REAL_PLUGINS.into()], ..Settings::default() };
    testing::exercise(&Command::new(Arc::new(settings))).await;
}

#[tokio::test]
async fn a_program_gives_its_verdict() {
    let plugins = Plugins::with("echo \"SAID $1 | time=5ms;;;\"; echo \"long text\"; exit \"$1\"");
    for (code, is_ok, severity) in [
        ("0", true, None),
        ("1", false, Some(Severity::Warning)),
        ("2", false, Some(Severity::Critical)),
        ("3", false, None),
    ] {
        let outcome = plugins.ask(json!({"program": "check_it", "args": [code]})).await;
        assert_eq!((outcome.is_ok, outcome.severity), (is_ok, severity), "{code}");
        assert_eq!(outcome.message, format!("SAID {code}\nlong text"));
        assert_eq!(outcome.metrics.get("time_ms"), Some(&5.0));
    }
}

#[tokio::test]
async fn arguments_are_handed_over_as_they_stand() {
    let plugins = Plugins::with("printf '<%s>' \"$@\"");
    let outcome = plugins.ask(json!({"program": "check_it", "args": ["a b", "$HOME", "`id`", "*", "", "'\""]})).await;
    assert_eq!(outcome.message, "<a b><$HOME><`id`><*><><'\">");
}

#[tokio::test]
async fn the_environment_is_clean_and_secrets_do_not_come_back() {
    let plugins = Plugins::with(
        "env | sort | sed 's/^CHECKED_BY_WATCHBELL=[0-9-]*$/MARKED/'; pwd; cat; [ \"$PW\" = 'x-hunter22' ] || exit 2",
    );
    let config = json!({"program": "check_it", "env": {"PW": "x-${env:PASSWORD}", "PLAIN": "plain"}});
    let outcome = plugins.ask(config).await;
    assert!(outcome.is_ok, "{}", outcome.message);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // `PWD` comes from the shell itself.
    assert_eq!(outcome.message, format!("MARKED\nLC_ALL=C\nLC_NUMERIC=C\n{path}\nPLAIN=plain\nPW=x-***\nPWD=/\n/"));
}

#[tokio::test]
async fn standard_input_is_handed_over() {
    let plugins = Plugins::with("read -r line; echo \"got ${#line}: $line\"");
    let outcome = plugins.ask(json!({"program": "check_it", "stdin": "${env:PASSWORD}\n"})).await;
    assert_eq!(outcome.message, "got 8: ***");
    let deaf = Plugins::with("exec <&-; echo fine");
    assert_eq!(deaf.ask(json!({"program": "check_it", "stdin": "x".repeat(1_000_000)})).await.message, "fine");
    let outcome = deaf.ask_within(json!({"program": "check_it", "env": {"A": "${env:NONE}"}}), PATIENCE).await;
    assert!(format!("{:#}", outcome.unwrap_err()).starts_with("config.env.A: the secret `env:NONE` cannot be read"));
}

#[tokio::test]
async fn much_output_is_cut_and_blocks_nobody() {
    let plugins = Plugins::with("head -c 10000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero >&2; exit 1");
    let outcome = plugins.ask(json!({"program": "check_it"})).await;
    assert_eq!(outcome.severity, Some(Severity::Warning));
    assert!(outcome.message.ends_with("(the output was cut at 8 KiB)"), "{}", outcome.message.len());
    assert!(outcome.message.len() < 9_000, "{}", outcome.message.len());
}

#[tokio::test]
async fn endless_output_ends_the_program() {
    let plugins = Plugins::with("echo $$ > \"$1\"; trap '' PIPE; cat /dev/zero; sleep 60");
    let note = plugins.path("leader");
    let started = Instant::now();
    let outcome = plugins.ask(json!({"program": "check_it", "args": [note.to_str()]})).await;
    assert!(started.elapsed() < PATIENCE / 2 && !outcome.is_ok, "{outcome:?}");
    assert!(outcome.message.contains("printed more than 64 MiB"), "{}", outcome.message);
    let leader = plugins.noted(&["leader"]).await[0];
    eventually("the group is gone", || members(leader).is_empty()).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_are_made_safe() {
    let plugins = Plugins::with("printf 'a\\000b\\377c \\033[1m| x=1\\n'");
    let outcome = plugins.ask(json!({"program": "check_it"})).await;
    assert_eq!(outcome.message, "a\u{FFFD}b\u{FFFD}c \u{FFFD}[1m");
    assert_eq!(outcome.metrics.get("x"), Some(&1.0));
}

#[tokio::test]
async fn json_is_read() {
    let plugins = Plugins::with(
        "echo '{\"is_ok\": false, \"message\": \"late\", \"severity\": \"info\", \"metrics\": {\"age_s\": 9}}'",
    );
    let outcome = plugins.ask(json!({"program": "check_it", "output": "json"})).await;
    assert_eq!((outcome.is_ok, outcome.message.as_str(), outcome.severity), (false, "late", Some(Severity::Info)));
    assert_eq!(outcome.metrics.get("age_s"), Some(&9.0));
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let plugins = Plugins::with("kill -SEGV $$");
    let message = |outcome: Outcome| {
        assert!(!outcome.is_ok && outcome.severity.is_none());
        outcome.message
    };
    let text = message(plugins.ask(json!({"program": "check_it"})).await);
    assert!(text.contains("was ended by signal 11 (SIGSEGV)"), "{text}");
    plugins.add("no_shebang", "echo hello\n");
    let text = message(plugins.ask(json!({"program": "no_shebang"})).await);
    assert!(text.contains("Exec format error") && text.contains("#!/bin/sh"), "{text}");
    plugins.add("no_interpreter", "#!/nonexistent/sh\n");
    let text = message(plugins.ask(json!({"program": "no_interpreter"})).await);
    assert!(text.contains("interpreter"), "{text}");
    let error = plugins.ask_within(json!({"program": "chekc_it"}), PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("did you mean `check_it`?"), "{error}");
}

#[tokio::test]
async fn a_program_that_will_not_end_is_ended_in_time_with_all_that_it_started() {
    // The leader, a child in its group and a child that left the group ignore TERM; the pipe is kept full.
    let plugins = Plugins::with(
        "trap '' TERM; cd \"$1\"; echo $$ > leader
         sh -c 'trap \"\" TERM; echo $$ > child; exec sleep 60' &
         setsid sh -c 'trap \"\" TERM; echo $$ > left; exec sleep 60' &
         (setsid sh -c 'trap \"\" TERM; echo $$ > orphan; exec sleep 60' &)
         head -c 10000000 /dev/zero; sleep 60; sleep 60",
    );
    let timeout = Duration::from_secs(3);
    let started = Instant::now();
    let outcome =
        plugins.ask_within(json!({"program": "check_it", "args": [plugins.dir.path()]}), timeout).await.unwrap();
    assert!(started.elapsed() < timeout, "{:?}", started.elapsed());
    assert!(!outcome.is_ok && outcome.severity.is_none());
    assert!(outcome.message.starts_with("timed out after 2."), "{}", outcome.message);
    let ids = plugins.noted(&["leader", "child", "left", "orphan"]).await;
    eventually("all are gone", || !ids.iter().any(|id| lives(*id))).await;
    eventually("the group is gone", || members(ids[0]).is_empty()).await;
}

#[tokio::test]
async fn a_dropped_check_leaves_nothing_behind() {
    let plugins = Plugins::with(
        "trap '' TERM; cd \"$1\"; echo $$ > leader; setsid sh -c 'echo $$ > left; exec sleep 60' &
         sh -c 'echo $$ > child; exec sleep 60' & sleep 60",
    );
    let check = tokio::spawn(ask(
        Box::leak(plugins.dir.path().to_owned().into_boxed_path()),
        &[],
        json!({"program": "check_it", "args": [plugins.dir.path()]}),
        Duration::from_secs(600),
    ));
    let ids = plugins.noted(&["leader", "left", "child"]).await;
    assert!(ids.iter().all(|id| lives(*id)));
    check.abort();
    assert!(check.await.unwrap_err().is_cancelled());
    eventually("all are gone", || !ids.iter().any(|id| lives(*id))).await;
    eventually("the group is gone", || members(ids[0]).is_empty()).await;
}

#[tokio::test]
async fn what_a_program_left_running_in_its_group_neither_holds_it_up_nor_stays() {
    let plugins = Plugins::with(
        "cd \"$1\"; sh -c 'echo $$ > child; exec sleep 60' & while ! [ -s child ]; do :; done; echo done",
    );
    let started = Instant::now();
    let outcome = plugins.ask(json!({"program": "check_it", "args": [plugins.dir.path()]})).await;
    assert_eq!((outcome.is_ok, outcome.message.as_str()), (true, "done"));
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    let ids = plugins.noted(&["child"]).await;
    eventually("it is gone", || !lives(ids[0])).await;
}

#[test]
fn a_config_that_may_not_run_is_refused() {
    for (config, said) in [
        (json!({"program": "/bin/true"}), "named without a slash"),
        (json!({"program": ".."}), "is no program's name"),
        (json!({"program": "negate", "args": ["/bin/sh"]}), "`negate` runs what its arguments name"),
        (json!({"program": "check_by_ssh"}), "command.allow"),
        (json!({"program": "x", "args": ["a\u{0}"]}), "config.args: an argument holds a NUL"),
        (json!({"program": "x", "args": ["${env:PASSWORD}"]}), "a secret reference may not stand here"),
        (json!({"program": "x", "env": {"LD_PRELOAD": "y"}}), "config.env.LD_PRELOAD"),
        (json!({"program": "x", "output": "yaml"}), "config.output"),
        (json!({}), "config.program: is required"),
    ] {
        assert!(faults(config.clone()).contains(said), "{config}: {}", faults(config.clone()));
    }
}

#[tokio::test]
async fn real_plugins_give_their_documented_results() {
    let dir = Path::new(REAL_PLUGINS);
    assert!(dir.join("check_dummy").exists(), "install `monitoring-plugins-basic`: `{REAL_PLUGINS}` is missing");
    let ask = |config| ask(dir, &["negate"], config, PATIENCE);
    for (code, is_ok, message, severity) in [
        ("0", true, "OK: hello", None),
        ("1", false, "WARNING: hello", Some(Severity::Warning)),
        ("2", false, "CRITICAL: hello", Some(Severity::Critical)),
        ("3", false, "UNKNOWN: hello", None),
    ] {
        let outcome = ask(json!({"program": "check_dummy", "args": [code, "hello"]})).await.unwrap();
        assert_eq!((outcome.is_ok, outcome.message.as_str(), outcome.severity), (is_ok, message, severity));
    }
    let load =
        ask(json!({"program": "check_load", "args": ["-w", "9999,9999,9999", "-c", "9999,9999,9999"]})).await.unwrap();
    assert!(load.is_ok && load.message.starts_with("LOAD OK"), "{load:?}");
    assert_eq!(load.metrics.keys().collect::<Vec<_>>(), ["load1", "load15", "load5"]);
    let disk = ask(json!({"program": "check_disk", "args": ["-w", "1", "-c", "1", "-p", "/"]})).await.unwrap();
    assert!(disk.metrics.contains_key("/_bytes"), "{disk:?}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let config = json!({"program": "check_tcp", "args": ["-H", "127.0.0.1", "-p", port]});
    let open = ask(config.clone()).await.unwrap();
    assert!(open.is_ok && open.metrics.contains_key("time_s"), "{open:?}");
    drop(listener);
    let closed = ask(config).await.unwrap();
    assert_eq!(closed.severity, Some(Severity::Critical), "{closed:?}");

    // A link to `check_tcp` that looks at the name by which it was called.
    let linked = ask(json!({"program": "check_ftp", "args": ["--version"]})).await.unwrap();
    assert!(linked.message.starts_with("check_ftp"), "{linked:?}");
    let negated =
        ask(json!({"program": "negate", "args": [format!("{REAL_PLUGINS}/check_dummy"), "2"]})).await.unwrap();
    assert!(negated.is_ok, "{negated:?}");
}
