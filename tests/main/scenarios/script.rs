//! The text of a script: steps, and the indented lines below each that say what it must do.

use anyhow::{Context, Result, anyhow, bail};
use watchbell::domain::Cause;
use watchbell_contract::{Outcome, Severity};

pub(super) struct Script {
    lines: Vec<String>,
    pub(super) steps: Vec<Step>,
}

pub(super) struct Step {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) expected: Vec<String>,
}

impl Script {
    /// The error begins with the number of its line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        let mut steps: Vec<Step> = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let number = at + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.starts_with(' ') {
                steps.push(Step { line: number, text: line.trim_end().to_owned(), expected: Vec::new() });
                continue;
            }
            match steps.last_mut() {
                Some(step) if step.line + step.expected.len() + 1 == number => {
                    step.expected.push(line.trim().to_owned());
                }
                _ => return Err(format!("{number}: what a step must do stands right below it")),
            }
        }
        Ok(Self { lines, steps })
    }

    /// The script with what was found in place of what was expected.
    pub(super) fn rewritten(&self, found: &[Vec<String>]) -> String {
        let mut lines = self.lines.iter().enumerate();
        let mut text = String::new();
        for (step, found) in self.steps.iter().zip(found) {
            for (at, line) in lines.by_ref() {
                text.push_str(line);
                text.push('\n');
                if at + 1 == step.line {
                    break;
                }
            }
            lines.by_ref().take(step.expected.len()).for_each(drop);
            for line in found {
                text.push_str(format!("  {line}").trim_end());
                text.push('\n');
            }
        }
        for (_, line) in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// What a check found, and what stands in `config_error` then.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) config_error: Option<String>,
}

/// `ok` or `failed`, then severity, message and error.
pub(super) fn answer(text: &str) -> Result<Answer> {
    let (verdict, mut rest) = word(text);
    let mut outcome = match verdict {
        "ok" => Outcome::ok("fine"),
        "failed" => Outcome::failed("broken"),
        other => bail!("`{other}` is no outcome; write `ok` or `failed`"),
    };
    let (severity, after) = word(rest);
    if let Ok(severity) = severity.parse::<Severity>() {
        outcome.severity = Some(severity);
        rest = after;
    }
    if rest.starts_with('"') {
        let (message, after) = quoted(rest)?;
        outcome.message = message.replace("\\n", "\n");
        rest = after;
    }
    let mut config_error = None;
    if let Some(after) = rest.strip_prefix("error ") {
        let (error, after) = quoted(after)?;
        config_error = Some(error);
        rest = after;
    }
    if rest.is_empty() { Ok(Answer { outcome, config_error }) } else { bail!("`{rest}` is too much") }
}

/// A word of the language that is a cause; ticks are called what people call them.
pub(super) fn cause(word: &str) -> Option<Cause> {
    if word == "tick" { Some(Cause::Schedule) } else { word.parse().ok().filter(|cause| *cause != Cause::Schedule) }
}

/// The first word, and what follows.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// A text in double quotes, and what follows.
pub(super) fn quoted(text: &str) -> Result<(String, &str)> {
    let inside = text.strip_prefix('"').ok_or_else(|| anyhow!("expected a text in quotes at `{text}`"))?;
    let (quoted, rest) = inside.split_once('"').with_context(|| format!("the quotes of `{text}` do not end"))?;
    Ok((quoted.to_owned(), rest.trim_start()))
}

/// `key value` pairs between commas; a comma within brackets or quotes is part of the value.
pub(super) fn pairs(text: &str) -> Result<Vec<(&str, &str)>> {
    let (mut depth, mut is_quoted, mut from) = (0_usize, false, 0);
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            '"' => is_quoted = !is_quoted,
            '[' | '{' if !is_quoted => depth += 1,
            ']' | '}' if !is_quoted => depth = depth.saturating_sub(1),
            ',' if !is_quoted && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once(' ').with_context(|| format!("`{part}` has no value"))).collect()
}
