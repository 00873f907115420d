//! Launcher, schedulers and executors: who runs when, and what happens when they do not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use upkeep_tests::cluster::{Cluster, PATIENCE, Stop, context_switches, processes_in};
use upkeep_tests::jobs::{
    ENDLESS, NO_MORE_SLOWLY, backfill_slowly, describe, run_endlessly, run_in_background, run_with, sqlstate, state,
    wait, wait_for_error, wait_for_state, wait_until_asleep, wait_until_nobody_works_on,
};
use upkeep_tests::session::Session;
use upkeep_tests::testing::{self, wait_for_text, workers};
use upkeep_tests::wait::{wait_for, wait_until};

/// A preloaded server with the extension in its database `postgres`.
fn preloaded(name: &str) -> Result<(Cluster, Session)> {
    let server = testing::server(name).preloaded().start()?;
    let session = with_extension(&server)?;
    Ok((server, session))
}

fn with_extension(server: &Cluster) -> Result<Session> {
    let mut session = server.connect("postgres")?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    Ok(session)
}

/// Waits until nothing of ours runs but the launcher.
fn wait_until_idle(session: &mut Session) -> Result<()> {
    let ours = "SELECT string_agg(backend_type, ', ') FROM pg_stat_activity WHERE backend_type LIKE 'pg_upkeep%'";
    wait_for_text(session, ours, "pg_upkeep launcher")
}

fn messages(session: &mut Session) -> Vec<String> {
    session.notices().iter().map(|n| n.message().to_owned()).collect()
}

#[test]
fn workers_can_be_started_without_a_restart() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    let status = "SELECT workers, advice LIKE '%no pg_upkeep worker is running. SELECT upkeep.start_workers();%' FROM upkeep.status";
    assert_eq!(session.text(status)?, "not running|t");
    let job = run_in_background(&mut session, "SELECT 1")?;
    let warnings = session.notices();
    let warning = warnings.first().context("a job that nobody will run comes with a warning")?;
    assert_eq!(warning.severity(), "WARNING");
    assert!(warning.hint().unwrap_or_default().contains("upkeep.start_workers()"), "{warning:?}");
    assert_eq!(state(&mut session, &job)?, "queued");

    assert_eq!(session.text("SELECT upkeep.start_workers()")?, "1");
    wait(&mut session, &job)?;
    assert_eq!(
        session.text("SELECT workers, advice NOT LIKE '%worker%', launcher_pid > 0 FROM upkeep.status")?,
        "dynamic|t|t"
    );
    session.notices();
    assert_eq!(session.text("SELECT upkeep.start_workers()")?, "0");
    assert_eq!(messages(&mut session), ["workers are running already in this database"]);
    let job = run_in_background(&mut session, "SELECT 1")?;
    assert!(session.notices().is_empty(), "nothing to warn of any more");
    wait(&mut session, &job)?;

    assert!(session.value::<i32>("SELECT upkeep.stop_workers()")? >= 1);
    let ours =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_upkeep%' AND datname = current_database()";
    assert_eq!(session.text(ours)?, "0");
    assert_eq!(session.text("SELECT workers FROM upkeep.status")?, "not running");
    assert_eq!(session.text("SELECT upkeep.stop_workers()")?, "0");
    Ok(())
}

#[test]
fn dynamic_workers_serve_their_own_database_only() -> Result<()> {
    let (one, other) = (testing::database_without_preload()?, testing::database_without_preload()?);
    let (mut here, mut there) = (one.connect()?, other.connect()?);
    here.run("SELECT upkeep.start_workers()")?;
    let waits = run_in_background(&mut there, "SELECT 1")?;
    assert!(!there.notices().is_empty());
    let job = run_in_background(&mut here, "SELECT 1")?;
    wait(&mut here, &job)?;
    assert_eq!(state(&mut there, &waits)?, "queued");
    assert_eq!(there.text("SELECT workers FROM upkeep.status")?, "not running");
    // Each has its own.
    assert_eq!(there.text("SELECT upkeep.start_workers()")?, "1");
    wait(&mut there, &waits)?;
    assert!(here.value::<i32>("SELECT upkeep.stop_workers()")? >= 1);
    assert_eq!(there.text("SELECT workers FROM upkeep.status")?, "dynamic");
    Ok(())
}

