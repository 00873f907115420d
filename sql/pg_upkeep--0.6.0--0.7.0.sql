-- From 0.6.0: what unfinished jobs have for themselves is a table.
\echo Use "ALTER EXTENSION pg_upkeep UPDATE TO '0.7.0'" to load this file. \quit

CREATE TABLE upkeep._job_claim (
    job uuid NOT NULL,
    relid oid NOT NULL,
    what text NOT NULL, -- 'column NAME', 'rows', 'indexes' or 'definition': src/jobs/claims.rs
    PRIMARY KEY (job, relid, what)
);
CREATE INDEX ON upkeep._job_claim (relid);

-- Unfinished jobs of this server and database get what they have had already. Sessions that have the old library loaded may be
-- creating some; one that is committed later takes it when it is started.
LOCK TABLE upkeep._job IN SHARE MODE;
INSERT INTO upkeep._job_claim (job, relid, what)
SELECT j.id, j.relid, w.what
FROM upkeep._job j
CROSS JOIN LATERAL (
    SELECT pg_catalog.concat('column ', c.name)
    FROM pg_catalog.jsonb_array_elements_text(j.params OPERATOR(pg_catalog.->) 'columns') c (name)
    WHERE j.kind OPERATOR(pg_catalog.=) 'backfill'
    UNION ALL SELECT 'rows' WHERE j.kind OPERATOR(pg_catalog.=) 'purge'
    UNION ALL SELECT 'indexes' WHERE j.kind OPERATOR(pg_catalog.=) 'unique keys') w (what)
WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) AND j.relid IS NOT NULL
  AND upkeep._is_here(j.system_identifier, j.database)
ON CONFLICT DO NOTHING;

COMMENT ON VIEW upkeep.quarantined_rows IS
'Rows that a job put aside because they cannot be done, for a backfill because their new value is an error; upkeep.retry(job) tries them again. Visible to members of the job''s owner.';

-- A null, as a subquery gives that finds nothing, is refused and not passed over in silence.
ALTER FUNCTION upkeep.pause(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.resume(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.cancel(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.retry(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.drop_job(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.unschedule(text) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.unschedule(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.run_now(text) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.run_now(uuid) CALLED ON NULL INPUT;

-- Whose a job or schedule of another server is here, its owner's name says: OIDs of that server are other roles.
CREATE FUNCTION upkeep._owner(system_identifier bigint, owner oid, owner_name name) RETURNS oid
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'owner_here_wrapper';
COMMENT ON FUNCTION upkeep._owner(bigint, oid, name) IS
'internal: whose a job or schedule is here. Of another server only the name counts; 0 if no role is called so';

DROP INDEX upkeep._job_name_key;
CREATE UNIQUE INDEX _job_name_key ON upkeep._job (owner, name, system_identifier) WHERE state IN ('queued', 'running', 'paused');
ALTER TABLE upkeep._schedule DROP CONSTRAINT _schedule_owner_name_key;
ALTER TABLE upkeep._schedule ADD UNIQUE (owner, name, system_identifier);

CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
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

CREATE OR REPLACE VIEW upkeep.job_events WITH (security_barrier) AS
SELECT e.job, e.happened_at, e.event,
       CASE WHEN k.own THEN e.detail END AS detail
FROM upkeep._job_event e
JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) e.job
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();

CREATE OR REPLACE VIEW upkeep.quarantined_rows WITH (security_barrier) AS
    SELECT r.job, r.relid, r.row_key, r.sqlstate, r.message, r.attempts, r.last_tried_at
    FROM upkeep._backfill_row r
    JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
    WHERE r.state OPERATOR(pg_catalog.=) 'quarantined'
      AND pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE');

CREATE OR REPLACE VIEW upkeep.schedules WITH (security_barrier) AS
SELECT s.id, s.name,
       coalesce(r.rolname, s.owner_name) AS owner,
       s.schedule, s.timezone,
       CASE WHEN k.own THEN s.command END AS command,
       NOT (s.paused OR k.hold IS NOT NULL) AS active,
       CASE WHEN k.hold IS NOT NULL THEN k.hold WHEN s.paused THEN 'paused' END AS paused_reason,
       CASE WHEN NOT s.paused AND k.hold IS NULL THEN s.next_run END AS next_run,
       l.started_at AS last_run,
       l.status AS last_status,
       CASE WHEN k.own THEN l.error_message END AS last_error,
       pg_catalog.make_interval(secs => s.timeout OPERATOR(pg_catalog./) 1000.0::double precision) AS timeout,
       s.retries,
       pg_catalog.make_interval(secs => s.retry_backoff OPERATOR(pg_catalog./) 1000.0::double precision) AS retry_backoff,
       s.catch_up, s.created_at
FROM upkeep._schedule s
CROSS JOIN LATERAL (
    SELECT o.owner, pg_catalog.pg_has_role(o.owner, 'USAGE') AS own,
           CASE WHEN upkeep._is_here(s.system_identifier, s.database) THEN s.hold ELSE 'restored' END AS hold
    FROM (SELECT upkeep._owner(s.system_identifier, s.owner, s.owner_name) AS owner) o) k
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) k.owner
LEFT JOIN LATERAL (
    SELECT coalesce(u.started_at, j.started_at) AS started_at,
           coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out' ELSE j.state END, 'failed') AS status,
           coalesce(u.error_message, j.error_message) AS error_message
    FROM upkeep._schedule_run u
    LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
    WHERE u.schedule OPERATOR(pg_catalog.=) s.id
      -- Not one that is queued.
      AND (j.id IS NULL OR j.started_at IS NOT NULL)
      AND (u.status IS NULL OR u.status OPERATOR(pg_catalog.<>) ALL (ARRAY['missed', 'skipped']))
    ORDER BY u.id DESC LIMIT 1) l ON true
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();

CREATE OR REPLACE VIEW upkeep.schedule_runs WITH (security_barrier) AS
SELECT u.schedule, s.name, u.job, u.due_at,
       coalesce(u.started_at, j.started_at) AS started_at,
       coalesce(u.finished_at, j.finished_at) AS finished_at,
       coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out' ELSE j.state END, 'failed') AS status,
       u.due_times,
       CASE WHEN u.finished_at IS NULL
            THEN (j.params OPERATOR(pg_catalog.->>) 'retries')::integer OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1
            ELSE u.attempts END AS attempt,
       CASE WHEN u.finished_at IS NULL
            THEN (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id)
            ELSE u.rows_done END AS rows,
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '')) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(s.system_identifier, s.owner, s.owner_name), 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
