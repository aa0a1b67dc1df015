//! What schedules promise, as tables: zone, expression, an instant, and the ticks that follow it on the local clock.

use chrono::{DateTime, Utc};

use super::{Schedule, parse_zone};

/// Zone, schedule, start (exclusive), the ticks that follow, local time with offset.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn holds(cases: &[Case]) {
    for (zone, text, from, expected) in cases {
        let schedule = Schedule::parse(text, parse_zone(zone).unwrap()).unwrap();
        let mut instant: DateTime<Utc> = from.parse().unwrap();
        let mut ticks = Vec::new();
        for _ in *expected {
            instant = schedule.next_after(instant).unwrap();
            ticks.push(instant.with_timezone(&schedule.zone()).format("%Y-%m-%d %H:%M:%S %z").to_string());
        }
        assert_eq!(ticks, *expected, "`{text}` in {zone} after {from}");
        for _ in *expected {
            instant = schedule.previous_before(instant).unwrap();
        }
        let from: DateTime<Utc> = from.parse().unwrap();
        assert!(instant <= from, "`{text}` in {zone}: the ticks before lead back to {instant}, after {from}");
        assert!(schedule.next_after(instant).unwrap() > from);
    }
}

#[test]
fn the_dialect() {
    // 2026-01-01 is a Thursday.
    holds(&[
        ("UTC", "* * * * *", "2026-01-01T00:00:00.5Z", &["2026-01-01 00:01:00 +0000", "2026-01-01 00:02:00 +0000"]),
        ("UTC", "30 * * * * *", "2026-01-01T00:00:30Z", &["2026-01-01 00:01:30 +0000"]),
        ("UTC", "*/20 * * * * *", "2026-01-01T00:00:30Z", &["2026-01-01 00:00:40 +0000", "2026-01-01 00:01:00 +0000"]),
        (
            "UTC",
            "5-15/5,50 3 * * *",
            "2026-01-01T03:05:00Z",
            &["2026-01-01 03:10:00 +0000", "2026-01-01 03:15:00 +0000", "2026-01-01 03:50:00 +0000"],
        ),
        (
            "UTC",
            "0 0 * jan-FEB Mon-wed,sat",
            "2026-01-01T00:00:00Z",
            &["2026-01-03 00:00:00 +0000", "2026-01-05 00:00:00 +0000"],
        ),
        ("UTC", "0 0 * * 0", "2026-01-01T00:00:00Z", &["2026-01-04 00:00:00 +0000"]),
        ("UTC", "0 0 * * 7", "2026-01-01T00:00:00Z", &["2026-01-04 00:00:00 +0000"]),
        (
            "UTC",
            "0 0 * * sat-sun",
            "2026-01-01T00:00:00Z",
            &["2026-01-03 00:00:00 +0000", "2026-01-04 00:00:00 +0000", "2026-01-10 00:00:00 +0000"],
        ),
        ("UTC", "0 0 29 2 *", "2026-01-01T00:00:00Z", &["2028-02-29 00:00:00 +0000", "2032-02-29 00:00:00 +0000"]),
        ("UTC", "@yearly", "2026-01-01T00:00:00Z", &["2027-01-01 00:00:00 +0000"]),
        ("UTC", "@annually", "2026-01-01T00:00:00Z", &["2027-01-01 00:00:00 +0000"]),
        ("UTC", "@monthly", "2026-01-01T00:00:00Z", &["2026-02-01 00:00:00 +0000"]),
        ("UTC", "@weekly", "2026-01-01T00:00:00Z", &["2026-01-04 00:00:00 +0000"]),
        ("UTC", "@daily", "2026-01-01T00:00:00Z", &["2026-01-02 00:00:00 +0000"]),
        ("UTC", "@Midnight", "2026-01-01T00:00:00Z", &["2026-01-02 00:00:00 +0000"]),
        ("UTC", "@hourly", "2026-01-01T00:00:00Z", &["2026-01-01 01:00:00 +0000"]),
        ("Asia/Kathmandu", "@every 1h", "2026-01-01T00:00:00Z", &["2026-01-01 06:45:00 +0545"]),
    ]);
}

