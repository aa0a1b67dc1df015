//! The kind `host`: load, memory, swap, disks and processes of the machine on which the node runs, against thresholds.
//!
//! It only reads. What cannot be read is a failure, never taken for zero. A disk that does not answer is a breach of its
//! own and keeps the rest of the check from nothing: each disk is looked at apart from the others.

mod reading;
mod threshold;
mod verdict;

use std::time::Duration;

use tokio::task::JoinSet;
use watchbell_contract::{
    Check, CheckContext, ConfigFaults, ConfigReader, Example, Manifest, Monitor, Outcome, Parameter, async_trait,
};

use crate::blocking::{look, share_of};
use reading::{Disk, Machine, Needs, ProcessQuery};
use threshold::{Bound, Threshold};
use verdict::{Criteria, DiskCriteria, ProcessCriteria, Readings, judge};

/// Disks of one row: each takes a thread while it is looked at.
const MAX_DISKS: usize = 32;

/// Process names of one row: each is compared with every process.
const MAX_PROCESSES: usize = 64;

const THRESHOLD: &str = "number, or object of `warning` and `critical`";

static MANIFEST: Manifest = Manifest {
    kind: "host",
    checks: "Load, memory, swap, disk space and inodes, and running processes of the machine on which the node runs.",
    parameters: &[
        Parameter::optional(
            "max_load_per_core",
            THRESHOLD,
            "no limit",
            "load of the last 5 minutes divided by the number of processor cores, for example 2",
        ),
        Parameter::optional("max_load1", THRESHOLD, "no limit", "load of the last minute"),
        Parameter::optional("max_load5", THRESHOLD, "no limit", "load of the last 5 minutes"),
        Parameter::optional("max_load15", THRESHOLD, "no limit", "load of the last 15 minutes"),
        Parameter::optional(
            "max_memory_percent",
            THRESHOLD,
            "no limit",
            "memory that programs could not get any more; caches that can be freed do not count as used",
        ),
        Parameter::optional("max_swap_percent", THRESHOLD, "no limit", "used swap; 0 where there is no swap"),
        Parameter::optional("disks", "list of objects", "none", "the disks to look at, at most 32"),
        Parameter::required(
            "disks[].path",
            "text",
            "where the disk is mounted; a path at which nothing is mounted is a failure, so that a disk that is not mounted \
             is not mistaken for the one below it",
        ),
        Parameter::optional("disks[].max_used_percent", THRESHOLD, "no limit", "used space, as `df` shows it"),
        Parameter::optional(
            "disks[].min_free_gib",
            THRESHOLD,
            "no limit",
            "space that is left for users who are not root, in GiB",
        ),
        Parameter::optional(
            "disks[].max_inodes_used_percent",
            THRESHOLD,
            "no limit",
            "used inodes; always ok on file systems without a fixed number of them",
        ),
        Parameter::optional("processes", "list of objects", "none", "the processes to count, at most 64 kinds of them"),
        Parameter::required(
            "processes[].name",
            "text",
            "the exact name as in `ps -C`, or the file name of the program in the command line",
        ),
        Parameter::optional("processes[].min", "whole number", "1", "how many must run at least"),
        Parameter::optional("processes[].max", "whole number", "no limit", "how many may run at most; 0: none may"),
        Parameter::optional(
            "processes[].matches",
            "text",
            "any",
            "a regular expression that must match somewhere in the command line, for scripts: name `python3`, matches \
             `/worker\\.py`",
        ),
    ],
    verdicts: "A threshold is a number, for example `90`, or `{\"warning\": 80, \"critical\": 90}` with one or both levels; \
               the number itself is still ok. Ok when no threshold is breached, with a summary. Failed otherwise, with all \
               breaches in the message. The worst breach gives the severity: `critical`, then the row's own for a threshold \
               that is a number, for processes and for what cannot be read, then `warning`. Metrics: `load1`, `load5`, `load15`, \
               `load_per_core`, `memory_used_percent`, `swap_used_percent`, `disk_used_percent:/path`, `disk_free_gib:/path`, \
               `disk_inodes_used_percent:/path`, `processes:name`; those of what was asked for.",
    examples: &[
        Example {
            name: "The server has room",
            schedule: "*/5 * * * *",
            config: r#"{"max_load_per_core": 4, "max_memory_percent": {"warning": 85, "critical": 95}, "disks": [{"path": "/", "max_used_percent": {"warning": 80, "critical": 92}, "max_inodes_used_percent": 90}]}"#,
        },
        Example {
            name: "The web server runs",
            schedule: "* * * * *",
            config: r#"{"processes": [{"name": "nginx", "min": 2}, {"name": "python3", "matches": "/worker\\.py", "max": 8}]}"#,
        },
    ],
    limits: "It sees the machine on which the node runs (`runs_on` says which), as the user that runs it: in a container load \
             and memory are those of the whole machine, and where `/proc` is mounted with `hidepid` only the own processes are \
             seen. Processes that have ended but were not yet waited for do not count. A disk that does not answer is \
             reported as such shortly before the timeout.",
    looks_at_this_machine: true,
};

