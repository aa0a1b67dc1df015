//! Selectors over labels and the words `kind`, `name`, `severity`: `team=shop, kind in (http, sql), env!=test`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use watchbell_contract::Severity;

/// What a selector looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The monitor's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The monitor's kind.
    pub kind: &'a str,
    /// The monitor's name.
    pub name: &'a str,
    /// The severity in question.
    pub severity: Severity,
}

impl<'a> Subject<'a> {
    /// The words of the row win over labels of the same name: a label cannot disguise a monitor.
    fn value(&self, key: &str) -> Option<&'a str> {
        match key {
            "kind" => Some(self.kind),
            "name" => Some(self.name),
            "severity" => Some(self.severity.as_str()),
            label => self.labels.get(label).map(String::as_str),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    Has(String),
}

/// A list of terms that all must hold. The empty selector selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    terms: Vec<Term>,
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{term}` is not a term of a selector (hint: write `key=value`, `key!=value`, `key in (a, b)` or `key`, joined by commas)"
)]
pub struct SelectorError {
    term: String,
}

impl Selector {
    /// Whether all terms hold. A key that is not there is unequal to every value.
    pub fn selects(&self, subject: &Subject<'_>) -> bool {
        self.holds_for(|key| subject.value(key))
    }

    /// Whether all terms hold for whatever `value` says of a key: of a node, for example.
    pub fn holds_for<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Is(key, wanted) => value(key) == Some(wanted),
            Term::IsNot(key, unwanted) => value(key) != Some(unwanted),
            Term::In(key, wanted) => value(key).is_some_and(|value| wanted.iter().any(|other| other == value)),
            Term::Has(key) => value(key).is_some(),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let terms = split(text).into_iter().map(|term| read(term.trim())).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match term {
                Term::Is(key, value) => write!(f, "{key}={value}")?,
                Term::IsNot(key, value) => write!(f, "{key}!={value}")?,
                Term::In(key, values) => write!(f, "{key} in ({})", values.join(", "))?,
                Term::Has(key) => f.write_str(key)?,
            }
        }
        Ok(())
    }
}

/// At commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn read(term: &str) -> Result<Term, SelectorError> {
    let wrong = || SelectorError { term: term.to_owned() };
    let key = |text: &str| {
        let text = text.trim();
        let is_key = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
        is_key.then(|| text.to_owned()).ok_or_else(wrong)
    };
    let value = |text: &str| {
        let text = text.trim();
        // `key=~pattern` is not known here; read as a value it would silently select nothing.
        let is_value = !text.is_empty() && !text.starts_with('~') && !text.contains(['=', '(', ')']);
        is_value.then(|| text.to_owned()).ok_or_else(wrong)
    };
    if let Some((name, rest)) =
        term.split_once(" in ").or_else(|| term.split_once(" in(").map(|(n, _)| (n, &term[n.len() + 3..])))
    {
        let list = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
        return Ok(Term::In(key(name)?, list.split(',').map(value).collect::<Result<_, _>>()?));
    }
    if let Some((name, wanted)) = term.split_once("!=") {
        return Ok(Term::IsNot(key(name)?, value(wanted)?));
    }
    match term.split_once('=') {
        Some((name, wanted)) => Ok(Term::Is(key(name)?, value(wanted.strip_prefix('=').unwrap_or(wanted))?)),
        None => Ok(Term::Has(key(term)?)),
    }
}

#[cfg(test)]
mod tests {
    use watchbell_contract::Severity;

    use super::{Selector, Subject};

    fn selects(selector: &str) -> bool {
        let labels = [("team".to_owned(), "shop".to_owned()), ("kind".to_owned(), "disguise".to_owned())].into();
        let subject = Subject { labels: &labels, kind: "http", name: "Orders arrive", severity: Severity::Warning };
        selector.parse::<Selector>().unwrap().selects(&subject)
    }

    #[test]
    fn terms_hold_or_not() {
        for (selector, expected) in [
            ("", true),
            ("team=shop", true),
            ("team = shop , severity=warning", true),
            ("team=shop,severity=critical", false),
            ("team!=shop", false),
            ("region!=eu", true),
            ("team in (a, shop)", true),
            ("team in(shop)", true),
            ("team in (a,b), kind=http", false),
            ("team", true),
            ("region", false),
            ("name=Orders arrive", true),
            ("kind=disguise", false),
        ] {
            assert_eq!(selects(selector), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_and_what_is_reads_back() {
        for text in [
            "=shop",
            "team=",
            "team in shop",
            "team in (a",
            "a b",
            ",",
            "team=(a)",
            "team=~shop.*",
            "team!~shop",
            "!team",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
        let text = "team=shop, kind in (http, sql), region!=eu, app";
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
    }
}
