//! What somebody else has written stays his: views, rules, triggers and defaults are not given to a new owner, widened, or
//! made again as another role, and no setting makes an exception.

use std::fs;

use anyhow::Result;
use upkeep_tests::cluster::Cluster;
use upkeep_tests::command;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

const DRIFT: &str = "SELECT relname, problem, repair FROM upkeep.soft_delete_drift ORDER BY 1, 2";
const NONE: [&str; 0] = [];

/// What was said since the last look.
fn warnings(session: &mut Session) -> Vec<String> {
    session
        .notices()
        .iter()
        .filter(|notice| notice.severity() == "WARNING")
        .map(|notice| notice.message().to_owned())
        .collect()
}

fn owner(session: &mut Session, relation: &str) -> Result<String> {
    session.text(&format!("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{relation}'::regclass"))
}

/// mallory has a table with soft delete in a schema of hers; finance has a secret; the session is a superuser's.
struct Scene {
    db: Database,
    admin: Session,
    mallory: Session,
    her: String,
    finance: String,
}

fn scene(hide: &str) -> Result<Scene> {
    let db = testing::database()?;
    let (her, finance) = (db.role("mallory")?, db.role("finance")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE SCHEMA \"m. s\" AUTHORIZATION {her}; CREATE SCHEMA fin AUTHORIZATION {finance};
         GRANT USAGE ON SCHEMA fin, \"m. s\" TO PUBLIC; GRANT CREATE ON SCHEMA \"m. s\" TO {finance};
         SET ROLE {finance}; CREATE TABLE fin.salaries (who text, eur int); INSERT INTO fin.salaries VALUES ('ceo', 999999);
         CREATE TABLE fin.log (what text); RESET ROLE"
    ))?;
    let mut mallory = db.connect_as(&her)?;
    mallory.run(&format!(
        "SET search_path = \"m. s\"; CREATE TABLE \"t \"\"13\" (id int PRIMARY KEY, \"v'\" text) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF \"t \"\"13\" FOR VALUES FROM (0) TO (100);
         SELECT upkeep.enable_soft_delete('\"t \"\"13\"', hide => '{hide}'); INSERT INTO \"t \"\"13\" VALUES (1, 'x')"
    ))?;
    admin.run("SET search_path = \"m. s\"")?;
    Ok(Scene { db, admin, mallory, her, finance })
}

const SECRET: &str = "(SELECT string_agg(who || ' earns ' || eur, ',') FROM fin.salaries)";

/// A view acts with its owner's rights: it is not handed over with what its former owner has made of it.
#[test]
fn a_view_with_a_secret_in_it_stays_with_its_author() -> Result<()> {
    for hide in ["live_view", "swap"] {
        let Scene { db: _db, mut admin, mut mallory, her, finance } = scene(hide)?;
        let (table, live) = match hide {
            "swap" => ("\"t \"\"13_all\"", "\"t \"\"13\""),
            _ => ("\"t \"\"13\"", "\"t \"\"13_live\""),
        };
        mallory.run(&format!(
            "CREATE OR REPLACE VIEW {live} WITH (security_invoker = false) AS
             SELECT t.id, t.\"v'\", t.deleted_at, t.deleted_by, t.deletion_id, {SECRET} AS x FROM {table} t WHERE t.deleted_at IS NULL;
             GRANT SELECT ON {live} TO PUBLIC"
        ))?;
        assert_eq!(sqlstate(&mut mallory, &format!("SELECT x FROM {live}"))?, "42501");
        admin.notices();
        admin.run(&format!("ALTER TABLE {table} OWNER TO {finance}"))?;
        let qualified = format!("\"m. s\".{live}");
        assert_eq!(warnings(&mut admin), [format!("the table's owner does not get view {qualified}")]);
        assert_eq!(owner(&mut admin, live)?, her);
        assert_eq!(owner(&mut admin, "\"t \"\"13_deleted\"")?, finance, "that one is as it was written");
        // Not one of the secret's letters for her: the table is not hers any more, and the secret never was.
        assert_eq!(sqlstate(&mut mallory, &format!("SELECT x FROM {live}"))?, "42501");
        let drift = admin.rows(DRIFT)?;
        assert_eq!(drift.len(), 2, "{drift:?}");
        let repair =
            format!("BEGIN; DROP VIEW {qualified}; SELECT upkeep.repair_soft_delete('\"m. s\".{table}'); COMMIT;");
        for (row, what) in drift.iter().zip([
            "belongs to another role than the table, and is not all of soft delete's: its query, its option security_invoker",
            "is not as soft delete has written it: its query, its option security_invoker",
        ]) {
            assert!(row.contains(what) && row.ends_with(&repair), "{row}");
        }
        // Repair does not do it either, nor what else acts as the owner of now.
        let mut owner_now = admin;
        owner_now.run(&format!("SELECT upkeep.repair_soft_delete('{table}')"))?;
        assert_eq!(owner(&mut owner_now, live)?, her);
        for call in [
            format!("SELECT upkeep.alter_soft_deleted('{table}', 'ALTER TABLE {table} DROP \"v''\"')"),
            format!("SELECT upkeep.disable_soft_delete('{table}')"),
        ] {
            let error = owner_now.error(&call)?;
            assert_eq!(error.code().code(), "55000", "{call}");
            assert!(error.detail().is_some_and(|detail| detail.contains("its query")), "{error:?}");
        }
        // What drift says to type makes it right.
        owner_now.run(&repair)?;
        assert_eq!(owner_now.rows(DRIFT)?, NONE);
        assert_eq!(owner(&mut owner_now, live)?, finance);
        assert_eq!(sqlstate(&mut mallory, &format!("SELECT x FROM {live}"))?, "42703");
        owner_now.run(&format!("SELECT upkeep.alter_soft_deleted('{table}', 'ALTER TABLE {table} DROP \"v''\"')"))?;
        owner_now.run(&format!(
            "ALTER TABLE p1 OWNER TO {finance}; DELETE FROM {live}; \
             SELECT upkeep.disable_soft_delete('{table}', 'keep')"
        ))?;
    }
    Ok(())
}

