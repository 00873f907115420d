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
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   jobs_tables

-- Rows that jobs have put aside, and what people see of them.

-- Rows that a job, of whatever kind, has to come back to (locked by somebody else) or has put aside (quarantined). It is called
-- after backfills because dumps that were made when only they had such rows name it.
CREATE TABLE upkeep._backfill_row (
    job uuid NOT NULL,
    row_key jsonb NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    relid oid NOT NULL,
    state text NOT NULL CHECK (state IN ('locked', 'quarantined')),
    sqlstate text,
    message text,
    attempts integer NOT NULL DEFAULT 0,
    last_tried_at timestamptz,
    -- The key is written so that the same values come back, which versions before 0.6.0 did not see to.
    exact boolean NOT NULL DEFAULT false,
    -- Without keys rows are told apart by their places, which repeat from table to table.
    PRIMARY KEY (job, relid, row_key)
);
CREATE INDEX ON upkeep._backfill_row (job, state, number);

SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row_number_seq', '');

CREATE VIEW upkeep.quarantined_rows WITH (security_barrier) AS
    SELECT r.job, r.relid, r.row_key, r.sqlstate, r.message, r.attempts, r.last_tried_at
    FROM upkeep._backfill_row r
    JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
    WHERE r.state OPERATOR(pg_catalog.=) 'quarantined'
      AND pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE');
COMMENT ON VIEW upkeep.quarantined_rows IS
'Rows that a job put aside because they cannot be done, for a backfill because their new value is an error; '
'upkeep.retry(job) tries them again. Visible to members of the job''s owner.';
COMMENT ON COLUMN upkeep.quarantined_rows.row_key IS 'The row''s key, or its place (ctid) where the table has no key.';
GRANT SELECT ON upkeep.quarantined_rows TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   quarantine_tables

-- What is known of a backfill beside its job.

-- Transactions of a backfill whose rows still match its condition: never updated again by the same run.
CREATE TABLE upkeep._backfill_xid (
    job uuid NOT NULL,
    xid bigint NOT NULL,
    PRIMARY KEY (job, xid)
);

