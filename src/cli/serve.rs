//! `watchbell serve`: this process as a node, until it is told to stop.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use watchbell_contract::{ConfigFault, Monitor};

use super::answer::Trouble;
use super::installation::{Access, IfMissing, Installation, Prepared, smtp};
use crate::config::{Configuration, Source};
use crate::engine::{Engine, Parts};
use crate::ports::{Channel, ChannelSource, StoreError};
use crate::schedule::cron;
use crate::store::SqlStore;
use crate::store::sqlite::FileLock;

/// What a newcomer pastes.
const FIRST_INSERT: &str = "INSERT INTO monitors (name, kind, schedule, config, people_to_notify)
   VALUES ('My first monitor', 'tcp', '* * * * *', '{\"host\": \"127.0.0.1\", \"port\": 9}', '[\"me@example.com\"]')";
/// Between two attempts to reach a server, at first; then twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A server that is back is found within this.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long an attempt may take, with room: systemd is told to wait for it.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(60);
/// A scheduler looks for due jobs twice a second; one that has not for this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// How often the scheduler is looked at where systemd asks for no shorter time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, then ends in order; a second signal ends at once.
///
/// # Errors
/// What keeps the node from starting, or from going on: a part of it that ended though nobody stopped it.
pub(super) async fn serve(configuration: Configuration, extra_kinds: Vec<Box<dyn Monitor>>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let prepared = Prepared::of(configuration, extra_kinds, IfMissing::Make).await?;
    let store = tokio::select! {
        store = connect(&prepared) => store?,
        () = signals.next() => return Ok(()),
    };
    let installation = prepared.over(store, Access::Write).await?;
    let outcome = serve_installation(&installation, signals).await;
    installation.store.close().await;
    outcome
}

async fn serve_installation(installation: &Installation, mut signals: Signals) -> anyhow::Result<()> {
    let _lock = match installation.database.is_file() {
        true => Some(FileLock::take(&installation.database_url)?),
        false => None,
    };
    refuse_without_rights(installation).await?;
    let (channel, fault) = ready_mail(installation).await?;
    let channels = installation.channels_with(channel.clone());
    let engine = start(installation, channels).await?;
    say(installation, &mail(installation, channel.as_ref(), fault.as_ref()), engine.monitors())?;
    warn_of(installation, fault.as_ref());
    tell_systemd(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = engine.failed() => Some(failure),
        never = look_after(&engine) => match never {},
    };
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!(
        "stopping: running checks have {} s to end",
        installation.configuration.checks.shutdown_grace.as_secs()
    );
    tokio::select! {
        () = engine.shutdown() => tracing::info!("stopped; everything decided is written"),
        () = signals.next() => tracing::warn!("stopped at once, at a second signal; what was not written is run again"),
    }
    match failure {
        None => Ok(()),
        // With an error, so that systemd starts the node anew.
        Some(failure) => Err(anyhow::anyhow!("this node cannot go on: {failure}; start it again")),
    }
}

/// Opens the database. A server may come up later than this machine, and come back: it is waited for. What waiting does not
/// mend ends the node at once, and so does a file.
async fn connect(prepared: &Prepared) -> Result<SqlStore, StoreError> {
    let mut wait = FIRST_WAIT;
    loop {
        match prepared.connect().await {
            Err(error @ StoreError::Unavailable { .. }) if !prepared.database.is_file() => {
                tracing::warn!("{error}; trying again in {} s", wait.as_secs());
                let longest = u32::try_from((LONGEST_ATTEMPT + wait).as_micros()).unwrap_or(u32::MAX);
                tell_systemd(&[
                    NotifyState::Status("waiting for the database"),
                    NotifyState::ExtendTimeoutUsec(longest),
                ]);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            result => return result,
        }
    }
}

/// A node that may not write what it finds out is worse than none.
async fn refuse_without_rights(installation: &Installation) -> anyhow::Result<()> {
    let missing = installation.sql.missing_rights().await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Trouble::failed(format!(
        "the user of `{}` lacks rights that a node needs: {}",
        installation.database.shown(),
        missing.join(", ")
    ))
    .hint("`docs/databases.md` has the GRANTs for the service")
    .hint("is `database_url` that of a user who may only insert monitors?")
    .into())
}