/// The kind `host`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

struct HostCheck(Criteria);

impl Monitor for Host {
    fn manifest(&self) -> &Manifest {
        &MANIFEST
    }

    fn prepare(&self, mut config: ConfigReader<'_>) -> Result<Box<dyn Check>, ConfigFaults> {
        let criteria = criteria(&mut config);
        refuse_nothing(&mut config);
        config.finish(HostCheck(criteria))
    }
}

#[async_trait]
impl Check for HostCheck {
    async fn check(&self, context: &CheckContext) -> anyhow::Result<Outcome> {
        let limit = share_of(context.timeout);
        let (machine, disks) = tokio::join!(machine(&self.0, limit), disks(&self.0.disks, limit));
        Ok(judge(&self.0, &Readings { machine, disks }))
    }
}

async fn machine(criteria: &Criteria, limit: Duration) -> Result<Machine, String> {
    let needs = needs(criteria);
    if needs.is_empty() {
        return Ok(Machine::default());
    }
    match look("/proc", limit, move |_stop| reading::machine(&needs)).await {
        Ok(machine) => machine,
        Err(error) => Err(error.to_string()),
    }
}

fn needs(criteria: &Criteria) -> Needs {
    let loads = [&criteria.load_per_core, &criteria.load1, &criteria.load5, &criteria.load15];
    Needs {
        load: loads.into_iter().any(Option::is_some),
        memory: criteria.memory_percent.is_some(),
        swap: criteria.swap_percent.is_some(),
        processes: criteria.processes.iter().map(|process| process.query.clone()).collect(),
    }
}

/// All disks at the same time, so that each has the whole limit.
async fn disks(criteria: &[DiskCriteria], limit: Duration) -> Vec<Result<Disk, String>> {
    let mut looks = JoinSet::new();
    for (index, criteria) in criteria.iter().enumerate() {
        let path = criteria.path.clone();
        looks.spawn(async move {
            let looked = look(&path.clone(), limit, move |_stop| reading::disk(&path)).await;
            (index, looked.unwrap_or_else(|error| Err(format!("disk {error}"))))
        });
    }
    let mut disks = looks.join_all().await;
    disks.sort_by_key(|(index, _)| *index);
    disks.into_iter().map(|(_, disk)| disk).collect()
}

fn criteria(config: &mut ConfigReader<'_>) -> Criteria {
    let mut most = |name, greatest| Threshold::read(config, name, Bound::AtMost, greatest);
    Criteria {
        load_per_core: most("max_load_per_core", f64::MAX),
        load1: most("max_load1", f64::MAX),
        load5: most("max_load5", f64::MAX),
        load15: most("max_load15", f64::MAX),
        memory_percent: most("max_memory_percent", 100.0),
        swap_percent: most("max_swap_percent", 100.0),
        disks: at_most(config, "disks", MAX_DISKS, disk),
        processes: at_most(config, "processes", MAX_PROCESSES, process),
    }
}

