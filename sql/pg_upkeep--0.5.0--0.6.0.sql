\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

-- Soft delete: text that somebody else wrote stays his, and no setting says what a dump is.

CREATE FUNCTION upkeep._make_way_for_trigger() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'make_way_for_trigger_wrapper';
COMMENT ON FUNCTION upkeep._make_way_for_trigger() IS 'Private event trigger: a trigger of soft delete that is created again, as a dump does it, replaces the one that is there.';
REVOKE EXECUTE ON FUNCTION upkeep._make_way_for_trigger() FROM PUBLIC;
CREATE FUNCTION upkeep._soft_delete_view_differs(view oid, completely boolean) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'soft_delete_view_differs_wrapper';
COMMENT ON FUNCTION upkeep._soft_delete_view_differs(oid, boolean) IS
'Private: what of a view of soft delete is not as soft delete has written it (null: nothing, or it is no such view). completely: rules, triggers, defaults and rights to add triggers too.';

COMMENT ON VIEW upkeep.soft_delete_drift IS
'What is not as it should be with tables with soft delete (views and columns, views that somebody else has written or owns, triggers missing, disabled, renamed, replaced or added, foreign keys that came later), and the statements that repair it. Visible to members of the tables'' owners. Empty: all is well.';

COMMENT ON COLUMN upkeep.deletions.rows IS 'How many rows were deleted in which table. Those of tables on which the reader has no right at all are one number, under "other tables".';
COMMENT ON FUNCTION upkeep.alter_soft_deleted(regclass, text) IS
'Runs one ALTER TABLE on a table with soft delete, as the caller, where its views stand in the way (DROP COLUMN, ALTER TYPE): they are dropped and made again in the same transaction, with their grants, options, comments, defaults, rules and triggers. For members of the table''s owner. Errors: 42601 not one statement, 0A000 not an ALTER TABLE of columns, constraints or options, 22023 about another table, 2BP01 something else depends on a view, 55000 no soft delete, one of its own columns is dropped, or a view is not as soft delete has written it, is another role''s, or has a trigger that may be, 42501.';
COMMENT ON FUNCTION upkeep.repair_soft_delete(regclass) IS
'Makes what upkeep.soft_delete_drift shows of a table as it should be: missing views and triggers are made, disabled triggers enabled, and called as they were, others of its functions dropped, columns of the views follow the table''s. Views that were dropped come back with the grants of the table. A view that is not as soft delete has written it stays as it is, with a warning. For members of the table''s owner. Errors: 55000 no soft delete, 42501, 42P07 a view''s name is taken, 42710 a trigger''s name is.';

CREATE EVENT TRIGGER upkeep_before_trigger ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER')
    EXECUTE FUNCTION upkeep._make_way_for_trigger();
COMMENT ON EVENT TRIGGER upkeep_before_trigger IS 'pg_upkeep: a dump may create the triggers of soft delete, whatever made them before. Never raises an error.';

-- Jobs: what error messages say is for members of the owner only, and ends of a worker are counted.

ALTER TABLE upkeep._job
    ADD COLUMN reason_detail text,
    ADD COLUMN waits_for jsonb;
ALTER TABLE upkeep._job_slot
    ADD COLUMN wait_detail text,
    ADD COLUMN ends integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_starts integer NOT NULL DEFAULT 0,
    ADD COLUMN ended_at timestamptz;

-- Reasons in which 0.5.0 has put what an error said: which of them did cannot be told from the others.
UPDATE upkeep._job SET reason = 'waits', reason_detail = reason
WHERE reason IS NOT NULL AND reason OPERATOR(pg_catalog.<>) 'restored'
  AND state OPERATOR(pg_catalog.<>) 'paused';
UPDATE upkeep._job_slot SET wait_reason = 'waits', wait_detail = wait_reason WHERE wait_reason IS NOT NULL;

