//! `watchbell demo`: a throwaway installation that shows an alert, a reminder and a recovery within a minute.
//!
//! Everything is real but the thing that is watched: a database file, rows inserted by SQL over a connection of its
//! own, the engine and its scheduler, mail as files. `story` drives it and tells what happens, `target` is what
//! breaks and heals, `screen` writes the timeline.

mod screen;
mod story;
mod target;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::TimeDelta;
use clap::Args;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use watchbell_contract::Monitor;

use super::FileFlag;
use super::answer::{Answer, Status};
use super::installation::{Access, IfMissing, Installation};
use super::serve::Signals;
use super::sql_text::{Dialect, insert};
use crate::config::{Configuration, Flags};
use crate::domain::planning::Limits;
use crate::domain::{MonitorId, OutboxRow};
use crate::engine::{Alive, Engine, Membership, Parts};
use crate::ports::{Channel, Delivered, DeliveryError, MailOnly};
use crate::schedule::cron;
use crate::store::sqlite::database_path;
use screen::{Screen, Tone};
use story::{Ending, Story};
use target::Target;

/// Often enough for a minute of attention, and slow enough to follow.
const SCHEDULE: &str = "*/5 * * * * *";
/// Nothing is delivered to this address: the mail goes to files.
const RECIPIENTS: &str = r#"["you@example.com"]"#;
/// The monitor that alerts.
const SHOP: &str = "Demo shop is open";
/// The monitor that does not.
const PORT: &str = "Demo shop listens on its port";
const REMINDER_NOTE: &str =
    "reminder_frequency_minutes 0 reminds at every failing check: nobody wants to wait here for the usual hour.";
/// The checks of the demo take milliseconds.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// More than the two checks that ever go on at a time.
const MOST_CHECKS: usize = 8;

/// What follows `demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) file: FileFlag,
    /// Keep the database and the mails, to look at them afterwards
    #[arg(long)]
    keep: bool,
}

