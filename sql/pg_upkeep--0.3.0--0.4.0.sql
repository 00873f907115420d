\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

-- Row stamps: one trigger a table. Its arguments and its WHEN say what it stamps, so that there is no table of ours to
-- fall behind: the server follows renamed columns, partitions have their own numbers, a dump carries it.

-- Everyone's: a dump is restored as the owner of the table.
CREATE FUNCTION upkeep._stamp_row() RETURNS trigger
    LANGUAGE c PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_stamp_row';
COMMENT ON FUNCTION upkeep._stamp_row() IS
'Private: the trigger of row stamps. Made by upkeep.enable_timestamps(), enable_userstamps() and enable_row_version(). 40001 for a stale row version, 55000 for a missing one that is required, 428C9 for a created_* column that refuses a change.';

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
       t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::"char"[]) AS enabled
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
    SELECT pg_catalog.max(a.attname::text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'created_at')::name AS created_at,
           pg_catalog.max(a.attname::text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'updated_at')::name AS updated_at,
           pg_catalog.max(a.attname::text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'created_by')::name AS created_by,
           pg_catalog.max(a.attname::text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'updated_by')::name AS updated_by,
           pg_catalog.max(a.attname::text) FILTER (WHERE r.role OPERATOR(pg_catalog.=) 'version')::name AS version
    FROM pg_catalog.unnest(g.args) WITH ORDINALITY r (role, i)
    JOIN pg_catalog.regexp_matches(t.tgqual::text, ':varattno (\d+)', 'g') WITH ORDINALITY v (number, i)
         ON v.i OPERATOR(pg_catalog.=) r.i
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.tgrelid
         AND a.attnum OPERATOR(pg_catalog.=) (v.number)[1]::smallint) s
WHERE t.tgfoid OPERATOR(pg_catalog.=) 'upkeep._stamp_row()'::pg_catalog.regprocedure
  AND t.tgparentid OPERATOR(pg_catalog.=) 0::oid;
COMMENT ON VIEW upkeep.row_stamps IS 'Tables whose rows are stamped, with the columns (null: not stamped) and how: clock (transaction, statement, clock), what a changed created_* column does (keep, refuse), version_mode (incremented, echo), version_required. Partitions are stamped with their table, and not listed. enabled: the trigger is not switched off. Everyone sees all, as in pg_trigger.';
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
'Sets created_at when a row is made and updated_at on every real change of it. The columns are added (timestamptz, null in rows that are there) or adopted (timestamptz, timestamp); null: do without that one. clock: transaction, statement or clock; created_change: an UPDATE that changes created_at keeps the old value (keep) or fails with 428C9 (refuse). Called again it replaces what it said. Owner''s members. 42501 not the owner, 42809 not a table, 42804 a column of another type, 42701 a column is stamped already, 42P16 a generated column or a partition key, 22023 wrong argument.';

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
'Sets created_by when a row is made and updated_by on every real change of it: to the setting upkeep.actor, else to the role that the session acts as, outside of SECURITY DEFINER functions. The columns are added (text, null in rows that are there) or adopted (text, varchar, name); null: do without that one. created_change: as of upkeep.enable_timestamps(). Owner''s members. Errors as there; 22001 at an INSERT or UPDATE if the actor is too long for the column.';

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
'Counts the changes of each row, and refuses one that was made for an older version of it (40001). mode: what an UPDATE sets the column to: the version that was read plus one (incremented, as SQLAlchemy does), or the version that was read (echo). An UPDATE that does not set it counts on, or fails with 55000 if required. The column is added (integer, 1 in all rows) or adopted (integer, bigint). Owner''s members. Errors as of upkeep.enable_timestamps(); 22003 at an UPDATE beyond the greatest value.';

