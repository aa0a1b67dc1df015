//! Executes one command. Each may be executed again after a crash, and then changes nothing: an acknowledgment and a
//! silence keep the key of the command that made them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono_tz::Tz;
use watchbell_contract::Severity;

use crate::domain::commands::{Acknowledge, NewSilence, Summary, Wish, answers, parse};
use crate::domain::selector::Subject;
use crate::domain::{IncidentId, MonitorId, MonitorRow, one_line};
use crate::engine::rulebook::Rulebook;
use crate::ports::{Clock, Command, Store, StoreError};

/// `acknowledged_by` and `created_by` are read in tables and messages.
const MAX_SENDER_CHARS: usize = 200;
/// A key of a service; what is longer is none.
const MAX_KEY_CHARS: usize = 500;
/// `reason` of a silence.
const REASON: &str = "by command";

pub(super) struct Executor {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) default_zone: Tz,
    /// The channel's name.
    pub(super) channel: String,
}

impl Executor {
    /// Does what `command` says; returns the answer.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(super) async fn execute(&self, command: &Command) -> Result<String, StoreError> {
        let wish = match parse(&command.text) {
            Ok(wish) => wish,
            Err(how_to_write_it) => return Ok(how_to_write_it),
        };
        match wish {
            Wish::Help => Ok(answers::help()),
            Wish::Status => self.status().await,
            Wish::Acknowledge { incident, span, note } => self.acknowledge(command, incident, span, note).await,
            Wish::Silence { monitor, span } => match self.find(&monitor).await? {
                Ok(monitor) => self.silence(command, &monitor, span).await,
                Err(answer) => Ok(answer),
            },
            Wish::EndSilences { monitor } => match self.find(&monitor).await? {
                Ok(monitor) => self.end_silences(command, &monitor).await,
                Err(answer) => Ok(answer),
            },
        }
    }

    async fn status(&self) -> Result<String, StoreError> {
        let now = self.clock.now();
        let limit = u32::try_from(answers::MAX_FAILING).unwrap_or(u32::MAX);
        let summary = self.store.summary(now, limit).await?;
        let rules = self.rulebook.known().rules;
        let holding: Vec<_> = rules.silences.iter().filter(|silence| silence.end_if_within(now).is_some()).collect();
        let is_silenced = |row: &MonitorRow| {
            let labels = row.labels();
            holding.iter().any(|silence| silence.covers(row.id, &subject(row, &labels, row.severity)))
        };
        let silenced: BTreeSet<MonitorId> = silenced(&summary, is_silenced);
        Ok(answers::status(&summary, &silenced, holding.len(), now))
    }

    async fn acknowledge(
        &self,
        command: &Command,
        incident: IncidentId,
        span: Option<chrono::TimeDelta>,
        note: Option<String>,
    ) -> Result<String, StoreError> {
        let now = self.clock.now();
        let request = Acknowledge {
            incident,
            by: sender(command),
            note,
            until: span.map(|span| now + span),
            command: self.key(command),
        };
        let record = self.store.acknowledge(&request, now).await?;
        tracing::info!(
            channel = self.channel,
            sender = request.by,
            incident = incident.0,
            "an acknowledgment was commanded"
        );
        Ok(answers::acknowledged(&request, record.as_ref(), now))
    }

    async fn silence(
        &self,
        command: &Command,
        monitor: &MonitorRow,
        span: chrono::TimeDelta,
    ) -> Result<String, StoreError> {
        let now = self.clock.now();
        let silence = NewSilence {
            monitor: monitor.id,
            starts_at: now,
            ends_at: now + span,
            created_by: sender(command),
            reason: REASON.to_owned(),
            command: self.key(command),
        };
        let made = self.store.add_silence(&silence).await?;
        tracing::info!(
            channel = self.channel, sender = silence.created_by, monitor.id = monitor.id.0, silence = made.id,
            ends_at = %made.ends_at, "a silence was commanded"
        );
        Ok(answers::silenced(monitor, made, self.default_zone))
    }

    async fn end_silences(&self, command: &Command, monitor: &MonitorRow) -> Result<String, StoreError> {
        let ended = self.store.end_silences(monitor.id, self.clock.now()).await?;
        tracing::info!(
            channel = self.channel,
            sender = sender(command),
            monitor.id = monitor.id.0,
            silences = ended.len(),
            "the end of silences was commanded"
        );
        Ok(answers::silences_ended(monitor, &ended))
    }

    /// The one monitor that is called so, or the answer that says why it is not one.
    async fn find(&self, text: &str) -> Result<Result<MonitorRow, String>, StoreError> {
        let mut rows = Vec::new();
        for id in self.store.find_monitors(text).await? {
            rows.extend(self.store.monitor(id).await?);
        }
        match rows.len() {
            1 => Ok(Ok(rows.remove(0))),
            _ => Ok(Err(answers::not_one_monitor(text, &rows))),
        }
    }

    /// Services give keys of their own making: unique within the channel.
    fn key(&self, command: &Command) -> String {
        format!("{}/{}", self.channel, one_line(&command.id, MAX_KEY_CHARS))
    }
}

fn sender(command: &Command) -> String {
    one_line(&command.sender, MAX_SENDER_CHARS).into_owned()
}

fn subject<'a>(
    row: &'a MonitorRow,
    labels: &'a std::collections::BTreeMap<String, String>,
    severity: Severity,
) -> Subject<'a> {
    Subject { labels, kind: &row.kind, name: &row.name, severity }
}

fn silenced(summary: &Summary, is_silenced: impl Fn(&MonitorRow) -> bool) -> BTreeSet<MonitorId> {
    summary.failing.iter().filter(|failing| is_silenced(&failing.row)).map(|failing| failing.row.id).collect()
}
