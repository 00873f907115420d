-- From 0.7.0: jobs that park, that have children, and that are sequences of steps.
\echo Use "ALTER EXTENSION pg_upkeep UPDATE TO '0.8.0'" to load this file. \quit

ALTER TABLE upkeep._job
    ADD parked text CHECK (parked IN ('clock', 'children', 'person', 'woken')),
    ADD answered boolean NOT NULL DEFAULT false,
    ADD parent uuid,
    ADD place text,
    ADD share double precision,
    ADD tells_parent boolean NOT NULL DEFAULT false,
    ADD leaves_children boolean NOT NULL DEFAULT false;
-- What a scheduler may start, and when: a look reads neither what is parked nor what has ended.
CREATE INDEX _job_ready ON upkeep._job (created_at)
    WHERE state IN ('queued', 'running') AND (parked IS NULL OR parked OPERATOR(pg_catalog.=) 'woken');
CREATE INDEX _job_due ON upkeep._job (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX _job_cleanup ON upkeep._job (not_before) WHERE needs_cleanup;
CREATE INDEX _job_owner ON upkeep._job (system_identifier, owner, owner_name);
CREATE INDEX _job_foreign ON upkeep._job (system_identifier, database) WHERE state IN ('queued', 'running', 'paused');
CREATE UNIQUE INDEX _job_parent_key ON upkeep._job (parent, place) WHERE parent IS NOT NULL;
CREATE INDEX _job_leaves_children ON upkeep._job (state) WHERE leaves_children;
CREATE INDEX _job_tells_parent ON upkeep._job (parent) WHERE tells_parent;

CREATE INDEX _schedule_owner ON upkeep._schedule (system_identifier, owner, owner_name);

-- Those that wait for their hours.
UPDATE upkeep._job SET parked = 'clock'
WHERE state OPERATOR(pg_catalog.=) 'queued' AND run_between IS NOT NULL
  AND not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp();

-- The steps of a job that is a sequence: src/jobs/sequence.rs. A sequence can be a part of another one: hence the path.
CREATE TABLE upkeep._job_step (
    job uuid NOT NULL,
    path integer[] NOT NULL,
    action text NOT NULL,
    -- As people would type it; null: it is no statement.
    statement text,
    relid oid,
    -- By name too, as the job's target (LAW 20).
    schemaname name,
    relname name,
    -- The strongest lock that it takes, as in pg_locks.
    lock_mode text,
    reversible boolean NOT NULL DEFAULT false,
    -- What it is to do, and what its kind has to know for that.
    params jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'planned'
        CHECK (state IN ('planned', 'running', 'done', 'skipped', 'failed', 'undone')),
    attempts integer NOT NULL DEFAULT 0,
    lock_wait_time double precision NOT NULL DEFAULT 0, -- ms
    held_time double precision NOT NULL DEFAULT 0, -- ms
    started_at timestamptz,
    finished_at timestamptz,
    detail text,
    rows_left bigint,
    PRIMARY KEY (job, path)
);
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_step', '');

CREATE FUNCTION upkeep._executor_waits_for(pid integer, backend_start timestamptz) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'executor_waits_for_wrapper';
COMMENT ON FUNCTION upkeep._executor_waits_for(integer, timestamptz) IS 'internal: the lock that a worker waits for, and who has it';

CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND (s.all_wait OR l.stands) THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.parked OPERATOR(pg_catalog.<>) 'woken'
                 AND (j.not_before IS NULL OR j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' THEN CASE WHEN s.all_wait THEN s.wait_reason WHEN l.stands THEN w.reason END
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
        WHERE q.job OPERATOR(pg_catalog.=) j.id AND q.state OPERATOR(pg_catalog.=) 'quarantined')
           OPERATOR(pg_catalog.+) c.quarantined AS quarantined,
       CASE WHEN k.own THEN j.error_message END AS error,
       coalesce(r.rolname, j.owner_name) AS owner,
       j.created_at, j.started_at, j.finished_at,
       nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
           'run_between', j.run_between, 'timezone', j.timezone, 'max_replica_lag', j.max_replica_lag,
           'max_replica_lag_bytes', j.max_replica_lag_bytes, 'max_wal_rate', j.max_wal_rate,
           'throttle_work_ratio', j.throttle_work_ratio)), '{}') AS limits,
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
           pg_catalog.sum(t.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision
                          OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS rows_per_second,
           pg_catalog.sum(t.units_done OPERATOR(pg_catalog.*) 1000.0::double precision
                          OPERATOR(pg_catalog./) nullif(greatest(t.wall_time, t.busy_time), 0)) AS units_per_second,
           pg_catalog.min(CASE WHEN k.own AND t.wait_reason IS NOT NULL
                               THEN pg_catalog.concat_ws(': ', t.wait_reason, t.wait_detail)
                               ELSE coalesce(t.wait_reason, v.reason) END) AS wait_reason,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL OR v.reason IS NOT NULL)
                        FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait,
           pg_catalog.count(t.pid) AS attended
    FROM upkeep._job_slot t
    -- What it says itself comes first. Asked once.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.pid IS NOT NULL AND t.wait_reason IS NULL AND j.state OPERATOR(pg_catalog.=) 'running'
                    THEN upkeep._executor_waits_for(t.pid, t.backend_start) END AS reason
        OFFSET 0) v
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
'all for pg_monitor and upkeep.admin_role. elapsed counts from the first start; rows_per_second is per second at '
'work, workers added up; limits are the job''s own. rows_done, percent and quarantined have those of its children in them.';

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
GRANT SELECT ON upkeep.job_steps TO PUBLIC;

