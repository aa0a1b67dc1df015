//! The tables as the public contract names them.

use chrono::TimeDelta;
use watchbell::ports::{NewMonitor, NodeIdentity, NodeReport};

use super::bench::{Bench, sql_time};

const TABLES: [(&str, &str); 5] = [
    (
        "monitors",
        "id uuid is_active created_at updated_at name kind schedule timezone config severity labels runs_on \
         timeout_seconds retries retry_delay_seconds state consecutive_ok_count required_consecutive_oks \
         required_consecutive_alerts consecutive_alert_count reminder_frequency_minutes people_to_notify \
         missed_tick_policy last_tick_at last_run_at last_result_message last_notification_at last_notification_type \
         next_run_at config_error",
    ),
    (
        "monitor_runs",
        "id monitor_id cause tick_at started_at duration_ms is_ok message metrics state_before state_after \
         notification_type node",
    ),
    (
        "incidents",
        "id uuid monitor_id opened_at opening_message acknowledged_at acknowledged_by acknowledgment_note \
         acknowledged_until recovered_at",
    ),
    (
        "notifications",
        "id uuid monitor_id incident_id type severity recipient subject body status attempts next_attempt_at \
         created_at sent_at last_error merged_into",
    ),
    ("nodes", "id name labels started_at lease_until version"),
];

pub(crate) async fn every_documented_column_is_there(bench: &Bench) {
    for (table, columns) in TABLES {
        let present = bench.database.columns(table).await;
        for column in columns.split_whitespace() {
            assert!(present.iter().any(|name| name == column), "{table}.{column}");
            // None of them is a reserved word.
            bench.read(&format!("SELECT {column} FROM {table}")).await;
        }
    }
}

/// The INSERT of the contract, word for word; all databases take it.
const MINIMAL: &str = r#"INSERT INTO monitors (name, kind, schedule, config, people_to_notify)
VALUES ('Purchase orders arrive', 'sql', '*/5 * * * *',
        '{"query": "select count(*) from purchase_orders where received_at > :since", "min": 1}',
        '["ops@example.com"]');"#;

pub(crate) async fn the_minimal_insert_has_the_documented_defaults(bench: &Bench) {
    bench.sql(MINIMAL).await;
    let columns = "is_active, severity, timeout_seconds, retries, retry_delay_seconds, state, consecutive_ok_count, \
        required_consecutive_oks, required_consecutive_alerts, consecutive_alert_count, reminder_frequency_minutes, \
        missed_tick_policy";
    let defaults = bench.value(&format!("SELECT {columns} FROM monitors")).await;
    assert_eq!(defaults, "1|critical|30|0|5|ok|0|2|1|0|60|run_once");
    let nulls = "timezone, runs_on, last_tick_at, last_run_at, last_result_message, last_notification_at, \
        last_notification_type, next_run_at, config_error";
    assert_eq!(bench.value(&format!("SELECT {nulls} FROM monitors")).await, "-|-|-|-|-|-|-|-|-");
    let uuid = bench.value("SELECT uuid FROM monitors").await;
    let parsed = uuid::Uuid::parse_str(&uuid).unwrap();
    // MySQL makes them of the time.
    assert_eq!(parsed.get_variant(), uuid::Variant::RFC4122, "{uuid}");
    assert_eq!(parsed.hyphenated().to_string(), uuid);

    bench.sql("INSERT INTO monitors (name, kind, schedule) VALUES ('Purchase orders arrive', 'sql', '@hourly')").await;
    let id = watchbell::domain::MonitorId(2);
    let row = bench.row(id).await;
    assert_eq!((row.config.as_str(), row.labels.as_str(), row.people_to_notify), ("{}", "{}", None));
    assert_ne!(row.uuid, uuid);
    let bad = format!("INSERT INTO monitors (uuid, name, kind, schedule) VALUES ('{uuid}', 'x', 'x', '@hourly')");
    assert!(bench.refused(&bad).await.contains("uuid"));
}

