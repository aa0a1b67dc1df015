//! What a command answers, and how errors are told.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use serde::Serialize;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// 0.
    Done,
    /// 1.
    Failed,
    /// 2: wrong usage, or a `check` that failed.
    Wrong,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(match status {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Wrong => 2,
        })
    }
}

/// What a command prints to standard output, and how the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whole lines.
    pub(super) text: String,
    /// How the process ends.
    pub(super) status: Status,
}

impl Answer {
    /// A text that ends in a line break or gets one.
    pub(super) fn of_text(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, status: Status::Done }
    }

    /// A value as JSON over several lines.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub(super) fn of_json(value: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self::of_text(serde_json::to_string_pretty(value)?))
    }

    /// Nothing is printed.
    pub(super) fn silent() -> Self {
        Self::of_text("")
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

/// An error that knows what helps, and how the process ends.
#[derive(Debug)]
pub(super) struct Trouble {
    problem: String,
    hints: Vec<String>,
    status: Status,
}

impl Trouble {
    /// It could not be done.
    pub(super) fn failed(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hints: Vec::new(), status: Status::Failed }
    }

    /// It was asked for in a way that makes no sense.
    pub(super) fn usage(problem: impl Into<String>) -> Self {
        Self { status: Status::Wrong, ..Self::failed(problem) }
    }

    /// What helps; each hint is a line of its own.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Trouble {}

/// What helps with an error, on lines; `None` where it does not say.
pub(super) fn hints_of(error: &anyhow::Error) -> Option<String> {
    error.downcast_ref::<Trouble>().map(|trouble| trouble.hints.join("\n")).filter(|hints| !hints.is_empty())
}

/// Prints what was answered. A reader that went away early (`| head`) is no failure.
pub(super) fn print_answer(answer: &Answer) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(answer.text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            print_error(&anyhow::Error::new(error).context("cannot write the answer"))
        }
        Ok(()) | Err(_) => answer.status.into(),
    }
}

/// Prints an error, once.
pub(super) fn print_error(error: &anyhow::Error) -> ExitCode {
    let (text, status) = told(error);
    // There is nowhere left to report that standard error is gone.
    drop(io::stderr().lock().write_all(text.as_bytes()));
    status.into()
}

fn told(error: &anyhow::Error) -> (String, Status) {
    let mut text = format!("error: {error:#}");
    let trouble = error.downcast_ref::<Trouble>();
    for hint in trouble.into_iter().flat_map(|trouble| &trouble.hints) {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text.push('\n');
    (text, trouble.map_or(Status::Failed, |trouble| trouble.status))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::{Answer, Status, Trouble, told};

    #[test]
    fn an_error_is_its_chain_and_then_its_hints() {
        let trouble = Trouble::usage("`x` is unknown").hint("did you mean `y`?").hint("see `watchbell list`");
        let error = Err::<(), _>(trouble).context("cannot pause the monitor").unwrap_err();
        let text =
            "error: cannot pause the monitor: `x` is unknown\nhint: did you mean `y`?\nhint: see `watchbell list`\n";
        assert_eq!(told(&error), (text.to_owned(), Status::Wrong));
        assert_eq!(
            told(&anyhow::anyhow!("the disk is full")),
            ("error: the disk is full\n".to_owned(), Status::Failed)
        );
    }

    #[test]
    fn an_answer_ends_with_its_last_line() {
        assert_eq!(Answer::of_text("one").text, "one\n");
        assert_eq!(Answer::of_text("one\n").text, "one\n");
        assert_eq!(Answer::silent().text, "");
    }
}
