//! `docs/kinds.md` says what the kinds say of themselves: it is written from `watchbell kinds --json`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

const HEAD: &str = "# Kinds\n\n\
    <!-- Written by `UPDATE=1 cargo test --test main kinds_docs` from the manifests in monitors/. Change those. -->\n\n\
    A kind answers one question about one thing. The column `kind` of a row names it, the column `config` holds its\n\
    parameters as a JSON object. `watchbell kinds KIND` shows the same as this page; `watchbell check KIND --config JSON`\n\
    tries a config before it becomes a row. A kind of your own: [examples/custom_monitor](../examples/custom_monitor).\n\n\
    A parameter that is marked *secret* may hold references such as `${env:WATCHBELL_SECRET_X}`\n\
    ([configuration](configuration.md#secrets)). `a.b` stands for `{\"a\": {\"b\": ...}}`, `a[].b` for\n\
    `{\"a\": [{\"b\": ...}]}`. The INSERTs are for SQLite and PostgreSQL; MySQL needs backslashes doubled.\n\n";

#[derive(Deserialize)]
struct Kind {
    kind: String,
    checks: String,
    parameters: Vec<Parameter>,
    verdicts: String,
    examples: Vec<Example>,
    limits: String,
    looks_at_this_machine: bool,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    shape: String,
    default: Option<String>,
    meaning: String,
    is_secret: bool,
}

#[derive(Deserialize)]
struct Example {
    insert: String,
}

#[test]
fn the_page_of_kinds_is_what_the_kinds_say() {
    let page = page(&kinds());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kinds.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = written.lines().chain(std::iter::repeat("(the end)")).zip(page.lines().chain(["(the end)"]));
    let differs = lines.enumerate().find(|(_, (written, said))| written != said);
    if let Some((number, (written, said))) = differs {
        panic!(
            "docs/kinds.md, line {}, is not what the kinds say. Rewrite it: UPDATE=1 cargo test --test main kinds_docs\n  \
             written: {written}\n  said:    {said}",
            number + 1
        );
    }
    assert_eq!(written, page, "docs/kinds.md goes on after its end: UPDATE=1 cargo test --test main kinds_docs");
}

/// All that come with Watchbell, from the binary.
fn kinds() -> Vec<Kind> {
    let folder = tempfile::tempdir().unwrap();
    let told = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(["kinds", "--json"])
        .current_dir(folder.path())
        .env_remove("WATCHBELL_DATABASE_URL")
        .output()
        .unwrap();
    let kinds: Vec<Kind> = serde_json::from_slice(&told.stdout).unwrap();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
    let all = watchbell_monitors::all(&std::sync::Arc::default());
    assert_eq!(names, all.iter().map(|kind| kind.manifest().kind).collect::<Vec<_>>());
    kinds
}

fn page(kinds: &[Kind]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| kind | checks |\n|---|---|\n");
    for kind in kinds {
        writeln!(page, "| [`{0}`](#{0}) | {1} |", kind.kind, cell(&kind.checks)).unwrap();
    }
    for kind in kinds {
        section(&mut page, kind);
    }
    page
}

fn section(page: &mut String, kind: &Kind) {
    write!(page, "\n## {}\n\n{}\n\n", kind.kind, kind.checks).unwrap();
    if kind.parameters.is_empty() {
        page.push_str("It has no parameters.\n");
    } else {
        page.push_str("| parameter | value | default | meaning |\n|---|---|---|---|\n");
    }
    for parameter in &kind.parameters {
        let default = parameter.default.as_deref().map_or("**required**".to_owned(), cell);
        let secret = if parameter.is_secret { "; *secret*" } else { "" };
        let (name, shape, meaning) = (&parameter.name, cell(&parameter.shape), cell(&parameter.meaning));
        writeln!(page, "| `{name}` | {shape} | {default} | {meaning}{secret} |").unwrap();
    }
    write!(page, "\n**Verdicts.** {}\n\n**Limits.** {}\n", kind.verdicts, kind.limits).unwrap();
    if kind.looks_at_this_machine {
        page.push_str("\nThe answer depends on the machine that asks.\n");
    }
    for example in &kind.examples {
        write!(page, "\n```sql\n{}\n```\n", example.insert).unwrap();
    }
}

/// A text in a cell of a table: a bar ends a cell, and in code it cannot be escaped otherwise.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
