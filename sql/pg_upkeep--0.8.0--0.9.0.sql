-- From 0.8.0: jobs go as fast as the application lets them.
\echo Use "ALTER EXTENSION pg_upkeep UPDATE TO '0.9.0'" to load this file. \quit

ALTER TABLE upkeep._job ADD max_slowdown double precision;
ALTER TABLE upkeep._job_slot ADD lately_time double precision NOT NULL DEFAULT 0,
    ADD lately_units double precision NOT NULL DEFAULT 0,
    ADD lately_rows double precision NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND (s.all_wait OR l.stands) THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.parked OPERATOR(pg_catalog.<>) 'woken'
                 AND (j.not_before IS NULL OR j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running'
            THEN CASE WHEN s.all_wait THEN s.wait_reason WHEN l.stands THEN w.reason ELSE s.pace END
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND (j.reason IS NULL OR w.reason IS NOT NULL AND j.parked IS NOT NULL)
            THEN w.reason
            WHEN k.own AND j.reason IS NOT NULL THEN pg_catalog.concat_ws(': ', j.reason, j.reason_detail)
            ELSE j.reason END AS wait_reason,
       p.percent,
       pg_catalog.concat('[', pg_catalog.repeat('#', (p.percent OPERATOR(pg_catalog./) 5)::integer),
                         pg_catalog.repeat('.', 20 OPERATOR(pg_catalog.-) (p.percent OPERATOR(pg_catalog./) 5)::integer), ']') AS bar,
       s.rows_done OPERATOR(pg_catalog.+) c.rows_done AS rows_done,
       j.rows_estimate,
       s.rows_per_second,
       CASE WHEN j.state OPERATOR(pg_catalog.=) 'running' AND NOT l.stands AND NOT s.all_wait
                 AND s.units_per_second OPERATOR(pg_catalog.>) 0 THEN
           -- What goes nowhere ends in a century.
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => least(
               greatest(j.units_total OPERATOR(pg_catalog.-) s.units_done, 0) OPERATOR(pg_catalog./) s.units_per_second, 3155760000))
       END AS eta,
       coalesce(j.finished_at, CASE WHEN j.live THEN pg_catalog.clock_timestamp() END)
           OPERATOR(pg_catalog.-) j.started_at AS elapsed,
       j.workers,
       s.batch_rows,
       j.strategy,
       j.rows_left,
       (SELECT pg_catalog.count(*) FROM upkeep._backfill_row q
        WHERE q.job OPERATOR(pg_catalog.=) j.id AND q.state OPERATOR(pg_catalog.=) 'quarantined')
           OPERATOR(pg_catalog.+) c.quarantined AS quarantined,
       CASE WHEN k.own THEN j.error_message END AS error,
       coalesce(r.rolname, j.owner_name) AS owner,
       j.created_at, j.started_at, j.finished_at,
       nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
           'run_between', j.run_between, 'timezone', j.timezone, 'max_replica_lag', j.max_replica_lag,
           'max_replica_lag_bytes', j.max_replica_lag_bytes, 'max_wal_rate', j.max_wal_rate,
           'throttle_work_ratio', j.throttle_work_ratio, 'max_slowdown', j.max_slowdown)), '{}') AS limits,
       j.parent
FROM (SELECT i.*, i.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) AS live FROM upkeep._job i) j
CROSS JOIN LATERAL (
    SELECT o.owner, pg_catalog.pg_has_role(o.owner, 'USAGE') AS own,
           upkeep._is_here(j.system_identifier, j.database) AS here
    FROM (SELECT upkeep._owner(j.system_identifier, j.owner, j.owner_name) AS owner) o) k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(t.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(t.units_done), 0) AS units_done,
           pg_catalog.max(t.batch_rows) AS batch_rows,
           pg_catalog.sum(y.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) y.ms) AS rows_per_second,
           pg_catalog.sum(y.units_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) y.ms) AS units_per_second,
           pg_catalog.min(CASE WHEN k.own AND t.wait_reason IS NOT NULL
                               THEN pg_catalog.concat_ws(': ', t.wait_reason, t.wait_detail)
                               ELSE coalesce(t.wait_reason, v.reason) END) AS wait_reason,
           pg_catalog.min(CASE WHEN k.own AND t.pid IS NOT NULL AND t.wait_reason IS NULL THEN t.wait_detail END) AS pace,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL OR v.reason IS NOT NULL)
                        FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait,
           pg_catalog.count(t.pid) AS attended
    FROM upkeep._job_slot t
    CROSS JOIN LATERAL (SELECT j.live AND t.lately_time OPERATOR(pg_catalog.>) 0 AS of_lately) z
    -- What it says itself comes first. Asked once.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.pid IS NOT NULL AND t.wait_reason IS NULL AND j.state OPERATOR(pg_catalog.=) 'running'
                    THEN upkeep._executor_waits_for(t.pid, t.backend_start) END AS reason
        OFFSET 0) v
    -- What its speed goes by: the last half minute, or all of its time when it has ended.
    CROSS JOIN LATERAL (
        SELECT t.lately_rows AS rows_done, t.lately_units AS units_done, t.lately_time AS ms WHERE z.of_lately
        UNION ALL
        SELECT t.rows_done, t.units_done, nullif(greatest(t.wall_time, t.busy_time), 0) WHERE NOT z.of_lately) y
    WHERE t.job OPERATOR(pg_catalog.=) j.id) s
