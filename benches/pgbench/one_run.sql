-- One run in one transaction, as somebody would write it by hand: what `cargo bench --bench saturation` is compared with.
-- benches/servers.sh benches/pgbench/compare.sh
\set monitor random(1, :monitors)
BEGIN;
UPDATE monitors SET write_seq = write_seq + 1, state = 'ok', consecutive_ok_count = 0, last_tick_at = now(),
  last_run_at = now(), last_result_message = 'fine', next_run_at = now() + interval '1 minute' WHERE id = :monitor;
INSERT INTO monitor_runs (monitor_id, cause, tick_at, started_at, duration_ms, is_ok, message, state_before, state_after, node)
  VALUES (:monitor, 'schedule', now(), now(), 2, 1, 'fine', 'ok', 'ok', 'bench');
COMMIT;
