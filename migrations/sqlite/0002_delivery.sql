-- Channels, routes, silences, dependencies, and what the outbox needs to plan, merge and explain.

CREATE TABLE channels (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  url TEXT NOT NULL,
  is_active INTEGER NOT NULL DEFAULT 1,
  max_per_minute INTEGER,
  quiet_hours TEXT,
  quiet_timezone TEXT,
  wants_state_changes INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  config_error TEXT,
  inbox_cursor TEXT,
  CONSTRAINT name_has_1_to_100_characters_and_no_at_sign CHECK (typeof(name) = 'text'
    AND length(CAST(name AS BLOB)) BETWEEN 1 AND 100 AND instr(name, '@') = 0 AND trim(name) = name),
  CONSTRAINT url_has_1_to_10000_characters CHECK (typeof(url) = 'text' AND length(CAST(url AS BLOB)) BETWEEN 1 AND 10000),
  CONSTRAINT is_active_is_0_or_1 CHECK (is_active IN (0, 1)),
  CONSTRAINT max_per_minute_is_1_or_more CHECK (max_per_minute IS NULL
    OR (typeof(max_per_minute) = 'integer' AND max_per_minute BETWEEN 1 AND 100000)),
  CONSTRAINT quiet_hours_is_a_text CHECK (quiet_hours IS NULL
    OR (typeof(quiet_hours) = 'text' AND length(CAST(quiet_hours AS BLOB)) <= 100)),
  CONSTRAINT quiet_timezone_is_a_text CHECK (quiet_timezone IS NULL
    OR (typeof(quiet_timezone) = 'text' AND length(CAST(quiet_timezone AS BLOB)) <= 100)),
  CONSTRAINT wants_state_changes_is_0_or_1 CHECK (wants_state_changes IN (0, 1))
);

CREATE TABLE routes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  severity TEXT,
  selector TEXT,
  recipients TEXT NOT NULL,
  after_minutes INTEGER NOT NULL DEFAULT 0,
  unless_acknowledged INTEGER NOT NULL DEFAULT 0,
  sort_order INTEGER NOT NULL DEFAULT 0,
  is_active INTEGER NOT NULL DEFAULT 1,
  config_error TEXT,
  CONSTRAINT severity_is_critical_warning_or_info CHECK (severity IS NULL OR severity IN ('critical', 'warning', 'info')),
  CONSTRAINT selector_has_at_most_2000_characters CHECK (selector IS NULL
    OR (typeof(selector) = 'text' AND length(CAST(selector AS BLOB)) <= 2000)),
  CONSTRAINT recipients_is_a_json_array_of_at_most_64_kib CHECK (typeof(recipients) = 'text'
    AND length(CAST(recipients AS BLOB)) <= 65536 AND json_valid(recipients) AND json_type(recipients) = 'array'),
  CONSTRAINT after_minutes_is_0_to_525600
    CHECK (typeof(after_minutes) = 'integer' AND after_minutes BETWEEN 0 AND 525600),
  CONSTRAINT unless_acknowledged_is_0_or_1 CHECK (unless_acknowledged IN (0, 1)),
  CONSTRAINT sort_order_is_a_whole_number CHECK (typeof(sort_order) = 'integer'),
  CONSTRAINT is_active_is_0_or_1 CHECK (is_active IN (0, 1))
);

CREATE TABLE silences (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  monitor_id INTEGER,
  selector TEXT,
  starts_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  ends_at TEXT,
  schedule TEXT,
  timezone TEXT,
  duration_minutes INTEGER,
  created_by TEXT,
  reason TEXT,
  -- The command that it was made by, so that the same one makes no second; NULL: by SQL.
  command_id TEXT,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  config_error TEXT,
  CONSTRAINT a_silence_names_a_monitor_id_or_a_selector CHECK (monitor_id IS NOT NULL OR selector IS NOT NULL),
  CONSTRAINT monitor_id_is_the_id_of_a_monitor CHECK (monitor_id IS NULL OR typeof(monitor_id) = 'integer'),
  CONSTRAINT selector_has_at_most_2000_characters CHECK (selector IS NULL
    OR (typeof(selector) = 'text' AND length(CAST(selector AS BLOB)) <= 2000)),
  CONSTRAINT a_silence_has_ends_at_or_a_schedule_with_duration_minutes
    CHECK ((schedule IS NULL AND ends_at IS NOT NULL) OR (schedule IS NOT NULL AND duration_minutes IS NOT NULL)),
  CONSTRAINT duration_minutes_is_1_to_525600 CHECK (duration_minutes IS NULL
    OR (typeof(duration_minutes) = 'integer' AND duration_minutes BETWEEN 1 AND 525600))
);
CREATE UNIQUE INDEX silences_one_for_each_command ON silences (command_id) WHERE command_id IS NOT NULL;

