//! What somebody with a table of his own can do to soft delete, and what others do to its names meanwhile: an error or the
//! right result, never half of a deletion, another table's rows, or the end of the server.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

/// `t` with 500 rows and `child` (CASCADE) with one for each, of an ordinary role.
fn tables(db: &Database) -> Result<Session> {
    let mallory = db.role("mallory")?;
    let mut session = db.connect_as(&mallory)?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('child'), upkeep.enable_soft_delete('t');
         INSERT INTO t SELECT g, 0 FROM generate_series(1, 500) g; INSERT INTO child SELECT g, g FROM generate_series(1, 500) g;
         CREATE FUNCTION half() RETURNS text LANGUAGE sql AS $$SELECT concat_ws(',',
             (SELECT count(*) FROM t WHERE (deleted_at IS NULL) <> (deletion_id IS NULL)),
             (SELECT count(*) FROM child WHERE (deleted_at IS NULL) <> (deletion_id IS NULL)),
             (SELECT count(*) FROM child JOIN t ON t.id = child.t WHERE child.deleted_at IS NULL AND t.deleted_at IS NOT NULL),
             (SELECT count(*) FROM t WHERE deletion_id IS NOT NULL
                 AND NOT EXISTS (SELECT FROM upkeep.deletions d WHERE d.id = t.deletion_id AND d.rows ? 't')))$$",
    )?;
    Ok(session)
}

const WHOLE: &str = "0,0,0,0";
const LIVE: &str = "SELECT (SELECT count(*) FROM t_live), (SELECT count(*) FROM child_live)";

/// A second trigger at the end of a DELETE would take the statement around it, whose memory somebody is still at work with.
#[test]
fn an_extra_trigger_does_not_end_the_statement_around_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "CREATE TRIGGER zz_extra AFTER DELETE ON t_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();
         CREATE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF NEW.id = 150 THEN DELETE FROM t_live WHERE id = 400; END IF; RETURN NEW; END$$;
         CREATE TRIGGER nested BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nested()",
    )?;
    let refused = session.error("DELETE FROM t_live WHERE id <= 160")?;
    assert_eq!(refused.code().code(), "39P01", "{refused:?}");
    assert!(refused.message().contains("\"zz_extra\""), "{refused:?}");
    let drift = session.text("SELECT problem FROM upkeep.soft_delete_drift")?;
    assert!(drift.starts_with("trigger zz_extra of t_live"), "{drift}");
    session.run("SELECT upkeep.repair_soft_delete('t')")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_drift")?, "0");
    session.run("DELETE FROM t_live WHERE id <= 160")?;
    assert_eq!(session.text(LIVE)?, "339|339");
    assert_eq!(session.text("SELECT half()")?, WHOLE);
    Ok(())
}

