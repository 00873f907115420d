//! A run of `retention` has its purge as a part of itself: it ends when that has, and as that does.

use anyhow::Result;
use upkeep_tests::jobs::{
    executors_of, sqlstate, state, wait, wait_for_error, wait_for_state, wait_until_asleep, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};

const RUN_STATUS: &str = "SELECT status FROM upkeep.schedule_runs ORDER BY due_at DESC LIMIT 1";

/// A table with rows that are due, which somebody has for himself: the run, its purge, and who has the table.
fn held_up(db: &Database) -> Result<(Session, Session, String, String)> {
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY);
         SELECT upkeep.enable_soft_delete('t', retention => '30 days');
         INSERT INTO t SELECT generate_series(1, 10);
         SELECT upkeep.soft_delete('t', 'id <= 5');
         UPDATE t SET deleted_at = deleted_at - interval '31 days' WHERE id <= 3",
    )?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE t IN SHARE MODE")?;
    let run = session.text("SELECT upkeep.run_now('purge public.t')")?;
    let purge = format!("SELECT id FROM upkeep.jobs WHERE parent = '{run}'");
    wait_for_text(&mut session, &format!("SELECT count(*) FROM ({purge}) p"), "1")?;
    let purge = session.text(&purge)?;
    Ok((session, holder, run, purge))
}

#[test]
fn a_run_ends_with_its_purge_and_holds_no_worker_meanwhile() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut holder, run, purge) = held_up(&db)?;
    let shown = format!("SELECT concat_ws('|', state, wait_reason, percent) FROM upkeep.jobs WHERE id = '{run}'");
    wait_for_text(&mut session, &shown, &format!("waiting|waits for its part, purge of public.t (job {purge})|0"))?;
    assert_eq!(session.text("SELECT concat_ws('|', status, rows, error) FROM upkeep.schedule_runs")?, "running|0");
    // The purge tries for the lock, with growing pauses, and then without a worker.
    let lock = format!(
        "SELECT state, wait_reason LIKE 'waits to try again after SQLSTATE 55P03%' FROM upkeep.jobs WHERE id = '{purge}'"
    );
    wait_for_text(&mut session, &lock, "waiting|t")?;
    let workers = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND query LIKE '%{run}%'"
    );
    wait_for_text(&mut session, &workers, "0")?;
    wait_for_text(&mut session, &workers.replace(&run, &purge), "0")?;
    holder.run("COMMIT")?;
    // Its next look would come by itself.
    session.run(&format!("SELECT upkeep.resume('{purge}')"))?;
    wait(&mut session, &run)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "7");
    assert_eq!(session.text(&format!("SELECT state, percent FROM upkeep.jobs WHERE id = '{run}'"))?, "done|100");
    wait_for_text(&mut session, RUN_STATUS, "done")?;
    assert_eq!(session.text("SELECT rows FROM upkeep.schedule_runs")?, "3");
    assert!(executors_of(&mut session, &run)?.is_empty());
    Ok(())
}

#[test]
fn a_run_fails_with_its_purge_which_can_be_tried_again() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut holder, run, purge) = held_up(&db)?;
    session.run(&format!("SELECT upkeep.cancel('{purge}')"))?;
    let error = wait_for_error(&mut session, &run)?;
    assert_eq!((error.code().code(), error.message()), ("57014", "a part of the job was canceled"));
    holder.run("COMMIT")?;
    // A run is noted, and not repeated; its purge is.
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.retry('{run}')"))?, "55000");
    session.run(&format!("SELECT upkeep.retry('{purge}')"))?;
    wait(&mut session, &purge)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "7");
    assert_eq!(sqlstate(&mut session, &format!("SELECT upkeep.drop_job('{purge}')"))?, "55000");
    session.run(&format!("SELECT upkeep.drop_job('{run}')"))?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "0");
    Ok(())
}

