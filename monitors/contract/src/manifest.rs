//! How a kind describes itself: `watchbell kinds`, the docs and the config reader all use this one text.

/// Everything that people can read about a kind. All texts are plain Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The word in the `kind` column: lower case letters, digits and `_`.
    pub kind: &'static str,
    /// What it checks, in one or two sentences.
    pub checks: &'static str,
    /// What a row's `config` may contain, in the order in which people should read it.
    pub parameters: &'static [Parameter],
    /// When it is ok, when it fails, and with which severity.
    pub verdicts: &'static str,
    /// At least one registration that works as it stands, the most usual first.
    pub examples: &'static [Example],
    /// What it does not do, and its bounds.
    pub limits: &'static str,
    /// Whether the answer depends on the machine that asks (files, load, local programs).
    pub looks_at_this_machine: bool,
}

/// One key of `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The key. A key inside a nested object is written `outer.inner`, inside a list of objects `outer[].inner`.
    pub name: &'static str,
    /// What its value looks like: `text`, `number`, `list of text`, `object of text`, ...
    pub shape: &'static str,
    /// What holds when it is left out; `None`: it is required.
    pub default: Option<&'static str>,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// Whether it may hold secret references such as `${env:WATCHBELL_SECRET_X}`.
    pub is_secret: bool,
}

impl Parameter {
    /// A key that must be given.
    pub const fn required(name: &'static str, shape: &'static str, meaning: &'static str) -> Self {
        Self { name, shape, default: None, meaning, is_secret: false }
    }

    /// A key that may be left out; `default` says in words what holds then.
    pub const fn optional(
        name: &'static str,
        shape: &'static str,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, shape, default: Some(default), meaning, is_secret: false }
    }

    /// The same key, allowed to hold secret references.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }
}

/// A ready registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The row's `name`.
    pub name: &'static str,
    /// The row's `schedule`.
    pub schedule: &'static str,
    /// The row's `config`, as JSON.
    pub config: &'static str,
}