/// Shows it. The status is `Done` when all three mails were seen.
///
/// # Errors
/// What keeps the throwaway installation from working.
pub(super) async fn demo(arguments: &Arguments, extra_kinds: Vec<Box<dyn Monitor>>) -> anyhow::Result<Answer> {
    // From here on, a person who stops it leaves no folder behind.
    let signals = Signals::new()?;
    let folder = tempfile::Builder::new()
        .prefix("watchbell-demo-")
        .tempdir()
        .context("cannot make a folder for the throwaway installation")?;
    let mut screen = Screen::stdout();
    let ending = match play(&mut screen, signals, folder.path(), extra_kinds).await {
        // The reader went away (`| head`): there is nobody left to show anything to.
        Err(error) if is_closed_pipe(&error) => return Ok(Answer::silent().with_status(Status::Failed)),
        ending => ending?,
    };
    let kept = match arguments.keep {
        true => {
            let path = folder.keep();
            format!("Kept: {}/watchbell.db, and the mails in mail/ beside it.", path.display())
        }
        false => {
            let path = folder.path().to_owned();
            match folder.close() {
                Ok(()) => format!("Removed: {}. `watchbell demo --keep` keeps it.", path.display()),
                Err(error) => format!("Not removed: {}: {error}", path.display()),
            }
        }
    };
    Ok(match ending {
        Ending::AllSeen => Answer::of_text(format!("{kept}\n\n{}", next_steps())),
        Ending::Stopped | Ending::TooSlow => Answer::of_text(kept).with_status(Status::Failed),
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn play(
    screen: &mut Screen<io::Stdout>,
    mut signals: Signals,
    folder: &Path,
    extra_kinds: Vec<Box<dyn Monitor>>,
) -> anyhow::Result<Ending> {
    let target = Target::start().await?;
    let installation = Installation::open(configuration(folder)?, extra_kinds, IfMissing::Make, Access::Write).await?;
    let (mails, delivered) = unbounded_channel();
    let engine = start(&installation, mails).await?;
    let told = tokio::select! {
        told = tell(screen, folder, &installation, &target, delivered) => told,
        () = signals.next() => Ok(Ending::Stopped),
    };
    engine.shutdown().await;
    installation.store.close().await;
    screen.stop_waiting()?;
    if let Ok(Ending::Stopped) = told {
        screen.event(Tone::Plain, "stopped")?;
    }
    told
}

/// Registers the monitors and tells the story, while the engine runs.
async fn tell(
    screen: &mut Screen<io::Stdout>,
    folder: &Path,
    installation: &Installation,
    target: &Target,
    delivered: UnboundedReceiver<Mail>,
) -> anyhow::Result<Ending> {
    screen.text(Tone::Strong, "A throwaway installation of Watchbell, for about half a minute")?;
    screen.text(Tone::Plain, &format!("  database  {}/watchbell.db", folder.display()))?;
    screen.text(Tone::Plain, &format!("  mail      .eml files in {}/mail", folder.display()))?;
    screen.text(
        Tone::Plain,
        &format!("  target    http://127.0.0.1:{}, a small web shop inside this process", target.port()),
    )?;
    let inserts = [shop_insert(target.port()), port_insert(target.port())];
    screen.text(Tone::Plain, &format!("\nTwo rows are two monitors:\n\n{}\n", inserts.join("\n")))?;
    screen.text(Tone::Faint, REMINDER_NOTE)?;
    screen.text(Tone::Plain, "")?;
    let shop = register(&installation.database_url, &inserts[0]).await?;
    let port = register(&installation.database_url, &inserts[1]).await?;
    screen.event(Tone::Plain, "inserted; a row that has never run is checked at once, then every 5 s")?;
    Story::new(screen, installation.store.as_ref(), target, shop, port).tell(delivered).await
}

/// The defaults, whatever this machine is configured for: the demo touches nothing outside its folder.
fn configuration(folder: &Path) -> anyhow::Result<Configuration> {
    let path = folder.to_str().context("the folder for temporary files has a name that is no UTF-8: set TMPDIR")?;
    let flags = Flags::default().set("database_url", Some(format!("sqlite://{path}/watchbell.db")));
    Ok(Configuration::load(&flags, Vec::new(), folder)?)
}

async fn start(installation: &Installation, mails: UnboundedSender<Mail>) -> anyhow::Result<Engine> {
    let parts = Parts {
        store: installation.store.clone(),
        channels: Arc::new(MailOnly(Arc::new(Watched { channel: installation.mail()?, mails }))),
        clock: installation.clock.clone(),
        kinds: installation.kinds.clone(),
        node: installation.node.clone(),
        policy: installation.policy(),
        // A minute between two messages is long for somebody who watches.
        limits: Limits { repetition: TimeDelta::zero(), ..installation.limits() },
        max_concurrent_checks: MOST_CHECKS,
        shutdown_grace: SHUTDOWN_GRACE,
        keep_history: installation.configuration.history.keep,
        is_only_node: true,
        membership: Membership::default(),
        alive: Alive::default(),
    };
    Engine::start(parts, cron()).await.context("the engine cannot start")
}

/// As a person does it: SQL, from outside of the engine.
async fn register(database_url: &str, insert: &str) -> anyhow::Result<MonitorId> {
    // By its path: a URL would give characters of the folder's name a meaning of their own.
    let options = SqliteConnectOptions::new().filename(database_path(database_url)?);
    let mut database = SqliteConnection::connect_with(&options).await.context("cannot connect to the database")?;
    let inserted = sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut database).await;
    let id = inserted.context("cannot insert the monitor")?.last_insert_rowid();
    database.close().await.context("cannot close the connection to the database")?;
    Ok(MonitorId(id))
}

fn shop_insert(port: u16) -> String {
    let config = format!(r#"{{"url": "http://127.0.0.1:{port}/"}}"#);
    let columns = [
        ("name", Some(SHOP)),
        ("kind", Some("http")),
        ("schedule", Some(SCHEDULE)),
        ("config", Some(config.as_str())),
        ("people_to_notify", Some(RECIPIENTS)),
        // At every failing check; the default, 60, would need an hour of patience.
        ("reminder_frequency_minutes", Some("0")),
    ];
    insert(Dialect::Standard, &columns)
}

fn port_insert(port: u16) -> String {
    let config = format!(r#"{{"host": "127.0.0.1", "port": {port}}}"#);
    let columns = [
        ("name", Some(PORT)),
        ("kind", Some("tcp")),
        ("schedule", Some(SCHEDULE)),
        ("config", Some(config.as_str())),
        ("people_to_notify", Some(RECIPIENTS)),
    ];
    insert(Dialect::Standard, &columns)
}

fn next_steps() -> String {
    let columns = [
        ("name", Some("My first monitor")),
        ("kind", Some("http")),
        ("schedule", Some("* * * * *")),
        ("config", Some(r#"{"url": "https://example.com"}"#)),
        ("people_to_notify", Some(r#"["me@example.com"]"#)),
    ];
    format!(
        "Next: run `watchbell serve`. It makes watchbell.db in the working directory, and writes mail to files until\n\
         `mail.url` names a server. Then, in another terminal, `sqlite3 watchbell.db`, and paste:\n\n{}\n\n\
         `watchbell kinds` lists what can be checked.\n",
        insert(Dialect::Standard, &columns)
    )
}

/// A mail that was written, and what the channel said of it.
struct Mail {
    message: OutboxRow,
    answer: String,
}

/// The channel of the installation, looked over the shoulder.
struct Watched {
    channel: Arc<dyn Channel>,
    mails: UnboundedSender<Mail>,
}

#[async_trait]
impl Channel for Watched {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let delivered = self.channel.deliver(message).await?;
        // After the story's end nobody listens any more.
        self.mails.send(Mail { message: message.clone(), answer: delivered.answer.clone() }).ok();
        Ok(delivered)
    }

    fn describe(&self) -> String {
        self.channel.describe()
    }
}
