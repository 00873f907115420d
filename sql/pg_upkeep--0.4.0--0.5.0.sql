\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

-- What statements cost, remembered.
--
-- Layout: one row per interval, whatever number of statements it holds; they are packed into one bytea (format in
-- src/queries/packed.rs), because a row per statement and minute takes ten times the room. Three levels: what a drain brought
-- (level 0), hours (1) and days (2); a coarser row repeats the finer ones that it is the sum of, so that a month is read from
-- thirty rows and its ragged ends from finer ones.
--
-- Old history leaves by TRUNCATE of a whole partition, never row by row. The partitions are a ring of eight for each level, made
-- here and not at run time: DDL at run time would fire the event triggers of users under our switched user (LAW 1), and would
-- have to be kept out of dumps. A ring moves on when its partition spans a seventh of the level's retention.

CREATE TABLE upkeep._query_interval (
    ring smallint NOT NULL, -- 8 * level + position
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 2),
    -- Level 0: started_at; 1 and 2: the hour or day in UTC that it is the sum of.
    period timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    parts integer NOT NULL, -- rows of the level below in it
    flags integer NOT NULL, -- 1: cut short by a restart; 2: pg_stat_statements forgot statements meanwhile
    statements integer NOT NULL,
    entries bytea NOT NULL
) PARTITION BY LIST (ring);
COMMENT ON TABLE upkeep._query_interval IS 'internal: what all statements of an interval cost, one row per interval';

CREATE TABLE upkeep._query_minutes_0 PARTITION OF upkeep._query_interval FOR VALUES IN (0);
CREATE TABLE upkeep._query_minutes_1 PARTITION OF upkeep._query_interval FOR VALUES IN (1);
CREATE TABLE upkeep._query_minutes_2 PARTITION OF upkeep._query_interval FOR VALUES IN (2);
CREATE TABLE upkeep._query_minutes_3 PARTITION OF upkeep._query_interval FOR VALUES IN (3);
CREATE TABLE upkeep._query_minutes_4 PARTITION OF upkeep._query_interval FOR VALUES IN (4);
CREATE TABLE upkeep._query_minutes_5 PARTITION OF upkeep._query_interval FOR VALUES IN (5);
CREATE TABLE upkeep._query_minutes_6 PARTITION OF upkeep._query_interval FOR VALUES IN (6);
CREATE TABLE upkeep._query_minutes_7 PARTITION OF upkeep._query_interval FOR VALUES IN (7);
CREATE TABLE upkeep._query_hours_0 PARTITION OF upkeep._query_interval FOR VALUES IN (8);
CREATE TABLE upkeep._query_hours_1 PARTITION OF upkeep._query_interval FOR VALUES IN (9);
CREATE TABLE upkeep._query_hours_2 PARTITION OF upkeep._query_interval FOR VALUES IN (10);
CREATE TABLE upkeep._query_hours_3 PARTITION OF upkeep._query_interval FOR VALUES IN (11);
CREATE TABLE upkeep._query_hours_4 PARTITION OF upkeep._query_interval FOR VALUES IN (12);
CREATE TABLE upkeep._query_hours_5 PARTITION OF upkeep._query_interval FOR VALUES IN (13);
CREATE TABLE upkeep._query_hours_6 PARTITION OF upkeep._query_interval FOR VALUES IN (14);
CREATE TABLE upkeep._query_hours_7 PARTITION OF upkeep._query_interval FOR VALUES IN (15);
CREATE TABLE upkeep._query_days_0 PARTITION OF upkeep._query_interval FOR VALUES IN (16);
CREATE TABLE upkeep._query_days_1 PARTITION OF upkeep._query_interval FOR VALUES IN (17);
CREATE TABLE upkeep._query_days_2 PARTITION OF upkeep._query_interval FOR VALUES IN (18);
CREATE TABLE upkeep._query_days_3 PARTITION OF upkeep._query_interval FOR VALUES IN (19);
CREATE TABLE upkeep._query_days_4 PARTITION OF upkeep._query_interval FOR VALUES IN (20);
CREATE TABLE upkeep._query_days_5 PARTITION OF upkeep._query_interval FOR VALUES IN (21);
CREATE TABLE upkeep._query_days_6 PARTITION OF upkeep._query_interval FOR VALUES IN (22);
CREATE TABLE upkeep._query_days_7 PARTITION OF upkeep._query_interval FOR VALUES IN (23);
-- Not compressed: one statement's part of many days is read without the rest of them.
ALTER TABLE upkeep._query_days_0 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_1 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_2 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_3 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_4 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_5 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_6 ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE upkeep._query_days_7 ALTER COLUMN entries SET STORAGE EXTERNAL;
CREATE INDEX _query_interval_period ON upkeep._query_interval (period);

