//! Reading this machine: load, memory, swap, disks and processes, each only if asked for. Everything here blocks.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use regex::Regex;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System,
    ThreadKind, UpdateKind,
};

/// Bytes read of the list of mounts: some ten thousand mounts.
const MAX_MOUNTS_BYTES: u64 = 4 * 1024 * 1024;

/// The kernel's name of a process ends after so many bytes.
const KERNEL_NAME_BYTES: usize = 15;

/// Which readings are needed beside the disks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    pub(crate) load: bool,
    pub(crate) memory: bool,
    pub(crate) swap: bool,
    pub(crate) processes: Vec<ProcessQuery>,
}

/// Which processes to count.
#[derive(Debug, Clone)]
pub(crate) struct ProcessQuery {
    pub(crate) name: String,
    /// Must match the command line, arguments joined by blanks.
    pub(crate) matches: Option<Regex>,
}

/// Processes that wait to run, averaged over 1, 5 and 15 minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) one: f64,
    pub(crate) five: f64,
    pub(crate) fifteen: f64,
    pub(crate) cores: f64,
}

/// Bytes of memory, or of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) used: u64,
}

/// One mounted file system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Disk {
    /// As `df` counts: of what people who are not root can use.
    pub(crate) used_percent: f64,
    pub(crate) free_bytes: u64,
    /// `None`: the file system has no fixed number of inodes.
    pub(crate) inodes_used_percent: Option<f64>,
}

/// What was read beside the disks; `None`: not asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) load: Option<Result<Load, String>>,
    pub(crate) memory: Option<Result<Space, String>>,
    pub(crate) swap: Option<Space>,
    /// How many run, in the order of the queries.
    pub(crate) processes: Option<Result<Vec<u64>, String>>,
}

impl Space {
    /// 0 where there is none at all.
    pub(crate) fn used_percent(self) -> f64 {
        percent(self.used as f64, self.total as f64).unwrap_or(0.0)
    }
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        !self.load && !self.memory && !self.swap && self.processes.is_empty()
    }
}

/// Reads what is needed.
///
/// # Errors
/// That this system is none that can be read, as a sentence.
pub(crate) fn machine(needs: &Needs) -> Result<Machine, String> {
    let mut system = System::new().map_err(|error| format!("this machine cannot be read: {error}"))?;
    let mut machine = Machine::default();
    if needs.load {
        machine.load = Some(load(&mut system));
    }
    if needs.memory || needs.swap {
        let memory = MemoryRefreshKind::nothing();
        let memory = if needs.memory { memory.with_ram() } else { memory };
        system.refresh_memory_specifics(if needs.swap { memory.with_swap() } else { memory });
    }
    if needs.memory {
        machine.memory = Some(memory(&system));
    }
    if needs.swap {
        machine.swap = Some(Space { total: system.total_swap(), used: system.used_swap() });
    }
    if !needs.processes.is_empty() {
        machine.processes = Some(processes(&mut system, &needs.processes));
    }
    Ok(machine)
}

/// Reads the file system that is mounted at `path`. Hangs as long as its server does not answer.
///
/// # Errors
/// Why it cannot be read, or that nothing is mounted there, as a sentence.
pub(crate) fn disk(path: &str) -> Result<Disk, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("disk `{path}` cannot be looked at: {error}");
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("disk `{path}` does not exist (hint: is it mounted? `findmnt` lists what is)"));
        }
        Err(error) => return Err(cannot(&error)),
    };
    let mounts = read_mounts().map_err(|error| cannot(&error))?;
    if !is_mount(&real, &mounts) {
        let above = real.ancestors().find(|above| is_mount(above, &mounts)).unwrap_or(Path::new("/"));
        return Err(format!(
            "disk `{path}`: nothing is mounted there, it is a part of `{}` (hint: mount it, or write `{}` if that is meant)",
            above.display(),
            above.display()
        ));
    }
    let space = statvfs(&real).map_err(|error| cannot(&error))?;
    let (blocks, free, available) =
        (space.blocks() as f64, space.blocks_free() as f64, space.blocks_available() as f64);
    let used = blocks - free;
    let Some(used_percent) = percent(used, used + available) else {
        return Err(format!(
            "disk `{path}` has no space at all: it is no disk (hint: `findmnt {path}` says what it is)"
        ));
    };
    let inodes = space.files() as f64;
    Ok(Disk {
        used_percent,
        free_bytes: (available * space.fragment_size() as f64) as u64,
        inodes_used_percent: percent(inodes - space.files_free() as f64, inodes),
    })
}

