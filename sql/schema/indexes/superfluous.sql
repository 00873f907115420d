-- Indexes that another one makes superfluous, and indexes that are broken.

CREATE FUNCTION upkeep._predicate_covers(wide oid, narrow oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'predicate_covers_wrapper';
COMMENT ON FUNCTION upkeep._predicate_covers(oid, oid) IS
'internal: is every row of partial index narrow also in partial index wide, by the planner''s proof?';

-- Valid indexes in a form in which they can be compared.
CREATE VIEW upkeep._index_shape WITH (security_barrier) AS
SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.amname, i.relkind, i.attached, i.relpersistence,
       i.indisunique, i.indimmediate, i.indisprimary, i.indisreplident, i.indisclustered, i.indisexclusion,
       i.indnkeyatts, i.indnatts, i.indnullsnotdistinct, i.reloptions,
       i.indkey::smallint[] AS attnums,
       (i.indkey::smallint[])[0:i.indnkeyatts OPERATOR(pg_catalog.-) 1] AS keys,
       i.indclass::pg_catalog.oid[] AS opclasses, i.indcollation::pg_catalog.oid[] AS collations, i.indoption::smallint[] AS options,
       ARRAY(SELECT (o.option OPERATOR(pg_catalog.#) 3::smallint)::smallint
             FROM pg_catalog.unnest(i.indoption::smallint[]) WITH ORDINALITY AS o (option, position)
             ORDER BY o.position) AS reverse_options,
       upkeep._node_text(i.indexprs) AS expressions, upkeep._node_text(i.indpred) AS predicate
FROM upkeep._index i
WHERE i.indisvalid AND i.indisready AND i.indislive;
COMMENT ON VIEW upkeep._index_shape IS 'internal: valid indexes, comparable';
GRANT SELECT ON upkeep._index_shape TO PUBLIC;

CREATE FUNCTION upkeep._index_size(index oid) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
WITH RECURSIVE tree (indexrelid) AS (
    SELECT index
    UNION ALL
    SELECT h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.indexrelid
)
SELECT pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'I' THEN 0
                           WHEN c.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.pg_relation_size(c.oid)
                           ELSE upkeep._file_size(c.relfilenode, c.reltablespace) END)::bigint
FROM tree t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.indexrelid;
END;
COMMENT ON FUNCTION upkeep._index_size(oid) IS 'internal: bytes of an index with its partitions';

-- Scans of an index, here and on standbys; of a partitioned one all its partitions'.
CREATE FUNCTION upkeep._scans(index oid) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
WITH RECURSIVE tree (indexrelid) AS (
    SELECT index
    UNION ALL
    SELECT h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.indexrelid
)
SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_numscans(t.indexrelid)), 0)::bigint
       OPERATOR(pg_catalog.+) (SELECT coalesce(pg_catalog.sum(u.idx_scan), 0)::bigint FROM upkeep._index_usage_elsewhere u
            WHERE u.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT x.indexrelid FROM tree x)))
FROM tree t;
END;
COMMENT ON FUNCTION upkeep._scans(oid) IS 'internal: scans of an index with its partitions, on all nodes';

