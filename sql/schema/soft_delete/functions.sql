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

-- All triggers that soft delete makes, by their function and tgtype. conditional: there is a WHEN; null: there may be one. What
-- the functions take for theirs (server::soft_delete::attached) is compared with it by a test.
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
COMMENT ON FUNCTION upkeep._soft_delete_inserted() IS 'Private trigger: refuses a statement that inserts rows and changed a deleted one instead.';
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
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW upkeep.soft_delete_tables IS
'Tables with soft delete, visible to members of their owners: names of their columns and views, retention, and what is done about tables without it.';
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
COMMENT ON VIEW upkeep.deletions IS
'What was deleted together: by one call of soft_delete(), or by all other statements of one transaction. Visible to members of the owner of the first table.';
COMMENT ON COLUMN upkeep.deletions.deleted_by IS 'The actor: upkeep.actor as it was set in that transaction, which anyone may set; the role that the session acted as only where it was empty.';
COMMENT ON COLUMN upkeep.deletions.undeleted_by IS 'The actor who brought it back, as for deleted_by.';
COMMENT ON COLUMN upkeep.deletions.rows IS 'How many rows were deleted in which table. Those of tables on which the reader has no right at all are one number, under "other tables".';
COMMENT ON COLUMN upkeep.deletions.restorable IS 'Can undelete(id) be tried? Unique keys that are in use again, and deleted parents, show only then.';
GRANT SELECT ON upkeep.deletions TO PUBLIC;
