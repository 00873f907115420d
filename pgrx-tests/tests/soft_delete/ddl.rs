//! DDL on tables with soft delete: views follow, what comes later is covered, and nobody's statement fails because of it.

use anyhow::Result;
use upkeep_tests::jobs::sqlstate;
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

const TABLES: &str = "
    CREATE TABLE p (id int PRIMARY KEY, email text, n int);
    CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
    SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p');
    INSERT INTO p SELECT g, 'e' || g, g FROM generate_series(1, 10) g;
    INSERT INTO c SELECT g, g FROM generate_series(1, 10) g;";

const DRIFT: &str = "SELECT relname, problem, repair FROM upkeep.soft_delete_drift ORDER BY 1, 2";

fn tables(db: &Database) -> Result<Session> {
    let mut session = db.connect()?;
    session.run(TABLES)?;
    Ok(session)
}

fn columns(session: &mut Session, view: &str) -> Result<String> {
    session.text(&format!(
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0"
    ))
}

/// A row is deleted through its view and comes back; nothing has drifted.
fn works(session: &mut Session) -> Result<()> {
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    session.run("BEGIN; DELETE FROM p_live WHERE id = 3")?;
    assert_eq!(session.rows("SELECT (SELECT count(*) FROM p_live), (SELECT count(*) FROM c_live)")?, ["9|9"]);
    session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions ORDER BY deleted_at DESC LIMIT 1")?;
    assert_eq!(session.rows("SELECT (SELECT count(*) FROM p_live), (SELECT count(*) FROM c_live)")?, ["10|10"]);
    session.run("ROLLBACK")?;
    assert_eq!(sqlstate(session, "DELETE FROM p WHERE id = 1")?, "55000");
    Ok(())
}

/// Subscribers know a table by its name: who swaps a published one hears what it will be called, and each way on works as it is said.
#[test]
fn a_published_table_is_not_swapped_by_itself() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE SCHEMA news; CREATE TABLE news.\"a B\" (id int PRIMARY KEY);
         CREATE TABLE news.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE news.first PARTITION OF news.parts FOR VALUES FROM (0) TO (9)",
    )?;
    for (table, renamed) in [("news.\"a B\"", "news.\"a B_all\""), ("news.parts", "news.parts_all")] {
        for which in [format!("FOR TABLE {table}"), "FOR ALL TABLES".into(), "FOR TABLES IN SCHEMA news".into()] {
            session.run(&format!("CREATE PUBLICATION news {which} WITH (publish_via_partition_root = true)"))?;
            let error = session.error(&format!("SELECT upkeep.enable_soft_delete('{table}', hide => 'swap')"))?;
            assert_eq!((error.code().code(), error.message()), ("55000", &*format!("{table} is in a publication")));
            assert!(
                error.detail().is_some_and(|detail| detail.ends_with(&format!("would change to {renamed}."))),
                "{error:?}"
            );
            let hint = error.hint().unwrap_or_default().to_owned();
            let calls: Vec<&str> = hint.split("SELECT ").skip(1).filter_map(|part| part.split(';').next()).collect();
            for (call, known_as) in calls.iter().zip([table, renamed]) {
                session.run(&format!("BEGIN; SELECT {call}"))?;
                assert_eq!(session.text("SELECT relid::regclass FROM upkeep.soft_delete_tables")?, known_as, "{hint}");
                session.run("ROLLBACK")?;
            }
            assert_eq!(calls.len(), 2, "{hint}");
            session.run("DROP PUBLICATION news")?;
        }
    }
    Ok(())
}

#[test]
fn added_and_renamed_columns_follow() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let reader = db.role("reader")?;
    session.run(&format!("GRANT SELECT ON p_live TO {reader}; ALTER VIEW p_live SET (security_barrier = true)"))?;
    session.run("ALTER TABLE p ADD COLUMN more text DEFAULT 'x', ADD \"a.b\"\" c\" int")?;
    session.run("ALTER TABLE p RENAME n TO \"n e w\"; ALTER TABLE p RENAME email TO n")?;
    let all = "id n n e w deleted_at deleted_by deletion_id more a.b\" c";
    assert_eq!(columns(&mut session, "p_live")?, all);
    assert_eq!(columns(&mut session, "p_deleted")?, all);
    assert_eq!(session.text("SELECT count(*) FROM p_live WHERE more = 'x' AND n LIKE 'e%'")?, "10");
    assert_eq!(
        session.rows(&format!(
            "SELECT reloptions, has_table_privilege('{reader}', oid, 'SELECT') FROM pg_class \
             WHERE oid = 'p_live'::regclass"
        ))?,
        ["{security_invoker=true,security_barrier=true}|t"]
    );
    session.run(
        "ALTER TABLE p RENAME deleted_at TO \"went at\"; ALTER TABLE p RENAME deletion_id TO \"it's\"; \
         ALTER TABLE c RENAME p TO parent",
    )?;
    works(&mut session)?;
    assert_eq!(session.notices().len(), 0);
    Ok(())
}

