-- Backfill: what people call, and what its statements and triggers call.

CREATE FUNCTION upkeep.backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    name text DEFAULT NULL,
    workers integer DEFAULT 1,
    batch_time interval DEFAULT NULL,
    on_error text DEFAULT 'quarantine',
    paused boolean DEFAULT false,
    if_not_exists boolean DEFAULT false,
    options jsonb DEFAULT '{}',
    fill_new_rows boolean DEFAULT false,
    run_between text DEFAULT NULL,
    timezone text DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    max_replica_lag_bytes bigint DEFAULT NULL,
    max_wal_rate integer DEFAULT NULL,
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_backfill_0_9_wrapper';
COMMENT ON FUNCTION upkeep.backfill(regclass, text, text, text, integer, interval, text, boolean, boolean, jsonb, boolean, text,
                                    text, interval, bigint, integer, double precision, double precision) IS
'Fills columns of a table, of all partitions or of all children in the background and returns the job. '
'assignments: what follows SET; condition: the rows that still need it (default: every row, exactly once, '
'which needs a key); batch_time: length of one transaction (default upkeep.batch_time); on_error: quarantine or stop; '
'options: strategy, range_blocks, strides, window_ranges, max_quarantined, vacuum, touch_stamps; '
'fill_new_rows: rows that others write meanwhile are filled by a trigger (needs TRIGGER, a condition and plpgsql). '
'Runs as the caller. Errors: 42601 in a fragment, 22023 wrong argument, 55006 a column is being filled already, '
'42710 name in use, 42501 a privilege is missing on the table or a partition, 55000 no key or a publication that '
'refuses the update, 0A000 not a table for it.';

CREATE FUNCTION upkeep.explain_backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    workers integer DEFAULT 1,
    options jsonb DEFAULT '{}'
) RETURNS TABLE (
    strategy text,
    reason text,
    batches bigint,
    rows_estimate bigint,
    estimated_duration interval,
    wal_estimate bigint,
    locks text,
    warnings text[]
)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
    AS 'MODULE_PATHNAME', 'upkeep_explain_backfill_wrapper';
COMMENT ON FUNCTION upkeep.explain_backfill(regclass, text, text, integer, jsonb) IS
'Says how upkeep.backfill would go through the table, why, what it would cost (rows, bytes of WAL, time: '
'forecasts from a sample) and what speaks against it. Changes nothing.';

CREATE FUNCTION upkeep.preview_backfill(
    target regclass,
    assignments text,
    condition text DEFAULT NULL,
    max_rows integer DEFAULT 10
) RETURNS TABLE (row_key jsonb, old_row jsonb, new_row jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'upkeep_preview_backfill_wrapper';
COMMENT ON FUNCTION upkeep.preview_backfill(regclass, text, text, integer) IS
'Shows rows as they are and as upkeep.backfill would leave them, computed by SELECT. max_rows: 0 to 10000. '
'Triggers and generated columns are not shown. Changes nothing.';

-- Filters of a strided UPDATE. Everyone's, since the statement runs as the owner of the job; they
-- look at nothing but their arguments, so that row security may let them go first.
CREATE FUNCTION upkeep._in_stride(tid, integer, integer) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.1
    AS 'MODULE_PATHNAME', 'upkeep_in_stride';
CREATE FUNCTION upkeep._in_stride_before(tid, integer, integer, xid, xid, integer) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE COST 0.1
    AS 'MODULE_PATHNAME', 'upkeep_in_stride_before';
COMMENT ON FUNCTION upkeep._in_stride(tid, integer, integer) IS
'Private: is the row''s place on its page, modulo strides, the stride?';
COMMENT ON FUNCTION upkeep._in_stride_before(tid, integer, integer, xid, xid, integer) IS
'Private: the same for row versions that were not written in the given span of transactions.';

-- In the WHEN of triggers on anybody's tables, hence everyone's.
CREATE FUNCTION upkeep._is_filling(uuid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'upkeep_is_filling';
COMMENT ON FUNCTION upkeep._is_filling(uuid) IS
'Private: is this process at work on that job? Keeps the trigger of fill_new_rows off what the job itself updates.';