CREATE FUNCTION upkeep._duplicate_indexes() RETURNS TABLE (indexrelid oid, kept oid, kept_name name, reason text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH alike AS MATERIALIZED (
    -- Cheap first: most indexes have their columns for themselves.
    SELECT i.indrelid AS relid, i.indclass::pg_catalog.oid[] AS opclasses, i.indkey::smallint[] AS attnums
    FROM pg_catalog.pg_index i
    GROUP BY i.indrelid, i.indclass, i.indkey::smallint[] HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1
), referenced AS MATERIALIZED (
    SELECT DISTINCT f.conindid FROM pg_catalog.pg_constraint f WHERE f.contype OPERATOR(pg_catalog.=) 'f'
), ranked AS MATERIALIZED (
    SELECT s.indexrelid, s.indexrelname, s.attached, s.indisprimary, s.indisreplident, s.indisclustered, c.oid AS conoid,
           r.conindid, u.used,
           pg_catalog.first_value(s.indexrelid) OVER same AS kept,
           pg_catalog.first_value(s.indexrelname) OVER same AS kept_name
    FROM upkeep._index_shape s
    JOIN alike a ON a.relid OPERATOR(pg_catalog.=) s.relid AND a.opclasses OPERATOR(pg_catalog.=) s.opclasses
         AND a.attnums OPERATOR(pg_catalog.=) s.attnums
    CROSS JOIN LATERAL (SELECT upkeep._scans(s.indexrelid) OPERATOR(pg_catalog.>) 0 AS used) u
    LEFT JOIN referenced r ON r.conindid OPERATOR(pg_catalog.=) s.indexrelid
    LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) s.indexrelid
         AND c.contype OPERATOR(pg_catalog.=) ANY (ARRAY['p', 'u']::pg_catalog."char"[])
    LEFT JOIN (SELECT t.attrelid, pg_catalog.string_agg(pg_catalog.concat(t.attnum, t.attoptions), ' ' ORDER BY t.attnum) AS list
               FROM pg_catalog.pg_attribute t WHERE t.attoptions IS NOT NULL GROUP BY t.attrelid) o
         ON o.attrelid OPERATOR(pg_catalog.=) s.indexrelid
    WHERE NOT s.indisexclusion
    WINDOW same AS (
        PARTITION BY s.relid, s.amname, s.attnums, s.indnkeyatts, s.opclasses, s.collations, s.options, s.indisunique, s.indimmediate,
                     s.indnullsnotdistinct, s.expressions, s.predicate, s.reloptions, o.list
        -- Stays: what cannot be dropped, what means more, what is used, what is older.
        ORDER BY s.attached DESC, s.indisprimary DESC, r.conindid IS NULL, s.indisreplident DESC, c.oid IS NULL,
                 s.indisclustered DESC, u.used DESC, s.indexrelid)
)
SELECT d.indexrelid, d.kept, d.kept_name,
       pg_catalog.format('identical to %I, which %s%s', d.kept_name,
           CASE WHEN k.attached THEN 'is part of a partitioned index'
                WHEN k.indisprimary THEN 'is the primary key'
                WHEN k.conindid IS NOT NULL THEN 'a foreign key refers to'
                WHEN k.indisreplident THEN 'is the replica identity'
                WHEN k.conoid IS NOT NULL AND d.conoid IS NULL THEN 'backs a constraint'
                WHEN k.indisclustered THEN 'is the CLUSTER order'
                WHEN k.used AND NOT d.used THEN 'is the one in use'
                ELSE 'is older' END,
           CASE WHEN d.conindid IS NOT NULL THEN '; a foreign key refers to this one too: let it refer to the other first' ELSE '' END)
FROM ranked d
JOIN ranked k ON k.indexrelid OPERATOR(pg_catalog.=) d.kept
WHERE d.kept OPERATOR(pg_catalog.<>) d.indexrelid AND NOT d.attached;
END;
COMMENT ON FUNCTION upkeep._duplicate_indexes() IS 'internal: indexes that are identical to another one, which stays';

CREATE VIEW upkeep.duplicate_indexes WITH (security_barrier) AS
WITH d AS MATERIALIZED (SELECT u.* FROM upkeep._duplicate_indexes() u)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       d.kept_name AS duplicate_of, d.kept AS duplicate_of_indexrelid,
       s.index_size, d.reason, x.drop_command, x.create_command
FROM d
JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM d w), true) x ON x.indexrelid OPERATOR(pg_catalog.=) d.indexrelid
CROSS JOIN LATERAL (SELECT upkeep._index_size(d.indexrelid) AS index_size) s
ORDER BY s.index_size DESC NULLS LAST, d.indexrelid;
COMMENT ON VIEW upkeep.duplicate_indexes IS
'Indexes identical to another one of their table (duplicate_of) in method, columns, order, operator classes, '
'collations, options, expressions, predicate, INCLUDE, uniqueness and NULLS NOT DISTINCT. '
'drop_command is null while a foreign key refers to the index. Sizes in bytes.';