fn load(system: &mut System) -> Result<Load, String> {
    let load = System::load_average().map_err(|error| format!("the load cannot be read: {error}"))?;
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    match system.cpus().len() {
        0 => Err("the number of processor cores cannot be read (hint: is `/proc` mounted?)".into()),
        cores => Ok(Load { one: load.one, five: load.five, fifteen: load.fifteen, cores: cores as f64 }),
    }
}

fn memory(system: &System) -> Result<Space, String> {
    match system.total_memory() {
        0 => Err("the memory cannot be read (hint: is `/proc` mounted?)".into()),
        total => Ok(Space { total, used: total.saturating_sub(system.available_memory()) }),
    }
}

fn processes(system: &mut System, queries: &[ProcessQuery]) -> Result<Vec<u64>, String> {
    let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    if system.processes().is_empty() {
        // This program runs, so an empty list means that it cannot be read, not that nothing runs.
        return Err("the processes cannot be read (hint: is `/proc` mounted?)".into());
    }
    let running = || system.processes().values().filter(|process| is_running(process));
    let count = |query: &ProcessQuery| running().filter(|process| query.counts(process)).count() as u64;
    Ok(queries.iter().map(count).collect())
}

/// A zombie has ended; a program's threads are parts of a process, while the kernel's own are processes.
fn is_running(process: &Process) -> bool {
    !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)
        && process.thread_kind() != Some(ThreadKind::Userland)
}

impl ProcessQuery {
    fn counts(&self, process: &Process) -> bool {
        let command: Vec<_> = process.cmd().iter().map(|part| part.to_string_lossy()).collect();
        self.names(&process.name().to_string_lossy(), command.first().map_or("", |first| first))
            && self.matches.as_ref().is_none_or(|pattern| pattern.is_match(&command.join(" ")))
    }

    /// Whether this is the kernel's name of the process, or the file name of the program in its command line: a name
    /// that is too long for the kernel is found there.
    fn names(&self, kernel_name: &str, program: &str) -> bool {
        let file_name = program.rsplit('/').next().unwrap_or(program);
        (kernel_name == self.name && self.name.len() <= KERNEL_NAME_BYTES) || file_name == self.name
    }
}

fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole * 100.0).clamp(0.0, 100.0))
}