CREATE FUNCTION upkeep._standstill() RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'standstill_wrapper';
COMMENT ON FUNCTION upkeep._standstill() IS 'internal: why no job runs in this database (null: they do)';

CREATE OR REPLACE VIEW upkeep.schedule_runs WITH (security_barrier) AS
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

-- Keys and values survive the way through text.
-- Rows of unfinished backfills, and references that deletions have cleared, are read as they were written: false.
ALTER TABLE upkeep._backfill_row ADD COLUMN exact boolean NOT NULL DEFAULT false;
ALTER TABLE upkeep._deletion_cleared ADD COLUMN exact boolean NOT NULL DEFAULT false;

-- In a database that publishes all tables, nothing can be deleted from one whose rows nothing identifies.
ALTER TABLE upkeep._job_event REPLICA IDENTITY FULL;
ALTER TABLE upkeep._deletion_cleared REPLICA IDENTITY FULL;
ALTER TABLE upkeep._xid_mark REPLICA IDENTITY FULL;
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

-- What deletions remember follows columns, and forgets tables that are dropped.
CREATE INDEX ON upkeep._deletion (relid);
CREATE INDEX ON upkeep._deletion_table (relid);
CREATE INDEX ON upkeep._deletion_cleared (relid);
COMMENT ON FUNCTION upkeep._soft_delete_view_differs(oid, boolean) IS
'Private: what of a view of soft delete is not as soft delete has written it (null: nothing, it is no such view, or the caller is neither a member of its owner nor of the table''s). completely: rules, triggers, defaults and rights to add triggers too.';

-- Nobody's lock and nobody's text is in the way of what others do: errors that say so.
COMMENT ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) IS
'Lets upkeep.query_stats begin anew in this database: for all statements (then "others" too), or those of a role or with a queryid. Takes effect at once, whatever becomes of the transaction. What was counted still goes into the history. With history => true the history and all texts are removed as well; that takes no userid and no queryid (22023). Not for PUBLIC: GRANT EXECUTE to whom it may concern. Errors: 55000 not preloaded, 22004 history is null, 55P03 somebody who has read the history is still in his transaction.';
COMMENT ON FUNCTION upkeep.run_in_background(text, text, integer) IS 'Runs one SQL command in a worker as the caller, top-level ones (VACUUM, CREATE INDEX CONCURRENTLY, CALL) included. retries: how often a failed or interrupted run is repeated. To be granted. 42601 unless exactly one statement; 0A000 for BEGIN, COMMIT, LISTEN, COPY FROM STDIN or TO STDOUT; 54000 more than 1 MB.';
-- Runs of schedules wait for their turn among all jobs.
CREATE INDEX ON upkeep._schedule (owner, next_run) WHERE NOT paused AND hold IS NULL;
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

-- What is locked keeps nobody from pausing the rest.
COMMENT ON FUNCTION upkeep.pause_all(text) IS 'Pauses every unfinished job of this database except commands that have started, and holds every schedule; returns how many. What other transactions have locked is passed over, with a warning that names it (55P03). To be granted.';
COMMENT ON FUNCTION upkeep.resume_all() IS 'Resumes every paused job and held schedule of this database, those that came with a dump or copy included (owner and table are found by name); returns how many. What other transactions have locked is passed over, with a warning that names it (55P03). To be granted.';
COMMENT ON FUNCTION upkeep.run_now(text) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 22023 several of this name, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';
COMMENT ON FUNCTION upkeep.run_now(uuid) IS 'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. 42704 no such schedule, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';
-- Tries in vain are counted beyond the end of a worker.
ALTER TABLE upkeep._job_slot ADD COLUMN tries jsonb NOT NULL DEFAULT '{}';
-- Tables that a dump carries have no foreign keys: pg_dump does not know of them, and pg_restore -j loads the tables in any
-- order. What belongs to a job, a schedule or a deletion goes with it by statements.
ALTER TABLE upkeep._job_slot DROP CONSTRAINT _job_slot_job_fkey;
ALTER TABLE upkeep._job_event DROP CONSTRAINT _job_event_job_fkey;
ALTER TABLE upkeep._backfill_row DROP CONSTRAINT _backfill_row_job_fkey;
ALTER TABLE upkeep._backfill_xid DROP CONSTRAINT _backfill_xid_job_fkey;
ALTER TABLE upkeep._backfill_table DROP CONSTRAINT _backfill_table_job_fkey;
ALTER TABLE upkeep._schedule_run DROP CONSTRAINT _schedule_run_schedule_fkey;
ALTER TABLE upkeep._deletion_table DROP CONSTRAINT _deletion_table_deletion_fkey;
ALTER TABLE upkeep._deletion_cleared DROP CONSTRAINT _deletion_cleared_deletion_fkey;

