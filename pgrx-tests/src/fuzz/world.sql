CREATE ROLE fuzz_stranger LOGIN;
CREATE ROLE fuzz_owner LOGIN;
CREATE ROLE fuzz_monitor LOGIN;
CREATE ROLE fuzz_keeper LOGIN;
GRANT pg_monitor TO fuzz_monitor;
GRANT CREATE ON DATABASE fuzz TO fuzz_owner;
GRANT EXECUTE ON FUNCTION upkeep.run_in_background(text, text, int) TO fuzz_owner, fuzz_stranger;
DO $$BEGIN
    EXECUTE (SELECT string_agg(format('GRANT EXECUTE ON FUNCTION %s TO fuzz_owner', oid::regprocedure), ';') FROM pg_proc
              WHERE pronamespace = 'upkeep'::regnamespace AND proname IN ('schedule', 'unschedule', 'alter_schedule', 'run_now'));
END$$;

-- What only its keeper may read, and nobody may ever see.
CREATE SCHEMA vault AUTHORIZATION fuzz_keeper;
GRANT USAGE ON SCHEMA vault TO PUBLIC;
CREATE TABLE vault.secret (id int PRIMARY KEY, note text, n int);
INSERT INTO vault.secret SELECT g, 'classified-9c41f0', g FROM generate_series(1, 20) g;
CREATE TABLE vault.empty (id int PRIMARY KEY, note text DEFAULT 'classified-9c41f0');
ALTER TABLE vault.secret OWNER TO fuzz_keeper;
ALTER TABLE vault.empty OWNER TO fuzz_keeper;

