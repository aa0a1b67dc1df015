//! Text from outside in HTML, for channels whose messages are written in it.

/// Text as text, also inside a quoted attribute. The apostrophe goes by number: Telegram knows the other four by name,
/// and any by number. A template engine's own escape turns each `/` into an entity too, which makes links unreadable
/// where a program shows the source.
pub(super) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn markup_becomes_text_and_addresses_stay_readable() {
        assert_eq!(escape("<a href=\"x\">&amp;'"), "&lt;a href=&quot;x&quot;&gt;&amp;amp;&#39;");
        assert_eq!(escape("https://x.test/a?b=c#d"), "https://x.test/a?b=c#d");
    }
}
