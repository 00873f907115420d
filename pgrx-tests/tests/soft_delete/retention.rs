//! The schedule of `retention` belongs to its table, whatever that is called and whoever owns it.

use anyhow::Result;
use upkeep_tests::jobs::{sqlstate, wait};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

const DRIFT: &str = "SELECT problem, repair FROM upkeep.soft_delete_drift ORDER BY 1";
const NONE: [&str; 0] = [];
const SCHEDULES: &str = "SELECT name, owner FROM upkeep.schedules ORDER BY 1";
const SCHEDULE: &str = "upkeep.schedule(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, interval, \
                        integer, interval, boolean, boolean, boolean)";

/// A table of a keeper's, in a schema of his, with rows that are due and rows that are not.
fn scene(db: &Database) -> Result<(Session, String)> {
    let keeper = db.role("keeper")?;
    let mut session = db.connect()?;
    session.run(&format!(
        "CREATE SCHEMA \"s 1\"; GRANT ALL ON SCHEMA \"s 1\" TO {keeper};
         GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {keeper};
         CREATE TABLE \"s 1\".t (id int PRIMARY KEY); ALTER TABLE \"s 1\".t OWNER TO {keeper};
         SELECT upkeep.enable_soft_delete('\"s 1\".t', retention => '30 days')"
    ))?;
    fill(&mut session, "\"s 1\".t")?;
    Ok((session, keeper))
}

/// Five rows, three of which are due.
fn fill(session: &mut Session, table: &str) -> Result<()> {
    session.run(&format!(
        "INSERT INTO {table} SELECT generate_series(1, 5); SELECT upkeep.soft_delete('{table}', 'id <= 4')"
    ))?;
    session.run(&format!("UPDATE {table} SET deleted_at = deleted_at - interval '31 days' WHERE id <= 3"))
}

/// Has the schedule run now, and gives its run's job.
fn run(session: &mut Session, schedule: &str) -> Result<String> {
    let run = session.text(&format!("SELECT upkeep.run_now('{schedule}')"))?;
    wait_for_text(session, &format!("SELECT finished_at IS NOT NULL FROM upkeep.jobs WHERE id = '{run}'"), "t")?;
    Ok(run)
}

#[test]
fn a_schedule_purges_its_own_table_whatever_that_is_called() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    session.run(
        "ALTER TABLE \"s 1\".t RENAME TO was; ALTER SCHEMA \"s 1\" RENAME TO s2;
         CREATE SCHEMA \"s 1\"; CREATE TABLE \"s 1\".t (id int CONSTRAINT k PRIMARY KEY); SELECT upkeep.enable_soft_delete('\"s 1\".t')",
    )?;
    fill(&mut session, "\"s 1\".t")?;
    session.run(&format!("GRANT ALL ON SCHEMA \"s 1\" TO {keeper}; ALTER TABLE \"s 1\".t OWNER TO {keeper}"))?;
    assert_eq!(session.rows(DRIFT)?, NONE);
    let run = run(&mut session, "purge \"s 1\".t")?;
    wait(&mut session, &run)?;
    wait_for_text(
        &mut session,
        "SELECT string_agg(owner || ' ' || target || ' ' || state, ',') FROM upkeep.jobs WHERE kind = 'purge'",
        &format!("{keeper} s2.was done"),
    )?;
    assert_eq!(session.text("SELECT (SELECT count(*) FROM s2.was), (SELECT count(*) FROM \"s 1\".t)")?, "2|5");
    // The name is taken: the other table's schedule gets another one.
    session.run(
        "SELECT upkeep.disable_soft_delete('\"s 1\".t', 'keep'); SELECT upkeep.enable_soft_delete('\"s 1\".t', retention => '1 day');
         ALTER TABLE s2.was SET SCHEMA \"s 1\""
    )?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{keeper}"), format!("purge \"s 1\".t 2|{keeper}")]);
    // Each goes with its own table.
    session.run("SELECT upkeep.disable_soft_delete('\"s 1\".was', 'keep')")?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t 2|{keeper}")]);
    session.run("DROP TABLE \"s 1\".t CASCADE")?;
    assert_eq!(session.rows(SCHEDULES)?, NONE);
    Ok(())
}

