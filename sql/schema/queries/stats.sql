-- What is counted and kept, as far as whoever asks may see it.

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
COMMENT ON FUNCTION upkeep._query_packed_intervals(timestamptz, timestamptz, bigint, interval) IS
'internal: see upkeep._query_intervals()';

CREATE FUNCTION upkeep._query_intervals(since timestamptz, until timestamptz, only_queryid bigint DEFAULT NULL,
                                        resolution interval DEFAULT NULL)
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
SELECT p.started_at, p.finished_at, p.queryid, p.userid, p.toplevel, p.calls, p.rows, p.total_time, p.min_time, p.max_time,
       p.errors, p.cancellations, p.timeouts, p.unknown_errors, p.histogram,
       p.counters[1]::bigint, p.counters[2]::bigint, p.counters[3]::bigint, p.counters[4]::bigint, p.counters[5]::bigint,
       p.counters[6]::bigint, p.counters[7]::bigint, p.counters[8]::bigint, p.counters[9]::bigint, p.counters[10]::bigint,
       p.counters[11], p.counters[12], p.counters[13], p.counters[14], p.counters[15]::bigint,
       p.counters[16]::bigint, p.counters[17]::bigint, p.counters[18]::bigint, p.counters[19],
       p.lossy
FROM upkeep._query_packed_intervals(since, until, only_queryid, resolution) p;
END;
COMMENT ON FUNCTION upkeep._query_intervals(timestamptz, timestamptz, bigint, interval) IS
'internal: what statements cost between two times, from the coarsest rows that fit, none of them longer than '
'resolution where finer ones are kept. Per row: one statement in one interval; queryid 0 is what could not be kept '
'apart. Times in ms. queryid is null where the caller may not see the statement: of roles that it is no member of, '
'without pg_read_all_stats.';

CREATE FUNCTION upkeep._query_counts() RETURNS TABLE (
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
    may_see boolean,
    by_job boolean
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5000 COST 10000
    AS 'MODULE_PATHNAME', 'upkeep_query_live_wrapper';
COMMENT ON FUNCTION upkeep._query_counts() IS
'internal: the counters in shared memory, of this database and, to pg_read_all_stats, what other databases could not keep apart';

CREATE VIEW upkeep.query_stats WITH (security_barrier) AS
SELECT l.datid, l.queryid, l.userid, l.toplevel, l.calls, l.rows, l.total_time,
       l.total_time OPERATOR(pg_catalog./) nullif(l.calls, 0)::double precision AS mean_time,
       l.min_time, l.max_time, l.p50_time, l.p95_time, l.p99_time,
       l.errors, l.cancellations, l.timeouts, l.unknown_errors, l.stats_since,
       CASE WHEN l.queryid OPERATOR(pg_catalog.=) 0 THEN '<others>'
            WHEN NOT l.may_see THEN '<insufficient privilege>'
            ELSE coalesce(l.query, q.query) END AS query,
       l.by_job
FROM upkeep._query_counts() l
LEFT JOIN upkeep._query_text q
    ON q.queryid OPERATOR(pg_catalog.=) l.queryid AND q.userid OPERATOR(pg_catalog.=) l.userid;
COMMENT ON VIEW upkeep.query_stats IS
'What each statement of this database has cost since the server started or upkeep.reset_query_stats(), '
'live from shared memory: per role, queryid, toplevel (false: within a function; see upkeep.track_queries) and '
'by_job. Times in ms; percentiles from a histogram, at most 12.5 % off. calls, rows, times and percentiles are of '
'executions that succeeded. A row with queryid 0 adds up what could not be kept apart: statements that were evicted '
'(upkeep.query_max), or that could not be entered; members of pg_read_all_stats see that row of every database. '
'queryid is null and query hidden for statements of roles that you are no member of, unless you are a member of '
'pg_read_all_stats. Takes shared_preload_libraries; without it: 55000.';
COMMENT ON COLUMN upkeep.query_stats.queryid IS
'As in pg_stat_statements; of utility statements outside of a short list one per command tag; 0: others.';
COMMENT ON COLUMN upkeep.query_stats.errors IS 'Executions that ended in an error that reached the log or the client.';
COMMENT ON COLUMN upkeep.query_stats.cancellations IS 'Executions that were canceled or whose session was terminated.';
COMMENT ON COLUMN upkeep.query_stats.timeouts IS 'Executions that ran into statement_timeout.';
COMMENT ON COLUMN upkeep.query_stats.unknown_errors IS
'Executions that ended in an error that was caught (an EXCEPTION block) or not reported: its kind is not known.';
COMMENT ON COLUMN upkeep.query_stats.stats_since IS 'When counting began or was reset.';
COMMENT ON COLUMN upkeep.query_stats.by_job IS
'Executed by the worker of a job of pg_upkeep: batches of a backfill with the tries that it caught, purges, '
'commands in the background and of schedules. Reports leave it out, unless upkeep.report_queries says otherwise.';
GRANT SELECT ON upkeep.query_stats TO PUBLIC;

CREATE FUNCTION upkeep.reset_query_stats(userid oid DEFAULT NULL, queryid bigint DEFAULT NULL, history boolean DEFAULT false)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_reset_query_stats_wrapper';
COMMENT ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) IS
'Lets upkeep.query_stats begin anew in this database: for all statements (then "others" too), or those of a role or '
'with a queryid. Takes effect at once, whatever becomes of the transaction. '
'What was counted still goes into the history. With history => true the history and all texts are removed as well; '
'that takes no userid and no queryid (22023). Not for PUBLIC: GRANT EXECUTE to whom it may concern. '
'Errors: 55000 not preloaded, 22004 history is null, 55P03 somebody who has read the history is still in his '
'transaction.';
REVOKE ALL ON FUNCTION upkeep.reset_query_stats(oid, bigint, boolean) FROM PUBLIC;