/// A column, a value that it refuses, and a word that the refusal must hold.
const BAD: [(&str, &str, &str); 44] = [
    ("is_active", "2", "is_active"),
    ("is_active", "NULL", "is_active"),
    ("name", "NULL", "name"),
    ("name", "''", "name"),
    ("kind", "NULL", "kind"),
    ("kind", "''", "kind"),
    ("schedule", "NULL", "schedule"),
    ("schedule", "''", "schedule"),
    ("config", "NULL", "config"),
    ("config", "'{'", "config"),
    ("config", "'[1]'", "config"),
    ("config", "'1'", "config"),
    ("config", "''", "config"),
    ("labels", "'x'", "labels"),
    ("labels", "'[]'", "labels"),
    ("people_to_notify", "'ops@example.com'", "people_to_notify"),
    ("people_to_notify", "'{\"a\": 1}'", "people_to_notify"),
    ("people_to_notify", "'\"ops@example.com\"'", "people_to_notify"),
    ("severity", "'urgent'", "severity"),
    ("severity", "''", "severity"),
    ("severity", "NULL", "severity"),
    ("state", "'unknown'", "state"),
    ("state", "NULL", "state"),
    ("missed_tick_policy", "'all'", "missed_tick_policy"),
    ("timeout_seconds", "0", "timeout_seconds"),
    ("timeout_seconds", "-1", "timeout_seconds"),
    ("timeout_seconds", "86401", "timeout_seconds"),
    ("timeout_seconds", "'soon'", "timeout_seconds"),
    ("timeout_seconds", "NULL", "timeout_seconds"),
    ("retries", "-1", "retries"),
    ("retries", "101", "retries"),
    ("retry_delay_seconds", "-1", "retry_delay_seconds"),
    ("retry_delay_seconds", "3601", "retry_delay_seconds"),
    ("consecutive_ok_count", "-1", "consecutive_ok_count"),
    ("consecutive_alert_count", "-1", "consecutive_alert_count"),
    ("required_consecutive_oks", "0", "required_consecutive_oks"),
    ("required_consecutive_alerts", "0", "required_consecutive_alerts"),
    ("reminder_frequency_minutes", "-1", "reminder_frequency_minutes"),
    ("reminder_frequency_minutes", "5256001", "reminder_frequency_minutes"),
    ("created_at", "'the day before'", "time"),
    ("last_run_at", "'soon'", "time"),
    ("last_tick_at", "'2026-13-01 00:00:00'", "time"),
    ("last_notification_at", "'2026-01-01 25:00:00'", "time"),
    ("next_run_at", "''", "time"),
];

