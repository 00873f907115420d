//! Executors that are ended in the middle of something: none loops, and nothing that has happened is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE};
use upkeep_tests::jobs::{
    backfill_endlessly, describe, end_endless_backfill, events, run_in_background, run_with, state, wait,
    wait_for_error, wait_for_state, wait_until_asleep,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, Database, wait_for_text};
use upkeep_tests::wait::{wait_for, wait_until};

/// Lets a pause between two starts be over, and has a scheduler come by.
fn pass_time(session: &mut Session) -> Result<()> {
    session.run("UPDATE upkeep._job_slot SET ended_at = ended_at - interval '1 hour'")?;
    session.run("SELECT upkeep.run_in_background('SELECT 1')")
}

fn ends(session: &mut Session, job: &str) -> Result<i32> {
    session.value(&format!("SELECT coalesce(max(ends), 0) FROM upkeep._job_slot WHERE job = '{job}'"))
}

fn terminations(server: &Cluster, since: u64) -> usize {
    server.log_since(since).matches("terminating background worker \"pg_upkeep executor\"").count()
}

#[test]
fn a_text_that_ends_its_own_worker_is_not_run_for_ever() -> Result<()> {
    let server = testing::server("ends").preloaded().start()?;
    let mut admin = server.connect("postgres")?;
    admin.run("CREATE EXTENSION pg_upkeep; CREATE ROLE author LOGIN; CREATE SCHEMA author AUTHORIZATION author")?;
    let mut author = server.connect_as("postgres", "author")?;
    author.run(
        "CREATE FUNCTION hangs_up() RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN 1; END$$;
         CREATE FUNCTION trigger_hangs_up() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN PERFORM hangs_up(); RETURN NEW; END$$;
         CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, NULL);
         CREATE TABLE b (LIKE a INCLUDING ALL); INSERT INTO b VALUES (1, NULL);
         CREATE TABLE c (LIKE a INCLUDING ALL); INSERT INTO c VALUES (1, NULL);
         CREATE TRIGGER t BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION trigger_hangs_up()",
    )?;
    let since = server.log_position();
    let started = Instant::now();
    let jobs = [
        author.text("SELECT upkeep.backfill('a', 'v = hangs_up()', 'v IS NULL')")?,
        author.text("SELECT upkeep.backfill('b', 'v = 1', 'v IS NULL AND hangs_up() = 1')")?,
        author.text("SELECT upkeep.backfill('c', 'v = 1', 'v IS NULL')")?,
    ];
    // Left alone, the pauses grow: at once, 1 s, 2 s, ..
    for job in &jobs {
        wait_until("three ends", PATIENCE, || ends(&mut admin, job).is_ok_and(|ends| ends >= 3))
            .with_context(|| describe(&mut admin, job))?;
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "three ends in {:?}", started.elapsed());
    assert!(terminations(&server, since) <= 18, "{}", terminations(&server, since));
    for job in &jobs {
        wait_for("the job to fail", PATIENCE * 2, || {
            pass_time(&mut admin)?;
            std::thread::sleep(Duration::from_millis(100));
            Ok((state(&mut admin, job)? == "failed").then_some(()))
        })
        .with_context(|| describe(&mut admin, job))?;
        let error = wait_for_error(&mut author, job)?;
        assert_eq!(error.code().code(), "57P01");
        assert!(error.message().contains("10 times in a row"), "{}", error.message());
        let strikes = format!("SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND event = 'strike'");
        assert_eq!(admin.text(&strikes)?, "0");
    }
    assert_eq!(terminations(&server, since), 30);

    // A retry starts to count anew, and what has been put right works.
    author.run("CREATE OR REPLACE FUNCTION hangs_up() RETURNS int LANGUAGE sql AS 'SELECT 1'")?;
    for job in &jobs {
        author.run(&format!("SELECT upkeep.retry('{job}')"))?;
        wait(&mut author, job)?;
        assert_eq!(ends(&mut admin, job)?, 0, "progress ends the count");
    }
    Ok(())
}

#[test]
fn a_command_that_ends_its_own_worker_is_interrupted() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE tries (at timestamptz)")?;
    session.run(
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS
         $$BEGIN INSERT INTO tries VALUES (clock_timestamp()); COMMIT;
                 PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END$$",
    )?;
    let once = run_in_background(&mut session, "CALL p()")?;
    assert!(wait_for_error(&mut session, &once)?.message().contains("interrupted"));
    assert_eq!(session.text("SELECT count(*) FROM tries")?, "1");
    let thrice = run_with(&mut session, "CALL p()", "retries => 2")?;
    assert!(wait_for_error(&mut session, &thrice)?.message().contains("interrupted"));
    assert_eq!(session.text("SELECT count(*) FROM tries")?, "4");
    Ok(())
}