#[test]
fn stopping_workers_leaves_jobs_where_they_are() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run("SELECT upkeep.start_workers()")?;
    let (job, _) = run_endlessly(&mut session)?;
    assert!(session.value::<i32>("SELECT upkeep.stop_workers()")? >= 2, "launcher, executor and perhaps a scheduler");
    assert_eq!(state(&mut session, &job)?, "waiting", "nobody is there to say what became of it");
    session.run("SELECT upkeep.start_workers()")?;
    wait_for_state(&mut session, &job, "failed")?;
    assert!(wait_for_error(&mut session, &job)?.message().contains("interrupted"));
    Ok(())
}

#[test]
fn preloaded_workers_are_not_one_databases_to_start_or_stop() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    assert_eq!(session.text("SELECT workers, advice FROM upkeep.status")?, "preloaded|");
    assert_eq!(session.text("SELECT upkeep.start_workers()")?, "0");
    assert!(messages(&mut session)[0].contains("shared_preload_libraries"));
    let error = session.error("SELECT upkeep.stop_workers()")?;
    assert_eq!(error.code().code(), "55000");
    assert!(error.hint().unwrap_or_default().contains("upkeep.enabled"), "{error:?}");
    Ok(())
}

#[test]
fn a_launcher_that_was_killed_comes_back() -> Result<()> {
    let (server, mut session) = preloaded("launcher")?;
    let [launcher] = workers(&mut session, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    let mut session = server.kill_and_recover(launcher, "postgres")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;

    // Orderly terminated it comes back too, without disturbing anybody.
    let [launcher] = workers(&mut session, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    session.run(&format!("SELECT pg_terminate_backend({launcher})"))?;
    wait_until("another launcher", PATIENCE, || {
        workers(&mut session, "launcher").is_ok_and(|found| found.len() == 1 && found[0] != launcher)
    })?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)
}

#[test]
fn a_dynamic_launcher_that_was_terminated_comes_back() -> Result<()> {
    let db = testing::database_without_preload()?;
    let mut session = db.connect()?;
    session.run("SELECT upkeep.start_workers()")?;
    let launcher: i32 = session.value("SELECT launcher_pid FROM upkeep.status")?;
    session.run(&format!("SELECT pg_terminate_backend({launcher})"))?;
    let other = format!("SELECT launcher_pid <> {launcher} FROM upkeep.status");
    wait_for_text(&mut session, &other, "t")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)
}

#[test]
fn a_scheduler_that_was_killed_leaves_the_jobs_to_the_next() -> Result<()> {
    let (server, mut session) = preloaded("scheduler")?;
    let (running, _) = run_endlessly(&mut session)?;
    let [scheduler] = workers(&mut session, "scheduler")?[..] else { anyhow::bail!("one scheduler is expected") };
    session.run(&format!("SELECT pg_terminate_backend({scheduler})"))?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    assert_eq!(state(&mut session, &running)?, "running", "the executor did not even notice");

    wait_until("another scheduler", PATIENCE, || workers(&mut session, "scheduler").is_ok_and(|w| w.len() == 1))?;
    let [scheduler] = workers(&mut session, "scheduler")?[..] else { anyhow::bail!("one scheduler is expected") };
    let mut session = server.kill_and_recover(scheduler, "postgres")?;
    wait_for_state(&mut session, &running, "failed")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)
}

/// LAW 18: one crash for a bad step, perhaps two or three, but never a crash loop.
#[test]
fn three_strikes_fail_a_job_that_kills_its_worker() -> Result<()> {
    let (server, mut session) = preloaded("strikes")?;
    // Only the server's own user may kill its processes: what a bad library does with a wild pointer.
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
         CREATE FUNCTION crash() RETURNS int LANGUAGE plpgsql AS
         $$BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); RETURN 1; END$$",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = crash()', 'n = 0')")?;
    let mut session = wait_for("the job to fail", PATIENCE * 2, || {
        let mut session = server.connect_again("postgres")?;
        let failed = state(&mut session, &job).is_ok_and(|state| state == "failed");
        Ok(failed.then_some(session))
    })?;
    let error = wait_for_error(&mut session, &job)?;
    assert!(error.message().contains("without a word"), "{}", error.message());
    let strikes = format!("SELECT count(*) FROM upkeep.job_events WHERE job = '{job}' AND event = 'strike'");
    assert_eq!(session.text(&strikes)?, "2", "{}", describe(&mut session, &job));
    let crashes = server.log().lines().filter(|l| l.contains("was terminated by signal 9")).count();
    assert_eq!(crashes, 3, "a crash for each strike and none after");

    // A retry is three more tries, and other jobs run.
    let other = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &other)
}

