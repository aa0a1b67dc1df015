//! Apprise: every service that has no channel of its own, by the program `apprise` where it is installed.
//!
//! Interface: its command line (github.com/caronc/apprise/wiki/CLI_Usage). The URL of the service is a secret, so that it
//! goes in by a configuration file with one line, which only our user may read and which is deleted when the program has
//! ended; the message goes in by standard input. Every user of the machine can read a program's arguments: there stand
//! nothing but the file's name, and of the message its type and how bad it is. Rejected: `APPRISE_URLS`, since
//! environments end up in the journal with core dumps; a descriptor under `/proc/<pid>/fd`, which a Watchbell with file
//! capabilities cannot hand on.
//!
//! Idempotency: none; the program has no key for it. It fails by its exit status, which does not tell why: see
//! [`failure`]. What it prints is shown without anything that the URL holds.
//!
//! Limits: [`PATIENCE`], the program's last 16 KiB of words, 3,000 characters of text; no threads, no edits.

mod process;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use tempfile::NamedTempFile;
use watchbell_contract::{ConfigFaults, Severity};

use self::process::End;
use super::channel_type::{ChannelSettings, ChannelType};
use super::url::{Address, ChannelUrl};
use super::{http, wording};
use crate::domain::{NotificationType, OutboxRow, one_line};
use crate::ports::{Channel, Delivered, DeliveryError};

const PROGRAM: &str = "apprise";
/// From start to end. Apprise itself gives a service no more than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most chat services take this much in one message.
const MAX_TEXT_CHARS: usize = 3_000;
const MAX_SHOWN_CHARS: usize = 300;
/// The name of a service: `mailto`, `json`.
const LONGEST_SCHEME: usize = 32;
/// What is shorter hides nothing, and would mutilate every word that holds it.
const SHORTEST_HIDDEN: usize = 3;
/// What `apprise` says, in all versions, where it can do nothing with the URL.
const NO_SERVICE: &str = "You must specify at least one service URL";

pub(super) static TYPE: ChannelType = ChannelType {
    name: "apprise",
    other_names: &[],
    delivers: "Whatever the program `apprise` knows and Watchbell does not: more than a hundred services. It must be installed \
               (`pip install apprise`) and be found in the `PATH` of the node.",
    address: Some(
        "a URL of Apprise, or one secret reference that holds the whole of it; a `#` in it is written `%23`, since options \
         begin with `#`",
    ),
    options: &[],
    examples: &[
        "apprise:pover://${env:WATCHBELL_SECRET_USER}@${env:WATCHBELL_SECRET_TOKEN}",
        "apprise:${pass:apprise/ops}",
    ],
    doubles: "Not idempotent: a crash between the service's answer and our commit shows a message twice.",
    limits: "60 seconds a message; text beyond 3,000 characters is cut. The program does not say why a service took nothing, \
             so that such a message is tried again while others go on. The title is `Watchbell: alert` and the like, without \
             the monitor's name: arguments of programs can be read by every user of the machine.",
    open,
};

struct Apprise {
    program: PathBuf,
    patience: Duration,
    address: Address,
    shown: String,
    public_url: Option<String>,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let channel = Apprise::new(&mut url, settings, PathBuf::from(PROGRAM), PATIENCE);
    Ok(url.finish(channel)?)
}

#[async_trait]
impl Channel for Apprise {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let url = self.address.reveal().await.map_err(http::secret_failure)?;
        let config = config_file(&url)?;
        let title = format!("Watchbell: {}", message.notification_type.as_str().replace('_', " "));
        let args = ["-v", "-n", tone(message), "-t", &title, "-c"].map(OsStr::new);
        let args = [&args[..], &[config.path().as_os_str()]].concat();
        let text = text(message, self.public_url.as_deref());
        match process::run(&self.program, &args, &text, self.patience).await {
            End::Exited(status, _) if status.success() => {
                Ok(Delivered { answer: "apprise reports that it was sent".to_owned(), external_id: None })
            }
            End::Exited(status, output) => Err(failure(status, &output, &url)),
            End::TimedOut => Err(DeliveryError::Retry {
                reason: format!("`apprise` did not end within {} s and was stopped", self.patience.as_secs()),
                after: None,
            }),
            End::NotStarted(error) => Err(not_started(&error)),
        }
    }

    fn describe(&self) -> String {
        format!("apprise ({})", self.shown)
    }
}

impl Apprise {
    fn new(url: &mut ChannelUrl, settings: &ChannelSettings, program: PathBuf, patience: Duration) -> Self {
        let shown = url.shown_address();
        // Where others have a host, some services have a token: only the scheme is shown.
        let shown = match shown.split_once("://") {
            Some((scheme, _)) if is_scheme(scheme) => scheme.to_owned(),
            None if shown.starts_with("the address") => shown,
            _ => {
                let hint =
                    "for example `apprise:json://host/path`, or `apprise:${pass:apprise/ops}` for the whole of it";
                url.fault("url", "holds no URL of Apprise", Some(hint.to_owned()));
                String::new()
            }
        };
        let public_url = settings.public_url.clone();
        Self { program, patience, address: url.address(), shown, public_url }
    }
}

