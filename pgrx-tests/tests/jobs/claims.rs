//! What unfinished jobs have for themselves, when they are queued again, and after a dump.

use anyhow::Result;
use upkeep_tests::jobs::{sqlstate, state, wait_for_error};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database};

const CLAIMS: &str =
    "SELECT string_agg(concat_ws(' ', c.relid::regclass, c.what), ', ' ORDER BY c.relid::regclass::text, c.what)
                      FROM upkeep._job_claim c JOIN upkeep.jobs j ON j.id = c.job WHERE j.finished_at IS NULL";

fn table(session: &mut Session, name: &str) -> Result<()> {
    session.run(&format!("CREATE TABLE {name} (id int PRIMARY KEY, v int, w int)"))
}

fn backfill(session: &mut Session, name: &str, column: &str) -> Result<String> {
    session.text(&format!("SELECT upkeep.backfill('{name}', '{column} = 1', '{column} IS NULL')"))
}

/// As if the job had come with a dump from another server.
fn came_from_elsewhere(session: &mut Session) -> Result<()> {
    session.run("UPDATE upkeep._job SET system_identifier = 1, state = 'paused', reason = 'restored'")
}

fn database() -> Result<(Database, Session)> {
    let db = testing::database_without_preload()?;
    let session = db.connect()?;
    Ok((db, session))
}

#[test]
fn a_job_goes_with_its_claims() -> Result<()> {
    let (_db, mut session) = database()?;
    table(&mut session, "t")?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = 1, w = 2', 'v IS NULL')")?;
    assert_eq!(session.text(CLAIMS)?, "t column v, t column w");
    session.run(&format!("SELECT upkeep.cancel('{job}'); SELECT upkeep.drop_job('{job}')"))?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep._job_claim")?, "0");
    Ok(())
}

/// What a finished job had may be somebody else's by now.
#[test]
fn a_finished_job_takes_its_claims_anew() -> Result<()> {
    let (_db, mut session) = database()?;
    session.run(
        "CREATE TABLE u (id int PRIMARY KEY, email text UNIQUE);
         SELECT upkeep.enable_soft_delete('u', hide => 'none')",
    )?;
    for ask in [
        "SELECT upkeep.backfill('u', 'email = 1', 'email IS NULL')",
        "SELECT upkeep.make_unique_keys_partial('u')",
        "SELECT upkeep.purge_deleted('u', '0')",
    ] {
        let first = session.text(ask)?;
        session.run(&format!("SELECT upkeep.cancel('{first}')"))?;
        let second = session.text(ask)?;
        assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{first}')"))?, "55006", "{ask}");
        session.run(&format!("SELECT upkeep.cancel('{second}'); SELECT upkeep.retry('{first}')"))?;
        assert_eq!(sqlstate(&mut session, ask)?, "55006", "{ask}");
        // They are nothing to each other.
        assert_eq!(state(&mut session, &first)?, "queued");
    }
    Ok(())
}

/// Jobs that have become each other's rivals, because their tables have become one, go on as they did.
#[test]
fn what_an_unfinished_job_has_it_keeps() -> Result<()> {
    let (_db, mut session) = database()?;
    session.run(
        "CREATE TABLE root (id int PRIMARY KEY, v int, w int) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF root FOR VALUES FROM (0) TO (100)",
    )?;
    table(&mut session, "p2")?;
    let jobs = [backfill(&mut session, "root", "v")?, backfill(&mut session, "p2", "v")?];
    session.run("ALTER TABLE root ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)")?;
    assert_eq!(session.text("SELECT upkeep.pause_all(), upkeep.resume_all()")?, "2|2");
    for job in &jobs {
        session.run(&format!("SELECT upkeep.pause('{job}'); SELECT upkeep.resume('{job}')"))?;
        assert_eq!(state(&mut session, job)?, "queued");
    }
    // Whoever comes new is refused.
    session.run(&format!("SELECT upkeep.cancel('{}')", jobs[1]))?;
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{}')", jobs[1]))?, "55006");
    Ok(())
}

