-- What the history of statements says, as far as whoever asks may see it. All of it leaves out what jobs executed, unless
-- upkeep.report_queries says otherwise.

CREATE FUNCTION upkeep.query_history(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    bucket interval DEFAULT '1 hour'::interval)
RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    mean_time double precision,
    min_time double precision,
    max_time double precision,
    p50_time double precision,
    p95_time double precision,
    p99_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    shared_blks_hit bigint,
    blks_read bigint,
    blks_written bigint,
    temp_blks_read bigint,
    temp_blks_written bigint,
    blk_read_time double precision,
    blk_write_time double precision,
    wal_bytes bigint,
    jit_time double precision,
    lossy boolean,
    query text,
    jobs integer
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_history_0_9_wrapper';
COMMENT ON FUNCTION upkeep.query_history(timestamptz, timestamptz, interval) IS
'What each statement cost, bucket by bucket (at least 1 minute; buckets of a day begin at midnight UTC), '
'from the stored history of this database. Times in ms; percentiles are at most 11.1 % off; '
'started_at and finished_at are those of what is stored within the bucket, and may reach beyond it where only coarser '
'history is kept. Blocks, wal_bytes and jit_time come from pg_stat_statements, if it is there; '
'lossy: it forgot some meanwhile, or a restart cut the interval short. queryid 0 is what could not be kept apart. '
'queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of '
'pg_read_all_stats. jobs: how many jobs of this database that you see were under way then. '
'Errors: 22004 an argument is null, 22023 until is not after since, or no such bucket.';

CREATE FUNCTION upkeep.query_percentile(
    queryid bigint,
    fraction double precision,
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    role regrole DEFAULT NULL,
    toplevel boolean DEFAULT NULL)
RETURNS double precision
    LANGUAGE c STABLE PARALLEL UNSAFE COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_percentile_wrapper';
COMMENT ON FUNCTION upkeep.query_percentile(bigint, double precision, timestamptz, timestamptz, regrole, boolean) IS
'The latency in ms that this fraction (0 to 1; 0.95 is the 95th percentile) of a statement''s successful executions '
'did not exceed, over any time, from merged histograms: at most 11.1 % off from 4 us on. '
'role and toplevel narrow it; null takes all. Null if there were none, or none that you may see. '
'Errors: 22004 an argument is null, 22023 fraction out of range or until not after since.';

CREATE FUNCTION upkeep.query_histogram(
    queryid bigint,
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    role regrole DEFAULT NULL,
    toplevel boolean DEFAULT NULL)
