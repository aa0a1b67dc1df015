//! What is wrong in a configuration, told all at once.

use std::fmt;

use super::layers::Source;

/// One thing that is wrong. It never holds a password: whoever makes one masks what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFault {
    /// The key, as in `watchbell config`; none where the file as a whole cannot be read.
    pub key: Option<String>,
    /// Where the value stands.
    pub source: Source,
    /// What is wrong, with what was found.
    pub problem: String,
    /// How to mend it.
    pub hint: String,
}

impl fmt::Display for ConfigurationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "`{key}` ({}): {}", self.source, self.problem)?,
            None => write!(f, "{}: {}", self.source, self.problem)?,
        }
        write!(f, "\n  hint: {}", self.hint)
    }
}

/// Everything that is wrong in a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigurationFaults(pub Vec<ConfigurationFault>);

impl fmt::Display for ConfigurationFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has 1 fault:")?,
            count => write!(f, "the configuration has {count} faults:")?,
        }
        for fault in &self.0 {
            write!(f, "\n- {fault}")?;
        }
        Ok(())
    }
}
