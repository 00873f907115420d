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
