//! Finding the files that a path or pattern names, and what is in the newest of them.
//!
//! The `glob` crate matches names here, but does not walk: its walk takes what it may not look at for "no match",
//! which would make `exists: false` say something false, reads directories of any size into memory, and panics on
//! names that are not UTF-8.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use glob::{MatchOptions, Pattern};

use crate::blocking::Stop;

/// Directory entries looked at in one check: some seconds of work on a slow disk.
pub(crate) const MAX_ENTRIES: usize = 100_000;

/// Components of a path: far more than people write, and few enough for the stack.
const MAX_PARTS: usize = 128;

/// Directories that `**` goes down: deeper trees are unusual, and the stack is finite.
const MAX_DEPTH: usize = 64;

/// Things reported by name; more are counted.
const MAX_NAMED: usize = 3;

/// As in a shell: a leading dot must be written.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Where to look: an absolute path, or a pattern.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Name(String),
    Wild(Pattern),
    /// `**`: this directory and all below it.
    Below,
}

/// One regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileReading {
    pub(crate) path: PathBuf,
    /// When its content was last changed; `None` where that is no date of our calendar.
    pub(crate) modified: Option<DateTime<Utc>>,
    pub(crate) bytes: u64,
}

/// What was found. Files are counted, only the newest and the oldest are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) count: u64,
    pub(crate) newest: Option<FileReading>,
    pub(crate) oldest: Option<FileReading>,
    /// What is there but is no file: directories, pipes, dangling symlinks; each as a sentence.
    pub(crate) no_files: Named,
    /// What could not be looked at, so that the answer is not known.
    pub(crate) troubles: Named,
}

/// Sentences, of which the first few are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    sentences: Vec<String>,
    count: usize,
}

impl Named {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, sentence: String) {
        self.count += 1;
        if self.sentences.len() < MAX_NAMED {
            self.sentences.push(sentence);
        }
    }

    pub(crate) fn text(&self) -> String {
        let named = self.sentences.join("; ");
        match self.count - self.sentences.len() {
            0 => named,
            more => format!("{named}; and {more} more"),
        }
    }
}

impl Place {
    /// Reads an absolute path, which is a pattern if it holds `*`, `?` or `[`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            // A node's working directory is not the author's: `exists: false` would hold for ever, falsely.
            return Err(format!("expected an absolute path, found `{path}`"));
        }
        if path.contains('\0') {
            return Err("a path cannot hold a NUL character".into());
        }
        let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
        let mut parts = names.map(Part::parse).collect::<Result<Vec<_>, _>>()?;
        match parts.iter().filter(|part| matches!(part, Part::Below)).count() {
            0 => {}
            1 if matches!(parts.last(), Some(Part::Below)) => parts.push(Part::parse("*")?),
            1 => {}
            _ => return Err(format!("`{path}` holds `**` more than once")),
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("it has {} components, at most {MAX_PARTS} are allowed", parts.len()));
        }
        Ok(Self { parts })
    }

    pub(crate) fn is_pattern(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Name(_)))
    }

    /// Looks. Blocks, but not on pipes and devices: nothing is opened except directories.
    pub(crate) fn search(&self, stop: &Stop) -> Found {
        self.search_within(MAX_ENTRIES, stop)
    }

    fn search_within(&self, max_entries: usize, stop: &Stop) -> Found {
        let mut walk = Walk { found: Found::default(), entries: 0, max_entries, stop };
        walk.go(Path::new("/"), &self.parts, 0);
        walk.found
    }

    /// The first directory on the way that does not exist, for a message when nothing was found. Blocks.
    pub(crate) fn missing_directory(&self) -> Option<PathBuf> {
        let mut directory = PathBuf::from("/");
        let (_last, above) = self.parts.split_last()?;
        for part in above {
            let Part::Name(name) = part else { return None };
            directory.push(name);
            match fs::metadata(&directory) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Some(directory),
                Err(_) => return None,
            }
        }
        None
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self, String> {
        match name {
            "**" => Ok(Part::Below),
            _ if !name.contains(['*', '?', '[']) => Ok(Part::Name(name.to_owned())),
            _ => Pattern::new(name).map(Part::Wild).map_err(|error| format!("`{name}` is no pattern: {}", error.msg)),
        }
    }
}

