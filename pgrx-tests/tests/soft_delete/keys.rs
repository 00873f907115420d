//! Keys of deleted rows find the rows that reference them by columns and types, whatever foreign keys, columns, views and
//! partitions become meanwhile: the right rows, or an error, and never the end of the server.

use std::thread;

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

/// Its SQLSTATE, 00000 if all went well.
fn outcome(session: &mut Session, sql: &str) -> Result<String> {
    match session.error(sql) {
        Ok(error) => Ok(error.code().code().to_owned()),
        Err(error) if error.to_string().starts_with("no error") => Ok("00000".to_owned()),
        Err(error) => Err(error),
    }
}

/// Three generations; the grandchild references two columns of the child.
fn generations(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, x int UNIQUE, y int UNIQUE);
         CREATE TABLE g (id int PRIMARY KEY, x int CONSTRAINT f1 REFERENCES c (x) ON DELETE CASCADE,
                         y int CONSTRAINT f2 REFERENCES c (y) ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('g'), upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p');
         INSERT INTO p VALUES (1), (2), (3);
         INSERT INTO c VALUES (1, 1, 11, 101), (2, 2, 12, 102), (3, 3, 102, 12);
         INSERT INTO g VALUES (1, 11, NULL), (2, 12, NULL), (3, 102, NULL)",
    )
}

const LIVE_GRANDCHILDREN: &str = "SELECT string_agg(id::text, ',' ORDER BY id) FROM g_live";

#[test]
fn a_renamed_foreign_key_deletes_no_other_rows() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut other) = (db.connect()?, db.connect()?);
    generations(&mut session)?;
    session.run("DELETE FROM p_live WHERE id = 1")?;
    other.run("ALTER TABLE g RENAME CONSTRAINT f1 TO f9")?;
    session.run("DELETE FROM p_live WHERE id = 2")?;
    assert_eq!(session.text(LIVE_GRANDCHILDREN)?, "3");
    Ok(())
}

/// In the middle of the statement, by its own session, and with columns of other types.
#[test]
fn a_foreign_key_renamed_on_the_way_deletes_no_other_rows() -> Result<()> {
    for deletes in ["DELETE FROM c_live WHERE id = 2", "UPDATE c SET deleted_at = now() WHERE id = 2"] {
        let db = testing::database()?;
        let mut session = db.connect()?;
        session.run(
            "CREATE TABLE c (id int PRIMARY KEY, x int UNIQUE, y text UNIQUE);
             CREATE TABLE g (id int PRIMARY KEY, x int CONSTRAINT f1 REFERENCES c (x) ON DELETE CASCADE,
                             y text CONSTRAINT f2 REFERENCES c (y) ON DELETE CASCADE);
             SELECT upkeep.enable_soft_delete('g'), upkeep.enable_soft_delete('c');
             INSERT INTO c VALUES (1, 11, '12'), (2, 12, '11');
             INSERT INTO g VALUES (1, 11, NULL), (2, 12, NULL), (3, NULL, '11'), (4, NULL, '12');
             CREATE FUNCTION renames() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                 IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'f1') THEN
                     ALTER TABLE g RENAME CONSTRAINT f1 TO f9;
                 END IF;
                 RETURN NEW; END$$;
             CREATE TRIGGER a BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION renames()",
        )?;
        let before = session.text(LIVE_GRANDCHILDREN)?;
        let after = match outcome(&mut session, deletes)?.as_str() {
            "40001" | "23503" => before,
            "00000" => "1,4".to_owned(),
            other => panic!("{deletes}: {other}"),
        };
        assert_eq!(session.text(LIVE_GRANDCHILDREN)?, after, "{deletes}");
        session.run("DROP TRIGGER a ON c")?;
        if after != "1,4" {
            session.run(deletes)?;
        }
        assert_eq!(session.text(LIVE_GRANDCHILDREN)?, "1,4", "{deletes}");
    }
    Ok(())
}

/// The statement waits for the foreign key, and then takes it along.
#[test]
fn a_foreign_key_that_comes_while_a_statement_waits_counts() -> Result<()> {
    for statement in ["SELECT upkeep.soft_delete('a', 'id <= 3')", "DELETE FROM a_live WHERE id <= 3"] {
        let db = testing::database()?;
        let (mut session, mut other, mut watch) = (db.connect()?, db.connect()?, db.connect()?);
        session.run(
            "CREATE TABLE a (id int PRIMARY KEY, x text UNIQUE, y text UNIQUE);
             CREATE TABLE b (id int PRIMARY KEY, x text CONSTRAINT f1 REFERENCES a (x) ON DELETE CASCADE, y text);
             SELECT upkeep.enable_soft_delete('b'), upkeep.enable_soft_delete('a');
             INSERT INTO a SELECT i, 'x' || i, 'y' || i FROM generate_series(1, 5) i;
             INSERT INTO b SELECT i, 'x' || i, 'y' || (6 - i) FROM generate_series(1, 5) i",
        )?;
        other.run("BEGIN; ALTER TABLE b ADD CONSTRAINT a0 FOREIGN KEY (y) REFERENCES a (y) ON DELETE CASCADE")?;
        let pid = session.pid()?;
        let waits = thread::spawn(move || (outcome(&mut session, statement), session));
        wait_for_text(&mut watch, &format!("SELECT cardinality(pg_blocking_pids({pid}))"), "1")?;
        other.run("COMMIT")?;
        let (code, mut session) = waits.join().expect("the session has ended");
        if code? == "40001" {
            session.run(statement)?;
        }
        // By both of them: 1 to 3, and 3 to 5.
        assert_eq!(
            session.text("SELECT (SELECT count(*) FROM a_live), (SELECT count(*) FROM b_live)")?,
            "2|0",
            "{statement}"
        );
    }
    Ok(())
}

