//! What a transaction sets off at its commit, and what it does not when (part of) it is rolled back, or prepared.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::{executors_of, run_in_background, sqlstate, state, wait, wait_for_state};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::wait_until;

/// A command that waits for the lock which `holder` has, and then leaves a row in `done`.
fn command_behind_a_lock(session: &mut Session, holder: &mut Session) -> Result<String> {
    holder.run("SELECT pg_advisory_lock(42)")?;
    session.run("CREATE TABLE IF NOT EXISTS done (job int)")?;
    let job = run_in_background(session, "INSERT INTO done SELECT 1 FROM pg_advisory_xact_lock(42)")?;
    let look = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE backend_type = 'pg_upkeep executor' AND query LIKE '%{job}%' AND wait_event = 'advisory'"
    );
    wait_for_text(session, &look, "1")?;
    Ok(job)
}

#[test]
fn a_cancel_that_is_rolled_back_interrupts_nobody() -> Result<()> {
    let db = testing::database()?;
    let (mut session, mut holder) = (db.connect()?, db.connect()?);
    let rolled_back = [
        "BEGIN; SAVEPOINT s; SELECT upkeep.cancel('{}'); ROLLBACK TO s; COMMIT",
        "DO $$BEGIN PERFORM upkeep.cancel('{}'); RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN NULL; END$$",
        // Released into a subtransaction that is rolled back.
        "BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT upkeep.cancel('{}'); RELEASE b; ROLLBACK TO a; COMMIT",
        "BEGIN; SELECT upkeep.cancel('{}'); ROLLBACK",
    ];
    for sql in rolled_back {
        let job = command_behind_a_lock(&mut session, &mut holder)?;
        session.run(&sql.replace("{}", &job))?;
        assert_eq!(state(&mut session, &job)?, "running", "{sql}");
        holder.run("SELECT pg_advisory_unlock(42)")?;
        wait(&mut session, &job)?;
    }
    assert_eq!(session.text("SELECT count(*) FROM done")?, "4");
    Ok(())
}

#[test]
fn a_cancel_that_is_released_interrupts_at_the_commit() -> Result<()> {
    let mut server = testing::server("released").preloaded().start()?;
    let (mut session, mut holder) = (server.connect("postgres")?, server.connect("postgres")?);
    session.run("CREATE EXTENSION pg_upkeep")?;
    let kept = [
        "BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT upkeep.cancel('{}'); RELEASE b; RELEASE a; COMMIT",
        "BEGIN; SAVEPOINT a; SELECT upkeep.cancel('{}'); RELEASE a; SAVEPOINT c; ROLLBACK TO c; COMMIT",
        "DO $$BEGIN PERFORM upkeep.cancel('{}'); EXCEPTION WHEN OTHERS THEN NULL; END$$",
    ];
    for sql in kept {
        let job = command_behind_a_lock(&mut session, &mut holder)?;
        // A scheduler would cancel it once more.
        server.set("upkeep.enabled", "off")?;
        server.reload()?;
        wait_until("the scheduler to leave", PATIENCE, || {
            testing::workers(&mut session, "scheduler").is_ok_and(|left| left.is_empty())
        })?;
        session.run(&sql.replace("{}", &job))?;
        wait_until("the executor to leave", PATIENCE, || {
            executors_of(&mut session, &job).is_ok_and(|executors| executors.is_empty())
        })?;
        assert_eq!(state(&mut session, &job)?, "canceled", "{sql}");
        holder.run("SELECT pg_advisory_unlock(42)")?;
        server.set("upkeep.enabled", "on")?;
        server.reload()?;
    }
    assert_eq!(session.text("SELECT count(*) FROM done")?, "0");
    Ok(())
}

/// Looks of every kind that there was have been: a job of this database, which asks for one, has run.
fn looked_elsewhere(server: &Cluster) -> Result<()> {
    let mut elsewhere = server.connect("elsewhere")?;
    let job = run_in_background(&mut elsewhere, "SELECT 1")?;
    wait(&mut elsewhere, &job)
}

#[test]
fn a_job_that_was_asked_for_while_nothing_may_run_runs_when_it_may() -> Result<()> {
    // Each look for another purpose would hide one that is missing.
    let mut server = testing::server("standstill").preloaded().set("upkeep.track_queries", "none").start()?;
    server.with_extension("elsewhere")?;
    let mut session = server.with_extension("here")?;
    for (setting, off, on) in [("upkeep.enabled", "off", "on"), ("upkeep.databases", "elsewhere", "")] {
        // It is over before the commit, and after it.
        for commits_late in [true, false] {
            server.set(setting, off)?;
            server.reload()?;
            session.run("BEGIN")?;
            let job = run_in_background(&mut session, "SELECT 1")?;
            if !commits_late {
                session.run("COMMIT")?;
            }
            server.set(setting, on)?;
            server.reload()?;
            looked_elsewhere(&server)?;
            if commits_late {
                session.run("COMMIT")?;
            }
            wait_for_state(&mut session, &job, "done")?;
        }
    }
    server.set("upkeep.max_workers", 0)?;
    server.reload()?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    server.set("upkeep.max_workers", 4)?;
    server.reload()?;
    wait_for_state(&mut session, &job, "done")?;
    // As a template it is forgotten; it is seen with whatever comes next.
    session.run("ALTER DATABASE here IS_TEMPLATE true")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    looked_elsewhere(&server)?;
    session.run("ALTER DATABASE here IS_TEMPLATE false")?;
    looked_elsewhere(&server)?;
    wait_for_state(&mut session, &job, "done")
}

