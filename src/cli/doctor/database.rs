//! Whether the database can be relied on: its file, its disk, and who serves it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{NFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::super::database_in_use::DatabaseInUse;
use super::super::installation::Installation;
use super::finding::{Finding, Level};
use crate::ports::StoreError;
use crate::store::{DatabaseFinding, FindingLevel};

const ABOUT: &str = "database";
const MEBIBYTE: u64 = 1024 * 1024;
/// A busy installation writes some hundred MiB of history a day.
const FREE_TO_WARN: u64 = 500 * MEBIBYTE;
/// The WAL alone grows to some 16 MiB in a burst.
const FREE_AT_LEAST: u64 = 50 * MEBIBYTE;
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// Bytes 18 and 19 of a SQLite file are 2 where it is in WAL mode: <https://www.sqlite.org/fileformat2.html>
const WAL_MARK: usize = 18;

pub(super) async fn examine(installation: &Installation) -> Vec<Finding> {
    let mut findings = vec![writable(installation).await];
    if let DatabaseInUse::File(path) = &installation.database {
        findings.push(commits(path));
        findings.extend(rights(path));
        findings.push(disk(directory(path)));
    }
    findings.extend(server(installation).await);
    findings.extend(name(installation).await);
    match figures(installation).await {
        Ok(figures) => {
            findings.push(node(&figures));
            findings.extend(outbox(&figures));
        }
        Err(error) => findings.push(Finding::problem(ABOUT, error.to_string(), "see the reason")),
    }
    findings
}

async fn figures(installation: &Installation) -> Result<BTreeMap<String, i64>, StoreError> {
    installation.store.figures(installation.database_time().await?).await
}

/// How the server is set up; nothing for a file.
async fn server(installation: &Installation) -> Vec<Finding> {
    match installation.sql.findings(installation.configuration.node.max_clock_skew).await {
        Ok(findings) => findings.into_iter().map(of_server).collect(),
        Err(error) => vec![Finding::problem(ABOUT, error.to_string(), "see the reason")],
    }
}

fn of_server(finding: DatabaseFinding) -> Finding {
    let level = match finding.level {
        FindingLevel::Ok => Level::Ok,
        FindingLevel::Warning => Level::Warning,
        FindingLevel::Problem => Level::Problem,
    };
    Finding { level, about: "server", text: finding.text, hint: finding.hint }
}

/// Whose database it is.
async fn name(installation: &Installation) -> Option<Finding> {
    let configured = &installation.configuration.installation;
    match installation.sql.other_owner(configured).await {
        Ok(None) => None,
        Ok(Some(found)) => Some(Finding::problem(
            ABOUT,
            format!(
                "it belongs to the installation `{found}`, and the configuration says `{configured}`: no node starts"
            ),
            format!("name another database, or set `installation = \"{found}\"`"),
        )),
        Err(error) => Some(Finding::problem(ABOUT, error.to_string(), "see the reason")),
    }
}

async fn writable(installation: &Installation) -> Finding {
    let shown = installation.configuration.database_url.masked();
    // A write that finds nothing to do: it takes every step of a real one.
    match installation.store.prune_changes(u32::MAX).await {
        Ok(()) => Finding::ok(ABOUT, format!("{shown} can be read and written")),
        Err(error) => Finding::problem(
            ABOUT,
            format!("{shown} cannot be written: {error}"),
            match installation.database {
                DatabaseInUse::File(_) => {
                    "its file and its folder must be writable by this user, and no other program may hold its lock"
                }
                DatabaseInUse::Postgres(_) | DatabaseInUse::MySql(_) => {
                    "this user needs the rights in `docs/databases.md`, and the server must take writes"
                }
            },
        ),
    }
}

fn commits(path: &Path) -> Finding {
    let mut header = [0; WAL_MARK + 2];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) if header[WAL_MARK..] == [2, 2] => {
            Finding::ok(ABOUT, "a commit that was reported is on disk (WAL, synchronous=FULL)")
        }
        Ok(()) => Finding::warning(
            ABOUT,
            "it is not in WAL mode, so readers and writers wait for each other",
            "its file system may not support it; move the database to a local disk",
        ),
        Err(error) => {
            Finding::problem(ABOUT, format!("`{}` cannot be read: {error}", path.display()), "look at its rights")
        }
    }
}

