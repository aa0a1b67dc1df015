//! What people say about messages: that it is seen when they edit it, and told what is wrong with it.

use chrono::TimeDelta;
use watchbell::domain::MonitorId;
use watchbell::domain::rules::RuleTable;

use super::bench::{Bench, sql_time};

async fn version(bench: &Bench) -> i64 {
    bench.store().outlook().await.unwrap().rules_version
}

/// Each edit of each table counts, and nothing else does.
pub(crate) async fn an_edit_of_the_rules_is_seen(bench: &Bench) {
    let mut before = version(bench).await;
    for edit in [
        "INSERT INTO channels (name, url) VALUES ('room', 'x')",
        "UPDATE channels SET is_active = 0",
        "INSERT INTO routes (recipients) VALUES ('[\"room\"]')",
        "UPDATE routes SET after_minutes = 5",
        "INSERT INTO silences (selector, ends_at) VALUES ('', '2100-01-01 00:00:00')",
        "UPDATE silences SET ends_at = '2101-01-01 00:00:00'",
        "INSERT INTO dependencies (child_id, parent_id) VALUES (1, 2)",
        "UPDATE dependencies SET parent_id = 3",
        "DELETE FROM channels",
        "DELETE FROM routes",
        "DELETE FROM silences",
        "DELETE FROM dependencies",
    ] {
        bench.sql(edit).await;
        let after = version(bench).await;
        assert!(after > before, "{edit}: {before}, {after}");
        before = after;
        assert_eq!(bench.store().rules().await.unwrap().version, after, "{edit}");
    }
    let monitor = bench.insert_simple().await;
    bench.fail(monitor).await;
    assert_eq!(version(bench).await, before, "a run is no edit");
}

/// One row that cannot be read would keep all of them from being read, and so every run from being written.
pub(crate) async fn a_row_that_could_not_be_read_is_refused(bench: &Bench) {
    for (edit, word) in [
        ("INSERT INTO silences (monitor_id, ends_at) VALUES ('shop', '2100-01-01')", "monitor_id"),
        ("INSERT INTO dependencies (child_id, parent_id) VALUES ('shop', 1)", "child_id"),
        ("INSERT INTO dependencies (child_id, parent_id) VALUES (1, 'database')", "parent_id"),
        ("INSERT INTO routes (recipients, severity) VALUES ('[\"room\"]', 'x00')", "severity"),
        ("INSERT INTO channels (name, url, is_active) VALUES ('room', 'x', 'yes')", "is_active"),
        ("INSERT INTO channels (name, url, wants_state_changes) VALUES ('room', 'x', NULL)", "wants_state_changes"),
    ] {
        bench.refused_for(edit, word).await;
    }
    bench.sql("INSERT INTO silences (monitor_id, ends_at) VALUES ('7', '2100-01-01')").await;
    assert_eq!(bench.store().rules().await.unwrap().silences.len(), 1);
}

