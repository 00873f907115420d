-- Which indexes are used, and which are in the way.

CREATE FUNCTION upkeep.index_usage_snapshot() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
SELECT pg_catalog.jsonb_build_object(
    'format', 1,
    'system_identifier', s.system_identifier,
    'database', d.oid::bigint,
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'taken_at', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD HH24:MI:SS.US+00'),
    'stats_since', upkeep._index_conditions() OPERATOR(pg_catalog.->>) 'stats_since',
    'indexes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           i.indexrelid::bigint, coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0),
                           pg_catalog.to_char(pg_catalog.timezone('UTC', upkeep._last_index_scan(i.indexrelid)),
                                              'YYYY-MM-DD HH24:MI:SS.US+00'))), '[]')
                FROM upkeep._index i))
FROM pg_catalog.pg_control_system() s
JOIN pg_catalog.pg_database d ON d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();
END;
COMMENT ON FUNCTION upkeep.index_usage_snapshot() IS
'How often each index of this database was scanned on this server, for import_index_usage() on the primary. '
'Works on a standby, whose counters are its own.';

CREATE FUNCTION upkeep.import_index_usage(node text, figures jsonb) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'import_index_usage_wrapper';
COMMENT ON FUNCTION upkeep.import_index_usage(text, jsonb) IS
'On the primary: takes what index_usage_snapshot() gave on a standby; returns the number of indexes. '
'node: the standby''s application_name in pg_stat_replication (its slot or address if two have the same). '
'Figures count for 7 days. figures null forgets the node. To be granted. '
'22023 figures of another server, database or format, of a primary, or older than those here; 42704 nothing to forget.';
REVOKE EXECUTE ON FUNCTION upkeep.import_index_usage(text, jsonb) FROM PUBLIC;

-- CREATE INDEX in the server's words, put together from the catalogs where that is certain to give the same text: names of columns and
-- directions of btree and hash. Everything else the server itself says (and null if that had to wait).
-- With commands, or else with indexdef.
CREATE FUNCTION upkeep._index_definitions(wanted oid[], commands boolean) RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, indexdef text, tail text, drop_command text,
    create_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH asked AS MATERIALIZED (
    SELECT w.indexrelid FROM pg_catalog.unnest(wanted) AS w (indexrelid)
), opclass AS MATERIALIZED (
    -- btree and hash, without parameters of their own (support functions 5 and 3).
    SELECT o.oid, o.opcintype, y.typtype OPERATOR(pg_catalog.=) 'p'
               OR o.opcintype OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype AS broad
    FROM pg_catalog.pg_opclass o
    JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) o.opcintype
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) o.opcmethod
    LEFT JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) o.opcfamily
         AND p.amprocnum OPERATOR(pg_catalog.=) CASE m.amname WHEN 'btree' THEN 5 ELSE 3 END
    WHERE o.opcdefault AND m.amname OPERATOR(pg_catalog.=) ANY (ARRAY['btree', 'hash']::pg_catalog.name[]) AND p.oid IS NULL
), index_column AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, k.attnum, k.position, k.position OPERATOR(pg_catalog.<=) i.indnkeyatts AS is_key,
           i.indclass[k.position OPERATOR(pg_catalog.-) 1] AS opclass, i.indcollation[k.position OPERATOR(pg_catalog.-) 1] AS collation,
           coalesce(i.indoption[k.position OPERATOR(pg_catalog.-) 1], 0) AS option
    FROM pg_catalog.pg_index i
    JOIN asked w ON w.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
    WHERE i.indexprs IS NULL AND i.indpred IS NULL
), plain AS MATERIALIZED (
    SELECT k.indexrelid,
           pg_catalog.string_agg(pg_catalog.concat(pg_catalog.quote_ident(a.attname),
               CASE k.option WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN ' NULLS FIRST' WHEN 3 THEN ' DESC' END),
               ', ' ORDER BY k.position) FILTER (WHERE k.is_key) AS keys,
           pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.position) FILTER (WHERE NOT k.is_key) AS included,
           pg_catalog.bool_and(NOT k.is_key OR coalesce(
               (o.opcintype OPERATOR(pg_catalog.=) a.atttypid
                OR (o.broad AND a.atttypid OPERATOR(pg_catalog.<>) 'pg_catalog.name'::pg_catalog.regtype))
               AND k.collation OPERATOR(pg_catalog.=) a.attcollation, false)) AS certain
    FROM index_column k
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
         AND a.attnum OPERATOR(pg_catalog.>) 0
    LEFT JOIN opclass o ON o.oid OPERATOR(pg_catalog.=) k.opclass
    GROUP BY k.indexrelid
)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       CASE WHEN NOT commands THEN pg_catalog.concat(x.head, x.ident, x.only, x.relation) OPERATOR(pg_catalog.||) x.tail END,
       CASE WHEN commands THEN x.full_tail END,
       CASE WHEN NOT commands OR f.conindid IS NOT NULL THEN NULL
            WHEN c.conname IS NOT NULL THEN pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I;', x.relation, c.conname)
            ELSE pg_catalog.format('DROP INDEX %s%I.%s;', x.concurrently, x.schemaname, x.ident) END,
       CASE WHEN NOT commands THEN NULL
            WHEN c.conname IS NULL
            THEN pg_catalog.concat(x.head, x.concurrently, x.ident, ' ON ', x.relation)
                     OPERATOR(pg_catalog.||) x.full_tail OPERATOR(pg_catalog.||) ';'
            ELSE pg_catalog.format('%s%s%s ON %s%s; ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %s%s;',
                x.head, x.concurrently, x.ident, x.relation, x.full_tail, x.relation, c.conname,
                CASE WHEN c.contype OPERATOR(pg_catalog.=) 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, x.ident,
                CASE WHEN c.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN c.condeferrable THEN ' DEFERRABLE' ELSE '' END) END
