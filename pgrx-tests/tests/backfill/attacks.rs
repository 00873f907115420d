//! Attacks on `upkeep.backfill`: what others do to the table meanwhile, and what the texts try to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upkeep_tests::citus;
use upkeep_tests::cluster::PATIENCE;
use upkeep_tests::jobs::{
    describe, events, executors_of, join, run_in_background, sqlstate, state, wait, wait_for_error, wait_for_state,
    wait_until_asleep, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};
use upkeep_tests::wait::{wait_for, wait_until};

/// Rows of the table that [`slow_backfill`] works on.
const ROWS: i64 = 20_000;

const SLOW: &str = "CREATE OR REPLACE FUNCTION plus_one(n int) RETURNS int LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(0.0005); RETURN coalesce(n, 0) + 1; END'";
const FAST: &str = "CREATE OR REPLACE FUNCTION plus_one(n int) RETURNS int LANGUAGE plpgsql AS
                    'BEGIN RETURN coalesce(n, 0) + 1; END'";

/// How a table is filled: each row once by its key, or those that still need it, by blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    ByKey,
    ByBlocks,
}

/// A backfill in the middle of its work on the new table `t`. It gets quick with [`FAST`].
fn slow_backfill(session: &mut Session, how: How, workers: i32) -> Result<String> {
    let start = if how == How::ByKey { "0" } else { "NULL" };
    session.run(SLOW)?;
    session.run(&format!(
        "CREATE TABLE t (id int CONSTRAINT t_key PRIMARY KEY, n int, other int DEFAULT 0);
         INSERT INTO t SELECT g, {start} FROM generate_series(1, {ROWS}) g"
    ))?;
    session.run("VACUUM ANALYZE t")?;
    let condition = match how {
        How::ByKey => "",
        How::ByBlocks => ", 'n IS NULL', options => '{\"strategy\": \"blocks\"}'",
    };
    let job = session.text(&format!(
        "SELECT upkeep.backfill('t', 'n = plus_one(n)' {condition}, workers => {workers}, batch_time => '20 ms')"
    ))?;
    wait_until_under_way(session, &job)?;
    Ok(job)
}

fn wait_until_under_way(session: &mut Session, job: &str) -> Result<()> {
    let look = format!("SELECT rows_done > 0 AND finished_at IS NULL FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(session, &look, "t").with_context(|| describe(session, job))
}

/// Every row was touched exactly once.
fn assert_once_each(session: &mut Session, job: &str) -> Result<()> {
    wait(session, job)?;
    assert_eq!(
        session.rows("SELECT n, count(*) FROM t GROUP BY n")?,
        [format!("1|{ROWS}")],
        "{}",
        describe(session, job)
    );
    Ok(())
}

fn job_field(session: &mut Session, job: &str, field: &str) -> Result<String> {
    session.text(&format!("SELECT {field} FROM upkeep.jobs WHERE id = '{job}'"))
}

#[test]
fn no_row_is_done_twice_while_others_update_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, other int DEFAULT 0)")?;
    session.run(&format!("INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g"))?;
    session.run(SLOW)?;
    // Short transactions everywhere, some of them longer than a batch waits for a lock.
    let stop = Arc::new(AtomicBool::new(false));
    let neighbours: Vec<_> = (0..3)
        .map(|number| {
            let (stop, mut session) = (Arc::clone(&stop), db.connect()?);
            let busy = format!(
                "BEGIN; UPDATE t SET other = other + 1
                         WHERE id IN (SELECT 1 + (random() * {ROWS})::int FROM generate_series(1, 40));
                 SELECT pg_sleep(CASE WHEN random() < 0.3 THEN 0.3 ELSE 0.002 END); COMMIT"
            );
            Ok(thread::spawn(move || -> Result<u64> {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Neighbours may deadlock with each other, never with us.
                    match session.run(&busy) {
                        Ok(()) => done += 1,
                        Err(error) if format!("{error:#}").contains("40P01") => session.run("ROLLBACK")?,
                        Err(error) => return Err(error.context(format!("neighbour {number}"))),
                    }
                }
                Ok(done)
            }))
        })
        .collect::<Result<_>>()?;
    // However quick the workers are, one row is in their way.
    let mut holder = db.connect()?;
    holder.run(&format!("BEGIN; UPDATE t SET other = 0 WHERE id = {}", ROWS / 2))?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = plus_one(n)', workers => 2, batch_time => '50 ms')")?;
    let locked = format!("SELECT count(*) > 0 FROM upkeep.job_events WHERE job = '{job}' AND event = 'locked rows'");
    let met = wait_for_text(&mut session, &locked, "t").with_context(|| describe(&mut session, &job));
    holder.run("COMMIT")?;
    let ended = wait(&mut session, &job);
    stop.store(true, Ordering::Relaxed);
    for neighbour in neighbours {
        assert!(join(neighbour)?? > 0);
    }
    met?;
    ended?;
    let counts = session.rows("SELECT n, count(*) FROM t GROUP BY n ORDER BY n")?;
    assert_eq!(counts, [format!("1|{ROWS}")], "{}", describe(&mut session, &job));
    Ok(())
}

/// Batches so short that they are over before the wait for a lock is: the row is left out all the same.
#[test]
fn a_locked_row_does_not_stop_short_batches() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT g, 0 FROM generate_series(1, 400) g",
    )?;
    session.run(SLOW)?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; UPDATE t SET n = n WHERE id IN (5, 205, 206, 395)")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = plus_one(n)', batch_time => '10 ms')")?;
    let done = wait_for_text(&mut session, "SELECT count(*) FROM t WHERE n = 1", "396");
    let done = done.with_context(|| describe(&mut session, &job));
    holder.run("COMMIT")?;
    done?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows("SELECT n, count(*) FROM t GROUP BY n")?, ["1|400"]);
    Ok(())
}

#[test]
fn any_unique_key_will_do() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let tables = [
        ("a_bigint", "id bigint PRIMARY KEY", "g * 1000000007::bigint % 999999999999"),
        ("a_uuid", "id uuid PRIMARY KEY", "gen_random_uuid()"),
        (
            "a_text",
            "id text PRIMARY KEY",
            "md5(g::text) || CASE g % 3 WHEN 0 THEN '''' WHEN 1 THEN E'\\\\' ELSE '\"ü' END",
        ),
        ("a_cased_text", "id text COLLATE \"C\" UNIQUE NOT NULL", "CASE g % 2 WHEN 0 THEN 'a' ELSE 'A' END || g"),
        ("a_time", "id timestamptz PRIMARY KEY", "'2000-01-01 UTC'::timestamptz + g * interval '1.000001 s'"),
        ("a_numeric", "id numeric PRIMARY KEY", "g / 7.0"),
        (
            "a_float",
            "id float8 PRIMARY KEY",
            "CASE g WHEN 1 THEN 'NaN' WHEN 2 THEN 'infinity' WHEN 3 THEN '-0' ELSE g / 7.0::float8 END",
        ),
        ("a_bytea", "id bytea PRIMARY KEY", "decode(md5(g::text), 'hex')"),
        (
            "an_enum",
            "id mood, part int, PRIMARY KEY (part, id)",
            "CASE g % 2 WHEN 0 THEN 'happy' ELSE 'sad' END::mood, g / 2",
        ),
        ("composite", "a int, id text, c uuid, PRIMARY KEY (a, id, c)", "g % 7, (g % 5)::text, gen_random_uuid()"),
        ("descending", "a int NOT NULL, id int NOT NULL, UNIQUE (id)", "g, -g"),
        ("downwards", "id int NOT NULL", "g"),
    ];
    session.run("CREATE TYPE mood AS ENUM ('sad', 'happy')")?;
    let mut jobs = Vec::new();
    for (table, columns, values) in tables {
        session.run(&format!("CREATE TABLE {table} ({columns}, n int DEFAULT 0)"))?;
        if table == "downwards" {
            session.run("CREATE UNIQUE INDEX ON downwards (id DESC NULLS FIRST)")?;
        }
        session.run(&format!("INSERT INTO {table} SELECT {values} FROM generate_series(1, 3000) g"))?;
        jobs.push(session.text(&format!("SELECT upkeep.backfill('{table}', 'n = n + 1', workers => 2)"))?);
    }
    for ((table, ..), job) in tables.iter().zip(jobs) {
        wait(&mut session, &job).context(*table)?;
        assert_eq!(session.rows(&format!("SELECT n, count(*) FROM {table} GROUP BY n"))?, ["1|3000"], "{table}");
    }
    Ok(())
}

