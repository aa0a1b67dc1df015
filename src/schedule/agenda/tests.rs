//! The agenda's rules, on a given now.

use super::*;

const MONITOR: MonitorId = MonitorId(1);

const BATCH: usize = 16_384;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn every(span: &str) -> Schedule {
    Schedule::parse(&format!("@every {span}"), chrono_tz::UTC).unwrap()
}

/// An agenda with one registered job, from second 0 on.
fn agenda(span: &str) -> (Agenda, Uuid) {
    let mut agenda = Agenda::new(BATCH);
    let name = register(&mut agenda, MONITOR, span);
    (agenda, name)
}

fn register(agenda: &mut Agenda, monitor: MonitorId, span: &str) -> Uuid {
    let new = agenda.put_many(vec![(monitor, every(span), at(0))]);
    let name = Uuid::from_u128(u128::from(monitor.0.unsigned_abs()));
    assert!(agenda.name(new[0], name));
    agenda.registered(name);
    name
}

#[test]
fn ticks_are_handed_over_ahead_and_claimed_once() {
    let (mut agenda, name) = agenda("10s");
    assert!(agenda.poll(at(1)).due.is_empty());
    assert_eq!(agenda.poll(at(2)).due, [name]);
    assert!(agenda.poll(at(3)).due.is_empty());
    let armed = agenda.take(name).unwrap();
    assert_eq!(armed.tick, at(10));
    assert_eq!(agenda.take(name), None, "one activation, one tick");
    assert_eq!(agenda.next_tick(MONITOR), Some(at(10)), "handed over is not called yet");
    assert_eq!(agenda.claim(armed, at(10)), Claim::Call);
    assert_eq!(agenda.claim(armed, at(10)), Claim::Nothing);
    assert_eq!(agenda.next_tick(MONITOR), Some(at(20)));
}

#[test]
fn a_lost_activation_is_found_two_seconds_later_and_only_once() {
    let (mut agenda, name) = agenda("20s");
    agenda.poll(at(15));
    assert!(agenda.poll(at(22)).lost.is_empty());
    let lost = agenda.poll(at(23)).lost;
    assert_eq!(lost.iter().map(|lost| lost.tick).collect::<Vec<_>>(), [at(20)]);
    assert_eq!(agenda.take(name), None, "should the activation arrive after all, it finds nothing");
    assert!(agenda.poll(at(24)).lost.is_empty());
    assert_eq!(agenda.claim(lost[0], at(24)), Claim::Call);
    assert_eq!(agenda.counters().recovered_by_watchdog, 1);
}

#[test]
fn what_is_overdue_is_called_once_with_its_latest_tick() {
    let (mut agenda, name) = agenda("10s");
    let poll = agenda.poll(at(1_005));
    assert_eq!(poll.due, [name, name], "the latest, and the next within the look-ahead");
    assert_eq!(poll.missed, [MissedTicks { monitor: MONITOR, from: at(10), to: at(990), count: 99 }]);
    assert!(poll.lost.is_empty());
    let armed = agenda.take(name).unwrap();
    assert_eq!((armed.tick, agenda.claim(armed, at(1_005))), (at(1_000), Claim::Call));
    assert_eq!(agenda.counters().missed, 99);
}

#[test]
fn counting_misses_is_bounded() {
    let (mut agenda, _) = agenda("1s");
    let poll = agenda.poll(at(100_000));
    assert_eq!(poll.missed[0].count, MAX_COUNTED_MISSES);
    assert_eq!((poll.missed[0].from, poll.missed[0].to), (at(1), at(99_999)));
}

#[test]
fn a_late_tick_is_dropped_only_where_a_later_one_is_due() {
    let (mut often, name) = agenda("5s");
    often.poll(at(4));
    let armed = often.take(name).unwrap();
    let missed = MissedTicks { monitor: MONITOR, from: at(5), to: at(5), count: 1 };
    assert_eq!(often.claim(armed, at(11)), Claim::Missed(missed));
    let (mut seldom, name) = agenda("60s");
    seldom.poll(at(58));
    let armed = seldom.take(name).unwrap();
    assert_eq!(seldom.claim(armed, at(90)), Claim::Call, "late, but the only one");
}

