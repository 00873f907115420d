//! Reading a literal can run code: of an array, a composite or a range over a domain, the domain's CHECK. What a job was given
//! is read by nobody but its owner, and nobody else's hands are on what its trigger calls.

use anyhow::Result;
use upkeep_tests::jobs::{state, wait, wait_for_error};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

/// A role with a schema `n`, and domains whose CHECK notes as whom it runs.
fn author(db: &Database, admin: &mut Session) -> Result<(String, Session)> {
    let role = db.role("author")?;
    admin.run(&format!("CREATE SCHEMA n AUTHORIZATION {role}"))?;
    let mut author = db.connect_as(&role)?;
    author.run(
        "CREATE TABLE n.seen (who name, super boolean);
         GRANT USAGE ON SCHEMA n TO PUBLIC;
         GRANT INSERT ON n.seen TO PUBLIC;
         CREATE FUNCTION n.chk(i int) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO n.seen SELECT current_user, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user;
             RETURN true;
         END$$;
         CREATE DOMAIN n.d AS int CHECK (n.chk(VALUE));
         CREATE TYPE n.c AS (x n.d);
         CREATE TYPE n.r AS RANGE (subtype = n.d);
         CREATE FUNCTION n.imm(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
    )?;
    Ok((role, author))
}

#[test]
fn what_a_job_was_given_is_read_as_its_owner() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (role, mut author) = author(&db, &mut admin)?;
    for (i, (assignments, condition, wanted)) in [
        ("v = ('{7}'::n.d[])[1]", "v IS NULL", "7"),
        ("v = ('(7)'::n.c).x", "v IS NULL", "7"),
        ("v = lower('[7,9)'::n.r)", "v IS NULL", "7"),
        ("v = 8", "v IS NULL AND n.imm(('{7}'::n.d[])[1]) = 7", "8"),
        ("v = 8", "v IS NULL AND n.imm(('(7)'::n.c).x) = 7", "8"),
        ("v = 8", "v IS NULL AND ('{7}'::n.d[])[1] = 7", "8"),
        // The column's own.
        ("v = DEFAULT", "v IS NULL", "5"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("n.t{i}");
        author.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v int DEFAULT ('{{5}}'::n.d[])[1]);
             INSERT INTO {table} VALUES (1, NULL); TRUNCATE n.seen"
        ))?;
        let job = author.text(&format!(
            "SELECT upkeep.backfill('{table}', $${assignments}$$, $${condition}$$, fill_new_rows => true)"
        ))?;
        wait(&mut author, &job)?;
        assert_eq!(author.text(&format!("SELECT v FROM {table}"))?, wanted, "{assignments} | {condition}");
        assert_eq!(
            author.rows("SELECT DISTINCT who, super FROM n.seen")?,
            [format!("{role}|f")],
            "{assignments} | {condition}"
        );
    }
    Ok(())
}

/// A job that stands still with its trigger in place, which the author made; its id without dashes.
fn halfway(author: &mut Session) -> Result<(String, String)> {
    author.run(
        "CREATE FUNCTION n.slow(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN $1; END';
         CREATE TABLE n.t (id int PRIMARY KEY, v int); INSERT INTO n.t SELECT g FROM generate_series(1, 20000) g",
    )?;
    let job = author.text(
        "SELECT upkeep.backfill('n.t', 'v = n.slow(id)', 'v IS NULL', fill_new_rows => true, batch_time => '20 ms')",
    )?;
    wait_for_text(author, &format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    author.run(&format!("SELECT upkeep.pause('{job}')"))?;
    let id = job.replace('-', "");
    Ok((job, id))
}

#[test]
fn the_functions_are_the_owners_alone_and_can_be_dumped() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (role, mut author) = author(&db, &mut admin)?;
    let (job, id) = halfway(&mut author)?;
    assert_eq!(
        admin.rows(
            "SELECT p.proname ~ '_values$', pg_get_userbyid(p.proowner), p.prosecdef, p.proacl::text !~ '[{,]=',
                    p.provolatile, p.prorows, p.proretset, p.proconfig IS NOT NULL
             FROM pg_proc p WHERE p.proname LIKE '\\_fill\\_%' ORDER BY 1"
        )?,
        [format!("f|{role}|t|t|v|0|f|t"), format!("t|{role}|f|t|v|1|t|f")]
    );
    let values = format!("upkeep._fill_{id}_values");
    assert_eq!(
        admin.text(&format!(
            "SELECT regexp_replace(pg_get_functiondef(oid), '\\s+', ' ', 'g')
             FROM pg_proc WHERE oid = '{values}'::regproc"
        ))?,
        format!(
            "CREATE OR REPLACE FUNCTION {values}(integer, OUT integer, OUT boolean) RETURNS SETOF record LANGUAGE sql ROWS 1 \
             BEGIN ATOMIC SELECT n.slow(new.id) AS slow, true FROM ( SELECT $1 AS id) new; END "
        )
    );
    author.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_for_text(&mut admin, "SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_fill\\_%'", "0")
}

#[test]
fn what_others_made_of_the_functions_is_not_dropped_without_a_word() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (_, mut author) = author(&db, &mut admin)?;
    let (job, id) = halfway(&mut author)?;
    author.run(&format!("GRANT EXECUTE ON FUNCTION upkeep._fill_{id}_values TO PUBLIC"))?;
    admin.run(&format!("CREATE VIEW public.others AS SELECT x.column2 FROM upkeep._fill_{id}_values(1) x"))?;
    author.run(&format!("SELECT upkeep.resume('{job}')"))?;
    author.run("CREATE OR REPLACE FUNCTION n.slow(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'")?;
    let error = wait_for_error(&mut author, &job)?;
    assert_eq!(error.code().code(), "2BP01", "{error:?}");
    assert_eq!(state(&mut author, &job)?, "failed");
    assert_eq!(admin.text("SELECT count(*) FROM pg_views WHERE viewname = 'others'")?, "1");
    // Then nothing is in the way.
    admin.run("DROP VIEW public.others")?;
    author.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut author, &job)?;
    assert_eq!(admin.text("SELECT count(*) FROM pg_proc WHERE proname LIKE '\\_fill\\_%'")?, "0");
    Ok(())
}
