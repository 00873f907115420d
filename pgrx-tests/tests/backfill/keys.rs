//! Keys of all types, on their way through text: bounds, rows put aside, rows that others have locked, references that soft
//! delete has cleared. Under settings that anybody can leave behind.

use anyhow::{Context, Result};
use upkeep_tests::cluster::PATIENCE;
use upkeep_tests::jobs::{describe, state, wait, wait_for_error, wait_until_nobody_works_on};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};
use upkeep_tests::wait::wait_for;

/// What ALTER DATABASE leaves to every session, workers included.
fn leave_settings_behind(db: &Database) -> Result<()> {
    db.connect()?.run(&format!(
        "ALTER DATABASE {0} SET extra_float_digits = -15; ALTER DATABASE {0} SET DateStyle = 'SQL, DMY';
         ALTER DATABASE {0} SET IntervalStyle = 'sql_standard'; ALTER DATABASE {0} SET bytea_output = 'escape';
         ALTER DATABASE {0} SET TimeZone = 'Asia/Kathmandu'; ALTER DATABASE {0} SET array_nulls = off;
         ALTER DATABASE {0} SET quote_all_identifiers = on",
        db.name
    ))
}

#[test]
fn no_float_is_skipped_under_an_inherited_setting() -> Result<()> {
    let db = testing::database()?;
    db.connect()?.run(&format!("ALTER DATABASE {} SET extra_float_digits = 0", db.name))?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE fl (k float8 PRIMARY KEY, v int NOT NULL DEFAULT 0);
         INSERT INTO fl VALUES (0.1), (0.2), (0.1::float8 + 0.2::float8)",
    )?;
    let job = session.text("SELECT upkeep.backfill('fl', 'v = v + 1')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows("SELECT rows_done, rows_left FROM upkeep.jobs")?, ["3|0"]);
    assert_eq!(session.rows("SELECT v, count(*) FROM fl GROUP BY v")?, ["1|3"]);

    let alice = db.role("alice")?;
    db.connect()?.run(&format!("ALTER ROLE {alice} SET extra_float_digits = -12"))?;
    let mut session = db.connect_as(&alice)?;
    session.run(
        "CREATE TABLE close (k float8 PRIMARY KEY, v int NOT NULL DEFAULT 0);
         INSERT INTO close SELECT 1 + n * 1e-9::float8 FROM generate_series(1, 100000) n",
    )?;
    let job = session.text("SELECT upkeep.backfill('close', 'v = v + 1', workers => 3)")?;
    wait(&mut session, &job)?;
    let done = format!("SELECT rows_done, rows_left FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.rows(&done)?, ["100000|0"]);
    assert_eq!(session.rows("SELECT v, count(*) FROM close GROUP BY v")?, ["1|100000"]);
    Ok(())
}

/// A table's name, the definition of its key, and a query that gives keys.
type Case = (&'static str, &'static str, &'static str);

const KEYS: &[Case] = &[
    (
        "float8",
        "k float8 PRIMARY KEY",
        "SELECT 1 + g * 1e-12::float8 FROM generate_series(1, 290) g UNION ALL SELECT unnest('{NaN,-0,Infinity,-Infinity}'::float8[])",
    ),
    (
        "float4",
        "k float4 PRIMARY KEY",
        "SELECT (g * 0.1)::float4 FROM generate_series(1, 290) g UNION ALL SELECT unnest('{NaN,-0,1e-45}'::float4[])",
    ),
    (
        "numeric",
        "k numeric PRIMARY KEY",
        "SELECT g / 7.0 FROM generate_series(1, 290) g UNION ALL SELECT unnest('{NaN,0.000,Infinity,1e40}'::numeric[])",
    ),
    ("amount", "k amount PRIMARY KEY", "SELECT g / 8.0 FROM generate_series(1, 290) g"),
    ("money", "k money PRIMARY KEY", "SELECT (g * 1.01)::numeric::money FROM generate_series(-5, 290) g"),
    ("int", "k int PRIMARY KEY", "SELECT g FROM generate_series(-145, 145) g"),
    ("bool_int", "b bool, k int2, PRIMARY KEY (b, k)", "SELECT g % 2 = 0, g FROM generate_series(-145, 145) g"),
    (
        "interval",
        "k interval PRIMARY KEY",
        "SELECT make_interval(mins => g * 43201) FROM generate_series(-145, 145) g UNION ALL SELECT unnest('{1 mon,-1 \
         days +2:00,-1 year 2 mons}'::interval[])",
    ),
    (
        "timestamptz",
        "k timestamptz PRIMARY KEY",
        "SELECT '2024-10-27 00:00:00+00'::timestamptz + g * interval '7 min 0.000001 s' FROM generate_series(1, 290) \
         g UNION ALL SELECT unnest('{infinity,-infinity,4713-01-01 00:00:00+00 BC}'::timestamptz[])",
    ),
    (
        "dates",
        "d date, t timestamp, z timetz, k time, PRIMARY KEY (d, t, z, k)",
        "SELECT date '2024-01-12' + g / 20, date '2024-12-01' + g % 5 * interval '1 s', '12:00+05:45'::timetz, \
         '00:00'::time + g * interval '1 us' FROM generate_series(1, 290) g",
    ),
    (
        "bytea",
        "k bytea PRIMARY KEY",
        r"SELECT decode(md5(g::text), 'hex') FROM generate_series(1, 290) g UNION ALL SELECT ''",
    ),
    (
        "text",
        "k text PRIMARY KEY",
        r#"SELECT E'a"{,}\\ ' || g || ' ü' FROM generate_series(1, 290) g
           UNION ALL SELECT unnest(ARRAY['', 'NULL', 'hex-text:00', 'hex-binary:'])"#,
    ),
    ("collated", "k text COLLATE ties PRIMARY KEY", "SELECT 'Key ' || g FROM generate_series(1, 290) g"),
    ("bpchar", "k char(8) PRIMARY KEY", "SELECT g::text FROM generate_series(1, 290) g UNION ALL SELECT ''"),
    ("name", "k name PRIMARY KEY", "SELECT 'n ' || g FROM generate_series(1, 290) g"),
    ("char", r#"k "char" PRIMARY KEY"#, r#"SELECT g::"char" FROM generate_series(-128, 127) g"#),
    ("uuid", "k uuid PRIMARY KEY", "SELECT md5(g::text)::uuid FROM generate_series(1, 290) g"),
    (
        "nets",
        "a inet, b cidr, c macaddr, k macaddr8, PRIMARY KEY (a, b, c, k)",
        "SELECT '10.0.0.0/8'::inet + g, '10.1.0.0/16'::cidr, '08:00:2b:01:02:03'::macaddr, \
         '08:00:2b:01:02:03:04:05'::macaddr8 FROM generate_series(1, 290) g",
    ),
    ("bit", "k bit(12) PRIMARY KEY", "SELECT g::bit(12) FROM generate_series(1, 290) g"),
    ("varbit", "k varbit PRIMARY KEY", "SELECT g::bit(12)::varbit FROM generate_series(1, 290) g UNION ALL SELECT B''"),
    (
        "numbers",
        "a oid, b xid8, c pg_lsn, k tid, PRIMARY KEY (a, b, c, k)",
        "SELECT g, g::text::xid8, '0/1'::pg_lsn + g, ('(1,' || g || ')')::tid FROM generate_series(1, 290) g",
    ),
    ("oidvector", "k oidvector PRIMARY KEY", "SELECT (g || ' 2')::oidvector FROM generate_series(1, 290) g"),
    (
        "regclass",
        "k regclass PRIMARY KEY",
        "SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'i', 'v') ORDER BY oid LIMIT 290",
    ),
    (
        "array",
        "k float8[] PRIMARY KEY",
        "SELECT ARRAY[g / 7.0, NULL, 'NaN'] FROM generate_series(1, 290) g UNION ALL SELECT '[5:6]={1,2}' UNION ALL SELECT '{}'",
    ),
    (
        "texts",
        "k text[] PRIMARY KEY",
        r#"SELECT ARRAY[g::text, NULL, 'NULL', 'a"b\'] FROM generate_series(1, 290) g UNION ALL SELECT '[5:6]={x,y}'"#,
    ),
    (
        "pair",
        "k pair PRIMARY KEY",
        "SELECT (g / 7.0, 1 + g * 1e-9, 'a,(\"', NULL)::pair FROM generate_series(1, 290) g",
    ),
    (
        "pairs",
        "k pairs PRIMARY KEY",
        "SELECT (1, NULL, g::text, make_interval(months => g))::pair FROM generate_series(1, 290) g",
    ),
    (
        "range",
        "k tstzrange PRIMARY KEY",
        "SELECT tstzrange('2024-01-12'::timestamptz + g * interval '1 h', NULL, '()') FROM generate_series(1, 290) g \
         UNION ALL SELECT 'empty'",
    ),
    (
        "multirange",
        "k int4multirange PRIMARY KEY",
        "SELECT int4multirange(int4range(g, g + 1), int4range(g + 5, NULL)) FROM generate_series(1, 290) g",
    ),
    ("enum", "k label PRIMARY KEY", "SELECT unnest(enum_range(NULL::label))"),
    (
        "jsonb",
        "k jsonb PRIMARY KEY",
        r#"SELECT jsonb_build_object('k', g / 7.0) FROM generate_series(1, 290) g
           UNION ALL SELECT unnest('{"\"x\"","null","\"null\"",5,"\"5\""}'::jsonb[]) WHERE true"#,
    ),
    ("tsvector", "k tsvector PRIMARY KEY", "SELECT ('''a b'':' || g)::tsvector FROM generate_series(1, 290) g"),
];

const CONTRIB: &[(&str, Case)] = &[
    ("citext", ("citext", "k citext PRIMARY KEY", "SELECT 'Key ' || g FROM generate_series(1, 290) g")),
    (
        "citext",
        ("mixed", "c citext, k int, PRIMARY KEY (c, k)", "SELECT 'Key ' || g / 20, g FROM generate_series(1, 290) g"),
    ),
    (
        "hstore",
        ("hstore", "k hstore PRIMARY KEY", "SELECT hstore('a b', g::text) || 'c=>NULL' FROM generate_series(1, 290) g"),
    ),
    ("ltree", ("ltree", "k ltree PRIMARY KEY", "SELECT ('top.n' || g)::ltree FROM generate_series(1, 290) g")),
    ("cube", ("cube", "k cube PRIMARY KEY", "SELECT cube(1 + g * 1e-12::float8) FROM generate_series(1, 290) g")),
    ("seg", ("seg", "k seg PRIMARY KEY", "SELECT (g || '.50 .. 999')::seg FROM generate_series(1, 290) g")),
    ("isn", ("isbn", "k issn PRIMARY KEY", "SELECT unnest('{1436-4522,0317-8471,1050-124X}'::issn[])")),
];

const OBJECTS: &str = r#"
    CREATE TYPE pair AS (n numeric, f float8, t text, i interval); CREATE DOMAIN pairs AS pair;
    CREATE DOMAIN amount AS numeric(10, 3) CHECK (VALUE > 0);
    DO $$BEGIN EXECUTE 'CREATE TYPE label AS ENUM (' ||
        (SELECT string_agg(quote_literal('label, "' || g || '"'), ', ') FROM generate_series(1, 290) g) || ')'; END$$"#;

/// One backfill for each type of key, with two workers: a row whose value is an error, and one that somebody has locked.
#[test]
fn every_row_is_done_once_whatever_its_key() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(OBJECTS)?;
    let mut cases: Vec<Case> = KEYS.to_vec();
    if session.run("CREATE COLLATION ties (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").is_err()
    {
        session.run("CREATE COLLATION ties (provider = libc, locale = 'C')")?;
    }
    for (extension, case) in CONTRIB {
        // Some servers have no contrib.
        if session.run(&format!("CREATE EXTENSION IF NOT EXISTS {extension}")).is_ok() {
            cases.push(*case);
        }
    }
    for (name, key, keys) in &cases {
        let table = format!("k_{name}");
        session
            .run(&format!(
                "CREATE TABLE {table} ({key}, v int NOT NULL DEFAULT 0, n int GENERATED ALWAYS AS IDENTITY, \
                 bad bool NOT NULL DEFAULT false);
                 INSERT INTO {table} {keys}; UPDATE {table} SET bad = true WHERE n = 2; ANALYZE {table}"
            ))
            .context(*name)?;
    }
    leave_settings_behind(&db)?;
    let mut session = db.connect()?;
    let mut holder = db.connect()?;
    let mut finished = Vec::new();
    // A few at a time: nobody waits for a locked row for ever.
    for cases in cases.chunks(6) {
        let mut jobs = Vec::new();
        holder.run("BEGIN")?;
        for (name, _, _) in cases {
            // Neither the first nor the last: rows in the middle of the key's order have a range on both sides.
            holder.run(&format!("UPDATE k_{name} SET v = v WHERE n = (SELECT count(*) / 2 FROM k_{name})"))?;
        }
        for (name, _, _) in cases {
            let job = session
                .text(&format!(
                    "SELECT upkeep.backfill('k_{name}', 'v = v + 1 / (NOT bad)::int', workers => 2,
                         options => '{{\"strides\": 2}}')"
                ))
                .context(*name)?;
            jobs.push((*name, job));
        }
        for (name, job) in &jobs {
            let remembered =
                format!("SELECT count(*) FROM upkeep._backfill_row WHERE job = '{job}' AND state = 'locked'");
            wait_for(&format!("the locked row of {name}"), PATIENCE, || {
                let state = state(&mut session, job)?;
                anyhow::ensure!(state != "failed", "{}", describe(&mut session, job));
                Ok((session.text(&remembered)? == "1").then_some(()))
            })?;
        }
        holder.run("COMMIT")?;
        for (name, job) in &jobs {
            wait(&mut session, job).context(*name)?;
            once_each(&mut session, name, job, 1)?;
            session.run(&format!("UPDATE k_{name} SET bad = false WHERE bad; SELECT upkeep.retry('{job}')"))?;
        }
        finished.extend(jobs);
    }
    for (name, job) in &finished {
        wait(&mut session, job).context(*name)?;
        once_each(&mut session, name, job, 0)?;
    }
    Ok(())
}

fn once_each(session: &mut Session, name: &str, job: &str, aside: i64) -> Result<()> {
    let found = session.rows(&format!("SELECT v, count(*) FROM k_{name} GROUP BY v ORDER BY v"))?;
    let rows: i64 = session.value(&format!("SELECT count(*) FROM k_{name}"))?;
    let mut wanted = vec![format!("1|{}", rows - aside)];
    if aside > 0 {
        wanted.insert(0, format!("0|{aside}"));
    }
    assert_eq!(found, wanted, "{name}: {}", describe(session, job));
    let left = format!("SELECT rows_left, quarantined FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.rows(&left)?, [format!("{aside}|{aside}")], "{name}");
    Ok(())
}

/// What version 0.5.0 has left of unfinished jobs is read as it was written: under the settings of the job.
#[test]
fn a_job_of_an_older_version_goes_on() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (k interval PRIMARY KEY, v int NOT NULL DEFAULT 0, bad bool NOT NULL DEFAULT false);
         INSERT INTO t SELECT make_interval(mins => g * 43201, secs => 0.5), 0, g = 7 FROM generate_series(-2000, 2000) g;
         CREATE TABLE pace AS SELECT 0.005 AS seconds; ANALYZE t;
         CREATE FUNCTION slowly(v int, bad bool) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(seconds) FROM pace; RETURN v + 1 / (NOT bad)::int; END$$;
         SET IntervalStyle = 'sql_standard'",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = slowly(v, bad)', workers => 2, batch_time => '10 ms')")?;
    let aside = format!("SELECT count(*) FROM upkeep.quarantined_rows WHERE job = '{job}'");
    let mut locker = db.connect()?;
    locker.run("BEGIN; UPDATE t SET bad = bad WHERE k = make_interval(mins => 9 * 43201, secs => 0.5)")?;
    wait_for_text(&mut session, &aside, "1").with_context(|| describe(&mut session, &job))?;
    let locked = "SELECT count(*) FROM upkeep._backfill_row WHERE state = 'locked'";
    wait_for_text(&mut session, locked, "1")?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    locker.run("COMMIT")?;
    // As 0.5.0 has it: in the style of the session, and with nothing that says so.
    let texts = "CASE WHEN b = '[]' THEN b ELSE jsonb_build_array((b ->> 0)::interval::text) END";
    session.run(&format!(
        "UPDATE upkeep._backfill_row SET exact = false, row_key = jsonb_build_object('k', (row_key ->> 'k')::interval::text);
         UPDATE upkeep._backfill_table SET shared = shared - 'exact' - 'order'
             || jsonb_build_object('after_key', (SELECT {texts} FROM (SELECT shared -> 'after_key') x (b)),
                                   'last_key', (SELECT {texts} FROM (SELECT shared -> 'last_key') x (b)));
         UPDATE upkeep._job_slot SET cursor = cursor - 'exact'
             || jsonb_build_object('bounds', (SELECT jsonb_agg({texts} ORDER BY o)
                                              FROM jsonb_array_elements(cursor -> 'bounds') WITH ORDINALITY x (b, o)))
         WHERE cursor ? 'bounds'; UPDATE pace SET seconds = 0"
    ))?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._backfill_row WHERE NOT exact")?, "2");
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")?, ["0|1", "1|4000"]);
    // Its key is written anew, and it is there once.
    assert_eq!(session.rows("SELECT count(*), bool_and(exact) FROM upkeep._backfill_row")?, ["1|t"]);
    session.run(&format!("UPDATE t SET bad = false; SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")?, ["1|4001"]);
    Ok(())
}

