//! From readings of this machine to an outcome. No I/O.

use watchbell_contract::{Metrics, Outcome};

use super::reading::{Disk, Load, Machine, ProcessQuery, Space};
use super::threshold::{Level, Threshold};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What is asked of this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Criteria {
    pub(crate) load_per_core: Option<Threshold>,
    pub(crate) load1: Option<Threshold>,
    pub(crate) load5: Option<Threshold>,
    pub(crate) load15: Option<Threshold>,
    pub(crate) memory_percent: Option<Threshold>,
    pub(crate) swap_percent: Option<Threshold>,
    pub(crate) disks: Vec<DiskCriteria>,
    pub(crate) processes: Vec<ProcessCriteria>,
}

/// What is asked of one disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskCriteria {
    pub(crate) path: String,
    pub(crate) used_percent: Option<Threshold>,
    pub(crate) free_gib: Option<Threshold>,
    pub(crate) inodes_percent: Option<Threshold>,
}

/// How many of some processes must and may run.
#[derive(Debug, Clone)]
pub(crate) struct ProcessCriteria {
    pub(crate) query: ProcessQuery,
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
}

/// What was read, in the order of the criteria; an error is a sentence.
#[derive(Debug, Clone)]
pub(crate) struct Readings {
    pub(crate) machine: Result<Machine, String>,
    pub(crate) disks: Vec<Result<Disk, String>>,
}

/// The outcome: the worst breach gives the severity, the message lists all of them, worst first.
pub(crate) fn judge(criteria: &Criteria, readings: &Readings) -> Outcome {
    let mut verdict = Verdict::default();
    match &readings.machine {
        Ok(machine) => verdict.machine(criteria, machine),
        Err(problem) => verdict.problem(problem),
    }
    for (criteria, disk) in criteria.disks.iter().zip(&readings.disks) {
        match disk {
            Ok(disk) => verdict.disk(criteria, disk),
            Err(problem) => verdict.problem(problem),
        }
    }
    verdict.outcome()
}

#[derive(Default)]
struct Verdict {
    breaches: Vec<(Level, String)>,
    summary: Vec<String>,
    metrics: Metrics,
}

impl Verdict {
    fn machine(&mut self, criteria: &Criteria, machine: &Machine) {
        match &machine.load {
            Some(Ok(load)) => self.load(criteria, load),
            Some(Err(problem)) => self.problem(problem),
            None => {}
        }
        match &machine.memory {
            Some(Ok(memory)) => {
                let used = self.space("memory", *memory, criteria.memory_percent);
                self.summary.push(format!("memory {used:.1} % used"));
            }
            Some(Err(problem)) => self.problem(problem),
            None => {}
        }
        if let Some(swap) = machine.swap {
            let used = self.space("swap", swap, criteria.swap_percent);
            self.summary.push(if swap.total == 0 { "no swap".into() } else { format!("swap {used:.1} % used") });
        }
        match &machine.processes {
            Some(Ok(counts)) => {
                for (criteria, count) in criteria.processes.iter().zip(counts) {
                    self.processes(criteria, *count);
                }
            }
            Some(Err(problem)) => self.problem(problem),
            None => {}
        }
    }

    fn load(&mut self, criteria: &Criteria, load: &Load) {
        let per_core = load.five / load.cores;
        let cores = load.cores;
        for (metric, value, threshold, what) in [
            ("load1", load.one, criteria.load1, "load of the last minute".to_owned()),
            ("load5", load.five, criteria.load5, "load of the last 5 minutes".to_owned()),
            ("load15", load.fifteen, criteria.load15, "load of the last 15 minutes".to_owned()),
            (
                "load_per_core",
                per_core,
                criteria.load_per_core,
                format!("load per core ({cores} cores, last 5 minutes)"),
            ),
        ] {
            self.metrics.insert(metric.into(), value);
            self.compare(&what, value, "", threshold, "");
        }
        self.summary.push(format!("load {:.2} {:.2} {:.2} on {cores} cores", load.one, load.five, load.fifteen));
    }