-- Only btree indexes cover others (and hash indexes of one column are covered by them).
CREATE FUNCTION upkeep._redundant_indexes() RETURNS TABLE (
    indexrelid oid, cover oid, cover_name name, lost_columns boolean, narrower boolean, partial boolean, hash boolean, lost_options text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH alike AS MATERIALIZED (
    SELECT i.indrelid AS relid, i.indkey[0] AS first
    FROM pg_catalog.pg_index i
    GROUP BY i.indrelid, i.indkey[0] HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1
), shape AS MATERIALIZED (
    SELECT s.* FROM upkeep._index_shape s
    JOIN alike a ON a.relid OPERATOR(pg_catalog.=) s.relid AND a.first OPERATOR(pg_catalog.=) s.keys[1]
    WHERE (s.amname OPERATOR(pg_catalog.=) 'btree' OR s.amname OPERATOR(pg_catalog.=) 'hash') AND NOT s.indisexclusion
), opclass AS MATERIALIZED (
    SELECT o.oid, o.opcintype FROM pg_catalog.pg_opclass o WHERE o.opcdefault
), duplicate AS MATERIALIZED (
    -- In upkeep.duplicate_indexes.
    SELECT x.indexrelid FROM upkeep._duplicate_indexes() x
), pair AS MATERIALIZED (
    SELECT d.indexrelid, k.indexrelid AS cover, k.indexrelname AS cover_name,
           NOT d.attnums OPERATOR(pg_catalog.<@) k.attnums AS lost_columns,
           d.indnatts AS own_width, k.indnatts AS cover_width,
           d.predicate IS NOT NULL AND k.predicate IS NULL AS partial, d.amname OPERATOR(pg_catalog.=) 'hash' AS hash,
           k.indisunique AS cover_is_unique,
           CASE WHEN d.reloptions IS DISTINCT FROM k.reloptions THEN pg_catalog.array_to_string(d.reloptions, ', ') END AS lost_options
    FROM shape d
    JOIN shape k ON k.relid OPERATOR(pg_catalog.=) d.relid AND k.keys[1] OPERATOR(pg_catalog.=) d.keys[1]
    LEFT JOIN opclass a ON a.oid OPERATOR(pg_catalog.=) d.opclasses[0]
    LEFT JOIN opclass b ON b.oid OPERATOR(pg_catalog.=) k.opclasses[0]
    WHERE d.indexrelid OPERATOR(pg_catalog.<>) k.indexrelid AND k.amname OPERATOR(pg_catalog.=) 'btree'
      AND NOT d.indisunique AND NOT d.indisreplident AND NOT d.indisclustered AND NOT d.attached
      AND CASE WHEN d.amname OPERATOR(pg_catalog.=) 'hash' THEN a.opcintype OPERATOR(pg_catalog.=) b.opcintype
                   AND k.collations[0] OPERATOR(pg_catalog.=) d.collations[0]
          ELSE d.indnkeyatts OPERATOR(pg_catalog.<=) k.indnkeyatts
               AND k.keys[1:d.indnkeyatts] OPERATOR(pg_catalog.=) d.keys
               AND k.opclasses[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                   OPERATOR(pg_catalog.=) d.opclasses[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
               AND k.collations[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                   OPERATOR(pg_catalog.=) d.collations[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
               -- The same order, or all of it backwards.
               AND (k.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                    OPERATOR(pg_catalog.=) d.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1]
                    OR k.reverse_options[1:d.indnkeyatts] OPERATOR(pg_catalog.=) d.options[0:d.indnkeyatts OPERATOR(pg_catalog.-) 1])
          END
      -- A list of expressions is, or begins with, the other one.
      AND (d.expressions IS NULL OR d.expressions OPERATOR(pg_catalog.=) k.expressions
           OR pg_catalog.starts_with(k.expressions, pg_catalog.regexp_replace(d.expressions, '\)$', ' ')))
      AND CASE WHEN k.predicate IS NULL OR k.predicate OPERATOR(pg_catalog.=) d.predicate THEN true
               WHEN d.predicate IS NULL THEN false
               ELSE upkeep._predicate_covers(k.indexrelid, d.indexrelid) END
      AND d.indexrelid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT x.indexrelid FROM duplicate x))
      AND k.indexrelid OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT x.indexrelid FROM duplicate x))
), standing AS MATERIALIZED (
    SELECT p.* FROM pair p
    LEFT JOIN pair r ON r.indexrelid OPERATOR(pg_catalog.=) p.cover AND r.cover OPERATOR(pg_catalog.=) p.indexrelid
    -- Of two that cover each other goes what takes nothing along, then the narrower, then the younger.
    WHERE (r.cover IS NULL
           OR (p.lost_columns, p.own_width, r.indexrelid) OPERATOR(pg_catalog.<) (r.lost_columns, r.own_width, p.indexrelid))
      -- Where enough is known, an index that was never scanned covers nothing: it may be called unused itself.
      AND (p.cover_is_unique OR upkeep._scans(p.cover) OPERATOR(pg_catalog.>) 0
           OR (SELECT upkeep._index_conditions() OPERATOR(pg_catalog.->>) 'unknown') IS NOT NULL)
)
SELECT DISTINCT ON (s.indexrelid) s.indexrelid, s.cover, s.cover_name, s.lost_columns, s.own_width OPERATOR(pg_catalog.<) s.cover_width,
       s.partial, s.hash, s.lost_options
