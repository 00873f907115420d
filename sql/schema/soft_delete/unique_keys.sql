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
