//! What a program's bytes mean as text that a database, a terminal and a mail can take.

/// Text without NUL, control characters or invalid UTF-8; each of these becomes U+FFFD, `\r\n` becomes `\n`.
pub(super) fn safe(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn what_is_unsafe_is_replaced() {
        assert_eq!(safe(b"a\0b\x1b[31m\xff\r\n\tz"), "a\u{FFFD}b\u{FFFD}[31m\u{FFFD}\n\tz");
        assert_eq!(safe("grüße 鐘".as_bytes()), "grüße 鐘");
    }
}