/// The first foreign key of a table, and the second one: rows come back with all their parents, or not at all.
#[test]
fn what_is_brought_back_meets_the_foreign_key_that_came_meanwhile() -> Result<()> {
    for first in ["", "ALTER TABLE b ADD FOREIGN KEY (z) REFERENCES a (id);"] {
        let db = testing::database()?;
        let (mut session, mut other, mut watch) = (db.connect()?, db.connect()?, db.connect()?);
        session.run(&format!(
            "CREATE TABLE a (id int PRIMARY KEY, x text UNIQUE);
             CREATE TABLE b (id int PRIMARY KEY, x text, z int);
             {first}
             SELECT upkeep.enable_soft_delete('b'), upkeep.enable_soft_delete('a');
             INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (1, 'one', 2);
             SELECT upkeep.soft_delete('b', 'true')"
        ))?;
        session.run("SELECT upkeep.soft_delete('a', 'id = 1')")?;
        other.run("BEGIN; ALTER TABLE b ADD FOREIGN KEY (x) REFERENCES a (x)")?;
        let pid = session.pid()?;
        let waits = thread::spawn(move || (sqlstate(&mut session, "SELECT upkeep.undelete('b', 'true')"), session));
        wait_for_text(&mut watch, &format!("SELECT cardinality(pg_blocking_pids({pid}))"), "1")?;
        other.run("COMMIT")?;
        let (code, mut session) = waits.join().expect("the session has ended");
        let code = code?;
        assert!(code == "23503" || code == "40001", "{code}");
        assert_eq!(sqlstate(&mut session, "SELECT upkeep.undelete('b', 'true')")?, "23503");
        assert_eq!(session.text("SELECT count(*) FROM b_live")?, "0");
    }
    Ok(())
}

#[test]
fn columns_of_a_view_are_known_by_what_they_show() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (k text PRIMARY KEY, n int UNIQUE);
         CREATE TABLE c (id int PRIMARY KEY, n int REFERENCES t (n) ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('t');
         INSERT INTO t SELECT 'k' || g, g FROM generate_series(1, 400) g; INSERT INTO c SELECT g, g FROM generate_series(1, 400) g;
         DELETE FROM t_live WHERE n = 1;
         ALTER VIEW t_live RENAME k TO tmp; ALTER VIEW t_live RENAME n TO k; ALTER VIEW t_live RENAME tmp TO n",
    )?;
    session.run("DELETE FROM t_live WHERE k = 7; DELETE FROM t_live WHERE k BETWEEN 100 AND 400")?;
    assert_eq!(session.text("SELECT count(*), sum(n) FROM t WHERE deleted_at IS NULL")?, "97|4942");
    assert_eq!(session.text("SELECT count(*), sum(n) FROM c_live")?, "97|4942");
    // What is no column of the table says nothing about it.
    session.run(
        "CREATE OR REPLACE VIEW t_live AS SELECT k || '' AS n, n AS k, deleted_at, deleted_by, deletion_id \
         FROM t WHERE deleted_at IS NULL",
    )?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM t_live WHERE k = 8")?, "55000");
    session.run("SELECT upkeep.soft_delete('t', 'n = 8')")?;
    assert_eq!(session.text("SELECT count(*) FROM c_live")?, "96");
    Ok(())
}

#[test]
fn a_flag_of_another_type_is_told() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         SELECT upkeep.enable_soft_delete('t', hide => 'none', flag => 'gone');
         INSERT INTO t VALUES (1, 1);
         ALTER TABLE t ALTER gone DROP DEFAULT, ALTER gone DROP NOT NULL; ALTER TABLE t ALTER gone TYPE text",
    )?;
    for statement in ["INSERT INTO t VALUES (3, 1, now())", "UPDATE t SET deleted_at = now()"] {
        let error = session.error(statement)?;
        assert_eq!(error.code().code(), "55000", "{statement}: {error:?}");
        assert!(error.message().contains("\"gone\""), "{error:?}");
    }
    session.run("ALTER TABLE t ALTER gone TYPE boolean USING gone::boolean; INSERT INTO t VALUES (3, 1, now())")?;
    assert_eq!(session.text("SELECT gone FROM t WHERE id = 3")?, "t");
    Ok(())
}

