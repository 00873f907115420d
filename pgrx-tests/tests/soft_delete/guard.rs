//! What lets rows go for good lets no other rows go: the guard during a purge, and the end of soft delete.

use anyhow::Result;
use upkeep_tests::jobs::{fields, join, meanwhile, sqlstate, wait, wait_for_error};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text};

/// Parents with a child each; `note()` does what the setting `test.mode` says when a parent is deleted for good.
fn family(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
         CREATE INDEX ON child (parent);
         INSERT INTO parent SELECT generate_series(1, 20); INSERT INTO child SELECT g, g FROM generate_series(1, 20) g;
         SELECT upkeep.enable_soft_delete('child'), upkeep.enable_soft_delete('parent');
         CREATE INDEX ON parent (deleted_at) WHERE deleted_at IS NOT NULL",
    )
}

/// A trigger on `parent` that runs this for each row.
fn on_delete(session: &mut Session, statement: &str) -> Result<()> {
    session.run(&format!(
        "CREATE OR REPLACE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {statement}; RETURN OLD; END$$;
         DROP TRIGGER IF EXISTS also ON parent;
         CREATE TRIGGER also BEFORE DELETE ON parent FOR EACH ROW EXECUTE FUNCTION also()"
    ))
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child)";

#[test]
fn a_purge_opens_the_guard_for_what_it_purges_only() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 20);
         SELECT upkeep.enable_soft_delete('other');
         SELECT upkeep.soft_delete('parent', 'id <= 5')",
    )?;
    let held = session.text("SELECT upkeep.soft_delete('other', 'id = 1')")?;
    session
        .run(&format!("SELECT upkeep.hold_deletion('{held}', 'evidence'), upkeep.soft_delete('other', 'id = 2')"))?;
    session.run("UPDATE parent SET deleted_at = deleted_at - interval '2 days' WHERE deleted_at IS NOT NULL")?;
    session.run("UPDATE child SET deleted_at = deleted_at - interval '2 days' WHERE deleted_at IS NOT NULL")?;
    for (statement, what) in [
        ("DELETE FROM public.other WHERE id = 3", "live"),
        ("DELETE FROM public.other WHERE id = 2 + OLD.id", "live"),
        ("DELETE FROM public.child WHERE parent > 5", "live, of a table of the family"),
        ("DELETE FROM public.other WHERE id = 1", "held"),
        ("DELETE FROM public.other WHERE id = 2", "deleted today"),
        ("TRUNCATE public.other", "all"),
    ] {
        on_delete(&mut session, statement)?;
        let job = session.text("SELECT upkeep.purge_deleted('parent', '1 day')")?;
        let error = wait_for_error(&mut session, &job)?;
        assert_eq!(error.code().code(), "55000", "{what}: {error:?}");
        assert!(error.detail().is_some_and(|detail| detail.contains("this is another statement")), "{error:?}");
        assert_eq!(session.rows(COUNTS)?, ["20|20"], "{what}");
        assert_eq!(session.text("SELECT count(*) FROM other")?, "20", "{what}");
    }
    // What is due as well, but not this purge's.
    session.run("UPDATE other SET deleted_at = deleted_at - interval '2 days' WHERE id = 2")?;
    for (statement, table) in
        [("DELETE FROM public.other WHERE id = 2", "other"), ("DELETE FROM public.child WHERE id = 5", "child")]
    {
        on_delete(&mut session, statement)?;
        let job = session.text("SELECT upkeep.purge_deleted('parent', '1 day')")?;
        let error = wait_for_error(&mut session, &job)?;
        assert_eq!(error.code().code(), "55000", "{error:?}");
        assert!(error.message().contains(&format!("\"{table}\"")), "{error:?}");
    }
    on_delete(&mut session, "PERFORM 1")?;
    let job = session.text("SELECT upkeep.purge_deleted('parent', '1 day')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.rows(COUNTS)?, ["15|15"]);
    assert_eq!(session.text("SELECT count(*) FROM other")?, "20");
    Ok(())
}