fn disk(config: &mut ConfigReader<'_>) -> DiskCriteria {
    let criteria = DiskCriteria {
        path: config.required_text("path"),
        used_percent: Threshold::read(config, "max_used_percent", Bound::AtMost, 100.0),
        free_gib: Threshold::read(config, "min_free_gib", Bound::AtLeast, f64::MAX),
        inodes_percent: Threshold::read(config, "max_inodes_used_percent", Bound::AtMost, 100.0),
    };
    if !criteria.path.is_empty() && !criteria.path.starts_with('/') {
        let problem = format!("expected an absolute path, found `{}`", criteria.path);
        config.fault("path", problem, Some("write where it is mounted, for example \"/var\"".into()));
    }
    let limits = ["max_used_percent", "min_free_gib", "max_inodes_used_percent"];
    if !limits.iter().any(|name| config.has(name)) {
        let hint = format!("give at least one of {}", limits.join(", "));
        config.fault("*", "nothing is asked of this disk", Some(hint));
    }
    criteria
}

fn process(config: &mut ConfigReader<'_>) -> ProcessCriteria {
    let max = config.whole_number("max", 0..=i64::MAX).and_then(|max| u64::try_from(max).ok());
    let min = config.whole_number("min", 0..=i64::MAX).and_then(|min| u64::try_from(min).ok());
    // "At most 0" alone means that none may run.
    let min = min.unwrap_or(max.unwrap_or(1).min(1));
    if let Some(max) = max.filter(|max| min > *max) {
        config.fault("min", format!("{min} is more than `max`, {max}: nothing could be ok"), None);
    }
    if (min, max) == (0, None) {
        config.fault(
            "min",
            "0 without a `max`: nothing could ever fail",
            Some("leave `min` out for at least 1".into()),
        );
    }
    let name = config.required_text("name");
    if name.contains('/') {
        let hint = "write the file name alone, and the path in `matches`";
        config.fault("name", format!("expected a name without `/`, found `{name}`"), Some(hint.into()));
    }
    ProcessCriteria {
        query: ProcessQuery { name, matches: config.parsed("matches", "a regular expression") },
        min,
        max,
    }
}

