//! What holds for the source as text, and no compiler looks at: the floors, and that files are kept in order.
//!
//! A failure here says what the rule is for. Where the rule is wrong, change the rule, in a commit of its own.

mod files;
mod floors;
mod paths;

use std::path::{Path, PathBuf};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What lies in the tree but is not of it.
const NOT_OURS: [&str; 4] = ["target", ".git", ".venv", "__pycache__"];

/// All files below a folder of the repository, relative to it, sorted.
fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if NOT_OURS.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Folders that hold Rust.
const RUST: [&str; 5] = ["src", "monitors", "tests", "benches", "examples"];

/// All Rust files of the repository.
fn rust_files() -> Vec<PathBuf> {
    let below = RUST.iter().flat_map(|folder| files_below(folder));
    below.chain([PathBuf::from("build.rs")]).filter(|file| file.extension().is_some_and(|ext| ext == "rs")).collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Fails with the rule and all that breaks it.
fn report(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}\n  {}", breaches.join("\n  "));
}
