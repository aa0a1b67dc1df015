//! Keeps secrets that a program was given out of what it says: a message is stored and mailed.

use watchbell_contract::{Outcome, Revealed};

/// Shorter values are not hidden: every second word would turn into stars, which tells more than it hides.
const SHORTEST_HIDDEN: usize = 4;

/// The values that must not be seen. Deliberately without `Debug`.
#[derive(Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// Remembers what the references of a text were resolved to; several lines one by one, as programs print them.
    pub(super) fn note(&mut self, revealed: &Revealed) {
        let lines = revealed.resolved().flat_map(str::lines).map(str::trim);
        self.0.extend(lines.filter(|line| line.len() >= SHORTEST_HIDDEN).map(str::to_owned));
        // The longest first: another may be a part of it.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The outcome with stars in their place.
    pub(super) fn hide(&self, mut outcome: Outcome) -> Outcome {
        let starred = |text: String| self.0.iter().fold(text, |text, value| text.replace(value, "***"));
        outcome.message = starred(outcome.message);
        outcome.metrics = outcome.metrics.into_iter().map(|(name, value)| (starred(name), value)).collect();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use watchbell_contract::Outcome;

    use super::Hidden;

    #[test]
    fn the_longer_secret_goes_first() {
        let hidden = Hidden(vec!["longer-word".into(), "word".into()]);
        let outcome = hidden.hide(Outcome::ok("a longer-word, a word").with_metric("word", 1.0));
        assert_eq!((outcome.message.as_str(), outcome.metrics.contains_key("***")), ("a ***, a ***", true));
    }
}