#[test]
fn a_table_without_views_follows_as_well() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('t', hide => 'none', flag => 'is_deleted');
         INSERT INTO t SELECT generate_series(1, 5);
         ALTER TABLE t RENAME deleted_at TO gone_at; ALTER TABLE t RENAME is_deleted TO gone; ALTER TABLE t ADD n int;
         SELECT upkeep.soft_delete('t', 'id = 1'); UPDATE t SET gone = true WHERE id = 2",
    )?;
    assert_eq!(session.rows("SELECT id, gone FROM t WHERE gone_at IS NOT NULL ORDER BY 1")?, ["1|t", "2|t"]);
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_the_views_stand_in_the_way_of_goes_through_alter_soft_deleted() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let (reader, writer) = (db.role("reader")?, db.role("writer")?);
    session.run(&format!(
        "REVOKE ALL ON p_live FROM PUBLIC; GRANT SELECT (id, n) ON p_live TO {reader};
         GRANT SELECT, DELETE ON p_live TO {writer} WITH GRANT OPTION; GRANT SELECT ON p_deleted TO {reader};
         GRANT UPDATE ON p TO {writer};
         COMMENT ON VIEW p_live IS 'it''s 50% %I'; COMMENT ON COLUMN p_live.n IS 'en';
         ALTER VIEW p_live ALTER n SET DEFAULT 7; ALTER VIEW p_deleted SET (security_barrier);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER \"my.own\" AFTER INSERT ON p_live FOR EACH STATEMENT EXECUTE FUNCTION note();
         CREATE RULE also AS ON UPDATE TO p_deleted DO ALSO NOTIFY changed;"
    ))?;
    let picture = "SELECT c.relname, c.relowner::regrole, c.reloptions, ARRAY(SELECT unnest(c.relacl)::text \
                   ORDER BY 1), obj_description(c.oid, 'pg_class'),
             ARRAY(SELECT a.attname || ' ' || a.attacl::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL),
             ARRAY(SELECT col_description(c.oid, a.attnum) || pg_get_expr(d.adbin, d.adrelid)
                   FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE a.attrelid = c.oid),
             ARRAY(SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE t.tgrelid = c.oid ORDER BY 1),
             ARRAY(SELECT pg_get_ruledef(r.oid) FROM pg_rewrite r WHERE r.ev_class = c.oid AND rulename <> '_RETURN')
      FROM pg_class c WHERE c.relname IN ('p_live', 'p_deleted') ORDER BY 1";
    let before = session.rows(picture)?;
    assert_eq!(sqlstate(&mut session, "ALTER TABLE p DROP COLUMN email")?, "2BP01");
    session.run("SELECT upkeep.alter_soft_deleted('p', 'ALTER TABLE p DROP COLUMN email, ALTER n TYPE bigint')")?;
    assert_eq!(session.rows(picture)?, before);
    assert_eq!(columns(&mut session, "p_live")?, "id n deleted_at deleted_by deletion_id");
    // By the view's name too, and a renamed column keeps what was said of it.
    session.run("SELECT upkeep.alter_soft_deleted('p_live', 'ALTER TABLE p RENAME n TO m')")?;
    let after = session.rows(picture)?;
    assert_eq!(after[1], before[1].replace("\"n ", "\"m "), "only the name of a column with a grant");
    session.run("SELECT upkeep.alter_soft_deleted('c', 'ALTER TABLE c ALTER p TYPE bigint')")?;
    works(&mut session)?;
    session.run("SELECT upkeep.alter_soft_deleted('c', 'ALTER TABLE c DROP p')")?;
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn only_one_alter_table_of_that_table() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let error = session.error("SELECT upkeep.alter_soft_deleted('p', 'DROP COLUMN n')")?;
    assert_eq!(
        (error.code().code(), error.hint()),
        ("42601", Some("ddl is the whole statement: ALTER TABLE public.p DROP COLUMN ..;"))
    );
    session.run("CREATE TABLE other (id int)")?;
    for (ddl, expected) in [
        ("ALTER TABLE p ADD x int; DROP TABLE other", "42601"),
        ("ALTER TABLE p ADD x int --", "00000"),
        ("", "42601"),
        ("ALTER TABLE p ADD x integer integer", "42601"),
        ("DROP TABLE other", "0A000"),
        ("ALTER TABLE p RENAME TO q", "0A000"),
        ("ALTER TABLE p SET SCHEMA upkeep", "0A000"),
        ("ALTER VIEW p_live RENAME TO q", "0A000"),
        ("ALTER INDEX p_pkey RENAME TO q", "0A000"),
        ("ALTER TABLE other ADD x int", "22023"),
        ("ALTER TABLE p_live ALTER id SET DEFAULT 3", "22023"),
        ("ALTER TABLE nowhere ADD x int", "42P01"),
        ("ALTER TABLE p ADD x int", "42701"),
        ("ALTER TABLE p DROP deleted_by", "55000"),
    ] {
        let call = format!("SELECT upkeep.alter_soft_deleted('p', $ddl${ddl}$ddl$)");
        let code = match session.run(&call) {
            Ok(()) => "00000".to_owned(),
            Err(_) => sqlstate(&mut session, &call)?,
        };
        assert_eq!(code, expected, "{ddl}");
    }
    session.run("CREATE VIEW mine AS SELECT * FROM p_live")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.alter_soft_deleted('p', 'ALTER TABLE p DROP n')")?, "2BP01");
    session.run("DROP VIEW mine")?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.alter_soft_deleted(NULL, 'x')")?, "22004");
    assert_eq!(
        sqlstate(&mut session, "SELECT upkeep.alter_soft_deleted('other', 'ALTER TABLE other ADD x int')")?,
        "55000"
    );
    works(&mut session)
}