#[test]
fn day_of_month_and_day_of_week_combine_as_in_debian() {
    holds(&[
        // Both restricted: one of them suffices.
        (
            "UTC",
            "0 0 13 * fri",
            "2026-02-01T00:00:00Z",
            &["2026-02-06 00:00:00 +0000", "2026-02-13 00:00:00 +0000", "2026-02-20 00:00:00 +0000"],
        ),
        (
            "UTC",
            "0 0 1-7 * mon",
            "2026-06-05T00:00:00Z",
            &[
                "2026-06-06 00:00:00 +0000",
                "2026-06-07 00:00:00 +0000",
                "2026-06-08 00:00:00 +0000",
                "2026-06-15 00:00:00 +0000",
            ],
        ),
        // A field that begins with a star: both must match, even where the star has a step.
        ("UTC", "0 0 */2 * mon", "2026-06-01T00:00:00Z", &["2026-06-15 00:00:00 +0000", "2026-06-29 00:00:00 +0000"]),
        (
            "UTC",
            "0 0 13 * */5",
            "2026-01-01T00:00:00Z",
            &["2026-02-13 00:00:00 +0000", "2026-03-13 00:00:00 +0000", "2026-09-13 00:00:00 +0000"],
        ),
        ("UTC", "0 0 *,13 * fri", "2026-02-07T00:00:00Z", &["2026-02-13 00:00:00 +0000", "2026-02-20 00:00:00 +0000"]),
        // A whole range is no star: Debian lets the weekday then widen, and every day matches.
        ("UTC", "0 0 1-31 * mon", "2026-06-01T00:00:00Z", &["2026-06-02 00:00:00 +0000", "2026-06-03 00:00:00 +0000"]),
        // The day that does not exist does not matter where the weekday suffices.
        ("UTC", "0 0 30 2 mon", "2026-02-01T00:00:00Z", &["2026-02-02 00:00:00 +0000"]),
    ]);
}

#[test]
fn a_fixed_time_that_is_skipped_runs_once_right_after_the_jump() {
    holds(&[
        (
            "America/New_York",
            "30 2 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08 03:00:00 -0400", "2026-03-09 02:30:00 -0400"],
        ),
        (
            "America/New_York",
            "0 0 2 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08 03:00:00 -0400", "2026-03-09 02:00:00 -0400"],
        ),
        ("America/New_York", "15 30 2 * * *", "2026-03-07T12:00:00Z", &["2026-03-08 03:00:00 -0400"]),
        // Several that are skipped, and one that falls on the end of the jump: still one tick.
        (
            "America/New_York",
            "0,30 2 * * *",
            "2026-03-08T05:00:00Z",
            &["2026-03-08 03:00:00 -0400", "2026-03-09 02:00:00 -0400"],
        ),
        (
            "America/New_York",
            "0 2,3 * * *",
            "2026-03-08T05:00:00Z",
            &["2026-03-08 03:00:00 -0400", "2026-03-09 02:00:00 -0400"],
        ),
        (
            "America/New_York",
            "10-50/20 2 * * *",
            "2026-03-08T05:00:00Z",
            &["2026-03-08 03:00:00 -0400", "2026-03-09 02:10:00 -0400"],
        ),
        // What is not skipped is left alone.
        (
            "America/New_York",
            "30 1 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08 01:30:00 -0500", "2026-03-09 01:30:00 -0400"],
        ),
        (
            "Europe/London",
            "0 0 * * *",
            "2026-03-28T12:00:00Z",
            &["2026-03-29 00:00:00 +0000", "2026-03-30 00:00:00 +0100"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * sun",
            "2026-03-25T00:00:00Z",
            &["2026-03-29 03:00:00 +0200", "2026-04-05 02:30:00 +0200"],
        ),
        // A jump of half an hour.
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-03T00:00:00Z",
            &["2026-10-04 02:30:00 +1100", "2026-10-05 02:15:00 +1100"],
        ),
        // Jumps at midnight, where the day begins at one o'clock: also the monthly job, on the same day.
        (
            "America/Santiago",
            "0 0 * * *",
            "2026-09-05T12:00:00Z",
            &["2026-09-06 01:00:00 -0300", "2026-09-07 00:00:00 -0300"],
        ),
        (
            "Asia/Beirut",
            "30 0 * * *",
            "2026-03-28T12:00:00Z",
            &["2026-03-29 01:00:00 +0300", "2026-03-30 00:30:00 +0300"],
        ),
        ("Africa/Cairo", "@daily", "2026-04-23T12:00:00Z", &["2026-04-24 01:00:00 +0300", "2026-04-25 00:00:00 +0300"]),
        ("America/Santiago", "0 0 6 9 *", "2026-09-05T12:00:00Z", &["2026-09-06 01:00:00 -0300"]),
        // A jump of two hours.
        (
            "Antarctica/Troll",
            "30 1 * * *",
            "2026-03-28T12:00:00Z",
            &["2026-03-29 03:00:00 +0200", "2026-03-30 01:30:00 +0200"],
        ),
        // Three hours and more are a change of zone: what was swallowed stays so, as in Debian's cron.
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-29T20:00:00Z",
            &["2011-12-29 12:00:00 -1000", "2011-12-31 12:00:00 +1400"],
        ),
        ("Pacific/Apia", "0 12 30 * *", "2011-12-29T20:00:00Z", &["2012-01-30 12:00:00 +1400"]),
    ]);
}

