\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

-- Jobs: what error messages say is for members of the owner only, and ends of a worker are counted.

ALTER TABLE upkeep._job ADD COLUMN reason_detail text;
ALTER TABLE upkeep._job_slot
    ADD COLUMN wait_detail text,
    ADD COLUMN ends integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_starts integer NOT NULL DEFAULT 0,
    ADD COLUMN ended_at timestamptz;

-- Reasons in which 0.5.0 has put what an error said: which of them did cannot be told from the others.
UPDATE upkeep._job SET reason = 'waits', reason_detail = reason
WHERE reason IS NOT NULL AND reason OPERATOR(pg_catalog.<>) 'restored'
  AND state OPERATOR(pg_catalog.<>) 'paused';
UPDATE upkeep._job_slot SET wait_reason = 'waits', wait_detail = wait_reason WHERE wait_reason IS NOT NULL;

CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND s.all_wait THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.run_between IS NOT NULL
                 AND j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' THEN CASE WHEN s.all_wait THEN s.wait_reason END
            WHEN k.own AND j.reason IS NOT NULL THEN pg_catalog.concat_ws(': ', j.reason, j.reason_detail)
            ELSE j.reason END AS wait_reason,
       p.percent,
       pg_catalog.concat('[', pg_catalog.repeat('#', (p.percent OPERATOR(pg_catalog./) 5)::integer),
                         pg_catalog.repeat('.', 20 OPERATOR(pg_catalog.-) (p.percent OPERATOR(pg_catalog./) 5)::integer), ']') AS bar,
       s.rows_done,
       j.rows_estimate,
       s.rows_per_second,
       CASE WHEN j.state OPERATOR(pg_catalog.=) 'running' AND s.units_per_second OPERATOR(pg_catalog.>) 0 THEN
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs =>
               greatest(j.units_total OPERATOR(pg_catalog.-) s.units_done, 0) OPERATOR(pg_catalog./) s.units_per_second)
       END AS eta,
       coalesce(j.finished_at, CASE WHEN j.live THEN pg_catalog.clock_timestamp() END)
           OPERATOR(pg_catalog.-) j.started_at AS elapsed,
       j.workers,
       s.batch_rows,
       j.strategy,
       j.rows_left,
       (SELECT pg_catalog.count(*) FROM upkeep._backfill_row q
        WHERE q.job OPERATOR(pg_catalog.=) j.id AND q.state OPERATOR(pg_catalog.=) 'quarantined') AS quarantined,
       CASE WHEN k.own THEN j.error_message END AS error,
       coalesce(r.rolname, j.owner_name) AS owner,
       j.created_at, j.started_at, j.finished_at,
       nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
           'run_between', j.run_between, 'timezone', j.timezone, 'max_replica_lag', j.max_replica_lag,
           'max_replica_lag_bytes', j.max_replica_lag_bytes, 'max_wal_rate', j.max_wal_rate,
           'throttle_work_ratio', j.throttle_work_ratio)), '{}') AS limits
FROM (SELECT i.*, i.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) AS live FROM upkeep._job i) j
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(j.owner, 'USAGE') AS own,
           upkeep._is_here(j.system_identifier, j.database) AS here) k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(t.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(t.units_done), 0) AS units_done,
           pg_catalog.max(t.batch_rows) AS batch_rows,
           pg_catalog.sum(t.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS rows_per_second,
           pg_catalog.sum(t.units_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS units_per_second,
           pg_catalog.min(CASE WHEN k.own AND t.wait_reason IS NOT NULL
                               THEN pg_catalog.concat_ws(': ', t.wait_reason, t.wait_detail)
                               ELSE t.wait_reason END) AS wait_reason,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL) FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait
    FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id) s
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100::double precision
                WHEN j.units_total OPERATOR(pg_catalog.>) 0
                THEN least(100, 100 OPERATOR(pg_catalog.*) s.units_done OPERATOR(pg_catalog./) j.units_total)
                ELSE 0 END AS percent) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) j.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();

CREATE OR REPLACE VIEW upkeep.schedule_runs WITH (security_barrier) AS
SELECT u.schedule, s.name, u.job, u.due_at,
       coalesce(u.started_at, j.started_at) AS started_at,
       coalesce(u.finished_at, j.finished_at) AS finished_at,
       coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out' ELSE j.state END, 'failed') AS status,
       u.due_times,
       CASE WHEN u.finished_at IS NULL THEN (j.params OPERATOR(pg_catalog.->>) 'retries')::integer OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1
            ELSE u.attempts END AS attempt,
       CASE WHEN u.finished_at IS NULL
            THEN (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id)
            ELSE u.rows_done END AS rows,
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '')) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(s.owner, 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
