-- The verdict on every index: used, kept, unknown or unused, in this order; the first that applies.
--
-- A partitioned index is judged as a whole: its scans are those of all its partitions, and what keeps one partition's index
-- keeps the whole, because only the whole can be dropped.

-- A stored expression as text that does not depend on where in its statement it stood.
CREATE FUNCTION upkeep._node_text(node pg_node_tree) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(node::pg_catalog.text, ' :location -?\d+', '', 'g');
COMMENT ON FUNCTION upkeep._node_text(pg_node_tree) IS 'internal: a stored expression, to be compared with another';

-- Figures of standbys and the existence of statistics: functions run as the caller, who may know this much.
CREATE VIEW upkeep._index_usage_elsewhere WITH (security_barrier) AS
SELECT u.node, u.indexrelid, u.idx_scan, u.last_idx_scan FROM upkeep._index_usage u;
COMMENT ON VIEW upkeep._index_usage_elsewhere IS 'internal: scans on standbys, as imported';

CREATE VIEW upkeep._expression_statistics WITH (security_barrier) AS
SELECT DISTINCT s.starelid AS indexrelid, NULL::pg_catalog.oid AS relid, NULL::pg_catalog.text AS expressions
FROM pg_catalog.pg_statistic s JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) s.starelid
WHERE i.indexprs IS NOT NULL
UNION ALL
SELECT NULL::pg_catalog.oid, e.stxrelid, upkeep._node_text(e.stxexprs)
FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_statistic_ext_data d ON d.stxoid OPERATOR(pg_catalog.=) e.oid
WHERE d.stxdexpr IS NOT NULL;
COMMENT ON VIEW upkeep._expression_statistics IS 'internal: which expressions have statistics, by an index or by CREATE STATISTICS';

GRANT SELECT ON upkeep._index, upkeep._index_usage_elsewhere, upkeep._expression_statistics TO PUBLIC;

CREATE TYPE upkeep._index_verdict AS (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, root oid, relkind "char", relpersistence "char",
    attached boolean, idx_scan bigint, standby_idx_scan bigint, last_idx_scan timestamptz,
    index_size bigint, entries double precision, inserts bigint, updates bigint, deletes bigint, hot_updates bigint,
    verdict text, reason text, stats_since timestamptz);
COMMENT ON TYPE upkeep._index_verdict IS 'internal: a row of _index_verdicts()';

