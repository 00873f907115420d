//! `upkeep.status.advice` and `upkeep.jobs.wait_reason` tell of everything that was asked for and does not happen.

use anyhow::Result;
use upkeep_tests::jobs::{
    backfill_endlessly, backfill_slowly, executors_of, run_in_background, state, wait, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};

fn advice(session: &mut Session) -> Result<String> {
    session.text("SELECT advice FROM upkeep.status")
}

fn wait_for_advice(session: &mut Session, part: &str) -> Result<()> {
    wait_for_text(session, &format!("SELECT advice LIKE '%{part}%' FROM upkeep.status"), "t")
}

/// A signal to a process of the server, which is not ours alone.
fn signal(pid: i32, signal: &str) -> Result<()> {
    upkeep_tests::command::capture(std::process::Command::new("kill").args([signal, &pid.to_string()])).map(drop)
}

#[test]
fn without_preload_there_are_two_things_to_say() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let lines = lines_of(&advice(&mut session)?);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("No job runs, because no pg_upkeep worker is running. SELECT upkeep.start_workers();")
    );
    assert!(lines[1].starts_with("Statements are not counted: add pg_upkeep to shared_preload_libraries"));
    let job = run_in_background(&mut session, "SELECT 1")?;
    let row = format!("SELECT state, wait_reason FROM upkeep.jobs WHERE id = '{job}'");
    assert_eq!(session.text(&row)?, "queued|waits, because no pg_upkeep worker is running");
    session.run("SELECT upkeep.start_workers()")?;
    wait(&mut session, &job)?;
    assert_eq!(session.text(&row)?, "done|");
    assert_eq!(lines_of(&advice(&mut session)?), [lines[1].clone()]);
    session.run("SET upkeep.track_queries = none")?;
    assert_eq!(advice(&mut session)?, "", "nobody asks for it");
    session.run("SELECT upkeep.stop_workers()")
}

fn lines_of(advice: &str) -> Vec<String> {
    advice.lines().map(str::to_owned).collect()
}

#[test]
fn a_job_that_nobody_works_on_says_why() -> Result<()> {
    let mut server = testing::server("nobody").preloaded().start()?;
    let mut session = server.with_extension("app")?;
    assert_eq!(advice(&mut session)?, "");
    let job = backfill_slowly(&mut session, 50_000)?;
    let row = format!("SELECT state, wait_reason, eta IS NOT NULL FROM upkeep.jobs WHERE id = '{job}'");
    wait_for_text(&mut session, &row, "running||t")?;
    server.set("upkeep.enabled", "off")?;
    server.reload()?;
    wait_until_nobody_works_on(&mut session, &job)?;
    wait_for_text(&mut session, &row, "waiting|waits, because upkeep.enabled is off|f")?;
    assert!(advice(&mut session)?.starts_with("No job runs, because upkeep.enabled is off. ALTER SYSTEM SET"));
    session
        .run("CREATE OR REPLACE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n + 1; END'")?;
    server.set("upkeep.enabled", "on")?;
    server.reload()?;
    wait(&mut session, &job)?;
    assert_eq!(advice(&mut session)?, "");
    session.run("UPDATE pg_database SET datistemplate = true WHERE datname = 'app'")?;
    let waits = run_in_background(&mut session, "SELECT 1")?;
    assert!(session.notices().iter().any(|notice| notice.message().contains("this database is a template")));
    session.run("UPDATE pg_database SET datistemplate = false WHERE datname = 'app'")?;
    assert_eq!(session.text("SELECT upkeep.pause_all()")?, "1");
    session.run("SELECT upkeep.resume_all()")?;
    wait(&mut session, &waits)
}

#[test]
fn library_and_extension_of_different_versions_are_told() -> Result<()> {
    let server = testing::server("versions").preloaded().start()?;
    let mut session = server.with_extension("app")?;
    session.run(
        "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.5.0' WHERE extname = 'pg_upkeep'",
    )?;
    let told = advice(&mut session)?;
    assert!(told.starts_with("No job runs, because this database has another version of pg_upkeep"), "{told}");
    assert!(told.ends_with("ALTER EXTENSION pg_upkeep UPDATE;"), "{told}");
    Ok(())
}

#[test]
fn a_server_without_room_for_a_worker_says_so() -> Result<()> {
    // The logical replication launcher and ours.
    let server = testing::server("narrow").preloaded().set("max_worker_processes", 2).start()?;
    let mut session = server.with_extension("app")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait_for_advice(&mut session, "all of max_worker_processes are in use")?;
    assert_eq!(state(&mut session, &job)?, "queued");
    Ok(())
}

#[test]
fn statistics_that_do_not_work_are_told() -> Result<()> {
    let server = testing::server("statistics")
        .preloaded()
        .set("upkeep.query_max", 100)
        .set("upkeep.query_interval", 1)
        .start()?;
    let mut session = server.with_extension("app")?;
    assert_eq!(advice(&mut session)?, "");
    session.run("SET compute_query_id = off")?;
    assert!(advice(&mut session)?.contains("compute_query_id is off"));
    session.run("RESET compute_query_id")?;
    // Nobody can write to the history.
    let mut locker = server.connect("app")?;
    locker.run("BEGIN; LOCK TABLE upkeep._query_interval, upkeep._query IN ACCESS EXCLUSIVE MODE")?;
    wait_for_text(
        &mut session,
        "SELECT advice LIKE '%waits to be written to the history for%' AND advice LIKE '%passed over%' FROM upkeep.status",
        "t",
    )?;
    // 2 MB of texts of 30 kB, of which none is fetched.
    for columns in 500..570 {
        let name = "a_name_that_takes_up_some_room_in_the_text";
        let list: Vec<String> = (0..columns).map(|at| format!("1 AS {name}_{at}")).collect();
        session.run(&format!("SELECT {}", list.join(", ")))?;
    }
    assert!(advice(&mut session)?.contains("no room for the texts of some statements"), "{}", advice(&mut session)?);
    locker.run("ROLLBACK")?;
    wait_for_text(&mut session, "SELECT advice IS NULL FROM upkeep.status", "t")
}

#[test]
fn what_cannot_be_measured_is_told() -> Result<()> {
    let server = testing::server("unmeasured").preloaded().start()?;
    let mut session = server.with_extension("app")?;
    let (job, _) = backfill_endlessly(&mut session)?;
    let schedulers = workers(&mut session, "scheduler")?;
    assert_eq!(schedulers.len(), 1);
    signal(schedulers[0], "-STOP")?;
    let told = wait_for_advice(&mut session, "could not be measured for a while");
    signal(schedulers[0], "-CONT")?;
    told?;
    wait_for_text(&mut session, "SELECT advice IS NULL FROM upkeep.status", "t")?;
    assert_eq!(executors_of(&mut session, &job)?.len(), 1);
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}
