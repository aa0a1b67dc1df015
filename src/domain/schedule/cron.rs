//! Cron expressions read as Debian's cron reads them.
//!
//! croner finds the matching wall clock times, in no zone at all. Which instants these are, and what happens where the
//! clocks are changed, is decided here, since croner's own answer differs from Debian's for lists and ranges
//! (`0,30 2 * * *`), for fields such as `*/2` beside a weekday, and for jumps of other than an hour.
//!
//! Debian's rule: an expression whose minute or hour (or second) begins with `*` follows real time: it skips what does
//! not exist and runs in both halves of a repeated hour. Any other names fixed times: one that does not exist runs once
//! right after the jump, one that comes twice runs the first time. After jumps of three hours or more, which are a
//! change of zone and not daylight saving, Debian makes up for nothing, and so it is here.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::error::{ScheduleError, quoted};
use super::fields::{DAYS, Field, HOURS, MINUTES, MONTHS, SECONDS, WEEKDAYS};
use super::local::{Comes, Gap, comes, overlap, second_at_or_after, second_at_or_before};

/// A gap this long or longer is no daylight saving: what it swallowed is not made up for.
const LONG_JUMP: TimeDelta = TimeDelta::hours(3);
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// A cron expression without its zone.
#[derive(Debug)]
pub(super) struct CronRule {
    pattern: croner::Cron,
    follows_real_time: bool,
}

impl CronRule {
    /// Reads 5 fields, or 6 with seconds first.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (seconds, rest) = match fields.as_slice() {
            rest @ [_, _, _, _, _] => (Field { bits: 1, star: false }, rest),
            [seconds, rest @ ..] if rest.len() == 5 => (SECONDS.read(seconds)?, rest),
            _ => return Err(wrong_count(text, fields.len())),
        };
        let [minutes, hours, days, months, weekdays] = rest else { return Err(wrong_count(text, fields.len())) };
        let rule = Fields {
            seconds,
            minutes: MINUTES.read(minutes)?,
            hours: HOURS.read(hours)?,
            days: DAYS.read(days)?,
            months: MONTHS.read(months)?,
            weekdays: WEEKDAYS.read(weekdays)?,
        };
        if rule.never_fires() {
            return Err(ScheduleError::new(
                format!("schedule: {} never fires: no such day exists in these months", quoted(text)),
                "the last days are 28 or 29 in February, 30 in April, June, September and November, else 31",
            ));
        }
        rule.into_rule(text)
    }

    /// The first tick after the instant, exclusive.
    pub(super) fn next_after(&self, zone: Tz, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = second_at_or_before(instant)?;
        let local = reading(zone, after);
        let straight = self.walk_forward(zone, local, after);
        if let (true, Some(Comes::Twice { first, second })) = (self.follows_real_time, comes(zone, local)) {
            // Before the switch, what is already behind on the clock's face comes once more.
            let repeated = overlap(zone, first, second);
            if after < repeated.switch && straight.is_none_or(|tick| tick >= repeated.switch) {
                let again = self.local_after(repeated.begin - SECOND).filter(|again| *again < repeated.end);
                let again = again.map(|again| repeated.switch + (again - repeated.begin));
                return straight.into_iter().chain(again).min();
            }
        }
        straight
    }

    /// The last tick before the instant, exclusive.
    pub(super) fn previous_before(&self, zone: Tz, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = second_at_or_after(instant)?;
        let local = reading(zone, before);
        let repeated = match comes(zone, local) {
            Some(Comes::Twice { first, second }) if before >= second => Some(overlap(zone, first, second)),
            _ => None,
        };
        let Some(repeated) = repeated else { return self.walk_backward(zone, local, before) };
        if !self.follows_real_time {
            // All of the first pass lies behind, also what is still ahead on the clock's face.
            return self.walk_backward(zone, repeated.end, before);
        }
        let straight = self.walk_backward(zone, local, before);
        if straight.is_some_and(|tick| tick >= repeated.switch) {
            return straight;
        }
        let once = self.local_before(repeated.end).filter(|once| *once >= repeated.begin);
        let once = once.map(|once| repeated.switch - (repeated.end - once));
        straight.into_iter().chain(once).max()
    }

    /// What daylight saving does to that tick, in a sentence; `None` where it does nothing.
    pub(super) fn note(&self, zone: Tz, tick: DateTime<Utc>) -> Option<String> {
        let local = reading(zone, tick);
        let swallowed = self.local_before(local).and_then(|swallowed| match comes(zone, swallowed)? {
            Comes::Never(gap) => Some((swallowed, gap)),
            _ => None,
        });
        // What was made up for was so by the tick right after the jump; it is no matter of the next one.
        if let Some((swallowed, gap)) = swallowed.filter(|(_, gap)| !self.makes_up_for(*gap) || gap.instant == tick) {
            return Some(self.note_on_gap(swallowed, gap));
        }
        let Some(Comes::Twice { first, second }) = comes(zone, local) else { return None };
        let repeated = overlap(zone, first, second);
        let twice = format!(
            "{} comes twice: the clocks go back from {} to {}",
            local.format("%H:%M"),
            repeated.end.format("%H:%M"),
            repeated.begin.format("%H:%M"),
        );
        Some(match (self.follows_real_time, tick < repeated.switch) {
            (false, _) => format!("{twice}; a fixed time runs once, the first time"),
            (true, true) => format!("{twice}; the schedule follows real time, this is the first"),
            (true, false) => format!("{twice}; the schedule follows real time, this is the second"),
        })
    }

    fn note_on_gap(&self, swallowed: NaiveDateTime, gap: Gap) -> String {
        let face = if gap.begin.date() == gap.end.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
        let jump = format!(
            "{} does not exist: the clocks go forward from {} to {}",
            swallowed.format("%Y-%m-%d %H:%M"),
            gap.begin.format(face),
            gap.end.format(face),
        );
        if self.makes_up_for(gap) {
            format!("{jump}; a fixed time that is skipped runs once, right after the jump")
        } else if self.follows_real_time {
            format!("{jump}; the schedule follows real time and goes on here")
        } else {
            format!("{jump}; after a jump of three hours or more nothing is made up for, the schedule goes on here")
        }
    }

    fn walk_forward(&self, zone: Tz, from: NaiveDateTime, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut cursor = from;
        loop {
            let local = self.local_after(cursor)?;
            cursor = local;
            match comes(zone, local)? {
                Comes::Once(tick) if tick > after => return Some(tick),
                Comes::Once(_) => {}
                Comes::Twice { first, .. } if first > after => return Some(first),
                Comes::Twice { second, .. } if self.follows_real_time && second > after => return Some(second),
                // The first pass is over, so the rest of it holds nothing: past it in one step.
                Comes::Twice { first, second } => cursor = cursor.max(overlap(zone, first, second).end - SECOND),
                Comes::Never(gap) if self.makes_up_for(gap) && gap.instant > after => return Some(gap.instant),
                Comes::Never(gap) => cursor = cursor.max(gap.end - SECOND),
            }
        }
    }

    fn walk_backward(&self, zone: Tz, from: NaiveDateTime, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut cursor = from;
        loop {
            let local = self.local_before(cursor)?;
            cursor = local;
            match comes(zone, local)? {
                Comes::Once(tick) if tick < before => return Some(tick),
                Comes::Once(_) => {}
                Comes::Twice { second, .. } if self.follows_real_time && second < before => return Some(second),
                Comes::Twice { first, .. } if first < before => return Some(first),
                Comes::Twice { .. } => {}
                Comes::Never(gap) if self.makes_up_for(gap) && gap.instant < before => return Some(gap.instant),
                Comes::Never(gap) => cursor = cursor.min(gap.begin),
            }
        }
    }

    fn makes_up_for(&self, gap: Gap) -> bool {
        !self.follows_real_time && gap.length() < LONG_JUMP
    }

    // croner fails only where its calendar ends (the years 1 and 5000): no tick there.
    fn local_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_next_occurrence(&local, false).ok()
    }

    fn local_before(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_previous_occurrence(&local, false).ok()
    }
}