struct Walk<'s> {
    found: Found,
    entries: usize,
    max_entries: usize,
    stop: &'s Stop,
}

impl Walk<'_> {
    fn go(&mut self, at: &Path, parts: &[Part], depth: usize) {
        match parts {
            [] => self.meet(at),
            [Part::Name(name), rest @ ..] => self.go(&at.join(name), rest, depth),
            [Part::Wild(pattern), rest @ ..] => self.each_entry(at, |walk, entry| {
                if !pattern.matches_with(&entry.file_name().to_string_lossy(), MATCHING) {
                    return;
                }
                // A file in the middle of a pattern leads nowhere, and that is no trouble.
                let leads_on =
                    rest.is_empty() || entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink());
                if leads_on {
                    walk.go(&entry.path(), rest, depth);
                }
            }),
            [Part::Below, rest @ ..] => {
                self.go(at, rest, depth);
                if depth >= MAX_DEPTH {
                    let at = at.display();
                    self.trouble(format!(
                        "`{at}` lies more than {MAX_DEPTH} directories deep (hint: narrow the pattern)"
                    ));
                    return;
                }
                // Symlinks are not followed down: they can lead in circles.
                self.each_entry(at, |walk, entry| {
                    let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                    if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        walk.go(&entry.path(), parts, depth + 1);
                    }
                });
            }
        }
    }

    fn each_entry(&mut self, directory: &Path, mut act: impl FnMut(&mut Self, &fs::DirEntry)) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return,
            Err(error) => return self.cannot_look("directory ", directory, &error),
        };
        for entry in entries {
            if self.stop.is_set() || self.entries > self.max_entries {
                return;
            }
            self.entries += 1;
            if self.entries > self.max_entries {
                let text =
                    format!("more than {} directory entries to look at (hint: narrow the pattern)", self.max_entries);
                return self.trouble(text);
            }
            match entry {
                Ok(entry) => act(self, &entry),
                Err(error) => return self.cannot_look("directory ", directory, &error),
            }
        }
    }

    fn meet(&mut self, path: &Path) {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            // Not there, or vanished between the reading of its directory and now, which is the same.
            Err(error) if is_absence(&error) => return,
            Err(error) => return self.cannot_look("", path, &error),
        };
        if !metadata.is_symlink() {
            return self.count(path, &metadata);
        }
        match fs::metadata(path) {
            Ok(metadata) => self.count(path, &metadata),
            Err(error) if is_absence(&error) => {
                let target =
                    fs::read_link(path).map_or_else(|_| "something".into(), |to| format!("`{}`", to.display()));
                let text = format!("`{}` is a symlink to {target}, which does not exist", path.display());
                self.found.no_files.add(text);
            }
            Err(error) => self.cannot_look("", path, &error),
        }
    }

    fn count(&mut self, path: &Path, metadata: &Metadata) {
        if !metadata.is_file() {
            let sentence = format!("`{}` is {}, not a regular file", path.display(), kind_of(metadata));
            return self.found.no_files.add(sentence);
        }
        // Not by way of `SystemTime`, from which a date outside chrono's calendar panics.
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
        let modified = DateTime::from_timestamp(metadata.mtime(), nanoseconds);
        let reading = FileReading { path: path.to_owned(), modified, bytes: metadata.len() };
        let found = &mut self.found;
        found.count += 1;
        if found
            .newest
            .as_ref()
            .is_none_or(|newest| (newest.modified, &newest.path) < (reading.modified, &reading.path))
        {
            found.newest = Some(reading.clone());
        }
        if found
            .oldest
            .as_ref()
            .is_none_or(|oldest| (reading.modified, &reading.path) < (oldest.modified, &oldest.path))
        {
            found.oldest = Some(reading);
        }
    }

    fn cannot_look(&mut self, what: &str, path: &Path, error: &io::Error) {
        self.trouble(format!("cannot look at {what}`{}`: {}", path.display(), reason(error)));
    }

    fn trouble(&mut self, sentence: String) {
        self.found.troubles.add(sentence);
    }
}

