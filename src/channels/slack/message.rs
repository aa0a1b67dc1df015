//! How a notification looks in Slack: a heading, what the child said, and a line of context, as blocks
//! (docs.slack.dev/reference/block-kit/blocks), with a plain text beside them for what shows no blocks.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::wording;
use crate::domain::{NotificationType, OutboxRow, one_line};

/// Slack's limits, counted in UTF-16 units, the strictest way to count.
const MAX_HEADER_UNITS: usize = 150;
const MAX_SECTION_UNITS: usize = 3_000;
/// Our own: it is shown in one or two lines of a push message.
const MAX_FALLBACK_UNITS: usize = 600;
/// Our own, for each part of the line of context, so that names cannot make it long. A part may have 2,000.
const MAX_CONTEXT_UNITS: usize = 300;

/// `text` and `blocks`: what a webhook, a post and an update have in common.
pub(super) fn content(row: &OutboxRow, public_url: Option<&str>) -> Value {
    let heading = format!("{} {}", wording::emoji(row), wording::heading(row));
    let said = said(row);
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": cut(&heading, MAX_HEADER_UNITS, |c| c.to_string()), "emoji": false },
    })];
    if !said.is_empty() {
        // `verbatim`: names in the child's message are no mentions of people.
        let text = escaped(&said, MAX_SECTION_UNITS);
        blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } }));
    }
    let elements: Vec<Value> = context(row, public_url)
        .into_iter()
        .map(|text| json!({ "type": "mrkdwn", "text": text, "verbatim": true }))
        .collect();
    blocks.push(json!({ "type": "context", "elements": elements }));
    let colon = if said.is_empty() { "" } else { ": " };
    let fallback = format!("{heading}{colon}{said}");
    json!({ "text": escaped(&one_line(&fallback, MAX_FALLBACK_UNITS), MAX_FALLBACK_UNITS), "blocks": blocks })
}

/// The child's message; in a recovery before it, from when until when it was down.
fn said(row: &OutboxRow) -> String {
    let mut said = String::new();
    if let (NotificationType::Recovery, Some(opened_at), Some(recovered_at)) =
        (row.notification_type, row.facts.opened_at, row.facts.recovered_at)
    {
        said = format!("Was down from {} to {}.", shown(opened_at), shown(recovered_at));
        if row.facts.tells_alert {
            said.push_str(" No delivery of the alert was confirmed before.");
        }
        said.push('\n');
    }
    said.push_str(&wording::text(row, MAX_SECTION_UNITS));
    said.trim().to_owned()
}

/// What is small below it.
fn context(row: &OutboxRow, public_url: Option<&str>) -> Vec<String> {
    let mut parts = vec![format!("*{}* {}", row.severity.as_str(), row.notification_type.as_str())];
    parts.push(shown(row.facts.at.unwrap_or(row.created_at)));
    parts.extend(wording::incident(row));
    if let Some(name) = &row.facts.acknowledged_by {
        parts.push(escaped(&format!("acknowledged by {}", one_line(name, MAX_CONTEXT_UNITS)), MAX_CONTEXT_UNITS));
    }
    if let Some(link) = wording::link(row, public_url) {
        // `|` and `>` would end the address.
        let address = link.replace('|', "%7C").replace('<', "%3C").replace('>', "%3E").replace('&', "&amp;");
        parts.push(format!("<{address}|open in Watchbell>"));
    }
    parts
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn escaped(text: &str, max_units: usize) -> String {
    cut(text, max_units, |character| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        other => other.to_string(),
    })
}

/// `text` with each character `written`, cut between characters so that it has at most `max_units` UTF-16 units.
fn cut(text: &str, max_units: usize, written: impl Fn(char) -> String) -> String {
    let whole = text.chars().map(&written).collect::<String>();
    if units(&whole) <= max_units {
        return whole;
    }
    let mut cut = String::new();
    let mut left = max_units.saturating_sub(1);
    for piece in text.chars().map(&written) {
        let Some(rest) = left.checked_sub(units(&piece)) else { break };
        left = rest;
        cut.push_str(&piece);
    }
    cut.push('\u{2026}');
    cut
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
