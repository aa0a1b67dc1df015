//! Files are small, say what they are for, are compiled at all, and hold nothing unfinished.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{files_below, read, report, root, rust_files};

/// One idea a file; a longer one becomes a folder.
const MOST_LINES: usize = 500;

#[test]
fn no_file_is_longer_than_500_lines() {
    let long = rust_files().into_iter().map(|file| (read(&file).lines().count(), file));
    let breaches: Vec<String> = long
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, file)| format!("{}: {lines}", file.display()))
        .collect();
    report("a file has one idea and at most 500 lines; make it a folder, with its tests in `tests.rs`", &breaches);
}

#[test]
fn every_module_says_what_it_is_for() {
    let breaches: Vec<String> = rust_files()
        .into_iter()
        // The build script is no module.
        .filter(|file| file != Path::new("build.rs") && !read(file).starts_with("//! "))
        .map(|file| file.display().to_string())
        .collect();
    report("a file opens with `//! ` and what it is for, what it must not do, how it fails", &breaches);
}

/// A file that no `mod` names is not compiled, and its tests do not run; the compiler does not mind.
#[test]
fn every_file_is_part_of_a_module() {
    let breaches: Vec<String> =
        rust_files().iter().filter(|file| !is_declared(file)).map(|file| file.display().to_string()).collect();
    report("a file is compiled only where its parent says `mod name;`, or Cargo.toml names it", &breaches);
}

fn is_declared(file: &Path) -> bool {
    let folder = file.parent().unwrap();
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let is_root = ["main", "lib", "build"].contains(&stem.as_str())
        // Each file in these folders is a target of its own.
        || folder.ends_with("benches") || folder.file_name().is_some_and(|name| name == "tests") && has_manifest_above(folder);
    if is_root {
        return true;
    }
    let (name, above) = match stem.as_str() {
        "mod" => (folder.file_name().unwrap().to_string_lossy().into_owned(), folder.parent().unwrap()),
        _ => (stem, folder),
    };
    let parents: [PathBuf; 4] =
        [above.join("mod.rs"), above.join("lib.rs"), above.join("main.rs"), above.with_extension("rs")];
    parents
        .iter()
        .filter(|parent| root().join(parent).is_file())
        .any(|parent| read(parent).lines().any(|line| line.trim_start().ends_with(&format!("mod {name};"))))
}

fn has_manifest_above(folder: &Path) -> bool {
    folder.parent().is_some_and(|package| root().join(package).join("Cargo.toml").is_file())
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    // In two parts, so that this file does not find itself.
    let words = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("db", "g!("),
        concat!("#[ig", "nore"),
    ];
    report("what is not done is not in the tree, and a test that does not run proves nothing", &lines_with(&words));
}

#[test]
fn no_file_knows_somebodys_machine() {
    let words = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    report(
        "paths of one machine do not exist on another; use a temporary folder, or what cargo sets",
        &lines_with(&words),
    );
}

/// Where any text file of the repository holds one of the words.
fn lines_with(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files_below("") {
        // What is no text is not for people.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: `{word}`", file.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn what_people_run_is_executable() {
    for file in [".ci/run", "tests/run"] {
        let mode = std::fs::metadata(root().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "`{file}` cannot be run: chmod +x {file}; git update-index --chmod=+x {file}");
    }
}
