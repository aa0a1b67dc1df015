//! What a program's bytes mean as text that a database, a terminal and a mail can take.

use watchbell_contract::{Outcome, Revealed};

/// Shorter values are not hidden: every second word would turn into stars, which tells more than it hides.
const SHORTEST_HIDDEN: usize = 4;

/// Text without NUL, control characters or invalid UTF-8; each of these becomes U+FFFD, `\r\n` becomes `\n`.
pub(super) fn safe(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{FFFD}' } else { c }).collect()
}

/// The outcome with every secret that the program printed replaced by stars: a message is stored and mailed.
pub(super) fn hide(mut outcome: Outcome, secrets: &[Revealed]) -> Outcome {
    for secret in secrets {
        // A secret of several lines is hidden line by line, since programs print single lines.
        for line in secret.as_str().lines().map(str::trim).filter(|line| line.len() >= SHORTEST_HIDDEN) {
            outcome.message = outcome.message.replace(line, "***");
            let metrics = std::mem::take(&mut outcome.metrics);
            outcome.metrics = metrics.into_iter().map(|(name, value)| (name.replace(line, "***"), value)).collect();
        }
    }
    outcome
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
