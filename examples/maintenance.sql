-- Long commands that need no session to stay open: each runs in a background worker, as you.

CREATE TABLE IF NOT EXISTS events (id bigint PRIMARY KEY, kind text, payload text);
INSERT INTO events SELECT i, 'k' || i % 10, repeat('x', 50) FROM generate_series(1, 10000) i ON CONFLICT DO NOTHING;

-- Built without blocking writers. If it fails it leaves an invalid index behind, as it does from psql.
SELECT upkeep.run_in_background('CREATE INDEX CONCURRENTLY IF NOT EXISTS events_kind ON events (kind)') AS build \gset
CALL upkeep.wait(:'build');

-- Repeated once if the server is restarted in the middle: VACUUM may be.
SELECT upkeep.run_in_background('VACUUM (ANALYZE) events', name => 'vacuum events', retries => 1) AS vacuum \gset
CALL upkeep.wait(:'vacuum', timeout => '10 min');

SELECT kind, target, name, state, elapsed FROM upkeep.jobs ORDER BY id;