-- Once, and not for each job.
CROSS JOIN (SELECT upkeep._standstill() AS reason OFFSET 0) w
CROSS JOIN LATERAL (SELECT w.reason IS NOT NULL AND (s.attended OPERATOR(pg_catalog.=) 0 OR pg_catalog.pg_is_in_recovery()) AS stands) l
-- What its children have done, and theirs: which part of the job's work (0..1) each has. What is done stands for itself and for all
-- below it.
CROSS JOIN LATERAL (
    WITH RECURSIVE family (id, share, given, above, state, units_total, depth) AS (
        SELECT i.id, coalesce(i.share, 0), coalesce(i.share, 0), false, i.state, i.units_total, 1
        FROM upkeep._job i WHERE i.parent OPERATOR(pg_catalog.=) j.id
        UNION ALL
        SELECT i.id, f.share OPERATOR(pg_catalog.*) coalesce(i.share, 0), 0, f.above OR f.state OPERATOR(pg_catalog.=) 'done',
               i.state, i.units_total, f.depth OPERATOR(pg_catalog.+) 1
        FROM upkeep._job i JOIN family f ON i.parent OPERATOR(pg_catalog.=) f.id
        WHERE f.depth OPERATOR(pg_catalog.<) 100)
    SELECT coalesce(pg_catalog.sum(d.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(q.quarantined), 0)::bigint AS quarantined,
           coalesce(pg_catalog.sum(CASE
               WHEN f.above THEN 0
               WHEN f.state OPERATOR(pg_catalog.=) 'done' THEN f.share
               WHEN f.units_total OPERATOR(pg_catalog.>) 0
               THEN f.share OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) g.given)
                    OPERATOR(pg_catalog.*) least(1, d.units_done OPERATOR(pg_catalog./) f.units_total)
               ELSE 0 END), 0) AS part,
           -- What it has given to its children is not its own.
           1 OPERATOR(pg_catalog.-) least(1, coalesce(pg_catalog.sum(f.given), 0)) AS own
    FROM family f
    CROSS JOIN LATERAL (
        SELECT coalesce(pg_catalog.sum(t.rows_done), 0) AS rows_done, coalesce(pg_catalog.sum(t.units_done), 0) AS units_done
        FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) f.id) d
    CROSS JOIN LATERAL (
        SELECT least(1, coalesce(pg_catalog.sum(h.share), 0)) AS given FROM upkeep._job h
        WHERE h.parent OPERATOR(pg_catalog.=) f.id) g
    CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS quarantined FROM upkeep._backfill_row r
        WHERE r.job OPERATOR(pg_catalog.=) f.id AND r.state OPERATOR(pg_catalog.=) 'quarantined') q) c
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100::double precision
                ELSE least(100, 100 OPERATOR(pg_catalog.*) (c.part OPERATOR(pg_catalog.+)
                     CASE WHEN j.units_total OPERATOR(pg_catalog.>) 0
                          THEN c.own OPERATOR(pg_catalog.*) least(1, s.units_done OPERATOR(pg_catalog./) j.units_total)
                          ELSE 0 END)) END AS percent) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) k.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.jobs IS
'Jobs of this database: state, progress, speed, error. Made for \watch. Rows: the caller''s roles'' jobs; '
'all for pg_monitor and upkeep.admin_role. elapsed counts from the first start; rows_per_second is that of the last half '
'minute, waits included, workers added up; limits are the job''s own. rows_done, percent and quarantined have those of '
'its children in them.';

