//! Finds a program in `plugin_dirs`, and distrusts what others may have put there.
//!
//! Everything is looked at anew for each check, because directories change. It blocks its thread: call it where that
//! is allowed. Nothing here is a race that others could win: whoever could change a directory between this look and
//! the start of the program is just whom the look refuses.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::allowed::{self, Refusal};

/// How many links may stand between a name and its file: plugins that share a program need one or two.
const MOST_LINKS: usize = 8;
/// How many names of a directory are looked at for a hint.
const MOST_NAMES: usize = 2_000;
/// How many near names a hint lists, and how like they must be (Jaro-Winkler, 0 to 1).
const MOST_NEAR: usize = 3;
const NEAR: f64 = 0.8;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const EXECUTABLE: u32 = 0o111;

/// The path of the program in the first directory that has it.
///
/// # Errors
/// A [`Refusal`] that says what was looked at, what is wrong with it, and how to mend it.
pub(super) fn program(name: &str, dirs: &[PathBuf], allow: &[String]) -> Result<PathBuf, Refusal> {
    for dir in dirs {
        let Some(root) = real_directory(dir)? else { continue };
        let path = root.join(name);
        match path.symlink_metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&path, &error)),
        }
        trusted_chain(&root)?;
        // A directory that was reached through links is trusted only if the way to it is, too.
        trusted_chain(&std::path::absolute(dir).map_err(|error| unreadable(dir, &error))?)?;
        let names = follow(&path, &root)?;
        allowed::indirection(name, &names.iter().map(String::as_str).collect::<Vec<_>>(), allow)?;
        return Ok(path);
    }
    Err(not_found(name, dirs))
}

/// Why programs of this directory are not run, with a hint; `None` where they are, and where it does not exist.
pub(super) fn distrust(dir: &Path) -> Option<Refusal> {
    let looked = real_directory(dir).and_then(|root| match root {
        Some(root) => {
            trusted_chain(&root)?;
            trusted_chain(&std::path::absolute(dir).map_err(|error| unreadable(dir, &error))?)
        }
        None => Ok(()),
    });
    looked.err()
}

/// The directory with all links resolved; `None` when it does not exist.
fn real_directory(dir: &Path) -> Result<Option<PathBuf>, Refusal> {
    match dir.canonicalize() {
        Ok(root) => Ok(Some(root)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(dir, &error)),
    }
}

/// Nobody else may exchange the directory, nor one above it. A sticky directory above, such as `/tmp`, is fine:
/// others may add to it, but not exchange what is ours.
fn trusted_chain(dir: &Path) -> Result<(), Refusal> {
    for (above, dir) in dir.ancestors().enumerate().filter(|(_, dir)| !dir.as_os_str().is_empty()) {
        let metadata = dir.metadata().map_err(|error| unreadable(dir, &error))?;
        if !(above > 0 && metadata.mode() & STICKY != 0) {
            trusted_mode("directory", dir, &metadata)?;
        }
        trusted_owner("directory", dir, &metadata)?;
    }
    Ok(())
}

/// Follows the links from `path` to its file, hop by hop, and says which names were met. Each hop stays below `root`,
/// through real directories only, so that nothing outside decides what runs.
fn follow(path: &Path, root: &Path) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    let mut at = path.to_owned();
    for _ in 0..=MOST_LINKS {
        names.extend(at.file_name().map(|name| name.to_string_lossy().into_owned()));
        let metadata = at.symlink_metadata().map_err(|error| unreadable(&at, &error))?;
        if !metadata.is_symlink() {
            trusted_file(&at, &metadata)?;
            return Ok(names);
        }
        let target = at.read_link().map_err(|error| unreadable(&at, &error))?;
        let base = at.parent().unwrap_or(root);
        let Some(next) = inside(base, &target, root) else {
            return Err(refusal(
                format!("`{}` is a link that leads out of its directory, to `{}`", at.display(), target.display()),
                "put the program itself into the directory, or add the directory where it lives to `plugin_dirs`",
            ));
        };
        if !next.exists() {
            return Err(refusal(
                format!("`{}` is a link to `{}`, which does not exist", at.display(), next.display()),
                "install that program, or remove the link",
            ));
        }
        for dir in next.ancestors().skip(1).take_while(|dir| *dir != root) {
            let metadata = dir.symlink_metadata().map_err(|error| unreadable(dir, &error))?;
            if !metadata.is_dir() {
                return Err(refusal(
                    format!("`{}` leads through `{}`, which is no real directory", at.display(), dir.display()),
                    "let the link name the program directly",
                ));
            }
            trusted_mode("directory", dir, &metadata)?;
            trusted_owner("directory", dir, &metadata)?;
        }
        at = next;
    }
    Err(refusal(
        format!("`{}` goes through more than {MOST_LINKS} links", path.display()),
        "let it name the program directly",
    ))
}

