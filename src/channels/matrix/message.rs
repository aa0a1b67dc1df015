//! What a message looks like: the content of an `m.room.message` event, as plain text and as HTML.

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use crate::channels::html::escape;
use crate::channels::wording;
use crate::domain::{NotificationType, OutboxRow};

/// A text that is longer, such as a digest of hundreds, is sent without HTML, so that more of it fits into one event.
const MAX_HTML_CHARS: usize = 10_000;
/// About as much as fits.
const MAX_TEXT_CHARS: usize = 40_000;
/// An event is at most 65,536 bytes (specification, "Size limits"); the homeserver adds to it what it signs.
const MAX_CONTENT_BYTES: usize = 60_000;
/// Below this a text is not cut: the rest of a content is far smaller than its bound.
const LEAST_TEXT_CHARS: usize = 100;

/// What other message a message belongs to, by its event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation<'a> {
    /// It stands alone.
    None,
    /// It is read in the thread that begins with this one.
    Thread(&'a str),
    /// It is shown in place of this one, wherever that stands.
    Edit(&'a str),
}

impl<'a> Relation<'a> {
    /// What the engine asks for.
    pub(super) fn of(row: &'a OutboxRow) -> Self {
        match (&row.edits_external_id, &row.thread_external_id) {
            (Some(edited), _) => Relation::Edit(edited),
            (None, Some(root)) => Relation::Thread(root),
            (None, None) => Relation::None,
        }
    }
}

/// The content of the event, small enough for one.
pub(super) fn content(row: &OutboxRow, link: Option<&str>, relation: Relation<'_>) -> Value {
    bounded(|max_chars| related(message(row, link, max_chars), relation))
}

/// The content of an answer to a command: a notice, which programs make no sound for, as a reply to it.
pub(super) fn reply(text: &str, to: &str) -> Value {
    bounded(|max_chars| {
        json!({
            "msgtype": "m.notice",
            "body": cut(text, max_chars),
            "m.mentions": {},
            "m.relates_to": {"m.in_reply_to": {"event_id": to}},
        })
    })
}

/// The first content that is small enough: characters differ in size by a factor of ten, as JSON and HTML write them.
fn bounded(content: impl Fn(usize) -> Value) -> Value {
    let mut max_chars = MAX_TEXT_CHARS;
    loop {
        let content = content(max_chars);
        if max_chars <= LEAST_TEXT_CHARS || content.to_string().len() <= MAX_CONTENT_BYTES {
            return content;
        }
        max_chars /= 2;
    }
}

fn message(row: &OutboxRow, link: Option<&str>, max_chars: usize) -> Map<String, Value> {
    let (emoji, heading, text) = (wording::emoji(row), wording::heading(row), text(row, max_chars));
    let mut plain = format!("{emoji} {heading}");
    let mut html = format!("{emoji} <strong>{}</strong>", escape(&heading));
    if !text.is_empty() {
        plain.push_str(&format!("\n{text}"));
        html.push_str(&as_html(&text));
    }
    let link_as_html = |link: &str| format!("<a href=\"{}\">{}</a>", escape(link), escape(link));
    // What `!ack` is written with, and the page.
    let incident = wording::incident(row).map(|incident| (incident.clone(), escape(&incident)));
    for (line, as_html) in incident.into_iter().chain(link.map(|link| (link.to_owned(), link_as_html(link)))) {
        plain.push_str(&format!("\n{line}"));
        let separator = if html.ends_with("</pre>") { "" } else { "<br>" };
        html.push_str(&format!("{separator}{as_html}"));
    }
    let mut content = Map::new();
    content.insert("msgtype".to_owned(), msgtype(row.notification_type).into());
    content.insert("body".to_owned(), plain.into());
    if text.chars().count() <= MAX_HTML_CHARS {
        content.insert("format".to_owned(), "org.matrix.custom.html".into());
        content.insert("formatted_body".to_owned(), html.into());
    }
    // Nobody: where this is missing, programs look for names and `@room` in the text, which is a child's.
    content.insert("m.mentions".to_owned(), json!({}));
    content
}

/// Most programs make no sound for a notice.
fn msgtype(notification_type: NotificationType) -> &'static str {
    match notification_type {
        NotificationType::SelfTest => "m.notice",
        NotificationType::Alert
        | NotificationType::Reminder
        | NotificationType::Recovery
        | NotificationType::Digest
        | NotificationType::Notice
        | NotificationType::Test => "m.text",
    }
}

fn text(row: &OutboxRow, max_chars: usize) -> String {
    let text = wording::text(row, max_chars);
    let facts = &row.facts;
    let was_down = match (facts.tells_alert, facts.opened_at, facts.recovered_at) {
        (true, Some(from), Some(to)) => {
            let [from, to] = [from, to].map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
            format!("It was down from {from} to {to}.\n")
        }
        _ => return text,
    };
    format!("{was_down}{text}")
}

fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// One line as it is; of more, each where the child put it.
fn as_html(text: &str) -> String {
    if text.contains('\n') {
        return format!("<pre><code>{}\n</code></pre>", escape(text));
    }
    format!("<br>{}", escape(text))
}

fn related(message: Map<String, Value>, relation: Relation<'_>) -> Value {
    let mut content = message.clone();
    let relates_to = match relation {
        Relation::None => return message.into(),
        // Programs without threads show it as a reply.
        Relation::Thread(root) => json!({
            "rel_type": "m.thread",
            "event_id": root,
            "is_falling_back": true,
            "m.in_reply_to": {"event_id": root},
        }),
        Relation::Edit(edited) => {
            // Programs without edits show a message with a star.
            for body in ["body", "formatted_body"] {
                if let Some(text) = message.get(body).and_then(Value::as_str) {
                    content.insert(body.to_owned(), format!("* {text}").into());
                }
            }
            content.insert("m.new_content".to_owned(), message.into());
            json!({"rel_type": "m.replace", "event_id": edited})
        }
    };
    content.insert("m.relates_to".to_owned(), relates_to);
    content.into()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{MAX_CONTENT_BYTES, Relation, content, reply};
    use crate::channels::mime::samples::alert;
    use crate::domain::{Facts, NotificationType, OutboxRow};

    fn with_message(message: &str) -> OutboxRow {
        let alert = alert();
        OutboxRow { facts: Facts { message: message.to_owned(), ..alert.facts.clone() }, ..alert }
    }

    #[test]
    fn the_emoji_comes_first_then_the_app_what_happened_and_the_page() {
        let content = content(&alert(), Some("https://bell.example.com/monitors/x"), Relation::None);
        assert_eq!(
            content["body"],
            "\u{1F534} Shop: ALERT\nnothing came since noon\nincident 3\nhttps://bell.example.com/monitors/x"
        );
        assert_eq!(
            content["formatted_body"],
            "\u{1F534} <strong>Shop: ALERT</strong><br>nothing came since noon<br>incident 3<br>\
             <a href=\"https://bell.example.com/monitors/x\">https://bell.example.com/monitors/x</a>"
        );
        assert_eq!((&content["msgtype"], content.get("m.relates_to")), (&"m.text".into(), None));
    }

    #[test]
    fn what_a_child_says_is_text() {
        let row = OutboxRow { incident_id: None, ..with_message("<img src=x onerror='alert(1)'> & \"more\"\n  @room") };
        let content = content(&row, None, Relation::None);
        let html = content["formatted_body"].as_str().unwrap();
        let escaped =
            "<pre><code>&lt;img src=x onerror=&#39;alert(1)&#39;&gt; &amp; &quot;more&quot;\n  @room\n</code></pre>";
        assert!(html.ends_with(escaped), "{html}");
        assert_eq!(content["m.mentions"], serde_json::json!({}));
    }

    #[test]
    fn whatever_the_text_the_content_fits_into_an_event() {
        let edit = |text: &str| content(&with_message(text), Some("https://x.test/"), Relation::Edit("$e")).to_string();
        for text in ["a", "\"", "&\n", "\u{1F525}", "\u{1}"] {
            let edit = edit(&text.repeat(100_000));
            assert!(edit.len() <= MAX_CONTENT_BYTES, "{text:?}: {}", edit.len());
            assert!(edit.len() > MAX_CONTENT_BYTES / 4, "{text:?} is cut too much: {}", edit.len());
            let reply = reply(&text.repeat(100_000), "$e").to_string();
            assert!(reply.len() <= MAX_CONTENT_BYTES, "{text:?}: {}", reply.len());
        }
    }

    #[test]
    fn a_recovery_whose_alert_was_never_told_says_when_it_was_down() {
        let mut row = with_message("all is well");
        row.notification_type = NotificationType::Recovery;
        row.facts.tells_alert = true;
        row.facts.recovered_at = DateTime::from_timestamp(1_795_294_860, 0);
        let content = content(&row, None, Relation::None);
        let expected = "\u{2705} Shop: was down, RECOVERED\n\
                        It was down from 2026-11-21T21:00:00Z to 2026-11-21T21:01:00Z.\nall is well\nincident 3";
        assert_eq!(content["body"], expected);
    }

    #[test]
    fn an_edit_holds_the_new_message_and_one_for_programs_without_edits() {
        let mut row = alert();
        row.thread_external_id = Some("$root".to_owned());
        row.edits_external_id = Some("$first".to_owned());
        let content = content(&row, None, Relation::of(&row));
        assert_eq!(content["m.relates_to"], serde_json::json!({"rel_type": "m.replace", "event_id": "$first"}));
        assert_eq!(
            content["body"].as_str().unwrap(),
            format!("* {}", content["m.new_content"]["body"].as_str().unwrap())
        );
        assert_eq!(content["m.new_content"]["msgtype"], "m.text");
        assert!(content["m.new_content"].get("m.relates_to").is_none());
    }
}