/// All of our trigger functions, on all that a role owns, for all events, under names of its own and of ours.
#[test]
fn our_functions_are_no_triggers_of_others() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "CREATE TABLE plain (id int PRIMARY KEY, v int, t int, deleted_at timestamptz, deletion_id uuid);
         INSERT INTO plain SELECT g, 0, g FROM generate_series(1, 5) g;
         CREATE VIEW plain_view AS SELECT * FROM plain;
         CREATE TABLE parts (id int PRIMARY KEY, v int, gone boolean NOT NULL DEFAULT false) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (1000);
         INSERT INTO parts SELECT g, 0 FROM generate_series(1, 200) g;
         SELECT upkeep.enable_soft_delete('parts', flag => 'gone');
         CREATE TABLE seen (tried int, refused int, wrong text[])",
    )?;
    let functions = [
        "_soft_delete_view()",
        "_soft_delete_view_row()",
        "_soft_delete_updated_row()",
        "_soft_delete_updated()",
        "_soft_delete_flag()",
        "_soft_delete_guard()",
        "_soft_delete_live_parent()",
        "_stamp_row('deleted_at')",
    ];
    for function in functions {
        for place in ["t", "t_live", "t_deleted", "plain", "part"] {
            session.run(&format!(
                "DO $test$
                 DECLARE
                     events text; timing text; level text; name text; dml text; state text; made text;
                     tried int := 0; refused int := 0; wrong text[] := '{{}}';
                 BEGIN
                     FOREACH events IN ARRAY ARRAY['INSERT OR UPDATE', 'UPDATE OF v', 'DELETE', 'TRUNCATE'] LOOP
                     FOREACH timing IN ARRAY ARRAY['BEFORE', 'AFTER', 'INSTEAD OF', 'CONSTRAINT'] LOOP
                     FOREACH level IN ARRAY ARRAY['ROW', 'STATEMENT', 'STATEMENT WHEN (true)'] LOOP
                     FOREACH name IN ARRAY ARRAY[CASE timing WHEN 'AFTER' THEN 'upkeep_soft_delete_begin' ELSE 'aaa' END] LOOP
                         BEGIN
                             made := format('CREATE %s TRIGGER %s %s %s ON {place} FOR EACH %s EXECUTE FUNCTION upkeep.%s',
                                 CASE timing WHEN 'CONSTRAINT' THEN 'CONSTRAINT' ELSE '' END, name,
                                 CASE timing WHEN 'CONSTRAINT' THEN 'AFTER' ELSE timing END, events, level, $${function}$$);
                             EXECUTE made;
                         EXCEPTION WHEN OTHERS THEN
                             CONTINUE;
                         END;
                         FOREACH dml IN ARRAY ARRAY['INSERT INTO {place} (id) VALUES (900)',
                             'UPDATE {place} SET deleted_at = now() WHERE id < 3', 'DELETE FROM {place} WHERE id < 120',
                             'TRUNCATE {place}'] LOOP
                             tried := tried + 1; state := NULL;
                             BEGIN
                                 BEGIN
                                     EXECUTE dml;
                                 EXCEPTION WHEN OTHERS THEN
                                     GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
                                     refused := refused + 1;
                                     IF state LIKE 'XX%' THEN wrong := wrong || concat_ws(': ', made, dml, state, SQLERRM); END IF;
                                 END;
                                 IF state IS NULL AND half() <> '0,0,0,0' THEN
                                     wrong := wrong || concat_ws(': ', made, dml, half());
                                 END IF;
                                 RAISE SQLSTATE 'UNDO1';
                             EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
                             END;
                         END LOOP;
                         EXECUTE format('DROP TRIGGER %s ON {place}', name);
                     END LOOP; END LOOP; END LOOP; END LOOP;
                     INSERT INTO seen VALUES (tried, refused, wrong);
                 END$test$"
            ))?;
        }
    }
    assert_eq!(session.text("SELECT string_agg(w, ' ') FROM seen, unnest(wrong) w")?, "");
    let seen = session.text("SELECT sum(tried), sum(refused) FROM seen")?;
    assert_eq!(session.text("SELECT sum(tried) > 800 AND sum(refused) > 400 FROM seen")?, "t", "{seen}");
    // A trigger that is created under the name of one of ours takes its place, as in a dump: so the last one that was dropped
    // here was ours. All is as it was then, and works.
    session.run("SELECT upkeep.repair_soft_delete('t')")?;
    assert_eq!(session.rows("SELECT problem, repair FROM upkeep.soft_delete_drift")?, [""; 0]);
    session.run("DELETE FROM t_live WHERE id <= 250; DELETE FROM parts_live WHERE id <= 150")?;
    assert_eq!(session.text(LIVE)?, "250|250");
    assert_eq!(session.text("SELECT count(*) FROM parts_live")?, "50");
    Ok(())
}

/// Triggers of the user's that delete, undelete, give up and go on, four deep.
#[test]
fn statements_inside_each_other_stay_whole() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "CREATE FUNCTION something(depth int) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE what int := (random() * 9)::int; n int := (random() * 500)::int; r record; c refcursor; BEGIN
             BEGIN
                 CASE what
                     WHEN 0 THEN DELETE FROM t_live WHERE id BETWEEN n AND n + 5;
                     WHEN 1 THEN DELETE FROM t_live USING generate_series(1, 2) WHERE id BETWEEN n AND n + 130;
                     WHEN 2 THEN UPDATE t SET deleted_at = now() WHERE id = n AND deleted_at IS NULL;
                     WHEN 3 THEN UPDATE child SET deleted_at = now() WHERE id BETWEEN n AND n + 3 AND deleted_at IS NULL;
                     WHEN 4 THEN UPDATE t SET deleted_at = NULL WHERE id BETWEEN n AND n + 3;
                     WHEN 5 THEN PERFORM upkeep.soft_delete('t', format('id = %s', n));
                     WHEN 6 THEN PERFORM upkeep.undelete('t', format('id = %s', n));
                     WHEN 7 THEN FOR r IN DELETE FROM t_live WHERE id BETWEEN n AND n + 9 RETURNING id LOOP EXIT; END LOOP;
                     WHEN 8 THEN OPEN c FOR EXECUTE format('DELETE FROM child_live WHERE id IN (%s, %s) RETURNING id', n, n + 1);
                         FETCH c INTO r; CLOSE c;
                     ELSE UPDATE t SET v = v + 1 WHERE id BETWEEN n AND n + 3;
                 END CASE;
                 IF random() < 0.3 THEN RAISE SQLSTATE 'ABC01'; END IF;
             EXCEPTION WHEN SQLSTATE 'ABC01' OR object_not_in_prerequisite_state OR foreign_key_violation
                     OR triggered_data_change_violation THEN NULL;
             END;
         END$$;
         CREATE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF pg_trigger_depth() < 5 AND random() < 0.06 THEN PERFORM something(pg_trigger_depth()); END IF;
             RETURN NEW; END$$;
         CREATE TRIGGER nested AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nested();
         CREATE TRIGGER zz_nested AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nested();
         CREATE TRIGGER zz_before BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nested();
         CREATE TRIGGER nested AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION nested();
         CREATE TRIGGER zz_nested AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION nested();
         SELECT setseed(0.42)",
    )?;
    let mut ended_well = 0;
    for _ in 0..150 {
        match sqlstate_of(&mut session, "SELECT something(0)")?.as_deref() {
            None => ended_well += 1,
            Some("40001" | "27000" | "55000" | "23503" | "54001") => {}
            Some(other) => panic!("SQLSTATE {other}"),
        }
        assert_eq!(session.text("SELECT half()")?, WHOLE);
    }
    assert!(ended_well > 50, "{ended_well}");
    Ok(())
}

