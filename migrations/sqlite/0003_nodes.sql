-- Several nodes over one database (on SQLite one serves at a time), and history that is rolled up.

-- Which kinds the node knows (a JSON array of names), which monitors it has and how late their checks began lately,
-- how far its own clock was from the database's, and which settings it runs with that must be the same everywhere.
ALTER TABLE nodes ADD COLUMN kinds TEXT NOT NULL DEFAULT '[]';
ALTER TABLE nodes ADD COLUMN monitor_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN lateness_p99_ms INTEGER;
ALTER TABLE nodes ADD COLUMN clock_skew_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';

-- A name that all nodes of an installation share: a node that is configured for another one is refused.
ALTER TABLE installation ADD COLUMN name TEXT NOT NULL DEFAULT 'watchbell';

-- One row for each monitor and hour (day) with runs. What is in them is kept longer than the runs.
CREATE TABLE monitor_run_hours (
  monitor_id INTEGER NOT NULL,
  starts_at TEXT NOT NULL,
  runs INTEGER NOT NULL,
  failed_runs INTEGER NOT NULL,
  duration_ms_total INTEGER NOT NULL,
  duration_ms_max INTEGER NOT NULL,
  lateness_ms_max INTEGER,
  PRIMARY KEY (monitor_id, starts_at)
) WITHOUT ROWID;
CREATE INDEX monitor_run_hours_by_start ON monitor_run_hours (starts_at);
CREATE TABLE monitor_run_days (
  monitor_id INTEGER NOT NULL,
  starts_at TEXT NOT NULL,
  runs INTEGER NOT NULL,
  failed_runs INTEGER NOT NULL,
  duration_ms_total INTEGER NOT NULL,
  duration_ms_max INTEGER NOT NULL,
  lateness_ms_max INTEGER,
  PRIMARY KEY (monitor_id, starts_at)
) WITHOUT ROWID;
CREATE INDEX monitor_run_days_by_start ON monitor_run_days (starts_at);

-- How far history is rolled up: the beginning of the first hour and day that are not, and the monitor after which the
-- hour that is being rolled up goes on. NULL: nothing is yet. And which node keeps history in order, until when: others
-- leave it to that one.
CREATE TABLE rollup_progress (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  hours_until TEXT,
  hours_after_monitor INTEGER NOT NULL DEFAULT 0,
  days_until TEXT,
  days_after_monitor INTEGER NOT NULL DEFAULT 0,
  taken_by TEXT,
  taken_until TEXT
);
INSERT INTO rollup_progress (id) VALUES (1);
