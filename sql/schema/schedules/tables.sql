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
    -- Owners of another server are other roles.
    UNIQUE (owner, name, system_identifier)
) WITH (fillfactor = 70);
CREATE INDEX _schedule_owner ON upkeep._schedule (system_identifier, owner, owner_name);
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
