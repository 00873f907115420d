\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit

-- Soft delete: triggers of its functions that are none of its own show as drift, and are repaired.
COMMENT ON FUNCTION upkeep.repair_soft_delete(regclass) IS
'Makes what upkeep.soft_delete_drift shows of a table as it should be: missing views and triggers are made, disabled triggers enabled, triggers of its functions under other names dropped, columns of the views follow the table''s. Views that were dropped come back with the grants of the table. For members of the table''s owner. Errors: 55000 no soft delete, 42501, 2BP01 something depends on a view that has to be made anew, 42P07 a view''s name is taken.';

CREATE OR REPLACE VIEW upkeep.soft_delete_drift WITH (security_barrier) AS
WITH managed AS MATERIALIZED (
    SELECT c.oid AS relid, n.nspname, c.relname, c.relowner, s.hide, s.flag, s.on_unmanaged,
           l.oid AS live_view, d.oid AS deleted_view
    FROM upkeep._soft_delete_table s
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_class l ON l.oid OPERATOR(pg_catalog.=) s.live_view AND l.relkind OPERATOR(pg_catalog.=) 'v'
    LEFT JOIN pg_catalog.pg_class d ON d.oid OPERATOR(pg_catalog.=) s.deleted_view AND d.relkind OPERATOR(pg_catalog.=) 'v'
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
), ours AS MATERIALIZED (
    SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgtype, p.proname
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::regnamespace
      AND pg_catalog.starts_with(p.proname::text, '_soft_delete_')
), member AS MATERIALIZED (
    SELECT m.relid AS root, t.relid FROM managed m
    CROSS JOIN LATERAL (SELECT m.relid UNION SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(m.relid) p) t (relid)
), wanted AS (
    SELECT m.root, m.relid, f.proname, f.number
    FROM member m
    CROSS JOIN (VALUES ('_soft_delete_updated', 1), ('_soft_delete_guard', 2), ('_soft_delete_updated_row', 1)) f (proname, number)
    UNION ALL
    SELECT m.relid, m.relid, '_soft_delete_flag', 1 FROM managed m WHERE m.flag IS NOT NULL
    UNION ALL
    SELECT m.relid, m.live_view, f.proname, f.number
    FROM managed m CROSS JOIN (VALUES ('_soft_delete_view_row', 1), ('_soft_delete_view', 2)) f (proname, number)
    WHERE m.live_view IS NOT NULL
    UNION ALL
    SELECT DISTINCT m.root, f.conrelid, '_soft_delete_live_parent', 2
    FROM member m
    JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) m.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
     AND f.conparentid OPERATOR(pg_catalog.=) 0::oid
), found (relid, problem) AS (
    SELECT m.relid, pg_catalog.format('its view of %s rows is missing', v.what)
    FROM managed m CROSS JOIN LATERAL (VALUES ('live', m.live_view), ('deleted', m.deleted_view)) v (what, oid)
    WHERE m.hide OPERATOR(pg_catalog.<>) 'none' AND v.oid IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('column %I is not in %s as it is in the table', coalesce(a.attname, b.attname), v.oid::regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) v (oid)
    CROSS JOIN LATERAL (
        SELECT x.attname, x.atttypid, x.atttypmod FROM pg_catalog.pg_attribute x
        WHERE x.attrelid OPERATOR(pg_catalog.=) m.relid AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped) a
    LEFT JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) v.oid AND b.attname OPERATOR(pg_catalog.=) a.attname
        AND b.atttypid OPERATOR(pg_catalog.=) a.atttypid AND b.atttypmod OPERATOR(pg_catalog.=) a.atttypmod
    WHERE v.oid IS NOT NULL AND b.attname IS NULL
    UNION ALL
    SELECT m.relid, pg_catalog.format('%s belongs to another role than the table', v.oid::regclass)
    FROM managed m CROSS JOIN LATERAL (VALUES (m.live_view), (m.deleted_view)) w (oid)
    JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) w.oid AND v.relowner OPERATOR(pg_catalog.<>) m.relowner
    UNION ALL
    SELECT w.root, pg_catalog.format('a trigger %s of %s is missing', w.proname, w.relid::regclass)
    FROM wanted w
    WHERE (SELECT pg_catalog.count(*) FROM ours o WHERE o.tgrelid OPERATOR(pg_catalog.=) w.relid
                                                   AND o.proname OPERATOR(pg_catalog.=) w.proname::name) OPERATOR(pg_catalog.<) w.number
    UNION ALL
    SELECT w.root, pg_catalog.format('trigger %I of %s is disabled', o.tgname, w.relid::regclass)
    FROM wanted w
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) w.relid AND o.proname OPERATOR(pg_catalog.=) w.proname::name
    WHERE o.tgenabled OPERATOR(pg_catalog.=) 'D'
    UNION ALL
    -- The functions refuse to be any other trigger than the one that was made.
    SELECT m.root, pg_catalog.format('trigger %I of %s is none that soft delete has made', o.tgname, o.tgrelid::regclass)
    FROM (SELECT r.root, r.relid FROM member r UNION SELECT v.relid, v.live_view FROM managed v) m
    JOIN ours o ON o.tgrelid OPERATOR(pg_catalog.=) m.relid
    WHERE NOT EXISTS (SELECT FROM (VALUES
        ('_soft_delete_updated_row', 'upkeep_soft_delete_row', 17), ('_soft_delete_updated', 'upkeep_soft_delete', 16),
        ('_soft_delete_guard', 'upkeep_soft_delete_no_delete', 8), ('_soft_delete_guard', 'upkeep_soft_delete_no_truncate', 34),
        ('_soft_delete_flag', 'zz_upkeep_soft_delete_flag', 23), ('_soft_delete_view_row', 'upkeep_soft_delete_row', 73),
        ('_soft_delete_view', 'upkeep_soft_delete_begin', 10), ('_soft_delete_view', 'upkeep_soft_delete', 8),
        ('_soft_delete_live_parent', 'upkeep_live_parent_insert', 5), ('_soft_delete_live_parent', 'upkeep_live_parent_update', 17),
        ('_soft_delete_live_parent', 'upkeep_live_parent_insert_deferred', 5),
        ('_soft_delete_live_parent', 'upkeep_live_parent_update_deferred', 17)) f (proname, tgname, tgtype)
        WHERE f.proname::name OPERATOR(pg_catalog.=) o.proname AND f.tgname::name OPERATOR(pg_catalog.=) o.tgname
          AND f.tgtype OPERATOR(pg_catalog.=) o.tgtype)
)
SELECT m.relid, m.nspname AS schemaname, m.relname, f.problem,
       pg_catalog.format('SELECT upkeep.repair_soft_delete(%L);', pg_catalog.format('%I.%I', m.nspname, m.relname)) AS repair