fn sqlstate_of(session: &mut Session, sql: &str) -> Result<Option<String>> {
    match session.batch_execute(sql) {
        Ok(()) => Ok(None),
        Err(error) => match error.code() {
            Some(code) => Ok(Some(code.code().to_owned())),
            None => Err(error.into()),
        },
    }
}

/// An UPDATE of the same table in a trigger is another statement: what it takes back is not the rows of the first.
#[test]
fn rows_deleted_by_hand_belong_to_their_statement() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "CREATE FUNCTION gives_up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
             IF pg_trigger_depth() = 1 THEN
                 BEGIN UPDATE t SET v = 1 WHERE id = 400; RAISE SQLSTATE 'ABC01'; EXCEPTION WHEN SQLSTATE 'ABC01' THEN NULL; END;
             END IF;
             RETURN NULL; END$$;
         CREATE TRIGGER zz AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION gives_up();
         UPDATE t SET deleted_at = now() WHERE id <= 3",
    )?;
    assert_eq!(session.text("SELECT half()")?, WHOLE);
    assert_eq!(session.text(LIVE)?, "497|497");
    assert_eq!(session.text("SELECT rows FROM upkeep.deletions")?, r#"{"t": 3, "child": 3}"#);
    Ok(())
}

/// Whatever takes a few of the rows that a DELETE returns: all of them are gone, with what references them, or none.
#[test]
fn who_reads_a_few_rows_deletes_them_all() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "DO $$
         DECLARE r record; n int; c refcursor; BEGIN
             DELETE FROM t_live WHERE id = 1 RETURNING id INTO n;
             DELETE FROM t_live WHERE id = 2 RETURNING id INTO STRICT n;
             BEGIN DELETE FROM t_live WHERE id IN (490, 491) RETURNING id INTO n; EXCEPTION WHEN too_many_rows THEN NULL; END;
             EXECUTE 'DELETE FROM t_live WHERE id IN (3, 4, 5) RETURNING id' INTO n;
             FOR r IN DELETE FROM t_live WHERE id BETWEEN 6 AND 200 RETURNING id LOOP EXIT; END LOOP;
             OPEN c FOR EXECUTE 'DELETE FROM t_live WHERE id IN (201, 202) RETURNING id'; FETCH c INTO n; CLOSE c;
             PERFORM 1 FROM (SELECT 1) q; n := (SELECT 1);
         END$$;
         CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'DELETE FROM t_live WHERE id IN (203, 204) RETURNING id';
         SELECT one()",
    )?;
    assert_eq!(session.text(LIVE)?, "296|296");
    // A portal that a driver reads two rows of.
    let mut transaction = session.transaction()?;
    let portal = transaction.bind("DELETE FROM t_live WHERE id BETWEEN 205 AND 210 RETURNING id", &[])?;
    assert_eq!(transaction.query_portal(&portal, 2)?.len(), 2);
    drop(portal);
    transaction.commit()?;
    assert_eq!(session.text(LIVE)?, "290|290");
    assert_eq!(session.text("SELECT half()")?, WHOLE);
    Ok(())
}

/// Its last trigger would carry the deletion on: without it the transaction is refused, at the commit at the latest.
#[test]
fn a_delete_that_does_not_come_to_its_end_is_none() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run("DROP TRIGGER upkeep_soft_delete ON t_live")?;
    let refused = session.error("DELETE FROM t_live WHERE id < 10")?;
    assert_eq!((refused.code().code(), refused.hint().is_some()), ("55000", true), "{refused:?}");
    // At the end of a savepoint; before the next deletion; never, if it is taken back.
    assert_eq!(
        sqlstate(&mut session, "BEGIN; SAVEPOINT s; DELETE FROM t_live WHERE id < 10; RELEASE s; COMMIT")?,
        "55000"
    );
    session.run("ROLLBACK")?;
    assert_eq!(
        sqlstate(
            &mut session,
            "BEGIN; DELETE FROM t_live WHERE id < 10; SELECT upkeep.soft_delete('child', 'id = 11')"
        )?,
        "55000"
    );
    session.run("ROLLBACK")?;
    session.run(
        "DO $$BEGIN
             BEGIN DELETE FROM t_live WHERE id < 10; EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END;
             PERFORM upkeep.soft_delete('child', 'id = 12');
         END$$;
         BEGIN; SAVEPOINT s; DELETE FROM t_live WHERE id < 10; ROLLBACK TO s; DELETE FROM child_live WHERE id = 13; COMMIT",
    )?;
    assert_eq!(session.text(LIVE)?, "500|498");
    // A condition that is false would be the same.
    session.run(
        "CREATE TRIGGER upkeep_soft_delete AFTER DELETE ON t_live FOR EACH STATEMENT WHEN (false)
         EXECUTE FUNCTION upkeep._soft_delete_view()",
    )?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM t_live WHERE id < 10")?, "55000");
    // By hand, too.
    session.run("ALTER TABLE t DISABLE TRIGGER upkeep_soft_delete")?;
    assert_eq!(sqlstate(&mut session, "UPDATE t SET deleted_at = now() WHERE id < 10")?, "55000");
    assert_eq!(session.text("SELECT half()")?, WHOLE);
    Ok(())
}

