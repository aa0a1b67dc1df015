//! Schedules by text and zone: many rows share few expressions, and reading one costs a hundred times a look-up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Schedule, ScheduleError, parse_zone};

/// How many readings are kept, good and bad. At some 700 bytes each the cache stays below 6 MB.
const MAX_ENTRIES: usize = 8_192;

/// Reads schedules and remembers them. Errors too: looking for a zone's neighbours is the dearest reading of all.
#[derive(Debug, Default)]
pub struct ScheduleCache {
    readings: Mutex<Readings>,
}

type Reading = Result<Schedule, ScheduleError>;

#[derive(Debug, Default)]
struct Readings {
    by_zone: HashMap<Box<str>, HashMap<Box<str>, Reading>>,
    entries: usize,
}

impl ScheduleCache {
    /// The schedule of that text in the zone of that IANA name.
    pub fn read(&self, text: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.by_zone.get(zone).and_then(|by_text| by_text.get(text)) {
            return reading.clone();
        }
        let reading = parse_zone(zone).and_then(|tz| Schedule::parse(text, tz));
        if text.len() > super::MAX_TEXT_BYTES || zone.len() > super::MAX_TEXT_BYTES {
            return reading;
        }
        if readings.entries >= MAX_ENTRIES {
            // Starting anew is simpler than ageing, and happens only with thousands of different expressions.
            *readings = Readings::default();
        }
        readings.by_zone.entry(zone.into()).or_default().insert(text.into(), reading.clone());
        readings.entries += 1;
        reading
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_same_text_and_zone_share_one_reading() {
        let cache = ScheduleCache::default();
        let first = cache.read("*/5 * * * *", "UTC").unwrap();
        assert!(Arc::ptr_eq(&first.inner, &cache.read("*/5 * * * *", "UTC").unwrap().inner));
        assert_ne!(first, cache.read("*/5 * * * *", "Europe/Berlin").unwrap());
        assert_eq!(cache.read("x", "UTC"), cache.read("x", "UTC"));
        assert!(cache.read("* * * * *", "Mars/Base").is_err());
    }

    #[test]
    fn it_is_bounded() {
        let cache = ScheduleCache::default();
        for seconds in 1..=i32::try_from(MAX_ENTRIES).unwrap() + 10 {
            cache.read(&format!("@every {seconds}s"), "UTC").unwrap();
        }
        assert_eq!(cache.readings.lock().unwrap().entries, 10);
    }
}
