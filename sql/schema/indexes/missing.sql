-- Indexes that are not there: for foreign keys, and for tables that are read from end to end all the time.

CREATE FUNCTION upkeep._unindexed_foreign_keys() RETURNS TABLE (
    conoid oid, without text[], partitions bigint, table_rows double precision, table_size bigint,
    referenced_rows double precision, referenced_updates bigint, referenced_deletes bigint, leaf_commands text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH RECURSIVE tree (top, conoid, conrelid) AS (
    SELECT f.oid, f.oid, f.conrelid FROM pg_catalog.pg_constraint f
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    UNION ALL
    SELECT t.top, f.oid, f.conrelid FROM tree t
    JOIN pg_catalog.pg_constraint f ON f.conparentid OPERATOR(pg_catalog.=) t.conoid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f'
), supported AS MATERIALIZED (
    SELECT DISTINCT s.conoid FROM upkeep._foreign_key_support() s
), leaf AS MATERIALIZED (
    -- A partitioned table is served if each of its partitions is.
    SELECT t.top, t.conrelid, c.relname, c.relnamespace, c.reltuples, c.relfilenode, c.reltablespace, c.relpersistence,
           c.oid OPERATOR(pg_catalog.<>) (SELECT f.conrelid FROM pg_catalog.pg_constraint f
                                          WHERE f.oid OPERATOR(pg_catalog.=) t.top) AS is_partition,
           pg_catalog.bool_or(s.conoid IS NOT NULL) AS served
    FROM tree t
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.conrelid AND c.relkind OPERATOR(pg_catalog.=) 'r'
    LEFT JOIN supported s ON s.conoid OPERATOR(pg_catalog.=) t.conoid
    GROUP BY t.top, t.conrelid, c.oid, c.relname, c.relnamespace, c.reltuples, c.relfilenode, c.reltablespace, c.relpersistence
), bare AS MATERIALIZED (
    SELECT l.top, pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, l.relname) ORDER BY l.relname)
                      FILTER (WHERE l.is_partition AND NOT l.served) AS without,
           pg_catalog.count(*) FILTER (WHERE l.is_partition) AS partitions,
           pg_catalog.sum(greatest(l.reltuples, pg_catalog.pg_stat_get_live_tuples(l.conrelid), 0))
               FILTER (WHERE NOT l.served) AS table_rows,
           (pg_catalog.sum(CASE WHEN l.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(l.conrelid)
                ELSE upkeep._file_size(l.relfilenode, l.reltablespace) END) FILTER (WHERE NOT l.served))::bigint AS table_size,
           pg_catalog.bool_and(l.served) AS served
    FROM leaf l JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) l.relnamespace
    GROUP BY l.top
), wanting AS MATERIALIZED (
    SELECT f.oid AS conoid, f.confrelid, f.conrelid, f.conkey, b.without, coalesce(b.partitions, 0) AS partitions, b.table_rows,
           b.table_size
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN bare b ON b.top OPERATOR(pg_catalog.=) f.oid
    LEFT JOIN supported s ON s.conoid OPERATOR(pg_catalog.=) f.oid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
      AND CASE WHEN b.top IS NULL THEN s.conoid IS NULL ELSE NOT b.served END
      AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
      AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), referenced (root, relid) AS (
    SELECT DISTINCT w.confrelid, w.confrelid FROM wanting w
    UNION ALL
    SELECT r.root, h.inhrelid FROM referenced r
    JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) r.relid AND p.relkind OPERATOR(pg_catalog.=) 'p'
    JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) r.relid
), activity AS MATERIALIZED (
    SELECT r.root, pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'r'
                                       THEN greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0) END) AS rows,
           pg_catalog.sum(pg_catalog.pg_stat_get_tuples_updated(c.oid))::bigint AS updates,
           pg_catalog.sum(pg_catalog.pg_stat_get_tuples_deleted(c.oid))::bigint AS deletes
    FROM referenced r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.relid
    GROUP BY r.root
)
SELECT w.conoid, w.without, w.partitions, w.table_rows, w.table_size, a.rows, a.updates, a.deletes,
       (SELECT pg_catalog.string_agg(pg_catalog.format('CREATE INDEX CONCURRENTLY ON %s (%s);', u.leaf, k.list), E'\n' ORDER BY u.leaf)
        FROM pg_catalog.unnest(w.without) AS u (leaf)
        CROSS JOIN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(x.attname), ', ' ORDER BY q.position) AS list
                    FROM pg_catalog.unnest(w.conkey) WITH ORDINALITY AS q (attnum, position)
                    JOIN pg_catalog.pg_attribute x ON x.attrelid OPERATOR(pg_catalog.=) w.conrelid
                         AND x.attnum OPERATOR(pg_catalog.=) q.attnum) k)
