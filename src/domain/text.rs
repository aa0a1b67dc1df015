//! Text from outside, made safe for every database, terminal and mail before it is stored.

use std::borrow::Cow;

/// `text` without what a database or a terminal chokes on, and not longer than `max_bytes` and a note: NUL and other
/// control characters become U+FFFD (line breaks and tabs stay), carriage returns before a line break go.
pub fn make_safe(text: &str, max_bytes: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(max_bytes));
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if safe.len() + character.len_utf8() > max_bytes {
            safe.push_str(&format!("\n[... {} more bytes cut]", text.len() - at));
            break;
        }
        match character {
            '\n' | '\t' => safe.push(character),
            '\r' if characters.peek().is_some_and(|(_, next)| *next == '\n') => {}
            '\r' => safe.push('\n'),
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// `text` in one line of at most `max_chars` characters: for subjects, logs and tables.
pub fn one_line(text: &str, max_chars: usize) -> Cow<'_, str> {
    let is_plain = text.chars().count() <= max_chars && !text.chars().any(|c| c.is_control() || is_line_separator(c));
    if is_plain {
        return Cow::Borrowed(text);
    }
    let flat = text.chars().map(|c| if c.is_control() || is_line_separator(c) { ' ' } else { c }).collect::<String>();
    let words = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= max_chars {
        return Cow::Owned(words);
    }
    Cow::Owned(words.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect())
}

fn is_line_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::{make_safe, one_line};

    #[test]
    fn control_characters_are_shown_as_replaced() {
        assert_eq!(make_safe("a\0b\x1b[31m\r\nc\td\re", 100), "a\u{fffd}b\u{fffd}[31m\nc\td\ne");
    }

    #[test]
    fn what_is_cut_is_counted_and_no_character_is_halved() {
        assert_eq!(make_safe("äöü", 3), "ä\n[... 4 more bytes cut]");
        assert_eq!(make_safe("äö", 4), "äö");
    }

    #[test]
    fn a_subject_is_one_line() {
        assert_eq!(one_line("Orders\r\nBcc: x@example.com\u{2028}end", 100), "Orders Bcc: x@example.com end");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("plain", 5), "plain");
    }
}
