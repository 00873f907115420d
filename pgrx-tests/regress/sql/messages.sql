-- What people read when they make a mistake: message, detail, hint, and the place in their text.
\set SHOW_CONTEXT never
CREATE TABLE messages (id int PRIMARY KEY, n int, t text);
INSERT INTO messages SELECT i, i, i::text FROM generate_series(1, 10) i;
CREATE VIEW messages_view AS SELECT * FROM messages;
CREATE TABLE messages_keyless (n int);
CREATE TABLE messages_parent (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);

SELECT upkeep.backfill('messages', 'n = n + ');
SELECT upkeep.backfill('messages', 'm = 1');
SELECT upkeep.backfill('messages', 'n = 1; DROP TABLE messages');
SELECT upkeep.backfill('messages', 'n = 1 WHERE true');
SELECT upkeep.backfill('messages', 'n = 1 FROM pg_class');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL) OR (true');
SELECT upkeep.backfill('messages', 'n = $1');
SELECT upkeep.backfill('messages', 'n = ''x''', 'n IS NULL');
SELECT upkeep.backfill('messages', 'id = 1', 'n IS NULL');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', options => '{"stride": 3}');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', options => '{"strides": 0}');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', options => '[]');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', on_error => 'ignore');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', workers => 0);
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', batch_time => '1 ms');
SELECT upkeep.backfill('messages', 'n = 1', 'n IS NULL', if_not_exists => true);
SELECT upkeep.backfill(NULL, 'n = 1');
SELECT upkeep.backfill('messages', NULL);
SELECT upkeep.backfill('messages_view', 'n = 1', 'n IS NULL');
SELECT upkeep.backfill('messages_keyless', 'n = 1');
SELECT upkeep.backfill('messages_parent', 'id = 1', 'n IS NULL');
SELECT upkeep.backfill('pg_class', 'relpages = 1', 'relpages IS NULL');
SELECT upkeep.backfill('upkeep._job', 'name = ''x''', 'name IS NULL');
SELECT upkeep.preview_backfill('messages', 'n = 1', 'n IS NULL', max_rows => -1);
SELECT upkeep.run_in_background('SELECT 1; SELECT 2');
SELECT upkeep.run_in_background('COMMIT');
SELECT upkeep.run_in_background('COPY messages FROM STDIN');
SELECT upkeep.pause('00000000-0000-7000-8000-000000000000');
CALL upkeep.wait('00000000-0000-7000-8000-000000000000');
BEGIN;
CALL upkeep.wait('00000000-0000-7000-8000-000000000000');
ROLLBACK;
SELECT upkeep.stop_workers();

DROP VIEW messages_view;
DROP TABLE messages, messages_keyless, messages_parent;
