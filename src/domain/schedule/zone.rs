//! IANA time zones by name, and the nearest names where one is unknown.

use chrono_tz::{TZ_VARIANTS, Tz};

use super::error::{ScheduleError, quoted};

/// Longer than every IANA name; what is longer is not compared with all of them.
const MAX_ZONE_BYTES: usize = 64;
/// How many near names a hint lists.
const MAX_SUGGESTIONS: usize = 3;
/// Below this similarity (0 to 1) a name has nothing to do with what was written.
const MIN_SIMILARITY: f64 = 0.75;

/// The zone of that IANA name, such as `Europe/Berlin` or `UTC`. An unknown name is an error that lists near ones.
pub fn parse_zone(name: &str) -> Result<Tz, ScheduleError> {
    name.trim().parse().map_err(|_| {
        ScheduleError::new(
            format!("timezone: {} is no IANA time zone", quoted(name)),
            match nearest(name.trim()).as_slice() {
                [] => "write a name such as `Europe/Berlin`, `America/New_York` or `UTC`".into(),
                near => format!("did you mean {}?", near.join(" or ")),
            },
        )
    })
}

fn nearest(name: &str) -> Vec<String> {
    if name.is_empty() || name.len() > MAX_ZONE_BYTES {
        return Vec::new();
    }
    let wanted = name.to_lowercase().replace(' ', "_");
    let mut scored: Vec<(f64, &'static str)> = TZ_VARIANTS
        .iter()
        .map(|zone| (similarity(&wanted, zone.name()), zone.name()))
        .filter(|(score, _)| *score >= MIN_SIMILARITY)
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    // A hit that is exact but for case, or for the missing continent, needs no company.
    let exact = scored.first().is_some_and(|(score, _)| *score >= 1.0);
    scored.truncate(if exact { 1 } else { MAX_SUGGESTIONS });
    scored.into_iter().map(|(_, name)| format!("`{name}`")).collect()
}

/// People write the city alone (`Berlin`) as often as they misspell the whole, so both are compared.
fn similarity(wanted: &str, zone: &str) -> f64 {
    let zone = zone.to_lowercase();
    let city = zone.rsplit('/').next().unwrap_or(&zone);
    strsim::normalized_damerau_levenshtein(wanted, &zone).max(strsim::normalized_damerau_levenshtein(wanted, city))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_zones_are_read() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", " Asia/Tokyo "] {
            assert_eq!(parse_zone(name).unwrap().name(), name.trim());
        }
    }

    #[test]
    fn an_unknown_zone_names_its_neighbours() {
        for (written, hint) in [
            ("europe/berlin", "did you mean `Europe/Berlin`?"),
            ("Berlin", "did you mean `Europe/Berlin`?"),
            ("New York", "did you mean `America/New_York`?"),
            ("Europe/Brelin", "`Europe/Berlin`"),
            ("", "such as `Europe/Berlin`"),
            ("qqqqqqq", "such as `Europe/Berlin`"),
        ] {
            let error = parse_zone(written).unwrap_err();
            assert!(error.problem().contains("is no IANA time zone"), "{error}");
            assert!(error.hint().contains(hint), "{written}: {error}");
        }
        assert!(parse_zone(&"x".repeat(1_000_000)).unwrap_err().to_string().len() < 300);
    }
}
