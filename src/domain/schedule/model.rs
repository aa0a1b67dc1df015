//! Properties of schedules, and an independent model of Debian's cron: a walk, step by step of real time, over which a
//! virtual clock follows the clock on the wall as Debian's main loop has it.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::Schedule;

/// One field of a generated expression: its text, and the values it stands for, made side by side.
#[derive(Debug, Clone)]
struct ModelField {
    text: String,
    values: Vec<u32>,
}

impl ModelField {
    fn is_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

#[derive(Debug, Clone)]
struct ModelCron {
    seconds: Option<ModelField>,
    minutes: ModelField,
    hours: ModelField,
    days: ModelField,
    months: ModelField,
    weekdays: ModelField,
}

impl ModelCron {
    fn text(&self) -> String {
        let rest = [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        let fields = self.seconds.iter().chain(rest);
        fields.map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn matches(&self, local: NaiveDateTime) -> bool {
        let second = self.seconds.as_ref().map_or(local.second() == 0, |field| field.values.contains(&local.second()));
        let weekday = local.weekday().num_days_from_sunday();
        let by_weekday = self.weekdays.values.iter().any(|value| value % 7 == weekday);
        let by_day = self.days.values.contains(&local.day());
        let day =
            if self.days.is_star() || self.weekdays.is_star() { by_day && by_weekday } else { by_day || by_weekday };
        second
            && self.minutes.values.contains(&local.minute())
            && self.hours.values.contains(&local.hour())
            && self.months.values.contains(&local.month())
            && day
    }

    /// The ticks in `from..to`, which must not begin within a repeated hour.
    fn ticks(&self, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let step = TimeDelta::seconds(if self.seconds.is_some() { 1 } else { 60 });
        let wild =
            self.minutes.is_star() || self.hours.is_star() || self.seconds.as_ref().is_some_and(ModelField::is_star);
        let wall = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local();
        let mut ticks = Vec::new();
        let mut virtual_clock = wall(from - step);
        let mut now = from;
        while now < to {
            let clock = wall(now);
            let jump = clock - virtual_clock;
            let mut due = wild && self.matches(clock);
            if jump - step >= TimeDelta::hours(3) {
                virtual_clock = clock;
                due |= self.matches(clock);
            }
            while virtual_clock < clock {
                virtual_clock += step;
                due |= !wild && self.matches(virtual_clock);
            }
            if due {
                ticks.push(now);
            }
            now += step;
        }
        ticks
    }
}

/// Zones whose changes of the clock differ in size, hour, season and history.
const ZONES: [Tz; 22] = [
    Tz::America__New_York,
    Tz::Europe__London,
    Tz::Europe__Berlin,
    Tz::Australia__Lord_Howe,
    Tz::Australia__Sydney,
    Tz::America__Santiago,
    Tz::Asia__Beirut,
    Tz::Africa__Cairo,
    Tz::Pacific__Apia,
    Tz::Antarctica__Troll,
    Tz::Africa__Casablanca,
    Tz::Asia__Tehran,
    Tz::America__Havana,
    Tz::Asia__Gaza,
    Tz::America__Sao_Paulo,
    Tz::Pacific__Chatham,
    Tz::America__Caracas,
    Tz::Asia__Pyongyang,
    Tz::Asia__Amman,
    Tz::America__St_Johns,
    Tz::Europe__Istanbul,
    Tz::Atlantic__Azores,
];

/// Every change of an offset from 1990 to 2036, as (zone, instant).
static CHANGES: LazyLock<Vec<(Tz, DateTime<Utc>)>> = LazyLock::new(|| {
    let mut changes = Vec::new();
    for zone in ZONES {
        let offset = |instant: DateTime<Utc>| instant.with_timezone(&zone).offset().fix();
        let mut day: DateTime<Utc> = "1990-01-01T00:00:00Z".parse().unwrap();
        while day.year() < 2037 {
            let next = day + TimeDelta::days(1);
            if offset(day) != offset(next) {
                let minute = (1..=1_440).find(|minute| offset(day + TimeDelta::minutes(*minute)) != offset(day));
                changes.push((zone, day + TimeDelta::minutes(minute.unwrap())));
            }
            day = next;
        }
    }
    changes
});

fn field(low: u32, high: u32) -> impl Strategy<Value = ModelField> {
    let range = move || (low..=high, low..=high).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        2 => Just(ModelField { text: "*".into(), values: (low..=high).collect() }),
        2 => (1..=high - low).prop_map(move |step| ModelField {
            text: format!("*/{step}"),
            values: (low..=high).step_by(step as usize).collect(),
        }),
        3 => proptest::collection::vec(low..=high, 1..4).prop_map(|values| ModelField {
            text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            values,
        }),
        2 => range().prop_map(|(from, to)| ModelField { text: format!("{from}-{to}"), values: (from..=to).collect() }),
        1 => (range(), 1..=high - low).prop_map(|((from, to), step)| ModelField {
            text: format!("{from}-{to}/{step}"),
            values: (from..=to).step_by(step as usize).collect(),
        }),
    ]
}

/// Hours near those at which clocks are changed, so that most cases meet the change.
fn hours() -> impl Strategy<Value = ModelField> {
    prop_oneof![2 => field(0, 3), 1 => field(0, 23)].prop_map(|mut hours| {
        // `*` and `*/2` mean the whole day, also where the values were made for its first hours only.
        if let Some(step) = hours.text.strip_prefix('*') {
            let step = step.strip_prefix('/').map_or(1, |step| step.parse().unwrap());
            hours.values = (0..=23).step_by(step).collect();
        }
        hours
    })
}

fn star(low: u32, high: u32) -> impl Strategy<Value = ModelField> {
    Just(ModelField { text: "*".into(), values: (low..=high).collect() })
}

fn cron(with_seconds: bool) -> impl Strategy<Value = ModelCron> {
    let seconds = if with_seconds { field(0, 59).prop_map(Some).boxed() } else { Just(None).boxed() };
    let days = prop_oneof![3 => star(1, 31), 1 => field(1, 31)];
    let months = prop_oneof![4 => star(1, 12), 1 => field(1, 12)];
    let weekdays = prop_oneof![3 => star(0, 7), 1 => field(0, 7)];
    (seconds, field(0, 59), hours(), days, months, weekdays).prop_map(
        |(seconds, minutes, hours, days, months, weekdays)| ModelCron {
            seconds,
            minutes,
            hours,
            days,
            months,
            weekdays,
        },
    )
}

fn change() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    any::<prop::sample::Index>().prop_map(|index| CHANGES[index.index(CHANGES.len())])
}

fn agrees_with_debian(cron: &ModelCron, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<(), TestCaseError> {
    // Some generated expressions never fire: those are refused, and the table of errors holds that.
    let Ok(schedule) = Schedule::parse(&cron.text(), zone) else { return Ok(()) };
    let expected = cron.ticks(zone, from, to);
    let just_before = from - TimeDelta::nanoseconds(1);
    let forward: Vec<_> = std::iter::successors(schedule.next_after(just_before), |tick| schedule.next_after(*tick))
        .take_while(|tick| *tick < to)
        .collect();
    prop_assert_eq!(&forward, &expected, "`{}` forward", cron.text());
    let mut backward: Vec<_> =
        std::iter::successors(schedule.previous_before(to), |tick| schedule.previous_before(*tick))
            .take_while(|tick| *tick >= from)
            .collect();
    backward.reverse();
    prop_assert_eq!(&backward, &expected, "`{}` backward", cron.text());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ticks_agree_with_debian_around_changes_of_the_clock(cron in cron(false), (zone, instant) in change()) {
        agrees_with_debian(&cron, zone, instant - TimeDelta::hours(30), instant + TimeDelta::hours(30))?;
    }

    #[test]
    fn ticks_are_in_order_and_found_again_from_both_sides(
        cron in cron(false),
        zone in prop::sample::select(&TZ_VARIANTS[..]),
        seconds in -2_500_000_000_i64..4_000_000_000,
        nanos in prop_oneof![Just(0_u32), 0..1_000_000_000_u32],
    ) {
        let Ok(schedule) = Schedule::parse(&cron.text(), zone) else { return Ok(()) };
        let instant = DateTime::from_timestamp(seconds, nanos).unwrap();
        let next = schedule.next_after(instant).unwrap();
        let previous = schedule.previous_before(instant).unwrap();
        prop_assert!(previous < instant && instant < next);
        // Between the two there is the instant itself at most.
        let after_previous = schedule.next_after(previous).unwrap();
        prop_assert!(after_previous == next || after_previous == instant, "{previous} {after_previous} {next}");
        prop_assert_eq!(schedule.previous_before(after_previous), Some(previous));
        prop_assert_eq!(schedule.previous_before(next + TimeDelta::nanoseconds(1)), Some(next));
        prop_assert!(schedule.next_after(next).unwrap() > next);
        prop_assert!(schedule.next_explained(instant).unwrap().utc == next);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[@*/,0-9a-zA-Z?# -]{0,40}") {
        if let Err(error) = Schedule::parse(&text, chrono_tz::UTC) {
            prop_assert!(!error.problem().is_empty() && !error.hint().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn seconds_agree_with_debian_around_changes_of_the_clock(cron in cron(true), (zone, instant) in change()) {
        agrees_with_debian(&cron, zone, instant - TimeDelta::hours(4), instant + TimeDelta::hours(4))?;
    }
}

#[test]
fn the_dearest_schedules_stay_cheap() {
    // A rare day, a whole day of seconds that comes twice or not at all: nothing may walk second by second.
    let started = std::time::Instant::now();
    for (text, zone, instant) in [
        ("0 0 29 2 */6", Tz::UTC, "2097-01-01T00:00:00Z"),
        ("0-59 0-59 0-23 30 12 *", Tz::Pacific__Apia, "2011-12-29T11:00:00Z"),
        ("0-59 0-59 0-23 * * *", Tz::America__New_York, "2026-11-01T06:00:00Z"),
        ("* * 2 8 3 *", Tz::America__New_York, "2026-03-08T06:59:59Z"),
    ] {
        let schedule = Schedule::parse(text, zone).unwrap();
        for _ in 0..100 {
            schedule.next_after(instant.parse().unwrap()).unwrap();
            schedule.previous_before(instant.parse().unwrap()).unwrap();
        }
    }
    // 800 calls; unoptimised they take some 0.1 s, a walk by seconds would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}
