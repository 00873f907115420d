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
-- Each role has its own turn.
CREATE INDEX ON upkeep._schedule (owner, next_run) WHERE NOT paused AND hold IS NULL;

CREATE TABLE upkeep._schedule_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule uuid NOT NULL,
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
      -- Not one that is queued.
      AND (j.id IS NULL OR j.started_at IS NOT NULL)
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
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '')) END AS error
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
COMMENT ON FUNCTION upkeep.run_now(text) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 22023 several of this name, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';

CREATE FUNCTION upkeep.run_now(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_id_wrapper';
COMMENT ON FUNCTION upkeep.run_now(uuid) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';

REVOKE EXECUTE ON FUNCTION
    upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean),
    upkeep.unschedule(text), upkeep.unschedule(uuid),
    upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.run_now(text), upkeep.run_now(uuid) FROM PUBLIC;
