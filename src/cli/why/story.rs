//! The story of a run as text and as JSON.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::cli::columns::{is_set, text};
use crate::cli::{find, ledger};
use crate::domain::MonitorRow;
use crate::ports::{Columns, Ledger, Store, StoreError, Story};

/// A run, and whom it told.
pub(super) struct Told {
    monitor: Value,
    called: String,
    zone: Tz,
    run: Columns,
    incident: Option<Columns>,
    messages: Vec<Message>,
    without_run: Vec<Message>,
}

/// One notification in words.
struct Message {
    notification: Columns,
    rule: String,
    /// When, and what: in order.
    entries: Vec<(String, String)>,
    standing: String,
    ledger: Ledger,
}

impl Told {
    /// Puts everything in words.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) async fn read(store: &dyn Store, row: &MonitorRow, story: Story, zone: Tz) -> Result<Self, StoreError> {
        let mut messages = Vec::with_capacity(story.notifications.len());
        for ledger in story.notifications {
            messages.push(Message::read(store, ledger, zone).await?);
        }
        let mut without_run = Vec::with_capacity(story.without_run.len());
        for ledger in story.without_run {
            without_run.push(Message::read(store, ledger, zone).await?);
        }
        Ok(Self {
            monitor: json!({"id": row.id.0, "uuid": row.uuid, "name": row.name}),
            called: find::called(row),
            zone,
            run: story.run,
            incident: story.incident,
            messages,
            without_run,
        })
    }

    /// Why nobody was told; `None` where somebody was.
    fn nobody(&self) -> Option<String> {
        let tells = |message: &Message| text(&message.notification, "rule") != "wants_state_changes";
        if self.messages.iter().any(tells) || !text(&self.run, "notification_type").is_empty() {
            return None;
        }
        let reason = text(&self.run, "reason");
        Some(match (reason.is_empty(), self.run["state_before"] == self.run["state_after"]) {
            (false, _) => ledger::short(&reason),
            (true, true) => format!("the state stayed {}", text(&self.run, "state_after")),
            (true, false) => "the reason was not recorded".to_owned(),
        })
    }

    /// What a run of an older version told is not recorded with it, and old history goes.
    fn unrecorded(&self) -> Option<String> {
        let told = text(&self.run, "notification_type");
        let is_unrecorded = !told.is_empty() && self.messages.is_empty();
        is_unrecorded.then(|| format!("{told}; to whom is not recorded with the run, or forgotten by now"))
    }

    fn lateness_ms(&self) -> Option<i64> {
        let tick = text(&self.run, "tick_at").parse::<DateTime<Utc>>().ok()?;
        let started = text(&self.run, "started_at").parse::<DateTime<Utc>>().ok()?;
        Some((started - tick).num_milliseconds())
    }

    /// What scripts read.
    pub(super) fn as_json(&self) -> Value {
        let mut run = json!(self.run);
        run["lateness_ms"] = json!(self.lateness_ms());
        json!({
            "monitor": self.monitor,
            "run": run,
            "transition": {
                "state_before": self.run.get("state_before"),
                "state_after": self.run.get("state_after"),
                "reason": self.run.get("reason"),
            },
            "incident": self.incident,
            "notifications": self.messages.iter().map(Message::as_json).collect::<Vec<_>>(),
            "nobody_told_because": self.nobody(),
            "without_run": self.without_run.iter().map(Message::as_json).collect::<Vec<_>>(),
        })
    }

    /// What people read.
    pub(super) fn as_text(&self) -> String {
        let mut lines = vec![format!("monitor {}", self.called)];
        let instant = match text(&self.run, "tick_at").is_empty() {
            true => format!("no tick ({})", text(&self.run, "cause")),
            false => format!("tick {}", ledger::clock_of(&self.run, "tick_at", self.zone)),
        };
        lines.push(format!("run {}, {instant}", text(&self.run, "id")));
        let late = self.lateness_ms().map_or_else(String::new, |late| format!(", {late} ms late"));
        lines.push(format!(
            "  started   {}{late}, took {} ms, on node {}, cause {}",
            ledger::clock_of(&self.run, "started_at", self.zone),
            text(&self.run, "duration_ms"),
            ledger::short(&text(&self.run, "node")),
            text(&self.run, "cause"),
        ));
        let verdict = if is_set(&self.run, "is_ok") { "ok" } else { "failed" };
        lines.push(format!("  outcome   {verdict}: {}", ledger::short(&text(&self.run, "message"))));
        lines.push(format!("  state     {}", self.transition()));
        lines.extend(self.incident.as_ref().map(|incident| format!("  incident  {}", self.told_of(incident))));
        if let Some(why) = self.nobody() {
            lines.push(format!("  told      nobody: {why}"));
        }
        lines.extend(self.unrecorded().map(|told| format!("  told      {told}")));
        for message in &self.messages {
            lines.push(String::new());
            message.append(&mut lines);
        }
        if !self.without_run.is_empty() {
            lines.push(String::new());
            // An older version recorded neither the run nor the rule.
            let is_by_hand = self.without_run.iter().all(|message| !text(&message.notification, "rule").is_empty());
            let why = if is_by_hand { "somebody edited the row by hand" } else { "of this run, or of an edit by hand" };
            lines.push(format!("after this run, and before the next: told because {why}"));
        }
        for message in &self.without_run {
            lines.push(String::new());
            message.append(&mut lines);
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn transition(&self) -> String {
        let (before, after) = (text(&self.run, "state_before"), text(&self.run, "state_after"));
        let state = if before == after { format!("stays {after}") } else { format!("{before} -> {after}") };
        match text(&self.run, "reason").as_str() {
            "" => state,
            reason => format!("{state}: {}", ledger::short(reason)),
        }
    }

    fn told_of(&self, incident: &Columns) -> String {
        let mut told =
            format!("{}, opened {}", text(incident, "id"), ledger::clock_of(incident, "opened_at", self.zone));
        if !text(incident, "acknowledged_at").is_empty() {
            told.push_str(&format!(", acknowledged {}", ledger::clock_of(incident, "acknowledged_at", self.zone)));
            let by = text(incident, "acknowledged_by");
            if !by.is_empty() {
                told.push_str(&format!(" by {}", ledger::short(&by)));
            }
            if !text(incident, "acknowledged_until").is_empty() {
                told.push_str(&format!(" until {}", ledger::clock_of(incident, "acknowledged_until", self.zone)));
            }
        }
        match text(incident, "recovered_at").is_empty() {
            true => told.push_str(", still open"),
            false => told.push_str(&format!(", over {}", ledger::clock_of(incident, "recovered_at", self.zone))),
        }
        told
    }
}

impl Message {
    async fn read(store: &dyn Store, ledger: Ledger, zone: Tz) -> Result<Self, StoreError> {
        let notification = ledger.notification.clone();
        let mut entries = vec![(
            ledger::clock_of(&notification, "created_at", zone),
            "queued in the transaction of the run".to_owned(),
        )];
        if text(&notification, "run_id").is_empty() {
            entries[0].1 = "queued".to_owned();
        }
        entries.extend(entries_of(store, &ledger.events, zone).await?);
        if let Some(teller) = &ledger.merged_into {
            let which = format!("notification {}", text(teller, "id"));
            let told = entries_of(store, &ledger.events_of_merged_into, zone).await?;
            entries.extend(told.into_iter().map(|(at, what)| (at, format!("{which}: {what}"))));
        }
        let standing = standing(store, &ledger, zone).await?;
        let rule = ledger::rule(store, &text(&notification, "rule")).await?;
        Ok(Self { notification, rule, entries, standing, ledger })
    }

    fn as_json(&self) -> Value {
        let mut message = json!(self.notification);
        message["rule_text"] = json!(self.rule);
        message["standing"] = json!(self.standing);
        message["events"] = json!(self.ledger.events);
        message["told_by"] = json!(self.ledger.merged_into);
        if self.ledger.merged_into.is_some() {
            message["told_by"]["events"] = json!(self.ledger.events_of_merged_into);
        }
        message
    }

    fn append(&self, lines: &mut Vec<String>) {
        let notification = &self.notification;
        lines.push(format!(
            "notification {} ({}, {}) to {}: {}",
            text(notification, "id"),
            text(notification, "type"),
            text(notification, "severity"),
            ledger::short(&text(notification, "recipient")),
            self.standing
        ));
        lines.push(format!("  chosen by {}", self.rule));
        lines.extend(self.entries.iter().map(|(at, what)| format!("  {at}  {what}")));
    }
}

/// The ledger in words; the same failure over and over is one line.
async fn entries_of(store: &dyn Store, events: &[Columns], zone: Tz) -> Result<Vec<(String, String)>, StoreError> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    while let Some(event) = events.get(at) {
        let same = events[at..]
            .iter()
            .take_while(|other| other["event"] == event["event"] && other["detail"] == event["detail"]);
        let times = same.count().max(1);
        let mut what = entry(store, &text(event, "event"), &text(event, "detail"), zone).await?;
        if times > 1 {
            let last = ledger::clock_of(&events[at + times - 1], "at", zone);
            what = format!("{what} ({times} times, the last {last})");
        }
        entries.push((ledger::clock_of(event, "at", zone), what));
        at += times;
    }
    Ok(entries)
}

