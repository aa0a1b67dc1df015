//! Wall clock times of a zone as instants: what exists once, twice, or not at all where the clocks are changed.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

/// How often a wall clock time comes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Comes {
    Once(DateTime<Utc>),
    /// The clocks were set back: the same reading came before and after.
    Twice {
        first: DateTime<Utc>,
        second: DateTime<Utc>,
    },
    /// The clocks were set forward over it.
    Never(Gap),
}

/// Wall clock times `begin..end` that do not exist; `instant` is when the clocks jumped, its reading is `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) begin: NaiveDateTime,
    pub(super) end: NaiveDateTime,
    pub(super) instant: DateTime<Utc>,
}

impl Gap {
    pub(super) fn length(&self) -> TimeDelta {
        self.end - self.begin
    }
}

/// Wall clock times `begin..end` that come twice; at `switch` the clocks go back from `end` to `begin`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overlap {
    pub(super) begin: NaiveDateTime,
    pub(super) end: NaiveDateTime,
    pub(super) switch: DateTime<Utc>,
}

/// How often that reading of the clock comes in the zone. `None` beyond what the zone's data can say.
pub(super) fn comes(zone: Tz, local: NaiveDateTime) -> Option<Comes> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => Some(Comes::Once(time.to_utc())),
        MappedLocalTime::Ambiguous(first, second) => {
            Some(Comes::Twice { first: first.to_utc(), second: second.to_utc() })
        }
        MappedLocalTime::None => {
            let gap = GapInfo::new(&local, &zone)?;
            let (begin, _) = gap.begin?;
            let end = gap.end?;
            Some(Comes::Never(Gap { begin, end: end.naive_local(), instant: end.to_utc() }))
        }
    }
}

/// The repeated stretch in which one reading came at `first` and again at `second`. The zone data does not offer
/// the instant of the switch, so it is searched between the two, in about a dozen steps.
pub(super) fn overlap(zone: Tz, first: DateTime<Utc>, second: DateTime<Utc>) -> Overlap {
    let offset = |instant: DateTime<Utc>| instant.with_timezone(&zone).offset().fix();
    let (before, after) = (offset(first), offset(second));
    let (mut still_before, mut already_after) = (first, second);
    while already_after - still_before > TimeDelta::seconds(1) {
        let middle = still_before + TimeDelta::seconds((already_after - still_before).num_seconds() / 2);
        if offset(middle) == before {
            still_before = middle;
        } else {
            already_after = middle;
        }
    }
    let naive = already_after.naive_utc();
    Overlap { begin: naive + after, end: naive + before, switch: already_after }
}

/// The start of the second in which the instant lies.
pub(super) fn second_at_or_before(instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(instant.timestamp(), 0)
}

/// The instant itself where it is a whole second, else the next whole second.
pub(super) fn second_at_or_after(instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let up = i64::from(instant.timestamp_subsec_nanos() > 0);
    DateTime::from_timestamp(instant.timestamp().checked_add(up)?, 0)
}