FROM (
    SELECT y.*,
           -- Where the server's own text is needed: what follows the same first words.
           CASE WHEN y.certain THEN y.body
                ELSE pg_catalog.substr(upkeep._index_definition(y.indexrelid, false), y.first_words) END AS tail,
           CASE WHEN y.certain THEN pg_catalog.concat(y.body, ' TABLESPACE ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(y.spcname))
                ELSE pg_catalog.substr(upkeep._index_definition(y.indexrelid, true), y.fewer_first_words) END AS full_tail
    FROM (SELECT z.*, pg_catalog.length(pg_catalog.concat(z.head, z.ident, z.only, z.relation)) OPERATOR(pg_catalog.+) 1 AS first_words,
                 -- With the tablespace, the server leaves ONLY out.
                 pg_catalog.length(pg_catalog.concat(z.head, z.ident, ' ON ', z.relation)) OPERATOR(pg_catalog.+) 1 AS fewer_first_words
          FROM (
        SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, i.indrelid AS relid, i.indexrelid,
               coalesce(p.certain, false) AND c.reloptions IS NULL AS certain,
               CASE WHEN i.indisunique THEN 'CREATE UNIQUE INDEX ' ELSE 'CREATE INDEX ' END AS head,
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' OR c.relpersistence OPERATOR(pg_catalog.=) 't' THEN ''
                    ELSE 'CONCURRENTLY ' END AS concurrently,
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' THEN ' ON ONLY ' ELSE ' ON ' END AS only,
               pg_catalog.quote_ident(c.relname) AS ident,
               pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(t.relname)) AS relation,
               pg_catalog.concat(' USING ', pg_catalog.quote_ident(m.amname), ' (', p.keys, ')',
                                 ' INCLUDE (' OPERATOR(pg_catalog.||) p.included OPERATOR(pg_catalog.||) ')',
                   CASE WHEN i.indnullsnotdistinct THEN ' NULLS NOT DISTINCT' END) AS body,
               s.spcname
        FROM asked q
        JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) q.indexrelid
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
        JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace
        JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
        LEFT JOIN plain p ON p.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
        LEFT JOIN pg_catalog.pg_tablespace s ON s.oid OPERATOR(pg_catalog.=) c.reltablespace) z) y) x
LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) x.indexrelid
     AND (c.contype OPERATOR(pg_catalog.=) 'p' OR c.contype OPERATOR(pg_catalog.=) 'u')
LEFT JOIN (SELECT DISTINCT r.conindid FROM pg_catalog.pg_constraint r WHERE r.contype OPERATOR(pg_catalog.=) 'f') f
     ON f.conindid OPERATOR(pg_catalog.=) x.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_definitions(oid[], boolean) IS
'internal: these indexes'' definitions, and the commands that drop them (none while a foreign key refers to one) and '
'make them again';

CREATE FUNCTION upkeep._index_usage() RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, idx_scan bigint, idx_tup_read bigint,
    idx_tup_fetch bigint,
    last_idx_scan timestamptz, index_size bigint, table_writes bigint, hot_share double precision, stats_age interval, indexdef text,
    verdict text, reason text, standby_idx_scan bigint)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
SELECT v.schemaname, v.relname, v.indexrelname, v.relid, v.indexrelid,
       v.idx_scan,
       CASE WHEN v.relkind OPERATOR(pg_catalog.<>) 'I' THEN pg_catalog.pg_stat_get_tuples_returned(v.indexrelid) END,
       CASE WHEN v.relkind OPERATOR(pg_catalog.<>) 'I' THEN pg_catalog.pg_stat_get_tuples_fetched(v.indexrelid) END,
       v.last_idx_scan, v.index_size,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.+) v.deletes,
       v.hot_updates::double precision OPERATOR(pg_catalog./) nullif(v.updates, 0),
       pg_catalog.now() OPERATOR(pg_catalog.-) v.stats_since,
       d.indexdef, v.verdict, v.reason, v.standby_idx_scan
FROM upkeep._index_verdicts() v
LEFT JOIN upkeep._index_definitions(ARRAY(
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['i', 'I']::pg_catalog."char"[])
      AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog'::pg_catalog.regnamespace,
                                                            'pg_toast'::pg_catalog.regnamespace]::pg_catalog.oid[])), false) d
    ON d.indexrelid OPERATOR(pg_catalog.=) v.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_usage() IS 'internal: upkeep.index_usage, with settings that keep its plan good';

CREATE VIEW upkeep.index_usage WITH (security_barrier) AS SELECT u.* FROM upkeep._index_usage() u;
COMMENT ON VIEW upkeep.index_usage IS
'Every index of every user table: scans since the statistics began (stats_age), size in bytes, writes to its table, '
'share of its updates that were HOT (0..1), and a verdict (used, unused, kept, unknown) with the reason. '
'A partitioned index has the sums of its partitions (and null for idx_tup_read and idx_tup_fetch). '
'Readable by everyone, like pg_stat_user_indexes.';

