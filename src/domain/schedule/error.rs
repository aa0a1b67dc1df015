//! What is wrong with a schedule or a zone, in words for the person who wrote the row.

/// A schedule or time zone that cannot be used. Shown as the problem, then a line with a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\nhint: {hint}")]
pub struct ScheduleError {
    problem: String,
    hint: String,
}

impl ScheduleError {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }

    /// What is wrong, naming the field and the value.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// How to mend it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// At most this many characters of what somebody wrote are repeated in a message: it ends up in mails and tables.
const MAX_QUOTED_CHARS: usize = 60;

/// The text in backticks, cut where it is too long, on one line and without control characters.
pub(super) fn quoted(text: &str) -> String {
    let shown: String =
        text.chars().take(MAX_QUOTED_CHARS).map(|char| if char.is_control() { ' ' } else { char }).collect();
    let dots = if text.chars().nth(MAX_QUOTED_CHARS).is_some() { "..." } else { "" };
    format!("`{shown}{dots}`")
}