/// LAW 2: the text runs as the caller, with his rights, whoever owns what.
#[test]
fn the_text_is_the_callers() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let (owner, stranger) = (db.role("owner")?, db.role("stranger")?);
    session.run(&format!(
        "ALTER TABLE p OWNER TO {owner}; ALTER VIEW p_live OWNER TO {owner}; ALTER VIEW p_deleted OWNER TO {owner};
         GRANT ALL ON p TO {stranger};
         CREATE TABLE spied (who name); GRANT ALL ON spied TO PUBLIC;
         CREATE FUNCTION spy() RETURNS text LANGUAGE plpgsql AS
         'BEGIN INSERT INTO public.spied VALUES (current_user); RETURN current_user; END'"
    ))?;
    let call = "SELECT upkeep.alter_soft_deleted('p', 'ALTER TABLE p ADD who text DEFAULT spy()')";
    assert_eq!(sqlstate(&mut db.connect_as(&stranger)?, call)?, "42501");
    assert_eq!(sqlstate(&mut db.connect_as(&stranger)?, "SELECT upkeep.repair_soft_delete('p')")?, "42501");
    db.connect_as(&owner)?.run(call)?;
    assert_eq!(session.text("SELECT string_agg(DISTINCT who, ' ') FROM spied")?, owner);
    assert_eq!(session.text("SELECT string_agg(DISTINCT who, ' ') FROM p_live")?, owner);
    // Of somebody else's DDL: what follows is made as the owner.
    session.run("ALTER TABLE p ADD by_superuser int")?;
    assert_eq!(
        session.rows(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN ('p', 'p_live', 'p_deleted')"
        )?,
        [owner]
    );
    assert!(columns(&mut session, "p_live")?.ends_with("by_superuser"));
    works(&mut session)
}

/// LAW 27: what cannot be followed is a warning, and shows as drift.
#[test]
fn a_statement_never_fails_because_its_table_is_followed() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let owner = db.role("owner")?;
    // Its owner may not make views there any more.
    session.run(&format!("ALTER TABLE p OWNER TO {owner}; REVOKE CREATE ON SCHEMA public FROM {owner}, PUBLIC"))?;
    session.notices();
    session.run("ALTER TABLE p ADD more int")?;
    let notices: Vec<String> = session.notices().iter().map(|notice| notice.message().to_owned()).collect();
    assert_eq!(notices, ["soft delete could not follow: permission denied for schema public"]);
    let drift = ["deleted", "live"].map(|what| {
        format!("p|column more is not in p_{what} as it is in the table|SELECT upkeep.repair_soft_delete('public.p');")
    });
    assert_eq!(session.rows(DRIFT)?, drift);
    Ok(())
}

#[test]
fn drift_shows_and_repair_repairs() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "ALTER TABLE p DISABLE TRIGGER upkeep_soft_delete_no_delete; DROP TRIGGER upkeep_soft_delete ON p;
         DROP TRIGGER upkeep_soft_delete_row ON p_live; DROP VIEW c_deleted;
         ALTER EVENT TRIGGER upkeep_follow_ddl DISABLE; ALTER TABLE p ADD x int; ALTER EVENT TRIGGER upkeep_follow_ddl ENABLE;
         CREATE TABLE late (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE)",
    )?;
    let mut drift = session.values::<String>("SELECT problem FROM upkeep.soft_delete_drift")?;
    drift.sort();
    assert_eq!(
        drift,
        [
            "column x is not in p_deleted as it is in the table",
            "column x is not in p_live as it is in the table",
            "its view of deleted rows is missing",
            "late references it ON DELETE CASCADE, but has no soft delete",
            "trigger upkeep_soft_delete of p is missing",
            "trigger upkeep_soft_delete_no_delete of p is disabled",
            "trigger upkeep_soft_delete_row of p_live is missing",
        ]
    );
    for statement in session.values::<String>("SELECT DISTINCT repair FROM upkeep.soft_delete_drift ORDER BY 1")? {
        session.run(&statement)?;
    }
    works(&mut session)
}