#[test]
fn a_run_that_has_begun_is_the_last_of_a_schedule_that_ends() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut holder, run, purge) = held_up(&db)?;
    let waits = format!("SELECT state FROM upkeep.jobs WHERE id = '{run}'");
    wait_for_text(&mut session, &waits, "waiting")?;
    session.run("SELECT upkeep.unschedule('purge public.t')")?;
    assert_eq!(state(&mut session, &run)?, "waiting");
    holder.run("COMMIT")?;
    wait_for_state(&mut session, &purge, "done")?;
    wait_for_state(&mut session, &run, "done")?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "7");
    Ok(())
}

/// Whatever a command has begun, it can be canceled, and what it has begun with it.
#[test]
fn a_command_that_has_made_a_part_can_be_canceled() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY); SELECT upkeep.enable_soft_delete('t', retention => '30 days');
         INSERT INTO t VALUES (1); SET lock_timeout = '2s'",
    )?;
    let schedule = session.text("SELECT id FROM upkeep.schedules")?;
    let job = session.text(&format!(
        "SELECT upkeep.run_in_background(
             $of$DO $$BEGIN PERFORM upkeep._purge_by_retention('{schedule}'); PERFORM pg_sleep(3600); END$$$of$)"
    ))?;
    wait_until_asleep(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)?;
    assert_eq!(session.text("SELECT string_agg(state, ',') FROM upkeep.jobs")?, "canceled", "the part was rolled back");
    // One that commits by itself.
    session.run(&format!(
        "CREATE PROCEDURE begins() LANGUAGE plpgsql AS
         $$BEGIN PERFORM upkeep._purge_by_retention('{schedule}'); COMMIT; PERFORM pg_sleep(3600); END$$"
    ))?;
    let mut holder = db.connect()?;
    holder.run("BEGIN; LOCK TABLE t IN SHARE MODE")?;
    let job = session.text("SELECT upkeep.run_in_background('CALL begins()')")?;
    wait_until_asleep(&mut session, &job)?;
    wait_for_text(&mut session, &format!("SELECT count(*) FROM upkeep.jobs WHERE parent = '{job}'"), "1")?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    holder.run("COMMIT")?;
    let family = format!("SELECT string_agg(state, ',') FROM upkeep.jobs WHERE '{job}' IN (id, parent)");
    assert_eq!(session.text(&family)?, "canceled,canceled");
    wait_until_nobody_works_on(&mut session, &job)
}

#[test]
fn a_locked_part_keeps_nobody_elses_jobs() -> Result<()> {
    let server = testing::server("locked_part").preloaded().set("upkeep.job_retention", "0").start()?;
    let mut session = server.with_extension("parts")?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY);
         SELECT upkeep.enable_soft_delete('t', retention => '30 days'); INSERT INTO t VALUES (1)",
    )?;
    let mut holder = server.connect("parts")?;
    holder.run("BEGIN; LOCK TABLE t IN SHARE MODE")?;
    let run = session.text("SELECT upkeep.run_now('purge public.t')")?;
    let purge = format!("SELECT id FROM upkeep.jobs WHERE parent = '{run}'");
    wait_for_text(&mut session, &format!("SELECT count(*) FROM ({purge}) p"), "1")?;
    let purge = session.text(&purge)?;
    let mut locker = server.connect("parts")?;
    session.run(&format!("SELECT upkeep.cancel('{purge}')"))?;
    locker.run(&format!("BEGIN; SELECT upkeep.cancel('{purge}')"))?;
    // What others have finished is forgotten meanwhile.
    let other = session.text("SELECT upkeep.run_in_background('SELECT 1')")?;
    wait_for_text(&mut session, &format!("SELECT count(*) FROM upkeep.jobs WHERE id = '{other}'"), "0")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "2", "the family of the locked one");
    locker.run("COMMIT")?;
    wait_for_text(&mut session, "SELECT count(*) FROM upkeep.jobs", "0")
}
