//! Nobody's settings decide what a statement of ours means, and ours are met by nobody (LAW 28, LAW 8).

use anyhow::Result;
use upkeep_tests::jobs::{run_in_background, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

/// Domains, functions and operators that are in front of the server's own and note as whom they are called. They are made
/// by whoever owns the session, in the schema `traps`; `caught` is what they have seen.
const TRAPS: &str = r#"
    CREATE SCHEMA traps;
    CREATE TABLE traps.caught (who name, what text, context text);
    GRANT USAGE ON SCHEMA traps TO PUBLIC;
    GRANT INSERT, SELECT ON traps.caught TO PUBLIC;
    CREATE FUNCTION traps.note(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE context pg_catalog.text;
    BEGIN
        GET DIAGNOSTICS context = PG_CONTEXT;
        INSERT INTO traps.caught VALUES (current_user, what, context);
        RETURN true;
    END$$;
    DO $$
    DECLARE t pg_catalog.text; a pg_catalog.text; f pg_catalog.text;
    BEGIN
        -- 'name' before 'text': each is over the server's own.
        FOREACH t IN ARRAY ARRAY['name', 'oid', 'uuid', 'int2', 'int4', 'int8', 'float8', 'jsonb', 'json', 'date', 'bytea', 'tid', 'xid',
                                 'regclass', 'timestamptz', 'numeric', 'bool', 'interval', 'varchar', 'text'] LOOP
            EXECUTE pg_catalog.format('CREATE DOMAIN traps.%I AS pg_catalog.%I CHECK (traps.note(%L))', t, t, 'type ' || t);
        END LOOP;
        -- Better matches than the server's own, which take other types or any.
        FOREACH t IN ARRAY ARRAY['uuid', 'name', 'oid', 'text', 'int4', 'int8', 'jsonb', 'timestamptz'] LOOP
            FOREACH f IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||'] LOOP
                EXECUTE pg_catalog.format('CREATE FUNCTION traps.%I(pg_catalog.%I, pg_catalog.%I) RETURNS boolean LANGUAGE plpgsql AS %L',
                    'op_' || t || f, t, t, pg_catalog.format('BEGIN RETURN traps.note(%L); END', 'operator ' || f));
                EXECUTE pg_catalog.format('CREATE OPERATOR traps.%s (FUNCTION = traps.%I,
                                              LEFTARG = pg_catalog.%I, RIGHTARG = pg_catalog.%I)',
                    f, 'op_' || t || f, t, t);
            END LOOP;
            FOREACH f IN ARRAY ARRAY['count', 'unnest', 'coalesce', 'to_jsonb', 'concat', 'lower', 'length', 'quote_ident', 'format',
                                     'pg_notify', 'min', 'max', 'date_part', 'jsonb_build_array', 'array_agg', 'num_nulls', 'now'] LOOP
                EXECUTE pg_catalog.format('CREATE FUNCTION traps.%I(pg_catalog.%I) RETURNS pg_catalog.%I LANGUAGE plpgsql AS %L', f, t, t,
                    pg_catalog.format('BEGIN PERFORM traps.note(%L); RETURN $1; END', 'function ' || f));
            END LOOP;
        END LOOP;
    END$$;
"#;

const SHOP: &str = "
    CREATE SCHEMA shop;
    GRANT USAGE ON SCHEMA shop TO PUBLIC;
    CREATE DOMAIN shop.code AS text CHECK (VALUE <> '');
    CREATE TABLE shop.customer (id uuid PRIMARY KEY, name text, at timestamptz UNIQUE, n numeric UNIQUE);
    CREATE TABLE shop.note (code text PRIMARY KEY, customer uuid REFERENCES shop.customer ON DELETE SET NULL);
    CREATE TABLE shop.visit (day date, code shop.code, tags int[], at timestamptz REFERENCES shop.customer (at) ON DELETE SET NULL,
                             n numeric DEFAULT 0 REFERENCES shop.customer (n) ON DELETE SET DEFAULT, PRIMARY KEY (day, code, tags));
    CREATE TABLE shop.bill (id int PRIMARY KEY, customer uuid REFERENCES shop.customer ON DELETE CASCADE);
    INSERT INTO shop.customer VALUES ('00000000-0000-0000-0000-000000000000', 'nobody', '2020-01-01', 0),
        ('00000000-0000-0000-0000-000000000001', 'a', '2024-01-01 10:00+01', 1.10),
        ('00000000-0000-0000-0000-000000000002', 'b', 'infinity', 2);
    INSERT INTO shop.note SELECT name, id FROM shop.customer;
    INSERT INTO shop.visit SELECT '2024-02-03', name, ARRAY[1, NULL], at, n FROM shop.customer;
    INSERT INTO shop.bill SELECT row_number() OVER (ORDER BY name), id FROM shop.customer;
    SELECT upkeep.enable_soft_delete('shop.bill'), upkeep.enable_soft_delete('shop.customer');
    CREATE TABLE shop.before AS SELECT v.day, v.code, v.tags, v.at, v.n FROM shop.visit v;";

/// What the traps have caught that was not its own doing.
fn caught(session: &mut Session, but: &str) -> Result<Vec<String>> {
    session.rows(&format!("SELECT who, what, context FROM traps.caught WHERE who <> '{but}'"))
}

fn as_they_were(session: &mut Session) -> Result<Vec<String>> {
    session.rows(
        "SELECT 'note ' || code FROM shop.note WHERE customer IS NULL
         UNION ALL SELECT 'bill ' || id FROM shop.bill WHERE deleted_at IS NOT NULL
         UNION ALL SELECT x::text FROM (TABLE shop.before EXCEPT SELECT v.day, v.code, v.tags, v.at, v.n FROM shop.visit v) x",
    )
}

/// The verbs of soft delete, by somebody with rights on the parent only: what becomes of the children is done as their owner.
fn delete_and_bring_back(eve: &mut Session, admin: &mut Session) -> Result<()> {
    let cleared = "SELECT (SELECT pg_catalog.count(*) FROM shop.note WHERE customer IS NULL),
                          (SELECT pg_catalog.count(*) FROM shop.visit WHERE at IS NULL AND n = 0),
                          (SELECT pg_catalog.count(*) FROM shop.bill WHERE deleted_at IS NULL)";
    let deletion =
        eve.text("SELECT upkeep.soft_delete('shop.customer', 'id::pg_catalog.text OPERATOR(pg_catalog.~) ''[12]$''')")?;
    assert_eq!(admin.text(cleared)?, "2|2|1");
    assert_eq!(eve.text(&format!("SELECT upkeep.undelete('{deletion}')"))?, "4");
    assert_eq!(as_they_were(admin)?, [""; 0]);
    eve.run("DELETE FROM shop.customer_live WHERE name OPERATOR(pg_catalog.=) 'a'")?;
    assert_eq!(admin.text(cleared)?, "1|1|2");
    let deletion = admin.text("SELECT id FROM upkeep.deletions ORDER BY deleted_at DESC LIMIT 1")?;
    assert_eq!(eve.text(&format!("SELECT upkeep.undelete('{deletion}')"))?, "2");
    assert_eq!(as_they_were(admin)?, [""; 0]);
    eve.run("SELECT upkeep.soft_delete('shop.customer', 'name OPERATOR(pg_catalog.=) ''b''')")?;
    assert_eq!(eve.text("SELECT upkeep.undelete('shop.customer', 'name OPERATOR(pg_catalog.=) ''b''')")?, "1");
    admin.run(
        "UPDATE shop.note SET customer = '00000000-0000-0000-0000-000000000002' WHERE customer IS NULL;
         UPDATE shop.visit SET at = 'infinity', n = 2 WHERE at IS NULL; SELECT upkeep.undelete('shop.bill', 'true')",
    )
}

fn with_traps(db: &Database) -> Result<(Session, Session)> {
    let mut admin = db.connect()?;
    let eve = db.role("eve")?;
    admin.run(SHOP)?;
    let database = admin.text("SELECT quote_ident(current_database())")?;
    admin.run(&format!(
        "GRANT SELECT, UPDATE ON shop.customer TO {eve}; GRANT SELECT, DELETE ON shop.customer_live TO {eve};
         GRANT CREATE, TEMP ON DATABASE {database} TO {eve}"
    ))?;
    let mut session = db.connect_as(&eve)?;
    session.run(TRAPS)?;
    Ok((admin, session))
}

#[test]
fn a_trap_in_the_callers_path_is_met_by_no_statement_of_ours() -> Result<()> {
    let db = testing::database()?;
    let (mut admin, mut session) = with_traps(&db)?;
    session.run(
        "CREATE FUNCTION pg_temp.note(t pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT traps.note($1)';
         CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.note('pg_temp'));
         CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (pg_temp.note('pg_temp'));
         CREATE DOMAIN pg_temp.date AS pg_catalog.date CHECK (pg_temp.note('pg_temp'))",
    )?;
    for path in ["pg_temp, pg_catalog", "pg_temp, traps, pg_catalog, shop", "traps, pg_catalog, public", "traps"] {
        session.run(&format!("SET search_path = {path}"))?;
        delete_and_bring_back(&mut session, &mut admin)?;
        let eve = session.text("SELECT current_user")?;
        assert_eq!(caught(&mut admin, &eve)?, [""; 0], "{path}");
    }
    // The traps do work.
    session.run("SET search_path = traps, pg_catalog; SELECT 'x'::text")?;
    assert_eq!(admin.text("SELECT DISTINCT what FROM traps.caught")?, "pg_temp");
    Ok(())
}