/// `app1.p` and `app1.c` (CASCADE), with soft delete and a session that knows them.
fn family(session: &mut Session) -> Result<()> {
    session.run(
        "CREATE SCHEMA app1; CREATE TABLE app1.p (id int PRIMARY KEY);
         CREATE TABLE app1.c (id int PRIMARY KEY, p int REFERENCES app1.p ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('app1.c'), upkeep.enable_soft_delete('app1.p');
         INSERT INTO app1.p SELECT generate_series(1, 400); INSERT INTO app1.c SELECT g, g FROM generate_series(1, 400) g",
    )
}

/// What each way of deleting and inserting does, in a schema that is called so now.
fn use_all(session: &mut Session, schema: &str, first: u32, new: u32) -> Result<()> {
    let next = |i: u32| first + i;
    session.run(&format!(
        "DELETE FROM {schema}.p_live WHERE id = {};
         DELETE FROM {schema}.p_live WHERE id BETWEEN {first} + 10 AND {first} + 140;
         SELECT upkeep.soft_delete('{schema}.p', 'id = {}');
         UPDATE {schema}.p SET deleted_at = now() WHERE id = {};
         INSERT INTO {schema}.c VALUES ({new}, {})",
        next(1),
        next(2),
        next(3),
        next(4)
    ))?;
    assert_eq!(
        sqlstate(session, &format!("INSERT INTO {schema}.c VALUES ({new} + 1, {})", next(1)))?,
        "23503",
        "{schema}"
    );
    let gone = format!(
        "SELECT (SELECT count(*) FROM {schema}.p WHERE id BETWEEN {first} AND {first} + 150 AND deleted_at IS NOT NULL),
                (SELECT count(*) FROM {schema}.c WHERE id BETWEEN {first} AND {first} + 150 AND deleted_at IS NOT NULL)"
    );
    assert_eq!(session.text(&gone)?, "134|134", "{schema}");
    session.run(&format!(
        "SELECT upkeep.undelete('{schema}.p', 'id = {}'), upkeep.undelete('{schema}.c', 'id = {}')",
        next(2),
        next(2)
    ))?;
    assert_eq!(session.text(&gone)?, "133|133", "{schema}");
    session.run(&format!(
        "SELECT upkeep.undelete(id) FROM upkeep.deletions d
         WHERE undeleted_at IS NULL AND d.id IN (SELECT deletion_id FROM {schema}.p WHERE deletion_id IS NOT NULL)"
    ))?;
    assert_eq!(session.text(&gone)?, "0|0", "{schema}");
    session
        .run(&format!("DELETE FROM {schema}.c WHERE false; UPDATE {schema}.c SET deleted_at = now() WHERE id = {new}"))
}

#[test]
fn a_renamed_schema_is_followed_and_a_new_one_of_its_name_left_alone() -> Result<()> {
    let db = testing::database()?;
    let (mut a, mut b) = (db.connect()?, db.connect()?);
    family(&mut a)?;
    use_all(&mut a, "app1", 1, 1000)?;
    b.run("ALTER SCHEMA app1 RENAME TO app1_old")?;
    use_all(&mut a, "app1_old", 200, 2000)?;
    // The other one takes its place.
    b.run(
        "CREATE SCHEMA app1; CREATE TABLE app1.c AS SELECT * FROM app1_old.c;
         CREATE TABLE app1.p AS SELECT * FROM app1_old.p",
    )?;
    let new = "SELECT (SELECT count(*) FROM app1.p WHERE deleted_at IS NULL), (SELECT count(*) FROM app1.c WHERE deleted_at IS NULL)";
    let before = b.text(new)?;
    assert_eq!(a.rows("DELETE FROM app1_old.p_live WHERE id = 160 RETURNING id")?, ["160"]);
    assert_eq!(a.text("SELECT deleted_at IS NULL FROM app1_old.p WHERE id = 160")?, "f");
    use_all(&mut a, "app1_old", 1, 3000)?;
    assert_eq!(b.text(new)?, before);
    // And back, at once.
    b.run("BEGIN; ALTER SCHEMA app1 RENAME TO app1_new; ALTER SCHEMA app1_old RENAME TO app1; COMMIT")?;
    use_all(&mut a, "app1", 200, 4000)?;
    assert_eq!(b.text(&new.replace("app1.", "app1_new."))?, before);
    Ok(())
}

/// A type with operators of its own, all of which move and change their names; a role that is called otherwise.
#[test]
fn types_operators_and_roles_that_move_are_followed() -> Result<()> {
    let db = testing::database()?;
    let role = db.role("owner")?;
    let (mut a, mut b) = (db.connect()?, db.connect()?);
    b.run(
        "CREATE SCHEMA num; CREATE SCHEMA other; CREATE TYPE num.num; \
         CREATE FUNCTION num.num_in(cstring) RETURNS num.num IMMUTABLE STRICT LANGUAGE internal AS 'int4in';
         CREATE FUNCTION num.num_out(num.num) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'int4out';
         CREATE TYPE num.num (INPUT = num.num_in, OUTPUT = num.num_out, LIKE = int4);
         CREATE CAST (int4 AS num.num) WITHOUT FUNCTION AS IMPLICIT",
    )?;
    for (name, function) in [("<", "int4lt"), ("<=", "int4le"), ("=", "int4eq"), (">=", "int4ge"), (">", "int4gt")] {
        b.run(&format!(
            "CREATE FUNCTION num.{function}(num.num, num.num) RETURNS bool IMMUTABLE STRICT LANGUAGE internal AS '{function}';
             CREATE OPERATOR num.{name} (LEFTARG = num.num, RIGHTARG = num.num, FUNCTION = num.{function})"
        ))?;
    }
    b.run(&format!(
        "CREATE FUNCTION num.cmp(num.num, num.num) RETURNS int IMMUTABLE STRICT LANGUAGE internal AS 'btint4cmp';
         CREATE OPERATOR CLASS num.ops DEFAULT FOR TYPE num.num USING btree AS OPERATOR 1 num.<, OPERATOR 2 num.<=,
             OPERATOR 3 num.=, OPERATOR 4 num.>=, OPERATOR 5 num.>, FUNCTION 1 num.cmp(num.num, num.num);
         CREATE COLLATION num.c (provider = libc, locale = 'C');
         CREATE TABLE p (id num.num, n text COLLATE num.c, PRIMARY KEY (id, n));
         CREATE TABLE c (id num.num PRIMARY KEY, p num.num, n text COLLATE num.c,
             FOREIGN KEY (p, n) REFERENCES p ON DELETE CASCADE);
         ALTER TABLE c OWNER TO {role}; GRANT USAGE ON SCHEMA num, other TO {role};
         SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p');
         INSERT INTO p SELECT g, 'n' FROM generate_series(1, 1000) g; INSERT INTO c SELECT g, g, 'n' FROM generate_series(1, 1000) g"
    ))?;
    let mut next = 0;
    let mut works = |a: &mut Session, what: &str| -> Result<()> {
        let first = next;
        next += 150;
        a.run(&format!(
            "SET search_path = num, other, public; DELETE FROM p_live WHERE id::text::int BETWEEN {first} + 1 AND {first} + 120;
             SELECT upkeep.soft_delete('p', 'id::text::int = {first} + 130'); INSERT INTO c VALUES ({first} + 5000, {first} + 140, 'n')"
        ))
        .map_err(|error| error.context(what.to_owned()))?;
        let dead = format!("INSERT INTO c VALUES ({first} + 5001, {first} + 130, 'n')");
        assert_eq!(sqlstate(a, &dead)?, "23503", "{what}");
        let gone = a.text("SELECT (SELECT count(*) FROM p_deleted), (SELECT count(*) FROM c_deleted)")?;
        let wanted = (first / 150 + 1) * 121;
        assert_eq!(gone, format!("{wanted}|{wanted}"), "{what}");
        Ok(())
    };
    works(&mut a, "nothing")?;
    for change in [
        "ALTER OPERATOR num.= (num.num, num.num) SET SCHEMA other".to_owned(),
        "ALTER TYPE num.num RENAME TO number; ALTER TYPE num.number SET SCHEMA other".to_owned(),
        "ALTER COLLATION num.c SET SCHEMA other; ALTER COLLATION other.c RENAME TO coll".to_owned(),
        format!("ALTER ROLE {role} RENAME TO {role}_x"),
    ] {
        b.run(&change)?;
        works(&mut a, &change)?;
    }
    b.run(&format!("ALTER TABLE c OWNER TO postgres; REASSIGN OWNED BY {role}_x TO postgres"))?;
    works(&mut a, "another owner")?;
    b.run(&format!("DROP OWNED BY {role}_x; DROP ROLE {role}_x"))
}

/// An undelete that finds less than there is does not use the deletion up.
#[test]
fn an_undelete_that_sees_half_of_it_is_none() -> Result<()> {
    let db = testing::database()?;
    let tenant = db.role("tenant")?;
    let mut owner = db.connect()?;
    owner.run(&format!(
        "CREATE TABLE doc (id int PRIMARY KEY, tenant text NOT NULL, note int);
         CREATE TABLE note (id int PRIMARY KEY, doc int REFERENCES doc ON DELETE SET NULL);
         INSERT INTO doc SELECT g, CASE WHEN g <= 6 THEN 'a' ELSE 'b' END FROM generate_series(1, 10) g;
         INSERT INTO note SELECT g, g FROM generate_series(1, 10) g WHERE g <> 2;
         SELECT upkeep.enable_soft_delete('doc');
         ALTER TABLE doc ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON doc USING (tenant = current_setting('app.tenant', true));
         GRANT SELECT, UPDATE, DELETE ON doc, doc_live TO {tenant}"
    ))?;
    let (mut a, mut b) = (db.connect_as(&tenant)?, db.connect_as(&tenant)?);
    a.run("SET app.tenant = 'a'")?;
    b.run("SET app.tenant = 'b'")?;
    let deletion = a.text("SELECT upkeep.soft_delete('doc', 'id <= 4')")?;
    let undelete = format!("SELECT upkeep.undelete('{deletion}')");
    let refused = b.error(&undelete)?;
    assert_eq!((refused.code().code(), refused.hint().is_some()), ("55000", true), "{refused:?}");
    assert!(refused.detail().is_some_and(|detail| detail.starts_with("0 rows came back, 4 ")), "{refused:?}");
    assert_eq!(owner.text("SELECT count(*) FROM upkeep._deletion_cleared")?, "3");
    // Single rows may have come back, or have gone again with another deletion: the rest is the whole.
    a.run("SELECT upkeep.undelete('doc', 'id IN (1, 2)'); DELETE FROM doc_live WHERE id = 2")?;
    owner.run("UPDATE note SET doc = 9 WHERE id = 3")?;
    assert_eq!(a.text(&undelete)?, "2");
    assert_eq!(owner.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM doc_live")?, "1 3 4 5 6 7 8 9 10");
    assert_eq!(owner.text("SELECT string_agg(doc::text, ' ' ORDER BY id) FROM note WHERE id < 5")?, "1 9 4");
    assert_eq!(a.error(&undelete)?.code().code(), "55000");
    // A trigger that keeps rows as they are.
    owner.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN CASE WHEN NEW.id <> 5 THEN NEW END; END$$",
    )?;
    let deletion = a.text("SELECT upkeep.soft_delete('doc', 'id IN (5, 6)')")?;
    owner.run("CREATE TRIGGER keep BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION keep()")?;
    let refused = a.error(&format!("SELECT upkeep.undelete('{deletion}')"))?;
    assert!(refused.detail().is_some_and(|detail| detail.starts_with("1 rows came back, 1 ")), "{refused:?}");
    owner.run("DROP TRIGGER keep ON doc")?;
    assert_eq!(a.text(&format!("SELECT upkeep.undelete('{deletion}')"))?, "2");
    Ok(())
}

/// What an owner may do with the triggers themselves.
#[test]
fn triggers_may_be_enabled_otherwise_but_not_be_called_otherwise() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "ALTER TABLE t ENABLE ALWAYS TRIGGER upkeep_soft_delete, ENABLE ALWAYS TRIGGER upkeep_soft_delete_row;
         UPDATE t SET deleted_at = now() WHERE id = 1",
    )?;
    assert_eq!(session.text(LIVE)?, "499|499");
    // What a replica applies was done elsewhere.
    let mut replica = db.connect()?;
    replica.run("SET session_replication_role = replica; UPDATE t SET deleted_at = now() WHERE id = 2")?;
    assert_eq!(session.text(LIVE)?, "498|499");
    replica.run("UPDATE t SET deleted_at = NULL WHERE id = 2")?;
    session.run("ALTER TRIGGER upkeep_soft_delete ON t RENAME TO mine")?;
    assert_eq!(sqlstate(&mut session, "UPDATE t SET v = 2")?, "39P01");
    assert_eq!(
        session.text("SELECT problem FROM upkeep.soft_delete_drift")?,
        "trigger upkeep_soft_delete of t is called mine"
    );
    session.run("SELECT upkeep.repair_soft_delete('t'); UPDATE t SET deleted_at = now() WHERE id = 3")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_drift")?, "0");
    assert_eq!(session.text(LIVE)?, "498|498");
    // A partition that was detached has its guards, and no soft delete: they do nothing.
    session.run(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (1000);
         SELECT upkeep.enable_soft_delete('parts'); INSERT INTO parts VALUES (1), (2), (3);
         ALTER TABLE parts DETACH PARTITION part; UPDATE part SET id = 4 WHERE id = 3; DELETE FROM part WHERE id = 4",
    )?;
    assert_eq!(session.text("SELECT count(*) FROM part")?, "2");
    Ok(())
}