#[test]
fn names_are_quoted_and_texts_stay_texts() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        r#"CREATE SCHEMA "Sch""ema; --";
           CREATE TABLE "Sch""ema; --"."we""ird; DROP TABLE x" ("select; ""key""" int PRIMARY KEY, "co""l; --" text, "$1" int);
           INSERT INTO "Sch""ema; --"."we""ird; DROP TABLE x" SELECT g FROM generate_series(1, 500) g;
           CREATE TABLE x ();
           CREATE TABLE "$$" ("Group" int PRIMARY KEY, "%s" text, "{}" int);
           INSERT INTO "$$" SELECT g FROM generate_series(1, 500) g"#,
    )?;
    let weird = r#""Sch""ema; --"."we""ird; DROP TABLE x""#;
    for (table, assignments, condition) in [
        (weird, r#""co""l; --" = 'it''s; "$1" -- %s'"#, Some(r#""co""l; --" IS NULL -- really"#)),
        (weird, r#""$1" = "select; ""key""" /* */"#, None),
        (r#""$$""#, r#""%s" = E'\\', "{}" = "Group" -- all"#, Some(r#""{}" IS NULL /* none */"#)),
        (r#""$$""#, r#""{}" = "{}" + 1"#, None),
    ] {
        let condition = condition.map_or_else(|| "NULL".to_owned(), |text| format!("$c${text}$c$"));
        let name = r#"'; DROP TABLE x; --"#.replace('\'', "''");
        let job = session.text(&format!(
            "SELECT upkeep.backfill($t${table}$t$, $a${assignments}$a$, {condition}, name => '{name}')"
        ))?;
        wait(&mut session, &job).with_context(|| format!("{table}: {assignments}"))?;
    }
    let filled =
        format!(r#"SELECT count(*) FROM {weird} WHERE "co""l; --" = 'it''s; "$1" -- %s' AND "$1" = "select; ""key""""#);
    assert_eq!(session.text(&filled)?, "500");
    assert_eq!(session.text(r#"SELECT count(*) FROM "$$" WHERE "%s" = '\' AND "{}" = "Group" + 1"#)?, "500");
    assert_eq!(session.text("SELECT to_regclass('x') IS NOT NULL")?, "t");
    Ok(())
}

/// LAW 21: glued together, each of these would do something else than it says.
#[test]
fn a_fragment_cannot_be_more_than_it_is() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, m int, g int GENERATED ALWAYS AS (1) STORED, i int GENERATED ALWAYS AS IDENTITY);
         INSERT INTO t SELECT g FROM generate_series(1, 10) g; CREATE TABLE x (n int)",
    )?;
    for (assignments, condition, code) in [
        ("", "n IS NULL", "22023"),
        ("n", "n IS NULL", "42601"),
        ("n = 1 WHERE true", "n IS NULL", "42601"),
        ("n = 1 FROM x", "n IS NULL", "42601"),
        ("n = 1 RETURNING n", "n IS NULL", "42601"),
        ("n = 1; DROP TABLE x", "n IS NULL", "42601"),
        ("n = 1 /*", "n IS NULL", "42601"),
        ("n = 1, ", "n IS NULL", "42601"),
        ("n = (1", "n IS NULL", "42601"),
        ("n = 1)", "n IS NULL", "42601"),
        ("n = 'x", "n IS NULL", "42601"),
        ("n = 1", "", "22023"),
        ("n = 1", "n IS NULL; DROP TABLE x", "42601"),
        ("n = 1", "n IS NULL) OR (true", "42601"),
        ("n = 1", "n IS NULL RETURNING n", "42601"),
        ("n = 1", "n IS NULL ORDER BY n", "42601"),
        ("n = 1", "n IS NULL FOR UPDATE", "42601"),
        ("n = 1", "n IS NULL UNION SELECT 1", "42601"),
        ("n = 1", "/* n IS NULL", "42601"),
        ("n = 1", "n = 'x'", "22P02"),
        ("n = 1", "n", "42804"),
        ("n = 1", "count(*) > 0", "42803"),
        ("n = count(*)", "n IS NULL", "42803"),
        ("n = missing", "n IS NULL", "42703"),
        ("missing = 1", "n IS NULL", "42703"),
        ("n = missing()", "n IS NULL", "42883"),
        ("n = 1, n = 2", "n IS NULL", "42601"),
        ("n = 'x'", "n IS NULL", "22P02"),
        ("g = 1", "n IS NULL", "428C9"),
        ("i = 1", "n IS NULL", "428C9"),
        ("ctid = '(0,1)'", "n IS NULL", "0A000"),
        ("n = $1", "n IS NULL", "42P02"),
        ("id = id + 1", "n IS NULL", "0A000"),
        ("n = 1", "n IS NULL AND $1", "42P02"),
    ] {
        let call = format!("upkeep.backfill('t', $a${assignments}$a$, $c${condition}$c$)");
        let error = session.error(&format!("SELECT {call}")).with_context(|| call.clone())?;
        assert_eq!(error.code().code(), code, "{call}: {error:?}");
        let explain = call.replacen("backfill", "explain_backfill", 1);
        assert_eq!(sqlstate(&mut session, &format!("SELECT * FROM {explain}"))?, code, "{explain}");
    }
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    assert_eq!(session.text("SELECT to_regclass('x') IS NOT NULL")?, "t");

    // A comment at the end swallows nothing.
    session.run("UPDATE t SET n = 7 WHERE id <= 5")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = 5 --', 'n IS NULL --')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows("SELECT n, count(*) FROM t GROUP BY n ORDER BY n")?, ["5|5", "7|5"]);
    Ok(())
}

#[test]
fn an_error_points_into_the_text_it_is_in() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int)")?;
    for (assignments, condition, text, at) in [
        ("n = wrong", "n IS NULL", "n = wrong", 5),
        ("n = 1", "n IS NULL AND wrong", "n IS NULL AND wrong", 15),
        ("n = 1 1", "n IS NULL", "n = 1 1", 7),
    ] {
        let error = session.error(&format!("SELECT upkeep.backfill('t', '{assignments}', '{condition}')"))?;
        let Some(postgres::error::ErrorPosition::Internal { position, query }) = error.position() else {
            anyhow::bail!("no position inside a text of the user's: {error:?}");
        };
        assert_eq!((query.trim(), *position), (text, at), "{error:?}");
    }
    Ok(())
}

#[test]
fn not_everything_is_a_table_to_be_backfilled() -> Result<()> {
    let db = testing::database_without_preload()?;
    let (owner, other) = (db.role("owner")?, db.role("other")?);
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE base (id int PRIMARY KEY, n int);
         CREATE VIEW a_view AS SELECT * FROM base;
         CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM base;
         CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;
         CREATE FOREIGN TABLE a_foreign_table (id int, n int) SERVER s;
         CREATE TABLE partitioned (id int, n int) PARTITION BY RANGE ((n % 7));
         CREATE TABLE parent (id int PRIMARY KEY, n int);
         CREATE FOREIGN TABLE child () INHERITS (parent) SERVER s;
         CREATE SEQUENCE a_sequence;
         CREATE TABLE keyless (n int);
         CREATE TABLE nullable_key (id int UNIQUE, n int);
         CREATE TABLE partial_key (id int NOT NULL, n int); CREATE UNIQUE INDEX ON partial_key (id) WHERE n > 0;
         CREATE TABLE deferred_key (id int PRIMARY KEY DEFERRABLE, n int)",
    )?;
    session.run("CREATE TEMP TABLE a_temp (id int PRIMARY KEY, n int)")?;
    for (target, code) in [
        ("'a_view'", "42809"),
        ("'a_matview'", "42809"),
        ("'a_foreign_table'", "42809"),
        ("'base_pkey'", "42809"),
        ("'a_sequence'", "42809"),
        ("'partitioned'", "0A000"),
        ("'parent'", "0A000"),
        ("'a_temp'", "0A000"),
        ("'pg_class'", "42501"),
        ("'pg_catalog.pg_authid'", "42501"),
        ("'upkeep._job'", "42501"),
        ("'keyless'", "55000"),
        ("'nullable_key'", "55000"),
        ("'partial_key'", "55000"),
        ("'deferred_key'", "55000"),
        ("'nowhere'", "42P01"),
        ("4000000000::oid", "42P01"),
    ] {
        let call = format!("SELECT upkeep.backfill({target}, 'n = 1')");
        let error = session.error(&call)?;
        assert_eq!(error.code().code(), code, "{call}: {error:?}");
        assert!(error.hint().is_some() || code == "42P01", "{call}: {error:?}");
    }
    assert!(["22004", "22023"].contains(&&*sqlstate(&mut session, "SELECT upkeep.backfill(NULL, 'n = 1')")?));
    assert!(["22004", "42601"].contains(&&*sqlstate(&mut session, "SELECT upkeep.backfill('base', NULL)")?));

    // Other people's tables: each right that the texts need, and no more.
    session.run(&format!("ALTER TABLE base OWNER TO {owner}"))?;
    let call = "SELECT upkeep.backfill('base', 'n = id', 'n IS NULL', name => 'mine')";
    let mut stranger = db.connect_as(&other)?;
    assert_eq!(sqlstate(&mut stranger, call)?, "42501");
    session.run(&format!("GRANT SELECT ON base TO {other}"))?;
    let error = stranger.error(call)?;
    assert_eq!(error.code().code(), "42501");
    assert!(error.hint().unwrap_or_default().contains("GRANT"), "{error:?}");
    session.run(&format!("GRANT UPDATE (n) ON base TO {other}"))?;
    stranger.run(call)?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "1");
    Ok(())
}

