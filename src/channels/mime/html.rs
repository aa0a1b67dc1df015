//! The HTML part of a mail: the same facts as the text, easier to take in.
//!
//! Styles are inline because mail programs drop style sheets. No text or background colour is set: the program's own
//! stay, light or dark; the few accents are readable on both.

use crate::channels::html::escape;
use crate::domain::NotificationType;

const PAGE: &str =
    "margin:0;padding:16px;font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:15px";
const LABEL: &str =
    "padding:2px 16px 2px 0;text-align:left;vertical-align:top;font-weight:normal;opacity:0.7;white-space:nowrap";
const VALUE: &str = "padding:2px 0;vertical-align:top;overflow-wrap:anywhere";
const MESSAGE: &str = "margin:16px 0;padding:12px;border:1px solid #8888;border-radius:6px;white-space:pre-wrap;\
    overflow-wrap:anywhere;font-family:ui-monospace,Consolas,monospace;font-size:14px";

/// A page that says what `text` says: its leading lines `Label: value` as a table, the rest word for word.
pub(super) fn page(kind: NotificationType, subject: &str, text: &str, link: Option<&str>) -> String {
    let (facts, message) = split(text);
    let accent = match kind {
        NotificationType::Alert => "#e5484d",
        NotificationType::Reminder => "#d97706",
        NotificationType::Recovery | NotificationType::SelfTest | NotificationType::Test => "#2f9e5b",
        NotificationType::Digest | NotificationType::Notice => "#6e56cf",
    };
    let title = escape(subject);
    let table = table(&facts);
    let message = escape(message.strip_suffix('\n').unwrap_or(message));
    let link = link.map(|link| format!("<p><a href=\"{0}\">{0}</a></p>\n", escape(link))).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"supported-color-schemes\" content=\"light dark\">\n<title>{title}</title>\n</head>\n\
         <body style=\"{PAGE}\">\n<div style=\"border-left:4px solid {accent};padding-left:12px;max-width:720px\">\n\
         <h1 style=\"margin:0 0 12px;font-size:18px;overflow-wrap:anywhere\">{title}</h1>\n{table}\
         <pre style=\"{MESSAGE}\">\n{message}</pre>\n{link}</div>\n</body>\n</html>\n"
    )
}

/// The facts and the message. Where the first paragraph is not all facts, everything is the message.
fn split(text: &str) -> (Vec<(&str, &str)>, &str) {
    let Some((head, message)) = text.split_once("\n\n") else { return (Vec::new(), text) };
    let facts: Option<Vec<_>> = head.lines().map(|line| line.split_once(": ")).collect();
    facts.map_or((Vec::new(), text), |facts| (facts, message))
}

fn table(facts: &[(&str, &str)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let row = |(label, value): &(&str, &str)| {
        let (label, value) = (escape(label), escape(value));
        format!("<tr><th scope=\"row\" style=\"{LABEL}\">{label}</th><td style=\"{VALUE}\">{value}</td></tr>\n")
    };
    let rows: String = facts.iter().map(row).collect();
    format!("<table role=\"presentation\" style=\"border-collapse:collapse\">\n{rows}</table>\n")
}

#[cfg(test)]
mod tests {
    use super::{page, split};
    use crate::domain::NotificationType;

    #[test]
    fn facts_and_message_are_told_apart() {
        assert_eq!(split("A: 1\nB: x: y\n\nc\n\nd\n"), (vec![("A", "1"), ("B", "x: y")], "c\n\nd\n"));
        assert_eq!(split("A: 1\nfree\n\nc"), (vec![], "A: 1\nfree\n\nc"));
        assert_eq!(split("free"), (vec![], "free"));
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "</pre><script>alert(\"1\")</script>&'";
        let text = format!("Monitor: {evil}\n\n{evil}\n");
        let html = page(NotificationType::Alert, evil, &text, Some("https://x.test/\"><script>"));
        assert!(!html.contains("<script") && !html.contains("href=\"https://x.test/\"\">"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 2 + 1 + 1 + 2, "{html}");
    }

    #[test]
    fn without_a_link_there_is_none() {
        assert!(!page(NotificationType::Recovery, "s", "A: 1\n\nm", None).contains("<a "));
    }
}
