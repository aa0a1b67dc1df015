//! The one list of configuration keys: what reads values, names unknown keys' neighbours, fills `watchbell config`
//! and makes the table of `docs/configuration.md`.

use std::fmt::Write as _;

/// How a key's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// A text.
    Text,
    /// A text that may hold secret references, and is masked wherever it is shown.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number between the two, both included.
    Whole(i64, i64),
    /// `true` or `false`.
    Flag,
    /// A list of texts.
    List,
}

/// What holds where nothing is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDefault {
    /// The key stays unset.
    Unset,
    /// This value, as in TOML.
    Value(&'static str),
    /// Found out at start, as these words say.
    Computed(&'static str),
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name with dots between levels; `<name>` stands for any name.
    pub name: &'static str,
    /// How its value is written.
    pub kind: KeyType,
    /// What holds where it is not configured.
    pub default: KeyDefault,
    /// What it means, with units.
    pub meaning: &'static str,
}

const fn key(name: &'static str, kind: KeyType, default: KeyDefault, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

/// The keys, in the order in which they are shown.
pub static KEYS: &[Key] = {
    use KeyDefault::{Computed, Unset, Value};
    use KeyType::{Choice, Flag, List, Secret, Text, Whole};
    &[
        key(
            "database_url",
            Secret,
            Value("\"sqlite://watchbell.db\""),
            "Watchbell's own database: `sqlite://`, `postgres://` or `mysql://` (MySQL and MariaDB). A relative SQLite path starts in the working directory. [databases.md](databases.md) has the URLs of each, and the rights that they need.",
        ),
        key(
            "listen",
            Text,
            Value("\"127.0.0.1:8787\""),
            "Not used in this version, which has no web pages. Where they will listen: an address and a port.",
        ),
        key(
            "public_url",
            Text,
            Unset,
            "Where people will reach the web pages, for links in mail: `http://` or `https://`. Without it, mail has no links.",
        ),
        key(
            "default_timezone",
            Text,
            Value("\"UTC\""),
            "The zone in which schedules are read whose row names none: an IANA name.",
        ),
        key(
            "admins",
            List,
            Value("[]"),
            "Recipients for trouble of the installation itself: e-mail addresses, or names of channels.",
        ),
        key(
            "installation",
            Text,
            Value("\"watchbell\""),
            "The name that all nodes of an installation share. A node that finds another one in its database refuses to start: two installations do not mix.",
        ),
        key(
            "node.name",
            Text,
            Computed("the host's name"),
            "This node's name, for people and for `runs_on`, as in `name=alpha`.",
        ),
        key(
            "node.labels.<key>",
            Text,
            Unset,
            "A label of this node, which `runs_on` of a monitor selects: `zone = \"eu\"` below `[node.labels]`.",
        ),
        key(
            "node.lease_seconds",
            Whole(5, 300),
            Value("10"),
            "How long this node may work without hearing from the database, in seconds. One that is lost is missed after this, and its monitors are taken over within a second or so more.",
        ),
        key(
            "node.max_clock_skew_seconds",
            Whole(1, 60),
            Value("2"),
            "How far the clock of this machine may be from the database's, in seconds. Up to this it is corrected; beyond it the node refuses to start, or steps aside.",
        ),
        key(
            "plugin_dirs",
            List,
            Computed("`plugins/` beside the configuration file"),
            "Where the `command` kind finds its programs, searched in this order. Relative to the configuration file.",
        ),
        key(
            "command.allow",
            List,
            Value("[]"),
            "Programs that run what their arguments name (`negate`, `check_by_ssh`, a shell) and may be used all the same.",
        ),
        key(
            "mail.url",
            Secret,
            Unset,
            "The mail server: `smtp://` or `smtps://`, with `?tls=required` and the like. Unset: mail is written as files under `mail/` beside the database.",
        ),
        key(
            "mail.from",
            Text,
            Computed("`watchbell@` and the host's name"),
            "The sender: `watchbell@example.com` or `Watchbell <watchbell@example.com>`.",
        ),
        key("mail.max_connections", Whole(1, 100), Value("4"), "Connections to the mail server at the same time."),
        key(
            "mail.timeout_seconds",
            Whole(1, 600),
            Value("30"),
            "How long the mail server may take for one step, in seconds.",
        ),
        key(
            "mail.ca_file",
            Text,
            Unset,
            "A PEM file of private certificate authorities for the mail server. Relative to the configuration file.",
        ),
        key(
            "connections.<name>.url",
            Secret,
            Unset,
            "A database that the `sql` kind may ask. `connections.<name> = \"...\"` is the short form.",
        ),
        key(
            "connections.<name>.allow_own_database",
            Flag,
            Value("false"),
            "Whether this connection may be Watchbell's own database.",
        ),
        key(
            "secrets.allow",
            List,
            Value("[\"env:WATCHBELL_SECRET_*\", \"credential:*\"]"),
            "The secret references that a database row may use, as patterns.",
        ),
        key("checks.max_concurrent", Whole(1, 4096), Value("256"), "Checks that run at the same time on this node."),
        key(
            "checks.shutdown_grace_seconds",
            Whole(0, 600),
            Value("10"),
            "How long running checks may go on after a stop signal, in seconds.",
        ),
        key(
            "channels.ca_file",
            Text,
            Unset,
            "Private certificate authorities for the services behind `channels`, in PEM form. Relative to the configuration file.",
        ),
        key(
            "delivery.repetition_seconds",
            Whole(0, 86_400),
            Value("60"),
            "One origin tells one recipient at most once in so many seconds; what else it has to say becomes one further message. 0: no limit.",
        ),
        key(
            "delivery.storm_first",
            Whole(1, 10_000),
            Value("10"),
            "So many alerts within `delivery.storm_window_seconds` reach a recipient one by one; further ones become a digest.",
        ),
        key("delivery.storm_window_seconds", Whole(1, 3_600), Value("10"), "See `delivery.storm_first`, in seconds."),
        key(
            "delivery.cut_off_monitors",
            Whole(2, 1_000_000),
            Value("20"),
            "So many monitors that fail within two seconds, when they are half of what the node checks meanwhile, mean that the node itself looks cut off.",
        ),
        key(
            "delivery.dependency_wait_seconds",
            Whole(0, 60),
            Value("3"),
            "How long the alert of a monitor that depends on others waits at most for what they say, in seconds.",
        ),
        key(
            "self_test.recipients",
            List,
            Value("[]"),
            "Who is told on a schedule that Watchbell is alive, and how it did: e-mail addresses, or names of channels. Empty: nobody.",
        ),
        key(
            "self_test.schedule",
            Text,
            Value("\"0 9 * * *\""),
            "When, written as the schedule of a monitor. A self-test that was slept over is made up for within 12 hours.",
        ),
        key(
            "self_test.timezone",
            Text,
            Computed("`default_timezone`"),
            "The zone in which `self_test.schedule` is read.",
        ),
        key(
            "deadman.url",
            Secret,
            Unset,
            "A dead-man's switch outside, `http://` or `https://`, which raises the alarm when it is not heard of: it is pinged only while the scheduler advances, the database can be written and the outbox drains.",
        ),
        key("deadman.method", Choice(&["GET", "POST"]), Value("\"GET\""), "How it is pinged."),
        key("deadman.every_seconds", Whole(5, 3_600), Value("60"), "How often it is pinged, in seconds."),
        key(
            "history.keep_days",
            Whole(1, 36_500),
            Value("30"),
            "For how many days runs, incidents and notifications are kept. What belongs to an open incident stays.",
        ),
        key(
            "history.hourly_keep_days",
            Whole(0, 36_500),
            Value("400"),
            "For how many days the figures of each monitor and hour are kept, into which runs are summed up. 0: for ever.",
        ),
        key(
            "history.daily_keep_days",
            Whole(0, 36_500),
            Value("0"),
            "For how many days the figures of each monitor and day are kept. 0: for ever.",
        ),
        key("log.format", Choice(&["text", "json"]), Value("\"text\""), "How log lines are written."),
        key(
            "log.level",
            Text,
            Value("\"info\""),
            "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,watchbell=debug`.",
        ),
    ]
};

/// The key that `name` names, where `connections.shop.url` is `connections.<name>.url`.
pub fn find(name: &str) -> Option<&'static Key> {
    let general = match name.strip_prefix("connections.").and_then(|rest| rest.split_once('.')) {
        Some((_, field)) => format!("connections.<name>.{field}"),
        None if name.starts_with("node.labels.") => "node.labels.<key>".to_owned(),
        None => name.to_owned(),
    };
    KEYS.iter().find(|key| key.name == general)
}

/// Whether keys stand below `name`, so that the file must have a table there.
pub fn is_table(name: &str) -> bool {
    let below = format!("{name}.");
    let is_connection = name.strip_prefix("connections.").is_some_and(|rest| !rest.contains('.'));
    is_connection || KEYS.iter().any(|key| key.name.starts_with(&below))
}

/// What a person who wrote the unknown key `name` most likely meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let same_ending = || KEYS.iter().find(|key| last(key.name) == last(name)).map(|key| key.name);
    most_alike(name, KEYS.iter().map(|key| key.name)).or_else(same_ending)
}