#[test]
fn views_belong_to_whoever_the_table_belongs_to() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let heir = db.role("heir")?;
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class
                  WHERE oid = ANY ('{p, p_live, p_deleted}'::regclass[])";
    session.run(&format!("ALTER TABLE p OWNER TO {heir}; GRANT USAGE, CREATE ON SCHEMA public TO {heir}"))?;
    assert_eq!(session.text(owners)?, heir);
    works(&mut session)?;
    let mut owner = db.connect_as(&heir)?;
    owner.run("ALTER TABLE p ADD COLUMN later int; UPDATE p_live SET later = 1 WHERE id = 1")?;
    assert_eq!(owner.text("SELECT later FROM p_live WHERE id = 1")?, "1");

    // Where nobody followed, it shows, and is repaired.
    session.run(
        "ALTER EVENT TRIGGER upkeep_follow_ddl DISABLE; ALTER TABLE p OWNER TO postgres;
         ALTER EVENT TRIGGER upkeep_follow_ddl ENABLE",
    )?;
    let drift = ["deleted", "live"].map(|what| {
        format!("p|p_{what} belongs to another role than the table|SELECT upkeep.repair_soft_delete('public.p');")
    });
    assert_eq!(session.rows(DRIFT)?, drift);
    session.run("SELECT upkeep.repair_soft_delete('p')")?;
    assert_eq!(session.text(owners)?, "postgres");
    works(&mut session)?;

    // Without its key nothing can be deleted, and it is said why.
    session.run("ALTER TABLE p DROP CONSTRAINT p_pkey CASCADE")?;
    let lost = ["p|it has no primary key any more, or a deferrable one|ALTER TABLE public.p ADD PRIMARY KEY (..);"];
    assert_eq!(session.rows(DRIFT)?, lost);
    let error = session.error("DELETE FROM p_live WHERE id = 1")?;
    assert_eq!(error.message(), "the table of this view has no primary key any more");
    Ok(())
}

#[test]
fn partitions_and_foreign_keys_that_come_later_are_covered() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
         SELECT upkeep.enable_soft_delete('p');
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
         CREATE TABLE p2a PARTITION OF p2 FOR VALUES FROM (100) TO (150);
         CREATE TABLE p2b (LIKE p2); ALTER TABLE p2 ATTACH PARTITION p2b FOR VALUES FROM (150) TO (200);
         INSERT INTO p SELECT g FROM generate_series(1, 199) g",
    )?;
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    for table in ["p1", "p2", "p2a", "p2b", "p"] {
        assert_eq!(sqlstate(&mut session, &format!("DELETE FROM {table}"))?, "55000", "{table}");
        assert_eq!(sqlstate(&mut session, &format!("TRUNCATE {table} CASCADE"))?, "55000", "{table}");
    }
    session
        .run("ALTER TABLE p ADD more int; ALTER TABLE p RENAME n TO m; DELETE FROM p_live WHERE id IN (1, 120, 180)")?;
    assert_eq!(columns(&mut session, "p_live")?, "id m deleted_at deleted_by deletion_id more");
    assert_eq!(session.text("SELECT count(*) FROM p_deleted")?, "3");
    // A table that references it, made later, and a key that is added.
    session.run(
        "CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); CREATE TABLE d (id int PRIMARY KEY, x int, p int)",
    )?;
    session.run("ALTER TABLE d ADD FOREIGN KEY (x) REFERENCES p; ALTER TABLE d ADD FOREIGN KEY (p) REFERENCES p")?;
    for insert in ["c VALUES (1, 120)", "d VALUES (1, 120, NULL)", "d VALUES (1, NULL, 120)"] {
        assert_eq!(sqlstate(&mut session, &format!("INSERT INTO {insert}"))?, "23503", "{insert}");
    }
    session.run("INSERT INTO c VALUES (1, 121)")?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM p_live WHERE id = 121")?, "23503");
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    // What is detached is a table of its own; its guard stays.
    session.run("ALTER TABLE p DETACH PARTITION p1; DROP TABLE p1")?;
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    Ok(())
}