COMMENT ON FUNCTION upkeep.pause(uuid) IS
'Pauses a job after its current batch, and its children. Owner''s members and upkeep.admin_role. '
'42704 no such job, 42501 not yours, 55000 finished or a command that has started.';
COMMENT ON FUNCTION upkeep.resume(uuid) IS
'Lets a paused job go on where it was, with its children, or one that waits: now, and whatever it waits for. '
'Owner''s members. 55000 if it is finished, came with a dump (resume_all), or is a child of a paused job.';
COMMENT ON FUNCTION upkeep.cancel(uuid) IS
'Ends a job and its children for good once the caller''s transaction commits; its current batch or command is canceled, '
'what was committed stays. Owner''s members and upkeep.admin_role. 55000 if it has finished.';
COMMENT ON FUNCTION upkeep.retry(uuid) IS
'Starts a failed or canceled job again at its cursor, or a done one for its quarantined and left rows, and its children '
'likewise. Owner''s members. 55000 if there is nothing to try again, or it is a child of a finished job.';
COMMENT ON FUNCTION upkeep.drop_job(uuid) IS
'Forgets a finished job, its history and its children. Owner''s members and upkeep.admin_role. '
'55000 if it has not finished, or is a child of a job; 55006 if a child has not finished.';
COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision) IS
'Changes an unfinished job, also while it runs, and the limits of its children; null keeps what is. '
'batch_time 10 ms to 60 s, workers 1 to 64; '
'run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; '
'the rest tightens the settings of these names (kB/s, 0..1). 0 takes a limit away again, and has batch_time follow '
'the setting. Owner''s members. 22023 a value out of range.';

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
                               THEN 'timed out'
                               WHEN j.parked OPERATOR(pg_catalog.=) 'children' THEN 'running'
                               ELSE j.state END, 'failed') AS status,
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
                               THEN 'timed out'
                               -- It has begun, and waits for what it has begun.
                               WHEN j.parked OPERATOR(pg_catalog.=) 'children' THEN 'running'
                               ELSE j.state END, 'failed') AS status,
       u.due_times,
       CASE WHEN u.finished_at IS NULL
            THEN (j.params OPERATOR(pg_catalog.->>) 'retries')::integer OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1
            ELSE u.attempts END AS attempt,
       CASE WHEN u.finished_at IS NULL
            THEN (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t
                  WHERE t.job OPERATOR(pg_catalog.=) j.id
                     OR t.job OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT c.id FROM upkeep._job c
                                                                WHERE c.parent OPERATOR(pg_catalog.=) j.id)))
            ELSE u.rows_done END AS rows,
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       CASE WHEN j.parked IS NULL
                                       THEN nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '') END) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(s.system_identifier, s.owner, s.owner_name), 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