/// Each thing that a former owner, or somebody with the right to add triggers, can leave on a view.
#[test]
fn nothing_that_was_put_on_a_view_changes_hands() -> Result<()> {
    let Scene { db, mut admin, mut mallory, her, finance } = scene("live_view")?;
    let accomplice = db.role("accomplice")?;
    mallory.run(
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE FUNCTION value() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END';
         GRANT USAGE ON SCHEMA \"m. s\" TO PUBLIC",
    )?;
    for (does, undoes, says) in [
        ("CREATE RULE \"r 1\" AS ON INSERT TO {v} DO ALSO SELECT 1", "DROP RULE \"r 1\" ON {v}", "rule \"r 1\""),
        (
            "CREATE RULE r AS ON UPDATE TO {v} DO ALSO INSERT INTO fin.log VALUES ('x')",
            "DROP RULE r ON {v}",
            "rule r",
        ),
        (
            "CREATE TRIGGER mine INSTEAD OF INSERT ON {v} FOR EACH ROW EXECUTE FUNCTION evil()",
            "DROP TRIGGER mine ON {v}",
            "trigger mine",
        ),
        (
            "DROP TRIGGER upkeep_soft_delete_begin ON {v};
             CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON {v} FOR EACH STATEMENT WHEN (value() = 'x')
             EXECUTE FUNCTION upkeep._soft_delete_view()",
            "DROP TRIGGER upkeep_soft_delete_begin ON {v};
             CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON {v} FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view()",
            "trigger upkeep_soft_delete_begin",
        ),
        (
            "ALTER VIEW {v} ALTER \"v'\" SET DEFAULT value()",
            "ALTER VIEW {v} ALTER \"v'\" DROP DEFAULT",
            "the default of column \"v'\"",
        ),
        ("GRANT TRIGGER ON {v} TO {who}", "REVOKE TRIGGER ON {v} FROM {who}", "the right to add triggers that {who} has"),
        ("ALTER VIEW {v} RESET (security_invoker)", "ALTER VIEW {v} SET (security_invoker)", "its option security_invoker"),
        ("ALTER VIEW {v} SET (security_invoker = off)", "ALTER VIEW {v} SET (security_invoker = on)", "its option security_invoker"),
    ] {
        let here = |sql: &str| sql.replace("{v}", "\"t \"\"13_live\"").replace("{who}", &accomplice);
        mallory.run(&here(does))?;
        admin.notices();
        admin.run(&format!("ALTER TABLE \"t \"\"13\" OWNER TO {finance}"))?;
        assert_eq!(warnings(&mut admin).len(), 1, "{does}");
        assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, her, "{does}");
        let drift = admin.rows(DRIFT)?;
        let all = format!("and is not all of soft delete's: {}|", here(says));
        assert!(drift.iter().any(|row| row.contains(&all)), "{does}: {drift:?}");
        // Gone, and the next statement hands it over; then back to her for the next one.
        mallory.run(&here(undoes))?;
        admin.run("ALTER TABLE \"t \"\"13\" ALTER id SET STATISTICS 10")?;
        assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, finance, "{undoes}");
        assert_eq!(admin.rows(DRIFT)?, NONE, "{undoes}");
        admin.run(&format!("ALTER TABLE \"t \"\"13\" OWNER TO {her}"))?;
        assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, her);
    }
    Ok(())
}

/// What PostgreSQL itself hands over, because somebody asked for it, is his to say.
#[test]
fn what_the_server_hands_over_is_handed_over() -> Result<()> {
    let Scene { db: _db, mut admin, mut mallory, her, finance } = scene("live_view")?;
    mallory.run("CREATE RULE r AS ON INSERT TO \"t \"\"13_live\" DO ALSO NOTIFY x")?;
    admin.notices();
    admin.run(&format!("REASSIGN OWNED BY {her} TO {finance}"))?;
    assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, finance);
    admin.run(&format!(
        "ALTER VIEW \"t \"\"13_live\" OWNER TO {her}; ALTER TABLE p1 OWNER TO {her}; ALTER TABLE p1 OWNER TO {finance}"
    ))?;
    assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, her);
    assert_eq!(warnings(&mut admin), NONE);
    let drift = admin.rows(DRIFT)?;
    assert!(drift.len() == 1 && drift[0].contains("all of soft delete's: rule r|BEGIN; DROP VIEW"), "{drift:?}");
    // As the owner of the table, who has no right on the view.
    admin.run(&format!("SET ROLE {finance}; ALTER TABLE \"t \"\"13\" ADD more int; RESET ROLE"))?;
    assert_eq!(warnings(&mut admin), ["the table's owner does not get view \"m. s\".\"t \"\"13_live\""]);
    assert_eq!(owner(&mut admin, "\"t \"\"13_live\"")?, her);
    Ok(())
}

