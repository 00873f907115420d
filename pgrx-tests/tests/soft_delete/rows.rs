//! Soft delete as somebody sees it: through the view, by the function, by an UPDATE; and what must not be possible.

use anyhow::Result;
use upkeep_tests::jobs::{fields, sqlstate};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

/// `parent` with five rows, `child` (CASCADE) with four for each, `note` (SET NULL) with one for each.
fn family(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE TABLE parent (id int PRIMARY KEY, email text, n int NOT NULL DEFAULT 0);
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
         CREATE TABLE note (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL);
         INSERT INTO parent SELECT g, 'e' || g FROM generate_series(1, 5) g;
         INSERT INTO child SELECT g, (g - 1) / 4 + 1 FROM generate_series(1, 20) g;
         INSERT INTO note SELECT g, g FROM generate_series(1, 5) g;
         SELECT upkeep.enable_soft_delete('child'), upkeep.enable_soft_delete('parent')",
    )
}

const LIVE: &str = "SELECT (SELECT count(*) FROM parent_live), (SELECT count(*) FROM child_live),
                           (SELECT count(*) FROM note WHERE parent IS NULL)";

#[test]
fn delete_through_the_view_is_a_delete() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    assert_eq!(session.rows("DELETE FROM parent_live WHERE id IN (1, 2) RETURNING id, n")?, ["1|0", "2|0"]);
    assert_eq!(session.text(LIVE)?, "3|12|2");
    // The count, as the server reports it and as PL/pgSQL sees it.
    session.run(
        "DO $$DECLARE c int; BEGIN
             DELETE FROM parent_live WHERE id IN (1, 3); GET DIAGNOSTICS c = ROW_COUNT;
             ASSERT c = 1 AND FOUND, c::text;
             DELETE FROM parent_live WHERE id IN (1, 3); GET DIAGNOSTICS c = ROW_COUNT;
             ASSERT c = 0 AND NOT FOUND, c::text;
         END$$",
    )?;
    let inside = "WITH gone AS (DELETE FROM parent_live WHERE id = 4 RETURNING *) SELECT count(*) FROM gone";
    assert_eq!(session.text(inside)?, "1");
    assert_eq!(session.text(LIVE)?, "1|4|4");
    assert_eq!(session.text("SELECT count(*) FROM parent")?, "5");
    assert_eq!(session.text("SELECT count(DISTINCT deletion_id) FROM child")?, "3");
    // Nothing is left behind by what comes back.
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.text(LIVE)?, "5|20|0");
    assert_eq!(
        session.text("SELECT count(*) FROM child WHERE num_nonnulls(deleted_at, deleted_by, deletion_id) > 0")?,
        "0"
    );
    assert_eq!(session.text("SELECT count(*) FROM note WHERE id = parent")?, "5");
    let again = session.error("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(again.code().code(), "55000");
    assert_eq!(session.text("SELECT bool_or(restorable) FROM upkeep.deletions")?, "f");
    Ok(())
}

#[test]
fn the_view_is_the_table() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE account (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text, n int DEFAULT 7);
         INSERT INTO account (email) SELECT 'e' || g FROM generate_series(1, 1000) g;
         SELECT upkeep.enable_soft_delete('account');
         CREATE UNIQUE INDEX account_email ON account (email) WHERE deleted_at IS NULL; ANALYZE account;
         DELETE FROM account_live WHERE email = 'e1'",
    )?;
    assert_eq!(session.text("INSERT INTO account_live (email) VALUES ('e1') RETURNING n")?, "7");
    let upsert = "INSERT INTO account_live (email) VALUES ('e1')
                  ON CONFLICT (email) WHERE deleted_at IS NULL DO UPDATE SET n = 8 RETURNING id, n";
    assert_eq!(session.text(upsert)?, "1001|8");
    assert_eq!(session.text("UPDATE account_live SET n = 9 WHERE email = 'e1' RETURNING id, n")?, "1001|9");
    // The same plan as with the condition written by hand.
    let plan = |session: &mut Session, from: &str| -> Result<String> {
        let lines = session.rows(&format!("EXPLAIN (COSTS OFF) SELECT * FROM {from}"))?;
        Ok(lines.join("\n").replace("on account t", "on account"))
    };
    let view = plan(&mut session, "account_live WHERE email = 'e7'")?;
    assert!(view.contains("Index Scan using account_email"), "{view}");
    assert_eq!(view, plan(&mut session, "account WHERE email = 'e7' AND deleted_at IS NULL")?);
    // What cannot work says so with the server's own words.
    assert_eq!(sqlstate(&mut session, "TRUNCATE account_live")?, "42809");
    assert_eq!(sqlstate(&mut session, "CREATE TABLE r (a int REFERENCES account_live)")?, "42809");
    assert_eq!(sqlstate(&mut session, "COPY account_live TO STDOUT")?, "42809");
    Ok(())
}

