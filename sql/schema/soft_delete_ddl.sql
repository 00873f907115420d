-- DDL on tables with soft delete. These are the extension's only event triggers.

CREATE FUNCTION upkeep.alter_soft_deleted(target regclass, ddl text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_soft_deleted_wrapper';
COMMENT ON FUNCTION upkeep.alter_soft_deleted(regclass, text) IS
'Runs one ALTER TABLE on a table with soft delete, as the caller, where its views stand in the way (DROP COLUMN, ALTER TYPE): they are dropped and made again in the same transaction, with their grants, owner, options, comments, defaults, rules and triggers. For members of the table''s owner. Errors: 42601 not one statement, 0A000 not an ALTER TABLE of columns, constraints or options, 22023 about another table, 2BP01 something else depends on a view, 55000 no soft delete, or one of its own columns is dropped, 42501.';

CREATE FUNCTION upkeep.repair_soft_delete(target regclass) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'repair_soft_delete_wrapper';
COMMENT ON FUNCTION upkeep.repair_soft_delete(regclass) IS
'Makes what upkeep.soft_delete_drift shows of a table as it should be: missing views and triggers are made, disabled triggers enabled, triggers of its functions under other names dropped, columns of the views follow the table''s. Views that were dropped come back with the grants of the table. For members of the table''s owner. Errors: 55000 no soft delete, 42501, 2BP01 something depends on a view that has to be made anew, 42P07 a view''s name is taken.';

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
    SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgtype, p.proname
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
      AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_soft_delete_')
), member AS MATERIALIZED (
    SELECT m.relid AS root, t.relid FROM managed m
    CROSS JOIN LATERAL (SELECT m.relid UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(m.relid) p) t (relid)
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
     AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
), found (relid, problem) AS (
    SELECT m.relid, pg_catalog.format('its view of %s rows is missing', v.what)
    FROM managed m CROSS JOIN LATERAL (VALUES ('live', m.live_view), ('deleted', m.deleted_view)) v (what, oid)
    WHERE m.hide OPERATOR(pg_catalog.<>) 'none' AND v.oid IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('column %I is not in %s as it is in the table', coalesce(a.attname, b.attname), v.oid::pg_catalog.regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) v (oid)
    CROSS JOIN LATERAL (
        SELECT x.attname, x.atttypid, x.atttypmod FROM pg_catalog.pg_attribute x
        WHERE x.attrelid OPERATOR(pg_catalog.=) m.relid AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped) a
    LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) v.oid AND b.attname OPERATOR(pg_catalog.=) a.attname
        AND b.atttypid OPERATOR(pg_catalog.=) a.atttypid AND b.atttypmod OPERATOR(pg_catalog.=) a.atttypmod
    WHERE v.oid IS NOT NULL AND b.attname IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('%s belongs to another role than the table', v.oid::pg_catalog.regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) w (oid)
    JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) w.oid AND v.relowner OPERATOR(pg_catalog.<>) m.relowner
    UNION ALL
    SELECT w.root, pg_catalog.format('a trigger %s of %s is missing', w.proname, w.relid::pg_catalog.regclass)
    FROM wanted w
    WHERE (SELECT pg_catalog.count(*) FROM ours o WHERE o.tgrelid OPERATOR(pg_catalog.=) w.relid
                                                   AND o.proname OPERATOR(pg_catalog.=) w.proname::pg_catalog.name) OPERATOR(pg_catalog.<) w.number
    UNION ALL
    SELECT w.root, pg_catalog.format('trigger %I of %s is disabled', o.tgname, w.relid::pg_catalog.regclass)
    FROM wanted w
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) w.relid AND o.proname OPERATOR(pg_catalog.=) w.proname::pg_catalog.name
    WHERE o.tgenabled OPERATOR(pg_catalog.=) 'D'
    UNION ALL
    -- The functions refuse to be any other trigger than the one that was made.
    SELECT m.root, pg_catalog.format('trigger %I of %s is none that soft delete has made', o.tgname, o.tgrelid::pg_catalog.regclass)
    FROM (SELECT r.root, r.relid FROM member r UNION SELECT v.relid, v.live_view FROM managed v) m
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) m.relid
    WHERE NOT EXISTS (SELECT FROM (VALUES
        ('_soft_delete_updated_row', 'upkeep_soft_delete_row', 17), ('_soft_delete_updated', 'upkeep_soft_delete', 16),
        ('_soft_delete_guard', 'upkeep_soft_delete_no_delete', 8), ('_soft_delete_guard', 'upkeep_soft_delete_no_truncate', 34),
        ('_soft_delete_flag', 'zz_upkeep_soft_delete_flag', 23), ('_soft_delete_view_row', 'upkeep_soft_delete_row', 73),
        ('_soft_delete_view', 'upkeep_soft_delete_begin', 10), ('_soft_delete_view', 'upkeep_soft_delete', 8),
        ('_soft_delete_live_parent', 'upkeep_live_parent_insert', 5), ('_soft_delete_live_parent', 'upkeep_live_parent_update', 17),
        ('_soft_delete_live_parent', 'upkeep_live_parent_insert_deferred', 5),
        ('_soft_delete_live_parent', 'upkeep_live_parent_update_deferred', 17)) f (proname, tgname, tgtype)
        WHERE f.proname::pg_catalog.name OPERATOR(pg_catalog.=) o.proname AND f.tgname::pg_catalog.name OPERATOR(pg_catalog.=) o.tgname
          AND f.tgtype OPERATOR(pg_catalog.=) o.tgtype)
)
SELECT m.relid, m.nspname AS schemaname, m.relname, f.problem,
       pg_catalog.format('SELECT upkeep.repair_soft_delete(%L);', pg_catalog.format('%I.%I', m.nspname, m.relname)) AS repair
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
  AND NOT EXISTS (SELECT FROM upkeep._soft_delete_table s WHERE s.relid OPERATOR(pg_catalog.=) r.relid)
UNION ALL
SELECT m.relid, m.nspname, m.relname, 'it has no primary key any more, or a deferrable one',
       pg_catalog.format('ALTER TABLE %I.%I ADD PRIMARY KEY (..);', m.nspname, m.relname)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) m.relid
                  AND k.contype OPERATOR(pg_catalog.=) 'p' AND NOT k.condeferrable);
COMMENT ON VIEW upkeep.soft_delete_drift IS
'What is not as it should be with tables with soft delete (views and columns, triggers missing, disabled or under another name, foreign keys that came later), and the statement that repairs it. Visible to members of the tables'' owners. Empty: all is well.';
GRANT SELECT ON upkeep.soft_delete_drift TO PUBLIC;

CREATE EVENT TRIGGER upkeep_follow_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
    EXECUTE FUNCTION upkeep._follow_ddl();
COMMENT ON EVENT TRIGGER upkeep_follow_ddl IS 'pg_upkeep: what belongs to tables with soft delete follows ALTER and CREATE TABLE. Never raises an error.';
CREATE EVENT TRIGGER upkeep_follow_drops ON sql_drop EXECUTE FUNCTION upkeep._follow_drops();
COMMENT ON EVENT TRIGGER upkeep_follow_drops IS 'pg_upkeep: forgets tables with soft delete that were dropped. Never raises an error.';
