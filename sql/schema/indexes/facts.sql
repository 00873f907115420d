-- What is known of every index, and which are used. Everybody may see what pg_stat_user_indexes and pg_indexes show everybody.
-- Nothing here waits for a lock, and nothing fails because an object is being dropped: sizes come from the files, and
-- the server's own deparser runs only under a lock that could be had at once.

-- Figures that somebody brought from a standby: `SELECT upkeep.index_usage_snapshot()` there, import_index_usage() here.
CREATE TABLE upkeep._index_usage_node (
    node text PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    stats_since timestamptz NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- OIDs mean the same only on physical copies of this server.
    system_identifier bigint NOT NULL,
    database oid NOT NULL
);
CREATE TABLE upkeep._index_usage (
    node text NOT NULL REFERENCES upkeep._index_usage_node ON DELETE CASCADE,
    indexrelid oid NOT NULL,
    idx_scan bigint NOT NULL,
    last_idx_scan timestamptz,
    PRIMARY KEY (node, indexrelid)
);

-- What transaction ids meant in time: the catalogs do not say when an index was created.
CREATE TABLE upkeep._xid_mark (
    marked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    xid bigint NOT NULL DEFAULT (pg_catalog.pg_current_xact_id()::pg_catalog.text)::bigint
);
-- As upkeep._job_event.
ALTER TABLE upkeep._xid_mark REPLICA IDENTITY FULL;
INSERT INTO upkeep._xid_mark DEFAULT VALUES;

CREATE FUNCTION upkeep._index_conditions() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_conditions_wrapper';
COMMENT ON FUNCTION upkeep._index_conditions() IS
'internal: since when indexes are watched, on which nodes, and what speaks against a verdict';

CREATE FUNCTION upkeep._file_size(filenode oid, tablespace oid) RETURNS bigint
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'file_size_wrapper';
COMMENT ON FUNCTION upkeep._file_size(oid, oid) IS 'internal: bytes of a relation''s files, without a lock; null if there is none';

CREATE FUNCTION upkeep._last_index_scan(index oid) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'last_index_scan_wrapper';
COMMENT ON FUNCTION upkeep._last_index_scan(oid) IS 'internal: pg_stat_get_lastscan(), null before version 16';

CREATE FUNCTION upkeep._index_definition(index oid, with_tablespace boolean) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_definition_wrapper';
COMMENT ON FUNCTION upkeep._index_definition(oid, boolean) IS
'internal: pg_get_indexdef() that neither waits nor fails: null if the index is locked or gone';

-- Facts of the catalogs and counters, one row per index of a user's table. Other sessions' temporary tables are nobody's business.
CREATE VIEW upkeep._index WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, i.indrelid AS relid, i.indexrelid,
       m.amname, c.relkind, t.relkind AS table_relkind, c.relispartition AS attached,
       c.relpersistence, c.relfilenode, c.reltablespace, c.reltuples, c.reloptions, c.relowner,
       i.indnatts, i.indnkeyatts, i.indisunique, i.indnullsnotdistinct, i.indisprimary, i.indisexclusion, i.indimmediate,
       i.indisclustered, i.indisvalid, i.indisready, i.indislive, i.indisreplident,
       i.indkey, i.indcollation, i.indclass, i.indoption, i.indexprs, i.indpred,
       i.xmin AS index_xid, c.xmin AS class_xid
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam
WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])
  AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
  AND NOT pg_catalog.pg_is_other_temp_schema(n.oid);
COMMENT ON VIEW upkeep._index IS 'internal: facts of the catalogs, one row per index of a user''s table';

-- Is this predicate nothing but IS NOT NULL of some of these columns? Such an index serves everything that compares them.
CREATE FUNCTION upkeep._only_not_null(predicate text, columns smallint[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(predicate, '\{NULLTEST :arg \{VAR [^{}]*\} :nulltesttype 1 :argisrow false[^{}]*\}', 'T', 'g')
               OPERATOR(pg_catalog.~) '^(T|\{BOOLEXPR :boolop and :args \(T( T)*\)[^{}]*\})$'
       AND ARRAY(SELECT (v.parts)[1]::smallint FROM pg_catalog.regexp_matches(predicate, ':varattno (\d+)', 'g') AS v (parts))
               OPERATOR(pg_catalog.<@) columns;
COMMENT ON FUNCTION upkeep._only_not_null(text, smallint[]) IS
'internal: is an index''s predicate nothing but IS NOT NULL of these columns?';

-- Which indexes can serve which foreign key: its columns lead, in any order, with the operator and the collation that
-- the check on the referenced side uses. (Functions, because these settings keep the plan good on catalogs of any size,
-- analyzed or not.)
CREATE FUNCTION upkeep._foreign_key_support() RETURNS TABLE (conoid oid, indexrelid oid, width integer)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000
    SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
WITH serving AS MATERIALIZED (
    SELECT DISTINCT a.amopfamily, o.operator
    FROM pg_catalog.pg_amop a
    JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) a.amopmethod
    JOIN pg_catalog.pg_operator p ON p.oid OPERATOR(pg_catalog.=) a.amopopr
    CROSS JOIN LATERAL (VALUES (p.oid), (p.oprcom)) AS o (operator)
    WHERE a.amoppurpose OPERATOR(pg_catalog.=) 's'
      AND ((m.amname OPERATOR(pg_catalog.=) 'btree' AND a.amopstrategy OPERATOR(pg_catalog.=) 3)
           OR (m.amname OPERATOR(pg_catalog.=) 'hash' AND a.amopstrategy OPERATOR(pg_catalog.=) 1)
           OR m.amname OPERATOR(pg_catalog.=) 'gist')
), candidate AS MATERIALIZED (
    SELECT f.oid AS conoid, f.conkey, f.conpfeqop, f.conrelid, pg_catalog.cardinality(f.conkey) AS width,
           i.indexrelid, i.indnatts, i.indkey, i.indclass, i.indcollation
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) f.conrelid
    WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND i.indisvalid AND i.indisready AND i.indislive
      AND i.indnkeyatts OPERATOR(pg_catalog.>=) pg_catalog.cardinality(f.conkey)
      AND (i.indkey::smallint[])[0:pg_catalog.cardinality(f.conkey) OPERATOR(pg_catalog.-) 1] OPERATOR(pg_catalog.@>) f.conkey
      AND (i.indpred IS NULL OR upkeep._only_not_null(i.indpred::pg_catalog.text, f.conkey))
), key_column AS MATERIALIZED (
    SELECT d.conoid, d.indexrelid, d.indnatts, d.width, d.conrelid, k.attnum, k.operator,
           d.indclass[q.position] AS opclass, d.indcollation[q.position] AS collation
    FROM candidate d
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(d.conkey), pg_catalog.unnest(d.conpfeqop)) AS k (attnum, operator)
    CROSS JOIN LATERAL (SELECT pg_catalog.array_position(d.indkey::smallint[], k.attnum) AS position) q
)
SELECT k.conoid, k.indexrelid, k.indnatts
FROM key_column k
JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) k.opclass
JOIN serving s ON s.amopfamily OPERATOR(pg_catalog.=) o.opcfamily AND s.operator OPERATOR(pg_catalog.=) k.operator
WHERE k.collation OPERATOR(pg_catalog.=) 0::pg_catalog.oid
   OR k.collation OPERATOR(pg_catalog.=) (SELECT a.attcollation FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum)
GROUP BY k.conoid, k.indexrelid, k.indnatts, k.width
HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) k.width;
END;
COMMENT ON FUNCTION upkeep._foreign_key_support() IS 'internal: the indexes that serve each foreign key on its referencing side';
