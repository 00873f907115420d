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

COMMENT ON FUNCTION upkeep.pause_all(text) IS 'Pauses every unfinished job of this database except commands that have started, and holds every schedule; returns how many. To be granted.';
COMMENT ON FUNCTION upkeep.resume_all() IS 'Resumes every paused job and held schedule of this database, those that came with a dump or copy included (owner and table are found by name); returns how many. To be granted.';

-- Schedules: commands that come back. The tables are private (LAW 1); each due schedule becomes a job of the kind
-- command, and what came of it is kept here, while the job's own row goes soon.

CREATE TABLE upkeep._schedule (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    owner oid NOT NULL,
    -- By name too: a dump restored elsewhere meets other OIDs (LAW 20).
    owner_name name NOT NULL,
    -- As given; every: the length of an interval in microseconds, null for a cron pattern.
    schedule text NOT NULL,
    every bigint,
    timezone text NOT NULL,
    command text NOT NULL,
    -- The command's tag.
    target text NOT NULL,
    -- What the command meant when it was given: search_path, TimeZone, DateStyle, IntervalStyle.
    session jsonb NOT NULL,
    timeout bigint, -- ms
    retries integer NOT NULL,
    retry_backoff bigint NOT NULL, -- ms
    catch_up boolean NOT NULL,
    paused boolean NOT NULL,
    -- Why it is held although nobody paused it: restored, pause_all(), what makes it impossible.
    hold text,
    next_run timestamptz,
    -- When next_run was worked out: a clock that shows less was put back.
    based_on timestamptz NOT NULL,
    -- next_run was missed and is to be made up for.
    owed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    UNIQUE (owner, name)
) WITH (fillfactor = 70);
CREATE INDEX ON upkeep._schedule (next_run) WHERE NOT paused AND hold IS NULL;

CREATE TABLE upkeep._schedule_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule uuid NOT NULL REFERENCES upkeep._schedule ON DELETE CASCADE,
    -- The job that ran it, or that was in the way of a skipped one.
    job uuid,
    due_at timestamptz NOT NULL,
    -- How many due times this row stands for.
    due_times integer NOT NULL DEFAULT 1,
    -- Null while the job says it.
    status text CHECK (status IN ('done', 'failed', 'timed out', 'canceled', 'missed', 'skipped')),
    attempts integer,
    started_at timestamptz,
    finished_at timestamptz,
    rows_done bigint,
    error_sqlstate text,
    error_message text,
    error_detail text,
    error_hint text
);
CREATE INDEX ON upkeep._schedule_run (schedule, id);
CREATE UNIQUE INDEX _schedule_run_unfinished_key ON upkeep._schedule_run (schedule) WHERE finished_at IS NULL;
CREATE INDEX ON upkeep._schedule_run (job) WHERE status IS DISTINCT FROM 'skipped';
CREATE INDEX ON upkeep._schedule_run (finished_at);

-- pg_dump carries them; where they are restored they wait for resume_all() (LAW 20).
SELECT pg_catalog.pg_extension_config_dump('upkeep._schedule', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._schedule_run', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._schedule_run_id_seq', '');

CREATE VIEW upkeep.schedules WITH (security_barrier) AS
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
    SELECT pg_catalog.pg_has_role(s.owner, 'USAGE') AS own,
           CASE WHEN upkeep._is_here(s.system_identifier, s.database) THEN s.hold ELSE 'restored' END AS hold) k
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.owner
LEFT JOIN LATERAL (
    SELECT coalesce(u.started_at, j.started_at) AS started_at,
           coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out' ELSE j.state END, 'failed') AS status,
           coalesce(u.error_message, j.error_message) AS error_message
    FROM upkeep._schedule_run u
    LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
    WHERE u.schedule OPERATOR(pg_catalog.=) s.id
      AND (u.status IS NULL OR u.status OPERATOR(pg_catalog.<>) ALL (ARRAY['missed', 'skipped']))
    ORDER BY u.id DESC LIMIT 1) l ON true
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.schedules IS 'Schedules of this database: when each runs next (null: not), why it is not active, and how its last run ended. Rows: the caller''s roles'' schedules; all for pg_monitor and upkeep.admin_role. command and last_error are shown to members of the owner.';

