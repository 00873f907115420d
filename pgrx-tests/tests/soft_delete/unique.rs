//! Unique keys that count live rows only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use upkeep_tests::jobs::{
    describe, events, executors_of, join, sqlstate, wait, wait_for_error, wait_for_state, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

const USERS: &str = "
    CREATE TABLE users (id int PRIMARY KEY, email text CONSTRAINT email_taken UNIQUE, name text, code int UNIQUE, n int, room int4range,
                        CONSTRAINT later UNIQUE (n) DEFERRABLE, CONSTRAINT one_at_a_time EXCLUDE USING gist (room WITH &&));
    CREATE UNIQUE INDEX lower_name ON users (lower(name) COLLATE \"C\" DESC) INCLUDE (n) WHERE name <> 'x';
    COMMENT ON CONSTRAINT email_taken ON users IS 'it''s taken';
    CREATE TABLE refers (code int REFERENCES users (code));
    SELECT upkeep.enable_soft_delete('users');
    INSERT INTO users (id, email, name, code) SELECT g, 'e' || g, 'n' || g, g FROM generate_series(1, 500) g;";

/// Indexes of the job's own that are left.
const LEFT: &str = "SELECT count(*) FROM pg_class WHERE relname LIKE 'upkeep\\_live\\_%'";

fn make(session: &mut Session, table: &str) -> Result<String> {
    session.text(&format!("SELECT upkeep.make_unique_keys_partial('{table}')"))
}

#[test]
fn what_was_deleted_can_be_registered_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(USERS)?;
    let explained = session.rows(
        "SELECT indexrelname, conname, action, command FROM upkeep.explain_make_unique_keys_partial('users') ORDER BY 1",
    )?;
    assert_eq!(
        explained[0],
        "email_taken|email_taken|replace|CREATE UNIQUE INDEX CONCURRENTLY email_taken ON public.users \
         USING btree (email) WHERE deleted_at IS NULL"
    );
    assert!(
        explained[2].starts_with(
            "lower_name||replace|CREATE UNIQUE INDEX CONCURRENTLY lower_name ON public.users \
             USING btree (lower(name) COLLATE \"C\" DESC) INCLUDE (n) WHERE (name <> 'x'::text) AND deleted_at IS NULL"
        ),
        "{explained:?}"
    );
    session.notices();
    let job = make(&mut session, "users")?;
    let kept: Vec<String> = session.notices().iter().map(|notice| notice.message().to_owned()).collect();
    assert_eq!(kept.len(), 4, "{kept:?}");
    for reason in
        ["primary key", "foreign keys point at it (refers_code_fkey of public.refers)", "deferrable", "exclusion"]
    {
        assert!(kept.iter().any(|notice| notice.contains(reason)), "{reason}: {kept:?}");
    }
    wait(&mut session, &job)?;
    let definitions = session.rows(
        "SELECT pg_get_indexdef(indexrelid), obj_description(indexrelid, 'pg_class') FROM pg_index
         WHERE indrelid = 'users'::regclass AND indpred IS NOT NULL ORDER BY 1",
    )?;
    assert_eq!(
        definitions,
        [
            "CREATE UNIQUE INDEX email_taken ON public.users USING btree (email) WHERE (deleted_at IS NULL)|it's taken",
            "CREATE UNIQUE INDEX lower_name ON public.users USING btree (lower(name) COLLATE \"C\" DESC) INCLUDE (n) \
             WHERE ((name <> 'x'::text) AND (deleted_at IS NULL))|",
        ]
    );
    assert_eq!(session.text(LEFT)?, "0");
    session.run(
        "DELETE FROM users_live WHERE id = 7; INSERT INTO users_live (id, email, name) VALUES (1007, 'e7', 'n7')",
    )?;
    assert_eq!(sqlstate(&mut session, "INSERT INTO users_live (id, email) VALUES (1008, 'e8')")?, "23505");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.undelete('users', 'id = 7')")?, "23505");
    // A second call has nothing to do.
    assert_eq!(make(&mut session, "users_live")?, "");
    Ok(())
}

#[test]
fn a_reader_in_the_way_only_delays_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(USERS)?;
    let mut reader = db.connect()?;
    let job = make(&mut session, "users")?;
    // Whoever reads when the first build is done: the replacement waits, and nobody waits for it.
    reader.run("BEGIN; LOCK TABLE users IN ACCESS SHARE MODE")?;
    let look = format!(
        "SELECT wait_reason LIKE 'waits for the lock on public.users to replace a unique key%' OR state = 'done' \
         FROM upkeep.jobs WHERE id = '{job}'"
    );
    wait_for_text(&mut session, &look, "t")?;
    reader.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text(LEFT)?, "0");
    Ok(())
}