/// Bounds of one order mean nothing in another: better no backfill than one that leaves rows out.
#[test]
fn a_key_that_gets_another_order_ends_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    for change in ["TYPE int USING k::int", "TYPE text COLLATE \"C\""] {
        session.run(
            "DROP TABLE IF EXISTS t, pace; CREATE TABLE pace AS SELECT 0.002 AS seconds;
             CREATE TABLE t (k text COLLATE \"POSIX\" PRIMARY KEY, v int NOT NULL DEFAULT 0);
             INSERT INTO t SELECT g, 0 FROM generate_series(1, 5000) g; ANALYZE t;
             CREATE OR REPLACE FUNCTION slowly(v int) RETURNS int LANGUAGE plpgsql AS
             $$BEGIN PERFORM pg_sleep(seconds) FROM pace; RETURN v + 1; END$$",
        )?;
        let job = session.text("SELECT upkeep.backfill('t', 'v = slowly(v)', batch_time => '10 ms')")?;
        wait_for_text(&mut session, &format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
        session.run(&format!("SELECT upkeep.pause('{job}')"))?;
        wait_until_nobody_works_on(&mut session, &job)?;
        session.run(&format!(
            "ALTER TABLE t ALTER k {change}; UPDATE pace SET seconds = 0; SELECT upkeep.resume('{job}')"
        ))?;
        let error = wait_for_error(&mut session, &job)?;
        let detail = error.detail().unwrap_or_default();
        assert!(error.message().contains("another order"), "{}: {detail}", error.message());
        assert_eq!(session.text("SELECT max(v) FROM t")?, "1");
    }
    Ok(())
}

/// Characters that UTF-8 does not have, or bytes of which nobody knows what they mean.
#[test]
fn keys_in_other_encodings() -> Result<()> {
    let server = testing::server("encodings").preloaded().start()?;
    for (name, encoding, odd) in [("latin", "LATIN1", "E'\\344 \\265 '"), ("bytes", "SQL_ASCII", "E'\\344 \\377 '")] {
        server
            .connect("postgres")?
            .run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))?;
        let mut session = server.connect(name)?;
        session.run(&format!(
            "CREATE EXTENSION pg_upkeep;
             CREATE TABLE t (k text PRIMARY KEY, v int NOT NULL DEFAULT 0, bad bool NOT NULL DEFAULT false);
             INSERT INTO t SELECT {odd} || g, 0, g = 7 FROM generate_series(1, 500) g;
             CREATE TABLE p (k text PRIMARY KEY); INSERT INTO p SELECT k FROM t;
             CREATE TABLE c (k text PRIMARY KEY, p text REFERENCES p ON DELETE SET NULL); INSERT INTO c SELECT k, k FROM p;
             SELECT upkeep.enable_soft_delete('p')"
        ))?;
        let job = session.text("SELECT upkeep.backfill('t', 'v = v + 1 / (NOT bad)::int', workers => 2)")?;
        wait(&mut session, &job)?;
        assert_eq!(session.rows("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")?, ["0|1", "1|499"], "{name}");
        session.run(&format!("UPDATE t SET bad = false; SELECT upkeep.retry('{job}')"))?;
        wait(&mut session, &job)?;
        assert_eq!(session.rows("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")?, ["1|500"], "{name}");
        session.run("DELETE FROM p_live")?;
        assert_eq!(session.text("SELECT count(p) FROM c")?, "0", "{name}");
        session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
        assert_eq!(session.text("SELECT count(*) FROM c WHERE p = k")?, "500", "{name}");
    }
    Ok(())
}

