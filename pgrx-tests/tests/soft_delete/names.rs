//! A table with soft delete gets another name or another schema.

use anyhow::Result;
use upkeep_tests::session::Session;
use upkeep_tests::testing;

const RELATIONS: &str = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', 'other') ORDER BY 1";
const DRIFT: &str = "SELECT relname, problem, repair FROM upkeep.soft_delete_drift ORDER BY 1, 2";

fn relations(session: &mut Session) -> Result<String> {
    assert_eq!(session.rows(DRIFT)?, Vec::<String>::new());
    Ok(session.values::<String>(RELATIONS)?.join(" "))
}

fn notices(session: &mut Session) -> Vec<String> {
    session.notices().iter().map(|notice| format!("{}: {}", notice.severity(), notice.message())).collect()
}

#[test]
fn views_follow_the_name_of_their_table() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE users (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('users')")?;
    session.notices();
    session.run("ALTER TABLE users RENAME TO \"Good People\"")?;
    assert_eq!(relations(&mut session)?, "\"Good People\" \"Good People_deleted\" \"Good People_live\"");
    assert_eq!(
        notices(&mut session),
        [
            "NOTICE: public.users_live is called \"Good People_live\" now, after \"Good People\"",
            "NOTICE: public.users_deleted is called \"Good People_deleted\" now, after \"Good People\""
        ]
    );
    // A name of somebody's own, and one that is taken.
    session.run("ALTER VIEW \"Good People_live\" RENAME TO present; CREATE TABLE p_deleted (); ALTER TABLE \"Good People\" RENAME TO p")?;
    assert_eq!(relations(&mut session)?, "\"Good People_deleted\" p p_deleted present");
    assert_eq!(notices(&mut session), ["WARNING: public.\"Good People_deleted\" keeps its name"]);
    session.run("INSERT INTO p VALUES (1); DELETE FROM present; ALTER TABLE p ADD n int; SELECT upkeep.disable_soft_delete('p', 'keep')")?;
    assert_eq!(relations(&mut session)?, "p p_deleted");
    Ok(())
}

#[test]
fn after_swap_the_table_follows_the_name_of_the_view_that_stands_for_it() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let owner = db.role("owner")?;
    session.run(&format!(
        "CREATE TABLE users (id int PRIMARY KEY); ALTER TABLE users OWNER TO {owner};
         SELECT upkeep.enable_soft_delete('users', hide => 'swap')"
    ))?;
    db.connect_as(&owner)?.run("ALTER TABLE users RENAME TO people")?;
    assert_eq!(relations(&mut session)?, "people people_all people_deleted");
    session.run("INSERT INTO people VALUES (1), (2); DELETE FROM people WHERE id = 1")?;
    // The table's own name is nobody's who uses it.
    session.run("ALTER TABLE people_all RENAME TO storage; ALTER VIEW people RENAME TO folk")?;
    assert_eq!(relations(&mut session)?, "folk folk_deleted storage");
    session.run("SELECT upkeep.disable_soft_delete('storage', 'keep')")?;
    assert_eq!(relations(&mut session)?, "folk");
    assert_eq!(session.text("SELECT count(*) FROM folk")?, "2");
    Ok(())
}

#[test]
fn subscribers_know_a_table_by_its_name() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE users (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE users;
         SELECT upkeep.enable_soft_delete('users', hide => 'swap_published')",
    )?;
    session.notices();
    session.run("ALTER TABLE users RENAME TO people")?;
    assert_eq!(relations(&mut session)?, "people people_deleted users_all");
    assert_eq!(
        notices(&mut session),
        [
            "WARNING: public.users_all keeps its name",
            "NOTICE: public.users_deleted is called people_deleted now, after people"
        ]
    );
    Ok(())
}

#[test]
fn who_takes_a_table_to_another_schema_is_told_what_stays() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('t'); CREATE SCHEMA other")?;
    session.notices();
    session.run("ALTER TABLE t SET SCHEMA other")?;
    assert_eq!(relations(&mut session)?, "other.t t_deleted t_live");
    let notices = session.notices();
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!(notice.message(), "what belongs to other.t stays in its schema");
    let hint = notice.hint().unwrap_or_default();
    assert_eq!(
        hint,
        "To have it in the new one as well: ALTER VIEW public.t_live SET SCHEMA other; ALTER VIEW public.t_deleted SET SCHEMA other;"
    );
    session.run("ALTER TABLE other.t ADD n int")?;
    assert_eq!(session.notices().len(), 0);
    session.run(&hint["To have it in the new one as well: ".len()..])?;
    assert_eq!(relations(&mut session)?, "other.t other.t_deleted other.t_live");
    session.run("ALTER TABLE other.t RENAME TO u")?;
    assert_eq!(relations(&mut session)?, "other.u other.u_deleted other.u_live");
    Ok(())
}

/// A name that was taken once is not a name of somebody's own.
#[test]
fn who_could_not_follow_once_follows_the_next_time() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE users (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('users');
         CREATE VIEW people_live AS SELECT 1; ALTER TABLE users RENAME TO people",
    )?;
    assert_eq!(relations(&mut session)?, "people people_deleted people_live users_live");
    session.run("DROP VIEW people_live; ALTER TABLE people RENAME TO clients")?;
    assert_eq!(relations(&mut session)?, "clients clients_deleted clients_live");
    // What somebody has called otherwise since then he has called so.
    session.run(
        "CREATE VIEW a_live AS SELECT 1; ALTER TABLE clients RENAME TO a; \
         ALTER VIEW clients_live RENAME TO mine; ALTER TABLE a RENAME TO b",
    )?;
    assert_eq!(relations(&mut session)?, "a_live b b_deleted mine");
    Ok(())
}

#[test]
fn what_is_somebody_elses_keeps_its_name() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (owner, other) = (db.role("owner")?, db.role("other")?);
    let mut own = db.connect_as(&owner)?;
    own.run(
        "CREATE TABLE h (id int PRIMARY KEY, x int); SELECT upkeep.enable_soft_delete('h');
         CREATE TABLE s (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('s', hide => 'swap')",
    )?;
    session.run(&format!(
        "ALTER VIEW h_live OWNER TO {other}; ALTER VIEW s OWNER TO {other}; CREATE SCHEMA other AUTHORIZATION {other}"
    ))?;
    let mut others = db.connect_as(&other)?;
    others.run(
        "CREATE OR REPLACE VIEW h_live AS SELECT id, x, deleted_at, deleted_by, deletion_id FROM h WHERE id > 5;
         ALTER VIEW h_live SET SCHEMA other",
    )?;
    let names = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'v') \
                 AND c.relnamespace::regnamespace::text IN ('public', 'other') ORDER BY 1";
    own.run("ALTER TABLE h RENAME TO g")?;
    assert_eq!(session.values::<String>(names)?, ["g", "g_deleted", "other.h_live", "s", "s_all", "s_deleted"]);
    // Whatever the view's owner calls his view, the table is not his.
    others.run("ALTER VIEW s RENAME TO r")?;
    assert_eq!(session.values::<String>(names)?, ["g", "g_deleted", "other.h_live", "r", "s_all", "s_deleted"]);
    assert!(notices(&mut others).contains(&"WARNING: public.s_all keeps its name".to_owned()));
    // Nor is a view renamed, whoever asks, that says something else than soft delete.
    session.run("ALTER TABLE g RENAME TO f")?;
    assert_eq!(session.values::<String>(names)?, ["f", "f_deleted", "other.h_live", "r", "s_all", "s_deleted"]);
    Ok(())
}