CREATE TRIGGER silences_times_on_insert AFTER INSERT ON silences BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE strftime('%s', NEW.starts_at) IS NULL OR NEW.starts_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
     OR (NEW.ends_at IS NOT NULL AND (strftime('%s', NEW.ends_at) IS NULL OR NEW.ends_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE silences SET
    starts_at = strftime('%Y-%m-%dT%H:%M:%fZ', starts_at),
    ends_at = strftime('%Y-%m-%dT%H:%M:%fZ', ends_at)
  WHERE id = NEW.id;
END;

CREATE TRIGGER silences_times_on_update AFTER UPDATE OF starts_at, ends_at ON silences
WHEN NEW.starts_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.starts_at)
  OR NEW.ends_at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.ends_at) BEGIN
  SELECT RAISE(ABORT, 'a time cannot be read; write it in UTC as 2026-11-21T21:00:00.000Z')
  WHERE strftime('%s', NEW.starts_at) IS NULL OR NEW.starts_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
     OR (NEW.ends_at IS NOT NULL AND (strftime('%s', NEW.ends_at) IS NULL OR NEW.ends_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'));
  UPDATE silences SET
    starts_at = strftime('%Y-%m-%dT%H:%M:%fZ', starts_at),
    ends_at = strftime('%Y-%m-%dT%H:%M:%fZ', ends_at)
  WHERE id = NEW.id;
END;

CREATE TABLE dependencies (
  child_id INTEGER NOT NULL,
  parent_id INTEGER NOT NULL,
  PRIMARY KEY (child_id, parent_id),
  CONSTRAINT child_id_and_parent_id_are_ids_of_monitors
    CHECK (typeof(child_id) = 'integer' AND typeof(parent_id) = 'integer'),
  CONSTRAINT a_monitor_does_not_depend_on_itself CHECK (child_id <> parent_id)
);
CREATE INDEX dependencies_by_parent ON dependencies (parent_id);

-- Counts edits of the four tables above, so that nodes see with one look whether what they know of them still holds.
CREATE TABLE rules_version (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
);
INSERT INTO rules_version (id, version) VALUES (1, 1);

CREATE TRIGGER channels_inserted AFTER INSERT ON channels BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER channels_updated AFTER UPDATE OF name, url, is_active, max_per_minute, quiet_hours, quiet_timezone, wants_state_changes ON channels
BEGIN UPDATE rules_version SET version = version + 1; END;
-- How far a room was read says nothing of another room.
CREATE TRIGGER channels_moved AFTER UPDATE OF url ON channels WHEN NEW.url IS NOT OLD.url
BEGIN UPDATE channels SET inbox_cursor = NULL WHERE id = NEW.id; END;
CREATE TRIGGER channels_deleted AFTER DELETE ON channels BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER routes_inserted AFTER INSERT ON routes BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER routes_updated AFTER UPDATE OF severity, selector, recipients, after_minutes, unless_acknowledged, sort_order, is_active ON routes
BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER routes_deleted AFTER DELETE ON routes BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER silences_inserted AFTER INSERT ON silences BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER silences_updated AFTER UPDATE OF monitor_id, selector, starts_at, ends_at, schedule, timezone, duration_minutes ON silences
BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER silences_deleted AFTER DELETE ON silences BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER dependencies_inserted AFTER INSERT ON dependencies BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER dependencies_updated AFTER UPDATE ON dependencies BEGIN UPDATE rules_version SET version = version + 1; END;
CREATE TRIGGER dependencies_deleted AFTER DELETE ON dependencies BEGIN UPDATE rules_version SET version = version + 1; END;

ALTER TABLE notifications ADD COLUMN facts TEXT NOT NULL DEFAULT '{}'
  CONSTRAINT facts_is_a_json_object CHECK (json_valid(facts) AND json_type(facts) = 'object');
ALTER TABLE notifications ADD COLUMN rule TEXT;
ALTER TABLE notifications ADD COLUMN origin TEXT;
ALTER TABLE notifications ADD COLUMN hold_reason TEXT;
-- When it was decided that it goes out by itself; NULL: not decided yet.
ALTER TABLE notifications ADD COLUMN planned_at TEXT;
-- A digest that must have been settled before this one is tried.
ALTER TABLE notifications ADD COLUMN waits_for INTEGER;
-- What the service calls the message, and the one that this one is edited into.
ALTER TABLE notifications ADD COLUMN external_id TEXT;
ALTER TABLE notifications ADD COLUMN edits_external_id TEXT;
-- The run that owes it; NULL where an edit by hand does, or none.
ALTER TABLE notifications ADD COLUMN run_id INTEGER;
-- What deliveries share: all mail is one lane, each channel is one. No channel can be called `@`.
ALTER TABLE notifications ADD COLUMN lane TEXT GENERATED ALWAYS AS (CASE WHEN instr(recipient, '@') > 0 THEN '@' ELSE recipient END) VIRTUAL;
UPDATE notifications SET planned_at = created_at, origin = 'monitor ' || monitor_id;

DROP INDEX notifications_unsettled;
DROP INDEX notifications_in_line;
CREATE INDEX notifications_unplanned ON notifications (id) WHERE status = 'pending' AND planned_at IS NULL;
CREATE INDEX notifications_held ON notifications (next_attempt_at, id) WHERE status = 'held';
CREATE INDEX notifications_held_by_recipient ON notifications (recipient, hold_reason, id) WHERE status = 'held';
CREATE INDEX notifications_recoveries_not_begun ON notifications (monitor_id, recipient, id)
  WHERE type = 'recovery' AND status IN ('held', 'pending') AND planned_at IS NULL;
CREATE INDEX notifications_lane ON notifications (lane, next_attempt_at, id) WHERE status IN ('pending', 'sending');
CREATE INDEX notifications_urgent ON notifications (lane, created_at, id)
  WHERE status = 'pending' AND attempts = 0 AND type = 'alert' AND severity = 'critical';
-- What is on its way: never many, whatever waits.
CREATE INDEX notifications_sending ON notifications (lane) WHERE status = 'sending';
-- Each recipient of a monitor has a line of messages; only its head is tried.
CREATE INDEX notifications_in_line ON notifications (monitor_id, recipient, id) WHERE status IN ('pending', 'sending');
CREATE INDEX notifications_by_recipient ON notifications (recipient, planned_at) WHERE planned_at IS NOT NULL;
CREATE INDEX notifications_unsettled_digests ON notifications (recipient, id)
  WHERE type = 'digest' AND status IN ('pending', 'sending');
CREATE INDEX notifications_merged ON notifications (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX notifications_by_run ON notifications (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX incidents_by_opening ON incidents (opened_at);

-- Why it told people, or did not, in words, as things stood then; NULL: there is nothing to say.
ALTER TABLE monitor_runs ADD COLUMN reason TEXT;

-- What was decided and tried for each notification, in order.
CREATE TABLE notification_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  notification_id INTEGER NOT NULL,
  at TEXT NOT NULL,
  event TEXT NOT NULL,
  detail TEXT
);
CREATE INDEX notification_events_by_notification ON notification_events (notification_id, id);
CREATE TRIGGER notifications_deleted AFTER DELETE ON notifications BEGIN
  DELETE FROM notification_events WHERE notification_id = OLD.id;
END;

-- Which command acknowledged it last, and the `acknowledged_at` that everybody was told of.
ALTER TABLE incidents ADD COLUMN acknowledgment_command TEXT;
ALTER TABLE incidents ADD COLUMN acknowledgment_told_at TEXT;
UPDATE incidents SET acknowledgment_told_at = acknowledged_at;
CREATE INDEX incidents_acknowledgment_untold ON incidents (recovered_at)
  WHERE recovered_at IS NULL AND acknowledged_at IS NOT NULL AND acknowledged_at IS NOT acknowledgment_told_at;

-- When the scheduler was last seen to advance while the outbox drained: what a second installation watches.
ALTER TABLE nodes ADD COLUMN heartbeat_at TEXT;

-- When it was given up; for looking at what failed lately.
ALTER TABLE notifications ADD COLUMN failed_at TEXT;
CREATE INDEX notifications_failed ON notifications (failed_at) WHERE status = 'failed';
CREATE INDEX notifications_of_channel_trouble ON notifications (origin, id) WHERE rule = 'channel trouble';

-- Tells installations apart: keys made of names and times alone would be the same in two of them.
CREATE TABLE installation (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  uuid TEXT NOT NULL
);
INSERT INTO installation (id, uuid) VALUES (1, lower(
  hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
  substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))));
