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
