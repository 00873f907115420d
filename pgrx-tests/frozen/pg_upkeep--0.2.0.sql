-- Generated from the Rust sources: `cargo run -p pg_upkeep-tests -- schema` writes it, `cargo verify` compares it.
\echo Use "CREATE EXTENSION pg_upkeep" to load this file. \quit

/* <begin connected objects> */
-- Jobs: the tables are private (LAW 1: never granted, written under a switched user), the views show them.

CREATE SCHEMA upkeep;
COMMENT ON SCHEMA upkeep IS 'pg_upkeep: verbs are functions, state is views, settings are parameters named upkeep.*';
GRANT USAGE ON SCHEMA upkeep TO PUBLIC;

CREATE TABLE upkeep._job (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    name text,
    owner oid NOT NULL,
    -- By name too: a dump restored elsewhere meets other OIDs (LAW 20).
    owner_name name NOT NULL,
    relid oid,
    target text NOT NULL,
    params jsonb NOT NULL,
    -- What the text of the user's meant when it was given: search_path, TimeZone, DateStyle, IntervalStyle.
    session jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'canceled')),
    -- Why it is paused or not started.
    reason text,
    workers integer NOT NULL DEFAULT 1,
    batch_time integer, -- ms; null: upkeep.batch_time
    retries integer NOT NULL DEFAULT 0,
    not_before timestamptz,
    shared jsonb NOT NULL DEFAULT '{}',
    strategy text,
    rows_estimate bigint,
    units_total double precision,
    rows_left bigint,
    error_sqlstate text,
    error_message text,
    error_detail text,
    error_hint text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    -- Tighter than the server's settings of these names: ms, bytes, kB/s, part of the time.
    max_replica_lag integer,
    max_replica_lag_bytes bigint,
    max_wal_rate integer,
    throttle_work_ratio double precision,
    -- Hours of the day at which it may work, in this time zone; null: always.
    run_between text,
    timezone text,
    -- It has made something outside of our tables that must go when it ends.
    needs_cleanup boolean NOT NULL DEFAULT false
);
CREATE INDEX ON upkeep._job (finished_at);
CREATE UNIQUE INDEX _job_name_key ON upkeep._job (owner, name) WHERE state IN ('queued', 'running', 'paused');

-- One row per worker slot of a job: its cursor, and the strikes against it (LAW 18).
CREATE TABLE upkeep._job_slot (
    job uuid NOT NULL REFERENCES upkeep._job ON DELETE CASCADE,
    slot integer NOT NULL,
    cursor jsonb,
    wait_reason text,
    -- The executor that has it in hand. Still there when the next one comes: that run ended without a word.
    pid integer,
    backend_start timestamptz,
    strikes integer NOT NULL DEFAULT 0,
    rows_done bigint NOT NULL DEFAULT 0,
    units_done double precision NOT NULL DEFAULT 0,
    busy_time double precision NOT NULL DEFAULT 0, -- ms at work
    batch_rows bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job, slot)
) WITH (fillfactor = 20);

-- Is this process one of our executors, and still the same? Not a lock: the user's own commands run in that process,
-- and pg_advisory_unlock_all() would let go of any advisory lock of ours as well (LAW 7).
CREATE FUNCTION upkeep._is_executor(pid integer, backend_start timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
    AS $$ SELECT EXISTS (
              SELECT 1 FROM pg_catalog.pg_stat_get_activity($1) a
              JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) a.datid
              WHERE a.backend_type OPERATOR(pg_catalog.=) 'pg_upkeep executor'
                -- A copy of this database says the same of the original's executors.
                AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
                AND a.backend_start OPERATOR(pg_catalog.=) $2) $$;
COMMENT ON FUNCTION upkeep._is_executor(integer, timestamptz) IS 'internal: does this process still work on a job?';
REVOKE EXECUTE ON FUNCTION upkeep._is_executor(integer, timestamptz) FROM PUBLIC;

CREATE TABLE upkeep._job_event (
    job uuid NOT NULL REFERENCES upkeep._job ON DELETE CASCADE,
    happened_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    event text NOT NULL,
    detail text
);
CREATE INDEX ON upkeep._job_event (job, happened_at);

-- pg_dump carries the jobs; where they are restored they wait for resume_all() (LAW 20).
SELECT pg_catalog.pg_extension_config_dump('upkeep._job', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_slot', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_event', '');
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   jobs

-- Backfill: the functions, the rows that were skipped, and a view of those put aside.

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