/// Tables whose references soft delete clears: by the type of the child's key and by that of the reference.
const REFERENCES: &str = r#"
    CREATE TYPE pair AS (n numeric, f float8, t text, i interval); CREATE DOMAIN pairs AS pair;
    CREATE TYPE mood AS ENUM ('sad', 'so, so');
    CREATE TABLE p (f float8 PRIMARY KEY, n numeric UNIQUE, i interval UNIQUE, z timestamptz UNIQUE, b bytea UNIQUE,
                    r tstzrange UNIQUE, j jsonb UNIQUE, e mood UNIQUE, m money UNIQUE, c bpchar UNIQUE);
    INSERT INTO p VALUES ('-0', 1.00, '1 mon', '2024-10-27 00:30:00+00', '\x00ff', '[2024-01-12,2024-12-01)',
                          '"5"', 'sad', 1234.5::numeric::money, 'a '),
                         (0.1::float8 + 0.2::float8, 'NaN', '-1 days -2:00', 'infinity', '', 'empty',
                          '5', 'so, so', 0.1::numeric::money, ''),
                         (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    -- Equal to what they reference, but not the same.
    CREATE TABLE one (k pair PRIMARY KEY, f float8 REFERENCES p (f) ON DELETE SET NULL, n numeric REFERENCES p (n) ON DELETE SET NULL,
                      i interval REFERENCES p (i) ON DELETE SET NULL, z timestamptz REFERENCES p (z) ON DELETE SET NULL,
                      b bytea REFERENCES p (b) ON DELETE SET NULL);
    INSERT INTO one VALUES ((1.0, 'NaN', 'a,"(', '1 mon'), '0', 1.0, '30 days', '2024-10-27 00:30:00+00', '\x00ff'),
                           ((NULL, 0.1, NULL, '30 days'), 0.1::float8 + 0.2::float8, 'NaN', '-26:00', 'infinity', '');
    CREATE TABLE two (k float8[] PRIMARY KEY, r tstzrange REFERENCES p (r) ON DELETE SET NULL, j jsonb REFERENCES p (j) ON DELETE SET NULL,
                      e mood REFERENCES p (e) ON DELETE SET NULL, m money REFERENCES p (m) ON DELETE SET NULL,
                      c bpchar REFERENCES p (c) ON DELETE SET NULL);
    INSERT INTO two VALUES ('[5:6]={NaN,1e-300}', '[2024-01-12,2024-12-01)', '"5"', 'sad', 1234.5::numeric::money, 'a   '),
                           (ARRAY[NULL, 0.1::float8 + 0.2::float8], 'empty', '5', 'so, so', 0.1::numeric::money, ' ');
    CREATE TABLE three (a int4range, b bytea, c numeric, d timestamptz, e interval, f pairs, PRIMARY KEY (a, b, c, d, e, f),
                        p float8 DEFAULT 5 REFERENCES p ON DELETE SET DEFAULT);
    INSERT INTO three SELECT '[1,5)', '\x00ff5c', 1.000, '2024-10-27 01:30:00+00', '1 mon', (1.0, g, NULL, NULL)::pair,
                             0.1::float8 + 0.2::float8
    FROM generate_series(1, 50) g;
    CREATE TABLE before_one AS TABLE one; CREATE TABLE before_two AS TABLE two; CREATE TABLE before_three AS TABLE three"#;

/// To the last bit.
fn restored(session: &mut Session) -> Result<()> {
    for table in ["one", "two", "three"] {
        let lost = format!(
            "SELECT * FROM before_{table} was WHERE NOT EXISTS (SELECT FROM {table} is_ WHERE was OPERATOR(pg_catalog.*=) is_)"
        );
        assert_eq!(session.rows(&lost)?, [""; 0], "{table}: {:?}", session.rows(&format!("TABLE {table}"))?);
        let counts = format!("SELECT (SELECT count(*) FROM before_{table}) - (SELECT count(*) FROM {table})");
        assert_eq!(session.text(&counts)?, "0", "{table}");
    }
    Ok(())
}

#[test]
fn cleared_references_come_back_to_the_last_bit() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(REFERENCES)?;
    session.run("SELECT upkeep.enable_soft_delete('p')")?;
    // Triggers see the settings of whoever deletes or brings back, not ours.
    session.run(
        "CREATE TABLE seen (path text, settings text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO public.seen VALUES (current_setting('search_path'), current_setting('IntervalStyle') \
         || current_setting('extra_float_digits')
             || current_setting('bytea_output') || current_setting('lc_monetary') || current_setting('DateStyle')); RETURN NEW; END$$;
         CREATE TRIGGER look BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION look();
         CREATE SCHEMA traps; CREATE DOMAIN traps.numeric AS text; CREATE DOMAIN traps.float8 AS text; \
         CREATE DOMAIN traps.interval AS text;
         CREATE DOMAIN traps._float8 AS text; CREATE DOMAIN traps.text AS pg_catalog.text CHECK (false)",
    )?;
    let mine = "SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -15;
                SET array_nulls = off; SET TimeZone = 'Asia/Kathmandu'";
    for _ in 0..2 {
        session.run(mine)?;
        session.run("SET search_path = traps, pg_catalog, public; SELECT upkeep.soft_delete('p', 'f <> 5')")?;
        assert_eq!(
            session.rows(
                "SELECT (SELECT count(f) + count(n) + count(i) + count(z) + count(b) \
                 FROM one), (SELECT count(j) FROM two)"
            )?,
            ["0|0"]
        );
        assert_eq!(session.rows("SELECT DISTINCT p FROM three")?, ["5"]);
        session.run(
            "SET search_path = traps, pg_catalog, public; SELECT upkeep.undelete(id) FROM upkeep.deletions \
             WHERE undeleted_at IS NULL",
        )?;
        assert_eq!(
            session.rows("SELECT DISTINCT path, settings FROM seen")?,
            ["traps, pg_catalog, public|sql_standard-15escapeCSQL, DMY"]
                .map(|text| text.replace("escapeC", &format!("escape{}", session_locale(&db))))
        );
        session.run("RESET ALL")?;
        restored(&mut session)?;
    }
    // What somebody has changed since stays.
    session.run("SELECT upkeep.soft_delete('p', 'f <> 5'); UPDATE one SET f = 5")?;
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE undeleted_at IS NULL")?;
    assert_eq!(session.rows("SELECT f, i IS NULL FROM one")?, ["5|f", "5|f"]);
    Ok(())
}

