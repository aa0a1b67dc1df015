//! Which statuses are right.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::Value;
use watchbell_contract::ConfigReader;

/// The statuses that a row expects: any of some ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExpectedStatus(Vec<RangeInclusive<u16>>);

impl ExpectedStatus {
    pub(super) fn read(config: &mut ConfigReader<'_>) -> Self {
        let Some(value) = config.value("status") else { return Self(vec![200..=299]) };
        let items = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        let ranges: Vec<_> = items.iter().map(range).collect();
        if ranges.is_empty() || ranges.contains(&None) {
            config.fault(
                "status",
                format!("expected a status, a range or a list of them, found {}", Value::Array(items)),
                Some("for example 200, \"2xx\", \"200-299\" or [200, \"3xx\"]".into()),
            );
        }
        Self(ranges.into_iter().flatten().collect())
    }

    pub(super) fn holds(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for ExpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match (range.start(), range.end()) {
                (from, to) if from == to => write!(f, "{from}")?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

fn range(item: &Value) -> Option<RangeInclusive<u16>> {
    if let Some(number) = item.as_u64() {
        let status = valid(u16::try_from(number).ok()?)?;
        return Some(status..=status);
    }
    let text = item.as_str()?.trim();
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let from = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))? * 100;
        return Some(from..=from + 99);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (valid(from.trim().parse().ok()?)?, valid(to.trim().parse().ok()?)?);
    (from <= to).then_some(from..=to)
}

/// Three digits: what a server can answer.
fn valid(status: u16) -> Option<u16> {
    (100..=999).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::range;

    #[test]
    fn each_spelling_is_read() {
        for (item, expected) in [
            (json!(204), 204..=204),
            (json!("204"), 204..=204),
            (json!("2xx"), 200..=299),
            (json!("4XX"), 400..=499),
            (json!("200-299"), 200..=299),
            (json!("200 - 204"), 200..=204),
        ] {
            assert_eq!(range(&item), Some(expected), "{item}");
        }
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for item in [
            json!(99),
            json!(70_000),
            json!(-1),
            json!(200.5),
            json!("xx"),
            json!("0xx"),
            json!("299-200"),
            json!("ok"),
            json!(true),
            json!(null),
            json!([]),
        ] {
            assert_eq!(range(&item), None, "{item}");
        }
    }
}
