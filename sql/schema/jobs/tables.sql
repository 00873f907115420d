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
    needs_cleanup boolean NOT NULL DEFAULT false,
    -- What members of the owner are shown after the reason: an error's message, which contains data (LAW 5).
    reason_detail text,
    -- What another job keeps from it, whose turn it is: see src/jobs/turn.rs.
    waits_for jsonb,
    -- Of a queued job that has given its worker up: it waits for the time not_before, for its children, for a person. 'woken' until it
    -- has made a step since; answered: because a person said so.
    parked text CHECK (parked IN ('clock', 'children', 'person', 'woken')),
    answered boolean NOT NULL DEFAULT false,
    -- The job that it is a child of, which of its children, and how much of the parent's work it stands for (0..1).
    parent uuid,
    place text,
    share double precision,
    -- A child that has ended, which its parent does not know yet.
    tells_parent boolean NOT NULL DEFAULT false,
    -- A job that has failed, and whose children are to be canceled.
    leaves_children boolean NOT NULL DEFAULT false,
    -- Tighter than the server's setting of that name.
    max_slowdown double precision
);
CREATE INDEX ON upkeep._job (finished_at);
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
-- Owners of another server are other roles, and have names of their own.
CREATE UNIQUE INDEX _job_name_key ON upkeep._job (owner, name, system_identifier) WHERE state IN ('queued', 'running', 'paused');

-- No foreign keys between tables that a dump carries: pg_dump does not know of them, and pg_restore -j loads the tables in any
-- order. What belongs to a job goes with it by jobs::forget, and is added under a lock of the job's row.

-- One row per worker slot of a job: its cursor, and the strikes against it (LAW 18).
CREATE TABLE upkeep._job_slot (
    job uuid NOT NULL,
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
    -- As reason_detail of the job.
    wait_detail text,
    -- Ends of its executor that were reported, in the middle of a step and with no progress since; starts that came to
    -- nothing; and when the last of either was: the next start comes after a growing pause.
    ends integer NOT NULL DEFAULT 0,
    failed_starts integer NOT NULL DEFAULT 0,
    ended_at timestamptz,
    -- Tries in vain since the last progress, by what was in the way.
    tries jsonb NOT NULL DEFAULT '{}',
    -- ms in the hand of an executor, what it waited for included.
    wall_time double precision NOT NULL DEFAULT 0,
    -- The same, what was done, and how many rows that were, of the last half minute: what is older counts less and less.
    lately_time double precision NOT NULL DEFAULT 0,
    lately_units double precision NOT NULL DEFAULT 0,
    lately_rows double precision NOT NULL DEFAULT 0,
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
    job uuid NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    event text NOT NULL,
    detail text
);
CREATE INDEX ON upkeep._job_event (job, happened_at);
-- In a database that publishes all tables, nothing can be deleted from one whose rows nothing identifies.
ALTER TABLE upkeep._job_event REPLICA IDENTITY FULL;

-- What unfinished jobs have for themselves: two that want the same of one table would be in each other's way. No part of a dump, for
-- it would name other tables elsewhere: where jobs are restored they take theirs anew.
CREATE TABLE upkeep._job_claim (
    job uuid NOT NULL,
    relid oid NOT NULL,
    what text NOT NULL, -- 'column NAME', 'rows', 'indexes' or 'definition': src/jobs/claims.rs
    PRIMARY KEY (job, relid, what)
);
CREATE INDEX ON upkeep._job_claim (relid);

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

-- pg_dump carries the jobs; where they are restored they wait for resume_all() (LAW 20).
CREATE FUNCTION upkeep._owner(system_identifier bigint, owner oid, owner_name name) RETURNS oid
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'owner_here_wrapper';
COMMENT ON FUNCTION upkeep._owner(bigint, oid, name) IS
'internal: whose a job or schedule is here. Of another server only the name counts; 0 if no role is called so';

SELECT pg_catalog.pg_extension_config_dump('upkeep._job', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_slot', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_event', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._job_step', '');