FROM found f JOIN managed m ON m.relid OPERATOR(pg_catalog.=) f.relid
UNION ALL
SELECT DISTINCT m.relid, m.nspname, m.relname,
       pg_catalog.format('%s references it ON DELETE CASCADE, but has no soft delete', r.relid::regclass),
       pg_catalog.format('SELECT upkeep.enable_soft_delete(%L);', r.relid::regclass)
FROM managed m
JOIN member p ON p.root OPERATOR(pg_catalog.=) m.relid
JOIN pg_catalog.pg_constraint f ON f.confrelid OPERATOR(pg_catalog.=) p.relid AND f.contype OPERATOR(pg_catalog.=) 'f'
 AND f.conparentid OPERATOR(pg_catalog.=) 0::oid AND f.confdeltype OPERATOR(pg_catalog.=) 'c'
CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_partition_root(f.conrelid)::oid, f.conrelid) AS relid) r
WHERE m.on_unmanaged OPERATOR(pg_catalog.=) 'refuse'
  AND NOT EXISTS (SELECT FROM upkeep._soft_delete_table s WHERE s.relid OPERATOR(pg_catalog.=) r.relid)
UNION ALL
SELECT m.relid, m.nspname, m.relname, 'it has no primary key any more, or a deferrable one',
       pg_catalog.format('ALTER TABLE %I.%I ADD PRIMARY KEY (..);', m.nspname, m.relname)
FROM managed m
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) m.relid
                  AND k.contype OPERATOR(pg_catalog.=) 'p' AND NOT k.condeferrable);
COMMENT ON VIEW upkeep.soft_delete_drift IS
'What is not as it should be with tables with soft delete (views and columns, triggers missing, disabled or under another name, foreign keys that came later), and the statement that repairs it. Visible to members of the tables'' owners. Empty: all is well.';
-- Jobs: what error messages say is for members of the owner only, and ends of a worker are counted.

ALTER TABLE upkeep._job ADD COLUMN reason_detail text;
ALTER TABLE upkeep._job_slot
    ADD COLUMN wait_detail text,
    ADD COLUMN ends integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_starts integer NOT NULL DEFAULT 0,
    ADD COLUMN ended_at timestamptz;

-- Reasons in which 0.5.0 has put what an error said: which of them did cannot be told from the others.
UPDATE upkeep._job SET reason = 'waits', reason_detail = reason
WHERE reason IS NOT NULL AND reason OPERATOR(pg_catalog.<>) 'restored'
  AND state OPERATOR(pg_catalog.<>) 'paused';
UPDATE upkeep._job_slot SET wait_reason = 'waits', wait_detail = wait_reason WHERE wait_reason IS NOT NULL;