CREATE VIEW upkeep.schedule_runs WITH (security_barrier) AS
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
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message, j.reason) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(s.owner, 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.schedule_runs IS 'What came of each run of a schedule. status: queued, running, paused, done, failed, timed out, canceled; missed (nobody was there when it was due) and skipped (the run before had not ended) stand for due_times due times each. error is shown to members of the owner. Kept for upkeep.job_retention, at most 1000 rows per schedule.';
GRANT SELECT ON upkeep.schedules, upkeep.schedule_runs TO PUBLIC;

CREATE FUNCTION upkeep.schedule(
    name text,
    schedule text,
    command text,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT 0,
    retry_backoff interval DEFAULT '1 minute',
    catch_up boolean DEFAULT false,
    paused boolean DEFAULT false,
    if_not_exists boolean DEFAULT false
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_schedule_wrapper';
COMMENT ON FUNCTION upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean) IS
'Runs a SQL command again and again as the caller, and returns the schedule. schedule: five cron fields, @hourly @daily @weekly @monthly @yearly, or an interval of at least 1 second such as ''5 minutes''; timezone: of the fields, default the session''s; timeout: cancels a run (null: none); retries: of a run that failed or timed out, after retry_backoff, doubled each time; catch_up: makes up for one run missed while the server was down. To be granted. 42601 in schedule or command, 22023 wrong argument or a schedule that never runs, 42710 name in use, 0A000 for a command that cannot run in a worker.';

CREATE FUNCTION upkeep.unschedule(name text) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_name_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(text) IS 'Ends a schedule for good and forgets its runs; a run that has started goes on. Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule, 22023 several of this name.';

CREATE FUNCTION upkeep.unschedule(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_id_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(uuid) IS 'Ends a schedule for good and forgets its runs; a run that has started goes on. Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule.';

CREATE FUNCTION upkeep.alter_schedule(
    name text,
    schedule text DEFAULT NULL,
    command text DEFAULT NULL,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT NULL,
    retry_backoff interval DEFAULT NULL,
    catch_up boolean DEFAULT NULL,
    paused boolean DEFAULT NULL,
    new_name text DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_schedule_by_name_wrapper';
COMMENT ON FUNCTION upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text) IS
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. paused => true and false stop and go on; what was due meanwhile is not made up for. Owner''s members; members of upkeep.admin_role may pause. To be granted. Errors as of upkeep.schedule; 42704 no such schedule, 22023 several of this name.';

CREATE FUNCTION upkeep.alter_schedule(
    id uuid,
    schedule text DEFAULT NULL,
    command text DEFAULT NULL,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT NULL,
    retry_backoff interval DEFAULT NULL,
    catch_up boolean DEFAULT NULL,
    paused boolean DEFAULT NULL,
    new_name text DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_schedule_by_id_wrapper';
COMMENT ON FUNCTION upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text) IS
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. paused => true and false stop and go on; what was due meanwhile is not made up for. Owner''s members; members of upkeep.admin_role may pause. To be granted. Errors as of upkeep.schedule; 42704 no such schedule.';

CREATE FUNCTION upkeep.run_now(name text) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_name_wrapper';
COMMENT ON FUNCTION upkeep.run_now(text) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 22023 several of this name, 55006 a run has not ended, 55000 it came with a dump.';

CREATE FUNCTION upkeep.run_now(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_id_wrapper';
COMMENT ON FUNCTION upkeep.run_now(uuid) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 55006 a run has not ended, 55000 it came with a dump.';

REVOKE EXECUTE ON FUNCTION
    upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean),
    upkeep.unschedule(text), upkeep.unschedule(uuid),
    upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.run_now(text), upkeep.run_now(uuid) FROM PUBLIC;
