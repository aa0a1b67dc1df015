//! Shares are even, moves are few, and what cannot be placed says why.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use watchbell_contract::Severity;

use super::{Fleet, Node, PlacementFault};
use crate::domain::{MissedTickPolicy, MonitorId, MonitorRow, State};

fn now() -> DateTime<Utc> {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

/// Here for an hour, with the label `zone`, knowing `http` and `file`.
fn node(id: i64, zone: &str) -> Node {
    Node {
        id,
        uuid: uuid::Uuid::from_u128(0x1234_5678_9abc_def0_u128 * 0x1_0000_0001 + id as u128).to_string(),
        name: format!("node-{id}"),
        labels: [("zone".to_owned(), zone.to_owned())].into(),
        kinds: ["file".to_owned(), "http".to_owned()].into(),
        is_leaving: false,
        started_at: now() - TimeDelta::hours(1),
    }
}

fn fleet(nodes: &[Node]) -> Fleet {
    Fleet::new(nodes.to_vec(), now())
}

fn row(id: i64, kind: &str, runs_on: Option<&str>) -> MonitorRow {
    MonitorRow {
        id: MonitorId(id),
        uuid: String::new(),
        is_active: true,
        name: "m".to_owned(),
        kind: kind.to_owned(),
        schedule: "@hourly".to_owned(),
        timezone: None,
        config: "{}".to_owned(),
        severity: Severity::Critical,
        labels: "{}".to_owned(),
        runs_on: runs_on.map(ToOwned::to_owned),
        timeout_seconds: 1,
        retries: 0,
        retry_delay_seconds: 0,
        state: State::Ok,
        consecutive_ok_count: 0,
        required_consecutive_oks: 1,
        required_consecutive_alerts: 1,
        consecutive_alert_count: 0,
        reminder_frequency_minutes: None,
        people_to_notify: None,
        missed_tick_policy: MissedTickPolicy::Skip,
        last_tick_at: None,
        last_run_at: None,
        last_notification_at: None,
        next_run_at: None,
        config_error: None,
        revision: 0,
        recheck_seq: 0,
        write_seq: 0,
    }
}

/// The owner of each of 100,000 monitors.
fn owners(fleet: &Fleet) -> Vec<i64> {
    (1..=100_000).map(|id| fleet.place(&row(id, "http", None), false).unwrap().owner.id).collect()
}

fn placed(fleet: &Fleet, row: &MonitorRow, is_of_a_machine: bool) -> (i64, Option<PlacementFault>) {
    let placement = fleet.place(row, is_of_a_machine).unwrap();
    (placement.owner.id, placement.fault)
}

#[test]
fn shares_are_even_within_a_few_percent() {
    for count in [2, 3, 5, 10] {
        let nodes: Vec<_> = (1..=count).map(|id| node(id, "a")).collect();
        let mut shares = BTreeMap::<i64, usize>::new();
        owners(&fleet(&nodes)).into_iter().for_each(|owner| *shares.entry(owner).or_default() += 1);
        let even = 100_000.0 / count as f64;
        assert_eq!(shares.len() as i64, count);
        for (owner, share) in shares {
            assert!((share as f64 / even - 1.0).abs() < 0.04, "{owner} of {count} has {share}");
        }
    }
}

#[test]
fn a_node_that_goes_moves_its_share_and_nothing_else() {
    let nodes: Vec<_> = (1..=4).map(|id| node(id, "a")).collect();
    let (all, without) = (owners(&fleet(&nodes)), owners(&fleet(&nodes[..3])));
    let mut moved_to = BTreeMap::<i64, usize>::new();
    for (before, after) in all.iter().zip(&without) {
        if *before == 4 {
            *moved_to.entry(*after).or_default() += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!(moved_to.len() == 3 && moved_to.values().all(|moved| *moved > 7_000), "{moved_to:?}");
}

/// Nodes of two versions run beside each other: these may never change.
#[test]
fn the_weights_are_those_of_every_version() {
    let nodes: Vec<_> = (1..=3).map(|id| node(id, "a")).collect();
    let fleet = fleet(&nodes);
    let owners: Vec<i64> = [-1, 0, 1, 2, 3, 1_000, i64::MAX]
        .into_iter()
        .map(|id| fleet.place(&row(id, "http", None), false).unwrap().owner.id)
        .collect();
    let expected = OWNERS_OF_EVERY_VERSION;
    assert_eq!(owners, expected);
    assert_eq!(fleet.owner_of(MonitorId(2)).unwrap().id, expected[3], "also when the row is gone");
}

const OWNERS_OF_EVERY_VERSION: [i64; 7] = [3, 1, 2, 3, 3, 1, 2];

#[test]
fn the_order_in_which_nodes_are_read_does_not_matter() {
    let (one, two) = (fleet(&[node(1, "a"), node(2, "b")]), fleet(&[node(2, "b"), node(1, "a")]));
    assert_eq!(one, two);
}

#[test]
fn a_selector_chooses_by_labels_and_name() {
    let fleet = fleet(&[node(1, "a"), node(2, "b"), node(3, "b")]);
    for id in 0..50 {
        assert_eq!(placed(&fleet, &row(id, "http", Some("zone=a")), false), (1, None));
        assert_eq!(placed(&fleet, &row(id, "file", Some("name=node-2")), true), (2, None));
        let (owner, fault) = placed(&fleet, &row(id, "http", Some("zone=b")), false);
        assert!(owner != 1 && fault.is_none());
    }
}

#[test]
fn what_nobody_may_run_is_reported_by_one_node() {
    let fleet = fleet(&[node(1, "a"), node(2, "b")]);
    let fault = |row: &MonitorRow| placed(&fleet, row, false).1.unwrap().to_string();
    assert!(fault(&row(1, "http", Some("zone=c"))).contains("`zone=c` selects none of the 2 live nodes"));
    assert!(fault(&row(1, "http", Some("zone="))).starts_with("runs_on: `zone=` is not a term"));
    assert_eq!(
        placed(&fleet, &row(1, "novel", None), false).1,
        None,
        "the node that gets it says that it knows no such kind"
    );
    assert!(Fleet::default().place(&row(1, "http", None), false).is_none());
}

#[test]
fn who_went_lately_is_awaited_for_a_minute() {
    let after = |seconds| now() + TimeDelta::seconds(seconds);
    let (here, away) = (node(1, "a"), node(2, "b"));
    let theirs = [row(1, "http", Some("zone=b")), row(2, "http", Some("name=node-2"))];
    let is_awaited = |fleet: &Fleet| theirs.iter().all(|row| fleet.place(row, false).is_none());
    let both = fleet(&[here.clone(), away.clone()]);

    let is_leaving = Node { is_leaving: true, ..away.clone() };
    let stopping = both.followed_by(vec![here.clone(), is_leaving], after(1));
    assert!(is_awaited(&stopping));
    let gone = stopping.followed_by(vec![here.clone()], after(61));
    assert_eq!(gone, stopping, "nothing is placed otherwise");
    let mars = row(3, "http", Some("zone=mars"));
    assert!(placed(&gone, &mars, false).1.is_some(), "nobody was ever there that this could wait for");
    assert_eq!(placed(&gone, &row(4, "http", None), false), (1, None), "others have taken over what they may run");

    let successor = Node { uuid: "another".to_owned(), id: 3, started_at: after(61), ..away };
    let back = gone.followed_by(vec![here.clone(), successor], after(61));
    assert!(theirs.iter().all(|row| placed(&back, row, false) == (3, None)));
    let gone_again = back.followed_by(vec![here.clone()], after(62));
    for gone in [gone_again, gone] {
        let gone = gone.followed_by(vec![here.clone()], after(62));
        for row in &theirs {
            let fault = placed(&gone, row, false).1.expect("its minute is over, and does not begin again");
            assert!(fault.to_string().contains("does not select the only live node"));
        }
    }
    let crashed = Node { uuid: "crashed".to_owned(), id: 4, started_at: after(10), ..node(2, "b") };
    let again = stopping.followed_by(vec![here.clone(), crashed], after(10)).followed_by(vec![here.clone()], after(20));
    assert!(is_awaited(&again.followed_by(vec![here.clone()], after(61))), "what is left of its minute");
    assert!(!is_awaited(&again.followed_by(vec![here.clone()], after(62))));
    let set_back = stopping.followed_by(vec![here], after(-7_200));
    assert!(!is_awaited(&set_back), "a clock that is set back by hours must not make it hours longer");
}

#[test]
fn a_kind_that_only_a_node_knows_which_went_lately_waits_for_it() {
    let (here, mut away) = (node(1, "a"), node(2, "a"));
    away.kinds.insert("novel".to_owned());
    let fleet = fleet(&[here.clone(), away]).followed_by(vec![here], now());
    assert!(fleet.place(&row(1, "novel", None), false).is_none());
    assert!(fleet.place(&row(1, "novel", Some("zone=a")), false).is_none());
    assert!(placed(&fleet, &row(1, "novel", Some("zone=b")), false).1.is_some(), "it is not selected");
    assert_eq!(placed(&fleet, &row(1, "unheard-of", None), false), (1, None), "who says that it knows no such kind");

    // One that came later never saw the other.
    let joined = Fleet::default().followed_by(vec![node(1, "b"), node(3, "a")], now());
    assert_eq!(placed(&joined, &row(1, "novel", Some("zone=a")), false), (1, None), "so it is not for that one to say");
}

#[test]
fn while_all_have_just_started_others_are_awaited() {
    let started = |id, zone, seconds| Node { started_at: now() - TimeDelta::seconds(seconds), ..node(id, zone) };
    let pinned = row(1, "http", Some("zone=b"));
    let starting = Fleet::default().followed_by(vec![started(1, "a", 60), started(2, "a", 1)], now());
    assert!(starting.place(&pinned, false).is_none());
    assert!(placed(&starting, &row(1, "http", Some("zone=")), false).1.is_some(), "that nobody can come for");
    assert_eq!(placed(&starting, &row(1, "http", Some("name=node-2")), false), (2, None));

    // Who comes to others that have been there for longer knows nothing of who went: it is not the one that tells.
    let joined = Fleet::default().followed_by(vec![started(1, "a", 61), started(2, "a", 1)], now());
    for id in 0..50 {
        assert_eq!(placed(&joined, &row(id, "http", Some("zone=b")), false).0, 1);
    }
    assert_ne!(starting, joined, "what waited is placed anew");
}

#[test]
fn a_kind_that_only_a_newer_node_knows_runs_there() {
    let mut newer = node(3, "b");
    newer.kinds.insert("novel".to_owned());
    let fleet = fleet(&[node(1, "a"), node(2, "a"), newer]);
    for id in 0..50 {
        assert_eq!(placed(&fleet, &row(id, "novel", None), false), (3, None));
        assert!(fleet.may_run(&node(3, "b").uuid, &row(id, "novel", None)));
        assert!(!fleet.may_run(&node(1, "a").uuid, &row(id, "novel", None)));
    }
    let (_, fault) = placed(&fleet, &row(1, "novel", Some("zone=a")), false);
    assert!(fault.unwrap().to_string().contains("knows the kind `novel`, but node-3"));
}

#[test]
fn a_monitor_of_a_machine_must_say_which_where_there_are_several() {
    let file = row(7, "file", None);
    assert_eq!(placed(&fleet(&[node(1, "a")]), &file, true), (1, None), "there is one");
    let (_, fault) = placed(&fleet(&[node(1, "a"), node(2, "a")]), &file, true);
    assert!(fault.unwrap().to_string().contains("there are 2 nodes (hint: say which is meant"));
    let mut fresh = node(2, "a");
    fresh.started_at = now() - TimeDelta::seconds(59);
    assert_eq!(placed(&fleet(&[node(1, "a"), fresh]), &file, true), (1, None), "it may be a restart");
}

#[test]
fn a_node_that_is_about_to_stop_is_given_nothing() {
    let mut leaving = node(1, "a");
    leaving.is_leaving = true;
    let fleet = fleet(&[leaving.clone(), node(2, "a")]);
    assert!(owners(&fleet).into_iter().all(|owner| owner == 2));
    assert!(!fleet.has(&leaving.uuid));
    assert_eq!(fleet.doer_of("housekeeping").unwrap().id, 2);
}