/// Whoever may delete rows of a table, but not for good, does not get there by the end of soft delete of a table of his own.
#[test]
fn the_end_of_soft_delete_opens_no_other_table() -> Result<()> {
    let db = testing::database()?;
    let (alice, mallory) = (db.role("alice")?, db.role("mallory")?);
    let mut owner = db.connect_as(&alice)?;
    owner.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10);
         SELECT upkeep.enable_soft_delete('t'), upkeep.soft_delete('t', 'id <= 5');
         GRANT SELECT, DELETE ON t TO {mallory}"
    ))?;
    let mut session = db.connect_as(&mallory)?;
    session.run(
        "CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1), (2);
         SELECT upkeep.enable_soft_delete('x'), upkeep.soft_delete('x', 'id = 1');
         CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN DELETE FROM public.t WHERE deleted_at IS NOT NULL; RETURN OLD; END$$;
         CREATE TRIGGER also BEFORE DELETE ON x FOR EACH ROW EXECUTE FUNCTION also()",
    )?;
    let error = session.error("SELECT upkeep.disable_soft_delete('x', 'purge')")?;
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.message().contains("\"t\""), "{error:?}");
    // Nor by a function that is written in SQL, which needs no connection of its own.
    session.run(
        "CREATE FUNCTION gone() RETURNS void LANGUAGE sql AS $$DELETE FROM public.t WHERE deleted_at IS NOT NULL$$;
         CREATE OR REPLACE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.gone(); RETURN OLD; END$$",
    )?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.disable_soft_delete('x', 'purge')")?, "55000");
    assert_eq!(owner.text("SELECT count(*) FROM t")?, "10");
    session.run("DROP TRIGGER also ON x; SELECT upkeep.disable_soft_delete('x', 'purge')")?;
    assert_eq!(session.text("SELECT count(*) FROM x")?, "1");
    Ok(())
}

/// What functions do that a statement of ours calls is somebody's own doing, on the same table and at the same depth.
#[test]
fn functions_that_our_statements_call_do_nothing_in_our_name() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    const BY_HAND: &str =
        "UPDATE public.child SET deleted_at = NULL, deletion_id = NULL, deleted_by = NULL WHERE id = 2";
    session.run(&format!(
        "SELECT upkeep.soft_delete('child', 'id = 1'), upkeep.soft_delete('parent', 'id = 2');
         CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN {BY_HAND}; RETURN true; END$$;
         CREATE FUNCTION g() RETURNS boolean LANGUAGE sql AS $${BY_HAND} RETURNING true$$"
    ))?;
    assert_eq!(sqlstate(&mut session, BY_HAND)?, "23503");
    for condition in ["id = 1 AND f()", "id = 1 AND g()"] {
        assert_eq!(
            sqlstate(&mut session, &format!("SELECT upkeep.undelete('child', '{condition}')"))?,
            "23503",
            "{condition}"
        );
    }
    assert_eq!(session.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM child_deleted")?, "1 2");

    // A row that is deleted with the id of a deletion under way takes its children along, and is counted.
    session.run(
        "CREATE FUNCTION h(k int, deletion uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
             IF k = 11 AND deletion IS NOT NULL THEN
                 UPDATE public.parent p SET deleted_at = now(), deletion_id = deletion WHERE p.id = 12;
             END IF;
             RETURN true; END$$;
         ALTER TABLE parent ADD CHECK (h(id, deletion_id))",
    )?;
    let deletion = session.text("SELECT upkeep.soft_delete('parent', 'id = 11')")?;
    for table in ["parent", "child"] {
        let gone = format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {table}_deleted WHERE id > 10");
        assert_eq!(session.text(&gone)?, "11 12", "{table}");
        let counted = format!(
            "SELECT rows FROM upkeep._deletion_table WHERE deletion = '{deletion}' AND relid = '{table}'::regclass"
        );
        assert_eq!(session.text(&counted)?, "2", "{table}");
    }
    Ok(())
}