/// Where a link's target lies, if that is below `root`. `base` and `root` are free of links, so `..` before any name
/// can be taken literally; behind a name it could hide another link, and is refused.
fn inside(base: &Path, target: &Path, root: &Path) -> Option<PathBuf> {
    let mut at = base.to_owned();
    let mut named = false;
    for component in target.components() {
        match component {
            Component::RootDir => at = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir if named || !at.pop() => return None,
            Component::ParentDir => {}
            Component::Normal(name) => {
                named = true;
                at.push(name);
            }
            Component::Prefix(_) => return None,
        }
    }
    (at.starts_with(root) && at != root).then_some(at)
}

fn trusted_file(path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
    if !metadata.is_file() {
        return Err(refusal(
            format!("`{}` is no file that could be run", path.display()),
            "`program` names an executable file",
        ));
    }
    trusted_mode("program", path, metadata)?;
    trusted_owner("program", path, metadata)?;
    if metadata.mode() & EXECUTABLE == 0 {
        return Err(refusal(
            format!("the program `{}` is not executable", path.display()),
            &format!("chmod +x {}", path.display()),
        ));
    }
    Ok(())
}

fn trusted_mode(what: &str, path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
    if metadata.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(refusal(
        format!(
            "the {what} `{}` may be written by others (mode {:03o}), so what lies there is not run",
            path.display(),
            metadata.mode() & 0o7777
        ),
        &format!("chmod go-w {}", path.display()),
    ))
}

fn trusted_owner(what: &str, path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
    let own = nix::unistd::geteuid().as_raw();
    if is_trusted_owner(metadata.uid(), own) {
        return Ok(());
    }
    Err(refusal(
        format!(
            "the {what} `{}` belongs to user {}, neither to root nor to Watchbell's own user {own}, so it is not run",
            path.display(),
            metadata.uid()
        ),
        &format!("chown root {}", path.display()),
    ))
}

/// Root can change everything anyway, and what is ours only we (and root) can change.
fn is_trusted_owner(owner: u32, own: u32) -> bool {
    owner == 0 || owner == own
}

