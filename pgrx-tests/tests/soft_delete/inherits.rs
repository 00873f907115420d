//! Foreign keys count a table's own rows, and so does soft delete: what inherits from a referencing table is left alone, and
//! what inherits from the referenced one takes nothing along. 2,000 deletions over trees of INHERITS beside plain DELETE.

use anyhow::Result;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing;

const ACTIONS: [&str; 5] = ["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION", "RESTRICT"];
const PARENTS: usize = 60;

/// Tables of one schema: `c` references `p`, `k1` inherits from `c` and `k2` from `k1`; `k1` may reference `p` as well.
fn create(schema: &str, soft: bool, action: &str, of_heir: Option<&str>, seed: usize) -> String {
    let managed = |table: &str| {
        if soft { format!("SELECT upkeep.enable_soft_delete('{schema}.{table}');") } else { String::new() }
    };
    let child = if action == "CASCADE" { managed("c") } else { String::new() };
    let heir = of_heir.map_or_else(String::new, |action| {
        format!("ALTER TABLE k1 ADD FOREIGN KEY (p_id) REFERENCES p ON DELETE {action};")
    });
    let last = PARENTS - 1;
    let (c, k1, k2) = (seed % 5 + 2, seed % 3 + 2, seed % 7 + 2);
    format!(
        "CREATE SCHEMA {schema}; SET search_path = {schema};
         CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p SELECT generate_series(0, {last});
         CREATE TABLE c (id int PRIMARY KEY, p_id int DEFAULT {last} REFERENCES p ON DELETE {action});
         INSERT INTO c SELECT g, g * {c} % {PARENTS} FROM generate_series(1, 40) g;
         {child}{}
         CREATE TABLE k1 (PRIMARY KEY (id)) INHERITS (c); CREATE TABLE k2 (PRIMARY KEY (id)) INHERITS (k1); {heir}
         INSERT INTO k1 SELECT g, g * {k1} % {PARENTS} FROM generate_series(1, 40) g;
         INSERT INTO k2 SELECT g, g * {k2} % {PARENTS} FROM generate_series(1, 40) g;
         RESET search_path",
        managed("p")
    )
}

/// Deletes every row of `p`, each by itself, and notes how that ended.
fn delete_all(schema: &str, delete: &str) -> String {
    format!(
        "CREATE TABLE {schema}.ended (id int, how text);
         DO $do$ BEGIN
             FOR i IN 0..{} LOOP
                 BEGIN
                     EXECUTE $sql$ {delete} $sql$ USING i;
                     INSERT INTO {schema}.ended VALUES (i, 'deleted');
                 EXCEPTION WHEN integrity_constraint_violation THEN
                     INSERT INTO {schema}.ended VALUES (i, 'refused');
                 END;
             END LOOP;
         END $do$",
        PARENTS - 1
    )
}

/// All that is left.
fn left(session: &mut Session, schema: &str, is_soft: [bool; 2]) -> Result<Vec<String>> {
    let live = |soft: bool| if soft { " WHERE deleted_at IS NULL" } else { "" };
    session.rows(&format!(
        "SELECT 'ended', id, how FROM {schema}.ended
         UNION ALL SELECT 'p', id, NULL FROM ONLY {schema}.p{}
         UNION ALL SELECT 'c', id, p_id::text FROM ONLY {schema}.c{}
         UNION ALL SELECT 'k1', id, p_id::text FROM ONLY {schema}.k1 UNION ALL SELECT 'k2', id, p_id::text FROM ONLY {schema}.k2
         ORDER BY 1, 2",
        live(is_soft[0]),
        live(is_soft[1])
    ))
}

#[test]
fn deletions_end_as_plain_ones_do() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (mut deletions, mut refused) = (0, 0);
    for (i, action) in ACTIONS.iter().enumerate() {
        for of_heir in [None, Some("SET NULL"), Some("SET DEFAULT"), Some("NO ACTION"), Some("RESTRICT")] {
            let seed = 7 * i + deletions;
            for soft in [false, true] {
                let schema = if soft { "soft" } else { "plain" };
                session.run(&create(schema, soft, action, of_heir, seed))?;
                let delete = match soft {
                    true => "SELECT upkeep.soft_delete('soft.p'::regclass, 'id = ' || $1)",
                    false => "DELETE FROM plain.p WHERE id = $1",
                };
                session.run(&delete_all(schema, delete))?;
            }
            let expected = left(&mut session, "plain", [false, false])?;
            let found = left(&mut session, "soft", [true, *action == "CASCADE"])?;
            assert_eq!(found, expected, "ON DELETE {action}, the heir {of_heir:?}");
            deletions += PARENTS;
            refused += expected.iter().filter(|row| row.ends_with("|refused")).count();
            session.run("DROP SCHEMA plain, soft CASCADE")?;
        }
    }
    assert_eq!(deletions, 1500);
    assert!((300..1200).contains(&refused), "{refused} of {deletions} were refused");
    Ok(())
}