#[test]
fn an_edit_disarms_and_does_not_call_again_what_was_called() {
    let (mut agenda, name) = agenda("10s");
    agenda.poll(at(9));
    let armed = agenda.take(name).unwrap();
    assert!(agenda.put_many(vec![(MONITOR, every("10s"), at(0))]).is_empty());
    assert!(agenda.is_armed(armed), "an unchanged schedule changes nothing");
    assert_eq!(agenda.claim(armed, at(10)), Claim::Call);
    agenda.put_many(vec![(MONITOR, every("5s"), at(0))]);
    assert_eq!(agenda.next_tick(MONITOR), Some(at(15)));
    agenda.poll(at(11));
    let armed = agenda.take(name).unwrap();
    agenda.put_many(vec![(MONITOR, every("30s"), at(11))]);
    assert!(!agenda.is_armed(armed));
    assert_eq!(agenda.claim(armed, at(15)), Claim::Nothing);
}

#[test]
fn the_same_tick_armed_anew_belongs_to_the_new_one_alone() {
    let (mut agenda, name) = agenda("10s");
    agenda.poll(at(5));
    let old = agenda.take(name).unwrap();
    agenda.put_many(vec![(MONITOR, every("5s"), at(5))]);
    agenda.poll(at(6));
    let new = agenda.take(name).unwrap();
    assert_eq!((old.tick, new.tick), (at(10), at(10)));
    assert_eq!(agenda.claim(old, at(10)), Claim::Nothing);
    assert_eq!(agenda.claim(new, at(10)), Claim::Call);
}

#[test]
fn jobs_due_first_are_registered_first() {
    let mut agenda = Agenda::new(BATCH);
    let jobs = ["30s", "10s", "20s"].into_iter().zip(1..).map(|(span, id)| (MonitorId(id), every(span), at(1)));
    let order: Vec<i64> = agenda.put_many(jobs.collect()).iter().map(|new| new.monitor.0).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[test]
fn a_removal_and_an_edit_overtake_a_registration() {
    let mut agenda = Agenda::new(BATCH);
    let first = agenda.put_many(vec![(MONITOR, every("10s"), at(0))]);
    let second = agenda.put_many(vec![(MONITOR, every("20s"), at(0))]);
    assert!(!agenda.name(first[0], Uuid::from_u128(1)), "outdated");
    assert!(agenda.name(second[0], Uuid::from_u128(2)));
    assert_eq!(agenda.remove(MONITOR), Some(Uuid::from_u128(2)));
    agenda.registered(Uuid::from_u128(2));
    assert!(agenda.poll(at(100)).due.is_empty());
}

#[test]
fn a_clock_set_back_starts_all_jobs_anew() {
    let (mut agenda, name) = agenda("10s");
    agenda.poll(at(1_004));
    let armed = agenda.take(name).unwrap();
    agenda.poll(at(1_003));
    assert!(agenda.is_armed(armed), "a second back is no setting of the clock");
    assert!(agenda.poll(at(501)).due.is_empty());
    assert!(!agenda.is_armed(armed));
    assert_eq!(agenda.next_tick(MONITOR), Some(at(510)));
    assert_eq!(agenda.poll(at(502)).due, [name]);
    assert_eq!(agenda.counters().clock_jumps_back, 1);
}

#[test]
fn a_poll_hands_over_no_more_than_a_batch() {
    let mut agenda = Agenda::new(BATCH);
    for id in 1..=i64::try_from(BATCH).unwrap() + 1 {
        register(&mut agenda, MonitorId(id), "10s");
    }
    assert_eq!(agenda.poll(at(5)).due.len(), BATCH * 3 / 4, "five seconds ahead there is time");
    assert_eq!(agenda.poll(at(6)).due.len(), BATCH + 1 - BATCH * 3 / 4);
    assert_eq!(agenda.poll(at(19)).due.len(), BATCH, "one second ahead there is none");
    assert_eq!(agenda.poll(at(19)).due.len(), 1);
}

#[test]
fn edits_do_not_pile_up() {
    let (mut agenda, _) = agenda("300d");
    for round in 0..30_000 {
        agenda.put_many(vec![(MONITOR, every(if round % 2 == 0 { "301d" } else { "300d" }), at(0))]);
    }
    agenda.poll(at(1));
    assert_eq!(agenda.heap.len(), 1);
}
