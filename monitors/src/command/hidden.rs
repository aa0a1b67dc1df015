//! Keeps secrets that a program was given out of what it says: a message is stored and mailed.

use watchbell_contract::{Outcome, Revealed};

/// Shorter values are not hidden: every second word would turn into stars, which tells more than it hides.
const SHORTEST_HIDDEN: usize = 4;

/// Where the references of a text stand: the literals before, between and behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    literals: Vec<String>,
}

impl Shape {
    /// The shape of a text as it stands in a row.
    pub(super) fn of(text: &str) -> Self {
        let mut literals = vec![String::new()];
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, reference) = rest.split_at(at);
            // `$${` is a literal `${`.
            let (literal, is_escaped) = before.strip_suffix('$').map_or((before, false), |literal| (literal, true));
            if let Some(last) = literals.last_mut() {
                last.push_str(literal);
                last.push_str(if is_escaped { "${" } else { "" });
            }
            rest = if is_escaped {
                &reference[2..]
            } else {
                literals.push(String::new());
                reference.split_once('}').map_or("", |(_, after)| after)
            };
        }
        if let Some(last) = literals.last_mut() {
            last.push_str(rest);
        }
        Self { literals }
    }

    /// What the references stand for, in the text that they were resolved to.
    fn values<'v>(&self, resolved: &'v str) -> Vec<&'v str> {
        let [first, between @ .., last] = self.literals.as_slice() else { return Vec::new() };
        let inner = resolved.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()));
        let mut rest = inner.unwrap_or(resolved);
        let mut values = Vec::new();
        for literal in between.iter().filter(|literal| !literal.is_empty()) {
            let Some((value, after)) = rest.split_once(literal.as_str()) else { break };
            values.push(value);
            rest = after;
        }
        values.push(rest);
        values
    }
}

/// The values that must not be seen. Deliberately without `Debug`.
#[derive(Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// Remembers what the references of a text were resolved to; several lines one by one, as programs print them.
    pub(super) fn note(&mut self, shape: &Shape, resolved: &Revealed) {
        let lines = shape.values(resolved.as_str()).into_iter().flat_map(str::lines).map(str::trim);
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

    use super::{Hidden, Shape};

    #[test]
    fn values_are_found_between_literals() {
        for (text, resolved, values) in [
            ("plain", "plain", vec![]),
            ("$${env:A}", "${env:A}", vec![]),
            ("${env:A}", "secret", vec!["secret"]),
            ("x-${env:A}-y", "x-secret-y", vec!["secret"]),
            ("${env:A}:${env:B}", "name:word:more", vec!["name", "word:more"]),
            ("${env:A}${env:B}", "ab", vec!["ab"]),
            ("$${${env:A}}", "${secret}", vec!["secret"]),
        ] {
            assert_eq!(Shape::of(text).values(resolved), values, "{text}");
        }
    }

    #[test]
    fn the_longer_secret_goes_first() {
        let hidden = Hidden(vec!["longer-word".into(), "word".into()]);
        let outcome = hidden.hide(Outcome::ok("a longer-word, a word").with_metric("word", 1.0));
        assert_eq!((outcome.message.as_str(), outcome.metrics.contains_key("***")), ("a ***, a ***", true));
    }
}