#[test]
fn what_comes_back_and_what_is_purged_counts_own_rows_too() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(&create("soft", true, "SET NULL", None, 0))?;
    let heirs = "SELECT string_agg(p_id::text, ',' ORDER BY id) FROM ONLY soft.k1 WHERE id IN (1, 2, 3)";
    let before = session.text(heirs)?;
    // The row of the heir has the same key, and references the same row.
    session.run("UPDATE soft.k1 SET p_id = NULL WHERE id = 1")?;
    let of_child = session.text("SELECT p_id FROM ONLY soft.c WHERE id = 1")?;
    let deletion = session.text(&format!("SELECT upkeep.soft_delete('soft.p', 'id = {of_child}')"))?;
    assert_eq!(session.text("SELECT p_id IS NULL FROM ONLY soft.c WHERE id = 1")?, "t");
    session.run(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?;
    assert_eq!(session.text("SELECT p_id FROM ONLY soft.c WHERE id = 1")?, of_child);
    assert_eq!(session.text("SELECT p_id IS NULL FROM ONLY soft.k1 WHERE id = 1")?, "t");
    session.run(&format!("UPDATE soft.k1 SET p_id = {} WHERE id = 1", before.split(',').next().unwrap_or("0")))?;
    // A row that only an heir names is purged, as it would be deleted.
    session.run("DELETE FROM ONLY soft.c; INSERT INTO soft.k1 VALUES (99, 7)")?;
    session.run("SELECT upkeep.soft_delete('soft.p', 'id = 7')")?;
    let job = session.text("SELECT upkeep.purge_deleted('soft.p', '0 s')")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM soft.p WHERE id = 7")?, "0");
    // And a new row in the heir may name it, as it might a row that does not exist.
    session.run("INSERT INTO soft.k2 VALUES (99, 7)")?;
    assert_eq!(sqlstate(&mut session, "INSERT INTO soft.c VALUES (99, 7)")?, "23503");
    Ok(())
}

/// `h` and `h2` inherit from `p`, which `c` references; all three have rows of the same keys.
fn create_heirs(schema: &str, soft: bool, action: &str) -> String {
    let managed = |table: &str| {
        if soft { format!("SELECT upkeep.enable_soft_delete('{schema}.{table}');") } else { String::new() }
    };
    let child = if action == "CASCADE" { managed("c") } else { String::new() };
    format!(
        "CREATE SCHEMA {schema}; SET search_path = {schema};
         CREATE TABLE p (id int PRIMARY KEY, kind text, code int UNIQUE);
         INSERT INTO p SELECT g, 'p', g + 1000 FROM generate_series(0, 59) g;
         CREATE TABLE c (id int PRIMARY KEY, p_id int DEFAULT 59 REFERENCES p ON DELETE {action},
                         code int DEFAULT 1059 REFERENCES p (code) ON DELETE {action});
         INSERT INTO c SELECT g, g * 7 % 60, 1000 + g * 11 % 60 FROM generate_series(1, 25) g;
         {child}{}
         CREATE TABLE h () INHERITS (p); CREATE TABLE h2 (more int) INHERITS (h);
         INSERT INTO h SELECT g % 60, CASE WHEN g % 4 = 0 THEN 'p' ELSE 'h' END, 1000 + g * 3 % 60 FROM generate_series(0, 119) g;
         INSERT INTO h2 SELECT g, 'h2', 1000 + g FROM generate_series(0, 59) g;
         RESET search_path",
        managed("p")
    )
}