/// No column, and no row, becomes visible through a view that its owner has narrowed.
#[test]
fn a_narrowed_view_is_not_widened() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let (his, alice) = (db.role("owner")?, db.role("alice")?);
    admin.run(&format!("CREATE SCHEMA vw AUTHORIZATION {his}; GRANT USAGE ON SCHEMA vw TO {alice}"))?;
    let mut owner = db.connect_as(&his)?;
    let mut reader = db.connect_as(&alice)?;
    let select = "SELECT t.id, t.body, t.secret, t.deleted_at, t.deleted_by, t.deletion_id FROM vw.doc t";
    for (number, (text, says)) in [
        (
            format!("WITH (security_invoker = false) AS {select} WHERE t.deleted_at IS NULL AND NOT t.secret"),
            "its query, its option security_invoker",
        ),
        (format!("WITH (security_invoker) AS {select} WHERE t.deleted_at IS NULL AND NOT t.secret"), "its query"),
        (format!("WITH (security_invoker) AS {select} WHERE t.deleted_at IS NOT NULL"), "its query"),
        (format!("WITH (security_invoker) AS {select} WHERE t.deletion_id IS NULL"), "its query"),
        (
            format!("WITH (security_invoker) AS {select} JOIN vw.doc u USING (id) WHERE t.deleted_at IS NULL"),
            "its query",
        ),
        (format!("WITH (security_invoker) AS {select} WHERE t.deleted_at IS NULL LIMIT 10"), "its query"),
        (
            format!(
                "WITH (security_invoker) AS {}",
                select.replace("SELECT", "SELECT DISTINCT") + " WHERE t.deleted_at IS NULL"
            ),
            "its query",
        ),
        (
            format!(
                "WITH (security_invoker) AS {} WHERE t.deleted_at IS NULL",
                select.replace("t.body", "'x'::text AS body")
            ),
            "its query",
        ),
        (
            format!(
                "WITH (security_invoker) AS {} WHERE t.deleted_at IS NULL",
                select.replace("vw.doc", "ONLY vw.doc")
            ),
            "its query",
        ),
        (
            format!("WITH (security_invoker) AS {} TABLESAMPLE system (50) WHERE t.deleted_at IS NULL", select),
            "its query",
        ),
        (format!("WITH (security_invoker) AS {select} WHERE t.deleted_at IS NULL ORDER BY 1"), "its query"),
        (format!("WITH (security_invoker) AS WITH x AS (SELECT 1) {select} WHERE t.deleted_at IS NULL"), "its query"),
        (
            format!("WITH (security_invoker = false) AS {select} WHERE t.deleted_at IS NULL"),
            "its option security_invoker",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        owner.run(
            "CREATE TABLE vw.doc (id int PRIMARY KEY, body text, secret bool); SELECT upkeep.enable_soft_delete('vw.doc');
             INSERT INTO vw.doc VALUES (1, 'hello', false), (2, 'TOP SECRET', true)",
        )?;
        owner.run(&format!("CREATE OR REPLACE VIEW vw.doc_live {text}; GRANT SELECT ON vw.doc_live TO {alice}"))?;
        let what = "SELECT pg_get_viewdef('vw.doc_live'), (SELECT reloptions FROM pg_class WHERE oid = 'vw.doc_live'::regclass),
                    (SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'vw.doc_live'::regclass AND attnum > 0)";
        let before = admin.rows(what)?;
        owner.notices();
        owner.run("ALTER TABLE vw.doc ADD COLUMN note text DEFAULT 'n'; ALTER TABLE vw.doc RENAME body TO text")?;
        assert_eq!(warnings(&mut owner), vec!["columns of the table do not follow in view vw.doc_live"; 2], "{text}");
        let after = admin.rows(what)?;
        assert_eq!(
            after[0].split('|').skip(1).collect::<Vec<_>>(),
            before[0].split('|').skip(1).collect::<Vec<_>>(),
            "{text}"
        );
        let renamed = |row: &str| row.replace("text AS body", "body");
        assert_eq!(renamed(&after[0]), renamed(&before[0]), "{text}");
        if number == 0 {
            assert_eq!(reader.rows("SELECT id, body FROM vw.doc_live")?, ["1|hello"]);
        }
        let drift = owner.rows(DRIFT)?;
        let row = format!("doc|vw.doc_live is not as soft delete has written it: {says}|");
        assert!(drift.iter().any(|found| found.starts_with(&row)), "{text}: {drift:?}");
        assert!(
            !drift.iter().any(|found| found.ends_with("|SELECT upkeep.repair_soft_delete('vw.doc');")),
            "{text}: {drift:?}"
        );
        owner.run("SELECT upkeep.repair_soft_delete('vw.doc')")?;
        assert_eq!(admin.rows(what)?, after, "{text}");
        for call in [
            "SELECT upkeep.alter_soft_deleted('vw.doc', 'ALTER TABLE vw.doc DROP secret')",
            "SELECT upkeep.disable_soft_delete('vw.doc')",
        ] {
            assert_eq!(sqlstate(&mut owner, call)?, "55000", "{text}: {call}");
        }
        assert_eq!(admin.rows(what)?, after, "{text}");
        let repair = drift
            .iter()
            .find(|found| found.starts_with(&row))
            .and_then(|row| row.rsplit('|').next())
            .unwrap_or_default();
        owner.run(repair)?;
        owner.run("SELECT upkeep.repair_soft_delete('vw.doc')")?;
        assert_eq!(owner.rows(DRIFT)?, NONE, "{text}");
        owner.run("DROP TABLE vw.doc CASCADE")?;
    }
    Ok(())
}

/// The same query in other words, other names and orders of columns, options that only narrow: all that is still ours.
#[test]
fn what_says_the_same_is_still_ours() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, gone int, a varchar(5) COLLATE \"C\", b int[]); ALTER TABLE t DROP gone;
         SELECT upkeep.enable_soft_delete('t'); ALTER TABLE t ADD c numeric(5,2); ALTER TABLE t RENAME a TO \"A a\"; \
         ALTER TABLE t RENAME deleted_at TO at;
         CREATE OR REPLACE VIEW t_live WITH (security_invoker = 1, security_barrier, check_option = local) AS
         SELECT id, \"A a\", b, at, deleted_by, deletion_id, c FROM t WHERE at IS NULL",
    )?;
    session.notices();
    assert_eq!(session.rows(DRIFT)?, NONE);
    session
        .run("CREATE SCHEMA moved; ALTER VIEW t_deleted SET SCHEMA moved; GRANT UPDATE ON moved.t_deleted TO PUBLIC")?;
    session.run("ALTER TABLE t ADD d int; SELECT upkeep.alter_soft_deleted('t', 'ALTER TABLE t DROP b')")?;
    assert_eq!(warnings(&mut session), NONE);
    assert_eq!(session.rows(DRIFT)?, NONE);
    assert_eq!(session.text("SELECT has_table_privilege('pg_monitor', 'moved.t_deleted', 'UPDATE')")?, "t");
    assert_eq!(
        session.text("SELECT reloptions FROM pg_class WHERE relname = 't_live'")?,
        "{security_invoker=1,security_barrier=true,check_option=local}"
    );
    Ok(())
}