CREATE FUNCTION upkeep.explain_backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    workers integer DEFAULT 1,
    options jsonb DEFAULT '{}'
) RETURNS TABLE (
    strategy text,
    reason text,
    batches bigint,
    rows_estimate bigint,
    estimated_duration interval,
    wal_estimate bigint,
    locks text,
    warnings text[]
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
    AS 'MODULE_PATHNAME', 'upkeep_explain_backfill_wrapper';
COMMENT ON FUNCTION upkeep.explain_backfill(regclass, text, text, integer, jsonb) IS
'Says how upkeep.backfill would go through the table, why, what it would cost (rows, bytes of WAL, time: forecasts from a sample) and what speaks against it. Changes nothing.';

CREATE FUNCTION upkeep.preview_backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    max_rows integer DEFAULT 10
) RETURNS TABLE (row_key jsonb, old_row jsonb, new_row jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'upkeep_preview_backfill_wrapper';
COMMENT ON FUNCTION upkeep.preview_backfill(regclass, text, text, integer) IS
'Shows rows as they are and as upkeep.backfill would leave them, computed by SELECT. max_rows: 0 to 10000. Triggers and generated columns are not shown. Changes nothing.';

-- Filters of a strided UPDATE. Everyone's, since the statement runs as the owner of the job; they
-- look at nothing but their arguments, so that row security may let them go first.
CREATE FUNCTION upkeep._in_stride(tid, integer, integer) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.1
    AS 'MODULE_PATHNAME', 'upkeep_in_stride';
CREATE FUNCTION upkeep._in_stride_before(tid, integer, integer, xid, xid, integer) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.1
    AS 'MODULE_PATHNAME', 'upkeep_in_stride_before';
COMMENT ON FUNCTION upkeep._in_stride(tid, integer, integer) IS
'Private: is the row''s place on its page, modulo strides, the stride?';
COMMENT ON FUNCTION upkeep._in_stride_before(tid, integer, integer, xid, xid, integer) IS
'Private: the same for row versions that were not written in the given span of transactions.';

-- In the WHEN of triggers on anybody's tables, hence everyone's.
CREATE FUNCTION upkeep._is_filling(uuid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_is_filling';
COMMENT ON FUNCTION upkeep._is_filling(uuid) IS
'Private: is this process at work on that job? Keeps the trigger of fill_new_rows off what the job itself updates.';

-- Rows that a backfill has to come back to (locked by somebody else) or has put aside (quarantined).
CREATE TABLE upkeep._backfill_row (
    job uuid NOT NULL REFERENCES upkeep._job ON DELETE CASCADE,
    row_key jsonb NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    relid oid NOT NULL,
    state text NOT NULL CHECK (state IN ('locked', 'quarantined')),
    sqlstate text,
    message text,
    attempts integer NOT NULL DEFAULT 0,
    last_tried_at timestamptz,
    -- Without keys rows are told apart by their places, which repeat from table to table.
    PRIMARY KEY (job, relid, row_key)
);
CREATE INDEX ON upkeep._backfill_row (job, state, number);

-- Transactions of a backfill whose rows still match its condition: never updated again by the same run.
CREATE TABLE upkeep._backfill_xid (
    job uuid NOT NULL REFERENCES upkeep._job ON DELETE CASCADE,
    xid bigint NOT NULL,
    PRIMARY KEY (job, xid)
);

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
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_xid', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row_number_seq', '');

CREATE VIEW upkeep.quarantined_rows WITH (security_barrier) AS
    SELECT r.job, r.relid, r.row_key, r.sqlstate, r.message, r.attempts, r.last_tried_at
    FROM upkeep._backfill_row r
    JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
    WHERE r.state OPERATOR(pg_catalog.=) 'quarantined'
      AND pg_catalog.pg_has_role(j.owner, 'USAGE');
COMMENT ON VIEW upkeep.quarantined_rows IS
'Rows that a backfill put aside because their new value is an error; upkeep.retry(job) tries them again. Visible to members of the job''s owner.';
COMMENT ON COLUMN upkeep.quarantined_rows.row_key IS 'The row''s key, or its place (ctid) where the table has no key.';
GRANT SELECT ON upkeep.quarantined_rows TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   backfill

-- What people see of jobs and do to them. Views are security_barrier (LAW 5): states and figures for the
-- owner's members, pg_monitor and administrators; what contains data (errors, texts) for the owner's members only.

CREATE FUNCTION upkeep._is_admin() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_admin_wrapper';
COMMENT ON FUNCTION upkeep._is_admin() IS 'internal: may the caller pause, cancel and drop other people''s jobs (upkeep.admin_role)?';

CREATE FUNCTION upkeep._is_here(system_identifier bigint, database oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'is_here_wrapper';
COMMENT ON FUNCTION upkeep._is_here(bigint, oid) IS 'internal: does a job belong to this server and database, or did it come with a dump?';

CREATE VIEW upkeep.jobs WITH (security_barrier) AS
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

CREATE VIEW upkeep.job_events WITH (security_barrier) AS
SELECT e.job, e.happened_at, e.event,
       CASE WHEN k.own THEN e.detail END AS detail
FROM upkeep._job_event e
JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) e.job
CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(j.owner, 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.job_events IS 'History of each job: every change of state, choice, wait, retry and error. detail is shown to members of the job''s owner.';

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
COMMENT ON VIEW upkeep.status IS 'One row: are workers up (preloaded, dynamic, not running), how many work on this server, and in advice what to type if something is missing. Job counts are of the jobs the caller can see.';

GRANT SELECT ON upkeep.jobs, upkeep.job_events, upkeep.status TO PUBLIC;

CREATE FUNCTION upkeep.pause(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION upkeep.pause(uuid) IS 'Pauses a job after its current batch. Owner''s members and upkeep.admin_role. 42704 no such job, 42501 not yours, 55000 finished or a command that has started.';

CREATE FUNCTION upkeep.resume(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION upkeep.resume(uuid) IS 'Lets a paused job go on where it was. Owner''s members. 55000 if it is finished, or came with a dump (resume_all).';

CREATE FUNCTION upkeep.cancel(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cancel_wrapper';
COMMENT ON FUNCTION upkeep.cancel(uuid) IS 'Ends a job for good once the caller''s transaction commits; its current batch or command is canceled, what was committed stays. Owner''s members and upkeep.admin_role. 55000 if it has finished.';

CREATE FUNCTION upkeep.retry(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION upkeep.retry(uuid) IS 'Starts a failed or canceled job again at its cursor, or a done one for its quarantined and left rows. Owner''s members. 55000 if there is nothing to try again.';

CREATE FUNCTION upkeep.drop_job(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_job_wrapper';
COMMENT ON FUNCTION upkeep.drop_job(uuid) IS 'Forgets a finished job and its history. Owner''s members and upkeep.admin_role. 55000 if it has not finished.';

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

CREATE FUNCTION upkeep.pause_all(reason text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_all_wrapper';
COMMENT ON FUNCTION upkeep.pause_all(text) IS 'Pauses every unfinished job of this database except commands that have started, and holds every schedule; returns how many. To be granted.';

CREATE FUNCTION upkeep.resume_all() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_all_wrapper';
COMMENT ON FUNCTION upkeep.resume_all() IS 'Resumes every paused job and held schedule of this database, those that came with a dump or copy included (owner and table are found by name); returns how many. To be granted.';

CREATE PROCEDURE upkeep.wait(job uuid, timeout interval DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wait_wrapper';
COMMENT ON PROCEDURE upkeep.wait(uuid, interval) IS 'Waits for a job with progress as notices, holding no snapshot. Raises the job''s error if it fails, 57014 if it is canceled or the timeout passes, 25001 inside a transaction block.';

CREATE FUNCTION upkeep.start_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'start_workers_wrapper';
COMMENT ON FUNCTION upkeep.start_workers() IS 'Starts background workers for this database until the server restarts; returns 1, or 0 if they run already. Without shared_preload_libraries. To be granted. 53000 if max_worker_processes is used up.';

CREATE FUNCTION upkeep.stop_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'stop_workers_wrapper';
COMMENT ON FUNCTION upkeep.stop_workers() IS 'Ends the workers that start_workers() started; jobs wait where they are. Returns the number of processes ended. To be granted. 55000 if the library is preloaded.';

CREATE FUNCTION upkeep.run_in_background(command text, name text DEFAULT NULL, retries integer DEFAULT 0) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_in_background_wrapper';
COMMENT ON FUNCTION upkeep.run_in_background(text, text, integer) IS 'Runs one SQL command in a worker as the caller, top-level ones (VACUUM, CREATE INDEX CONCURRENTLY, CALL) included. retries: how often a failed or interrupted run is repeated. To be granted. 42601 unless exactly one statement; 0A000 for BEGIN, COMMIT, LISTEN, COPY FROM STDIN or TO STDOUT.';

REVOKE EXECUTE ON FUNCTION upkeep.start_workers(), upkeep.stop_workers(), upkeep.pause_all(text),
    upkeep.resume_all(), upkeep.run_in_background(text, text, integer) FROM PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   job_views

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
/* </end connected objects> */
