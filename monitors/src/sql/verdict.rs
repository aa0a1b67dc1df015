//! From the rows that were found to a verdict, with the sentence that says why.

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Metrics;

use super::age::judge_age;
use super::value::{MOST_ROWS, Table, Value};

/// What must hold. At least one of them is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Criteria {
    pub(super) column: Option<String>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) equals: Option<Expected>,
    pub(super) max_age: Option<TimeDelta>,
    pub(super) min_rows: Option<usize>,
    pub(super) max_rows: Option<usize>,
}

/// What `equals` compares with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    Number(f64),
    Text(String),
    Flag(bool),
}

/// The verdict and its sentence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) is_ok: bool,
    pub(super) sentence: String,
    /// The value that was judged; NULL without a row.
    pub(super) value: Value,
    pub(super) metrics: Metrics,
}

impl Criteria {
    pub(super) fn is_empty(&self) -> bool {
        !self.judges_value() && self.max_age.is_none() && self.min_rows.is_none() && self.max_rows.is_none()
    }

    /// Whether the one value, or its age, is judged.
    pub(super) fn needs_value(&self) -> bool {
        self.judges_value() || self.max_age.is_some()
    }

    fn judges_value(&self) -> bool {
        self.min.is_some() || self.max.is_some() || self.equals.is_some()
    }

    /// Judges what was found; ages are measured at `tick`.
    pub(super) fn judge(&self, table: &Table, tick: DateTime<Utc>) -> Verdict {
        let mut findings = Vec::new();
        let mut metrics = Metrics::new();
        #[allow(clippy::cast_precision_loss, reason = "at most `MOST_ROWS`")]
        metrics.insert("rows".into(), table.count as f64);
        let found = self.value(table);
        let value = found.as_ref().map_or(Value::Null, |(_, value)| (*value).clone());
        match &found {
            Ok((label, value)) => {
                if self.judges_value() {
                    findings.push(self.judge_value(label, value));
                    if let Some(number) = value.number() {
                        metrics.insert("value".into(), number);
                    }
                }
                if let Some(max_age) = self.max_age {
                    let (finding, age) = judge_age(label, value, max_age, tick);
                    findings.push(finding);
                    #[allow(clippy::cast_precision_loss, reason = "an age in seconds")]
                    if let Some(age) = age {
                        metrics.insert("age_minutes".into(), age.num_seconds() as f64 / 60.0);
                    }
                }
            }
            Err(why) if self.needs_value() => findings.push(Finding { is_ok: false, text: why.clone() }),
            Err(_) => {}
        }
        if self.min_rows.is_some() || self.max_rows.is_some() {
            findings.push(self.judge_rows(table));
        }
        let is_ok = findings.iter().all(|finding| finding.is_ok);
        // A failure names what failed; what holds beside it would only hide that.
        let told = findings.iter().filter(|finding| finding.is_ok == is_ok).map(|finding| finding.text.as_str());
        Verdict { is_ok, sentence: told.collect::<Vec<_>>().join("; "), value, metrics }
    }

    fn value<'t>(&self, table: &'t Table) -> Result<(String, &'t Value), String> {
        let Some(row) = table.rows.first() else {
            return Err("the statement gave no row, so there is no value to judge (hint: for a number of rows use `min_rows` and `max_rows`)".into());
        };
        let index = match &self.column {
            None => 0,
            Some(name) => table
                .columns
                .iter()
                .position(|column| column == name)
                .or_else(|| table.columns.iter().position(|column| column.eq_ignore_ascii_case(name)))
                .ok_or_else(|| {
                    let known = table.columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
                    format!("the result has no column `{name}`; it has {known}")
                })?,
        };
        let value = row.get(index).ok_or("the statement gave a row without columns")?;
        Ok((label(table.columns.get(index).map_or("", String::as_str)), value))
    }

    fn judge_value(&self, label: &str, value: &Value) -> Finding {
        let number = value.number();
        let is_ok = self.min.is_none_or(|min| number.is_some_and(|number| number >= min))
            && self.max.is_none_or(|max| number.is_some_and(|number| number <= max))
            && self.equals.as_ref().is_none_or(|expected| expected.holds(value));
        let shown = shortened(&value.shown(), 200);
        if is_ok {
            return Finding { is_ok, text: format!("{label} is {shown}") };
        }
        let mut expected = Vec::new();
        expected.extend(self.min.map(|min| format!("at least {min}")));
        expected.extend(self.max.map(|max| format!("at most {max}")));
        expected.extend(self.equals.as_ref().map(Expected::shown));
        let needs_number = self.min.is_some() || self.max.is_some();
        let why = match value {
            Value::Null | Value::Unread(_) => "",
            _ if needs_number && number.is_none() => " (which is not a number)",
            _ => "",
        };
        Finding { is_ok, text: format!("{label} is {shown}{why}, expected {}", expected.join(" and ")) }
    }

    fn judge_rows(&self, table: &Table) -> Finding {
        let count = table.count;
        let is_ok = self.min_rows.is_none_or(|min| count >= min)
            && self.max_rows.is_none_or(|max| count <= max && !(table.is_cut && count == max));
        let more = if table.is_cut { "more than " } else { "" };
        let mut text = format!("{more}{}", rows(count));
        if !is_ok {
            let mut expected = Vec::new();
            expected.extend(self.min_rows.map(|min| format!("at least {min}")));
            expected.extend(self.max_rows.map(|max| format!("at most {max}")));
            text.push_str(&format!(", expected {}", expected.join(" and ")));
        }
        Finding { is_ok, text }
    }
}