#[test]
fn a_fixed_time_that_is_repeated_runs_once() {
    holds(&[
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00:00Z",
            &["2026-11-01 01:30:00 -0400", "2026-11-02 01:30:00 -0500"],
        ),
        (
            "America/New_York",
            "0 30 1 * * *",
            "2026-10-31T12:00:00Z",
            &["2026-11-01 01:30:00 -0400", "2026-11-02 01:30:00 -0500"],
        ),
        (
            "America/New_York",
            "0,20,40 1 * * *",
            "2026-11-01T05:20:00Z",
            &["2026-11-01 01:40:00 -0400", "2026-11-02 01:00:00 -0500"],
        ),
        (
            "America/New_York",
            "0 0-23 * * *",
            "2026-11-01T04:30:00Z",
            &["2026-11-01 01:00:00 -0400", "2026-11-01 02:00:00 -0500"],
        ),
        // Asked from within the second pass.
        ("America/New_York", "30 1 * * *", "2026-11-01T06:10:00Z", &["2026-11-02 01:30:00 -0500"]),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-04T00:00:00Z",
            &["2026-04-05 01:45:00 +1100", "2026-04-06 01:45:00 +1030"],
        ),
        // Clocks that go back at midnight repeat the last hour of the day before.
        (
            "America/Santiago",
            "30 23 * * *",
            "2026-04-04T12:00:00Z",
            &["2026-04-04 23:30:00 -0300", "2026-04-05 23:30:00 -0400"],
        ),
    ]);
}

#[test]
fn wildcard_and_step_schedules_keep_their_real_spacing() {
    holds(&[
        (
            "America/New_York",
            "*/30 * * * *",
            "2026-03-08T06:00:00Z",
            &["2026-03-08 01:30:00 -0500", "2026-03-08 03:00:00 -0400", "2026-03-08 03:30:00 -0400"],
        ),
        (
            "America/New_York",
            "*/30 * * * *",
            "2026-11-01T05:00:00Z",
            &[
                "2026-11-01 01:30:00 -0400",
                "2026-11-01 01:00:00 -0500",
                "2026-11-01 01:30:00 -0500",
                "2026-11-01 02:00:00 -0500",
            ],
        ),
        (
            "America/New_York",
            "0 * * * *",
            "2026-11-01T04:30:00Z",
            &["2026-11-01 01:00:00 -0400", "2026-11-01 01:00:00 -0500", "2026-11-01 02:00:00 -0500"],
        ),
        (
            "America/New_York",
            "@hourly",
            "2026-03-08T05:30:00Z",
            &["2026-03-08 01:00:00 -0500", "2026-03-08 03:00:00 -0400"],
        ),
        (
            "America/New_York",
            "30 */2 * * *",
            "2026-03-08T04:00:00Z",
            &["2026-03-08 00:30:00 -0500", "2026-03-08 04:30:00 -0400"],
        ),
        (
            "America/New_York",
            "*/30 1 * * *",
            "2026-11-01T05:10:00Z",
            &[
                "2026-11-01 01:30:00 -0400",
                "2026-11-01 01:00:00 -0500",
                "2026-11-01 01:30:00 -0500",
                "2026-11-02 01:00:00 -0500",
            ],
        ),
        (
            "America/New_York",
            "*/10 2 * * *",
            "2026-03-08T00:00:00Z",
            &["2026-03-09 02:00:00 -0400", "2026-03-09 02:10:00 -0400"],
        ),
        // Seconds count like minutes and hours.
        (
            "America/New_York",
            "*/30 59 1 * * *",
            "2026-11-01T05:59:00Z",
            &[
                "2026-11-01 01:59:30 -0400",
                "2026-11-01 01:59:00 -0500",
                "2026-11-01 01:59:30 -0500",
                "2026-11-02 01:59:00 -0500",
            ],
        ),
        (
            "Australia/Lord_Howe",
            "*/15 * * * *",
            "2026-04-04T14:30:00Z",
            &[
                "2026-04-05 01:45:00 +1100",
                "2026-04-05 01:30:00 +1030",
                "2026-04-05 01:45:00 +1030",
                "2026-04-05 02:00:00 +1030",
            ],
        ),
        ("America/Santiago", "0 */6 * * *", "2026-09-05T22:00:00Z", &["2026-09-06 06:00:00 -0300"]),
        ("Pacific/Apia", "0 * * * *", "2011-12-30T09:30:00Z", &["2011-12-31 00:00:00 +1400"]),
        // `@every` knows no clock on the wall at all.
        (
            "America/New_York",
            "@every 30m",
            "2026-03-08T06:00:00Z",
            &["2026-03-08 01:30:00 -0500", "2026-03-08 03:00:00 -0400"],
        ),
    ]);
}