FROM wanting w JOIN activity a ON a.root OPERATOR(pg_catalog.=) w.confrelid;
END;
COMMENT ON FUNCTION upkeep._unindexed_foreign_keys() IS 'internal: foreign keys that no index serves on the referencing side';

CREATE VIEW upkeep.unindexed_foreign_keys WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, f.conrelid AS relid, f.conname, k.names AS columns,
       rn.nspname AS referenced_schemaname, r.relname AS referenced_relname, f.confrelid AS referenced_relid,
       coalesce(w.table_rows, 0)::bigint AS rows_estimate, coalesce(w.table_size, 0) AS table_size,
       v.severity,
       CASE v.severity
           WHEN 'high' THEN pg_catalog.format('each of %s deletes from %I has read this table', w.referenced_deletes, r.relname)
           WHEN 'medium' THEN CASE
               WHEN w.referenced_deletes OPERATOR(pg_catalog.>) 0
               THEN pg_catalog.format('%s deletes from %I, which has only %s rows', w.referenced_deletes, r.relname,
                                      coalesce(w.referenced_rows, 0)::bigint)
               ELSE pg_catalog.format('%I is updated (%s rows so far): those that change its key read this table', r.relname,
                                      w.referenced_updates) END
           ELSE CASE
               WHEN coalesce(w.table_rows, 0) OPERATOR(pg_catalog.<) 1000
               THEN pg_catalog.format('the table is tiny (%s rows): reading it costs little', coalesce(w.table_rows, 0)::bigint)
               ELSE pg_catalog.format('nothing was deleted from %I or updated in it since the statistics began', r.relname) END
       END AS reason,
       w.without AS partitions_without,
       CASE WHEN t.relkind OPERATOR(pg_catalog.=) 'p'
            -- Built partition by partition; then the whole finds them there, and its lock is short.
            THEN pg_catalog.concat(w.leaf_commands OPERATOR(pg_catalog.||) E'\n',
                                   pg_catalog.format('CREATE INDEX ON %I.%I (%s);', n.nspname, t.relname, k.list))
            WHEN t.relpersistence OPERATOR(pg_catalog.=) 't'
            THEN pg_catalog.format('CREATE INDEX ON %I.%I (%s);', n.nspname, t.relname, k.list)
            ELSE pg_catalog.format('CREATE INDEX CONCURRENTLY ON %I.%I (%s);', n.nspname, t.relname, k.list) END AS create_command
FROM upkeep._unindexed_foreign_keys() w
JOIN pg_catalog.pg_constraint f ON f.oid OPERATOR(pg_catalog.=) w.conoid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.relnamespace
JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) f.confrelid
JOIN pg_catalog.pg_namespace rn ON rn.oid OPERATOR(pg_catalog.=) r.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname ORDER BY q.position) AS names,
           pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY q.position) AS list
    FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS q (attnum, position)
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid AND a.attnum OPERATOR(pg_catalog.=) q.attnum) k
CROSS JOIN LATERAL (
    SELECT CASE WHEN coalesce(w.table_rows, 0) OPERATOR(pg_catalog.<) 1000
                    OR w.referenced_updates OPERATOR(pg_catalog.+) w.referenced_deletes OPERATOR(pg_catalog.=) 0 THEN 'low'
                WHEN w.referenced_deletes OPERATOR(pg_catalog.=) 0 OR coalesce(w.referenced_rows, 0) OPERATOR(pg_catalog.<) 100
                THEN 'medium'
                ELSE 'high' END AS severity) v