/// The owner of a database, or of a role, sets a path for a superuser.
#[test]
fn a_superuser_meets_no_trap_of_a_databases_owner() -> Result<()> {
    for set in ["DATABASE", "ROLE"] {
        let server = testing::server("door-traps").preloaded().start()?;
        let mut admin = server.connect("postgres")?;
        admin.run("CREATE ROLE dbo LOGIN; CREATE ROLE root LOGIN SUPERUSER")?;
        admin.run("CREATE DATABASE app OWNER dbo")?;
        admin.run("CREATE DATABASE other")?;
        server.connect("app")?.run("CREATE EXTENSION pg_upkeep")?;
        let mut dbo = server.connect_as("app", "dbo")?;
        dbo.run(TRAPS)?;
        match set {
            "DATABASE" => dbo.run("ALTER DATABASE app SET search_path = traps, pg_catalog")?,
            _ => admin.run("ALTER ROLE root SET search_path = traps, pg_catalog")?,
        }
        let mut root = server.connect_as("app", "root")?;
        assert_eq!(root.text("SHOW search_path")?, "traps, pg_catalog");
        root.run("CREATE DATABASE copy TEMPLATE other")?;
        root.run("ALTER DATABASE copy RENAME TO copy2")?;
        root.run("DROP DATABASE copy2")?;
        root.run("CREATE TABLE public.t (id pg_catalog.int4 PRIMARY KEY, v pg_catalog.int4)")?;
        root.run("INSERT INTO public.t VALUES (1), (2)")?;
        let job = root.text("SELECT upkeep.backfill('public.t', 'v = 1', 'v IS NULL')")?;
        root.run(&format!("CALL upkeep.wait('{job}')"))?;
        let job = root.text("SELECT upkeep.run_in_background('SELECT 1')")?;
        root.run(&format!("CALL upkeep.wait('{job}')"))?;
        for call in [
            "performance_report()",
            "performance_report_html()",
            "index_report()",
            "explain_backfill('public.t', 'v = 2')",
            "enable_timestamps('public.t')",
            "enable_soft_delete('public.t')",
            "soft_delete('public.t', 'true')",
            "undelete('public.t', 'true')",
            "pause_all()",
            "resume_all()",
        ] {
            root.run(&format!("SELECT upkeep.{call}"))?;
        }
        let schedule = root.text("SELECT upkeep.schedule('every', '1 hour', 'SELECT 1')");
        assert!(schedule.is_ok(), "{schedule:?}");
        assert_eq!(caught(&mut dbo, "dbo")?, [""; 0], "by {set}");
        // The traps do work.
        root.run("SELECT 'x'::name")?;
        assert_eq!(caught(&mut dbo, "dbo")?.len(), 1);
    }
    Ok(())
}