/// The kernel's list of mounts; empty on a system that has none in this place.
fn read_mounts() -> std::io::Result<String> {
    let file = match fs::File::open("/proc/self/mountinfo") {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_MOUNTS_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// By the list, which knows bind mounts too, or by another device than that of the directory above.
fn is_mount(path: &Path, mounts: &str) -> bool {
    let Some(parent) = path.parent() else { return true };
    let is_listed = mounts.lines().filter_map(mount_point).any(|point| Path::new(&point) == path);
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    is_listed || matches!((device(path), device(parent)), (Ok(own), Ok(above)) if own != above)
}

/// The fifth field of a line of `mountinfo`, in which blanks and the like are written as `\040`.
fn mount_point(line: &str) -> Option<String> {
    let field = line.split(' ').nth(4)?;
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    Some(plain.iter().fold(field.to_owned(), |text, (written, meant)| text.replace(written, meant)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::sys::wait;
    use regex::Regex;
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};

    use super::{Needs, ProcessQuery, Space, disk, is_mount, is_running, machine, mount_point};
    fn query(name: &str, matches: Option<&str>) -> ProcessQuery {
        ProcessQuery { name: name.into(), matches: matches.map(|pattern| Regex::new(pattern).unwrap()) }
    }

    fn count(query: ProcessQuery) -> u64 {
        let needs = Needs { processes: vec![query], ..Needs::default() };
        machine(&needs).unwrap().processes.unwrap().unwrap()[0]
    }

    /// A child that sleeps until it is dropped, with a command line that no other process has.
    struct Sleeper(std::process::Child, String);

    impl Sleeper {
        /// `thousands` is another one in each test: they run in one process at the same time.
        fn start(thousands: u32) -> Self {
            let seconds = format!("{thousands}000.{}", std::process::id());
            Self(std::process::Command::new("sleep").arg(&seconds).spawn().unwrap(), seconds)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn this_machine_is_read() {
        let needs = Needs { load: true, memory: true, swap: true, processes: Vec::new() };
        let machine = machine(&needs).unwrap();
        let load = machine.load.unwrap().unwrap();
        assert!(load.cores >= 1.0 && load.one >= 0.0);
        let memory = machine.memory.unwrap().unwrap();
        assert!((0.1..100.0).contains(&memory.used_percent()), "{memory:?}");
        let swap = machine.swap.unwrap();
        assert!(swap.used <= swap.total);
    }

    #[test]
    fn only_what_is_needed_is_read() {
        let machine = machine(&Needs { load: true, ..Needs::default() }).unwrap();
        assert!(machine.load.is_some() && machine.memory.is_none() && machine.swap.is_none());
        assert!(machine.processes.is_none());
    }

    #[test]
    fn a_running_process_is_counted_by_name_and_command_line() {
        let sleeper = Sleeper::start(3);
        let own = format!("^sleep {}$", regex::escape(&sleeper.1));
        assert_eq!(count(query("sleep", Some(&own))), 1);
        assert!(count(query("sleep", None)) >= 1);
        assert_eq!(count(query("slee", Some(&own))), 0);
        assert_eq!(count(query("no such process", None)), 0);
    }

    #[test]
    fn a_process_that_has_ended_is_not_running() {
        let mut sleeper = Sleeper::start(4);
        sleeper.0.kill().unwrap();
        let pid = sleeper.0.id();
        // Waiting this way leaves it a zombie.
        let id = wait::Id::Pid(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()));
        wait::waitid(id, wait::WaitPidFlag::WEXITED | wait::WaitPidFlag::WNOWAIT).unwrap();
        let mut system = sysinfo::System::new().unwrap();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
        let zombie = system.process(sysinfo::Pid::from_u32(pid)).unwrap();
        assert!(!is_running(zombie));
    }

    #[test]
    fn long_names_are_found_in_the_command_line() {
        let long = query("a-name-of-twenty-byte", None);
        assert!(long.names("a-name-of-twent", "/usr/bin/a-name-of-twenty-byte"));
        assert!(!long.names("a-name-of-twent", "/usr/bin/a-name-of-twenty-five"));
        assert!(query("nginx", None).names("nginx", "nginx: master process"));
    }

    #[test]
    fn the_root_disk_is_read() {
        let root = disk("/").unwrap();
        assert!((0.0..=100.0).contains(&root.used_percent), "{root:?}");
    }

    #[test]
    fn what_is_no_mount_is_a_clear_failure() {
        let dir = tempfile::tempdir().unwrap();
        let problem = disk(dir.path().to_str().unwrap()).unwrap_err();
        assert!(problem.contains("nothing is mounted there, it is a part of `/"), "{problem}");
        let problem = disk("/no/such/directory").unwrap_err();
        assert!(problem.contains("does not exist"), "{problem}");
        let problem = disk("/proc").unwrap_err();
        assert!(problem.contains("no space at all"), "{problem}");
    }

    #[test]
    fn mounts_are_listed_with_their_blanks() {
        let line = "36 35 98:0 / /mnt/my\\040disk rw,noatime shared:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).as_deref(), Some("/mnt/my disk"));
        assert!(is_mount(Path::new("/mnt/my disk"), line));
        assert!(is_mount(Path::new("/"), ""));
    }

    #[test]
    fn no_swap_is_none_used() {
        assert_eq!(Space { total: 0, used: 0 }.used_percent(), 0.0);
        assert_eq!(Space { total: 4, used: 1 }.used_percent(), 25.0);
    }
}
