-- What statements cost, remembered.
--
-- Layout: one row per interval, whatever number of statements it holds; they are packed into one bytea (format in
-- src/queries/packed.rs), because a row per statement and minute takes ten times the room. Three levels: what a drain brought
-- (level 0), hours (1) and days (2); a coarser row repeats the finer ones that it is the sum of, so that a month is read from
-- thirty rows and its ragged ends from finer ones.
--
-- Old history leaves by TRUNCATE of a whole partition, never row by row. The partitions are a ring of eight for each level, made
-- here and not at run time: DDL at run time would fire the event triggers of users under our switched user (LAW 1), and would
-- have to be kept out of dumps. A ring moves on when its partition spans a seventh of the level's retention, and the next one could be
-- emptied: whoever has read it is in the way of that until the end of his transaction, and of nothing else.

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
-- In a database that publishes all tables, nothing can be deleted from one whose rows nothing identifies.
ALTER TABLE upkeep._query_minutes_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_minutes_7 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_hours_7 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_0 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_1 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_2 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_3 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_4 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_5 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_6 REPLICA IDENTITY FULL;
ALTER TABLE upkeep._query_days_7 REPLICA IDENTITY FULL;
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
