-- The core tables. Triggers and views keep to what SQLite 3.34 understands, so that a person's own sqlite3 can write.
-- `write_seq` counts Watchbell's own writes to a row, `revision` counts edits by people. A trigger that sees neither
-- changed knows that it looks at an edit by a person, and that is all it wakes anybody for.

CREATE TABLE monitors (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL UNIQUE DEFAULT (lower(
    hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
    substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  is_active INTEGER NOT NULL DEFAULT 1,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  schedule TEXT NOT NULL,
  timezone TEXT,
  config TEXT NOT NULL DEFAULT '{}',
  severity TEXT NOT NULL DEFAULT 'critical',
  labels TEXT NOT NULL DEFAULT '{}',
  runs_on TEXT,
  timeout_seconds INTEGER NOT NULL DEFAULT 30,
  retries INTEGER NOT NULL DEFAULT 0,
  retry_delay_seconds INTEGER NOT NULL DEFAULT 5,
  state TEXT NOT NULL DEFAULT 'ok',
  consecutive_ok_count INTEGER NOT NULL DEFAULT 0,
  required_consecutive_oks INTEGER NOT NULL DEFAULT 2,
  required_consecutive_alerts INTEGER NOT NULL DEFAULT 1,
  consecutive_alert_count INTEGER NOT NULL DEFAULT 0,
  reminder_frequency_minutes INTEGER DEFAULT 60,
  people_to_notify TEXT,
  missed_tick_policy TEXT NOT NULL DEFAULT 'run_once',
  last_tick_at TEXT,
  last_run_at TEXT,
  last_result_message TEXT,
  last_notification_at TEXT,
  last_notification_type TEXT,
  next_run_at TEXT,
  config_error TEXT,
  skipped_tick_count INTEGER NOT NULL DEFAULT 0,
  missed_tick_count INTEGER NOT NULL DEFAULT 0,
  revision INTEGER NOT NULL DEFAULT 0,
  recheck_seq INTEGER NOT NULL DEFAULT 0,
  write_seq INTEGER NOT NULL DEFAULT 0,
  -- Bytes are counted too: `length` of a text ends at its first NUL.
  CONSTRAINT uuid_has_1_to_100_characters CHECK (typeof(uuid) = 'text' AND length(CAST(uuid AS BLOB)) BETWEEN 1 AND 100),
  CONSTRAINT is_active_is_0_or_1 CHECK (is_active IN (0, 1)),
  CONSTRAINT name_has_1_to_500_characters CHECK (typeof(name) = 'text'
    AND length(name) BETWEEN 1 AND 500 AND length(CAST(name AS BLOB)) <= 2000),
  CONSTRAINT kind_has_1_to_100_characters CHECK (typeof(kind) = 'text'
    AND length(kind) BETWEEN 1 AND 100 AND length(CAST(kind AS BLOB)) <= 400),
  CONSTRAINT schedule_has_1_to_500_characters CHECK (typeof(schedule) = 'text'
    AND length(schedule) BETWEEN 1 AND 500 AND length(CAST(schedule AS BLOB)) <= 2000),
  CONSTRAINT timezone_has_1_to_100_characters CHECK (timezone IS NULL
    OR (typeof(timezone) = 'text' AND length(CAST(timezone AS BLOB)) BETWEEN 1 AND 100)),
  CONSTRAINT config_is_a_json_object_of_at_most_64_kib
    CHECK (typeof(config) = 'text' AND length(CAST(config AS BLOB)) <= 65536
      AND json_valid(config) AND json_type(config) = 'object'),
  CONSTRAINT severity_is_critical_warning_or_info CHECK (severity IN ('critical', 'warning', 'info')),
  CONSTRAINT labels_is_a_json_object_of_at_most_16_kib
    CHECK (typeof(labels) = 'text' AND length(CAST(labels AS BLOB)) <= 16384
      AND json_valid(labels) AND json_type(labels) = 'object'),
  CONSTRAINT runs_on_has_at_most_500_characters CHECK (runs_on IS NULL
    OR (typeof(runs_on) = 'text' AND length(CAST(runs_on AS BLOB)) <= 2000)),
  CONSTRAINT timeout_seconds_is_1_to_86400
    CHECK (typeof(timeout_seconds) = 'integer' AND timeout_seconds BETWEEN 1 AND 86400),
  CONSTRAINT retries_is_0_to_100 CHECK (typeof(retries) = 'integer' AND retries BETWEEN 0 AND 100),
  CONSTRAINT retry_delay_seconds_is_0_to_3600
    CHECK (typeof(retry_delay_seconds) = 'integer' AND retry_delay_seconds BETWEEN 0 AND 3600),
  CONSTRAINT state_is_ok_or_alert CHECK (state IN ('ok', 'alert')),
  CONSTRAINT consecutive_ok_count_is_0_or_more
    CHECK (typeof(consecutive_ok_count) = 'integer' AND consecutive_ok_count BETWEEN 0 AND 1000000000),
  CONSTRAINT required_consecutive_oks_is_1_or_more
    CHECK (typeof(required_consecutive_oks) = 'integer' AND required_consecutive_oks BETWEEN 1 AND 1000000),
  CONSTRAINT required_consecutive_alerts_is_1_or_more
    CHECK (typeof(required_consecutive_alerts) = 'integer' AND required_consecutive_alerts BETWEEN 1 AND 1000000),
  CONSTRAINT consecutive_alert_count_is_0_or_more
    CHECK (typeof(consecutive_alert_count) = 'integer' AND consecutive_alert_count BETWEEN 0 AND 1000000000),
  CONSTRAINT reminder_frequency_minutes_is_0_or_more CHECK (reminder_frequency_minutes IS NULL
    OR (typeof(reminder_frequency_minutes) = 'integer' AND reminder_frequency_minutes BETWEEN 0 AND 5256000)),
  CONSTRAINT people_to_notify_is_a_json_array_of_at_most_64_kib CHECK (people_to_notify IS NULL
    OR (typeof(people_to_notify) = 'text' AND length(CAST(people_to_notify AS BLOB)) <= 65536
      AND json_valid(people_to_notify) AND json_type(people_to_notify) = 'array')),
  CONSTRAINT missed_tick_policy_is_run_once_or_skip CHECK (missed_tick_policy IN ('run_once', 'skip'))
);
CREATE INDEX monitors_by_name ON monitors (name);

-- What people changed, in the order of the commits. Nodes follow it and forget what they have read.
CREATE TABLE monitor_changes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  monitor_id INTEGER NOT NULL,
  changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE TRIGGER monitors_refuse_bad_times_on_insert BEFORE INSERT ON monitors BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.created_at IS NOT NULL AND (strftime('%s', NEW.created_at) IS NULL OR NEW.created_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.updated_at IS NOT NULL AND (strftime('%s', NEW.updated_at) IS NULL OR NEW.updated_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_tick_at IS NOT NULL AND (strftime('%s', NEW.last_tick_at) IS NULL OR NEW.last_tick_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_run_at IS NOT NULL AND (strftime('%s', NEW.last_run_at) IS NULL OR NEW.last_run_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_notification_at IS NOT NULL AND (strftime('%s', NEW.last_notification_at) IS NULL OR NEW.last_notification_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.next_run_at IS NOT NULL AND (strftime('%s', NEW.next_run_at) IS NULL OR NEW.next_run_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
END;

CREATE TRIGGER monitors_refuse_bad_times_on_update
BEFORE UPDATE OF created_at, updated_at, last_tick_at, last_run_at, last_notification_at, next_run_at ON monitors
WHEN NEW.write_seq IS OLD.write_seq BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.created_at IS NOT NULL AND (strftime('%s', NEW.created_at) IS NULL OR NEW.created_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.updated_at IS NOT NULL AND (strftime('%s', NEW.updated_at) IS NULL OR NEW.updated_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_tick_at IS NOT NULL AND (strftime('%s', NEW.last_tick_at) IS NULL OR NEW.last_tick_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_run_at IS NOT NULL AND (strftime('%s', NEW.last_run_at) IS NULL OR NEW.last_run_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.last_notification_at IS NOT NULL AND (strftime('%s', NEW.last_notification_at) IS NULL OR NEW.last_notification_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.next_run_at IS NOT NULL AND (strftime('%s', NEW.next_run_at) IS NULL OR NEW.next_run_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
END;

-- REPLACE takes the row in its way without a word (unless recursive triggers are on).
CREATE TRIGGER monitors_replaced BEFORE INSERT ON monitors BEGIN
  INSERT INTO monitor_changes (monitor_id) SELECT id FROM monitors WHERE uuid = NEW.uuid AND id IS NOT NEW.id;
  UPDATE incidents SET is_silent = (SELECT json_array_length(m.people_to_notify) IS 0 FROM monitors m WHERE m.id = monitor_id)
  WHERE recovered_at IS NULL AND monitor_id IN (SELECT id FROM monitors WHERE uuid = NEW.uuid AND id IS NOT NEW.id);
END;

-- The revision is the number of the log's entry, so that a row that is written again under its old id never repeats
-- one. strftime of NULL is NULL, so one expression serves for columns that may be empty.
CREATE TRIGGER monitors_inserted AFTER INSERT ON monitors BEGIN
  INSERT INTO monitor_changes (monitor_id) VALUES (NEW.id);
  UPDATE monitors SET
    revision = (SELECT max(id) FROM monitor_changes),
    recheck_seq = (SELECT max(id) FROM monitor_changes),
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
    updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', updated_at),
    last_tick_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_tick_at),
    last_run_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_run_at),
    last_notification_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_notification_at),
    next_run_at = strftime('%Y-%m-%dT%H:%M:%fZ', next_run_at)
  WHERE id = NEW.id;
END;

CREATE TRIGGER monitors_edited AFTER UPDATE ON monitors
WHEN NEW.write_seq IS OLD.write_seq AND NEW.revision IS OLD.revision BEGIN
  INSERT INTO monitor_changes (monitor_id) SELECT OLD.id WHERE OLD.id IS NOT NEW.id;
  INSERT INTO monitor_changes (monitor_id) VALUES (NEW.id);
  UPDATE monitors SET
    revision = (SELECT max(id) FROM monitor_changes),
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
    updated_at = CASE
      WHEN NEW.is_active IS NOT OLD.is_active OR NEW.name IS NOT OLD.name OR NEW.kind IS NOT OLD.kind
        OR NEW.schedule IS NOT OLD.schedule OR NEW.timezone IS NOT OLD.timezone OR NEW.config IS NOT OLD.config
        OR NEW.severity IS NOT OLD.severity OR NEW.labels IS NOT OLD.labels OR NEW.runs_on IS NOT OLD.runs_on
        OR NEW.timeout_seconds IS NOT OLD.timeout_seconds OR NEW.retries IS NOT OLD.retries
        OR NEW.retry_delay_seconds IS NOT OLD.retry_delay_seconds
        OR NEW.required_consecutive_oks IS NOT OLD.required_consecutive_oks
        OR NEW.required_consecutive_alerts IS NOT OLD.required_consecutive_alerts
        OR NEW.reminder_frequency_minutes IS NOT OLD.reminder_frequency_minutes
        OR NEW.people_to_notify IS NOT OLD.people_to_notify OR NEW.missed_tick_policy IS NOT OLD.missed_tick_policy
      THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now') ELSE strftime('%Y-%m-%dT%H:%M:%fZ', updated_at) END,
    last_tick_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_tick_at),
    last_run_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_run_at),
    last_notification_at = strftime('%Y-%m-%dT%H:%M:%fZ', last_notification_at),
    next_run_at = strftime('%Y-%m-%dT%H:%M:%fZ', next_run_at)
  WHERE id = NEW.id;
END;

-- Setting `last_run_at` to NULL asks for a check, also where it is NULL already.
CREATE TRIGGER monitors_recheck_asked_for AFTER UPDATE OF last_run_at ON monitors
WHEN NEW.last_run_at IS NULL AND NEW.write_seq IS OLD.write_seq AND NEW.revision IS OLD.revision BEGIN
  INSERT INTO monitor_changes (monitor_id) VALUES (NEW.id);
  UPDATE monitors SET recheck_seq = recheck_seq + 1, revision = (SELECT max(id) FROM monitor_changes) WHERE id = NEW.id;
END;

-- What the row said of its people is needed once more, when its open incident is closed.
CREATE TRIGGER monitors_deleted AFTER DELETE ON monitors BEGIN
  INSERT INTO monitor_changes (monitor_id) VALUES (OLD.id);
  UPDATE incidents SET is_silent = json_array_length(OLD.people_to_notify) IS 0
  WHERE monitor_id = OLD.id AND recovered_at IS NULL;
END;

CREATE TABLE monitor_runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  monitor_id INTEGER NOT NULL,
  cause TEXT NOT NULL,
  tick_at TEXT,
  started_at TEXT NOT NULL,
  duration_ms INTEGER NOT NULL,
  is_ok INTEGER NOT NULL,
  message TEXT NOT NULL,
  metrics TEXT CHECK (metrics IS NULL OR json_valid(metrics)),
  state_before TEXT NOT NULL,
  state_after TEXT NOT NULL,
  notification_type TEXT,
  node TEXT NOT NULL
);
CREATE INDEX monitor_runs_by_monitor ON monitor_runs (monitor_id, id);
CREATE INDEX monitor_runs_by_start ON monitor_runs (started_at);

CREATE TABLE incidents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL UNIQUE DEFAULT (lower(
    hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
    substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  monitor_id INTEGER NOT NULL,
  monitor_name TEXT NOT NULL,
  opened_at TEXT NOT NULL,
  opening_message TEXT NOT NULL,
  acknowledged_at TEXT,
  acknowledged_by TEXT,
  acknowledgment_note TEXT,
  acknowledged_until TEXT,
  recovered_at TEXT,
  is_silent INTEGER NOT NULL DEFAULT 0 CHECK (is_silent IN (0, 1))
);
CREATE UNIQUE INDEX incidents_one_open_for_each_monitor ON incidents (monitor_id) WHERE recovered_at IS NULL;
CREATE INDEX incidents_by_monitor ON incidents (monitor_id, id);
CREATE INDEX incidents_by_recovery ON incidents (recovered_at) WHERE recovered_at IS NOT NULL;

CREATE TRIGGER incidents_times_on_insert AFTER INSERT ON incidents
WHEN NEW.opened_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.opened_at)
  OR NEW.acknowledged_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.acknowledged_at)
  OR NEW.acknowledged_until IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.acknowledged_until)
  OR NEW.recovered_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.recovered_at) BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.opened_at IS NOT NULL AND (strftime('%s', NEW.opened_at) IS NULL OR NEW.opened_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.acknowledged_at IS NOT NULL AND (strftime('%s', NEW.acknowledged_at) IS NULL OR NEW.acknowledged_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.acknowledged_until IS NOT NULL AND (strftime('%s', NEW.acknowledged_until) IS NULL OR NEW.acknowledged_until NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.recovered_at IS NOT NULL AND (strftime('%s', NEW.recovered_at) IS NULL OR NEW.recovered_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE incidents SET
    opened_at = strftime('%Y-%m-%dT%H:%M:%fZ', opened_at),
    acknowledged_at = strftime('%Y-%m-%dT%H:%M:%fZ', acknowledged_at),
    acknowledged_until = strftime('%Y-%m-%dT%H:%M:%fZ', acknowledged_until),
    recovered_at = strftime('%Y-%m-%dT%H:%M:%fZ', recovered_at)
  WHERE id = NEW.id;
END;

CREATE TRIGGER incidents_times_on_update AFTER UPDATE OF opened_at, acknowledged_at, acknowledged_until, recovered_at ON incidents
WHEN NEW.opened_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.opened_at)
  OR NEW.acknowledged_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.acknowledged_at)
  OR NEW.acknowledged_until IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.acknowledged_until)
  OR NEW.recovered_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.recovered_at) BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.opened_at IS NOT NULL AND (strftime('%s', NEW.opened_at) IS NULL OR NEW.opened_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.acknowledged_at IS NOT NULL AND (strftime('%s', NEW.acknowledged_at) IS NULL OR NEW.acknowledged_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.acknowledged_until IS NOT NULL AND (strftime('%s', NEW.acknowledged_until) IS NULL OR NEW.acknowledged_until NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.recovered_at IS NOT NULL AND (strftime('%s', NEW.recovered_at) IS NULL OR NEW.recovered_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE incidents SET
    opened_at = strftime('%Y-%m-%dT%H:%M:%fZ', opened_at),
    acknowledged_at = strftime('%Y-%m-%dT%H:%M:%fZ', acknowledged_at),
    acknowledged_until = strftime('%Y-%m-%dT%H:%M:%fZ', acknowledged_until),
    recovered_at = strftime('%Y-%m-%dT%H:%M:%fZ', recovered_at)
  WHERE id = NEW.id;
END;

CREATE TABLE notifications (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL UNIQUE DEFAULT (lower(
    hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
    substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  monitor_id INTEGER,
  incident_id INTEGER,
  type TEXT NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
  recipient TEXT NOT NULL,
  subject TEXT NOT NULL,
  body TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'sending', 'sent', 'held', 'merged', 'withdrawn', 'failed')),
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  sent_at TEXT,
  last_error TEXT,
  merged_into INTEGER,
  lease_owner TEXT,
  lease_until TEXT
);
CREATE INDEX notifications_unsettled ON notifications (next_attempt_at, id) WHERE status IN ('pending', 'sending');
-- Each recipient of an incident has a line of messages; only its head is tried.
CREATE INDEX notifications_in_line ON notifications (incident_id, recipient, id) WHERE status IN ('pending', 'sending');
CREATE INDEX notifications_by_incident ON notifications (incident_id, recipient, id);
CREATE INDEX notifications_by_monitor ON notifications (monitor_id, id);
CREATE INDEX notifications_by_creation ON notifications (created_at);
-- One alert and one recovery for each recipient of an incident, whatever happens.
CREATE UNIQUE INDEX notifications_one_alert ON notifications (incident_id, recipient) WHERE type = 'alert';
CREATE UNIQUE INDEX notifications_one_recovery ON notifications (incident_id, recipient) WHERE type = 'recovery';

CREATE TRIGGER notifications_times_on_insert AFTER INSERT ON notifications
WHEN NEW.created_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.created_at)
  OR NEW.next_attempt_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.next_attempt_at)
  OR NEW.sent_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.sent_at) BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.created_at IS NOT NULL AND (strftime('%s', NEW.created_at) IS NULL OR NEW.created_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.next_attempt_at IS NOT NULL AND (strftime('%s', NEW.next_attempt_at) IS NULL OR NEW.next_attempt_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.sent_at IS NOT NULL AND (strftime('%s', NEW.sent_at) IS NULL OR NEW.sent_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE notifications SET
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
    next_attempt_at = strftime('%Y-%m-%dT%H:%M:%fZ', next_attempt_at),
    sent_at = strftime('%Y-%m-%dT%H:%M:%fZ', sent_at)
  WHERE id = NEW.id;
END;

CREATE TRIGGER notifications_times_on_update AFTER UPDATE OF created_at, next_attempt_at, sent_at ON notifications
WHEN NEW.created_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.created_at)
  OR NEW.next_attempt_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.next_attempt_at)
  OR NEW.sent_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.sent_at) BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE (NEW.created_at IS NOT NULL AND (strftime('%s', NEW.created_at) IS NULL OR NEW.created_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.next_attempt_at IS NOT NULL AND (strftime('%s', NEW.next_attempt_at) IS NULL OR NEW.next_attempt_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'))
     OR (NEW.sent_at IS NOT NULL AND (strftime('%s', NEW.sent_at) IS NULL OR NEW.sent_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE notifications SET
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', created_at),
    next_attempt_at = strftime('%Y-%m-%dT%H:%M:%fZ', next_attempt_at),
    sent_at = strftime('%Y-%m-%dT%H:%M:%fZ', sent_at)
  WHERE id = NEW.id;
END;

CREATE TABLE nodes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  labels TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(labels)),
  started_at TEXT NOT NULL,
  lease_until TEXT NOT NULL,
  version TEXT NOT NULL
);

CREATE VIEW monitor_status AS
SELECT
  m.id, m.uuid, m.name, m.kind, m.severity,
  CASE
    WHEN m.is_active = 0 THEN 'paused'
    WHEN m.state = 'alert' THEN 'alert'
    WHEN m.last_result_message IS NULL THEN 'never run'
    WHEN strftime('%s', m.next_run_at) + m.timeout_seconds + 60 < strftime('%s', 'now') + 0 THEN 'overdue'
    ELSE 'ok'
  END AS status,
  -- Apart from the status, since an alert hides it there: nobody looks any more whether it is over.
  CASE WHEN m.is_active = 1
    AND strftime('%s', m.next_run_at) + m.timeout_seconds + 60 < strftime('%s', 'now') + 0
    THEN 1 ELSE 0 END AS is_overdue,
  m.state,
  CASE
    WHEN i.id IS NOT NULL THEN i.opened_at
    ELSE coalesce((SELECT max(e.recovered_at) FROM incidents e WHERE e.monitor_id = m.id), m.created_at)
  END AS since,
  i.id AS incident_id,
  CASE WHEN i.acknowledged_at IS NOT NULL
    AND (i.acknowledged_until IS NULL OR i.acknowledged_until > strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    THEN 1 ELSE 0 END AS is_acknowledged,
  i.acknowledged_by,
  m.consecutive_ok_count, m.required_consecutive_oks,
  m.last_run_at, m.last_result_message, m.last_notification_at, m.last_notification_type,
  m.next_run_at, m.config_error, m.skipped_tick_count, m.missed_tick_count
FROM monitors m
LEFT JOIN incidents i ON i.monitor_id = m.id AND i.recovered_at IS NULL;

CREATE VIEW outbox_backlog AS
SELECT
  recipient, status, count(*) AS notifications, min(created_at) AS oldest_created_at,
  min(next_attempt_at) AS next_attempt_at, max(attempts) AS most_attempts, max(last_error) AS an_error
FROM notifications
WHERE status IN ('pending', 'sending', 'held', 'failed')
GROUP BY recipient, status;
