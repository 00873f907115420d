-- Soft delete: what is enabled, and what was deleted together. regclass and not oid, so that a dump carries
-- the tables' names (LAW 20) and pg_upgrade, which keeps the OIDs of relations, lets them pass.

CREATE TABLE upkeep._soft_delete_table (
    relid regclass PRIMARY KEY,
    -- The name without a schema that users know: in `swap` the table itself is called otherwise.
    name name NOT NULL,
    hide text NOT NULL CHECK (hide IN ('live_view', 'swap', 'none')),
    deleted_at name NOT NULL,
    deleted_by name NOT NULL,
    deletion_id name NOT NULL,
    flag name,
    live_view regclass,
    deleted_view regclass,
    retention interval,
    on_unmanaged text NOT NULL DEFAULT 'refuse' CHECK (on_unmanaged IN ('refuse', 'restrict', 'ignore')),
    enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- The schedule that `retention` has made.
    retention_schedule uuid,
    -- The type of the table's rows. A table that was dropped while event triggers were off is still remembered; another one that
    -- gets its OID has another type. Null: from a dump of a version before 0.6.0.
    row_type regtype,
    -- Names that its views (after `swap`, the table) have kept because they could not be renamed. Not names that somebody has chosen.
    kept_names name[] NOT NULL DEFAULT '{}'
);
-- Those that are still the tables that they were.
CREATE VIEW upkeep._soft_delete WITH (security_barrier) AS
    SELECT s.* FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
     AND coalesce(c.reltype OPERATOR(pg_catalog.=) s.row_type::pg_catalog.oid, true);
COMMENT ON VIEW upkeep._soft_delete IS 'Private: tables with soft delete, but for those whose OID is another table''s now.';
CREATE UNIQUE INDEX _soft_delete_table_live_view ON upkeep._soft_delete_table (live_view);

-- One for each call of soft_delete(), and one for all other deletions of a transaction.
CREATE TABLE upkeep._deletion (
    id uuid PRIMARY KEY,
    -- The first table.
    relid regclass NOT NULL,
    deleted_at timestamptz NOT NULL,
    -- upkeep.actor, else the role that the session acted as.
    deleted_by text NOT NULL,
    -- The role, by name: a dump restored elsewhere meets other OIDs.
    role_name name NOT NULL,
    reason text,
    -- Why it may not be purged (hold_deletion).
    held text,
    undeleted_at timestamptz,
    undeleted_by text
);
CREATE INDEX ON upkeep._deletion (deleted_at);
-- Every table that is dropped is looked for.
CREATE INDEX ON upkeep._deletion (relid);

CREATE TABLE upkeep._deletion_table (
    deletion uuid NOT NULL,
    relid regclass NOT NULL,
    rows bigint NOT NULL,
    -- Deleted by somebody, not (only) by the cascade.
    direct boolean NOT NULL,
    -- Of them are gone for good.
    purged bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (deletion, relid)
);
CREATE INDEX ON upkeep._deletion_table (relid);

-- What ON DELETE SET NULL and SET DEFAULT have changed. Key and values as text, in arrays.
CREATE TABLE upkeep._deletion_cleared (
    deletion uuid NOT NULL,
    relid regclass NOT NULL,
    -- Which foreign key.
    conname name NOT NULL,
    key_columns name[] NOT NULL,
    columns name[] NOT NULL,
    key jsonb NOT NULL,
    old_values jsonb NOT NULL,
    new_values jsonb NOT NULL,
    -- All three are texts from which the same values come back; versions before 0.6.0 left it to jsonb.
    exact boolean NOT NULL DEFAULT false
);
CREATE INDEX ON upkeep._deletion_cleared (deletion);
CREATE INDEX ON upkeep._deletion_cleared (relid);
-- As upkeep._job_event.
ALTER TABLE upkeep._deletion_cleared REPLICA IDENTITY FULL;

SELECT pg_catalog.pg_extension_config_dump('upkeep._soft_delete_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_table', '');
SELECT pg_catalog.pg_extension_config_dump('upkeep._deletion_cleared', '');
