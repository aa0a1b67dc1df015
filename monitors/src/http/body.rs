//! What must and what must not stand in the body.

use regex::Regex;
use watchbell_contract::ConfigReader;

use super::answer::Answer;

/// Texts and patterns of the body.
#[derive(Debug)]
pub(super) struct BodyExpectations {
    contains: Vec<String>,
    not_contains: Vec<String>,
    matches: Vec<Regex>,
    not_matches: Vec<Regex>,
}

impl BodyExpectations {
    pub(super) fn read(config: &mut ConfigReader<'_>) -> Self {
        Self {
            contains: read_texts(config, "body_contains"),
            not_contains: read_texts(config, "body_not_contains"),
            matches: read_patterns(config, "body_matches"),
            not_matches: read_patterns(config, "body_not_matches"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contains.is_empty()
            && self.not_contains.is_empty()
            && self.matches.is_empty()
            && self.not_matches.is_empty()
    }

    /// What of it does not hold, as clauses about the body.
    pub(super) fn problems(&self, answer: &Answer) -> Vec<String> {
        let text = answer.text();
        let within = if answer.is_cut { " in the part of it that is read" } else { "" };
        let mut problems = Vec::new();
        for wanted in self.contains.iter().filter(|wanted| !text.contains(wanted.as_str())) {
            problems.push(format!("`{wanted}` is missing{within}"));
        }
        for pattern in self.matches.iter().filter(|pattern| !pattern.is_match(&text)) {
            problems.push(format!("nothing matches `{pattern}`{within}"));
        }
        for unwanted in self.not_contains.iter().filter(|unwanted| text.contains(unwanted.as_str())) {
            problems.push(format!("`{unwanted}` stands in it"));
        }
        // What was found is not shown: it might be a part of a secret, which nothing would recognise as one.
        for pattern in self.not_matches.iter().filter(|pattern| pattern.is_match(&text)) {
            problems.push(format!("`{pattern}` matches"));
        }
        if problems.is_empty() && answer.is_cut && !(self.not_contains.is_empty() && self.not_matches.is_empty()) {
            problems.push("it is too long to say that nothing unwanted stands in it".into());
        }
        problems
    }
}

fn read_texts(config: &mut ConfigReader<'_>, name: &str) -> Vec<String> {
    let texts = config.texts(name);
    if texts.iter().any(String::is_empty) {
        config.fault(name, "an empty text stands in every body", Some("leave it out".into()));
    }
    texts
}

fn read_patterns(config: &mut ConfigReader<'_>, name: &str) -> Vec<Regex> {
    let texts = config.texts(name);
    texts.iter().filter_map(|text| read_pattern(config, name, text)).collect()
}

/// A regular expression, or a fault.
pub(super) fn read_pattern(config: &mut ConfigReader<'_>, name: &str, text: &str) -> Option<Regex> {
    match Regex::new(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            // The last line of several says what is wrong; those before it draw the place with a caret.
            let error = error.to_string();
            let error = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let hint = "a backslash is written twice in JSON; look-around and back-references are not known";
            config.fault(name, format!("expected a regular expression, found `{text}`: {error}"), Some(hint.into()));
            None
        }
    }
}
