-- Channels, routes, silences, dependencies, and what the outbox needs to explain. Every statement may be run again. What
-- this step adds to older tables on SQLite stands in 0001_core.sql here.
-- Names of constraints are unique in the whole database on MySQL: where two tables have the same rule, the later one
-- puts its own name before it.

CREATE TABLE IF NOT EXISTS channels (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(101) NOT NULL,
  url LONGTEXT NOT NULL,
  is_active SMALLINT NOT NULL DEFAULT 1,
  max_per_minute INTEGER,
  quiet_hours VARCHAR(101),
  quiet_timezone VARCHAR(101),
  wants_state_changes SMALLINT NOT NULL DEFAULT 0,
  created_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  config_error LONGTEXT,
  inbox_cursor LONGTEXT,
  UNIQUE KEY channels_name (name),
  CONSTRAINT name_has_1_to_100_characters_and_no_at_sign
    CHECK (LENGTH(name) BETWEEN 1 AND 100 AND LOCATE('@', name) = 0 AND TRIM(name) = name),
  CONSTRAINT url_has_1_to_10000_characters CHECK (LENGTH(url) BETWEEN 1 AND 10000),
  CONSTRAINT channels_is_active_is_0_or_1 CHECK (is_active IN (0, 1)),
  CONSTRAINT max_per_minute_is_1_or_more CHECK (max_per_minute BETWEEN 1 AND 100000),
  CONSTRAINT quiet_hours_is_a_text CHECK (LENGTH(quiet_hours) <= 100),
  CONSTRAINT quiet_timezone_is_a_text CHECK (LENGTH(quiet_timezone) <= 100),
  CONSTRAINT wants_state_changes_is_0_or_1 CHECK (wants_state_changes IN (0, 1))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS routes (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  severity VARCHAR(20),
  selector LONGTEXT,
  recipients JSON NOT NULL,
  after_minutes INTEGER NOT NULL DEFAULT 0,
  unless_acknowledged SMALLINT NOT NULL DEFAULT 0,
  sort_order BIGINT NOT NULL DEFAULT 0,
  is_active SMALLINT NOT NULL DEFAULT 1,
  config_error LONGTEXT,
  CONSTRAINT routes_severity_is_critical_warning_or_info CHECK (severity IN ('critical', 'warning', 'info')),
  CONSTRAINT selector_has_at_most_2000_characters CHECK (LENGTH(selector) <= 2000),
  CONSTRAINT recipients_is_a_json_array_of_at_most_64_kib
    CHECK (LENGTH(recipients) <= 65536 AND JSON_TYPE(recipients) = 'ARRAY'),
  CONSTRAINT after_minutes_is_0_to_525600 CHECK (after_minutes BETWEEN 0 AND 525600),
  CONSTRAINT unless_acknowledged_is_0_or_1 CHECK (unless_acknowledged IN (0, 1)),
  CONSTRAINT routes_is_active_is_0_or_1 CHECK (is_active IN (0, 1))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS silences (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  monitor_id BIGINT,
  selector LONGTEXT,
  starts_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  ends_at DATETIME(3),
  schedule LONGTEXT,
  timezone LONGTEXT,
  duration_minutes INTEGER,
  created_by LONGTEXT,
  reason LONGTEXT,
  -- The command that it was made by, so that the same one makes no second; NULL: by SQL.
  command_id VARCHAR(700),
  created_at DATETIME(3) NOT NULL DEFAULT (UTC_TIMESTAMP(3)),
  config_error LONGTEXT,
  UNIQUE KEY silences_one_for_each_command (command_id),
  CONSTRAINT a_silence_names_a_monitor_id_or_a_selector CHECK (monitor_id IS NOT NULL OR selector IS NOT NULL),
  -- A word in the place of the number is 0 in a session that is not strict.
  CONSTRAINT monitor_id_is_the_id_of_a_monitor CHECK (monitor_id > 0),
  CONSTRAINT silences_selector_has_at_most_2000_characters CHECK (LENGTH(selector) <= 2000),
  CONSTRAINT a_silence_has_ends_at_or_a_schedule_with_duration_minutes
    CHECK ((schedule IS NULL AND ends_at IS NOT NULL) OR (schedule IS NOT NULL AND duration_minutes IS NOT NULL)),
  CONSTRAINT duration_minutes_is_1_to_525600 CHECK (duration_minutes BETWEEN 1 AND 525600),
  CONSTRAINT silences_a_time_has_a_month_and_a_day CHECK (
    MONTH(starts_at) * DAYOFMONTH(starts_at) > 0 AND MONTH(ends_at) * DAYOFMONTH(ends_at) > 0)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS dependencies (
  child_id BIGINT NOT NULL,
  parent_id BIGINT NOT NULL,
  PRIMARY KEY (child_id, parent_id),
  KEY dependencies_by_parent (parent_id),
  CONSTRAINT child_id_and_parent_id_are_ids_of_monitors CHECK (child_id > 0 AND parent_id > 0),
  CONSTRAINT a_monitor_does_not_depend_on_itself CHECK (child_id <> parent_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- Counts edits of the four tables above, so that nodes see with one look whether what they know of them still holds.
CREATE TABLE IF NOT EXISTS rules_version (
  id BIGINT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  CONSTRAINT rules_version_has_one_row CHECK (id = 1)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;
INSERT IGNORE INTO rules_version (id, version) VALUES (1, 1);

DROP TRIGGER IF EXISTS channels_inserted;
CREATE TRIGGER channels_inserted AFTER INSERT ON channels FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
-- Not for `config_error` and `inbox_cursor`, which nodes write.
DROP TRIGGER IF EXISTS channels_updated;
CREATE TRIGGER channels_updated AFTER UPDATE ON channels FOR EACH ROW
BEGIN
  IF NOT (NEW.name <=> OLD.name AND NEW.url <=> OLD.url AND NEW.is_active <=> OLD.is_active
    AND NEW.max_per_minute <=> OLD.max_per_minute AND NEW.quiet_hours <=> OLD.quiet_hours
    AND NEW.quiet_timezone <=> OLD.quiet_timezone AND NEW.wants_state_changes <=> OLD.wants_state_changes) THEN
    UPDATE rules_version SET version = version + 1 WHERE id = 1;
  END IF;
END;
-- How far a room was read says nothing of another room.
DROP TRIGGER IF EXISTS channels_moved;
CREATE TRIGGER channels_moved BEFORE UPDATE ON channels FOR EACH ROW
BEGIN
  IF NEW.url <> OLD.url THEN
    SET NEW.inbox_cursor = NULL;
  END IF;
END;
DROP TRIGGER IF EXISTS channels_deleted;
CREATE TRIGGER channels_deleted AFTER DELETE ON channels FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS routes_inserted;
CREATE TRIGGER routes_inserted AFTER INSERT ON routes FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS routes_updated;
CREATE TRIGGER routes_updated AFTER UPDATE ON routes FOR EACH ROW
BEGIN
  IF NOT (NEW.severity <=> OLD.severity AND NEW.selector <=> OLD.selector
    AND NEW.recipients <=> OLD.recipients AND NEW.after_minutes <=> OLD.after_minutes
    AND NEW.unless_acknowledged <=> OLD.unless_acknowledged AND NEW.sort_order <=> OLD.sort_order
    AND NEW.is_active <=> OLD.is_active) THEN
    UPDATE rules_version SET version = version + 1 WHERE id = 1;
  END IF;
END;
DROP TRIGGER IF EXISTS routes_deleted;
CREATE TRIGGER routes_deleted AFTER DELETE ON routes FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS silences_inserted;
CREATE TRIGGER silences_inserted AFTER INSERT ON silences FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS silences_updated;
CREATE TRIGGER silences_updated AFTER UPDATE ON silences FOR EACH ROW
BEGIN
  IF NOT (NEW.monitor_id <=> OLD.monitor_id AND NEW.selector <=> OLD.selector
    AND NEW.starts_at <=> OLD.starts_at AND NEW.ends_at <=> OLD.ends_at AND NEW.schedule <=> OLD.schedule
    AND NEW.timezone <=> OLD.timezone AND NEW.duration_minutes <=> OLD.duration_minutes) THEN
    UPDATE rules_version SET version = version + 1 WHERE id = 1;
  END IF;
END;
DROP TRIGGER IF EXISTS silences_deleted;
CREATE TRIGGER silences_deleted AFTER DELETE ON silences FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS dependencies_inserted;
CREATE TRIGGER dependencies_inserted AFTER INSERT ON dependencies FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS dependencies_updated;
CREATE TRIGGER dependencies_updated AFTER UPDATE ON dependencies FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;
DROP TRIGGER IF EXISTS dependencies_deleted;
CREATE TRIGGER dependencies_deleted AFTER DELETE ON dependencies FOR EACH ROW
  UPDATE rules_version SET version = version + 1 WHERE id = 1;

-- What was decided and tried for each notification, in order.
CREATE TABLE IF NOT EXISTS notification_events (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  notification_id BIGINT NOT NULL,
  at DATETIME(3) NOT NULL,
  event VARCHAR(20) NOT NULL,
  detail LONGTEXT,
  KEY notification_events_by_notification (notification_id, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;
DROP TRIGGER IF EXISTS notifications_deleted;
CREATE TRIGGER notifications_deleted AFTER DELETE ON notifications FOR EACH ROW
  DELETE FROM notification_events WHERE notification_id = OLD.id;

-- Tells installations apart: keys made of names and times alone would be the same in two of them.
CREATE TABLE IF NOT EXISTS installation (
  id BIGINT NOT NULL PRIMARY KEY,
  uuid VARCHAR(100) NOT NULL,
  -- A name that all nodes of an installation share: a node that is configured for another one is refused.
  name VARCHAR(255) NOT NULL DEFAULT 'watchbell',
  CONSTRAINT installation_has_one_row CHECK (id = 1)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;
INSERT IGNORE INTO installation (id, uuid) VALUES (1, UUID());