FROM standing s
LEFT JOIN (SELECT DISTINCT t.indexrelid FROM standing t) goes ON goes.indexrelid OPERATOR(pg_catalog.=) s.cover
ORDER BY s.indexrelid, goes.indexrelid IS NOT NULL, s.lost_columns, s.cover_width, s.cover;
END;
COMMENT ON FUNCTION upkeep._redundant_indexes() IS 'internal: indexes that another one covers, which stays';

CREATE VIEW upkeep.redundant_indexes WITH (security_barrier) AS
WITH r AS MATERIALIZED (SELECT u.* FROM upkeep._redundant_indexes() u)
SELECT x.schemaname, x.relname, x.indexrelname, x.relid, x.indexrelid,
       r.cover_name AS covered_by, r.cover AS covered_by_indexrelid,
       c.index_size,
       CASE WHEN r.hash THEN pg_catalog.format('%I finds equal values as well', r.cover_name)
            WHEN r.partial THEN pg_catalog.format('%I begins with the same columns and is not limited to some rows', r.cover_name)
            WHEN r.narrower THEN pg_catalog.format('%I begins with the same columns', r.cover_name)
            ELSE pg_catalog.format('%I has the same columns', r.cover_name) END AS reason,
       coalesce(nullif(pg_catalog.concat_ws('; ',
           CASE WHEN r.lost_columns THEN 'index-only scans that read its INCLUDE columns' END,
           CASE WHEN c.index_size OPERATOR(pg_catalog.<) k.index_size THEN pg_catalog.format('a smaller index: %s instead of %s',
               pg_catalog.pg_size_pretty(c.index_size), pg_catalog.pg_size_pretty(k.index_size)) END,
           CASE WHEN r.partial THEN 'rows outside of its predicate are then in the index that is read' END,
           CASE WHEN r.hash THEN 'entries of constant size however long the values are' END,
           'its storage parameters: ' OPERATOR(pg_catalog.||) r.lost_options), ''), 'nothing') AS what_would_be_lost,
       x.drop_command, x.create_command
FROM r
JOIN upkeep._index_definitions(ARRAY(SELECT w.indexrelid FROM r w), true) x ON x.indexrelid OPERATOR(pg_catalog.=) r.indexrelid
CROSS JOIN LATERAL (SELECT upkeep._index_size(r.indexrelid) AS index_size) c
CROSS JOIN LATERAL (SELECT upkeep._index_size(r.cover) AS index_size) k
ORDER BY c.index_size DESC NULLS LAST, r.indexrelid;
COMMENT ON VIEW upkeep.redundant_indexes IS
'Indexes that another valid btree index (covered_by) can stand in for: same leading columns, operator classes and '
'collations, the same or the wholly reversed order, and at least the same rows. '
'Unique indexes are never here; identical ones are in upkeep.duplicate_indexes. '
'what_would_be_lost says what the other one does not do as well. Sizes in bytes.';