/// A trigger that notes the settings that it finds, and a policy whose function is inlined: it finds `which()` by the path.
const RECORDER: &str = "
    SET check_function_bodies = off;
    CREATE SCHEMA app; CREATE SCHEMA extra;
    CREATE TABLE public.seen (verb text, path text, datestyle text, zone text, digits text, intervals text);
    GRANT INSERT, SELECT ON public.seen TO PUBLIC;
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO public.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('search_path'), current_setting('DateStyle'),
            current_setting('TimeZone'), current_setting('extra_float_digits'), current_setting('IntervalStyle'));
        RETURN coalesce(NEW, OLD);
    END$$;
    CREATE FUNCTION extra.which() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
    CREATE FUNCTION app.visible(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT which()';
    CREATE TABLE app.p (id int PRIMARY KEY, f float8 UNIQUE, v int);
    CREATE TABLE app.c (id int PRIMARY KEY, p int REFERENCES app.p ON DELETE CASCADE, v int);
    CREATE TABLE app.n (id float8 PRIMARY KEY, f float8 REFERENCES app.p (f) ON DELETE SET NULL, CHECK (app.visible(1)));
    CREATE TABLE app.s (id int PRIMARY KEY, v int, updated_at timestamptz);
    CREATE TRIGGER note BEFORE UPDATE OR DELETE OR INSERT ON app.p FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER note BEFORE UPDATE OR DELETE OR INSERT ON app.c FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER note BEFORE UPDATE OR DELETE OR INSERT ON app.n FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER note BEFORE UPDATE OR DELETE OR INSERT ON app.s FOR EACH ROW EXECUTE FUNCTION public.note();
    SELECT upkeep.enable_soft_delete('app.c'), upkeep.enable_soft_delete('app.p');
    SELECT upkeep.enable_timestamps('app.s');";

const MINE: &str =
    "SET search_path = extra, \"$user\", public; SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu';
                    SET extra_float_digits = -5; SET IntervalStyle = 'sql_standard'";

#[test]
fn triggers_policies_and_inlined_functions_find_the_callers_settings() -> Result<()> {
    let db = testing::database()?;
    let owner = db.role("owner")?;
    let mut admin = db.connect()?;
    let database = admin.text("SELECT quote_ident(current_database())")?;
    admin.run(&format!("GRANT CREATE ON DATABASE {database} TO {owner}; GRANT CREATE ON SCHEMA public TO {owner}"))?;
    let mut session = db.connect_as(&owner)?;
    session.run(RECORDER)?;
    session.run(
        "CREATE POLICY mine ON app.p USING (app.visible(id)); ALTER TABLE app.p ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY mine ON app.c USING (app.visible(id)); ALTER TABLE app.c ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )?;
    session.run(MINE)?;
    session.run(
        "INSERT INTO app.p SELECT g, g + 0.1 FROM generate_series(1, 9) g; INSERT INTO app.c SELECT g, g FROM generate_series(1, 9) g;
         INSERT INTO app.n SELECT f, f FROM app.p; INSERT INTO app.s VALUES (1)",
    )?;
    let verbs = [
        ("SELECT upkeep.soft_delete('app.p', 'id <= 2')", "c UPDATE,n UPDATE,p UPDATE"),
        ("SELECT upkeep.undelete(id) FROM upkeep.deletions", "c UPDATE,n UPDATE,p UPDATE"),
        ("DELETE FROM app.p_live WHERE id = 3", "c UPDATE,n UPDATE,p UPDATE"),
        ("SELECT upkeep.undelete('app.p', 'id = 3')", "p UPDATE"),
        ("UPDATE app.p SET deleted_at = now() WHERE id = 4", "c UPDATE,n UPDATE,p UPDATE"),
        ("INSERT INTO app.c VALUES (100, 5)", "c INSERT"),
        ("INSERT INTO app.s VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = 3", "s INSERT,s UPDATE"),
    ];
    let seen = "SELECT string_agg(DISTINCT verb, ',' ORDER BY verb) FROM public.seen";
    let others = "SELECT DISTINCT verb, path, datestyle, zone, digits, intervals FROM public.seen
                  WHERE (path, datestyle, zone, digits, intervals) IS DISTINCT FROM
                        ('extra, \"$user\", public', 'SQL, DMY', 'Asia/Kathmandu', '-5', 'sql_standard')";
    for (verb, expected) in verbs {
        session.run("DELETE FROM public.seen")?;
        session.run(verb)?;
        assert_eq!(session.text(seen)?, expected, "{verb}");
        assert_eq!(session.rows(others)?, [""; 0], "{verb}");
    }
    // DDL of his is text of his.
    session.run(
        "CREATE DOMAIN extra.level AS int; SELECT upkeep.alter_soft_deleted('app.c', 'ALTER TABLE app.c ADD COLUMN l level')",
    )?;
    // In a worker: those that were captured; what else there is has the server's own value.
    let others = others.replace("'-5'", "'1'");
    for (job, expected) in [
        ("upkeep.backfill('app.c', 'v = 1', 'v IS NULL')", "c UPDATE"),
        ("upkeep.backfill('app.s', 'v = 4')", "s UPDATE"),
        ("upkeep.purge_deleted('app.p', '0 seconds')", "c DELETE,p DELETE"),
    ] {
        session.run("DELETE FROM public.seen")?;
        if job.contains("purge") {
            // It does nothing where row security may hide something.
            session
                .run("ALTER TABLE app.p DISABLE ROW LEVEL SECURITY; ALTER TABLE app.c DISABLE ROW LEVEL SECURITY")?;
        }
        let job = session.text(&format!("SELECT {job}"))?;
        wait(&mut session, &job)?;
        assert_eq!(session.text(seen)?, expected, "{job}");
        assert_eq!(session.rows(&others)?, [""; 0], "{job}");
    }
    Ok(())
}

/// All settings of a session, as one value.
const ALL: &str = "SELECT md5(string_agg(name || '=' || setting, ',' ORDER BY name)) FROM pg_settings";

#[test]
fn the_sessions_settings_are_back_after_success_and_after_errors() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(SHOP)?;
    session.run(
        "CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF current_setting('upkeep_test.refuse', true) = TG_TABLE_NAME THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END$$;
         CREATE TRIGGER refuse BEFORE UPDATE ON shop.note FOR EACH ROW EXECUTE FUNCTION shop.refuse();
         CREATE TRIGGER refuse BEFORE UPDATE ON shop.visit FOR EACH ROW EXECUTE FUNCTION shop.refuse();
         CREATE TRIGGER refuse BEFORE UPDATE ON shop.bill FOR EACH ROW EXECUTE FUNCTION shop.refuse();
         SET search_path = shop, public; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape';
         SET extra_float_digits = 0; SET quote_all_identifiers = on; SET transform_null_equals = on; SET array_nulls = off;
         SET xmlbinary = 'hex'; SET xmloption = 'document'; SET standard_conforming_strings = off; SET TimeZone = 'America/St_Johns';
         SET upkeep_test.refuse = 'nothing'",
    )?;
    let before = session.text(ALL)?;
    let works = [
        "SELECT upkeep.soft_delete('customer', 'name = ''a''')",
        "SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE undeleted_at IS NULL",
        "DELETE FROM customer_live WHERE name = 'b'",
        "SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE undeleted_at IS NULL",
        "SELECT upkeep.explain_backfill('note', 'customer = NULL')",
        "SELECT upkeep.run_in_background('SELECT 1')",
        "SELECT upkeep.index_report()",
    ];
    for verb in works {
        session.run(verb)?;
        assert_eq!(session.text(ALL)?, before, "{verb}");
    }
    for (refuses, verb) in [
        ("note", "PERFORM upkeep.soft_delete('customer', 'name = ''a''')"),
        ("visit", "DELETE FROM customer_live WHERE name = 'b'"),
        ("bill", "PERFORM upkeep.soft_delete('customer', 'true')"),
        ("nothing", "PERFORM upkeep.undelete('00000000-0000-0000-0000-000000000009')"),
        ("nothing", "PERFORM upkeep.backfill('customer', 'nothing = 1')"),
        ("nothing", "PERFORM upkeep.enable_soft_delete('before')"),
    ] {
        session.run(&format!(
            "SET upkeep_test.refuse = '{refuses}';
             CREATE TEMP TABLE settings AS SELECT name, setting FROM pg_settings;
             DO $$BEGIN
                 BEGIN {verb}; RAISE EXCEPTION USING ERRCODE = 'ASSRT'; EXCEPTION
                     WHEN SQLSTATE 'ASSRT' THEN RAISE EXCEPTION 'it was to fail';
                     WHEN OTHERS THEN NULL;
                 END;
                 IF EXISTS (TABLE settings EXCEPT SELECT name, setting FROM pg_settings) THEN RAISE EXCEPTION 'settings are left'; END IF;
             END$$;
             DROP TABLE settings"
        ))?;
    }
    session.run("SET upkeep_test.refuse = 'nothing'")?;
    assert_eq!(session.text(ALL)?, before);
    Ok(())
}

/// Everything that ALTER DATABASE and ALTER ROLE can set, at an odd value; the text of a job meets the server's own.
#[test]
fn a_job_meets_nothing_that_alter_database_or_alter_role_have_set() -> Result<()> {
    let server = testing::server("door-settings")
        .preloaded()
        .set("work_mem", "5MB")
        .set("random_page_cost", "1.23456789")
        .set("upkeep_test.file", "of the server")
        .start()?;
    let mut admin = server.connect("postgres")?;
    admin.run("CREATE ROLE alice LOGIN")?;
    admin.run("CREATE DATABASE app OWNER alice")?;
    let mut owner = server.connect("app")?;
    owner.run(
        "CREATE EXTENSION pg_upkeep; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA upkeep TO alice; \
         GRANT SET ON PARAMETER work_mem TO alice",
    )?;
    let mut alice = server.connect_as("app", "alice")?;
    alice.run(
        "CREATE TABLE own AS SELECT name, setting FROM pg_settings;
         CREATE TABLE in_job (name text, setting text, source text)",
    )?;
    // Left out: what would be too slow, or is of one session only.
    let set = owner.text(
        r#"CREATE TEMP TABLE odd AS SELECT * FROM (
               SELECT name, CASE vartype
                   WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
                   WHEN 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v <> setting ORDER BY v LIMIT 1)
                   WHEN 'integer' THEN (CASE WHEN setting::bigint < max_val::bigint
                                             THEN setting::bigint + 1 ELSE setting::bigint - 1 END)::text
                   WHEN 'real' THEN (CASE WHEN setting::float8 < max_val::float8
                                          THEN (setting::float8 + max_val::float8) / 2 ELSE min_val::float8 END)::text
                   ELSE CASE name WHEN 'search_path' THEN 'pg_toast' WHEN 'DateStyle' THEN 'German' WHEN 'TimeZone' THEN 'Asia/Kathmandu'
                        WHEN 'lc_monetary' THEN 'C' WHEN 'lc_numeric' THEN 'C' WHEN 'client_encoding' THEN 'LATIN1'
                        WHEN 'default_text_search_config' THEN 'pg_catalog.german' WHEN 'temp_tablespaces' THEN '' END
                   END AS value, row_number() OVER (ORDER BY name) AS n
               FROM pg_settings WHERE context IN ('user', 'superuser') AND name <> 'debug_discard_caches') s WHERE value IS NOT NULL;
           DO $$DECLARE o record; BEGIN
               FOR o IN TABLE odd LOOP
                   BEGIN
                       EXECUTE format('ALTER %s SET %I = %L', CASE o.n % 4 WHEN 0 THEN 'DATABASE app' WHEN 1 THEN 'ROLE alice'
                           WHEN 2 THEN 'ROLE alice IN DATABASE app' ELSE 'ROLE ALL' END, o.name, o.value);
                   EXCEPTION WHEN OTHERS THEN DELETE FROM odd WHERE name = o.name; RAISE NOTICE '%: %', o.name, SQLERRM;
                   END;
               END LOOP;
           END$$;
           ALTER ROLE alice SET upkeep_test.custom = 'of the role'; ALTER DATABASE app SET upkeep_test.file = 'of the database';
           ALTER ROLE alice SET role = 'pg_monitor';
           SELECT count(*) FROM odd"#,
    )?;
    assert!(set.parse::<i32>()? > 150, "only {set} settings were set");
    let record = "INSERT INTO public.in_job SELECT name, setting, source FROM pg_catalog.pg_settings
                  UNION ALL SELECT 'upkeep_test.custom', current_setting('upkeep_test.custom', true), ''
                  UNION ALL SELECT 'upkeep_test.file', current_setting('upkeep_test.file', true), ''
                  UNION ALL SELECT 'current_user', current_user, ''";
    let job = run_in_background(&mut alice, record)?;
    wait(&mut alice, &job)?;
    let differing = alice.rows(
        "SELECT j.name, j.setting, j.source, o.setting AS own FROM in_job j JOIN own o USING (name)
         WHERE j.setting IS DISTINCT FROM o.setting ORDER BY 1",
    )?;
    let unexpected: Vec<_> = differing
        .iter()
        .filter(|line| !["client_min_messages|", "application_name|"].iter().any(|known| line.starts_with(known)))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let others = "SELECT string_agg(name || '=' || coalesce(setting, ''), ' ' ORDER BY name) FROM in_job
                  WHERE name LIKE 'upkeep_test.%' OR name = 'current_user'";
    assert_eq!(alice.text(others)?, "current_user=alice upkeep_test.custom= upkeep_test.file=of the server");
    // What its own text sets is gone with it.
    let steps = alice.text(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g FROM generate_series(1, 10) g;
         SELECT upkeep.backfill('t', 'v = length(set_config(''work_mem'', ''77MB'', false))', 'v IS NULL')",
    )?;
    wait(&mut alice, &steps)?;
    Ok(())
}