CREATE FUNCTION upkeep.disable_row_version(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_row_version_wrapper';
COMMENT ON FUNCTION upkeep.disable_row_version(regclass) IS
'Ends the versions of upkeep.enable_row_version(); the column stays as it is. Owner''s members. 42704 the table has none.';

COMMENT ON FUNCTION upkeep.backfill(regclass, text, text, text, integer, interval, text, boolean, boolean, jsonb, boolean, text, text, interval, bigint, integer, double precision) IS
'Fills columns of a table, of all partitions or of all children in the background and returns the job. assignments: what follows SET; condition: the rows that still need it (default: every row, exactly once, which needs a key); batch_time: length of one transaction (default upkeep.batch_time); on_error: quarantine or stop; options: strategy, range_blocks, strides, window_ranges, max_quarantined, vacuum, touch_stamps; fill_new_rows: rows that others write meanwhile are filled by a trigger (needs TRIGGER, a condition and plpgsql). Runs as the caller. Errors: 42601 in a fragment, 22023 wrong argument, 55006 a column is being filled already, 42710 name in use, 42501 a privilege is missing on the table or a partition, 55000 no key or a publication that refuses the update, 0A000 not a table for it.';

-- Soft delete: what is enabled, what was deleted together, and the functions. regclass and not oid, so that a dump carries
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
    enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE UNIQUE INDEX _soft_delete_table_live_view ON upkeep._soft_delete_table (live_view);

-- One for each call of soft_delete(), and one for all other deletions of a transaction.
CREATE TABLE upkeep._deletion (
    id uuid PRIMARY KEY,
    -- The first table.
    relid regclass NOT NULL,
    deleted_at timestamptz NOT NULL,
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

CREATE TABLE upkeep._deletion_table (
    deletion uuid NOT NULL REFERENCES upkeep._deletion ON DELETE CASCADE,
    relid regclass NOT NULL,
    rows bigint NOT NULL,
    -- Deleted by somebody, not (only) by the cascade.
    direct boolean NOT NULL,
    -- Of them are gone for good.
    purged bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (deletion, relid)
);

-- What ON DELETE SET NULL and SET DEFAULT have changed. Key and values as text: they come back by the types' input.
CREATE TABLE upkeep._deletion_cleared (
    deletion uuid NOT NULL REFERENCES upkeep._deletion ON DELETE CASCADE,
    relid regclass NOT NULL,
    -- Which foreign key.
    conname name NOT NULL,
    key_columns name[] NOT NULL,
    columns name[] NOT NULL,
    key jsonb NOT NULL,
    old_values jsonb NOT NULL,
    new_values jsonb NOT NULL
);
CREATE INDEX ON upkeep._deletion_cleared (deletion);

SELECT pg_catalog.pg_extension_config_dump('upkeep._soft_delete_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_cleared', '');

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
'Lets rows of a table be deleted so that they can come back. Adds the columns that are missing (no rewrite), triggers, and by hide: live_view (TABLE_live and TABLE_deleted), swap (the table becomes TABLE_all, the view takes its name), swap_published (the same for a table in a publication), none. flag: a boolean column kept in step with deleted_at. on_unmanaged, for tables without soft delete that reference this one ON DELETE CASCADE: refuse (this call), restrict (rows that they reference), ignore. For members of the table''s owner. Errors: 42501, 42809 not a table, 55000 no primary key, a referencing table without soft delete, a publication, 42804 a column of an unfit type, 42710 enabled already, 42P07 a view''s name is taken, 0A000 inheritance, partitioned by one of the columns.';

CREATE FUNCTION upkeep.disable_soft_delete(target regclass, deleted_rows text DEFAULT 'refuse') RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_disable_soft_delete';
COMMENT ON FUNCTION upkeep.disable_soft_delete(regclass, text) IS
'Ends soft delete on a table: triggers and views go, the columns stay. deleted_rows: refuse (55000 if there are any), keep (they look like any other row from now on), purge (deletes them for good; 55000 if any of them is held, or if a foreign key would take live rows along). For members of the table''s owner. Errors: 42501, 55000, 2BP01 something depends on a view, 22023, 22004.';

CREATE FUNCTION upkeep.soft_delete(target regclass, condition text, reason text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_soft_delete';
COMMENT ON FUNCTION upkeep.soft_delete(regclass, text, text) IS
'Deletes the live rows of a table that meet a condition (what follows WHERE) so that undelete() can bring them back, with what references them ON DELETE CASCADE. Returns the deletion''s id, or null if no row met it. target: the table or its live view. Runs as the caller, who needs SELECT and UPDATE on the table. Errors: 42601 not a condition, 55000 not enabled, 23503 live rows reference a row by RESTRICT or NO ACTION, 42501.';

CREATE FUNCTION upkeep.undelete(deletion uuid) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_undelete';
COMMENT ON FUNCTION upkeep.undelete(uuid) IS
'Brings back what one deletion has deleted, in all tables, and the references that it has cleared where they are still as it left them. Returns the number of rows. The caller needs SELECT and UPDATE on the tables from which rows were deleted directly. Errors: 42704 no such deletion, 55000 undeleted already or a table is gone, 23505 a unique key is in use again, 23503 a row that a row references is still deleted, 42501.';

CREATE FUNCTION upkeep.undelete(target regclass, condition text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_undelete_where';
COMMENT ON FUNCTION upkeep.undelete(regclass, text) IS
'Brings back the deleted rows of one table that meet a condition, whatever deleted them; not what was deleted with them. Returns the number of rows. Runs as the caller, who needs SELECT and UPDATE on the table. Errors as undelete(uuid), and 42601 not a condition.';

-- Triggers, on anybody's tables; they act on what they fire for and on nothing else.
CREATE FUNCTION upkeep._soft_delete_updated_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'upkeep_soft_delete_updated_row';
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
COMMENT ON FUNCTION upkeep._soft_delete_updated() IS 'Private trigger: carries a deletion on to what references the rows noted.';
COMMENT ON FUNCTION upkeep._soft_delete_view_row() IS 'Private trigger: DELETE of a row of a live view, at once or gathered.';
COMMENT ON FUNCTION upkeep._soft_delete_view() IS 'Private trigger: begins a DELETE on a live view; at its end deletes what was gathered, and carries it on to what references the rows.';
COMMENT ON FUNCTION upkeep._soft_delete_flag() IS 'Private trigger: keeps a boolean column in step with deleted_at.';
COMMENT ON FUNCTION upkeep._soft_delete_guard() IS 'Private trigger: refuses DELETE and TRUNCATE on a table with soft delete.';
COMMENT ON FUNCTION upkeep._soft_delete_live_parent() IS 'Private trigger: refuses a live row that references a deleted one.';

-- In the WHEN of these triggers, hence everyone's.
CREATE FUNCTION upkeep._is_by_hand(target oid, deletion uuid) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1 AS 'MODULE_PATHNAME', 'upkeep_is_by_hand';
COMMENT ON FUNCTION upkeep._is_by_hand(oid, uuid) IS
'Private: is the statement that updates this table somebody''s own, and not one of soft delete''s that knows what it does?';

CREATE VIEW upkeep.soft_delete_tables WITH (security_barrier) AS
    SELECT c.oid AS relid, n.nspname AS schemaname, c.relname, s.hide, s.deleted_at, s.deleted_by, s.deletion_id, s.flag,
           s.live_view::pg_catalog.oid AS live_view, s.deleted_view::pg_catalog.oid AS deleted_view,
           s.retention, s.on_unmanaged, s.enabled_at
    FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW upkeep.soft_delete_tables IS
'Tables with soft delete, visible to members of their owners: names of their columns and views, retention, and what is done about tables without it.';
GRANT SELECT ON upkeep.soft_delete_tables TO PUBLIC;

CREATE VIEW upkeep.deletions WITH (security_barrier) AS
    SELECT d.id, d.deleted_at, d.deleted_by, d.reason, d.relid::pg_catalog.oid AS relid, n.nspname AS schemaname, c.relname,
           (SELECT pg_catalog.jsonb_object_agg(t.relid::pg_catalog.text, t.rows)
            FROM upkeep._deletion_table t WHERE t.deletion OPERATOR(pg_catalog.=) d.id) AS rows,
           d.undeleted_at, d.undeleted_by, d.held, w.why_not IS NULL AS restorable, w.why_not
    FROM upkeep._deletion d
    LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.relid
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
                           AND NOT EXISTS (SELECT FROM upkeep._soft_delete_table s WHERE s.relid OPERATOR(pg_catalog.=) t.relid))
                THEN 'soft delete is not enabled on one of its tables any more'
        END AS why_not) w
    WHERE CASE WHEN c.oid IS NULL THEN pg_catalog.pg_has_role('pg_read_all_data', 'USAGE')
               ELSE pg_catalog.pg_has_role(c.relowner, 'USAGE') END;
COMMENT ON VIEW upkeep.deletions IS
'What was deleted together: by one call of soft_delete(), or by all other statements of one transaction. Visible to members of the owner of the first table.';
COMMENT ON COLUMN upkeep.deletions.rows IS 'How many rows were deleted in which table.';
COMMENT ON COLUMN upkeep.deletions.restorable IS 'Can undelete(id) be tried? Unique keys that are in use again, and deleted parents, show only then.';
GRANT SELECT ON upkeep.deletions TO PUBLIC;

-- Purge: what was deleted long enough ago goes for good, as a job.

CREATE FUNCTION upkeep.purge_deleted(target regclass, older_than interval) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'purge_deleted_wrapper';
COMMENT ON FUNCTION upkeep.purge_deleted(regclass, interval) IS
'Deletes for good, in the background, the rows of a table that were deleted longer ago than older_than, the oldest first, and the deleted rows which reference them, as old. Returns the job. target: the table or its live view. Rows that are held, locked, or referenced by rows which are not due stay; rows_left of the job counts the last two. Warns about missing indexes. For members of the table''s owner. Errors: 55000 no soft delete, 42501 not the owner, or row security hides rows, 55006 a purge of the table has not ended, 22004, 22023 older_than is negative.';

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
SELECT e.schemaname::name, e.relname::name, e.relid, e.rows, e.oldest, e.held, e.blocked, e.notes
FROM upkeep._explain_purge($1, $2) e;
END;
COMMENT ON FUNCTION upkeep.explain_purge(regclass, interval) IS
'Counts what upkeep.purge_deleted would delete for good, the table first, then those whose rows reference it: rows and when the oldest was deleted; held: rows that hold_deletion() keeps; blocked: rows that rows which are not due reference; notes: what would make it slow. Reads the tables. Changes nothing. Errors as of purge_deleted.';

CREATE FUNCTION upkeep.hold_deletion(deletion uuid, reason text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hold_deletion_wrapper';
COMMENT ON FUNCTION upkeep.hold_deletion(uuid, text) IS
'Keeps the rows of a deletion from every purge until release_deletion(); the reason shows in upkeep.deletions. Waits for the batch of a purge that is deleting some of them. For members of the owners of all its tables. Returns the deletion. Errors: 42704 no such deletion, 42501, 22023 an empty reason, 22004.';

CREATE FUNCTION upkeep.release_deletion(deletion uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'release_deletion_wrapper';
COMMENT ON FUNCTION upkeep.release_deletion(uuid) IS
'Lets a deletion be purged again that hold_deletion() keeps. For members of the owners of all its tables. Returns the deletion. Errors: 42704 no such deletion, 42501, 22004.';

-- Unique keys that count live rows only.

CREATE FUNCTION upkeep.make_unique_keys_partial(target regclass) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'make_unique_keys_partial_wrapper';
COMMENT ON FUNCTION upkeep.make_unique_keys_partial(regclass) IS
'Replaces each unique constraint and unique index of a table with soft delete by a unique index of the same name on its live rows, built concurrently by a job, so that what was deleted can be used again. Returns the job, or null if there is nothing to replace. Keys that cannot change (primary, referenced by foreign keys, deferrable, exclusion, replica identity) are named in notices, with the alternative. ON CONFLICT then needs the index''s columns and WHERE deleted_at IS NULL. target: the table or its live view. For members of the table''s owner. Errors: 55000 no soft delete, 42501, 0A000 partitioned, 55006 a job is at it already.';

CREATE FUNCTION upkeep._explain_make_unique_keys_partial(target regclass) RETURNS TABLE (
    indexrelname text, conname text, action text, reason text, command text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'explain_make_unique_keys_partial_wrapper';
COMMENT ON FUNCTION upkeep._explain_make_unique_keys_partial(regclass) IS 'internal: explain_make_unique_keys_partial() with names as text';

CREATE FUNCTION upkeep.explain_make_unique_keys_partial(target regclass) RETURNS TABLE (
    indexrelname name,
    conname name,
    action text,
    reason text,
    command text
)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10
BEGIN ATOMIC
SELECT e.indexrelname::name, e.conname::name, e.action, e.reason, e.command
FROM upkeep._explain_make_unique_keys_partial($1) e;
END;
COMMENT ON FUNCTION upkeep.explain_make_unique_keys_partial(regclass) IS
'Says of each unique key what upkeep.make_unique_keys_partial would do: replace (command: how the successor is built), keep (reason, and the alternative as command), none (it counts live rows only). Changes nothing. Errors as of make_unique_keys_partial.';

-- DDL on tables with soft delete. These are the extension's only event triggers.

CREATE FUNCTION upkeep.alter_soft_deleted(target regclass, ddl text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_soft_deleted_wrapper';
COMMENT ON FUNCTION upkeep.alter_soft_deleted(regclass, text) IS
'Runs one ALTER TABLE on a table with soft delete, as the caller, where its views stand in the way (DROP COLUMN, ALTER TYPE): they are dropped and made again in the same transaction, with their grants, owner, options, comments, defaults, rules and triggers. For members of the table''s owner. Errors: 42601 not one statement, 0A000 not an ALTER TABLE of columns, constraints or options, 22023 about another table, 2BP01 something else depends on a view, 55000 no soft delete, or one of its own columns is dropped, 42501.';

CREATE FUNCTION upkeep.repair_soft_delete(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'repair_soft_delete_wrapper';
COMMENT ON FUNCTION upkeep.repair_soft_delete(regclass) IS
'Makes what upkeep.soft_delete_drift shows of a table as it should be: missing views and triggers are made, disabled triggers enabled, columns of the views follow the table''s. Views that were dropped come back with the grants of the table. For members of the table''s owner. Errors: 55000 no soft delete, 42501, 2BP01 something depends on a view that has to be made anew, 42P07 a view''s name is taken.';

CREATE FUNCTION upkeep._follow_ddl() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'follow_ddl_wrapper';
COMMENT ON FUNCTION upkeep._follow_ddl() IS 'Private event trigger: views, partitions and foreign keys of tables with soft delete follow ALTER and CREATE TABLE.';
CREATE FUNCTION upkeep._follow_drops() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'follow_drops_wrapper';
COMMENT ON FUNCTION upkeep._follow_drops() IS 'Private event trigger: forgets tables with soft delete that were dropped.';
REVOKE EXECUTE ON FUNCTION upkeep._follow_ddl(), upkeep._follow_drops() FROM PUBLIC;

CREATE VIEW upkeep.soft_delete_drift WITH (security_barrier) AS
WITH managed AS MATERIALIZED (
    SELECT c.oid AS relid, n.nspname, c.relname, c.relowner, s.hide, s.flag, s.on_unmanaged,
           l.oid AS live_view, d.oid AS deleted_view
    FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_class l ON l.oid OPERATOR(pg_catalog.=) s.live_view AND l.relkind OPERATOR(pg_catalog.=) 'v'
    LEFT JOIN pg_catalog.pg_class d ON d.oid OPERATOR(pg_catalog.=) s.deleted_view AND d.relkind OPERATOR(pg_catalog.=) 'v'
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
), ours AS MATERIALIZED (
    SELECT t.tgrelid, t.tgname, t.tgenabled, p.proname
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::regnamespace
      AND pg_catalog.starts_with(p.proname::text, '_soft_delete_')
), member AS MATERIALIZED (
    SELECT m.relid AS root, t.relid FROM managed m
    CROSS JOIN LATERAL (SELECT m.relid UNION SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(m.relid) p) t (relid)
), wanted AS (
    SELECT m.root, m.relid, f.proname, f.number
    FROM member m
    CROSS JOIN (VALUES ('_soft_delete_updated', 1), ('_soft_delete_guard', 2), ('_soft_delete_updated_row', 1)) f (proname, number)
    UNION ALL
    SELECT m.relid, m.relid, '_soft_delete_flag', 1 FROM managed m WHERE m.flag IS NOT NULL
    UNION ALL
    SELECT m.relid, m.live_view, f.proname, f.number
    FROM managed m CROSS JOIN (VALUES ('_soft_delete_view_row', 1), ('_soft_delete_view', 2)) f (proname, number)
    WHERE m.live_view IS NOT NULL
    UNION ALL
    SELECT DISTINCT m.root, f.conrelid, '_soft_delete_live_parent', 2
    FROM member m
    JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) m.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
     AND f.conparentid OPERATOR(pg_catalog.=) 0::oid
), found (relid, problem) AS (
    SELECT m.relid, pg_catalog.format('its view of %s rows is missing', v.what)
    FROM managed m CROSS JOIN LATERAL (VALUES ('live', m.live_view), ('deleted', m.deleted_view)) v (what, oid)
    WHERE m.hide OPERATOR(pg_catalog.<>) 'none' AND v.oid IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('column %I is not in %s as it is in the table', coalesce(a.attname, b.attname), v.oid::regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) v (oid)
    CROSS JOIN LATERAL (
        SELECT x.attname, x.atttypid, x.atttypmod FROM pg_catalog.pg_attribute x
        WHERE x.attrelid OPERATOR(pg_catalog.=) m.relid AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped) a
    LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) v.oid AND b.attname OPERATOR(pg_catalog.=) a.attname
        AND b.atttypid OPERATOR(pg_catalog.=) a.atttypid AND b.atttypmod OPERATOR(pg_catalog.=) a.atttypmod
    WHERE v.oid IS NOT NULL AND b.attname IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('%s belongs to another role than the table', v.oid::regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) w (oid)
    JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) w.oid AND v.relowner OPERATOR(pg_catalog.<>) m.relowner
    UNION ALL
    SELECT w.root, pg_catalog.format('a trigger %s of %s is missing', w.proname, w.relid::regclass)
    FROM wanted w
    WHERE (SELECT pg_catalog.count(*) FROM ours o WHERE o.tgrelid OPERATOR(pg_catalog.=) w.relid
                                                   AND o.proname OPERATOR(pg_catalog.=) w.proname::name) OPERATOR(pg_catalog.<) w.number
    UNION ALL
    SELECT w.root, pg_catalog.format('trigger %I of %s is disabled', o.tgname, w.relid::regclass)
    FROM wanted w
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) w.relid AND o.proname OPERATOR(pg_catalog.=) w.proname::name
    WHERE o.tgenabled OPERATOR(pg_catalog.=) 'D'
)
SELECT m.relid, m.nspname AS schemaname, m.relname, f.problem,
       pg_catalog.format('SELECT upkeep.repair_soft_delete(%L);', pg_catalog.format('%I.%I', m.nspname, m.relname)) AS repair
FROM found f JOIN managed m ON m.relid OPERATOR(pg_catalog.=) f.relid
UNION ALL
SELECT DISTINCT m.relid, m.nspname, m.relname,
       pg_catalog.format('%s references it ON DELETE CASCADE, but has no soft delete', r.relid::regclass),
       pg_catalog.format('SELECT upkeep.enable_soft_delete(%L);', r.relid::regclass)
FROM managed m
JOIN member p ON p.root OPERATOR(pg_catalog.=) m.relid
JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
 AND f.conparentid OPERATOR(pg_catalog.=) 0::oid AND f.confdeltype OPERATOR(pg_catalog.=) 'c'
CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_partition_root(f.conrelid)::oid, f.conrelid) AS relid) r
WHERE m.on_unmanaged OPERATOR(pg_catalog.=) 'refuse'
  AND NOT EXISTS (SELECT FROM upkeep._soft_delete_table s WHERE s.relid OPERATOR(pg_catalog.=) r.relid)
UNION ALL
SELECT m.relid, m.nspname, m.relname, 'it has no primary key any more, or a deferrable one',
       pg_catalog.format('ALTER TABLE %I.%I ADD PRIMARY KEY (..);', m.nspname, m.relname)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) m.relid
                  AND k.contype OPERATOR(pg_catalog.=) 'p' AND NOT k.condeferrable);
COMMENT ON VIEW upkeep.soft_delete_drift IS
'What is not as it should be with tables with soft delete (views and columns, triggers missing or disabled, foreign keys that came later), and the statement that repairs it. Visible to members of the tables'' owners. Empty: all is well.';
GRANT SELECT ON upkeep.soft_delete_drift TO PUBLIC;

CREATE EVENT TRIGGER upkeep_follow_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
    EXECUTE FUNCTION upkeep._follow_ddl();
COMMENT ON EVENT TRIGGER upkeep_follow_ddl IS 'pg_upkeep: what belongs to tables with soft delete follows ALTER and CREATE TABLE. Never raises an error.';
CREATE EVENT TRIGGER upkeep_follow_drops ON sql_drop EXECUTE FUNCTION upkeep._follow_drops();
COMMENT ON EVENT TRIGGER upkeep_follow_drops IS 'pg_upkeep: forgets tables with soft delete that were dropped. Never raises an error.';
