-- All of it at once, for people (HTML) and programs (jsonb).

-- The dearest are shown, all are counted.
CREATE FUNCTION upkeep._report_section(total bigint, bytes numeric, shown jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL UNSAFE
    RETURN pg_catalog.jsonb_build_object('count', total, 'bytes', coalesce(bytes, 0), 'rows', coalesce(shown, '[]'));
COMMENT ON FUNCTION upkeep._report_section(bigint, numeric, jsonb) IS 'internal: one list of index_report()';

CREATE FUNCTION upkeep.index_report() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp SET jit = off
BEGIN ATOMIC
WITH judged AS MATERIALIZED (
    SELECT v FROM upkeep._index_verdicts() v
), verdict AS MATERIALIZED (
    SELECT (j.v).verdict, pg_catalog.count(*) AS indexes, coalesce(pg_catalog.sum((j.v).index_size), 0)::bigint AS bytes
    FROM judged j
    -- Partitions are in their whole's sums already.
    WHERE NOT (j.v).attached
    GROUP BY 1
)
SELECT pg_catalog.jsonb_build_object(
    'format', 1,
    'database', pg_catalog.current_database(),
    'server_version', pg_catalog.current_setting('server_version'),
    'generated_at', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'conditions', upkeep._index_conditions() OPERATOR(pg_catalog.-) 'young_xids' OPERATOR(pg_catalog.-) 'surely_young_xids'
        OPERATOR(pg_catalog.-) 'distributed',
    'verdicts', (SELECT coalesce(pg_catalog.jsonb_object_agg(v.verdict,
                                                             pg_catalog.jsonb_build_object('indexes', v.indexes, 'bytes', v.bytes)),
                                 '{}')
                 FROM verdict v),
    'sections', pg_catalog.jsonb_build_object(
        'unused', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                 pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                     FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n
                         FROM upkeep._unused_indexes(ARRAY(SELECT j.v FROM judged j
                                                           WHERE (j.v).verdict OPERATOR(pg_catalog.=) 'unused')) x) u),
        'duplicate', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                    pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                        FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.duplicate_indexes x) u),
        'redundant', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                    pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                        FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.redundant_indexes x) u),
        'bloated', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.bloat_bytes),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.bloated_indexes x
                         WHERE x.verdict OPERATOR(pg_catalog.=) ANY (ARRAY['bloated', 'maybe'])) u),
        'invalid', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.index_size),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.invalid_indexes x) u),
        'unindexed_foreign_keys', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size),
                                                                 pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                                     FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.unindexed_foreign_keys x) u),
        'missing', (SELECT upkeep._report_section(pg_catalog.count(*), pg_catalog.sum(u.table_size),
                                                  pg_catalog.jsonb_agg(pg_catalog.to_jsonb(u) OPERATOR(pg_catalog.-) 'n')
                                                      FILTER (WHERE u.n OPERATOR(pg_catalog.<=) 100))
                   FROM (SELECT x.*, pg_catalog.row_number() OVER () AS n FROM upkeep.missing_indexes x) u)));
END;
COMMENT ON FUNCTION upkeep.index_report() IS
'All index views at once: what holds for every index, sums by verdict, and per view the number of rows, their bytes, '
'and the first 100 rows, of which each column has the name it has in the view. Shows the caller what the views show.';

CREATE FUNCTION upkeep.index_report_html() RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'index_report_html_wrapper';
COMMENT ON FUNCTION upkeep.index_report_html() IS
'index_report() as one self-contained HTML page without scripts: psql -XAtc ''SELECT upkeep.index_report_html()'' > '
'indexes.html';
