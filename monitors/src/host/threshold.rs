//! Thresholds with one or two levels, and the breaches of them.

use serde_json::Value;
use watchbell_contract::{ConfigReader, Severity};

/// Which side of a threshold is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Above it is a breach.
    AtMost,
    /// Below it is a breach.
    AtLeast,
}

/// A threshold: a number alone, or one for each of two levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    bound: Bound,
    /// The number alone: a breach is as bad as the row says.
    plain: Option<f64>,
    warning: Option<f64>,
    critical: Option<f64>,
}

/// How bad a breach is. The order is used: the worst wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Severity `warning`.
    Warning,
    /// The row's own severity.
    AsTheRowSays,
    /// Severity `critical`.
    Critical,
}

impl Level {
    /// The outcome's severity; `None`: the row's.
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Level::Warning => Some(Severity::Warning),
            Level::AsTheRowSays => None,
            Level::Critical => Some(Severity::Critical),
        }
    }
}

impl Threshold {
    /// Reads the parameter `name`, whose numbers lie from 0 to `greatest`, if given.
    pub(crate) fn read(config: &mut ConfigReader<'_>, name: &str, bound: Bound, greatest: f64) -> Option<Self> {
        let value = config.value(name)?;
        match Self::parse(&value, bound, greatest) {
            Ok(threshold) => Some(threshold),
            Err(problem) => {
                let hint = format!(
                    "write {{\"{name}\": 90}}, or {{\"{name}\": {{\"warning\": 80, \"critical\": 90}}}} with one or both levels"
                );
                config.fault(name, problem, Some(hint));
                None
            }
        }
    }

    /// Reads a threshold whose numbers lie from 0 to `greatest`.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase.
    pub(crate) fn parse(value: &Value, bound: Bound, greatest: f64) -> Result<Self, String> {
        let number = |value: &Value| {
            let number = value.as_f64().filter(|number| (0.0..=greatest).contains(number));
            let expected = if greatest < f64::MAX { format!("from 0 to {greatest}") } else { "0 or more".to_owned() };
            number.ok_or_else(|| format!("expected a number, {expected}, found {}", short(value)))
        };
        let mut threshold = Self { bound, plain: None, warning: None, critical: None };
        let Value::Object(levels) = value else {
            threshold.plain = Some(number(value)?);
            return Ok(threshold);
        };
        for (level, value) in levels {
            match level.as_str() {
                "warning" => threshold.warning = Some(number(value)?),
                "critical" => threshold.critical = Some(number(value)?),
                other => return Err(format!("`{}` is no level", other.chars().take(40).collect::<String>())),
            }
        }
        match (threshold.warning, threshold.critical) {
            (None, None) => Err("holds neither `warning` nor `critical`".into()),
            (Some(warning), Some(critical)) if threshold.is_worse(warning, critical) => {
                Err(format!("`warning`, {warning}, would come only after `critical`, {critical}"))
            }
            _ => Ok(threshold),
        }
    }

    fn is_worse(&self, value: f64, limit: f64) -> bool {
        match self.bound {
            Bound::AtMost => value > limit,
            Bound::AtLeast => value < limit,
        }
    }

    /// The worst level that `value` breaches, and that level's limit. The limit itself is no breach.
    pub(crate) fn breached_by(&self, value: f64) -> Option<(Level, f64)> {
        let levels =
            [(Level::Critical, self.critical), (Level::AsTheRowSays, self.plain), (Level::Warning, self.warning)];
        let mut limits = levels.into_iter().filter_map(|(level, limit)| limit.map(|limit| (level, limit)));
        limits.find(|(_, limit)| self.is_worse(value, *limit))
    }

    /// "at most" or "at least".
    pub(crate) fn words(&self) -> &'static str {
        match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        }
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Bound, Level, Threshold};

    #[test]
    fn a_number_alone_has_the_severity_of_the_row() {
        let threshold = Threshold::parse(&json!(90), Bound::AtMost, 100.0).unwrap();
        assert_eq!(threshold.breached_by(90.0), None);
        assert_eq!(threshold.breached_by(90.1), Some((Level::AsTheRowSays, 90.0)));
        assert_eq!(Level::AsTheRowSays.severity(), None);
    }

    #[test]
    fn of_two_levels_the_worse_counts() {
        let most = Threshold::parse(&json!({"warning": 80, "critical": 90}), Bound::AtMost, 100.0).unwrap();
        let breaches = [80.0, 81.0, 90.0, 91.0].map(|value| most.breached_by(value).map(|(level, _)| level));
        assert_eq!(breaches, [None, Some(Level::Warning), Some(Level::Warning), Some(Level::Critical)]);
        let least = Threshold::parse(&json!({"warning": 10, "critical": 5}), Bound::AtLeast, f64::MAX).unwrap();
        let breaches = [10.0, 9.0, 5.0, 4.0].map(|value| least.breached_by(value).map(|(level, _)| level));
        assert_eq!(breaches, [None, Some(Level::Warning), Some(Level::Warning), Some(Level::Critical)]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (value, words) in [
            (json!("90"), "expected a number, from 0 to 100, found \"90\""),
            (json!(101), "found 101"),
            (json!(-1), "found -1"),
            (json!({"warning": "x"}), "found \"x\""),
            (json!({}), "neither"),
            (json!({"warn": 1}), "`warn` is no level"),
            (json!({"warning": 90, "critical": 80}), "would come only after"),
        ] {
            let problem = Threshold::parse(&value, Bound::AtMost, 100.0).unwrap_err();
            assert!(problem.contains(words), "{value}: {problem}");
        }
        assert!(Threshold::parse(&json!({"warning": 5, "critical": 10}), Bound::AtLeast, 100.0).is_err());
        assert!(Threshold::parse(&json!({"warning": 5, "critical": 5}), Bound::AtLeast, 100.0).is_ok());
    }
}
