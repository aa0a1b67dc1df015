//! What a check found.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How bad a failure is, from least to most. The order is used: a higher one makes a reminder due at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, no action needed now.
    Info,
    /// Should be looked at, can wait until morning.
    Warning,
    /// Somebody should act now.
    Critical,
}

impl Severity {
    /// The word as it stands in the database, in JSON and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no severity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a severity; write `critical`, `warning` or `info`")]
pub struct UnknownSeverity(pub String);

impl FromStr for Severity {
    type Err = UnknownSeverity;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "info" => Ok(Severity::Info),
            "warning" => Ok(Severity::Warning),
            "critical" => Ok(Severity::Critical),
            other => Err(UnknownSeverity(other.to_owned())),
        }
    }
}

/// Numbers that a check measured, by name. The unit belongs in the name: `response_ms`, `used_percent`.
pub type Metrics = BTreeMap<String, f64>;

/// What one check found: the verdict, and what a person needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Whether X is healthy.
    pub is_ok: bool,
    /// What a person needs to act, readable alone. It reaches the mail word for word.
    pub message: String,
    /// How bad this failure is, where it differs from the row's own severity; `None`: the row's. Ignored on an ok.
    pub severity: Option<Severity>,
    /// What was measured.
    pub metrics: Metrics,
}

impl Outcome {
    /// X is healthy.
    pub fn ok(message: impl Into<String>) -> Self {
        Self { is_ok: true, message: message.into(), severity: None, metrics: Metrics::new() }
    }

    /// X is not healthy, as bad as the row says.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { is_ok: false, ..Self::ok(message) }
    }

    /// The same outcome with a severity of its own.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// The same outcome with one more measured number.
    #[must_use]
    pub fn with_metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}
