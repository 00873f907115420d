-- From 0.6.0: what unfinished jobs have for themselves is a table.
\echo Use "ALTER EXTENSION pg_upkeep UPDATE TO '0.7.0'" to load this file. \quit

CREATE TABLE upkeep._job_claim (
    job uuid NOT NULL,
    relid oid NOT NULL,
    what text NOT NULL, -- 'column NAME', 'rows', 'indexes' or 'definition': src/jobs/claims.rs
    PRIMARY KEY (job, relid, what)
);
CREATE INDEX ON upkeep._job_claim (relid);

-- Unfinished jobs of this server and database get what they have had already. Sessions that have the old library loaded may be
-- creating some; one that is committed later takes it when it is started.
LOCK TABLE upkeep._job IN SHARE MODE;
INSERT INTO upkeep._job_claim (job, relid, what)
SELECT j.id, j.relid, w.what
FROM upkeep._job j
CROSS JOIN LATERAL (
    SELECT pg_catalog.concat('column ', c.name)
    FROM pg_catalog.jsonb_array_elements_text(j.params OPERATOR(pg_catalog.->) 'columns') c (name)
    WHERE j.kind OPERATOR(pg_catalog.=) 'backfill'
    UNION ALL SELECT 'rows' WHERE j.kind OPERATOR(pg_catalog.=) 'purge'
    UNION ALL SELECT 'indexes' WHERE j.kind OPERATOR(pg_catalog.=) 'unique keys') w (what)
WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) AND j.relid IS NOT NULL
  AND upkeep._is_here(j.system_identifier, j.database)
ON CONFLICT DO NOTHING;

COMMENT ON VIEW upkeep.quarantined_rows IS
'Rows that a job put aside because they cannot be done, for a backfill because their new value is an error; upkeep.retry(job) tries them again. Visible to members of the job''s owner.';

-- A null, as a subquery gives that finds nothing, is refused and not passed over in silence.
ALTER FUNCTION upkeep.pause(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.resume(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.cancel(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.retry(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.drop_job(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.unschedule(text) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.unschedule(uuid) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.run_now(text) CALLED ON NULL INPUT;
ALTER FUNCTION upkeep.run_now(uuid) CALLED ON NULL INPUT;