#[test]
fn statements_of_a_transaction_share_a_deletion_and_savepoints_count() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "BEGIN; DELETE FROM parent_live WHERE id = 1; SAVEPOINT s; DELETE FROM parent_live WHERE id = 2;
         SELECT upkeep.soft_delete('parent', 'id = 3'); ROLLBACK TO s; UPDATE parent SET deleted_at = now() WHERE id = 4;
         SELECT upkeep.soft_delete('parent', 'id = 5', 'its own'); COMMIT",
    )?;
    let deletions = "SELECT reason, rows FROM upkeep.deletions ORDER BY reason NULLS FIRST";
    assert_eq!(session.rows(deletions)?, [r#"|{"child": 8, "parent": 2}"#, r#"its own|{"child": 4, "parent": 1}"#]);
    assert_eq!(session.text(LIVE)?, "2|8|3");
    // Begun in a savepoint that is rolled back: the next statement begins another.
    session.run(
        "BEGIN; SAVEPOINT s; DELETE FROM parent_live WHERE id = 2; ROLLBACK TO s; DELETE FROM parent_live WHERE id = 3; COMMIT;
         DO $$BEGIN
             BEGIN DELETE FROM parent_live WHERE id = 2; RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
         END$$",
    )?;
    assert_eq!(session.text("SELECT count(*), count(DISTINCT id) FROM upkeep.deletions")?, "3|3");
    assert_eq!(session.text("SELECT string_agg(id::text, ' ') FROM parent_live")?, "2");
    assert_eq!(session.text("SELECT upkeep.soft_delete('parent', 'false') IS NULL")?, "t");
    assert_eq!(session.text("SELECT count(*) FROM upkeep.deletions")?, "3");
    Ok(())
}

#[test]
fn rows_do_not_go_for_good_by_accident() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("app")?;
    let mut session = db.connect_as(&role)?;
    session.run("SET upkeep.allow_hard_delete = on").unwrap_or_default();
    let mut session = db.connect_as(&role)?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE top (id int PRIMARY KEY); ALTER TABLE parent ADD top int REFERENCES top ON DELETE CASCADE;
                 INSERT INTO top VALUES (1), (2); UPDATE parent SET top = 1 WHERE id = 1",
    )?;
    for statement in ["DELETE FROM child", "TRUNCATE parent CASCADE", "TRUNCATE child", "DELETE FROM top WHERE id = 1"]
    {
        let error = session.error(statement)?;
        assert_eq!(error.code().code(), "55000", "{statement}");
        assert!(error.hint().is_some_and(|hint| hint.contains("upkeep.soft_delete(")), "{error:?}");
    }
    // A cascade that reaches no row, and a statement that meets none, are nobody's loss.
    session.run("DELETE FROM top WHERE id = 2; DELETE FROM child WHERE false")?;
    assert_eq!(sqlstate(&mut session, "SET upkeep.allow_hard_delete = on")?, "42501");
    assert_eq!(session.text(LIVE)?, "5|20|0");
    db.connect()?.run(&format!("GRANT SET ON PARAMETER upkeep.allow_hard_delete TO {role}"))?;
    session.run("BEGIN; SET LOCAL upkeep.allow_hard_delete = on; DELETE FROM child WHERE id = 1; COMMIT")?;
    assert_eq!(session.text(LIVE)?, "5|19|0");
    assert_eq!(sqlstate(&mut session, "DELETE FROM child")?, "55000");
    // Logical replication applies what the other side has done.
    let mut superuser = db.connect()?;
    superuser.run("SET session_replication_role = replica; DELETE FROM child WHERE id = 2")?;
    assert_eq!(session.text(LIVE)?, "5|18|0");
    Ok(())
}

