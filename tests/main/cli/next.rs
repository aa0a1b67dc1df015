//! `next`: ticks, with what daylight saving does to them.

use serde_json::json;

use super::Place;

#[test]
fn ticks_are_shown_in_the_zone_and_in_utc_with_what_daylight_saving_does() {
    let place = Place::empty();
    let spring = ["next", "--schedule", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28T00:00:00Z"];
    let expected = "\
Europe/Berlin                   UTC
Sat 2026-03-28 02:30:00 +01:00  2026-03-28T01:30:00Z
Sun 2026-03-29 03:00:00 +02:00  2026-03-29T01:00:00Z  2026-03-29 02:30 does not exist: the clocks go forward from \
02:00 to 03:00; a fixed time that is skipped runs once, right after the jump
Mon 2026-03-30 02:30:00 +02:00  2026-03-30T00:30:00Z
";
    assert_eq!(place.out(&[&spring[..], &["-n", "3"]].concat()), expected);
    let autumn = [
        "next",
        "--schedule",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-10-25T00:00:00Z",
        "-n",
        "2",
    ];
    let ticks = place.json(&autumn);
    let twice = "02:30 comes twice: the clocks go back from 03:00 to 02:00; a fixed time runs once, the first time";
    assert_eq!(
        ticks,
        json!([
            {"utc": "2026-10-25T00:30:00Z", "local": "2026-10-25T02:30:00+02:00", "note": twice},
            {"utc": "2026-10-26T01:30:00Z", "local": "2026-10-26T02:30:00+01:00", "note": null},
        ])
    );
    let from_a_tick = ["next", "--schedule", "@hourly", "--from", "2026-01-01T01:00:00+01:00", "-n", "1"];
    assert_eq!(place.json(&from_a_tick)[0]["utc"], "2026-01-01T01:00:00Z", "the instant itself does not count");
    assert_eq!(place.json(&["next", "--schedule", "@every 1s"]).as_array().unwrap().len(), 10);
    assert!(!place.path("watchbell.db").exists(), "a schedule that is in no row needs no database");
}

#[test]
fn nothing_is_said_twice() {
    let place = Place::empty();
    let utc = ["next", "--schedule", "@hourly", "--from", "2026-01-01T00:00:00Z", "-n", "1"];
    assert_eq!(place.out(&utc), "UTC\nThu 2026-01-01 01:00:00 +00:00\n");
    let autumn =
        ["next", "--schedule", "*/30 * * * *", "--timezone", "Europe/Berlin", "--from", "2026-10-24T23:30:00Z"];
    let expected = "\
Europe/Berlin                   UTC
Sun 2026-10-25 02:00:00 +02:00  2026-10-25T00:00:00Z  02:00 comes twice: the clocks go back from 03:00 to 02:00; the \
schedule follows real time, this is the first
Sun 2026-10-25 02:30:00 +02:00  2026-10-25T00:30:00Z  as above
Sun 2026-10-25 02:00:00 +01:00  2026-10-25T01:00:00Z  02:00 comes twice: the clocks go back from 03:00 to 02:00; the \
schedule follows real time, this is the second
Sun 2026-10-25 02:30:00 +01:00  2026-10-25T01:30:00Z  as above
Sun 2026-10-25 03:00:00 +01:00  2026-10-25T02:00:00Z
";
    assert_eq!(place.out(&[&autumn[..], &["-n", "5"]].concat()), expected);
}

#[test]
fn a_monitor_has_its_own_zone_or_the_default_one() {
    let place = Place::migrated();
    place.write("watchbell.toml", "default_timezone = \"Asia/Tokyo\"\n");
    place.sql(
        "INSERT INTO monitors (name, kind, schedule, timezone) VALUES ('here', 'file', '0 6 * * *', NULL),
           ('there', 'file', '0 6 * * *', 'America/New_York'), ('nowhere', 'file', '0 0 30 2 *', NULL)",
    );
    let next = |name: &str| place.json(&["next", name, "--from", "2026-01-01T00:00:00Z", "-n", "1"])[0]["utc"].clone();
    assert_eq!(next("here"), "2026-01-01T21:00:00Z");
    assert_eq!(next("there"), "2026-01-01T11:00:00Z");
    let expected = "\
error: monitor 3 `nowhere`: schedule: `0 0 30 2 *` never fires: no such day exists in these months
hint: the last days are 28 or 29 in February, 30 in April, June, September and November, else 31
[1]";
    assert_eq!(place.run(&["next", "nowhere"]).to_string(), expected);
}

#[test]
fn what_cannot_be_read_is_wrong_usage() {
    let place = Place::empty();
    let schedule = place.run(&["next", "--schedule", "0 25 * * *"]);
    assert_eq!(schedule.to_string(), "error: schedule: hours: `25`: out of range\nhint: hours goes from 0 to 23\n[2]");
    let zone = place.run(&["next", "--schedule", "@hourly", "--timezone", "Berlin"]);
    assert_eq!(
        zone.to_string(),
        "error: timezone: `Berlin` is no IANA time zone\nhint: did you mean `Europe/Berlin`?\n[2]"
    );
    let time = place.run(&["next", "--schedule", "@hourly", "--from", "tomorrow"]);
    assert!(time.status == 2 && time.err.contains("write it as 2026-11-21T21:00:00Z"), "{time}");
    let neither = place.run(&["next"]);
    assert!(neither.status == 2 && neither.err.contains("<MONITOR|--schedule <SCHEDULE>>"), "{neither}");
    assert_eq!(place.run(&["next", "x", "--schedule", "@hourly"]).status, 2);
}