fn not_found(name: &str, dirs: &[PathBuf]) -> Refusal {
    if dirs.is_empty() {
        return refusal(
            format!("there is no directory in which to look for `{name}`"),
            "set `plugin_dirs`, for example `plugin_dirs = [\"/usr/lib/nagios/plugins\"]`",
        );
    }
    let looked: Vec<_> = dirs
        .iter()
        .map(|dir| match dir.is_dir() {
            true => format!("`{}`", dir.display()),
            false => format!("`{}` (which does not exist)", dir.display()),
        })
        .collect();
    let near = near_names(name, dirs);
    let hint = if near.is_empty() {
        "install it there, or add its directory to the setting `plugin_dirs`".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    refusal(format!("there is no program `{name}` in {}", looked.join(", ")), &hint)
}

fn near_names(name: &str, dirs: &[PathBuf]) -> Vec<String> {
    let entries = dirs.iter().filter_map(|dir| dir.read_dir().ok()).flatten().take(MOST_NAMES);
    let names: BTreeSet<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let likeness = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let mut near: Vec<_> = names.into_iter().map(|other| (likeness(&other), other)).collect();
    near.retain(|(likeness, _)| *likeness >= NEAR);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(MOST_NEAR).map(|(_, name)| format!("`{name}`")).collect()
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    refusal(
        format!("`{}` cannot be looked at: {error}", path.display()),
        "Watchbell's user must be able to read the directories of `plugin_dirs`",
    )
}

fn refusal(problem: String, hint: &str) -> Refusal {
    Refusal { problem, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::{inside, is_trusted_owner, program};

    fn plugins() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        file(&dir.path().join("check_it"), 0o755);
        dir
    }

    fn file(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refused(name: &str, dirs: &[&Path]) -> String {
        let dirs: Vec<_> = dirs.iter().map(|dir| PathBuf::from(*dir)).collect();
        program(name, &dirs, &[]).unwrap_err().to_string()
    }

    #[test]
    fn a_program_is_found_in_the_first_directory_that_has_it() {
        let (first, second) = (plugins(), plugins());
        file(&second.path().join("check_other"), 0o755);
        let dirs = [PathBuf::from("/nonexistent"), first.path().into(), second.path().into()];
        assert_eq!(program("check_it", &dirs, &[]).unwrap(), first.path().canonicalize().unwrap().join("check_it"));
        assert_eq!(
            program("check_other", &dirs, &[]).unwrap(),
            second.path().canonicalize().unwrap().join("check_other")
        );
    }

    #[test]
    fn a_missing_program_is_answered_with_near_names_and_where_it_looked() {
        let dir = plugins();
        let text = refused("chekc_it", &[dir.path(), Path::new("/nonexistent")]);
        assert!(text.contains("did you mean `check_it`?"), "{text}");
        assert!(text.contains("`/nonexistent` (which does not exist)"), "{text}");
        assert!(refused("x", &[]).contains("set `plugin_dirs`"));
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let dir = plugins();
        for mode in [0o775, 0o757, 0o777] {
            file(&dir.path().join("check_it"), mode);
            assert!(refused("check_it", &[dir.path()]).contains("the program"), "{mode:o}");
        }
        file(&dir.path().join("check_it"), 0o644);
        assert!(refused("check_it", &[dir.path()]).contains("is not executable"));
        file(&dir.path().join("check_it"), 0o755);
        for mode in [0o775, 0o757, 0o1777] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert!(refused("check_it", &[dir.path()]).contains("the directory"), "{mode:o}");
        }
    }

    #[test]
    fn a_directory_below_one_that_others_may_write_is_refused() {
        let dir = plugins();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        file(&below.join("check_it"), 0o755);
        assert!(program("check_it", std::slice::from_ref(&below), &[]).is_ok());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(refused("check_it", &[&below]).contains("may be written by others"));
    }

    #[test]
    fn a_directory_reached_by_a_link_that_others_could_exchange_is_refused() {
        let (dir, open) = (plugins(), tempfile::tempdir().unwrap());
        let link = open.path().join("plugins");
        symlink(dir.path(), &link).unwrap();
        assert!(program("check_it", std::slice::from_ref(&link), &[]).is_ok());
        fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(refused("check_it", &[&link]).contains("may be written by others"));
    }

    #[test]
    fn a_link_to_a_directory_that_others_could_exchange_is_refused() {
        let (open, trusted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (dir, link) = (open.path().join("plugins"), trusted.path().join("plugins"));
        fs::create_dir(&dir).unwrap();
        file(&dir.join("check_it"), 0o755);
        symlink(&dir, &link).unwrap();
        assert!(program("check_it", std::slice::from_ref(&link), &[]).is_ok());
        fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(refused("check_it", &[&link]).contains("may be written by others"));
    }

    #[test]
    fn links_stay_inside() {
        let dir = plugins();
        let at = |name: &str| dir.path().join(name);
        symlink("check_it", at("near")).unwrap();
        symlink("near", at("twice")).unwrap();
        assert!(program("twice", &[dir.path().into()], &[]).is_ok());
        symlink("/bin/true", at("out")).unwrap();
        symlink("../../../../../../bin/true", at("up")).unwrap();
        symlink("out", at("out_twice")).unwrap();
        for name in ["out", "up", "out_twice"] {
            assert!(refused(name, &[dir.path()]).contains("leads out of its directory"), "{name}");
        }
        symlink("nothing", at("broken")).unwrap();
        assert!(refused("broken", &[dir.path()]).contains("which does not exist"));
        symlink("check_it", at("link0")).unwrap();
        for link in 1..=9 {
            symlink(format!("link{}", link - 1), at(&format!("link{link}"))).unwrap();
        }
        assert!(program("link7", &[dir.path().into()], &[]).is_ok());
        assert!(refused("link9", &[dir.path()]).contains("more than 8 links"));
        fs::create_dir(at("real")).unwrap();
        file(&at("real/check_deep"), 0o755);
        symlink("real/check_deep", at("deep")).unwrap();
        assert!(program("deep", &[dir.path().into()], &[]).is_ok());
        symlink("real", at("alias")).unwrap();
        symlink("alias/check_deep", at("through")).unwrap();
        assert!(refused("through", &[dir.path()]).contains("no real directory"));
        assert!(refused("real", &[dir.path()]).contains("no file that could be run"));
    }

    #[test]
    fn a_link_to_a_shell_is_recognised_by_what_it_leads_to() {
        let dir = plugins();
        file(&dir.path().join("dash"), 0o755);
        symlink("dash", dir.path().join("check_nice")).unwrap();
        assert!(refused("check_nice", &[dir.path()]).contains("`check_nice` leads to `dash`"));
        for listed in ["dash", "check_nice"] {
            assert!(program("check_nice", &[dir.path().into()], &[listed.to_owned()]).is_ok(), "{listed}");
        }
    }

    #[test]
    fn targets_are_taken_literally_only_where_that_is_safe() {
        let root = Path::new("/p/plugins");
        for (target, found) in [
            ("a", Some("/p/plugins/a")),
            ("./sub/a", Some("/p/plugins/sub/a")),
            ("../plugins/a", Some("/p/plugins/a")),
            ("/p/plugins/a", Some("/p/plugins/a")),
            ("sub/../a", None),
            ("/p/other/../plugins/a", None),
            ("..", None),
            (".", None),
            ("../plugins2/a", None),
        ] {
            assert_eq!(inside(root, Path::new(target), root).as_deref(), found.map(Path::new), "{target}");
        }
    }

    #[test]
    fn only_root_and_oneself_are_trusted() {
        assert!(is_trusted_owner(0, 1000) && is_trusted_owner(1000, 1000) && is_trusted_owner(0, 0));
        assert!(!is_trusted_owner(1001, 1000) && !is_trusted_owner(1000, 0));
    }
}