-- Soft delete: the schedule that purges follows its table, and a table that took the OID of another is not it.
ALTER TABLE upkeep._soft_delete_table
    ADD COLUMN retention_schedule uuid,
    ADD COLUMN row_type regtype,
    ADD COLUMN kept_names name[] NOT NULL DEFAULT '{}';
CREATE VIEW upkeep._soft_delete WITH (security_barrier) AS
    SELECT s.* FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
     AND coalesce(c.reltype OPERATOR(pg_catalog.=) s.row_type::pg_catalog.oid, true);
COMMENT ON VIEW upkeep._soft_delete IS 'Private: tables with soft delete, but for those whose OID is another table''s now.';

UPDATE upkeep._soft_delete_table s SET row_type = c.reltype
FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) s.relid;
-- Upserts that meet deleted rows

CREATE FUNCTION upkeep._soft_delete_dead_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_dead_row';
CREATE FUNCTION upkeep._soft_delete_inserted() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_inserted';
COMMENT ON FUNCTION upkeep._soft_delete_dead_row() IS 'Private trigger: notes that a deleted row was changed and stays deleted.';
COMMENT ON FUNCTION upkeep._soft_delete_inserted() IS 'Private trigger: refuses a statement that inserts rows and changed a deleted one instead.';

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

CREATE FUNCTION upkeep._purge_by_retention(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'purge_by_retention_wrapper';
COMMENT ON FUNCTION upkeep._purge_by_retention(uuid) IS
'Private: the purge that the retention of a table asks for, which the schedule belongs to. Null: one has not ended. Errors: 55000 it belongs to none, and those of purge_deleted.';

-- Those that are called and owned as 0.5.0 has made them, and run what it wrote.
UPDATE upkeep._soft_delete_table t SET retention_schedule = s.id
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace, upkeep._schedule s
WHERE c.oid OPERATOR(pg_catalog.=) t.relid AND t.retention IS NOT NULL AND s.owner OPERATOR(pg_catalog.=) c.relowner
  AND s.name OPERATOR(pg_catalog.=) pg_catalog.format('purge %I.%I', n.nspname, t.name)
  AND pg_catalog.starts_with(s.command, 'SELECT upkeep.purge_deleted(');
UPDATE upkeep._schedule s
SET command = pg_catalog.format('SELECT upkeep._purge_by_retention(%L::pg_catalog.uuid)', s.id)
FROM upkeep._soft_delete_table t WHERE t.retention_schedule OPERATOR(pg_catalog.=) s.id;

CREATE OR REPLACE VIEW upkeep.soft_delete_tables WITH (security_barrier) AS
    SELECT c.oid AS relid, n.nspname AS schemaname, c.relname, s.hide, s.deleted_at, s.deleted_by, s.deletion_id, s.flag,
           s.live_view::pg_catalog.oid AS live_view, s.deleted_view::pg_catalog.oid AS deleted_view,
           s.retention, s.on_unmanaged, s.enabled_at
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');

CREATE OR REPLACE VIEW upkeep.deletions WITH (security_barrier) AS
    SELECT d.id, d.deleted_at, d.deleted_by, d.reason, d.relid::pg_catalog.oid AS relid, n.nspname AS schemaname, c.relname,
           (SELECT pg_catalog.jsonb_object_agg(k.name, k.rows)
            FROM (SELECT n.name, pg_catalog.sum(t.rows)::bigint AS rows
                  FROM upkeep._deletion_table t
                  LEFT JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) t.relid
                  CROSS JOIN LATERAL (
                      -- Any right on a table is a right to its name. A quoted name would have its quotes.
                      SELECT CASE WHEN r.oid IS NULL OR pg_catalog.pg_has_role(r.relowner, 'USAGE')
                                       OR pg_catalog.has_table_privilege(r.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
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

CREATE OR REPLACE VIEW upkeep.soft_delete_drift WITH (security_barrier) AS
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
    CROSS JOIN (VALUES ('upkeep.schedule(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, interval, integer, interval, boolean, boolean, boolean)'))
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
    CROSS JOIN (VALUES ('_soft_delete_updated'), ('_soft_delete_guard'), ('_soft_delete_updated_row'), ('_soft_delete_dead_row'), ('_soft_delete_inserted'))
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
           p.proname OPERATOR(pg_catalog.=) w.proname::pg_catalog.name AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
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
    SELECT v.relid, pg_catalog.format('column %I is not in %s as it is in the table', coalesce(a.attname, b.attname), v.oid::pg_catalog.regclass),
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
                                           ELSE 'it inherits from %s, which has no soft delete of its rows' END, x.other::pg_catalog.regclass),
           pg_catalog.format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::pg_catalog.regclass, i.inhparent::pg_catalog.regclass)
    FROM managed m
    JOIN pg_catalog.pg_inherits i ON m.relid OPERATOR(pg_catalog.=) i.inhparent OR m.relid OPERATOR(pg_catalog.=) i.inhrelid
    JOIN pg_catalog.pg_class h ON h.oid OPERATOR(pg_catalog.=) i.inhrelid AND NOT h.relispartition
    CROSS JOIN LATERAL (SELECT CASE WHEN i.inhparent OPERATOR(pg_catalog.=) m.relid THEN i.inhrelid ELSE i.inhparent END AS other) x
    UNION ALL
    -- Those of soft delete alone know what they were made for.
    SELECT DISTINCT p.root, pg_catalog.format('trigger %I of %s runs %s, but is not one of soft delete', o.tgname, o.tgrelid::pg_catalog.regclass, o.proname),
           pg_catalog.format('DROP TRIGGER %I ON %s;', o.tgname, o.tgrelid::pg_catalog.regclass)
    FROM (SELECT q.root, q.relid, false AS only_checks FROM member q
          UNION SELECT v.relid, v.oid, false FROM shown v
          UNION SELECT q.root, q.relid, true FROM place q WHERE q.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent') p
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) p.relid AND o.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
     AND (NOT p.only_checks OR o.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'::pg_catalog.name)
    WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.relid OPERATOR(pg_catalog.=) o.tgrelid AND w.tgname::pg_catalog.name OPERATOR(pg_catalog.=) o.tgname)
      AND NOT EXISTS (SELECT FROM renamed r WHERE r.relid OPERATOR(pg_catalog.=) o.tgrelid AND r.tgname OPERATOR(pg_catalog.=) o.tgname)
      AND NOT EXISTS (SELECT FROM kind k WHERE k.tgname::pg_catalog.name OPERATOR(pg_catalog.=) o.tgname
                        AND k.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent' AND k.proname::pg_catalog.name OPERATOR(pg_catalog.=) o.proname)
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

-- DDL by other statements than ALTER and CREATE TABLE

COMMENT ON FUNCTION upkeep._follow_ddl() IS 'Private event trigger: views, partitions and foreign keys of tables with soft delete follow statements that make and change tables.';
DROP EVENT TRIGGER upkeep_follow_ddl;
-- Elements of CREATE SCHEMA are its own commands to an event trigger, and most kinds of ALTER .. RENAME take any relation.
CREATE EVENT TRIGGER upkeep_follow_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER VIEW',
                 'ALTER MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER TYPE')
    EXECUTE FUNCTION upkeep._follow_ddl();
COMMENT ON EVENT TRIGGER upkeep_follow_ddl IS 'pg_upkeep: what belongs to tables with soft delete follows statements that make and change tables. Never raises an error.';

-- What was asked for and does not happen

COMMENT ON VIEW upkeep.status IS 'One row: are workers up (preloaded, dynamic, not running), how many work on this server, and in advice, line by line, what was asked for and does not happen, and what to type. Job counts are of the jobs the caller can see.';

-- Names of tables and views

-- Views follow their table's name from now on. Those that it had before stay: somebody uses them.
UPDATE upkeep._soft_delete_table s SET name = c.relname
FROM pg_catalog.pg_class c
WHERE c.oid OPERATOR(pg_catalog.=) (CASE s.hide WHEN 'swap' THEN s.live_view ELSE s.relid END)::pg_catalog.oid
  AND c.relname OPERATOR(pg_catalog.<>) s.name;

-- Limits of a job that are taken away

COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision) IS
'Changes an unfinished job, also while it runs; null keeps what is. batch_time 10 ms to 60 s, workers 1 to 64; run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; the rest tightens the settings of these names (kB/s, 0..1). 0 takes a limit away again, and has batch_time follow the setting. Owner''s members. 22023 a value out of range.';

-- What jobs execute is told apart

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

CREATE OR REPLACE VIEW upkeep.query_stats WITH (security_barrier) AS
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
'What each statement of this database has cost since the server started or upkeep.reset_query_stats(), live from shared memory: per role, queryid, toplevel (false: within a function; see upkeep.track_queries) and by_job. Times in ms; percentiles from a histogram, at most 12.5 % off. calls, rows, times and percentiles are of executions that succeeded. A row with queryid 0 adds up what could not be kept apart: statements that were evicted (upkeep.query_max), or that could not be entered; members of pg_read_all_stats see that row of every database. queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of pg_read_all_stats. Takes shared_preload_libraries; without it: 55000.';
COMMENT ON COLUMN upkeep.query_stats.by_job IS 'Executed by the worker of a job of pg_upkeep: batches of a backfill with the tries that it caught, purges, commands in the background and of schedules. Reports leave it out, unless upkeep.report_queries says otherwise.';
DROP FUNCTION upkeep._query_live();

-- Deletions: deleted_by is the actor

COMMENT ON COLUMN upkeep.deletions.deleted_by IS 'The actor: upkeep.actor as it was set in that transaction, which anyone may set; the role that the session acted as only where it was empty.';
COMMENT ON COLUMN upkeep.deletions.undeleted_by IS 'The actor who brought it back, as for deleted_by.';

-- Indexes: tables of Citus are not judged

CREATE OR REPLACE FUNCTION upkeep._index_verdicts() RETURNS SETOF upkeep._index_verdict
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
           ARRAY(SELECT r.relid::pg_catalog.oid FROM pg_catalog.jsonb_array_elements_text(f.c OPERATOR(pg_catalog.->) 'distributed') r (relid)) AS distributed,
           pg_catalog.format('not scanned since %s%s', pg_catalog.left(f.c OPERATOR(pg_catalog.->>) 'stats_since', 10),
               CASE WHEN (f.c OPERATOR(pg_catalog.->>) 'nodes')::integer OPERATOR(pg_catalog.>) 0 THEN ', nor on standbys' ELSE '' END) AS unused
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
                WHEN pg_catalog.age(i.index_xid) OPERATOR(pg_catalog.<) 0 OR pg_catalog.age(i.class_xid) OPERATOR(pg_catalog.<) 0 THEN 2147483647
                ELSE greatest(pg_catalog.age(i.index_xid), pg_catalog.age(i.class_xid)) END AS xid_age,
           coalesce(p.root, i.indexrelid) AS root, p.root IS NOT NULL AS in_tree,
           i.indisvalid AND i.indisready AND i.indislive AS usable,
           coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0) AS scans,
           CASE WHEN pg_catalog.pg_stat_get_numscans(i.indexrelid) OPERATOR(pg_catalog.>) 0 THEN upkeep._last_index_scan(i.indexrelid) END AS last_scan,
           coalesce(x.scans, 0) AS scans_elsewhere, x.users, coalesce(x.nodes, 0) AS nodes_elsewhere,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                WHEN i.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(i.indexrelid)
                ELSE upkeep._file_size(i.relfilenode, i.reltablespace) END AS index_size,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE greatest(i.reltuples, 0) END::double precision AS entries,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_inserted(i.relid) END AS inserts,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_updated(i.relid) END AS updates,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_deleted(i.relid) END AS deletes,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_hot_updated(i.relid) END AS hot_updates,
           CASE WHEN i.indisprimary THEN 'primary key'
                WHEN i.indisexclusion THEN 'exclusion constraint'
                WHEN k.conname IS NOT NULL THEN pg_catalog.format('foreign key %I refers to it', k.conname)
                WHEN i.indisunique THEN 'unique: it checks what is written, which is not counted as a scan'
                WHEN i.indisreplident THEN 'replica identity of the table'
                WHEN i.indisclustered THEN 'CLUSTER order of the table'
                WHEN coalesce(e.extname, t.extname) IS NOT NULL
                THEN pg_catalog.format('belongs to extension %I', coalesce(e.extname, t.extname))
                WHEN i.indexprs IS NOT NULL
                     AND i.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT s.indexrelid FROM expression_statistics s WHERE s.indexrelid IS NOT NULL))
                     AND NOT EXISTS (SELECT FROM expression_statistics s
                                     WHERE s.relid OPERATOR(pg_catalog.=) i.relid
                                       AND pg_catalog.strpos(s.expressions, pg_catalog.btrim(upkeep._node_text(i.indexprs), '()')) OPERATOR(pg_catalog.>) 0)
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
           pg_catalog.max(f.users) AS users, pg_catalog.max(f.nodes_elsewhere) AS nodes_elsewhere, pg_catalog.max(f.last_scan) AS last_scan,
           pg_catalog.max(f.xid_age) AS xid_age, pg_catalog.min(f.kept_as) AS kept_as, pg_catalog.bool_and(f.usable) AS usable,
           pg_catalog.sum(f.index_size)::bigint AS index_size, pg_catalog.sum(f.entries) AS entries, pg_catalog.sum(f.inserts)::bigint AS inserts,
           pg_catalog.sum(f.updates)::bigint AS updates, pg_catalog.sum(f.deletes)::bigint AS deletes, pg_catalog.sum(f.hot_updates)::bigint AS hot_updates
    FROM fact f WHERE f.in_tree
    GROUP BY f.root
), idle AS MATERIALIZED (
    -- Nothing seen so far speaks for these, of those that can be dropped by themselves.
    SELECT f.root FROM fact f
    WHERE NOT f.in_tree AND f.usable AND f.kept_as IS NULL AND f.scans OPERATOR(pg_catalog.=) 0 AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0
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
                    CASE WHEN f.attached AND f.scans OPERATOR(pg_catalog.=) 0 AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0 THEN 'partition of an index that is used' END,
                    CASE WHEN a.scans OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('scanned ', a.scans, ' times') END,
                    CASE WHEN a.scans_elsewhere OPERATOR(pg_catalog.>) 0 THEN
                        pg_catalog.format('scanned %s times on standbys (%s)', a.scans_elsewhere, coalesce(w.users, f.users)) END) END
            WHEN 'kept' THEN coalesce(f.kept_as, w.kept_as,
                CASE WHEN k.conname IS NOT NULL THEN
                    pg_catalog.format('the only index for foreign key %I: without it each DELETE on the other side reads this table', k.conname) END,
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
        WHEN c.unknown IS NOT NULL OR f.relid OPERATOR(pg_catalog.=) ANY (c.distributed) OR a.xid_age OPERATOR(pg_catalog.<) c.young_xids OR a.nodes_elsewhere OPERATOR(pg_catalog.<) c.nodes THEN 'unknown'
        WHEN f.attached THEN 'kept'
        ELSE 'unused' END AS verdict) v;