/// A component that is a file where a directory was expected means, too, that the path does not exist.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// An I/O error for people, with a hint where there is one.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "permission denied (hint: the user that runs this node, id {}, needs `r` on the file and `x` on each directory \
             above it, and `r` on directories that a pattern looks into)",
            nix::unistd::geteuid()
        ),
        _ => error.to_string().to_lowercase(),
    }
}

/// What something is that is no regular file, with its article.
pub(crate) fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something special",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Found, MAX_ENTRIES, MAX_PARTS, Place};
    use crate::blocking::Stop;

    /// A tree of empty files.
    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn found(dir: &Path, pattern: &str) -> Found {
        found_within(dir, pattern, MAX_ENTRIES)
    }

    fn found_within(dir: &Path, pattern: &str, max_entries: usize) -> Found {
        let place = Place::parse(&format!("{}/{pattern}", dir.display())).unwrap();
        place.search_within(max_entries, &Stop::default())
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        let dir = tree(&["a.log", "b.log", "c.txt", ".d.log", "x/a.log", "x/y/a.log", "x/.h/a.log", "[z].log"]);
        for (pattern, count) in [
            ("a.log", 1),
            ("*.log", 3),
            ("?.log", 2),
            ("[ab].log", 2),
            ("[!a].log", 1),
            ("[[]z].log", 1),
            (".*.log", 1),
            ("*/a.log", 1),
            ("*/*/a.log", 1),
            ("x/y/*", 1),
            ("./x//y/../a.log", 1),
            ("**/a.log", 3),
            ("x/**/a.log", 2),
            ("**", 6),
            ("*.LOG", 0),
            ("a.log/*", 0),
            ("*/*.nothing", 0),
        ] {
            let found = found(dir.path(), pattern);
            assert_eq!(found.count, count, "{pattern}");
            assert!(found.troubles.is_empty(), "{pattern}: {}", found.troubles.text());
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_found() {
        let dir = tree(&[]);
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff.log")), "").unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b".\xff.log")), "").unwrap();
        assert_eq!(found(dir.path(), "*.log").count, 1);
    }

    #[test]
    fn circles_of_symlinks_end() {
        let dir = tree(&["x/a.log"]);
        symlink("..", dir.path().join("x/up")).unwrap();
        assert_eq!(found(dir.path(), "**/a.log").count, 1);
        assert_eq!(found(dir.path(), "x/*/x/a.log").count, 1, "one that is asked for is followed");
    }

    #[test]
    fn the_work_is_bounded_and_says_so() {
        let dir = tree(&["a", "b", "c", "x/d"]);
        assert!(found_within(dir.path(), "*", 4).troubles.is_empty());
        let found = found_within(dir.path(), "*", 3);
        assert_eq!(found.troubles.text(), "more than 3 directory entries to look at (hint: narrow the pattern)");
        assert!(found_within(dir.path(), "**/d", 3).troubles.text().contains("more than 3 directory entries"));

        let deep = "d/".repeat(super::MAX_DEPTH + 1);
        let dir = tree(&[&format!("{deep}a")]);
        let found = super::Place::parse(&format!("{}/**/a", dir.path().display())).unwrap().search(&Stop::default());
        assert!(found.troubles.text().contains("lies more than 64 directories deep"), "{}", found.troubles.text());
        assert!(Place::parse(&"/a".repeat(MAX_PARTS)).is_ok());
        assert!(Place::parse(&"/a".repeat(MAX_PARTS + 1)).is_err());
    }

    #[test]
    fn newest_and_oldest_are_told_apart_and_strange_dates_are_survived() {
        let dir = tree(&["a", "b", "c"]);
        let date = |name: &str, seconds: u64| {
            let file = fs::File::options().append(true).open(dir.path().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
        };
        date("a", 2_000).unwrap();
        date("b", 3_000).unwrap();
        date("c", 1_000).unwrap();
        let found_all = found(dir.path(), "*");
        assert!(found_all.newest.unwrap().path.ends_with("b"));
        assert!(found_all.oldest.unwrap().path.ends_with("c"));
        // Some file systems refuse or clamp such a date, others keep it.
        drop(date("a", 1 << 53));
        assert_eq!(found(dir.path(), "*").count, 3);
    }
}
