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