END;

CREATE OR REPLACE FUNCTION upkeep.index_report() RETURNS jsonb
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
    'conditions', upkeep._index_conditions() OPERATOR(pg_catalog.-) 'young_xids' OPERATOR(pg_catalog.-) 'surely_young_xids' OPERATOR(pg_catalog.-) 'distributed',
    'verdicts', (SELECT coalesce(pg_catalog.jsonb_object_agg(v.verdict, pg_catalog.jsonb_build_object('indexes', v.indexes, 'bytes', v.bytes)), '{}') FROM verdict v),
    'sections', pg_catalog.jsonb_build_object(
        'unused', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep._unused_indexes(ARRAY(SELECT j.v FROM judged j WHERE (j.v).verdict OPERATOR(pg_catalog.=) 'unused')) x) u),
        'duplicate', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.duplicate_indexes x) u),
        'redundant', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.redundant_indexes x) u),
        'bloated', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.bloat_bytes), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.bloated_indexes x
                         WHERE x.verdict OPERATOR(pg_catalog.=) ANY (ARRAY['bloated', 'maybe'])) u),
        'invalid', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.invalid_indexes x) u),
        'unindexed_foreign_keys', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.unindexed_foreign_keys x) u),
        'missing', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n') FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.missing_indexes x) u)));
