\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

ALTER TABLE upkeep._job
    ADD COLUMN max_replica_lag integer,
    ADD COLUMN max_replica_lag_bytes bigint,
    ADD COLUMN max_wal_rate integer,
    ADD COLUMN throttle_work_ratio double precision,
    ADD COLUMN run_between text,
    ADD COLUMN timezone text,
    ADD COLUMN needs_cleanup boolean NOT NULL DEFAULT false;

-- The same text, but the table it reads has more columns now.
CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND s.all_wait THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.run_between IS NOT NULL
                 AND j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' THEN CASE WHEN s.all_wait THEN s.wait_reason END
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
           pg_catalog.min(t.wait_reason) AS wait_reason,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL) FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait
    FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id) s
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100::double precision
                WHEN j.units_total OPERATOR(pg_catalog.>) 0
                THEN least(100, 100 OPERATOR(pg_catalog.*) s.units_done OPERATOR(pg_catalog./) j.units_total)
                ELSE 0 END AS percent) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) j.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.jobs IS 'Jobs of this database: state, progress, speed, error. Made for \watch. Rows: the caller''s roles'' jobs; all for pg_monitor and upkeep.admin_role. elapsed counts from the first start; rows_per_second is per second at work, workers added up; limits are the job''s own.';

-- Throttles: what is measured.
CREATE FUNCTION upkeep._throttle(
    OUT input text, OUT subject text, OUT value double precision, OUT threshold double precision, OUT unit text,
    OUT throttling boolean, OUT reason text, OUT age double precision
) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'throttle_wrapper';
COMMENT ON FUNCTION upkeep._throttle() IS 'internal: the facts behind upkeep.throttle';

CREATE VIEW upkeep.throttle WITH (security_barrier) AS
SELECT t.input, t.subject, t.value, t.threshold, t.unit, t.throttling, t.reason,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => t.age) AS sampled_at
FROM upkeep._throttle() t;
COMMENT ON VIEW upkeep.throttle IS 'What may hold jobs back, as last measured while jobs ran: each figure, the server''s limit for it, and whether it holds all jobs back now. Rows for members of pg_read_all_stats (pg_monitor) and of upkeep.admin_role; nobody else sees any.';
GRANT SELECT ON upkeep.throttle TO PUBLIC;

DROP FUNCTION upkeep.alter_job(uuid, interval, integer, text);
CREATE FUNCTION upkeep.alter_job(
    job uuid,
    batch_time interval DEFAULT NULL,
    workers integer DEFAULT NULL,
    name text DEFAULT NULL,
    run_between text DEFAULT NULL,
    timezone text DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    max_replica_lag_bytes bigint DEFAULT NULL,
    max_wal_rate integer DEFAULT NULL,
    throttle_work_ratio double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_job_0_2_wrapper';
COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision) IS
'Changes an unfinished job, also while it runs; null keeps what is. batch_time 10 ms to 60 s, workers 1 to 64; run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; the rest tightens the settings of these names (kB/s, 0..1). Owner''s members. 22023 a value out of range.';


DROP FUNCTION upkeep.backfill(regclass, text, text, text, integer, interval, text, boolean, boolean, jsonb);
CREATE FUNCTION upkeep.backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    name text DEFAULT NULL,
    workers integer DEFAULT 1,
    batch_time interval DEFAULT NULL,
    on_error text DEFAULT 'quarantine',
    paused boolean DEFAULT false,
    if_not_exists boolean DEFAULT false,
    options jsonb DEFAULT '{}',
    fill_new_rows boolean DEFAULT false,
    run_between text DEFAULT NULL,
    timezone text DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    max_replica_lag_bytes bigint DEFAULT NULL,
    max_wal_rate integer DEFAULT NULL,
    throttle_work_ratio double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_backfill_0_2_wrapper';
COMMENT ON FUNCTION upkeep.backfill(regclass, text, text, text, integer, interval, text, boolean, boolean, jsonb, boolean, text, text, interval, bigint, integer, double precision) IS
'Fills columns of a table in the background and returns the job. assignments: what follows SET; condition: the rows that still need it (default: every row, exactly once, which needs a key); batch_time: length of one transaction (default upkeep.batch_time); on_error: quarantine or stop; options: strategy, range_blocks, strides, window_ranges, max_quarantined. Runs as the caller. Errors: 42601 in a fragment, 22023 wrong argument, 55006 a column is being filled already, 42710 name in use, 0A000 not supported yet.';