SET ROLE fuzz_owner;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.parent (id int PRIMARY KEY, n int, v text, u uuid DEFAULT gen_random_uuid());
CREATE TABLE app.child (id int PRIMARY KEY, parent int REFERENCES app.parent ON DELETE CASCADE, n int, v text);
CREATE TABLE app.note (code text PRIMARY KEY, parent int REFERENCES app.parent ON DELETE SET NULL, n int);
CREATE TABLE app.tag (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    parent int DEFAULT 1 REFERENCES app.parent ON DELETE SET DEFAULT, n int);
CREATE TABLE app.held (id int PRIMARY KEY, parent int REFERENCES app.parent ON DELETE RESTRICT, n int);
CREATE TABLE app.self (id int PRIMARY KEY, boss int REFERENCES app.self ON DELETE CASCADE, n int, v text);
CREATE TABLE app.parts (id int, n int, v text, PRIMARY KEY (id, n)) PARTITION BY RANGE (n);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (50);
CREATE TABLE app.parts_2 PARTITION OF app.parts DEFAULT;
CREATE TABLE app.keyless (n int, v text);
CREATE TABLE app.floats (id float8 PRIMARY KEY, n int);
CREATE TABLE app.wide (id numeric, k interval, t timestamptz, n int, PRIMARY KEY (id, k, t));
CREATE UNLOGGED TABLE app.unlogged (id bigint PRIMARY KEY, n int);
CREATE TABLE app.old (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
CREATE TABLE app.heir (extra text) INHERITS (app.old);
CREATE VIEW app.seen AS SELECT * FROM app.parent;
CREATE MATERIALIZED VIEW app.matter AS SELECT 1 AS id;
CREATE SEQUENCE app.numbers;
CREATE INDEX parent_n ON app.parent (n);
CREATE INDEX parent_n_again ON app.parent (n);
CREATE UNIQUE INDEX child_v ON app.child (lower(v), n);
CREATE FUNCTION app.loud(n int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'loud %', n; RETURN n % 2 = 0; END$$;
CREATE SCHEMA "App";
CREATE TABLE "App"."It's ""odd""" ("Id ;--" int PRIMARY KEY, n int, "a""b" text);
CREATE TABLE app.policed (id int PRIMARY KEY, n int, v text);
ALTER TABLE app.policed ENABLE ROW LEVEL SECURITY;
CREATE POLICY even ON app.policed USING (id % 2 = 0);
CREATE FUNCTION app.nested() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF NEW.id % 5 = 0 THEN DELETE FROM app.self_live WHERE id = NEW.id + 31; END IF; RETURN NEW;
END$$;
CREATE TRIGGER nested BEFORE UPDATE ON app.self FOR EACH ROW EXECUTE FUNCTION app.nested();
INSERT INTO app.parent SELECT g, g, 'p' || g FROM generate_series(1, 200) g;
INSERT INTO app.child SELECT g, g, g, 'c' || g FROM generate_series(1, 200) g;
INSERT INTO app.note SELECT 'n' || g, g, g FROM generate_series(1, 100) g;
INSERT INTO app.tag (parent, n) SELECT g, g FROM generate_series(1, 100) g;
INSERT INTO app.held SELECT g, 150 + g, g FROM generate_series(1, 20) g;
INSERT INTO app.self SELECT g, CASE WHEN g > 300 THEN g / 2 END, g, 's' FROM generate_series(1, 400) g;
INSERT INTO app.parts SELECT g, g, 'x' FROM generate_series(1, 100) g;
INSERT INTO app.keyless SELECT g, 'k' FROM generate_series(1, 50) g;
INSERT INTO app.floats VALUES ('NaN', 1), ('-Infinity', 2), (0.1::float8 + 0.2::float8, 3), (0.3, 4), ('Infinity', 5);
INSERT INTO app.wide SELECT g, make_interval(days => g), now(), g FROM generate_series(1, 20) g;
INSERT INTO app.unlogged SELECT g, g FROM generate_series(1, 20) g;
INSERT INTO app.old SELECT g, g FROM generate_series(1, 20) g;
INSERT INTO app.policed SELECT g, g, 'r' FROM generate_series(1, 40) g;
INSERT INTO "App"."It's ""odd""" SELECT g, g, 'o' FROM generate_series(1, 20) g;
SELECT upkeep.enable_soft_delete('app.child');
SELECT upkeep.enable_soft_delete('app.note');
SELECT upkeep.enable_soft_delete('app.parent');
SELECT upkeep.enable_soft_delete('app.self');
SELECT upkeep.enable_soft_delete('app.policed');
SELECT upkeep.enable_soft_delete('"App"."It''s ""odd"""');
SELECT upkeep.enable_timestamps('app.tag');
SELECT upkeep.enable_row_version('app.tag');
SELECT upkeep.enable_userstamps('app.held');
SELECT upkeep.soft_delete('app.parent', 'id = 100', 'the first');
SELECT upkeep.soft_delete('app.self', 'id = 90');
SELECT upkeep.backfill('app.parent', 'n = n + 1');
SELECT upkeep.schedule('each second', '1 second', 'SELECT 1');
GRANT SELECT, UPDATE ON app.parent, app.child TO fuzz_stranger;
GRANT SELECT ON app.keyless TO PUBLIC;
GRANT SELECT, INSERT, DELETE ON app.parent_live TO fuzz_stranger;
RESET ROLE;

-- A stranger's schema in front of everybody's path: as a superuser, his code makes him one.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.gain() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    context pg_catalog.text;
BEGIN
    IF (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
        OR CURRENT_USER OPERATOR(pg_catalog.<>) SESSION_USER THEN
        GET DIAGNOSTICS context = PG_CONTEXT;
        RAISE LOG 'fuzz gained: % in a session of %: %', CURRENT_USER, SESSION_USER, pg_catalog.to_json(context);
    END IF;
    RETURN true;
END$$;
DO $$
DECLARE
    it name;
BEGIN
    FOR it IN SELECT typname FROM pg_catalog.pg_type
               WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typcategory <> 'A' AND typname <> 'pg_node_tree'
    LOOP
        EXECUTE pg_catalog.format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.gain())', it, it);
    END LOOP;
END$$;
ALTER DATABASE fuzz SET search_path = evil, pg_catalog, public;