-- Where each level's ring is.
CREATE TABLE upkeep._query_ring (
    level smallint PRIMARY KEY,
    position smallint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT '-infinity' -- the first period in the partition written to
);
INSERT INTO upkeep._query_ring (level) VALUES (0), (1), (2);
COMMENT ON TABLE upkeep._query_ring IS 'internal: which partition of each level is written to';

-- Text of statements, as first seen: per role, because search_path and rights are.
CREATE TABLE upkeep._query (
    queryid bigint NOT NULL,
    userid oid NOT NULL,
    -- Normalised; of utility statements outside of a short list the command tag only.
    query text NOT NULL,
    truncated boolean NOT NULL,
    -- Under which it was analyzed, so that it can be planned again.
    search_path text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (queryid, userid)
) WITH (fillfactor = 90);
CREATE INDEX _query_last_seen ON upkeep._query (last_seen);
COMMENT ON TABLE upkeep._query IS 'internal: texts of statements';

-- Texts that the caller may see, and no others (LAW 5).
CREATE VIEW upkeep._query_text WITH (security_barrier) AS
SELECT q.queryid, q.userid, q.query, q.truncated, q.search_path, q.first_seen, q.last_seen
FROM upkeep._query q
WHERE pg_catalog.pg_has_role(q.userid, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE');
COMMENT ON VIEW upkeep._query_text IS 'internal: texts of statements that the caller may see';
GRANT SELECT ON upkeep._query_text TO PUBLIC;

-- pgrx returns no more than 32 columns: the counters come as an array.
CREATE FUNCTION upkeep._query_packed_intervals(since timestamptz, until timestamptz, only_queryid bigint, resolution interval)
    RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    counters double precision[],
    lossy boolean
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_packed_intervals_wrapper';
COMMENT ON FUNCTION upkeep._query_packed_intervals(timestamptz, timestamptz, bigint, interval) IS 'internal: see upkeep._query_intervals()';

CREATE FUNCTION upkeep._query_intervals(since timestamptz, until timestamptz, only_queryid bigint DEFAULT NULL, resolution interval DEFAULT NULL)
    RETURNS TABLE (
    started_at timestamptz,
    finished_at timestamptz,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    shared_blks_hit bigint,
    shared_blks_read bigint,
    shared_blks_dirtied bigint,
    shared_blks_written bigint,
    local_blks_hit bigint,
    local_blks_read bigint,
    local_blks_dirtied bigint,
    local_blks_written bigint,
    temp_blks_read bigint,
    temp_blks_written bigint,
    blk_read_time double precision,
    blk_write_time double precision,
    temp_blk_read_time double precision,
    temp_blk_write_time double precision,
    wal_records bigint,
    wal_fpi bigint,
    wal_bytes bigint,
    jit_functions bigint,
    jit_time double precision,
    lossy boolean
)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
BEGIN ATOMIC
SELECT p.started_at, p.finished_at, p.queryid, p.userid, p.toplevel, p.calls, p.rows, p.total_time, p.min_time, p.max_time, p.errors, p.cancellations, p.timeouts, p.unknown_errors, p.histogram,
       p.counters[1]::bigint, p.counters[2]::bigint, p.counters[3]::bigint, p.counters[4]::bigint, p.counters[5]::bigint,
       p.counters[6]::bigint, p.counters[7]::bigint, p.counters[8]::bigint, p.counters[9]::bigint, p.counters[10]::bigint,
       p.counters[11], p.counters[12], p.counters[13], p.counters[14], p.counters[15]::bigint,
       p.counters[16]::bigint, p.counters[17]::bigint, p.counters[18]::bigint, p.counters[19],
       p.lossy
FROM upkeep._query_packed_intervals(since, until, only_queryid, resolution) p;
END;
COMMENT ON FUNCTION upkeep._query_intervals(timestamptz, timestamptz, bigint, interval) IS
'internal: what statements cost between two times, from the coarsest rows that fit, none of them longer than resolution where finer ones are kept. Per row: one statement in one interval; queryid 0 is what could not be kept apart. Times in ms. queryid is null where the caller may not see the statement: of roles that it is no member of, without pg_read_all_stats.';

CREATE FUNCTION upkeep._query_live() RETURNS TABLE (
    datid oid,
    queryid bigint,
    userid oid,
    toplevel boolean,
    calls bigint,
    rows bigint,
    total_time double precision,
    min_time double precision,
    max_time double precision,
    p50_time double precision,
    p95_time double precision,
    p99_time double precision,
    errors bigint,
    cancellations bigint,
    timeouts bigint,
    unknown_errors bigint,
    histogram bytea,
    stats_since timestamptz,
    query text,
    may_see boolean
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5000 COST 10000
    AS 'MODULE_PATHNAME', 'upkeep_query_live_wrapper';
COMMENT ON FUNCTION upkeep._query_live() IS
'internal: the counters in shared memory, of this database and, to pg_read_all_stats, what other databases could not keep apart';

CREATE VIEW upkeep.query_stats WITH (security_barrier) AS
SELECT l.datid, l.queryid, l.userid, l.toplevel, l.calls, l.rows, l.total_time,
       l.total_time OPERATOR(pg_catalog./) nullif(l.calls, 0)::double precision AS mean_time,
       l.min_time, l.max_time, l.p50_time, l.p95_time, l.p99_time,
       l.errors, l.cancellations, l.timeouts, l.unknown_errors, l.stats_since,
       CASE WHEN l.queryid OPERATOR(pg_catalog.=) 0 THEN '<others>'
            WHEN NOT l.may_see THEN '<insufficient privilege>'
            ELSE coalesce(l.query, q.query) END AS query
FROM upkeep._query_live() l
LEFT JOIN upkeep._query_text q
    ON q.queryid OPERATOR(pg_catalog.=) l.queryid AND q.userid OPERATOR(pg_catalog.=) l.userid;
COMMENT ON VIEW upkeep.query_stats IS
'What each statement of this database has cost since the server started or upkeep.reset_query_stats(), live from shared memory: per role, queryid and toplevel (false: within a function; see upkeep.track_queries). Times in ms; percentiles from a histogram, at most 12.5 % off. calls, rows, times and percentiles are of executions that succeeded. A row with queryid 0 adds up what could not be kept apart: statements that were evicted (upkeep.query_max), or that could not be entered; members of pg_read_all_stats see that row of every database. queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of pg_read_all_stats. Takes shared_preload_libraries; without it: 55000.';
COMMENT ON COLUMN upkeep.query_stats.queryid IS 'As in pg_stat_statements; of utility statements outside of a short list one per command tag; 0: others.';
COMMENT ON COLUMN upkeep.query_stats.errors IS 'Executions that ended in an error that reached the log or the client.';
COMMENT ON COLUMN upkeep.query_stats.cancellations IS 'Executions that were canceled or whose session was terminated.';
COMMENT ON COLUMN upkeep.query_stats.timeouts IS 'Executions that ran into statement_timeout.';
COMMENT ON COLUMN upkeep.query_stats.unknown_errors IS 'Executions that ended in an error that was caught (an EXCEPTION block) or not reported: its kind is not known.';
COMMENT ON COLUMN upkeep.query_stats.stats_since IS 'When counting began or was reset.';
GRANT SELECT ON upkeep.query_stats TO PUBLIC;

CREATE FUNCTION upkeep.reset_query_stats(userid oid DEFAULT NULL, queryid bigint DEFAULT NULL, history boolean DEFAULT false)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_reset_query_stats_wrapper';
COMMENT ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) IS
'Lets upkeep.query_stats begin anew in this database: for all statements (then "others" too), or those of a role or with a queryid. Takes effect at once, whatever becomes of the transaction. What was counted still goes into the history. With history => true the history and all texts are removed as well; that takes no userid and no queryid (22023). Not for PUBLIC: GRANT EXECUTE to whom it may concern. Errors: 55000 not preloaded, 22004 history is null.';
REVOKE ALL ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) FROM PUBLIC;
-- What the history of statements says. All of it reads upkeep._query_intervals() as whoever asks.

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
    query text
)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 COST 100000
    AS 'MODULE_PATHNAME', 'upkeep_query_history_wrapper';