/// The version of a row may only be left out by a deletion itself.
#[test]
fn functions_that_our_statements_call_send_the_version() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE v (id int PRIMARY KEY, n int, version int NOT NULL DEFAULT 1); INSERT INTO v VALUES (1, 1), (2, 2);
         SELECT upkeep.enable_row_version('v', version => 'version', required => true), upkeep.enable_soft_delete('v');
         CREATE FUNCTION f(id int) RETURNS boolean LANGUAGE plpgsql AS
             $$BEGIN UPDATE public.v w SET n = 3 WHERE w.id = 2; RETURN true; END$$",
    )?;
    let plain = sqlstate(&mut session, "UPDATE v SET n = 3 WHERE id = 2")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.soft_delete('v', 'id = 1 AND f(id)')")?, plain);
    session.run("SELECT upkeep.soft_delete('v', 'id = 1')")?;
    Ok(())
}

#[test]
fn the_end_of_soft_delete_takes_no_live_row_along() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE users (id int PRIMARY KEY);
         CREATE TABLE tags (id int PRIMARY KEY, \"user\" int REFERENCES users ON DELETE CASCADE);
         CREATE TABLE pictures (id int PRIMARY KEY, tag int REFERENCES tags ON DELETE CASCADE);
         INSERT INTO users VALUES (1), (2); INSERT INTO tags VALUES (1, 1), (2, 2); INSERT INTO pictures VALUES (1, 1), (2, 2);
         SELECT upkeep.enable_soft_delete('pictures'), upkeep.enable_soft_delete('users', on_unmanaged => 'ignore');
         SELECT upkeep.soft_delete('users', 'id = 1')",
    )?;
    const COUNTS: &str =
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tags), (SELECT count(*) FROM pictures)";
    let error = session.error("SELECT upkeep.disable_soft_delete('users', 'purge')")?;
    assert_eq!(error.code().code(), "55000");
    assert!(error.message().contains("\"pictures\""), "{error:?}");
    assert_eq!(session.rows(COUNTS)?, ["2|2|2"]);
    let picture = session.text("SELECT upkeep.soft_delete('pictures', 'id = 1')")?;
    session.run("SELECT upkeep.disable_soft_delete('users', 'purge')")?;
    assert_eq!(session.rows(COUNTS)?, ["1|1|1"]);
    // What went with them counts as purged.
    assert_eq!(
        session.rows("SELECT rows, purged FROM upkeep._deletion_table ORDER BY relid::text")?,
        ["1|1", "1|1"],
        "a picture and a user"
    );
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.undelete('{picture}')"))?, "55000");
    Ok(())
}

/// Rows that are held, rows that the owner's own policies hide, rows that a snapshot does not show.
#[test]
fn nothing_is_overlooked_when_soft_delete_ends() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    let held = session.text("SELECT upkeep.soft_delete('parent', 'id = 1')")?;
    session.run(&format!("SELECT upkeep.hold_deletion('{held}', 'case 7')"))?;
    for table in ["parent", "child"] {
        let error = session.error(&format!("SELECT upkeep.disable_soft_delete('{table}', 'purge')"))?;
        assert_eq!(error.code().code(), "55000", "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains(&held)), "{error:?}");
    }
    session.run(&format!("SELECT upkeep.release_deletion('{held}')"))?;

    let owner = db.role("owner")?;
    session.run(&format!(
        "ALTER TABLE parent OWNER TO {owner}; ALTER VIEW parent_live OWNER TO {owner}; ALTER VIEW parent_deleted OWNER TO {owner};
         ALTER TABLE child OWNER TO {owner}; ALTER VIEW child_live OWNER TO {owner}; ALTER VIEW child_deleted OWNER TO {owner};
         ALTER TABLE parent ENABLE ROW LEVEL SECURITY; ALTER TABLE parent FORCE ROW LEVEL SECURITY;
         CREATE POLICY tenth ON parent USING (id > 10)"
    ))?;
    let mut owner = db.connect_as(&owner)?;
    assert_eq!(owner.text("SELECT count(*) FROM parent_deleted")?, "0");
    assert_eq!(sqlstate(&mut owner, "SELECT upkeep.disable_soft_delete('parent')")?, "55000");
    owner.run("SELECT upkeep.disable_soft_delete('parent', 'purge')")?;
    assert_eq!(session.rows(COUNTS)?, ["19|19"]);

    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); SELECT upkeep.enable_soft_delete('t')",
    )?;
    let mut old = db.connect()?;
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class")?;
    session.run("SELECT upkeep.soft_delete('t', 'id = 1')")?;
    assert_eq!(sqlstate(&mut old, "SELECT upkeep.disable_soft_delete('t')")?, "55000");
    old.run("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class")?;
    session.run("SELECT upkeep.soft_delete('t', 'id = 2')")?;
    assert_eq!(sqlstate(&mut old, "SELECT upkeep.disable_soft_delete('t', 'purge')")?, "40001");
    old.run("ROLLBACK")?;
    // A deletion that is under way is waited for.
    session.run("INSERT INTO t VALUES (3); BEGIN; DELETE FROM t_live WHERE id = 3")?;
    let pid = old.pid()?;
    let ends = meanwhile(old, "SELECT upkeep.disable_soft_delete('t', 'purge')");
    let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_for_text(&mut session, &waits, "Lock")?;
    session.run("COMMIT")?;
    join(ends)?.1?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "0");
    Ok(())
}

