//! `docs/channels.md` says what the types of channels say of themselves: it is written from `watchbell channels --json`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use watchbell::channels::ChannelSettings;
use watchbell::domain::OutboxRow;
use watchbell::ports::{Channel, Delivered, DeliveryError};
use watchbell_contract::{SecretError, SecretReference, Secrets};

const HEAD: &str = "# Channels\n\n\
    <!-- Written by `UPDATE=1 cargo test --test main channels_docs` from the types in src/channels/. Change those. -->\n\n\
    A row of `channels` is a place where messages go that is no mailbox. Its `name` stands in `people_to_notify`, in a\n\
    route's `recipients` and in `admins`, beside e-mail addresses; its `url` says what it is and where.\n\
    `watchbell channels TYPE` shows the same as this page. How messages get there, and what can go wrong on the way:\n\
    [delivery](delivery.md). A channel of your own: [how to add one](architecture.md#how-to-add-a-channel).\n\n\
    A `url` is `TYPE+ADDRESS#OPTION=VALUE&OPTION=VALUE` where the address is one of the web, and `TYPE:ADDRESS#...`\n\
    otherwise. Where the service's address is known there is none: `TYPE:#OPTION=VALUE`. What stands behind the first\n\
    `#` is options, and never part of an address. In a value, outside of references, `&` is written `%26` and `%` is\n\
    written `%25`. A row whose `url` cannot be read says why in its `config_error`.\n\n\
    An option that is marked *secret* may hold references such as `${env:WATCHBELL_SECRET_X}`, and so may an address\n\
    that is shown with one below. `secrets.allow` lists those that rows may use\n\
    ([configuration](configuration.md#secrets)); by default they are `env:WATCHBELL_SECRET_*` and `credential:*`, so\n\
    `${pass:...}` has to be added there. The INSERTs are for SQLite and PostgreSQL; MySQL needs backslashes doubled.\n\n\
    *Repetition* says what becomes of further messages of one origin within a minute\n\
    ([delivery](delivery.md#repetition)).\n\n";

#[derive(Deserialize)]
struct ChannelType {
    #[serde(rename = "type")]
    name: String,
    delivers: String,
    shape: String,
    address: Option<String>,
    options: Vec<ChannelOption>,
    examples: Vec<Example>,
    doubles: String,
    limits: String,
}

#[derive(Deserialize)]
struct ChannelOption {
    name: String,
    default: Option<String>,
    meaning: String,
    is_secret: bool,
}

#[derive(Deserialize)]
struct Example {
    url: String,
    insert: String,
}

#[test]
fn the_page_of_channels_is_what_the_types_say() {
    let page = page(&channel_types());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/channels.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = written.lines().chain(std::iter::repeat("(the end)")).zip(page.lines().chain(["(the end)"]));
    let differs = lines.enumerate().find(|(_, (written, said))| written != said);
    if let Some((number, (written, said))) = differs {
        panic!(
            "docs/channels.md, line {}, is not what the types say. Rewrite it: UPDATE=1 cargo test --test main \
             channels_docs\n  written: {written}\n  said:    {said}",
            number + 1
        );
    }
    assert_eq!(written, page, "docs/channels.md goes on after its end: UPDATE=1 cargo test --test main channels_docs");
}

#[test]
fn every_example_opens() {
    for channel_type in channel_types() {
        assert!(!channel_type.examples.is_empty(), "{}", channel_type.name);
        for example in &channel_type.examples {
            let opened = watchbell::channels::open(&example.url, &settings());
            assert!(opened.is_ok(), "{}: {}", example.url, opened.err().unwrap());
        }
    }
}

/// From the binary, as people see them.
fn channel_types() -> Vec<ChannelType> {
    let folder = tempfile::tempdir().unwrap();
    let told = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(["channels", "--json"])
        .current_dir(folder.path())
        .env_remove("WATCHBELL_DATABASE_URL")
        .output()
        .unwrap();
    let types: Vec<ChannelType> = serde_json::from_slice(&told.stdout).unwrap();
    let names: Vec<&str> = types.iter().map(|channel_type| channel_type.name.as_str()).collect();
    assert_eq!(names, watchbell::channels::all().iter().map(|of| of.name).collect::<Vec<_>>());
    types
}

/// Every reference is allowed. Opening a channel resolves none.
struct AnySecret;

#[async_trait]
impl Secrets for AnySecret {
    fn permit(&self, _reference: &SecretReference) -> Result<(), SecretError> {
        Ok(())
    }

    async fn resolve(&self, reference: &SecretReference) -> Result<String, SecretError> {
        panic!("{reference} is resolved before it is used")
    }
}

struct NoMail;

#[async_trait]
impl Channel for NoMail {
    async fn deliver(&self, _message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        panic!("nothing is sent here")
    }

    fn describe(&self) -> String {
        "no mail".to_owned()
    }
}

fn settings() -> ChannelSettings {
    ChannelSettings { secrets: Arc::new(AnySecret), public_url: None, ca_file: None, mail: Arc::new(NoMail) }
}

fn page(types: &[ChannelType]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| type | delivers |\n|---|---|\n");
    for channel_type in types {
        writeln!(page, "| [`{0}`](#{0}) | {1} |", channel_type.name, cell(&channel_type.delivers)).unwrap();
    }
    for channel_type in types {
        section(&mut page, channel_type);
    }
    page
}

fn section(page: &mut String, channel_type: &ChannelType) {
    write!(page, "\n## {}\n\n{}\n\n", channel_type.name, channel_type.delivers).unwrap();
    write!(page, "`url`: {}\n\n", channel_type.shape).unwrap();
    page.push_str("| part | default | meaning |\n|---|---|---|\n");
    match &channel_type.address {
        Some(address) => writeln!(page, "| ADDRESS | **required** | {} |", cell(address)).unwrap(),
        None => page.push_str("| ADDRESS | none | it is known, so nothing stands before the `#` |\n"),
    }
    for option in &channel_type.options {
        let default = option.default.as_deref().map_or("**required**".to_owned(), cell);
        let secret = if option.is_secret { "; *secret*" } else { "" };
        writeln!(page, "| `{}` | {default} | {}{secret} |", option.name, cell(&option.meaning)).unwrap();
    }
    write!(page, "\n**Doubles.** {}\n\n**Limits.** {}\n\n", channel_type.doubles, channel_type.limits).unwrap();
    writeln!(page, "**Repetition.** {}", repetition(channel_type)).unwrap();
    for example in &channel_type.examples {
        write!(page, "\n```sql\n{}\n```\n", example.insert).unwrap();
    }
}

/// What the opened examples say of themselves.
fn repetition(channel_type: &ChannelType) -> String {
    let of = |example: &Example| {
        let channel = watchbell::channels::open(&example.url, &settings()).unwrap();
        match (channel.wants_each(), channel.can_edit()) {
            (true, _) => "Every message comes by itself; none is merged into another.",
            (false, true) => "What follows is counted in the first message, which is edited.",
            (false, false) => "What follows becomes one further message with the count.",
        }
    };
    let mut said: Vec<&str> = channel_type.examples.iter().map(of).collect();
    said.dedup();
    match said.as_slice() {
        [all] => (*all).to_owned(),
        several => format!("By the options, in the order of the examples below: {}", several.join(" ")),
    }
}

/// A text in a cell of a table: a bar ends a cell, and in code it cannot be escaped otherwise.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
