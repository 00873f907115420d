-- What people see of jobs. Views are security_barrier (LAW 5): states and figures for the
-- owner's members, pg_monitor and administrators; what contains data (errors, texts) for the owner's members only.

CREATE FUNCTION upkeep._is_admin() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_admin_wrapper';
COMMENT ON FUNCTION upkeep._is_admin() IS 'internal: may the caller pause, cancel and drop other people''s jobs (upkeep.admin_role)?';

CREATE FUNCTION upkeep._is_here(system_identifier bigint, database oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_here_wrapper';
COMMENT ON FUNCTION upkeep._is_here(bigint, oid) IS 'internal: does a job belong to this server and database, or did it come with a dump?';

CREATE FUNCTION upkeep._standstill() RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'standstill_wrapper';
COMMENT ON FUNCTION upkeep._standstill() IS 'internal: why no job runs in this database (null: they do)';

CREATE FUNCTION upkeep._executor_waits_for(pid integer, backend_start timestamptz) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'executor_waits_for_wrapper';
COMMENT ON FUNCTION upkeep._executor_waits_for(integer, timestamptz) IS 'internal: the lock that a worker waits for, and who has it';

CREATE VIEW upkeep.jobs WITH (security_barrier) AS
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

CREATE VIEW upkeep.job_steps WITH (security_barrier) AS
SELECT t.job, pg_catalog.row_number() OVER (PARTITION BY t.job ORDER BY t.path)::integer AS step_no,
       t.action,
       CASE WHEN k.own THEN t.statement END AS command,
       t.relid, t.schemaname, t.relname, t.lock_mode,
       CASE WHEN k.cut_off THEN 'failed' ELSE t.state END AS state, t.attempts,
       pg_catalog.round(t.lock_wait_time::pg_catalog.numeric, 3)::double precision AS lock_wait_time,
       pg_catalog.round(t.held_time::pg_catalog.numeric, 3)::double precision AS held_time,
       t.started_at, CASE WHEN k.cut_off THEN j.finished_at ELSE t.finished_at END AS finished_at, t.reversible,
       CASE WHEN k.own AND NOT k.cut_off THEN t.detail
            WHEN k.own AND j.state OPERATOR(pg_catalog.=) 'failed' THEN j.error_message
            WHEN k.own THEN j.state END AS detail
FROM upkeep._job_step t
JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) t.job
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE') AS own,
           -- The job has ended in the middle of this step, whose own transaction may have been the later one.
           t.state OPERATOR(pg_catalog.=) 'running'
               AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'canceled']) AS cut_off) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.job_steps IS
'The steps of each job that is a sequence, in order: what is planned, what is at work and what is done. '
'lock_mode: the strongest lock that a step takes; lock_wait_time, held_time: ms that it waited for locks and held them; '
'attempts: how often it was tried. command and detail are shown to members of the job''s owner.';

CREATE VIEW upkeep.job_events WITH (security_barrier) AS
SELECT e.job, e.happened_at, e.event,
       CASE WHEN k.own THEN e.detail END AS detail
FROM upkeep._job_event e
JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) e.job
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.job_events IS
'History of each job: every change of state, choice, wait, retry and error. '
'detail is shown to members of the job''s owner.';

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
COMMENT ON VIEW upkeep.throttle IS
'What may hold jobs back, as last measured while jobs ran: each figure, the server''s limit for it, '
'and whether it holds all jobs back now. Rows for members of pg_read_all_stats (pg_monitor) and of upkeep.admin_role; '
'nobody else sees any.';
GRANT SELECT ON upkeep.throttle TO PUBLIC;

CREATE FUNCTION upkeep._status() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'status_wrapper';
COMMENT ON FUNCTION upkeep._status() IS 'internal: the facts behind upkeep.status';

CREATE VIEW upkeep.status WITH (security_barrier) AS
SELECT s.f OPERATOR(pg_catalog.->>) 'workers' AS workers,
       (s.f OPERATOR(pg_catalog.->>) 'launcher_pid')::integer AS launcher_pid,
       (s.f OPERATOR(pg_catalog.->>) 'schedulers')::integer AS schedulers,
       (s.f OPERATOR(pg_catalog.->>) 'executors')::integer AS executors,
       (s.f OPERATOR(pg_catalog.->>) 'max_workers')::integer AS max_workers,
       (s.f OPERATOR(pg_catalog.->>) 'enabled')::boolean AS enabled,
       s.f OPERATOR(pg_catalog.->>) 'databases' AS databases,
       (SELECT pg_catalog.count(*) FROM upkeep.jobs j
        WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'waiting'])) AS running_jobs,
       (SELECT pg_catalog.count(*) FROM upkeep.jobs j WHERE j.state OPERATOR(pg_catalog.=) 'queued') AS queued_jobs,
       (SELECT pg_catalog.count(*) FROM upkeep.jobs j WHERE j.state OPERATOR(pg_catalog.=) 'paused') AS paused_jobs,
       s.f OPERATOR(pg_catalog.->>) 'advice' AS advice
FROM (SELECT upkeep._status() AS f) s;
COMMENT ON VIEW upkeep.status IS
'One row: are workers up (preloaded, dynamic, not running), how many work on this server, and in advice, '
'line by line, what was asked for and does not happen, and what to type. '
'Job counts are of the jobs the caller can see.';

GRANT SELECT ON upkeep.jobs, upkeep.job_events, upkeep.job_steps, upkeep.status TO PUBLIC;