#[test]
fn a_job_that_is_canceled_leaves_nothing() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(USERS)?;
    let mut writer = db.connect()?;
    writer.run("BEGIN; UPDATE users SET name = name WHERE id = 1")?;
    let job = make(&mut session, "users")?;
    // The build waits for the writer.
    wait_for_text(&mut session, LEFT, "1")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    writer.run("COMMIT")?;
    wait_for_text(&mut session, LEFT, "0")?;
    wait_for_text(&mut session, &format!("SELECT coalesce(wait_reason, '') FROM upkeep.jobs WHERE id = '{job}'"), "")?;
    assert_eq!(session.text("SELECT count(*) FROM pg_constraint WHERE conname = 'email_taken'")?, "1");
    // Tried again it comes to its end.
    session.run(&format!("SELECT upkeep.retry('{job}')"))?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM pg_constraint WHERE conname = 'email_taken'")?, "0");
    Ok(())
}

#[test]
fn a_worker_that_is_terminated_in_a_build_begins_it_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(USERS)?;
    let mut writer = db.connect()?;
    writer.run("BEGIN; UPDATE users SET name = name WHERE id = 1")?;
    let job = make(&mut session, "users")?;
    wait_for_text(&mut session, LEFT, "1")?;
    let [pid] = executors_of(&mut session, &job)?[..] else { bail!("one executor builds the index") };
    session.run(&format!("SELECT pg_terminate_backend({pid})"))?;
    writer.run("COMMIT")?;
    wait(&mut session, &job).map_err(|error| error.context(describe(&mut session, &job)))?;
    assert_eq!(session.text(LEFT)?, "0");
    assert!(events(&mut session, &job)?.iter().filter(|event| *event == "replaced").count() == 2);
    Ok(())
}

/// The whole server restarts, and what the build has left is an index that is not valid.
#[test]
fn a_killed_worker_leaves_an_index_that_the_next_try_removes() -> Result<()> {
    let server = testing::server("unique").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    session.run(USERS)?;
    let mut writer = server.connect("shop")?;
    writer.run("BEGIN; UPDATE users SET name = name WHERE id = 1")?;
    let job = make(&mut session, "users")?;
    wait_for_text(&mut session, LEFT, "1")?;
    let [pid] = executors_of(&mut session, &job)?[..] else { bail!("one executor builds the index") };
    let mut session = server.kill_and_recover(pid, "shop")?;
    // Until the new index has taken its place the old one is there.
    let taken = sqlstate(&mut session, "INSERT INTO users (id, email) VALUES (1001, 'e8')")?;
    assert_eq!(taken, "23505");
    wait(&mut session, &job).map_err(|error| error.context(describe(&mut session, &job)))?;
    assert_eq!(session.text(LEFT)?, "0");
    let keys = "SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass AND indisunique AND indpred IS NOT NULL AND indisvalid";
    assert_eq!(session.text(keys)?, "2");
    assert_eq!(
        session.text("SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass AND NOT indisvalid")?,
        "0"
    );
    assert_eq!(sqlstate(&mut session, "INSERT INTO users_live (id, email) VALUES (1001, 'e8')")?, "23505");
    Ok(())
}

#[test]
fn hostile_names_and_others_rights() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA \"s.1\";
         CREATE TABLE \"s.1\".\"t\"\" WHERE \" (id int PRIMARY KEY, \"a ON b\" text, CONSTRAINT \"k\"\" ON x\" UNIQUE (\"a ON b\"));
         SELECT upkeep.enable_soft_delete('\"s.1\".\"t\"\" WHERE \"', deleted_at => 'x IS NULL')",
    )?;
    let job = make(&mut session, "\"s.1\".\"t\"\" WHERE \"")?;
    wait(&mut session, &job)?;
    assert_eq!(
        session.text(
            "SELECT pg_get_expr(indpred, indrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid \
             WHERE relname = 'k\" ON x'"
        )?,
        "(\"x IS NULL\" IS NULL)"
    );
    let other = db.role("other")?;
    session.run(&format!("GRANT USAGE ON SCHEMA \"s.1\" TO {other}"))?;
    let mut stranger = db.connect_as(&other)?;
    assert_eq!(sqlstate(&mut stranger, "SELECT upkeep.make_unique_keys_partial('\"s.1\".\"t\"\" WHERE \"')")?, "42501");
    session.run(
        "CREATE TABLE pt (id int PRIMARY KEY, e text) PARTITION BY RANGE (id); SELECT upkeep.enable_soft_delete('pt');
         CREATE TABLE plain (id int PRIMARY KEY, e text UNIQUE)",
    )?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.make_unique_keys_partial('pt')")?, "0A000");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.make_unique_keys_partial('plain')")?, "55000");
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.make_unique_keys_partial(NULL)")?, "22004");
    Ok(())
}

/// What the server wrote is read as it was meant, whatever the caller's search_path puts in front of it.
#[test]
fn a_definition_means_the_same_to_the_worker() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.lower(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $$x$$';
         CREATE TABLE u (id int PRIMARY KEY, e text, d date);
         CREATE UNIQUE INDEX u_e ON u (pg_catalog.lower(e)) WHERE d > '2026-02-01';
         SELECT upkeep.enable_soft_delete('u');
         INSERT INTO u VALUES (1, 'a', '2026-03-01'), (2, 'b', '2026-03-01');
         SET search_path = trap, pg_catalog, public; SET DateStyle = 'SQL, DMY'",
    )?;
    let job = make(&mut session, "public.u")?;
    wait(&mut session, &job)?;
    session.run("RESET ALL")?;
    assert_eq!(
        session.text("SELECT pg_get_indexdef('u_e'::regclass)")?,
        "CREATE UNIQUE INDEX u_e ON public.u USING btree (lower(e)) WHERE ((d > '2026-02-01'::date) AND (deleted_at IS NULL))"
    );
    Ok(())
}

