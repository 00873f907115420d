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
