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