COMMENT ON FUNCTION upkeep.query_history(timestamptz, timestamptz, interval) IS
'What each statement cost, bucket by bucket (at least 1 minute; buckets of a day begin at midnight UTC), from the stored history of this database. Times in ms; percentiles are at most 11.1 % off; started_at and finished_at are those of what is stored within the bucket, and may reach beyond it where only coarser history is kept. Blocks, wal_bytes and jit_time come from pg_stat_statements, if it is there; lossy: it forgot some meanwhile, or a restart cut the interval short. queryid 0 is what could not be kept apart. queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of pg_read_all_stats. Errors: 22004 an argument is null, 22023 until is not after since, or no such bucket.';

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
'The latency in ms that this fraction (0 to 1; 0.95 is the 95th percentile) of a statement''s successful executions did not exceed, over any time, from merged histograms: at most 11.1 % off from 4 us on. role and toplevel narrow it; null takes all. Null if there were none, or none that you may see. Errors: 22004 an argument is null, 22023 fraction out of range or until not after since.';

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
'How the latencies of a statement''s successful executions are spread: per bucket in use its edges in ms (lower_time included, upper_time not; null: no end), the calls in it, and the fraction of all calls up to its end. role and toplevel narrow it; null takes all. No rows if there were none, or none that you may see. Errors: 22004 an argument is null, 22023 until is not after since.';

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
'Statements of which calls took at least upkeep.slow_query_min_duration (default 1 s) within the last 24 hours, as far as the history is written; those with the most such calls first. Times in ms. Of statements of roles that you are no member of, figures without queryid and query, unless you are a member of pg_read_all_stats.';
COMMENT ON COLUMN upkeep.slow_queries.slow_calls IS 'Calls that took so long. Of the bucket of the histogram in which the limit lies, a share is counted.';
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
'The statements that cost most, by total, mean, p95, p99 (times in ms), calls, rows, errors (failures of any kind), io (blocks read and written), wal (bytes) or temp (blocks); the last three take pg_stat_statements. share is the fraction of the sum over all statements, of the time for mean, p95 and p99. The last row, without a rank, is all others together (queryid 0; statements: how many of them are known), including what could not be kept apart. Statements within functions are in the figures of their callers: they are listed, but not added up. Of statements of roles that you are no member of, figures without queryid and query, unless you are a member of pg_read_all_stats. Errors: 22004 an argument is null, 22023 no such order, until not after since, or max_rows below 1.';

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
'Statements that became slower, compared with a baseline (default: the 14 days before since), the dearest first. Hours are compared with the same hours of the day; days of the baseline show how much days differ; of what is reported at most 5 % is expected to be chance (Benjamini-Hochberg over all statements with min_calls, at least 10, on both sides). effect is by how much the typical (geometric mean) time grew: 0.3 is 30 % slower; below min_effect nothing is reported. probability_slower: that a call now is slower than one of the baseline (0.5: no change). added_time: ms that all calls together took longer. same_hours false: the baseline has other hours of the day only, and a daily cycle may be all there is. Times in ms. Only statements that you may see; what could not be kept apart is not compared. Errors: 22004 an argument is null, 22023 an end is not after its beginning, or a limit is out of range.';

CREATE FUNCTION upkeep.performance_report(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_wrapper';
COMMENT ON FUNCTION upkeep.performance_report(timestamptz, timestamptz) IS
'A time at a glance: totals of all statements, a series over time with percentiles, failures and histograms, the statements that cost most (columns as in upkeep.top_queries()), and what became slower than in the 14 days before (as upkeep.query_regressions()). Times in ms, in UTC; queryids are strings. Shows the caller what those functions show. Errors: 22004 an argument is null, 22023 until is not after since.';

CREATE FUNCTION upkeep.performance_report_html(
    since timestamptz DEFAULT (pg_catalog.now() OPERATOR(pg_catalog.-) '1 day'::interval),
    until timestamptz DEFAULT pg_catalog.now())
RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'upkeep_performance_report_html_wrapper';
COMMENT ON FUNCTION upkeep.performance_report_html(timestamptz, timestamptz) IS
'performance_report() as one self-contained HTML page without scripts: psql -XAtqc ''SELECT upkeep.performance_report_html()'' > performance.html. Errors: as performance_report().';