/// The superuser has a table in a schema of somebody else's, who puts something of his own under its name, in a trigger of
/// his on another table, in the middle of a statement that goes on as the superuser.
struct Swap {
    db: Database,
    session: Session,
    mallory: String,
}

impl Swap {
    fn new() -> Result<Self> {
        let db = testing::database()?;
        let mallory = db.role("mallory")?;
        db.connect()?.run(&format!("GRANT CREATE ON DATABASE {} TO {mallory}", db.name))?;
        let mut session = db.connect_as(&mallory)?;
        session.run(
            "CREATE SCHEMA shop;
             CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                 RAISE NOTICE 'evil as %', current_user; RETURN NEW; END$$;
             CREATE FUNCTION folded() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
                 RAISE NOTICE 'planned as %', current_user; RETURN true; END$$;
             CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); GRANT REFERENCES, SELECT ON p TO PUBLIC",
        )?;
        Ok(Swap { db, session, mallory })
    }

    /// Before each row of her table, once.
    fn swap_before_update(&mut self, table: &str, instead: &str) -> Result<()> {
        self.session.run(&format!(
            "CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                 IF to_regnamespace('shop_old') IS NULL AND current_setting('test.swap', true) = 'on' THEN
                     ALTER SCHEMA shop RENAME TO shop_old; CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO PUBLIC;
                     {instead};
                     RAISE NOTICE 'swapped';
                 END IF;
                 RETURN NEW; END$$;
             CREATE TRIGGER swap BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION swap()"
        ))
    }

    fn ends_in_an_error(&mut self, sql: &str) -> Result<()> {
        self.session.run("SET test.swap = on")?;
        self.session.notices();
        let result = self.session.error(sql);
        let notices: Vec<String> = self.session.notices().iter().map(|notice| notice.message().to_owned()).collect();
        assert_eq!(notices, ["swapped"], "{result:?}");
        assert_eq!(result?.code().code(), "40001");
        assert_eq!(self.session.text("SELECT to_regnamespace('shop_old') IS NULL")?, "t");
        self.session.run("SET test.swap = off")
    }
}