pub(crate) async fn the_rules_are_read_as_they_are_written(bench: &Bench) {
    let tomorrow = bench.now() + TimeDelta::days(1);
    bench
        .sql("INSERT INTO channels (name, url, max_per_minute, quiet_hours) VALUES ('room', 'u', 5, '22:00-07:00')")
        .await;
    bench.sql("INSERT INTO channels (name, url, is_active, wants_state_changes) VALUES ('bus', 'v', 0, 1)").await;
    for (recipients, more) in [("room", "2, 0"), ("late@example.com", "1, 30"), ("nobody-at-all", "0, 0")] {
        let values = format!("'[\"{recipients}\"]', 1, {more}");
        let columns = "recipients, unless_acknowledged, sort_order, after_minutes";
        bench.sql(&format!("INSERT INTO routes ({columns}) VALUES ({values})")).await;
    }
    bench.sql(&format!("INSERT INTO silences (monitor_id, ends_at) VALUES (7, {})", sql_time(tomorrow))).await;
    bench.sql("INSERT INTO silences (selector, schedule, duration_minutes) VALUES ('', 'never', 5)").await;
    bench.sql("INSERT INTO dependencies (child_id, parent_id) VALUES (1, 2), (2, 3)").await;
    let rules = bench.store().rules().await.unwrap();
    let room = rules.channel("room").unwrap();
    assert_eq!((room.row.url.as_str(), room.row.max_per_minute, room.quiet_hours.is_some()), ("u", Some(5), true));
    assert!(!rules.channel("bus").unwrap().row.is_active);
    assert_eq!(rules.followers_of_states().collect::<Vec<_>>(), ["bus"]);
    let routes: Vec<_> = rules.routes.iter().map(|route| (route.id, &route.recipients[..], route.after)).collect();
    let expected = [
        (2, &["late@example.com".to_owned()][..], TimeDelta::minutes(30)),
        (1, &["room".to_owned()][..], TimeDelta::zero()),
    ];
    assert_eq!(routes, expected, "by sort_order; one without any recipient is none");
    let silences: Vec<_> =
        rules.silences.iter().map(|silence| silence.end_if_within(bench.now() + TimeDelta::minutes(1))).collect();
    assert_eq!(silences, [Some(tomorrow)]);
    assert_eq!(rules.dependencies.ancestors(MonitorId(1)), [MonitorId(2), MonitorId(3)].into());
    let faults: Vec<_> = rules.faults.keys().copied().collect();
    assert_eq!(faults, [(RuleTable::Routes, 3), (RuleTable::Silences, 2)]);
}

pub(crate) async fn a_report_is_written_and_what_was_held_is_looked_at(bench: &Bench) {
    bench.sql("INSERT INTO channels (name, url) VALUES ('room', 'nonsense')").await;
    bench.sql("INSERT INTO routes (recipients) VALUES ('[]')").await;
    bench.sql("INSERT INTO silences (selector, ends_at) VALUES ('=', '2100-01-01 00:00:00')").await;
    let later = sql_time(bench.now() + TimeDelta::minutes(30));
    for reason in ["silence 1", "quiet_hours", "channel_off", "dependency", "dependency 5", "rate_limit"] {
        let id = bench.queue("alert", "room").await;
        bench.sql(&format!("UPDATE notifications SET status = 'held', hold_reason = '{reason}', next_attempt_at = {later} WHERE id = {id}")).await;
    }
    for reason in ["storm", "repetition", "cut_off"] {
        let id = bench.queue("alert", "ann@example.com").await;
        bench.sql(&format!("UPDATE notifications SET status = 'held', hold_reason = '{reason}', next_attempt_at = {later} WHERE id = {id}")).await;
    }
    let known = version(bench).await;
    let fault = |text: &str| Some(text.to_owned());
    let tables = [(RuleTable::Channels, "no such type"), (RuleTable::Routes, "nobody"), (RuleTable::Silences, "bad")];
    let reports = tables.map(|(table, text)| (table, 1, fault(text)));
    bench.store().report_rules(&reports).await.unwrap();
    for (table, text) in tables {
        let error = bench.value(&format!("SELECT config_error FROM {}", table.as_str())).await;
        assert_eq!(error, text);
    }
    assert_eq!(version(bench).await, known, "what Watchbell writes there is no edit");
    let due = "SELECT recipient, count(*) FROM notifications WHERE status = 'held' AND next_attempt_at <= ";
    let due = bench.read(&format!("{due}(SELECT min(next_attempt_at) FROM notifications) GROUP BY recipient")).await;
    assert_eq!(due, ["room|6"], "what limits hold is no matter of rules");
    assert_eq!(bench.store().outlook().await.unwrap().held_until, Some(bench.now()));
    bench.store().report_rules(&[(RuleTable::Channels, 1, None)]).await.unwrap();
    assert_eq!(bench.value("SELECT config_error FROM channels").await, "-", "mended");
}