/// A foreign key to a partition changes neither the partitioned table nor anything else that a session has looked at.
#[test]
fn a_foreign_key_to_a_partition_is_seen() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut other) = (db.connect()?, db.connect()?);
    session.run(
        "CREATE TABLE q (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (100);
         SELECT upkeep.enable_soft_delete('q');
         INSERT INTO q SELECT generate_series(1, 9); DELETE FROM q_live WHERE id = 1",
    )?;
    session.run("UPDATE q SET deleted_at = now() WHERE id = 9")?;
    other.run("CREATE TABLE k (id int PRIMARY KEY, q int REFERENCES q1 ON DELETE RESTRICT); INSERT INTO k VALUES (1, 2), (2, 3), (3, 4)")?;
    for statement in [
        "DELETE FROM q_live WHERE id = 2",
        "SELECT upkeep.soft_delete('q', 'id = 3')",
        "UPDATE q SET deleted_at = now() WHERE id = 4",
    ] {
        assert_eq!(sqlstate(&mut session, statement)?, "23503", "{statement}");
    }
    Ok(())
}

/// A foreign key looks at the version of a row that there is when it is checked.
#[test]
fn a_deferred_check_is_of_the_row_that_is_there() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p DEFERRABLE INITIALLY DEFERRED, n int);
         SELECT upkeep.enable_soft_delete('p');
         INSERT INTO p VALUES (1), (2); DELETE FROM p_live WHERE id = 1",
    )?;
    session.run("BEGIN; INSERT INTO c VALUES (1, 1); UPDATE c SET p = 2 WHERE id = 1; COMMIT")?;
    session.run("BEGIN; INSERT INTO c VALUES (2, 1); DELETE FROM c WHERE id = 2; COMMIT")?;
    session.run("BEGIN; UPDATE c SET p = 1 WHERE id = 1; UPDATE c SET p = 2 WHERE id = 1; COMMIT")?;
    assert_eq!(session.text("SELECT id, p FROM c")?, "1|2");
    // Whatever becomes of the rest of it.
    for refused in [
        "INSERT INTO c VALUES (3, 1)",
        "INSERT INTO c VALUES (3, 1); UPDATE c SET n = 1 WHERE id = 3",
        "UPDATE c SET p = 1; UPDATE c SET n = 1",
        "UPDATE c SET p = 1; SAVEPOINT s; UPDATE c SET n = 1; RELEASE s; UPDATE c SET n = 2",
        "INSERT INTO c VALUES (3, 1); SAVEPOINT s; DELETE FROM c WHERE id = 3; ROLLBACK TO s",
    ] {
        session.run(&format!("BEGIN; {refused}"))?;
        assert_eq!(sqlstate(&mut session, "COMMIT")?, "23503", "{refused}");
    }
    assert_eq!(session.text("SELECT id, p FROM c")?, "1|2");
    Ok(())
}

/// A transaction that sees the rows of an earlier moment deletes by the foreign keys of now, and leaves no other for those
/// that follow it.
#[test]
fn isolation_hides_no_foreign_key() -> Result<()> {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let db = testing::database()?;
        let (mut session, mut other) = (db.connect()?, db.connect()?);
        session.run(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int);
             SELECT upkeep.enable_soft_delete('b'), upkeep.enable_soft_delete('a');
             INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (1, 1), (2, 2), (3, 3); DELETE FROM a_live WHERE id = 3;
             DELETE FROM b_live WHERE id = 3",
        )?;
        session.run(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM pg_class"))?;
        other.run("ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a ON DELETE CASCADE")?;
        session.run("DELETE FROM a_live WHERE id = 1; COMMIT; DELETE FROM a_live WHERE id = 2")?;
        assert_eq!(session.text("SELECT count(*) FROM b_live")?, "0", "{isolation}");
    }
    Ok(())
}

/// What we cannot write in a statement is told as such, and nothing is deleted.
#[test]
fn names_in_other_encodings_are_refused() -> Result<()> {
    let server = testing::server("names").preloaded().start()?;
    for encoding in ["LATIN1", "EUC_JP", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        server
            .connect("postgres")?
            .run(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))?;
        let mut session = server.connect(&name)?;
        // One byte or two, none of which are UTF-8; a warning that the views do not follow would be none either.
        let letter = if encoding == "EUC_JP" { "\\244\\242" } else { "\\344" };
        session.run(&format!(
            "CREATE EXTENSION pg_upkeep; CREATE TABLE t (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('t');
             INSERT INTO t VALUES (1), (2); DELETE FROM t_live WHERE id = 1; SET client_min_messages = error;
             DO $$BEGIN EXECUTE format('ALTER TABLE t ADD COLUMN %I int', E'{letter}'); END$$"
        ))?;
        let error = session.error("DELETE FROM t_live")?;
        assert_eq!(error.code().code(), "0A000", "{encoding}: {error:?}");
        assert_eq!(session.text("SELECT count(*) FROM t WHERE deleted_at IS NULL")?, "1", "{encoding}");
    }
    Ok(())
}
