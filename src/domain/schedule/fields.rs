//! The fields of a cron expression: read strictly, with errors that name the field, and written again in plain
//! numbers, so that the library behind never meets a dialect of its own.

use super::error::{ScheduleError, quoted};

/// One field, read: which values match, and whether it begins with `*`, which matters for Debian's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n is set where the value n matches.
    pub(super) bits: u64,
    pub(super) star: bool,
}

/// Which values a field of that place may hold.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    low: u32,
    high: u32,
    /// Three-letter names, of the values from `low` on.
    names: &'static [&'static str],
}

pub(super) const SECONDS: Place = Place { name: "seconds", low: 0, high: 59, names: &[] };
pub(super) const MINUTES: Place = Place { name: "minutes", low: 0, high: 59, names: &[] };
pub(super) const HOURS: Place = Place { name: "hours", low: 0, high: 23, names: &[] };
pub(super) const DAYS: Place = Place { name: "day of month", low: 1, high: 31, names: &[] };
pub(super) const MONTHS: Place = Place {
    name: "month",
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0 and 7; `Field::bits` has it at 0 only.
pub(super) const WEEKDAYS: Place =
    Place { name: "day of week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Place {
    /// Reads a list of values, ranges and steps.
    pub(super) fn read(&self, text: &str) -> Result<Field, ScheduleError> {
        let mut bits = 0;
        for item in text.split(',') {
            bits |= self.read_item(item, text)?;
        }
        if self.high == 7 && bits & (1 << 7) != 0 {
            bits = (bits | 1) & !(1 << 7);
        }
        Ok(Field { bits, star: text.starts_with('*') })
    }

    fn read_item(&self, item: &str, field: &str) -> Result<u64, ScheduleError> {
        if item.is_empty() {
            return Err(self.fault(field, "a value is missing", "write lists as `1,2,3`, without spaces"));
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((from, to)) => self.range(from, to)?,
            None if step.is_some() => {
                let from = self.value(range)?;
                let hint = format!("write `{from}-{}/{}`, or `*/{1}`", self.high, step.unwrap_or_default());
                return Err(self.fault(item, "a step needs a range before it", &hint));
            }
            None => (self.value(range)?, self.value(range)?),
        };
        let step = step.map_or(Ok(1), |step| self.step(step, item))?;
        Ok((from..=to).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    fn range(&self, from: &str, to: &str) -> Result<(u32, u32), ScheduleError> {
        let written = format!("{from}-{to}");
        let (from, mut to) = (self.value(from)?, self.value(to)?);
        // `sat-sun`: at the end of a range Sunday is 7.
        if self.high == 7 && to == 0 && from > 0 {
            to = 7;
        }
        if from > to {
            let wrapped = if to == self.low { to.to_string() } else { format!("{}-{to}", self.low) };
            let start = if from == self.high { from.to_string() } else { format!("{from}-{}", self.high) };
            return Err(self.fault(&written, "the range runs backwards", &format!("write `{start},{wrapped}`")));
        }
        Ok((from, to))
    }

    fn step(&self, step: &str, item: &str) -> Result<usize, ScheduleError> {
        let most = self.high - self.low;
        number(step).filter(|step| (1..=most).contains(step)).and_then(|step| usize::try_from(step).ok()).ok_or_else(
            || {
                let hint = format!("steps of this field go from 1 to {most}; for longer spans write `@every 90m`");
                self.fault(item, &format!("{} is no step", quoted(step)), &hint)
            },
        )
    }

    fn value(&self, text: &str) -> Result<u32, ScheduleError> {
        let by_name = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match by_name.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Some(self.low + index),
            None => number(text),
        };
        match value {
            Some(value) if (self.low..=self.high).contains(&value) => Ok(value),
            Some(_) => Err(self.fault(text, "out of range", &self.allowed())),
            None if text.contains('*') => Err(self.fault(text, "`*` stands alone or before a step", &self.allowed())),
            None if self.is_extension(text) => Err(self.fault(
                text,
                "`L`, `W`, `#` and `?` are not part of classic cron",
                "use numbers, names, ranges, steps and lists",
            )),
            None => Err(self.fault(text, "no value of this field", &self.allowed())),
        }
    }

    fn is_extension(&self, text: &str) -> bool {
        !text.is_empty() && text.chars().all(|char| char.is_ascii_digit() || "LlWw#?".contains(char))
    }

    fn allowed(&self) -> String {
        let range = format!("{} goes from {} to {}", self.name, self.low, self.high);
        match self.names {
            [] => range,
            names => format!("{range}, or by name: {}", names.join(", ")),
        }
    }

    fn fault(&self, value: &str, problem: &str, hint: &str) -> ScheduleError {
        ScheduleError::new(format!("schedule: {}: {}: {problem}", self.name, quoted(value)), hint)
    }
}

/// A plain number of at most two digits: nothing in cron is longer.
fn number(text: &str) -> Option<u32> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

impl Field {
    pub(super) fn holds(&self, value: u32) -> bool {
        self.bits & (1 << value) != 0
    }

    /// The values as ranges in plain numbers. Never `*`: its meaning is in `star`, and not left to a parser.
    pub(super) fn in_numbers(&self) -> String {
        let mut ranges = Vec::new();
        let mut value = 0;
        while value < 64 {
            if !self.holds(value) {
                value += 1;
                continue;
            }
            let from = value;
            while value < 63 && self.holds(value + 1) {
                value += 1;
            }
            ranges.push(if from == value { from.to_string() } else { format!("{from}-{value}") });
            value += 1;
        }
        ranges.join(",")
    }
}