-- Columns that only one index of the table has: their updates can be HOT once it is gone. Indexes that only summarize
-- (brin) do not count from version 16 on.
CREATE FUNCTION upkeep._sole_columns(wanted oid[]) RETURNS TABLE (indexrelid oid, columns name[])
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH asked AS MATERIALIZED (
    SELECT DISTINCT i.indrelid FROM pg_catalog.unnest(wanted) AS w (indexrelid)
    JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) w.indexrelid
), counted AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indkey, i.indexprs IS NOT NULL OR i.indpred IS NOT NULL AS computed
    FROM asked q
    JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) q.indrelid
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
    WHERE i.indislive
      AND (m.amname OPERATOR(pg_catalog.<>) 'brin'
           OR pg_catalog.current_setting('server_version_num')::integer OPERATOR(pg_catalog.<) 160000)
), index_column AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, k.attnum
    FROM counted i CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) AS k (attnum)
    WHERE k.attnum OPERATOR(pg_catalog.>) 0
    UNION
    -- Columns within expressions and predicates.
    SELECT i.indexrelid, i.indrelid, d.refobjsubid::smallint
    FROM counted i
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
         AND d.objid OPERATOR(pg_catalog.=) i.indexrelid
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
         AND d.refobjid OPERATOR(pg_catalog.=) i.indrelid AND d.refobjsubid OPERATOR(pg_catalog.>) 0
    WHERE i.computed
), sole AS MATERIALIZED (
    SELECT pg_catalog.min(k.indexrelid) AS indexrelid, k.indrelid, k.attnum
    FROM index_column k GROUP BY k.indrelid, k.attnum HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) 1
)
SELECT s.indexrelid, pg_catalog.array_agg(a.attname ORDER BY s.attnum)
FROM sole s JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) s.indrelid AND a.attnum OPERATOR(pg_catalog.=) s.attnum
GROUP BY s.indexrelid;
END;
COMMENT ON FUNCTION upkeep._sole_columns(oid[]) IS 'internal: columns that only this one of their table''s indexes has';

CREATE FUNCTION upkeep._unused_indexes(unused upkeep._index_verdict[]) RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, index_size bigint, entries_written bigint,
    hot_updates_prevented bigint, hot_prevented_by name[], table_writes bigint, hot_share double precision, stats_age interval,
    reason text,
    drop_command text, create_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
SELECT v.schemaname, v.relname, v.indexrelname, v.relid, v.indexrelid,
       v.index_size,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.-) v.hot_updates,
       CASE WHEN s.columns IS NULL THEN 0 ELSE v.updates OPERATOR(pg_catalog.-) v.hot_updates END,
       s.columns,
       v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.+) v.deletes,
       v.hot_updates::double precision OPERATOR(pg_catalog./) nullif(v.updates, 0),
       pg_catalog.now() OPERATOR(pg_catalog.-) v.stats_since,
       v.reason, d.drop_command, d.create_command
FROM pg_catalog.unnest(unused) v
LEFT JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM pg_catalog.unnest(unused) w), true) d
     ON d.indexrelid OPERATOR(pg_catalog.=) v.indexrelid
LEFT JOIN upkeep._sole_columns(ARRAY(SELECT w.indexrelid FROM pg_catalog.unnest(unused) w)) s
     ON s.indexrelid OPERATOR(pg_catalog.=) v.indexrelid
-- What it occupies and what has been written into it.
ORDER BY v.index_size::double precision
         OPERATOR(pg_catalog.+) ((v.inserts OPERATOR(pg_catalog.+) v.updates OPERATOR(pg_catalog.-) v.hot_updates)::double precision
                                 OPERATOR(pg_catalog.*) (v.index_size::double precision
                                                         OPERATOR(pg_catalog./) greatest(v.entries, 1))) DESC NULLS LAST,
         CASE WHEN s.columns IS NULL THEN 0 ELSE v.updates OPERATOR(pg_catalog.-) v.hot_updates END DESC, v.indexrelid;
END;
COMMENT ON FUNCTION upkeep._unused_indexes(upkeep._index_verdict[]) IS
'internal: what there is to say about unused indexes, dearest first';

CREATE VIEW upkeep.unused_indexes WITH (security_barrier) AS
SELECT u.*
FROM upkeep._unused_indexes(ARRAY(SELECT v FROM upkeep._index_verdicts() v WHERE v.verdict OPERATOR(pg_catalog.=) 'unused')) u;
COMMENT ON VIEW upkeep.unused_indexes IS
'Indexes that nothing has used anywhere for upkeep.index_min_age, dearest first (bytes they occupy, '
'and bytes written into them since the statistics began; then updates that could not be HOT because of a column that '
'only this index has). drop_command and the way back, create_command. A partitioned index cannot be dropped '
'CONCURRENTLY.';

GRANT SELECT ON upkeep.index_usage, upkeep.unused_indexes TO PUBLIC;
