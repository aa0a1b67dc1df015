//! What channels of short messages say below their heading, cut to fit by the service's own counting.
//!
//! Each service counts differently: UTF-16 code units, bytes of UTF-8, bytes of JSON. What a character costs is therefore
//! an argument, and the text is cut before anything is escaped or put into markup, so that no cut breaks either.

use chrono::{DateTime, Utc};

use super::wording;
use crate::domain::{NotificationType, OutboxRow};

/// More than any service takes; what is longer is not even looked at.
const MOST_CHARS: usize = 16_384;
const ELLIPSIS: char = '\u{2026}';

/// What there is to read below the heading, for at most `budget`, counted by `cost` of each character. The incident's
/// number stands at the end and is never cut: people need it for what they do next.
pub(super) fn brief(row: &OutboxRow, budget: usize, cost: impl Fn(char) -> usize) -> String {
    let Some(incident) = wording::incident(row) else { return told(row, budget, cost) };
    let last = format!("\n{incident}");
    let rest = budget.checked_sub(last.chars().map(&cost).sum()).map(|budget| told(row, budget, cost));
    match rest {
        None => String::new(),
        Some(rest) if rest.is_empty() => incident,
        Some(rest) => rest + &last,
    }
}

fn told(row: &OutboxRow, budget: usize, cost: impl Fn(char) -> usize) -> String {
    let text = wording::text(row, MOST_CHARS);
    let whole = match (untold_span(row), text.is_empty()) {
        (Some(span), false) => format!("{span}\n{text}"),
        (Some(span), true) => span,
        (None, _) => text,
    };
    cut(&whole, budget, cost)
}

/// The beginning of `text` that costs at most `budget`, with an ellipsis where something is missing.
pub(super) fn cut(text: &str, budget: usize, cost: impl Fn(char) -> usize) -> String {
    let room = budget.saturating_sub(cost(ELLIPSIS));
    let (mut spent, mut end_with_ellipsis) = (0, 0);
    for (at, character) in text.char_indices() {
        spent += cost(character);
        if spent > budget {
            let kept = text[..end_with_ellipsis].trim_end();
            return if room == 0 { String::new() } else { format!("{kept}{ELLIPSIS}") };
        }
        if spent <= room {
            end_with_ellipsis = at + character.len_utf8();
        }
    }
    text.to_owned()
}

/// Bytes of a character within a JSON string, as `serde_json` writes it; never fewer than in UTF-8.
pub(super) fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// When it was down, for a recovery that tells of an alert which never arrived.
fn untold_span(row: &OutboxRow) -> Option<String> {
    let is_told_late = row.notification_type == NotificationType::Recovery && row.facts.tells_alert;
    let (true, Some(opened_at)) = (is_told_late, row.facts.opened_at) else { return None };
    let recovered_at = row.facts.recovered_at.or(row.facts.at)?;
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
    Some(format!("was down from {} to {} UTC", shown(opened_at), shown(recovered_at)))
}

#[cfg(test)]
mod tests {
    use super::{brief, cut, json_bytes};
    use crate::channels::mime::samples::alert;
    use crate::domain::NotificationType;

    #[test]
    fn a_cut_keeps_within_the_budget_and_halves_no_character() {
        assert_eq!(cut("\u{1F534}\u{1F534}", 4, char::len_utf16), "\u{1F534}\u{1F534}");
        assert_eq!(cut("\u{1F534}\u{1F534}\u{1F534}", 4, char::len_utf16), "\u{1F534}\u{2026}");
        assert_eq!(cut("\u{e4}\u{e4}\u{e4}\u{e4}", 7, char::len_utf8), "\u{e4}\u{e4}\u{2026}");
        assert_eq!(cut("word next", 6, char::len_utf8), "wor\u{2026}");
        assert_eq!(cut("abc", 0, char::len_utf8), "");
    }

    #[test]
    fn bytes_of_json_are_those_that_are_written() {
        for character in ('\0'..='\u{ff}').chain(['\u{2028}', '\u{1F534}']) {
            let written = serde_json::to_string(&character).unwrap().len() - 2;
            assert_eq!(json_bytes(character), written, "{character:?}");
        }
    }

    #[test]
    fn a_recovery_whose_alert_never_arrived_says_from_when_to_when() {
        let mut row = alert();
        row.incident_id = None;
        assert_eq!(brief(&row, 100, char::len_utf8), "nothing came since noon");
        row.notification_type = NotificationType::Recovery;
        row.facts.recovered_at = Some("2026-11-21T21:09:00Z".parse().unwrap());
        assert_eq!(brief(&row, 100, char::len_utf8), "nothing came since noon");
        row.facts.tells_alert = true;
        let told = brief(&row, 100, char::len_utf8);
        assert!(told.starts_with("was down from 2026-11-21 "), "{told}");
        assert!(told.ends_with(" to 2026-11-21 21:09:00 UTC\nnothing came since noon"), "{told}");
    }

    #[test]
    fn the_number_of_the_incident_is_never_cut() {
        let mut row = alert();
        assert_eq!(brief(&row, 100, char::len_utf8), "nothing came since noon\nincident 3");
        assert_eq!(brief(&row, 20, char::len_utf8), "nothin\u{2026}\nincident 3");
        row.facts.message = String::new();
        row.body = String::new();
        assert_eq!(brief(&row, 100, char::len_utf8), "incident 3");
        assert_eq!(brief(&row, 3, char::len_utf8), "");
    }
}