/// Whatever a partition that was detached has or lacks, it can be attached again.
#[test]
fn a_partition_comes_and_goes() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE o (id int PRIMARY KEY, p int REFERENCES p) PARTITION BY RANGE (id);
         CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO (10);
         CREATE TABLE o2 PARTITION OF o FOR VALUES FROM (10) TO (20);
         SELECT upkeep.enable_soft_delete('o'), upkeep.enable_soft_delete('p');
         INSERT INTO p VALUES (1), (2);
         DELETE FROM p_live WHERE id = 2;",
    )?;
    let attach = "ALTER TABLE o ATTACH PARTITION o2 FOR VALUES FROM (10) TO (20)";
    let detach = "ALTER TABLE o DETACH PARTITION o2";
    let is_checked = |session: &mut Session| -> Result<()> {
        session.notices();
        assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
        assert_eq!(sqlstate(session, "INSERT INTO o2 VALUES (12, 2)")?, "23503");
        session.run("BEGIN; INSERT INTO o2 VALUES (11, 1); ROLLBACK")
    };
    for detach in [detach, "ALTER TABLE o DETACH PARTITION o2 CONCURRENTLY"] {
        session.run(detach)?;
        is_checked(&mut session)?;
        session.run(attach)?;
        is_checked(&mut session)?;
    }
    // Nobody has followed: what drift shows leads nowhere else.
    session.run("ALTER EVENT TRIGGER upkeep_follow_ddl DISABLE")?;
    session.run(detach)?;
    session.run("ALTER EVENT TRIGGER upkeep_follow_ddl ENABLE")?;
    let mut drift = session.values::<String>("SELECT problem FROM upkeep.soft_delete_drift")?;
    drift.sort();
    assert_eq!(
        drift,
        ["trigger upkeep_live_parent_insert of o2 is missing", "trigger upkeep_live_parent_update of o2 is missing"]
    );
    session.run("BEGIN")?;
    session.run(attach)?;
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    session.run("ROLLBACK")?;
    for repair in session.values::<String>("SELECT DISTINCT repair FROM upkeep.soft_delete_drift")? {
        session.run(&repair)?;
    }
    is_checked(&mut session)?;
    session.run(attach)?;
    is_checked(&mut session)
}

#[test]
fn what_is_dropped_is_forgotten() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('s.t')")?;
    let deletion = session.text("SELECT upkeep.soft_delete('p', 'id = 1')")?;
    session.run("BEGIN; DROP TABLE p CASCADE; ROLLBACK")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_tables")?, "3");
    session.run("DROP SCHEMA s CASCADE; DROP TABLE c, p CASCADE")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._soft_delete_table")?, "0");
    assert_eq!(
        session.rows(&format!("SELECT restorable, why_not FROM upkeep.deletions WHERE id = '{deletion}'"))?,
        ["f|the table is gone"]
    );
    // A dump would carry the number of a table that is gone, which is another table elsewhere.
    assert_eq!(session.rows("SELECT relid, rows, direct FROM upkeep._deletion_table")?, ["-|2|t"]);
    assert_eq!(session.rows("SELECT relid FROM upkeep._deletion")?, ["-"]);
    let error = session.error(&format!("SELECT upkeep.undelete('{deletion}')"))?;
    assert_eq!((error.code().code(), error.message()), ("55000", "a table of the deletion is gone"));
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    Ok(())
}

const REFERENCES: &str = "
    CREATE TABLE boss (id int PRIMARY KEY);
    CREATE TABLE c (id int PRIMARY KEY, boss int REFERENCES boss ON DELETE SET NULL);
    CREATE TABLE gone (id int PRIMARY KEY, boss int REFERENCES boss ON DELETE SET NULL);
    CREATE TABLE parts (id int PRIMARY KEY, boss int REFERENCES boss ON DELETE SET NULL) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF parts DEFAULT;
    SELECT upkeep.enable_soft_delete('boss');
    INSERT INTO boss VALUES (1); INSERT INTO c VALUES (1, 1); INSERT INTO gone VALUES (1, 1); INSERT INTO parts VALUES (1, 1);";

#[test]
fn what_deletions_have_cleared_follows_columns() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(REFERENCES)?;
    let deletion = session.text("SELECT upkeep.soft_delete('boss', 'true')")?;
    let undelete = format!("SELECT upkeep.undelete('{deletion}')");
    session.run("DROP TABLE gone")?;
    assert_eq!(session.rows("SELECT relid FROM upkeep._deletion_cleared ORDER BY relid::text")?, ["c", "parts"]);

    session.run(
        "ALTER TABLE c RENAME boss TO boss_old; ALTER TABLE c ADD COLUMN boss int; ALTER TABLE c RENAME id TO \"the key\";
         ALTER TABLE parts RENAME boss TO b",
    )?;
    session.run("BEGIN")?;
    assert_eq!(session.text(&undelete)?, "1");
    assert_eq!(session.rows("SELECT \"the key\", boss_old, boss, (SELECT b FROM parts) FROM c")?, ["1|1||1"]);
    assert!(session.notices().iter().all(|notice| notice.severity() != "WARNING"));
    session.run("ROLLBACK")?;

    // Another column that has the name now is not the one that was cleared.
    session.run(
        "ALTER TABLE c DROP COLUMN boss_old CASCADE; ALTER TABLE c RENAME boss TO boss_old;
         ALTER TABLE c ADD CONSTRAINT c_boss_fkey FOREIGN KEY (boss_old) REFERENCES boss ON DELETE SET NULL",
    )?;
    assert_eq!(session.text(&undelete)?, "1");
    assert_eq!(session.rows("SELECT \"the key\", boss_old, (SELECT b FROM parts) FROM c")?, ["1||1"]);
    Ok(())
}

