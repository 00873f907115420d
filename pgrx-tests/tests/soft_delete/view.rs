//! DELETE of many rows through a live view: after the first hundred they are gathered, which nobody may notice.

use std::thread;

use anyhow::Result;
use upkeep_tests::jobs::{join, sqlstate};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

const ROWS: u32 = 2_500;

/// `t` with a row for each number, `child` (CASCADE) with two for each.
fn tables(session: &mut Session) -> Result<()> {
    session.run(&format!(
        "CREATE TABLE t (a int, b text COLLATE \"C\", n int DEFAULT 0, PRIMARY KEY (b, a), UNIQUE (a, b));
         CREATE TABLE child (id int PRIMARY KEY, a int, b text, FOREIGN KEY (a, b) REFERENCES t (a, b) ON DELETE CASCADE);
         INSERT INTO t SELECT g, 'b' || g FROM generate_series(1, {ROWS}) g;
         INSERT INTO child SELECT 2 * g + i, g, 'b' || g FROM generate_series(1, {ROWS}) g, generate_series(0, 1) i;
         SELECT upkeep.enable_soft_delete('child'), upkeep.enable_soft_delete('t')"
    ))
}

const LIVE: &str = "SELECT (SELECT count(*) FROM t_live), (SELECT count(*) FROM child_live)";

#[test]
fn many_rows_go_as_one_and_come_back() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    tables(&mut session)?;
    assert_eq!(
        session
            .text("WITH gone AS (DELETE FROM t_live WHERE a > 100 RETURNING a) SELECT count(*), sum(a) FROM gone")?,
        "2400|3121200"
    );
    assert_eq!(session.text(LIVE)?, "100|200");
    assert_eq!(session.text("SELECT rows FROM upkeep.deletions")?, r#"{"t": 2400, "child": 4800}"#);
    assert_eq!(session.text("SELECT upkeep.undelete(id) FROM upkeep.deletions")?, "7200");
    assert_eq!(session.text(LIVE)?, "2500|5000");
    // A row that a join shows more than once is deleted once.
    session.run(
        "DO $$DECLARE c int; BEGIN
             DELETE FROM t_live USING generate_series(1, 3) WHERE a > 500; GET DIAGNOSTICS c = ROW_COUNT;
             ASSERT c = 2000, c::text;
         END$$",
    )?;
    assert_eq!(session.text(LIVE)?, "500|1000");
    // Two views in one query.
    assert_eq!(
        session.text(
            "WITH c AS (DELETE FROM child_live WHERE a <= 200 RETURNING 1), t AS (DELETE FROM t_live RETURNING 1)
             SELECT (SELECT count(*) FROM c), (SELECT count(*) FROM t)"
        )?,
        "400|500"
    );
    assert_eq!(session.text(LIVE)?, "0|0");
    assert_eq!(session.text("SELECT count(*) FROM t WHERE deletion_id IS NULL OR deleted_by IS NULL")?, "0");
    Ok(())
}

#[test]
fn a_savepoint_takes_back_what_was_gathered() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    tables(&mut session)?;
    session.run(
        "BEGIN; DELETE FROM t_live WHERE a <= 150; SAVEPOINT s; DELETE FROM t_live WHERE a <= 2000; ROLLBACK TO s;
         DELETE FROM t_live WHERE a > 2400; COMMIT",
    )?;
    assert_eq!(session.text(LIVE)?, "2250|4500");
    // An error in the middle of a statement, too.
    session.run(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF NEW.a = 1700 THEN RAISE 'not this one' USING ERRCODE = 'ABC01'; END IF; RETURN NEW; END$$;
         CREATE TRIGGER no BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION no()",
    )?;
    session.run(
        "DO $$BEGIN
             BEGIN DELETE FROM t_live; EXCEPTION WHEN SQLSTATE 'ABC01' THEN NULL; END;
             DELETE FROM t_live WHERE a <> 1700;
         END$$",
    )?;
    assert_eq!(session.text(LIVE)?, "1|2");
    assert_eq!(session.text("SELECT sum((rows->>'t')::int) FROM upkeep.deletions")?, "2499");
    Ok(())
}