CREATE FUNCTION upkeep._index_verdicts() RETURNS SETOF upkeep._index_verdict
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH RECURSIVE conditions AS MATERIALIZED (
    SELECT (f.c OPERATOR(pg_catalog.->>) 'stats_since')::pg_catalog.timestamptz AS stats_since,
           (f.c OPERATOR(pg_catalog.->>) 'nodes')::integer AS nodes,
           -- Of this very server, fresh, and with counters old enough.
           ARRAY(SELECT pg_catalog.jsonb_array_elements_text(f.c OPERATOR(pg_catalog.->) 'fresh_nodes')) AS fresh_nodes,
           f.c OPERATOR(pg_catalog.->>) 'min_age' AS min_age,
           -- What speaks against calling any index unused.
           f.c OPERATOR(pg_catalog.->>) 'unknown' AS unknown,
           -- Indexes whose rows are fewer transactions old than this are younger than upkeep.index_min_age.
           (f.c OPERATOR(pg_catalog.->>) 'young_xids')::bigint AS young_xids,
           (f.c OPERATOR(pg_catalog.->>) 'surely_young_xids')::bigint AS surely_young_xids,
           -- Tables of Citus, and their shards.
           ARRAY(SELECT r.relid::pg_catalog.oid
                 FROM pg_catalog.jsonb_array_elements_text(f.c OPERATOR(pg_catalog.->) 'distributed') r (relid)) AS distributed,
           pg_catalog.format('not scanned since %s%s', pg_catalog.left(f.c OPERATOR(pg_catalog.->>) 'stats_since', 10),
               CASE WHEN (f.c OPERATOR(pg_catalog.->>) 'nodes')::integer OPERATOR(pg_catalog.>) 0 THEN ', nor on standbys'
                    ELSE '' END) AS unused
    FROM (SELECT upkeep._index_conditions() AS c) f
), elsewhere AS MATERIALIZED (
    SELECT u.indexrelid, pg_catalog.sum(u.idx_scan)::bigint AS scans, pg_catalog.count(*) AS nodes,
           pg_catalog.string_agg(u.node, ', ' ORDER BY u.node) FILTER (WHERE u.idx_scan OPERATOR(pg_catalog.>) 0) AS users
    FROM upkeep._index_usage_elsewhere u
    WHERE u.node OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.unnest(c.fresh_nodes) FROM conditions c))
    GROUP BY u.indexrelid
), foreign_key_target AS MATERIALIZED (
    SELECT f.conindid, pg_catalog.min(f.conname::pg_catalog.text) AS conname
    FROM pg_catalog.pg_constraint f WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    GROUP BY f.conindid
), extension_member AS MATERIALIZED (
    SELECT d.objid, pg_catalog.min(e.extname::pg_catalog.text) AS extname FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'e'
      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
    GROUP BY d.objid
), expression_statistics AS MATERIALIZED (
    SELECT s.indexrelid, s.relid, s.expressions FROM upkeep._expression_statistics s
), tree (indexrelid, root) AS (
    SELECT r.oid, r.oid FROM pg_catalog.pg_class r WHERE r.relkind OPERATOR(pg_catalog.=) 'I' AND NOT r.relispartition
    UNION ALL
    SELECT h.inhrelid, p.root FROM tree p JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) p.indexrelid
), fact AS MATERIALIZED (
    SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.relkind, i.relpersistence, i.attached,
           -- Both rows say that the index was there already; an id from before the counter went round looks like the future.
           CASE WHEN pg_catalog.pg_stat_get_numscans(i.indexrelid) OPERATOR(pg_catalog.>) 0 THEN NULL
                WHEN pg_catalog.age(i.index_xid) OPERATOR(pg_catalog.<) 0 OR pg_catalog.age(i.class_xid) OPERATOR(pg_catalog.<) 0
                THEN 2147483647
                ELSE greatest(pg_catalog.age(i.index_xid), pg_catalog.age(i.class_xid)) END AS xid_age,
           coalesce(p.root, i.indexrelid) AS root, p.root IS NOT NULL AS in_tree,
           i.indisvalid AND i.indisready AND i.indislive AS usable,
           coalesce(pg_catalog.pg_stat_get_numscans(i.indexrelid), 0) AS scans,
           CASE WHEN pg_catalog.pg_stat_get_numscans(i.indexrelid) OPERATOR(pg_catalog.>) 0
                THEN upkeep._last_index_scan(i.indexrelid) END AS last_scan,
           coalesce(x.scans, 0) AS scans_elsewhere, x.users, coalesce(x.nodes, 0) AS nodes_elsewhere,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                WHEN i.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(i.indexrelid)
                ELSE upkeep._file_size(i.relfilenode, i.reltablespace) END AS index_size,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE greatest(i.reltuples, 0) END::double precision AS entries,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_inserted(i.relid) END AS inserts,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_updated(i.relid) END AS updates,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE pg_catalog.pg_stat_get_tuples_deleted(i.relid) END AS deletes,
           CASE WHEN i.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                ELSE pg_catalog.pg_stat_get_tuples_hot_updated(i.relid) END AS hot_updates,
           CASE WHEN i.indisprimary THEN 'primary key'
                WHEN i.indisexclusion THEN 'exclusion constraint'
                WHEN k.conname IS NOT NULL THEN pg_catalog.format('foreign key %I refers to it', k.conname)
                WHEN i.indisunique THEN 'unique: it checks what is written, which is not counted as a scan'
                WHEN i.indisreplident THEN 'replica identity of the table'
                WHEN i.indisclustered THEN 'CLUSTER order of the table'
                WHEN coalesce(e.extname, t.extname) IS NOT NULL
                THEN pg_catalog.format('belongs to extension %I', coalesce(e.extname, t.extname))
                WHEN i.indexprs IS NOT NULL
                     AND i.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT s.indexrelid FROM expression_statistics s
                                                                        WHERE s.indexrelid IS NOT NULL))
                     AND NOT EXISTS (SELECT FROM expression_statistics s
                                     WHERE s.relid OPERATOR(pg_catalog.=) i.relid
                                       AND pg_catalog.strpos(s.expressions, pg_catalog.btrim(upkeep._node_text(i.indexprs), '()'))
                                           OPERATOR(pg_catalog.>) 0)
                THEN 'the planner uses the statistics of its expression; CREATE STATISTICS on the expression and ANALYZE replace them'
           END AS kept_as
    FROM upkeep._index i
    LEFT JOIN tree p ON p.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN elsewhere x ON x.indexrelid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN foreign_key_target k ON k.conindid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN extension_member e ON e.objid OPERATOR(pg_catalog.=) i.indexrelid
    LEFT JOIN extension_member t ON t.objid OPERATOR(pg_catalog.=) i.relid
), whole AS MATERIALIZED (
    -- Partitioned indexes, with all their partitions.
    SELECT f.root, pg_catalog.sum(f.scans)::bigint AS scans, pg_catalog.sum(f.scans_elsewhere)::bigint AS scans_elsewhere,
           pg_catalog.max(f.users) AS users, pg_catalog.max(f.nodes_elsewhere) AS nodes_elsewhere,
           pg_catalog.max(f.last_scan) AS last_scan,
           pg_catalog.max(f.xid_age) AS xid_age, pg_catalog.min(f.kept_as) AS kept_as, pg_catalog.bool_and(f.usable) AS usable,
           pg_catalog.sum(f.index_size)::bigint AS index_size, pg_catalog.sum(f.entries) AS entries,
           pg_catalog.sum(f.inserts)::bigint AS inserts,
           pg_catalog.sum(f.updates)::bigint AS updates, pg_catalog.sum(f.deletes)::bigint AS deletes,
           pg_catalog.sum(f.hot_updates)::bigint AS hot_updates
    FROM fact f WHERE f.in_tree
    GROUP BY f.root
), idle AS MATERIALIZED (
    -- Nothing seen so far speaks for these, of those that can be dropped by themselves.
    SELECT f.root FROM fact f
    WHERE NOT f.in_tree AND f.usable AND f.kept_as IS NULL AND f.scans OPERATOR(pg_catalog.=) 0
      AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0
    UNION ALL
    SELECT w.root FROM whole w
    WHERE w.usable AND w.kept_as IS NULL AND w.scans OPERATOR(pg_catalog.=) 0 AND w.scans_elsewhere OPERATOR(pg_catalog.=) 0
), only_support AS MATERIALIZED (
    -- Of the indexes that serve a foreign key, one must stay: one that is not idle, or else the narrowest, or else the oldest.
    SELECT DISTINCT ON (s.conoid) s.conoid, r.root, u.root IS NOT NULL AS is_idle
    FROM upkeep._foreign_key_support() s
    LEFT JOIN tree t ON t.indexrelid OPERATOR(pg_catalog.=) s.indexrelid
    CROSS JOIN LATERAL (SELECT coalesce(t.root, s.indexrelid) AS root) r
    LEFT JOIN idle u ON u.root OPERATOR(pg_catalog.=) r.root
    ORDER BY s.conoid, is_idle, s.width, r.root
), foreign_key AS MATERIALIZED (
    SELECT o.root, pg_catalog.min(c.conname::pg_catalog.text) AS conname
    FROM only_support o JOIN pg_catalog.pg_constraint c ON c.oid OPERATOR(pg_catalog.=) o.conoid
    WHERE o.is_idle
    GROUP BY o.root
)
SELECT f.schemaname, f.relname, f.indexrelname, f.relid, f.indexrelid, f.root, f.relkind, f.relpersistence, f.attached,
       -- Each partition's index has its own figures, the whole has the sums.
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.scans ELSE f.scans END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.scans_elsewhere ELSE f.scans_elsewhere END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.last_scan ELSE f.last_scan END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.index_size ELSE f.index_size END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.entries ELSE f.entries END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.inserts ELSE f.inserts END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.updates ELSE f.updates END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.deletes ELSE f.deletes END,
       CASE WHEN f.relkind OPERATOR(pg_catalog.=) 'I' THEN w.hot_updates ELSE f.hot_updates END,
       v.verdict,
       CASE v.verdict
            WHEN 'unused' THEN c.unused
            WHEN 'used' THEN CASE
                WHEN a.scans_elsewhere OPERATOR(pg_catalog.=) 0 AND NOT f.attached THEN pg_catalog.concat('scanned ', a.scans, ' times')
                ELSE pg_catalog.concat_ws('; ',
                    CASE WHEN f.attached AND f.scans OPERATOR(pg_catalog.=) 0 AND f.scans_elsewhere OPERATOR(pg_catalog.=) 0
                         THEN 'partition of an index that is used' END,
                    CASE WHEN a.scans OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('scanned ', a.scans, ' times') END,
                    CASE WHEN a.scans_elsewhere OPERATOR(pg_catalog.>) 0 THEN
                        pg_catalog.format('scanned %s times on standbys (%s)', a.scans_elsewhere, coalesce(w.users, f.users)) END) END
            WHEN 'kept' THEN coalesce(f.kept_as, w.kept_as,
                CASE WHEN k.conname IS NOT NULL THEN
                    pg_catalog.format('the only index for foreign key %I: without it each DELETE on the other side reads this table',
                                      k.conname) END,
                'partition of an index that is judged as a whole: not used anywhere, and only the whole can be dropped')
            ELSE CASE
                WHEN NOT a.usable THEN 'not valid, in whole or in part: see upkeep.invalid_indexes'
                WHEN f.relid OPERATOR(pg_catalog.=) ANY (c.distributed)
                THEN 'not judged: Citus keeps rows of its table on several nodes, and what they count is not added up here'
                WHEN c.unknown IS NOT NULL THEN c.unknown
                WHEN a.xid_age OPERATOR(pg_catalog.<) c.young_xids THEN pg_catalog.format('created less than %s ago%s', c.min_age,
                    CASE WHEN a.xid_age OPERATOR(pg_catalog.<) c.surely_young_xids THEN '' ELSE ' (estimated from transaction ids)' END)
                ELSE 'created after the figures of a standby were taken: import them again' END
       END,
       c.stats_since