#[test]
fn who_is_asked_to_leave_with_all_others_has_done_nothing_wrong() -> Result<()> {
    let mut server = testing::server("leave").preloaded().start()?;
    let mut session = server.with_extension("shop")?;
    let (job, _) = backfill_endlessly(&mut session)?;
    // CREATE DATABASE .. TEMPLATE has our workers leave, and then fails: this session is in the way.
    let mut other = server.connect("postgres")?;
    for _ in 0..2 {
        assert!(other.run("CREATE DATABASE copy TEMPLATE shop").is_err());
        wait_until_asleep(&mut session, &job)?;
    }
    for _ in 0..2 {
        drop(session);
        drop(other);
        server.restart()?;
        session = server.connect("shop")?;
        other = server.connect("postgres")?;
        wait_until_asleep(&mut session, &job)?;
    }
    assert_eq!(session.text("SELECT max(ends), max(strikes) FROM upkeep._job_slot")?, "0|0");
    let told = "SELECT count(*) FROM upkeep.job_events WHERE event = 'interrupted'";
    assert_eq!(session.text(told)?, "0");
    end_endless_backfill(&mut session, &job)
}

#[test]
fn starts_that_fail_come_ever_later_whatever_scheduler_makes_them() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    let job = session.text("SELECT upkeep.run_in_background('SELECT 1', 'damaged')")?;
    wait(&mut session, &job)?;
    session.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL)")?;
    let job = session.text("SELECT upkeep.backfill('t', 'v = 1', 'v IS NULL', paused => true)")?;
    session.run(&format!("UPDATE upkeep._job SET run_between = 'nonsense' WHERE id = '{job}'"))?;
    session.run(&format!("SELECT upkeep.resume('{job}')"))?;
    let starts = format!("SELECT coalesce(max(failed_starts), 0) >= 4 FROM upkeep._job_slot WHERE job = '{job}'");
    let started = Instant::now();
    wait_until("four failed starts", PATIENCE, || session.text(&starts).is_ok_and(|four| four == "t"))
        .with_context(|| describe(&mut session, &job))?;
    // At once, and after 1 and 2 seconds.
    assert!(started.elapsed() > Duration::from_millis(2500), "{:?}", started.elapsed());
    let other = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &other)?;
    session.run(&format!("UPDATE upkeep._job SET run_between = NULL WHERE id = '{job}'"))?;
    pass_time(&mut session)?;
    wait(&mut session, &job)
}

/// A command of a second, whose end cannot be recorded while the session has the job's row.
fn command_whose_end_is_not_recorded(db: &Database, session: &mut Session, command: &str) -> Result<String> {
    let job = run_with(session, command, "retries => 3")?;
    wait_until_asleep(session, &job)?;
    session.run(&format!("BEGIN; SELECT upkeep.alter_job('{job}', name => 'somebody')"))?;
    wait_for_kept_answer(db, &job)?;
    Ok(job)
}

fn wait_for_kept_answer(db: &Database, job: &str) -> Result<()> {
    let mut other = db.connect()?;
    let kept = format!("SELECT count(*) FROM upkeep._job_slot WHERE job = '{job}' AND cursor ? 'answered'");
    wait_for_text(&mut other, &kept, "1").with_context(|| describe(&mut other, job))
}

const ONE_ROW: &str = "INSERT INTO t SELECT 1 FROM pg_sleep(1)";

#[test]
fn how_a_command_ended_is_kept_until_it_can_be_recorded() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let since = db.server.log_position();
    let job = command_whose_end_is_not_recorded(&db, &mut session, ONE_ROW)?;
    let mut other = db.connect()?;
    // Nor does a cancel lose it.
    let executors = format!("SELECT pid FROM upkeep._job_slot WHERE job = '{job}'");
    for _ in 0..5 {
        let executor: i32 = other.value(&executors)?;
        other.run(&format!("SELECT pg_cancel_backend({executor}), pg_sleep(0.1)"))?;
    }
    session.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "1");
    assert_eq!(events(&mut session, &job)?, ["queued", "started", "altered", "completed", "done"]);
    assert_eq!(db.server.log_since(since).matches(&format!("job {job}")).count(), 1, "told once");

    let job =
        command_whose_end_is_not_recorded(&db, &mut session, "DO 'BEGIN PERFORM pg_sleep(1); RAISE ''no''; END'")?;
    session.run("COMMIT")?;
    wait_for_text(
        &mut session,
        &format!("SELECT wait_reason FROM upkeep.jobs WHERE id = '{job}'"),
        "2 retries left after SQLSTATE P0001: no",
    )?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}