CREATE OR REPLACE VIEW upkeep.jobs WITH (security_barrier) AS
SELECT j.id, j.kind, j.relid, j.target, j.name,
       CASE WHEN NOT k.here AND j.live THEN 'paused'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' AND s.all_wait THEN 'waiting'
            WHEN j.state OPERATOR(pg_catalog.=) 'queued' AND j.run_between IS NOT NULL
                 AND j.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'waiting'
            ELSE j.state END AS state,
       CASE WHEN NOT k.here AND j.live THEN 'restored'
            WHEN j.state OPERATOR(pg_catalog.=) 'running' THEN CASE WHEN s.all_wait THEN s.wait_reason END
            WHEN k.own AND j.reason IS NOT NULL THEN pg_catalog.concat_ws(': ', j.reason, j.reason_detail)
            ELSE j.reason END AS wait_reason,
       p.percent,
       pg_catalog.concat('[', pg_catalog.repeat('#', (p.percent OPERATOR(pg_catalog./) 5)::integer),
                         pg_catalog.repeat('.', 20 OPERATOR(pg_catalog.-) (p.percent OPERATOR(pg_catalog./) 5)::integer), ']') AS bar,
       s.rows_done,
       j.rows_estimate,
       s.rows_per_second,
       CASE WHEN j.state OPERATOR(pg_catalog.=) 'running' AND s.units_per_second OPERATOR(pg_catalog.>) 0 THEN
           pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs =>
               greatest(j.units_total OPERATOR(pg_catalog.-) s.units_done, 0) OPERATOR(pg_catalog./) s.units_per_second)
       END AS eta,
       coalesce(j.finished_at, CASE WHEN j.live THEN pg_catalog.clock_timestamp() END)
           OPERATOR(pg_catalog.-) j.started_at AS elapsed,
       j.workers,
       s.batch_rows,
       j.strategy,
       j.rows_left,
       (SELECT pg_catalog.count(*) FROM upkeep._backfill_row q
        WHERE q.job OPERATOR(pg_catalog.=) j.id AND q.state OPERATOR(pg_catalog.=) 'quarantined') AS quarantined,
       CASE WHEN k.own THEN j.error_message END AS error,
       coalesce(r.rolname, j.owner_name) AS owner,
       j.created_at, j.started_at, j.finished_at,
       nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
           'run_between', j.run_between, 'timezone', j.timezone, 'max_replica_lag', j.max_replica_lag,
           'max_replica_lag_bytes', j.max_replica_lag_bytes, 'max_wal_rate', j.max_wal_rate,
           'throttle_work_ratio', j.throttle_work_ratio)), '{}') AS limits
FROM (SELECT i.*, i.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) AS live FROM upkeep._job i) j
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_has_role(j.owner, 'USAGE') AS own,
           upkeep._is_here(j.system_identifier, j.database) AS here) k
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(t.rows_done), 0)::bigint AS rows_done,
           coalesce(pg_catalog.sum(t.units_done), 0) AS units_done,
           pg_catalog.max(t.batch_rows) AS batch_rows,
           pg_catalog.sum(t.rows_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS rows_per_second,
           pg_catalog.sum(t.units_done OPERATOR(pg_catalog.*) 1000.0::double precision OPERATOR(pg_catalog./) nullif(t.busy_time, 0)) AS units_per_second,
           pg_catalog.min(CASE WHEN k.own AND t.wait_reason IS NOT NULL
                               THEN pg_catalog.concat_ws(': ', t.wait_reason, t.wait_detail)
                               ELSE t.wait_reason END) AS wait_reason,
           coalesce(pg_catalog.bool_and(t.wait_reason IS NOT NULL) FILTER (WHERE t.pid IS NOT NULL), false) AS all_wait
    FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id) s
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.state OPERATOR(pg_catalog.=) 'done' THEN 100::double precision
                WHEN j.units_total OPERATOR(pg_catalog.>) 0
                THEN least(100, 100 OPERATOR(pg_catalog.*) s.units_done OPERATOR(pg_catalog./) j.units_total)
                ELSE 0 END AS percent) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) j.owner
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();

CREATE OR REPLACE VIEW upkeep.schedule_runs WITH (security_barrier) AS
SELECT u.schedule, s.name, u.job, u.due_at,
       coalesce(u.started_at, j.started_at) AS started_at,
       coalesce(u.finished_at, j.finished_at) AS finished_at,
       coalesce(u.status, CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed' AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                               THEN 'timed out' ELSE j.state END, 'failed') AS status,
       u.due_times,
       CASE WHEN u.finished_at IS NULL THEN (j.params OPERATOR(pg_catalog.->>) 'retries')::integer OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1
            ELSE u.attempts END AS attempt,
       CASE WHEN u.finished_at IS NULL
            THEN (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t WHERE t.job OPERATOR(pg_catalog.=) j.id)
            ELSE u.rows_done END AS rows,
       CASE WHEN k.own THEN coalesce(u.error_message, j.error_message,
                                       nullif(pg_catalog.concat_ws(': ', j.reason, j.reason_detail), '')) END AS error
FROM upkeep._schedule_run u
JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
LEFT JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) u.job AND u.finished_at IS NULL
CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(s.owner, 'USAGE') AS own) k
WHERE k.own OR pg_catalog.pg_has_role('pg_monitor', 'USAGE') OR upkeep._is_admin();