#[test]
fn an_orderly_termination_is_no_strike() -> Result<()> {
    let db = testing::database()?;
    let mut session = db.connect()?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 5) g;
         CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(3600); RETURN 1; END$$",
    )?;
    let job = session.text("SELECT upkeep.backfill('t', 'n = slow()', 'n = 0')")?;
    let mut previous = 0;
    for _ in 0..5 {
        let executor = wait_for("another executor at work", PATIENCE, || {
            Ok(Some(wait_until_asleep(&mut session, &job)?).filter(|&pid| pid != previous))
        })?;
        session.run(&format!("SELECT pg_terminate_backend({executor})"))?;
        previous = executor;
    }
    wait_until_asleep(&mut session, &job)?;
    assert_eq!(state(&mut session, &job)?, "running");
    let strikes = format!("SELECT max(strikes) FROM upkeep._job_slot WHERE job = '{job}'");
    assert_eq!(session.text(&strikes)?, "0");
    session.run(&format!("SELECT upkeep.cancel('{job}')"))?;
    wait_until_nobody_works_on(&mut session, &job)
}

#[test]
fn a_full_server_says_so_and_goes_on_when_there_is_room() -> Result<()> {
    let server = testing::server("full").set("max_worker_processes", 2).start()?;
    let mut session = with_extension(&server)?;
    server.create_database("neighbour")?;
    server.create_database("third")?;
    let mut neighbours = Vec::new();
    for name in ["neighbour", "third"] {
        let mut neighbour = server.connect(name)?;
        neighbour.run("CREATE EXTENSION pg_upkeep")?;
        neighbours.push(neighbour);
    }
    // The logical replication launcher is a worker as well: however many are left, fill them.
    let mut started = 0;
    for neighbour in &mut neighbours {
        started += i32::from(neighbour.run("SELECT upkeep.start_workers()").is_ok());
    }
    assert!(started < 2, "max_worker_processes did not limit anything");
    let error = session.error("SELECT upkeep.start_workers()")?;
    assert_eq!(error.code().code(), "53000");
    assert!(error.hint().unwrap_or_default().contains("max_worker_processes"), "{error:?}");
    neighbours[0].run("SELECT upkeep.stop_workers()")?;
    // The postmaster takes a moment to notice that a worker has gone.
    wait_until("room for a worker", PATIENCE, || {
        session.text("SELECT upkeep.start_workers()").is_ok_and(|started| started == "1")
    })
}

#[test]
fn a_queued_job_says_that_there_is_no_room_for_it() -> Result<()> {
    // Logical replication launcher, our launcher, a scheduler, one executor.
    let server = testing::server("room").preloaded().set("max_worker_processes", 4).start()?;
    let mut session = with_extension(&server)?;
    let (first, _) = run_endlessly(&mut session)?;
    let second = run_in_background(&mut session, "SELECT 1")?;
    let reason = format!("SELECT state, wait_reason FROM upkeep.jobs WHERE id = '{second}'");
    wait_for_text(&mut session, &reason, "queued|no free background worker (max_worker_processes)")?;
    session.run(&format!("SELECT upkeep.cancel('{first}')"))?;
    wait(&mut session, &second)
}