/// LAW 12: what a trigger of the user's raises.
#[test]
fn foreign_errors_pass_the_end_of_soft_delete() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE log (id int CONSTRAINT log_key PRIMARY KEY); INSERT INTO log VALUES (1);
         CREATE TABLE keeps (child int CONSTRAINT of_a_child REFERENCES child); INSERT INTO keeps VALUES (3);
         CREATE TABLE spare (id int PRIMARY KEY); INSERT INTO spare VALUES (1); SELECT upkeep.enable_soft_delete('spare');
         SELECT upkeep.soft_delete('child', 'id = 1'), upkeep.soft_delete('spare', 'id = 1')",
    )?;
    let watch = "CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS";
    session.run(&format!(
        "{watch} $$BEGIN RETURN NULL; END$$;
         CREATE TRIGGER watch AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION watch()"
    ))?;
    for (body, code) in [
        (
            "RAISE 'not on a Sunday' USING ERRCODE = 'ABC01', DETAIL = 'it is one', HINT = 'come tomorrow',
             SCHEMA = 'shop', TABLE = 'goods', COLUMN = 'price', DATATYPE = 'numeric', CONSTRAINT = 'sunday';",
            "ABC01",
        ),
        ("INSERT INTO public.log VALUES (1);", "23505"),
        ("PERFORM 1 / 0;", "22012"),
        ("EXECUTE 'SELEC';", "42601"),
    ] {
        session.run(&format!("{watch} $$BEGIN {body} RETURN NULL; END$$"))?;
        let plain = fields(
            &mut session,
            "SET LOCAL upkeep.allow_hard_delete = on; DELETE FROM child WHERE deleted_at IS NOT NULL",
        )?;
        assert_eq!(plain[0], code);
        assert_eq!(fields(&mut session, "SELECT upkeep.disable_soft_delete('child', 'purge')")?, plain, "{body}");
        // The books are right after it, also within a transaction that goes on.
        session.run("BEGIN; SAVEPOINT s")?;
        session.error("SELECT upkeep.disable_soft_delete('child', 'purge')")?;
        session.run("ROLLBACK TO s")?;
        assert_eq!(sqlstate(&mut session, "DELETE FROM spare WHERE deleted_at IS NOT NULL")?, "55000");
        session.run("ROLLBACK")?;
    }
    // The server's own.
    session.run(&format!("{watch} $$BEGIN RETURN NULL; END$$"))?;
    session.run(
        "SET session_replication_role = replica; UPDATE child SET deleted_at = now() WHERE id = 3; \
         RESET session_replication_role",
    )?;
    let plain = fields(
        &mut session,
        "SET LOCAL upkeep.allow_hard_delete = on; DELETE FROM child WHERE deleted_at IS NOT NULL",
    )?;
    assert_eq!(plain[0], "23503");
    assert_eq!(fields(&mut session, "SELECT upkeep.disable_soft_delete('child', 'purge')")?, plain);
    Ok(())
}

