-- What is known of a backfill beside its job.

-- Transactions of a backfill whose rows still match its condition: never updated again by the same run.
CREATE TABLE upkeep._backfill_xid (
    job uuid NOT NULL,
    xid bigint NOT NULL,
    PRIMARY KEY (job, xid)
);

-- The tables of a backfill, one with an ordinary target, all leaves of a tree: what its workers share of each.
CREATE TABLE upkeep._backfill_table (
    job uuid NOT NULL,
    number integer NOT NULL,
    relid oid NOT NULL,
    -- Quoted and qualified: a dump restored elsewhere meets other OIDs (LAW 20).
    relname text NOT NULL,
    -- Its part of the job's units.
    weight double precision NOT NULL,
    -- gone: dropped or taken out of the tree meanwhile.
    state text NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'done', 'gone')),
    -- Others have locked its last rows: it rests until then.
    not_before timestamptz,
    shared jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, number)
);
CREATE INDEX _backfill_table_todo ON upkeep._backfill_table (job, weight, number) WHERE state OPERATOR(pg_catalog.=) 'todo';

SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_xid', '');