ORDER BY pg_catalog.array_position(ARRAY['high', 'medium', 'low'], v.severity), w.table_size DESC NULLS LAST, f.oid;
COMMENT ON VIEW upkeep.unindexed_foreign_keys IS
'Foreign keys whose columns lead no index of the referencing table (in any order; partial indexes count if their '
'predicate is IS NOT NULL of these columns): a DELETE or a changed key on the other side reads the whole table, '
'per row. severity: high; medium (few rows there, or only updates); low (the table has fewer than 1,000 rows, '
'or nothing is ever deleted or updated there). Sizes in bytes. create_command: what to type, line by line.';

-- Tables that are read from end to end: at least 10,000 rows and 1 MB; at least 50 sequential scans, of a tenth of the table or more each,
-- and more than 5 % of all scans.
CREATE FUNCTION upkeep._read_from_end_to_end() RETURNS TABLE (
    schemaname name, relname name, relid oid, table_size bigint, rows double precision, seq_scan bigint, seq_tup_read bigint,
    idx_scan bigint)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH scanned AS MATERIALIZED (
    SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.reltablespace, c.relpersistence,
           greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0)::double precision AS rows,
           pg_catalog.pg_stat_get_numscans(c.oid) AS seq_scan,
           pg_catalog.pg_stat_get_tuples_returned(c.oid) AS seq_tup_read
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'm']::pg_catalog."char"[])
      AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
      AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
      AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), big AS MATERIALIZED (
    SELECT s.*, CASE WHEN s.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(s.oid)
                     ELSE upkeep._file_size(s.relfilenode, s.reltablespace) END AS table_size,
           (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_numscans(i.indexrelid)), 0)::bigint
            FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) s.oid) AS idx_scan
    FROM scanned s
    WHERE s.rows OPERATOR(pg_catalog.>=) 10000 AND s.seq_scan OPERATOR(pg_catalog.>=) 50
      AND s.seq_tup_read::double precision
          OPERATOR(pg_catalog.>=) (0.1::double precision OPERATOR(pg_catalog.*) s.rows OPERATOR(pg_catalog.*) s.seq_scan::double precision)
)
SELECT b.nspname, b.relname, b.oid, b.table_size, b.rows, b.seq_scan, b.seq_tup_read, b.idx_scan
FROM big b
WHERE b.table_size OPERATOR(pg_catalog.>=) 1048576
  AND b.seq_scan::double precision
      OPERATOR(pg_catalog.>) (0.05::double precision
                              OPERATOR(pg_catalog.*) (b.seq_scan OPERATOR(pg_catalog.+) b.idx_scan)::double precision);
END;
COMMENT ON FUNCTION upkeep._read_from_end_to_end() IS 'internal: tables that sequential scans read far too often';