/// LAW 12.
#[test]
fn foreign_errors_pass_unchanged() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run(
        "CREATE TABLE log (id int CONSTRAINT log_key PRIMARY KEY); INSERT INTO log VALUES (1);
         CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             CASE current_setting('test.mode', true)
             WHEN 'own' THEN RAISE 'not on a Sunday' USING ERRCODE = 'ABC01', DETAIL = 'it is one', HINT = 'come tomorrow',
                 SCHEMA = 'shop', TABLE = 'goods', COLUMN = 'price', DATATYPE = 'numeric', CONSTRAINT = 'sunday';
             WHEN 'unique' THEN INSERT INTO log VALUES (1);
             ELSE NULL; END CASE;
             RETURN NULL; END$$;
         CREATE TRIGGER watch AFTER UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION watch();
         CREATE TRIGGER watch AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION watch()",
    )?;
    for mode in ["own", "unique"] {
        session.run(&format!("SET test.mode = '{mode}'"))?;
        let plain = fields(&mut session, "UPDATE child SET parent = parent WHERE id = 1")?;
        assert_eq!(plain[0], if mode == "own" { "ABC01" } else { "23505" });
        for statement in [
            "DELETE FROM child_live WHERE id = 1",
            "UPDATE child SET deleted_at = now() WHERE id = 1",
            "SELECT upkeep.soft_delete('child', 'id = 1')",
            "SELECT upkeep.soft_delete('parent', 'id = 1')",
        ] {
            assert_eq!(fields(&mut session, statement)?, plain, "{statement}");
        }
    }
    // The books are right after all that.
    session.run("SET test.mode = ''; DELETE FROM parent_live WHERE id = 1")?;
    assert_eq!(session.text("SELECT rows FROM upkeep.deletions")?, r#"{"child": 4, "parent": 1}"#);
    for mode in ["own", "unique"] {
        session.run(&format!("SET test.mode = '{mode}'"))?;
        let plain = fields(&mut session, "UPDATE child SET parent = parent WHERE id = 5")?;
        let id = session.text("SELECT id FROM upkeep.deletions")?;
        assert_eq!(fields(&mut session, &format!("SELECT upkeep.undelete('{id}')"))?, plain);
        assert_eq!(fields(&mut session, "SELECT upkeep.undelete('parent', 'true')")?, plain);
    }
    session.run("SET test.mode = ''; SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.text(LIVE)?, "5|20|0");
    let division = fields(&mut session, "UPDATE child SET parent = 1 WHERE id / 0 = 1")?;
    assert_eq!(fields(&mut session, "SELECT upkeep.soft_delete('child', 'id / 0 = 1')")?, division);
    Ok(())
}

/// What the cascade does it does as the server's own foreign keys would; what the caller says runs as the caller.
#[test]
fn everything_runs_as_who_it_should() -> Result<()> {
    let db = testing::database()?;
    let (owner, app, stranger) = (db.role("owner")?, db.role("app")?, db.role("stranger")?);
    let mut session = db.connect_as(&owner)?;
    family(&mut session)?;
    session.run(&format!(
        "GRANT SELECT, UPDATE ON parent TO {app}; GRANT SELECT, DELETE ON parent_live TO {app};
        GRANT SELECT ON parent_live TO {stranger}; GRANT SELECT, UPDATE ON parent TO {stranger}; \
        REVOKE UPDATE ON parent FROM {stranger}"
    ))?;
    let mut app = db.connect_as(&app)?;
    assert_eq!(sqlstate(&mut app, "SELECT count(*) FROM child")?, "42501");
    app.run("DELETE FROM parent_live WHERE id = 1")?;
    assert_eq!(session.text(LIVE)?, "4|16|1");
    assert_eq!(app.text("SELECT count(*) FROM upkeep.deletions")?, "0", "the owner's to see");
    let id = session.text("SELECT id FROM upkeep.deletions")?;
    let mut stranger = db.connect_as(&stranger)?;
    assert_eq!(sqlstate(&mut stranger, &format!("SELECT upkeep.undelete('{id}')"))?, "42501");
    assert_eq!(sqlstate(&mut stranger, "SELECT upkeep.soft_delete('parent', 'true')")?, "42501");
    assert_eq!(sqlstate(&mut stranger, "DELETE FROM parent_live")?, "42501");
    assert_eq!(sqlstate(&mut stranger, "SELECT upkeep.disable_soft_delete('parent', 'keep')")?, "42501");
    assert_eq!(sqlstate(&mut stranger, "SELECT upkeep.enable_soft_delete('note')")?, "42501");
    app.run(&format!("SELECT upkeep.undelete('{id}')"))?;
    assert_eq!(session.text(LIVE)?, "5|20|0");

    // LAW 2, and names that mean something else to the caller.
    app.run("RESET ALL").ok();
    db.connect()?
        .run(&format!("CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO {}", app.text("SELECT current_user")?))?;
    app.run(
        "CREATE FUNCTION evil.tell(int, int) RETURNS boolean LANGUAGE plpgsql AS
         $$BEGIN RAISE WARNING 'spy: %', current_user; RETURN pg_catalog.int4eq($1, $2); END$$;
         CREATE OPERATOR evil.= (FUNCTION = evil.tell, LEFTARG = int, RIGHTARG = int);
         CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE WARNING 'spy: %', current_user; RETURN 0; END$$;
         SET search_path = evil, pg_catalog, public",
    )?;
    app.notices();
    app.run("SELECT upkeep.soft_delete('public.parent', 'id = 1 OR id = 2')")?;
    let heard: Vec<String> = app.notices().iter().map(|n| n.message().to_owned()).collect();
    let me = app.text("SELECT current_user")?;
    assert!(!heard.is_empty() && heard.iter().all(|said| *said == format!("spy: {me}")), "{heard:?}");
    app.run("DELETE FROM public.parent_live WHERE pg_catalog.int4eq(id, 3)")?;
    app.notices();
    for id in session.values::<String>("SELECT id::text FROM upkeep.deletions WHERE restorable")? {
        app.run(&format!("SELECT upkeep.undelete('{id}')"))?;
    }
    let heard: Vec<String> = app.notices().iter().map(|n| n.message().to_owned()).collect();
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!(session.text(LIVE)?, "5|20|0");
    Ok(())
}

/// Tables that reference each other belong to different roles, which need no rights on each other's.
#[test]
fn tables_of_other_owners_go_along_as_their_owners() -> Result<()> {
    let db = testing::database()?;
    let (ann, bob) = (db.role("ann")?, db.role("bob")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE SCHEMA a AUTHORIZATION {ann}; CREATE SCHEMA b AUTHORIZATION {bob}; GRANT USAGE ON SCHEMA a TO {bob}"
    ))?;
    let (mut ann_session, mut bob_session) = (db.connect_as(&ann)?, db.connect_as(&bob)?);
    ann_session.run(&format!(
        "CREATE TABLE a.parent (id int PRIMARY KEY); INSERT INTO a.parent SELECT generate_series(1, 9);
         GRANT REFERENCES ON a.parent TO {bob}"
    ))?;
    bob_session.run(
        "CREATE TABLE b.child (id int PRIMARY KEY, parent int REFERENCES a.parent ON DELETE CASCADE);
         CREATE TABLE b.note (id int PRIMARY KEY, parent int REFERENCES a.parent ON DELETE SET NULL);
         INSERT INTO b.child SELECT g, g FROM generate_series(1, 9) g; INSERT INTO b.note SELECT * FROM b.child;
         SELECT upkeep.enable_soft_delete('b.child')",
    )?;
    ann_session.run("SELECT upkeep.enable_soft_delete('a.parent'); DELETE FROM a.parent_live WHERE id = 1")?;
    let counts = "SELECT (SELECT count(*) FROM b.child_live), (SELECT count(parent) FROM b.note)";
    assert_eq!(bob_session.rows(counts)?, ["8|8"]);
    assert_eq!(sqlstate(&mut ann_session, "SELECT count(*) FROM b.child")?, "42501");
    // A row that would reference the deleted one is refused without telling more than the key.
    assert_eq!(sqlstate(&mut bob_session, "INSERT INTO b.child VALUES (10, 1)")?, "23503");

    for (lose, gain) in [
        (format!("REVOKE USAGE ON SCHEMA b FROM {bob}"), format!("GRANT USAGE ON SCHEMA b TO {bob}")),
        (format!("REVOKE UPDATE ON b.note FROM {bob}"), format!("GRANT UPDATE ON b.note TO {bob}")),
        (format!("REVOKE SELECT ON b.child FROM {bob}"), format!("GRANT SELECT ON b.child TO {bob}")),
    ] {
        admin.run(&lose)?;
        let mut ann_session = db.connect_as(&ann)?;
        for statement in ["DELETE FROM a.parent_live WHERE id = 2", "SELECT upkeep.soft_delete('a.parent', 'id = 2')"] {
            let error = ann_session.error(statement)?;
            assert_eq!(error.code().code(), "42501", "{lose}: {error:?}");
            assert!(error.message().contains(&bob), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains(" ON SCHEMA b TO ")), "{error:?}");
        }
        // Nothing else is held up, and a grant is seen at once.
        ann_session.run("UPDATE a.parent SET id = id WHERE id = 2; INSERT INTO a.parent_live VALUES (100)")?;
        admin.run(&gain)?;
        ann_session
            .run("DELETE FROM a.parent_live WHERE id IN (2, 100); SELECT upkeep.undelete('a.parent', 'id = 2')")?;
        ann_session.run(
            "SELECT upkeep.undelete(id) FROM (SELECT id FROM upkeep.deletions ORDER BY deleted_at DESC \
             LIMIT 1) d; UPDATE a.parent SET deleted_at = now() WHERE id = 100",
        )?;
        admin.run("SET upkeep.allow_hard_delete = on; DELETE FROM a.parent WHERE id = 100")?;
    }
    Ok(())
}

