-- How large btree indexes are, and how large they would be after a rebuild.

CREATE FUNCTION upkeep._index_bloat() RETURNS TABLE (
    indexrelid oid,
    index_size bigint,
    estimated_size bigint,
    lower_bound bigint,
    upper_bound bigint,
    basis text,
    last_analyze timestamptz,
    n_mod_since_analyze bigint
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_index_bloat_wrapper';
COMMENT ON FUNCTION upkeep._index_bloat() IS
'internal: the figures behind upkeep.bloated_indexes, from statistics that the caller may see';

CREATE VIEW upkeep.bloated_indexes WITH (security_barrier) AS
SELECT n.nspname AS schemaname, t.relname, c.relname AS indexrelname, t.oid AS relid, c.oid AS indexrelid,
       b.index_size, b.estimated_size, b.lower_bound, b.upper_bound,
       CASE WHEN b.estimated_size IS NOT NULL THEN
           greatest(b.index_size OPERATOR(pg_catalog.-) b.estimated_size, 0) END AS bloat_bytes,
       CASE WHEN b.estimated_size IS NOT NULL THEN
           greatest(b.index_size OPERATOR(pg_catalog.-) b.estimated_size, 0)::double precision
               OPERATOR(pg_catalog./) b.index_size::double precision END AS bloat_ratio,
       CASE WHEN b.estimated_size IS NULL THEN 'unknown'
            WHEN b.index_size OPERATOR(pg_catalog.<=) 131072 THEN 'fine'
            WHEN b.upper_bound::double precision OPERATOR(pg_catalog.<=)
                 (0.7::double precision OPERATOR(pg_catalog.*) b.index_size::double precision) THEN 'bloated'
            WHEN b.estimated_size::double precision OPERATOR(pg_catalog.<=)
                 (0.7::double precision OPERATOR(pg_catalog.*) b.index_size::double precision) THEN 'maybe'
            ELSE 'fine' END AS verdict,
       b.basis, b.last_analyze, b.n_mod_since_analyze,
       CASE WHEN i.indisexclusion THEN pg_catalog.format('REINDEX INDEX %I.%I;', n.nspname, c.relname)
            ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %I.%I;', n.nspname, c.relname) END AS reindex_command
FROM upkeep._index_bloat() b
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.indexrelid
JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) b.indexrelid
JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
ORDER BY 10 DESC NULLS LAST, b.index_size DESC;
COMMENT ON VIEW upkeep.bloated_indexes IS
'Valid btree indexes of user tables with their size, and the size that a rebuild would give them, '
'estimated from catalog statistics without reading the index. Sizes in bytes. Most bloat first. Waits for no lock. '
'Where the statistics are missing, or are of columns that you may not SELECT, verdict is unknown and basis says why; '
'upkeep.measure_index_bloat() looks into the index itself. Other access methods and invalid indexes are not listed.';
COMMENT ON COLUMN upkeep.bloated_indexes.estimated_size IS 'After REINDEX, at the index''s fillfactor, in bytes; null: not known.';
COMMENT ON COLUMN upkeep.bloated_indexes.lower_bound IS 'What estimated_size may be at least.';
COMMENT ON COLUMN upkeep.bloated_indexes.upper_bound IS 'What estimated_size may be at most.';
COMMENT ON COLUMN upkeep.bloated_indexes.bloat_bytes IS 'index_size - estimated_size, or 0.';
COMMENT ON COLUMN upkeep.bloated_indexes.bloat_ratio IS 'bloat_bytes as a fraction of index_size, 0 to 1.';
COMMENT ON COLUMN upkeep.bloated_indexes.verdict IS
'bloated: a rebuild gives back at least 30 % even if upper_bound is right; maybe: if estimated_size is right; '
'fine: neither, or at most 128 kB; unknown: see basis.';
COMMENT ON COLUMN upkeep.bloated_indexes.basis IS 'What the estimate rests on, or why there is none.';
GRANT SELECT ON upkeep.bloated_indexes TO PUBLIC;

CREATE FUNCTION upkeep.measure_index_bloat(index regclass, sample_pages integer DEFAULT 1000) RETURNS TABLE (
    index_size bigint,
    estimated_size bigint,
    lower_bound bigint,
    upper_bound bigint,
    bloat_bytes bigint,
    bloat_ratio double precision,
    pages_read integer,
    leaf_pages bigint,
    internal_pages bigint,
    deleted_pages bigint,
    half_dead_pages bigint,
    new_pages bigint,
    leaf_density double precision,
    index_rows bigint,
    live_tuples bigint,
    posting_tuples bigint,
    dead_tuples bigint,
    tree_level integer,
    deduplicates boolean
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
    AS 'MODULE_PATHNAME', 'upkeep_measure_index_bloat_wrapper';
COMMENT ON FUNCTION upkeep.measure_index_bloat(regclass, integer) IS
'Reads at most sample_pages pages (10 to 1000000) of a btree index, chosen by chance, under ACCESS SHARE, '
'and says how large the index would be after REINDEX, with bounds that 95 of 100 samples keep. '
'Sizes in bytes; leaf_density and bloat_ratio are fractions; the other figures are counts, extrapolated. '
'Rows deleted from the table but not vacuumed yet count as live. Takes SELECT on the table, its ownership, '
'or pg_stat_scan_tables. Errors: 22004 no index, 22023 sample_pages out of range, 42P01 it is gone, '
'42809 not an index or a partitioned one, 42501 not permitted, 0A000 not btree or another session''s, 55000 not valid.';