#[test]
fn a_key_that_gets_a_reference_meanwhile_is_kept() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE u (id int PRIMARY KEY, e text UNIQUE); SELECT upkeep.enable_soft_delete('u')")?;
    let mut writer = db.connect()?;
    writer.run("BEGIN; INSERT INTO u VALUES (1, 'x')")?;
    let job = make(&mut session, "u")?;
    wait_for_text(&mut session, LEFT, "1")?;
    writer.run("CREATE TABLE r (e text REFERENCES u (e)); COMMIT")?;
    wait_for_state(&mut session, &job, "done")?;
    wait_for_text(&mut session, LEFT, "0")?;
    assert_eq!(
        session.text("SELECT count(*) FROM pg_constraint WHERE conrelid = 'u'::regclass AND contype = 'u'")?,
        "1"
    );
    session.run("DROP TABLE u CASCADE")?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{job}')"))?, "55000");
    Ok(())
}

#[test]
fn a_table_that_is_dropped_ends_the_job() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(USERS)?;
    let mut writer = db.connect()?;
    writer.run("BEGIN; UPDATE users SET name = name WHERE id = 1")?;
    let job = make(&mut session, "users")?;
    wait_for_text(&mut session, LEFT, "1")?;
    session.run(&format!("SELECT upkeep.pause('{job}')"))?;
    writer.run("COMMIT")?;
    // A DROP that waits for a build in progress deadlocks with it, whoever runs the build.
    wait_until_nobody_works_on(&mut session, &job)?;
    session.run("DROP TABLE refers, users CASCADE")?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    assert_eq!(wait_for_error(&mut session, &job)?.code().code(), "42P01");
    Ok(())
}

/// CREATE INDEX looks its table up by name, outside of our transactions. Another one may have the name by then: what was built
/// there goes again, and the table that was meant gets its index.
#[test]
fn an_index_that_was_built_on_another_table_goes_again() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA a; CREATE TABLE a.t (id int PRIMARY KEY, u int UNIQUE); CREATE SCHEMA b; \
         CREATE TABLE b.t (id int PRIMARY KEY, u int UNIQUE);
         SELECT upkeep.enable_soft_delete('a.t'), upkeep.enable_soft_delete('b.t')",
    )?;
    let (mut locker, mut renamer) = (db.connect()?, db.connect()?);
    // The build waits for this lock, and looks the name up again once it has it.
    locker.run("BEGIN; LOCK TABLE a.t IN SHARE UPDATE EXCLUSIVE MODE")?;
    let job = make(&mut session, "a.t")?;
    wait_for_text(
        &mut session,
        "SELECT count(*) FROM pg_locks WHERE relation = 'a.t'::regclass AND NOT granted AND mode = 'ShareUpdateExclusiveLock'",
        "1",
    )?;
    renamer.run("BEGIN; ALTER SCHEMA a RENAME TO c; ALTER SCHEMA b RENAME TO a; COMMIT")?;
    locker.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text(LEFT)?, "0");
    let partial = "SELECT indrelid::regclass FROM pg_index WHERE indpred IS NOT NULL AND indrelid IN ('a.t'::regclass, 'c.t'::regclass)";
    assert_eq!(session.rows(partial)?, ["c.t"]);
    Ok(())
}

/// Definitions come from the newest catalogs, and indexes from a snapshot.
#[test]
fn indexes_that_come_and_go_fail_nobody() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE busy (id int PRIMARY KEY, a int, b int UNIQUE); SELECT upkeep.enable_soft_delete('busy');
         INSERT INTO busy SELECT g, g, g FROM generate_series(1, 100) g",
    )?;
    let enough = Arc::new(AtomicBool::new(false));
    let (mut other, stop) = (db.connect()?, Arc::clone(&enough));
    let comes_and_goes = thread::spawn(move || -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            // Beside a concurrent build either of them may end in a deadlock, as with any other.
            for statement in ["CREATE UNIQUE INDEX comes_and_goes ON busy (a)", "DROP INDEX IF EXISTS comes_and_goes"] {
                drop(other.run(statement));
            }
        }
        Ok(())
    });
    for _ in 0..200 {
        session.rows("SELECT indexrelname FROM upkeep.explain_make_unique_keys_partial('busy')")?;
    }
    let job = make(&mut session, "busy")?;
    wait(&mut session, &job).with_context(|| describe(&mut session, &job))?;
    enough.store(true, Ordering::Relaxed);
    join(comes_and_goes)??;
    assert_eq!(session.text(LEFT)?, "0");
    Ok(())
}