/// Whoever changes or deletes a gathered row meanwhile: nothing is deleted that is not as the statement saw it.
#[test]
fn a_row_that_changes_meanwhile_is_a_serialization_failure() -> Result<()> {
    for change in ["UPDATE t SET n = 1 WHERE a = 1700", "DELETE FROM t_live WHERE a = 1700"] {
        let db = testing::database()?;
        let (mut session, mut other, mut watch) = (db.connect()?, db.connect()?, db.connect()?);
        tables(&mut session)?;
        other.run(&format!("BEGIN; {change}"))?;
        let pid = session.pid()?;
        let deletes = thread::spawn(move || sqlstate(&mut session, "DELETE FROM t_live WHERE n = 0"));
        wait_for_text(&mut watch, &format!("SELECT cardinality(pg_blocking_pids({pid}))"), "1")?;
        other.run("COMMIT")?;
        assert_eq!(deletes.join().expect("the session has ended")?, "40001", "{change}");
        let left = if change.starts_with("UPDATE") { "2500|5000" } else { "2499|4998" };
        assert_eq!(watch.text(LIVE)?, left);
    }
    Ok(())
}

/// Triggers on the rows may delete others of the same statement, or begin one of their own and give it up.
#[test]
fn statements_within_statements_keep_to_themselves() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    tables(&mut session)?;
    session.run(
        "CREATE FUNCTION pair() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL AND NEW.a % 500 = 0 THEN
                 BEGIN
                     DELETE FROM t_live WHERE a % 2 = 1;
                     RAISE 'given up';
                 EXCEPTION WHEN raise_exception THEN NULL;
                 END;
                 DELETE FROM t_live WHERE a = NEW.a + 1;
             END IF;
             RETURN NULL;
         END$$;
         CREATE TRIGGER pair AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION pair()",
    )?;
    assert_eq!(
        session.text("WITH gone AS (DELETE FROM t_live WHERE a <= 2000 RETURNING a) SELECT count(*) FROM gone")?,
        "2000"
    );
    // 2001 went by the trigger of 2000.
    assert_eq!(session.text(LIVE)?, "499|998");
    assert_eq!(session.text("SELECT count(DISTINCT deletion_id), count(deletion_id) FROM t")?, "1|2001");
    assert_eq!(session.text("SELECT upkeep.undelete(id) FROM upkeep.deletions")?, "6003");
    assert_eq!(session.text(LIVE)?, "2500|5000");
    Ok(())
}

/// As a DELETE passes over a row whose trigger says so; gathered rows are counted already, and fail.
#[test]
fn a_row_that_the_table_keeps_is_passed_over() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    tables(&mut session)?;
    session.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             RETURN CASE WHEN NEW.a % 1000 <> 20 THEN NEW END; END$$;
         CREATE TRIGGER keep BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
    )?;
    assert_eq!(
        session.text("WITH gone AS (DELETE FROM t_live WHERE a <= 50 RETURNING a) SELECT count(*) FROM gone")?,
        "49"
    );
    assert_eq!(sqlstate(&mut session, "DELETE FROM t_live WHERE a > 50")?, "55000");
    assert_eq!(session.text(LIVE)?, "2451|4902");
    session.run("SELECT upkeep.soft_delete('t', 'a > 50')")?;
    assert_eq!(session.text(LIVE)?, "3|6");
    Ok(())
}

#[test]
fn without_one_of_its_triggers_the_view_deletes_nothing() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    tables(&mut session)?;
    session.run("DROP TRIGGER upkeep_soft_delete_begin ON t_live")?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM t_live")?, "55000");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_drift")?, "1");
    for statement in session.values::<String>("SELECT repair FROM upkeep.soft_delete_drift")? {
        session.run(&statement)?;
    }
    session.run("DELETE FROM t_live")?;
    assert_eq!(session.text(LIVE)?, "0|0");
    Ok(())
}