const EVIL_TABLE: &str = "CREATE TABLE shop.note AS SELECT * FROM shop_old.note; GRANT ALL ON shop.note TO PUBLIC;
     CREATE TRIGGER evil BEFORE UPDATE ON shop.note FOR EACH ROW EXECUTE FUNCTION evil()";
const EVIL_VIEW: &str =
    "CREATE VIEW shop.note AS SELECT * FROM shop_old.note WHERE folded(); GRANT ALL ON shop.note TO PUBLIC;
     CREATE TRIGGER evil INSTEAD OF UPDATE ON shop.note FOR EACH ROW EXECUTE FUNCTION evil()";
const EVIL_RULE: &str = "CREATE TABLE shop.note AS SELECT * FROM shop_old.note; GRANT ALL ON shop.note TO PUBLIC;
     CREATE RULE evil AS ON UPDATE TO shop.note DO INSTEAD SELECT folded()";

#[test]
fn a_cleared_reference_comes_back_in_the_table_that_had_it() -> Result<()> {
    for instead in [EVIL_TABLE, EVIL_VIEW, EVIL_RULE] {
        let mut swap = Swap::new()?;
        swap.db.connect()?.run(&format!(
            "CREATE TABLE shop.note (code text PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL);
             INSERT INTO shop.note VALUES ('a', 1); GRANT ALL ON shop.note TO {}",
            swap.mallory
        ))?;
        swap.session.run("SELECT upkeep.enable_soft_delete('p')")?;
        swap.swap_before_update("p", instead)?;
        let id = swap.session.text("SELECT upkeep.soft_delete('p', 'id = 1')")?;
        assert_eq!(swap.session.text("SELECT code, p IS NULL FROM shop.note")?, "a|t");
        swap.ends_in_an_error(&format!("SELECT upkeep.undelete('{id}')"))?;
        assert_eq!(swap.session.text("SELECT code, p IS NULL FROM shop.note")?, "a|t");
        assert_eq!(swap.session.text(&format!("SELECT upkeep.undelete('{id}')"))?, "1");
        assert_eq!(swap.session.text("SELECT code, p FROM shop.note")?, "a|1");
    }
    Ok(())
}