-- Broken ones. pg_stat_progress_create_index shows other roles' builds without their table; pg_locks does not hide which
-- table a process works on.
CREATE FUNCTION upkeep._invalid_indexes() RETURNS TABLE (
    schemaname name, relname name, indexrelname name, relid oid, indexrelid oid, index_size bigint, problem text, missing text[],
    repair_command text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH broken AS MATERIALIZED (
    SELECT n.nspname, t.relname, c.relname AS indexrelname, i.indrelid, i.indexrelid, i.indislive, i.indisunique, c.relkind,
           c.relpersistence,
           c.relispartition, c.relfilenode, c.reltablespace,
           pg_catalog.format('%I.%I', n.nspname, c.relname) AS ident,
           pg_catalog.substring(c.relname::pg_catalog.text, '_cc(?:new|old)\d*$') AS leftover
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
      AND n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
), working AS MATERIALIZED (
    SELECT l.relation, l.pid, l.mode FROM pg_catalog.pg_locks l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
      AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                                                   'ExclusiveLock', 'AccessExclusiveLock'])
      AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
      AND EXISTS (SELECT FROM broken)
), left_alone AS MATERIALIZED (
    -- Being built, rebuilt or dropped: the index is locked, or its table by a process that builds.
    SELECT b.indexrelid FROM broken b
    WHERE NOT EXISTS (SELECT FROM working w WHERE w.relation OPERATOR(pg_catalog.=) b.indexrelid)
      AND NOT EXISTS (SELECT FROM working w
                      JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid OPERATOR(pg_catalog.=) w.pid
                      WHERE w.relation OPERATOR(pg_catalog.=) b.indrelid)
), missing AS MATERIALIZED (
    SELECT b.indexrelid, k.indexrelid AS child,
           CASE WHEN k.indexrelid IS NULL THEN 'missing' WHEN NOT k.indisvalid THEN 'invalid' END AS state,
           pg_catalog.format('%I.%I', pn.nspname, p.relname) AS partition, p.relkind,
           pg_catalog.quote_ident(kn.nspname) OPERATOR(pg_catalog.||) '.'
               OPERATOR(pg_catalog.||) pg_catalog.quote_ident(kc.relname) AS child_ident,
           pn.nspname, pg_catalog.concat(p.relname, '_', b.indexrelname)::pg_catalog.name AS new_name
    FROM broken b
    JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) b.indrelid
    JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) h.inhrelid AND p.relkind OPERATOR(pg_catalog.<>) 'f'
    JOIN pg_catalog.pg_namespace pn ON pn.oid OPERATOR(pg_catalog.=) p.relnamespace
    LEFT JOIN (pg_catalog.pg_inherits a JOIN pg_catalog.pg_index k ON k.indexrelid OPERATOR(pg_catalog.=) a.inhrelid
               JOIN pg_catalog.pg_class kc ON kc.oid OPERATOR(pg_catalog.=) k.indexrelid
               JOIN pg_catalog.pg_namespace kn ON kn.oid OPERATOR(pg_catalog.=) kc.relnamespace)
         ON a.inhparent OPERATOR(pg_catalog.=) b.indexrelid AND k.indrelid OPERATOR(pg_catalog.=) p.oid
    WHERE b.relkind OPERATOR(pg_catalog.=) 'I'
)
SELECT b.nspname, b.relname, b.indexrelname, b.indrelid, b.indexrelid,
       CASE WHEN b.relkind OPERATOR(pg_catalog.=) 'I' THEN 0 ELSE upkeep._file_size(b.relfilenode, b.reltablespace) END,
       CASE WHEN b.leftover IS NOT NULL AND pg_catalog.starts_with(b.leftover, '_ccnew')
            THEN 'what a REINDEX CONCURRENTLY that failed had built: drop it, then try again'
            WHEN b.leftover IS NOT NULL THEN 'what a REINDEX CONCURRENTLY could not drop at its end: the index has been rebuilt'
            WHEN NOT b.indislive THEN 'a DROP INDEX CONCURRENTLY did not end'
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I' AND m.missing IS NOT NULL THEN 'partitions without a valid index for it'
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I' THEN 'every partition has its index, but the whole was not marked valid'
            ELSE pg_catalog.concat('a concurrent build failed: it is written to, and never read',
                CASE WHEN b.indisunique THEN '; rows that are not unique must go first' END) END,
       m.missing,
       CASE WHEN b.leftover IS NOT NULL OR NOT b.indislive
            THEN pg_catalog.format(CASE WHEN b.relkind OPERATOR(pg_catalog.=) 'I' OR b.relpersistence OPERATOR(pg_catalog.=) 't'
                                        THEN 'DROP INDEX %s;' ELSE 'DROP INDEX CONCURRENTLY %s;' END, b.ident)
            WHEN b.relkind OPERATOR(pg_catalog.=) 'I'
            THEN coalesce(m.commands, (SELECT pg_catalog.format('ALTER INDEX %s ATTACH PARTITION %s;', b.ident, g.child_ident)
                                       FROM missing g
                                       WHERE g.indexrelid OPERATOR(pg_catalog.=) b.indexrelid AND g.child IS NOT NULL
                                       ORDER BY g.child LIMIT 1))
            WHEN b.relpersistence OPERATOR(pg_catalog.=) 't' THEN pg_catalog.format('REINDEX INDEX %s;', b.ident)
            ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %s;', b.ident) END
