//! An installation with something in every column, and what it holds, read without the product.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use crate::support::node::Node;

/// Rows in every table; texts that are easily bent; the highest ids are those of rows that are gone.
const ROWS: &str = r#"
INSERT INTO monitors (id, uuid, is_active, created_at, updated_at, name, kind, schedule, timezone, config, severity, labels,
  runs_on, timeout_seconds, retries, retry_delay_seconds, state, required_consecutive_oks, required_consecutive_alerts,
  reminder_frequency_minutes, people_to_notify, missed_tick_policy, last_tick_at, last_run_at, last_result_message,
  last_notification_at, last_notification_type, next_run_at, config_error, skipped_tick_count, missed_tick_count)
VALUES (1001, 'an uuid of one''s own', 0, '2020-01-01T00:00:00.001Z', '2020-02-29T23:59:59.999Z', 'Zürich 🔔 "quoted" \back ', 'http',
  '@every 30s', 'Europe/Zurich', '{"z": 1, "a": [1.0, 2.5e-7, -0.1, true, null, "\u00fc\\ \"x\""], "deep": {"b": {"": " "}}}', 'warning',
  '{"team": "ü", "origin": "x"}', 'disk in (ssd, "n v")', 86400, 100, 3600, 'alert', 7, 3, NULL, '[]', 'skip',
  '2021-06-01T12:00:00.000Z', '2021-06-01T12:00:00.123Z', 'line one
line two	tabbed ', '2021-06-01T12:00:00.000Z', 'alert', '2099-12-31T23:59:59.999Z', '', 3, 4),
 (1002, 'another', 1, '2020-01-01T00:00:00.000Z', '2020-01-01T00:00:00.000Z', 'ok ', 'tcp', '* * * * *', NULL, '{}', 'critical', '{}',
  NULL, 30, 0, 5, 'ok', 2, 1, 0, NULL, 'run_once', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0);
UPDATE monitors SET name = name || '!' WHERE id = 1001;
UPDATE monitors SET last_run_at = NULL WHERE id = 1002;
UPDATE monitors SET write_seq = 41, consecutive_ok_count = 2 WHERE id = 1002;
INSERT INTO monitors (id, name, kind, schedule) VALUES (2000, 'gone', 'tcp', '* * * * *');
DELETE FROM monitors WHERE id = 2000;
INSERT INTO channels (name, url, max_per_minute, quiet_hours, quiet_timezone, wants_state_changes, created_at, config_error, inbox_cursor)
VALUES ('room', 'ntfy://x.test/ü', 5, '22:00-07:00', 'UTC', 1, '2022-01-01T00:00:00.500Z', 'bad', 's72_1');
INSERT INTO channels (name, url) VALUES ('gone', 'ntfy://x.test/gone');
DELETE FROM channels WHERE name = 'gone';
INSERT INTO routes (severity, selector, recipients, after_minutes, unless_acknowledged, sort_order, is_active, config_error)
VALUES ('critical', 'team=ü', '["room", "routed@x.test"]', 15, 1, -3, 0, NULL), (NULL, NULL, '[]', 0, 0, 9000000000, 1, 'x');
INSERT INTO silences (monitor_id, selector, starts_at, ends_at, schedule, timezone, duration_minutes, created_by, reason, command_id)
VALUES (1001, NULL, '2022-01-01 00:00', '2099-01-01 00:00', NULL, NULL, NULL, 'me', 'wörk', 'cmd 1'),
  (NULL, 'kind=tcp', '2022-01-01 00:00', NULL, '0 2 * * *', 'Europe/Zurich', 60, NULL, NULL, NULL);
INSERT INTO dependencies (child_id, parent_id) VALUES (1001, 1002), (1002, 7), (1002, 8);
INSERT INTO incidents (id, uuid, monitor_id, monitor_name, opened_at, opening_message, acknowledged_at, acknowledged_by,
  acknowledgment_note, acknowledged_until, recovered_at, is_silent, acknowledgment_command, acknowledgment_told_at)
VALUES (500, 'i-500', 1001, 'Zürich', '2021-06-01T12:00:00.000Z', 'm', '2021-06-01T12:01:00.000Z', 'me', 'nöte', '2030-01-01T00:00:00.000Z',
  NULL, 1, 'cmd', '2021-06-01T12:01:00.000Z'),
  (501, 'i-501', 1002, 'ok ', '2021-06-01T12:00:00.000Z', '', NULL, NULL, NULL, NULL, '2021-06-02T12:00:00.000Z', 0, NULL, NULL);
INSERT INTO notifications (id, uuid, monitor_id, incident_id, type, severity, recipient, subject, body, status, attempts, next_attempt_at,
  created_at, sent_at, last_error, merged_into, lease_owner, lease_until, facts, rule, origin, hold_reason, planned_at, waits_for,
  external_id, edits_external_id, run_id, failed_at)
VALUES (900, 'n-900', 1001, 500, 'alert', 'warning', 'ops@x.test', 'süb', 'body', 'sent', 2, '2021-06-01T12:00:00.000Z',
  '2021-06-01T12:00:00.000Z', '2021-06-01T12:00:01.000Z', 'err', 899, 'me', '2021-06-01T12:00:02.000Z', '{"message": "m", "n": 1}', 'route 1',
  'origin', 'r', '2021-06-01T12:00:00.000Z', 898, 'ext', 'edit', 17, '2021-06-01T12:00:03.000Z'),
  (901, 'n-901', NULL, NULL, 'notice', 'info', 'room', '', '', 'withdrawn', 0, '2021-06-01T12:00:00.000Z', '2021-06-01T12:00:00.000Z',
  NULL, NULL, NULL, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO notification_events (notification_id, at, event, detail) VALUES (900, '2021-06-01T12:00:01.000Z', 'sent', NULL),
  (900, '2021-06-01T12:00:01.000Z', 'queued', 'dëtail');
INSERT INTO monitor_runs (id, monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, metrics, state_before, state_after,
  notification_type, node, reason)
VALUES (700, 1001, 'schedule', '2021-06-01T12:00:00.000Z', '2021-06-01T12:00:00.123Z', 9000000000, 0, 'méssage', '{"ms": 1.50, "count": 3}',
  'ok', 'alert', 'alert', 'nöde', 'because'), (701, 2000, 'forced', NULL, '2021-07-01T12:00:00.123Z', 0, 1, '', NULL, 'ok', 'ok', NULL, 'n', NULL);
INSERT INTO monitor_run_hours VALUES (1001, '2021-06-01T12:00:00.000Z', 1, 1, 9000000000, 9000000000, 123),
  (1001, '2021-06-01T13:00:00.000Z', 1, 0, 2, 2, NULL), (2000, '2021-06-01T12:00:00.000Z', 1, 0, 0, 0, NULL);
INSERT INTO monitor_run_days VALUES (1001, '2021-06-01T00:00:00.000Z', 2, 1, 9000000002, 9000000000, 123);
INSERT INTO nodes (uuid, name, labels, started_at, lease_until, version, heartbeat_at, kinds, monitor_count, lateness_p99_ms, clock_skew_ms, settings)
VALUES ('node-1', 'nöde', '{"disk": "ssd"}', '2021-01-01T00:00:00.000Z', '2021-01-02T00:00:00.000Z', '0.1.0', NULL, '["tcp", "sql"]', 3, 12, -5, '{"a": 1}');
UPDATE rollup_progress SET hours_until = '2021-06-01T14:00:00.000Z', hours_after_monitor = 5, days_until = NULL, days_after_monitor = 6;
UPDATE installation SET name = 'it''s ours';
"#;

/// Columns that hold JSON, which a database may spell another way.
const JSON: [&str; 8] = ["config", "labels", "people_to_notify", "metrics", "facts", "recipients", "kinds", "settings"];

/// An installation that no node serves, with the sample rows.
pub(super) fn installation() -> Node {
    let node = Node::new();
    migrated(&node);
    node.sql(ROWS);
    node
}

/// An installation without rows.
pub(super) fn migrated(node: &Node) {
    let output = node.watchbell(["migrate"]);
    assert!(output.status.success(), "{output:?}");
}

/// Many rows: 1,000 monitors and 40,000 runs over three weeks, and 2,000 notifications.
pub(super) fn add_many(node: &Node) {
    node.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO monitors (name, kind, schedule) SELECT 'monitor ' || i, 'tcp', '* * * * *' FROM n;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
         INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, state_before, state_after, node)
         SELECT i % 1000 + 1, 'schedule', t, t, i, 1, 'all is well ' || i, 'ok', 'ok', 'n'
         FROM (SELECT i, strftime('%Y-%m-%dT%H:%M:%fZ', '2026-10-01', (i * 45) || ' seconds') AS t FROM n);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO notifications (type, severity, recipient, subject, body, status)
         SELECT 'notice', 'info', 'many' || i || '@x.test', 's', hex(randomblob(500)), 'withdrawn' FROM n;",
    );
}

/// All rows of all tables of a file, as `sqlite3` reads them; JSON as what it means. Names of installations apart, which
/// hold marks.
pub(super) fn contents(path: &Path) -> BTreeMap<String, Vec<Map<String, Value>>> {
    let ask = |sql: &str| {
        let output = Command::new("sqlite3").args(["-json", "-bail"]).arg(path).arg(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str::<Vec<Map<String, Value>>>(&text).unwrap()
        }
    };
    let tables = ask("SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 1) <> '_' ORDER BY name");
    let mut contents = BTreeMap::new();
    for table in tables.iter().map(|row| row["name"].as_str().unwrap()) {
        let columns = if table == "installation" { "id, uuid" } else { "*" };
        let order = if table == "sqlite_sequence" { "name" } else { "1, 2" };
        let mut rows = ask(&format!("SELECT {columns} FROM {table} ORDER BY {order}"));
        for (column, value) in rows.iter_mut().flat_map(Map::iter_mut) {
            if let (true, Value::String(text)) = (JSON.contains(&column.as_str()), &*value) {
                *value = serde_json::from_str(text).unwrap();
            }
        }
        contents.insert(table.to_owned(), rows);
    }
    contents
}