fn session_locale(db: &Database) -> String {
    db.connect().and_then(|mut session| session.text("SHOW lc_monetary")).unwrap_or_default()
}

/// What 0.5.0 has written of cleared references: values as jsonb makes them.
#[test]
fn references_that_an_older_version_has_cleared_come_back() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        r#"CREATE TABLE p (f float8 PRIMARY KEY, i interval UNIQUE, j jsonb UNIQUE, z timestamptz UNIQUE, t text UNIQUE);
           INSERT INTO p VALUES (0.1::float8 + 0.2::float8, '-1 days -2:00', '"5"', '2024-10-27 00:30:00+00', 'hex-text:zz'),
                                 (5, NULL, NULL, NULL, NULL);
           CREATE TABLE c (k numeric, kj jsonb, kt text, PRIMARY KEY (k, kj, kt),
                            f float8 DEFAULT 5 REFERENCES p (f) ON DELETE SET DEFAULT,
                           i interval REFERENCES p (i) ON DELETE SET NULL, j jsonb REFERENCES p (j) ON DELETE SET NULL,
                           z timestamptz REFERENCES p (z) ON DELETE SET NULL, t text REFERENCES p (t) ON DELETE SET NULL);
           INSERT INTO c SELECT 1.00, '"5"', 'hex-binary:', p.* FROM p WHERE f <> 5; CREATE TABLE before AS TABLE c;
           SELECT upkeep.enable_soft_delete('p'); SELECT upkeep.soft_delete('p', 'f <> 5')"#,
    )?;
    assert_eq!(session.text("SELECT num_nulls(i, j, z, t) FROM c WHERE f = 5")?, "4");
    session.run(
        r#"UPDATE upkeep._deletion_cleared d SET exact = false, key = jsonb_build_array(1.00, '"5"'::jsonb, 'hex-binary:'),
               old_values = CASE columns[1] WHEN 'f' THEN jsonb_build_array(p.f) WHEN 'i' THEN jsonb_build_array(p.i)
                   WHEN 'j' THEN jsonb_build_array(p.j::text) WHEN 'z' THEN jsonb_build_array(p.z) ELSE jsonb_build_array(p.t) END,
               new_values = CASE columns[1] WHEN 'f' THEN '[5]' ELSE '[null]' END::jsonb
           FROM p WHERE p.f <> 5"#,
    )?;
    session.run(
        "SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kathmandu'; \
         SELECT upkeep.undelete(id) FROM upkeep.deletions; RESET ALL",
    )?;
    assert_eq!(
        session.rows("SELECT * FROM c, before b WHERE c *= b")?.len(),
        1,
        "{:?}",
        session.rows("TABLE c UNION ALL TABLE before")?
    );
    Ok(())
}

