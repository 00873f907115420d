//! LAW 12: other people's errors pass a server with pg_upkeep preloaded as if it were not there.

use anyhow::{Result, bail};
use postgres::error::DbError;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

/// Everything that a client can learn about an error.
fn fields(error: &DbError) -> Vec<(&'static str, String)> {
    let optional = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let position = error.position().map_or_else(|| "-".to_owned(), |position| format!("{position:?}"));
    vec![
        ("severity", error.severity().to_owned()),
        ("code", error.code().code().to_owned()),
        ("message", error.message().to_owned()),
        ("detail", optional(error.detail())),
        ("hint", optional(error.hint())),
        // Position, or internal position with its query.
        ("position", position),
        ("context", optional(error.where_())),
        ("schema", optional(error.schema())),
        ("table", optional(error.table())),
        ("column", optional(error.column())),
        ("datatype", optional(error.datatype())),
        ("constraint", optional(error.constraint())),
        ("file", optional(error.file())),
        ("line", format!("{:?}", error.line())),
        ("routine", optional(error.routine())),
    ]
}

const SETUP: &str = "
    CREATE SCHEMA shop;
    CREATE DOMAIN shop.positive AS int CONSTRAINT above_zero CHECK (VALUE > 0);
    CREATE TABLE shop.goods (
        id int CONSTRAINT goods_key PRIMARY KEY,
        price numeric(4, 2) NOT NULL CONSTRAINT no_gifts CHECK (price > 0),
        count shop.positive);
    CREATE TABLE shop.orders (good int CONSTRAINT of_a_good REFERENCES shop.goods);
    INSERT INTO shop.goods VALUES (1, 1, 1);
    INSERT INTO shop.orders VALUES (1);
    CREATE FUNCTION shop.innermost(n int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO shop.goods VALUES (n, 1, 1); RETURN n; END$$;
    CREATE FUNCTION shop.outermost() RETURNS int LANGUAGE plpgsql AS
    $$DECLARE r int; BEGIN FOR i IN 0..2 LOOP r := shop.innermost(i); END LOOP; RETURN r; END$$;
    CREATE FUNCTION shop.raise_own() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE 'not on a Sunday' USING ERRCODE = 'ABC01', DETAIL = 'it is one', HINT = 'come tomorrow',
        SCHEMA = 'shop', TABLE = 'goods', COLUMN = 'price', DATATYPE = 'numeric', CONSTRAINT = 'sunday'; END$$;
    CREATE TABLE shop.closed (n int);
    CREATE TRIGGER sunday BEFORE INSERT OR UPDATE OR DELETE ON shop.closed FOR EACH STATEMENT EXECUTE FUNCTION shop.raise_own();
    CREATE FUNCTION shop.broken() RETURNS int LANGUAGE plpgsql AS
    $$BEGIN RETURN (SELECT missing FROM shop.goods); END$$;
    CREATE FUNCTION shop.swallow() RETURNS text LANGUAGE plpgsql AS
    $$DECLARE c text; t text; BEGIN
        BEGIN INSERT INTO shop.goods VALUES (1, 1, 1); EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS c = CONSTRAINT_NAME, t = TABLE_NAME;
        END;
        BEGIN DROP TABLE shop.goods; EXCEPTION WHEN dependent_objects_still_exist THEN c := c || ' ' || SQLERRM; END;
        RAISE 'swallowed % %', c, t;
      END$$;
    CREATE PROCEDURE shop.in_steps() LANGUAGE plpgsql AS
    $$BEGIN COMMIT; BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END; COMMIT; DROP TABLE shop.goods; END$$";

/// Statements that end in an error; the last of each is the one that counts.
const ATTEMPTS: &[&str] = &[
    "INSERT INTO shop.goods VALUES (1, 1, 1)",
    "INSERT INTO shop.goods VALUES (2, 0, 1)",
    "INSERT INTO shop.goods VALUES (2, NULL, 1)",
    "INSERT INTO shop.goods VALUES (2, 1, 0)",
    "INSERT INTO shop.goods VALUES (2, 12345, 1)",
    "DELETE FROM shop.goods",
    "INSERT INTO shop.orders VALUES (7)",
    "INSERT INTO shop.closed VALUES (1)",
    "SELECT shop.outermost()",
    "SELECT shop.broken()",
    "SELECT shop.swallow()",
    "CALL shop.in_steps()",
    "DO $$BEGIN PERFORM shop.outermost(); END$$",
    "DO $$BEGIN RAISE 'own' USING ERRCODE = 'ZZ999'; END$$",
    "DO $$BEGIN EXECUTE 'DROP DATABASE nowhere'; END$$",
    "SELECT missing FROM shop.goods",
    "SELECT 'x'::int",
    "SELEC 1",
    "SELECT 1/0",
    // Utility statements pass our hook.
    "DROP TABLE shop.goods",
    "DROP TABLE nowhere",
    "DROP DATABASE nowhere",
    "DROP DATABASE template1",
    "ALTER DATABASE nowhere RENAME TO somewhere",
    "ALTER DATABASE template1 RENAME TO postgres",
    "ALTER DATABASE nowhere SET TABLESPACE pg_default",
    "CREATE DATABASE postgres",
    "CREATE DATABASE copy TEMPLATE nowhere",
    "BEGIN; DROP DATABASE nowhere",
    "BEGIN; CREATE DATABASE somewhere TEMPLATE template0",
    "VACUUM nowhere",
    "BEGIN; VACUUM shop.goods",
    "CREATE TABLE shop.goods ()",
    "CREATE TABLE broken (n int DEFAULT 'x'::int, EXCLUDE USING gist (n WITH =))",
    "ALTER TABLE shop.goods ALTER id TYPE int USING 1/0",
    "ALTER TABLE shop.goods ADD CONSTRAINT cheap CHECK (price < 1)",
    "CREATE UNIQUE INDEX CONCURRENTLY ON shop.goods ((count * 0)); INSERT INTO shop.goods VALUES (3, 1, 1)",
    "COPY shop.goods FROM PROGRAM 'printf \"5\\t1\\tx\\n\"'",
    "COPY nowhere TO '/nowhere'",
    "EXPLAIN ANALYZE INSERT INTO shop.goods VALUES (1, 1, 1)",
    "PREPARE p AS SELECT missing",
    "EXECUTE nowhere",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH FROM nowhere",
    "SET work_mem = 'much'",
    "SET ROLE nobody",
    "LOCK TABLE shop.goods",
    "CREATE EXTENSION nowhere",
    "SET statement_timeout = '50ms'; SELECT pg_sleep(60)",
    "SET lock_timeout = 1; SELECT pg_sleep(0); RESET lock_timeout; SET transaction_read_only = on; DROP TABLE shop.goods",
];

fn attempt(session: &mut Session, sql: &str) -> Result<Vec<(&'static str, String)>> {
    let error = session.error(sql)?;
    session.run("ROLLBACK; RESET ALL")?;
    Ok(fields(&error))
}

#[test]
fn every_field_of_every_error_is_the_same_with_and_without_preload() -> Result<()> {
    let plain = testing::server("plain").start()?;
    // Statements within functions pass all of our hooks as well.
    let preloaded = testing::server("hooked").preloaded().set("upkeep.track_queries", "all").start()?;
    let (mut plain, mut hooked) = (plain.connect("postgres")?, preloaded.connect("postgres")?);
    hooked.run("CREATE EXTENSION pg_upkeep")?;
    for session in [&mut plain, &mut hooked] {
        session.run(SETUP)?;
    }
    let mut differences = Vec::new();
    for sql in ATTEMPTS {
        let (without, with) = (attempt(&mut plain, sql)?, attempt(&mut hooked, sql)?);
        for ((name, without), (_, with)) in without.iter().zip(&with) {
            if without != with {
                differences.push(format!("{sql}\n    {name}: {without:?} became {with:?}"));
            }
        }
    }
    if !differences.is_empty() {
        bail!("{}", differences.join("\n"));
    }
    Ok(())
}

/// With the library loaded in the session, as it is once a verb was called: its functions are linked, its settings known.
#[test]
fn nor_does_a_session_that_uses_us_change_other_errors() -> Result<()> {
    let plain = testing::database_without_preload()?;
    let loaded = testing::database_without_preload()?;
    let (mut plain, mut loaded) = (plain.connect()?, loaded.connect()?);
    for session in [&mut plain, &mut loaded] {
        session.run(SETUP)?;
    }
    loaded.run("SELECT * FROM upkeep.status")?;
    // An error of our own, caught and raised again inside us, leaves nothing behind.
    loaded.error("SELECT upkeep.run_in_background('SELEC 1')")?;
    for sql in
        ["INSERT INTO shop.goods VALUES (1, 1, 1)", "INSERT INTO shop.closed VALUES (1)", "SELECT shop.outermost()"]
    {
        assert_eq!(attempt(&mut plain, sql)?, attempt(&mut loaded, sql)?, "{sql}");
    }
    Ok(())
}

#[test]
fn a_cancel_and_a_termination_look_the_same() -> Result<()> {
    let plain = testing::database_without_preload()?;
    let hooked = testing::database()?;
    let mut seen = Vec::new();
    for db in [&plain, &hooked] {
        let mut killer = db.connect()?;
        let mut victim = db.connect()?;
        let pid = victim.pid()?;
        let asleep = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        let thread = std::thread::spawn(move || {
            let error = victim.error("DO $$BEGIN PERFORM pg_sleep(3600); END$$");
            (victim, error)
        });
        testing::wait_for_text(&mut killer, &asleep, "PgSleep")?;
        killer.run(&format!("SELECT pg_cancel_backend({pid})"))?;
        let (mut victim, error) = upkeep_tests::jobs::join(thread)?;
        let canceled = fields(&error?);
        assert_eq!(victim.text("SELECT 1")?, "1");
        seen.push(canceled);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0][1].1, "57014");
    Ok(())
}