END;

-- Jobs: when one should end goes by all of its time, not by that at work

ALTER TABLE upkeep._job_slot ADD COLUMN wall_time double precision NOT NULL DEFAULT 0;
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
    SELECT pg_catalog.pg_has_role(j.owner, 'USAGE') AS own,
           upkeep._is_here(j.system_identifier, j.database) AS here) k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(t.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(t.units_done), 0) AS units_done,
           pg_catalog.max(t.batch_rows) AS batch_rows,
           pg_catalog.sum(t.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS rows_per_second,
           pg_catalog.sum(t.units_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(greatest(t.wall_time, t.busy_time), 0)) AS units_per_second,
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
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) j.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();

-- Soft delete: views are locked before their table, as their readers do.

CREATE FUNCTION upkeep._before_alter() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'before_alter_wrapper';
COMMENT ON FUNCTION upkeep._before_alter() IS 'Private event trigger: locks the views of a table with soft delete before an ALTER TABLE locks the table, as their readers do.';
REVOKE EXECUTE ON FUNCTION upkeep._before_alter() FROM PUBLIC;
CREATE EVENT TRIGGER upkeep_before_alter ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER INDEX')
    EXECUTE FUNCTION upkeep._before_alter();
COMMENT ON EVENT TRIGGER upkeep_before_alter IS 'pg_upkeep: views of tables with soft delete are locked before their table, within the statement''s own lock_timeout. Raises no other error.';

-- Tables with soft delete of 0.5.0 lack triggers

-- Not made here: each needs a lock of somebody's table until the end of the whole update.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM upkeep._soft_delete) THEN
        RAISE WARNING USING
            MESSAGE = 'tables with soft delete lack triggers that are new in this version',
            DETAIL = 'Until they have them, INSERT .. ON CONFLICT DO UPDATE may change a deleted row.',
            HINT = 'SELECT DISTINCT repair FROM upkeep.soft_delete_drift; shows what to type, for each table at a time of your choice.';
    END IF;
END
$do$;
