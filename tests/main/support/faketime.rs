//! A wall clock that a test shifts while programs run on it, by libfaketime. Their monotonic clock stays true.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;

/// A wall clock for child processes; several may share it.
pub(crate) struct ShiftedClock {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl ShiftedClock {
    /// One that is right.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let clock = Self { folder, library: library() };
        clock.shift(TimeDelta::zero());
        clock
    }

    /// The environment of a child process that lives by this clock; its own children do too.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            // Each look at the clock reads the file.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Files keep the times that the system gave them.
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// From now on the clock shows the true time plus this.
    pub(crate) fn shift(&self, by: TimeDelta) {
        let seconds = by.as_seconds_f64();
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+.6}\n")).unwrap();
        // In one step: nobody reads half of it.
        std::fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shift")
    }
}

impl Drop for ShiftedClock {
    /// Programs that were killed leave libfaketime's shared memory behind; a later one of the same id stumbles over it.
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|start| name.strip_prefix(start));
            if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Another clock may have been faster.
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// The library for programs with threads.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| Path::is_file(path));
    found.expect("libfaketimeMT.so.1 is missing: run tests/run once, it installs what the tests need")
}