#[test]
fn a_cascade_goes_to_the_table_that_was_meant() -> Result<()> {
    for instead in [EVIL_TABLE, EVIL_VIEW, EVIL_RULE] {
        let mut swap = Swap::new()?;
        swap.session.run(
            "CREATE TABLE c1 (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE); INSERT INTO c1 VALUES (1, 1);
             SELECT upkeep.enable_soft_delete('c1')",
        )?;
        swap.db.connect()?.run(&format!(
            "CREATE TABLE shop.note (code text PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
             SELECT upkeep.enable_soft_delete('shop.note');
             INSERT INTO shop.note VALUES ('a', 1); GRANT ALL ON shop.note TO {}",
            swap.mallory
        ))?;
        swap.session.run("SELECT upkeep.enable_soft_delete('p')")?;
        swap.swap_before_update("c1", instead)?;
        let live = "SELECT (SELECT deleted_at IS NULL FROM p), (SELECT deleted_at IS NULL \
                    FROM c1), (SELECT deleted_at IS NULL FROM shop.note)";
        for call in
            ["SELECT upkeep.soft_delete('p', 'id = 1')", "DELETE FROM p_live", "UPDATE p SET deleted_at = now()"]
        {
            swap.ends_in_an_error(call)?;
            assert_eq!(swap.session.text(live)?, "t|t|t", "{call}");
        }
        swap.session.run("DELETE FROM p_live")?;
        assert_eq!(swap.session.text(live)?, "f|f|f");
    }
    Ok(())
}

