-- Several nodes over one database, and history that is rolled up, and forgotten a day at a time.

-- Which kinds the node knows (a JSON array of names), which monitors it has and how late their checks began lately,
-- how far its own clock was from the database's, and which settings it runs with that must be the same everywhere.
ALTER TABLE nodes ADD COLUMN kinds jsonb NOT NULL DEFAULT '[]';
ALTER TABLE nodes ADD COLUMN monitor_count integer NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN lateness_p99_ms bigint;
ALTER TABLE nodes ADD COLUMN clock_skew_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

-- A name that all nodes of an installation share: a node that is configured for another one is refused.
ALTER TABLE installation ADD COLUMN name text NOT NULL DEFAULT 'watchbell';

-- One row for each monitor and hour (day) with runs. What is in them is kept longer than the runs.
CREATE TABLE monitor_run_hours (
  monitor_id bigint NOT NULL,
  starts_at timestamptz(3) NOT NULL,
  runs integer NOT NULL,
  failed_runs integer NOT NULL,
  duration_ms_total bigint NOT NULL,
  duration_ms_max bigint NOT NULL,
  lateness_ms_max bigint,
  PRIMARY KEY (monitor_id, starts_at)
);
CREATE INDEX monitor_run_hours_by_start ON monitor_run_hours (starts_at);
CREATE TABLE monitor_run_days (
  monitor_id bigint NOT NULL,
  starts_at timestamptz(3) NOT NULL,
  runs integer NOT NULL,
  failed_runs integer NOT NULL,
  duration_ms_total bigint NOT NULL,
  duration_ms_max bigint NOT NULL,
  lateness_ms_max bigint,
  PRIMARY KEY (monitor_id, starts_at)
);
CREATE INDEX monitor_run_days_by_start ON monitor_run_days (starts_at);

-- How far history is rolled up: the beginning of the first hour and day that are not, and the monitor after which the
-- hour that is being rolled up goes on. NULL: nothing is yet. And which node keeps history in order, until when: others
-- leave it to that one.
CREATE TABLE rollup_progress (
  id bigint PRIMARY KEY CHECK (id = 1),
  hours_until timestamptz(3),
  hours_after_monitor bigint NOT NULL DEFAULT 0,
  days_until timestamptz(3),
  days_after_monitor bigint NOT NULL DEFAULT 0,
  taken_by text,
  taken_until timestamptz(3)
);
INSERT INTO rollup_progress (id) VALUES (1);

-- Makes the partitions of the days (in UTC) from `from_time` on that are missing, and returns how many. A day of which
-- runs lie in the default partition already stays there. Whoever comes second while another node is at it leaves it to
-- that one. Who writes runs waits for a moment then, so that is waited for only shortly; what cannot be made now is made
-- by a later call. Call it in a transaction of its own: the locks are held until the commit.
CREATE FUNCTION watchbell_make_run_partitions(from_time timestamptz, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '200ms' AS $$
DECLARE
  first_day timestamp := date_trunc('day', from_time AT TIME ZONE 'UTC');
  starts timestamptz;
  ends timestamptz;
  partition_name text;
  made integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('watchbell partitions in ' || current_schema(), 0)) THEN
    RETURN 0;
  END IF;
  -- At most two months ahead, whatever is asked for.
  FOR day IN 0 .. least(days, 62) - 1 LOOP
    starts := (first_day + make_interval(days => day)) AT TIME ZONE 'UTC';
    ends := (first_day + make_interval(days => day + 1)) AT TIME ZONE 'UTC';
    partition_name := 'monitor_runs_' || to_char(starts AT TIME ZONE 'UTC', 'YYYYMMDD');
    CONTINUE WHEN to_regclass(quote_ident(current_schema()) || '.' || quote_ident(partition_name)) IS NOT NULL
      OR EXISTS (SELECT 1 FROM monitor_runs_default WHERE started_at >= starts AND started_at < ends);
    BEGIN
      -- A run that was on its way to the default partition while this day is taken out of it would be refused.
      LOCK TABLE ONLY monitor_runs IN SHARE ROW EXCLUSIVE MODE;
      -- CREATE TABLE ... PARTITION OF would lock out who reads, too.
      EXECUTE format('CREATE TABLE %I (LIKE monitor_runs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name);
      EXECUTE format('ALTER TABLE monitor_runs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition_name, starts, ends);
      made := made + 1;
    EXCEPTION
      -- A run of that day came into the default partition meanwhile.
      WHEN check_violation THEN CONTINUE;
      WHEN lock_not_available OR deadlock_detected THEN EXIT;
    END;
  END LOOP;
  RETURN made;
END $$;

-- Drops the oldest partition of a whole day that ends at `before_time` or earlier, and returns how many went: 1 or 0.
-- Runs of an open incident are moved to the default partition, where they can be deleted one by one once it is over; a
-- day with too many of them stays as it is. To drop a partition locks the whole history for a moment, which is waited
-- for only shortly. It wants a transaction of its own, too; hence one at a time.
CREATE FUNCTION watchbell_drop_run_partitions(before_time timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '200ms' AS $$
DECLARE
  -- Moving them takes about a tenth of a second, while everybody waits.
  most_runs_to_move CONSTANT integer := 10000;
  partition_name text;
  ends timestamptz;
  needed_runs bigint[];
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('watchbell partitions in ' || current_schema(), 0)) THEN
    RETURN 0;
  END IF;
  FOR partition_name IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'monitor_runs'::regclass AND c.relname ~ '^monitor_runs_[0-9]{8}$' ORDER BY c.relname
  LOOP
    ends := (to_date(right(partition_name, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC';
    EXIT WHEN ends > before_time;
    -- Looked for before anything is locked, however long it takes: an incident that is opened meanwhile begins later.
    EXECUTE format(
      'SELECT array_agg(id) FROM (SELECT r.id FROM incidents i JOIN %I r ON r.monitor_id = i.monitor_id
         WHERE i.recovered_at IS NULL AND i.opened_at < $1 AND i.opened_at <= r.started_at LIMIT $2) needed',
      partition_name) INTO needed_runs USING ends, most_runs_to_move + 1;
    CONTINUE WHEN cardinality(needed_runs) > most_runs_to_move;
    BEGIN
      LOCK TABLE ONLY monitor_runs IN ACCESS EXCLUSIVE MODE;
      -- From here on everybody waits for us, so that we wait for nobody.
      EXECUTE format('LOCK TABLE %I, monitor_runs_default IN ACCESS EXCLUSIVE MODE NOWAIT', partition_name);
      IF needed_runs IS NOT NULL THEN
        EXECUTE format('ALTER TABLE monitor_runs DETACH PARTITION %I', partition_name);
        EXECUTE format('INSERT INTO monitor_runs SELECT * FROM %I WHERE id = ANY ($1)', partition_name)
          USING needed_runs;
      END IF;
      EXECUTE format('DROP TABLE %I', partition_name);
      RETURN 1;
    EXCEPTION
      WHEN lock_not_available OR deadlock_detected THEN RETURN 0;
    END;
  END LOOP;
  RETURN 0;
END $$;

-- As in the first step. These two functions are the service's to call; its role is given that right by whoever makes it.
DO $$
DECLARE
  ours regprocedure;
BEGIN
  FOR ours IN SELECT oid FROM pg_proc
    WHERE pronamespace = quote_ident(current_schema())::regnamespace AND proname LIKE 'watchbell\_%'
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', ours, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours);
  END LOOP;
END $$;

SELECT watchbell_make_run_partitions(now(), 7);
