-- The core tables, for MySQL 8.0.21 and newer and MariaDB 10.6 and newer.
--
-- A step that is broken off leaves what it had done, since each statement about tables commits by itself. So every
-- statement here may be run again, and the tables of this step have from the start what steps 2 and 3 add on SQLite.
--
-- Texts compare exactly: case, accents and spaces at the end count, also for unique keys. The collation that does so has
-- another name on each of the two, and each reads only its own comment. `utf8mb4_bin`, which both have, takes 'ok ' for 'ok'.
-- Columns with a bound are one character wider than it: where a session is not strict, what is too long is cut off
-- without a word, and the constraint then refuses what is left.
--
-- `write_seq` counts Watchbell's own writes to a row, `revision` counts edits by people. A trigger that sees neither
-- changed knows that it looks at an edit by a person, and that is all it wakes anybody for.

CREATE TABLE IF NOT EXISTS monitors (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid VARCHAR(101) NOT NULL DEFAULT (UUID()),
  is_active SMALLINT NOT NULL DEFAULT 1,
  created_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  updated_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  name VARCHAR(501) NOT NULL,
  kind VARCHAR(101) NOT NULL,
  schedule VARCHAR(501) NOT NULL,
  timezone VARCHAR(101),
  config JSON NOT NULL DEFAULT (JSON_OBJECT()),
  severity VARCHAR(20) NOT NULL DEFAULT 'critical',
  labels JSON NOT NULL DEFAULT (JSON_OBJECT()),
  runs_on VARCHAR(501),
  timeout_seconds INTEGER NOT NULL DEFAULT 30,
  retries INTEGER NOT NULL DEFAULT 0,
  retry_delay_seconds INTEGER NOT NULL DEFAULT 5,
  state VARCHAR(20) NOT NULL DEFAULT 'ok',
  consecutive_ok_count INTEGER NOT NULL DEFAULT 0,
  required_consecutive_oks INTEGER NOT NULL DEFAULT 2,
  required_consecutive_alerts INTEGER NOT NULL DEFAULT 1,
  consecutive_alert_count INTEGER NOT NULL DEFAULT 0,
  reminder_frequency_minutes INTEGER DEFAULT 60,
  people_to_notify JSON,
  missed_tick_policy VARCHAR(20) NOT NULL DEFAULT 'run_once',
  last_tick_at DATETIME(3),
  last_run_at DATETIME(3),
  last_result_message LONGTEXT,
  last_notification_at DATETIME(3),
  last_notification_type VARCHAR(20),
  next_run_at DATETIME(3),
  config_error LONGTEXT,
  skipped_tick_count INTEGER NOT NULL DEFAULT 0,
  missed_tick_count INTEGER NOT NULL DEFAULT 0,
  revision BIGINT NOT NULL DEFAULT 0,
  recheck_seq BIGINT NOT NULL DEFAULT 0,
  write_seq BIGINT NOT NULL DEFAULT 0,
  UNIQUE KEY monitors_uuid (uuid),
  -- No index holds a column that runs write.
  KEY monitors_by_name (name),
  CONSTRAINT uuid_has_1_to_100_characters CHECK (LENGTH(uuid) BETWEEN 1 AND 100),
  CONSTRAINT is_active_is_0_or_1 CHECK (is_active IN (0, 1)),
  CONSTRAINT name_has_1_to_500_characters CHECK (CHAR_LENGTH(name) BETWEEN 1 AND 500),
  CONSTRAINT kind_has_1_to_100_characters CHECK (CHAR_LENGTH(kind) BETWEEN 1 AND 100),
  CONSTRAINT schedule_has_1_to_500_characters CHECK (CHAR_LENGTH(schedule) BETWEEN 1 AND 500),
  CONSTRAINT timezone_has_1_to_100_characters CHECK (LENGTH(timezone) BETWEEN 1 AND 100),
  CONSTRAINT config_is_a_json_object_of_at_most_64_kib
    CHECK (LENGTH(config) <= 65536 AND JSON_TYPE(config) = 'OBJECT'),
  CONSTRAINT severity_is_critical_warning_or_info CHECK (severity IN ('critical', 'warning', 'info')),
  CONSTRAINT labels_is_a_json_object_of_at_most_16_kib
    CHECK (LENGTH(labels) <= 16384 AND JSON_TYPE(labels) = 'OBJECT'),
  CONSTRAINT runs_on_has_at_most_500_characters CHECK (CHAR_LENGTH(runs_on) <= 500),
  CONSTRAINT timeout_seconds_is_1_to_86400 CHECK (timeout_seconds BETWEEN 1 AND 86400),
  CONSTRAINT retries_is_0_to_100 CHECK (retries BETWEEN 0 AND 100),
  CONSTRAINT retry_delay_seconds_is_0_to_3600 CHECK (retry_delay_seconds BETWEEN 0 AND 3600),
  CONSTRAINT state_is_ok_or_alert CHECK (state IN ('ok', 'alert')),
  CONSTRAINT consecutive_ok_count_is_0_or_more CHECK (consecutive_ok_count BETWEEN 0 AND 1000000000),
  CONSTRAINT required_consecutive_oks_is_1_or_more CHECK (required_consecutive_oks BETWEEN 1 AND 1000000),
  CONSTRAINT required_consecutive_alerts_is_1_or_more CHECK (required_consecutive_alerts BETWEEN 1 AND 1000000),
  CONSTRAINT consecutive_alert_count_is_0_or_more CHECK (consecutive_alert_count BETWEEN 0 AND 1000000000),
  CONSTRAINT reminder_frequency_minutes_is_0_or_more CHECK (reminder_frequency_minutes BETWEEN 0 AND 5256000),
  CONSTRAINT people_to_notify_is_a_json_array_of_at_most_64_kib
    CHECK (people_to_notify IS NULL OR (LENGTH(people_to_notify) <= 65536 AND JSON_TYPE(people_to_notify) = 'ARRAY')),
  CONSTRAINT missed_tick_policy_is_run_once_or_skip CHECK (missed_tick_policy IN ('run_once', 'skip')),
  -- '0000-00-00', and what becomes of a text that is no time in a session that is not strict: no program can read it.
  CONSTRAINT a_time_has_a_month_and_a_day CHECK (
    MONTH(created_at) * DAYOFMONTH(created_at) > 0 AND MONTH(updated_at) * DAYOFMONTH(updated_at) > 0
    AND MONTH(last_tick_at) * DAYOFMONTH(last_tick_at) > 0 AND MONTH(last_run_at) * DAYOFMONTH(last_run_at) > 0
    AND MONTH(last_notification_at) * DAYOFMONTH(last_notification_at) > 0
    AND MONTH(next_run_at) * DAYOFMONTH(next_run_at) > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- What people changed. Nodes follow it and forget what they have read. Entries of transactions that go on at the same
-- time may come into sight out of order. `monitor_id` 0: an INSERT that became an UPDATE, or was ignored.
CREATE TABLE IF NOT EXISTS monitor_changes (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  monitor_id BIGINT NOT NULL,
  changed_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS monitor_runs (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  monitor_id BIGINT NOT NULL,
  cause VARCHAR(20) NOT NULL,
  tick_at DATETIME(3),
  started_at DATETIME(3) NOT NULL,
  duration_ms BIGINT NOT NULL,
  is_ok SMALLINT NOT NULL,
  message LONGTEXT NOT NULL,
  metrics JSON,
  state_before VARCHAR(20) NOT NULL,
  state_after VARCHAR(20) NOT NULL,
  notification_type VARCHAR(20),
  node VARCHAR(255) NOT NULL,
  -- Why it told people, or did not, in words, as things stood then; NULL: there is nothing to say.
  reason LONGTEXT,
  KEY monitor_runs_by_monitor (monitor_id, id),
  KEY monitor_runs_by_start (started_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- There are no partial indexes. A unique one is made over a computed column that is NULL where the condition does not
-- hold; any other begins with the column of the condition. Computed columns are stored: on both, tables with
-- indexed ones that are not are altered and purged in more fragile ways.
CREATE TABLE IF NOT EXISTS incidents (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid VARCHAR(100) NOT NULL DEFAULT (UUID()),
  monitor_id BIGINT NOT NULL,
  monitor_name VARCHAR(500) NOT NULL,
  opened_at DATETIME(3) NOT NULL,
  opening_message LONGTEXT NOT NULL,
  acknowledged_at DATETIME(3),
  acknowledged_by LONGTEXT,
  acknowledgment_note LONGTEXT,
  acknowledged_until DATETIME(3),
  recovered_at DATETIME(3),
  is_silent SMALLINT NOT NULL DEFAULT 0,
  -- Which command acknowledged it last, and the `acknowledged_at` that everybody was told of.
  acknowledgment_command LONGTEXT,
  acknowledgment_told_at DATETIME(3),
  open_monitor_id BIGINT GENERATED ALWAYS AS (CASE WHEN recovered_at IS NULL THEN monitor_id END) STORED,
  UNIQUE KEY incidents_uuid (uuid),
  UNIQUE KEY incidents_one_open_for_each_monitor (open_monitor_id),
  KEY incidents_by_monitor (monitor_id, id),
  -- Also finds acknowledgments that nobody was told of yet.
  KEY incidents_by_recovery (recovered_at, acknowledged_at),
  KEY incidents_by_opening (opened_at),
  CONSTRAINT incidents_is_silent_is_0_or_1 CHECK (is_silent IN (0, 1)),
  CONSTRAINT incidents_a_time_has_a_month_and_a_day CHECK (
    MONTH(opened_at) * DAYOFMONTH(opened_at) > 0 AND MONTH(acknowledged_at) * DAYOFMONTH(acknowledged_at) > 0
    AND MONTH(acknowledged_until) * DAYOFMONTH(acknowledged_until) > 0
    AND MONTH(recovered_at) * DAYOFMONTH(recovered_at) > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- A recipient has at most 319 characters: an address of 64 and 254 beside its at sign.
CREATE TABLE IF NOT EXISTS notifications (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid VARCHAR(100) NOT NULL DEFAULT (UUID()),
  monitor_id BIGINT,
  incident_id BIGINT,
  type VARCHAR(20) NOT NULL,
  severity VARCHAR(20) NOT NULL,
  recipient VARCHAR(320) NOT NULL,
  subject LONGTEXT NOT NULL,
  body LONGTEXT NOT NULL,
  status VARCHAR(20) NOT NULL DEFAULT 'pending',
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  created_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  sent_at DATETIME(3),
  last_error LONGTEXT,
  merged_into BIGINT,
  lease_owner VARCHAR(255),
  lease_until DATETIME(3),
  facts JSON NOT NULL DEFAULT (JSON_OBJECT()),
  rule VARCHAR(255),
  -- As long as a label may be.
  origin LONGTEXT,
  hold_reason VARCHAR(100),
  -- When it was decided that it goes out by itself; NULL: not decided yet.
  planned_at DATETIME(3),
  -- A digest that must have been settled before this one is tried.
  waits_for BIGINT,
  -- What the service calls the message, and the one that this one is edited into.
  external_id LONGTEXT,
  edits_external_id LONGTEXT,
  -- The run that owes it; NULL where an edit by hand does, or none.
  run_id BIGINT,
  -- When it was given up; for looking at what failed lately.
  failed_at DATETIME(3),
  -- What deliveries share: all mail is one lane, each channel is one. No channel can be called `@`.
  lane VARCHAR(320) GENERATED ALWAYS AS (CASE WHEN LOCATE('@', recipient) > 0 THEN '@' ELSE recipient END) STORED,
  alert_incident_id BIGINT GENERATED ALWAYS AS (CASE WHEN type = 'alert' THEN incident_id END) STORED,
  recovery_incident_id BIGINT GENERATED ALWAYS AS (CASE WHEN type = 'recovery' THEN incident_id END) STORED,
  UNIQUE KEY notifications_uuid (uuid),
  -- One alert and one recovery for each recipient of an incident, whatever happens.
  UNIQUE KEY notifications_one_alert (alert_incident_id, recipient),
  UNIQUE KEY notifications_one_recovery (recovery_incident_id, recipient),
  KEY notifications_by_incident (incident_id, recipient, id),
  KEY notifications_by_monitor (monitor_id, id),
  KEY notifications_by_creation (created_at),
  KEY notifications_by_recipient (recipient, planned_at),
  KEY notifications_by_run (run_id),
  KEY notifications_merged (merged_into),
  KEY notifications_unplanned (status, planned_at, id),
  KEY notifications_held (status, next_attempt_at, id),
  KEY notifications_held_by_recipient (status, recipient, hold_reason, id),
  -- Each recipient of a monitor has a line of messages; only its head is tried. Also finds recoveries not begun.
  KEY notifications_in_line (status, monitor_id, recipient, id),
  -- Also finds what is on its way.
  KEY notifications_lane (status, lane, next_attempt_at, id),
  KEY notifications_urgent (status, lane, type, severity, attempts, created_at, id),
  KEY notifications_unsettled_digests (type, status, recipient, id),
  KEY notifications_failed (failed_at),
  KEY notifications_of_channel_trouble (rule, origin(150), id),
  CONSTRAINT notifications_severity_is_critical_warning_or_info CHECK (severity IN ('critical', 'warning', 'info')),
  CONSTRAINT notifications_status_is_one_of_the_seven
    CHECK (status IN ('pending', 'sending', 'sent', 'held', 'merged', 'withdrawn', 'failed')),
  CONSTRAINT facts_is_a_json_object CHECK (JSON_TYPE(facts) = 'OBJECT'),
  CONSTRAINT notifications_a_time_has_a_month_and_a_day CHECK (
    MONTH(created_at) * DAYOFMONTH(created_at) > 0 AND MONTH(next_attempt_at) * DAYOFMONTH(next_attempt_at) > 0
    AND MONTH(sent_at) * DAYOFMONTH(sent_at) > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS nodes (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  uuid VARCHAR(100) NOT NULL,
  name VARCHAR(255) NOT NULL,
  labels JSON NOT NULL DEFAULT (JSON_OBJECT()),
  started_at DATETIME(3) NOT NULL,
  lease_until DATETIME(3) NOT NULL,
  version VARCHAR(100) NOT NULL,
  -- When the scheduler was last seen to advance while the outbox drained: what a second installation watches.
  heartbeat_at DATETIME(3),
  -- Which kinds the node knows (a JSON array of names), which monitors it has and how late their checks began lately,
  -- how far its own clock was from the database's, and which settings it runs with that must be the same everywhere.
  kinds JSON NOT NULL DEFAULT (JSON_ARRAY()),
  monitor_count INTEGER NOT NULL DEFAULT 0,
  lateness_p99_ms BIGINT,
  clock_skew_ms BIGINT NOT NULL DEFAULT 0,
  settings JSON NOT NULL DEFAULT (JSON_OBJECT()),
  UNIQUE KEY nodes_uuid (uuid)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- The number of the log's entry is the revision, so that a row that is written again under its old id never repeats
-- one. The row's own number is not known before it is written, and the row cannot be changed any more afterwards:
-- so the entry is made before, and is told its monitor after.
DROP TRIGGER IF EXISTS monitors_inserted;
CREATE TRIGGER monitors_inserted BEFORE INSERT ON monitors FOR EACH ROW
BEGIN
  INSERT INTO monitor_changes (monitor_id) VALUES (0);
  SET NEW.revision = LAST_INSERT_ID(), NEW.recheck_seq = LAST_INSERT_ID();
END;

-- REPLACE, too, comes here, after `monitors_deleted`: the row that is back speaks for itself again.
DROP TRIGGER IF EXISTS monitors_inserted_with_id;
CREATE TRIGGER monitors_inserted_with_id AFTER INSERT ON monitors FOR EACH ROW
BEGIN
  UPDATE monitor_changes SET monitor_id = NEW.id WHERE id = NEW.revision;
  IF @watchbell_silenced_monitor_id = NEW.id THEN
    UPDATE incidents SET is_silent = 0 WHERE open_monitor_id = NEW.id;
    SET @watchbell_silenced_monitor_id = NULL;
  END IF;
END;

-- Setting `last_run_at` to NULL asks for a check. No trigger is told which columns an UPDATE names, so where the column
-- is NULL already, an UPDATE that changes nothing at all is taken for asking; one that changes something else is not.
DROP TRIGGER IF EXISTS monitors_edited;
CREATE TRIGGER monitors_edited BEFORE UPDATE ON monitors FOR EACH ROW
BEGIN
  DECLARE is_configuration_same SMALLINT;
  IF NEW.write_seq <=> OLD.write_seq AND NEW.revision <=> OLD.revision THEN
    SET is_configuration_same = NEW.is_active <=> OLD.is_active AND NEW.name <=> OLD.name AND NEW.kind <=> OLD.kind
      AND NEW.schedule <=> OLD.schedule AND NEW.timezone <=> OLD.timezone AND NEW.config <=> OLD.config
      AND NEW.severity <=> OLD.severity AND NEW.labels <=> OLD.labels AND NEW.runs_on <=> OLD.runs_on
      AND NEW.timeout_seconds <=> OLD.timeout_seconds AND NEW.retries <=> OLD.retries
      AND NEW.retry_delay_seconds <=> OLD.retry_delay_seconds
      AND NEW.required_consecutive_oks <=> OLD.required_consecutive_oks
      AND NEW.required_consecutive_alerts <=> OLD.required_consecutive_alerts
      AND NEW.reminder_frequency_minutes <=> OLD.reminder_frequency_minutes
      AND NEW.people_to_notify <=> OLD.people_to_notify AND NEW.missed_tick_policy <=> OLD.missed_tick_policy;
    IF NEW.last_run_at IS NULL AND (OLD.last_run_at IS NOT NULL OR (is_configuration_same
      AND NEW.id = OLD.id AND NEW.uuid <=> OLD.uuid AND NEW.state <=> OLD.state
      AND NEW.created_at <=> OLD.created_at AND NEW.updated_at <=> OLD.updated_at
      AND NEW.consecutive_ok_count <=> OLD.consecutive_ok_count
      AND NEW.consecutive_alert_count <=> OLD.consecutive_alert_count
      AND NEW.last_tick_at <=> OLD.last_tick_at AND NEW.last_result_message <=> OLD.last_result_message
      AND NEW.last_notification_at <=> OLD.last_notification_at
      AND NEW.last_notification_type <=> OLD.last_notification_type
      AND NEW.next_run_at <=> OLD.next_run_at AND NEW.config_error <=> OLD.config_error
      AND NEW.skipped_tick_count <=> OLD.skipped_tick_count
      AND NEW.missed_tick_count <=> OLD.missed_tick_count)) THEN
      SET NEW.recheck_seq = NEW.recheck_seq + 1;
    END IF;
    IF NOT is_configuration_same THEN
      SET NEW.updated_at = UTC_TIMESTAMP(3);
    END IF;
    IF NEW.id <> OLD.id THEN
      INSERT INTO monitor_changes (monitor_id) VALUES (OLD.id);
    END IF;
    INSERT INTO monitor_changes (monitor_id) VALUES (NEW.id);
    SET NEW.revision = LAST_INSERT_ID();
  END IF;
END;

-- What the row said of its people is needed once more, when its open incident is closed. Incidents are touched only
-- where they must be: under REPEATABLE READ even a look for one that is not there locks a gap, and a transaction of a
-- person that is left open would keep incidents of other monitors from being opened.
DROP TRIGGER IF EXISTS monitors_deleted;
CREATE TRIGGER monitors_deleted AFTER DELETE ON monitors FOR EACH ROW
BEGIN
  INSERT INTO monitor_changes (monitor_id) VALUES (OLD.id);
  IF JSON_LENGTH(OLD.people_to_notify) = 0 THEN
    UPDATE incidents SET is_silent = 1 WHERE open_monitor_id = OLD.id;
    SET @watchbell_silenced_monitor_id = OLD.id;
  END IF;
END;

-- With the rights of who made them: who may read a view need not be allowed to read the tables below, with what
-- configurations and messages hold.
CREATE OR REPLACE SQL SECURITY DEFINER VIEW monitor_status AS
SELECT
  m.id, m.uuid, m.name, m.kind, m.severity,
  -- The collation keeps the word comparable for sessions with another one than this one's.
  CASE
    WHEN m.is_active = 0 THEN 'paused'
    WHEN m.state = 'alert' THEN 'alert'
    WHEN m.last_result_message IS NULL THEN 'never run'
    WHEN m.next_run_at + INTERVAL (m.timeout_seconds + 60) SECOND < UTC_TIMESTAMP(3) THEN 'overdue'
    ELSE 'ok'
  END COLLATE utf8mb4_bin AS status,
  -- Apart from the status, since an alert hides it there: nobody looks any more whether it is over.
  CASE WHEN m.is_active = 1 AND m.next_run_at + INTERVAL (m.timeout_seconds + 60) SECOND < UTC_TIMESTAMP(3)
    THEN 1 ELSE 0 END AS is_overdue,
  m.state,
  CASE
    WHEN i.id IS NOT NULL THEN i.opened_at
    ELSE COALESCE((SELECT MAX(e.recovered_at) FROM incidents e WHERE e.monitor_id = m.id), m.created_at)
  END AS since,
  i.id AS incident_id,
  CASE WHEN i.acknowledged_at IS NOT NULL
    AND (i.acknowledged_until IS NULL OR i.acknowledged_until > UTC_TIMESTAMP(3))
    THEN 1 ELSE 0 END AS is_acknowledged,
  i.acknowledged_by,
  m.consecutive_ok_count, m.required_consecutive_oks,
  m.last_run_at, m.last_result_message, m.last_notification_at, m.last_notification_type,
  m.next_run_at, m.config_error, m.skipped_tick_count, m.missed_tick_count
FROM monitors m
LEFT JOIN incidents i ON i.open_monitor_id = m.id;

CREATE OR REPLACE SQL SECURITY DEFINER VIEW outbox_backlog AS
SELECT
  recipient, status, COUNT(*) AS notifications, MIN(created_at) AS oldest_created_at,
  MIN(next_attempt_at) AS next_attempt_at, MAX(attempts) AS most_attempts, MAX(last_error) AS an_error
FROM notifications
WHERE status IN ('pending', 'sending', 'held', 'failed')
GROUP BY recipient, status;