pub(crate) async fn bad_values_are_refused_by_name(bench: &Bench) {
    let id = bench.insert(&[]).await;
    for (column, value, word) in BAD {
        bench.refused_for(&format!("UPDATE monitors SET {column} = {value} WHERE id = {id}"), word).await;
        let (mut columns, mut values) = (vec![column], vec![value]);
        for (required, given) in [("name", "'x'"), ("kind", "'x'"), ("schedule", "'@hourly'")] {
            if required != column {
                columns.push(required);
                values.push(given);
            }
        }
        let insert = format!("INSERT INTO monitors ({}) VALUES ({})", columns.join(", "), values.join(", "));
        bench.refused_for(&insert, word).await;
    }
    for (column, template) in [
        ("name", "'@'"),
        ("kind", "'@'"),
        ("schedule", "'@'"),
        ("timezone", "'@'"),
        ("runs_on", "'@'"),
        ("config", r#"'{"a": "@"}'"#),
        ("labels", r#"'{"a": "@"}'"#),
        ("people_to_notify", r#"'["@"]'"#),
    ] {
        let long = template.replace('@', &"x".repeat(1_000_000));
        let refused = bench.refused(&format!("UPDATE monitors SET {column} = {long}")).await;
        assert!(refused.contains(column) && refused.len() < 500, "{column}: {refused}");
    }
    assert_eq!(bench.value("SELECT count(*) FROM monitors").await, "1");
    let status = bench.refused("INSERT INTO notifications (type, severity, recipient, subject, body, status) VALUES ('alert', 'info', 'a', 's', 'b', 'gone')").await;
    assert!(status.contains("status"), "{status}");
}

pub(crate) async fn words_compare_exactly(bench: &Bench) {
    bench.insert(&[]).await;
    for edit in ["state = 'OK'", "state = 'ok '", "severity = 'Critical'", "missed_tick_policy = 'SKIP'"] {
        bench.refused(&format!("UPDATE monitors SET {edit}")).await;
    }
    bench.sql("UPDATE monitors SET kind = 'HTTP', name = 'Straße '").await;
    assert_eq!(bench.value("SELECT count(*) FROM monitors WHERE kind = 'http'").await, "0");
    assert_eq!(bench.store().find_monitors("Straße ").await.unwrap().len(), 1);
    assert_eq!(bench.store().find_monitors("strasse").await.unwrap().len(), 0);
    assert_eq!(bench.store().find_monitors("Straße").await.unwrap().len(), 0);
}

pub(crate) async fn nodes_come_and_go(bench: &Bench) {
    let other = NodeIdentity { uuid: "other".to_owned(), name: "node-name".to_owned() };
    let report = |seconds, is_well| NodeReport {
        version: "1.2.3".to_owned(),
        labels: [("zone".to_owned(), "eu".to_owned())].into(),
        kinds: Some(vec!["http".to_owned()]),
        settings: r#"{"default_timezone": "UTC"}"#.to_owned(),
        monitor_count: 7,
        lateness_p99: Some(TimeDelta::milliseconds(12)),
        clock_skew: TimeDelta::milliseconds(-3),
        lease: TimeDelta::seconds(seconds),
        is_well,
    };
    for node in [&bench.node, &other, &other] {
        let renewed = bench.store().renew_node(node, &report(20, true)).await.unwrap();
        assert_eq!(renewed.lease_until, renewed.live.now + TimeDelta::seconds(20));
        assert_eq!(renewed.nobody_was_alive_since, None);
        assert!(renewed.live.nodes.iter().any(|live| live.uuid == node.uuid));
    }
    assert_eq!(bench.read("SELECT name, version FROM nodes").await, ["node-name|1.2.3"; 2]);
    let live = bench.store().live_nodes().await.unwrap();
    assert_eq!(live.nodes.len(), 2);
    let first = &live.nodes[0];
    assert_eq!((first.uuid.as_str(), first.name.as_str()), ("node-uuid", "node-name"));
    assert_eq!((first.labels["zone"].as_str(), &first.kinds), ("eu", &Some(vec!["http".to_owned()])));
    assert!(first.settings.contains("default_timezone"));
    // By the database's clock, which is another one than the test's on a server.
    let lease = live.now + TimeDelta::seconds(21);
    let counted = |now| async move { bench.store().figures(now).await.unwrap()["live_nodes"] };
    assert_eq!(counted(live.now).await, 2);
    assert_eq!(counted(lease).await, 0);
    bench.store().renew_node(&other, &report(40, false)).await.unwrap();
    assert_eq!(counted(lease).await, 1);
    let records = bench.store().node_records().await.unwrap();
    assert_eq!((records[1]["monitor_count"].as_i64(), records[1]["is_alive"].as_i64()), (Some(7), Some(1)));
    bench.store().remove_node(&other).await.unwrap();
    assert_eq!(bench.read("SELECT uuid FROM nodes").await, ["node-uuid"]);
}

pub(crate) async fn an_installation_without_nodes_says_since_when(bench: &Bench) {
    let report = NodeReport {
        version: "1.2.3".to_owned(),
        labels: std::collections::BTreeMap::new(),
        kinds: Some(vec!["http".to_owned()]),
        settings: "{}".to_owned(),
        monitor_count: 0,
        lateness_p99: None,
        clock_skew: TimeDelta::zero(),
        lease: TimeDelta::seconds(10),
        is_well: false,
    };
    let other = NodeIdentity { uuid: "other".to_owned(), name: "other".to_owned() };
    let since = async |node| bench.store().renew_node(node, &report).await.unwrap().nobody_was_alive_since;
    assert_eq!(since(&bench.node).await, None, "the very first");
    leases_age(bench, TimeDelta::seconds(5)).await;
    assert_eq!(since(&other).await, None, "somebody is alive");
    leases_age(bench, TimeDelta::seconds(15)).await;
    let ended = bench.value("SELECT max(lease_until) FROM nodes").await;
    let told = since(&other).await.map(|since| bench.database.shown_time(since));
    assert_eq!(told.as_deref().map(|told| &told[..19]), Some(&ended[..19]), "its own lease had ended, too");
    assert_eq!(bench.store().live_nodes().await.unwrap().nodes.len(), 1);
    leases_age(bench, TimeDelta::hours(2)).await;
    since(&other).await;
    assert_eq!(bench.read("SELECT uuid FROM nodes").await, ["other"], "the other is forgotten");
    leases_age(bench, TimeDelta::seconds(15)).await;
    since(&bench.node).await;
    bench.store().remove_node(&bench.node).await.unwrap();
    assert_eq!(bench.read("SELECT count(*) FROM nodes").await, ["0"], "the last one sweeps");
    assert_eq!(since(&bench.node).await, None, "after an end in order");
}

/// Time goes by for leases: a server's clock is not the test's to move.
async fn leases_age(bench: &Bench, span: TimeDelta) {
    if bench.database.is_loosely_typed() {
        bench.pass(span);
        return;
    }
    for record in bench.store().node_records().await.unwrap() {
        let until = record["lease_until"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap() - span;
        bench.sql(&format!("UPDATE nodes SET lease_until = {} WHERE id = {}", sql_time(until), record["id"])).await;
    }
}

pub(crate) async fn monitors_are_found_by_id_uuid_and_name(bench: &Bench) {
    let first = bench.insert(&[]).await;
    let second = bench.insert(&[]).await;
    let uuid = bench.row(second).await.uuid;
    assert_eq!(bench.store().find_monitors(&first.to_string()).await.unwrap(), [first]);
    assert_eq!(bench.store().find_monitors(&uuid).await.unwrap(), [second]);
    assert_eq!(bench.store().find_monitors("Orders arrive").await.unwrap(), [first, second], "an ambiguous name");
    assert!(bench.store().find_monitors("' OR 1=1 --").await.unwrap().is_empty());
    assert_eq!(bench.store().monitor(watchbell::domain::MonitorId(99)).await.unwrap(), None);
}

pub(crate) async fn the_command_line_registers_and_pauses(bench: &Bench) {
    let cursor = bench.store().change_cursor().await.unwrap();
    let mut new = NewMonitor {
        name: "Orders 'arrive'".to_owned(),
        kind: "test".to_owned(),
        schedule: "@hourly".to_owned(),
        columns: [("timeout_seconds", "12"), ("config", "{\"a\": 1}")].map(|(n, v)| (n, Some(v.to_owned()))).into(),
    };
    let id = bench.store().add_monitor(&new).await.unwrap();
    let row = bench.row(id).await;
    assert_eq!((row.name.as_str(), row.timeout_seconds, row.config.as_str()), ("Orders 'arrive'", 12, "{\"a\": 1}"));
    bench.store().set_active(id, false).await.unwrap();
    assert!(!bench.row(id).await.is_active);
    assert!(bench.store().change_cursor().await.unwrap() > cursor, "both are edits by a person");
    new.columns.insert("severity", Some("urgent".to_owned()));
    let error = bench.store().add_monitor(&new).await.unwrap_err();
    assert!(matches!(error, watchbell::ports::StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("severity"), "{error}");
}
