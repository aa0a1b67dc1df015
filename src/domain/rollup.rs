//! History by the hour and by the day: what is summed up, and for how long what is kept.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::MonitorId;

/// For how long history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// Runs, incidents and notifications. What belongs to an open incident stays longer.
    pub runs: TimeDelta,
    /// What is summed up by the hour; `None`: for ever.
    pub hours: Option<TimeDelta>,
    /// What is summed up by the day; `None`: for ever.
    pub days: Option<TimeDelta>,
}

impl Default for HistoryPolicy {
    /// As it is where nothing is configured.
    fn default() -> Self {
        Self { runs: TimeDelta::days(30), hours: Some(TimeDelta::days(400)), days: None }
    }
}

/// What runs are summed up by, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// From the full hour on.
    Hour,
    /// From midnight on.
    Day,
}

impl Span {
    /// How long it is.
    pub fn length(self) -> TimeDelta {
        match self {
            Span::Hour => TimeDelta::hours(1),
            Span::Day => TimeDelta::days(1),
        }
    }

    /// The beginning of the one that `at` lies in.
    pub fn start(self, at: DateTime<Utc>) -> DateTime<Utc> {
        // Only a time that nanoseconds since 1970 cannot hold is refused: centuries away.
        at.duration_trunc(self.length()).unwrap_or(at)
    }

    /// Its pieces: what is read of it at once, so that nothing takes long.
    pub fn piece(self) -> TimeDelta {
        match self {
            Span::Hour => TimeDelta::minutes(5),
            Span::Day => TimeDelta::hours(1),
        }
    }
}

/// The runs of one monitor in a span, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many.
    pub runs: i64,
    /// How many of them failed.
    pub failed_runs: i64,
    /// How long all took together, in milliseconds.
    pub duration_ms_total: i64,
    /// How long the longest took, in milliseconds.
    pub duration_ms_max: i64,
    /// How late the latest began that had a tick of the schedule, in milliseconds; `None`: none had.
    pub lateness_ms_max: Option<i64>,
}

impl Totals {
    /// Takes in what another part of the span holds.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.failed_runs += other.failed_runs;
        self.duration_ms_total = self.duration_ms_total.saturating_add(other.duration_ms_total);
        self.duration_ms_max = self.duration_ms_max.max(other.duration_ms_max);
        self.lateness_ms_max = self.lateness_ms_max.max(other.lateness_ms_max);
    }
}

/// One span of all monitors, while its pieces are read and then written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering {
    /// What it is summed up by.
    pub span: Span,
    /// Where it begins.
    pub starts_at: DateTime<Utc>,
    read_until: DateTime<Utc>,
    totals: BTreeMap<MonitorId, Totals>,
}

impl Gathering {
    /// Nothing is read yet.
    pub fn new(span: Span, starts_at: DateTime<Utc>) -> Self {
        Self { span, starts_at, read_until: starts_at, totals: BTreeMap::new() }
    }

    /// Where it ends.
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.starts_at + self.span.length()
    }

    /// The piece to read next; `None`: all are read.
    pub fn next_piece(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let until = (self.read_until + self.span.piece()).min(self.ends_at());
        (until > self.read_until).then_some((self.read_until, until))
    }

    /// Takes in the piece that [`Gathering::next_piece`] named.
    pub fn take(&mut self, until: DateTime<Utc>, piece: impl IntoIterator<Item = (MonitorId, Totals)>) {
        for (monitor, totals) in piece {
            self.totals.entry(monitor).or_default().add(totals);
        }
        self.read_until = until;
    }

    /// At most `limit` monitors after `after`, in order, and whether they are the last.
    pub fn after(&self, after: MonitorId, limit: usize) -> (Vec<(MonitorId, Totals)>, bool) {
        let mut rest = self.totals.range(MonitorId(after.0.saturating_add(1))..).map(|(id, totals)| (*id, *totals));
        let chosen = rest.by_ref().take(limit).collect();
        (chosen, rest.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}:00Z").parse().unwrap()
    }

    fn one(failed_runs: i64, duration_ms: i64, lateness_ms_max: Option<i64>) -> Totals {
        Totals { runs: 1, failed_runs, duration_ms_total: duration_ms, duration_ms_max: duration_ms, lateness_ms_max }
    }

    #[test]
    fn spans_begin_at_full_hours_and_at_midnight() {
        assert_eq!(Span::Hour.start(at("21T13:59")), at("21T13:00"));
        assert_eq!(Span::Hour.start(at("21T13:00")), at("21T13:00"));
        assert_eq!(Span::Day.start(at("21T23:59")), at("21T00:00"));
        let before_1970 = "1969-12-31T23:30:00Z".parse().unwrap();
        assert_eq!(Span::Hour.start(before_1970), "1969-12-31T23:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[test]
    fn totals_add_up() {
        let mut totals = Totals::default();
        for other in [one(0, 5, None), one(1, 9, Some(3)), one(0, 7, Some(2))] {
            totals.add(other);
        }
        let expected =
            Totals { runs: 3, failed_runs: 1, duration_ms_total: 21, duration_ms_max: 9, lateness_ms_max: Some(3) };
        assert_eq!(totals, expected);
    }

    #[test]
    fn all_of_a_span_is_read_once_and_given_out_in_order() {
        for (span, pieces) in [(Span::Hour, 12), (Span::Day, 24)] {
            let mut gathering = Gathering::new(span, at("21T00:00"));
            let mut read = Vec::new();
            while let Some((from, until)) = gathering.next_piece() {
                read.push((from, until));
                gathering.take(until, [(MonitorId(7), one(0, 1, None)), (MonitorId(3), one(1, 1, None))]);
            }
            assert_eq!(read.len(), pieces);
            assert_eq!((read[0].0, read[pieces - 1].1), (at("21T00:00"), gathering.ends_at()));
            assert!(read.windows(2).all(|two| two[0].1 == two[1].0), "{read:?}");
            let (first, is_last) = gathering.after(MonitorId(0), 1);
            assert_eq!((first[0].0, first[0].1.failed_runs, is_last), (MonitorId(3), pieces as i64, false));
            let (second, is_last) = gathering.after(first[0].0, 1);
            assert_eq!((second[0].0, second[0].1.failed_runs, is_last), (MonitorId(7), 0, true));
            assert_eq!(gathering.after(MonitorId(7), 1), (Vec::new(), true));
        }
    }
}