/// What a person who wrote the unknown table `[name]` most likely meant.
pub fn nearest_table(name: &str) -> Option<&'static str> {
    most_alike(name, KEYS.iter().filter_map(|key| key.name.split_once('.').map(|(table, _)| table)))
}

fn most_alike(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Which separator stands between words is what people get wrong most often.
    let bare = |name: &str| name.replace(['.', '_', '-'], "").to_lowercase();
    let likeness = |other: &'static str| (strsim::jaro_winkler(&bare(name), &bare(other)), other);
    known
        .map(likeness)
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// Below this Jaro-Winkler likeness a suggestion misleads more than it helps.
const LEAST_LIKENESS: f64 = 0.86;

/// The variable that sets a key.
pub fn variable_of(name: &str) -> String {
    format!("WATCHBELL_{}", name.replace('.', "__").to_uppercase())
}

/// The table of keys for `docs/configuration.md`, in Markdown.
pub fn table() -> String {
    let mut table = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        let kind = match key.kind {
            KeyType::Text => "text".to_owned(),
            KeyType::Secret => "text, with secret references".to_owned(),
            KeyType::Choice(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or "),
            KeyType::Whole(from, to) => format!("whole number, {from} to {to}"),
            KeyType::Flag => "`true` or `false`".to_owned(),
            KeyType::List => "list of texts".to_owned(),
        };
        let default = match key.default {
            KeyDefault::Unset => "not set".to_owned(),
            KeyDefault::Value(value) => format!("`{value}`"),
            KeyDefault::Computed(words) => words.to_owned(),
        };
        // Writing to a `String` cannot fail.
        writeln!(table, "| `{}` | {kind} | {default} | {} |", key.name, key.meaning).unwrap_or_default();
    }
    table
}