/// Between the look at a range and the locks on its rows somebody writes a key anew: equal, but not the same.
#[test]
fn a_row_is_not_done_twice_under_an_equal_key() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let alice = db.role("alice")?;
    session.run(&format!(
        "CREATE TABLE go (); CREATE SEQUENCE failed; CREATE SEQUENCE looked;
         CREATE TABLE t (k numeric PRIMARY KEY, v int NOT NULL DEFAULT 0, bad bool NOT NULL DEFAULT false);
         INSERT INTO t SELECT g, 0, g = 7 FROM generate_series(1, 9) g;
         CREATE FUNCTION step(v int, bad bool) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
         $$BEGIN IF bad THEN RETURN 1 / (0 * nextval('failed')); END IF; RETURN v + 1; END$$;
         CREATE FUNCTION gate(k numeric) RETURNS bool LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
         $$BEGIN
             IF k = 5 AND (SELECT is_called FROM failed) AND nextval('looked') = 1 THEN
                 WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP;
             END IF;
             RETURN true;
         END$$;
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (gate(k));
         GRANT SELECT, UPDATE ON t TO {alice}; ANALYZE t"
    ))?;
    let mut asking = db.connect_as(&alice)?;
    let job = asking.text("SELECT upkeep.backfill('t', 'v = step(v, bad)')")?;
    // The UPDATE has failed with another row, and the look that follows is at this one.
    wait_for_text(&mut session, "SELECT is_called FROM looked", "t")?;
    session.run("UPDATE t SET k = 5.00 WHERE k = 5; INSERT INTO go DEFAULT VALUES")?;
    wait(&mut asking, &job)?;
    assert_eq!(session.rows("SELECT k, v FROM t WHERE v <> 1")?, ["7|0"]);
    assert_eq!(session.rows("SELECT rows_left, quarantined FROM upkeep.jobs")?, ["1|1"]);
    Ok(())
}