#[test]
fn a_schedule_goes_to_the_tables_new_owner() -> Result<()> {
    let db = testing::database()?;
    let (mut session, _keeper) = scene(&db)?;
    let heir = db.role("heir")?;
    session.run(&format!("GRANT ALL ON SCHEMA \"s 1\" TO {heir}; GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {heir}"))?;
    // He has one of that name.
    db.connect_as(&heir)?.run("SELECT upkeep.schedule('purge \"s 1\".t', '@daily', 'SELECT 1')")?;
    session.run(&format!("ALTER TABLE \"s 1\".t OWNER TO {heir}"))?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{heir}"), format!("purge \"s 1\".t 2|{heir}")]);
    assert_eq!(session.rows(DRIFT)?, NONE);
    run(&mut session, "purge \"s 1\".t 2")?;
    wait_for_text(
        &mut session,
        "SELECT string_agg(owner || ' ' || state, ',') FROM upkeep.jobs WHERE kind = 'purge'",
        &format!("{heir} done"),
    )?;
    assert_eq!(session.text("SELECT count(*) FROM \"s 1\".t")?, "2");
    session.run("SELECT upkeep.disable_soft_delete('\"s 1\".t', 'keep')")?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{heir}")]);
    Ok(())
}

/// One who may not have schedules gets none behind anybody's back, and the former owner's purges nothing.
#[test]
fn a_schedule_that_cannot_follow_shows_and_purges_nothing() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    let heir = db.role("heir")?;
    session.run(&format!("GRANT ALL ON SCHEMA \"s 1\" TO {heir}"))?;
    session.notices();
    session.run(&format!("ALTER TABLE \"s 1\".t OWNER TO {heir}"))?;
    let said: Vec<String> = session.notices().iter().map(|notice| notice.message().to_owned()).collect();
    assert_eq!(said, ["schedule \"purge \"s 1\".t\", which purges \"s 1\".t, stays with its owner"]);
    let drift = session.rows(DRIFT)?;
    assert_eq!(
        drift,
        [format!(
            "schedule \"purge \"\"s 1\"\".t\", which purges it, belongs to {keeper}, who does not own the table|\
             GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {heir}; SELECT upkeep.repair_soft_delete('\"s 1\".t');"
        )]
    );
    let job = run(&mut session, "purge \"s 1\".t")?;
    assert_eq!(
        session.text(&format!("SELECT state, error_sqlstate FROM upkeep._job WHERE id = '{job}'"))?,
        "failed|42501"
    );
    assert_eq!(session.text("SELECT count(*) FROM \"s 1\".t")?, "5");
    db.connect_as(&heir)?.run("SELECT upkeep.repair_soft_delete('\"s 1\".t')")?;
    assert_eq!(session.rows(DRIFT)?, drift);
    session.run(drift[0].split('|').next_back().unwrap_or_default())?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{heir}")]);
    assert_eq!(session.rows(DRIFT)?, NONE);
    Ok(())
}

/// REASSIGN OWNED is no ALTER TABLE, and event triggers can be off: drift shows it.
#[test]
fn nobody_followed_and_drift_shows_it() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    let heir = db.role("heir")?;
    session.run(&format!(
        "GRANT ALL ON SCHEMA \"s 1\" TO {heir}; GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {heir};
         REASSIGN OWNED BY {keeper} TO {heir}"
    ))?;
    let drift = session.rows(DRIFT)?;
    let found = drift.iter().filter(|row| row.contains("belongs to")).count();
    assert!(found > 0, "{drift:?}");
    for repair in session.values::<String>("SELECT DISTINCT repair FROM upkeep.soft_delete_drift ORDER BY 1")? {
        session.run(&repair)?;
    }
    assert_eq!(session.rows(DRIFT)?, NONE);
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{heir}")]);
    Ok(())
}

