//! `watchbell copy`: an installation moved to another database.

use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::FileFlag;
use super::answer::{Answer, Trouble};
use super::database_in_use::DatabaseInUse;
use super::table::{aligned, line_width};
use crate::config::{Configuration, Flags, process_environment};
use crate::store::copy::{self, Copied, CopyError, Phase, Progress, Request, Side};

/// How often a line is drawn anew on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where it is kept, such as in a log.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// As wide as the bar is.
const BAR: usize = 30;

/// What follows `copy`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// The database that holds the installation; no node may be serving it. Secrets as in the configuration: `${env:NAME}`
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database that is to hold it: an empty one, or one into which this command began to copy it
    #[arg(long, value_name = "URL")]
    to: String,
    /// Throw away what a copy that was broken off has written, and begin again
    #[arg(long)]
    anew: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copies, checks, and says what to do next.
///
/// # Errors
/// What keeps the installation from being copied, with a hint.
pub(super) async fn copy(arguments: &Arguments) -> anyhow::Result<Answer> {
    let from = Named::read(&arguments.from).await.context("--from")?;
    let to = Named::read(&arguments.to).await.context("--to")?;
    let request = Request { from: from.side(), to: to.side(), is_anew: arguments.anew };
    let line = ProgressLine::new();
    let copied = copy::copy(&request, &|progress| line.show(&progress)).await;
    line.end();
    let copied = copied.map_err(with_hints)?;
    if arguments.json {
        return Answer::of_json(&as_json(&copied));
    }
    Ok(Answer::of_text(told(&copied, &from, &to)))
}

/// A database as the command line names it.
struct Named {
    url: String,
    shown: String,
}

impl Named {
    /// Read as `database_url` is: the same shapes, the same references.
    async fn read(text: &str) -> anyhow::Result<Self> {
        let working_dir = std::env::current_dir().context("cannot find out the working directory")?;
        let flags = Flags::default().set("database_url", Some(text.to_owned()));
        let url = Configuration::load(&flags, process_environment(), &working_dir)?.database_url;
        Ok(Self { url: url.reveal().await?.as_str().to_owned(), shown: format!("`{}`", url.masked()) })
    }

    fn side(&self) -> Side<'_> {
        Side { url: &self.url, shown: &self.shown }
    }
}

fn told(copied: &Copied, from: &Named, to: &Named) -> String {
    // Who made the tables is seldom who is to serve them.
    let rights = match DatabaseInUse::of_url(&to.url).is_some_and(|database| !database.is_file()) {
        true => "Give the role of the service its rights there (`docs/databases.md` has the GRANTs). ",
        false => "",
    };
    let (from, to) = (&from.shown, &to.shown);
    let mut text = String::new();
    if copied.tables.is_empty() {
        text.push_str(&format!("{to} holds the installation of {from} already, complete.\n\n"));
    } else {
        let rows = copied.tables.iter().map(|(table, checked)| {
            vec![(*table).to_owned(), checked.rows.to_string(), format!("the same, {}", checked.checksum)]
        });
        text.push_str(&aligned(
            &["table", "rows", "compared with the source"],
            &rows.collect::<Vec<_>>(),
            line_width(),
        ));
        text.push('\n');
    }
    let replaced: u64 = copied.tables.iter().map(|(_, checked)| checked.replaced).sum();
    if replaced > 0 {
        text.push_str(&format!(
            "{replaced} texts held the character NUL, which PostgreSQL cannot hold; U+FFFD stands in its place.\n\n"
        ));
    }
    text.push_str(&format!(
        "What to do next:\n\
         1. {rights}Set `database_url` to {to}, and start the node.\n\
         2. Keep {from}, but do not serve it again: both would tell everybody. It is marked, and every command refuses it.\n\
         \x20  A file may be renamed, and deleted once you need no way back.\n\
         \x20  The way back, without what happened after the copy: stop all nodes on {to}, set `database_url` back, and run\n\
         \x20  on {from}: {}\n",
        copied.way_back
    ));
    text
}