#[test]
fn an_argument_out_of_range_is_refused() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int)")?;
    for arguments in [
        "workers => 0",
        "workers => 65",
        "batch_time => '1 ms'",
        "batch_time => '2 min'",
        "on_error => 'ignore'",
        "name => ''",
        "if_not_exists => true",
        "options => '[]'",
        "options => '{\"stratgy\": \"keys\"}'",
        "options => '{\"strategy\": \"guess\"}'",
        "options => '{\"range_blocks\": 0}'",
        "options => '{\"strides\": -1}'",
        "options => '{\"strides\": \"ten\"}'",
        "options => '{\"max_quarantined\": -1}'",
    ] {
        let call = format!("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL', {arguments})");
        let error = session.error(&call)?;
        assert_eq!(error.code().code(), "22023", "{arguments}: {error:?}");
        if arguments.contains("stratgy") {
            let help = format!("{:?} {:?}", error.detail(), error.hint());
            for option in ["strategy", "range_blocks", "strides", "window_ranges", "max_quarantined"] {
                assert!(help.contains(option), "the known options are listed: {help}");
            }
        }
    }
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    Ok(())
}

#[test]
fn asking_twice_is_safe() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, m int); INSERT INTO t SELECT g FROM generate_series(1, 100) g",
    )?;
    let ask = "SELECT upkeep.backfill('t', 'n = id', 'n IS NULL', name => 'fill n', if_not_exists => true)";
    let paused = ask.replace("name =>", "paused => true, name =>");
    let first = session.text(&paused)?;
    assert_eq!(state(&mut session, &first)?, "paused");
    session.notices();
    assert_eq!(session.text(ask)?, first);
    assert!(session.notices().iter().any(|n| n.message().contains("already exists")), "it says so");
    let other = ask.replace("n = id", "n = id + 1");
    assert_eq!(sqlstate(&mut session, &other)?, "42710");
    let bare = ask.replace(", if_not_exists => true", "");
    assert!(["42710", "55006"].contains(&&*sqlstate(&mut session, &bare)?));

    session.run(&format!("SELECT upkeep.cancel('{first}')"))?;
    let second = session.text(ask)?;
    assert_ne!(second, first, "after a canceled one a new one starts");
    wait(&mut session, &second)?;
    assert_eq!(session.text(ask)?, second, "what is done need not be done again");
    assert_eq!(sqlstate(&mut session, &other)?, "42710");
    Ok(())
}

#[test]
fn two_backfills_of_one_column_are_refused() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int PRIMARY KEY, n int, m int, o int); CREATE TABLE u (id int PRIMARY KEY, n int)")?;
    let first = session.text("SELECT upkeep.backfill('t', 'n = 1, m = 1', 'n IS NULL')")?;
    for columns in ["m = 2", "o = 1, m = 2", "(o, n) = (1, 2)"] {
        let error = session.error(&format!("SELECT upkeep.backfill('t', '{columns}', 'o IS NULL')"))?;
        assert_eq!(error.code().code(), "55006", "{columns}");
        assert!(error.detail().unwrap_or_default().contains(&first), "{error:?}");
    }
    session
        .run("SELECT upkeep.backfill('t', 'o = 1', 'o IS NULL'); SELECT upkeep.backfill('u', 'n = 1', 'n IS NULL')")?;
    session.run(&format!("SELECT upkeep.cancel('{first}'); SELECT upkeep.backfill('t', 'm = 2', 'm IS NULL')"))?;
    // Coming back is asking again.
    let code = sqlstate(&mut session, &format!("SELECT upkeep.retry('{first}')"))?;
    assert_eq!(code, "55006");
    Ok(())
}