/// Types are looked up by name again, too.
#[test]
fn a_cleared_reference_comes_back_as_the_type_that_it_had() -> Result<()> {
    let mut swap = Swap::new()?;
    swap.db.connect()?.run("CREATE TYPE shop.mood AS ENUM ('a', 'b')")?;
    swap.session.run(
        "CREATE TABLE q (mood shop.mood PRIMARY KEY); INSERT INTO q VALUES ('a'); GRANT REFERENCES, SELECT ON q TO PUBLIC",
    )?;
    swap.db.connect()?.run(&format!(
        "CREATE TABLE note (code text PRIMARY KEY, mood shop.mood REFERENCES q ON DELETE SET NULL);
         INSERT INTO note VALUES ('n', 'a'); GRANT ALL ON note TO {}",
        swap.mallory
    ))?;
    swap.session.run("SELECT upkeep.enable_soft_delete('q')")?;
    // Whose casts are hers.
    swap.swap_before_update(
        "q",
        "CREATE TYPE shop.mood AS ENUM ('a', 'b');
         EXECUTE $q$CREATE FUNCTION public.there(shop_old.mood) RETURNS shop.mood LANGUAGE plpgsql AS
             'BEGIN RAISE NOTICE ''evil as %'', current_user; RETURN ''a''; END'$q$;
         EXECUTE $q$CREATE FUNCTION public.back(shop.mood) RETURNS shop_old.mood LANGUAGE plpgsql AS
             'BEGIN RAISE NOTICE ''evil as %'', current_user; RETURN ''a''; END'$q$;
         CREATE CAST (shop_old.mood AS shop.mood) WITH FUNCTION public.there(shop_old.mood);
         CREATE CAST (shop.mood AS shop_old.mood) WITH FUNCTION public.back(shop.mood) AS ASSIGNMENT",
    )?;
    let id = swap.session.text("SELECT upkeep.soft_delete('q', 'true')")?;
    swap.ends_in_an_error(&format!("SELECT upkeep.undelete('{id}')"))?;
    assert_eq!(swap.session.text("SELECT mood IS NULL FROM note")?, "t");
    assert_eq!(swap.session.text(&format!("SELECT upkeep.undelete('{id}')"))?, "1");
    assert_eq!(swap.session.text("SELECT mood FROM note")?, "a");
    Ok(())
}

/// Operators as well: somebody's own would run as the owner of the table that the cascade goes to.
#[test]
fn a_cascade_compares_by_the_operator_that_was_meant() -> Result<()> {
    let mut swap = Swap::new()?;
    let operators = [("<", "lt"), ("<=", "le"), ("=", "eq"), (">=", "ge"), (">", "gt")].map(|(name, function)| {
        format!("CREATE OPERATOR shop.{name} (FUNCTION = pg_catalog.int4{function}, LEFTARG = int, RIGHTARG = int);")
    });
    swap.db.connect()?.run(&format!(
        "{} CREATE OPERATOR CLASS shop.ints FOR TYPE int USING btree AS
             OPERATOR 1 shop.<, OPERATOR 2 shop.<=, OPERATOR 3 shop.=, OPERATOR 4 shop.>=, OPERATOR 5 shop.>,
             FUNCTION 1 pg_catalog.btint4cmp(int, int)",
        operators.concat()
    ))?;
    swap.session.run(
        "CREATE FUNCTION compared(a int, b int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
             RAISE NOTICE 'evil as %', current_user; RETURN true; END$$;
         CREATE TABLE q (id int PRIMARY KEY, u int NOT NULL); CREATE UNIQUE INDEX ON q (u shop.ints);
         INSERT INTO q VALUES (1, 1), (2, 2); GRANT REFERENCES, SELECT ON q TO PUBLIC;
         CREATE TABLE c1 (id int PRIMARY KEY, q int REFERENCES q ON DELETE CASCADE); INSERT INTO c1 VALUES (1, 1), (2, 2);
         SELECT upkeep.enable_soft_delete('c1')",
    )?;
    swap.db.connect()?.run(&format!(
        "CREATE TABLE kids (id int PRIMARY KEY, u int REFERENCES q (u) ON DELETE CASCADE);
         CREATE TABLE notes (id int PRIMARY KEY, u int REFERENCES q (u) ON DELETE SET NULL);
         GRANT ALL ON kids, notes TO {}; SELECT upkeep.enable_soft_delete('kids');
         INSERT INTO kids VALUES (1, 1), (2, 2); INSERT INTO notes VALUES (1, 1), (2, 2)",
        swap.mallory
    ))?;
    swap.session.run("SELECT upkeep.enable_soft_delete('q')")?;
    // On the way to the table that is compared by it.
    swap.swap_before_update(
        "c1",
        "CREATE OPERATOR shop.= (FUNCTION = public.compared, LEFTARG = int, RIGHTARG = int)",
    )?;
    let live = "SELECT (SELECT count(*) FROM q_live), (SELECT count(*) FROM kids_live), (SELECT count(u) FROM notes)";
    for call in [
        "SELECT upkeep.soft_delete('q', 'id = 1')",
        "DELETE FROM q_live WHERE id = 1",
        "UPDATE q SET deleted_at = now() WHERE id = 1",
    ] {
        swap.ends_in_an_error(call)?;
        assert_eq!(swap.session.text(live)?, "2|2|2", "{call}");
    }
    let id = swap.session.text("SELECT upkeep.soft_delete('q', 'id = 1')")?;
    assert_eq!(swap.session.text(live)?, "1|1|1");
    swap.session.run(&format!("SELECT upkeep.undelete('{id}')"))?;
    assert_eq!(swap.session.text(live)?, "2|2|2");
    Ok(())
}