fn as_json(copied: &Copied) -> serde_json::Value {
    let tables = copied.tables.iter().map(|(table, checked)| {
        json!({"table": table, "rows": checked.rows, "checksum": checked.checksum, "replaced": checked.replaced})
    });
    json!({"tables": tables.collect::<Vec<_>>(), "way_back": copied.way_back})
}

/// The error with what helps.
fn with_hints(error: CopyError) -> anyhow::Error {
    const AGAIN: &str = "once that is mended, run the same command again: it goes on where this one ended; a copy that was begun cannot be \
         served before it is complete";
    const ANEW: &str = "run the same command with `--anew`: it empties the target and begins again";
    let trouble = Trouble::failed(error.to_string());
    let trouble = match &error {
        CopyError::Store(_) => trouble.hint(AGAIN),
        CopyError::SameDatabase => trouble.hint("name the old one with `--from` and the new one with `--to`"),
        CopyError::NoSource(_) => trouble.hint("a path is read from the working directory"),
        CopyError::Served { .. } => trouble
            .hint("stop it first (`systemctl stop watchbell`): what it wrote meanwhile would be lost")
            .hint("the lease of a node that was killed ends by itself; run this command again then"),
        CopyError::CopiedBefore { way_back, .. } => trouble
            .hint(format!("to use it again all the same, stop the nodes on the other one and run on it: {way_back}")),
        CopyError::SourceIncomplete(_) => trouble.hint("complete it first, by the command that began it"),
        CopyError::InUse { .. } => trouble.hint("name a database, or a schema, that is empty"),
        CopyError::OfAnother(_) => trouble.hint("name another database, or use `--anew` to throw that copy away"),
        CopyError::BadRow { table, row, column, .. } => trouble
            .hint(format!("look at it in the source: SELECT {column} FROM {table} WHERE {row}"))
            .hint("mend it there, or delete it if nobody needs it, and run the same command with `--anew`"),
        CopyError::Differs { .. } => trouble.hint("was the source changed since the copy was begun?").hint(ANEW),
        CopyError::SourceChanged(_) => trouble.hint("keep people and programs from writing to it meanwhile").hint(ANEW),
    };
    trouble.into()
}

/// How far it is, on standard error: a bar on a terminal, else a line now and then.
struct ProgressLine {
    is_terminal: bool,
    last: Mutex<Option<Instant>>,
}

impl ProgressLine {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), last: Mutex::new(None) }
    }

    fn show(&self, progress: &Progress) {
        let every = if self.is_terminal { DRAW_EVERY } else { WRITE_EVERY };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        *last = Some(Instant::now());
        let line = drawn(progress);
        let line = if self.is_terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") };
        // Who cannot be shown the progress still gets the copy.
        drop(io::stderr().lock().write_all(line.as_bytes()));
    }

    fn end(&self) {
        if self.is_terminal {
            drop(io::stderr().lock().write_all(b"\r\x1b[K"));
        }
    }
}

fn drawn(progress: &Progress) -> String {
    let Progress { phase, table, done, total } = progress;
    let part = if *total == 0 { 1.0 } else { (*done as f64 / *total as f64).min(1.0) };
    let full = (part * BAR as f64) as usize;
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
    let word = match phase {
        Phase::Copying => "copying ",
        Phase::Checking => "checking",
    };
    format!("{word} [{bar}] {:3.0} %  {done} of {total} rows  {table}", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::{Phase, Progress, drawn};

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let progress = |done, total| drawn(&Progress { phase: Phase::Copying, table: "monitors", done, total });
        assert_eq!(progress(5, 10), "copying  [###############...............]  50 %  5 of 10 rows  monitors");
        assert_eq!(progress(0, 0), "copying  [##############################] 100 %  0 of 0 rows  monitors");
        assert!(progress(11, 10).contains("100 %"), "rows that came meanwhile");
    }
}