#[test]
fn an_executor_that_is_terminated_leaves_the_answer_to_the_next() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let job = command_whose_end_is_not_recorded(&db, &mut session, ONE_ROW)?;
    let mut other = db.connect()?;
    let executor: i32 = other.value(&format!("SELECT pid FROM upkeep._job_slot WHERE job = '{job}'"))?;
    other.run(&format!("SELECT pg_terminate_backend({executor}, 10000)"))?;
    session.run("COMMIT")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "1");
    assert!(events(&mut session, &job)?.ends_with(&["completed".to_owned(), "done".to_owned()]));
    Ok(())
}

#[test]
fn a_command_that_is_canceled_after_its_end_says_that_it_has_ended() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run("CREATE TABLE t (n int)")?;
    let job = run_in_background(&mut session, ONE_ROW)?;
    wait_until_asleep(&mut session, &job)?;
    session.run(&format!("BEGIN; SELECT upkeep.cancel('{job}')"))?;
    wait_for_kept_answer(&db, &job)?;
    session.run("COMMIT")?;
    let completed = format!("SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND event = 'completed'");
    wait_for_text(&mut session, &completed, "1").with_context(|| describe(&mut session, &job))?;
    assert_eq!(state(&mut session, &job)?, "canceled");
    assert_eq!(session.text("SELECT count(*) FROM t")?, "1");
    Ok(())
}

/// A worker that another one has replaced (which should not be) does nothing any more.
#[test]
fn a_worker_whose_place_was_taken_leaves_without_a_trace() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 3) g;
         CREATE TABLE pace AS SELECT 2.0 AS seconds;
         CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(seconds) FROM pace; RETURN n + 1; END$$",
    )?;
    let decoy = run_in_background(&mut session, "SELECT pg_sleep(3600)")?;
    wait_until_asleep(&mut session, &decoy)?;
    let since = db.server.log_position();
    let job = session.text("SELECT upkeep.backfill('t', 'n = slowly(n)')")?;
    let executor = wait_until_asleep(&mut session, &job)?;
    let stolen = format!(
        "UPDATE upkeep._job_slot s SET pid = d.pid, backend_start = d.backend_start FROM upkeep._job_slot d
          WHERE s.job = '{job}' AND d.job = '{decoy}'"
    );
    session.run(&stolen)?;
    session.run("DELETE FROM pace")?;
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {executor}");
    wait_for_text(&mut session, &gone, "0").with_context(|| describe(&mut session, &job))?;
    assert!(db.server.log_since(since).contains("another worker has taken this one's place"));
    assert_eq!(session.text("SELECT sum(n) FROM t")?, "0", "its last step is rolled back");
    assert_eq!(
        session.text(&format!("SELECT max(ends), max(strikes) FROM upkeep._job_slot WHERE job = '{job}'"))?,
        "0|0"
    );
    session.run(&format!("UPDATE upkeep._job_slot SET pid = NULL WHERE job = '{job}'"))?;
    run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT sum(n) FROM t")?, "3");
    session.run(&format!("SELECT upkeep.cancel('{decoy}')"))?;
    wait_for_state(&mut session, &decoy, "canceled")
}

/// A text that takes the slot away from its own worker has ended it.
#[test]
fn a_job_that_takes_its_own_slot_away_does_not_run_for_ever() -> Result<()> {
    for verbs in
        ["PERFORM upkeep.cancel(j); PERFORM upkeep.retry(j)", "PERFORM upkeep.cancel(j); PERFORM upkeep.drop_job(j)"]
    {
        let db = testing::database()?;
        let mut session = db.connect()?;
        session.run(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL);
             CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$DECLARE j uuid;
             BEGIN SELECT id INTO j FROM upkeep.jobs WHERE name = 'own'; {verbs}; RETURN 1; END$$"
        ))?;
        session.run("SELECT upkeep.backfill('t', 'v = f()', 'v IS NULL', name => 'own')")?;
        wait_for_text(&mut session, "SELECT max(ends) >= 2 FROM upkeep._job_slot", "t")?;
    }
    Ok(())
}
