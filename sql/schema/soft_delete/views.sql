-- What people see of soft delete.

CREATE VIEW upkeep.soft_delete_tables WITH (security_barrier) AS
    SELECT c.oid AS relid, n.nspname AS schemaname, c.relname, s.hide, s.deleted_at, s.deleted_by, s.deletion_id, s.flag,
           s.live_view::pg_catalog.oid AS live_view, s.deleted_view::pg_catalog.oid AS deleted_view,
           s.retention, s.on_unmanaged, s.enabled_at
    FROM upkeep._soft_delete s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW upkeep.soft_delete_tables IS
'Tables with soft delete, visible to members of their owners: names of their columns and views, retention, '
'and what is done about tables without it.';
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
                                       OR pg_catalog.has_table_privilege(
                                              r.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
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
'What was deleted together: by one call of soft_delete(), or by all other statements of one transaction. '
'Visible to members of the owner of the first table.';
COMMENT ON COLUMN upkeep.deletions.deleted_by IS
'The actor: upkeep.actor as it was set in that transaction, which anyone may set; the role that the session acted as '
'only where it was empty.';
COMMENT ON COLUMN upkeep.deletions.undeleted_by IS 'The actor who brought it back, as for deleted_by.';
COMMENT ON COLUMN upkeep.deletions.rows IS
'How many rows were deleted in which table. Those of tables on which the reader has no right at all are one number, '
'under "other tables".';
COMMENT ON COLUMN upkeep.deletions.restorable IS
'Can undelete(id) be tried? Unique keys that are in use again, and deleted parents, show only then.';
GRANT SELECT ON upkeep.deletions TO PUBLIC;