/// Where messages go, and what is wrong with `mail.url` as far as is known without asking the server. That is no reason
/// not to start: checks run, and mail waits until somebody has mended it.
async fn ready_mail(installation: &Installation) -> anyhow::Result<(Arc<dyn Channel>, Option<ConfigFault>)> {
    let Some(server) = smtp(&installation.configuration)? else { return Ok((installation.mail()?, None)) };
    let fault = server.prepare().await.err();
    Ok((Arc::new(server), fault))
}

async fn start(installation: &Installation, channels: Arc<dyn ChannelSource>) -> anyhow::Result<Engine> {
    let checks = &installation.configuration.checks;
    let parts = Parts {
        store: installation.store.clone(),
        channels,
        clock: installation.clock.clone(),
        kinds: installation.kinds.clone(),
        node: installation.node.clone(),
        membership: installation.membership(),
        policy: installation.policy(),
        limits: installation.limits(),
        max_concurrent_checks: checks.max_concurrent,
        shutdown_grace: checks.shutdown_grace,
        keep_history: installation.configuration.history.keep,
        is_only_node: installation.database.is_file(),
        alive: installation.alive()?,
    };
    Engine::start(parts, cron()).await.context("the node cannot start")
}

/// Where mail goes.
fn mail(installation: &Installation, channel: &dyn Channel, fault: Option<&ConfigFault>) -> String {
    match (fault, &installation.configuration.mail.url) {
        (Some(_), Some(url)) => format!("waits, since `mail.url` ({url}) cannot be used"),
        _ => channel.describe(),
    }
}

/// What a person should know of the configuration although the node starts.
fn warn_of(installation: &Installation, mail_fault: Option<&ConfigFault>) {
    if let Some(fault) = mail_fault {
        tracing::warn!("no mail can be sent, and what is to be sent waits: {fault}");
    }
    let listen = installation.configuration.effective().iter().find(|value| value.key == "listen");
    if let Some(listen) = listen.filter(|listen| listen.source != Source::Default) {
        tracing::warn!("`listen` ({}) is not used: this version has no web pages", listen.source);
    }
}

/// Where everything is, and what to do first, on standard output.
fn say(installation: &Installation, mail: &str, monitors: usize) -> anyhow::Result<()> {
    let mut lines = vec![
        format!("watchbell {} is serving", env!("CARGO_PKG_VERSION")),
        format!(
            "  database  {}  ({monitors} {})",
            installation.database.shown(),
            if monitors == 1 { "monitor" } else { "monitors" }
        ),
        format!("  mail      {mail}"),
    ];
    if monitors == 0 {
        lines.push(String::new());
        lines.push("No monitor yet. In another terminal, register one; it is checked at once:".to_owned());
        lines.push(String::new());
        lines.push(installation.database.client_line(FIRST_INSERT));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", lines.join("\n")).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Tells systemd that the node lives, while its scheduler really looks for due jobs. A hanging one is not covered up.
async fn look_after(engine: &Engine) -> Infallible {
    let every = sd_notify::watchdog_enabled().map_or(LOOK_EVERY, |asked| asked / 3);
    let mut is_hanging = false;
    loop {
        tokio::time::sleep(every).await;
        let silent_for = engine.scheduler_counters().since_last_poll.unwrap_or_default();
        if silent_for < HANGS_AFTER {
            is_hanging = false;
            tell_systemd(&[NotifyState::Watchdog]);
        } else if !is_hanging {
            is_hanging = true;
            tracing::error!(
                seconds = silent_for.as_secs(),
                "the scheduler hangs: no monitor is checked; restart this node"
            );
        }
    }
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how this service does");
    }
}

/// The signals that end a node, or the demo.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