FROM broken b
JOIN left_alone l ON l.indexrelid OPERATOR(pg_catalog.=) b.indexrelid
LEFT JOIN (
    SELECT g.indexrelid, pg_catalog.array_agg(g.partition ORDER BY g.partition) AS missing,
           pg_catalog.string_agg(CASE
               WHEN g.state OPERATOR(pg_catalog.=) 'invalid' AND g.relkind OPERATOR(pg_catalog.=) 'p'
               THEN pg_catalog.format('ALTER INDEX %s ATTACH PARTITION %s;', b.ident, g.child_ident)
               WHEN g.state OPERATOR(pg_catalog.=) 'invalid'
               THEN pg_catalog.format(E'REINDEX INDEX CONCURRENTLY %s;\nALTER INDEX %s ATTACH PARTITION %s;', g.child_ident,
                                      b.ident, g.child_ident)
               ELSE pg_catalog.format(E'%s %I ON %s%s%s;%s\nALTER INDEX %s ATTACH PARTITION %I.%I;',
                   CASE WHEN b.indisunique THEN 'CREATE UNIQUE INDEX' ELSE 'CREATE INDEX' END
                       OPERATOR(pg_catalog.||) CASE WHEN g.relkind OPERATOR(pg_catalog.=) 'p' THEN '' ELSE ' CONCURRENTLY' END,
                   -- A partition that is partitioned itself comes up here next, with its own.
                   g.new_name, CASE WHEN g.relkind OPERATOR(pg_catalog.=) 'p' THEN 'ONLY ' END, g.partition, d.tail,
                   CASE WHEN c.conname IS NOT NULL
                        THEN pg_catalog.format(E'\nALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I;', g.partition, g.new_name,
                                               CASE WHEN c.contype OPERATOR(pg_catalog.=) 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
                                               g.new_name) END,
                   b.ident, g.nspname, g.new_name) END, E'\n' ORDER BY g.partition) AS commands
    FROM missing g
    JOIN broken b ON b.indexrelid OPERATOR(pg_catalog.=) g.indexrelid
    LEFT JOIN upkeep._index_definitions(ARRAY(SELECT DISTINCT w.indexrelid FROM missing w), true) d
         ON d.indexrelid OPERATOR(pg_catalog.=) g.indexrelid
    LEFT JOIN pg_catalog.pg_constraint c ON c.conindid OPERATOR(pg_catalog.=) g.indexrelid
         AND (c.contype OPERATOR(pg_catalog.=) 'p' OR c.contype OPERATOR(pg_catalog.=) 'u')
    WHERE g.state IS NOT NULL
    GROUP BY g.indexrelid) m ON m.indexrelid OPERATOR(pg_catalog.=) b.indexrelid;
END;
COMMENT ON FUNCTION upkeep._invalid_indexes() IS 'internal: indexes that are not valid and that nobody works on';

CREATE VIEW upkeep.invalid_indexes WITH (security_barrier) AS
SELECT i.schemaname, i.relname, i.indexrelname, i.relid, i.indexrelid, i.index_size, i.problem,
       i.missing AS missing_partitions, i.repair_command
FROM upkeep._invalid_indexes() i
ORDER BY i.schemaname, i.relname, i.indexrelname;
COMMENT ON VIEW upkeep.invalid_indexes IS
'Indexes that are written to and never read: what failed concurrent builds, rebuilds and drops left (of TOAST tables '
'too), and partitioned indexes that lack a valid index on some partition (missing_partitions); '
'not those being built or dropped at the moment. repair_command: what to type, line by line.';

GRANT SELECT ON upkeep.duplicate_indexes, upkeep.redundant_indexes, upkeep.invalid_indexes TO PUBLIC;