async fn entry(store: &dyn Store, event: &str, detail: &str, zone: Tz) -> Result<String, StoreError> {
    Ok(match event {
        "held" => {
            let (reason, until) = detail.rsplit_once(" until ").unwrap_or((detail, ""));
            let until = ledger::until(reason, &ledger::clock_in(until, zone));
            format!("held by {}, {until}", ledger::hold(store, reason).await?)
        }
        "released" => format!("released: no longer held by {}", ledger::hold(store, detail).await?),
        "merged" => format!("merged {}, which tells it", ledger::short(detail)),
        "withdrawn" => format!("withdrawn: {}", ledger::short(detail)),
        "sent" => format!("sent; the service answered: {}", ledger::short(detail)),
        "not taken" => format!("tried and not taken: {}", ledger::short(detail)),
        "given up" => format!("given up: {}", ledger::short(detail)),
        "retried" => "sent again by hand".to_owned(),
        other if detail.is_empty() => other.to_owned(),
        other => format!("{other}: {}", ledger::short(detail)),
    })
}

/// Where it stands now.
async fn standing(store: &dyn Store, ledger: &Ledger, zone: Tz) -> Result<String, StoreError> {
    let notification = &ledger.notification;
    let Some(teller) = &ledger.merged_into else { return standing_of(store, notification, ledger, zone).await };
    let of_teller = standing_of(store, teller, ledger, zone).await?;
    Ok(format!("told by notification {} ({}): {of_teller}", text(teller, "id"), text(teller, "type")))
}