impl Expected {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            // NULL equals nothing, as in SQL.
            (_, Value::Null) => false,
            (Self::Number(expected), value) => value.number().is_some_and(|number| number == *expected),
            (Self::Text(expected), value) => value.shown() == *expected,
            (Self::Flag(expected), Value::Bool(flag)) => flag == expected,
            // SQLite and MySQL have no booleans, only 0 and 1; `t`, `true` are what people write into texts.
            (Self::Flag(expected), Value::Whole(number)) => *number == i64::from(*expected),
            (Self::Flag(expected), Value::Text(text)) => text.eq_ignore_ascii_case(&expected.to_string()),
            (Self::Flag(_), _) => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("`{}`", shortened(text, 200)),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// What one criterion gave.
pub(super) struct Finding {
    pub(super) is_ok: bool,
    pub(super) text: String,
}

/// A name for the value: `count` for `count(*)`, `value` where the column has no name of its own.
fn label(column: &str) -> String {
    const LONGEST: usize = 40;
    let name = match column.split_once('(') {
        Some((function, rest)) if rest.ends_with(')') && rest.matches(['(', ')']).count() == 1 => function.trim(),
        Some(_) => "",
        None => column,
    };
    let is_name = !name.is_empty()
        && name.chars().count() <= LONGEST
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ' ' | '.' | '-' | '%'))
        && !name.chars().all(|c| c.is_ascii_digit());
    if is_name { name.to_lowercase() } else { "value".into() }
}

fn rows(count: usize) -> String {
    format!("{count} {}", if count == 1 { "row" } else { "rows" })
}

/// One line of at most `longest` characters.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line,
    }
}