fn at_most<T>(
    config: &mut ConfigReader<'_>,
    name: &str,
    most: usize,
    read: impl FnMut(&mut ConfigReader<'_>) -> T,
) -> Vec<T> {
    let items = config.objects(name, read);
    if items.len() > most {
        let hint = "spread them over several rows";
        config.fault(name, format!("expected at most {most}, found {}", items.len()), Some(hint.into()));
    }
    items
}

fn refuse_nothing(config: &mut ConfigReader<'_>) {
    let names = MANIFEST.parameters.iter().map(|parameter| parameter.name).filter(|name| !name.contains('.'));
    let names: Vec<_> = names.collect();
    let asks =
        |name: &&str| config.value(name).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()));
    if !names.iter().any(asks) {
        let hint = format!("give at least one of {}", names.join(", "));
        config.fault("*", "nothing is asked for, so nothing could ever fail", Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use watchbell_contract::{Check, ConfigReader, Monitor, Outcome, Severity, testing};

    use super::{Host, MAX_DISKS, MAX_PROCESSES};

    fn prepared(config: &Value) -> Result<Box<dyn Check>, String> {
        let reader = ConfigReader::without_secrets(Host.manifest(), config.as_object().unwrap());
        Host.prepare(reader).map_err(|faults| faults.to_string())
    }

    async fn outcome(config: Value) -> Outcome {
        prepared(&config).unwrap().check(&testing::context(Duration::from_secs(20))).await.unwrap()
    }

    /// The name of this test program's process, which runs while the test does.
    fn own_name() -> String {
        std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn it_is_a_kind() {
        testing::exercise(&Host).await;
    }

    #[tokio::test]
    async fn generous_limits_are_ok_with_a_summary() {
        let config = json!({
            "max_load_per_core": 1e6, "max_load1": 1e6, "max_load5": 1e6, "max_load15": 1e6,
            "max_memory_percent": 100, "max_swap_percent": 100,
            "disks": [{"path": "/", "max_used_percent": 100, "min_free_gib": 0, "max_inodes_used_percent": 100}],
            "processes": [{"name": own_name()}],
        });
        let outcome = outcome(config).await;
        assert!(outcome.is_ok, "{}", outcome.message);
        for words in ["load ", "cores; memory ", "swap", "disk `/` "] {
            assert!(outcome.message.contains(words), "`{words}` is missing in: {}", outcome.message);
        }
        for metric in ["load1", "load_per_core", "memory_used_percent", "swap_used_percent", "disk_used_percent:/"] {
            assert!(outcome.metrics.contains_key(metric), "{metric}: {:?}", outcome.metrics);
        }
    }

    #[tokio::test]
    async fn impossible_limits_fail_all_at_once() {
        let config = json!({
            "max_memory_percent": {"warning": 0},
            "disks": [{"path": "/no/such/mount", "max_used_percent": 99}, {"path": "/", "min_free_gib": {"critical": 1e9}}],
            "processes": [{"name": "no such process"}, {"name": own_name(), "max": 0}],
        });
        let outcome = outcome(config).await;
        assert_eq!((outcome.is_ok, outcome.severity), (false, Some(Severity::Critical)));
        for words in [
            "disk `/` left: ",
            "disk `/no/such/mount` does not exist",
            "no process `no such process` runs, at least 1 needed",
            "run",
            "memory used: ",
        ] {
            assert!(outcome.message.contains(words), "`{words}` is missing in: {}", outcome.message);
        }
        assert!(outcome.message.starts_with("disk `/` left: "), "{}", outcome.message);
    }

    #[tokio::test]
    async fn only_what_was_asked_for_is_measured() {
        let outcome = outcome(json!({"max_load15": {"critical": 1e6}})).await;
        let names: Vec<_> = outcome.metrics.keys().map(String::as_str).collect();
        assert_eq!(names, ["load1", "load15", "load5", "load_per_core"]);
    }

    #[test]
    fn faults_name_the_place_and_the_way_out() {
        let many = |count, item: Value| Value::Array(vec![item; count]);
        for (config, words) in [
            (json!({}), "config.*: nothing is asked for"),
            (json!({"disks": []}), "config.*: nothing is asked for"),
            (json!({"max_load1": "9"}), "config.max_load1: expected a number, 0 or more, found \"9\""),
            (json!({"max_memory_percent": 101}), "config.max_memory_percent: expected a number, from 0 to 100"),
            (json!({"max_swap_percent": {"warn": 1}}), "`warn` is no level (hint: write {\"max_swap_percent\": 90}"),
            (json!({"disks": [{"path": "/"}]}), "config.disks[0].*: nothing is asked of this disk"),
            (json!({"disks": [{"path": "var", "min_free_gib": 1}]}), "config.disks[0].path: expected an absolute path"),
            (json!({"disks": [{"min_free_gib": 1}]}), "config.disks[0].path: is required"),
            (json!({"processes": [{"name": "a", "min": 2, "max": 1}]}), "config.processes[0].min: 2 is more than"),
            (json!({"processes": [{"name": "a", "min": 0}]}), "0 without a `max`"),
            (json!({"processes": [{"name": "/bin/a"}]}), "expected a name without `/`"),
            (json!({"processes": [{"name": "a", "matches": "("}]}), "config.processes[0].matches: expected a regular"),
            (json!({"disks": many(MAX_DISKS + 1, json!({"path": "/", "min_free_gib": 1}))}), "at most 32, found 33"),
            (json!({"processes": many(MAX_PROCESSES + 1, json!({"name": "a"}))}), "at most 64, found 65"),
        ] {
            let text = prepared(&config).err().unwrap_or_default();
            assert!(text.contains(words), "{config}: {text}");
        }
    }
}