/// A trigger of somebody else's is not made again as the owner; what is the owner's own is, and grants are their grantors'.
#[test]
fn what_is_made_again_has_the_authors_it_had() -> Result<()> {
    let db = testing::database()?;
    let mut admin = db.connect()?;
    let [his, helper, ann, bob] = ["owner", "helper", "ann", "bob"].map(|name| db.role(name));
    let (his, helper, ann, bob) = (his?, helper?, ann?, bob?);
    let mut owner = db.connect_as(&his)?;
    owner.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, x int, n int); SELECT upkeep.enable_soft_delete('t');
         CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER mine AFTER INSERT ON t_live FOR EACH STATEMENT EXECUTE FUNCTION mine();
         GRANT SELECT, UPDATE ON t_live TO {ann} WITH GRANT OPTION; GRANT SELECT (n) ON t_live TO {ann} WITH GRANT OPTION;
         GRANT TRIGGER ON t_live TO {helper}"
    ))?;
    db.connect_as(&ann)?
        .run(&format!("GRANT SELECT ON t_live TO {bob} WITH GRANT OPTION; GRANT SELECT (n) ON t_live TO {bob}"))?;
    db.connect_as(&bob)?.run(&format!("GRANT SELECT ON t_live TO {helper}"))?;
    db.connect_as(&helper)?.run(
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER theirs AFTER UPDATE ON t_live FOR EACH STATEMENT EXECUTE FUNCTION theirs()",
    )?;
    let call = "SELECT upkeep.alter_soft_deleted('t', 'ALTER TABLE t DROP x')";
    let error = owner.error(call)?;
    assert_eq!(
        (error.code().code(), error.message()),
        ("55000", "alter_soft_deleted does not make anew view public.t_live")
    );
    assert!(error.detail().is_some_and(|detail| detail.contains(": trigger theirs.")), "{error:?}");
    owner.run("DROP TRIGGER theirs ON t_live")?;
    let picture = "SELECT relacl, (SELECT attacl FROM pg_attribute WHERE attrelid = c.oid AND attname = 'n'),
                          ARRAY(SELECT tgname FROM pg_trigger WHERE tgrelid = c.oid ORDER BY 1) FROM pg_class c WHERE relname = 't_live'";
    let before = admin.rows(picture)?;
    assert!(before[0].contains(&format!("={bob}")) || before[0].contains(&format!("/{bob}")), "{before:?}");
    owner.run(call)?;
    assert_eq!(admin.rows(picture)?, before);
    // Rules act as the view's owner; they do not become another's by the way.
    owner.run("CREATE RULE r AS ON UPDATE TO t_live DO ALSO NOTIFY x")?;
    let give = format!("SELECT upkeep.alter_soft_deleted('t', 'ALTER TABLE t OWNER TO {ann}')");
    assert_eq!(sqlstate(&mut admin, &give)?, "55000");
    owner.run("DROP RULE r ON t_live; DROP TRIGGER mine ON t_live; REVOKE TRIGGER ON t_live FROM PUBLIC")?;
    owner.run(&format!("REVOKE TRIGGER ON t_live FROM {helper}"))?;
    admin.run(&give)?;
    assert_eq!(admin.rows(DRIFT)?, NONE);
    Ok(())
}

/// Where the view says which column is which, it must be ours.
#[test]
fn a_former_owners_view_does_not_name_columns() -> Result<()> {
    let Scene { db: _db, mut admin, mut mallory, finance, .. } = scene("live_view")?;
    mallory.run(
        "DROP VIEW \"t \"\"13_live\"; SELECT upkeep.repair_soft_delete('\"t \"\"13\"'); ALTER TABLE \"t \"\"13\" ADD z timestamptz;
         CREATE OR REPLACE VIEW \"t \"\"13_live\" WITH (security_invoker) AS
         SELECT t.id, t.\"v'\", t.z AS deleted_at, t.deleted_by, t.deletion_id, t.deleted_at AS z FROM \"t \"\"13\" t WHERE t.z IS NULL",
    )?;
    admin.run(&format!(
        "ALTER TABLE \"t \"\"13\" OWNER TO {finance}; ALTER TABLE \"t \"\"13\" RENAME deleted_at TO \"gone at\""
    ))?;
    assert_eq!(admin.text("SELECT deleted_at FROM upkeep.soft_delete_tables")?, "gone at");
    Ok(())
}