#[test]
fn a_value_that_is_null_for_some_rows_leaves_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g FROM generate_series(1, 5000) g")?;
    for strategy in ["keys", "blocks"] {
        session.run("UPDATE t SET n = NULL")?;
        let job = session.text(&format!(
            "SELECT upkeep.backfill('t', 'n = nullif(id % 10, 0)', 'n IS NULL', options => '{{\"strategy\": \"{strategy}\"}}')"
        ))?;
        session.notices();
        wait(&mut session, &job)?;
        let warned = session.notices();
        let warned = warned.iter().find(|n| n.severity() == "WARNING").context("rows left come with a warning")?;
        assert!(warned.message().contains("500 rows are left"), "{}", warned.message());
        assert_eq!(job_field(&mut session, &job, "state, rows_left, quarantined")?, "done|500|0", "{strategy}");
        assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "500");
    }
    Ok(())
}

#[test]
fn a_value_that_is_null_for_every_row_stops_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g FROM generate_series(1, 50000) g")?;
    for strategy in ["keys", "blocks"] {
        let job = session.text(&format!(
            "SELECT upkeep.backfill('t', 'n = NULL', 'n IS NULL', options => '{{\"strategy\": \"{strategy}\"}}')"
        ))?;
        wait_for_state(&mut session, &job, "failed")?;
        let error = wait_for_error(&mut session, &job)?;
        assert!(error.message().contains("still match") || error.message().contains("condition"), "{error:?}");
    }
    Ok(())
}

#[test]
fn a_row_that_is_locked_throughout_is_left_and_done_later() -> Result<()> {
    let db = testing::database()?;
    for (how, text) in
        [(How::ByKey, "'n = n + 1'"), (How::ByBlocks, "'n = 1', 'n = 0', options => '{\"strategy\": \"blocks\"}'")]
    {
        let mut session = db.connect()?;
        session.run("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, n int)")?;
        session.run("INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g")?;
        let mut holder = db.connect()?;
        holder.run("BEGIN; SELECT * FROM t WHERE id IN (5, 500) FOR UPDATE")?;
        let job = session.text(&format!("SELECT upkeep.backfill('t', {text})"))?;
        wait_for_text(&mut session, "SELECT count(*) FROM t WHERE n = 1", "998").with_context(|| format!("{how:?}"))?;
        holder.run("COMMIT")?;
        // Either it is still looking, or it has given up and says how many are left.
        wait_for("the job to end", PATIENCE, || Ok(Some(state(&mut session, &job)?).filter(|s| s == "done")))
            .with_context(|| describe(&mut session, &job))?;
        if job_field(&mut session, &job, "rows_left")? != "0" {
            session.run(&format!("SELECT upkeep.retry('{job}')"))?;
            wait(&mut session, &job)?;
        }
        assert_eq!(session.rows("SELECT n, count(*) FROM t GROUP BY n")?, ["1|1000"], "{how:?}");
    }
    Ok(())
}

/// A row of a batch may need another one that somebody has locked: each try at it waits, while the rows that the batch has are waited for.
#[test]
fn who_waits_for_a_batch_that_waits_itself_is_let_through() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE sums (id int PRIMARY KEY, n int DEFAULT 0);
         INSERT INTO sums SELECT generate_series(0, 49);
         CREATE TABLE t (id int PRIMARY KEY, n int, other int);
         INSERT INTO t SELECT g, NULL, 0 FROM generate_series(1, 5000) g;
         CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             UPDATE sums SET n = n + 1 WHERE id = NEW.id % 50; RETURN NEW;
         END$$;
         CREATE TRIGGER add_up AFTER UPDATE OF n ON t FOR EACH ROW EXECUTE FUNCTION add_up()",
    )?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; SELECT * FROM sums FOR UPDATE")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL')")?;
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE backend_type = 'pg_upkeep executor' AND wait_event_type = 'Lock'";
    wait_until("the batch to wait", PATIENCE, || session.text(waits).is_ok_and(|waiting| waiting == "1"))?;
    let mut longest = Duration::ZERO;
    for id in (1..=5000).step_by(7) {
        let started = Instant::now();
        session.run(&format!("UPDATE t SET other = other + 1 WHERE id = {id}"))?;
        longest = longest.max(started.elapsed());
    }
    holder.run("COMMIT")?;
    wait(&mut session, &job)?;
    // A try waits for 100 ms; all those at the rows of one batch waited for a second and more.
    assert!(longest < Duration::from_millis(500), "an update of a row waited for {longest:?}");
    if job_field(&mut session, &job, "rows_left")? != "0" {
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut session, &job)?;
    }
    assert_eq!(session.text("SELECT count(*) FROM sums WHERE n <> 100")?, "0");
    Ok(())
}

#[test]
fn a_locked_table_is_waited_for_without_standing_in_the_way() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")?;
    wait_for_text(&mut session, &format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"), "waiting")?;
    // LAW 14: who queues for a lock stands in front of others; not for long.
    let longest = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE NOT l.granted AND a.backend_type = 'pg_upkeep executor'
                      AND l.waitstart < clock_timestamp() - interval '500 ms'";
    for _ in 0..50 {
        assert_eq!(session.text(longest)?, "0");
    }
    session.run(FAST).ok();
    holder.run("COMMIT")?;
    assert_once_each(&mut session, &job)
}

fn poisoned(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, source text, n int, m int);
         INSERT INTO t SELECT g, CASE WHEN g IN (7, 700, 1400) THEN 'many' ELSE g::text END FROM generate_series(1, 2000) g",
    )
}

#[test]
fn poisonous_rows_are_put_aside_and_can_be_tried_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    poisoned(&mut session)?;
    for (strategy, condition, column) in [("blocks", "'n IS NULL'", "n"), ("keys", "NULL", "m")] {
        session.run("UPDATE t SET source = 'many' WHERE id IN (7, 700, 1400)")?;
        let job = session.text(&format!(
            "SELECT upkeep.backfill('t', '{column} = source::int', {condition}, options => '{{\"strategy\": \"{strategy}\"}}')"
        ))?;
        wait(&mut session, &job)?;
        assert_eq!(job_field(&mut session, &job, "state, quarantined")?, "done|3", "{strategy}");
        let rows = format!(
            "SELECT row_key, sqlstate, message, attempts FROM upkeep.quarantined_rows WHERE job = '{job}'
              ORDER BY (row_key ->> 'id')::int"
        );
        let message = "22P02|invalid input syntax for type integer: \"many\"|1";
        let expected = [7, 700, 1400].map(|id| format!("{{\"id\": {id}}}|{message}"));
        assert_eq!(session.rows(&rows)?, expected, "{strategy}");
        assert_eq!(session.text(&format!("SELECT count({column}) FROM t"))?, "1997");

        session.run("UPDATE t SET source = '1' WHERE id = 7; DELETE FROM t WHERE id = 1400")?;
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut session, &job)?;
        let left = session.rows(&rows)?;
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].starts_with("{\"id\": 700}") && left[0].ends_with("|2"), "{left:?}");
        session.run("UPDATE t SET source = '1' WHERE id = 700")?;
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut session, &job)?;
        assert_eq!(job_field(&mut session, &job, "state, quarantined, rows_left")?, "done|0|0", "{strategy}");
        assert_eq!(session.text(&format!("SELECT count(*) FROM t WHERE {column} IS NULL"))?, "0");
        assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{job}')"))?, "55000");
        session.run("INSERT INTO t VALUES (1400, 'many')")?;
    }
    Ok(())
}