#[test]
fn the_tick_before_is_found_across_changes_of_the_clock() {
    for (zone, text, instant, expected) in [
        ("America/New_York", "30 1 * * *", "2026-11-01T06:10:00Z", "2026-11-01T05:30:00Z"),
        ("America/New_York", "45 1 * * *", "2026-11-01T06:10:00Z", "2026-11-01T05:45:00Z"),
        ("America/New_York", "*/30 * * * *", "2026-11-01T06:00:00Z", "2026-11-01T05:30:00Z"),
        ("America/New_York", "*/30 * * * *", "2026-11-01T06:10:00Z", "2026-11-01T06:00:00Z"),
        ("America/New_York", "30 2 * * *", "2026-03-08T07:00:00Z", "2026-03-07T07:30:00Z"),
        ("America/New_York", "30 2 * * *", "2026-03-08T07:00:00.001Z", "2026-03-08T07:00:00Z"),
        ("America/New_York", "30 2 * * *", "2026-03-08T12:00:00Z", "2026-03-08T07:00:00Z"),
        ("UTC", "* * * * *", "2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00Z"),
        ("UTC", "* * * * *", "2026-01-01T00:00:00Z", "2025-12-31T23:59:00Z"),
    ] {
        let schedule = Schedule::parse(text, parse_zone(zone).unwrap()).unwrap();
        let previous = schedule.previous_before(instant.parse().unwrap());
        assert_eq!(previous, Some(expected.parse().unwrap()), "`{text}` in {zone} before {instant}");
    }
}

#[test]
fn a_tick_says_what_daylight_saving_does_to_it() {
    for (zone, text, from, note) in [
        (
            "America/New_York",
            "30 2 * * *",
            "2026-03-08T00:00:00Z",
            "2026-03-08 02:30 does not exist: the clocks go forward from 02:00 to 03:00; a fixed time that is skipped runs once, right after the jump",
        ),
        (
            "America/New_York",
            "0,30 * * * *",
            "2026-03-08T06:30:00Z",
            "2026-03-08 02:30 does not exist: the clocks go forward from 02:00 to 03:00; the schedule follows real time and goes on here",
        ),
        (
            "America/New_York",
            "*/10 2 * * *",
            "2026-03-08T06:30:00Z",
            "2026-03-08 02:50 does not exist: the clocks go forward from 02:00 to 03:00; the schedule follows real time and goes on here",
        ),
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-30T00:00:00Z",
            "2011-12-30 12:00 does not exist: the clocks go forward from 2011-12-30 00:00 to 2011-12-31 00:00; after a jump of three hours or more nothing is made up for, the schedule goes on here",
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-11-01T00:00:00Z",
            "01:30 comes twice: the clocks go back from 02:00 to 01:00; a fixed time runs once, the first time",
        ),
        (
            "America/New_York",
            "30 * * * *",
            "2026-11-01T05:00:00Z",
            "01:30 comes twice: the clocks go back from 02:00 to 01:00; the schedule follows real time, this is the first",
        ),
        (
            "America/New_York",
            "30 * * * *",
            "2026-11-01T06:00:00Z",
            "01:30 comes twice: the clocks go back from 02:00 to 01:00; the schedule follows real time, this is the second",
        ),
    ] {
        let schedule = Schedule::parse(text, parse_zone(zone).unwrap()).unwrap();
        let tick = schedule.next_explained(from.parse().unwrap()).unwrap();
        assert_eq!(tick.note.as_deref(), Some(note), "`{text}` in {zone} after {from}");
        assert_eq!(tick.utc, tick.local.to_utc());
        let later = schedule.next_explained(tick.utc + chrono::TimeDelta::days(2)).unwrap();
        assert_eq!(later.note, None, "two days later nothing is left to say");
    }
}