FROM fact f
LEFT JOIN whole w ON w.root OPERATOR(pg_catalog.=) f.root
LEFT JOIN foreign_key k ON k.root OPERATOR(pg_catalog.=) f.root
CROSS JOIN conditions c
-- What the verdict goes by: the whole, if there is one.
CROSS JOIN LATERAL (
    SELECT coalesce(w.scans, f.scans) AS scans, coalesce(w.scans_elsewhere, f.scans_elsewhere) AS scans_elsewhere,
           coalesce(w.nodes_elsewhere, f.nodes_elsewhere) AS nodes_elsewhere, coalesce(w.xid_age, f.xid_age) AS xid_age,
           coalesce(w.usable, f.usable) AS usable, CASE WHEN f.in_tree THEN w.kept_as ELSE f.kept_as END AS kept_as) a
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN a.scans OPERATOR(pg_catalog.>) 0 OR a.scans_elsewhere OPERATOR(pg_catalog.>) 0 THEN 'used'
        WHEN NOT a.usable THEN 'unknown'
        WHEN a.kept_as IS NOT NULL OR k.root IS NOT NULL THEN 'kept'
        WHEN c.unknown IS NOT NULL OR f.relid OPERATOR(pg_catalog.=) ANY (c.distributed)
            OR a.xid_age OPERATOR(pg_catalog.<) c.young_xids OR a.nodes_elsewhere OPERATOR(pg_catalog.<) c.nodes THEN 'unknown'
        WHEN f.attached THEN 'kept'
        ELSE 'unused' END AS verdict) v;
END;
COMMENT ON FUNCTION upkeep._index_verdicts() IS 'internal: counters, costs and the verdict, one row per index';