fn rights(path: &Path) -> Option<Finding> {
    let open = [path, directory(path)].into_iter().find(|path| {
        path.metadata().is_ok_and(|metadata| {
            let is_sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
            metadata.mode() & WRITABLE_BY_OTHERS != 0 && !is_sticky
        })
    })?;
    Some(Finding::problem(
        ABOUT,
        format!("everybody on this machine may write to `{}`, and so add monitors", open.display()),
        format!("chmod o-w {}", open.display()),
    ))
}

fn disk(dir: &Path) -> Finding {
    const ABOUT: &str = "disk";
    if statfs(dir).is_ok_and(|system| system.filesystem_type() == NFS_SUPER_MAGIC) {
        return Finding::problem(
            ABOUT,
            "the database lies on NFS, where SQLite's locks and its WAL cannot be relied on",
            "move it to a local disk",
        );
    }
    match statvfs(dir) {
        Ok(disk) => free(disk.blocks_available() * disk.fragment_size(), dir),
        Err(error) => {
            Finding::warning(ABOUT, format!("its free space cannot be found out: {}", error.desc()), "look with df")
        }
    }
}

fn free(bytes: u64, dir: &Path) -> Finding {
    const ABOUT: &str = "disk";
    const HINT: &str = "make room, or lower `history.keep_days`";
    let shown = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let text = format!("{} MiB are free in `{}`", bytes / MEBIBYTE, shown.display());
    if bytes < FREE_AT_LEAST {
        Finding::problem(ABOUT, text, HINT)
    } else if bytes < FREE_TO_WARN {
        Finding::warning(ABOUT, text, HINT)
    } else {
        Finding::ok(ABOUT, text)
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn figure(figures: &BTreeMap<String, i64>, name: &str) -> i64 {
    figures.get(name).copied().unwrap_or_default()
}

fn node(figures: &BTreeMap<String, i64>) -> Finding {
    const HINT: &str = "start `watchbell serve`";
    match (figure(figures, "live_nodes"), figure(figures, "active_monitors")) {
        (0, 0) => Finding::warning("node", "nobody serves this database; it has no active monitors yet", HINT),
        (0, monitors) => Finding::problem(
            "node",
            format!("nobody serves this database: {monitors} active monitors are not run"),
            HINT,
        ),
        (nodes, monitors) => {
            let noun = if monitors == 1 { "monitor" } else { "monitors" };
            Finding::ok("node", format!("{nodes} serving, {monitors} active {noun}"))
        }
    }
}

fn outbox(figures: &BTreeMap<String, i64>) -> Vec<Finding> {
    const ABOUT: &str = "notifications";
    let mut findings = Vec::new();
    let (waiting, in_trouble) = (figure(figures, "notifications_waiting"), figure(figures, "notifications_in_trouble"));
    if in_trouble > 0 {
        findings.push(Finding::problem(
            ABOUT,
            format!("{in_trouble} of {waiting} that wait were tried before and not taken"),
            "`watchbell outbox` tells to whom and why; they are tried again by themselves",
        ));
    }
    let given_up = figure(figures, "notifications_given_up");
    if given_up > 0 {
        findings.push(Finding::problem(
            ABOUT,
            format!("{given_up} were given up: their recipients were not told"),
            "`watchbell outbox --status failed` tells why; once that is mended, `watchbell outbox retry --all` sends them \
             again",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{waiting} waiting, none in trouble")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::finding::Level;
    use super::{MEBIBYTE, free, node, outbox};

    #[test]
    fn little_space_is_told_before_it_is_gone() {
        for (mebibytes, level) in [(10, Level::Problem), (100, Level::Warning), (5_000, Level::Ok)] {
            assert_eq!(free(mebibytes * MEBIBYTE, Path::new("/")).level, level, "{mebibytes}");
        }
    }

    #[test]
    fn monitors_that_nobody_runs_are_a_problem() {
        let figures =
            |nodes, monitors| [("live_nodes".to_owned(), nodes), ("active_monitors".to_owned(), monitors)].into();
        assert_eq!(node(&figures(0, 3)).level, Level::Problem);
        assert_eq!(node(&figures(0, 0)).level, Level::Warning);
        assert_eq!(node(&figures(1, 3)).level, Level::Ok);
    }

    #[test]
    fn what_was_not_taken_is_a_problem_and_what_waits_is_none() {
        let levels = |name: &str| -> Vec<Level> {
            outbox(&[(name.to_owned(), 2)].into()).iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels("notifications_waiting"), [Level::Ok]);
        assert_eq!(levels("notifications_in_trouble"), [Level::Problem]);
        assert_eq!(levels("notifications_given_up"), [Level::Problem]);
    }
}
