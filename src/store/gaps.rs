//! Entries of the change log that are missing between those that were read.
//!
//! PostgreSQL and MySQL number an entry when it is written, and show it when its transaction commits: the second can be
//! seen before the first. What is missing below the newest entry is therefore looked for again at every look, until it
//! is there, or for so long that it was most likely taken back (numbers of a transaction that is rolled back are not
//! used again). A transaction that stays open longer is found by the comparison of all rows. SQLite commits in order:
//! there, nothing is ever missing that may still come.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::database::{Batch, Connection, Row, Type, query};

/// How long a missing entry is looked for.
const LOOKED_FOR: TimeDelta = TimeDelta::minutes(30);
/// More gaps than this, each of them any number of entries long, are not kept; the oldest go.
const MOST: usize = 1_000;
/// Entries that are found in gaps at one look at most.
const MOST_FOUND: u32 = 10_000;

const IN_GAPS: &str = "\
    SELECT c.id, c.monitor_id FROM {batch} AS b JOIN monitor_changes c ON c.id BETWEEN b.first_id AND b.last_id \
    ORDER BY c.id LIMIT ?1";

/// Numbers that were passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    first: i64,
    last: i64,
    since: DateTime<Utc>,
}

/// What is missing.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    gaps: Mutex<Vec<Gap>>,
}

/// What came late.
#[derive(Debug, Default)]
pub(super) struct Late {
    known: Vec<Gap>,
    /// The entry, and its monitor.
    entries: Vec<(i64, i64)>,
}

impl Late {
    /// The monitors that it tells of.
    pub(super) fn monitors(&self) -> impl Iterator<Item = i64> {
        self.entries.iter().map(|(_, monitor)| *monitor)
    }
}

impl Gaps {
    /// Notes which numbers are missing after `after` among those that were read, which ascend.
    pub(super) fn note(&self, after: i64, read: impl Iterator<Item = i64>, now: DateTime<Utc>) {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expected = after + 1;
        for id in read {
            if id > expected {
                gaps.push(Gap { first: expected, last: id - 1, since: now });
            }
            expected = id + 1;
        }
        let too_many = gaps.len().saturating_sub(MOST);
        gaps.drain(..too_many);
    }

    /// Reads what came into the gaps meanwhile. It is looked for again until [`Gaps::close`].
    pub(super) async fn look(&self, connection: &mut Connection) -> Result<Late, sqlx::Error> {
        let known = self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_empty() {
            return Ok(Late::default());
        }
        let mut ranges = Batch::new(&[("first_id", Type::Int), ("last_id", Type::Int)]);
        for gap in &known {
            ranges.push(vec![gap.first.into(), gap.last.into()]);
        }
        let rows = query(IN_GAPS).bind(MOST_FOUND).batch(ranges).fetch_all(connection).await?;
        let entry = |row: &Row| Ok((row.int("id")?, row.int("monitor_id")?));
        Ok(Late { known, entries: rows.iter().map(entry).collect::<Result<_, sqlx::Error>>()? })
    }

    /// What was found has been told, or is told now.
    pub(super) fn close(&self, late: &Late, now: DateTime<Utc>) {
        let found = late.entries.iter().map(|(id, _)| *id);
        for gap in &late.known {
            let inside: Vec<i64> = found.clone().filter(|id| (gap.first..=gap.last).contains(id)).collect();
            self.replace(*gap, &inside, now);
        }
    }

    /// What is left of a gap in which these were found.
    fn replace(&self, gap: Gap, found: &[i64], now: DateTime<Utc>) {
        if found.is_empty() && now - gap.since < LOOKED_FOR {
            return;
        }
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.retain(|known| *known != gap);
        if now - gap.since >= LOOKED_FOR {
            return;
        }
        let mut first = gap.first;
        for id in found.iter().copied().chain([gap.last + 1]) {
            if id > first {
                gaps.push(Gap { first, last: id - 1, since: gap.since });
            }
            first = id + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(gaps: &Gaps) -> Vec<(i64, i64)> {
        gaps.gaps.lock().unwrap().iter().map(|gap| (gap.first, gap.last)).collect()
    }

    #[test]
    fn what_is_missing_is_known_until_it_comes_or_is_old() {
        let (gaps, now) = (Gaps::default(), DateTime::<Utc>::UNIX_EPOCH);
        gaps.note(3, [4, 7, 8, 10].into_iter(), now);
        assert_eq!(ranges(&gaps), [(5, 6), (9, 9)]);
        gaps.note(10, [11].into_iter(), now);
        assert_eq!(ranges(&gaps), [(5, 6), (9, 9)]);
        let gap = gaps.gaps.lock().unwrap()[0];
        gaps.replace(gap, &[5], now);
        assert_eq!(ranges(&gaps), [(9, 9), (6, 6)]);
        let gap = gaps.gaps.lock().unwrap()[0];
        gaps.replace(gap, &[], now + LOOKED_FOR);
        assert_eq!(ranges(&gaps), [(6, 6)]);
    }

    #[test]
    fn they_are_bounded() {
        let gaps = Gaps::default();
        gaps.note(0, (0..5_000).map(|number| number * 2), DateTime::<Utc>::UNIX_EPOCH);
        assert_eq!(ranges(&gaps).len(), MOST);
    }
}
