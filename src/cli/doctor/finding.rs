//! What `doctor` found.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warning,
    /// Something is not watched, or nobody is told.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// The part of the installation: a word.
    pub(super) about: &'static str,
    /// What was found.
    pub(super) text: String,
    /// How to mend it.
    pub(super) hint: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, text: text.into(), hint: None }
    }

    /// Somebody should know.
    pub(super) fn warning(about: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Warning, about, text: text.into(), hint: Some(hint.into()) }
    }

    /// Somebody should mend it.
    pub(super) fn problem(about: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Problem, about, text: text.into(), hint: Some(hint.into()) }
    }

    /// The same, with what stands behind `(hint: ` at the end of the text as its hint: texts of kinds and channels
    /// carry theirs so.
    pub(super) fn with_hint_of_text(mut self) -> Self {
        if let Some((text, hint)) = self.text.split_once(" (hint: ")
            && let Some(hint) = hint.strip_suffix(')')
            && !hint.contains("(hint: ")
        {
            let (text, hint) = (text.to_owned(), hint.to_owned());
            self.text = text;
            self.hint = Some(hint);
        }
        self
    }
}

/// The findings as lines, and how many are no `ok`.
pub(super) fn rendered(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        text.push_str(&format!(
            "{level:<9}{}: {}\n",
            finding.about,
            finding.text.trim_end().replace('\n', "\n         ")
        ));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("         hint: {}\n", hint.replace('\n', "\n         ")));
        }
    }
    text.push_str(&summary(findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let counted = |count, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    match (of(Level::Problem), of(Level::Warning)) {
        (0, 0) => "all is well\n".to_owned(),
        (problems, warnings) => format!("{}, {}\n", counted(problems, "problem"), counted(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, rendered};

    #[test]
    fn each_finding_is_a_line_with_its_hint_below() {
        let findings = [
            Finding::ok("database", "it can be written"),
            Finding::warning("mail", "the server is far\nand slow", "move it"),
            Finding::problem("monitor 1", "kind: `x` is unknown (hint: did you mean `y`?)", "edit the row")
                .with_hint_of_text(),
        ];
        let expected = "\
ok       database: it can be written
warning  mail: the server is far
         and slow
         hint: move it
problem  monitor 1: kind: `x` is unknown
         hint: did you mean `y`?
1 problem, 1 warning
";
        assert_eq!(rendered(&findings), expected);
        assert_eq!(rendered(&[]), "all is well\n");
    }
}