RETURNS TABLE (
    lower_time double precision,
    upper_time double precision,
    calls bigint,
    cumulative_share double precision
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 40 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_histogram_wrapper';
COMMENT ON FUNCTION upkeep.query_histogram(bigint, timestamptz, timestamptz, regrole, boolean) IS
'How the latencies of a statement''s successful executions are spread: per bucket in use its edges in ms (lower_time '
'included, upper_time not; null: no end), the calls in it, and the fraction of all calls up to its end. '
'role and toplevel narrow it; null takes all. No rows if there were none, or none that you may see. '
'Errors: 22004 an argument is null, 22023 until is not after since.';

CREATE FUNCTION upkeep._slow_queries() RETURNS TABLE (
    queryid bigint,
    userid oid,
    toplevel boolean,
    slow_calls bigint,
    calls bigint,
    total_time double precision,
    mean_time double precision,
    p95_time double precision,
    p99_time double precision,
    max_time double precision,
    last_slow_at timestamptz,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 100 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_slow_queries_wrapper';
COMMENT ON FUNCTION upkeep._slow_queries() IS 'internal: the figures behind upkeep.slow_queries';

CREATE VIEW upkeep.slow_queries WITH (security_barrier) AS
SELECT s.queryid, s.userid, s.toplevel, s.slow_calls, s.calls, s.total_time, s.mean_time,
       s.p95_time, s.p99_time, s.max_time, s.last_slow_at, s.query
FROM upkeep._slow_queries() s;
COMMENT ON VIEW upkeep.slow_queries IS
'Statements of which calls took at least upkeep.slow_query_min_duration (default 1 s) within the last 24 hours, '
'as far as the history is written; those with the most such calls first. Times in ms. '
'Of statements of roles that you are no member of, figures without queryid and query, unless you are a member of '
'pg_read_all_stats.';
COMMENT ON COLUMN upkeep.slow_queries.slow_calls IS
'Calls that took so long. Of the bucket of the histogram in which the limit lies, a share is counted.';
COMMENT ON COLUMN upkeep.slow_queries.last_slow_at IS 'End of the last stored interval with such a call.';
GRANT SELECT ON upkeep.slow_queries TO PUBLIC;

CREATE FUNCTION upkeep.top_queries(
    order_by text DEFAULT 'total',
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    max_rows integer DEFAULT 20)
RETURNS TABLE (
    rank integer,
    queryid bigint,
    userid oid,
    toplevel boolean,
    statements bigint,
    share double precision,
    calls bigint,
    rows bigint,
    total_time double precision,
    mean_time double precision,
    min_time double precision,
    max_time double precision,
    p50_time double precision,
    p95_time double precision,
    p99_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    shared_blks_hit bigint,
    blks_read bigint,
    blks_written bigint,
    temp_blks_read bigint,
    temp_blks_written bigint,
    wal_bytes bigint,
    lossy boolean,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_top_queries_wrapper';
COMMENT ON FUNCTION upkeep.top_queries(text, timestamptz, timestamptz, integer) IS
'The statements that cost most, by total, mean, p95, p99 (times in ms), calls, rows, errors (failures of any kind), '
'io (blocks read and written), wal (bytes) or temp (blocks); the last three take pg_stat_statements. '
'share is the fraction of the sum over all statements, of the time for mean, p95 and p99. '
'The last row, without a rank, is all others together (queryid 0; statements: how many of them are known), '
'including what could not be kept apart. Statements within functions are in the figures of their callers: '
'they are listed, but not added up. Of statements of roles that you are no member of, figures without queryid and '
'query, unless you are a member of pg_read_all_stats. Errors: 22004 an argument is null, 22023 no such order, '
'until not after since, or max_rows below 1.';

CREATE FUNCTION upkeep.query_regressions(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now(),
    baseline_since timestamptz DEFAULT NULL,
    baseline_until timestamptz DEFAULT NULL,
    min_calls integer DEFAULT 50,
    min_effect double precision DEFAULT 0.1)
RETURNS TABLE (
    queryid bigint,
    userid oid,
    toplevel boolean,
    effect double precision,
    probability_slower double precision,
    p_value double precision,
    adjusted_p_value double precision,
    same_hours boolean,
    added_time double precision,
    calls bigint,
    baseline_calls bigint,
    mean_time double precision,
    baseline_mean_time double precision,
    p50_time double precision,
    baseline_p50_time double precision,
    p95_time double precision,
    baseline_p95_time double precision,
    p99_time double precision,
    baseline_p99_time double precision,
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_query_regressions_wrapper';
COMMENT ON FUNCTION upkeep.query_regressions(timestamptz, timestamptz, timestamptz, timestamptz, integer, double precision) IS
'Statements that became slower, compared with a baseline (default: the 14 days before since), the dearest first. '
'Hours are compared with the same hours of the day; days of the baseline show how much days differ; '
'of what is reported at most 5 % is expected to be chance (Benjamini-Hochberg over all statements with min_calls, '
'at least 10, on both sides). effect is by how much the typical (geometric mean) time grew: 0.3 is 30 % slower; '
'below min_effect nothing is reported. probability_slower: that a call now is slower than one of the baseline (0.5: '
'no change). added_time: ms that all calls together took longer. same_hours false: the baseline has other hours of '
'the day only, and a daily cycle may be all there is. Times in ms. Only statements that you may see; '
'what could not be kept apart is not compared. Errors: 22004 an argument is null, 22023 an end is not after its '
'beginning, or a limit is out of range.';

CREATE FUNCTION upkeep.performance_report(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_wrapper';
COMMENT ON FUNCTION upkeep.performance_report(timestamptz, timestamptz) IS
'A time at a glance: totals of all statements, a series over time with percentiles, failures and histograms, '
'the statements that cost most (columns as in upkeep.top_queries()), and what became slower than in the 14 days '
'before (as upkeep.query_regressions()). Times in ms, in UTC; queryids are strings. '
'Shows the caller what those functions show. Errors: 22004 an argument is null, 22023 until is not after since.';

CREATE FUNCTION upkeep.performance_report_html(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_html_wrapper';
COMMENT ON FUNCTION upkeep.performance_report_html(timestamptz, timestamptz) IS
'performance_report() as one self-contained HTML page without scripts: psql -XAtqc ''SELECT '
'upkeep.performance_report_html()'' > performance.html. Errors: as performance_report().';
