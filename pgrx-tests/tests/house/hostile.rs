//! The hostile suite itself: that its traps catch what they are for. Without `UPKEEP_HOSTILE` there are none, and these tests do nothing.

use anyhow::Result;
use upkeep_tests::{hostile, testing};

/// The traps that were set off in this database by now.
fn caught(db: &testing::Database) -> Vec<String> {
    hostile::judge(&db.log(), Some(&db.name))
}

#[test]
fn traps_do_what_their_originals_do() -> Result<()> {
    if !hostile::wanted() {
        return Ok(());
    }
    let db = testing::database()?;
    let mut session = db.connect()?;
    assert_eq!(session.text("SHOW search_path")?.replace('"', ""), hostile::SEARCH_PATH);
    let answers = session.rows(
        "SELECT 1 + 1, upper('a'), 'x'::text || 'y', 3 IN (1, 3), 5 BETWEEN 1 AND 4, count(*) \
         FROM generate_series(1, 3)",
    )?;
    assert_eq!(answers, ["2|A|xy|t|f|3"]);
    let traps = "SELECT count(*) FROM pg_depend WHERE refobjid = 'traps'::regnamespace";
    assert!(session.value::<i64>(traps)? > 2500, "the traps are in new databases, too");
    assert_eq!(caught(&db), [""; 0], "what a session sends is its own");
    Ok(())
}

#[test]
fn an_unqualified_name_is_caught_and_a_qualified_one_is_not() -> Result<()> {
    if !hostile::wanted() {
        return Ok(());
    }
    let db = testing::database()?;
    let mut session = db.connect()?;
    // Texts that no session sent, as those in our library: put together where they run.
    let hidden = |parts: &str| format!("DO $do$ BEGIN EXECUTE {parts}; END $do$");
    session.run(&hidden("'SELECT pg_catalog.up' || 'per(''pinned''::pg_catalog.' || 'text)'"))?;
    assert_eq!(caught(&db), [""; 0], "it is qualified");
    for (parts, kind) in [
        ("'SELECT up' || 'per(''careless'')'", "function upper"),
        ("'SELECT ''careless''::te' || 'xt'", "type text"),
        ("'SELECT 4' || '7 + 8'", "operator +"),
        ("'SELECT 4 I' || 'N (4, 7)'", "operator ="),
    ] {
        let before = caught(&db).len();
        session.run(&hidden(parts))?;
        let found = caught(&db);
        assert!(found.len() > before && found.iter().any(|f| f.contains(kind)), "{kind}: {found:#?}");
    }
    db.forgive();
    Ok(())
}

/// A trap in a function of ours in SQL would show as the function's, not as a statement's: so none of them looks for
/// names when it is called.
#[test]
fn functions_in_sql_find_their_names_when_they_are_made() -> Result<()> {
    let db = testing::database()?;
    let late = "SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
                 WHERE p.pronamespace = 'upkeep'::pg_catalog.regnamespace AND l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL
                 ORDER BY 1";
    // Its body has every name and operator qualified, as step `sql` of cargo verify makes sure.
    assert_eq!(db.connect()?.rows(late)?, ["_is_executor"]);
    Ok(())
}