#[test]
fn a_view_may_compute_columns_rename_them_and_leave_some_out() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE people (id int PRIMARY KEY, code text UNIQUE, first text, last text, hidden int DEFAULT 0);
         CREATE TABLE visits (id int PRIMARY KEY, person int REFERENCES people ON DELETE CASCADE);
         CREATE TABLE cards (id int PRIMARY KEY, code text REFERENCES people (code) ON DELETE SET NULL);
         SELECT upkeep.enable_soft_delete('visits'), upkeep.enable_soft_delete('people');
         INSERT INTO people (id, code, first, last) SELECT g, 'c' || g, 'f' || g, 'l' || g FROM generate_series(1, 2000) g;
         INSERT INTO visits SELECT g, g FROM generate_series(1, 2000) g;
         INSERT INTO cards SELECT g, 'c' || g FROM generate_series(1, 2000) g;
         CREATE OR REPLACE VIEW people_live WITH (security_invoker) AS
             SELECT id, code, upper(first) AS first, last, length(last) AS hidden, deleted_at, deleted_by, deletion_id,
                    first || ' ' || last AS name
             FROM people WHERE deleted_at IS NULL",
    )?;
    for condition in ["id = 3", "name = 'f4 l4'", "id <= 1500"] {
        let before = session.text("SELECT count(*) FROM people_live")?;
        let wanted = session.text(&format!("SELECT count(*) FROM people_live WHERE {condition}"))?;
        assert_ne!(wanted, "0");
        session.run("BEGIN")?;
        let gone = session.values::<String>(&format!("DELETE FROM people_live WHERE {condition} RETURNING name"))?;
        session.run("COMMIT")?;
        assert_eq!(gone.len().to_string(), wanted, "{condition}");
        let left = "SELECT (SELECT count(*) FROM people_live), (SELECT count(*) FROM visits_live), (SELECT count(code) FROM cards)";
        let rest = (before.parse::<usize>()? - gone.len()).to_string();
        assert_eq!(session.rows(left)?, [format!("{rest}|{rest}|{rest}")]);
        session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE restorable")?;
        assert_eq!(session.rows(left)?, ["2000|2000|2000"], "{condition}");
    }
    session.run("UPDATE people_live SET last = 'x' WHERE id = 5")?;
    assert_eq!(session.text("SELECT name FROM people_live WHERE id = 5")?, "f5 x");

    // Without a column that a foreign key references it does not say what belongs to a row.
    session.run(
        "CREATE OR REPLACE VIEW people_live WITH (security_invoker) AS
             SELECT id, upper(code) AS code, first, last, hidden, deleted_at, deleted_by, deletion_id, first || ' ' || last AS name
             FROM people WHERE deleted_at IS NULL",
    )?;
    let error = session.error("DELETE FROM people_live WHERE id = 7")?;
    assert_eq!(error.message(), "this view does not show the key columns of its table as they are");
    Ok(())
}

#[test]
fn a_computed_column_hides_no_change_of_the_others() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int); SELECT upkeep.enable_soft_delete('t');
         INSERT INTO t VALUES (1, 1, 1);
         CREATE OR REPLACE VIEW t_live WITH (security_invoker) AS
             SELECT id, a, b + 1 AS b, deleted_at, deleted_by, deletion_id FROM t WHERE deleted_at IS NULL",
    )?;
    let mut other = db.connect()?;
    other.run("BEGIN; UPDATE t SET a = 2")?;
    let pid = session.pid()?;
    let deleting = thread::spawn(move || session.error("DELETE FROM t_live WHERE id = 1"));
    let mut look = db.connect()?;
    let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_for_text(&mut look, &waits, "Lock")?;
    other.run("COMMIT")?;
    assert_eq!(join(deleting)??.code().code(), "40001");
    Ok(())
}
