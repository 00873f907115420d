-- What the dumps beside this were made of, by the library of their version on PostgreSQL 15: run by a superuser in an empty
-- database, then pg_dump (plain), pg_dump -Fc.
CREATE ROLE keeper LOGIN;
CREATE EXTENSION pg_upkeep;
GRANT CREATE ON SCHEMA public TO keeper;
GRANT EXECUTE ON FUNCTION upkeep.run_in_background, upkeep.schedule, upkeep.run_now(text) TO keeper;
SELECT upkeep.start_workers();

SET SESSION AUTHORIZATION keeper;
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL UNIQUE, n int, v int);
CREATE TABLE sessions (id int PRIMARY KEY, "user" int NOT NULL REFERENCES users ON DELETE CASCADE);
CREATE TABLE invoices (id int PRIMARY KEY, "user" int REFERENCES users ON DELETE SET NULL);
CREATE TABLE orders (id int PRIMARY KEY, what text, gone boolean NOT NULL DEFAULT false);
INSERT INTO users SELECT g, 'user' || g || '@example.com', g % 10 FROM generate_series(1, 100) g;
INSERT INTO sessions SELECT g, 1 + g % 100 FROM generate_series(1, 200) g;
INSERT INTO invoices SELECT g, g FROM generate_series(1, 100) g;
INSERT INTO orders SELECT g, 'order ' || g FROM generate_series(1, 50) g;

-- Row stamps, and soft delete in its three forms: a live view, a swapped table with a flag, and none.
SELECT upkeep.enable_timestamps('users'), upkeep.enable_userstamps('users'), upkeep.enable_row_version('users');
SELECT upkeep.enable_soft_delete('sessions', hide => 'none');
SELECT upkeep.enable_soft_delete('users', retention => '1 year');
SELECT upkeep.enable_soft_delete('orders', hide => 'swap', flag => 'gone');
SELECT upkeep.make_unique_keys_partial('users') AS keys \gset
CALL upkeep.wait(:'keys');

-- Deletions: one to come back, one to be purged, one that is held, one that came back; of orders by the flag, and by the view.
DELETE FROM users_live WHERE id = 1;
DELETE FROM users_live WHERE id = 5;
SELECT upkeep.soft_delete('users', 'id IN (2, 3)', 'asked for') AS held \gset
SELECT upkeep.hold_deletion(:'held', 'a lawsuit');
SELECT upkeep.soft_delete('users', 'id = 4') AS back \gset
SELECT upkeep.undelete(:'back'::uuid);
INSERT INTO users_live (id, email, n) VALUES (101, 'user2@example.com', 1);
UPDATE orders_all SET gone = true WHERE id = 7;
DELETE FROM orders WHERE id = 8;

-- Jobs: with rows put aside, paused, canceled, a command; a schedule with a run.
SELECT upkeep.backfill('users', 'v = 100 / n', 'v IS NULL') AS left \gset
CALL upkeep.wait(:'left');
SELECT upkeep.run_in_background('ANALYZE users', 'analyze users') AS command \gset
CALL upkeep.wait(:'command');
SELECT upkeep.schedule('tick', '1 hour', 'SELECT 1');
SELECT upkeep.run_now('tick') AS run \gset
CALL upkeep.wait(:'run');
SELECT upkeep.backfill('orders_all', 'what = upper(what)', 'what <> upper(what)', paused => true);
SELECT upkeep.backfill('users', 'email = lower(email)', 'email <> lower(email)', paused => true) AS canceled \gset
SELECT upkeep.cancel(:'canceled');
BEGIN;
SELECT upkeep.purge_deleted('users', '1 millisecond') AS purge \gset
SELECT upkeep.pause(:'purge');
COMMIT;

-- Only in dumps from 0.7.0 on: work in the middle. Unique keys, of which one counts live rows only, the next has a successor that
-- has not taken its place, and one has none.
CREATE FUNCTION slug(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(7); RETURN pg_catalog.lower($1); END';
CREATE TABLE products (id int PRIMARY KEY, sku text UNIQUE, name text NOT NULL, ean text);
CREATE UNIQUE INDEX products_slug ON products (slug(name));
ALTER TABLE products ADD UNIQUE (ean);
INSERT INTO products SELECT g, 'sku ' || g, 'Product ' || g, 'ean ' || g FROM generate_series(1, 50) g;
SELECT upkeep.enable_soft_delete('products');
SELECT pg_advisory_lock(7);
SELECT upkeep.make_unique_keys_partial('products') AS keys \gset
-- Until the second one is being built.
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) LOOP COMMIT; PERFORM pg_sleep(0.02); END LOOP;
END $$;
SELECT upkeep.pause(:'keys');
SELECT pg_advisory_unlock(7);
DO $$ BEGIN
    WHILE EXISTS (SELECT FROM pg_index WHERE indrelid = 'products'::regclass AND NOT indisvalid)
    LOOP COMMIT; PERFORM pg_sleep(0.02); END LOOP;
END $$;
CREATE OR REPLACE FUNCTION slug(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN pg_catalog.lower($1); END';

-- A backfill in the middle of its rows, whose trigger fills new ones.
CREATE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.005); RETURN 2 * n; END';
CREATE TABLE lines (id int PRIMARY KEY, n int NOT NULL, double int) WITH (fillfactor = 10);
INSERT INTO lines SELECT g, g FROM generate_series(1, 200) g;
SELECT upkeep.backfill('lines', 'double = twice(n)', 'double IS NULL', batch_time => '10 ms', fill_new_rows => true) AS filling \gset
DO $$ BEGIN
    WHILE (SELECT rows_done = 0 FROM upkeep.jobs WHERE target = 'public.lines') LOOP COMMIT; PERFORM pg_sleep(0.02); END LOOP;
END $$;
SELECT upkeep.pause(:'filling');
CREATE OR REPLACE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * n; END';

-- Only in dumps from 0.8.0 on: a job that is parked until its hours begin, which is not before tomorrow.
CREATE TABLE nights (id int PRIMARY KEY, n int);
INSERT INTO nights SELECT g FROM generate_series(1, 50) g;
SELECT upkeep.backfill('nights', 'n = id', 'n IS NULL', timezone => 'UTC', run_between => format('%s-%s',
    to_char(now() AT TIME ZONE 'UTC' - '2 min'::interval, 'HH24:MI'),
    to_char(now() AT TIME ZONE 'UTC' - '1 min'::interval, 'HH24:MI')));
DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM upkeep.jobs WHERE target = 'public.nights' AND state = 'waiting')
    LOOP COMMIT; PERFORM pg_sleep(0.02); END LOOP;
END $$;
RESET SESSION AUTHORIZATION;
SELECT upkeep.stop_workers();
