-- Rows that jobs have put aside, and what people see of them.

-- Rows that a job, of whatever kind, has to come back to (locked by somebody else) or has put aside (quarantined). It is called
-- after backfills because dumps that were made when only they had such rows name it.
CREATE TABLE upkeep._backfill_row (
    job uuid NOT NULL,
    row_key jsonb NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    relid oid NOT NULL,
    state text NOT NULL CHECK (state IN ('locked', 'quarantined')),
    sqlstate text,
    message text,
    attempts integer NOT NULL DEFAULT 0,
    last_tried_at timestamptz,
    -- The key is written so that the same values come back, which versions before 0.6.0 did not see to.
    exact boolean NOT NULL DEFAULT false,
    -- Without keys rows are told apart by their places, which repeat from table to table.
    PRIMARY KEY (job, relid, row_key)
);
CREATE INDEX ON upkeep._backfill_row (job, state, number);

SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._backfill_row_number_seq', '');

CREATE VIEW upkeep.quarantined_rows WITH (security_barrier) AS
    SELECT r.job, r.relid, r.row_key, r.sqlstate, r.message, r.attempts, r.last_tried_at
    FROM upkeep._backfill_row r
    JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
    WHERE r.state OPERATOR(pg_catalog.=) 'quarantined'
      AND pg_catalog.pg_has_role(upkeep._owner(j.system_identifier, j.owner, j.owner_name), 'USAGE');
COMMENT ON VIEW upkeep.quarantined_rows IS
'Rows that a job put aside because they cannot be done, for a backfill because their new value is an error; '
'upkeep.retry(job) tries them again. Visible to members of the job''s owner.';
COMMENT ON COLUMN upkeep.quarantined_rows.row_key IS 'The row''s key, or its place (ctid) where the table has no key.';
GRANT SELECT ON upkeep.quarantined_rows TO PUBLIC;