#[test]
fn row_security_is_the_callers() -> Result<()> {
    let db = testing::database()?;
    let (owner, app) = (db.role("owner")?, db.role("app")?);
    let mut session = db.connect_as(&owner)?;
    family(&mut session)?;
    session.run(&format!(
        "ALTER TABLE parent ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON parent USING (id < 3);
         GRANT SELECT, UPDATE ON parent TO {app}; GRANT SELECT, DELETE ON parent_live TO {app}"
    ))?;
    let mut app = db.connect_as(&app)?;
    assert_eq!(app.text("SELECT count(*) FROM parent_live")?, "2");
    app.run("DELETE FROM parent_live WHERE id IN (1, 4)")?;
    app.run("SELECT upkeep.soft_delete('parent', 'true')")?;
    assert_eq!(session.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM parent_live")?, "3 4 5");
    assert_eq!(session.text(LIVE)?, "3|12|2");
    assert_eq!(app.text("SELECT upkeep.undelete('parent', 'true')")?, "2");
    Ok(())
}

#[test]
fn hostile_names() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        r#"CREATE SCHEMA "s ""'; --"; SET search_path = "s ""'; --";
           CREATE TABLE "t ""'$$;" ("i ""d'" int PRIMARY KEY, "t" int, "d" int, "gone" int, "k0" int, "select" text);
           CREATE TABLE "c \\ '" (id int PRIMARY KEY, "f""k'" int CONSTRAINT "f ""k'\" REFERENCES "t ""'$$;" ON DELETE CASCADE);
           CREATE TABLE "n '" ("i'd" int PRIMARY KEY, "f""k'" int DEFAULT 2 REFERENCES "t ""'$$;" ON DELETE SET DEFAULT);
           INSERT INTO "t ""'$$;" SELECT g FROM generate_series(1, 3) g;
           INSERT INTO "c \\ '" VALUES (1, 1); INSERT INTO "n '" VALUES (1, 1);
           SELECT upkeep.enable_soft_delete('"c \\ ''"', deleted_at => 'a''"\', flag => 'fl"ag''');
           SELECT upkeep.enable_soft_delete('"t ""''$$;"', 'swap', deletion_id => 'x "''');"#,
    )?;
    session.run(r#"DELETE FROM "t ""'$$;" WHERE "i ""d'" = 1"#)?;
    assert_eq!(session.text(r#"SELECT "fl""ag'" FROM "c \\ '""#)?, "t");
    assert_eq!(session.text(r#"SELECT "f""k'" FROM "n '""#)?, "2");
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.text(r#"SELECT "fl""ag'" FROM "c \\ '""#)?, "f");
    assert_eq!(session.text(r#"SELECT "f""k'" FROM "n '""#)?, "1");
    session.run(r#"SELECT upkeep.soft_delete('"t ""''$$;"', '"t ""''$$;"."i ""d''" = 3 -- all')"#)?;
    for (condition, code) in
        [("true) OR (true", "42601"), ("true; SELECT 1", "42601"), ("", "22023"), ("WHERE true", "42601")]
    {
        let call = format!(r#"SELECT upkeep.soft_delete('"c \\ ''"', '{condition}')"#);
        assert_eq!(sqlstate(&mut session, &call)?, code, "{condition}");
    }
    session
        .run(r#"SELECT upkeep.disable_soft_delete('"t ""''$$;"', 'keep'), upkeep.disable_soft_delete('"c \\ ''"')"#)?;
    assert_eq!(session.text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%upkeep%'")?, "0");
    Ok(())
}

/// What has been planned follows the tables.
#[test]
fn ddl_between_two_deletions() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    session.run("DELETE FROM parent_live WHERE id = 1; SELECT upkeep.soft_delete('parent', 'id = 2')")?;
    db.connect()?.run(
        "CREATE TABLE late (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL);
         INSERT INTO late VALUES (1, 3), (2, 4); ALTER TABLE child RENAME parent TO mother; ALTER TABLE child RENAME TO kid",
    )?;
    let live = LIVE.replace("child_live", "kid_live");
    session.run("DELETE FROM parent_live WHERE id = 3; SELECT upkeep.soft_delete('parent', 'id = 4')")?;
    assert_eq!(session.text("SELECT count(*) FROM late WHERE parent IS NULL")?, "2");
    assert_eq!(session.text(&live)?, "1|4|4");
    session.run("ALTER TABLE note RENAME id TO number")?;
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    session.run("ALTER TABLE note RENAME number TO id")?;
    assert_eq!(session.text(&live)?, "5|20|0");
    Ok(())
}

#[test]
fn user_triggers_on_the_same_events() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    family(&mut session)?;
    // A trigger of somebody's own deletes more, by hand and through a view: it joins the deletion under way.
    session.run(
        "CREATE TABLE more (id int PRIMARY KEY, child int); INSERT INTO more SELECT g, g FROM generate_series(1, 20) g;
         SELECT upkeep.enable_soft_delete('more');
         CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
                 IF NEW.id % 2 = 0 THEN DELETE FROM more_live WHERE child = NEW.id;
                 ELSE UPDATE more SET deleted_at = NEW.deleted_at, deletion_id = NEW.deletion_id WHERE child = NEW.id; END IF;
             END IF; RETURN NULL; END$$;
         CREATE TRIGGER also AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION also();
         SELECT upkeep.soft_delete('parent', 'id = 1')",
    )?;
    assert_eq!(session.text("SELECT rows FROM upkeep.deletions")?, r#"{"more": 4, "child": 4, "parent": 1}"#);
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(session.text("SELECT count(*) FROM more_live")?, "20");
    Ok(())
}

/// Made for a table that the dump carries, found again by name.
#[test]
fn a_dump_carries_all_of_it() -> Result<()> {
    let server = testing::server("dump").preloaded().start()?;
    let mut session = server.with_extension("here")?;
    family(&mut session)?;
    session.run("DELETE FROM parent_live WHERE id = 1; SELECT upkeep.soft_delete('child', 'id = 20', 'why')")?;
    let dump = server.dump("here")?;
    server.restore("there", &dump)?;
    let mut restored = server.connect("there")?;
    assert_eq!(restored.text(LIVE)?, "4|15|1");
    assert_eq!(sqlstate(&mut restored, "DELETE FROM child WHERE id = 20")?, "55000");
    assert_eq!(sqlstate(&mut restored, "INSERT INTO child VALUES (100, 1)")?, "23503");
    restored.run("DELETE FROM parent_live WHERE id = 2; SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
    assert_eq!(restored.text(LIVE)?, "5|20|0");
    assert_eq!(
        restored.text("SELECT relid = 'parent'::regclass FROM upkeep.soft_delete_tables WHERE relname = 'parent'")?,
        "t"
    );
    // LAW 26.
    assert_eq!(sqlstate(&mut restored, "DROP EXTENSION pg_upkeep")?, "2BP01");
    restored.run("DROP EXTENSION pg_upkeep CASCADE; INSERT INTO child VALUES (100, 1); DELETE FROM child")?;
    Ok(())
}

/// LAW 6: the name can be taken before the library is there.
#[test]
fn a_forged_setting_opens_nothing() -> Result<()> {
    let db: Database = testing::database_without_preload()?;
    let role = db.role("thief")?;
    family(&mut db.connect()?)?;
    db.connect()?.run(&format!("GRANT ALL ON child TO {role}"))?;
    let mut session = db.connect_as(&role)?;
    session.run("SET upkeep.allow_hard_delete = on")?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM child")?, "55000");
    Ok(())
}

#[test]
fn a_million_rows_go_and_come_back() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 1000000) g;
         SELECT upkeep.enable_soft_delete('t')",
    )?;
    let sums = "SELECT count(*), sum(id::bigint * n) FROM t_live";
    let before = session.rows(sums)?;
    let deletion = session.text("SELECT upkeep.soft_delete('t', 'true', 'all of them')")?;
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "0");
    assert_eq!(session.text("SELECT rows ->> 't' FROM upkeep.deletions")?, "1000000");
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?, "1000000");
    assert_eq!(session.rows(sums)?, before);
    Ok(())
}

#[test]
fn what_is_deleted_after_an_undelete_is_another_deletion() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('b'), upkeep.enable_soft_delete('a');
         INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1);
         BEGIN; DELETE FROM a_live; SELECT upkeep.undelete(id) FROM upkeep.deletions; DELETE FROM a_live; COMMIT",
    )?;
    let known = "SELECT string_agg(restorable::text, ' ' ORDER BY id) FROM upkeep.deletions";
    assert_eq!(session.text(known)?, "false true");
    assert_eq!(session.text("SELECT upkeep.undelete(id) FROM upkeep.deletions WHERE restorable")?, "2");
    assert_eq!(session.rows("SELECT (SELECT count(*) FROM a_live), (SELECT count(*) FROM b_live)")?, ["1|1"]);
    // A deletion of a table that is gone is only a record, which can be held as well.
    session.run("DELETE FROM b_live; DROP TABLE b CASCADE")?;
    session.run("SELECT upkeep.hold_deletion(id, 'court') FROM upkeep.deletions WHERE restorable IS FALSE")?;
    Ok(())
}

#[test]
fn conditions_have_no_parameters() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, x text); SELECT upkeep.enable_soft_delete('t'); INSERT INTO t VALUES (1, '$1')",
    )?;
    for refused in [
        "SELECT upkeep.soft_delete('t', '$1 IS NOT NULL')",
        "SELECT upkeep.soft_delete('t_live', 'id IN (SELECT 1 WHERE $2 > now())')",
        "SELECT upkeep.undelete('t', '$3 IS NULL')",
    ] {
        assert_eq!(sqlstate(&mut session, refused)?, "42P02", "{refused}");
    }
    session.run("SELECT upkeep.soft_delete('t', $$t.x = '$1'$$)")?;
    assert_eq!(session.text("SELECT count(*) FROM t_live")?, "0");
    Ok(())
}