#[test]
fn errors_of_every_kind_are_told_apart() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, u int UNIQUE CHECK (u <> 13));
         INSERT INTO t (id) SELECT g FROM generate_series(1, 1000) g;
         CREATE FUNCTION choosy(id int, bad int, code text) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN IF id = bad THEN RAISE 'not this one' USING ERRCODE = code; END IF; RETURN id; END$$",
    )?;
    // Row errors, a code of the user's own among them (LAW 22).
    for (assignment, code) in [
        ("n = choosy(id, 500, 'ABC01')", "ABC01"),
        ("n = choosy(id, 500, 'P0001')", "P0001"),
        ("n = 1 / (id - 500)", "22012"),
        ("n = 1, u = CASE id WHEN 500 THEN 13 ELSE id + 1000 END", "23514"),
        ("n = 1, u = CASE id WHEN 500 THEN 1499 ELSE id + 1000 END", "23505"),
    ] {
        session.run("UPDATE t SET n = NULL, u = NULL")?;
        let job = session.text(&format!("SELECT upkeep.backfill('t', $a${assignment}$a$, 'n IS NULL')"))?;
        wait(&mut session, &job).context(assignment)?;
        let rows = format!("SELECT row_key, sqlstate FROM upkeep.quarantined_rows WHERE job = '{job}'");
        let found = session.rows(&rows)?;
        assert_eq!(found.len(), 1, "{assignment}: {found:?}");
        assert!(found[0].ends_with(code), "{assignment}: {found:?}");
        assert_eq!(session.text("SELECT count(*) FROM t WHERE n IS NULL")?, "1");
    }
    // What is wrong with the whole stops it.
    for code in ["42P01", "42501", "0A000", "XX000"] {
        session.run("UPDATE t SET n = NULL, u = NULL")?;
        let job =
            session.text(&format!("SELECT upkeep.backfill('t', $a$n = choosy(id, 500, '{code}')$a$, 'n IS NULL')"))?;
        wait_for_state(&mut session, &job, "failed")?;
        assert_eq!(wait_for_error(&mut session, &job)?.code().code(), code);
        assert_eq!(job_field(&mut session, &job, "quarantined")?, "0", "{code}");
    }
    Ok(())
}

#[test]
fn a_violation_that_shows_at_commit_is_a_row_error_too() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT g FROM generate_series(1, 1000) g WHERE g <> 500;
         CREATE TABLE t (id int PRIMARY KEY, n int REFERENCES other DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO t (id) SELECT g FROM generate_series(1, 1000) g",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = id', 'n IS NULL')")?;
    wait(&mut session, &job)?;
    let rows = format!("SELECT row_key, sqlstate FROM upkeep.quarantined_rows WHERE job = '{job}'");
    assert_eq!(session.rows(&rows)?, ["{\"id\": 500}|23503"]);
    assert_eq!(session.text("SELECT count(n) FROM t")?, "999");
    Ok(())
}

#[test]
fn on_error_stop_stops_at_the_first() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    poisoned(&mut session)?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = source::int', 'n IS NULL', on_error => 'stop')")?;
    wait_for_state(&mut session, &job, "failed")?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "22P02");
    session.run("UPDATE t SET source = '1' WHERE source = 'many'")?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(n) FROM t")?, "2000");
    Ok(())
}

#[test]
fn one_cause_never_fills_the_quarantine() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g FROM generate_series(1, 3000) g")?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = 1 / (id - id)', 'n IS NULL')")?;
    wait_for_state(&mut session, &job, "failed")?;
    let error = wait_for_error(&mut session, &job)?;
    assert!(format!("{error:?}").contains("division by zero"), "{error:?}");
    let put_aside: i32 = job_field(&mut session, &job, "quarantined")?.parse()?;
    assert!(put_aside <= 20, "{put_aside}");

    session.run(
        "ALTER TABLE t ADD source text; UPDATE t SET source = CASE WHEN id % 100 = 1 THEN 'x' ELSE id::text END",
    )?;
    let job = session.text(
        "SELECT upkeep.backfill('t', 'n = CASE WHEN id % 10 = 0 THEN 1 / (id - id) ELSE source::int END', 'n IS NULL',
                                options => '{\"max_quarantined\": 30}')",
    )?;
    wait_for_state(&mut session, &job, "failed")?;
    let error = wait_for_error(&mut session, &job)?;
    assert!(format!("{error:?}").contains("division by zero"), "the most frequent error: {error:?}");
    Ok(())
}

#[test]
fn a_table_that_is_dropped_ends_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    for how in [How::ByKey, How::ByBlocks] {
        let job = slow_backfill(&mut session, how, 2)?;
        session.run("DROP TABLE t")?;
        wait_for_state(&mut session, &job, "failed")?;
        let error = wait_for_error(&mut session, &job)?;
        assert_eq!(error.code().code(), "42P01", "{how:?}: {error:?}");
        wait_until_nobody_works_on(&mut session, &job)?;
        // A table of the same name is another table.
        session.run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1)")?;
        session.run(&format!("SELECT upkeep.retry('{job}')")).ok();
        wait_for_state(&mut session, &job, "failed")?;
        assert_eq!(session.text("SELECT n IS NULL FROM t")?, "t");
        session.run("DROP TABLE t")?;
    }
    Ok(())
}

#[test]
fn a_table_that_is_renamed_is_the_same_table() -> Result<()> {
    let db = testing::database()?;
    for how in [How::ByKey, How::ByBlocks] {
        let mut session = db.connect()?;
        let job = slow_backfill(&mut session, how, 2)?;
        session.run("CREATE SCHEMA IF NOT EXISTS elsewhere")?;
        session.run("ALTER TABLE t RENAME TO renamed; ALTER TABLE renamed SET SCHEMA elsewhere")?;
        // A decoy that only looks like it.
        session.run("CREATE TABLE t (id int PRIMARY KEY, n int, other int); INSERT INTO t VALUES (1)")?;
        session.run(FAST)?;
        wait(&mut session, &job).with_context(|| format!("{how:?}"))?;
        assert_eq!(
            session.rows("SELECT n, count(*) FROM elsewhere.renamed GROUP BY n")?,
            [format!("1|{ROWS}")],
            "{how:?}"
        );
        assert_eq!(session.text("SELECT n IS NULL FROM t")?, "t");
        session.run("DROP TABLE t, elsewhere.renamed")?;
    }
    Ok(())
}

#[test]
fn a_table_that_is_rewritten_meanwhile_is_filled_all_the_same() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("SET lock_timeout = '30s'")?;
    for how in [How::ByKey, How::ByBlocks] {
        for rewrite in ["VACUUM FULL t", "CLUSTER t USING t_key", "ALTER TABLE t ALTER other TYPE bigint", "VACUUM t"] {
            let job = slow_backfill(&mut session, how, 2)?;
            // Turns the order of the rows around as well.
            session.run(rewrite).with_context(|| format!("{how:?} {rewrite}"))?;
            assert_eq!(job_field(&mut session, &job, "finished_at IS NULL")?, "t", "it was not under way any more");
            session.run(FAST)?;
            assert_once_each(&mut session, &job).with_context(|| format!("{how:?} {rewrite}"))?;
            session.run("DROP TABLE t")?;
        }
    }
    Ok(())
}