#[test]
fn the_tick_after_one_that_was_made_up_for_has_nothing_to_say() {
    let schedule = Schedule::parse("30 2 * * *", parse_zone("America/New_York").unwrap()).unwrap();
    let made_up = schedule.next_explained("2026-03-08T00:00:00Z".parse().unwrap()).unwrap();
    assert!(made_up.note.is_some());
    assert_eq!(schedule.next_explained(made_up.utc).unwrap().note, None);
}

#[test]
fn what_cannot_be_read_names_the_field_and_a_way_out() {
    for (text, problem, hint) in [
        ("", "it is empty", "*/5 * * * *"),
        ("* * * *", "has 4 fields", "minutes hours day-of-month month day-of-week"),
        ("0 0 0 1 1 * 2027", "has 7 fields", "no field for years"),
        ("0 25 * * *", "hours: `25`: out of range", "hours goes from 0 to 23"),
        ("60 * * * *", "minutes: `60`: out of range", "minutes goes from 0 to 59"),
        ("0 0 0 * *", "day of month: `0`: out of range", "from 1 to 31"),
        ("0 0 * 13 *", "month: `13`", "by name: jan, feb"),
        ("0 0 * * 8", "day of week: `8`", "from 0 to 7, or by name: sun"),
        ("0 0 * * foo", "day of week: `foo`: no value", "sun, mon, tue"),
        ("0 0 * * monday", "day of week: `monday`", "sun, mon, tue"),
        ("5/10 * * * *", "minutes: `5/10`: a step needs a range", "write `5-59/10`"),
        ("*/0 * * * *", "minutes: `*/0`: `0` is no step", "from 1 to 59"),
        ("*/90 * * * *", "`90` is no step", "@every 90m"),
        ("0 22-2 * * *", "hours: `22-2`: the range runs backwards", "write `22-23,0-2`"),
        ("0 0 * * fri-mon", "day of week: `fri-mon`", "write `5-7,0-1`"),
        ("1,,2 * * * *", "minutes: `1,,2`: a value is missing", "1,2,3"),
        ("1-2-3 * * * *", "minutes: `2-3`: no value", "0 to 59"),
        ("-5 * * * *", "minutes: ``: no value", "0 to 59"),
        ("**/2 * * * *", "`*` stands alone", "0 to 59"),
        ("0 0 L * *", "day of month: `L`: `L`, `W`, `#` and `?` are not", "numbers, names"),
        ("0 0 15W * *", "`15W`: `L`, `W`, `#`", "numbers, names"),
        ("0 0 * * 5#3", "`5#3`: `L`, `W`, `#`", "numbers, names"),
        ("0 0 ? * *", "`?`: `L`, `W`, `#`", "numbers, names"),
        ("0 0 * * +1", "`+1`: no value", "0 to 7"),
        ("0 0 * * 1;drop", "`1;drop`: no value", "0 to 7"),
        ("0 0 30 2 *", "never fires", "28 or 29 in February"),
        ("0 0 0 31 2,4,6,9,11 *", "never fires", "30 in April"),
        ("0 0 31 4 */2", "never fires", "30 in April"),
        ("@reboot", "`@reboot` names no instant", "checked at once"),
        ("@noon", "`@noon` is unknown", "@midnight"),
        ("@daily 5", "nothing may stand behind `@daily`", "30 6 * * *"),
        ("@every", "`@every` with ``", "@every 30s"),
        ("\u{0}\n* ٣ * * *", "seconds: ` `: no value", "0 to 59"),
    ] {
        let error = Schedule::parse(text, chrono_tz::UTC).unwrap_err();
        assert!(error.problem().contains(problem), "`{text}`: {error}");
        assert!(error.hint().contains(hint), "`{text}`: {error}");
        assert!(error.problem().starts_with("schedule: "), "{error}");
    }
    assert!(Schedule::parse(&"1,".repeat(1_000_000), chrono_tz::UTC).unwrap_err().to_string().len() < 300);
}
