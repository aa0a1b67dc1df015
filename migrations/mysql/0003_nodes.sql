-- History that is rolled up. Every statement may be run again. What this step adds to `nodes` and `installation` on
-- SQLite stands in 0001_core.sql and 0002_delivery.sql here.

-- One row for each monitor and hour (day) with runs. What is in them is kept longer than the runs.
CREATE TABLE IF NOT EXISTS monitor_run_hours (
  monitor_id BIGINT NOT NULL,
  starts_at DATETIME(3) NOT NULL,
  runs INTEGER NOT NULL,
  failed_runs INTEGER NOT NULL,
  duration_ms_total BIGINT NOT NULL,
  duration_ms_max BIGINT NOT NULL,
  lateness_ms_max BIGINT,
  PRIMARY KEY (monitor_id, starts_at),
  KEY monitor_run_hours_by_start (starts_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;
CREATE TABLE IF NOT EXISTS monitor_run_days (
  monitor_id BIGINT NOT NULL,
  starts_at DATETIME(3) NOT NULL,
  runs INTEGER NOT NULL,
  failed_runs INTEGER NOT NULL,
  duration_ms_total BIGINT NOT NULL,
  duration_ms_max BIGINT NOT NULL,
  lateness_ms_max BIGINT,
  PRIMARY KEY (monitor_id, starts_at),
  KEY monitor_run_days_by_start (starts_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;

-- How far history is rolled up: the beginning of the first hour and day that are not, and the monitor after which the
-- hour that is being rolled up goes on. NULL: nothing is yet. And which node keeps history in order, until when: others
-- leave it to that one.
CREATE TABLE IF NOT EXISTS rollup_progress (
  id BIGINT NOT NULL PRIMARY KEY,
  hours_until DATETIME(3),
  hours_after_monitor BIGINT NOT NULL DEFAULT 0,
  days_until DATETIME(3),
  days_after_monitor BIGINT NOT NULL DEFAULT 0,
  taken_by VARCHAR(255),
  taken_until DATETIME(3),
  CONSTRAINT rollup_progress_has_one_row CHECK (id = 1)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = /*!80017 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */;
INSERT IGNORE INTO rollup_progress (id) VALUES (1);