/// A command that somebody has rewritten is his: it is neither given away nor ended.
#[test]
fn a_rewritten_schedule_stays_its_authors() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    let heir = db.role("heir")?;
    session.run(&format!(
        "GRANT ALL ON SCHEMA \"s 1\" TO {heir}; GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {heir};
         SELECT upkeep.alter_schedule('purge \"s 1\".t', command => 'SELECT 2');
         ALTER TABLE \"s 1\".t OWNER TO {heir}"
    ))?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{keeper}")]);
    session.run("SELECT upkeep.repair_soft_delete('\"s 1\".t')")?;
    assert_eq!(session.rows(DRIFT)?, NONE);
    let both = [format!("purge \"s 1\".t|{heir}"), format!("purge \"s 1\".t|{keeper}")];
    assert_eq!(session.rows("SELECT name, owner FROM upkeep.schedules ORDER BY 2")?, both);
    session.run("SELECT upkeep.disable_soft_delete('\"s 1\".t', 'keep')")?;
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{keeper}")]);
    Ok(())
}

/// One that its owner has ended is not made again; one of a version before 0.6.0 is found by its name.
#[test]
fn what_its_owner_has_ended_stays_ended_and_older_ones_are_adopted() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    session.run(
        "UPDATE upkeep._soft_delete_table SET retention_schedule = NULL;
         UPDATE upkeep._schedule SET command = 'SELECT upkeep.purge_deleted(''\"s 1\".t''::pg_catalog.regclass, \
         ''30 days''::pg_catalog.interval)'",
    )?;
    let repair = "SELECT upkeep.repair_soft_delete('\"s 1\".t');";
    assert_eq!(session.rows(DRIFT)?, [format!("its retention has no schedule that follows the table|{repair}")]);
    session.run(repair)?;
    assert_eq!(session.rows(DRIFT)?, NONE);
    assert_eq!(session.rows(SCHEDULES)?, [format!("purge \"s 1\".t|{keeper}")]);
    assert_eq!(
        session.text("SELECT command = format('SELECT upkeep._purge_by_retention(%L::pg_catalog.uuid)', id) FROM upkeep.schedules")?,
        "t"
    );
    session.run("SELECT upkeep.unschedule(id) FROM upkeep.schedules")?;
    session.run(repair)?;
    assert_eq!(session.rows(SCHEDULES)?, NONE);
    assert_eq!(session.rows(DRIFT)?, NONE);
    session.run("SELECT upkeep.disable_soft_delete('\"s 1\".t', 'keep')")?;
    assert_eq!(
        sqlstate(&mut session, "SELECT upkeep._purge_by_retention('00000000-0000-0000-0000-000000000000')")?,
        "55000"
    );
    Ok(())
}

/// A purge that was asked for by somebody who owned the table then.
#[test]
fn a_purge_ends_when_the_table_is_somebody_elses() -> Result<()> {
    let db = testing::database()?;
    let (mut session, keeper) = scene(&db)?;
    let heir = db.role("heir")?;
    session.run(&format!("GRANT ALL ON SCHEMA \"s 1\" TO {heir}"))?;
    let mut owner = db.connect_as(&keeper)?;
    owner.run("BEGIN")?;
    let job = owner.text("SELECT upkeep.purge_deleted('\"s 1\".t', '0')")?;
    owner.run(&format!("SELECT upkeep.pause('{job}'); COMMIT"))?;
    session.run(&format!(
        "ALTER TABLE \"s 1\".t OWNER TO {heir}; GRANT ALL ON \"s 1\".t TO {keeper}; SELECT upkeep.resume('{job}')"
    ))?;
    wait_for_text(
        &mut session,
        &format!("SELECT state, error_sqlstate FROM upkeep._job WHERE id = '{job}'"),
        "failed|42501",
    )?;
    assert_eq!(session.text("SELECT count(*) FROM \"s 1\".t")?, "5");
    Ok(())
}