#[test]
fn others_triggers_are_left_alone_and_ours_show_what_became_of_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('c'), upkeep.enable_soft_delete('p'); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         -- Of somebody's own, by the name of one of ours.
         DROP TRIGGER upkeep_soft_delete_no_delete ON p;
         CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON p FOR EACH STATEMENT EXECUTE FUNCTION note();
         DROP TRIGGER upkeep_live_parent_insert ON c;
         CREATE TRIGGER upkeep_live_parent_insert AFTER INSERT ON c FOR EACH ROW EXECUTE FUNCTION note();
         -- Ours, with a condition that it never had.
         DROP TRIGGER upkeep_soft_delete_no_truncate ON p;
         CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON p FOR EACH STATEMENT WHEN (false) \
         EXECUTE FUNCTION upkeep._soft_delete_guard();
         ALTER TRIGGER upkeep_soft_delete_row ON p RENAME TO other; ALTER TRIGGER upkeep_soft_delete ON c_live RENAME TO \"an other\";
         CREATE TRIGGER more AFTER UPDATE ON c FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();
         ALTER TABLE c DISABLE TRIGGER upkeep_soft_delete_no_delete; ALTER TABLE c ENABLE REPLICA TRIGGER upkeep_soft_delete_no_truncate",
    )?;
    let (p, c) = ("SELECT upkeep.repair_soft_delete('public.p');", "SELECT upkeep.repair_soft_delete('public.c');");
    assert_eq!(
        session.rows(DRIFT)?,
        [
            "c|trigger more of c runs _soft_delete_updated, but is not one of soft delete|DROP TRIGGER more ON c;"
                .to_owned(),
            format!("c|trigger upkeep_soft_delete of c_live is called \"an other\"|{c}"),
            format!("c|trigger upkeep_soft_delete_no_delete of c is disabled|{c}"),
            format!("c|trigger upkeep_soft_delete_no_truncate of c is disabled|{c}"),
            format!(
                "p|trigger upkeep_live_parent_insert of c is not the one of soft delete|BEGIN; \
                 DROP TRIGGER upkeep_live_parent_insert ON c; {p} COMMIT;"
            ),
            format!(
                "p|trigger upkeep_soft_delete_no_delete of p is not the one of soft delete|BEGIN; \
                 DROP TRIGGER upkeep_soft_delete_no_delete ON p; {p} COMMIT;"
            ),
            format!(
                "p|trigger upkeep_soft_delete_no_truncate of p is not the one of soft delete|BEGIN; \
                 DROP TRIGGER upkeep_soft_delete_no_truncate ON p; {p} COMMIT;"
            ),
            format!("p|trigger upkeep_soft_delete_row of p is called other|{p}"),
        ]
    );
    // Somebody's trigger is not dropped for its name, and does not keep the rest from being repaired.
    session.notices();
    session.run("BEGIN; SELECT upkeep.repair_soft_delete('p')")?;
    assert_eq!(
        warnings(&mut session),
        [
            "trigger upkeep_soft_delete_no_delete of public.p is not the one of soft delete",
            "trigger upkeep_live_parent_insert of public.c is not the one of soft delete",
        ]
    );
    assert_eq!(session.text("SELECT count(*) FROM upkeep.soft_delete_drift WHERE relname = 'p'")?, "3");
    session.run("ROLLBACK; BEGIN; SELECT upkeep.disable_soft_delete('p', 'keep')")?;
    assert_eq!(
        session.text(
            "SELECT string_agg(tgname, ' ' ORDER BY tgrelid, tgname) FROM pg_trigger WHERE tgfoid = 'note'::regproc"
        )?,
        "upkeep_soft_delete_no_delete upkeep_live_parent_insert"
    );
    session.run("ROLLBACK")?;
    for repair in session.values::<String>("SELECT DISTINCT repair FROM upkeep.soft_delete_drift ORDER BY 1")? {
        session.run(&repair)?;
    }
    assert_eq!(session.rows(DRIFT)?, NONE);
    session.run(
        "CREATE TABLE q (id int PRIMARY KEY);
         CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON q FOR EACH STATEMENT EXECUTE FUNCTION note()",
    )?;
    assert_eq!(sqlstate(&mut session, "SELECT upkeep.enable_soft_delete('q')")?, "42710");
    assert_eq!(sqlstate(&mut session, "DELETE FROM p")?, "55000");
    session.run("DELETE FROM p_live")?;
    assert_eq!(session.text("SELECT count(*) FROM c_live")?, "0");
    session.run("CREATE RULE \"k p\" AS ON DELETE TO p_live DO INSTEAD NOTHING; CREATE RULE too AS ON DELETE TO p_live DO ALSO NOTIFY x")?;
    assert_eq!(
        session.rows(DRIFT)?,
        ["p|rule \"k p\" stands in for DELETE on p_live|DROP RULE \"k p\" ON public.p_live;"]
    );
    Ok(())
}

/// LAW 6: what a session calls itself changes nothing.
#[test]
fn no_name_of_an_application_is_a_switch() -> Result<()> {
    let db = testing::database()?;
    let anybody = db.role("anybody")?;
    let mut session = db.connect_as(&anybody)?;
    for name in ["pg_restore", "pg_dump", "psql", "pg_upgrade"] {
        session.run(&format!(
            "SET application_name = '{name}';
             CREATE TABLE gp (id int PRIMARY KEY) PARTITION BY LIST (id); SELECT upkeep.enable_soft_delete('gp');
             CREATE TABLE gp1 PARTITION OF gp FOR VALUES IN (1); INSERT INTO gp VALUES (1); ALTER TABLE gp ADD more int"
        ))?;
        assert_eq!(sqlstate(&mut session, "DELETE FROM gp1")?, "55000", "{name}");
        assert_eq!(sqlstate(&mut session, "TRUNCATE gp1")?, "55000", "{name}");
        assert_eq!(session.text("SELECT count(*) FROM gp_live WHERE more IS NULL")?, "1");
        assert_eq!(session.rows(DRIFT)?, NONE, "{name}");
        session.run("DROP TABLE gp CASCADE")?;
        assert_eq!(db.connect()?.text("SELECT count(*) FROM upkeep._soft_delete_table")?, "0", "{name}");
    }
    // Only whoever may drop a trigger may have it make way for another.
    session.run(
        "CREATE TABLE own (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('own'); INSERT INTO own VALUES (1)",
    )?;
    let other = db.role("other")?;
    session.run(&format!("GRANT TRIGGER ON own TO {other}"))?;
    let create =
        "CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON public.own REFERENCING OLD TABLE AS deleted
                  FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard()";
    let mut stranger = db.connect_as(&other)?;
    assert_eq!(sqlstate(&mut stranger, create)?, "42710");
    assert_eq!(sqlstate(&mut stranger, &create.replace("own", "nowhere"))?, "42P01");
    assert_eq!(sqlstate(&mut stranger, &create.replace("public.own", "fin.own"))?, "3F000");
    session.run(create)?;
    session.run("BEGIN; SAVEPOINT s")?;
    assert_eq!(sqlstate(&mut session, &create.replace("FOR EACH STATEMENT", "FOR EACH STATEMENT WHEN (1)"))?, "42804");
    session.run("ROLLBACK TO s; COMMIT")?;
    assert_eq!(sqlstate(&mut session, "DELETE FROM own")?, "55000");
    assert_eq!(session.rows(DRIFT)?, NONE);
    assert_eq!(warnings(&mut stranger), NONE);
    Ok(())
}