/// A purge inside a purge, whose error is caught.
#[test]
fn the_guard_is_closed_again_after_a_failed_purge_inside_another() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE inner_one (id int PRIMARY KEY); INSERT INTO inner_one VALUES (1), (2);
         SELECT upkeep.enable_soft_delete('inner_one'), upkeep.soft_delete('inner_one', 'id = 1');
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
         CREATE TRIGGER no BEFORE DELETE ON inner_one FOR EACH ROW EXECUTE FUNCTION no();
         SELECT upkeep.soft_delete('parent', 'id = 1')",
    )?;
    on_delete(
        &mut session,
        "BEGIN PERFORM upkeep.disable_soft_delete('public.inner_one', 'purge'); EXCEPTION WHEN raise_exception THEN NULL; END",
    )?;
    session.run("BEGIN; SELECT upkeep.disable_soft_delete('parent', 'purge'); DROP TRIGGER no ON inner_one")?;
    assert_eq!(session.rows(COUNTS)?, ["19|19"]);
    assert_eq!(sqlstate(&mut session, "DELETE FROM inner_one WHERE id = 1")?, "55000");
    session.run("ROLLBACK")?;
    assert_eq!(session.rows(COUNTS)?, ["20|20"]);
    Ok(())
}

/// Columns in another order in a partition, and a time without a zone.
#[test]
fn the_guard_reads_rows_as_their_table_has_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int, k int, at timestamp, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 (junk int, deletion_id uuid, at timestamp, deleted_by text, k int NOT NULL, id int NOT NULL);
         ALTER TABLE p2 DROP COLUMN junk;
         SELECT upkeep.enable_soft_delete('p', deleted_at => 'at');
         ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
         INSERT INTO p SELECT g, g % 20 FROM generate_series(1, 200) g;
         SET TimeZone = 'Pacific/Kiritimati';
         SELECT upkeep.soft_delete('p', 'id <= 100')",
    )?;
    let job = session.text("SELECT upkeep.purge_deleted('p', '0')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM p")?, "100");
    session.run("SELECT upkeep.soft_delete('p', 'id <= 110')")?;
    for statement in ["DELETE FROM p2", "DELETE FROM p", "DELETE FROM p1 WHERE id = 101"] {
        assert_eq!(sqlstate(&mut session, statement)?, "55000", "{statement}");
    }
    session.run("SELECT upkeep.disable_soft_delete('p', 'purge')")?;
    assert_eq!(session.text("SELECT count(*) FROM p")?, "90");
    Ok(())
}