/// What a clock on the wall shows at that instant.
fn reading(zone: Tz, instant: DateTime<Utc>) -> NaiveDateTime {
    instant.with_timezone(&zone).naive_local()
}

struct Fields {
    seconds: Field,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

impl Fields {
    /// Debian: both day fields must match if one of them begins with `*`, else one of them suffices.
    fn needs_both_days(&self) -> bool {
        self.days.star || self.weekdays.star
    }

    /// Only a day of the month can be impossible: each that exists falls on every weekday in some year.
    fn never_fires(&self) -> bool {
        const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let first_day = self.days.bits.trailing_zeros();
        self.needs_both_days()
            && !LONGEST.into_iter().zip(1..).any(|(last_day, month)| self.months.holds(month) && first_day <= last_day)
    }

    fn into_rule(self, text: &str) -> Result<CronRule, ScheduleError> {
        let fields = [self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays];
        let numbers = fields.map(|field| field.in_numbers()).join(" ");
        let parser = croner::parser::CronParser::builder().dom_and_dow(self.needs_both_days()).build();
        let pattern = parser.parse(&numbers).map_err(|error| {
            ScheduleError::new(
                format!("schedule: {} cannot be read: {error}", quoted(text)),
                "write it as five fields, such as `*/5 * * * *`",
            )
        })?;
        let follows_real_time = self.seconds.star || self.minutes.star || self.hours.star;
        Ok(CronRule { pattern, follows_real_time })
    }
}

fn wrong_count(text: &str, count: usize) -> ScheduleError {
    let hint = match count {
        7 => "there is no field for years: leave it out",
        _ => "write `minutes hours day-of-month month day-of-week`, such as `*/5 * * * *`, or seconds before them",
    };
    ScheduleError::new(format!("schedule: {} has {count} fields, not 5 or 6", quoted(text)), hint)
}