#[test]
fn a_column_that_is_dropped_ends_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    for how in [How::ByKey, How::ByBlocks] {
        for change in ["DROP COLUMN n", "RENAME n TO m", "DROP COLUMN id"] {
            if how == How::ByBlocks && change == "DROP COLUMN id" {
                continue;
            }
            let job = slow_backfill(&mut session, how, 2)?;
            session.run(&format!("ALTER TABLE t {change}"))?;
            wait_for_state(&mut session, &job, "failed").with_context(|| format!("{how:?} {change}"))?;
            wait_until_nobody_works_on(&mut session, &job)?;
            let error = wait_for_error(&mut session, &job)?;
            assert_ne!(error.code().code(), "XX000", "{change}: {error:?}");
            session.run("DROP TABLE t")?;
        }
    }
    Ok(())
}

#[test]
fn a_change_of_type_does_not_confuse_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    session.run("ALTER TABLE t ALTER id TYPE bigint, ADD COLUMN front text DEFAULT 'x', DROP COLUMN other")?;
    session.run(FAST)?;
    // It may stop, because names mean something else now; but nothing may be done twice.
    wait_for("the job to end", PATIENCE, || {
        Ok((job_field(&mut session, &job, "finished_at IS NOT NULL")? == "t").then_some(()))
    })?;
    if state(&mut session, &job)? == "failed" {
        assert_ne!(wait_for_error(&mut session, &job)?.code().code(), "XX000", "{}", describe(&mut session, &job));
        assert_eq!(session.text("SELECT max(n) FROM t")?, "1");
    } else {
        assert_once_each(&mut session, &job)?;
    }
    Ok(())
}

/// LAW 21: what a name meant when the job was made, it means to the end.
#[test]
fn a_name_that_means_something_else_meanwhile_ends_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 1)?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    session.run(
        "ALTER FUNCTION plus_one(int) RENAME TO plus_nothing;
         CREATE FUNCTION plus_one(n int) RETURNS int LANGUAGE sql AS 'SELECT 100'",
    )?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait_for_state(&mut session, &job, "failed")?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert_eq!(session.text("SELECT max(n) FROM t")?, "1");
    Ok(())
}

#[test]
fn a_lack_of_rights_ends_the_job_and_a_retry_goes_on() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("filler")?;
    let mut admin = db.connect()?;
    let mut session = db.connect_as(&role)?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    admin.run(&format!("REVOKE UPDATE ON t FROM {role}"))?;
    wait_for_state(&mut session, &job, "failed")?;
    let error = wait_for_error(&mut session, &job)?;
    assert_eq!(error.code().code(), "42501");
    let so_far: i64 = admin.value("SELECT count(*) FROM t WHERE n = 1")?;
    assert!(so_far > 0 && so_far < ROWS, "{so_far}");
    admin.run(&format!("GRANT UPDATE ON t TO {role}"))?;
    session.run(FAST)?;
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    assert_once_each(&mut session, &job)
}

#[test]
fn an_owner_who_is_dropped_ends_his_job() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("leaver")?;
    let mut admin = db.connect()?;
    admin.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 20000) g",
    )?;
    admin.run(&format!("GRANT SELECT, UPDATE ON t TO {role}"))?;
    admin.run(SLOW)?;
    let job = db
        .connect_as(&role)?
        .text("SELECT upkeep.backfill('t', 'n = plus_one(n)', batch_time => '20 ms', workers => 2)")?;
    wait_until_under_way(&mut admin, &job)?;
    wait_for("the role to be dropped", PATIENCE, || {
        Ok(admin.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).ok())
    })?;
    wait_for_state(&mut admin, &job, "failed")?;
    wait_until_nobody_works_on(&mut admin, &job)?;
    assert_eq!(job_field(&mut admin, &job, "owner")?, role);
    assert_eq!(admin.text("SELECT max(n) FROM t")?, "1");
    Ok(())
}

#[test]
fn rows_that_come_and_go_meanwhile_are_touched_at_most_once() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    let mut other = db.connect()?;
    let mut next = ROWS;
    for _ in 0..20 {
        other.run(&format!("INSERT INTO t SELECT g, 0 FROM generate_series({}, {}) g", next + 1, next + 50))?;
        other.run(&format!(
            "DELETE FROM t WHERE id IN (SELECT {ROWS} - (random() * 5000)::int FROM generate_series(1, 20))"
        ))?;
        next += 50;
    }
    session.run(FAST)?;
    wait(&mut session, &job)?;
    assert_eq!(session.text(&format!("SELECT min(n), max(n) FROM t WHERE id <= {ROWS}"))?, "1|1");
    assert_eq!(session.text(&format!("SELECT max(n) <= 1 FROM t WHERE id > {ROWS}"))?, "t");
    Ok(())
}

#[test]
fn workers_come_and_go_without_losing_rows() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 1)?;
    for workers in [4, 1, 3, 2] {
        session.run(&format!("SELECT upkeep.alter_job('{job}', workers => {workers})"))?;
        wait_until(&format!("{workers} executors"), PATIENCE, || {
            executors_of(&mut session, &job).is_ok_and(|found| found.len() == workers)
        })
        .with_context(|| describe(&mut session, &job))?;
    }
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    session.run(FAST)?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_once_each(&mut session, &job)
}

#[test]
fn cancel_and_retry_go_on_where_it_was() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    for _ in 0..5 {
        session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
        assert_eq!(state(&mut session, &job)?, "canceled");
        session.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait_for_text(&mut session, &format!("SELECT state FROM upkeep.jobs WHERE id = '{job}'"), "running")?;
    }
    // In one transaction: the executors must not be left thinking that nothing happened.
    session.run(&format!("BEGIN; SELECT upkeep.cancel('{job}'); SELECT upkeep.retry('{job}'); COMMIT"))?;
    session.run(FAST)?;
    assert_once_each(&mut session, &job)?;
    let happened = events(&mut session, &job)?;
    assert_eq!(happened.iter().filter(|event| *event == "canceled").count(), 6, "{happened:?}");
    Ok(())
}

/// LAW 7: a trigger of the table's lets go of every advisory lock of its session, ours as well if it can reach it; then
/// the scheduler dies, and the next one must still see that the slots are taken.
#[test]
fn a_trigger_cannot_let_go_of_what_holds_the_slot() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE FUNCTION let_go() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_advisory_unlock_all(); RETURN NEW; END$$",
    )?;
    session.run(SLOW)?;
    session.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g;
         CREATE TRIGGER let_go BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION let_go()"
    ))?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = plus_one(n)', workers => 2, batch_time => '50 ms')")?;
    wait_until_under_way(&mut session, &job)?;
    let mut most = 0;
    for _ in 0..5 {
        session.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE backend_type = 'pg_upkeep scheduler' AND datname = current_database()",
        )?;
        // A job of its own makes sure that another scheduler has come.
        let other = run_in_background(&mut session, "SELECT 1")?;
        wait(&mut session, &other)?;
        most = most.max(executors_of(&mut session, &job)?.len());
    }
    session.run(FAST)?;
    assert_once_each(&mut session, &job)?;
    assert!(most <= 2, "{most} executors for two slots");
    Ok(())
}