-- The tables of a backfill, one with an ordinary target, all leaves of a tree: what its workers share of each.
CREATE TABLE upkeep._backfill_table (
    job uuid NOT NULL,
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
CREATE INDEX _backfill_table_todo ON upkeep._backfill_table (job, weight, number) WHERE state OPERATOR(pg_catalog.=) 'todo';

SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_xid', '');
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   backfill_tables

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
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   jobs_views

-- What people do to jobs, and the workers that run them.

CREATE FUNCTION upkeep.pause(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION upkeep.pause(uuid) IS
'Pauses a job after its current batch, and its children. Owner''s members and upkeep.admin_role. '
'42704 no such job, 42501 not yours, 55000 finished or a command that has started.';

CREATE FUNCTION upkeep.resume(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION upkeep.resume(uuid) IS
'Lets a paused job go on where it was, with its children, or one that waits: now, and whatever it waits for. '
'Owner''s members. 55000 if it is finished, came with a dump (resume_all), or is a child of a paused job.';

CREATE FUNCTION upkeep.cancel(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cancel_wrapper';
COMMENT ON FUNCTION upkeep.cancel(uuid) IS
'Ends a job and its children for good once the caller''s transaction commits; its current batch or command is canceled, '
'what was committed stays. Owner''s members and upkeep.admin_role. 55000 if it has finished.';

CREATE FUNCTION upkeep.retry(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION upkeep.retry(uuid) IS
'Starts a failed or canceled job again at its cursor, or a done one for its quarantined and left rows, and its children '
'likewise. Owner''s members. 55000 if there is nothing to try again, or it is a child of a finished job.';

CREATE FUNCTION upkeep.drop_job(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_job_wrapper';
COMMENT ON FUNCTION upkeep.drop_job(uuid) IS
'Forgets a finished job, its history and its children. Owner''s members and upkeep.admin_role. '
'55000 if it has not finished, or is a child of a job; 55006 if a child has not finished.';

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
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_job_0_9_wrapper';
COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision,
                                     double precision) IS
'Changes an unfinished job, also while it runs, and the limits of its children; null keeps what is. '
'batch_time 10 ms to 60 s, workers 1 to 64; '
'run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; '
'the rest tightens the settings of these names (kB/s, 0..1, 1.01 and more). 0 takes a limit away again, and has batch_time follow '
'the setting. Owner''s members. 22023 a value out of range.';

CREATE FUNCTION upkeep.pause_all(reason text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_all_wrapper';
COMMENT ON FUNCTION upkeep.pause_all(text) IS
'Pauses every unfinished job of this database except commands that have started, and holds every schedule; '
'returns how many. What other transactions have locked is passed over, with a warning that names it (55P03). '
'To be granted.';

CREATE FUNCTION upkeep.resume_all() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_all_wrapper';
COMMENT ON FUNCTION upkeep.resume_all() IS
'Resumes every paused job and held schedule of this database, those that came with a dump or copy included (owner and '
'table are found by name); returns how many. What other transactions have locked is passed over, with a warning that '
'names it (55P03). To be granted.';

CREATE PROCEDURE upkeep.wait(job uuid, timeout interval DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wait_wrapper';
COMMENT ON PROCEDURE upkeep.wait(uuid, interval) IS
'Waits for a job with progress as notices, holding no snapshot. Raises the job''s error if it fails, '
'57014 if it is canceled or the timeout passes, 25001 inside a transaction block.';

CREATE FUNCTION upkeep.start_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'start_workers_wrapper';
COMMENT ON FUNCTION upkeep.start_workers() IS
'Starts background workers for this database until the server restarts; returns 1, or 0 if they run already. '
'Without shared_preload_libraries. To be granted. 53000 if max_worker_processes is used up.';

CREATE FUNCTION upkeep.stop_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'stop_workers_wrapper';
COMMENT ON FUNCTION upkeep.stop_workers() IS
'Ends the workers that start_workers() started; jobs wait where they are. Returns the number of processes ended. '
'To be granted. 55000 if the library is preloaded.';

CREATE FUNCTION upkeep.run_in_background(command text, name text DEFAULT NULL, retries integer DEFAULT 0) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_in_background_wrapper';
COMMENT ON FUNCTION upkeep.run_in_background(text, text, integer) IS
'Runs one SQL command in a worker as the caller, top-level ones (VACUUM, CREATE INDEX CONCURRENTLY, CALL) included. '
'retries: how often a failed or interrupted run is repeated. To be granted. '
'42601 unless exactly one statement; 0A000 for BEGIN, COMMIT, LISTEN, COPY FROM STDIN or TO STDOUT; '
'54000 more than 1 MB.';

REVOKE EXECUTE ON FUNCTION upkeep.start_workers(), upkeep.stop_workers(), upkeep.pause_all(text),
    upkeep.resume_all(), upkeep.run_in_background(text, text, integer) FROM PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   jobs_functions

-- Backfill: what people call, and what its statements and triggers call.

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
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_backfill_0_9_wrapper';
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
'Says how upkeep.backfill would go through the table, why, what it would cost (rows, bytes of WAL, time: '
'forecasts from a sample) and what speaks against it. Changes nothing.';

CREATE FUNCTION upkeep.preview_backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    max_rows integer DEFAULT 10
) RETURNS TABLE (row_key jsonb, old_row jsonb, new_row jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'upkeep_preview_backfill_wrapper';
COMMENT ON FUNCTION upkeep.preview_backfill(regclass, text, text, integer) IS
'Shows rows as they are and as upkeep.backfill would leave them, computed by SELECT. max_rows: 0 to 10000. '
'Triggers and generated columns are not shown. Changes nothing.';

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
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   backfill_functions

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
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   schedules_tables

-- What people see of schedules and their runs: as of jobs.

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
COMMENT ON VIEW upkeep.schedules IS
'Schedules of this database: when each runs next (null: not), why it is not active, and how its last run ended. '
'Rows: the caller''s roles'' schedules; all for pg_monitor and upkeep.admin_role. '
'command and last_error are shown to members of the owner.';

CREATE VIEW upkeep.schedule_runs WITH (security_barrier) AS
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
COMMENT ON VIEW upkeep.schedule_runs IS
'What came of each run of a schedule. status: queued, running, paused, done, failed, timed out, canceled; '
'missed (nobody was there when it was due) and skipped (the run before had not ended) stand for due_times due times '
'each. error is shown to members of the owner. Kept for upkeep.job_retention, at most 1000 rows per schedule.';
GRANT SELECT ON upkeep.schedules, upkeep.schedule_runs TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   schedules_views

-- What people do to schedules. All of it is to be granted.

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
'Runs a SQL command again and again as the caller, and returns the schedule. '
'schedule: five cron fields, @hourly @daily @weekly @monthly @yearly, or an interval of at least 1 second such as '
'''5 minutes''; timezone: of the fields, default the session''s; timeout: cancels a run (null: none); '
'retries: of a run that failed or timed out, after retry_backoff, doubled each time; '
'catch_up: makes up for one run missed while the server was down. To be granted. '
'42601 in schedule or command, 22023 wrong argument or a schedule that never runs, 42710 name in use, '
'0A000 for a command that cannot run in a worker.';

CREATE FUNCTION upkeep.unschedule(name text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_name_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(text) IS
'Ends a schedule for good and forgets its runs; a run that has started goes on. '
'Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule, 22023 several of this name.';

CREATE FUNCTION upkeep.unschedule(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_id_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(uuid) IS
'Ends a schedule for good and forgets its runs; a run that has started goes on. '
'Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule.';

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
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. '
'paused => true and false stop and go on; what was due meanwhile is not made up for. '
'Owner''s members; members of upkeep.admin_role may pause. To be granted. '
'Errors as of upkeep.schedule; 42704 no such schedule, 22023 several of this name.';

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
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. '
'paused => true and false stop and go on; what was due meanwhile is not made up for. '
'Owner''s members; members of upkeep.admin_role may pause. To be granted. '
'Errors as of upkeep.schedule; 42704 no such schedule.';

CREATE FUNCTION upkeep.run_now(name text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_name_wrapper';
COMMENT ON FUNCTION upkeep.run_now(text) IS
'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. '
'42704 no such schedule, 22023 several of this name, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, '
'55000 it came with a dump.';

CREATE FUNCTION upkeep.run_now(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_id_wrapper';
COMMENT ON FUNCTION upkeep.run_now(uuid) IS
'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. '
'42704 no such schedule, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';

REVOKE EXECUTE ON FUNCTION
    upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean),
    upkeep.unschedule(text), upkeep.unschedule(uuid),
    upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.run_now(text), upkeep.run_now(uuid) FROM PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   schedules_functions

-- What is known of every index, and which are used. Everybody may see what pg_stat_user_indexes and pg_indexes show everybody.
-- Nothing here waits for a lock, and nothing fails because an object is being dropped: sizes come from the files, and
-- the server's own deparser runs only under a lock that could be had at once.

-- Figures that somebody brought from a standby: `SELECT upkeep.index_usage_snapshot()` there, import_index_usage() here.
CREATE TABLE upkeep._index_usage_node (
    node text PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    stats_since timestamptz NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- OIDs mean the same only on physical copies of this server.
    system_identifier bigint NOT NULL,
    database oid NOT NULL
);
CREATE TABLE upkeep._index_usage (
    node text NOT NULL REFERENCES upkeep._index_usage_node ON DELETE CASCADE,
    indexrelid oid NOT NULL,
    idx_scan bigint NOT NULL,
    last_idx_scan timestamptz,
    PRIMARY KEY (node, indexrelid)
);

-- What transaction ids meant in time: the catalogs do not say when an index was created.
CREATE TABLE upkeep._xid_mark (
    marked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    xid bigint NOT NULL DEFAULT (pg_catalog.pg_current_xact_id()::pg_catalog.text)::bigint
);
-- As upkeep._job_event.
ALTER TABLE upkeep._xid_mark REPLICA IDENTITY FULL;
INSERT INTO upkeep._xid_mark DEFAULT VALUES;

CREATE FUNCTION upkeep._index_conditions() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_conditions_wrapper';
COMMENT ON FUNCTION upkeep._index_conditions() IS
'internal: since when indexes are watched, on which nodes, and what speaks against a verdict';

CREATE FUNCTION upkeep._file_size(filenode oid, tablespace oid) RETURNS bigint
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'file_size_wrapper';
COMMENT ON FUNCTION upkeep._file_size(oid, oid) IS 'internal: bytes of a relation''s files, without a lock; null if there is none';

CREATE FUNCTION upkeep._last_index_scan(index oid) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'last_index_scan_wrapper';
COMMENT ON FUNCTION upkeep._last_index_scan(oid) IS 'internal: pg_stat_get_lastscan(), null before version 16';

CREATE FUNCTION upkeep._index_definition(index oid, with_tablespace boolean) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_definition_wrapper';
COMMENT ON FUNCTION upkeep._index_definition(oid, boolean) IS
'internal: pg_get_indexdef() that neither waits nor fails: null if the index is locked or gone';

-- Facts of the catalogs and counters, one row per index of a user's table. Other sessions' temporary tables are nobody's business.
CREATE VIEW upkeep._index WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, i.indrelid AS relid, i.indexrelid,
       m.amname, c.relkind, t.relkind AS table_relkind, c.relispartition AS attached,
       c.relpersistence, c.relfilenode, c.reltablespace, c.reltuples, c.reloptions, c.relowner,
       i.indnatts, i.indnkeyatts, i.indisunique, i.indnullsnotdistinct, i.indisprimary, i.indisexclusion, i.indimmediate,
       i.indisclustered, i.indisvalid, i.indisready, i.indislive, i.indisreplident,
       i.indkey, i.indcollation, i.indclass, i.indoption, i.indexprs, i.indpred,
       i.xmin AS index_xid, c.xmin AS class_xid
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
  AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
  AND NOT pg_catalog.pg_is_other_temp_schema(n.oid);
COMMENT ON VIEW upkeep._index IS 'internal: facts of the catalogs, one row per index of a user''s table';

-- Is this predicate nothing but IS NOT NULL of some of these columns? Such an index serves everything that compares them.
CREATE FUNCTION upkeep._only_not_null(predicate text, columns smallint[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(predicate, '\{NULLTEST :arg \{VAR [^{}]*\} :nulltesttype 1 :argisrow false[^{}]*\}', 'T', 'g')
               OPERATOR(pg_catalog.~) '^(T|\{BOOLEXPR :boolop and :args \(T( T)*\)[^{}]*\})$'
       AND ARRAY(SELECT (v.parts)[1]::smallint FROM pg_catalog.regexp_matches(predicate, ':varattno (\d+)', 'g') AS v (parts))
               OPERATOR(pg_catalog.<@) columns;
COMMENT ON FUNCTION upkeep._only_not_null(text, smallint[]) IS
'internal: is an index''s predicate nothing but IS NOT NULL of these columns?';

-- Which indexes can serve which foreign key: its columns lead, in any order, with the operator and the collation that
-- the check on the referenced side uses. (Functions, because these settings keep the plan good on catalogs of any size,
-- analyzed or not.)
CREATE FUNCTION upkeep._foreign_key_support() RETURNS TABLE (conoid oid, indexrelid oid, width integer)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH serving AS MATERIALIZED (
    SELECT DISTINCT a.amopfamily, o.operator
    FROM pg_catalog.pg_amop a
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) a.amopmethod
    JOIN pg_catalog.pg_operator p ON p.oid OPERATOR(pg_catalog.=) a.amopopr
    CROSS JOIN LATERAL (VALUES (p.oid), (p.oprcom)) AS o (operator)
    WHERE a.amoppurpose OPERATOR(pg_catalog.=) 's'
      AND ((m.amname OPERATOR(pg_catalog.=) 'btree' AND a.amopstrategy OPERATOR(pg_catalog.=) 3)
           OR (m.amname OPERATOR(pg_catalog.=) 'hash' AND a.amopstrategy OPERATOR(pg_catalog.=) 1)
           OR m.amname OPERATOR(pg_catalog.=) 'gist')
), candidate AS MATERIALIZED (
    SELECT f.oid AS conoid, f.conkey, f.conpfeqop, f.conrelid, pg_catalog.cardinality(f.conkey) AS width,
           i.indexrelid, i.indnatts, i.indkey, i.indclass, i.indcollation
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) f.conrelid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND i.indisvalid AND i.indisready AND i.indislive
      AND i.indnkeyatts OPERATOR(pg_catalog.>=) pg_catalog.cardinality(f.conkey)
      AND (i.indkey::smallint[])[0:pg_catalog.cardinality(f.conkey) OPERATOR(pg_catalog.-) 1] OPERATOR(pg_catalog.@>) f.conkey
      AND (i.indpred IS NULL OR upkeep._only_not_null(i.indpred::pg_catalog.text, f.conkey))
), key_column AS MATERIALIZED (
    SELECT d.conoid, d.indexrelid, d.indnatts, d.width, d.conrelid, k.attnum, k.operator,
           d.indclass[q.position] AS opclass, d.indcollation[q.position] AS collation
    FROM candidate d
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(d.conkey), pg_catalog.unnest(d.conpfeqop)) AS k (attnum, operator)
    CROSS JOIN LATERAL (SELECT pg_catalog.array_position(d.indkey::smallint[], k.attnum) AS position) q
)
SELECT k.conoid, k.indexrelid, k.indnatts
FROM key_column k
JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) k.opclass
JOIN serving s ON s.amopfamily OPERATOR(pg_catalog.=) o.opcfamily AND s.operator OPERATOR(pg_catalog.=) k.operator
WHERE k.collation OPERATOR(pg_catalog.=) 0::pg_catalog.oid
   OR k.collation OPERATOR(pg_catalog.=) (SELECT a.attcollation FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum)
GROUP BY k.conoid, k.indexrelid, k.indnatts, k.width
HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) k.width;
END;
COMMENT ON FUNCTION upkeep._foreign_key_support() IS 'internal: the indexes that serve each foreign key on its referencing side';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_facts

-- The verdict on every index: used, kept, unknown or unused, in this order; the first that applies.
--
-- A partitioned index is judged as a whole: its scans are those of all its partitions, and what keeps one partition's index
-- keeps the whole, because only the whole can be dropped.

-- A stored expression as text that does not depend on where in its statement it stood.
CREATE FUNCTION upkeep._node_text(node pg_node_tree) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(node::pg_catalog.text, ' :location -?\d+', '', 'g');
COMMENT ON FUNCTION upkeep._node_text(pg_node_tree) IS 'internal: a stored expression, to be compared with another';

-- Figures of standbys and the existence of statistics: functions run as the caller, who may know this much.
CREATE VIEW upkeep._index_usage_elsewhere WITH (security_barrier) AS
SELECT u.node, u.indexrelid, u.idx_scan, u.last_idx_scan FROM upkeep._index_usage u;
COMMENT ON VIEW upkeep._index_usage_elsewhere IS 'internal: scans on standbys, as imported';

CREATE VIEW upkeep._expression_statistics WITH (security_barrier) AS
SELECT DISTINCT s.starelid AS indexrelid, NULL::pg_catalog.oid AS relid, NULL::pg_catalog.text AS expressions
FROM pg_catalog.pg_statistic s JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) s.starelid
WHERE i.indexprs IS NOT NULL
UNION ALL
SELECT NULL::pg_catalog.oid, e.stxrelid, upkeep._node_text(e.stxexprs)
FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_statistic_ext_data d ON d.stxoid OPERATOR(pg_catalog.=) e.oid
WHERE d.stxdexpr IS NOT NULL;
COMMENT ON VIEW upkeep._expression_statistics IS 'internal: which expressions have statistics, by an index or by CREATE STATISTICS';

GRANT SELECT ON upkeep._index, upkeep._index_usage_elsewhere, upkeep._expression_statistics TO PUBLIC;

CREATE TYPE upkeep._index_verdict AS (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, root oid, relkind "char", relpersistence "char",
    attached boolean, idx_scan bigint, standby_idx_scan bigint, last_idx_scan timestamptz,
    index_size bigint, entries double precision, inserts bigint, updates bigint, deletes bigint, hot_updates bigint,
    verdict text, reason text, stats_since timestamptz);
COMMENT ON TYPE upkeep._index_verdict IS 'internal: a row of _index_verdicts()';

CREATE FUNCTION upkeep._index_verdicts() RETURNS SETOF upkeep._index_verdict
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH RECURSIVE conditions AS MATERIALIZED (
    SELECT (f.c OPERATOR(pg_catalog.->>) 'stats_since')::pg_catalog.timestamptz AS stats_since,
           (f.c OPERATOR(pg_catalog.->>) 'nodes')::integer AS nodes,
           -- Of this very server, fresh, and with counters old enough.
           ARRAY(SELECT pg_catalog.jsonb_array_elements_text(f.c OPERATOR(pg_catalog.->) 'fresh_nodes')) AS fresh_nodes,
           f.c OPERATOR(pg_catalog.->>) 'min_age' AS min_age,
           -- What speaks against calling any index unused.
           f.c OPERATOR(pg_catalog.->>) 'unknown' AS unknown,
           -- Indexes whose rows are fewer transactions old than this are younger than upkeep.index_min_age.
           (f.c OPERATOR(pg_catalog.->>) 'young_xids')::bigint AS young_xids,
           (f.c OPERATOR(pg_catalog.->>) 'surely_young_xids')::bigint AS surely_young_xids,
           -- Tables of Citus, and their shards.
           ARRAY(SELECT r.relid::pg_catalog.oid
                 FROM pg_catalog.jsonb_array_elements_text(f.c OPERATOR(pg_catalog.->) 'distributed') r (relid)) AS distributed,
           pg_catalog.format('not scanned since %s%s', pg_catalog.left(f.c OPERATOR(pg_catalog.->>) 'stats_since', 10),
               CASE WHEN (f.c OPERATOR(pg_catalog.->>) 'nodes')::integer OPERATOR(pg_catalog.>) 0 THEN ', nor on standbys'
                    ELSE '' END) AS unused
    FROM (SELECT upkeep._index_conditions() AS c) f
), elsewhere AS MATERIALIZED (
    SELECT u.indexrelid, pg_catalog.sum(u.idx_scan)::bigint AS scans, pg_catalog.count(*) AS nodes,
           pg_catalog.string_agg(u.node, ', ' ORDER BY u.node) FILTER (WHERE u.idx_scan OPERATOR(pg_catalog.>) 0) AS users
    FROM upkeep._index_usage_elsewhere u
    WHERE u.node OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.unnest(c.fresh_nodes) FROM conditions c))
    GROUP BY u.indexrelid
), foreign_key_target AS MATERIALIZED (
    SELECT f.conindid, pg_catalog.min(f.conname::pg_catalog.text) AS conname
    FROM pg_catalog.pg_constraint f WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    GROUP BY f.conindid
), extension_member AS MATERIALIZED (
    SELECT d.objid, pg_catalog.min(e.extname::pg_catalog.text) AS extname FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'e'
      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
    GROUP BY d.objid
), expression_statistics AS MATERIALIZED (
    SELECT s.indexrelid, s.relid, s.expressions FROM upkeep._expression_statistics s
), tree (indexrelid, root) AS (
    SELECT r.oid, r.oid FROM pg_catalog.pg_class r WHERE r.relkind OPERATOR(pg_catalog.=) 'I' AND NOT r.relispartition
    UNION ALL
    SELECT h.inhrelid, p.root FROM tree p JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) p.indexrelid
), fact AS MATERIALIZED (
    SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.relkind, i.relpersistence, i.attached,
           -- Both rows say that the index was there already; an id from before the counter went round looks like the future.
           CASE WHEN pg_catalog.pg_stat_get_numscans(i.indexrelid) OPERATOR(pg_catalog.>) 0 THEN NULL
                WHEN pg_catalog.age(i.index_xid) OPERATOR(pg_catalog.<) 0 OR pg_catalog.age(i.class_xid) OPERATOR(pg_catalog.<) 0
                THEN 2147483647
                ELSE greatest(pg_catalog.age(i.index_xid), pg_catalog.age(i.class_xid)) END AS xid_age,
           coalesce(p.root, i.indexrelid) AS root, p.root IS NOT NULL AS in_tree,
           i.indisvalid AND i.indisready AND i.indislive AS usable,
           coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0) AS scans,
           CASE WHEN pg_catalog.pg_stat_get_numscans(i.indexrelid) OPERATOR(pg_catalog.>) 0
                THEN upkeep._last_index_scan(i.indexrelid) END AS last_scan,
           coalesce(x.scans, 0) AS scans_elsewhere, x.users, coalesce(x.nodes, 0) AS nodes_elsewhere,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                WHEN i.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(i.indexrelid)
                ELSE upkeep._file_size(i.relfilenode, i.reltablespace) END AS index_size,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE greatest(i.reltuples, 0) END::double precision AS entries,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_inserted(i.relid) END AS inserts,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_updated(i.relid) END AS updates,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_deleted(i.relid) END AS deletes,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                ELSE pg_catalog.pg_stat_get_tuples_hot_updated(i.relid) END AS hot_updates,
           CASE WHEN i.indisprimary THEN 'primary key'
                WHEN i.indisexclusion THEN 'exclusion constraint'
                WHEN k.conname IS NOT NULL THEN pg_catalog.format('foreign key %I refers to it', k.conname)
                WHEN i.indisunique THEN 'unique: it checks what is written, which is not counted as a scan'
                WHEN i.indisreplident THEN 'replica identity of the table'
                WHEN i.indisclustered THEN 'CLUSTER order of the table'
                WHEN coalesce(e.extname, t.extname) IS NOT NULL
                THEN pg_catalog.format('belongs to extension %I', coalesce(e.extname, t.extname))
                WHEN i.indexprs IS NOT NULL
                     AND i.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT s.indexrelid FROM expression_statistics s
                                                                        WHERE s.indexrelid IS NOT NULL))
                     AND NOT EXISTS (SELECT FROM expression_statistics s
                                     WHERE s.relid OPERATOR(pg_catalog.=) i.relid
                                       AND pg_catalog.strpos(s.expressions, pg_catalog.btrim(upkeep._node_text(i.indexprs), '()'))
                                           OPERATOR(pg_catalog.>) 0)
                THEN 'the planner uses the statistics of its expression; CREATE STATISTICS on the expression and ANALYZE replace them'
           END AS kept_as
    FROM upkeep._index i
    LEFT JOIN tree p ON p.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN elsewhere x ON x.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN foreign_key_target k ON k.conindid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN extension_member e ON e.objid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN extension_member t ON t.objid OPERATOR(pg_catalog.=) i.relid
), whole AS MATERIALIZED (
    -- Partitioned indexes, with all their partitions.
    SELECT f.root, pg_catalog.sum(f.scans)::bigint AS scans, pg_catalog.sum(f.scans_elsewhere)::bigint AS scans_elsewhere,
           pg_catalog.max(f.users) AS users, pg_catalog.max(f.nodes_elsewhere) AS nodes_elsewhere,
           pg_catalog.max(f.last_scan) AS last_scan,
           pg_catalog.max(f.xid_age) AS xid_age, pg_catalog.min(f.kept_as) AS kept_as, pg_catalog.bool_and(f.usable) AS usable,
           pg_catalog.sum(f.index_size)::bigint AS index_size, pg_catalog.sum(f.entries) AS entries,
           pg_catalog.sum(f.inserts)::bigint AS inserts,
           pg_catalog.sum(f.updates)::bigint AS updates, pg_catalog.sum(f.deletes)::bigint AS deletes,
           pg_catalog.sum(f.hot_updates)::bigint AS hot_updates
    FROM fact f WHERE f.in_tree
    GROUP BY f.root
), idle AS MATERIALIZED (
    -- Nothing seen so far speaks for these, of those that can be dropped by themselves.
    SELECT f.root FROM fact f
    WHERE NOT f.in_tree AND f.usable AND f.kept_as IS NULL AND f.scans OPERATOR(pg_catalog.=) 0
      AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0
    UNION ALL
    SELECT w.root FROM whole w
    WHERE w.usable AND w.kept_as IS NULL AND w.scans OPERATOR(pg_catalog.=) 0 AND w.scans_elsewhere OPERATOR(pg_catalog.=) 0
), only_support AS MATERIALIZED (
    -- Of the indexes that serve a foreign key, one must stay: one that is not idle, or else the narrowest, or else the oldest.
    SELECT DISTINCT ON (s.conoid) s.conoid, r.root, u.root IS NOT NULL AS is_idle
    FROM upkeep._foreign_key_support() s
    LEFT JOIN tree t ON t.indexrelid OPERATOR(pg_catalog.=) s.indexrelid
    CROSS JOIN LATERAL (SELECT coalesce(t.root, s.indexrelid) AS root) r
    LEFT JOIN idle u ON u.root OPERATOR(pg_catalog.=) r.root
    ORDER BY s.conoid, is_idle, s.width, r.root
), foreign_key AS MATERIALIZED (
    SELECT o.root, pg_catalog.min(c.conname::pg_catalog.text) AS conname
    FROM only_support o JOIN pg_catalog.pg_constraint c ON c.oid OPERATOR(pg_catalog.=) o.conoid
    WHERE o.is_idle
    GROUP BY o.root
)
SELECT f.schemaname, f.relname, f.indexrelname, f.relid, f.indexrelid, f.root, f.relkind, f.relpersistence, f.attached,
       -- Each partition's index has its own figures, the whole has the sums.
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.scans ELSE f.scans END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.scans_elsewhere ELSE f.scans_elsewhere END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.last_scan ELSE f.last_scan END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.index_size ELSE f.index_size END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.entries ELSE f.entries END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.inserts ELSE f.inserts END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.updates ELSE f.updates END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.deletes ELSE f.deletes END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.hot_updates ELSE f.hot_updates END,
       v.verdict,
       CASE v.verdict
            WHEN 'unused' THEN c.unused
            WHEN 'used' THEN CASE
                WHEN a.scans_elsewhere OPERATOR(pg_catalog.=) 0 AND NOT f.attached THEN pg_catalog.concat('scanned ', a.scans, ' times')
                ELSE pg_catalog.concat_ws('; ',
                    CASE WHEN f.attached AND f.scans OPERATOR(pg_catalog.=) 0 AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0
                         THEN 'partition of an index that is used' END,
                    CASE WHEN a.scans OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('scanned ', a.scans, ' times') END,
                    CASE WHEN a.scans_elsewhere OPERATOR(pg_catalog.>) 0 THEN
                        pg_catalog.format('scanned %s times on standbys (%s)', a.scans_elsewhere, coalesce(w.users, f.users)) END) END
            WHEN 'kept' THEN coalesce(f.kept_as, w.kept_as,
                CASE WHEN k.conname IS NOT NULL THEN
                    pg_catalog.format('the only index for foreign key %I: without it each DELETE on the other side reads this table',
                                      k.conname) END,
                'partition of an index that is judged as a whole: not used anywhere, and only the whole can be dropped')
            ELSE CASE
                WHEN NOT a.usable THEN 'not valid, in whole or in part: see upkeep.invalid_indexes'
                WHEN f.relid OPERATOR(pg_catalog.=) ANY (c.distributed)
                THEN 'not judged: Citus keeps rows of its table on several nodes, and what they count is not added up here'
                WHEN c.unknown IS NOT NULL THEN c.unknown
                WHEN a.xid_age OPERATOR(pg_catalog.<) c.young_xids THEN pg_catalog.format('created less than %s ago%s', c.min_age,
                    CASE WHEN a.xid_age OPERATOR(pg_catalog.<) c.surely_young_xids THEN '' ELSE ' (estimated from transaction ids)' END)
                ELSE 'created after the figures of a standby were taken: import them again' END
       END,
       c.stats_since
FROM fact f
LEFT JOIN whole w ON w.root OPERATOR(pg_catalog.=) f.root
LEFT JOIN foreign_key k ON k.root OPERATOR(pg_catalog.=) f.root
CROSS JOIN conditions c
-- What the verdict goes by: the whole, if there is one.
CROSS JOIN LATERAL (
    SELECT coalesce(w.scans, f.scans) AS scans, coalesce(w.scans_elsewhere, f.scans_elsewhere) AS scans_elsewhere,
           coalesce(w.nodes_elsewhere, f.nodes_elsewhere) AS nodes_elsewhere, coalesce(w.xid_age, f.xid_age) AS xid_age,
           coalesce(w.usable, f.usable) AS usable, CASE WHEN f.in_tree THEN w.kept_as ELSE f.kept_as END AS kept_as) a
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN a.scans OPERATOR(pg_catalog.>) 0 OR a.scans_elsewhere OPERATOR(pg_catalog.>) 0 THEN 'used'
        WHEN NOT a.usable THEN 'unknown'
        WHEN a.kept_as IS NOT NULL OR k.root IS NOT NULL THEN 'kept'
        WHEN c.unknown IS NOT NULL OR f.relid OPERATOR(pg_catalog.=) ANY (c.distributed)
            OR a.xid_age OPERATOR(pg_catalog.<) c.young_xids OR a.nodes_elsewhere OPERATOR(pg_catalog.<) c.nodes THEN 'unknown'
        WHEN f.attached THEN 'kept'
        ELSE 'unused' END AS verdict) v;
END;
COMMENT ON FUNCTION upkeep._index_verdicts() IS 'internal: counters, costs and the verdict, one row per index';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_verdicts

-- Which indexes are used, and which are in the way.

CREATE FUNCTION upkeep.index_usage_snapshot() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
SELECT pg_catalog.jsonb_build_object(
    'format', 1,
    'system_identifier', s.system_identifier,
    'database', d.oid::bigint,
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'taken_at', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD HH24:MI:SS.US+00'),
    'stats_since', upkeep._index_conditions() OPERATOR(pg_catalog.->>) 'stats_since',
    'indexes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           i.indexrelid::bigint, coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0),
                           pg_catalog.to_char(pg_catalog.timezone('UTC', upkeep._last_index_scan(i.indexrelid)),
                                              'YYYY-MM-DD HH24:MI:SS.US+00'))), '[]')
                FROM upkeep._index i))
FROM pg_catalog.pg_control_system() s
JOIN pg_catalog.pg_database d ON d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();
END;
COMMENT ON FUNCTION upkeep.index_usage_snapshot() IS
'How often each index of this database was scanned on this server, for import_index_usage() on the primary. '
'Works on a standby, whose counters are its own.';

CREATE FUNCTION upkeep.import_index_usage(node text, figures jsonb) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'import_index_usage_wrapper';
COMMENT ON FUNCTION upkeep.import_index_usage(text, jsonb) IS
'On the primary: takes what index_usage_snapshot() gave on a standby; returns the number of indexes. '
'node: the standby''s application_name in pg_stat_replication (its slot or address if two have the same). '
'Figures count for 7 days. figures null forgets the node. To be granted. '
'22023 figures of another server, database or format, of a primary, or older than those here; 42704 nothing to forget.';
REVOKE EXECUTE ON FUNCTION upkeep.import_index_usage(text, jsonb) FROM PUBLIC;

-- CREATE INDEX in the server's words, put together from the catalogs where that is certain to give the same text: names of columns and
-- directions of btree and hash. Everything else the server itself says (and null if that had to wait).
-- With commands, or else with indexdef.
CREATE FUNCTION upkeep._index_definitions(wanted oid[], commands boolean) RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, indexdef text, tail text, drop_command text,
    create_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH asked AS MATERIALIZED (
    SELECT w.indexrelid FROM pg_catalog.unnest(wanted) AS w (indexrelid)
), opclass AS MATERIALIZED (
    -- btree and hash, without parameters of their own (support functions 5 and 3).
    SELECT o.oid, o.opcintype, y.typtype OPERATOR(pg_catalog.=) 'p'
               OR o.opcintype OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype AS broad
    FROM pg_catalog.pg_opclass o
    JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) o.opcintype
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) o.opcmethod
    LEFT JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) o.opcfamily
         AND p.amprocnum OPERATOR(pg_catalog.=) CASE m.amname WHEN 'btree' THEN 5 ELSE 3 END
    WHERE o.opcdefault AND m.amname OPERATOR(pg_catalog.=) ANY (ARRAY['btree', 'hash']::pg_catalog.name[]) AND p.oid IS NULL
), index_column AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, k.attnum, k.position, k.position OPERATOR(pg_catalog.<=) i.indnkeyatts AS is_key,
           i.indclass[k.position OPERATOR(pg_catalog.-) 1] AS opclass, i.indcollation[k.position OPERATOR(pg_catalog.-) 1] AS collation,
           coalesce(i.indoption[k.position OPERATOR(pg_catalog.-) 1], 0) AS option
    FROM pg_catalog.pg_index i
    JOIN asked w ON w.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
    WHERE i.indexprs IS NULL AND i.indpred IS NULL
), plain AS MATERIALIZED (
    SELECT k.indexrelid,
           pg_catalog.string_agg(pg_catalog.concat(pg_catalog.quote_ident(a.attname),
               CASE k.option WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN ' NULLS FIRST' WHEN 3 THEN ' DESC' END),
               ', ' ORDER BY k.position) FILTER (WHERE k.is_key) AS keys,
           pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.position) FILTER (WHERE NOT k.is_key) AS included,
           pg_catalog.bool_and(NOT k.is_key OR coalesce(
               (o.opcintype OPERATOR(pg_catalog.=) a.atttypid
                OR (o.broad AND a.atttypid OPERATOR(pg_catalog.<>) 'pg_catalog.name'::pg_catalog.regtype))
               AND k.collation OPERATOR(pg_catalog.=) a.attcollation, false)) AS certain
    FROM index_column k
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
         AND a.attnum OPERATOR(pg_catalog.>) 0
    LEFT JOIN opclass o ON o.oid OPERATOR(pg_catalog.=) k.opclass
    GROUP BY k.indexrelid
)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       CASE WHEN NOT commands THEN pg_catalog.concat(x.head, x.ident, x.only, x.relation) OPERATOR(pg_catalog.||) x.tail END,
       CASE WHEN commands THEN x.full_tail END,
       CASE WHEN NOT commands OR f.conindid IS NOT NULL THEN NULL
            WHEN c.conname IS NOT NULL THEN pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I;', x.relation, c.conname)
            ELSE pg_catalog.format('DROP INDEX %s%I.%s;', x.concurrently, x.schemaname, x.ident) END,
       CASE WHEN NOT commands THEN NULL
            WHEN c.conname IS NULL
            THEN pg_catalog.concat(x.head, x.concurrently, x.ident, ' ON ', x.relation)
                     OPERATOR(pg_catalog.||) x.full_tail OPERATOR(pg_catalog.||) ';'
            ELSE pg_catalog.format('%s%s%s ON %s%s; ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %s%s;',
                x.head, x.concurrently, x.ident, x.relation, x.full_tail, x.relation, c.conname,
                CASE WHEN c.contype OPERATOR(pg_catalog.=) 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, x.ident,
                CASE WHEN c.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN c.condeferrable THEN ' DEFERRABLE' ELSE '' END) END
FROM (
    SELECT y.*,
           -- Where the server's own text is needed: what follows the same first words.
           CASE WHEN y.certain THEN y.body
                ELSE pg_catalog.substr(upkeep._index_definition(y.indexrelid, false), y.first_words) END AS tail,
           CASE WHEN y.certain THEN pg_catalog.concat(y.body, ' TABLESPACE ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(y.spcname))
                ELSE pg_catalog.substr(upkeep._index_definition(y.indexrelid, true), y.fewer_first_words) END AS full_tail
    FROM (SELECT z.*, pg_catalog.length(pg_catalog.concat(z.head, z.ident, z.only, z.relation)) OPERATOR(pg_catalog.+) 1 AS first_words,
                 -- With the tablespace, the server leaves ONLY out.
                 pg_catalog.length(pg_catalog.concat(z.head, z.ident, ' ON ', z.relation)) OPERATOR(pg_catalog.+) 1 AS fewer_first_words
          FROM (
        SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, i.indrelid AS relid, i.indexrelid,
               coalesce(p.certain, false) AND c.reloptions IS NULL AS certain,
               CASE WHEN i.indisunique THEN 'CREATE UNIQUE INDEX ' ELSE 'CREATE INDEX ' END AS head,
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' OR c.relpersistence OPERATOR(pg_catalog.=) 't' THEN ''
                    ELSE 'CONCURRENTLY ' END AS concurrently,
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' THEN ' ON ONLY ' ELSE ' ON ' END AS only,
               pg_catalog.quote_ident(c.relname) AS ident,
               pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(t.relname)) AS relation,
               pg_catalog.concat(' USING ', pg_catalog.quote_ident(m.amname), ' (', p.keys, ')',
                                 ' INCLUDE (' OPERATOR(pg_catalog.||) p.included OPERATOR(pg_catalog.||) ')',
                   CASE WHEN i.indnullsnotdistinct THEN ' NULLS NOT DISTINCT' END) AS body,
               s.spcname
        FROM asked q
        JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) q.indexrelid
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
        JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace
        JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
        LEFT JOIN plain p ON p.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
        LEFT JOIN pg_catalog.pg_tablespace s ON s.oid OPERATOR(pg_catalog.=) c.reltablespace) z) y) x
LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) x.indexrelid
     AND (c.contype OPERATOR(pg_catalog.=) 'p' OR c.contype OPERATOR(pg_catalog.=) 'u')
LEFT JOIN (SELECT DISTINCT r.conindid FROM pg_catalog.pg_constraint r WHERE r.contype OPERATOR(pg_catalog.=) 'f') f
     ON f.conindid OPERATOR(pg_catalog.=) x.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_definitions(oid[], boolean) IS
'internal: these indexes'' definitions, and the commands that drop them (none while a foreign key refers to one) and '
'make them again';

CREATE FUNCTION upkeep._index_usage() RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, idx_scan bigint, idx_tup_read bigint,
    idx_tup_fetch bigint,
    last_idx_scan timestamptz, index_size bigint, table_writes bigint, hot_share double precision, stats_age interval, indexdef text,
    verdict text, reason text, standby_idx_scan bigint)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
SELECT v.schemaname, v.relname, v.indexrelname, v.relid, v.indexrelid,
       v.idx_scan,
       CASE WHEN v.relkind OPERATOR(pg_catalog.<>) 'I' THEN pg_catalog.pg_stat_get_tuples_returned(v.indexrelid) END,
       CASE WHEN v.relkind OPERATOR(pg_catalog.<>) 'I' THEN pg_catalog.pg_stat_get_tuples_fetched(v.indexrelid) END,
       v.last_idx_scan, v.index_size,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.+) v.deletes,
       v.hot_updates::double precision OPERATOR(pg_catalog./) nullif(v.updates, 0),
       pg_catalog.now() OPERATOR(pg_catalog.-) v.stats_since,
       d.indexdef, v.verdict, v.reason, v.standby_idx_scan
FROM upkeep._index_verdicts() v
LEFT JOIN upkeep._index_definitions(ARRAY(
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['i', 'I']::pg_catalog."char"[])
      AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog'::pg_catalog.regnamespace,
                                                            'pg_toast'::pg_catalog.regnamespace]::pg_catalog.oid[])), false) d
    ON d.indexrelid OPERATOR(pg_catalog.=) v.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_usage() IS 'internal: upkeep.index_usage, with settings that keep its plan good';

CREATE VIEW upkeep.index_usage WITH (security_barrier) AS SELECT u.* FROM upkeep._index_usage() u;
COMMENT ON VIEW upkeep.index_usage IS
'Every index of every user table: scans since the statistics began (stats_age), size in bytes, writes to its table, '
'share of its updates that were HOT (0..1), and a verdict (used, unused, kept, unknown) with the reason. '
'A partitioned index has the sums of its partitions (and null for idx_tup_read and idx_tup_fetch). '
'Readable by everyone, like pg_stat_user_indexes.';

-- Columns that only one index of the table has: their updates can be HOT once it is gone. Indexes that only summarize
-- (brin) do not count from version 16 on.
CREATE FUNCTION upkeep._sole_columns(wanted oid[]) RETURNS TABLE (indexrelid oid, columns name[])
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH asked AS MATERIALIZED (
    SELECT DISTINCT i.indrelid FROM pg_catalog.unnest(wanted) AS w (indexrelid)
    JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) w.indexrelid
), counted AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indkey, i.indexprs IS NOT NULL OR i.indpred IS NOT NULL AS computed
    FROM asked q
    JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) q.indrelid
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
    WHERE i.indislive
      AND (m.amname OPERATOR(pg_catalog.<>) 'brin'
           OR pg_catalog.current_setting('server_version_num')::integer OPERATOR(pg_catalog.<) 160000)
), index_column AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, k.attnum
    FROM counted i CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) AS k (attnum)
    WHERE k.attnum OPERATOR(pg_catalog.>) 0
    UNION
    -- Columns within expressions and predicates.
    SELECT i.indexrelid, i.indrelid, d.refobjsubid::smallint
    FROM counted i
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
         AND d.objid OPERATOR(pg_catalog.=) i.indexrelid
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
         AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid AND d.refobjsubid OPERATOR(pg_catalog.>) 0
    WHERE i.computed
), sole AS MATERIALIZED (
    SELECT pg_catalog.min(k.indexrelid) AS indexrelid, k.indrelid, k.attnum
    FROM index_column k GROUP BY k.indrelid, k.attnum HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) 1
)
SELECT s.indexrelid, pg_catalog.array_agg(a.attname ORDER BY s.attnum)
FROM sole s JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) s.indrelid AND a.attnum OPERATOR(pg_catalog.=) s.attnum
GROUP BY s.indexrelid;
END;
COMMENT ON FUNCTION upkeep._sole_columns(oid[]) IS 'internal: columns that only this one of their table''s indexes has';

CREATE FUNCTION upkeep._unused_indexes(unused upkeep._index_verdict[]) RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, index_size bigint, entries_written bigint,
    hot_updates_prevented bigint, hot_prevented_by name[], table_writes bigint, hot_share double precision, stats_age interval,
    reason text,
    drop_command text, create_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
SELECT v.schemaname, v.relname, v.indexrelname, v.relid, v.indexrelid,
       v.index_size,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.-) v.hot_updates,
       CASE WHEN s.columns IS NULL THEN 0 ELSE v.updates OPERATOR(pg_catalog.-) v.hot_updates END,
       s.columns,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.+) v.deletes,
       v.hot_updates::double precision OPERATOR(pg_catalog./) nullif(v.updates, 0),
       pg_catalog.now() OPERATOR(pg_catalog.-) v.stats_since,
       v.reason, d.drop_command, d.create_command
FROM pg_catalog.unnest(unused) v
LEFT JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM pg_catalog.unnest(unused) w), true) d
     ON d.indexrelid OPERATOR(pg_catalog.=) v.indexrelid
LEFT JOIN upkeep._sole_columns(ARRAY(SELECT w.indexrelid FROM pg_catalog.unnest(unused) w)) s
     ON s.indexrelid OPERATOR(pg_catalog.=) v.indexrelid
-- What it occupies and what has been written into it.
ORDER BY v.index_size::double precision
         OPERATOR(pg_catalog.+) ((v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.-) v.hot_updates)::double precision
                                 OPERATOR(pg_catalog.*) (v.index_size::double precision
                                                         OPERATOR(pg_catalog./) greatest(v.entries, 1))) DESC NULLS LAST,
         CASE WHEN s.columns IS NULL THEN 0 ELSE v.updates OPERATOR(pg_catalog.-) v.hot_updates END DESC, v.indexrelid;
END;
COMMENT ON FUNCTION upkeep._unused_indexes(upkeep._index_verdict[]) IS
'internal: what there is to say about unused indexes, dearest first';

CREATE VIEW upkeep.unused_indexes WITH (security_barrier) AS
SELECT u.*
FROM upkeep._unused_indexes(ARRAY(SELECT v FROM upkeep._index_verdicts() v WHERE v.verdict OPERATOR(pg_catalog.=) 'unused')) u;
COMMENT ON VIEW upkeep.unused_indexes IS
'Indexes that nothing has used anywhere for upkeep.index_min_age, dearest first (bytes they occupy, '
'and bytes written into them since the statistics began; then updates that could not be HOT because of a column that '
'only this index has). drop_command and the way back, create_command. A partitioned index cannot be dropped '
'CONCURRENTLY.';

GRANT SELECT ON upkeep.index_usage, upkeep.unused_indexes TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_usage

-- Indexes that another one makes superfluous, and indexes that are broken.

CREATE FUNCTION upkeep._predicate_covers(wide oid, narrow oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'predicate_covers_wrapper';
COMMENT ON FUNCTION upkeep._predicate_covers(oid, oid) IS
'internal: is every row of partial index narrow also in partial index wide, by the planner''s proof?';

-- Valid indexes in a form in which they can be compared.
CREATE VIEW upkeep._index_shape WITH (security_barrier) AS
SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.amname, i.relkind, i.attached, i.relpersistence,
       i.indisunique, i.indimmediate, i.indisprimary, i.indisreplident, i.indisclustered, i.indisexclusion,
       i.indnkeyatts, i.indnatts, i.indnullsnotdistinct, i.reloptions,
       i.indkey::smallint[] AS attnums,
       (i.indkey::smallint[])[0:i.indnkeyatts OPERATOR(pg_catalog.-) 1] AS keys,
       i.indclass::pg_catalog.oid[] AS opclasses, i.indcollation::pg_catalog.oid[] AS collations, i.indoption::smallint[] AS options,
       ARRAY(SELECT (o.option OPERATOR(pg_catalog.#) 3::smallint)::smallint
             FROM pg_catalog.unnest(i.indoption::smallint[]) WITH ORDINALITY AS o (option, position)
             ORDER BY o.position) AS reverse_options,
       upkeep._node_text(i.indexprs) AS expressions, upkeep._node_text(i.indpred) AS predicate
FROM upkeep._index i
WHERE i.indisvalid AND i.indisready AND i.indislive;
COMMENT ON VIEW upkeep._index_shape IS 'internal: valid indexes, comparable';
GRANT SELECT ON upkeep._index_shape TO PUBLIC;

CREATE FUNCTION upkeep._index_size(index oid) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
WITH RECURSIVE tree (indexrelid) AS (
    SELECT index
    UNION ALL
    SELECT h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.indexrelid
)
SELECT pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                           WHEN c.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(c.oid)
                           ELSE upkeep._file_size(c.relfilenode, c.reltablespace) END)::bigint
FROM tree t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_size(oid) IS 'internal: bytes of an index with its partitions';

-- Scans of an index, here and on standbys; of a partitioned one all its partitions'.
CREATE FUNCTION upkeep._scans(index oid) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
WITH RECURSIVE tree (indexrelid) AS (
    SELECT index
    UNION ALL
    SELECT h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.indexrelid
)
SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_numscans(t.indexrelid)), 0)::bigint
       OPERATOR(pg_catalog.+) (SELECT coalesce(pg_catalog.sum(u.idx_scan), 0)::bigint FROM upkeep._index_usage_elsewhere u
            WHERE u.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT x.indexrelid FROM tree x)))
FROM tree t;
END;
COMMENT ON FUNCTION upkeep._scans(oid) IS 'internal: scans of an index with its partitions, on all nodes';

CREATE FUNCTION upkeep._duplicate_indexes() RETURNS TABLE (indexrelid oid, kept oid, kept_name name, reason text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH alike AS MATERIALIZED (
    -- Cheap first: most indexes have their columns for themselves.
    SELECT i.indrelid AS relid, i.indclass::pg_catalog.oid[] AS opclasses, i.indkey::smallint[] AS attnums
    FROM pg_catalog.pg_index i
    GROUP BY i.indrelid, i.indclass, i.indkey::smallint[] HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1
), referenced AS MATERIALIZED (
    SELECT DISTINCT f.conindid FROM pg_catalog.pg_constraint f WHERE f.contype OPERATOR(pg_catalog.=) 'f'
), ranked AS MATERIALIZED (
    SELECT s.indexrelid, s.indexrelname, s.attached, s.indisprimary, s.indisreplident, s.indisclustered, c.oid AS conoid,
           r.conindid, u.used,
           pg_catalog.first_value(s.indexrelid) OVER same AS kept,
           pg_catalog.first_value(s.indexrelname) OVER same AS kept_name
    FROM upkeep._index_shape s
    JOIN alike a ON a.relid OPERATOR(pg_catalog.=) s.relid AND a.opclasses OPERATOR(pg_catalog.=) s.opclasses
         AND a.attnums OPERATOR(pg_catalog.=) s.attnums
    CROSS JOIN LATERAL (SELECT upkeep._scans(s.indexrelid) OPERATOR(pg_catalog.>) 0 AS used) u
    LEFT JOIN referenced r ON r.conindid OPERATOR(pg_catalog.=) s.indexrelid
    LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) s.indexrelid
         AND c.contype OPERATOR(pg_catalog.=) ANY (ARRAY['p', 'u']::pg_catalog."char"[])
    LEFT JOIN (SELECT t.attrelid, pg_catalog.string_agg(pg_catalog.concat(t.attnum, t.attoptions), ' ' ORDER BY t.attnum) AS list
               FROM pg_catalog.pg_attribute t WHERE t.attoptions IS NOT NULL GROUP BY t.attrelid) o
         ON o.attrelid OPERATOR(pg_catalog.=) s.indexrelid
    WHERE NOT s.indisexclusion
    WINDOW same AS (
        PARTITION BY s.relid, s.amname, s.attnums, s.indnkeyatts, s.opclasses, s.collations, s.options, s.indisunique, s.indimmediate,
                     s.indnullsnotdistinct, s.expressions, s.predicate, s.reloptions, o.list
        -- Stays: what cannot be dropped, what means more, what is used, what is older.
        ORDER BY s.attached DESC, s.indisprimary DESC, r.conindid IS NULL, s.indisreplident DESC, c.oid IS NULL,
                 s.indisclustered DESC, u.used DESC, s.indexrelid)
)
SELECT d.indexrelid, d.kept, d.kept_name,
       pg_catalog.format('identical to %I, which %s%s', d.kept_name,
           CASE WHEN k.attached THEN 'is part of a partitioned index'
                WHEN k.indisprimary THEN 'is the primary key'
                WHEN k.conindid IS NOT NULL THEN 'a foreign key refers to'
                WHEN k.indisreplident THEN 'is the replica identity'
                WHEN k.conoid IS NOT NULL AND d.conoid IS NULL THEN 'backs a constraint'
                WHEN k.indisclustered THEN 'is the CLUSTER order'
                WHEN k.used AND NOT d.used THEN 'is the one in use'
                ELSE 'is older' END,
           CASE WHEN d.conindid IS NOT NULL THEN '; a foreign key refers to this one too: let it refer to the other first' ELSE '' END)
FROM ranked d
JOIN ranked k ON k.indexrelid OPERATOR(pg_catalog.=) d.kept
WHERE d.kept OPERATOR(pg_catalog.<>) d.indexrelid AND NOT d.attached;
END;
COMMENT ON FUNCTION upkeep._duplicate_indexes() IS 'internal: indexes that are identical to another one, which stays';

CREATE VIEW upkeep.duplicate_indexes WITH (security_barrier) AS
WITH d AS MATERIALIZED (SELECT u.* FROM upkeep._duplicate_indexes() u)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       d.kept_name AS duplicate_of, d.kept AS duplicate_of_indexrelid,
       s.index_size, d.reason, x.drop_command, x.create_command
FROM d
JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM d w), true) x ON x.indexrelid OPERATOR(pg_catalog.=) d.indexrelid
CROSS JOIN LATERAL (SELECT upkeep._index_size(d.indexrelid) AS index_size) s
ORDER BY s.index_size DESC NULLS LAST, d.indexrelid;
COMMENT ON VIEW upkeep.duplicate_indexes IS
'Indexes identical to another one of their table (duplicate_of) in method, columns, order, operator classes, '
'collations, options, expressions, predicate, INCLUDE, uniqueness and NULLS NOT DISTINCT. '
'drop_command is null while a foreign key refers to the index. Sizes in bytes.';

-- Only btree indexes cover others (and hash indexes of one column are covered by them).
CREATE FUNCTION upkeep._redundant_indexes() RETURNS TABLE (
    indexrelid oid, cover oid, cover_name name, lost_columns boolean, narrower boolean, partial boolean, hash boolean, lost_options text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH alike AS MATERIALIZED (
    SELECT i.indrelid AS relid, i.indkey[0] AS first
    FROM pg_catalog.pg_index i
    GROUP BY i.indrelid, i.indkey[0] HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1
), shape AS MATERIALIZED (
    SELECT s.* FROM upkeep._index_shape s
    JOIN alike a ON a.relid OPERATOR(pg_catalog.=) s.relid AND a.first OPERATOR(pg_catalog.=) s.keys[1]
    WHERE (s.amname OPERATOR(pg_catalog.=) 'btree' OR s.amname OPERATOR(pg_catalog.=) 'hash') AND NOT s.indisexclusion
), opclass AS MATERIALIZED (
    SELECT o.oid, o.opcintype FROM pg_catalog.pg_opclass o WHERE o.opcdefault
), duplicate AS MATERIALIZED (
    -- In upkeep.duplicate_indexes.
    SELECT x.indexrelid FROM upkeep._duplicate_indexes() x
), pair AS MATERIALIZED (
    SELECT d.indexrelid, k.indexrelid AS cover, k.indexrelname AS cover_name,
           NOT d.attnums OPERATOR(pg_catalog.<@) k.attnums AS lost_columns,
           d.indnatts AS own_width, k.indnatts AS cover_width,
           d.predicate IS NOT NULL AND k.predicate IS NULL AS partial, d.amname OPERATOR(pg_catalog.=) 'hash' AS hash,
           k.indisunique AS cover_is_unique,
           CASE WHEN d.reloptions IS DISTINCT FROM k.reloptions THEN pg_catalog.array_to_string(d.reloptions, ', ') END AS lost_options
    FROM shape d
    JOIN shape k ON k.relid OPERATOR(pg_catalog.=) d.relid AND k.keys[1] OPERATOR(pg_catalog.=) d.keys[1]
    LEFT JOIN opclass a ON a.oid OPERATOR(pg_catalog.=) d.opclasses[0]
    LEFT JOIN opclass b ON b.oid OPERATOR(pg_catalog.=) k.opclasses[0]
    WHERE d.indexrelid OPERATOR(pg_catalog.<>) k.indexrelid AND k.amname OPERATOR(pg_catalog.=) 'btree'
      AND NOT d.indisunique AND NOT d.indisreplident AND NOT d.indisclustered AND NOT d.attached
      AND CASE WHEN d.amname OPERATOR(pg_catalog.=) 'hash' THEN a.opcintype OPERATOR(pg_catalog.=) b.opcintype
                   AND k.collations[0] OPERATOR(pg_catalog.=) d.collations[0]
          ELSE d.indnkeyatts OPERATOR(pg_catalog.<=) k.indnkeyatts
               AND k.keys[1:d.indnkeyatts] OPERATOR(pg_catalog.=) d.keys
               AND k.opclasses[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                   OPERATOR(pg_catalog.=) d.opclasses[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
               AND k.collations[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                   OPERATOR(pg_catalog.=) d.collations[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
               -- The same order, or all of it backwards.
               AND (k.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                    OPERATOR(pg_catalog.=) d.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                    OR k.reverse_options[1:d.indnkeyatts] OPERATOR(pg_catalog.=) d.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1])
          END
      -- A list of expressions is, or begins with, the other one.
      AND (d.expressions IS NULL OR d.expressions OPERATOR(pg_catalog.=) k.expressions
           OR pg_catalog.starts_with(k.expressions, pg_catalog.regexp_replace(d.expressions, '\)$', ' ')))
      AND CASE WHEN k.predicate IS NULL OR k.predicate OPERATOR(pg_catalog.=) d.predicate THEN true
               WHEN d.predicate IS NULL THEN false
               ELSE upkeep._predicate_covers(k.indexrelid, d.indexrelid) END
      AND d.indexrelid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT x.indexrelid FROM duplicate x))
      AND k.indexrelid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT x.indexrelid FROM duplicate x))
), standing AS MATERIALIZED (
    SELECT p.* FROM pair p
    LEFT JOIN pair r ON r.indexrelid OPERATOR(pg_catalog.=) p.cover AND r.cover OPERATOR(pg_catalog.=) p.indexrelid
    -- Of two that cover each other goes what takes nothing along, then the narrower, then the younger.
    WHERE (r.cover IS NULL
           OR (p.lost_columns, p.own_width, r.indexrelid) OPERATOR(pg_catalog.<) (r.lost_columns, r.own_width, p.indexrelid))
      -- Where enough is known, an index that was never scanned covers nothing: it may be called unused itself.
      AND (p.cover_is_unique OR upkeep._scans(p.cover) OPERATOR(pg_catalog.>) 0
           OR (SELECT upkeep._index_conditions() OPERATOR(pg_catalog.->>) 'unknown') IS NOT NULL)
)
SELECT DISTINCT ON (s.indexrelid) s.indexrelid, s.cover, s.cover_name, s.lost_columns, s.own_width OPERATOR(pg_catalog.<) s.cover_width,
       s.partial, s.hash, s.lost_options
FROM standing s
LEFT JOIN (SELECT DISTINCT t.indexrelid FROM standing t) goes ON goes.indexrelid OPERATOR(pg_catalog.=) s.cover
ORDER BY s.indexrelid, goes.indexrelid IS NOT NULL, s.lost_columns, s.cover_width, s.cover;
END;
COMMENT ON FUNCTION upkeep._redundant_indexes() IS 'internal: indexes that another one covers, which stays';

CREATE VIEW upkeep.redundant_indexes WITH (security_barrier) AS
WITH r AS MATERIALIZED (SELECT u.* FROM upkeep._redundant_indexes() u)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       r.cover_name AS covered_by, r.cover AS covered_by_indexrelid,
       c.index_size,
       CASE WHEN r.hash THEN pg_catalog.format('%I finds equal values as well', r.cover_name)
            WHEN r.partial THEN pg_catalog.format('%I begins with the same columns and is not limited to some rows', r.cover_name)
            WHEN r.narrower THEN pg_catalog.format('%I begins with the same columns', r.cover_name)
            ELSE pg_catalog.format('%I has the same columns', r.cover_name) END AS reason,
       coalesce(nullif(pg_catalog.concat_ws('; ',
           CASE WHEN r.lost_columns THEN 'index-only scans that read its INCLUDE columns' END,
           CASE WHEN c.index_size OPERATOR(pg_catalog.<) k.index_size THEN pg_catalog.format('a smaller index: %s instead of %s',
               pg_catalog.pg_size_pretty(c.index_size), pg_catalog.pg_size_pretty(k.index_size)) END,
           CASE WHEN r.partial THEN 'rows outside of its predicate are then in the index that is read' END,
           CASE WHEN r.hash THEN 'entries of constant size however long the values are' END,
           'its storage parameters: ' OPERATOR(pg_catalog.||) r.lost_options), ''), 'nothing') AS what_would_be_lost,
       x.drop_command, x.create_command
FROM r
JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM r w), true) x ON x.indexrelid OPERATOR(pg_catalog.=) r.indexrelid
CROSS JOIN LATERAL (SELECT upkeep._index_size(r.indexrelid) AS index_size) c
CROSS JOIN LATERAL (SELECT upkeep._index_size(r.cover) AS index_size) k
ORDER BY c.index_size DESC NULLS LAST, r.indexrelid;
COMMENT ON VIEW upkeep.redundant_indexes IS
'Indexes that another valid btree index (covered_by) can stand in for: same leading columns, operator classes and '
'collations, the same or the wholly reversed order, and at least the same rows. '
'Unique indexes are never here; identical ones are in upkeep.duplicate_indexes. '
'what_would_be_lost says what the other one does not do as well. Sizes in bytes.';

-- Broken ones. pg_stat_progress_create_index shows other roles' builds without their table; pg_locks does not hide which
-- table a process works on.
CREATE FUNCTION upkeep._invalid_indexes() RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, index_size bigint, problem text, missing text[],
    repair_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH broken AS MATERIALIZED (
    SELECT n.nspname, t.relname, c.relname AS indexrelname, i.indrelid, i.indexrelid, i.indislive, i.indisunique, c.relkind,
           c.relpersistence,
           c.relispartition, c.relfilenode, c.reltablespace,
           pg_catalog.format('%I.%I', n.nspname, c.relname) AS ident,
           pg_catalog.substring(c.relname::pg_catalog.text, '_cc(?:new|old)\d*$') AS leftover
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
      AND n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), working AS MATERIALIZED (
    SELECT l.relation, l.pid, l.mode FROM pg_catalog.pg_locks l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
      AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                                                   'ExclusiveLock', 'AccessExclusiveLock'])
      AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
      AND EXISTS (SELECT FROM broken)
), left_alone AS MATERIALIZED (
    -- Being built, rebuilt or dropped: the index is locked, or its table by a process that builds.
    SELECT b.indexrelid FROM broken b
    WHERE NOT EXISTS (SELECT FROM working w WHERE w.relation OPERATOR(pg_catalog.=) b.indexrelid)
      AND NOT EXISTS (SELECT FROM working w
                      JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid OPERATOR(pg_catalog.=) w.pid
                      WHERE w.relation OPERATOR(pg_catalog.=) b.indrelid)
), missing AS MATERIALIZED (
    SELECT b.indexrelid, k.indexrelid AS child,
           CASE WHEN k.indexrelid IS NULL THEN 'missing' WHEN NOT k.indisvalid THEN 'invalid' END AS state,
           pg_catalog.format('%I.%I', pn.nspname, p.relname) AS partition, p.relkind,
           pg_catalog.quote_ident(kn.nspname) OPERATOR(pg_catalog.||) '.'
               OPERATOR(pg_catalog.||) pg_catalog.quote_ident(kc.relname) AS child_ident,
           pn.nspname, pg_catalog.concat(p.relname, '_', b.indexrelname)::pg_catalog.name AS new_name
    FROM broken b
    JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) b.indrelid
    JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) h.inhrelid AND p.relkind OPERATOR(pg_catalog.<>) 'f'
    JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.relnamespace
    LEFT JOIN (pg_catalog.pg_inherits a JOIN pg_catalog.pg_index k ON k.indexrelid OPERATOR(pg_catalog.=) a.inhrelid
               JOIN pg_catalog.pg_class kc ON kc.oid OPERATOR(pg_catalog.=) k.indexrelid
               JOIN pg_catalog.pg_namespace kn ON kn.oid OPERATOR(pg_catalog.=) kc.relnamespace)
         ON a.inhparent OPERATOR(pg_catalog.=) b.indexrelid AND k.indrelid OPERATOR(pg_catalog.=) p.oid
    WHERE b.relkind OPERATOR(pg_catalog.=) 'I'
)
SELECT b.nspname, b.relname, b.indexrelname, b.indrelid, b.indexrelid,
       CASE WHEN b.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE upkeep._file_size(b.relfilenode, b.reltablespace) END,
       CASE WHEN b.leftover IS NOT NULL AND pg_catalog.starts_with(b.leftover, '_ccnew')
            THEN 'what a REINDEX CONCURRENTLY that failed had built: drop it, then try again'
            WHEN b.leftover IS NOT NULL THEN 'what a REINDEX CONCURRENTLY could not drop at its end: the index has been rebuilt'
            WHEN NOT b.indislive THEN 'a DROP INDEX CONCURRENTLY did not end'
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I' AND m.missing IS NOT NULL THEN 'partitions without a valid index for it'
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I' THEN 'every partition has its index, but the whole was not marked valid'
            ELSE pg_catalog.concat('a concurrent build failed: it is written to, and never read',
                CASE WHEN b.indisunique THEN '; rows that are not unique must go first' END) END,
       m.missing,
       CASE WHEN b.leftover IS NOT NULL OR NOT b.indislive
            THEN pg_catalog.format(CASE WHEN b.relkind OPERATOR(pg_catalog.=) 'I' OR b.relpersistence OPERATOR(pg_catalog.=) 't'
                                        THEN 'DROP INDEX %s;' ELSE 'DROP INDEX CONCURRENTLY %s;' END, b.ident)
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I'
            THEN coalesce(m.commands, (SELECT pg_catalog.format('ALTER INDEX %s ATTACH PARTITION %s;', b.ident, g.child_ident)
                                       FROM missing g
                                       WHERE g.indexrelid OPERATOR(pg_catalog.=) b.indexrelid AND g.child IS NOT NULL
                                       ORDER BY g.child LIMIT 1))
            WHEN b.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.format('REINDEX INDEX %s;', b.ident)
            ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %s;', b.ident) END
FROM broken b
JOIN left_alone l ON l.indexrelid OPERATOR(pg_catalog.=) b.indexrelid
LEFT JOIN (
    SELECT g.indexrelid, pg_catalog.array_agg(g.partition ORDER BY g.partition) AS missing,
           pg_catalog.string_agg(CASE
               WHEN g.state OPERATOR(pg_catalog.=) 'invalid' AND g.relkind OPERATOR(pg_catalog.=) 'p'
               THEN pg_catalog.format('ALTER INDEX %s ATTACH PARTITION %s;', b.ident, g.child_ident)
               WHEN g.state OPERATOR(pg_catalog.=) 'invalid'
               THEN pg_catalog.format(E'REINDEX INDEX CONCURRENTLY %s;\nALTER INDEX %s ATTACH PARTITION %s;', g.child_ident,
                                      b.ident, g.child_ident)
               ELSE pg_catalog.format(E'%s %I ON %s%s%s;%s\nALTER INDEX %s ATTACH PARTITION %I.%I;',
                   CASE WHEN b.indisunique THEN 'CREATE UNIQUE INDEX' ELSE 'CREATE INDEX' END
                       OPERATOR(pg_catalog.||) CASE WHEN g.relkind OPERATOR(pg_catalog.=) 'p' THEN '' ELSE ' CONCURRENTLY' END,
                   -- A partition that is partitioned itself comes up here next, with its own.
                   g.new_name, CASE WHEN g.relkind OPERATOR(pg_catalog.=) 'p' THEN 'ONLY ' END, g.partition, d.tail,
                   CASE WHEN c.conname IS NOT NULL
                        THEN pg_catalog.format(E'\nALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I;', g.partition, g.new_name,
                                               CASE WHEN c.contype OPERATOR(pg_catalog.=) 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
                                               g.new_name) END,
                   b.ident, g.nspname, g.new_name) END, E'\n' ORDER BY g.partition) AS commands
    FROM missing g
    JOIN broken b ON b.indexrelid OPERATOR(pg_catalog.=) g.indexrelid
    LEFT JOIN upkeep._index_definitions(ARRAY(SELECT DISTINCT w.indexrelid FROM missing w), true) d
         ON d.indexrelid OPERATOR(pg_catalog.=) g.indexrelid
    LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) g.indexrelid
         AND (c.contype OPERATOR(pg_catalog.=) 'p' OR c.contype OPERATOR(pg_catalog.=) 'u')
    WHERE g.state IS NOT NULL
    GROUP BY g.indexrelid) m ON m.indexrelid OPERATOR(pg_catalog.=) b.indexrelid;
END;
COMMENT ON FUNCTION upkeep._invalid_indexes() IS 'internal: indexes that are not valid and that nobody works on';

CREATE VIEW upkeep.invalid_indexes WITH (security_barrier) AS
SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.index_size, i.problem,
       i.missing AS missing_partitions, i.repair_command
FROM upkeep._invalid_indexes() i
ORDER BY i.schemaname, i.relname, i.indexrelname;
COMMENT ON VIEW upkeep.invalid_indexes IS
'Indexes that are written to and never read: what failed concurrent builds, rebuilds and drops left (of TOAST tables '
'too), and partitioned indexes that lack a valid index on some partition (missing_partitions); '
'not those being built or dropped at the moment. repair_command: what to type, line by line.';

GRANT SELECT ON upkeep.duplicate_indexes, upkeep.redundant_indexes, upkeep.invalid_indexes TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_superfluous

-- Indexes that are not there: for foreign keys, and for tables that are read from end to end all the time.

CREATE FUNCTION upkeep._unindexed_foreign_keys() RETURNS TABLE (
    conoid oid, without text[], partitions bigint, table_rows double precision, table_size bigint,
    referenced_rows double precision, referenced_updates bigint, referenced_deletes bigint, leaf_commands text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH RECURSIVE tree (top, conoid, conrelid) AS (
    SELECT f.oid, f.oid, f.conrelid FROM pg_catalog.pg_constraint f
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    UNION ALL
    SELECT t.top, f.oid, f.conrelid FROM tree t
    JOIN pg_catalog.pg_constraint f ON f.conparentid OPERATOR(pg_catalog.=) t.conoid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f'
), supported AS MATERIALIZED (
    SELECT DISTINCT s.conoid FROM upkeep._foreign_key_support() s
), leaf AS MATERIALIZED (
    -- A partitioned table is served if each of its partitions is.
    SELECT t.top, t.conrelid, c.relname, c.relnamespace, c.reltuples, c.relfilenode, c.reltablespace, c.relpersistence,
           c.oid OPERATOR(pg_catalog.<>) (SELECT f.conrelid FROM pg_catalog.pg_constraint f
                                          WHERE f.oid OPERATOR(pg_catalog.=) t.top) AS is_partition,
           pg_catalog.bool_or(s.conoid IS NOT NULL) AS served
    FROM tree t
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.conrelid AND c.relkind OPERATOR(pg_catalog.=) 'r'
    LEFT JOIN supported s ON s.conoid OPERATOR(pg_catalog.=) t.conoid
    GROUP BY t.top, t.conrelid, c.oid, c.relname, c.relnamespace, c.reltuples, c.relfilenode, c.reltablespace, c.relpersistence
), bare AS MATERIALIZED (
    SELECT l.top, pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, l.relname) ORDER BY l.relname)
                      FILTER (WHERE l.is_partition AND NOT l.served) AS without,
           pg_catalog.count(*) FILTER (WHERE l.is_partition) AS partitions,
           pg_catalog.sum(greatest(l.reltuples, pg_catalog.pg_stat_get_live_tuples(l.conrelid), 0))
               FILTER (WHERE NOT l.served) AS table_rows,
           (pg_catalog.sum(CASE WHEN l.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(l.conrelid)
                ELSE upkeep._file_size(l.relfilenode, l.reltablespace) END) FILTER (WHERE NOT l.served))::bigint AS table_size,
           pg_catalog.bool_and(l.served) AS served
    FROM leaf l JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) l.relnamespace
    GROUP BY l.top
), wanting AS MATERIALIZED (
    SELECT f.oid AS conoid, f.confrelid, f.conrelid, f.conkey, b.without, coalesce(b.partitions, 0) AS partitions, b.table_rows,
           b.table_size
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN bare b ON b.top OPERATOR(pg_catalog.=) f.oid
    LEFT JOIN supported s ON s.conoid OPERATOR(pg_catalog.=) f.oid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
      AND CASE WHEN b.top IS NULL THEN s.conoid IS NULL ELSE NOT b.served END
      AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
      AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), referenced (root, relid) AS (
    SELECT DISTINCT w.confrelid, w.confrelid FROM wanting w
    UNION ALL
    SELECT r.root, h.inhrelid FROM referenced r
    JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) r.relid AND p.relkind OPERATOR(pg_catalog.=) 'p'
    JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) r.relid
), activity AS MATERIALIZED (
    SELECT r.root, pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'r'
                                       THEN greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0) END) AS rows,
           pg_catalog.sum(pg_catalog.pg_stat_get_tuples_updated(c.oid))::bigint AS updates,
           pg_catalog.sum(pg_catalog.pg_stat_get_tuples_deleted(c.oid))::bigint AS deletes
    FROM referenced r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.relid
    GROUP BY r.root
)
SELECT w.conoid, w.without, w.partitions, w.table_rows, w.table_size, a.rows, a.updates, a.deletes,
       (SELECT pg_catalog.string_agg(pg_catalog.format('CREATE INDEX CONCURRENTLY ON %s (%s);', u.leaf, k.list), E'\n' ORDER BY u.leaf)
        FROM pg_catalog.unnest(w.without) AS u (leaf)
        CROSS JOIN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(x.attname), ', ' ORDER BY q.position) AS list
                    FROM pg_catalog.unnest(w.conkey) WITH ORDINALITY AS q (attnum, position)
                    JOIN pg_catalog.pg_attribute x ON x.attrelid OPERATOR(pg_catalog.=) w.conrelid
                         AND x.attnum OPERATOR(pg_catalog.=) q.attnum) k)
FROM wanting w JOIN activity a ON a.root OPERATOR(pg_catalog.=) w.confrelid;
END;
COMMENT ON FUNCTION upkeep._unindexed_foreign_keys() IS 'internal: foreign keys that no index serves on the referencing side';

CREATE VIEW upkeep.unindexed_foreign_keys WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, f.conrelid AS relid, f.conname, k.names AS columns,
       rn.nspname AS referenced_schemaname, r.relname AS referenced_relname, f.confrelid AS referenced_relid,
       coalesce(w.table_rows, 0)::bigint AS rows_estimate, coalesce(w.table_size, 0) AS table_size,
       v.severity,
       CASE v.severity
           WHEN 'high' THEN pg_catalog.format('each of %s deletes from %I has read this table', w.referenced_deletes, r.relname)
           WHEN 'medium' THEN CASE
               WHEN w.referenced_deletes OPERATOR(pg_catalog.>) 0
               THEN pg_catalog.format('%s deletes from %I, which has only %s rows', w.referenced_deletes, r.relname,
                                      coalesce(w.referenced_rows, 0)::bigint)
               ELSE pg_catalog.format('%I is updated (%s rows so far): those that change its key read this table', r.relname,
                                      w.referenced_updates) END
           ELSE CASE
               WHEN coalesce(w.table_rows, 0) OPERATOR(pg_catalog.<) 1000
               THEN pg_catalog.format('the table is tiny (%s rows): reading it costs little', coalesce(w.table_rows, 0)::bigint)
               ELSE pg_catalog.format('nothing was deleted from %I or updated in it since the statistics began', r.relname) END
       END AS reason,
       w.without AS partitions_without,
       CASE WHEN t.relkind OPERATOR(pg_catalog.=) 'p'
            -- Built partition by partition; then the whole finds them there, and its lock is short.
            THEN pg_catalog.concat(w.leaf_commands OPERATOR(pg_catalog.||) E'\n',
                                   pg_catalog.format('CREATE INDEX ON %I.%I (%s);', n.nspname, t.relname, k.list))
            WHEN t.relpersistence OPERATOR(pg_catalog.=) 't'
            THEN pg_catalog.format('CREATE INDEX ON %I.%I (%s);', n.nspname, t.relname, k.list)
            ELSE pg_catalog.format('CREATE INDEX CONCURRENTLY ON %I.%I (%s);', n.nspname, t.relname, k.list) END AS create_command
FROM upkeep._unindexed_foreign_keys() w
JOIN pg_catalog.pg_constraint f ON f.oid OPERATOR(pg_catalog.=) w.conoid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace
JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) f.confrelid
JOIN pg_catalog.pg_namespace rn ON rn.oid OPERATOR(pg_catalog.=) r.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname ORDER BY q.position) AS names,
           pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY q.position) AS list
    FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS q (attnum, position)
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid AND a.attnum OPERATOR(pg_catalog.=) q.attnum) k
CROSS JOIN LATERAL (
    SELECT CASE WHEN coalesce(w.table_rows, 0) OPERATOR(pg_catalog.<) 1000
                    OR w.referenced_updates OPERATOR(pg_catalog.+) w.referenced_deletes OPERATOR(pg_catalog.=) 0 THEN 'low'
                WHEN w.referenced_deletes OPERATOR(pg_catalog.=) 0 OR coalesce(w.referenced_rows, 0) OPERATOR(pg_catalog.<) 100
                THEN 'medium'
                ELSE 'high' END AS severity) v
ORDER BY pg_catalog.array_position(ARRAY['high', 'medium', 'low'], v.severity), w.table_size DESC NULLS LAST, f.oid;
COMMENT ON VIEW upkeep.unindexed_foreign_keys IS
'Foreign keys whose columns lead no index of the referencing table (in any order; partial indexes count if their '
'predicate is IS NOT NULL of these columns): a DELETE or a changed key on the other side reads the whole table, '
'per row. severity: high; medium (few rows there, or only updates); low (the table has fewer than 1,000 rows, '
'or nothing is ever deleted or updated there). Sizes in bytes. create_command: what to type, line by line.';

-- Tables that are read from end to end: at least 10,000 rows and 1 MB; at least 50 sequential scans, of a tenth of the table or more each,
-- and more than 5 % of all scans.
CREATE FUNCTION upkeep._read_from_end_to_end() RETURNS TABLE (
    schemaname name, relname name, relid oid, table_size bigint, rows double precision, seq_scan bigint, seq_tup_read bigint,
    idx_scan bigint)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH scanned AS MATERIALIZED (
    SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.reltablespace, c.relpersistence,
           greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0)::double precision AS rows,
           pg_catalog.pg_stat_get_numscans(c.oid) AS seq_scan,
           pg_catalog.pg_stat_get_tuples_returned(c.oid) AS seq_tup_read
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'm']::pg_catalog."char"[])
      AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
      AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
      AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), big AS MATERIALIZED (
    SELECT s.*, CASE WHEN s.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(s.oid)
                     ELSE upkeep._file_size(s.relfilenode, s.reltablespace) END AS table_size,
           (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_numscans(i.indexrelid)), 0)::bigint
            FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) s.oid) AS idx_scan
    FROM scanned s
    WHERE s.rows OPERATOR(pg_catalog.>=) 10000 AND s.seq_scan OPERATOR(pg_catalog.>=) 50
      AND s.seq_tup_read::double precision
          OPERATOR(pg_catalog.>=) (0.1::double precision OPERATOR(pg_catalog.*) s.rows OPERATOR(pg_catalog.*) s.seq_scan::double precision)
)
SELECT b.nspname, b.relname, b.oid, b.table_size, b.rows, b.seq_scan, b.seq_tup_read, b.idx_scan
FROM big b
WHERE b.table_size OPERATOR(pg_catalog.>=) 1048576
  AND b.seq_scan::double precision
      OPERATOR(pg_catalog.>) (0.05::double precision
                              OPERATOR(pg_catalog.*) (b.seq_scan OPERATOR(pg_catalog.+) b.idx_scan)::double precision);
END;
COMMENT ON FUNCTION upkeep._read_from_end_to_end() IS 'internal: tables that sequential scans read far too often';

-- Column statistics come through pg_stats, which shows a role what it may read and no more.
CREATE VIEW upkeep.missing_indexes WITH (security_barrier) AS
SELECT t.schemaname, t.relname, t.relid, t.table_size, t.rows::bigint AS rows_estimate,
       t.seq_scan, t.seq_tup_read, t.seq_tup_read::double precision OPERATOR(pg_catalog./) t.seq_scan AS rows_per_scan,
       t.idx_scan, t.idx_scan::double precision OPERATOR(pg_catalog./) (t.seq_scan OPERATOR(pg_catalog.+) t.idx_scan) AS idx_share,
       upkeep._last_index_scan(t.relid) AS last_seq_scan,
       s.attname, s.n_distinct, s.null_frac, s.correlation, s.most_common_freq, s.rows_per_value,
       pg_catalog.concat(
           pg_catalog.format('%s sequential scans read %s rows each, %s scans used an index', t.seq_scan,
               (t.seq_tup_read::double precision OPERATOR(pg_catalog./) t.seq_scan)::bigint, t.idx_scan),
           CASE WHEN s.attname IS NULL THEN '; no column statistics that you may read show a column which an index would narrow down'
           ELSE pg_catalog.format('; if %I is what they look for: %s', s.attname, pg_catalog.concat_ws(', ',
               pg_catalog.format('about %s rows per value', greatest(s.rows_per_value, 1)::bigint),
               pg_catalog.format('%s different values', s.different::bigint),
               CASE WHEN s.null_frac OPERATOR(pg_catalog.>) 0
                    THEN pg_catalog.format('%s %% null', pg_catalog.round((s.null_frac OPERATOR(pg_catalog.*) 100)::numeric, 1)) END,
               CASE WHEN s.most_common_freq IS NOT NULL THEN pg_catalog.format('the most common value (%s) is %s %% of the rows',
                   pg_catalog.left(s.most_common_value, 40),
                   pg_catalog.round((s.most_common_freq OPERATOR(pg_catalog.*) 100)::numeric, 1)) END,
               CASE WHEN pg_catalog.abs(s.correlation) OPERATOR(pg_catalog.>) 0.9
                    THEN 'values lie in the order of the table: a brin index may do' END)) END) AS evidence
FROM upkeep._read_from_end_to_end() t
LEFT JOIN LATERAL (
    SELECT c.*, p.different, p.rows_per_value
    FROM (SELECT a.attname, a.n_distinct, a.null_frac, a.correlation, (a.most_common_freqs)[1] AS most_common_freq,
                 (pg_catalog.array_to_json(a.most_common_vals) OPERATOR(pg_catalog.->>) 0) AS most_common_value
          FROM pg_catalog.pg_stats a
          WHERE a.schemaname OPERATOR(pg_catalog.=) t.schemaname AND a.tablename OPERATOR(pg_catalog.=) t.relname AND NOT a.inherited) c
    CROSS JOIN LATERAL (
        SELECT d.different, t.rows OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) c.null_frac)::double precision
                   OPERATOR(pg_catalog./) d.different AS rows_per_value
        FROM (SELECT greatest(CASE WHEN c.n_distinct OPERATOR(pg_catalog.<) 0
                                   THEN (0 OPERATOR(pg_catalog.-) c.n_distinct::double precision) OPERATOR(pg_catalog.*) t.rows
                                   ELSE c.n_distinct::double precision END, 1) AS different) d) p
    -- An index is worth it where it leaves at most 1 % of the rows, and where there is none yet.
    WHERE p.rows_per_value OPERATOR(pg_catalog.<=) (0.01::double precision OPERATOR(pg_catalog.*) t.rows)
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute k ON k.attrelid OPERATOR(pg_catalog.=) i.indrelid AND k.attnum OPERATOR(pg_catalog.=) i.indkey[0]
        WHERE i.indrelid OPERATOR(pg_catalog.=) t.relid AND k.attname OPERATOR(pg_catalog.=) c.attname AND i.indpred IS NULL
          AND i.indisvalid)
    ORDER BY p.rows_per_value, c.attname LIMIT 5) s ON true
ORDER BY t.seq_tup_read DESC, t.relid, s.rows_per_value;
COMMENT ON VIEW upkeep.missing_indexes IS
'Tables that sequential scans read far too often: at least 10,000 rows and 1 MB, at least 50 sequential scans that '
'read a tenth of the table or more, over 5 % of all scans. For each up to five columns without an index whose values '
'would leave at most 1 % of the rows, with the evidence. Which columns queries look for is not known here. '
'Column statistics: only those that pg_stats shows the caller; without any, one row with a null attname. '
'Sizes in bytes, shares 0..1.';

GRANT SELECT ON upkeep.unindexed_foreign_keys, upkeep.missing_indexes TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_missing

-- How large btree indexes are, and how large they would be after a rebuild.

CREATE FUNCTION upkeep._index_bloat() RETURNS TABLE (
    indexrelid oid,
    index_size bigint,
    estimated_size bigint,
    lower_bound bigint,
    upper_bound bigint,
    basis text,
    last_analyze timestamptz,
    n_mod_since_analyze bigint
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_index_bloat_wrapper';
COMMENT ON FUNCTION upkeep._index_bloat() IS
'internal: the figures behind upkeep.bloated_indexes, from statistics that the caller may see';

CREATE VIEW upkeep.bloated_indexes WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, t.oid AS relid, c.oid AS indexrelid,
       b.index_size, b.estimated_size, b.lower_bound, b.upper_bound,
       CASE WHEN b.estimated_size IS NOT NULL THEN
           greatest(b.index_size OPERATOR(pg_catalog.-) b.estimated_size, 0) END AS bloat_bytes,
       CASE WHEN b.estimated_size IS NOT NULL THEN
           greatest(b.index_size OPERATOR(pg_catalog.-) b.estimated_size, 0)::double precision
               OPERATOR(pg_catalog./) b.index_size::double precision END AS bloat_ratio,
       CASE WHEN b.estimated_size IS NULL THEN 'unknown'
            WHEN b.index_size OPERATOR(pg_catalog.<=) 131072 THEN 'fine'
            WHEN b.upper_bound::double precision OPERATOR(pg_catalog.<=)
                 (0.7::double precision OPERATOR(pg_catalog.*) b.index_size::double precision) THEN 'bloated'
            WHEN b.estimated_size::double precision OPERATOR(pg_catalog.<=)
                 (0.7::double precision OPERATOR(pg_catalog.*) b.index_size::double precision) THEN 'maybe'
            ELSE 'fine' END AS verdict,
       b.basis, b.last_analyze, b.n_mod_since_analyze,
       CASE WHEN i.indisexclusion THEN pg_catalog.format('REINDEX INDEX %I.%I;', n.nspname, c.relname)
            ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %I.%I;', n.nspname, c.relname) END AS reindex_command
FROM upkeep._index_bloat() b
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.indexrelid
JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) b.indexrelid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
ORDER BY 10 DESC NULLS LAST, b.index_size DESC;
COMMENT ON VIEW upkeep.bloated_indexes IS
'Valid btree indexes of user tables with their size, and the size that a rebuild would give them, '
'estimated from catalog statistics without reading the index. Sizes in bytes. Most bloat first. Waits for no lock. '
'Where the statistics are missing, or are of columns that you may not SELECT, verdict is unknown and basis says why; '
'upkeep.measure_index_bloat() looks into the index itself. Other access methods and invalid indexes are not listed.';
COMMENT ON COLUMN upkeep.bloated_indexes.estimated_size IS 'After REINDEX, at the index''s fillfactor, in bytes; null: not known.';
COMMENT ON COLUMN upkeep.bloated_indexes.lower_bound IS 'What estimated_size may be at least.';
COMMENT ON COLUMN upkeep.bloated_indexes.upper_bound IS 'What estimated_size may be at most.';
COMMENT ON COLUMN upkeep.bloated_indexes.bloat_bytes IS 'index_size - estimated_size, or 0.';
COMMENT ON COLUMN upkeep.bloated_indexes.bloat_ratio IS 'bloat_bytes as a fraction of index_size, 0 to 1.';
COMMENT ON COLUMN upkeep.bloated_indexes.verdict IS
'bloated: a rebuild gives back at least 30 % even if upper_bound is right; maybe: if estimated_size is right; '
'fine: neither, or at most 128 kB; unknown: see basis.';
COMMENT ON COLUMN upkeep.bloated_indexes.basis IS 'What the estimate rests on, or why there is none.';
GRANT SELECT ON upkeep.bloated_indexes TO PUBLIC;

CREATE FUNCTION upkeep.measure_index_bloat(index regclass, sample_pages integer DEFAULT 1000) RETURNS TABLE (
    index_size bigint,
    estimated_size bigint,
    lower_bound bigint,
    upper_bound bigint,
    bloat_bytes bigint,
    bloat_ratio double precision,
    pages_read integer,
    leaf_pages bigint,
    internal_pages bigint,
    deleted_pages bigint,
    half_dead_pages bigint,
    new_pages bigint,
    leaf_density double precision,
    index_rows bigint,
    live_tuples bigint,
    posting_tuples bigint,
    dead_tuples bigint,
    tree_level integer,
    deduplicates boolean
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
    AS 'MODULE_PATHNAME', 'upkeep_measure_index_bloat_wrapper';
COMMENT ON FUNCTION upkeep.measure_index_bloat(regclass, integer) IS
'Reads at most sample_pages pages (10 to 1000000) of a btree index, chosen by chance, under ACCESS SHARE, '
'and says how large the index would be after REINDEX, with bounds that 95 of 100 samples keep. '
'Sizes in bytes; leaf_density and bloat_ratio are fractions; the other figures are counts, extrapolated. '
'Rows deleted from the table but not vacuumed yet count as live. Takes SELECT on the table, its ownership, '
'or pg_stat_scan_tables. Errors: 22004 no index, 22023 sample_pages out of range, 42P01 it is gone, '
'42809 not an index or a partitioned one, 42501 not permitted, 0A000 not btree or another session''s, 55000 not valid.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_bloat

-- All of it at once, for people (HTML) and programs (jsonb).

-- The dearest are shown, all are counted.
CREATE FUNCTION upkeep._report_section(total bigint, bytes numeric, shown jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL UNSAFE
    RETURN pg_catalog.jsonb_build_object('count', total, 'bytes', coalesce(bytes, 0), 'rows', coalesce(shown, '[]'));
COMMENT ON FUNCTION upkeep._report_section(bigint, numeric, jsonb) IS 'internal: one list of index_report()';

CREATE FUNCTION upkeep.index_report() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
WITH judged AS MATERIALIZED (
    SELECT v FROM upkeep._index_verdicts() v
), verdict AS MATERIALIZED (
    SELECT (j.v).verdict, pg_catalog.count(*) AS indexes, coalesce(pg_catalog.sum((j.v).index_size), 0)::bigint AS bytes
    FROM judged j
    -- Partitions are in their whole's sums already.
    WHERE NOT (j.v).attached
    GROUP BY 1
)
SELECT pg_catalog.jsonb_build_object(
    'format', 1,
    'database', pg_catalog.current_database(),
    'server_version', pg_catalog.current_setting('server_version'),
    'generated_at', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'conditions', upkeep._index_conditions() OPERATOR(pg_catalog.-) 'young_xids' OPERATOR(pg_catalog.-) 'surely_young_xids'
        OPERATOR(pg_catalog.-) 'distributed',
    'verdicts', (SELECT coalesce(pg_catalog.jsonb_object_agg(v.verdict,
                                                             pg_catalog.jsonb_build_object('indexes', v.indexes, 'bytes', v.bytes)),
                                 '{}')
                 FROM verdict v),
    'sections', pg_catalog.jsonb_build_object(
        'unused', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                 pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                     FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n
                         FROM upkeep._unused_indexes(ARRAY(SELECT j.v FROM judged j
                                                           WHERE (j.v).verdict OPERATOR(pg_catalog.=) 'unused')) x) u),
        'duplicate', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                    pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                        FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.duplicate_indexes x) u),
        'redundant', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                    pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                        FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.redundant_indexes x) u),
        'bloated', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.bloat_bytes),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.bloated_indexes x
                         WHERE x.verdict OPERATOR(pg_catalog.=) ANY (ARRAY['bloated', 'maybe'])) u),
        'invalid', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.invalid_indexes x) u),
        'unindexed_foreign_keys', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size),
                                                                 pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                                     FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.unindexed_foreign_keys x) u),
        'missing', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.missing_indexes x) u)));
END;
COMMENT ON FUNCTION upkeep.index_report() IS
'All index views at once: what holds for every index, sums by verdict, and per view the number of rows, their bytes, '
'and the first 100 rows, of which each column has the name it has in the view. Shows the caller what the views show.';

CREATE FUNCTION upkeep.index_report_html() RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_report_html_wrapper';
COMMENT ON FUNCTION upkeep.index_report_html() IS
'index_report() as one self-contained HTML page without scripts: psql -XAtc ''SELECT upkeep.index_report_html()'' > '
'indexes.html';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   indexes_report

-- Row stamps: one trigger a table. Its arguments and its WHEN say what it stamps, so that there is no table of ours to
-- fall behind: the server follows renamed columns, partitions have their own numbers, a dump carries it.

-- Everyone's: a dump is restored as the owner of the table.
CREATE FUNCTION upkeep._stamp_row() RETURNS trigger
    LANGUAGE c PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_stamp_row';
COMMENT ON FUNCTION upkeep._stamp_row() IS
'Private: the trigger of row stamps. Made by upkeep.enable_timestamps(), enable_userstamps() and '
'enable_row_version(). 40001 for a stale row version, 55000 for a missing one that is required, 428C9 for a created_* '
'column that refuses a change.';

CREATE VIEW upkeep.row_stamps WITH (security_barrier) AS
SELECT n.nspname AS schemaname, c.relname, c.oid AS relid,
       s.created_at, s.updated_at,
       CASE WHEN s.created_at IS NOT NULL OR s.updated_at IS NOT NULL
            THEN coalesce(pg_catalog.substring(o.clock, 7), 'transaction') END AS clock,
       CASE WHEN s.created_at IS NOT NULL
            THEN CASE WHEN 'refuse=created_at' OPERATOR(pg_catalog.=) ANY (g.args) THEN 'refuse' ELSE 'keep' END END AS created_at_change,
       s.created_by, s.updated_by,
       CASE WHEN s.created_by IS NOT NULL
            THEN CASE WHEN 'refuse=created_by' OPERATOR(pg_catalog.=) ANY (g.args) THEN 'refuse' ELSE 'keep' END END AS created_by_change,
       s.version,
       CASE WHEN s.version IS NOT NULL THEN coalesce(pg_catalog.substring(o.mode, 6), 'incremented') END AS version_mode,
       CASE WHEN s.version IS NOT NULL THEN 'required' OPERATOR(pg_catalog.=) ANY (g.args) END AS version_required,
       t.tgname AS trigger_name,
       t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog."char"[]) AS enabled
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\000') AS args) g
CROSS JOIN LATERAL (
    SELECT pg_catalog.max(x.a) FILTER (WHERE x.a OPERATOR(pg_catalog.~~) 'clock=%') AS clock,
           pg_catalog.max(x.a) FILTER (WHERE x.a OPERATOR(pg_catalog.~~) 'mode=%') AS mode
    FROM pg_catalog.unnest(g.args) x (a)) o
-- The n-th argument is the role of the n-th column that the WHEN names.
CROSS JOIN LATERAL (
    SELECT pg_catalog.max(a.attname::pg_catalog.text)
               FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'created_at')::pg_catalog.name AS created_at,
           pg_catalog.max(a.attname::pg_catalog.text)
               FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'updated_at')::pg_catalog.name AS updated_at,
           pg_catalog.max(a.attname::pg_catalog.text)
               FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'created_by')::pg_catalog.name AS created_by,
           pg_catalog.max(a.attname::pg_catalog.text)
               FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'updated_by')::pg_catalog.name AS updated_by,
           pg_catalog.max(a.attname::pg_catalog.text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'version')::pg_catalog.name AS version
    FROM pg_catalog.unnest(g.args) WITH ORDINALITY r (role, i)
    JOIN pg_catalog.regexp_matches(t.tgqual::pg_catalog.text, ':varattno (\d+)', 'g') WITH ORDINALITY v (number, i)
         ON v.i OPERATOR(pg_catalog.=) r.i
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.tgrelid
         AND a.attnum OPERATOR(pg_catalog.=) (v.number)[1]::smallint) s
WHERE t.tgfoid OPERATOR(pg_catalog.=) 'upkeep._stamp_row()'::pg_catalog.regprocedure
  AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid;
COMMENT ON VIEW upkeep.row_stamps IS
'Tables whose rows are stamped, with the columns (null: not stamped) and how: clock (transaction, statement, clock), '
'what a changed created_* column does (keep, refuse), version_mode (incremented, echo), version_required. '
'Partitions are stamped with their table, and not listed. enabled: the trigger is not switched off. '
'Everyone sees all, as in pg_trigger.';
GRANT SELECT ON upkeep.row_stamps TO PUBLIC;

CREATE FUNCTION upkeep.enable_timestamps(
    target regclass,
    created_at name DEFAULT 'created_at',
    updated_at name DEFAULT 'updated_at',
    clock text DEFAULT 'transaction',
    created_change text DEFAULT 'keep'
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_enable_timestamps_wrapper';
COMMENT ON FUNCTION upkeep.enable_timestamps(regclass, name, name, text, text) IS
'Sets created_at when a row is made and updated_at on every real change of it. '
'The columns are added (timestamptz, null in rows that are there) or adopted (timestamptz, timestamp); '
'null: do without that one. clock: transaction, statement or clock; created_change: an UPDATE that changes created_at '
'keeps the old value (keep) or fails with 428C9 (refuse). Called again it replaces what it said. Owner''s members. '
'42501 not the owner, 42809 not a table, 42804 a column of another type, 42701 a column is stamped already, '
'42P16 a generated column or a partition key, 22023 wrong argument.';

CREATE FUNCTION upkeep.disable_timestamps(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_timestamps_wrapper';
COMMENT ON FUNCTION upkeep.disable_timestamps(regclass) IS
'Ends the times of upkeep.enable_timestamps(); the columns stay as they are. Owner''s members. 42704 the table has none.';

CREATE FUNCTION upkeep.enable_userstamps(
    target regclass,
    created_by name DEFAULT 'created_by',
    updated_by name DEFAULT 'updated_by',
    created_change text DEFAULT 'keep'
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_enable_userstamps_wrapper';
COMMENT ON FUNCTION upkeep.enable_userstamps(regclass, name, name, text) IS
'Sets created_by when a row is made and updated_by on every real change of it: to the setting upkeep.actor, '
'else to the role that the session acts as, outside of SECURITY DEFINER functions. '
'The columns are added (text, null in rows that are there) or adopted (text, varchar, name); '
'null: do without that one. created_change: as of upkeep.enable_timestamps(). Owner''s members. '
'Errors as there; 22001 at an INSERT or UPDATE if the actor is too long for the column.';

CREATE FUNCTION upkeep.disable_userstamps(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_userstamps_wrapper';
COMMENT ON FUNCTION upkeep.disable_userstamps(regclass) IS
'Ends the users of upkeep.enable_userstamps(); the columns stay as they are. Owner''s members. 42704 the table has none.';

CREATE FUNCTION upkeep.enable_row_version(
    target regclass,
    mode text DEFAULT 'incremented',
    version name DEFAULT 'version',
    required boolean DEFAULT false
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_enable_row_version_wrapper';
COMMENT ON FUNCTION upkeep.enable_row_version(regclass, text, name, boolean) IS
'Counts the changes of each row, and refuses one that was made for an older version of it (40001). '
'mode: what an UPDATE sets the column to: the version that was read plus one (incremented, as SQLAlchemy does), '
'or the version that was read (echo). An UPDATE that does not set it counts on, or fails with 55000 if required. '
'The column is added (integer, 1 in all rows) or adopted (integer, bigint). Owner''s members. '
'Errors as of upkeep.enable_timestamps(); 22003 at an UPDATE beyond the greatest value.';

CREATE FUNCTION upkeep.disable_row_version(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_row_version_wrapper';
COMMENT ON FUNCTION upkeep.disable_row_version(regclass) IS
'Ends the versions of upkeep.enable_row_version(); the column stays as it is. Owner''s members. 42704 the table has none.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   row_stamps_functions

-- Soft delete: what is enabled, and what was deleted together. regclass and not oid, so that a dump carries
-- the tables' names (LAW 20) and pg_upgrade, which keeps the OIDs of relations, lets them pass.

CREATE TABLE upkeep._soft_delete_table (
    relid regclass PRIMARY KEY,
    -- The name without a schema that users know: in `swap` the table itself is called otherwise.
    name name NOT NULL,
    hide text NOT NULL CHECK (hide IN ('live_view', 'swap', 'none')),
    deleted_at name NOT NULL,
    deleted_by name NOT NULL,
    deletion_id name NOT NULL,
    flag name,
    live_view regclass,
    deleted_view regclass,
    retention interval,
    on_unmanaged text NOT NULL DEFAULT 'refuse' CHECK (on_unmanaged IN ('refuse', 'restrict', 'ignore')),
    enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- The schedule that `retention` has made.
    retention_schedule uuid,
    -- The type of the table's rows. A table that was dropped while event triggers were off is still remembered; another one that
    -- gets its OID has another type. Null: from a dump of a version before 0.6.0.
    row_type regtype,
    -- Names that its views (after `swap`, the table) have kept because they could not be renamed. Not names that somebody has chosen.
    kept_names name[] NOT NULL DEFAULT '{}'
);
-- Those that are still the tables that they were.
CREATE VIEW upkeep._soft_delete WITH (security_barrier) AS
    SELECT s.* FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
     AND coalesce(c.reltype OPERATOR(pg_catalog.=) s.row_type::pg_catalog.oid, true);
COMMENT ON VIEW upkeep._soft_delete IS 'Private: tables with soft delete, but for those whose OID is another table''s now.';
CREATE UNIQUE INDEX _soft_delete_table_live_view ON upkeep._soft_delete_table (live_view);

-- One for each call of soft_delete(), and one for all other deletions of a transaction.
CREATE TABLE upkeep._deletion (
    id uuid PRIMARY KEY,
    -- The first table.
    relid regclass NOT NULL,
    deleted_at timestamptz NOT NULL,
    -- upkeep.actor, else the role that the session acted as.
    deleted_by text NOT NULL,
    -- The role, by name: a dump restored elsewhere meets other OIDs.
    role_name name NOT NULL,
    reason text,
    -- Why it may not be purged (hold_deletion).
    held text,
    undeleted_at timestamptz,
    undeleted_by text
);
CREATE INDEX ON upkeep._deletion (deleted_at);
-- Every table that is dropped is looked for.
CREATE INDEX ON upkeep._deletion (relid);

CREATE TABLE upkeep._deletion_table (
    deletion uuid NOT NULL,
    relid regclass NOT NULL,
    rows bigint NOT NULL,
    -- Deleted by somebody, not (only) by the cascade.
    direct boolean NOT NULL,
    -- Of them are gone for good.
    purged bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (deletion, relid)
);
CREATE INDEX ON upkeep._deletion_table (relid);

-- What ON DELETE SET NULL and SET DEFAULT have changed. Key and values as text, in arrays.
CREATE TABLE upkeep._deletion_cleared (
    deletion uuid NOT NULL,
    relid regclass NOT NULL,
    -- Which foreign key.
    conname name NOT NULL,
    key_columns name[] NOT NULL,
    columns name[] NOT NULL,
    key jsonb NOT NULL,
    old_values jsonb NOT NULL,
    new_values jsonb NOT NULL,
    -- All three are texts from which the same values come back; versions before 0.6.0 left it to jsonb.
    exact boolean NOT NULL DEFAULT false
);
CREATE INDEX ON upkeep._deletion_cleared (deletion);
CREATE INDEX ON upkeep._deletion_cleared (relid);
-- As upkeep._job_event.
ALTER TABLE upkeep._deletion_cleared REPLICA IDENTITY FULL;

SELECT pg_catalog.pg_extension_config_dump('upkeep._soft_delete_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_cleared', '');
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_tables

-- Soft delete: what people call.

CREATE FUNCTION upkeep.enable_soft_delete(
    target regclass,
    hide text DEFAULT 'live_view',
    deleted_at name DEFAULT 'deleted_at',
    deleted_by name DEFAULT 'deleted_by',
    deletion_id name DEFAULT 'deletion_id',
    flag name DEFAULT NULL,
    retention interval DEFAULT NULL,
    on_unmanaged text DEFAULT 'refuse'
) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_enable_soft_delete_wrapper';
COMMENT ON FUNCTION upkeep.enable_soft_delete(regclass, text, name, name, name, name, interval, text) IS
'Lets rows of a table be deleted so that they can come back. Adds the columns that are missing (no rewrite), '
'triggers, and by hide: live_view (TABLE_live and TABLE_deleted), swap (the table becomes TABLE_all, '
'the view takes its name), swap_published (the same for a table in a publication), none. '
'flag: a boolean column kept in step with deleted_at. on_unmanaged, for tables without soft delete that reference '
'this one ON DELETE CASCADE: refuse (this call), restrict (rows that they reference), ignore. '
'For members of the table''s owner. Errors: 42501, 42809 not a table, 55000 no primary key, a referencing table '
'without soft delete, a publication, 42804 a column of an unfit type, 42710 enabled already, 42P07 a view''s name is '
'taken, 0A000 inheritance, partitioned by one of the columns.';

CREATE FUNCTION upkeep.disable_soft_delete(target regclass, deleted_rows text DEFAULT 'refuse') RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_soft_delete';
COMMENT ON FUNCTION upkeep.disable_soft_delete(regclass, text) IS
'Ends soft delete on a table: triggers and views go, the columns stay. deleted_rows: refuse (55000 if there are any), '
'keep (they look like any other row from now on), purge (deletes them for good; 55000 if any of them is held, '
'or if a foreign key would take live rows along). For members of the table''s owner. '
'Errors: 42501, 55000, 2BP01 something depends on a view, 22023, 22004.';

CREATE FUNCTION upkeep.soft_delete(target regclass, condition text, reason text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_soft_delete';
COMMENT ON FUNCTION upkeep.soft_delete(regclass, text, text) IS
'Deletes the live rows of a table that meet a condition (what follows WHERE) so that undelete() can bring them back, '
'with what references them ON DELETE CASCADE. Returns the deletion''s id, or null if no row met it. '
'target: the table or its live view. Runs as the caller, who needs SELECT and UPDATE on the table. '
'Errors: 42601 not a condition, 55000 not enabled, 23503 live rows reference a row by RESTRICT or NO ACTION, 42501.';

CREATE FUNCTION upkeep.undelete(deletion uuid) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_undelete';
COMMENT ON FUNCTION upkeep.undelete(uuid) IS
'Brings back what one deletion has deleted, in all tables, and the references that it has cleared where they are '
'still as it left them. Returns the number of rows. The caller needs SELECT and UPDATE on the tables from which rows '
'were deleted directly. Errors: 42704 no such deletion, 55000 undeleted already or a table is gone, '
'23505 a unique key is in use again, 23503 a row that a row references is still deleted, 42501.';

CREATE FUNCTION upkeep.undelete(target regclass, condition text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_undelete_where';
COMMENT ON FUNCTION upkeep.undelete(regclass, text) IS
'Brings back the deleted rows of one table that meet a condition, whatever deleted them; '
'not what was deleted with them. Returns the number of rows. Runs as the caller, who needs SELECT and UPDATE on the '
'table. Errors as undelete(uuid), and 42601 not a condition.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_functions

-- The triggers of soft delete, and what their conditions ask.

-- All triggers that soft delete makes, by their function and tgtype. conditional: there is a WHEN; null: there may be one. What
-- the functions take for theirs (src/soft_delete/raw/attached.rs) is compared with it by a test.
CREATE FUNCTION upkeep._soft_delete_triggers(
    OUT proname name, OUT tgname name, OUT tgtype smallint, OUT deferred boolean, OUT conditional boolean)
    RETURNS SETOF record LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 14
BEGIN ATOMIC
SELECT v.proname::pg_catalog.name, v.tgname::pg_catalog.name, v.tgtype::pg_catalog.int2, v.deferred, v.conditional
FROM (VALUES
    ('_soft_delete_updated', 'upkeep_soft_delete', 16, false, false),
    ('_soft_delete_guard', 'upkeep_soft_delete_no_delete', 8, false, false),
    ('_soft_delete_guard', 'upkeep_soft_delete_no_truncate', 34, false, false),
    ('_soft_delete_updated_row', 'upkeep_soft_delete_row', 17, false, true),
    ('_soft_delete_dead_row', 'upkeep_soft_delete_dead_row', 17, false, true),
    ('_soft_delete_inserted', 'upkeep_soft_delete_insert', 4, false, false),
    ('_soft_delete_flag', 'zz_upkeep_soft_delete_flag', 23, false, false),
    ('_soft_delete_view_row', 'upkeep_soft_delete_row', 73, false, false),
    ('_soft_delete_view', 'upkeep_soft_delete_begin', 10, false, false),
    ('_soft_delete_view', 'upkeep_soft_delete', 8, false, false),
    ('_soft_delete_live_parent', 'upkeep_live_parent_insert', 5, false, NULL::pg_catalog.bool),
    ('_soft_delete_live_parent', 'upkeep_live_parent_update', 17, false, true),
    ('_soft_delete_live_parent', 'upkeep_live_parent_insert_deferred', 5, true, NULL),
    ('_soft_delete_live_parent', 'upkeep_live_parent_update_deferred', 17, true, true)
) v (proname, tgname, tgtype, deferred, conditional);
END;
COMMENT ON FUNCTION upkeep._soft_delete_triggers() IS 'Private: the triggers that soft delete makes.';

-- Triggers, on anybody's tables; they act on what they fire for and on nothing else.
CREATE FUNCTION upkeep._soft_delete_updated_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_updated_row';
CREATE FUNCTION upkeep._soft_delete_dead_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_dead_row';
CREATE FUNCTION upkeep._soft_delete_inserted() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_inserted';
CREATE FUNCTION upkeep._soft_delete_updated() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_updated';
CREATE FUNCTION upkeep._soft_delete_view_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_view_row';
CREATE FUNCTION upkeep._soft_delete_view() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_view';
CREATE FUNCTION upkeep._soft_delete_flag() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_flag';
CREATE FUNCTION upkeep._soft_delete_guard() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_guard';
CREATE FUNCTION upkeep._soft_delete_live_parent() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_live_parent';
COMMENT ON FUNCTION upkeep._soft_delete_updated_row() IS 'Private trigger: notes a row whose deletion was set or cleared by an UPDATE.';
COMMENT ON FUNCTION upkeep._soft_delete_dead_row() IS 'Private trigger: notes that a deleted row was changed and stays deleted.';
COMMENT ON FUNCTION upkeep._soft_delete_inserted() IS
'Private trigger: refuses a statement that inserts rows and changed a deleted one instead.';
COMMENT ON FUNCTION upkeep._soft_delete_updated() IS 'Private trigger: carries a deletion on to what references the rows noted.';
COMMENT ON FUNCTION upkeep._soft_delete_view_row() IS 'Private trigger: DELETE of a row of a live view, at once or gathered.';
COMMENT ON FUNCTION upkeep._soft_delete_view() IS
'Private trigger: begins a DELETE on a live view; at its end deletes what was gathered, and carries it on to what '
'references the rows.';
COMMENT ON FUNCTION upkeep._soft_delete_flag() IS 'Private trigger: keeps a boolean column in step with deleted_at.';
COMMENT ON FUNCTION upkeep._soft_delete_guard() IS 'Private trigger: refuses DELETE and TRUNCATE on a table with soft delete.';
COMMENT ON FUNCTION upkeep._soft_delete_live_parent() IS 'Private trigger: refuses a live row that references a deleted one.';

-- In the WHEN of these triggers, hence everyone's.
CREATE FUNCTION upkeep._is_by_hand(target oid, deletion uuid) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'upkeep_is_by_hand';
COMMENT ON FUNCTION upkeep._is_by_hand(oid, uuid) IS
'Private: is the statement that updates this table somebody''s own, and not one of soft delete''s that knows what it does?';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_triggers

-- What people see of soft delete.

CREATE VIEW upkeep.soft_delete_tables WITH (security_barrier) AS
    SELECT c.oid AS relid, n.nspname AS schemaname, c.relname, s.hide, s.deleted_at, s.deleted_by, s.deletion_id, s.flag,
           s.live_view::pg_catalog.oid AS live_view, s.deleted_view::pg_catalog.oid AS deleted_view,
           s.retention, s.on_unmanaged, s.enabled_at
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW upkeep.soft_delete_tables IS
'Tables with soft delete, visible to members of their owners: names of their columns and views, retention, '
'and what is done about tables without it.';
GRANT SELECT ON upkeep.soft_delete_tables TO PUBLIC;

CREATE VIEW upkeep.deletions WITH (security_barrier) AS
    SELECT d.id, d.deleted_at, d.deleted_by, d.reason, d.relid::pg_catalog.oid AS relid, n.nspname AS schemaname, c.relname,
           (SELECT pg_catalog.jsonb_object_agg(k.name, k.rows)
            FROM (SELECT n.name, pg_catalog.sum(t.rows)::bigint AS rows
                  FROM upkeep._deletion_table t
                  LEFT JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) t.relid
                  CROSS JOIN LATERAL (
                      -- Any right on a table is a right to its name. A quoted name would have its quotes.
                      SELECT CASE WHEN r.oid IS NULL OR pg_catalog.pg_has_role(r.relowner, 'USAGE')
                                       OR pg_catalog.has_table_privilege(
                                              r.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                                       OR pg_catalog.has_any_column_privilege(r.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                                  THEN t.relid::pg_catalog.text ELSE 'other tables' END AS name) n
                  WHERE t.deletion OPERATOR(pg_catalog.=) d.id
                  GROUP BY n.name) k) AS rows,
           d.undeleted_at, d.undeleted_by, d.held, w.why_not IS NULL AS restorable, w.why_not
    FROM upkeep._deletion d
    LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.relid
     AND NOT EXISTS (SELECT FROM upkeep._soft_delete_table s
                     WHERE s.relid OPERATOR(pg_catalog.=) d.relid AND s.row_type::pg_catalog.oid OPERATOR(pg_catalog.<>) c.reltype)
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN d.undeleted_at IS NOT NULL THEN 'undeleted already'
            WHEN c.oid IS NULL THEN 'the table is gone'
            WHEN EXISTS (SELECT FROM upkeep._deletion_table t
                         WHERE t.deletion OPERATOR(pg_catalog.=) d.id AND t.purged OPERATOR(pg_catalog.>) 0)
                THEN 'rows of it were purged'
            WHEN EXISTS (SELECT FROM upkeep._deletion_table t
                         WHERE t.deletion OPERATOR(pg_catalog.=) d.id
                           AND NOT EXISTS (SELECT FROM upkeep._soft_delete s WHERE s.relid OPERATOR(pg_catalog.=) t.relid))
                THEN 'soft delete is not enabled on one of its tables any more'
        END AS why_not) w
    WHERE CASE WHEN c.oid IS NULL THEN pg_catalog.pg_has_role('pg_read_all_data', 'USAGE')
               ELSE pg_catalog.pg_has_role(c.relowner, 'USAGE') END;
COMMENT ON VIEW upkeep.deletions IS
'What was deleted together: by one call of soft_delete(), or by all other statements of one transaction. '
'Visible to members of the owner of the first table.';
COMMENT ON COLUMN upkeep.deletions.deleted_by IS
'The actor: upkeep.actor as it was set in that transaction, which anyone may set; the role that the session acted as '
'only where it was empty.';
COMMENT ON COLUMN upkeep.deletions.undeleted_by IS 'The actor who brought it back, as for deleted_by.';
COMMENT ON COLUMN upkeep.deletions.rows IS
'How many rows were deleted in which table. Those of tables on which the reader has no right at all are one number, '
'under "other tables".';
COMMENT ON COLUMN upkeep.deletions.restorable IS
'Can undelete(id) be tried? Unique keys that are in use again, and deleted parents, show only then.';
GRANT SELECT ON upkeep.deletions TO PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_views

-- Purge: what was deleted long enough ago goes for good, as a job.

CREATE FUNCTION upkeep.purge_deleted(target regclass, older_than interval) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'purge_deleted_wrapper';
COMMENT ON FUNCTION upkeep.purge_deleted(regclass, interval) IS
'Deletes for good, in the background, the rows of a table that were deleted longer ago than older_than, '
'the oldest first, and the deleted rows which reference them, as old. Returns the job. '
'target: the table or its live view. Rows that are held, locked, or referenced by rows which are not due stay; '
'rows_left of the job counts the last two. Warns about missing indexes. For members of the table''s owner. '
'Errors: 55000 no soft delete, 42501 not the owner, or row security hides rows, 55006 a purge of the table has not '
'ended, 22004, 22023 older_than is negative.';

-- What the schedules of `retention` run, hence everyone's.
CREATE FUNCTION upkeep._purge_by_retention(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'purge_by_retention_wrapper';
COMMENT ON FUNCTION upkeep._purge_by_retention(uuid) IS
'Private: the purge that the retention of a table asks for, which the schedule belongs to. Null: one has not ended. '
'Errors: 55000 it belongs to none, and those of purge_deleted.';

CREATE FUNCTION upkeep._explain_purge(target regclass, older_than interval) RETURNS TABLE (
    schemaname text, relname text, relid oid, rows bigint, oldest timestamptz, held bigint, blocked bigint, notes text[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'explain_purge_wrapper';
COMMENT ON FUNCTION upkeep._explain_purge(regclass, interval) IS 'internal: explain_purge() with names as text';

CREATE FUNCTION upkeep.explain_purge(target regclass, older_than interval) RETURNS TABLE (
    schemaname name,
    relname name,
    relid oid,
    rows bigint,
    oldest timestamptz,
    held bigint,
    blocked bigint,
    notes text[]
)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10
BEGIN ATOMIC
SELECT e.schemaname::pg_catalog.name, e.relname::pg_catalog.name, e.relid, e.rows, e.oldest, e.held, e.blocked, e.notes
FROM upkeep._explain_purge($1, $2) e;
END;
COMMENT ON FUNCTION upkeep.explain_purge(regclass, interval) IS
'Counts what upkeep.purge_deleted would delete for good, the table first, then those whose rows reference it: '
'rows and when the oldest was deleted; held: rows that hold_deletion() keeps; blocked: rows that rows which are not '
'due reference; notes: what would make it slow. Reads the tables. Changes nothing. Errors as of purge_deleted.';

CREATE FUNCTION upkeep.hold_deletion(deletion uuid, reason text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hold_deletion_wrapper';
COMMENT ON FUNCTION upkeep.hold_deletion(uuid, text) IS
'Keeps the rows of a deletion from every purge until release_deletion(); the reason shows in upkeep.deletions. '
'Waits for the batch of a purge that is deleting some of them. For members of the owners of all its tables. '
'Returns the deletion. Errors: 42704 no such deletion, 42501, 22023 an empty reason, 22004.';

CREATE FUNCTION upkeep.release_deletion(deletion uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'release_deletion_wrapper';
COMMENT ON FUNCTION upkeep.release_deletion(uuid) IS
'Lets a deletion be purged again that hold_deletion() keeps. For members of the owners of all its tables. '
'Returns the deletion. Errors: 42704 no such deletion, 42501, 22004.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_purge

-- Unique keys that count live rows only.

CREATE FUNCTION upkeep.make_unique_keys_partial(target regclass) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'make_unique_keys_partial_wrapper';
COMMENT ON FUNCTION upkeep.make_unique_keys_partial(regclass) IS
'Replaces each unique constraint and unique index of a table with soft delete by a unique index of the same name on '
'its live rows, built concurrently by a job, so that what was deleted can be used again. '
'Returns the job, or null if there is nothing to replace. Keys that cannot change (primary, referenced by foreign '
'keys, deferrable, exclusion, replica identity) are named in notices, with the alternative. '
'ON CONFLICT then needs the index''s columns and WHERE deleted_at IS NULL. target: the table or its live view. '
'For members of the table''s owner. Errors: 55000 no soft delete, 42501, 0A000 partitioned, 55006 a job is at it '
'already.';

CREATE FUNCTION upkeep._explain_make_unique_keys_partial(target regclass) RETURNS TABLE (
    indexrelname text, conname text, action text, reason text, command text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'explain_make_unique_keys_partial_wrapper';
COMMENT ON FUNCTION upkeep._explain_make_unique_keys_partial(regclass) IS
'internal: explain_make_unique_keys_partial() with names as text';

CREATE FUNCTION upkeep.explain_make_unique_keys_partial(target regclass) RETURNS TABLE (
    indexrelname name,
    conname name,
    action text,
    reason text,
    command text
)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10
BEGIN ATOMIC
SELECT e.indexrelname::pg_catalog.name, e.conname::pg_catalog.name, e.action, e.reason, e.command
FROM upkeep._explain_make_unique_keys_partial($1) e;
END;
COMMENT ON FUNCTION upkeep.explain_make_unique_keys_partial(regclass) IS
'Says of each unique key what upkeep.make_unique_keys_partial would do: replace (command: '
'how the successor is built), keep (reason, and the alternative as command), none (it counts live rows only). '
'Changes nothing. Errors as of make_unique_keys_partial.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_unique_keys

-- DDL on tables with soft delete. These are the extension's only event triggers.

CREATE FUNCTION upkeep.alter_soft_deleted(target regclass, ddl text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_soft_deleted_wrapper';
COMMENT ON FUNCTION upkeep.alter_soft_deleted(regclass, text) IS
'Runs one ALTER TABLE on a table with soft delete, as the caller, where its views stand in the way (DROP COLUMN, '
'ALTER TYPE): they are dropped and made again in the same transaction, with their grants, options, comments, '
'defaults, rules and triggers. For members of the table''s owner. Errors: 42601 not one statement, '
'0A000 not an ALTER TABLE of columns, constraints or options, 22023 about another table, 2BP01 something else depends '
'on a view, 55000 no soft delete, one of its own columns is dropped, or a view is not as soft delete has written it, '
'is another role''s, or has a trigger that may be, 42501.';

CREATE FUNCTION upkeep.repair_soft_delete(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'repair_soft_delete_wrapper';
COMMENT ON FUNCTION upkeep.repair_soft_delete(regclass) IS
'Makes what upkeep.soft_delete_drift shows of a table as it should be: missing views and triggers are made, '
'disabled triggers enabled, and called as they were, others of its functions dropped, columns of the views follow the '
'table''s. Views that were dropped come back with the grants of the table. '
'A view that is not as soft delete has written it stays as it is, with a warning. For members of the table''s owner. '
'Errors: 55000 no soft delete, 42501, 42P07 a view''s name is taken, 42710 a trigger''s name is.';

CREATE FUNCTION upkeep._follow_ddl() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'follow_ddl_wrapper';
COMMENT ON FUNCTION upkeep._follow_ddl() IS
'Private event trigger: views, partitions and foreign keys of tables with soft delete follow statements that make and '
'change tables.';
CREATE FUNCTION upkeep._follow_drops() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'follow_drops_wrapper';
COMMENT ON FUNCTION upkeep._follow_drops() IS 'Private event trigger: forgets tables with soft delete that were dropped.';
CREATE FUNCTION upkeep._make_way_for_trigger() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'make_way_for_trigger_wrapper';
COMMENT ON FUNCTION upkeep._make_way_for_trigger() IS
'Private event trigger: a trigger of soft delete that is created again, as a dump does it, replaces the one that is '
'there.';
CREATE FUNCTION upkeep._before_alter() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'before_alter_wrapper';
COMMENT ON FUNCTION upkeep._before_alter() IS
'Private event trigger: locks the views of a table with soft delete before an ALTER TABLE locks the table, '
'as their readers do.';
REVOKE EXECUTE ON FUNCTION upkeep._follow_ddl(), upkeep._follow_drops(), upkeep._make_way_for_trigger(), upkeep._before_alter()
    FROM PUBLIC;

-- In the view below, hence everyone's.
CREATE FUNCTION upkeep._soft_delete_view_differs(view oid, completely boolean) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'soft_delete_view_differs_wrapper';
COMMENT ON FUNCTION upkeep._soft_delete_view_differs(oid, boolean) IS
'Private: what of a view of soft delete is not as soft delete has written it (null: nothing, it is no such view, '
'or the caller is neither a member of its owner nor of the table''s). completely: rules, triggers, '
'defaults and rights to add triggers too.';

CREATE VIEW upkeep.soft_delete_drift WITH (security_barrier) AS
WITH table_with AS MATERIALIZED (
    SELECT c.oid AS relid, n.oid AS relnamespace, n.nspname, c.relname, c.relowner, s.name, s.hide, s.flag, s.on_unmanaged,
           s.retention, s.retention_schedule, l.oid AS live_view, d.oid AS deleted_view,
           pg_catalog.format('SELECT upkeep.repair_soft_delete(%L);', pg_catalog.format('%I.%I', n.nspname, c.relname)) AS call
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_class l ON l.oid OPERATOR(pg_catalog.=) s.live_view AND l.relkind OPERATOR(pg_catalog.=) 'v'
    LEFT JOIN pg_catalog.pg_class d ON d.oid OPERATOR(pg_catalog.=) s.deleted_view AND d.relkind OPERATOR(pg_catalog.=) 'v'
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
), missing_view AS MATERIALIZED (
    -- And what has the name that it would have. Names are cut as Rust does it, to 63 bytes and whole characters.
    SELECT m.relid, v.what, CASE WHEN o.oid IS NOT NULL THEN pg_catalog.format('%I.%I', m.nspname, o.relname) END AS taken_by,
           CASE WHEN o.oid IS NOT NULL THEN pg_catalog.format('ALTER %s %I.%I RENAME TO %I; ',
               CASE WHEN o.relkind OPERATOR(pg_catalog.=) 'v' THEN 'VIEW'
                    WHEN o.relkind OPERATOR(pg_catalog.=) 'c' THEN 'TYPE' ELSE 'TABLE' END, m.nspname, o.relname,
               (SELECT pg_catalog.left(o.relname::pg_catalog.text, l) OPERATOR(pg_catalog.||) '_other'
                FROM pg_catalog.generate_series(63, 0, -1) l
                WHERE pg_catalog.octet_length(pg_catalog.left(o.relname::pg_catalog.text, l)) OPERATOR(pg_catalog.<=) 57
                LIMIT 1)) END AS rename
    FROM table_with m
    CROSS JOIN LATERAL (VALUES ('live', m.live_view, CASE WHEN m.hide OPERATOR(pg_catalog.=) 'swap' THEN '' ELSE '_live' END),
                               ('deleted', m.deleted_view, '_deleted')) v (what, oid, ending)
    LEFT JOIN pg_catalog.pg_class o
        ON o.relnamespace OPERATOR(pg_catalog.=) m.relnamespace AND o.relname OPERATOR(pg_catalog.=) (
            SELECT (pg_catalog.left(m.name::pg_catalog.text, l) OPERATOR(pg_catalog.||) v.ending)::pg_catalog.name
            FROM pg_catalog.generate_series(63, 0, -1) l
            WHERE pg_catalog.octet_length(pg_catalog.left(m.name::pg_catalog.text, l)) OPERATOR(pg_catalog.<=)
                  (63 OPERATOR(pg_catalog.-) pg_catalog.length(v.ending)) LIMIT 1)
    WHERE m.hide OPERATOR(pg_catalog.<>) 'none' AND v.oid IS NULL
), managed AS MATERIALIZED (
    -- call: what repairs, in a transaction that has been begun; repair: by itself.
    SELECT m.relid, m.nspname, m.relname, m.relowner, m.hide, m.flag, m.on_unmanaged, m.retention, m.retention_schedule,
           m.live_view, m.deleted_view, coalesce(r.renames, '') OPERATOR(pg_catalog.||) m.call AS call,
           CASE WHEN r.renames IS NULL THEN m.call
                ELSE pg_catalog.format('BEGIN; %s%s COMMIT;', r.renames, m.call) END AS repair,
           -- Whoever owns the table, but may not have schedules, needs somebody to let him first.
           CASE WHEN pg_catalog.has_function_privilege(m.relowner, g.signature, 'EXECUTE') THEN ''
                ELSE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I; ', g.signature, pg_catalog.pg_get_userbyid(m.relowner))
           END AS permit
    FROM table_with m
    CROSS JOIN (VALUES ('upkeep.schedule(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, '
                        'interval, integer, interval, boolean, boolean, boolean)'))
        g (signature)
    LEFT JOIN (SELECT v.relid, pg_catalog.string_agg(v.rename, '' ORDER BY v.what) AS renames
               FROM missing_view v WHERE v.taken_by IS NOT NULL GROUP BY v.relid) r ON r.relid OPERATOR(pg_catalog.=) m.relid
), shown AS MATERIALIZED (
    SELECT m.relid, v.oid, d.differs, a.differs AS all_differs, c.relowner OPERATOR(pg_catalog.<>) m.relowner AS is_anothers,
           x.sql,
           -- Nobody is told to hand over what somebody else has written.
           CASE WHEN d.differs OPERATOR(pg_catalog.=) 'its option security_invoker' AND c.relowner OPERATOR(pg_catalog.=) m.relowner
                THEN pg_catalog.format('ALTER VIEW %s SET (security_invoker = true);', x.sql)
                ELSE pg_catalog.format('BEGIN; DROP VIEW %s; %s COMMIT;', x.sql, m.call) END AS anew,
           m.repair
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) v (oid)
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.oid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    CROSS JOIN LATERAL (SELECT upkeep._soft_delete_view_differs(v.oid, false) AS differs OFFSET 0) d
    CROSS JOIN LATERAL (SELECT upkeep._soft_delete_view_differs(v.oid, true) AS differs OFFSET 0) a
    CROSS JOIN LATERAL (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql) x
), ours AS MATERIALIZED (
    SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgtype, t.tgdeferrable, t.tgqual, t.tgnargs, t.tgparentid, p.proname
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
      AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_soft_delete_')
), kind AS MATERIALIZED (
    SELECT k.proname::pg_catalog.text AS proname, k.tgname::pg_catalog.text AS tgname, k.tgtype, k.deferred, k.conditional
    FROM upkeep._soft_delete_triggers() k
), member AS MATERIALIZED (
    SELECT m.relid AS root, t.relid FROM managed m
    CROSS JOIN LATERAL (SELECT m.relid UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(m.relid) p) t (relid)
), place AS MATERIALIZED (
    -- Where triggers of ours are wanted, of which functions.
    SELECT m.root, m.relid, f.proname, NULL::boolean AS deferred
    FROM member m
    CROSS JOIN (VALUES ('_soft_delete_updated'), ('_soft_delete_guard'), ('_soft_delete_updated_row'), ('_soft_delete_dead_row'),
                       ('_soft_delete_inserted'))
        f (proname)
    UNION ALL
    SELECT m.root, m.relid, '_soft_delete_flag', NULL
    FROM member m JOIN managed r ON r.relid OPERATOR(pg_catalog.=) m.root WHERE r.flag IS NOT NULL
    UNION ALL
    SELECT m.relid, m.live_view, f.proname, NULL
    FROM managed m CROSS JOIN (VALUES ('_soft_delete_view_row'), ('_soft_delete_view')) f (proname)
    WHERE m.live_view IS NOT NULL
    UNION ALL
    SELECT DISTINCT m.root, f.conrelid, '_soft_delete_live_parent', f.condeferrable
    FROM member m
    JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) m.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
     AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
), wanted AS MATERIALIZED (
    SELECT p.root, p.relid, k.proname, k.tgname, k.tgtype, k.deferred, k.conditional
    FROM place p JOIN kind k ON k.proname OPERATOR(pg_catalog.=) p.proname
     AND (p.deferred IS NULL OR p.deferred OPERATOR(pg_catalog.=) k.deferred)
), at_place AS MATERIALIZED (
    -- What is there under the name, whosever it is.
    SELECT w.root, w.relid, w.tgname, w.proname, w.tgtype, w.deferred, t.oid,
           t.tgenabled,
           p.proname OPERATOR(pg_catalog.=) w.proname::pg_catalog.name
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               AND t.tgtype OPERATOR(pg_catalog.=) w.tgtype AND t.tgdeferrable OPERATOR(pg_catalog.=) w.deferred
               AND t.tgnargs OPERATOR(pg_catalog.=) 0
               AND (w.conditional IS NULL OR (t.tgqual IS NOT NULL) OPERATOR(pg_catalog.=) w.conditional) AS is_ours
    FROM wanted w
    LEFT JOIN (pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid)
        ON t.tgrelid OPERATOR(pg_catalog.=) w.relid AND t.tgname OPERATOR(pg_catalog.=) w.tgname::pg_catalog.name
), renamed AS MATERIALIZED (
    SELECT a.root, a.relid, a.tgname AS wanted, o.tgname
    FROM at_place a
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) a.relid AND o.proname OPERATOR(pg_catalog.=) a.proname::pg_catalog.name
     AND o.tgtype OPERATOR(pg_catalog.=) a.tgtype AND o.tgdeferrable OPERATOR(pg_catalog.=) a.deferred
    WHERE a.oid IS NULL
), found (relid, problem, repair) AS (
    SELECT m.relid, pg_catalog.format('its view of %s rows is missing', v.what)
               OPERATOR(pg_catalog.||) CASE WHEN v.taken_by IS NULL THEN ''
                   ELSE pg_catalog.format(', and %s, which soft delete has not made, has its name', v.taken_by) END,
           m.repair
    FROM missing_view v JOIN managed m ON m.relid OPERATOR(pg_catalog.=) v.relid
    UNION ALL
    SELECT m.relid, pg_catalog.format('schedule %I, which purges it, belongs to %I, who does not own the table', s.name, s.owner_name),
           m.permit OPERATOR(pg_catalog.||) m.repair
    FROM managed m JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) m.retention_schedule
    WHERE s.owner OPERATOR(pg_catalog.<>) m.relowner
    UNION ALL
    SELECT m.relid, 'its retention has no schedule that follows the table', m.permit OPERATOR(pg_catalog.||) m.repair
    FROM managed m WHERE m.retention IS NOT NULL AND m.retention_schedule IS NULL
    UNION ALL
    SELECT v.relid, pg_catalog.format('column %I is not in %s as it is in the table', coalesce(a.attname, b.attname),
                                      v.oid::pg_catalog.regclass),
           CASE WHEN v.differs IS NULL THEN v.repair ELSE v.anew END
    FROM shown v
    CROSS JOIN LATERAL (
        SELECT x.attname, x.atttypid, x.atttypmod FROM pg_catalog.pg_attribute x
        WHERE x.attrelid OPERATOR(pg_catalog.=) v.relid AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped) a
    LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) v.oid AND b.attname OPERATOR(pg_catalog.=) a.attname
        AND b.atttypid OPERATOR(pg_catalog.=) a.atttypid AND b.atttypmod OPERATOR(pg_catalog.=) a.atttypmod
    WHERE b.attname IS NULL
    UNION ALL
    SELECT v.relid, pg_catalog.format('%s is not as soft delete has written it: %s', v.oid::pg_catalog.regclass, v.differs), v.anew
    FROM shown v WHERE v.differs IS NOT NULL
    UNION ALL
    SELECT v.relid,
           pg_catalog.format('%s belongs to another role than the table', v.oid::pg_catalog.regclass)
               OPERATOR(pg_catalog.||) coalesce(', and is not all of soft delete''s: ' OPERATOR(pg_catalog.||) v.all_differs, ''),
           CASE WHEN v.all_differs IS NULL THEN v.repair ELSE v.anew END
    FROM shown v WHERE v.is_anothers
    UNION ALL
    SELECT v.relid, pg_catalog.format('rule %I stands in for DELETE on %s', r.rulename, v.oid::pg_catalog.regclass),
           pg_catalog.format('DROP RULE %I ON %s;', r.rulename, v.sql)
    FROM shown v
    JOIN pg_catalog.pg_rewrite r ON r.ev_class OPERATOR(pg_catalog.=) v.oid AND r.ev_type OPERATOR(pg_catalog.=) '4' AND r.is_instead
    UNION ALL
    SELECT a.root, pg_catalog.format('trigger %I of %s is missing', a.tgname, a.relid::pg_catalog.regclass), m.repair
    FROM at_place a JOIN managed m ON m.relid OPERATOR(pg_catalog.=) a.root
    WHERE a.oid IS NULL
      AND NOT EXISTS (SELECT FROM renamed r WHERE r.relid OPERATOR(pg_catalog.=) a.relid AND r.wanted OPERATOR(pg_catalog.=) a.tgname)
    UNION ALL
    SELECT r.root, pg_catalog.format('trigger %I of %s is called %I', r.wanted, r.relid::pg_catalog.regclass, r.tgname), m.repair
    FROM renamed r JOIN managed m ON m.relid OPERATOR(pg_catalog.=) r.root
    UNION ALL
    SELECT a.root, pg_catalog.format('trigger %I of %s is not the one of soft delete', a.tgname, a.relid::pg_catalog.regclass),
           pg_catalog.format('BEGIN; DROP TRIGGER %I ON %s; %s COMMIT;', a.tgname, a.relid::pg_catalog.regclass, m.call)
    FROM at_place a JOIN managed m ON m.relid OPERATOR(pg_catalog.=) a.root
    WHERE a.oid IS NOT NULL AND NOT a.is_ours
    UNION ALL
    SELECT a.root, pg_catalog.format('trigger %I of %s is disabled', a.tgname, a.relid::pg_catalog.regclass), m.repair
    FROM at_place a JOIN managed m ON m.relid OPERATOR(pg_catalog.=) a.root
    WHERE a.is_ours AND a.tgenabled OPERATOR(pg_catalog.=) ANY ('{D,R}'::pg_catalog."char"[])
    UNION ALL
    -- enable_soft_delete() refuses both; foreign keys, triggers and the primary key say nothing of the other table.
    SELECT m.relid, pg_catalog.format(CASE WHEN i.inhparent OPERATOR(pg_catalog.=) m.relid THEN '%s inherits from it, without soft delete'
                                           ELSE 'it inherits from %s, which has no soft delete of its rows' END,
                                           x.other::pg_catalog.regclass),
           pg_catalog.format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::pg_catalog.regclass, i.inhparent::pg_catalog.regclass)
    FROM managed m
    JOIN pg_catalog.pg_inherits i ON m.relid OPERATOR(pg_catalog.=) i.inhparent OR m.relid OPERATOR(pg_catalog.=) i.inhrelid
    JOIN pg_catalog.pg_class h ON h.oid OPERATOR(pg_catalog.=) i.inhrelid AND NOT h.relispartition
    CROSS JOIN LATERAL (SELECT CASE WHEN i.inhparent OPERATOR(pg_catalog.=) m.relid THEN i.inhrelid ELSE i.inhparent END AS other) x
    UNION ALL
    -- Those of soft delete alone know what they were made for.
    SELECT DISTINCT p.root, pg_catalog.format('trigger %I of %s runs %s, but is not one of soft delete', o.tgname,
                                              o.tgrelid::pg_catalog.regclass, o.proname),
           pg_catalog.format('DROP TRIGGER %I ON %s;', o.tgname, o.tgrelid::pg_catalog.regclass)
    FROM (SELECT q.root, q.relid, false AS only_checks FROM member q
          UNION SELECT v.relid, v.oid, false FROM shown v
          UNION SELECT q.root, q.relid, true FROM place q WHERE q.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent') p
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) p.relid AND o.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
     AND (NOT p.only_checks OR o.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'::pg_catalog.name)
    WHERE NOT EXISTS (SELECT FROM wanted w
                      WHERE w.relid OPERATOR(pg_catalog.=) o.tgrelid AND w.tgname::pg_catalog.name OPERATOR(pg_catalog.=) o.tgname)
      AND NOT EXISTS (SELECT FROM renamed r WHERE r.relid OPERATOR(pg_catalog.=) o.tgrelid AND r.tgname OPERATOR(pg_catalog.=) o.tgname)
      AND NOT EXISTS (SELECT FROM kind k WHERE k.tgname::pg_catalog.name OPERATOR(pg_catalog.=) o.tgname
                        AND k.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'
                        AND k.proname::pg_catalog.name OPERATOR(pg_catalog.=) o.proname)
)
SELECT m.relid, m.nspname AS schemaname, m.relname, f.problem, f.repair
FROM found f JOIN managed m ON m.relid OPERATOR(pg_catalog.=) f.relid
UNION ALL
SELECT DISTINCT m.relid, m.nspname, m.relname,
       pg_catalog.format('%s references it ON DELETE CASCADE, but has no soft delete', r.relid::pg_catalog.regclass),
       pg_catalog.format('SELECT upkeep.enable_soft_delete(%L);', r.relid::pg_catalog.regclass)
FROM managed m
JOIN member p ON p.root OPERATOR(pg_catalog.=) m.relid
JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
 AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid AND f.confdeltype OPERATOR(pg_catalog.=) 'c'
CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_partition_root(f.conrelid)::pg_catalog.oid, f.conrelid) AS relid) r
WHERE m.on_unmanaged OPERATOR(pg_catalog.=) 'refuse'
  AND NOT EXISTS (SELECT FROM upkeep._soft_delete s WHERE s.relid OPERATOR(pg_catalog.=) r.relid)
UNION ALL
SELECT m.relid, m.nspname, m.relname, 'it has no primary key any more, or a deferrable one',
       pg_catalog.format('ALTER TABLE %I.%I ADD PRIMARY KEY (..);', m.nspname, m.relname)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) m.relid
                  AND k.contype OPERATOR(pg_catalog.=) 'p' AND NOT k.condeferrable);
COMMENT ON VIEW upkeep.soft_delete_drift IS
'What is not as it should be with tables with soft delete (views and columns, views that somebody else has written or '
'owns, triggers missing, disabled, renamed, replaced or added, foreign keys that came later), and the statements that '
'repair it. Visible to members of the tables'' owners. Empty: all is well.';
GRANT SELECT ON upkeep.soft_delete_drift TO PUBLIC;

-- Elements of CREATE SCHEMA are its own commands to an event trigger, and most kinds of ALTER .. RENAME take any relation.
CREATE EVENT TRIGGER upkeep_follow_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER VIEW',
                 'ALTER MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER TYPE')
    EXECUTE FUNCTION upkeep._follow_ddl();
COMMENT ON EVENT TRIGGER upkeep_follow_ddl IS
'pg_upkeep: what belongs to tables with soft delete follows statements that make and change tables. '
'Never raises an error.';
CREATE EVENT TRIGGER upkeep_follow_drops ON sql_drop EXECUTE FUNCTION upkeep._follow_drops();
COMMENT ON EVENT TRIGGER upkeep_follow_drops IS 'pg_upkeep: forgets tables with soft delete that were dropped. Never raises an error.';
CREATE EVENT TRIGGER upkeep_before_trigger ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER')
    EXECUTE FUNCTION upkeep._make_way_for_trigger();
COMMENT ON EVENT TRIGGER upkeep_before_trigger IS
'pg_upkeep: a dump may create the triggers of soft delete, whatever made them before. Never raises an error.';
CREATE EVENT TRIGGER upkeep_before_alter ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER INDEX')
    EXECUTE FUNCTION upkeep._before_alter();
COMMENT ON EVENT TRIGGER upkeep_before_alter IS
'pg_upkeep: views of tables with soft delete are locked before their table, within the statement''s own lock_timeout. '
'Raises no other error.';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   soft_delete_ddl

-- What statements cost, remembered.
--
-- Layout: one row per interval, whatever number of statements it holds; they are packed into one bytea (format in
-- src/queries/packed.rs), because a row per statement and minute takes ten times the room. Three levels: what a drain brought
-- (level 0), hours (1) and days (2); a coarser row repeats the finer ones that it is the sum of, so that a month is read from
-- thirty rows and its ragged ends from finer ones.
--
-- Old history leaves by TRUNCATE of a whole partition, never row by row. The partitions are a ring of eight for each level, made
-- here and not at run time: DDL at run time would fire the event triggers of users under our switched user (LAW 1), and would
-- have to be kept out of dumps. A ring moves on when its partition spans a seventh of the level's retention, and the next one could be
-- emptied: whoever has read it is in the way of that until the end of his transaction, and of nothing else.

CREATE TABLE upkeep._query_interval (
    ring smallint NOT NULL, -- 8 * level + position
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 2),
    -- Level 0: started_at; 1 and 2: the hour or day in UTC that it is the sum of.
    period timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    parts integer NOT NULL, -- rows of the level below in it
    flags integer NOT NULL, -- 1: cut short by a restart; 2: pg_stat_statements forgot statements meanwhile
    statements integer NOT NULL,
    entries bytea NOT NULL
) PARTITION BY LIST (ring);
COMMENT ON TABLE upkeep._query_interval IS 'internal: what all statements of an interval cost, one row per interval';

CREATE TABLE upkeep._query_minutes_0 PARTITION OF upkeep._query_interval FOR VALUES IN (0);
CREATE TABLE upkeep._query_minutes_1 PARTITION OF upkeep._query_interval FOR VALUES IN (1);
CREATE TABLE upkeep._query_minutes_2 PARTITION OF upkeep._query_interval FOR VALUES IN (2);
CREATE TABLE upkeep._query_minutes_3 PARTITION OF upkeep._query_interval FOR VALUES IN (3);
CREATE TABLE upkeep._query_minutes_4 PARTITION OF upkeep._query_interval FOR VALUES IN (4);
CREATE TABLE upkeep._query_minutes_5 PARTITION OF upkeep._query_interval FOR VALUES IN (5);
CREATE TABLE upkeep._query_minutes_6 PARTITION OF upkeep._query_interval FOR VALUES IN (6);
CREATE TABLE upkeep._query_minutes_7 PARTITION OF upkeep._query_interval FOR VALUES IN (7);
CREATE TABLE upkeep._query_hours_0 PARTITION OF upkeep._query_interval FOR VALUES IN (8);
CREATE TABLE upkeep._query_hours_1 PARTITION OF upkeep._query_interval FOR VALUES IN (9);
CREATE TABLE upkeep._query_hours_2 PARTITION OF upkeep._query_interval FOR VALUES IN (10);
CREATE TABLE upkeep._query_hours_3 PARTITION OF upkeep._query_interval FOR VALUES IN (11);
CREATE TABLE upkeep._query_hours_4 PARTITION OF upkeep._query_interval FOR VALUES IN (12);
CREATE TABLE upkeep._query_hours_5 PARTITION OF upkeep._query_interval FOR VALUES IN (13);
CREATE TABLE upkeep._query_hours_6 PARTITION OF upkeep._query_interval FOR VALUES IN (14);
CREATE TABLE upkeep._query_hours_7 PARTITION OF upkeep._query_interval FOR VALUES IN (15);
CREATE TABLE upkeep._query_days_0 PARTITION OF upkeep._query_interval FOR VALUES IN (16);
CREATE TABLE upkeep._query_days_1 PARTITION OF upkeep._query_interval FOR VALUES IN (17);
CREATE TABLE upkeep._query_days_2 PARTITION OF upkeep._query_interval FOR VALUES IN (18);
CREATE TABLE upkeep._query_days_3 PARTITION OF upkeep._query_interval FOR VALUES IN (19);
CREATE TABLE upkeep._query_days_4 PARTITION OF upkeep._query_interval FOR VALUES IN (20);
CREATE TABLE upkeep._query_days_5 PARTITION OF upkeep._query_interval FOR VALUES IN (21);
CREATE TABLE upkeep._query_days_6 PARTITION OF upkeep._query_interval FOR VALUES IN (22);
CREATE TABLE upkeep._query_days_7 PARTITION OF upkeep._query_interval FOR VALUES IN (23);
-- Not compressed: one statement's part of many days is read without the rest of them.
ALTER TABLE upkeep._query_days_0 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_1 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_2 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_3 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_4 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_5 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_6 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_7 ALTER COLUMN entries SET STORAGE EXTERNAL;
-- In a database that publishes all tables, nothing can be deleted from one whose rows nothing identifies.
ALTER TABLE upkeep._query_minutes_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_7 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_7 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_7 REPLICA IDENTITY FULL;
CREATE INDEX _query_interval_period ON upkeep._query_interval (period);

-- Where each level's ring is.
CREATE TABLE upkeep._query_ring (
    level smallint PRIMARY KEY,
    position smallint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT '-infinity' -- the first period in the partition written to
);
INSERT INTO upkeep._query_ring (level) VALUES (0), (1), (2);
COMMENT ON TABLE upkeep._query_ring IS 'internal: which partition of each level is written to';

-- Text of statements, as first seen: per role, because search_path and rights are.
CREATE TABLE upkeep._query (
    queryid bigint NOT NULL,
    userid oid NOT NULL,
    -- Normalised; of utility statements outside of a short list the command tag only.
    query text NOT NULL,
    truncated boolean NOT NULL,
    -- Under which it was analyzed, so that it can be planned again.
    search_path text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (queryid, userid)
) WITH (fillfactor = 90);
CREATE INDEX _query_last_seen ON upkeep._query (last_seen);
COMMENT ON TABLE upkeep._query IS 'internal: texts of statements';
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   queries_tables

-- What is counted and kept, as far as whoever asks may see it.

-- Texts that the caller may see, and no others (LAW 5).
CREATE VIEW upkeep._query_text WITH (security_barrier) AS
SELECT q.queryid, q.userid, q.query, q.truncated, q.search_path, q.first_seen, q.last_seen
FROM upkeep._query q
WHERE pg_catalog.pg_has_role(q.userid, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON VIEW upkeep._query_text IS 'internal: texts of statements that the caller may see';
GRANT SELECT ON upkeep._query_text TO PUBLIC;

-- pgrx returns no more than 32 columns: the counters come as an array.
CREATE FUNCTION upkeep._query_packed_intervals(since timestamptz, until timestamptz, only_queryid bigint, resolution interval)
    RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    counters double precision[],
    lossy boolean
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_packed_intervals_wrapper';
COMMENT ON FUNCTION upkeep._query_packed_intervals(timestamptz, timestamptz, bigint, interval) IS
'internal: see upkeep._query_intervals()';

CREATE FUNCTION upkeep._query_intervals(since timestamptz, until timestamptz, only_queryid bigint DEFAULT NULL,
                                        resolution interval DEFAULT NULL)
    RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    shared_blks_hit bigint,
    shared_blks_read bigint,
    shared_blks_dirtied bigint,
    shared_blks_written bigint,
    local_blks_hit bigint,
    local_blks_read bigint,
    local_blks_dirtied bigint,
    local_blks_written bigint,
    temp_blks_read bigint,
    temp_blks_written bigint,
    blk_read_time double precision,
    blk_write_time double precision,
    temp_blk_read_time double precision,
    temp_blk_write_time double precision,
    wal_records bigint,
    wal_fpi bigint,
    wal_bytes bigint,
    jit_functions bigint,
    jit_time double precision,
    lossy boolean
)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
BEGIN ATOMIC
SELECT p.started_at, p.finished_at, p.queryid, p.userid, p.toplevel, p.calls, p.rows, p.total_time, p.min_time, p.max_time,
       p.errors, p.cancellations, p.timeouts, p.unknown_errors, p.histogram,
       p.counters[1]::bigint, p.counters[2]::bigint, p.counters[3]::bigint, p.counters[4]::bigint, p.counters[5]::bigint,
       p.counters[6]::bigint, p.counters[7]::bigint, p.counters[8]::bigint, p.counters[9]::bigint, p.counters[10]::bigint,
       p.counters[11], p.counters[12], p.counters[13], p.counters[14], p.counters[15]::bigint,
       p.counters[16]::bigint, p.counters[17]::bigint, p.counters[18]::bigint, p.counters[19],
       p.lossy
FROM upkeep._query_packed_intervals(since, until, only_queryid, resolution) p;
END;
COMMENT ON FUNCTION upkeep._query_intervals(timestamptz, timestamptz, bigint, interval) IS
'internal: what statements cost between two times, from the coarsest rows that fit, none of them longer than '
'resolution where finer ones are kept. Per row: one statement in one interval; queryid 0 is what could not be kept '
'apart. Times in ms. queryid is null where the caller may not see the statement: of roles that it is no member of, '
'without pg_read_all_stats.';

CREATE FUNCTION upkeep._query_counts() RETURNS TABLE (
    datid oid,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    p50_time double precision,
    p95_time double precision,
    p99_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    stats_since timestamptz,
    query text,
    may_see boolean,
    by_job boolean
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5000 COST 10000
    AS 'MODULE_PATHNAME', 'upkeep_query_live_wrapper';
COMMENT ON FUNCTION upkeep._query_counts() IS
'internal: the counters in shared memory, of this database and, to pg_read_all_stats, what other databases could not keep apart';

CREATE VIEW upkeep.query_stats WITH (security_barrier) AS
SELECT l.datid, l.queryid, l.userid, l.toplevel, l.calls, l.rows, l.total_time,
       l.total_time OPERATOR(pg_catalog./) nullif(l.calls, 0)::double precision AS mean_time,
       l.min_time, l.max_time, l.p50_time, l.p95_time, l.p99_time,
       l.errors, l.cancellations, l.timeouts, l.unknown_errors, l.stats_since,
       CASE WHEN l.queryid OPERATOR(pg_catalog.=) 0 THEN '<others>'
            WHEN NOT l.may_see THEN '<insufficient privilege>'
            ELSE coalesce(l.query, q.query) END AS query,
       l.by_job
FROM upkeep._query_counts() l
LEFT JOIN upkeep._query_text q
    ON q.queryid OPERATOR(pg_catalog.=) l.queryid AND q.userid OPERATOR(pg_catalog.=) l.userid;
COMMENT ON VIEW upkeep.query_stats IS
'What each statement of this database has cost since the server started or upkeep.reset_query_stats(), '
'live from shared memory: per role, queryid, toplevel (false: within a function; see upkeep.track_queries) and '
'by_job. Times in ms; percentiles from a histogram, at most 12.5 % off. calls, rows, times and percentiles are of '
'executions that succeeded. A row with queryid 0 adds up what could not be kept apart: statements that were evicted '
'(upkeep.query_max), or that could not be entered; members of pg_read_all_stats see that row of every database. '
'queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of '
'pg_read_all_stats. Takes shared_preload_libraries; without it: 55000.';
COMMENT ON COLUMN upkeep.query_stats.queryid IS
'As in pg_stat_statements; of utility statements outside of a short list one per command tag; 0: others.';
COMMENT ON COLUMN upkeep.query_stats.errors IS 'Executions that ended in an error that reached the log or the client.';
COMMENT ON COLUMN upkeep.query_stats.cancellations IS 'Executions that were canceled or whose session was terminated.';
COMMENT ON COLUMN upkeep.query_stats.timeouts IS 'Executions that ran into statement_timeout.';
COMMENT ON COLUMN upkeep.query_stats.unknown_errors IS
'Executions that ended in an error that was caught (an EXCEPTION block) or not reported: its kind is not known.';
COMMENT ON COLUMN upkeep.query_stats.stats_since IS 'When counting began or was reset.';
COMMENT ON COLUMN upkeep.query_stats.by_job IS
'Executed by the worker of a job of pg_upkeep: batches of a backfill with the tries that it caught, purges, '
'commands in the background and of schedules. Reports leave it out, unless upkeep.report_queries says otherwise.';
GRANT SELECT ON upkeep.query_stats TO PUBLIC;

CREATE FUNCTION upkeep.reset_query_stats(userid oid DEFAULT NULL, queryid bigint DEFAULT NULL, history boolean DEFAULT false)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_reset_query_stats_wrapper';
COMMENT ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) IS
'Lets upkeep.query_stats begin anew in this database: for all statements (then "others" too), or those of a role or '
'with a queryid. Takes effect at once, whatever becomes of the transaction. '
'What was counted still goes into the history. With history => true the history and all texts are removed as well; '
'that takes no userid and no queryid (22023). Not for PUBLIC: GRANT EXECUTE to whom it may concern. '
'Errors: 55000 not preloaded, 22004 history is null, 55P03 somebody who has read the history is still in his '
'transaction.';
REVOKE ALL ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) FROM PUBLIC;
/* </end connected objects> */

/* <begin connected objects> */
-- requires:
--   queries_stats

-- What the history of statements says, as far as whoever asks may see it. All of it leaves out what jobs executed, unless
-- upkeep.report_queries says otherwise.

CREATE FUNCTION upkeep.query_history(
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
COMMENT ON FUNCTION upkeep.query_history(timestamptz, timestamptz, interval) IS
'What each statement cost, bucket by bucket (at least 1 minute; buckets of a day begin at midnight UTC), '
'from the stored history of this database. Times in ms; percentiles are at most 11.1 % off; '
'started_at and finished_at are those of what is stored within the bucket, and may reach beyond it where only coarser '
'history is kept. Blocks, wal_bytes and jit_time come from pg_stat_statements, if it is there; '
'lossy: it forgot some meanwhile, or a restart cut the interval short. queryid 0 is what could not be kept apart. '
'queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of '
'pg_read_all_stats. jobs: how many jobs of this database that you see were under way then. '
'Errors: 22004 an argument is null, 22023 until is not after since, or no such bucket.';

CREATE FUNCTION upkeep.query_percentile(
    queryid bigint,
    fraction double precision,
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    role regrole DEFAULT NULL,
    toplevel boolean DEFAULT NULL)
RETURNS double precision
    LANGUAGE c STABLE PARALLEL UNSAFE COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_percentile_wrapper';
COMMENT ON FUNCTION upkeep.query_percentile(bigint, double precision, timestamptz, timestamptz, regrole, boolean) IS
'The latency in ms that this fraction (0 to 1; 0.95 is the 95th percentile) of a statement''s successful executions '
'did not exceed, over any time, from merged histograms: at most 11.1 % off from 4 us on. '
'role and toplevel narrow it; null takes all. Null if there were none, or none that you may see. '
'Errors: 22004 an argument is null, 22023 fraction out of range or until not after since.';

CREATE FUNCTION upkeep.query_histogram(
    queryid bigint,
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    role regrole DEFAULT NULL,
    toplevel boolean DEFAULT NULL)
RETURNS TABLE (
    lower_time double precision,
    upper_time double precision,
    calls bigint,
    cumulative_share double precision
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 40 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_histogram_wrapper';
COMMENT ON FUNCTION upkeep.query_histogram(bigint, timestamptz, timestamptz, regrole, boolean) IS
'How the latencies of a statement''s successful executions are spread: per bucket in use its edges in ms (lower_time '
'included, upper_time not; null: no end), the calls in it, and the fraction of all calls up to its end. '
'role and toplevel narrow it; null takes all. No rows if there were none, or none that you may see. '
'Errors: 22004 an argument is null, 22023 until is not after since.';

CREATE FUNCTION upkeep._slow_queries() RETURNS TABLE (
    queryid bigint,
    userid oid,
    toplevel boolean,
    slow_calls bigint,
    calls bigint,
    total_time double precision,
    mean_time double precision,
    p95_time double precision,
    p99_time double precision,
    max_time double precision,
    last_slow_at timestamptz,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_slow_queries_wrapper';
COMMENT ON FUNCTION upkeep._slow_queries() IS 'internal: the figures behind upkeep.slow_queries';

CREATE VIEW upkeep.slow_queries WITH (security_barrier) AS
SELECT s.queryid, s.userid, s.toplevel, s.slow_calls, s.calls, s.total_time, s.mean_time,
       s.p95_time, s.p99_time, s.max_time, s.last_slow_at, s.query
FROM upkeep._slow_queries() s;
COMMENT ON VIEW upkeep.slow_queries IS
'Statements of which calls took at least upkeep.slow_query_min_duration (default 1 s) within the last 24 hours, '
'as far as the history is written; those with the most such calls first. Times in ms. '
'Of statements of roles that you are no member of, figures without queryid and query, unless you are a member of '
'pg_read_all_stats.';
COMMENT ON COLUMN upkeep.slow_queries.slow_calls IS
'Calls that took so long. Of the bucket of the histogram in which the limit lies, a share is counted.';
COMMENT ON COLUMN upkeep.slow_queries.last_slow_at IS 'End of the last stored interval with such a call.';
GRANT SELECT ON upkeep.slow_queries TO PUBLIC;

CREATE FUNCTION upkeep.top_queries(
    order_by text DEFAULT 'total',
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    max_rows integer DEFAULT 20)
RETURNS TABLE (
    rank integer,
    queryid bigint,
    userid oid,
    toplevel boolean,
    statements bigint,
    share double precision,
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
    wal_bytes bigint,
    lossy boolean,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_top_queries_wrapper';
COMMENT ON FUNCTION upkeep.top_queries(text, timestamptz, timestamptz, integer) IS
'The statements that cost most, by total, mean, p95, p99 (times in ms), calls, rows, errors (failures of any kind), '
'io (blocks read and written), wal (bytes) or temp (blocks); the last three take pg_stat_statements. '
'share is the fraction of the sum over all statements, of the time for mean, p95 and p99. '
'The last row, without a rank, is all others together (queryid 0; statements: how many of them are known), '
'including what could not be kept apart. Statements within functions are in the figures of their callers: '
'they are listed, but not added up. Of statements of roles that you are no member of, figures without queryid and '
'query, unless you are a member of pg_read_all_stats. Errors: 22004 an argument is null, 22023 no such order, '
'until not after since, or max_rows below 1.';

CREATE FUNCTION upkeep.query_regressions(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    baseline_since timestamptz DEFAULT NULL,
    baseline_until timestamptz DEFAULT NULL,
    min_calls integer DEFAULT 50,
    min_effect double precision DEFAULT 0.1)
RETURNS TABLE (
    queryid bigint,
    userid oid,
    toplevel boolean,
    effect double precision,
    probability_slower double precision,
    p_value double precision,
    adjusted_p_value double precision,
    same_hours boolean,
    added_time double precision,
    calls bigint,
    baseline_calls bigint,
    mean_time double precision,
    baseline_mean_time double precision,
    p50_time double precision,
    baseline_p50_time double precision,
    p95_time double precision,
    baseline_p95_time double precision,
    p99_time double precision,
    baseline_p99_time double precision,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_query_regressions_wrapper';
COMMENT ON FUNCTION upkeep.query_regressions(timestamptz, timestamptz, timestamptz, timestamptz, integer, double precision) IS
'Statements that became slower, compared with a baseline (default: the 14 days before since), the dearest first. '
'Hours are compared with the same hours of the day; days of the baseline show how much days differ; '
'of what is reported at most 5 % is expected to be chance (Benjamini-Hochberg over all statements with min_calls, '
'at least 10, on both sides). effect is by how much the typical (geometric mean) time grew: 0.3 is 30 % slower; '
'below min_effect nothing is reported. probability_slower: that a call now is slower than one of the baseline (0.5: '
'no change). added_time: ms that all calls together took longer. same_hours false: the baseline has other hours of '
'the day only, and a daily cycle may be all there is. Times in ms. Only statements that you may see; '
'what could not be kept apart is not compared. Errors: 22004 an argument is null, 22023 an end is not after its '
'beginning, or a limit is out of range.';

CREATE FUNCTION upkeep.performance_report(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_wrapper';
COMMENT ON FUNCTION upkeep.performance_report(timestamptz, timestamptz) IS
'A time at a glance: totals of all statements, a series over time with percentiles, failures and histograms, '
'the statements that cost most (columns as in upkeep.top_queries()), and what became slower than in the 14 days '
'before (as upkeep.query_regressions()). Times in ms, in UTC; queryids are strings. '
'Shows the caller what those functions show. Errors: 22004 an argument is null, 22023 until is not after since.';

CREATE FUNCTION upkeep.performance_report_html(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_html_wrapper';
COMMENT ON FUNCTION upkeep.performance_report_html(timestamptz, timestamptz) IS
'performance_report() as one self-contained HTML page without scripts: psql -XAtqc ''SELECT '
'upkeep.performance_report_html()'' > performance.html. Errors: as performance_report().';
/* </end connected objects> */