async fn standing_of(
    store: &dyn Store,
    notification: &Columns,
    ledger: &Ledger,
    zone: Tz,
) -> Result<String, StoreError> {
    let attempts = text(notification, "attempts");
    Ok(match text(notification, "status").as_str() {
        "sent" => format!("sent {}", ledger::clock_of(notification, "sent_at", zone)),
        "sending" => format!("being sent now, attempt {attempts}"),
        "held" => {
            let reason = text(notification, "hold_reason");
            let until = ledger::until(&reason, &ledger::clock_of(notification, "next_attempt_at", zone));
            format!("held by {}, {until}", ledger::hold(store, &reason).await?)
        }
        "withdrawn" => "withdrawn".to_owned(),
        "failed" => format!(
            "given up ({}); `watchbell outbox retry {}` sends it again",
            ledger::short(&text(notification, "last_error")),
            text(notification, "id")
        ),
        "pending" => waiting(notification, ledger, zone),
        other => other.to_owned(),
    })
}

fn waiting(notification: &Columns, ledger: &Ledger, zone: Tz) -> String {
    if let Some(trouble) = &ledger.channel_trouble {
        return format!(
            "waits: the channel takes nothing since {} ({})",
            ledger::clock_of(trouble, "since", zone),
            ledger::short(&text(trouble, "error"))
        );
    }
    if let Some(ahead) = &ledger.ahead {
        return format!(
            "waits behind notification {} ({}, {})",
            text(ahead, "id"),
            text(ahead, "type"),
            text(ahead, "status")
        );
    }
    match text(notification, "attempts").as_str() {
        "0" => "waits for a node to send it".to_owned(),
        attempts => format!(
            "waits after {attempts} attempts, to be tried again {}",
            ledger::clock_of(notification, "next_attempt_at", zone)
        ),
    }
}