#[test]
fn a_session_that_waits_for_us_waits_one_batch_at_most() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = slow_backfill(&mut session, How::ByKey, 2)?;
    // Every row in turn, while the backfill passes: nobody deadlocks and nobody waits for long.
    let mut other = db.connect()?;
    other.run("SET statement_timeout = '5s'; SET deadlock_timeout = '200ms'")?;
    for id in (1..ROWS).step_by(500) {
        other.run(&format!(
            "BEGIN; UPDATE t SET other = 1 WHERE id = {id}; UPDATE t SET other = 1 WHERE id = {}; COMMIT",
            ROWS - id
        ))?;
    }
    session.run(FAST)?;
    assert_once_each(&mut session, &job)
}

#[test]
fn explain_and_preview_change_nothing() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT g FROM generate_series(1, 1000) g; ANALYZE t; CREATE SEQUENCE s",
    )?;
    let before = session.text("SELECT sum(hashtext(t::text || xmin::text)), pg_relation_size('t') FROM t")?;
    let explained = session.text(
        "SELECT strategy <> '', reason <> '', batches > 0, rows_estimate BETWEEN 900 AND 1100, wal_estimate > 0, locks <> ''
           FROM upkeep.explain_backfill('t', 'n = nextval(''s'')', 'n IS NULL')",
    )?;
    assert_eq!(explained, "t|t|t|t|t|t");
    let previewed = session
        .rows("SELECT row_key, old_row, new_row FROM upkeep.preview_backfill('t', 'n = id * 2', 'n IS NULL', 2)")?;
    assert_eq!(previewed.len(), 2);
    assert_eq!(previewed[0], "{\"id\": 1}|{\"n\": null, \"id\": 1}|{\"n\": 2, \"id\": 1}");
    assert_eq!(session.text("SELECT sum(hashtext(t::text || xmin::text)), pg_relation_size('t') FROM t")?, before);
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    assert_eq!(session.text("SELECT is_called FROM s")?, "f", "nothing was evaluated");
    Ok(())
}

#[test]
fn who_asks_under_a_policy_of_tenants_is_told_what_the_workers_lack() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (owner, app) = (db.role("owner")?, db.role("app")?);
    admin.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, tenant int, n int); INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 300) g;
         ALTER TABLE t OWNER TO {owner}; GRANT SELECT, UPDATE ON t TO {app}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON t USING (tenant = nullif(current_setting('app.tenant', true), '')::int);
         CREATE POLICY others ON t TO pg_monitor USING (current_setting('app.other') = 'x')"
    ))?;
    let lacking = "Its policies read app.tenant: set in your session, and not in the workers that run the job.";
    let mut check = |role: &str, hint: &str| -> Result<()> {
        let mut session = db.connect_as(role)?;
        session.run("SET app.tenant = '1'")?;
        let job = session.text("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL')")?;
        let warnings = session.notices();
        let [warning] = &warnings[..] else { panic!("{role}: {warnings:?}") };
        assert_eq!(
            (warning.severity(), warning.message()),
            (
                "WARNING",
                "row security applies to you: only rows of public.t that its policies let you see and change will be filled"
            )
        );
        assert_eq!((warning.detail(), warning.hint()), (Some(lacking), Some(hint)));
        let explained =
            session.text("SELECT warnings::text FROM upkeep.explain_backfill('t', 'n = 1', 'n IS NULL')")?;
        assert!(explained.contains(lacking), "{explained}");
        wait(&mut session, &job)?;
        assert_eq!(admin.text("SELECT count(n) FROM t")?, "0");
        Ok(())
    };
    check(
        &app,
        &format!(
            "To fill all rows, ask for it as the table's owner (SET ROLE {owner};), as a superuser, or as a role with BYPASSRLS."
        ),
    )?;
    db.connect()?.run("ALTER TABLE t FORCE ROW LEVEL SECURITY")?;
    check(&owner, "To fill all rows, ask for it as a superuser, or as a role with BYPASSRLS.")?;
    // To whom no policy applies nothing is said.
    let job = admin.text("SELECT upkeep.backfill('t', 'n = 1', 'n IS NULL')")?;
    assert_eq!(admin.notices().len(), 0);
    wait(&mut admin, &job)?;
    assert_eq!(admin.text("SELECT count(n) FROM t")?, "300");
    Ok(())
}

#[test]
fn row_security_applies_to_who_asked() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("tenant")?;
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, tenant text, n int);
         INSERT INTO t SELECT g, CASE WHEN g % 2 = 0 THEN '{role}' ELSE 'other' END FROM generate_series(1, 1000) g;
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON t USING (tenant = current_user);
         GRANT SELECT, UPDATE ON t TO {role}"
    ))?;
    let mut session = db.connect_as(&role)?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = id', 'n IS NULL')")?;
    assert!(session.notices().iter().any(|n| n.message().contains("row security")), "it warns");
    wait(&mut session, &job)?;
    assert_eq!(
        admin.rows("SELECT tenant = 'other', n IS NULL, count(*) FROM t GROUP BY 1, 2 ORDER BY 1")?,
        ["f|f|500", "t|t|500"]
    );
    Ok(())
}

#[test]
fn an_empty_table_is_done_at_once() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int)")?;
    for condition in ["NULL", "'n IS NULL'"] {
        let job = session.text(&format!("SELECT upkeep.backfill('t', 'n = 1', {condition}, workers => 4)"))?;
        wait(&mut session, &job)?;
        assert_eq!(job_field(&mut session, &job, "state, rows_done, rows_left, percent")?, "done|0|0|100");
    }
    Ok(())
}

/// The state of a step is rolled back with it, whatever ends it; a job asleep in its first batch is paused after it.
#[test]
fn pause_takes_effect_after_the_batch_and_cancel_in_it() -> Result<()> {
    let db: Database = testing::database()?;
    let mut session = db.connect()?;
    let (job, _) = upkeep_tests::jobs::backfill_endlessly(&mut session)?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    assert_eq!(state(&mut session, &job)?, "paused");
    assert_eq!(executors_of(&mut session, &job)?.len(), 1, "the batch in hand goes on");
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    wait_until_asleep(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    assert_eq!(session.text("SELECT sum(n) FROM endless")?, "0");
    Ok(())
}

#[test]
fn tables_of_citus_are_refused() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    citus::catalogs(&mut session)?;
    for (kind, ..) in citus::KINDS {
        session.run(&format!("CREATE TABLE {kind} (id int PRIMARY KEY, n int)"))?;
        citus::distribute(&mut session, kind, kind)?;
        for verb in ["backfill", "explain_backfill", "preview_backfill"] {
            let error = session.error(&format!("SELECT * FROM upkeep.{verb}('{kind}', 'n = 1')"))?;
            assert_eq!((error.code().code(), error.hint().is_some()), ("0A000", true), "{verb} {kind}: {error:?}");
        }
    }
    session.run("CREATE TABLE plain (id int PRIMARY KEY, n int)")?;
    let job = session.text("SELECT upkeep.backfill('plain', 'n = 1')")?;
    wait(&mut session, &job)
}