#[test]
fn no_other_table_is_written_to() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(REFERENCES)?;
    session.run(
        "CREATE TABLE other (id int PRIMARY KEY, boss int); INSERT INTO other VALUES (1, NULL);
         CREATE TABLE alike (id int PRIMARY KEY, boss int, CONSTRAINT c_boss_fkey FOREIGN KEY (boss) REFERENCES c);
         INSERT INTO alike VALUES (1, NULL)",
    )?;
    let deletion = session.text("SELECT upkeep.soft_delete('boss', 'true')")?;
    // The numbers of tables that an older version has left are other tables after a dump.
    session.run(
        "UPDATE upkeep._deletion_cleared SET relid = 'other' WHERE relid = 'gone'::regclass;
         UPDATE upkeep._deletion_cleared SET relid = 'alike' WHERE relid = 'c'::regclass",
    )?;
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('{deletion}')"))?, "1");
    let warnings = session.notices().iter().filter(|notice| notice.severity() == "WARNING").count();
    assert_eq!(warnings, 2);
    assert_eq!(
        session.rows("SELECT o.boss, a.boss, p.boss FROM other o, alike a, parts p")?,
        ["||1"],
        "only where the foreign key is"
    );
    assert_eq!(session.text("SELECT count(*) FROM upkeep._deletion_cleared")?, "2");
    Ok(())
}

/// LAW 26.
#[test]
fn the_extension_is_not_dropped_from_below_tables() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run("SELECT upkeep.soft_delete('p', 'id = 1')")?;
    let refused = session.error("DROP EXTENSION pg_upkeep")?;
    assert_eq!(refused.code().code(), "2BP01");
    let detail = refused.detail().unwrap_or_default();
    assert!(detail.contains("on table p ") && detail.contains("on view c_live "), "{detail}");
    session.run("DROP EXTENSION pg_upkeep CASCADE")?;
    assert_eq!(session.text("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")?, "0");
    assert_eq!(session.text("SELECT count(*) FROM pg_event_trigger")?, "0");
    session.run("UPDATE p SET deleted_at = NULL; INSERT INTO c VALUES (99, 1); DELETE FROM p WHERE id = 1; ALTER TABLE p ADD z int")?;
    assert_eq!(session.rows("SELECT (SELECT count(*) FROM p_live), (SELECT count(*) FROM c)")?, ["9|9"]);
    session.run("CREATE EXTENSION pg_upkeep; DROP VIEW p_live, p_deleted, c_live, c_deleted")?;
    session.run("SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p')")?;
    Ok(())
}

