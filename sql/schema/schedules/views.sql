-- What people see of schedules and their runs: as of jobs.

CREATE VIEW upkeep.schedules WITH (security_barrier) AS
SELECT s.id, s.name,
       coalesce(r.rolname, s.owner_name) AS owner,
       s.schedule, s.timezone,
       CASE WHEN k.own THEN s.command END AS command,
       NOT (s.paused OR k.hold IS NOT NULL) AS active,
       CASE WHEN k.hold IS NOT NULL THEN k.hold WHEN s.paused THEN 'paused' END AS paused_reason,
       CASE WHEN NOT s.paused AND k.hold IS NULL THEN s.next_run END AS next_run,
       l.started_at AS last_run,
       l.status AS last_status,
       CASE WHEN k.own THEN l.error_message END AS last_error,
       pg_catalog.make_interval(secs => s.timeout OPERATOR(pg_catalog./) 1000.0::double precision) AS timeout,
       s.retries,
       pg_catalog.make_interval(secs => s.retry_backoff OPERATOR(pg_catalog./) 1000.0::double precision) AS retry_backoff,
       s.catch_up, s.created_at
FROM upkeep._schedule s
CROSS JOIN LATERAL (
    SELECT o.owner, pg_catalog.pg_has_role(o.owner, 'USAGE') AS own,
           CASE WHEN upkeep._is_here(s.system_identifier, s.database) THEN s.hold ELSE 'restored' END AS hold
    FROM (SELECT upkeep._owner(s.system_identifier, s.owner, s.owner_name) AS owner) o) k
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) k.owner
LEFT JOIN LATERAL (
    SELECT coalesce(u.started_at, j.started_at) AS started_at,
           coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out'
                               WHEN j.parked OPERATOR(pg_catalog.=) 'children' THEN 'running'
                               ELSE j.state END, 'failed') AS status,
           coalesce(u.error_message, j.error_message) AS error_message
    FROM upkeep._schedule_run u
    LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
    WHERE u.schedule OPERATOR(pg_catalog.=) s.id
      -- Not one that is queued.
      AND (j.id IS NULL OR j.started_at IS NOT NULL)
      AND (u.status IS NULL OR u.status OPERATOR(pg_catalog.<>) ALL (ARRAY['missed', 'skipped']))
    ORDER BY u.id DESC LIMIT 1) l ON true
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.schedules IS
'Schedules of this database: when each runs next (null: not), why it is not active, and how its last run ended. '
'Rows: the caller''s roles'' schedules; all for pg_monitor and upkeep.admin_role. '
'command and last_error are shown to members of the owner.';

CREATE VIEW upkeep.schedule_runs WITH (security_barrier) AS
SELECT u.schedule, s.name, u.job, u.due_at,
       coalesce(u.started_at, j.started_at) AS started_at,
       coalesce(u.finished_at, j.finished_at) AS finished_at,
       coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out'
                               -- It has begun, and waits for what it has begun.
                               WHEN j.parked OPERATOR(pg_catalog.=) 'children' THEN 'running'
                               ELSE j.state END, 'failed') AS status,
       u.due_times,
       CASE WHEN u.finished_at IS NULL
            THEN (j.params OPERATOR(pg_catalog.->>) 'retries')::integer OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1
            ELSE u.attempts END AS attempt,
       CASE WHEN u.finished_at IS NULL
            THEN (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t
                  WHERE t.job OPERATOR(pg_catalog.=) j.id
                     OR t.job OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT c.id FROM upkeep._job c
                                                                WHERE c.parent OPERATOR(pg_catalog.=) j.id)))
            ELSE u.rows_done END AS rows,
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       CASE WHEN j.parked IS NULL
                                       THEN nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '') END) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(upkeep._owner(s.system_identifier, s.owner, s.owner_name), 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
COMMENT ON VIEW upkeep.schedule_runs IS
'What came of each run of a schedule. status: queued, running, paused, done, failed, timed out, canceled; '
'missed (nobody was there when it was due) and skipped (the run before had not ended) stand for due_times due times '
'each. error is shown to members of the owner. Kept for upkeep.job_retention, at most 1000 rows per schedule.';
GRANT SELECT ON upkeep.schedules, upkeep.schedule_runs TO PUBLIC;