    fn space(&mut self, what: &str, space: Space, threshold: Option<Threshold>) -> f64 {
        let used = space.used_percent();
        self.metrics.insert(format!("{what}_used_percent"), used);
        let free = space.total.saturating_sub(space.used) as f64 / GIB;
        let more = format!(" ({free:.2} of {:.2} GiB left)", space.total as f64 / GIB);
        self.compare(&format!("{what} used"), used, " %", threshold, &more);
        used
    }

    fn disk(&mut self, criteria: &DiskCriteria, disk: &Disk) {
        let path = &criteria.path;
        let free = disk.free_bytes as f64 / GIB;
        self.metrics.insert(format!("disk_used_percent:{path}"), disk.used_percent);
        self.metrics.insert(format!("disk_free_gib:{path}"), free);
        let left = format!(" ({free:.2} GiB left)");
        self.compare(&format!("disk `{path}` used"), disk.used_percent, " %", criteria.used_percent, &left);
        self.compare(&format!("disk `{path}` left"), free, " GiB", criteria.free_gib, "");
        let mut summary = format!("disk `{path}` {:.1} % used, {free:.2} GiB left", disk.used_percent);
        match (disk.inodes_used_percent, criteria.inodes_percent) {
            (Some(inodes), threshold) => {
                self.metrics.insert(format!("disk_inodes_used_percent:{path}"), inodes);
                let hint = " (hint: very many small files; `du --inodes` finds them)";
                self.compare(&format!("inodes of disk `{path}` used"), inodes, " %", threshold, hint);
                if threshold.is_some() {
                    summary.push_str(&format!(", {inodes:.1} % of its inodes"));
                }
            }
            (None, Some(_)) => summary.push_str(", inodes without limit"),
            (None, None) => {}
        }
        self.summary.push(summary);
    }

    fn processes(&mut self, criteria: &ProcessCriteria, count: u64) {
        let ProcessQuery { name, matches } = &criteria.query;
        let (metric, of) = match matches {
            None => (format!("processes:{name}"), format!("`{name}`")),
            Some(pattern) => (format!("processes:{name} {pattern}"), format!("`{name}` matching `{pattern}`")),
        };
        self.metrics.insert(metric, count as f64);
        let running = match count {
            0 => format!("no process {of} runs"),
            1 => format!("1 process {of} runs"),
            count => format!("{count} processes {of} run"),
        };
        if count < criteria.min {
            self.breaches.push((Level::AsTheRowSays, format!("{running}, at least {} needed", criteria.min)));
        }
        if let Some(max) = criteria.max.filter(|max| count > *max) {
            self.breaches.push((Level::AsTheRowSays, format!("{running}, at most {max} allowed")));
        }
        self.summary.push(running);
    }

    /// Notes a breach: "what: value unit, at most limit unit".
    fn compare(&mut self, what: &str, value: f64, unit: &str, threshold: Option<Threshold>, more: &str) {
        let Some(threshold) = threshold else { return };
        let Some((level, limit)) = threshold.breached_by(value) else { return };
        let words = threshold.words();
        let severity = level.severity().map(|severity| format!(" for `{severity}`")).unwrap_or_default();
        let value = told_apart(value, limit);
        self.breaches.push((level, format!("{what}: {value}{unit}, {words} {limit}{unit}{severity}{more}")));
    }

    /// What cannot be read may be as bad as can be: as bad as the row says.
    fn problem(&mut self, problem: &str) {
        self.breaches.push((Level::AsTheRowSays, problem.to_owned()));
    }

    fn outcome(mut self) -> Outcome {
        // Stable: within a level the order of the config stays.
        self.breaches.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let mut outcome = match self.breaches.first() {
            None => Outcome::ok(self.summary.join("; ")),
            Some((worst, _)) => {
                let texts: Vec<_> = self.breaches.iter().map(|(_, text)| text.as_str()).collect();
                Outcome { severity: worst.severity(), ..Outcome::failed(texts.join("; ")) }
            }
        };
        outcome.metrics = self.metrics;
        outcome
    }
}

