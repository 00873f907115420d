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

CREATE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND (s.all_wait OR l.stands) THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.run_between IS NOT NULL
                 AND j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' THEN CASE WHEN s.all_wait THEN s.wait_reason WHEN l.stands THEN w.reason END
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.reason IS NULL THEN w.reason
            WHEN k.own AND j.reason IS NOT NULL THEN pg_catalog.concat_ws(': ', j.reason, j.reason_detail)
            ELSE j.reason END AS wait_reason,
       p.percent,
       pg_catalog.concat('[', pg_catalog.repeat('#', (p.percent OPERATOR(pg_catalog./) 5)::integer),
                         pg_catalog.repeat('.', 20 OPERATOR(pg_catalog.-) (p.percent OPERATOR(pg_catalog./) 5)::integer), ']') AS bar,
       s.rows_done,
       j.rows_estimate,
       s.rows_per_second,
       CASE WHEN j.state OPERATOR(pg_catalog.=) 'running' AND NOT l.stands AND s.units_per_second OPERATOR(pg_catalog.>) 0 THEN
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
    SELECT o.owner, pg_catalog.pg_has_role(o.owner, 'USAGE') AS own,
           upkeep._is_here(j.system_identifier, j.database) AS here
    FROM (SELECT upkeep._owner(j.system_identifier, j.owner, j.owner_name) AS owner) o) k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(t.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(t.units_done), 0) AS units_done,
           pg_catalog.max(t.batch_rows) AS batch_rows,
           pg_catalog.sum(t.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision
                          OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS rows_per_second,
           pg_catalog.sum(t.units_done OPERATOR(pg_catalog.*) 1000.0::double precision
                          OPERATOR(pg_catalog./) nullif(greatest(t.wall_time, t.busy_time), 0)) AS units_per_second,
           pg_catalog.min(CASE WHEN k.own AND t.wait_reason IS NOT NULL
                               THEN pg_catalog.concat_ws(': ', t.wait_reason, t.wait_detail)
                               ELSE t.wait_reason END) AS wait_reason,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL) FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait,
           pg_catalog.count(t.pid) AS attended
    FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id) s
-- Once, and not for each job.
CROSS JOIN (SELECT upkeep._standstill() AS reason OFFSET 0) w
CROSS JOIN LATERAL (SELECT w.reason IS NOT NULL AND (s.attended OPERATOR(pg_catalog.=) 0 OR pg_catalog.pg_is_in_recovery()) AS stands) l
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100::double precision
                WHEN j.units_total OPERATOR(pg_catalog.>) 0
                THEN least(100, 100 OPERATOR(pg_catalog.*) s.units_done OPERATOR(pg_catalog./) j.units_total)
                ELSE 0 END AS percent) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) k.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.jobs IS
'Jobs of this database: state, progress, speed, error. Made for \watch. Rows: the caller''s roles'' jobs; '
'all for pg_monitor and upkeep.admin_role. elapsed counts from the first start; rows_per_second is per second at '
'work, workers added up; limits are the job''s own.';

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

GRANT SELECT ON upkeep.jobs, upkeep.job_events, upkeep.status TO PUBLIC;