#[test]
fn a_dump_brings_everything_back() -> Result<()> {
    let here = testing::server("dumped").preloaded().start()?;
    let mut session = here.with_extension("shop")?;
    session.run(TABLES)?;
    session.run(
        "CREATE TABLE \"q.1\" (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE q1 PARTITION OF \"q.1\" FOR VALUES FROM (0) TO (100);
         SELECT upkeep.enable_soft_delete('\"q.1\"', hide => 'swap', deleted_at => 'ge löscht');
         INSERT INTO \"q.1\" SELECT generate_series(1, 10);
         -- In the dump an ALTER TABLE between two CREATE TRIGGERs.
         ALTER TABLE \"q.1_all\" ENABLE ALWAYS TRIGGER upkeep_soft_delete_no_delete;
         ALTER TABLE p ADD x int; ALTER TABLE p DROP x CASCADE; SELECT upkeep.repair_soft_delete('p');
         ALTER TABLE p ADD more int",
    )?;
    let deletion = session.text("SELECT upkeep.soft_delete('p', 'id <= 4')")?;
    session.run("DELETE FROM \"q.1\" WHERE id = 5")?;
    session.run(&format!("SELECT upkeep.hold_deletion('{deletion}', 'why not')"))?;
    let picture = "SELECT schemaname, relname, hide, deleted_at, live_view::regclass, deleted_view::regclass \
                   FROM upkeep.soft_delete_tables ORDER BY 2";
    let deletions = "SELECT id, relname, rows, held, restorable FROM upkeep.deletions ORDER BY 1";
    let triggers = "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE '%upkeep%' ORDER BY 1, 2";
    let before = [session.rows(picture)?, session.rows(deletions)?, session.rows(triggers)?];
    let dump = here.dump("shop")?;
    let elsewhere = testing::server("restored").preloaded().start()?;
    elsewhere.restore("shop", &dump)?;
    let mut session = elsewhere.connect("shop")?;
    assert_eq!([session.rows(picture)?, session.rows(deletions)?, session.rows(triggers)?], before);
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    session.run("ALTER TABLE p RENAME n TO number")?;
    session.run(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?;
    works(&mut session)
}

#[test]
fn others_ddl_is_free_and_savepoints_are_respected() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let anybody = db.role("anybody")?;
    let mut stranger = db.connect_as(&anybody)?;
    stranger.run(
        "CREATE TABLE own (id int PRIMARY KEY); ALTER TABLE own ADD n int; CREATE TEMP TABLE t (id int); \
         DROP TABLE t; DROP TABLE own",
    )?;
    assert_eq!(stranger.notices().len(), 0);
    assert_eq!(sqlstate(&mut stranger, "SELECT upkeep._follow_ddl()")?, "42501");
    // Within one transaction, rolled back to a savepoint.
    session.run("BEGIN; ALTER TABLE p ADD a int; SAVEPOINT s; ALTER TABLE p ADD b int; ROLLBACK TO s; ALTER TABLE p ADD d int; COMMIT")?;
    assert!(columns(&mut session, "p_live")?.ends_with("deletion_id a d"));
    works(&mut session)
}

/// Something else has the name that a missing view would have: it is named, and what is printed works.
#[test]
fn a_missing_view_whose_name_is_taken_is_repaired_as_printed() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let long = "ü".repeat(31);
    session.run(&format!(
        "CREATE SCHEMA \"S\"; CREATE TABLE \"S\".{long} (id int PRIMARY KEY); CREATE TABLE \"S\".\"b B\" (id int PRIMARY KEY);
         SELECT upkeep.enable_soft_delete('\"S\".{long}'), upkeep.enable_soft_delete('\"S\".\"b B\"', hide => 'swap');
         INSERT INTO \"S\".{long} VALUES (1); INSERT INTO \"S\".\"b B\" VALUES (1)"
    ))?;
    let live =
        session.text(&format!("SELECT live_view::regclass FROM upkeep.soft_delete_tables WHERE relname = '{long}'"))?;
    session.run(&format!(
        "DROP VIEW {live}; CREATE VIEW {live} AS SELECT 1 AS id; DROP VIEW \"S\".\"b B\"; CREATE TABLE \"S\".\"b B\" ();
         DROP VIEW \"S\".\"b B_deleted\"; CREATE TYPE \"S\".\"b B_deleted\" AS (id int)"
    ))?;
    let drift = session.rows("SELECT problem, repair FROM upkeep.soft_delete_drift ORDER BY 1")?;
    let repair = "BEGIN; ALTER TYPE \"S\".\"b B_deleted\" RENAME TO \"b B_deleted_other\"; \
                  ALTER TABLE \"S\".\"b B\" RENAME TO \"b B_other\"; \
                  SELECT upkeep.repair_soft_delete('\"S\".\"b B_all\"'); COMMIT;";
    assert_eq!(drift.len(), 3, "{drift:?}");
    assert_eq!(
        drift[..2],
        [
            format!(
                "its view of deleted rows is missing, and \"S\".\"b B_deleted\", which soft delete has not made, has its name|{repair}"
            ),
            format!(
                "its view of live rows is missing, and \"S\".\"b B\", which soft delete has not made, has its name|{repair}"
            ),
        ]
    );
    assert!(
        drift[2].contains(&format!(
            "and {live}, which soft delete has not made, has its name|BEGIN; ALTER VIEW {live} RENAME"
        )),
        "{drift:?}"
    );
    for repair in session.values::<String>("SELECT DISTINCT repair FROM upkeep.soft_delete_drift ORDER BY 1")? {
        session.run(&repair)?;
    }
    assert_eq!(session.rows("SELECT problem FROM upkeep.soft_delete_drift")?, [""; 0]);
    session.run(&format!("DELETE FROM {live}; DELETE FROM \"S\".\"b B\""))?;
    assert_eq!(session.text(&format!("SELECT count(*) FROM \"S\".{long} WHERE deleted_at IS NOT NULL"))?, "1");
    Ok(())
}