/// A value with as many decimals as it takes to differ from its limit.
fn told_apart(value: f64, limit: f64) -> String {
    let shown = |decimals: usize| format!("{value:.decimals$}");
    (1..6).map(shown).find(|text| text.parse() != Ok(limit)).unwrap_or_else(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use watchbell_contract::{Outcome, Severity};

    use super::{Criteria, Disk, DiskCriteria, Load, Machine, ProcessCriteria, ProcessQuery, Readings, Space, judge};
    use crate::host::threshold::{Bound, Threshold};

    fn most(value: Value) -> Option<Threshold> {
        Some(Threshold::parse(&value, Bound::AtMost, f64::MAX).unwrap())
    }

    fn least(value: Value) -> Option<Threshold> {
        Some(Threshold::parse(&value, Bound::AtLeast, f64::MAX).unwrap())
    }

    const GIB: u64 = 1024 * 1024 * 1024;

    fn readings() -> Readings {
        let machine = Machine {
            load: Some(Ok(Load { one: 8.0, five: 6.0, fifteen: 4.0, cores: 4.0 })),
            memory: Some(Ok(Space { total: 10 * GIB, used: 9 * GIB })),
            swap: Some(Space { total: 4 * GIB, used: GIB }),
            processes: Some(Ok(vec![2])),
        };
        let disk = Disk { used_percent: 91.0, free_bytes: 3 * GIB, inodes_used_percent: Some(50.0) };
        Readings { machine: Ok(machine), disks: vec![Ok(disk)] }
    }

    fn disk() -> DiskCriteria {
        DiskCriteria { path: "/".into(), ..DiskCriteria::default() }
    }

    fn processes(min: u64, max: Option<u64>) -> Vec<ProcessCriteria> {
        vec![ProcessCriteria { query: ProcessQuery { name: "nginx".into(), matches: None }, min, max }]
    }

    fn outcome(criteria: &Criteria) -> Outcome {
        judge(criteria, &readings())
    }

    /// Each threshold: kept at the exact limit, and breached just beyond it.
    #[test]
    fn limits_are_inclusive_and_named() {
        type Build = fn(Value) -> Criteria;
        let cases: [(Build, f64, f64, &str); 9] = [
            (
                |x| Criteria { load1: most(x), ..Criteria::default() },
                8.0,
                7.5,
                "load of the last minute: 8.0, at most 7.5",
            ),
            (|x| Criteria { load5: most(x), ..Criteria::default() }, 6.0, 5.0, "the last 5 minutes: 6.0, at most 5"),
            (|x| Criteria { load15: most(x), ..Criteria::default() }, 4.0, 3.0, "the last 15 minutes: 4.0, at most 3"),
            (
                |x| Criteria { load_per_core: most(x), ..Criteria::default() },
                1.5,
                1.4,
                "(4 cores, last 5 minutes): 1.5, at most",
            ),
            (
                |x| Criteria { memory_percent: most(x), ..Criteria::default() },
                90.0,
                89.0,
                "memory used: 90.0 %, at most 89 % (1.00 of 10.00 GiB left)",
            ),
            (
                |x| Criteria { swap_percent: most(x), ..Criteria::default() },
                25.0,
                20.0,
                "swap used: 25.0 %, at most 20 %",
            ),
            (
                |x| Criteria { disks: vec![DiskCriteria { used_percent: most(x), ..disk() }], ..Criteria::default() },
                91.0,
                90.0,
                "disk `/` used: 91.0 %, at most 90 % (3.00 GiB left)",
            ),
            (
                |x| Criteria { disks: vec![DiskCriteria { free_gib: least(x), ..disk() }], ..Criteria::default() },
                3.0,
                5.0,
                "disk `/` left: 3.0 GiB, at least 5 GiB",
            ),
            (
                |x| Criteria { disks: vec![DiskCriteria { inodes_percent: most(x), ..disk() }], ..Criteria::default() },
                50.0,
                40.0,
                "inodes of disk `/` used: 50.0 %, at most 40 %",
            ),
        ];
        for (build, kept, breached, words) in cases {
            let kept = outcome(&build(json!(kept)));
            assert!(kept.is_ok, "{words}: {}", kept.message);
            let breached = outcome(&build(json!(breached)));
            assert!(!breached.is_ok && breached.message.contains(words), "{words}: {}", breached.message);
            assert_eq!(breached.severity, None);
        }
    }

    #[test]
    fn processes_may_be_too_few_and_too_many() {
        let with = |min, max| outcome(&Criteria { processes: processes(min, max), ..Criteria::default() });
        assert!(with(2, Some(2)).is_ok);
        assert!(with(3, None).message.contains("2 processes `nginx` run, at least 3 needed"));
        assert!(with(0, Some(1)).message.contains("2 processes `nginx` run, at most 1 allowed"));
        assert!(!with(0, Some(0)).is_ok);
        assert_eq!(with(1, None).metrics["processes:nginx"], 2.0);
    }

    #[test]
    fn the_worst_severity_wins_and_comes_first() {
        let mut criteria = Criteria { load1: most(json!({"warning": 5, "critical": 20})), ..Criteria::default() };
        let warning = outcome(&criteria);
        assert_eq!(warning.severity, Some(Severity::Warning));
        assert_eq!(warning.message, "load of the last minute: 8.0, at most 5 for `warning`");

        criteria.swap_percent = most(json!(10));
        let plain = outcome(&criteria);
        assert_eq!(plain.severity, None, "a plain number is as bad as the row says");
        assert!(plain.message.starts_with("swap used") && plain.message.contains("; load of"), "{}", plain.message);

        criteria.memory_percent = most(json!({"critical": 80}));
        let critical = outcome(&criteria);
        assert_eq!(critical.severity, Some(Severity::Critical));
        assert!(
            critical.message.starts_with("memory used: 90.0 %, at most 80 % for `critical`"),
            "{}",
            critical.message
        );
    }

    #[test]
    fn an_ok_is_a_short_summary_with_metrics() {
        let mut readings = readings();
        let criteria = Criteria {
            disks: vec![DiskCriteria { inodes_percent: most(json!(90)), ..disk() }],
            processes: processes(1, None),
            ..Criteria::default()
        };
        let outcome = judge(&criteria, &readings);
        assert_eq!(
            outcome.message,
            "load 8.00 6.00 4.00 on 4 cores; memory 90.0 % used; swap 25.0 % used; 2 processes `nginx` run; \
             disk `/` 91.0 % used, 3.00 GiB left, 50.0 % of its inodes"
        );
        assert_eq!(outcome.metrics["memory_used_percent"], 90.0);
        assert_eq!(outcome.metrics["disk_free_gib:/"], 3.0);
        assert_eq!(outcome.metrics.len(), 10);

        readings.disks = vec![Ok(Disk { used_percent: 1.0, free_bytes: 0, inodes_used_percent: None })];
        let outcome = judge(&criteria, &readings);
        assert!(outcome.is_ok && outcome.message.ends_with("inodes without limit"), "{}", outcome.message);
    }

    #[test]
    fn what_cannot_be_read_is_a_failure_beside_the_others() {
        let readings = Readings { disks: vec![Err("disk `/x` does not exist".into())], ..readings() };
        let criteria = Criteria { disks: vec![disk()], load1: most(json!({"warning": 1})), ..Criteria::default() };
        let outcome = judge(&criteria, &readings);
        assert_eq!(outcome.message, "disk `/x` does not exist; load of the last minute: 8.0, at most 1 for `warning`");
        assert_eq!(outcome.severity, None);
        assert!(!judge(&criteria, &Readings { machine: Err("none".into()), disks: Vec::new() }).is_ok);
        let machine = Machine { memory: Some(Err("the memory cannot be read".into())), ..Machine::default() };
        assert!(!judge(&Criteria::default(), &Readings { machine: Ok(machine), disks: Vec::new() }).is_ok);
    }

    #[test]
    fn a_value_is_told_apart_from_its_limit() {
        assert_eq!(super::told_apart(90.0004, 90.0), "90.0004");
        assert_eq!(super::told_apart(91.26, 90.0), "91.3");
    }
}
