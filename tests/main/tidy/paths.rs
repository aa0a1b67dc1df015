//! The paths that a Rust file names, in `use` lines and elsewhere, by a reading that is no parser but good enough:
//! comments and texts are left out, groups in braces are spelled out.

use std::path::Path;

/// The module of a file of a package's `src`: `src/store/sqlite/mod.rs` is `["store", "sqlite"]`.
pub(super) fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.components().map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
    let source = parts.iter().position(|part| part == "src").unwrap();
    parts.drain(..=source);
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// The file without its inline tests, which may use what they need.
pub(super) fn without_tests(text: &str) -> String {
    let Some((before, tests)) = text.split_once("#[cfg(test)]\nmod tests {") else { return text.to_owned() };
    let after = tests.split_once("\n}\n").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

/// All paths of at least two names, spelled out from `crate` where they are of this package.
pub(super) fn paths(text: &str, module: &[String]) -> Vec<String> {
    let code = code_of(text);
    let mut found = Vec::new();
    let mut groups: Vec<Option<String>> = Vec::new();
    let mut word = String::new();
    for character in code.chars() {
        if character.is_alphanumeric() || matches!(character, '_' | ':') {
            word.push(character);
            continue;
        }
        let is_group = character == '{' && word.ends_with("::");
        let whole = match groups.last() {
            Some(Some(prefix)) if !word.is_empty() => format!("{prefix}{word}"),
            _ => word.clone(),
        };
        word.clear();
        match character {
            '{' if is_group => groups.push(Some(whole)),
            '{' => groups.push(None),
            _ => {
                if whole.trim_matches(':').contains("::") {
                    found.push(absolute(&whole, module));
                }
                if character == '}' {
                    groups.pop();
                }
            }
        }
    }
    found
}

/// `super::x` and `self::x` as `crate::...`.
fn absolute(path: &str, module: &[String]) -> String {
    let mut names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
    let mut own = module.to_vec();
    let is_relative = matches!(names.first(), Some(&"super" | &"self"));
    while let Some(first @ (&"super" | &"self")) = names.first() {
        if *first == "super" {
            own.pop();
        }
        names.remove(0);
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if is_relative { [vec!["crate".to_owned()], own, names].concat().join("::") } else { names.join("::") }
}

/// The text without comments and without what stands in double quotes.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut is_quoted = false;
    for line in text.lines() {
        let mut before = ' ';
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if is_quoted => drop(characters.next()),
                // A quote as a character is no quote.
                '"' if before != '\'' => is_quoted = !is_quoted,
                '/' if !is_quoted && characters.peek() == Some(&'/') => break,
                _ if !is_quoted => code.push(character),
                _ => {}
            }
            before = character;
        }
        code.push('\n');
    }
    code
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let module = ["store".to_owned(), "sqlite".to_owned()];
    let text = r#"
        //! tokio::no
        use crate::{domain::{Monitor, run::Run}, ports::Store};
        use super::values;
        use super::super::engine as other; // sqlx::no
        pub use self::open::Open;
        fn f() { let x = "lettre::no \" reqwest::no"; match c { '"' => tokio::spawn(g::<Vec<u8>>()), _ => h } }
    "#;
    let found = paths(text, &module);
    for path in [
        "crate::domain::Monitor",
        "crate::domain::run::Run",
        "crate::ports::Store",
        "crate::store::values",
        "crate::engine",
        "crate::store::sqlite::open::Open",
        "tokio::spawn",
    ] {
        assert!(found.iter().any(|known| known == path), "{path} is not in {found:?}");
    }
    assert!(!found.iter().any(|path| path.ends_with("::no")), "{found:?}");
}