/// What a table that was dropped while nobody was told is remembered by does not become another table's that gets its OID.
#[test]
fn an_oid_that_is_used_again_is_another_table() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    let owner = db.role("owner")?;
    let id = session.text("SELECT upkeep.soft_delete('p', 'id = 1')")?;
    session.run(&format!(
        "ALTER EVENT TRIGGER upkeep_follow_drops DISABLE; DROP TABLE p CASCADE; ALTER EVENT TRIGGER upkeep_follow_drops ENABLE;
         CREATE TABLE other (id int PRIMARY KEY, deleted_at timestamptz); CREATE TABLE child (id int REFERENCES other ON DELETE CASCADE);
         ALTER TABLE other OWNER TO {owner}; ALTER TABLE child OWNER TO {owner}"
    ))?;
    // As if the server had come to that number again, once round.
    session.run(
        "UPDATE upkeep._soft_delete_table SET relid = 'other' WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relid);
         UPDATE upkeep._deletion SET relid = 'other' WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relid);
         UPDATE upkeep._deletion_table SET relid = 'other' WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relid)",
    )?;
    let mut theirs = db.connect_as(&owner)?;
    assert_eq!(theirs.rows("SELECT relname FROM upkeep.soft_delete_tables")?, [""; 0]);
    assert_eq!(theirs.rows("SELECT relname FROM upkeep.deletions")?, [""; 0]);
    assert_eq!(theirs.rows("SELECT problem FROM upkeep.soft_delete_drift")?, [""; 0]);
    assert_eq!(sqlstate(&mut theirs, "SELECT upkeep.soft_delete('other', 'true')")?, "55000");
    assert_eq!(sqlstate(&mut theirs, "SELECT upkeep.purge_deleted('other', '0')")?, "55000");
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.undelete('{id}')"))?, "55000");
    theirs.run(
        "INSERT INTO other VALUES (1); INSERT INTO child VALUES (1); DELETE FROM other; INSERT INTO other VALUES (1)",
    )?;
    theirs.run("DROP TABLE child CASCADE; SELECT upkeep.enable_soft_delete('other'); DELETE FROM other_live")?;
    assert_eq!(theirs.text("SELECT count(*) FROM upkeep.deletions")?, "1");
    assert_eq!(session.text(&format!("SELECT relid::oid FROM upkeep._deletion WHERE id = '{id}'"))?, "0");
    Ok(())
}

/// Tables and keys that come, and columns that are renamed, by other statements than CREATE and ALTER TABLE.
#[test]
fn what_other_statements_do_to_tables_is_followed() -> Result<()> {
    let db = testing::database()?;
    let mut session = tables(&db)?;
    session.run(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT upkeep.enable_soft_delete('parts');
         SELECT upkeep.soft_delete('p', 'id = 1');
         CREATE SCHEMA el
             CREATE TABLE ch (id int PRIMARY KEY, p int REFERENCES public.p ON DELETE CASCADE)
             CREATE TABLE part PARTITION OF public.parts FOR VALUES FROM (0) TO (100)
             CREATE VIEW looks AS SELECT 1 AS one",
    )?;
    assert_eq!(sqlstate(&mut session, "INSERT INTO el.ch VALUES (1, 1)")?, "23503");
    session.run("INSERT INTO el.ch VALUES (2, 2); INSERT INTO parts VALUES (1), (2)")?;
    for statement in ["DELETE FROM el.part WHERE id = 1", "TRUNCATE el.part"] {
        assert_eq!(sqlstate(&mut session, statement)?, "55000", "{statement}");
    }
    session.run("DROP TABLE el.ch; DROP TABLE el.part")?;
    for (statement, back) in [
        ("ALTER VIEW p RENAME COLUMN deleted_at TO gone", "ALTER TABLE p RENAME gone TO deleted_at"),
        ("ALTER MATERIALIZED VIEW p RENAME COLUMN deletion_id TO gone", "ALTER TABLE p RENAME gone TO deletion_id"),
        ("ALTER FOREIGN TABLE p RENAME COLUMN deleted_by TO gone", "ALTER TABLE p RENAME gone TO deleted_by"),
        ("ALTER VIEW p RENAME COLUMN n TO gone", "ALTER TABLE p RENAME gone TO n"),
    ] {
        // Whether the server allows it is its own to say.
        if let Err(error) = session.run(statement) {
            println!("{statement}: {error:?}");
            continue;
        }
        session.run("SELECT gone FROM p")?;
        assert_eq!(session.rows(DRIFT)?, Vec::<String>::new(), "{statement}");
        session.run("BEGIN; DELETE FROM p_live WHERE id = 3; ROLLBACK")?;
        session.run(back)?;
        works_with_one_gone(&mut session)?;
    }
    Ok(())
}

fn works_with_one_gone(session: &mut Session) -> Result<()> {
    session.run("BEGIN; DELETE FROM p_live WHERE id = 3")?;
    assert_eq!(session.rows("SELECT (SELECT count(*) FROM p_live), (SELECT count(*) FROM c_live)")?, ["8|8"]);
    session.run("ROLLBACK")
}
