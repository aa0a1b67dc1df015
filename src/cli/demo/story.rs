//! What happens in the demo, and how it is told: the target breaks after the first check, heals after the reminder,
//! and each run and each mail is shown as it comes.

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior};

use super::screen::{Screen, Tone};
use super::target::Target;
use super::{Mail, PORT};
use crate::domain::{MonitorId, NotificationType};
use crate::ports::{Columns, Store};

/// The story takes about 20 s; a machine that needs three times as long has a trouble of its own.
const AT_MOST: Duration = Duration::from_secs(60);
/// A newcomer reads the first lines before something breaks.
const TIME_TO_READ: Duration = Duration::from_secs(4);
/// How soon a run is shown.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// More runs than the story has.
const MOST_RUNS: u32 = 100;
/// A mail of the demo has fewer lines.
const MOST_LINES: usize = 12;

/// How the story ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The alert, the reminder and the recovery were seen.
    AllSeen,
    /// A person stopped it.
    Stopped,
    /// Not within the time.
    TooSlow,
}

/// What the story waits for, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    FirstCheck,
    Breakdown { at: Instant },
    Alert,
    Reminder,
    Recovery,
    Nothing,
}

impl Awaited {
    fn describe(self) -> &'static str {
        match self {
            Awaited::FirstCheck => "for the first check",
            Awaited::Breakdown { .. } => "a moment before the shop breaks",
            Awaited::Alert => "for the next check to notice",
            Awaited::Reminder => "for the next check to fail again, and to remind",
            Awaited::Recovery => "for two oks in a row, which end the alert",
            Awaited::Nothing => "for nothing",
        }
    }
}

/// A story on its way.
pub(super) struct Story<'a> {
    screen: &'a mut Screen<io::Stdout>,
    store: &'a dyn Store,
    target: &'a Target,
    shop: MonitorId,
    port: MonitorId,
    awaited: Awaited,
    /// Runs of the shop's monitor that were shown.
    shown: usize,
}

impl<'a> Story<'a> {
    pub(super) fn new(
        screen: &'a mut Screen<io::Stdout>,
        store: &'a dyn Store,
        target: &'a Target,
        shop: MonitorId,
        port: MonitorId,
    ) -> Self {
        Self { screen, store, target, shop, port, awaited: Awaited::FirstCheck, shown: 0 }
    }

    /// Tells it to its end.
    ///
    /// # Errors
    /// When the database cannot be read or standard output not be written.
    pub(super) async fn tell(mut self, mut delivered: UnboundedReceiver<Mail>) -> anyhow::Result<Ending> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = tokio::time::sleep(AT_MOST);
        tokio::pin!(deadline);
        while self.awaited != Awaited::Nothing {
            tokio::select! {
                () = &mut deadline => {
                    let missing = self.awaited.describe();
                    let text = format!("given up after {} s of waiting, at last {missing}", AT_MOST.as_secs());
                    self.screen.event(Tone::Bad, &text)?;
                    return Ok(Ending::TooSlow);
                }
                Some(mail) = delivered.recv() => {
                    // The run comes before what it told.
                    self.look().await?;
                    self.mail(&mail)?;
                }
                _ = look.tick() => self.look().await?,
            }
        }
        self.end().await?;
        Ok(Ending::AllSeen)
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let runs = self.store.history(self.shop, MOST_RUNS).await?;
        let fresh = runs.len().saturating_sub(self.shown);
        for run in runs.iter().take(fresh).rev() {
            self.run(run)?;
        }
        self.shown = runs.len();
        match self.awaited {
            Awaited::Breakdown { at } if at <= Instant::now() => {
                self.target.set_broken(true);
                self.awaited = Awaited::Alert;
                self.screen.event(Tone::Bad, "THE SHOP BREAKS: from now on it answers 503")?;
            }
            _ => {}
        }
        Ok(self.screen.waiting(self.awaited.describe())?)
    }

    fn run(&mut self, run: &Columns) -> anyhow::Result<()> {
        let text = |column: &str| run.get(column).and_then(|value| value.as_str()).unwrap_or_default();
        let is_ok = run.get("is_ok").and_then(|value| value.as_i64()) == Some(1);
        let which = if self.awaited == Awaited::FirstCheck { "first check" } else { "check" };
        let (verdict, tone) = if is_ok { ("ok", Tone::Good) } else { ("failed", Tone::Bad) };
        let state = match (text("state_before"), text("state_after")) {
            ("alert", "alert") if is_ok => "one ok of the two in a row that end an alert".to_owned(),
            (before, after) if before == after => format!("state stays {after}"),
            (before, after) => format!("state {before} -> {after}"),
        };
        // The mail below has it whole.
        let message: String = text("message").chars().take_while(|character| *character != ';').collect();
        self.screen.event(tone, &format!("{which} {verdict}, {state}: {message}"))?;
        if self.awaited == Awaited::FirstCheck {
            self.awaited = Awaited::Breakdown { at: Instant::now() + TIME_TO_READ };
        }
        Ok(())
    }

    fn mail(&mut self, mail: &Mail) -> anyhow::Result<()> {
        let message = &mail.message;
        self.screen.event(Tone::Strong, &format!("mail to {}: {}", message.recipient, message.subject))?;
        let first_lines: Vec<&str> = message.body.lines().take(MOST_LINES).collect();
        self.screen.quote(&first_lines.join("\n"))?;
        self.screen.text(Tone::Faint, &format!("         {}", mail.answer))?;
        match (message.notification_type, self.awaited) {
            (NotificationType::Alert, Awaited::Alert) => self.awaited = Awaited::Reminder,
            (NotificationType::Reminder, Awaited::Reminder) => {
                self.target.set_broken(false);
                self.awaited = Awaited::Recovery;
                self.screen.event(Tone::Good, "THE SHOP IS MENDED: from now on it answers 200")?;
            }
            (NotificationType::Recovery, Awaited::Recovery) => self.awaited = Awaited::Nothing,
            // A second reminder, for example, while the first one was written.
            _ => {}
        }
        Ok(())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        let runs =
            self.store.history(self.port, MOST_RUNS).await.context("cannot read the runs of the other monitor")?;
        self.screen.event(
            Tone::Plain,
            &format!("`{PORT}` was checked {} times meanwhile and stayed ok, so nobody was told", runs.len()),
        )?;
        let seconds = self.screen.elapsed().as_secs();
        let text = format!("\nAn alert, a reminder and a recovery, in {seconds} s.");
        Ok(self.screen.text(Tone::Strong, &text)?)
    }
}
