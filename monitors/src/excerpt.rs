//! Text from elsewhere, made fit to stand in a message.

/// How much of a foreign text a message shows: enough to recognise it, too little to bury the rest.
const SHOWN_CHARS: usize = 200;

/// The begin of what another side sent, on one line and without control characters, so that it can neither break a
/// mail nor pretend to be a line of it.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    let mut short = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn control_characters_are_written_out_and_the_rest_stays() {
        assert_eq!(excerpt(b"a \"b\"\r\nSubject: c\x1b[0m\r\n"), "a \"b\"\\r\\nSubject: c\\u{1b}[0m");
        assert_eq!(excerpt("Bücher \u{ff}".as_bytes()), "Bücher \u{ff}");
        assert_eq!(excerpt(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(excerpt("ü".repeat(200).as_bytes()), "ü".repeat(200));
        assert_eq!(excerpt("ü".repeat(201).as_bytes()), format!("{}...", "ü".repeat(200)));
    }
}
