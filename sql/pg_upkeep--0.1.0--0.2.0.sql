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
'Fills columns of a table, of all partitions or of all children in the background and returns the job. assignments: what follows SET; condition: the rows that still need it (default: every row, exactly once, which needs a key); batch_time: length of one transaction (default upkeep.batch_time); on_error: quarantine or stop; options: strategy, range_blocks, strides, window_ranges, max_quarantined, vacuum; fill_new_rows: rows that others write meanwhile are filled by a trigger (needs TRIGGER, a condition and plpgsql). Runs as the caller. Errors: 42601 in a fragment, 22023 wrong argument, 55006 a column is being filled already, 42710 name in use, 42501 a privilege is missing on the table or a partition, 55000 no key or a publication that refuses the update, 0A000 not a table for it.';

-- Partitioned tables: a backfill has a list of tables; what was one cursor belongs to the first of them.
-- The tables of a backfill, one with an ordinary target, all leaves of a tree: what its workers share of each.
CREATE TABLE upkeep._backfill_table (
    job uuid NOT NULL REFERENCES upkeep._job ON DELETE CASCADE,
    number integer NOT NULL,
    relid oid NOT NULL,
    -- Quoted and qualified: a dump restored elsewhere meets other OIDs (LAW 20).
    relname text NOT NULL,
    -- Its part of the job's units.
    weight double precision NOT NULL,
    -- gone: dropped or taken out of the tree meanwhile.
    state text NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'done', 'gone')),
    -- Others have locked its last rows: it rests until then.
    not_before timestamptz,
    shared jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, number)
);
CREATE INDEX _backfill_table_todo ON upkeep._backfill_table (job, weight, number) WHERE state = 'todo';
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_table', '');

INSERT INTO upkeep._backfill_table (job, number, relid, relname, weight, state, shared)
SELECT j.id, 1, coalesce(j.relid, 0::oid), j.target, 100,
       CASE WHEN (j.shared OPERATOR(pg_catalog.->>) 'rows_left') IS NULL THEN 'todo' ELSE 'done' END,
       j.shared OPERATOR(pg_catalog.-) 'again'
FROM upkeep._job j
WHERE j.kind OPERATOR(pg_catalog.=) 'backfill' AND j.shared OPERATOR(pg_catalog.?) 'phase';

UPDATE upkeep._job_slot s SET cursor = s.cursor OPERATOR(pg_catalog.||) '{"table": 1}'
FROM upkeep._job j
WHERE j.id OPERATOR(pg_catalog.=) s.job AND j.kind OPERATOR(pg_catalog.=) 'backfill' AND s.cursor IS NOT NULL;

UPDATE upkeep._job j SET shared = pg_catalog.jsonb_build_object(
    'started', true, 'weight', 100, 'again', j.shared OPERATOR(pg_catalog.->) 'again')
WHERE j.kind OPERATOR(pg_catalog.=) 'backfill' AND j.shared OPERATOR(pg_catalog.?) 'phase';

ALTER TABLE upkeep._backfill_row
    DROP CONSTRAINT _backfill_row_pkey,
    ADD PRIMARY KEY (job, relid, row_key);

-- fill_new_rows
CREATE FUNCTION upkeep._is_filling(uuid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_is_filling';
COMMENT ON FUNCTION upkeep._is_filling(uuid) IS
'Private: is this process at work on that job? Keeps the trigger of fill_new_rows off what the job itself updates.';