#[test]
fn a_job_that_was_asked_for_without_a_launcher_runs_when_there_is_one() -> Result<()> {
    let server = testing::server("launcher").preloaded().set("upkeep.track_queries", "none").start()?;
    server.with_extension("elsewhere")?;
    let mut session = server.with_extension("here")?;
    session.run("BEGIN")?;
    let [launcher] = workers(&mut session, "launcher")?[..] else { bail!("one launcher was to be there") };
    session.run(&format!("SELECT pg_terminate_backend({launcher}, 60000)"))?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    looked_elsewhere(&server)?;
    session.run("COMMIT")?;
    wait_for_state(&mut session, &job, "done")?;

    // And where one is started by hand, as the warning says.
    let server = testing::server("by_hand").set("upkeep.track_queries", "none").start()?;
    let mut session = server.connect("postgres")?;
    session.run("BEGIN; CREATE EXTENSION pg_upkeep")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    session.run("SELECT upkeep.start_workers()")?;
    let mut other = server.connect("postgres")?;
    wait_until("its scheduler to have looked", PATIENCE, || {
        workers(&mut other, "launcher").is_ok_and(|there| !there.is_empty())
            && workers(&mut other, "scheduler").is_ok_and(|there| there.is_empty())
    })?;
    session.run("COMMIT")?;
    wait_for_state(&mut session, &job, "done")
}

#[test]
fn a_job_of_a_prepared_transaction_starts_when_it_is_committed() -> Result<()> {
    let server = testing::server("prepared").preloaded().set("max_prepared_transactions", 5).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    // The scheduler that looked at the new extension is gone.
    let ours = "SELECT string_agg(backend_type, ', ') FROM pg_stat_activity WHERE backend_type LIKE 'pg_upkeep%'";
    for how in ["a moment later", "after a while", "by another session"] {
        wait_for_text(&mut session, ours, "pg_upkeep launcher")?;
        session.run("BEGIN")?;
        let job = run_in_background(&mut session, "SELECT 1")?;
        session.run("PREPARE TRANSACTION 'x'")?;
        if how == "after a while" {
            session.run("SELECT pg_sleep(3)")?;
        }
        let committed = Instant::now();
        if how == "by another session" {
            server.connect("postgres")?.run("COMMIT PREPARED 'x'")?;
        } else {
            session.run("COMMIT PREPARED 'x'")?;
        }
        wait_for_state(&mut session, &job, "done")?;
        assert!(committed.elapsed() < Duration::from_secs(10), "{how}: {:?}", committed.elapsed());
    }
    session.run("BEGIN")?;
    run_in_background(&mut session, "SELECT 1")?;
    session.run("PREPARE TRANSACTION 'y'")?;
    session.run("ROLLBACK PREPARED 'y'")?;
    assert_eq!(session.text("SELECT count(*) FROM upkeep.jobs")?, "3");
    // It notifies, and what notifies cannot be prepared, by PostgreSQL's own rule.
    let job = run_in_background(&mut session, "SELECT pg_sleep(3600)")?;
    wait_for_state(&mut session, &job, "running")?;
    session.run(&format!("BEGIN; SELECT upkeep.cancel('{job}')"))?;
    assert_eq!(sqlstate(&mut session, "PREPARE TRANSACTION 'z'")?, "0A000");
    session.run("SELECT 1")?;
    assert_eq!(state(&mut session, &job)?, "running");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn a_prepared_transaction_is_looked_after_by_the_next_launcher_too() -> Result<()> {
    let server = testing::server("restarted").preloaded().set("max_prepared_transactions", 5).start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run("BEGIN")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    session.run("PREPARE TRANSACTION 'x'")?;
    let [launcher] = testing::workers(&mut session, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    session.run(&format!("SELECT pg_terminate_backend({launcher})"))?;
    let another = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep launcher' AND pid <> ";
    wait_for_text(&mut session, &format!("{another}{launcher}"), "1")?;
    session.run("COMMIT PREPARED 'x'")?;
    wait_for_state(&mut session, &job, "done")
}

#[test]
fn a_segment_that_a_commit_points_into_outlives_its_launcher() -> Result<()> {
    let server = testing::server("segments").preloaded().start()?;
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    session.run("BEGIN")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    let mut other = server.connect("postgres")?;
    // More than a session keeps mapped without need.
    for _ in 0..6 {
        let [launcher] = testing::workers(&mut other, "launcher")?[..] else {
            anyhow::bail!("one launcher is expected")
        };
        other.run(&format!("SELECT pg_terminate_backend({launcher})"))?;
        let ready = format!("SELECT coalesce(launcher_pid <> {launcher}, false) FROM upkeep.status");
        wait_for_text(&mut other, &ready, "t")?;
        // Looks into the new one, with the old one still to be woken in.
        session.run("SELECT workers FROM upkeep.status")?;
    }
    session.run("COMMIT")?;
    session.run("SELECT upkeep.alter_job(id, name => 'woken') FROM upkeep.jobs WHERE state = 'queued'")?;
    wait_for_state(&mut session, &job, "done")
}