-- Two functions have one more argument, and one has one more column. They are changed where they are: who may call them still may, and
-- views and functions that call them go on (LAW 37). A stored call that lacks an argument gets its default, and a stored query reads the
-- columns that it knows.
CREATE FUNCTION upkeep._new_backfill(
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
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_backfill_0_9_wrapper';

CREATE FUNCTION upkeep._new_alter_job(
    job uuid,
    batch_time interval DEFAULT NULL,
    workers integer DEFAULT NULL,
    name text DEFAULT NULL,
    run_between text DEFAULT NULL,
    timezone text DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    max_replica_lag_bytes bigint DEFAULT NULL,
    max_wal_rate integer DEFAULT NULL,
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_job_0_9_wrapper';

CREATE FUNCTION upkeep._new_query_history(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    bucket interval DEFAULT '1 hour'::interval)
RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    mean_time double precision,
    min_time double precision,
    max_time double precision,
    p50_time double precision,
    p95_time double precision,
    p99_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    shared_blks_hit bigint,
    blks_read bigint,
    blks_written bigint,
    temp_blks_read bigint,
    temp_blks_written bigint,
    blk_read_time double precision,
    blk_write_time double precision,
    wal_bytes bigint,
    jit_time double precision,
    lossy boolean,
    query text,
    jobs integer
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_history_0_9_wrapper';

UPDATE pg_catalog.pg_proc p
SET pronargs = n.pronargs, pronargdefaults = n.pronargdefaults, proargtypes = n.proargtypes, proallargtypes = n.proallargtypes,
    proargmodes = n.proargmodes, proargnames = n.proargnames, proargdefaults = n.proargdefaults, prosrc = n.prosrc
FROM pg_catalog.pg_proc n
WHERE p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace::pg_catalog.oid
  AND p.proname OPERATOR(pg_catalog.=) ANY (ARRAY['backfill', 'alter_job', 'query_history']::pg_catalog.name[])
  AND n.pronamespace OPERATOR(pg_catalog.=) p.pronamespace AND n.probin OPERATOR(pg_catalog.=) p.probin
  AND n.proname::pg_catalog.text OPERATOR(pg_catalog.=) ('_new_' OPERATOR(pg_catalog.||) p.proname::pg_catalog.text);

DROP FUNCTION upkeep._new_backfill;
DROP FUNCTION upkeep._new_alter_job;
DROP FUNCTION upkeep._new_query_history;

COMMENT ON FUNCTION upkeep.backfill(regclass, text, text, text, integer, interval, text, boolean, boolean, jsonb, boolean, text,
                                    text, interval, bigint, integer, double precision, double precision) IS
'Fills columns of a table, of all partitions or of all children in the background and returns the job. '
'assignments: what follows SET; condition: the rows that still need it (default: every row, exactly once, '
'which needs a key); batch_time: length of one transaction (default upkeep.batch_time); on_error: quarantine or stop; '
'options: strategy, range_blocks, strides, window_ranges, max_quarantined, vacuum, touch_stamps; '
'fill_new_rows: rows that others write meanwhile are filled by a trigger (needs TRIGGER, a condition and plpgsql). '
'Runs as the caller. Errors: 42601 in a fragment, 22023 wrong argument, 55006 a column is being filled already, '
'42710 name in use, 42501 a privilege is missing on the table or a partition, 55000 no key or a publication that '
'refuses the update, 0A000 not a table for it.';

COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision,
                                     double precision) IS
'Changes an unfinished job, also while it runs, and the limits of its children; null keeps what is. '
'batch_time 10 ms to 60 s, workers 1 to 64; '
'run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; '
'the rest tightens the settings of these names (kB/s, 0..1, 1.01 and more). 0 takes a limit away again, and has batch_time follow '
'the setting. Owner''s members. 22023 a value out of range.';

COMMENT ON FUNCTION upkeep.query_history(timestamptz, timestamptz, interval) IS
'What each statement cost, bucket by bucket (at least 1 minute; buckets of a day begin at midnight UTC), '
'from the stored history of this database. Times in ms; percentiles are at most 11.1 % off; '
'started_at and finished_at are those of what is stored within the bucket, and may reach beyond it where only coarser '
'history is kept. Blocks, wal_bytes and jit_time come from pg_stat_statements, if it is there; '
'lossy: it forgot some meanwhile, or a restart cut the interval short. queryid 0 is what could not be kept apart. '
'queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of '
'pg_read_all_stats. jobs: how many jobs of this database that you see were under way then. '
'Errors: 22004 an argument is null, 22023 until is not after since, or no such bucket.';