#[test]
fn max_workers_holds_for_all_databases_together() -> Result<()> {
    let server = testing::server("limit").preloaded().set("upkeep.max_workers", 2).start()?;
    let mut jobs = Vec::new();
    for name in ["one", "two"] {
        server.create_database(name)?;
        server.connect(name)?.run(&format!(
            "CREATE EXTENSION pg_upkeep; CREATE ROLE {name} LOGIN;
             GRANT EXECUTE ON FUNCTION upkeep.run_in_background TO {name}"
        ))?;
        // One role's commands leave a worker to others.
        let mut session = server.connect_as(name, name)?;
        for _ in 0..4 {
            let job = run_in_background(&mut session, "SELECT pg_sleep(1)")?;
            jobs.push((name, job));
        }
    }
    let mut session = server.connect("postgres")?;
    let at_work =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_upkeep executor' AND wait_event = 'PgSleep'";
    let (mut most, mut databases) = (0, Vec::new());
    wait_for("all jobs to end", PATIENCE, || {
        most = most.max(session.value::<i64>(at_work)?);
        let mut left = 0;
        for name in ["one", "two"] {
            let mut db = server.connect(name)?;
            left += db.value::<i64>("SELECT count(*) FROM upkeep.jobs WHERE finished_at IS NULL")?;
        }
        Ok((left == 0).then_some(()))
    })?;
    for (name, job) in jobs {
        assert_eq!(state(&mut server.connect(name)?, &job)?, "done");
        databases.push(name);
    }
    assert_eq!(most, 2, "two at a time, never three, and not only one");
    Ok(())
}

#[test]
fn upkeep_databases_limits_where_jobs_run() -> Result<()> {
    let mut server = testing::server("limits").preloaded().set("upkeep.databases", "allowed, other").start()?;
    for name in ["allowed", "forbidden"] {
        server.create_database(name)?;
        server.connect(name)?.run("CREATE EXTENSION pg_upkeep")?;
    }
    let (mut allowed, mut forbidden) = (server.connect("allowed")?, server.connect("forbidden")?);
    let waits = run_in_background(&mut forbidden, "SELECT 1")?;
    assert!(messages(&mut forbidden)[0].contains("upkeep.databases"));
    assert!(forbidden.text("SELECT advice FROM upkeep.status")?.contains("upkeep.databases"));
    let runs = run_in_background(&mut allowed, "SELECT 1")?;
    wait(&mut allowed, &runs)?;
    assert_eq!(state(&mut forbidden, &waits)?, "queued");
    server.set("upkeep.databases", "")?;
    server.reload()?;
    wait(&mut forbidden, &waits)
}

#[test]
fn enabled_is_the_master_switch() -> Result<()> {
    let (mut server, mut session) = preloaded("switch")?;
    let job = backfill_slowly(&mut session, 50_000)?;
    wait_for_text(&mut session, &format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    server.set("upkeep.enabled", "off")?;
    server.reload()?;
    wait_until_idle(&mut session)?;
    let so_far: i64 = session.value("SELECT count(*) FROM t WHERE n = 1")?;
    assert!(so_far > 0 && so_far < 50000, "{so_far}");
    assert!(session.text("SELECT advice FROM upkeep.status")?.contains("upkeep.enabled"));
    session.notices();
    let other = run_in_background(&mut session, "SELECT 1")?;
    assert!(messages(&mut session)[0].contains("upkeep.enabled is off"));
    assert_eq!(state(&mut session, &other)?, "queued");
    session.run(NO_MORE_SLOWLY)?;

    server.set("upkeep.enabled", "on")?;
    server.reload()?;
    wait(&mut session, &other)?;
    wait(&mut session, &job)?;
    assert_eq!(session.text("SELECT count(*) FROM t WHERE n = 1")?, "50000", "it goes on where it was");
    Ok(())
}

#[test]
fn a_fast_shutdown_waits_for_nobody() -> Result<()> {
    let (mut server, mut session) = preloaded("shutdown")?;
    session.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g;
         CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(3600); RETURN 1; END$$",
    )?;
    let batch = session.text("SELECT upkeep.backfill('t', 'n = slow()', 'n = 0')")?;
    wait_until_asleep(&mut session, &batch)?;
    run_endlessly(&mut session)?;
    let busy = run_in_background(&mut session, "SELECT count(*) FROM generate_series(1, 1000000000000)")?;
    wait_for_state(&mut session, &busy, "running")?;
    // The shutdown makes one as well: on a busy machine the disk has its part behind it.
    session.run("CHECKPOINT")?;
    drop(session);
    let clock = Instant::now();
    server.stop(Stop::Fast)?;
    assert!(clock.elapsed() < Duration::from_secs(5), "it took {:?}", clock.elapsed());

    server.start()?;
    let mut session = server.connect("postgres")?;
    wait_until_asleep(&mut session, &batch)?;
    let strikes = "SELECT coalesce(max(strikes), 0) FROM upkeep._job_slot";
    assert_eq!(session.text(strikes)?, "0", "a shutdown is no strike");
    session.run(&format!("SELECT upkeep.cancel('{batch}')"))
}