/// Anybody can make triggers of these functions, for events that they are not meant for: an error, and never a crash.
#[test]
fn triggers_made_of_our_functions_by_somebody_are_harmless() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE other (junk text, id int PRIMARY KEY); INSERT INTO other VALUES ('a', 1);
         CREATE TABLE refers (id int PRIMARY KEY, parent int REFERENCES parent); CREATE VIEW looks AS SELECT * FROM parent;
         SET upkeep.allow_hard_delete = on",
    )?;
    let tables = [
        (
            "parent",
            &[
                "INSERT INTO parent VALUES (99)",
                "UPDATE parent SET id = id + 100",
                "DELETE FROM parent",
                "TRUNCATE parent CASCADE",
            ][..],
        ),
        (
            "other",
            &[
                "INSERT INTO other VALUES ('b', 2)",
                "UPDATE other SET junk = 'b'",
                "DELETE FROM other",
                "TRUNCATE other",
            ],
        ),
        (
            "refers",
            &[
                "INSERT INTO refers VALUES (1, 1)",
                "UPDATE refers SET parent = 2",
                "DELETE FROM refers",
                "TRUNCATE refers",
            ],
        ),
        (
            "parent_live",
            &["INSERT INTO parent_live VALUES (99)", "UPDATE parent_live SET id = id + 100", "DELETE FROM parent_live"],
        ),
        ("looks", &["INSERT INTO looks VALUES (99)", "UPDATE looks SET id = id + 100", "DELETE FROM looks"]),
    ];
    let functions: Vec<String> = session.values(
        "SELECT oid::regproc::text FROM pg_proc WHERE pronamespace = 'upkeep'::regnamespace AND prorettype = 'trigger'::regtype",
    )?;
    assert!(functions.len() >= 8, "{functions:?}");
    let (mut made, mut refused) = (0, 0);
    for function in &functions {
        for (table, statements) in tables {
            for shape in [
                "BEFORE % FOR EACH ROW",
                "AFTER % FOR EACH ROW",
                "INSTEAD OF % FOR EACH ROW",
                "BEFORE % FOR EACH STATEMENT",
                "AFTER % FOR EACH STATEMENT",
            ] {
                for (event, statement) in ["INSERT", "UPDATE", "DELETE", "TRUNCATE"].iter().zip(statements) {
                    let shape = shape.replace('%', &format!("{event} ON {table}"));
                    session.run("BEGIN")?;
                    if session.run(&format!("CREATE TRIGGER zzz {shape} EXECUTE FUNCTION {function}()")).is_ok() {
                        made += 1;
                        refused += i32::from(session.run(statement).is_err());
                    }
                    session.run("ROLLBACK")?;
                }
            }
        }
    }
    assert!(made > 400 && refused > 100, "{made} triggers, {refused} refused");
    assert_eq!(session.rows(COUNTS)?, ["20|20"]);
    Ok(())
}

/// What the guard looks at as superuser is its transition table and nothing that the owner of the table can put in its place.
#[test]
fn the_guard_cannot_be_made_to_run_anything_as_superuser() -> Result<()> {
    let db = testing::database()?;
    let owner = db.role("owner")?;
    let mut session = db.connect_as(&owner)?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
         CREATE TABLE told (who text);
         SELECT upkeep.enable_soft_delete('t', 'none'), upkeep.soft_delete('t', 'id = 1');
         CREATE FUNCTION tell() RETURNS timestamptz LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO public.told VALUES (current_user); RETURN '-infinity'; END$$;
         CREATE VIEW deleted AS SELECT tell() AS deleted_at, NULL::uuid AS deletion_id;
         DROP TRIGGER upkeep_soft_delete_no_delete ON t;
         CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON t REFERENCING OLD TABLE AS gone \
         FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard()",
    )?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.disable_soft_delete('t', 'purge')")?, "55000");
    // A type of his own, with casts and operators of his own.
    session.run(
        "DROP TRIGGER upkeep_soft_delete_no_delete ON t; DROP TRIGGER upkeep_soft_delete_row ON t; \
         DROP TRIGGER upkeep_soft_delete_dead_row ON t;
         CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON t REFERENCING OLD TABLE AS deleted \
         FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();
         CREATE TYPE fake AS (a int);
         CREATE FUNCTION to_time(fake) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RETURN public.tell(); END$$;
         CREATE CAST (fake AS timestamptz) WITH FUNCTION to_time AS IMPLICIT;
         CREATE FUNCTION to_id(fake) RETURNS uuid LANGUAGE plpgsql AS $$BEGIN PERFORM public.tell(); RETURN NULL; END$$;
         CREATE CAST (fake AS uuid) WITH FUNCTION to_id AS IMPLICIT",
    )?;
    for column in ["deleted_at", "deletion_id"] {
        session.run(&format!(
            "BEGIN; ALTER TABLE t ALTER {column} TYPE fake USING CASE WHEN id = 1 THEN '(1)'::fake END"
        ))?;
        assert_eq!(sqlstate(&mut session, "SELECT upkeep.disable_soft_delete('t', 'purge')")?, "55000", "{column}");
        session.run("ROLLBACK")?;
    }
    assert_eq!(session.rows("SELECT who FROM told")?, [""; 0]);
    Ok(())
}