/// The most rows that `min_rows` and `max_rows` may speak of.
pub(super) const MOST_JUDGED_ROWS: i64 = MOST_ROWS as i64;

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{Criteria, Expected, label};
    use crate::sql::value::{MOST_ROWS, Table, Value};

    fn table(column: &str, values: &[Value]) -> Table {
        let mut table = Table::default();
        for value in values {
            table.push(|| vec![column.to_owned()], vec![value.clone()]);
        }
        table
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The verdict as one line: `ok: ...` or `failed: ...`.
    fn judged(criteria: &Criteria, table: &Table) -> String {
        let verdict = criteria.judge(table, at("2026-11-21T12:00:00Z"));
        format!("{}: {}", if verdict.is_ok { "ok" } else { "failed" }, verdict.sentence)
    }

    #[test]
    fn values_against_bounds() {
        let min = Criteria { min: Some(1.0), ..Criteria::default() };
        let both = Criteria { min: Some(1.0), max: Some(5.0), ..Criteria::default() };
        for (criteria, value, expected) in [
            (&min, Value::Whole(0), "failed: count is 0, expected at least 1"),
            (&min, Value::Whole(1), "ok: count is 1"),
            (&min, Value::Null, "failed: count is NULL, expected at least 1"),
            (&min, Value::Text("x y".into()), "failed: count is x y (which is not a number), expected at least 1"),
            (&min, Value::Text(" 2 ".into()), "ok: count is 2"),
            (&min, Value::Float(f64::NAN), "failed: count is NaN (which is not a number), expected at least 1"),
            (&both, Value::Decimal("5.0001".into()), "failed: count is 5.0001, expected at least 1 and at most 5"),
            (&both, Value::Float(5.0), "ok: count is 5"),
        ] {
            assert_eq!(judged(criteria, &table("count(*)", &[value])), expected);
        }
        assert!(judged(&min, &Table::default()).starts_with("failed: the statement gave no row"));
    }

    #[test]
    fn values_against_what_they_should_be() {
        let equals = |expected| Criteria { equals: Some(expected), ..Criteria::default() };
        let text = |text: &str| Expected::Text(text.into());
        for (expected, value, is_ok) in [
            (text("up"), Value::Text("up".into()), true),
            (text("up"), Value::Text("Up".into()), false),
            (text("5"), Value::Whole(5), true),
            (text("NULL"), Value::Null, false),
            (Expected::Number(5.0), Value::Decimal("5.00".into()), true),
            (Expected::Number(5.0), Value::Whole(6), false),
            (Expected::Flag(true), Value::Bool(true), true),
            (Expected::Flag(true), Value::Whole(1), true),
            (Expected::Flag(false), Value::Whole(1), false),
            (Expected::Flag(false), Value::Null, false),
        ] {
            let verdict = judged(&equals(expected.clone()), &table("state", std::slice::from_ref(&value)));
            assert_eq!(verdict.starts_with("ok"), is_ok, "{expected:?} {value:?}: {verdict}");
        }
        let found = table("state", &[Value::Text("down".into())]);
        assert_eq!(judged(&equals(text("up")), &found), "failed: state is down, expected `up`");
    }

    #[test]
    fn freshness_is_measured_at_the_tick() {
        let fresh = Criteria { max_age: Some(TimeDelta::minutes(60)), ..Criteria::default() };
        for (value, expected) in [
            (Value::Time(at("2026-11-21T11:00:00Z")), "ok: last is 2026-11-21 11:00 UTC, 60 min old"),
            (
                Value::Time(at("2026-11-21T10:59:59Z")),
                "failed: last is 2026-11-21 10:59:59 UTC, 60 min old, expected at most 60 min old",
            ),
            (Value::Null, "failed: last is NULL: there is no such time yet, expected at most 60 min old"),
            (Value::Time(at("2026-11-21T12:04:00Z")), "ok: last is 2026-11-21 12:04 UTC, 0 s old"),
        ] {
            assert_eq!(judged(&fresh, &table("last", &[value])), expected);
        }
        let future = judged(&fresh, &table("last", &[Value::Time(at("2026-11-21T13:00:00Z"))]));
        assert!(future.starts_with("failed") && future.contains("60 min in the future"), "{future}");
        let other = judged(&fresh, &table("last", &[Value::Text("soon".into())]));
        assert!(other.starts_with("failed") && other.contains("not read as a time"), "{other}");
    }

    #[test]
    fn numbers_of_rows() {
        let some = Criteria { min_rows: Some(1), max_rows: Some(2), ..Criteria::default() };
        let rows = |count: usize| table("a", &vec![Value::Whole(1); count]);
        assert_eq!(judged(&some, &rows(0)), "failed: 0 rows, expected at least 1 and at most 2");
        assert_eq!(judged(&some, &rows(1)), "ok: 1 row");
        assert_eq!(judged(&some, &rows(3)), "failed: 3 rows, expected at least 1 and at most 2");
        let most = Criteria { max_rows: Some(MOST_ROWS), ..Criteria::default() };
        assert_eq!(judged(&most, &rows(MOST_ROWS)), "ok: 1000 rows");
        assert_eq!(judged(&most, &rows(MOST_ROWS + 1)), "failed: more than 1000 rows, expected at most 1000");
        let none = Criteria { max_rows: Some(0), ..Criteria::default() };
        assert_eq!(judged(&none, &rows(0)), "ok: 0 rows");
    }

    #[test]
    fn all_criteria_must_hold_and_only_what_fails_is_told() {
        let criteria = Criteria { min: Some(5.0), max_rows: Some(9), ..Criteria::default() };
        assert_eq!(judged(&criteria, &table("n", &[Value::Whole(1)])), "failed: n is 1, expected at least 5");
        assert_eq!(judged(&criteria, &table("n", &[Value::Whole(6)])), "ok: n is 6; 1 row");
    }

    #[test]
    fn a_column_is_found_by_name() {
        let criteria = Criteria { column: Some("N".into()), min: Some(5.0), ..Criteria::default() };
        assert_eq!(judged(&criteria, &table("n", &[Value::Whole(6)])), "ok: n is 6");
        let missing = judged(&criteria, &table("m", &[Value::Whole(6)]));
        assert_eq!(missing, "failed: the result has no column `N`; it has `m`");
    }

    #[test]
    fn names_of_values_are_for_people() {
        for (column, expected) in [
            ("COUNT(*)", "count"),
            ("?column?", "value"),
            ("max(a) - 1", "value"),
            ("1", "value"),
            ("open orders", "open orders"),
        ] {
            assert_eq!(label(column), expected, "{column}");
        }
    }
}