#[test]
fn dropping_the_extension_leaves_nothing_running() -> Result<()> {
    let (server, mut session) = preloaded("dropped")?;
    let job = backfill_slowly(&mut session, 100_000)?;
    wait_for_text(&mut session, &format!("SELECT rows_done > 0 FROM upkeep.jobs WHERE id = '{job}'"), "t")?;
    session.run("SET lock_timeout = '30s'; DROP EXTENSION pg_upkeep")?;
    wait_until_idle(&mut session)?;
    let quiet_from = server.log_position();
    session.run("CREATE TABLE still_here ()")?;
    assert_eq!(session.text("SELECT count(*) FROM t")?, "100000");

    // Installed again it starts afresh, without a restart.
    session.run("CREATE EXTENSION pg_upkeep")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    wait_until_idle(&mut session)?;
    let log = server.log_since(quiet_from);
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("FATAL")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    Ok(())
}

#[test]
fn a_command_that_drops_the_extension_gets_its_wish() -> Result<()> {
    let (server, mut session) = preloaded("suicide")?;
    run_in_background(&mut session, "DROP EXTENSION pg_upkeep")?;
    wait_for_text(&mut session, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_upkeep'", "0")?;
    wait_until_idle(&mut session)?;
    assert!(!server.log().contains("terminated by signal"), "nobody crashed");
    session.run("CREATE EXTENSION pg_upkeep")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)
}

#[test]
fn an_idle_server_has_the_launcher_only() -> Result<()> {
    // At a whole minute a scheduler comes for the statistics of statements.
    let server = testing::server("idle").preloaded().set("upkeep.track_queries", "none").start()?;
    let mut session = with_extension(&server)?;
    wait_until_idle(&mut session)?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)?;
    wait_until_idle(&mut session)?;
    // Nobody polls: the launcher's processor time stands still while nothing is due.
    let [launcher] = workers(&mut session, "launcher")?[..] else { anyhow::bail!("one launcher is expected") };
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_upkeep%' AND datname IS NOT NULL";
    let started = server.log_position();
    let wakes = context_switches(launcher)?;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_eq!(session.text(connected)?, "0");
        std::thread::sleep(Duration::from_millis(100));
    }
    let woken = context_switches(launcher)? - wakes;
    assert!(woken < 10, "the idle launcher woke up {woken} times in 2 s");
    assert!(!server.log_since(started).contains("pg_upkeep"));
    Ok(())
}

#[test]
fn a_job_in_a_database_without_the_library_loaded_runs_all_the_same() -> Result<()> {
    // The extension arrives in a database that the launcher has visited and found empty.
    let (server, _) = preloaded("later")?;
    server.create_database("later")?;
    let mut session = server.connect("later")?;
    wait_until_idle(&mut session)?;
    session.run("CREATE EXTENSION pg_upkeep")?;
    let job = run_in_background(&mut session, "SELECT 1")?;
    wait(&mut session, &job)
}

#[test]
fn nothing_is_left_of_a_stopped_server() -> Result<()> {
    let (mut server, mut session) = preloaded("orphans")?;
    run_endlessly(&mut session)?;
    server.crash()?;
    wait_until("workers to notice that the postmaster is gone", PATIENCE, || processes_in(&server.data()).is_empty())
}

#[test]
fn a_retry_after_too_few_workers_is_not_lost() -> Result<()> {
    let server = testing::server("zero").preloaded().set("upkeep.max_workers", 0).start()?;
    let mut session = with_extension(&server)?;
    let job = run_with(&mut session, ENDLESS, "name => 'waits'")?;
    assert!(session.text("SELECT advice FROM upkeep.status")?.contains("max_workers is 0"));
    assert_eq!(sqlstate(&mut session, &format!("CALL upkeep.wait('{job}', '500 ms')"))?, "57014");
    assert_eq!(state(&mut session, &job)?, "queued");
    let mut server = server;
    server.set("upkeep.max_workers", 1)?;
    server.reload()?;
    wait_until_asleep(&mut session, &job)?;
    session.run(&format!("SELECT upkeep.cancel('{job}')"))
}