/// OIDs of another server say nothing here: each of these tables has there the OID that the other has here.
#[test]
fn restored_jobs_take_what_is_theirs_here() -> Result<()> {
    let (_db, mut session) = database()?;
    table(&mut session, "t1")?;
    table(&mut session, "t2")?;
    backfill(&mut session, "t1", "v")?;
    backfill(&mut session, "t2", "v")?;
    session.run(
        "UPDATE upkeep._job j SET relid = o.relid FROM upkeep._job o WHERE o.id <> j.id;
         UPDATE upkeep._job_claim c SET relid = j.relid FROM upkeep._job j WHERE j.id = c.job",
    )?;
    came_from_elsewhere(&mut session)?;
    assert_eq!(session.text("SELECT upkeep.resume_all()")?, "2");
    assert_eq!(session.text(CLAIMS)?, "t1 column v, t2 column v");
    Ok(())
}

#[test]
fn a_restored_job_that_cannot_have_its_claims_stays_paused_and_says_why() -> Result<()> {
    let (_db, mut session) = database()?;
    table(&mut session, "t")?;
    let restored = backfill(&mut session, "t", "v")?;
    // No scheduler has come by yet.
    session.run("UPDATE upkeep._job SET system_identifier = 1, state = 'queued'")?;
    let here = backfill(&mut session, "t", "v")?;
    session.notices();
    assert_eq!(session.text("SELECT upkeep.resume_all()")?, "0");
    let said = session.notices();
    let warning = said.iter().find(|notice| notice.message().contains("stays paused")).expect("a warning");
    assert!(warning.message().contains(&restored), "{warning:?}");
    let shown = format!("SELECT state, wait_reason FROM upkeep.jobs WHERE id = '{restored}'");
    let why = "paused|another job has what it needs: another backfill already fills column v of this table";
    assert_eq!(session.text(&shown)?, why);
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.resume('{restored}')"))?, "55006");
    session.run(&format!("SELECT upkeep.cancel('{here}'); SELECT upkeep.resume('{restored}')"))?;
    assert_eq!(state(&mut session, &restored)?, "queued");
    Ok(())
}

/// Whoever is asking for the same, in a transaction that he leaves open, keeps one job waiting and not all of them (LAW 32).
#[test]
fn resume_all_waits_for_nobody_who_asks_for_the_same() -> Result<()> {
    let (db, mut session) = database()?;
    table(&mut session, "t")?;
    table(&mut session, "other")?;
    let held_up = backfill(&mut session, "t", "v")?;
    let other = backfill(&mut session, "other", "v")?;
    came_from_elsewhere(&mut session)?;
    let mut idle = db.connect()?;
    idle.run("BEGIN")?;
    backfill(&mut idle, "t", "w")?;
    session.run("SET statement_timeout = '20s'")?;
    assert_eq!(session.text("SELECT upkeep.resume_all()")?, "1");
    assert_eq!([state(&mut session, &held_up)?, state(&mut session, &other)?], ["paused", "queued"]);
    idle.run("COMMIT")?;
    session.run(&format!("SELECT upkeep.resume('{held_up}')"))?;
    assert_eq!(state(&mut session, &held_up)?, "queued");
    Ok(())
}

/// As a session writes it that has an older library loaded, and commits after the update.
#[test]
fn a_job_without_claims_takes_them_when_it_is_started() -> Result<()> {
    let (_db, mut session) = database()?;
    table(&mut session, "t")?;
    let of_old = backfill(&mut session, "t", "v")?;
    session.run("DELETE FROM upkeep._job_claim")?;
    session.run("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL', paused => true)")?;
    session.run("SELECT upkeep.start_workers()")?;
    let error = wait_for_error(&mut session, &of_old)?;
    assert_eq!(error.code().code(), "55006");
    session.run("SELECT upkeep.stop_workers()")
}