#[test]
fn rows_of_heirs_take_nothing_along() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let (mut kept, mut gone) = (0, 0);
    for action in ACTIONS {
        for through_view in [false, true] {
            for soft in [false, true] {
                let schema = if soft { "soft" } else { "plain" };
                session.run(&create_heirs(schema, soft, action))?;
                // By one of the kinds at each key; then many at once.
                let which = "CASE WHEN $1 % 3 = 0 THEN 'p' WHEN $1 % 3 = 1 THEN 'h' ELSE 'h2' END";
                let delete = match (soft, through_view) {
                    (false, _) => format!("DELETE FROM plain.p WHERE id = $1 AND kind = {which}"),
                    (true, true) => format!("DELETE FROM soft.p_live WHERE id = $1 AND kind = {which}"),
                    (true, false) => format!(
                        "SELECT upkeep.soft_delete('soft.p'::regclass, pg_catalog.format('id = %s AND kind = %L', $1, {which}))"
                    ),
                };
                session.run(&delete_all(schema, &delete))?;
                session.run(match (soft, through_view) {
                    (false, _) => "DELETE FROM plain.p WHERE kind <> 'p'",
                    (true, true) => "DELETE FROM soft.p_live WHERE kind <> 'p'",
                    (true, false) => "SELECT upkeep.soft_delete('soft.p', $$kind <> 'p'$$)",
                })?;
            }
            let left = |session: &mut Session, schema: &str, is_soft: [bool; 2]| -> Result<Vec<String>> {
                let live = |soft: bool| if soft { " WHERE deleted_at IS NULL" } else { "" };
                session.rows(&format!(
                    "SELECT 'ended', id, how, NULL FROM {schema}.ended
                     UNION ALL SELECT tableoid::regclass::text, id, kind, code FROM {schema}.p{}
                     UNION ALL SELECT 'child', id, p_id::text, code FROM {schema}.c{} ORDER BY 1, 2, 3, 4",
                    live(is_soft[0]),
                    live(is_soft[1])
                ))
            };
            let expected = left(&mut session, "plain", [false, false])?;
            let found = left(&mut session, "soft", [true, action == "CASCADE"])?;
            let plain = |rows: Vec<String>| -> Vec<String> {
                rows.into_iter().map(|row| row.replace("soft.", "").replace("plain.", "")).collect()
            };
            assert_eq!(plain(found), plain(expected.clone()), "ON DELETE {action}, through the view: {through_view}");
            kept += expected.iter().filter(|row| row.starts_with("child")).count();
            gone += expected.iter().filter(|row| row.ends_with("|refused|")).count();
            session.run("DROP SCHEMA plain, soft CASCADE")?;
        }
    }
    assert!(kept > 100 && gone > 20, "{kept} rows were kept, {gone} deletions refused");
    Ok(())
}

#[test]
fn what_inherits_is_shown_and_comes_back() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE q (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('q');
         CREATE TABLE p (id int PRIMARY KEY, q int REFERENCES q); CREATE TABLE k (id int PRIMARY KEY, p int \
         REFERENCES p ON DELETE CASCADE);
         SELECT upkeep.enable_soft_delete('k'); SELECT upkeep.enable_soft_delete('p');
         CREATE TABLE heir () INHERITS (p);
         INSERT INTO q VALUES (1); INSERT INTO p VALUES (1, NULL); INSERT INTO heir VALUES (1, 1), (2, 1); INSERT INTO k VALUES (1, 1)",
    )?;
    let drift = "SELECT problem, repair FROM upkeep.soft_delete_drift";
    assert_eq!(session.rows(drift)?, ["heir inherits from it, without soft delete|ALTER TABLE heir NO INHERIT p;"]);
    let deletion = session.text("SELECT upkeep.soft_delete('p', 'q = 1')")?;
    assert_eq!(session.text("SELECT rows FROM upkeep.deletions")?, "{\"p\": 2}");
    // A row of the heir references nothing: what it names may be gone when it comes back.
    session.run("SELECT upkeep.soft_delete('q', 'true')")?;
    assert_eq!(session.text(&format!("SELECT upkeep.undelete('{deletion}'::uuid)"))?, "2");
    session.run("DELETE FROM p_live WHERE q = 1")?;
    assert_eq!(session.text("SELECT upkeep.undelete('p', 'true')")?, "2");
    assert_eq!(session.text("SELECT count(*) FROM k_live")?, "1");
    // Its own rows do take along what references them.
    session.run("DELETE FROM p_live")?;
    assert_eq!(session.text("SELECT count(*) FROM k_live")?, "0");
    session.run("ALTER TABLE heir NO INHERIT p")?;
    assert!(session.rows(drift)?.is_empty());
    session.run("CREATE TABLE above (id int NOT NULL); ALTER TABLE p INHERIT above")?;
    assert_eq!(
        session.rows(drift)?,
        ["it inherits from above, which has no soft delete of its rows|ALTER TABLE p NO INHERIT above;"]
    );
    Ok(())
}