-- Column statistics come through pg_stats, which shows a role what it may read and no more.
CREATE VIEW upkeep.missing_indexes WITH (security_barrier) AS
SELECT t.schemaname, t.relname, t.relid, t.table_size, t.rows::bigint AS rows_estimate,
       t.seq_scan, t.seq_tup_read, t.seq_tup_read::double precision OPERATOR(pg_catalog./) t.seq_scan AS rows_per_scan,
       t.idx_scan, t.idx_scan::double precision OPERATOR(pg_catalog./) (t.seq_scan OPERATOR(pg_catalog.+) t.idx_scan) AS idx_share,
       upkeep._last_index_scan(t.relid) AS last_seq_scan,
       s.attname, s.n_distinct, s.null_frac, s.correlation, s.most_common_freq, s.rows_per_value,
       pg_catalog.concat(
           pg_catalog.format('%s sequential scans read %s rows each, %s scans used an index', t.seq_scan,
               (t.seq_tup_read::double precision OPERATOR(pg_catalog./) t.seq_scan)::bigint, t.idx_scan),
           CASE WHEN s.attname IS NULL THEN '; no column statistics that you may read show a column which an index would narrow down'
           ELSE pg_catalog.format('; if %I is what they look for: %s', s.attname, pg_catalog.concat_ws(', ',
               pg_catalog.format('about %s rows per value', greatest(s.rows_per_value, 1)::bigint),
               pg_catalog.format('%s different values', s.different::bigint),
               CASE WHEN s.null_frac OPERATOR(pg_catalog.>) 0
                    THEN pg_catalog.format('%s %% null', pg_catalog.round((s.null_frac OPERATOR(pg_catalog.*) 100)::numeric, 1)) END,
               CASE WHEN s.most_common_freq IS NOT NULL THEN pg_catalog.format('the most common value (%s) is %s %% of the rows',
                   pg_catalog.left(s.most_common_value, 40),
                   pg_catalog.round((s.most_common_freq OPERATOR(pg_catalog.*) 100)::numeric, 1)) END,
               CASE WHEN pg_catalog.abs(s.correlation) OPERATOR(pg_catalog.>) 0.9
                    THEN 'values lie in the order of the table: a brin index may do' END)) END) AS evidence
FROM upkeep._read_from_end_to_end() t
LEFT JOIN LATERAL (
    SELECT c.*, p.different, p.rows_per_value
    FROM (SELECT a.attname, a.n_distinct, a.null_frac, a.correlation, (a.most_common_freqs)[1] AS most_common_freq,
                 (pg_catalog.array_to_json(a.most_common_vals) OPERATOR(pg_catalog.->>) 0) AS most_common_value
          FROM pg_catalog.pg_stats a
          WHERE a.schemaname OPERATOR(pg_catalog.=) t.schemaname AND a.tablename OPERATOR(pg_catalog.=) t.relname AND NOT a.inherited) c
    CROSS JOIN LATERAL (
        SELECT d.different, t.rows OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) c.null_frac)::double precision
                   OPERATOR(pg_catalog./) d.different AS rows_per_value
        FROM (SELECT greatest(CASE WHEN c.n_distinct OPERATOR(pg_catalog.<) 0
                                   THEN (0 OPERATOR(pg_catalog.-) c.n_distinct::double precision) OPERATOR(pg_catalog.*) t.rows
                                   ELSE c.n_distinct::double precision END, 1) AS different) d) p
    -- An index is worth it where it leaves at most 1 % of the rows, and where there is none yet.
    WHERE p.rows_per_value OPERATOR(pg_catalog.<=) (0.01::double precision OPERATOR(pg_catalog.*) t.rows)
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute k ON k.attrelid OPERATOR(pg_catalog.=) i.indrelid AND k.attnum OPERATOR(pg_catalog.=) i.indkey[0]
        WHERE i.indrelid OPERATOR(pg_catalog.=) t.relid AND k.attname OPERATOR(pg_catalog.=) c.attname AND i.indpred IS NULL
          AND i.indisvalid)
    ORDER BY p.rows_per_value, c.attname LIMIT 5) s ON true
ORDER BY t.seq_tup_read DESC, t.relid, s.rows_per_value;
COMMENT ON VIEW upkeep.missing_indexes IS
'Tables that sequential scans read far too often: at least 10,000 rows and 1 MB, at least 50 sequential scans that '
'read a tenth of the table or more, over 5 % of all scans. For each up to five columns without an index whose values '
'would leave at most 1 % of the rows, with the evidence. Which columns queries look for is not known here. '
'Column statistics: only those that pg_stats shows the caller; without any, one row with a null attname. '
'Sizes in bytes, shares 0..1.';

GRANT SELECT ON upkeep.unindexed_foreign_keys, upkeep.missing_indexes TO PUBLIC;