fn is_scheme(text: &str) -> bool {
    (1..=LONGEST_SCHEME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The URL in a file that only our user may read, deleted on drop. It must be one URL: a line can also include other files.
fn config_file(url: &str) -> Result<NamedTempFile, DeliveryError> {
    let is_url = url.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
    if !is_url || url.contains(char::is_control) {
        let reason =
            "the channel's `url` must hold one URL of Apprise, in one line: `apprise:json://host/path`".to_owned();
        return Err(DeliveryError::Unavailable { reason, after: None });
    }
    let written = tempfile::Builder::new().prefix("watchbell-").suffix(".conf").tempfile().and_then(|mut file| {
        writeln!(file, "{url}")?;
        Ok(file)
    });
    written.map_err(|error| DeliveryError::Unavailable {
        reason: format!(
            "no file can be written in `{}` to hand the URL to `apprise`: {}",
            std::env::temp_dir().display(),
            error.kind()
        ),
        after: None,
    })
}

/// How Apprise calls it.
fn tone(row: &OutboxRow) -> &'static str {
    match (row.notification_type, row.severity) {
        (NotificationType::Recovery, _) => "success",
        (NotificationType::SelfTest | NotificationType::Test, _) | (_, Severity::Info) => "info",
        (_, Severity::Warning) => "warning",
        (_, Severity::Critical) => "failure",
    }
}

fn text(row: &OutboxRow, public_url: Option<&str>) -> String {
    let mut text = format!("{} {}", wording::emoji(row), wording::heading(row));
    if let (true, Some(opened_at), Some(recovered_at)) =
        (row.facts.tells_alert, row.facts.opened_at, row.facts.recovered_at)
    {
        let minute = "%Y-%m-%d %H:%M UTC";
        text.push_str(&format!("\nDown from {} to {}.", opened_at.format(minute), recovered_at.format(minute)));
    }
    text.push_str("\n\n");
    text.push_str(&wording::text(row, MAX_TEXT_CHARS));
    if let Some(link) = wording::link(row, public_url) {
        text.push_str(&format!("\n\n{link}"));
    }
    text
}

fn not_started(error: &std::io::Error) -> DeliveryError {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "the program `apprise` is not in the node's PATH (install it: `pip install apprise`)".to_owned()
        }
        _ => format!("the program `apprise` cannot be run: {error}"),
    };
    DeliveryError::Unavailable { reason, after: None }
}

/// Apprise exits with 1 for almost everything: a service that is away, and one that refuses this message. What it cannot
/// begin with is told apart: a URL that it does not know, and (2) options that it does not have.
fn failure(status: ExitStatus, output: &str, url: &str) -> DeliveryError {
    let words = one_line(&hidden(last_words(output), url), MAX_SHOWN_CHARS).into_owned();
    let words = if words.is_empty() { status.to_string() } else { words };
    if output.contains(NO_SERVICE) {
        let reason = format!(
            "`apprise` can do nothing with the channel's URL: {words} (`apprise --details` lists its services)"
        );
        return DeliveryError::Unavailable { reason, after: None };
    }
    match status.code() {
        Some(2) => DeliveryError::Unavailable {
            reason: format!("`apprise` does not take what it is called with: {words} (is it too old?)"),
            after: None,
        },
        _ => DeliveryError::Retry { reason: format!("`apprise` did not deliver: {words}"), after: None },
    }
}

/// The last line of its log, without the time; else its last line.
fn last_words(output: &str) -> &str {
    let lines = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let logged = |line: &'static str| move |said: &&str| said.contains(line);
    let said = lines().find(logged(" - ERROR - ")).or_else(|| lines().find(logged(" - WARNING - ")));
    match said {
        Some(line) => line.splitn(3, " - ").last().unwrap_or(line),
        None => lines().next().unwrap_or_default(),
    }
}

/// The words without anything that the URL holds: decoded first on both sides, since programs encode in their own ways.
fn hidden(words: &str, url: &str) -> String {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let parts = after_scheme.split(['/', ':', '@', '?', '&', '=', '#', ',']);
    let mut secrets: Vec<String> = [url, after_scheme].into_iter().chain(parts).map(decoded).collect();
    secrets.retain(|secret| secret.chars().count() >= SHORTEST_HIDDEN);
    // The longest first: one may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(decoded(words), |words, secret| words.replace(secret, "***"))
}

#[cfg(test)]
mod tests;