#[test]
fn a_condition_that_is_never_true_is_told() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, n int)")?;
    for (condition, told) in
        [("n = NULL", 1), ("n IS NULL", 0), ("false", 1), ("n = 1 AND n = 2", 1), ("n > 1 AND n < 1", 0)]
    {
        // What was said of the last one is not meant: of a wait that lasts, how far it is.
        session.notices();
        let job = session.text(&format!("SELECT upkeep.backfill('t', 'n = 1', '{condition}')"))?;
        let notices = session.notices();
        assert_eq!(notices.len(), told, "{condition}: {notices:?}");
        for notice in notices {
            assert_eq!(notice.message(), "the condition holds for no row: the planner has found it to be false");
        }
        wait(&mut session, &job)?;
    }
    session.run(
        "CREATE TABLE p (k int NOT NULL, n int) PARTITION BY LIST (k);
         CREATE TABLE p1 PARTITION OF p (PRIMARY KEY (k)) FOR VALUES IN (1); \
         CREATE TABLE p2 PARTITION OF p (PRIMARY KEY (k)) FOR VALUES IN (2)",
    )?;
    session.run("SET constraint_exclusion = on")?;
    session.notices();
    for (condition, told) in [("n IS NULL", 0), ("true", 0), ("k = 2", 0), ("n = NULL", 1)] {
        session.run(&format!("SELECT * FROM upkeep.explain_backfill('p', 'n = 1', '{condition}')"))?;
        let notices = session.notices();
        assert_eq!(notices.len(), told, "{condition}: {notices:?}");
    }
    session.run("RESET constraint_exclusion")?;
    // Only triggers that are not ours are warned of.
    session.run(
        "SELECT upkeep.enable_timestamps('t'), upkeep.enable_soft_delete('t');
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER own BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )?;
    let warnings = session.text("SELECT warnings FROM upkeep.explain_backfill('t', 'n = 1', 'n IS NULL')")?;
    assert!(warnings.contains("trigger own will fire") && !warnings.contains("upkeep"), "{warnings}");
    Ok(())
}

#[test]
fn a_preview_shows_what_would_be_stored() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE DOMAIN price AS numeric(6,1);
         CREATE TABLE t (id int PRIMARY KEY, amount numeric(10,2), price price, prices numeric(4,1)[], short varchar(5), fixed char(4),
                         at timestamp(0), took interval(1), bits bit(3), n int, plain numeric);
         INSERT INTO t (id, amount) VALUES (1, 1)",
    )?;
    for (column, value) in [
        ("amount", "1.239"),
        ("price", "12.34"),
        ("prices", "ARRAY[1.26, 99.94]"),
        ("short", "'abcde '"),
        ("fixed", "'ab'"),
        ("at", "timestamp '2020-01-01 10:00:00.7'"),
        ("took", "interval '1.26 s'"),
        ("bits", "B'101'"),
        ("n", "2.5"),
        ("plain", "1.23900"),
        ("plain", "12345678901234567890.123456789"),
        ("amount", "pg_catalog.sqrt(2)"),
    ] {
        let assignment = format!("{column} = {value}");
        let shown = session.text(&format!(
            "SELECT new_row ->> '{column}' FROM upkeep.preview_backfill('t', $${assignment}$$, 'true')"
        ))?;
        let stored = session.text(&format!("UPDATE t SET {assignment} RETURNING to_jsonb(t) ->> '{column}'"))?;
        assert_eq!(shown, stored, "{assignment}");
    }
    for (assignment, code) in [("short = 'abcdef'", "22001"), ("amount = 1e9", "22003"), ("bits = B'1'", "22026")] {
        assert_eq!(sqlstate(&mut session, &format!("UPDATE t SET {assignment}"))?, code);
        let preview = format!("SELECT upkeep.preview_backfill('t', $${assignment}$$, 'true')");
        assert_eq!(sqlstate(&mut session, &preview)?, code, "{assignment}");
    }
    Ok(())
}

/// A row that still matches moves to a place that a later portion of the same step would take it from once more.
#[test]
fn rows_that_move_ahead_within_a_step_are_done_once() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, orig int, v int, pad text) WITH (autovacuum_enabled = off);
         INSERT INTO t SELECT g, hashint4(g) & 1, hashint4(g) & 1, repeat('x', 500) FROM generate_series(1, 20000) g",
    )?;
    for (strides, ratio) in [(1, ""), (1, ", throttle_work_ratio => 0.5"), (4, ", throttle_work_ratio => 0.5")] {
        session.run("UPDATE t SET v = orig WHERE v <> orig")?;
        session.run("DELETE FROM t WHERE ctid >= '(20,0)' AND ctid < '(40,0)'")?;
        session.run("VACUUM t")?;
        let job = session.text(&format!(
            "SELECT upkeep.backfill('t', 'v = v + 1', 'v < 2', options => '{{\"strides\": {strides}, \"range_blocks\": 256}}'{ratio})"
        ))?;
        wait(&mut session, &job)?;
        let twice = session.text("SELECT count(*) FROM t WHERE v <> orig + 1")?;
        assert_eq!(twice, "0", "strides {strides}{ratio}");
    }
    Ok(())
}

/// What the first rows show is judged before any of them is kept.
#[test]
fn what_is_refused_for_its_first_rows_changes_none() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int, pad text);
         INSERT INTO t SELECT g, 0, repeat('x', 130) FROM generate_series(1, 20000) g",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = v + 1', 'v < 1000')")?;
    wait_for_state(&mut session, &job, "failed")?;
    assert_eq!(session.text("SELECT count(*) FROM t WHERE v <> 0")?, "0");
    Ok(())
}

/// Places that a plan does not know are taken for half a percent of the table: that is how a plan begins with another table.
#[test]
fn only_what_nothing_but_places_lead_to_is_planned_once() -> Result<()> {
    let server = testing::server("planned-once")
        .set("shared_preload_libraries", "pg_upkeep, auto_explain")
        .set("auto_explain.log_min_duration", 0)
        .set("auto_explain.log_nested_statements", "on")
        .start()?;
    let mut session = server.connect("postgres")?;
    session.run(
        "CREATE EXTENSION pg_upkeep;
         CREATE TABLE other (id int PRIMARY KEY);
         INSERT INTO other SELECT generate_series(1, 1000);
         CREATE TABLE t (id int PRIMARY KEY, v int);
         INSERT INTO t SELECT g, 0 FROM generate_series(1, 50000) g",
    )?;
    session.run("VACUUM ANALYZE t, other")?;
    let cases = [
        ("v IS NOT NULL AND v <> 1", "v = 1", "", true),
        ("v <> 2", "v = 2", ", options => '{\"strides\": 1}'", false),
        ("v <> 3 AND EXISTS (SELECT FROM other o WHERE o.id >= 0)", "v = 3", "", false),
        ("v <> 4", "v = (SELECT 4 FROM other o WHERE o.id = 1)", "", false),
    ];
    for (condition, assignments, options, once) in cases {
        let position = server.log_position();
        let job = session
            .text(&format!("SELECT upkeep.backfill('t', '{assignments}', '{condition}'{options}, workers => 1)"))?;
        wait(&mut session, &job)?;
        let log = server.log_since(position);
        let updates = || log.split("Query Text: ").filter(|plan| plan.starts_with("UPDATE"));
        let plans =
            |bound: &str| updates().filter(|plan| plan.contains(&format!("TID Cond: ((ctid >= {bound}"))).count();
        let (known, unknown) = (plans("'("), plans("$1)"));
        assert_eq!(known == 0, once, "{condition}: {known} known, {unknown} unknown");
        assert!(unknown > 0 || !once, "{condition}: {unknown} unknown");
    }
    Ok(())
}