const DUMPED: &str = "
    CREATE TABLE p (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
    CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
    CREATE TABLE a_child (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, q int REFERENCES p DEFERRABLE);
    SELECT upkeep.enable_soft_delete('a_child', flag => 'is_gone'), upkeep.enable_soft_delete('p', hide => 'swap', flag => 'gone');
    SELECT upkeep.enable_timestamps('a_child');
    ALTER TABLE p1 ENABLE ALWAYS TRIGGER upkeep_soft_delete; ALTER TABLE p_all ENABLE ALWAYS TRIGGER upkeep_soft_delete_no_delete;
    INSERT INTO p SELECT g, 'e' || g FROM generate_series(1, 150) g; INSERT INTO a_child SELECT g, g FROM generate_series(1, 150) g;
    DELETE FROM p WHERE id <= 3";

/// A dump in one transaction, by several sessions, in an order of one's own, under any name: no error, and nothing is missing.
#[test]
fn dumps_come_back_whatever_restores_them() -> Result<()> {
    let server = testing::server("restores").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    session.run(DUMPED)?;
    assert_eq!(session.rows(DRIFT)?, NONE);
    let picture = "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid), tgenabled FROM pg_trigger \
                   WHERE tgname LIKE '%upkeep%' ORDER BY 1, 2";
    let before = session.rows(picture)?;
    let script = server.dump("shop")?;
    let archive = server.scratch().join("shop.dump");
    command::capture(server.client_command("pg_dump", "shop").args(["-Fc", "-f"]).arg(&archive))?;
    let check = |name: &str| -> Result<()> {
        let mut session = server.connect(name)?;
        assert_eq!(session.rows(picture)?, before, "{name}");
        assert_eq!(session.rows(DRIFT)?, NONE, "{name}");
        session.run("SELECT upkeep.undelete(id) FROM upkeep.deletions")?;
        assert_eq!(session.text("SELECT count(*) FROM p, a_child_live c WHERE c.p = p.id")?, "150", "{name}");
        assert_eq!(sqlstate(&mut session, "DELETE FROM p2")?, "55000", "{name}");
        Ok(())
    };
    server.restore("plain", &script)?;
    check("plain")?;
    server.restore("at_once", &format!("BEGIN;\nSET application_name = 'pg_restore';\n{script}\nCOMMIT;\n"))?;
    check("at_once")?;
    let list = command::capture(server.client_command("pg_restore", "shop").arg("-l").arg(&archive))?;
    // Foreign keys before triggers, as several sessions may do it; triggers from behind.
    let (keys, rest): (Vec<&str>, Vec<&str>) = list.lines().partition(|line| line.contains(" FK CONSTRAINT "));
    let (triggers, mut others): (Vec<&str>, Vec<&str>) = rest.into_iter().partition(|line| line.contains(" TRIGGER "));
    assert!(!keys.is_empty() && triggers.len() > 10, "{list}");
    others.extend(keys);
    others.extend(triggers.into_iter().rev());
    let order = server.scratch().join("order");
    fs::write(&order, others.join("\n") + "\n")?;
    let order = order.display().to_string();
    for (name, args) in [
        ("by_pg_restore", vec!["--exit-on-error"]),
        ("as_one", vec!["--exit-on-error", "-1"]),
        ("in_another_order", vec!["--exit-on-error", "-L", &order]),
        ("in_another_order_as_one", vec!["--exit-on-error", "-1", "-L", &order]),
    ] {
        restore(&server, name, &archive, &args)?;
        check(name)?;
    }
    // The server's own tables of an extension do not always come in the order of their foreign keys by several sessions at once.
    server.create_database("by_three")?;
    for args in [&["--section=pre-data"][..], &["--section=data"], &["--section=post-data", "-j", "3"]] {
        command::capture(
            server
                .client_command("pg_restore", "by_three")
                .args(args)
                .args(["--exit-on-error", "-d", "by_three"])
                .arg(&archive),
        )?;
    }
    check("by_three")?;
    Ok(())
}

fn restore(server: &Cluster, name: &str, archive: &std::path::Path, args: &[&str]) -> Result<()> {
    server.create_database(name)?;
    command::capture(server.client_command("pg_restore", name).args(args).args(["-d", name]).arg(archive)).map(drop)
}

/// Names of tables on which one has no right are not to be seen in what was deleted with a row of one's own.
#[test]
fn deletions_show_no_names_that_are_not_ones_to_see() -> Result<()> {
    let db = testing::database()?;
    let (his, hers) = (db.role("parent")?, db.role("child")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE SCHEMA hidden AUTHORIZATION {hers}; SET ROLE {his};
         CREATE TABLE p (id int PRIMARY KEY); GRANT SELECT, REFERENCES ON p TO {hers}; SET ROLE {hers};
         CREATE TABLE hidden.redundancies (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
         CREATE TABLE hidden.\"other tables\" (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('hidden.redundancies'), upkeep.enable_soft_delete('hidden.\"other tables\"');
         RESET ROLE"
    ))?;
    let mut owner = db.connect_as(&his)?;
    owner.run("SELECT upkeep.enable_soft_delete('p'); INSERT INTO p VALUES (1)")?;
    admin.run(
        "INSERT INTO hidden.redundancies VALUES (1, 1), (2, 1); INSERT INTO hidden.\"other tables\" VALUES (1, 1)",
    )?;
    owner.run("DELETE FROM p_live")?;
    let rows = "SELECT rows FROM upkeep.deletions";
    assert_eq!(owner.text(rows)?, "{\"p\": 1, \"other tables\": 3}");
    admin.run(&format!("GRANT SELECT (id) ON hidden.redundancies TO {his}"))?;
    assert_eq!(owner.text(rows)?, "{\"p\": 1, \"other tables\": 1, \"hidden.redundancies\": 2}");
    admin.run(&format!(
        "GRANT UPDATE ON hidden.\"other tables\" TO {his}; REVOKE SELECT (id) ON hidden.redundancies \
         FROM {his}; GRANT {hers} TO {his}"
    ))?;
    assert_eq!(owner.text(rows)?, "{\"p\": 1, \"hidden.redundancies\": 2, \"hidden.\\\"other tables\\\"\": 1}");
    Ok(())
}

/// Things in a schema of mallory's that run code of hers: a domain whose check says who runs it, and tries to leave behind
/// what would act as the caller later. Gives her, and a member of her role.
fn ambush(db: &Database) -> Result<(Session, Session)> {
    let (her, friend) = (db.role("mallory")?, db.role("friend")?);
    let mut admin = db.connect()?;
    admin.run(&format!(
        "CREATE SCHEMA mallory AUTHORIZATION {her}; GRANT {her} TO {friend}; GRANT USAGE ON SCHEMA mallory TO PUBLIC"
    ))?;
    let mut mallory = db.connect_as(&her)?;
    mallory.run(
        "SET search_path = mallory; CREATE TABLE ran (who text); GRANT INSERT, SELECT ON ran TO PUBLIC;
         CREATE TABLE late (who text); CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO mallory.ran VALUES ('late ' || current_user); RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION noted();
         CREATE FUNCTION settle() RETURNS bool LANGUAGE plpgsql AS $$BEGIN
             PERFORM pg_catalog.set_config('search_path', 'mallory, pg_catalog', false),
                     pg_catalog.set_config('work_mem', '65kB', false), pg_catalog.set_config('mallory.was', 'here', false);
             RETURN true; END$$;
         CREATE FUNCTION act(int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN
             IF current_setting('mallory.quiet', true) = 'yes' THEN RETURN true; END IF;
             INSERT INTO mallory.ran VALUES (current_user);
             BEGIN CREATE TEMP TABLE pg_am_i (x int); EXCEPTION WHEN insufficient_privilege OR duplicate_table THEN END;
             BEGIN INSERT INTO mallory.late VALUES ('x'); EXCEPTION WHEN insufficient_privilege THEN END;
             RETURN mallory.settle(); END$$;
         CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO mallory.ran VALUES ('now ' || current_user); RETURN pg_catalog.now(); END$$;
         CREATE DOMAIN d AS int CHECK (act(VALUE));
         SET mallory.quiet = 'yes'",
    )?;
    Ok((mallory, db.connect_as(&friend)?))
}

const SETTINGS: &str = "SELECT pg_catalog.concat_ws('|', pg_catalog.current_setting('search_path'), pg_catalog.current_setting('work_mem'),
    nullif(pg_catalog.current_setting('mallory.was', true), ''), pg_catalog.to_regclass('pg_temp.pg_am_i'))";

/// Code of a table's owner that a verb sets off in the session of a superuser, or of another member of the owner's role, runs
/// as the owner and leaves nothing behind.
#[test]
fn an_owners_code_leaves_nothing_in_the_callers_session() -> Result<()> {
    let db = testing::database()?;
    let (mut mallory, mut friend) = ambush(&db)?;
    let her = mallory.text("SELECT current_user")?;
    let mut admin = db.connect()?;
    // A stored default is read when a view is made again, and its literal is checked then. A policy, and a function that the
    // planner computes, run in a look at the table.
    for i in 1..=2 {
        mallory.run(&format!(
            "CREATE TABLE av{i} (id int PRIMARY KEY, n int, x int); SELECT upkeep.enable_soft_delete('av{i}');
             ALTER VIEW av{i}_live ALTER COLUMN n SET DEFAULT ('{{7}}'::d[])[1];
             CREATE TABLE doc{i} (id int PRIMARY KEY, n int, gone bool NOT NULL DEFAULT false, deleted_at timestamptz);
             CREATE FUNCTION seems{i}(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
                 RAISE NOTICE 'planned as %', current_user; PERFORM settle(); RETURN $1; END$$;
             ALTER FUNCTION seems{i}(int) SET search_path = mallory;
             CREATE FUNCTION shows{i}() RETURNS bool LANGUAGE plpgsql AS $$BEGIN RETURN mallory.act(1); END$$;
             INSERT INTO doc{i} VALUES (1, 1, true, NULL); CREATE INDEX ON doc{i} ((n + seems{i}(3)));
             CREATE POLICY p ON doc{i} USING (shows{i}() AND false); \
             ALTER TABLE doc{i} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        ))?;
    }
    admin.run("TRUNCATE mallory.ran")?;
    for (i, caller) in [(1, &mut admin), (2, &mut friend)] {
        let before = caller.text(SETTINGS)?;
        caller.run(&format!(
            "SELECT upkeep.alter_soft_deleted('mallory.av{i}', 'ALTER TABLE mallory.av{i} DROP COLUMN x')"
        ))?;
        assert_eq!(caller.text(SETTINGS)?, before);
        assert_eq!(caller.rows("SELECT DISTINCT who FROM mallory.ran")?, [her.as_str()]);
        caller.run("SELECT now()")?;
        // A row that says two things is seen, whatever a policy of hers hides.
        let enable = format!("SELECT upkeep.enable_soft_delete('mallory.doc{i}', flag => 'gone')");
        caller.notices();
        assert_eq!(sqlstate(caller, &enable)?, "55000");
        let planned: Vec<String> = caller.notices().iter().map(|notice| notice.message().to_owned()).collect();
        assert!(!planned.is_empty() && planned.iter().all(|said| *said == format!("planned as {her}")), "{planned:?}");
        mallory.run(&format!(
            "ALTER TABLE doc{i} NO FORCE ROW LEVEL SECURITY; UPDATE doc{i} SET gone = false; ALTER TABLE doc{i} FORCE ROW LEVEL SECURITY"
        ))?;
        caller.run(&enable)?;
        assert_eq!(caller.text(SETTINGS)?, before);
        caller.run("SELECT now()")?;
        assert_eq!(caller.rows("SELECT DISTINCT who FROM mallory.ran")?, [her.as_str()]);
    }
    Ok(())
}

/// An index is not built again from somebody's text by another role.
#[test]
fn a_key_with_somebodys_text_in_it_is_his_to_make_partial() -> Result<()> {
    let db = testing::database()?;
    let (mut mallory, mut friend) = ambush(&db)?;
    let her = mallory.text("SELECT current_user")?;
    let mut admin = db.connect()?;
    mallory.run(
        "CREATE TABLE uk (id int PRIMARY KEY, n int, m int, plain text UNIQUE); SELECT upkeep.enable_soft_delete('uk');
         CREATE UNIQUE INDEX uk_n ON uk ((n + ('{7}'::d[])[1])); CREATE UNIQUE INDEX uk_m ON uk (m) WHERE m > ('{7}'::d[])[1];
         INSERT INTO uk VALUES (1, 1, 1, 'x')",
    )?;
    admin.run("TRUNCATE mallory.ran")?;
    let explain = "SELECT indexrelname, action FROM upkeep.explain_make_unique_keys_partial('mallory.uk') ORDER BY 1";
    for caller in [&mut admin, &mut friend] {
        let before = caller.text(SETTINGS)?;
        caller.notices();
        assert_eq!(caller.rows(explain)?[..2], ["uk_m|keep", "uk_n|keep"]);
        let job = caller.text("SELECT upkeep.make_unique_keys_partial('mallory.uk')")?;
        let kept = caller.notices();
        for key in ["uk_n", "uk_m"] {
            let said = format!(
                "unique key \"{key}\" stays as it is: its expressions or its condition are text of {her}, \
                 which does not run as another role"
            );
            let notice = kept.iter().find(|notice| notice.message() == said);
            let hint = notice.and_then(|notice| notice.hint()).unwrap_or_default();
            assert_eq!(
                hint,
                format!("SET ROLE {her}; SELECT upkeep.make_unique_keys_partial('mallory.uk'); RESET ROLE;")
            );
        }
        // A key of columns has no text of anybody's. The second caller finds it done.
        if !job.is_empty() {
            wait(caller, &job)?;
        }
        assert_eq!(
            caller
                .text("SELECT indpred IS NOT NULL FROM pg_index WHERE indexrelid = 'mallory.uk_plain_key'::regclass")?,
            "t"
        );
        assert_eq!(caller.text(SETTINGS)?, before);
        assert_eq!(caller.rows("SELECT DISTINCT who FROM mallory.ran")?, NONE);
    }
    assert_eq!(mallory.rows(explain)?[..2], ["uk_m|replace", "uk_n|replace"]);
    let job = mallory.text("SELECT upkeep.make_unique_keys_partial('uk')")?;
    wait(&mut mallory, &job)?;
    assert_eq!(mallory.rows(explain)?[..2], ["uk_m|none", "uk_n|none"]);
    let ran = admin.rows("SELECT DISTINCT who FROM mallory.ran WHERE who NOT LIKE 'late%'")?;
    assert_eq!(ran, [her.as_str()]);
    Ok(())
}

/// Whoever may not undo a deletion is not told what became of it, nor what is on a view of others.
#[test]
fn strangers_are_told_nothing() -> Result<()> {
    let Scene { db, mut admin, mut mallory, .. } = scene("live_view")?;
    let deletion = mallory.text("SELECT upkeep.soft_delete('\"t \"\"13\"', 'true')")?;
    let undelete = format!("SELECT upkeep.undelete('{deletion}')");
    let mut stranger = db.connect_as(&db.role("stranger")?)?;
    admin.run("UPDATE upkeep._deletion_table SET purged = 1")?;
    assert_eq!(sqlstate(&mut mallory, &undelete)?, "55000");
    let error = stranger.error(&undelete)?;
    assert_eq!(error.code().code(), "42501");
    assert_eq!(error.detail(), None);

    mallory.run("ALTER VIEW \"t \"\"13_live\" ALTER COLUMN \"v'\" SET DEFAULT 'secret'")?;
    let view = admin.text("SELECT '\"t \"\"13_live\"'::regclass::oid")?;
    let differs = format!("SELECT upkeep._soft_delete_view_differs({view}, true) IS NOT NULL");
    assert_eq!(mallory.text(&differs)?, "t");
    assert_eq!(stranger.text(&differs)?, "f");
    Ok(())
}

/// A deletion of which nothing comes back is not undone.
#[test]
fn a_deletion_whose_rows_were_changed_by_hand_is_kept() -> Result<()> {
    let Scene { db: _db, mut mallory, .. } = scene("live_view")?;
    let deletion = mallory.text("SELECT upkeep.soft_delete('\"t \"\"13\"', 'true')")?;
    mallory.run("UPDATE \"t \"\"13\" SET deletion_id = NULL")?;
    assert_eq!(sqlstate(&mut mallory, &format!("SELECT upkeep.undelete('{deletion}')"))?, "55000");
    assert_eq!(mallory.text("SELECT restorable FROM upkeep.deletions")?, "t");
    mallory.run(&format!("UPDATE \"t \"\"13\" SET deletion_id = '{deletion}'"))?;
    assert_eq!(mallory.text(&format!("SELECT upkeep.undelete('{deletion}')"))?, "1");
    Ok(())
}
