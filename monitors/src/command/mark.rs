//! The mark that a program and all its descendants carry in their environment, and the search for who carries it.
//!
//! It finds also those who left the process group with `setsid`. Where there is no `/proc`, it finds nobody.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that holds the mark. It does not begin with `WATCHBELL_`, which would make it a setting of a
/// `watchbell` that a plugin calls.
pub(super) const MARK: &str = "CHECKED_BY_WATCHBELL";

/// How often it is looked for again at most after a kill, for those who were forked meanwhile.
const ROUNDS: u32 = 5;
/// How much of an environment is looked through: the mark is handed over among few others.
const MOST_ENVIRONMENT: u64 = 128 * 1024;

/// A mark that no other run has, also after a restart.
pub(super) fn fresh() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}-{count}", process::id(), since_epoch.as_nanos())
}

/// Kills all who carry the mark, and those whom they fork meanwhile.
pub(super) fn kill_all(mark: &str) {
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS {
        let found = signal_all(mark, Signal::SIGKILL);
        if found.is_subset(&seen) {
            return;
        }
        seen.extend(found);
    }
}

/// Signals all who carry the mark, and says who they are.
pub(super) fn signal_all(mark: &str, signal: Signal) -> BTreeSet<Pid> {
    // Looked at and signalled one by one: the shorter the time between, the less can a number change hands.
    processes().filter(|process| carries(*process, mark) && kill(*process, signal).is_ok()).collect()
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// A process that is dead, or another user's, shows no environment, and so carries nothing.
fn carries(process: Pid, mark: &str) -> bool {
    let mut environment = Vec::new();
    let Ok(file) = File::open(format!("/proc/{process}/environ")) else { return false };
    if file.take(MOST_ENVIRONMENT).read_to_end(&mut environment).is_err() {
        return false;
    }
    let wanted = format!("{MARK}={mark}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::fresh;

    #[test]
    fn marks_differ() {
        assert_eq!((0..100).map(|_| fresh()).collect::<BTreeSet<_>>().len(), 100);
    }
}
